//! What a dump or a restore could leave out or change without a word, and must not.

use crate::memory_sink::MemorySink;
use crate::support::docker::Container;
use crate::support::host_server::HostServer;
use crate::support::wait_for;
use crate::{Interrupting, Sql, both, dump, dump_to, host, inside, load_new, mysql, mysql_scratch, pairs};
use bkp::engine::Naming;
use bkp::error::Kind;

fn new_database(server: &dyn Sql, rest: &str) -> String {
    let name = format!("omit_{}", bkp::durable::random_hex(3));
    server.sql(&format!("CREATE DATABASE {name}; USE {name}; {rest}"));
    name
}

/// Writes the clients' option file of a container.
fn options(server: &Container, text: &str) {
    let script = "mkdir -p /etc/mysql/conf.d && cat >/etc/mysql/conf.d/zz.cnf";
    assert!(server.exec(&["sh", "-c", script], text.as_bytes()).status.success());
}

#[test]
fn option_files_make_no_dump_without_rows() {
    let Some(server) = Container::mariadb().start("a client with options of its own") else { return };
    let name = new_database(&server, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3);");
    options(
        &server,
        "[mysqldump]\nno-data\nwhere=id>2\nno-create-info\nreplace\ninsert-ignore\ncompact\nskip-comments\n",
    );
    let point = dump(&inside(&server, &[&name])).unwrap();
    let loaded = load_new(&inside(&server, &[]), &point.origin, Naming::Suffix("_copy".into())).unwrap();
    assert_eq!(server.sql(&format!("SELECT GROUP_CONCAT(id ORDER BY id) FROM {name}_copy.t")), "1,2,3", "{loaded:?}");

    options(&server, &format!("[mysqldump]\nignore-table-data={name}.t\n"));
    let failure = dump(&inside(&server, &[&name])).map(|point| point.dumped).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification);
    assert_eq!(failure.to_string(), format!("the dump holds no row of `{name}`.`t`, the server has 3"));
}

#[test]
fn a_broken_view_is_named_and_keeps_nobody_from_a_backup() {
    for (source, target) in pairs() {
        let name = new_database(
            source,
            "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE gone (a INT); CREATE TABLE gone2 (a INT); \
             CREATE VIEW broken AS SELECT a FROM gone; CREATE VIEW on_broken AS SELECT a FROM broken; CREATE VIEW fine AS SELECT id FROM t;",
        );
        let user = format!("u{}", bkp::durable::random_hex(3));
        source.sql(&format!(
            "CREATE USER {user}@'%' IDENTIFIED BY 'x'; GRANT SELECT ON {name}.broken TO {user}@'%'; GRANT SELECT ON {name}.gone2 TO {user}@'%'; \
             GRANT SELECT ON {name}.fine TO {user}@'%'; DROP TABLE {name}.gone; DROP TABLE {name}.gone2;"
        ));
        let point = dump(&source.settings(&[&name])).unwrap();
        let [warning] = point.dumped.warnings.as_slice() else { panic!("{:?}", point.dumped.warnings) };
        assert!(warning.contains(&format!("`{name}`.`broken`, `{name}`.`on_broken`")), "{warning}");
        assert_eq!(point.dumped.inventory["views"], 1);
        let routines = String::from_utf8(point.origin.streams["routines.sql"].clone()).unwrap();
        let kept = routines.lines().find(|line| line.starts_with("-- CREATE") && line.contains("`broken` AS"));
        assert!(kept.is_some_and(|line| line.contains("from `")), "{routines}");

        load_new(&target.settings(&[]), &point.origin, Naming::Same).unwrap();
        assert_eq!(target.sql(&format!("SELECT id FROM {name}.fine")), "1");
        let grants = target.sql(&format!("SHOW GRANTS FOR {user}@'%'"));
        assert!(grants.contains("`fine`") && !grants.contains("`broken`") && !grants.contains("gone2"), "{grants}");
    }
}

#[test]
fn a_client_that_does_not_begin_gives_the_lock_back() {
    let wanted = Container::mariadb().argument("--server-id=7").argument("--log-bin=log");
    let Some(server) = wanted.start("a client that hangs") else { return };
    let name = new_database(&server, "CREATE TABLE t (id INT PRIMARY KEY);");
    let slow = "#!/bin/sh\n[ \"$1\" = --version ] || while [ ! -e /tmp/go ]; do sleep 0.1; done\nexec /usr/bin/mariadb-dump \"$@\"\n";
    let script = "cat >/usr/local/bin/mariadb-dump && chmod 755 /usr/local/bin/mariadb-dump";
    assert!(server.exec(&["sh", "-c", script], slow.as_bytes()).status.success());
    std::thread::scope(|scope| {
        let dumping = scope.spawn(|| dump(&inside(&server, &[&name])));
        // The lock itself, then a writer who must be let through while the client still hangs.
        wait_for("the dump's client", 60, || {
            server.exec(&["pgrep", "-f", "local/bin/mariadb-dump"], b"").status.success().then_some(())
        });
        server.sql(&format!("INSERT INTO {name}.t VALUES (1)"));
        assert!(server.exec(&["touch", "/tmp/go"], b"").status.success());
        let dumped = dumping.join().unwrap().unwrap().dumped;
        assert!(dumped.fingerprint.method.ends_with("(not bound to the dump)"), "{:?}", dumped.fingerprint);
        assert!(dumped.warnings.iter().any(|w| w.contains("took too long to begin")), "{:?}", dumped.warnings);
    });
}

#[test]
fn a_server_that_ends_idle_sessions_does_not_end_a_backup() {
    let Some(server) = HostServer::mariadb().argument("--wait-timeout=2").start("a short wait_timeout") else { return };
    let mut text = "CREATE TABLE big (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000)); INSERT INTO big (v) VALUES (REPEAT('x', 1000));".to_owned();
    (0..14).for_each(|_| text.push_str("INSERT INTO big (v) SELECT v FROM big;"));
    let name = new_database(&server, &text);
    let idle = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Sleep' AND time >= 3";
    let act = || wait_for("a session of bkp that is idle for longer", 30, || (server.sql(idle) != "0").then_some(()));
    let mut sink = Interrupting { inner: MemorySink::new(), after: 1 << 20, act: Box::new(act) };
    dump_to(&server.settings(&[&name]), &mut sink).unwrap();
}

#[test]
fn odd_values_come_back_or_are_told() {
    for server in both() {
        let name = new_database(
            server,
            "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'; CREATE TABLE d (id INT PRIMARY KEY, v DATE, w DATETIME DEFAULT '2023-02-31 01:00:00', KEY (v)); \
             INSERT INTO d VALUES (1, '2023-02-31', '2023-04-31 10:00:00'), (2, '0000-00-00', NULL); \
             CREATE TABLE e (id INT PRIMARY KEY, v ENUM('', 'a')); INSERT IGNORE INTO e VALUES (1, 'neither'), (2, 'a');",
        );
        let point = dump(&server.settings(&[&name])).unwrap();
        let loaded = load_new(&server.settings(&[]), &point.origin, Naming::Suffix("_copy".into())).unwrap();
        let values = |database: &str| server.sql(&format!("SELECT * FROM {database}.d ORDER BY id"));
        assert_eq!(values(&format!("{name}_copy")), values(&name));
        assert!(values(&name).contains("2023-02-31"), "{}", values(&name));
        let told = |warning: &&String| warning.contains("not all values are the same");
        let told: Vec<&String> = loaded.warnings.iter().filter(told).collect();
        assert!(
            matches!(told.as_slice(), [one] if one.ends_with(&format!(": `{name}_copy`.`e`"))),
            "{:?}",
            loaded.warnings
        );
    }
}

#[test]
fn events_wait_where_they_would_run_at_once() {
    for ((source, target), runs) in pairs().zip([true, false]) {
        let name = new_database(
            source,
            "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); \
             CREATE EVENT `cl``ean` ON SCHEDULE EVERY 1 HOUR STARTS '2035-01-01' DO DELETE FROM t; \
             CREATE EVENT off ON SCHEDULE EVERY 1 HOUR STARTS '2035-01-01' DISABLE DO DELETE FROM t;",
        );
        assert_eq!(target.sql("SELECT @@global.event_scheduler"), if runs { "ON" } else { "OFF" });
        let point = dump(&source.settings(&[&name])).unwrap();
        let loaded = load_new(&target.settings(&[]), &point.origin, Naming::Same).unwrap();
        let status =
            format!("SELECT status FROM information_schema.events WHERE event_schema = '{name}' ORDER BY event_name");
        let told = loaded.warnings.iter().find(|w| w.contains("are switched off"));
        let expected = if runs { "DISABLED\nDISABLED" } else { "ENABLED\nDISABLED" };
        assert_eq!((target.sql(&status).as_str(), told.is_some()), (expected, runs), "{:?}", loaded.warnings);
        let Some((_, enable)) = told.and_then(|told| told.split_once("switch them on: ")) else { continue };
        target.sql(enable);
        assert_eq!(target.sql(&status), "ENABLED\nDISABLED");
    }
}

#[test]
fn accounts_that_the_server_cannot_check_are_no_obstacle() {
    let (Some(source), Some(target)) = (mysql(), mysql_scratch()) else { return };
    let name = new_database(source, "CREATE TABLE t (id INT PRIMARY KEY);");
    let user = format!("u{}", bkp::durable::random_hex(3));
    source.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'x'; GRANT SELECT ON {name}.* TO {user}@'%'"));
    let mut point = dump(&inside(source, &[&name])).unwrap();
    // As MySQL 8.0 writes an account that was made by 5.7.
    let accounts = String::from_utf8(point.origin.streams["accounts.sql"].clone()).unwrap();
    let old = |line: &str| match line.starts_with("CREATE USER") && line.contains(&user) {
        true => format!(
            "CREATE USER IF NOT EXISTS `{user}`@`%` IDENTIFIED WITH 'mysql_native_password' AS '*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4' REQUIRE NONE PASSWORD EXPIRE DEFAULT ACCOUNT UNLOCK;"
        ),
        false => line.to_owned(),
    };
    let accounts: Vec<String> = accounts.lines().map(old).collect();
    point.origin.streams.insert("accounts.sql".into(), (accounts.join("\n") + "\n").into_bytes());
    let loaded = load_new(&inside(target, &[]), &point.origin, Naming::Same).unwrap();
    let told = loaded.warnings.iter().find(|w| w.contains("nobody knows")).unwrap();
    assert!(told.ends_with(&format!("`{user}`@`%` (mysql_native_password)")), "{told}");
    assert!(target.sql(&format!("SHOW GRANTS FOR {user}@'%'")).contains(&format!("GRANT SELECT ON `{name}`")));
}

#[test]
fn a_dump_that_no_server_could_read_is_refused() {
    let Some(server) = host() else { return };
    let name = new_database(
        server,
        "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE c (p INT, CONSTRAINT `a``b` FOREIGN KEY (p) REFERENCES p (id));",
    );
    let failure = dump(&server.settings(&[&name])).map(|point| point.dumped).unwrap_err();
    assert_eq!(failure.kind(), Kind::Refused);
    assert!(failure.to_string().ends_with(&format!(": `a``b` of `{name}`.`c`")), "{failure}");
    server.sql(&format!("ALTER TABLE {name}.c DROP FOREIGN KEY `a``b`"));
    dump(&server.settings(&[&name])).unwrap();
}
