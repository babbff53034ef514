//! Which engine a container is: by its image, its port, its program and the files of its data directory; not by its name.

use crate::exec::docker::{Description, Mount, MountKind};
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

/// The engine, and why. A sign alone can deceive: an exporter or a web front end has the image's name or the variables too.
pub fn engine_of(
    container: &Description,
    data: &dyn Fn(&Path) -> Option<&'static str>,
) -> (Option<&'static str>, Vec<String>) {
    if is_sentinel(container) {
        return (None, vec!["a Redis Sentinel".into()]);
    }
    let signs = ENGINES.iter().map(|engine| (engine, signs(engine, container, data)));
    match signs.max_by_key(|(_, (weight, _))| *weight) {
        Some((engine, (weight, evidence))) if weight >= 3 => (Some(engine.kind), evidence),
        _ => (None, vec![format!("image {}", container.image)]),
    }
}

fn signs(engine: &Engine, container: &Description, data: &dyn Fn(&Path) -> Option<&'static str>) -> (u32, Vec<String>) {
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
    if container.mounts.iter().any(|mount| data(&mount.source) == Some(engine.kind)) {
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

/// Where a server of any kind keeps its data.
pub fn data_directory(container: &Description) -> Option<&Mount> {
    let keeps = |mount: &&Mount| {
        matches!(mount.kind, MountKind::Volume | MountKind::Bind)
            && ENGINES.iter().any(|e| e.directories.iter().any(|d| mount.destination.starts_with(d)))
    };
    container.mounts.iter().find(keeps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_image_is_found_in_any_reference() {
        for image in
            ["mysql", "mysql:8", "docker.io/library/mysql:8.0", "host:5000/a/mysql@sha256:00", "mysql@sha256:00"]
        {
            assert_eq!(image_name(image), "mysql", "{image}");
        }
        assert_eq!(image_name("prom/mysqld-exporter:1"), "mysqld-exporter");
    }
}
