//! Backups that must not commit a point: a wrong password, a server that dies in the middle. And one that must, in little
//! memory: a stream of a gigabyte in a few huge rows. What is a password stands nowhere afterwards.

use crate::cli::{Bkp, Ran};
use crate::support::docker::Container;
use crate::support::host_server::HostServer;
use crate::support::wait_for;
use std::process::Child;

/// A host that backs up one source, whose password is in a file.
fn host_of(source: &str, password: &str) -> Bkp {
    let host = Bkp::with_repository();
    let file = host.write("secret", password);
    let source = source.replace("SECRET", file.to_str().unwrap());
    host.configure("", &format!("policy: test\nsources:\n  served: {source}\n"));
    host
}

/// No point was committed, and the password stands nowhere.
fn is_no_backup(host: &Bkp, ran: &Ran, password: &str) {
    assert!(![0, 3].contains(&ran.code), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains(password) && !ran.stdout.contains(password), "{}", ran.stderr);
    assert_eq!(host.points("served"), Vec::<String>::new());
    host.assert_no_trace(password);
}

#[test]
fn a_wrong_password_makes_no_point_and_stands_nowhere() {
    let part = "wrong passwords";
    let canary = "canary-\"7'#`\\x";
    let Some(mariadb) = HostServer::mariadb().start(part) else { return };
    let postgres = HostServer::postgres().start(part).unwrap();
    let redis = HostServer::redis().start(part).unwrap();
    let Some(ferretdb) = Container::ferretdb().start(part) else { return };
    let host = |kind: &str, port: u16, user: &str| {
        format!("{{ {kind}: {{ host: 127.0.0.1, port: {port}, {user}password_file: SECRET }} }}")
    };
    let sources = [
        host("mysql", mariadb.port(), "user: root, "),
        host("postgres", postgres.port(), "user: postgres, "),
        host("redis", redis.port(), ""),
        format!("{{ mongo: {{ container: {}, user: root, password_file: SECRET }} }}", ferretdb.name()),
    ];
    for source in sources {
        let host = host_of(&source, canary);
        let ran = host.run(&["backup"]);
        assert_eq!(ran.code, 12, "{source}: {}", ran.stderr);
        is_no_backup(&host, &ran, canary);
        // What serves to find the reason tells it no more than the run does.
        for arguments in [&["doctor"][..], &["journal"], &["status"], &["config", "show"]] {
            let ran = host.run(arguments);
            assert!(!ran.stderr.contains(canary) && !ran.stdout.contains(canary), "{arguments:?}: {}", ran.stdout);
        }
    }
    assert!(!ferretdb.logs().contains(canary) && !mariadb.log().contains(canary) && !postgres.log().contains(canary));
}

/// Kills the server as soon as it is asked for rows.
fn dies_in_the_middle(mut server: HostServer, source: &str, asked: &str) {
    let password = server.password().to_owned();
    let host = host_of(source, &password);
    let running = host.start(&["backup"]);
    wait_for("the rows that are asked for", 60, || (server.query("", asked) != "0").then_some(()));
    server.kill();
    let ran = Ran::of(running.wait_with_output().unwrap());
    is_no_backup(&host, &ran, &password);
    server.start_again();
    host.ok(&["backup"]);
    assert_eq!(host.points("served").len(), 1);
    host.assert_no_trace(&password);
}

#[test]
fn mariadb_that_is_killed_in_the_middle_makes_no_point() {
    let Some(server) = HostServer::mariadb().start("a server that is killed") else { return };
    let doubled = "insert into big (v) select v from big;".repeat(15);
    server.query("", &format!("create database shop; use shop; create table big (id int primary key auto_increment, v varchar(1000)); insert into big (v) values (repeat('x', 1000)), (repeat('y', 1000)); {doubled}"));
    let source =
        format!("{{ mysql: {{ host: 127.0.0.1, port: {}, user: root, password_file: SECRET }} }}", server.port());
    let asked = "select count(*) from information_schema.processlist where info like 'SELECT /*%FROM `big`%'";
    dies_in_the_middle(server, &source, asked);
}

#[test]
fn postgres_that_is_killed_in_the_middle_makes_no_point() {
    let Some(server) = HostServer::postgres().start("a server that is killed") else { return };
    server.query("", "create database shop");
    server.query("shop", "create table big as select i, repeat(md5(i::text), 30) t from generate_series(1, 80000) i");
    let source = format!(
        "{{ postgres: {{ host: 127.0.0.1, port: {}, user: postgres, password_file: SECRET }} }}",
        server.port()
    );
    dies_in_the_middle(server, &source, "select count(*) from pg_stat_activity where query like 'COPY public.big%'");
}

/// MiB of memory that a backup may take, whatever the size of a row.
const MOST: u64 = 256;

/// Runs a backup of a stream of a gigabyte, and gives the most memory that was in use meanwhile.
fn in_little_memory(host: &Bkp) {
    let mut running = host.start(&["backup", "--json"]);
    let mut peak = 0;
    while running.try_wait().unwrap().is_none() {
        peak = peak.max(memory(&running));
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let ran = Ran::of(running.wait_with_output().unwrap()).expect_code(0);
    let bytes = ran.document()["points"][0]["bytes"].as_u64().unwrap();
    assert!(bytes > 1 << 30, "{bytes} bytes");
    assert!(peak > 0 && peak <= MOST, "it took {peak} MiB of memory");
    println!("{bytes} bytes in {peak} MiB of memory");
}

/// The most that a process has had, in MiB; 0 once it has ended.
fn memory(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib >> 10)
}

/// The dump program writes bytes as hexadecimal digits: twice as many.
#[test]
fn a_gigabyte_of_huge_rows_of_mariadb_takes_little_memory() {
    let server = HostServer::mariadb().argument("--max-allowed-packet=256M").argument("--innodb-log-file-size=256M");
    let Some(server) = server.start("rows that no memory holds") else { return };
    server.query("", "create database shop; create table shop.big (id int primary key auto_increment, v longblob)");
    for _ in 0..9 {
        server.query("shop", "insert into big (v) values (repeat('0123456789abcdef', 3932160))");
    }
    let source =
        format!("{{ mysql: {{ host: 127.0.0.1, port: {}, user: root, password_file: SECRET }} }}", server.port());
    in_little_memory(&host_of(&source, server.password()));
}

#[test]
fn a_gigabyte_of_huge_rows_of_postgres_takes_little_memory() {
    let Some(server) = HostServer::postgres().start("rows that no memory holds") else { return };
    server.query("", "create database shop");
    server.query(
        "shop",
        "create table big as select i, repeat('0123456789abcdef', 4194304) t from generate_series(1, 17) i",
    );
    let source = format!(
        "{{ postgres: {{ host: 127.0.0.1, port: {}, user: postgres, password_file: SECRET }} }}",
        server.port()
    );
    in_little_memory(&host_of(&source, server.password()));
}
