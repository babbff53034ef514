//! Restores: other names, parts, in place; and refusals, which change nothing.

use crate::contract::{Names, seed};
use crate::{
    Sql, both, dump, holds_what_was_dumped, inside, load, load_new, load_over, mariadb_scratch, mysql, mysql_scratch,
};
use bkp::engine::{Confirmed, Fingerprint, Loaded, Naming, Part, Target};
use bkp::error::Kind;

fn live() -> Target {
    Target::Live(Confirmed::by_name("x", "x").unwrap())
}

/// A small database with one of each.
fn shop(server: &dyn Sql) -> String {
    let name = format!("shop_{}", bkp::durable::random_hex(3));
    server.sql(&format!(
        "CREATE DATABASE {name}; USE {name}; CREATE TABLE orders (id INT PRIMARY KEY, v INT); INSERT INTO orders VALUES (1, 1), (2, 2);
         CREATE TABLE items (id INT PRIMARY KEY, o INT, FOREIGN KEY (o) REFERENCES orders (id)); INSERT INTO items VALUES (1, 1);
         CREATE TABLE log (v INT); CREATE VIEW sums AS SELECT SUM(v) AS s FROM orders;
         CREATE TRIGGER tr AFTER INSERT ON orders FOR EACH ROW INSERT INTO log VALUES (NEW.id);
         CREATE PROCEDURE p() INSERT INTO {name}.log VALUES (9);
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01' DO DELETE FROM log WHERE 0;"
    ));
    name
}

#[test]
fn copies_stand_beside_the_original() {
    for server in both() {
        let name = shop(server);
        let settings = server.settings(&[&name]);
        let point = dump(&settings).unwrap();
        let loaded = load_new(&settings, &point.origin, Naming::Suffix("_copy".into())).unwrap();
        let copy = format!("{name}_copy");
        assert!(
            loaded.warnings.iter().any(|w| w.contains(&format!("procedure p of {copy} still names database {name}"))),
            "{loaded:?}"
        );
        server.sql(&format!("INSERT INTO {copy}.orders VALUES (3, 3)"));
        let counts = format!(
            "SELECT (SELECT COUNT(*) FROM {name}.log), (SELECT COUNT(*) FROM {copy}.log), (SELECT s FROM {copy}.sums)"
        );
        assert_eq!(server.sql(&counts), "0\t1\t6");
        let event = format!("SELECT status FROM information_schema.events WHERE event_schema = '{copy}'");
        assert_eq!(server.sql(&event), "DISABLED");

        let refused = load_new(&settings, &point.origin, Naming::Suffix("_copy".into())).unwrap_err();
        assert_eq!(refused.kind(), Kind::Refused);
        assert!(refused.to_string().contains(&format!("there is a database {copy} already")), "{refused}");
        assert_eq!(server.sql(&format!("SELECT COUNT(*) FROM {copy}.orders")), "3");

        let one = Part::Table { database: name.clone(), table: "orders".into() };
        let target = Target::NewDatabases(Naming::As(format!("{name}_one")));
        load(&settings, &point.origin, &target, one, false).unwrap();
        let tables =
            format!("SELECT GROUP_CONCAT(table_name) FROM information_schema.tables WHERE table_schema = '{name}_one'");
        assert_eq!(server.sql(&tables), "orders");
        let unknown = Part::Database("nothing".into());
        let target = Target::NewDatabases(Naming::As(format!("{name}_two")));
        assert_eq!(load(&settings, &point.origin, &target, unknown, false).unwrap_err().kind(), Kind::Usage);
    }
}

#[test]
fn indexes_of_long_tables_come_back_in_their_order_with_the_foreign_keys() {
    for server in both() {
        let name = format!("long_{}", bkp::durable::random_hex(3));
        let doubled: String = (0..15)
            .map(|power| 1 << power)
            .map(|count| format!("INSERT INTO parent SELECT id + {count}, code + {count}, note FROM parent;"))
            .collect();
        server.sql(&format!(
            "CREATE DATABASE {name}; USE {name};
             CREATE TABLE parent (id INT PRIMARY KEY, code INT NOT NULL, note VARCHAR(20), KEY notes (note), UNIQUE KEY codes (code), KEY b (code, note));
             CREATE TABLE child (id INT AUTO_INCREMENT PRIMARY KEY, parent INT, code INT NOT NULL, `a,(` VARCHAR(40) DEFAULT 'it''s, (', words TEXT,
               low VARCHAR(40) AS (LOWER(`a,(`)) STORED, UNIQUE KEY u (code, id), KEY z (parent, code), FULLTEXT KEY w (words), KEY s (`a,(`(3)), KEY g (low),
               CONSTRAINT to_parent FOREIGN KEY (parent) REFERENCES parent (id), CONSTRAINT to_code FOREIGN KEY (code) REFERENCES parent (code) ON DELETE CASCADE);
             INSERT INTO parent VALUES (0, 0, 'n'); {doubled}
             INSERT INTO child (parent, code, `a,(`, words) SELECT id, code, CONCAT('X', id), 'some words' FROM parent;"
        ));
        let settings = server.settings(&[&name]);
        let point = dump(&settings).unwrap();
        load_new(&settings, &point.origin, Naming::Suffix("_copy".into())).unwrap();
        let copy = format!("{name}_copy");
        for table in ["parent", "child"] {
            let of = |database: &str| {
                server.sql(&format!("SHOW CREATE TABLE {database}.{table}; SELECT COUNT(*) FROM {database}.{table}"))
            };
            assert_eq!(of(&copy), of(&name));
        }
        assert!(!server.try_sql(&format!("INSERT INTO {copy}.child (parent, code) VALUES (-1, 1)")).status.success());
        server.sql(&format!("DROP DATABASE {copy}; DROP DATABASE {name}"));
    }
}

#[test]
fn a_live_database_is_replaced_and_the_old_one_kept() {
    for server in both() {
        let name = shop(server);
        let settings = server.settings(&[&name]);
        let point = dump(&settings).unwrap();
        let damage = format!(
            "USE {name}; DROP TABLE items; DELETE FROM orders; DROP VIEW sums; DROP PROCEDURE p; CREATE TABLE stray (a INT); CREATE VIEW v2 AS SELECT 1;
             CREATE TRIGGER tr2 BEFORE INSERT ON stray FOR EACH ROW SET NEW.a = 1;"
        );
        server.sql(&damage);
        let part = || Part::Database(name.clone());
        let loaded = load(&settings, &point.origin, &live(), part(), true).unwrap();
        let kept = loaded.warnings.iter().find_map(|w| w.strip_prefix("what was replaced is kept in database "));
        let (kept, why) = kept.and_then(|kept| kept.split_once(": ")).unwrap_or_else(|| panic!("{loaded:?}"));
        assert_eq!(why, "there is no whole copy of it");
        assert!(kept.starts_with(&format!("{name}_replaced_")), "{kept}");
        holds_what_was_dumped(&settings, &point.dumped.fingerprint, &name);
        let objects = |database: &str| {
            server.sql(&format!(
                "SELECT GROUP_CONCAT(table_name ORDER BY table_name) FROM information_schema.tables WHERE table_schema = '{database}'
                 UNION ALL SELECT GROUP_CONCAT(trigger_name) FROM information_schema.triggers WHERE trigger_schema = '{database}'
                 UNION ALL SELECT GROUP_CONCAT(event_name, status) FROM information_schema.events WHERE event_schema = '{database}'"
            ))
        };
        assert_eq!(objects(&name), "items,log,orders,sums\ntr\neENABLED");
        assert_eq!(objects(kept).lines().next(), Some("log,orders,stray,v2"));
        server.sql(&format!("CALL {name}.p(); DROP DATABASE {kept}"));

        // Once more, and nothing is to be kept; then one table.
        load(&settings, &point.origin, &live(), part(), false).unwrap();
        server.sql(&format!("USE {name}; DELETE FROM log; DROP TRIGGER tr; INSERT INTO log VALUES (77)"));
        let table = Part::Table { database: name.clone(), table: "log".into() };
        load(&settings, &point.origin, &live(), table, false).unwrap();
        // The trigger is of another table, and stays away.
        let mut with_table = point.dumped.fingerprint.clone();
        with_table.objects.remove(&format!("trigger {name}.tr")).unwrap();
        holds_what_was_dumped(&settings, &with_table, &name);
        let left = server.sql(&format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'bkp%{name}%' OR schema_name LIKE '{name}\\_%'"));
        assert_eq!(left, "");
    }
}

#[test]
fn what_was_written_after_the_copy_is_kept() {
    for server in both() {
        let name = shop(server);
        let settings = server.settings(&[&name]);
        let point = dump(&settings).unwrap();
        let over = |copy| load_over(&settings, &point.origin, &live(), Part::Database(name.clone()), copy).unwrap();
        let copy = Some(&point.dumped.fingerprint);
        let tells = |loaded: &Loaded, what: &str| {
            let kept = loaded.warnings.iter().find_map(|w| w.strip_prefix("what was replaced is kept in database "));
            let (kept, why) = kept.and_then(|kept| kept.split_once(": ")).unwrap_or_else(|| panic!("{loaded:?}"));
            assert!(why.contains(what), "{why}");
            kept.to_owned()
        };
        assert_eq!(over(copy).warnings, Vec::<String>::new(), "nobody wrote");
        server.sql(&format!("INSERT INTO {name}.log VALUES (4711)"));
        let kept = tells(&over(copy), "not what the safety backup holds");
        assert_eq!(server.sql(&format!("SELECT COUNT(*) FROM {kept}.log WHERE v = 4711")), "1");
        server.sql(&format!("DROP DATABASE {kept}"));
        server.sql(&format!("CREATE TABLE {name}.later (i INT PRIMARY KEY)"));
        let kept = tells(&over(copy), "not what the safety backup holds");
        server.sql(&format!("DROP TABLE {kept}.later; DROP DATABASE {kept}"));
        let unbound = Fingerprint { method: "counted by hand".into(), ..point.dumped.fingerprint.clone() };
        let kept = tells(&over(Some(&unbound)), "could not be compared");
        server.sql(&format!("DROP DATABASE {kept}"));
    }
}

#[test]
fn what_would_break_foreign_keys_is_refused() {
    let Some(server) = mysql() else { return };
    let name = shop(server);
    let settings = inside(server, &[&name]);
    let point = dump(&settings).unwrap();
    let table = Part::Table { database: name.clone(), table: "orders".into() };
    let refused = load(&settings, &point.origin, &live(), table, false).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(
        refused.to_string().contains(&format!("a foreign key of {name}.items refers to {name}.orders")),
        "{refused}"
    );
    holds_what_was_dumped(&settings, &point.dumped.fingerprint, &name);
}

#[test]
fn a_restore_that_fails_half_way_leaves_nothing_and_touches_nothing() {
    for server in both() {
        let name = shop(server);
        let settings = server.settings(&[&name]);
        let mut point = dump(&settings).unwrap();
        let dump = point.origin.streams.get_mut("dump.sql").unwrap();
        let text = String::from_utf8(dump.clone()).unwrap();
        let broken =
            text.replacen("INSERT INTO `orders` VALUES", "INSERT INTO `orders` VALUES (5,'no number'),(5,6),", 1);
        assert_ne!(text, broken);
        *dump = broken.into_bytes();
        let before = server.sql("SELECT GROUP_CONCAT(schema_name ORDER BY 1) FROM information_schema.schemata WHERE schema_name LIKE '%shop\\_%'").contains(&name);
        assert!(before);
        for target in [Target::NewDatabases(Naming::As(format!("{name}_new"))), live()] {
            let failure = load(&settings, &point.origin, &target, Part::Whole, false).unwrap_err();
            // MariaDB fills an empty table in one go, and finds out at the end.
            let told = ["Duplicate entry '5'", "ERROR 1180"].iter().any(|text| failure.full().contains(text));
            assert!(told, "{}", failure.full());
            let left = server.sql(&format!(
                "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '%{name}%' AND schema_name <> '{name}'"
            ));
            assert_eq!(left, "");
            holds_what_was_dumped(&settings, &point.dumped.fingerprint, &name);
        }
        // Rows that are missing are noticed before anything becomes visible.
        let dump = point.origin.streams.get_mut("dump.sql").unwrap();
        let from = text.find("INSERT INTO `orders`").unwrap();
        let to = from + text[from..].find(";\n").unwrap() + 2;
        *dump = format!("{}{}", &text[..from], &text[to..]).into_bytes();
        let failure = load(&settings, &point.origin, &live(), Part::Whole, false).unwrap_err();
        assert_eq!(failure.kind(), Kind::Verification);
        assert!(failure.to_string().contains("has 0 rows after the restore, and had 2 in the point"), "{failure}");
        holds_what_was_dumped(&settings, &point.dumped.fingerprint, &name);
    }
}

#[test]
fn accounts_that_a_failed_restore_made_are_dropped_again() {
    let (Some(source), Some(target)) = (mysql(), mysql_scratch()) else { return };
    let name = shop(source);
    source.sql(&format!("CREATE USER {name}_app IDENTIFIED BY 'old'; GRANT SELECT ON {name}.* TO {name}_app"));
    let mut point = dump(&inside(source, &[&name])).unwrap();
    // Of one account only, by a name that nobody else restores: points of other tests have all accounts of this server, too.
    let accounts = point.origin.streams.get_mut("accounts.sql").unwrap();
    let text = String::from_utf8(accounts.clone()).unwrap();
    let own = text.lines().filter(|line| line.contains(&format!("{name}_app")));
    let own: Vec<String> = own.map(|line| format!("{}\n", line.replace("_app`", "_new`"))).collect();
    assert_eq!(own.len(), 3, "made, let in, and let at its database: {own:?}");
    *accounts = own.concat().into_bytes();
    let routines = point.origin.streams.get_mut("routines.sql").unwrap();
    let text = String::from_utf8(routines.clone()).unwrap();
    *routines = text.replacen("PROCEDURE `p`", "PROCEDURE `p` ODD", 1).into_bytes();
    assert_ne!(*routines, text.as_bytes());
    let failure = load_new(&inside(target, &[]), &point.origin, Naming::Same).unwrap_err();
    assert!(failure.full().contains("ODD"), "{}", failure.full());
    assert_eq!(target.sql(&format!("SELECT COUNT(*) FROM mysql.user WHERE user = '{name}_new'")), "0");
}

#[test]
fn other_flavours_older_servers_and_small_packets_are_refused() {
    let (Some(source), Some(other)) = (mysql(), mariadb_scratch()) else { return };
    let name = shop(source);
    let mut point = dump(&inside(source, &[&name])).unwrap();
    let other_settings = inside(other, &[]);
    let refused = load_new(&other_settings, &point.origin, Naming::Same).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(
        refused.to_string().contains("the point is of MySQL 9.") && refused.to_string().contains("is MariaDB 10."),
        "{refused}"
    );

    let Some(target) = mysql_scratch() else { return };
    point.origin.details["version"] = "10.1.0".into();
    let refused = load_new(&inside(target, &[]), &point.origin, Naming::Same).unwrap_err();
    assert!(refused.kind() == Kind::Refused && refused.to_string().contains("is older: 9."), "{refused}");
    point.origin.details["version"] = "9.0.0".into();
    point.origin.details["longest_statement"] = (3u64 << 30).into();
    let refused = load_new(&inside(target, &[]), &point.origin, Naming::Same).unwrap_err();
    assert!(refused.kind() == Kind::Refused && refused.to_string().contains("max_allowed_packet"), "{refused}");
    assert!(refused.next_step().unwrap().contains("SET GLOBAL max_allowed_packet"));
    let left = |server: &dyn Sql| {
        server.sql(&format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '%{name}%'"))
    };
    assert_eq!((left(target), left(other)), (String::new(), String::new()));
}

#[test]
fn a_live_database_with_every_kind_of_object_comes_back() {
    let Some(server) = mysql() else { return };
    let names: Names = seed(server, false);
    let settings = inside(server, &[&names.one]);
    let point = dump(&settings).unwrap();
    let before = crate::contract::describe(server, &names);
    server.sql(&names.fill(
        "SET foreign_key_checks = 0; DROP TABLE `@ONE`.writes; DELETE FROM `@ONE`.child; DROP FUNCTION `@ONE`.twice",
    ));
    load(&settings, &point.origin, &live(), Part::Database(names.one.clone()), false).unwrap();
    assert_eq!(crate::contract::describe(server, &names), before);
    holds_what_was_dumped(&settings, &point.dumped.fingerprint, &names.run);
}
