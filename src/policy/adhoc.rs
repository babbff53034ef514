//! Sources named on the command line: `KIND:LOCATION`, or `NAME=KIND:LOCATION`.
//!
//! Without a name, one is made from the location, the same every time, because it names the series of points.

use super::convert::docker_volume_path;
use super::problem::did_you_mean;
use super::sources::{KINDS, default_stream};
use super::{Source, values};
use crate::engine::{Settings, command, sqlite, volume};
use crate::error::{Context, Failure, Result};
use crate::repo::point::Layout;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// `mysql:container=shop-db,user=backup,password_file=/run/secrets/db`, `redis:host=127.0.0.1`, `vault:address=https://vault.example:8200,token_file=/etc/bkp/vault-token`, `sqlite:/srv/app.db`, `volume:/srv/documents`, `volume:NAME` of a Docker volume, `command:pg_dump shop` (by `sh -c`).
pub fn adhoc(text: &str) -> Result<Source> {
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if !name.contains([':', '/']) => (Some(name), rest),
        _ => (None, text),
    };
    let Some((kind, location)) = rest.split_once(':') else {
        return Err(Failure::usage(format!("`{text}` does not say what kind of source it is")).hint(FORMS));
    };
    if location.trim().is_empty() {
        return Err(Failure::usage(format!("`{text}` does not say where the source is")).hint(FORMS));
    }
    let near = match kind {
        "sqlite" => Path::new(location).file_stem(),
        "volume" => Path::new(location).file_name(),
        "command" => location.split_whitespace().next().and_then(|program| Path::new(program).file_name()),
        "mysql" | "postgres" | "mongo" | "redis" => server_name(location),
        "vault" => vault_name(location),
        other => {
            let suggestion = did_you_mean(other, KINDS);
            return Err(Failure::usage(format!("unknown kind of source `{other}`{suggestion}")).hint(FORMS));
        }
    };
    let name = match name {
        Some(name) => values::name(name).map(|()| name.to_string()).map_err(Failure::usage)?,
        None => near.and_then(|near| values::nearest_name(&near.to_string_lossy())).ok_or_else(|| {
            Failure::usage(format!("no name can be made from `{text}`")).hint(format!("Give one: NAME={rest}"))
        })?,
    };
    let settings = match kind {
        "sqlite" => Settings::Sqlite(sqlite::Settings::of(absolute(location)?)),
        "volume" => {
            let path = if location.contains('/') || location == "." || location == ".." {
                absolute(location)?
            } else {
                values::docker_volume(location).map_err(|message| {
                    Failure::usage(format!("`{location}`: {message}"))
                        .hint(format!("For a directory write volume:./{location}"))
                })?;
                return Ok(named(name, Settings::Volume(volume_named(location))));
            };
            Settings::Volume(volume::Settings::of(path))
        }
        "mysql" | "postgres" | "mongo" | "redis" | "vault" => server(kind, location)?,
        _ => Settings::Command(command::Settings {
            run: ["sh", "-c", location].map(String::from).to_vec(),
            stream: default_stream(&name),
            terminator: None,
            restore: None,
            limit: command::Settings::LIMIT,
        }),
    };
    Ok(named(name, settings))
}

fn named(name: String, settings: Settings) -> Source {
    Source { name, settings, layout: Layout::default() }
}

const FORMS: &str = "Write mysql:container=NAME (or postgres, mongo, redis), sqlite:/srv/app.db, volume:/srv/documents, volume:NAME, vault:address=URL,token_file=PATH or command:'pg_dump shop', with NAME= in front to name it";

/// What a server is named after: its container, service or host.
fn server_name(location: &str) -> Option<&OsStr> {
    let values = ["container", "service", "swarm_service", "host"];
    let value = |key: &str| location.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    values.into_iter().find_map(value).map(OsStr::new)
}

/// What a Vault is named after: its host.
fn vault_name(location: &str) -> Option<&OsStr> {
    let address = location.split(',').find_map(|pair| pair.strip_prefix("address="))?;
    let host = address.split_once("://").map_or(address, |(_, rest)| rest).split(['/', ':']).next();
    host.filter(|host| !host.is_empty()).map(OsStr::new)
}

/// The keys of a policy, as `KEY=VALUE,KEY=VALUE`: read exactly as a policy is, with the same checks.
fn server(kind: &str, location: &str) -> Result<Settings> {
    let mut yaml = format!("policy: command-line\nsources:\n  source:\n    {kind}:\n");
    for pair in location.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("`{pair}`: expected KEY=VALUE")).hint(FORMS));
        };
        let value = match key {
            "databases" | "exclude" => serde_json::json!(value.split('+').collect::<Vec<_>>()).to_string(),
            "port" | "lock_tables" | "mongodump" | "method" => value.to_owned(),
            _ => serde_json::json!(value.replace('$', "$$")).to_string(),
        };
        yaml.push_str(&format!("      {key}: {value}\n"));
    }
    super::load::one_source(&yaml)
}

fn volume_named(name: &str) -> volume::Settings {
    volume::Settings { name: Some(name.to_owned()), ..volume::Settings::of(docker_volume_path(name)) }
}

fn absolute(location: &str) -> Result<PathBuf> {
    std::path::absolute(location).context(|| format!("cannot tell where {location} is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_from_one_word() {
        let sqlite = |path: &str| Settings::Sqlite(sqlite::Settings::of(path));
        let volume = |path: &str| Settings::Volume(volume::Settings::of(path));
        let table = [
            ("sqlite:/srv/app.db", "app", sqlite("/srv/app.db")),
            ("tasks=sqlite:/srv/app.db", "tasks", sqlite("/srv/app.db")),
            ("sqlite:/srv/a=b:c.db", "a-b-c", sqlite("/srv/a=b:c.db")),
            ("volume:/srv/Mis documentos/", "Mis-documentos", volume("/srv/Mis documentos/")),
            ("volume:documentos_files", "documentos_files", Settings::Volume(volume_named("documentos_files"))),
            ("volume:/srv/.hidden", "hidden", volume("/srv/.hidden")),
        ];
        for (text, name, settings) in table {
            assert_eq!(adhoc(text).unwrap(), named(name.into(), settings), "{text}");
        }
    }

    #[test]
    fn a_command_runs_in_a_shell() {
        let source = adhoc("command:/usr/bin/pg_dump shop | cat").unwrap();
        assert_eq!(source.name, "pg_dump");
        let Settings::Command(settings) = source.settings else { panic!("not a command") };
        assert_eq!(settings.run, ["sh", "-c", "/usr/bin/pg_dump shop | cat"]);
        assert_eq!(settings.stream, "pg_dump.out");
    }

    #[test]
    fn a_relative_path_is_made_absolute() {
        let Settings::Volume(settings) = adhoc("volume:./documents").unwrap().settings else { panic!("not a volume") };
        assert_eq!(settings.path, std::env::current_dir().unwrap().join("documents"));
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        let table = [
            ("sqlit:/srv/app.db", "unknown kind of source `sqlit`; did you mean `sqlite`?"),
            ("mongodb:/srv", "unknown kind of source `mongodb`; did you mean `mongo`?"),
            ("/srv/app.db", "`/srv/app.db` does not say what kind of source it is"),
            ("sqlite:", "`sqlite:` does not say where the source is"),
            ("volume:/", "no name can be made from `volume:/`"),
            ("a b=sqlite:/srv/app.db", "a name consists of letters a-z A-Z, digits, `.`, `_` and `-`"),
            ("volume:a b", "`a b`: this is not the name of a Docker volume"),
        ];
        for (text, message) in table {
            assert_eq!(adhoc(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
