//! Files of servers at work are no backup, wherever they are and from wherever bkp looks.

use super::*;

/// `bkp` in a container, as the sidecar of a stack: it sees the volumes and the engine, and no other container's processes.
fn inside(sidecar: &Container, host: &Bkp, arguments: &[&str]) -> cli::Ran {
    let command = host.command(arguments);
    let environment: Vec<(&str, &str)> = command
        .get_envs()
        .filter(|(name, _)| *name != "PATH")
        .map(|(name, value)| (name.to_str().unwrap(), value.unwrap().to_str().unwrap()))
        .collect();
    let program = command.get_program().to_str().unwrap();
    cli::Ran::of(sidecar.exec_with(&environment, &[&[program], arguments].concat(), b""))
}

#[test]
fn data_is_known_wherever_images_keep_it() {
    let (postgres, redis) = (Volume::new(&unique("pg18")), Volume::new(&unique("keys")));
    let place = "/var/lib/postgresql/18/docker";
    let wanted = Container::postgres().env("PGDATA", place).volume(&format!("{}:/var/lib/postgresql", postgres.name));
    let Some(_server) = wanted.start(PART) else { return };
    let cache = Container::redis().volume(&format!("{}:/data", redis.name)).start(PART).unwrap();
    cache.query("0", "SET a 1\nSAVE");
    for (volume, server) in [(&postgres, "PostgreSQL"), (&redis, "Redis or Valkey")] {
        let host = host_with(&format!("  data: {{ volume: {{ name: {} }} }}\n", volume.name));
        host.run(&["backup"]).expect_code(13).says(&[&format!("is the data of {server}, which works on it")]);
        assert!(host.points("data").is_empty());
    }
    // What is left out harms nobody, and neither does a server that is at rest.
    let host = host_with(&format!("  data: {{ volume: {{ name: {}, exclude: [\"18\"] }} }}\n", postgres.name));
    host.ok(&["backup"]);
    cache.stop();
    let host = host_with(&format!("  data: {{ volume: {{ name: {} }} }}\n", redis.name));
    host.ok(&["backup"]);
}

#[test]
fn a_server_at_work_is_seen_from_within_another_container() {
    let volume = Volume::new(&unique("mysql"));
    let Some(_server) = Container::mariadb().volume(&format!("{}:/var/lib/mysql", volume.name)).start(PART) else {
        return;
    };
    let host = host_with(&format!("  data: {{ volume: {{ name: {} }} }}\n", volume.name));
    let root = host.state().parent().unwrap().display().to_string();
    let program = env!("CARGO_BIN_EXE_bkp");
    let sidecar = Container::redis()
        .volume("/var/run/docker.sock:/var/run/docker.sock")
        .volume("/var/lib/docker/volumes:/var/lib/docker/volumes:ro")
        .volume(&format!("{program}:{program}:ro"))
        .volume(&format!("{root}:{root}"))
        .option("--workdir")
        .option(&format!("{root}/work"))
        .start(PART)
        .unwrap();
    inside(&sidecar, &host, &["backup"]).expect_code(13).says(&["is the data of MySQL or MariaDB, which works on it"]);
    assert!(host.points("data").is_empty());
}
