//! Rougher days, each on a server of its own: a full disk, packets that are too small, a client whose last words are lost,
//! a server that dies under a restore.

use crate::memory_sink::MemorySink;
use crate::support::docker::{Container, Wanted};
use crate::support::host_server::HostServer;
use crate::{
    MemoryOrigin, Point, Sql, dump, dump_to, fingerprint, holds_what_was_dumped, inside, load, load_new, on_host, pairs,
};
use bkp::engine::mysql::Settings;
use bkp::engine::{Confirmed, Fingerprint, Naming, Origin, Part, Target, TreeOrigin};
use bkp::error::{Kind, Result};
use std::io::Read;

fn live() -> Target {
    Target::Live(Confirmed::by_name("x", "x").unwrap())
}

/// Rows of about 16 MiB that no page compresses, and a small database that lives beside them.
fn fill(server: &dyn Sql) {
    let doubled = "INSERT INTO rows_ (v) SELECT v FROM rows_;".repeat(13);
    server.sql(&format!(
        "CREATE DATABASE wide; USE wide; CREATE TABLE rows_ (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000));
         INSERT INTO rows_ (v) VALUES (REPEAT('x', 1000)), (REPEAT('y', 1000)); {doubled}
         CREATE DATABASE small; CREATE TABLE small.t (id INT PRIMARY KEY); INSERT INTO small.t VALUES (1);"
    ));
}

/// A container whose data directory is a small file system of its own.
fn on_a_small_disk(wanted: Wanted) -> Option<Container> {
    let wanted =
        wanted.option("--tmpfs").option("/var/lib/mysql:size=400m").argument("--loose-innodb-log-file-size=8M");
    wanted
        .argument("--loose-innodb-redo-log-capacity=8388608")
        .argument("--skip-log-bin")
        .start("a server on a small disk")
}

/// Leaves room for so many MiB.
fn fill_up(server: &Container, room: u64) {
    let script = "cd /var/lib/mysql && free=$(df -Pk . | tail -n 1 | awk '{print $4}') && fallocate -l $((free - $1 * 1024))k ballast";
    let output = server.exec(&["sh", "-c", script, "sh", &room.to_string()], b"");
    assert!(output.status.success(), "{output:?}");
}

fn databases(server: &dyn Sql) -> Vec<String> {
    let own = "('mysql', 'sys', 'information_schema', 'performance_schema')";
    let list = format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {own} ORDER BY 1");
    server.sql(&list).lines().map(str::to_owned).collect()
}

fn a_full_disk(server: &Container) {
    let settings = inside(server, &[]);
    let point = dump(&settings).unwrap();
    fill_up(server, 8);
    for target in [Target::NewDatabases(Naming::Suffix("_new".into())), live()] {
        let failure = load(&settings, &point.origin, &target, Part::Whole, false).unwrap_err();
        assert!(failure.next_step().unwrap().contains("disk"), "{} {:?}", failure.full(), failure.next_step());
        assert_eq!(databases(server), ["small", "wide"], "{}", failure.full());
        holds_what_was_dumped(&settings, &point.dumped.fingerprint, "small");
    }
    // A dump needs no room there.
    dump(&settings).unwrap();
    server.exec(&["rm", "/var/lib/mysql/ballast"], b"");
    load(&settings, &point.origin, &live(), Part::Whole, false).unwrap();
    holds_what_was_dumped(&settings, &point.dumped.fingerprint, "small");
}

fn packets_that_are_too_small(server: &Container) {
    server.sql("SET GLOBAL max_allowed_packet = 67108864");
    server.sql("CREATE DATABASE packets; CREATE TABLE packets.t (id INT PRIMARY KEY, v LONGBLOB)");
    server.sql("INSERT INTO packets.t VALUES (1, REPEAT('0123456789abcdef', 524288)), (2, 'x')");
    // The row was written when that was allowed. Whether it can still be read is the server's affair: all of it, or no dump.
    server.sql("SET GLOBAL max_allowed_packet = 1048576");
    let settings = inside(server, &["packets"]);
    let mut sink = MemorySink::new();
    match dump_to(&settings, &mut sink) {
        Ok(dumped) => assert_eq!(dumped.fingerprint.parts["`packets`.`t`"].count, 2),
        Err(failure) => {
            assert!(failure.next_step().unwrap().contains("max_allowed_packet"), "{}", failure.full());
            assert!(sink.streams.is_empty());
        }
    }
    server.sql("SET GLOBAL max_allowed_packet = 67108864");
    let point = dump(&settings).unwrap();
    server.sql("SET GLOBAL max_allowed_packet = 4194304");
    let refused = load_new(&settings, &point.origin, Naming::Suffix("_2".into())).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("takes 4194304 (max_allowed_packet)"), "{refused}");
    assert!(!databases(server).contains(&"packets_2".to_owned()));
    // What the hint says helps.
    server.sql(refused.next_step().unwrap().split(';').next().unwrap());
    load_new(&settings, &point.origin, Naming::Suffix("_2".into())).unwrap();
    let digests = |f: &Fingerprint| f.parts.values().cloned().collect::<Vec<_>>();
    assert_eq!(digests(&fingerprint(&inside(server, &["packets_2"]))), digests(&point.dumped.fingerprint));
}

/// The dump program ends well, and its last bytes never come: as engines lose them.
fn a_tail_that_never_arrives(server: &Container, program: &str) {
    let real = server.exec(&["sh", "-c", &format!("command -v {program}")], b"").stdout;
    let real = String::from_utf8(real).unwrap().trim().to_owned();
    let instead = format!(
        "mv {real} {real}.real && printf '%s\\n' '#!/bin/sh' '[ \"$1\" != --version ] || exec {real}.real \"$@\"' '{real}.real \"$@\" | head -c -3' >{real} && chmod +x {real}"
    );
    assert!(server.exec(&["sh", "-c", &instead], b"").status.success());
    let mut sink = MemorySink::new();
    let failure = dump_to(&inside(server, &["small"]), &mut sink).unwrap_err();
    assert!(failure.to_string().contains("does not end with the terminator"), "{}", failure.full());
    assert!(!sink.streams.contains_key("dump.sql"), "{:?}", sink.streams.keys());
}

#[test]
fn mysql_on_a_small_disk() {
    let Some(server) = on_a_small_disk(Container::mysql()) else { return };
    fill(&server);
    a_full_disk(&server);
    packets_that_are_too_small(&server);
    a_tail_that_never_arrives(&server, "mysqldump");
}

#[test]
fn mariadb_on_a_small_disk() {
    let Some(server) = on_a_small_disk(Container::mariadb()) else { return };
    fill(&server);
    a_full_disk(&server);
    packets_that_are_too_small(&server);
    a_tail_that_never_arrives(&server, "mariadb-dump");
}

/// An origin that does something when its rows are asked for.
struct Falling<'o, F: Fn() + Sync> {
    origin: &'o MemoryOrigin,
    act: F,
}

impl<F: Fn() + Sync> Origin for Falling<'_, F> {
    fn streams(&self) -> Vec<String> {
        self.origin.streams()
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        if name == "dump.sql" {
            (self.act)();
        }
        self.origin.stream(name)
    }

    fn tree(&self) -> Option<&dyn TreeOrigin> {
        None
    }

    fn fingerprint(&self) -> &Fingerprint {
        self.origin.fingerprint()
    }

    fn details(&self) -> &serde_json::Value {
        self.origin.details()
    }
}

#[test]
fn a_server_that_falls_during_a_restore_leaves_what_can_be_found_and_removed() {
    let Some(server) = HostServer::mariadb().start("a server that falls during a restore") else { return };
    server.sql("CREATE DATABASE fall; CREATE TABLE fall.t (id INT PRIMARY KEY); INSERT INTO fall.t VALUES (1), (2)");
    let settings: Settings = on_host(&server, &["fall"]);
    let Point { dumped, origin } = dump(&settings).unwrap();
    let server = std::sync::Mutex::new(server);
    let falling = Falling { origin: &origin, act: || server.lock().unwrap().kill() };
    let (meter, cancel) = (bkp::event::Meter::default(), bkp::event::Cancel::default());
    let context = bkp::event::Context { events: &bkp::event::Silent, meter: &meter, cancel: &cancel };
    let run = bkp::engine::LoadRun {
        context,
        part: Part::Whole,
        copy: None,
        on_difference: Default::default(),
        returning: None,
    };
    let engine = bkp::engine::mysql::Mysql::new(settings.clone());
    let failure = bkp::engine::Engine::load(&engine, &falling, &live(), &run).unwrap_err();
    assert!(failure.to_string().contains("could not be removed"), "{}", failure.full());
    let remove = failure.next_step().unwrap().to_owned();
    let mut server = server.into_inner().unwrap();
    server.start_again();
    holds_what_was_dumped(&settings, &dumped.fingerprint, "fall");
    assert!(remove.starts_with("DROP DATABASE IF EXISTS `bkp_"), "{remove}");
    server.sql(&remove);
    assert_eq!(databases(&server), ["fall"]);
    load(&settings, &origin, &live(), Part::Whole, false).unwrap();
    holds_what_was_dumped(&settings, &dumped.fingerprint, "fall");
}

/// Bytes of every kind in every character set, rows of which hardly anything is known, and accounts whose names no
/// quoting may stumble over.
#[test]
fn texts_of_every_character_set_and_accounts_with_odd_names_come_back() {
    for (source, target) in pairs() {
        let name = format!("chars_{}", bkp::durable::random_hex(3));
        let account = format!("'o\\'d \"us`er{}'@'%'", &name[6..]);
        let columns: Vec<String> = (0..150).map(|n| format!("c{n} VARCHAR(9)")).collect();
        let bytes: String = (0..=255).map(|byte| format!("{byte:02X}")).collect();
        source.sql(&format!(
            "CREATE DATABASE {name} CHARACTER SET utf8mb3; USE {name};
             CREATE TABLE `ta``ble \"ü\" ' x` (id INT PRIMARY KEY, `co``l \"é\"` VARCHAR(300) CHARACTER SET latin1 COMMENT 'it''s ☕',
               u3 VARCHAR(300), u4 VARCHAR(300) CHARACTER SET utf8mb4, u16 VARCHAR(50) CHARACTER SET utf16, b VARBINARY(256));
             INSERT INTO `ta``ble \"ü\" ' x` VALUES (1, CONVERT(X'{bytes}' USING latin1), 'ñ ☕ \\\\ \\'', 'ñ ☕ 😀 \\0', '😀', X'{bytes}'), (2, NULL, '', '', '', '');
             CREATE TABLE nulls ({}); INSERT INTO nulls (c7, c149) VALUES (NULL, 'x'), ('y', NULL), (NULL, NULL);
             CREATE USER {account} IDENTIFIED BY 'p\\'w'; GRANT SELECT ON `{name}`.* TO {account}; GRANT INSERT (u3) ON {name}.`ta``ble \"ü\" ' x` TO {account};",
            columns.join(", ")
        ));
        let point = dump(&source.settings(&[&name])).unwrap();
        load_new(&target.settings(&[]), &point.origin, Naming::Same).unwrap();
        holds_what_was_dumped(&target.settings(&[&name]), &point.dumped.fingerprint, &name);
        for question in [
            format!(
                "SELECT id, HEX(`co``l \"é\"`), HEX(u3), HEX(u4), HEX(u16), HEX(b) FROM {name}.`ta``ble \"ü\" ' x` ORDER BY id"
            ),
            format!("SHOW CREATE TABLE {name}.`ta``ble \"ü\" ' x`"),
            format!("SELECT COUNT(c7), COUNT(c149), COUNT(*) FROM {name}.nulls"),
            format!("SHOW GRANTS FOR {account}"),
        ] {
            assert_eq!(target.sql(&question), source.sql(&question), "{question}");
        }
    }
}
