//! Everything that PostgreSQL has, dumped while it is written to, and loaded into a server of its own.

use crate::server::{Over, Pg, fill, full, network, only};
use crate::support::docker::{Container, start_all};
use crate::support::host_server::HostServer;
use crate::{ODD, dump, fingerprint, load, same, with_context};
use bkp::engine::postgres::{Postgres, Settings};
use bkp::engine::{Dumped, Engine, LoadRun, Part, Returning};
use bkp::secret::Secret;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Dumps `settings` while somebody writes, and loads it into `scratch`, which must become equal.
fn comes_back_equal(server: &dyn Pg, from: Settings, scratch: &dyn Pg, into: Settings) {
    let (written, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let (dumped, origin) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                server.ask("shop", "insert into sales.orders (customer, amount) select 1, i from generate_series(1, 50) i; update things set name = name || '.'; delete from types where i4 = 7");
                written.fetch_add(1, Relaxed);
            }
        });
        let _over = Over(&done);
        crate::support::wait_for("the first write", 20, || (written.load(Relaxed) > 0).then_some(()));
        dump(from.clone())
    })
    .unwrap();
    assert_eq!(dumped.warnings, ["database closed allows no connections and is left out"]);
    is_told_well(&dumped);
    let orders = &dumped.fingerprint.parts["shop.sales.orders"];
    assert!(orders.count > 20_000 && orders.count % 50 == 0, "{orders:?}");

    let loaded = load(into.clone(), &origin, &same(), Part::Whole).unwrap();
    let without = loaded.warnings.iter().find(|w| w.contains("without passwords")).unwrap();
    assert!(without.contains("app") && without.contains("Weird \"role\""), "{without}");
    assert_eq!(loaded.items, 3);
    assert_eq!(fingerprint(&into), dumped.fingerprint);
    for database in ["shop", ODD, "empty"] {
        assert_eq!(scratch.schema(database), server.schema(database), "{database}");
    }
    assert_eq!(scratch.roles(), server.roles());
    assert_eq!(
        scratch.ask("", "select setconfig from pg_db_role_setting where setrole = 0 and setdatabase = 0"),
        "{idle_in_transaction_session_timeout=1h}"
    );
    crate::assert_tidy(scratch);
}

fn is_told_well(dumped: &Dumped) {
    assert!(dumped.version.starts_with("PostgreSQL "), "{}", dumped.version);
    let counted = |kind: &str| dumped.inventory[kind];
    assert_eq!(
        (counted("databases"), counted("large objects"), counted("extensions")),
        (3, 3, 3),
        "{:?}",
        dumped.inventory
    );
    assert!(counted("roles") >= 5 && counted("tables") > 15 && counted("triggers") == 1 && counted("policies") == 1);
    assert_eq!(
        (counted("functions"), counted("procedures"), counted("aggregates")),
        (3, 1, 1),
        "{:?}",
        dumped.inventory
    );
    assert_eq!((counted("materialized views"), counted("views"), counted("event triggers")), (2, 2, 1));
    let parts = &dumped.fingerprint.parts;
    assert_eq!(parts["shop.public.nothing"].count, 2);
    assert_eq!(parts["shop.public.things"].count, 10, "the rows of children are theirs");
    assert!(!parts.contains_key("shop.public.measurements") && parts.contains_key("shop.public.measurements_2024_1"));
    let position = dumped.position.as_ref().unwrap();
    assert!(position["lsn"].as_str().unwrap().contains('/') && position["system_identifier"].is_string());
    assert!(dumped.notes.iter().any(|note| note.contains("consistent in itself")), "{:?}", dumped.notes);
}

#[test]
fn a_server_of_the_network_comes_back_equal() {
    let Some(server) = HostServer::postgres().start("PostgreSQL over the network") else { return };
    let scratch = HostServer::postgres().start("PostgreSQL over the network").unwrap();
    fill(&server);
    comes_back_equal(&server, server.settings(), &scratch, scratch.settings());
}

#[test]
fn a_server_in_a_container_comes_back_equal() {
    let part = "PostgreSQL in a container";
    let Some([server, scratch]) = start_all(part, [Container::postgres(), Container::postgres()]) else { return };
    fill(&server);
    comes_back_equal(&server, server.settings(), &scratch, scratch.settings());
    // The archives lay there for the workers of pg_restore.
    assert_eq!(crate::support::docker::engine::docker(&["exec", scratch.id(), "ls", "-A", "/var/tmp"]), "");

    // The same server asked for its password, through its own clients, and reached from outside.
    let mut asked = server.settings();
    asked.server.host = Some("127.0.0.1".into());
    asked.server.password = Some(crate::server::secret(server.password()));
    let (dumped, origin) = dump(only(asked.clone(), &["empty", ODD])).unwrap();
    assert_eq!(dumped.fingerprint.parts.len(), 1);
    load(asked, &origin, &bkp::engine::Target::NewDatabases(bkp::engine::Naming::Suffix("_2".into())), Part::Whole)
        .unwrap();
    let outside = network(&server.ip().to_string(), 5432, server.user(), server.password());
    let copy = fingerprint(&only(outside, &[&format!("{ODD}_2")]));
    assert_eq!(copy.parts.values().collect::<Vec<_>>(), dumped.fingerprint.parts.values().collect::<Vec<_>>());
}

/// And a point of it is not for an older server.
#[test]
fn version_18_in_a_container_comes_back_equal() {
    let part = "PostgreSQL 18 in a container";
    let Some([server, scratch]) = start_all(part, [Container::postgres_18(), Container::postgres_18()]) else { return };
    fill(&server);
    comes_back_equal(&server, server.settings(), &scratch, scratch.settings());
    let (dumped, origin) = dump(only(server.settings(), &["empty"])).unwrap();
    assert!(dumped.version.starts_with("PostgreSQL 18"), "{}", dumped.version);
    let Some(older) = crate::server::shared() else { return };
    let refused = load(older.settings(), &origin, &same(), Part::Whole).unwrap_err();
    assert_eq!(refused.kind(), bkp::error::Kind::Refused);
    assert!(refused.to_string().contains("the point is of PostgreSQL 18 and this server is 15"), "{refused}");
}

#[test]
fn only_the_wanted_databases_are_dumped_each_in_a_stream_of_its_own() {
    let Some(server) = full() else { return };
    let (dumped, origin) = dump(only(server.settings(), &["shop", ODD])).unwrap();
    let names: Vec<&String> = origin.streams.keys().collect();
    assert_eq!(names, ["globals.sql", "shop.dump", "we_ird____db_x__y.dump"]);
    assert_eq!(dumped.inventory["databases"], 2);
    let globals = String::from_utf8(origin.streams["globals.sql"].clone()).unwrap();
    assert!(
        globals.contains("CREATE ROLE app;")
            && globals.contains("ALTER ROLE ALL SET \"idle_in_transaction_session_timeout\"")
    );
    assert!(!globals.contains("SCRAM"), "no hash of a password leaves the server");
    let mut rest = server.settings();
    rest.exclude = vec!["shop".into(), ODD.into(), "closed".into()];
    let (dumped, origin) = dump(rest).unwrap();
    assert_eq!((origin.streams.len(), dumped.warnings.len()), (2, 0), "{:?}", dumped.warnings);
    let failure = dump(only(server.settings(), &["shoop"])).unwrap_err();
    assert!(failure.next_step().unwrap().contains("shop"), "{failure:?}");
}

/// Nobody has a password after a restore; who may log in without one is another question.
#[test]
fn roles_that_nobody_knows_come_back_without_the_right_to_log_in() {
    let Some(server) = HostServer::postgres().start("PostgreSQL over the network") else { return };
    for role in ["app_a", "stranger", "backup", "bkp_rot"] {
        server.ask("", &format!("create role {role} login password 'x'"));
    }
    let (_, origin) = dump(server.settings()).unwrap();
    server.ask("", "drop role app_a, stranger, backup, bkp_rot");
    let own = [("backup", None), ("bkp_rot", Some(Secret::new("today's".into())))];
    let own = own.map(|(role, password)| (role.to_owned(), password)).into();
    let returning = Returning { rotated: vec!["app_a".to_owned()], own, lock_others: true };
    let loaded = with_context(|context| {
        let run = LoadRun {
            context,
            part: Part::Whole,
            copy: None,
            on_difference: Default::default(),
            returning: Some(&returning),
        };
        Postgres::new(server.settings()).load(&origin, &same(), &run)
    });
    let warnings = loaded.unwrap().warnings;
    assert!(warnings.iter().any(|told| told.contains("without the right to log in") && told.ends_with(": stranger")));
    let roles = "select string_agg(rolname, ' ' order by 1) from pg_authid where rolname in ('app_a', 'stranger', 'backup') and rolcanlogin and rolpassword is null";
    assert_eq!(server.ask("", roles), "app_a backup");
    let known =
        "select rolcanlogin and rolpassword like 'SCRAM-SHA-256$4096:%' from pg_authid where rolname = 'bkp_rot'";
    assert_eq!(server.ask("", known), "t", "who changes the others has the password that bkp has");
}

#[test]
fn a_server_without_databases_gives_its_roles() {
    let Some(server) = HostServer::postgres().start("PostgreSQL over the network") else { return };
    let (dumped, origin) = dump(server.settings()).unwrap();
    assert_eq!(dumped.warnings, ["there is no database with anything in it: only roles are backed up"]);
    assert_eq!(origin.streams.keys().collect::<Vec<_>>(), ["globals.sql"]);
    assert!(load(server.settings(), &origin, &same(), Part::Whole).unwrap().items == 0);

    // What stands in `postgres` counts, and goes back into that of another server.
    server.ask("", "create table here (i int); insert into here values (1)");
    let (dumped, origin) = dump(server.settings()).unwrap();
    assert_eq!(dumped.fingerprint.parts["postgres.public.here"].count, 1);
    let failure = load(server.settings(), &origin, &same(), Part::Whole).unwrap_err();
    assert_eq!(failure.kind(), bkp::error::Kind::Refused, "{failure:?}");
    server.ask("", "drop table here");
    load(server.settings(), &origin, &same(), Part::Whole).unwrap();
    assert_eq!(server.ask("", "select * from here"), "1");
    assert_eq!(server.databases(), ["postgres", "template0", "template1"]);
}
