//! Which engine a container is: by its image, its port, its program and the files of its data directory; not by its name.
//!
//! A container of a server's image that runs something else (a client, a worker, a job) is no server: what runs in it decides,
//! and where it does not run, what was to run.

use super::Host;
use crate::exec::docker::{Description, Mount, MountKind, State};
use std::path::Path;

struct Engine {
    kind: &'static str,
    /// Last part of the image's name.
    images: &'static [&'static str],
    port: u16,
    programs: &'static [&'static str],
    environment: &'static [&'static str],
    directories: &'static [&'static str],
}

const ENGINES: [Engine; 4] = [
    Engine {
        kind: "mysql",
        images: &["mysql", "mysql-server", "mariadb", "percona", "percona-server"],
        port: 3306,
        programs: &["mysqld", "mariadbd", "mysqld_safe"],
        environment: &["MYSQL_", "MARIADB_"],
        directories: &["/var/lib/mysql", "/bitnami/mysql", "/bitnami/mariadb"],
    },
    Engine {
        kind: "postgres",
        images: &["postgres", "postgresql", "postgis", "timescaledb", "timescaledb-ha", "pgvector"],
        port: 5432,
        programs: &["postgres", "postmaster"],
        environment: &["POSTGRES_", "POSTGRESQL_", "PGDATA"],
        directories: &["/var/lib/postgresql", "/bitnami/postgresql"],
    },
    Engine {
        kind: "mongo",
        images: &["mongo", "mongodb", "mongodb-community-server", "percona-server-mongodb", "ferretdb"],
        port: 27017,
        programs: &["mongod", "ferretdb"],
        environment: &["MONGO_INITDB_", "MONGODB_"],
        directories: &["/data/db", "/bitnami/mongodb"],
    },
    Engine {
        kind: "redis",
        images: &["redis", "valkey", "redis-stack", "redis-stack-server", "keydb"],
        port: 6379,
        programs: &["redis-server", "valkey-server", "keydb-server"],
        environment: &["REDIS_", "VALKEY_"],
        directories: &["/data", "/bitnami/redis", "/bitnami/valkey"],
    },
];

/// What leads to a program, and is not it.
const WRAPPERS: [&str; 12] =
    ["sh", "bash", "dash", "ash", "env", "exec", "tini", "dumb-init", "docker-init", "gosu", "su-exec", "catatonit"];

/// The engine, and why. A sign alone can deceive: an exporter or a web front end has the image's name or the variables too.
pub fn engine_of(host: &Host<'_>, container: &Description) -> (Option<&'static str>, Vec<String>) {
    if is_sentinel(container) {
        return (None, vec!["a Redis Sentinel".into()]);
    }
    let signs = ENGINES.iter().map(|engine| (engine, signs(engine, container, host)));
    let image = || format!("image {}", container.image);
    match signs.max_by_key(|(_, (weight, _))| *weight) {
        Some((engine, (weight, evidence))) if weight >= 3 => match other_program(engine, container, host) {
            Some(other) => (None, vec![image(), format!("runs {other}, not {}", engine.programs[0])]),
            None => (Some(engine.kind), evidence),
        },
        _ => (None, vec![image()]),
    }
}

/// What a container of this engine's image runs instead of the server. `None` also where that cannot be told.
fn other_program(engine: &Engine, container: &Description, host: &Host<'_>) -> Option<String> {
    let is_server = |name: &str| engine.programs.contains(&name);
    if container.state == State::Running
        && let Some(programs) = (host.programs)(container)
    {
        if programs.iter().any(|name| is_server(name)) {
            return None;
        }
        if let Some(other) = programs.into_iter().find(|name| !is_wrapper(name)) {
            return Some(other);
        }
    }
    let words: Vec<&str> = container.command.iter().flat_map(|text| text.split_whitespace()).collect();
    let names = || words.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
    if names().any(is_server) {
        return None;
    }
    // A flag is for the program of the image itself; `-c` of a shell and `--` of a wrapper are not flags of that kind.
    let first = names().find(|name| !is_wrapper(name) && !["-c", "-ec", "-lc", "--"].contains(name))?;
    (!first.starts_with('-')).then(|| first.to_owned())
}

/// `docker-entrypoi` is `docker-entrypoint.sh`, as the kernel cuts names.
fn is_wrapper(name: &str) -> bool {
    WRAPPERS.contains(&name) || name.ends_with(".sh") || name.starts_with("docker-entrypoi")
}

fn signs(engine: &Engine, container: &Description, host: &Host<'_>) -> (u32, Vec<String>) {
    let mut evidence = Vec::new();
    let mut weight = 0;
    let mut sign = |points: u32, text: String| {
        weight += points;
        evidence.push(text);
    };
    if engine.images.contains(&image_name(&container.image)) {
        sign(2, format!("image {}", container.image));
    }
    let program = |word: &String| word.rsplit('/').next().is_some_and(|name| engine.programs.contains(&name));
    if let Some(word) =
        container.command.iter().flat_map(|text| text.split_whitespace().map(str::to_owned)).find(program)
    {
        sign(3, format!("runs {word}"));
    }
    if container.ports.iter().any(|port| port.container == engine.port) {
        sign(2, format!("port {}", engine.port));
    }
    if container.environment.keys().any(|name| engine.environment.iter().any(|prefix| name.starts_with(prefix))) {
        sign(1, "its variables".to_owned());
    }
    if container.mounts.iter().any(|mount| (host.contents)(&mount.source).database == Some(engine.kind)) {
        sign(3, "files of its data directory".to_owned());
    }
    (weight, evidence)
}

/// `mysql` of `registry.example:5000/library/mysql:8@sha256:…`.
fn image_name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image).rsplit('/').next().unwrap_or(image);
    name.split(':').next().unwrap_or(name)
}

fn is_sentinel(container: &Description) -> bool {
    let words = || container.command.iter().flat_map(|text| text.split_whitespace());
    words().any(|word| word == "--sentinel" || word.ends_with("redis-sentinel") || word.ends_with("valkey-sentinel"))
}

/// Where a server of this kind keeps its data: where such data is, or else where the images keep it.
pub fn data_directory<'c>(host: &Host<'_>, container: &'c Description, engine: &str) -> Option<&'c Mount> {
    let told = container.environment.get("PGDATA").filter(|_| engine == "postgres").map(|path| path.expose());
    let usual = ENGINES.iter().filter(|e| e.kind == engine).flat_map(|e| e.directories.iter().copied());
    let directories: Vec<&str> = usual.chain(told).collect();
    let rank = |mount: &Mount| {
        let is = directories.iter().any(|d| mount.destination == Path::new(d));
        let holds = (host.contents)(&mount.source).database == Some(engine);
        (holds, is, mount.destination.as_os_str().len())
    };
    let mounts = container.mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume | MountKind::Bind));
    mounts.filter(|m| directories.iter().any(|d| m.destination.starts_with(d))).max_by_key(|mount| rank(mount))
}

#[cfg(test)]
mod tests {
    use super::super::look::Contents;
    use super::*;
    use std::collections::BTreeMap;

    fn container(image: &str, command: &[&str], port: u16) -> Description {
        Description {
            id: "1".into(),
            name: "one".into(),
            image: image.into(),
            image_id: "sha256:1".into(),
            image_digest: None,
            state: State::Running,
            health: None,
            exit_code: 0,
            labels: BTreeMap::new(),
            ports: vec![crate::exec::docker::Port { container: port, published: None }],
            mounts: Vec::new(),
            networks: BTreeMap::new(),
            network_mode: "bridge".into(),
            environment: BTreeMap::new(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            user: None,
            removed_at_end: false,
            upper: None,
        }
    }

    /// `running`: what `ps` shows, where it can be asked.
    fn engine(container: &Description, running: Option<&[&str]>) -> Option<&'static str> {
        let programs = |_: &Description| running.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let host = Host { containers: &[], volumes: &[], contents: &|_| Contents::default(), programs: &programs };
        engine_of(&host, container).0
    }

    #[test]
    fn the_name_of_an_image_is_found_in_any_reference() {
        for image in
            ["mysql", "mysql:8", "docker.io/library/mysql:8.0", "host:5000/a/mysql@sha256:00", "mysql@sha256:00"]
        {
            assert_eq!(image_name(image), "mysql", "{image}");
        }
        assert_eq!(image_name("prom/mysqld-exporter:1"), "mysqld-exporter");
    }

    #[test]
    fn a_server_is_known_by_what_it_was_told_to_run() {
        for command in [
            &["docker-entrypoint.sh", "redis-server"][..],
            &["docker-entrypoint.sh"],
            &["docker-entrypoint.sh", "--appendonly", "yes"],
            &["tini", "--", "docker-entrypoint.sh", "redis-server", "/etc/redis.conf"],
            &["sh", "-c", "exec redis-server --requirepass $REDIS_PASSWORD"],
            &["/bin/sh", "/entrypoint.sh"],
            &[],
        ] {
            assert_eq!(engine(&container("redis:7", command, 6379), None), Some("redis"), "{command:?}");
        }
    }

    #[test]
    fn a_client_of_a_server_s_image_is_none() {
        for (image, port, command) in [
            ("redis:7", 6379, &["docker-entrypoint.sh", "redis-cli", "-h", "cache", "ping"][..]),
            ("redis:7", 6379, &["sh", "-c", "celery -A shop worker"]),
            ("mysql:8", 3306, &["docker-entrypoint.sh", "mysqldump", "--host=db"]),
            ("postgres:16", 5432, &["docker-entrypoint.sh", "psql", "-h", "db"]),
            ("postgres:16", 5432, &["/bin/bash", "-ec", "while :; do pg_dump shop; done"]),
        ] {
            assert_eq!(engine(&container(image, command, port), None), None, "{command:?}");
        }
    }

    #[test]
    fn what_runs_decides_before_what_was_to_run() {
        let shell = container("redis:7", &["sh", "-c", "/start"], 6379);
        assert_eq!(engine(&shell, Some(&["sh", "redis-server"])), Some("redis"));
        let server = container("mysql:8", &["docker-entrypoint.sh", "mysqld"], 3306);
        assert_eq!(engine(&server, Some(&["mysqld"])), Some("mysql"));
        assert_eq!(engine(&server, Some(&["sleep"])), None);
    }
}
