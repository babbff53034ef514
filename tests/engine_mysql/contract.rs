//! The contract: every kind of object, dumped while somebody writes, loaded into another server, is the same there.

use crate::support::docker::{Container, start_all};
use crate::support::host_server::HostServer;
use crate::{
    Sql, dump, holds_what_was_dumped, inside, load_new, mariadb, mariadb_scratch, mysql, mysql_scratch, on_host,
    over_network,
};
use bkp::engine::mysql::Settings;
use bkp::engine::{Dumped, Naming};
use bkp::error::Kind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Every kind of object that both have. `@ONE` and `@TWO` are databases, `@N` tells runs apart.
const COMMON: &str = r#"
CREATE DATABASE `@ONE` DEFAULT CHARACTER SET utf8mb4; CREATE DATABASE `@TWO` DEFAULT CHARACTER SET latin1;
CREATE DATABASE `empty@N`;
USE `@ONE`;
CREATE TABLE `a``ll` (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, ti TINYINT, sm SMALLINT UNSIGNED, me MEDIUMINT, bi BIGINT,
  bo BOOLEAN, de DECIMAL(30,10), fl FLOAT, du DOUBLE, bt BIT(17), da DATE, dt DATETIME(6), ts TIMESTAMP(3) NULL, tm TIME(2), ye YEAR,
  ch CHAR(10), vc VARCHAR(300) CHARACTER SET utf8mb4, l1 VARCHAR(50) CHARACTER SET latin1, u3 VARCHAR(50) CHARACTER SET utf8mb3,
  bn BINARY(5), vb VARBINARY(300), bl LONGBLOB, tx LONGTEXT, en ENUM('a','b''c','é'), se SET('x','y','z'), js JSON,
  po POINT, base INT, virt INT AS (base + 1) VIRTUAL, stor INT AS (base * 2) STORED,
  n1 INT, n2 VARCHAR(9), n3 BLOB, n4 DATE, n5 JSON, UNIQUE KEY vcu (vc(40)), KEY base (base), FULLTEXT KEY ft (tx)) COMMENT 'it''s; a `table`';
INSERT INTO `a``ll` (ti,sm,me,bi,bo,de,fl,du,bt,da,dt,ts,tm,ye,ch,vc,l1,u3,bn,vb,bl,tx,en,se,js,po,base) VALUES
  (-128,65535,-8388608,-9223372036854775808,1,'12345678901234567890.0123456789',1.5,1.7976931348623157e308,b'10101','0001-01-01','9999-12-31 23:59:59.999999',
   '2026-03-29 02:30:00.123','-838:59:59',1901,'ch','emoji 😀 tab\t nl\n cr\r nul\0 bs\\ q'' dq" z\Z','é','☕',X'0001020300',X'00FF27225C0A0D1A',X'',';\n-- Dump completed\n);\n',
   'b''c','x,z','{"a": [1, 2.5, null, "é😀"], "b": {"c": true}}', ST_GeomFromText('POINT(1 2)'), 5),
  (127,0,1,1,0,0,-0.25,-1e-300,b'0','2026-01-01','2026-01-01','1970-01-01 00:00:01','0:0:0',2155,'','','','','',X'',REPEAT(X'DEADBEEF0A27',20000),REPEAT('😀;''\n',5000),'é','','[]',NULL,-7),
  (NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE child (id INT PRIMARY KEY, parent BIGINT UNSIGNED, zero INT UNSIGNED NOT NULL DEFAULT 0, CONSTRAINT `f k` FOREIGN KEY (parent) REFERENCES `a``ll` (id) ON DELETE CASCADE, CHECK (zero < 1000000));
INSERT INTO child VALUES (0, 1, 0), (1, 2, 7), (2, NULL, 1);
CREATE TABLE parts (id INT, y INT) PARTITION BY RANGE (y) (PARTITION p0 VALUES LESS THAN (10), PARTITION `p 1` VALUES LESS THAN MAXVALUE);
INSERT INTO parts VALUES (1, 1), (2, 11), (NULL, 12);
CREATE TABLE nokey (a INT, b TEXT); INSERT INTO nokey VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
CREATE TABLE `emp ty` (a INT);
CREATE TABLE log (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(100));
CREATE TABLE writes (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(200), d INT, KEY d (d)); INSERT INTO writes (v, d) VALUES (REPEAT('w', 150), 1);
INSERT INTO writes (v, d) SELECT v, d FROM writes; INSERT INTO writes (v, d) SELECT v, d + 1 FROM writes; INSERT INTO writes (v, d) SELECT v, d FROM writes;
INSERT INTO writes (v, d) SELECT v, d FROM writes; INSERT INTO writes (v, d) SELECT v, d + 5 FROM writes; INSERT INTO writes (v, d) SELECT v, d FROM writes;
INSERT INTO writes (v, d) SELECT v, d FROM writes; INSERT INTO writes (v, d) SELECT v, d FROM writes; INSERT INTO writes (v, d) SELECT v, d FROM writes;
INSERT INTO writes (v, d) SELECT v, d FROM writes; INSERT INTO writes (v, d) SELECT v, d FROM writes; INSERT INTO writes (v, d) SELECT v, d FROM writes;
INSERT INTO writes (v, d) SELECT v, d FROM writes;
CREATE USER 'app@N'@'%' IDENTIFIED BY 'app''s secret;'; CREATE USER 'reader@N'@'10.0.0.%' IDENTIFIED BY 'x' REQUIRE SSL;
CREATE ROLE role@N; GRANT SELECT ON `@ONE`.* TO role@N; GRANT INSERT, UPDATE (b) ON `@ONE`.nokey TO 'app@N'@'%'; GRANT role@N TO 'app@N'@'%';
CREATE ALGORITHM=MERGE VIEW zuerst AS SELECT id, parent FROM child WHERE id > 0 WITH CHECK OPTION;
CREATE DEFINER='app@N'@'%' SQL SECURITY INVOKER VIEW `a view` AS SELECT z.id, '`@ONE`.x' AS t FROM zuerst z;
DELIMITER //
CREATE FUNCTION twice(a INT) RETURNS INT DETERMINISTIC COMMENT 'it''s' RETURN a * 2 /* ; */ //
CREATE DEFINER='app@N'@'%' PROCEDURE `a pro``c`(IN x INT, OUT y VARCHAR(20)) SQL SECURITY INVOKER
BEGIN
  -- a comment; with 'quotes
  DECLARE s VARCHAR(20) DEFAULT ';;é☕';
  SET y = CONCAT(s, x);
END//
CREATE TRIGGER child_log AFTER INSERT ON child FOR EACH ROW BEGIN /* it's; */ INSERT INTO log (what) VALUES (CONCAT('new;', NEW.id)); END//
CREATE TRIGGER child_more AFTER INSERT ON child FOR EACH ROW FOLLOWS child_log INSERT INTO log (what) VALUES ('second')//
CREATE EVENT `an event` ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE COMMENT 'c' DO BEGIN SELECT ';;'; DELETE FROM log WHERE 0; END//
CREATE VIEW uses_function AS SELECT twice(id) AS t FROM child//
GRANT EXECUTE ON PROCEDURE `@ONE`.`a pro``c` TO 'app@N'@'%'//
DELIMITER ;
USE `@TWO`;
SET sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES';
DELIMITER //
CREATE PROCEDURE ansi() BEGIN SELECT 'a\' AS "b", '//', 1; END//
DELIMITER ;
SET sql_mode = DEFAULT;
CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(50)); INSERT INTO t VALUES (1, 'é');
CREATE VIEW across AS SELECT c.id FROM `@ONE`.child c JOIN t ON t.id = c.id;
"#;

const OF_MYSQL: &str = "USE `@ONE`; CREATE TABLE invisible (id INT PRIMARY KEY, h INT INVISIBLE DEFAULT 3, e INT DEFAULT (1 + 1), KEY f ((h + 1)));
INSERT INTO invisible (id, h) VALUES (1, 9); SET DEFAULT ROLE role@N TO 'app@N'@'%'; GRANT BACKUP_ADMIN ON *.* TO 'reader@N'@'10.0.0.%';";

const OF_MARIADB: &str = "USE `@ONE`; CREATE TABLE history (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; INSERT INTO history VALUES (1, 1);
UPDATE history SET v = 2; DELETE FROM history; INSERT INTO history VALUES (2, 2); CREATE SEQUENCE seq START WITH 5; SELECT NEXTVAL(seq);
CREATE TABLE u (a UUID, i INET6); INSERT INTO u VALUES ('123e4567-e89b-12d3-a456-426614174000', '::1'); SET DEFAULT ROLE role@N FOR 'app@N'@'%';
SET sql_mode = ORACLE;
DELIMITER //
CREATE PACKAGE pkg AS FUNCTION f RETURN INT; END//
CREATE PACKAGE BODY pkg AS FUNCTION f RETURN INT AS BEGIN RETURN 1; END; END//
DELIMITER ;
SET sql_mode = DEFAULT;";

pub struct Names {
    pub one: String,
    pub two: String,
    pub empty: String,
    pub run: String,
}

impl Names {
    pub fn new() -> Self {
        let run = bkp::durable::random_hex(3);
        Names {
            one: format!("a-{run} b'\"\u{2615}é`c"), two: format!("zwei_{run}"), empty: format!("empty{run}"), run
        }
    }

    pub fn all(&self) -> [&str; 3] {
        [&self.one, &self.two, &self.empty]
    }

    pub fn fill(&self, text: &str) -> String {
        let one = self.one.replace('`', "``");
        // Within a text of SQL the name is only an example.
        let text = text.replace("'`@ONE`.x'", "'x'");
        text.replace("@ONE", &one).replace("@TWO", &self.two).replace("@N", &self.run)
    }
}

/// Makes everything, and says what it is called.
pub fn seed(server: &dyn Sql, mariadb: bool) -> Names {
    let names = Names::new();
    server.sql(&names.fill(COMMON));
    server.sql(&names.fill(if mariadb { OF_MARIADB } else { OF_MYSQL }));
    names
}

/// What the server says of everything but rows.
pub fn describe(server: &dyn Sql, names: &Names) -> Vec<String> {
    let list = names.all().map(|n| format!("'{}'", n.replace('\'', "''"))).join(",");
    let of = |columns: &str, table: &str, schema: &str| {
        format!("SELECT {columns} FROM information_schema.{table} WHERE {schema} IN ({list}) ORDER BY 1, 2, 3, 4, 5")
    };
    let mut answers = Vec::new();
    let questions = [
        of("schema_name, default_character_set_name, default_collation_name, 1, 2", "schemata", "schema_name"),
        of(
            "DISTINCT table_schema, table_name, table_type, engine, table_collation, table_comment, create_options",
            "tables",
            "table_schema",
        ),
        of(
            "table_schema, table_name, ordinal_position, column_name, column_type, column_default, is_nullable, character_set_name, collation_name, extra, column_key, column_comment, generation_expression",
            "columns",
            "table_schema",
        ),
        of(
            "table_schema, table_name, index_name, seq_in_index, column_name, non_unique, sub_part, index_type",
            "statistics",
            "table_schema",
        ),
        of(
            "constraint_schema, constraint_name, table_name, referenced_table_name, delete_rule, update_rule",
            "referential_constraints",
            "constraint_schema",
        ),
        of("constraint_schema, constraint_name, check_clause, 1, 2", "check_constraints", "constraint_schema"),
        of("table_schema, table_name, view_definition, check_option, definer, security_type", "views", "table_schema"),
        of(
            "trigger_schema, trigger_name, event_manipulation, event_object_table, action_order, action_statement, action_timing, sql_mode, definer, character_set_client, collation_connection, database_collation",
            "triggers",
            "trigger_schema",
        ),
        of(
            "routine_schema, routine_name, routine_type, data_type, routine_definition, is_deterministic, sql_data_access, security_type, sql_mode, routine_comment, definer, collation_connection, database_collation",
            "routines",
            "routine_schema",
        ),
        of(
            "event_schema, event_name, definer, time_zone, event_definition, interval_value, interval_field, sql_mode, starts, status, on_completion, event_comment",
            "events",
            "event_schema",
        ),
        of(
            "table_schema, table_name, partition_name, partition_method, partition_expression, partition_description",
            "partitions",
            "table_schema",
        ),
        format!(
            "SHOW GRANTS FOR 'app{0}'@'%'; SHOW GRANTS FOR 'reader{0}'@'10.0.0.%'; SHOW GRANTS FOR role{0}; SHOW CREATE USER 'reader{0}'@'10.0.0.%'",
            names.run
        ),
        format!(
            "SELECT user, plugin, HEX(authentication_string) FROM mysql.user WHERE user LIKE '%{}' ORDER BY 1",
            names.run
        ),
    ];
    for question in questions {
        answers.extend(server.sql(&question).lines().map(str::to_owned));
    }
    answers
}

fn told_of_no_lock(dumped: &Dumped) -> bool {
    dumped.warnings.iter().any(|warning| warning.contains("no global read lock was taken"))
}

fn contract(
    source: &dyn Sql,
    settings: impl Fn(&[&str]) -> Settings,
    target: &dyn Sql,
    target_settings: impl Fn(&[&str]) -> Settings,
    is_mariadb: bool,
) {
    let names = seed(source, is_mariadb);
    let stop = AtomicBool::new(false);
    let writes = names.fill(
        "INSERT INTO `@ONE`.writes (v, d) VALUES ('meanwhile', 0); UPDATE `@ONE`.writes SET d = d + 1 WHERE id < 500;",
    );
    let point = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                source.sql(&writes);
            }
        });
        // Other tests have long queries on the same server, and then the lock that binds counts to the dump is not had.
        let mut points = (0..5).map(|_| dump(&settings(&names.all())));
        let point = points.find(|point| !matches!(point, Ok(point) if told_of_no_lock(&point.dumped)));
        stop.store(true, Relaxed);
        point.expect("the lock was not to be had five times").unwrap()
    });
    let dumped = &point.dumped;
    assert_eq!(dumped.warnings, Vec::<String>::new());
    assert!(!dumped.fingerprint.method.contains("not bound"), "{dumped:?}");
    let expected: &[(&str, u64)] = match is_mariadb {
        true => &[
            ("databases", 3),
            ("tables", 10),
            ("views", 4),
            ("triggers", 2),
            ("procedures", 2),
            ("functions", 1),
            ("events", 1),
            ("sequences", 1),
        ],
        false => &[
            ("databases", 3),
            ("tables", 9),
            ("views", 4),
            ("triggers", 2),
            ("procedures", 2),
            ("functions", 1),
            ("events", 1),
        ],
    };
    for (what, count) in expected {
        assert_eq!(dumped.inventory.get(*what), Some(count), "{what} in {:?}", dumped.inventory);
    }

    let loaded = load_new(&target_settings(&[]), &point.origin, Naming::Same).unwrap();
    let app = format!("`app{}`@`%`", names.run);
    // What comes back is told; unless another test has brought it, whose point of the same server has this account, too.
    let is_told = loaded.warnings.iter().any(|warning| warning.contains(&app));
    assert!(is_told || target.sql("SELECT user FROM mysql.user").contains(&format!("app{}", names.run)), "{loaded:?}");
    holds_what_was_dumped(&target_settings(&names.all()), &dumped.fingerprint, &names.run);
    assert_eq!(describe(target, &names), describe(source, &names));
    // Other tests restore into the same server meanwhile.
    let left = target.sql(&format!(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'bkp_restore_unfinished' AND table_schema LIKE '%{}%'",
        names.run
    ));
    assert_eq!(left, "");
}

#[test]
fn mysql_in_its_container() {
    let (Some(source), Some(target)) = (mysql(), mysql_scratch()) else { return };
    contract(source, |d| inside(source, d), target, |d| inside(target, d), false);
}

#[test]
fn mariadb_in_its_container() {
    let (Some(source), Some(target)) = (mariadb(), mariadb_scratch()) else { return };
    contract(source, |d| inside(source, d), target, |d| inside(target, d), true);
}

#[test]
fn mariadb_over_the_network() {
    let Some(host) = HostServer::mariadb().start("MariaDB on the host") else { return };
    let Some(target) = mariadb_scratch() else { return };
    contract(&host, |d| on_host(&host, d), target, |d| over_network(target, d), true);
}

/// And a point of it is not for an older server.
#[test]
fn mariadb_11_in_its_container() {
    let start = || Container::mariadb_11().argument("--server-id=7").argument("--log-bin=log");
    let Some([source, target]) = start_all("MariaDB 11 in a container", [start(), start()]) else { return };
    contract(&source, |d| inside(&source, d), &target, |d| inside(&target, d), true);
    let Some(older) = mariadb_scratch() else { return };
    let name = format!("newer_{}", bkp::durable::random_hex(3));
    source.sql(&format!("CREATE DATABASE {name}; CREATE TABLE {name}.t (id INT)"));
    let point = dump(&inside(&source, &[&name])).unwrap();
    assert!(point.dumped.version.contains("11."), "{}", point.dumped.version);
    let refused = load_new(&inside(older, &[]), &point.origin, Naming::Same).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("is older: 10."), "{refused}");
}
