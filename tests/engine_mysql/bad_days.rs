//! Bad days: each says what happened and what to do, and leaves no stream that could be taken for a dump.

use crate::memory_sink::MemorySink;
use crate::support::docker::Container;
use crate::support::docker::engine::docker;
use crate::support::host_server::HostServer;
use crate::{
    Interrupting, Sql, both, dump, dump_to, fingerprint, host, inside, load_new, mariadb, mysql, on_host, over_network,
    secret,
};
use bkp::engine::mysql::{Mysql, Settings};
use bkp::engine::{Engine, Naming};
use bkp::error::{Failure, Kind};

fn new_database(server: &dyn Sql, rest: &str) -> String {
    let name = format!("day_{}", bkp::durable::random_hex(3));
    server.sql(&format!("CREATE DATABASE {name}; USE {name}; {rest}"));
    name
}

const ZLAST: &str = "CREATE TABLE zlast (id INT PRIMARY KEY, v INT); INSERT INTO zlast VALUES (1, 1);";

/// About 16 MiB, which no buffer on the way takes, and a table that comes after them.
fn big(server: &dyn Sql) -> String {
    let mut text = format!(
        "CREATE TABLE big (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000)); {ZLAST} INSERT INTO big (v) VALUES (REPEAT('x', 1000)), (REPEAT('y', 1000));"
    );
    for _ in 0..13 {
        text.push_str("INSERT INTO big (v) SELECT v FROM big;");
    }
    new_database(server, &text)
}

/// A user who may dump that database, with `less` taken away and `more` given.
fn user(server: &dyn Sql, database: &str, less: &str, more: &str) -> Settings {
    let name = format!("u{}", bkp::durable::random_hex(3));
    let needed: Vec<&str> = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"].into_iter().filter(|p| *p != less).collect();
    server.sql(&format!(
        "CREATE USER {name}@'%' IDENTIFIED BY 'pw-{name}'; GRANT {} ON `{}`.* TO {name}@'%'; {}",
        needed.join(", "),
        database.replace('_', "\\_"),
        more.replace("@U", &format!("{name}@'%'"))
    ));
    let mut settings = server.settings(&[database]);
    settings.server.user = Some(name.clone());
    settings.server.password = Some(secret(&format!("pw-{name}")));
    settings
}

/// Nothing was made, and no password is told.
fn refused(settings: &Settings) -> Failure {
    let mut sink = MemorySink::new();
    let failure = dump_to(settings, &mut sink).unwrap_err();
    assert!(sink.streams.is_empty(), "{:?}", sink.streams.keys());
    let password = settings.server.password().unwrap().unwrap();
    assert!(!format!("{failure:?} {} {:?}", failure.full(), failure.next_step()).contains(password.expose()));
    failure
}

#[test]
fn a_wrong_password_and_a_server_that_is_not_there() {
    for server in [mysql(), mariadb()].into_iter().flatten() {
        let mut settings = inside(server, &[]);
        settings.server.password = Some(secret("wrong-password-7"));
        let failure = refused(&settings);
        assert_eq!(failure.kind(), Kind::Key);
        assert!(failure.to_string().contains("refused the login of root"), "{failure}");
        assert_eq!(Mysql::new(settings).preflight().unwrap_err().kind(), Kind::Key);
    }
    let Some(server) = mariadb() else { return };
    let mut settings = over_network(server, &[]);
    settings.server.port = Some(1);
    let failure = refused(&settings);
    assert!(
        failure.to_string().contains("no server answers at") && failure.next_step().is_some(),
        "{}",
        failure.full()
    );
}

#[test]
fn a_missing_privilege_is_named_with_its_grant() {
    let (Some(mysql), Some(mariadb)) = (mysql(), host()) else { return };
    let both: [(&dyn Sql, &str); 2] =
        [(mysql, "GRANT SHOW_ROUTINE ON *.* TO @U"), (mariadb, "GRANT SELECT ON mysql.proc TO @U")];
    for (server, routine) in both {
        let name = new_database(
            server,
            "CREATE TABLE t (id INT); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1; CREATE PROCEDURE p() SELECT 1;",
        );
        for missing in ["TRIGGER", "EVENT", "SHOW VIEW"] {
            let failure = refused(&user(server, &name, missing, routine));
            assert_eq!(failure.kind(), Kind::Refused);
            assert!(
                failure.to_string().contains(&format!("may not dump database {name} completely: {missing} is missing")),
                "{failure}"
            );
            assert!(
                failure
                    .next_step()
                    .unwrap()
                    .starts_with(&format!("GRANT {missing} ON `{}`.* TO `u", name.replace('_', "\\_")))
            );
        }
        let failure = refused(&user(server, &name, "", ""));
        assert!(failure.to_string().contains(&format!("the routines of database {name}")), "{failure}");
        assert!(
            failure
                .next_step()
                .unwrap()
                .contains(routine.split(" TO").next().unwrap().trim_start_matches("GRANT SELECT ON mysql.")),
            "{failure:?}"
        );
        // Of another schema: the whole server is wanted, and the user sees one database of it.
        let mut all = user(server, &name, "", routine);
        all.databases.clear();
        let failure = refused(&all);
        assert!(failure.next_step().unwrap().starts_with("GRANT SHOW DATABASES ON *.* TO"), "{failure:?}");

        // With everything it works, without a lock, and claims nothing that it does not know.
        let point = dump(&user(server, &name, "", routine)).unwrap();
        assert!(point.dumped.fingerprint.method.ends_with("(not bound to the dump)"), "{:?}", point.dumped.fingerprint);
        assert!(
            point.dumped.notes.iter().any(|n| n.contains("RELOAD"))
                && point.dumped.notes.iter().any(|n| n.contains("users and grants"))
        );
        assert!(point.dumped.warnings.is_empty() && !point.origin.streams.contains_key("accounts.sql"));
    }
}

#[test]
fn no_client_is_told_with_what_was_looked_for() {
    let Some(redis) = Container::redis().start("a container without the client") else { return };
    let failure = refused(&inside(&redis, &[]));
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.to_string().contains("looked for `mariadb` and `mysql`"), "{failure}");
    let Some(server) = mysql() else { return };
    // This host has the clients of MariaDB only.
    let failure = refused(&over_network(server, &[]));
    assert!(failure.to_string().contains("the other one's client does not work well enough"), "{}", failure.full());
}

/// The dump fails when `kill` is called in the midst of it.
fn dies(settings: &Settings, kill: impl FnMut()) {
    let mut sink = Interrupting { inner: MemorySink::new(), after: 6 << 20, act: Box::new(kill) };
    let failure = dump_to(settings, &mut sink).unwrap_err();
    assert!(sink.inner.streams.is_empty(), "{:?}", sink.inner.streams.keys());
    assert!(matches!(failure.kind(), Kind::Failed | Kind::TryLater), "{failure:?}");
}

#[test]
fn a_container_that_is_killed_half_way_makes_no_stream() {
    let Some(server) = Container::mariadb().start("a container that is killed") else { return };
    let name = big(&server);
    dies(&inside(&server, &[&name]), || _ = docker(&["kill", server.id()]));
}

#[test]
fn a_server_that_is_killed_half_way_makes_no_stream() {
    let Some(mut server) = HostServer::mariadb().start("a server that is killed") else { return };
    let name = big(&server);
    dies(&on_host(&server, &[&name]), || server.kill());
}

#[test]
fn definitions_that_change_meanwhile_end_the_dump_or_wait_for_it() {
    let (Some(mysql), Some(mariadb)) = (mysql(), host()) else { return };
    let changes = ["DROP TABLE zlast", "ALTER TABLE zlast MODIFY v BIGINT", "TRUNCATE TABLE zlast"];
    let both: [(&dyn Sql, &str); 2] = [
        (mariadb, "GRANT RELOAD ON *.* TO @U; GRANT SELECT ON mysql.* TO @U"),
        (mysql, "GRANT SHOW_ROUTINE, RELOAD ON *.* TO @U"),
    ];
    let mut name = String::new();
    for (server, routine) in both {
        name = big(server);
        for change in changes {
            let act = || _ = server.sql(&format!("USE {name}; {change}"));
            let mut sink = Interrupting { inner: MemorySink::new(), after: 4 << 20, act: Box::new(act) };
            let failure = dump_to(&user(server, &name, "", routine), &mut sink).unwrap_err();
            assert_eq!(failure.kind(), Kind::TryLater, "{change}: {}", failure.full());
            assert!(
                failure.to_string().contains("while it was dumped") || failure.to_string().contains("during the dump"),
                "{change}: {failure}"
            );
            server.sql(&format!("USE {name}; DROP TABLE IF EXISTS zlast; {ZLAST}"));
        }
    }
    // With BACKUP_ADMIN, the change waits until the dump is done.
    std::thread::scope(|scope| {
        let act = || _ = scope.spawn(|| mysql.sql(&format!("DROP TABLE {name}.zlast")));
        let mut sink = Interrupting { inner: MemorySink::new(), after: 4 << 20, act: Box::new(act) };
        let dumped = dump_to(&mysql.settings(&[&name]), &mut sink).unwrap();
        assert_eq!(dumped.inventory["tables"], 2);
        assert!(String::from_utf8_lossy(&sink.inner.streams["dump.sql"]).contains("INSERT INTO `zlast`"));
    });
}

#[test]
fn a_long_query_keeps_the_lock_away() {
    let Some(server) = host() else { return };
    let name = new_database(server, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1);");
    std::thread::scope(|scope| {
        scope.spawn(|| server.try_sql("SELECT 'not told', SLEEP(120)"));
        let running =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT ''not told''%' AND time >= 10";
        crate::support::wait_for("a query that runs for long", 60, || (server.sql(running) == "1").then_some(()));
        let point = dump(&server.settings(&[&name]));
        let id = server.sql("SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT ''not told''%'");
        server.sql(&format!("KILL {id}"));
        let point = point.unwrap();
        // Nobody wrote: then the log proves that both snapshots are the same.
        let told = point.dumped.warnings.iter().any(|w| w.contains("of root has run a SELECT for"));
        assert!(told || !point.dumped.fingerprint.method.contains("not bound"), "{:?}", point.dumped);
        assert!(!format!("{:?}", point.dumped).contains("not told"));
    });
}

#[test]
fn tables_without_transactions_and_rounded_floats_are_told() {
    for server in both() {
        let name = new_database(
            server,
            "CREATE TABLE m (id INT) ENGINE=MyISAM; INSERT INTO m VALUES (1); CREATE TABLE f (a FLOAT, b FLOAT); INSERT INTO f VALUES (123456.789, 1.5), (16777217, NULL);",
        );
        let mut settings = server.settings(&[&name]);
        let point = dump(&settings).unwrap();
        let [loose, rounded] = point.dumped.warnings.as_slice() else { panic!("{:?}", point.dumped.warnings) };
        assert!(loose.contains(&format!("`{name}`.`m` (MyISAM)")) && loose.contains("lock_tables"), "{loose}");
        assert!(rounded.contains(&format!("`{name}`.`f`.`a` (2 values)")) && !rounded.contains("`b`"), "{rounded}");
        settings.lock_tables = true;
        // Other tests write on this server: while one of them is at it, the lock is not to be had.
        let locked = crate::support::wait_for("a lock on all tables", 120, || match dump(&settings) {
            Err(failure) if failure.kind() == Kind::TryLater => None,
            other => Some(other.unwrap()),
        });
        assert_eq!(locked.dumped.warnings.len(), 1);
    }
}

#[test]
fn a_server_without_databases_is_dumped_and_loaded() {
    let Some(server) = HostServer::mariadb().start("a server without databases") else { return };
    server.sql("CREATE USER lonely@'%' IDENTIFIED BY 'x'");
    let point = dump(&server.settings(&[])).unwrap();
    assert_eq!(point.dumped.inventory["databases"], 0);
    assert!(point.dumped.warnings.iter().any(|w| w.contains("there are no databases")));
    server.sql("DROP USER lonely@'%'");
    let loaded = load_new(&server.settings(&[]), &point.origin, Naming::Same).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("`lonely`@`%`")), "{loaded:?}");
    assert!(server.sql("SHOW GRANTS FOR lonely@'%'").contains("GRANT USAGE"));
}

#[test]
fn rows_longer_than_memory_is_kept_for_pass_through() {
    let Some(server) = host() else { return };
    server.sql("SET GLOBAL max_allowed_packet = 134217728");
    let name = new_database(
        server,
        "CREATE TABLE t (id INT PRIMARY KEY, v LONGBLOB); SET SESSION group_concat_max_len = 1; INSERT INTO t VALUES (1, REPEAT('0123456789abcdef', 2000000)), (2, 'x');",
    );
    let point = dump(&server.settings(&[&name])).unwrap();
    load_new(&server.settings(&[]), &point.origin, Naming::Suffix("_long".into())).unwrap();
    let copied = fingerprint(&server.settings(&[&format!("{name}_long")]));
    let digests = |f: &bkp::engine::Fingerprint| f.parts.values().cloned().collect::<Vec<_>>();
    assert_eq!(digests(&copied), digests(&point.dumped.fingerprint));
}

/// Somebody drops it between the list of accounts and the question for it. Here it is in the list only.
#[test]
fn an_account_that_is_dropped_while_accounts_are_read_lets_the_dump_begin_again() {
    let Some(server) = HostServer::mariadb().start("an account that is gone") else { return };
    server.sql("CREATE USER lasting@'%' IDENTIFIED BY 'x'");
    let gone = "SELECT host, 'gone', priv FROM mysql.global_priv WHERE user = 'lasting'";
    server.sql(&format!("INSERT INTO mysql.global_priv {gone}"));
    let failure = dump(&server.settings(&[])).map(|point| point.dumped).unwrap_err();
    assert!(failure.is_passing() && failure.kind() == Kind::TryLater, "{}", failure.full());
    assert_eq!(failure.to_string(), "`gone`@`%` was dropped while the accounts were read");
    server.sql("DELETE FROM mysql.global_priv WHERE user = 'gone'");
    dump(&server.settings(&[])).unwrap();
}
