//! What is dumped comes back equal: every way to the data, every target, by the servers' own digests.

use crate::data::{Raw, Writer, fill, noise};
use crate::memory_sink::load_from;
use crate::support::docker::{Container, Wanted};
use crate::support::host_server::HostServer;
use crate::{dump, engine_of, fingerprint, network, on_host, server_on, settings};
use bkp::engine::redis::{Method, Redis, Settings};
use bkp::engine::{Engine, Naming, Server, Target};
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEBUG: &[&str] = &["--enable-debug-command", "yes"];

fn raw(server: &HostServer) -> Raw {
    Raw::connect(LOCAL, server.port(), server.password())
}

fn start(arguments: &[&str], part: &str) -> Option<HostServer> {
    let all = DEBUG.iter().chain(arguments);
    all.fold(HostServer::redis(), |wanted, argument| wanted.argument(argument)).start(part)
}

/// Both servers hold the same, as they see it themselves; what the writer wrote is left out.
fn same_contents(source: &mut Raw, restored: &mut Raw) {
    for raw in [&mut *source, &mut *restored] {
        raw.say("SELECT 7");
        assert_eq!(raw.say("GET left"), raw.say("GET right"), "a half transaction");
        raw.say("FLUSHDB");
        raw.say("SELECT 0");
    }
    assert_eq!(source.say("DEBUG DIGEST"), restored.say("DEBUG DIGEST"));
    for question in ["FUNCTION LIST WITHCODE", "XINFO STREAM stream", "PEXPIRETIME goes", "PEXPIRETIME soon"] {
        assert_eq!(source.say(question), restored.say(question), "{question}");
    }
}

/// Dumps under writes, restores into a new directory, starts a server there, and compares.
fn there_and_back(source: &HostServer, method: Method, arguments: &[&str], part: &str) {
    let engine = engine_of(source, method);
    engine.preflight().unwrap();
    let before = jiff::Timestamp::now();
    let writer = Writer::start(raw(source));
    let (dumped, origin) = dump(&engine).unwrap();
    assert!(writer.stop() > 0);
    assert!(before <= dumped.consistent_at && dumped.consistent_at <= jiff::Timestamp::now());
    assert_eq!(dumped.warnings, Vec::<String>::new());
    assert!(dumped.version.starts_with("Redis 7"), "{}", dumped.version);
    assert_eq!(dumped.inventory["streams"], 2);
    assert_eq!(dumped.position.is_some(), method != Method::Snapshot);
    let config = String::from_utf8(origin.streams["config.json"].clone()).unwrap();
    assert!(config.contains("maxmemory-policy") && !config.contains(source.password()), "{config}");

    let directory = tempfile::tempdir().unwrap();
    let restored = directory.path().join("restored");
    let loaded = load_from(&engine, &origin, &Target::New(restored.clone())).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.items, dumped.inventory["keys"]);
    let acl = std::fs::read_to_string(restored.join("users.acl")).unwrap();
    assert!(acl.contains("user reader on") && !acl.contains("reader-password"));
    let arguments: Vec<&str> = DEBUG.iter().chain(arguments).copied().collect();
    let server = server_on(&restored, &arguments, part).unwrap();
    assert_eq!(fingerprint(&settings(on_host(&server), Method::Automatic)), dumped.fingerprint);
    same_contents(&mut raw(source), &mut raw(&server));
}

#[test]
fn a_server_of_the_host_in_every_way_comes_back_equal() {
    let part = "redis on the host";
    let ways = [
        (Method::Replica, &["--repl-diskless-sync-delay", "0"][..], &[][..]),
        (Method::Replica, &["--repl-diskless-sync", "no"], &[]),
        (Method::Snapshot, &["--dbfilename", "mine.rdb"], &["--dbfilename", "mine.rdb"]),
        (Method::Automatic, &["--repl-diskless-sync-delay", "0", "--appendonly", "yes"], &["--appendonly", "yes"]),
    ];
    for (method, arguments, restored_arguments) in ways {
        let Some(source) = start(arguments, part) else { return };
        fill(&mut raw(&source));
        there_and_back(&source, method, &[restored_arguments, &["--repl-diskless-sync-delay", "0"]].concat(), part);
    }
}

#[test]
fn users_come_back_with_their_passwords() {
    let part = "users of redis";
    let Some(source) = start(&["--repl-diskless-sync-delay", "0"], part) else { return };
    raw(&source).say("ACL SETUSER reader on >reader-password ~app:* +@read");
    raw(&source).say("SET app:1 one");
    let (dumped, origin) = dump(&engine_of(&source, Method::Automatic)).unwrap();
    assert_eq!(dumped.inventory["users"], 2);
    let directory = tempfile::tempdir().unwrap();
    let restored = directory.path().join("restored");
    load_from(&engine_of(&source, Method::Automatic), &origin, &Target::New(restored.clone())).unwrap();
    // The password of the default user comes back too.
    let server = HostServer::redis().start(part).unwrap();
    let mut admin = raw(&server);
    for line in std::fs::read_to_string(restored.join("users.acl")).unwrap().lines() {
        admin.say(&format!("ACL SETUSER {}", line.strip_prefix("user ").unwrap()));
    }
    let mut reader = Raw::connect(LOCAL, server.port(), source.password());
    reader.say("AUTH reader reader-password");
    assert!(reader.try_ask(&[b"SET", b"app:1", b"x"]).unwrap_err().starts_with("NOPERM"));
}

#[test]
fn an_empty_server_takes_all_keys_and_a_full_one_is_refused() {
    let part = "redis on the host";
    let Some(source) = start(&["--repl-diskless-sync-delay", "0"], part) else { return };
    fill(&mut raw(&source));
    let (dumped, origin) = dump(&engine_of(&source, Method::Automatic)).unwrap();
    let target = start(&["--repl-diskless-sync-delay", "0"], part).unwrap();
    let engine = engine_of(&target, Method::Automatic);
    let loaded = load_from(&engine, &origin, &Target::NewDatabases(Naming::Same)).unwrap();
    assert_eq!(loaded.items, dumped.inventory["keys"]);
    assert_eq!(fingerprint(&settings(on_host(&target), Method::Automatic)), dumped.fingerprint);
    same_contents(&mut raw(&source), &mut raw(&target));
    assert!(raw(&target).say("ACL LIST").contains("user reader on"));

    let refused = load_from(&engine, &origin, &Target::NewDatabases(Naming::Same)).unwrap_err();
    assert_eq!(refused.kind(), bkp::error::Kind::Refused);
    assert!(refused.to_string().contains("has keys already"), "{refused}");
}

#[test]
fn a_value_of_50_mib_comes_back() {
    let part = "redis on the host";
    let Some(source) = start(&["--repl-diskless-sync-delay", "0"], part) else { return };
    raw(&source).ask(&[b"SET", b"huge", &noise(50 << 20, 99)]);
    raw(&source).say("SETRANGE zeros 52428799 x");
    let engine = engine_of(&source, Method::Replica);
    let (dumped, origin) = dump(&engine).unwrap();
    assert!(origin.streams["dump.rdb"].len() > 50 << 20);
    let target = start(&["--repl-diskless-sync", "no"], part).unwrap();
    load_from(&engine_of(&target, Method::Replica), &origin, &Target::NewDatabases(Naming::Same)).unwrap();
    assert_eq!(raw(&source).say("DEBUG DIGEST"), raw(&target).say("DEBUG DIGEST"));
    assert_eq!(fingerprint(&settings(on_host(&target), Method::Replica)), dumped.fingerprint);
}

#[test]
fn a_socket_is_as_good_as_a_port() {
    let Some(source) = start(&["--repl-diskless-sync-delay", "0"], "redis on the host") else { return };
    raw(&source).say("SET a 1");
    let server = Server { host: None, port: None, socket: Some(source.socket()), ..on_host(&source) };
    let (dumped, _) = dump(&Redis::new(settings(server, Method::Automatic))).unwrap();
    assert_eq!(dumped.inventory["keys"], 1);
}

#[test]
fn an_encrypted_connection_is_made_and_the_certificate_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for name in ["server", "other"] {
        let (key, certificate) = (path(&format!("{name}.key")), path(&format!("{name}.crt")));
        let names =
            ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
        let made = ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=test"];
        let files = ["-keyout", &key, "-out", &certificate];
        crate::support::run("openssl", &[&made[..], &names, &files].concat(), directory.path());
    }
    crate::support::run("chmod", &["-R", "a+rX", "."], directory.path());
    let port = crate::support::free_port();
    let arguments = ["--tls-port", &port.to_string(), "--tls-cert-file", &path("server.crt"), "--tls-key-file"];
    let more = [&path("server.key"), "--tls-ca-cert-file", &path("server.crt"), "--tls-auth-clients", "no"];
    let delay = ["--repl-diskless-sync-delay", "0"];
    let Some(source) = start(&[&arguments[..], &more, &delay].concat(), "redis with TLS") else { return };
    raw(&source).ask(&[b"SET", b"big", &noise(5 << 20, 2)]);
    let server = |ca: &str| Server { port: Some(port), ca_file: Some(path(ca).into()), ..on_host(&source) };
    let (dumped, _) = dump(&Redis::new(settings(server("server.crt"), Method::Replica))).unwrap();
    assert_eq!(dumped.inventory["keys"], 1);
    let failure = dump(&Redis::new(settings(server("other.crt"), Method::Replica))).unwrap_err();
    assert!(failure.full().contains("certificate"), "{}", failure.full());
    let plain = Server { ca_file: None, ..server("server.crt") };
    dump(&Redis::new(settings(plain, Method::Replica))).unwrap_err();
}

fn inside(container: &Container, method: Method) -> Settings {
    let place = Place::Container(Selector::Name(container.name().into()));
    settings(Server { place, password: Some(crate::secret(container.password())), ..Server::default() }, method)
}

/// A container of the same kind on a restored directory.
fn container_on(restored: &Path, wanted: Wanted, part: &str) -> Option<Container> {
    // The server of the container is another user.
    crate::support::run("chmod", &["-R", "a+rwX", restored.to_str().unwrap()], Path::new("/"));
    let parent = restored.parent().unwrap();
    std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755)).unwrap();
    wanted.volume(&format!("{}:/data", restored.display())).start(part)
}

/// Its port is published, so that it is reached where the networks of the engine are not, too.
fn debug(wanted: Wanted) -> Wanted {
    let wanted = wanted.option("--publish").option("127.0.0.1::6379");
    let all = DEBUG.iter().chain(&["--repl-diskless-sync-delay", "0"]);
    all.fold(wanted, |wanted, argument| wanted.argument(argument))
}

/// Dumps a container under writes, restores, starts another on it, and compares.
fn container_there_and_back(make: fn() -> Wanted, way: fn(&Container) -> Settings) {
    let part = "redis and valkey in containers";
    let Some(source) = debug(make()).start(part) else { return };
    let mut own = Raw::connect(source.ip(), 6379, source.password());
    fill(&mut own);
    let settings = way(&source);
    let engine = Redis::new(settings.clone());
    let writer = Writer::start(Raw::connect(source.ip(), 6379, source.password()));
    let (dumped, origin) = dump(&engine).unwrap();
    assert!(writer.stop() > 0);
    assert_eq!(dumped.position.is_none(), settings.method == Method::Snapshot);
    assert_eq!(dumped.warnings, Vec::<String>::new());
    let directory = tempfile::tempdir().unwrap();
    let restored = directory.path().join("restored");
    load_from(&engine, &origin, &Target::New(restored.clone())).unwrap();
    let server = container_on(&restored, debug(make()), part).unwrap();
    assert_eq!(fingerprint(&settings_of(&server)), dumped.fingerprint);
    same_contents(&mut own, &mut Raw::connect(server.ip(), 6379, server.password()));
}

#[test]
fn containers_come_back_equal_over_the_network() {
    container_there_and_back(Container::redis, settings_of);
    container_there_and_back(Container::valkey, settings_of);
}

#[test]
fn containers_come_back_equal_through_the_engine() {
    container_there_and_back(Container::redis, |container| inside(container, Method::Automatic));
    container_there_and_back(Container::redis, |container| inside(container, Method::Snapshot));
    container_there_and_back(Container::valkey, |container| inside(container, Method::Snapshot));
    container_there_and_back(Container::redis_8, |container| inside(container, Method::Automatic));
}

fn settings_of(container: &Container) -> Settings {
    settings(network(&container.ip().to_string(), 6379, container.password()), Method::Automatic)
}

#[test]
fn a_container_without_a_network_is_dumped_through_its_own_client() {
    let Some(source) = Container::valkey().network("none").start("valkey in a container") else { return };
    source.query("", "SET a 1\nSET \"b c\" 2\nSELECT 3\nSADD s x y");
    let engine = Redis::new(inside(&source, Method::Automatic));
    engine.preflight().unwrap();
    let (dumped, origin) = dump(&engine).unwrap();
    assert_eq!(dumped.inventory["keys"], 3);
    assert!(dumped.version.starts_with("Valkey 9"), "{}", dumped.version);
    assert!(origin.streams["dump.rdb"].starts_with(b"VALKEY"));
    let config = String::from_utf8(origin.streams["config.json"].clone()).unwrap();
    assert!(config.contains("\"maxmemory-policy\": \"noeviction\"") && config.contains("user default on"), "{config}");
}
