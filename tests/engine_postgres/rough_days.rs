//! Rougher days, each on a server of its own: a full disk, no room for the archive, a client whose last words are lost,
//! a server that dies under a dump; and text that is of no encoding.

use crate::bad_days::interrupted;
use crate::memory_sink::{MemorySink, dump_into};
use crate::server::{Pg, only, shared};
use crate::support::docker::{Container, start_all};
use crate::support::host_server::HostServer;
use crate::{assert_tidy, called, database, dump, fingerprint, load};
use bkp::engine::postgres::Postgres;
use bkp::engine::{Confirmed, Part, Target};

fn live() -> Target {
    Target::Live(Confirmed::by_name("x", "x").unwrap())
}

fn sh(server: &Container, script: &str) {
    let output = server.exec(&["sh", "-c", script], b"");
    assert!(output.status.success(), "{script}: {output:?}");
}

/// Both disks of the first server are small; the second one's client cuts what it says.
#[test]
fn disks_that_are_full_and_a_tail_that_never_arrives() {
    // Not the disk of its log: without room for that the server stops, and there is nothing left to look at.
    let small = Container::postgres().option("--tmpfs").option("/small:size=140m");
    let small = small.option("--tmpfs").option("/var/tmp:size=1m");
    let Some([server]) = start_all("PostgreSQL on small disks", [small]) else { return };
    sh(&server, "chown postgres /small");
    server.ask("", "create tablespace small location '/small'; create database wide; create database small");
    server.ask(
        "wide",
        "create table rows tablespace small as select i, repeat(md5(i::text), 30) t from generate_series(1, 40000) i",
    );
    server.ask("small", "create table t (i int); insert into t values (1)");
    let settings = server.settings();
    let (dumped, origin) = dump(settings.clone()).unwrap();

    // No room for the archive beside pg_restore: one worker reads it as it comes. One table alone needs the room.
    load(settings.clone(), &origin, &called("wide_2"), database("wide")).unwrap();
    server.ask("", "drop database wide_2");
    let table = Part::Table { database: "wide".into(), table: "rows".into() };
    let failure = load(settings.clone(), &origin, &called("rows"), table).unwrap_err();
    assert!(failure.next_step().unwrap().contains("/var/tmp"), "{} {:?}", failure.full(), failure.next_step());
    assert_tidy(&server);

    server.ask("", "checkpoint");
    sh(
        &server,
        "free=$(df -Pk /small | tail -n 1 | awk '{print $4}') && fallocate -l $((free - 25 * 1024))k /small/ballast",
    );
    for target in [called("wide_3"), live()] {
        let failure = load(settings.clone(), &origin, &target, database("wide")).unwrap_err();
        assert!(failure.full().contains("No space left on device"), "{}", failure.full());
        assert!(failure.next_step().unwrap().contains("disk"), "{:?}", failure.next_step());
        assert_tidy(&server);
        assert_eq!(server.databases(), ["postgres", "small", "template0", "template1", "wide"]);
        assert_eq!(fingerprint(&settings), dumped.fingerprint);
    }
    // A dump needs no room there.
    dump(settings.clone()).unwrap();
    sh(&server, "rm /small/ballast");
    load(settings.clone(), &origin, &live(), database("wide")).unwrap();
    assert_eq!(fingerprint(&settings), dumped.fingerprint);

    let cut = "cd /usr/lib/postgresql/15/bin && mv pg_dump real && printf '%s\\n' '#!/bin/sh' 'case $1 in --version|-V) exec /usr/lib/postgresql/15/bin/real \"$@\";; esac' '/usr/lib/postgresql/15/bin/real \"$@\" | head -c -1' >pg_dump && chmod +x pg_dump";
    sh(&server, cut);
    let (scratch, mut sink) = (tempfile::tempdir().unwrap(), MemorySink::new());
    let failure = dump_into(&Postgres::new(only(settings, &["small"])), &mut sink, scratch.path()).unwrap_err();
    assert!(failure.full().contains("ends"), "{}", failure.full());
    assert_eq!(sink.streams.keys().collect::<Vec<_>>(), ["globals.sql"]);
}

#[test]
fn a_server_that_is_killed_half_way_leaves_no_stream() {
    let Some(server) = HostServer::postgres().start("PostgreSQL over the network") else { return };
    server.ask("", "create database big");
    server.ask("big", "create table rows as select i, repeat(md5(i::text), 20) t from generate_series(1, 60000) i");
    let settings = only(server.settings(), &["big"]);
    let server = std::cell::RefCell::new(server);
    let (dumped, sink) = interrupted(settings, 20_000_000, || server.borrow_mut().kill());
    dumped.unwrap_err();
    assert_eq!(sink.streams.keys().collect::<Vec<_>>(), ["globals.sql"]);
}

/// A database in `SQL_ASCII` takes every byte and knows what none of them means. And rows of which hardly anything is known.
#[test]
fn bytes_of_no_encoding_and_rows_of_nulls_come_back() {
    let Some(server) = shared() else { return };
    server.ask("", "create database bytes encoding 'SQL_ASCII' locale 'C' template template0");
    let columns: Vec<String> = (0..400).map(|n| format!("c{n} text")).collect();
    server.ask(
        "bytes",
        "create table t (i int, v text, b bytea); insert into t values (1, E'\\xff\\xfe caf\\xe9', \
         (select string_agg(decode(lpad(to_hex(n), 2, '0'), 'hex'), '') from generate_series(0, 255) n))",
    );
    server.ask("bytes", &format!("create table nulls ({}); insert into nulls (c7, c399) select nullif(i % 3, 0)::text, null from generate_series(1, 500) i", columns.join(", ")));
    let settings = only(server.settings(), &["bytes"]);
    let (dumped, origin) = dump(settings.clone()).unwrap();
    assert_eq!(dumped.fingerprint.parts["bytes.public.nulls"].count, 500);
    load(settings, &origin, &called("bytes_2"), database("bytes")).unwrap();
    for question in [
        "select i, length(v), encode(v::bytea, 'hex'), encode(b, 'hex') from t",
        "select count(c7), count(c399), count(*) from nulls",
    ] {
        assert_eq!(server.ask("bytes_2", question), server.ask("bytes", question));
    }
    assert_tidy(server);
}
