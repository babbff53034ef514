//! What a policy names to be backed up: each source's kind, where it is, and how it is read and stored.
//!
//! As in [`super::convert`]: a `None` means that a problem was noted, and the caller goes on. No I/O.

use super::Source;
use super::convert::{absolute, docker_volume_path, not_empty};
use super::problem::Place;
use super::raw;
use super::reading::{Field, Named, Reader, words};
use super::servers::ServerKind;
use super::values;
use crate::engine::{self, command, sqlite, vault, volume};
use crate::exec::docker::Quiet;
use crate::repo::point::Layout;
use std::path::Path;

/// Kinds of sources, as they are written in a policy and on the command line.
pub const KINDS: [&str; 8] = ["mysql", "postgres", "mongo", "redis", "sqlite", "volume", "command", "vault"];

impl Reader<'_> {
    pub(super) fn sources(
        &self,
        field: &Field<Named<raw::Source>>,
        stack: Option<&str>,
        default: Option<Layout>,
    ) -> Vec<(Source, Place)> {
        let Some(Named(entries)) = &field.value else { return Vec::new() };
        if entries.is_empty() {
            self.wrong_with_help::<()>(field.place, "this policy has no sources", "name at least one thing to back up");
        }
        let mut sources = Vec::new();
        for (key, value) in entries {
            let Some(name) = key.value.as_deref() else { continue };
            if let Err(message) = values::name(name) {
                self.wrong::<()>(key.place, message);
            }
            if let Some(settings) = self.settings(name, value, stack) {
                let layout = self.layout(value).or(default.filter(|_| !is_volume(value))).unwrap_or_default();
                sources.push((Source { name: name.into(), settings, layout }, key.place));
            }
        }
        sources
    }

    /// A volume's files are chunks always: there is nothing to choose.
    fn layout(&self, field: &Field<raw::Source>) -> Option<Layout> {
        let raw = field.value.as_ref()?;
        match &raw.layout {
            Some(layout) if is_volume(field) => self.wrong_with_help(
                layout.place,
                "`layout` is not for a volume",
                "leave it out: files are always deduplicated; it is for what databases and commands dump",
            ),
            given => layout(given),
        }
    }

    /// The one place where settings of engines are made from the configuration.
    fn settings(&self, name: &str, field: &Field<raw::Source>, stack: Option<&str>) -> Option<engine::Settings> {
        let raw = field.value.as_ref()?;
        let kinds = [
            raw.mysql.is_some(),
            raw.postgres.is_some(),
            raw.mongo.is_some(),
            raw.redis.is_some(),
            raw.sqlite.is_some(),
            raw.volume.is_some(),
            raw.command.is_some(),
            raw.vault.is_some(),
        ];
        match kinds.iter().filter(|kind| **kind).count() {
            0 => {
                let kinds = words(&KINDS, "or");
                self.note_missing(field.place, "this source is of no kind", format!("give it one of {kinds}"));
                return None;
            }
            1 => {}
            _ => {
                let help = "make a source of its own for each";
                return self.wrong_with_help(field.place, "a source is of one kind only", help);
            }
        }
        let server = |kind, raw: &Option<Field<raw::Server>>| self.server(kind, raw.as_ref()?, stack);
        let servers = [
            server(ServerKind::Mysql, &raw.mysql),
            server(ServerKind::Postgres, &raw.postgres),
            server(ServerKind::Mongo, &raw.mongo),
            server(ServerKind::Redis, &raw.redis),
        ];
        let sqlite = || self.sqlite(raw.sqlite.as_ref()?).map(engine::Settings::Sqlite);
        let volume = || self.volume(raw.volume.as_ref()?).map(engine::Settings::Volume);
        let command = || self.command(name, raw.command.as_ref()?).map(engine::Settings::Command);
        let vault = || self.vault_source(raw.vault.as_ref()?).map(engine::Settings::Vault);
        servers.into_iter().flatten().next().or_else(sqlite).or_else(volume).or_else(command).or_else(vault)
    }

    fn sqlite(&self, field: &Field<raw::Sqlite>) -> Option<sqlite::Settings> {
        let raw = field.value.as_ref()?;
        let Some(path_field) = &raw.path else {
            self.note_missing(field.place, "this database has no `path`", "such as: sqlite: { path: /srv/app.db }");
            return None;
        };
        if raw.volume.is_none() {
            return self.text(&raw.path, absolute).map(sqlite::Settings::of);
        }
        let name = self.text(&raw.volume, |name| values::docker_volume(name).map(|()| name.to_owned()))?;
        let inside = Path::new(path_field.value.as_deref()?);
        let plain = inside.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if inside.as_os_str().is_empty() || !plain {
            return self.wrong(path_field.place, "expected a path relative to the volume, without `..`");
        }
        let volume = sqlite::OnVolume { name: name.clone(), path: inside.to_owned() };
        Some(sqlite::Settings { path: docker_volume_path(&name).join(inside), volume: Some(volume) })
    }

    fn volume(&self, field: &Field<raw::Volume>) -> Option<volume::Settings> {
        let raw = field.value.as_ref()?;
        let path = match (&raw.path, &raw.name) {
            (Some(_), None) => self.text(&raw.path, absolute),
            (None, Some(_)) => {
                self.text(&raw.name, |name| values::docker_volume(name).map(|()| docker_volume_path(name)))
            }
            (None, None) => {
                let help = "such as: volume: { path: /srv/documents }, or { name: documents } for a Docker volume";
                self.note_missing(field.place, "this volume has neither `path` nor `name`", help);
                None
            }
            (Some(_), Some(name)) => self.wrong(name.place, "`path` and `name` are both here; keep one of them"),
        };
        let include = self.patterns(&raw.include);
        let exclude = self.patterns(&raw.exclude);
        let name = raw.name.as_ref().and_then(|name| name.value.clone());
        let quiesce = self.quiesce(&raw.quiesce);
        Some(volume::Settings { include, exclude, name, quiesce, ..volume::Settings::of(path?) })
    }

    pub(super) fn quiesce(&self, field: &Option<Field<raw::Quiesce>>) -> Option<Quiet> {
        field.as_ref()?.value.map(|quiesce| match quiesce {
            raw::Quiesce::Pause => Quiet::Pause,
            raw::Quiesce::Stop => Quiet::Stop,
        })
    }

    fn patterns(&self, field: &Option<Field<Vec<Field<String>>>>) -> Vec<String> {
        self.list(
            field,
            |text| if text.is_empty() { Err("a pattern cannot be empty".into()) } else { values::pattern(text) },
        )
    }

    pub(super) fn list(
        &self,
        field: &Option<Field<Vec<Field<String>>>>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<String> {
        let mut list = Vec::new();
        for item in field.iter().flat_map(|field| field.value.iter().flatten()) {
            match item.value.as_deref().map(|text| (text, check(text))) {
                Some((text, Ok(()))) => list.push(text.to_string()),
                Some((_, Err(message))) => self.note(self.document.problem(item.place, message)),
                None => {}
            }
        }
        list
    }

    fn command(&self, name: &str, field: &Field<raw::Command>) -> Option<command::Settings> {
        let raw = field.value.as_ref()?;
        if raw.run.is_none() {
            self.note_missing(
                field.place,
                "this command has nothing to `run`",
                "such as: command: { run: [pg_dump, shop] }",
            );
        }
        let stream = self.text(&raw.stream, |text| match values::name(text) {
            Ok(()) => Ok(text.to_string()),
            Err(_) => Err("expected a plain file name, such as database.sql".into()),
        });
        Some(command::Settings {
            run: self.arguments(&raw.run).unwrap_or_default(),
            stream: stream.unwrap_or_else(|| default_stream(name)),
            terminator: self.text(&raw.terminator, |text| not_empty(text, "a terminator")),
            restore: self.arguments(&raw.restore),
            limit: self.text(&raw.limit, values::duration).unwrap_or(command::Settings::LIMIT),
        })
    }

    fn vault_source(&self, field: &Field<raw::Vault>) -> Option<vault::Settings> {
        let raw = field.value.as_ref()?;
        if let Some(place) =
            raw.approle.as_ref().and_then(|role| role.value.as_ref()?.wrapped.as_ref()).map(|f| f.place)
        {
            let help = "unwrap it, and keep it in a file: VAULT_TOKEN=$WRAPPED vault unwrap -field=secret_id";
            return self.wrong_with_help(place, "the secret id of a source does not come wrapped", help);
        }
        if let Some(namespace) = &raw.namespace {
            let help = "leave it out: a snapshot is of all of Vault, and is taken in its root namespace";
            return self.wrong_with_help(namespace.place, "a snapshot is of no namespace", help);
        }
        self.vault(field).map(|vault| vault::Settings { vault })
    }

    fn arguments(&self, field: &Option<Field<Vec<Field<String>>>>) -> Option<Vec<String>> {
        let field_place = field.as_ref()?.place;
        let empty = field.as_ref()?.value.as_ref()?.first().is_none_or(|program| program.value.as_deref() == Some(""));
        if empty {
            return self.wrong(field_place, "expected a program and its arguments");
        }
        let list = self.list(field, |text| {
            if text.contains('\0') { Err("an argument cannot hold a zero byte".into()) } else { Ok(()) }
        });
        (!list.is_empty()).then_some(list)
    }
}

fn is_volume(source: &Field<raw::Source>) -> bool {
    source.value.as_ref().is_some_and(|raw| raw.volume.is_some())
}

pub(super) fn layout(field: &Option<Field<raw::Layout>>) -> Option<Layout> {
    field.as_ref()?.value.map(|layout| match layout {
        raw::Layout::Stream => Layout::Stream,
        raw::Layout::Dedup => Layout::Dedup,
    })
}

/// Name of a command's stream when none is given.
pub fn default_stream(source: &str) -> String {
    format!("{}.out", source.get(..96).unwrap_or(source))
}
