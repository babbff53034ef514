//! Database servers in the configuration: from the shape of a source to the settings of its engine.
//!
//! All four kinds share one shape, because they share nearly all keys; a key that means nothing for a kind is refused here.

use super::convert::{absolute, not_empty};
use super::reading::{Field, Reader};
use super::{Labels, raw};
use crate::engine::{self, Server, mongo, mysql, postgres, redis};
use crate::exec::Place;
use crate::exec::docker::Selector;
use crate::repo::point::Layout;
use crate::secret::Secrets;

#[derive(Clone, Copy, PartialEq)]
pub enum ServerKind {
    Mysql,
    Postgres,
    Mongo,
    Redis,
}

impl ServerKind {
    fn word(self) -> &'static str {
        match self {
            ServerKind::Mysql => "mysql",
            ServerKind::Postgres => "postgres",
            ServerKind::Mongo => "mongo",
            ServerKind::Redis => "redis",
        }
    }
}

impl Reader<'_> {
    pub(super) fn server(
        &self,
        kind: ServerKind,
        field: &Field<raw::Server>,
        stack: Option<&str>,
    ) -> Option<engine::Settings> {
        self.server_at(kind, field.value.as_ref()?, self.place(field, stack)?)
    }

    /// How the servers of labels are backed up. Where they are is not said here, and no label says how.
    pub(super) fn labels(&self, field: &Field<raw::Labels>) -> Option<Labels> {
        let raw = field.value.as_ref()?;
        let kinds = [
            (ServerKind::Mysql, &raw.mysql),
            (ServerKind::Postgres, &raw.postgres),
            (ServerKind::Mongo, &raw.mongo),
            (ServerKind::Redis, &raw.redis),
        ];
        let mut servers = Vec::new();
        for (kind, field) in kinds {
            let Some(raw) = field.as_ref().and_then(|field| field.value.as_ref()) else { continue };
            self.no_place(raw);
            servers.extend(self.server_at(kind, raw, Place::Host));
        }
        let own_accounts = raw.own_accounts.as_ref().and_then(|field| field.value).unwrap_or(false);
        Some(Labels { own_accounts, servers, quiesce: self.quiesce(&raw.quiesce), layout: Layout::default() })
    }

    fn no_place(&self, raw: &raw::Server) {
        let texts = [
            ("container", &raw.container),
            ("service", &raw.service),
            ("project", &raw.project),
            ("swarm_service", &raw.swarm_service),
            ("label", &raw.label),
            ("host", &raw.host),
            ("socket", &raw.socket),
        ];
        let texts = texts.into_iter().map(|(key, field)| (key, field.as_ref().map(|field| field.place)));
        let sentinel = ("sentinel", raw.sentinel.as_ref().map(|field| field.place));
        for (key, place) in texts.chain([sentinel]) {
            if let Some(place) = place {
                self.wrong::<()>(place, format!("`{key}` means nothing here: the label tells which container it is"));
            }
        }
    }

    fn server_at(&self, kind: ServerKind, raw: &raw::Server, place: Place) -> Option<engine::Settings> {
        self.only_what_fits(kind, raw);
        let sentinel = raw.sentinel.as_ref().and_then(|sentinel| self.sentinel(sentinel));
        let server = Server {
            place,
            host: self.text(&raw.host, |text| not_empty(text, "a host")),
            port: self.port(&raw.port),
            socket: self.text(&raw.socket, absolute),
            user: self.text(&raw.user, |text| not_empty(text, "a user")),
            password: self.secret("password", &raw.password, &raw.password_file),
            own_password: &[],
            ca_file: self.text(&raw.ca_file, absolute),
            secrets: Secrets::default(),
        };
        let databases = self.databases(&raw.databases);
        let exclude = self.databases(&raw.exclude);
        let yes = |field: &Option<Field<bool>>| field.as_ref().and_then(|f| f.value).unwrap_or(false);
        Some(match kind {
            ServerKind::Mysql => {
                let lock_tables = yes(&raw.lock_tables);
                engine::Settings::Mysql(mysql::Settings { server, databases, exclude, lock_tables })
            }
            ServerKind::Postgres => engine::Settings::Postgres(postgres::Settings { server, databases, exclude }),
            ServerKind::Mongo => engine::Settings::Mongo(mongo::Settings {
                server,
                auth_database: self.text(&raw.auth_database, |text| not_empty(text, "a database")),
                databases,
                exclude,
                mongodump: yes(&raw.mongodump),
            }),
            ServerKind::Redis => {
                let method = match raw.method.as_ref().and_then(|method| method.value) {
                    None => redis::Method::Automatic,
                    Some(raw::RedisMethod::Replica) => redis::Method::Replica,
                    Some(raw::RedisMethod::Snapshot) => redis::Method::Snapshot,
                };
                engine::Settings::Redis(redis::Settings { server, method, sentinel })
            }
        })
    }

    /// Where clients run; exactly one way to find the server must be there.
    fn place(&self, field: &Field<raw::Server>, stack: Option<&str>) -> Option<Place> {
        let raw = field.value.as_ref()?;
        let ways = [&raw.container, &raw.service, &raw.swarm_service, &raw.label];
        let named: Vec<_> = ways.into_iter().flatten().collect();
        let reached = [&raw.host, &raw.socket].into_iter().any(Option::is_some) || raw.sentinel.is_some();
        match named[..] {
            [] if reached => return Some(Place::Host),
            [] => {
                let help = "such as `container: NAME`, `service: NAME` of a Compose project, or `host: NAME`";
                self.note_missing(field.place, "it is not said where this server is", help);
                return None;
            }
            [_] => {}
            [_, second, ..] => {
                return self.wrong(second.place, "a container is named in one way only: keep one of them");
            }
        }
        if let Some(project) = raw.project.as_ref().filter(|_| raw.service.is_none()) {
            return self.wrong(project.place, "`project` belongs to `service`, which is not here");
        }
        let name = |text: &str| not_empty(text, "a name");
        let selector = if raw.container.is_some() {
            Selector::Name(self.text(&raw.container, name)?)
        } else if let Some(service) = &raw.service {
            let Some(project) = self.text(&raw.project, name).or_else(|| stack.map(str::to_owned)) else {
                let help = "add `project: NAME` beside it, or give the policy a `stack`";
                return self.wrong_with_help(service.place, "of which Compose project?", help);
            };
            Selector::Compose { project, service: self.text(&raw.service, name)? }
        } else if raw.swarm_service.is_some() {
            Selector::Swarm { service: self.text(&raw.swarm_service, name)? }
        } else {
            self.text(&raw.label, label)?
        };
        Some(Place::Container(selector))
    }

    fn only_what_fits(&self, kind: ServerKind, raw: &raw::Server) {
        use ServerKind::{Mongo, Mysql, Redis};
        let place = |field: &Option<Field<bool>>| field.as_ref().map(|f| f.place);
        let keys = [
            ("databases", raw.databases.as_ref().map(|f| f.place), kind != Redis),
            ("exclude", raw.exclude.as_ref().map(|f| f.place), kind != Redis),
            ("lock_tables", place(&raw.lock_tables), kind == Mysql),
            ("mongodump", place(&raw.mongodump), kind == Mongo),
            ("auth_database", raw.auth_database.as_ref().map(|f| f.place), kind == Mongo),
            ("method", raw.method.as_ref().map(|f| f.place), kind == Redis),
            ("sentinel", raw.sentinel.as_ref().map(|f| f.place), kind == Redis),
            ("socket", raw.socket.as_ref().map(|f| f.place), kind != Mongo),
        ];
        for (key, place, fits) in keys {
            if let Some(place) = place.filter(|_| !fits) {
                self.wrong::<()>(place, format!("`{key}` means nothing for {}", kind.word()));
            }
        }
    }

    fn port(&self, field: &Option<Field<u64>>) -> Option<u16> {
        let field = field.as_ref()?;
        match u16::try_from(field.value?) {
            Ok(port) if port > 0 => Some(port),
            _ => self.wrong(field.place, "a port is a number from 1 to 65535"),
        }
    }

    fn databases(&self, field: &Option<Field<Vec<Field<String>>>>) -> Vec<String> {
        self.list(field, |text| not_empty(text, "a database").map(drop))
    }

    fn sentinel(&self, field: &Field<raw::Sentinel>) -> Option<redis::Sentinel> {
        let raw = field.value.as_ref()?;
        if raw.addresses.is_none() || raw.master.is_none() {
            let help = "as in: sentinel: { addresses: [10.0.0.1:26379], master: mymaster }";
            self.note_missing(field.place, "sentinels need `addresses` and `master`", help);
            return None;
        }
        Some(redis::Sentinel {
            addresses: self.list(&raw.addresses, |text| match text.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(()),
                _ => Err("expected HOST:PORT".into()),
            }),
            master: self.text(&raw.master, |text| not_empty(text, "a name"))?,
            password: self.secret("password", &raw.password, &raw.password_file),
        })
    }
}

fn label(text: &str) -> Result<Selector, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Selector::Label { key: key.to_owned(), value: value.to_owned() }),
        _ => Err("expected KEY=VALUE".into()),
    }
}
