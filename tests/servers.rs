//! The servers that other tests use start, answer and keep strangers out. This proves the tests' own support, not bkp.
#![allow(clippy::unwrap_used)] // all of this is test

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::OnceLock;
use support::docker::engine::{Volume, docker};
use support::docker::{Container, Kind, Stack};
use support::host_server::HostServer;

const STACK: &str = "servers in containers";

fn stack() -> Option<&'static Stack> {
    static SHARED: OnceLock<Option<Stack>> = OnceLock::new();
    let start = || {
        let named = [
            ("mysql", Container::mysql().env("MYSQL_DATABASE", "shop").argument("--server-id=7")),
            ("mariadb", Container::mariadb().env("MYSQL_DATABASE", "shop")),
            ("postgres", Container::postgres().env("POSTGRES_USER", "keeper").env("POSTGRES_DB", "shop")),
            ("redis", Container::redis()),
            ("valkey", Container::valkey()),
            ("ferretdb", Container::ferretdb()),
        ];
        Stack::start(STACK, named)
    };
    SHARED.get_or_init(start).as_ref()
}

#[test]
fn mysql_and_mariadb_answer_in_containers_and_are_told_apart() {
    let Some(stack) = stack() else { return };
    for (name, kind) in [("mysql", Kind::Mysql), ("mariadb", Kind::Mariadb)] {
        let server = &stack[name];
        assert_eq!(server.kind(), kind);
        let version = server.query("", "select version()");
        assert_eq!(version.contains("MariaDB"), kind == Kind::Mariadb, "{version}");
        server.query("shop", "create table t (a int, b text); insert into t values (1, 'x'), (2, 'y')");
        assert_eq!(server.query("shop", "select * from t"), "1\tx\n2\ty");
        assert!(!server.try_query("", "select nonsense").status.success());
    }
    assert_eq!(stack["mysql"].query("", "select @@server_id"), "7");
}

#[test]
fn postgres_answers_in_a_container() {
    let Some(stack) = stack() else { return };
    let server = &stack["postgres"];
    assert_eq!((server.kind(), server.user()), (Kind::Postgres, "keeper"));
    server.query("shop", "create table t (a int, b text); insert into t values (1, 'x'), (2, 'y')");
    assert_eq!(server.query("shop", "select * from t"), "1\tx\n2\ty");
    assert!(!server.try_query("shop", "select nonsense").status.success());
}

#[test]
fn redis_and_valkey_answer_in_containers() {
    let Some(stack) = stack() else { return };
    for name in ["redis", "valkey"] {
        let server = &stack[name];
        assert_eq!(server.query("3", "set a b"), "OK");
        assert_eq!(server.query("3", "get a"), "b");
        let stranger = server.exec(&[&format!("{name}-cli"), "get", "a"], b"");
        assert!(String::from_utf8_lossy(&stranger.stdout).contains("NOAUTH"), "{stranger:?}");
    }
}

#[test]
fn ferretdb_answers_in_a_container_and_refuses_strangers() {
    let Some(stack) = stack() else { return };
    let server = &stack["ferretdb"];
    let mut connection = TcpStream::connect((server.ip(), server.port())).unwrap();
    assert!(has(&mongo_answer(&mut connection, "admin", bson_int("buildInfo", 1)), "version"));
    assert!(has(&mongo_answer(&mut connection, "admin", bson_int("listDatabases", 1)), "authentication"));
}

#[test]
fn containers_of_a_stack_share_a_prefix_and_know_each_other() {
    let Some(stack) = stack() else { return };
    let names = docker(&["ps", "--filter", &format!("name={}", stack.prefix()), "--format", "{{.Names}}"]);
    assert_eq!(names.lines().count(), 6, "{names}");
    let found = stack["redis"].exec(&["getent", "hosts", "mysql"], b"");
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.split_whitespace().next().map(|ip| ip.parse::<IpAddr>().unwrap()), Some(stack["mysql"].ip()));
    let project = stack["mysql"].inspect("{{index .Config.Labels \"com.docker.compose.project\"}}");
    assert_eq!(project, stack.prefix());
}

#[test]
fn commands_in_a_container_read_and_answer_more_than_a_pipe_holds() {
    let Some(stack) = stack() else { return };
    let much = b"0123456789abcde\n".repeat(1 << 16);
    let output = stack["redis"].exec(&["cat"], &much);
    assert!(output.status.success() && output.stdout == much);
    let output = stack["redis"].exec(&["sh", "-c", "echo wrong >&2; exit 7"], &much);
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(7), &b"wrong\n"[..]));
}

#[test]
fn a_container_keeps_its_data_when_it_is_started_again_and_is_gone_when_it_is_dropped() {
    let part = "a container that is started again";
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("password"), "from a file").unwrap();
    let mount = format!("{}:/run/secrets:ro", scratch.path().display());
    let redis = Container::redis().password("from a file").env("REDIS_PASSWORD_FILE", "/run/secrets/password");
    let Some(()) = support::docker::require(part, Kind::Redis) else { return };
    let name = format!("bkp-test-volume-{}", bkp::durable::random_hex(4));
    let volume = Volume::new(&name);
    let redis = redis.volume(&mount).volume(&format!("{}:/data", volume.name)).label("some", "label");
    let redis = redis.network("none").start(part).unwrap();
    assert_eq!(redis.inspect("{{index .Config.Labels \"some\"}}"), "label");
    redis.query("", "set kept yes\nsave");
    redis.stop();
    redis.start_again();
    assert_eq!(redis.query("", "get kept"), "yes");
    let id = redis.id().to_owned();
    drop(redis);
    drop(volume);
    assert_eq!(docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &format!("id={id}")]), "");
    assert_eq!(docker(&["volume", "ls", "--quiet", "--filter", &format!("name={name}")]), "");
}

#[test]
#[should_panic(expected = "unknown option")]
fn a_container_that_ends_at_once_fails_its_test_with_what_it_logged() {
    let part = "a container that ends at once";
    let started = Container::mariadb().argument("--no-such-argument").start(part);
    assert!(started.is_some(), "unknown option"); // not run, and told so
}

#[test]
fn mariadb_answers_on_this_host_and_comes_back() {
    let Some(mut server) = HostServer::mariadb().argument("--log-bin").start("MariaDB on this host") else { return };
    server.query("", "create database shop; create table shop.t (a int); insert into shop.t values (7)");
    server.kill();
    server.start_again();
    assert_eq!(server.query("shop", "select a, @@log_bin from t"), "7\t1");
    let accounts = "select count(*) from mysql.user where user != 'mariadb.sys' and authentication_string = ''";
    assert_eq!(server.query("", accounts), "0");
    assert!(server.socket().exists());
    assert_is_nobody(&server);
}

#[test]
fn postgres_answers_on_this_host_and_comes_back() {
    let Some(mut server) = HostServer::postgres().start("PostgreSQL on this host") else { return };
    server.query("", "create table t (a int); insert into t values (7)");
    server.stop();
    server.start_again();
    assert_eq!(server.query("", "select a from t"), "7");
    assert_is_nobody(&server);
}

#[test]
fn redis_answers_on_this_host() {
    let Some(server) = HostServer::redis().argument("--appendonly").argument("yes").start("Redis on this host") else {
        return;
    };
    assert_eq!(server.query("", "set a b"), "OK");
    assert_eq!(server.query("", "get a"), "b");
    assert_is_nobody(&server);
    let directory = server.data();
    assert!(directory.is_dir());
    drop(server);
    assert!(!directory.exists());
}

#[test]
fn mongo_java_server_answers_on_this_host_with_an_oplog() {
    let Some(server) = HostServer::mongo_java().start("an oplog") else { return };
    let mut connection = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let document = bson(&bson_int("marker", 4711));
    let list = bson(&element(3, "0", &document));
    let insert = [element(2, "insert", &bson_text("things")), element(4, "documents", &list)].concat();
    assert!(!has(&mongo_answer(&mut connection, "shop", insert), "errmsg"));
    let found = mongo_answer(&mut connection, "local", element(2, "find", &bson_text("oplog.rs")));
    assert!(has(&found, "shop.things") && has(&found, "marker"), "{}", String::from_utf8_lossy(&found));
}

/// Servers never run as root, for which rights mean nothing.
fn assert_is_nobody(server: &HostServer) {
    let path = format!("/proc/{}/status", server.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next();
    assert_ne!(user, Some("0"));
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// One command and its answer in MongoDB's protocol: `OP_MSG` with one section, the elements of a document.
fn mongo_answer(connection: &mut TcpStream, database: &str, elements: Vec<u8>) -> Vec<u8> {
    let document = bson(&[elements, element(2, "$db", &bson_text(database))].concat());
    let length = 16 + 4 + 1 + document.len() as u32;
    let header = [length, 1, 0, 2013, 0].map(u32::to_le_bytes).concat();
    connection.write_all(&[&header[..], &[0], &document].concat()).unwrap();
    let mut length = [0; 4];
    connection.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_le_bytes(length) as usize - 4];
    connection.read_exact(&mut answer).unwrap();
    answer
}

fn bson(elements: &[u8]) -> Vec<u8> {
    [&(elements.len() as u32 + 5).to_le_bytes()[..], elements, &[0]].concat()
}

fn element(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
    [&[kind], name.as_bytes(), &[0], value].concat()
}

fn bson_int(name: &str, value: i32) -> Vec<u8> {
    element(16, name, &value.to_le_bytes())
}

fn bson_text(value: &str) -> Vec<u8> {
    [&(value.len() as u32 + 1).to_le_bytes()[..], value.as_bytes(), &[0]].concat()
}
