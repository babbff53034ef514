//! Scratch servers in containers of the images that sources have.

use super::support::docker::engine::docker;
use super::support::docker::{Kind, image, require};
use super::support::wait_for_every;
use super::{asked, labelled, lease, run};
use bkp::error::Failure;
use bkp::event::Cancel;
use bkp::exec::scratch::container::{Data, Limits, Prepared, Wanted, prepare};
use bkp::exec::scratch::{Lease, Running};
use bkp::secret::Secret;

const PASSWORD: &str = "pw-of-one-rehearsal";
const LIMITS: Limits = Limits { memory: 768 << 20, processors: 150 };

fn id_of(kind: Kind) -> String {
    docker(&["image", "inspect", "--format", "{{.Id}}", &image(kind)])
}

fn wanted(kind: Kind, data: Data) -> Wanted {
    let secrets = match kind {
        // Without a password it asks for none; nobody else is there.
        Kind::Redis | Kind::Valkey => Vec::new(),
        _ => vec![(format!("{}_FILE", kind.password_variable()), Secret::new(PASSWORD.into()))],
    };
    let (image, limits) = (id_of(kind), LIMITS);
    Wanted {
        image,
        entrypoint: None,
        arguments: vec![],
        environment: vec![],
        secrets,
        files: vec![],
        data,
        limits,
        known_as: None,
    }
}

fn made(lease: &Lease<'_>, wanted: &Wanted) -> Result<Prepared, Failure> {
    prepare(lease, wanted, &Cancel::default())
}

fn ready(server: &mut Running, words: &[&str], input: &str, answer: &str) {
    wait_for_every(200, &format!("an answer of {}", words[0]), 180, || {
        server.check().unwrap_or_else(|failure| panic!("{}: {}", failure.full(), server.logs()));
        (asked(&server.place(), words, input)? == answer).then_some(())
    });
}

/// Starts each kind of server in the smallest surroundings; says what `docker inspect` shows of it.
fn starts(kind: Kind, data: Data, words: &[&str], input: &str, answer: &str) -> Option<String> {
    require("scratch servers in containers", kind)?;
    let (state, run) = (tempfile::tempdir().unwrap(), run());
    let mut server = made(&lease(state.path(), &run), &wanted(kind, data)).unwrap().start().unwrap();
    ready(&mut server, words, input, answer);
    let [container, ..] = &labelled(&run)[..] else { panic!("nothing has the label") };
    let shown = docker(&["inspect", container]);
    assert!(!shown.contains(PASSWORD), "docker inspect shows the password");
    for part in [
        r#""NetworkMode": "none""#,
        r#""PortBindings": null"#,
        r#""Memory": 805306368"#,
        r#""NanoCpus": 1500000000"#,
        r#""no-new-privileges""#,
        r#""Privileged": false"#,
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let networks =
        docker(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container]);
    assert_eq!(networks, "", "it has an address");
    server.teardown().unwrap();
    assert_eq!(labelled(&run), Vec::<String>::new());
    assert_eq!(
        std::fs::read_dir(state.path().join("scratch")).unwrap().count(),
        1,
        "only the name of the records stays"
    );
    Some(shown)
}

#[test]
fn mysql_starts_without_network_and_privileges() {
    let client =
        ["mysql", "--defaults-extra-file=/dev/stdin", "--batch", "--skip-column-names", "--execute=select 40 + 2"];
    let input = format!("[client]\nuser=root\npassword={PASSWORD}\n");
    starts(Kind::Mysql, Data::Memory("/var/lib/mysql".into(), 512 << 20), &client, &input, "42");
}

#[test]
fn mariadb_starts_without_network_and_privileges() {
    let client =
        ["mariadb", "--defaults-extra-file=/dev/stdin", "--batch", "--skip-column-names", "--execute=select 40 + 2"];
    let input = format!("[client]\nuser=root\npassword={PASSWORD}\n");
    starts(Kind::Mariadb, Data::Memory("/var/lib/mysql".into(), 512 << 20), &client, &input, "42");
}

#[test]
fn postgres_starts_without_network_and_privileges() {
    let client = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=postgres"];
    starts(Kind::Postgres, Data::Memory("/var/lib/postgresql/data".into(), 512 << 20), &client, "select 40 + 2;", "42");
}

#[test]
fn redis_and_valkey_start_on_a_volume() {
    for (kind, client) in [(Kind::Redis, "redis-cli"), (Kind::Valkey, "valkey-cli")] {
        starts(kind, Data::Volume("/data".into()), &[client, "echo", "42"], "", "42");
    }
}

#[test]
fn ferretdb_starts_without_network_and_privileges() {
    let open = "exec 3<>/dev/tcp/127.0.0.1/27017 && echo open";
    starts(Kind::Ferretdb, Data::Memory("/data/db".into(), 512 << 20), &["bash", "-c", open], "", "open");
}

#[test]
fn files_are_put_into_the_volume_before_the_server_starts() {
    let Some(()) = require("scratch servers in containers", Kind::Redis) else { return };
    let (state, run) = (tempfile::tempdir().unwrap(), run());
    let mut wanted = wanted(Kind::Redis, Data::Volume("/data".into()));
    wanted.arguments = vec!["--aclfile".into(), "/data/users.acl".into()];
    let prepared = made(&lease(state.path(), &run), &wanted).unwrap();
    let users = b"user default on nopass ~* &* +@all\nuser app on nopass ~app:* +@read\n";
    prepared.put("/data", "users.acl", users.len() as u64, &mut &users[..], &Cancel::default()).unwrap();
    let mut server = prepared.start().unwrap();
    ready(&mut server, &["redis-cli", "acl", "users"], "", "app\ndefault");
    drop(server);
    assert_eq!(labelled(&run), Vec::<String>::new(), "dropping it is enough");
}

#[test]
fn a_server_that_ends_says_why() {
    let Some(()) = require("scratch servers in containers", Kind::Redis) else { return };
    let (state, run) = (tempfile::tempdir().unwrap(), run());
    let mut wanted = wanted(Kind::Redis, Data::Memory("/data".into(), 512 << 20));
    wanted.arguments = vec!["--no-such-option".into(), "yes".into()];
    let mut server = made(&lease(state.path(), &run), &wanted).unwrap().start().unwrap();
    let failure = wait_for_every(100, "its end", 60, || server.check().err());
    assert!(
        failure.full().contains("ended with status 1") && failure.full().contains("no-such-option"),
        "{}",
        failure.full()
    );
    server.teardown().unwrap();
    assert_eq!(labelled(&run), Vec::<String>::new());
}

#[test]
fn a_server_that_needs_more_memory_than_it_has_says_so() {
    let Some(()) = require("scratch servers in containers", Kind::Mysql) else { return };
    let (state, run) = (tempfile::tempdir().unwrap(), run());
    let mut wanted = wanted(Kind::Mysql, Data::Memory("/var/lib/mysql".into(), 512 << 20));
    wanted.limits.memory = 64 << 20;
    let mut server = made(&lease(state.path(), &run), &wanted).unwrap().start().unwrap();
    let failure = wait_for_every(100, "its end", 120, || server.check().err());
    assert!(failure.full().contains("it needs more memory than it has"), "{}", failure.full());
    assert!(failure.next_step().unwrap().contains("more memory"));
}

#[test]
fn an_image_that_is_gone_is_named_with_the_way_to_get_it() {
    let Some(()) = require("scratch servers in containers", Kind::Redis) else { return };
    let (state, run) = (tempfile::tempdir().unwrap(), run());
    let digest = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";
    let mut wanted = wanted(Kind::Redis, Data::Memory("/data".into(), 512 << 20));
    wanted.image = format!("sha256:{digest}");
    let failure = made(&lease(state.path(), &run), &wanted).unwrap_err();
    assert_eq!(failure.to_string(), format!("the image sha256:{digest} is not on this host any more"));
    assert!(failure.next_step().unwrap().contains("docker load"));
    // A registry that nobody reaches.
    wanted.image = format!("127.0.0.1:1/library/redis@sha256:{digest}");
    let failure = made(&lease(state.path(), &run), &wanted).unwrap_err();
    assert!(failure.full().contains("cannot be fetched") && failure.full().contains("refused"), "{}", failure.full());
    assert!(failure.next_step().unwrap().contains("docker pull 127.0.0.1:1/library/redis@sha256:"));
    assert_eq!(labelled(&run), Vec::<String>::new());
}
