//! The SQLite engine against databases that are written to, damaged, strange, or not there.

use crate::memory_sink::{MemoryOrigin, MemorySink, dump_into, load_from};
use crate::{dump, eventually, names, new};
use bkp::engine::sqlite::{Settings, Sqlite, fingerprint};
use bkp::engine::{Confirmed, Engine, Target};
use bkp::error::Kind;
use rusqlite::Connection;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub fn engine(path: &Path) -> Sqlite {
    Sqlite::new(Settings::of(path))
}

/// A database with something of everything.
pub fn fill(path: &Path) {
    // Not what is tested here: waiting for the disk after each statement.
    let statements = "PRAGMA synchronous = OFF; PRAGMA user_version = 7; BEGIN;
         CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, born REAL, photo BLOB);
         CREATE TABLE pairs (a TEXT, b INT, twice INT AS (b * 2) VIRTUAL, thrice INT AS (b * 3) STORED, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE TABLE \"odd \"\"name'\" (\"select\" ANY, rowid TEXT, _rowid_ TEXT, oid TEXT) STRICT;
         CREATE TABLE empty (x);
         CREATE INDEX pairs_b ON pairs (b) WHERE b > 5;
         CREATE VIEW young AS SELECT * FROM users WHERE born > 2000;
         CREATE TRIGGER count_pairs AFTER DELETE ON pairs BEGIN DELETE FROM empty; END;
         CREATE VIRTUAL TABLE words USING fts5(text);
         CREATE VIRTUAL TABLE places USING rtree(id, x0, x1, y0, y1);
         CREATE TEMP VIEW n AS WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 3000) SELECT n FROM s;
         INSERT INTO words SELECT 'word ' || n FROM n WHERE n <= 500;
         INSERT INTO places SELECT n, n, n + 1, n, n + 1 FROM n WHERE n <= 500;
         INSERT INTO users (name, born, photo) SELECT 'user ' || n, 1900 + n * 0.1, zeroblob(n * 5) FROM n WHERE n <= 2000;
         INSERT INTO users (name, photo) VALUES ('huge', randomblob(3000000)), ('ümlaut ' || char(0) || ' after', NULL);
         INSERT INTO pairs (a, b) SELECT 'a' || n, n FROM n;
         INSERT INTO \"odd \"\"name'\" VALUES (1, 'a', 'b', 'c'), (1.5, 'a', 'b', 'c'), (NULL, 'a', 'b', 'c'), (x'00ff', 'a', 'b', 'c');
         ANALYZE; COMMIT";
    sql(path, statements);
}

pub fn sql(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

pub fn number(path: &Path, query: &str) -> i64 {
    Connection::open(path).unwrap().query_row(query, [], |row| row.get(0)).unwrap()
}

/// Restores into a new file beside `source` and gives its path.
fn restored(source: &Path, origin: &MemoryOrigin) -> PathBuf {
    let path = source.with_file_name("restored.db");
    load_from(&engine(source), origin, &new(&path)).unwrap();
    path
}

// ---- other processes -----------------------------------------------------------------------------------------------
// POSIX locks do not hold within one process, so whoever uses a database meanwhile is a process of its own.

pub struct Other(Child);

impl Drop for Other {
    /// As a crash would: nothing is closed or checkpointed.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process that does `role` with the database and waits until it is at it.
pub fn other(role: &str, path: &Path) -> Other {
    let ready = tempfile::tempdir().unwrap();
    let signal = ready.path().join("ready");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::a_process_that_uses_a_database"])
        .envs([
            ("BKP_TEST_ROLE", role.as_ref()),
            ("BKP_TEST_DB", path.as_os_str()),
            ("BKP_TEST_READY", signal.as_os_str()),
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let other = Other(child);
    eventually(role, || signal.exists());
    other
}

/// Not a test of its own: what [`other`] runs.
#[test]
fn a_process_that_uses_a_database() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(role), Some(path), Some(ready)) =
        (variable("BKP_TEST_ROLE"), variable("BKP_TEST_DB"), variable("BKP_TEST_READY"))
    else {
        return;
    };
    let c = Connection::open(&path).unwrap();
    c.busy_timeout(Duration::from_secs(60)).unwrap();
    match role.to_str().unwrap() {
        // Moves money between accounts for ever; the sum stays the same.
        "bank" => {
            c.execute_batch("PRAGMA wal_autocheckpoint = 500; PRAGMA synchronous = OFF").unwrap();
            for n in 0u64.. {
                let (from, to) = (n % 100, (n * 7 + 3) % 100);
                c.execute_batch(&format!(
                    "BEGIN IMMEDIATE;
                     UPDATE accounts SET balance = balance - 5 WHERE id = {from};
                     UPDATE accounts SET balance = balance + 5 WHERE id = {to};
                     INSERT INTO ledger (source, destination, sum) VALUES ({from}, {to}, 5);
                     COMMIT"
                ))
                .unwrap();
                if n == 10 {
                    std::fs::write(&ready, "").unwrap();
                }
            }
        }
        // Commits into the -wal and then just keeps it open.
        "wal" => c
            .execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE late (x); INSERT INTO late VALUES (1), (2), (3)")
            .unwrap(),
        "write" => c.execute_batch("BEGIN IMMEDIATE; CREATE TABLE never (x)").unwrap(),
        "exclusive" => c.execute_batch("BEGIN EXCLUSIVE; CREATE TABLE never (x)").unwrap(),
        // Leaves a hot journal behind when it is killed: pages are in the file, the transaction is not over.
        "spill" => c
            .execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = 5; PRAGMA cache_spill = 5; BEGIN IMMEDIATE; UPDATE filler SET data = zeroblob(1000)")
            .unwrap(),
        "idle" => c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).unwrap(),
        other => panic!("no role {other}"),
    }
    std::fs::write(ready, "").unwrap();
    loop {
        std::thread::park();
    }
}

fn bank(path: &Path) {
    sql(
        path,
        "PRAGMA journal_mode = WAL;
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INT);
         CREATE TABLE ledger (id INTEGER PRIMARY KEY, source INT, destination INT, sum INT);
         CREATE TABLE filler (data BLOB);
         WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 99) INSERT INTO accounts SELECT n, 1000 FROM s;
         WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 19999) INSERT INTO filler SELECT randomblob(2000) FROM s;",
    );
}

// ---- alive ---------------------------------------------------------------------------------------------------------

#[test]
fn a_writer_in_wal_mode_neither_stops_nor_tears_the_dump() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    bank(&path);
    let writer = other("bank", &path);
    for _ in 0..3 {
        let commits = number(&path, "SELECT max(id) FROM ledger");
        let origin = dump(&engine(&path)).unwrap();
        let after = number(&path, "SELECT max(id) FROM ledger");
        let copy = restored(&path, &origin);
        let within = number(&copy, "SELECT max(id) FROM ledger");
        assert!(commits <= within, "what was committed before is in the dump");
        assert!(within < after, "the writer went on meanwhile");
        assert_eq!(number(&copy, "SELECT sum(balance) FROM accounts"), 100_000, "a transaction was torn");
        let moved = "SELECT count(*) FROM accounts a WHERE balance != 1000 \
            + 5 * (SELECT count(*) FROM ledger WHERE destination = a.id) - 5 * (SELECT count(*) FROM ledger WHERE source = a.id)";
        assert_eq!(number(&copy, moved), 0, "balances and ledger are of one instant");
        std::fs::remove_file(copy).unwrap();
    }
    drop(writer);
}

#[test]
fn what_is_only_in_the_wal_is_dumped_and_the_wal_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    sql(&path, "PRAGMA journal_mode = WAL");
    let writer = other("wal", &path);
    let wal = directory.path().join("app.db-wal");
    let before = std::fs::read(&wal).unwrap();
    let main = std::fs::read(&path).unwrap();
    assert!(!before.is_empty());
    engine(&path).preflight().unwrap();
    let origin = dump(&engine(&path)).unwrap();
    assert!(std::fs::read(&wal).unwrap() == before && std::fs::read(&path).unwrap() == main, "the source was changed");
    drop(writer);
    // The writer died; what it committed is still only in the -wal.
    let later = dump(&engine(&path)).unwrap();
    assert!(std::fs::read(&wal).unwrap() == before && std::fs::read(&path).unwrap() == main, "the source was changed");
    assert_eq!(origin.fingerprint, later.fingerprint);
    assert_eq!(number(&restored(&path, &origin), "SELECT sum(x) FROM late"), 6);
}

#[test]
fn a_rollback_journal_of_a_crash_is_rolled_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    bank(&path);
    sql(&path, "PRAGMA journal_mode = DELETE");
    let was = fingerprint(&path).unwrap();
    let writer = other("spill", &path);
    drop(writer);
    assert!(directory.path().join("app.db-journal").exists(), "there is a hot journal");
    assert!(fingerprint(&path).unwrap_err().to_string().contains("app.db-journal"));
    engine(&path).preflight().unwrap();
    assert_eq!(dump(&engine(&path)).unwrap().fingerprint, was);
}

#[test]
fn a_database_that_stays_locked_is_for_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let _writer = other("exclusive", &path);
    let scratch = tempfile::tempdir().unwrap();
    let impatient = engine(&path).patience(Duration::from_millis(1));
    let failure = dump_into(&impatient, &mut MemorySink::new(), scratch.path()).unwrap_err();
    assert_eq!(failure.kind(), Kind::TryLater);
    assert!(failure.to_string().contains("app.db was locked by another process"), "{failure}");
}

#[test]
fn a_lock_that_goes_away_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let writer = other("exclusive", &path);
    std::thread::scope(|scope| {
        let dumping = scope.spawn(|| dump(&engine(&path)));
        drop(writer);
        dumping.join().unwrap().unwrap();
    });
}

// ---- what a dump tells ---------------------------------------------------------------------------------------------

#[test]
fn a_dump_tells_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(&engine(&path), &mut sink, scratch.path()).unwrap();
    assert_eq!(sink.streams.keys().collect::<Vec<_>>(), ["app.db"]);
    let counted = |name: &str| dumped.inventory[name];
    // Of the tables, five of fts5 and three of rtree keep what is in the virtual ones.
    assert_eq!((counted("tables"), counted("virtual tables"), counted("views")), (12, 2, 1));
    assert_eq!((counted("indexes"), counted("triggers")), (1, 1));
    assert_eq!(dumped.fingerprint.parts["table users"].count, 2002);
    assert_eq!(dumped.fingerprint.parts["table words_content"].count, 500);
    assert_eq!(dumped.fingerprint.parts["table empty"].count, 0);
    assert_eq!(dumped.fingerprint.parts["header"].digest, "user_version=7 application_id=0 encoding=UTF-8");
    assert!(!dumped.fingerprint.parts.contains_key("table sqlite_stat1"));
    assert!(dumped.version.starts_with("SQLite 3."), "{}", dumped.version);
    assert!(dumped.notes[0].starts_with("journal mode delete: writers had to wait"), "{:?}", dumped.notes);
}

#[test]
fn the_fingerprint_sees_every_change_and_no_vacuum() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let was = fingerprint(&path).unwrap();
    sql(&path, "VACUUM; REINDEX; ANALYZE");
    assert_eq!(fingerprint(&path).unwrap(), was);
    let changes = [
        ("UPDATE users SET name = 'User 7' WHERE id = 7", "table users"),
        ("UPDATE users SET born = 2000 WHERE id = 8", "table users"),
        ("UPDATE users SET photo = CAST('x' AS BLOB) WHERE name = 'huge'", "table users"),
        ("DELETE FROM pairs WHERE b = 9", "table pairs"),
        ("INSERT INTO empty VALUES (NULL)", "table empty"),
        ("UPDATE words SET text = 'other' WHERE rowid = 3", "table words_content"),
        ("CREATE INDEX more ON users (born)", "schema"),
        ("PRAGMA user_version = 8", "header"),
        ("UPDATE sqlite_sequence SET seq = 5000", "table sqlite_sequence"),
    ];
    let mut before = was;
    for (change, part) in changes {
        sql(&path, change);
        let after = fingerprint(&path).unwrap();
        assert_ne!(after.parts[part], before.parts[part], "{change}");
        before = after;
    }
}

#[test]
fn a_big_table_is_the_same_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("one.db"), directory.path().join("other.db"));
    let rows = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 60000)";
    // The same rows, in one piece (small rowids), and in many with holes, up to the ends of what a rowid can be.
    sql(&one, &format!("CREATE TABLE t (x, y); {rows} INSERT INTO t SELECT n, 'row ' || n FROM s WHERE n <= 40000"));
    sql(
        &other,
        &format!(
            "CREATE TABLE t (x, y); {rows} INSERT INTO t (rowid, x, y) SELECT n * 100, n, 'row ' || n FROM s WHERE n < 40000;
             INSERT INTO t (rowid, x, y) VALUES (9223372036854775807, 40000, 'row 40000');
             UPDATE t SET rowid = -9223372036854775808 WHERE x = 1"
        ),
    );
    let (one, other) = (fingerprint(&one).unwrap(), fingerprint(&other).unwrap());
    assert_eq!(one.parts["table t"].count, 40_000);
    assert_eq!(one, other);
}

#[test]
fn other_encodings_and_page_sizes_come_back() {
    for pragma in
        ["PRAGMA encoding = 'UTF-16le'", "PRAGMA page_size = 512", "PRAGMA page_size = 65536", "PRAGMA auto_vacuum = 1"]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b%c?d#e.db");
        sql(&path, &format!("{pragma}; CREATE TABLE t (x); INSERT INTO t VALUES ('ünï'), (zeroblob(70000))"));
        let origin = dump(&engine(&path)).unwrap();
        assert_eq!(origin.fingerprint, fingerprint(&restored(&path, &origin)).unwrap(), "{pragma}");
    }
}

// ---- bad input -----------------------------------------------------------------------------------------------------

/// The failure of a dump, after making sure that nothing went into the sink.
fn dump_failure(path: &Path) -> bkp::error::Failure {
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let failure = dump_into(&engine(path), &mut sink, scratch.path()).expect_err("the dump fails");
    assert_eq!(sink.read_bytes, 0, "something was dumped");
    failure
}

/// Overwrites the beginning of the root page of a table.
fn damage(path: &Path, table: &str) {
    let root = number(path, &format!("SELECT rootpage FROM sqlite_schema WHERE name = '{table}'")) as u64;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0x5A; 64], (root - 1) * 4096).unwrap();
}

#[test]
fn a_damaged_database_is_not_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    damage(&path, "pairs");
    let failure = dump_failure(&path);
    assert_eq!(failure.kind(), Kind::Verification);
    assert!(failure.to_string().contains("app.db is damaged"), "{failure}");
    assert!(failure.next_step().unwrap().contains(".recover"));
}

#[test]
fn a_damaged_index_is_not_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    sql(
        &path,
        "CREATE TABLE t (x TEXT); CREATE INDEX i ON t (x); INSERT INTO t VALUES ('one'), ('two');
         PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'i'; PRAGMA writable_schema = RESET;
         INSERT INTO t VALUES ('three');",
    );
    // The index comes back under the name of its root page, without the third row.
    let page = 3;
    sql(
        &path,
        &format!(
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('index', 'i', 't', {page}, 'CREATE INDEX i ON t (x)'); PRAGMA writable_schema = OFF"
        ),
    );
    let failure = dump_failure(&path);
    assert!(failure.full().contains("missing from index i"), "{}", failure.full());
}

#[test]
fn a_truncated_database_is_not_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    assert_eq!(dump_failure(&path).kind(), Kind::Verification);
}

#[test]
fn violated_constraints_are_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    sql(
        &path,
        "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
         CREATE TABLE parents (id INTEGER PRIMARY KEY);
         CREATE TABLE children (id INTEGER PRIMARY KEY, parent REFERENCES parents, CHECK (id < 3));
         INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, 1), (2, 8), (3, 9)",
    );
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(&engine(&path), &mut sink, scratch.path()).unwrap();
    assert_eq!(dumped.warnings, ["table children: 2 rows refer to rows of parents that do not exist (foreign key)"]);
    let origin = sink.into_origin(&dumped);
    assert_eq!(number(&restored(&path, &origin), "SELECT count(*) FROM children"), 3);
}

#[test]
fn what_only_the_application_can_do_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    sql(
        &path,
        "CREATE TABLE t (x TEXT, y INT, z INT CHECK (z > 0)); CREATE INDEX i ON t (x); CREATE INDEX j ON t (abs(y));
         CREATE TABLE other (x UNIQUE); INSERT INTO t VALUES ('a', 1, 1), ('b', 2, 2); INSERT INTO other VALUES (1);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'z > 0', 'only_the_application(z)') WHERE name = 't';
         UPDATE sqlite_schema SET sql = replace(sql, 'x TEXT', 'x TEXT COLLATE nobody') WHERE name = 't'",
    );
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(&engine(&path), &mut sink, scratch.path()).unwrap();
    assert_eq!(dumped.warnings, ["table t could not be checked: no such collation sequence: nobody"]);
    assert_eq!(dumped.fingerprint.parts["table t"].count, 2);
    let origin = sink.into_origin(&dumped);
    assert_eq!(fingerprint(&restored(&path, &origin)).unwrap(), origin.fingerprint);
}

#[test]
fn damage_is_found_beside_what_only_the_application_can_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    sql(
        &path,
        "CREATE TABLE t (x TEXT); CREATE INDEX i ON t (x);
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t (x TEXT COLLATE nobody)' WHERE name = 't'",
    );
    damage(&path, "pairs");
    assert_eq!(dump_failure(&path).kind(), Kind::Verification);
}

#[test]
fn what_is_no_database_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("text.db"), "this is not a database ".repeat(1000)).unwrap();
    std::fs::write(file("empty.db"), "").unwrap();
    let cases = [
        (file("text.db"), Kind::Failed, "is not a SQLite database, or it is encrypted"),
        (file("empty.db"), Kind::Failed, "is empty"),
        (file("gone.db"), Kind::Failed, "gone.db does not exist"),
        (directory.path().to_owned(), Kind::Usage, "is a directory"),
        ("/dev/null".into(), Kind::Usage, "is not a regular file"),
    ];
    for (path, kind, text) in cases {
        for failure in [engine(&path).preflight().unwrap_err(), dump_failure(&path)] {
            assert!(failure.to_string().contains(text), "{failure}");
            assert_eq!(failure.kind(), kind, "{failure}");
            assert!(kind == Kind::Usage || failure.next_step().is_some(), "{failure}");
        }
    }
}

#[test]
fn a_database_that_vanishes_after_the_preflight_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let engine = engine(&path);
    engine.preflight().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(dump_failure(&path).to_string().contains("does not exist"));
    assert_eq!(names(directory.path()), Vec::<String>::new(), "an empty database was made in its place");
}

#[test]
fn a_preflight_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    sql(&path, "PRAGMA journal_mode = WAL");
    assert_eq!(names(directory.path()), ["app.db"]);
    engine(&path).preflight().unwrap();
    assert_eq!(names(directory.path()), ["app.db"]);
}

/// Not a test of its own: what [`missing_permissions_are_named`] runs as another user.
#[test]
fn a_process_without_permission() {
    let Some(directory) = std::env::var_os("BKP_TEST_FORBIDDEN").map(PathBuf::from) else { return };
    let failure = |name: &str| engine(&directory.join(name)).preflight().unwrap_err();
    let unreadable = failure("unreadable.db");
    assert!(unreadable.to_string().contains("no permission to read") && unreadable.to_string().contains("mode 0"));
    assert!(unreadable.next_step().unwrap().contains("root"));
    let unwritable = failure("wal.db");
    assert!(unwritable.to_string().contains("is in WAL mode, and its directory is not writable"), "{unwritable}");
    assert!(dump_failure(&directory.join("wal.db")).to_string().contains("not writable"));
    let origin = dump(&engine(&directory.join("plain.db"))).unwrap();
    let theirs = directory.join("theirs/app.db");
    if rustix::process::getuid().as_raw() != std::fs::metadata(&theirs).unwrap().uid() {
        let live = Target::Live(Confirmed::by_name("app", "app").unwrap());
        let foreign = load_from(&engine(&theirs), &origin, &live).unwrap_err();
        assert!(foreign.to_string().contains("to its owner 0:0; nothing was changed"), "{foreign}");
        assert_eq!(names(&directory.join("theirs")), ["app.db"]);
    }
    println!("all looked at");
}

#[test]
fn missing_permissions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for name in ["unreadable.db", "wal.db", "plain.db"] {
        sql(&directory.path().join(name), "CREATE TABLE t (x)");
    }
    sql(&directory.path().join("wal.db"), "PRAGMA journal_mode = WAL");
    mode(&directory.path().join("unreadable.db"), 0);
    let theirs = directory.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    sql(&theirs.join("app.db"), "CREATE TABLE t (x)");
    mode(&theirs, 0o777);
    mode(&theirs.join("app.db"), 0o666);
    // A directory that the other user may enter: the one of the tests' own programs may be private.
    let program = tempfile::tempdir().unwrap();
    mode(program.path(), 0o755);
    let copy = program.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    mode(directory.path(), 0o555);
    let mut command = match rustix::process::getuid().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
            command
        }
        false => Command::new(&copy),
    };
    command.args(["--exact", "sqlite::a_process_without_permission", "--nocapture"]);
    let output = command.env("BKP_TEST_FORBIDDEN", directory.path()).current_dir("/").output().unwrap();
    mode(directory.path(), 0o755);
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("all looked at"), "{told}{complained}");
}

#[test]
fn a_missing_spool_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    fill(&path);
    let scratch = tempfile::tempdir().unwrap();
    let missing = scratch.path().join("missing");
    let failure = dump_into(&engine(&path), &mut MemorySink::new(), &missing).unwrap_err();
    assert!(failure.to_string().contains("missing/copy.db"), "{failure}");
}

// ---- restore into a new file ---------------------------------------------------------------------------------------

#[test]
fn a_wal_of_another_database_is_not_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("app.db"), directory.path().join("new.db"));
    fill(&path);
    let origin = dump(&engine(&path)).unwrap();
    std::fs::write(directory.path().join("new.db-wal"), "old").unwrap();
    let failure = load_from(&engine(&path), &origin, &new(&target)).unwrap_err();
    assert_eq!(failure.kind(), Kind::Refused);
    assert!(failure.to_string().contains("new.db-wal is left of another database"), "{failure}");
    assert_eq!(names(directory.path()), ["app.db", "new.db-wal"]);
}

#[test]
fn what_differs_from_the_dump_is_listed_by_table() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("app.db"), directory.path().join("new.db"));
    fill(&path);
    let mut origin = dump(&engine(&path)).unwrap();
    origin.fingerprint.parts.get_mut("table users").unwrap().count += 1;
    origin.fingerprint.parts.remove("table empty");
    let failure = load_from(&engine(&path), &origin, &new(&target)).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification);
    let text = failure.full();
    assert!(
        text.contains("table users: 2002 rows instead of 2003")
            && text.contains("table empty: the source did not have it"),
        "{text}"
    );
    assert_eq!(names(directory.path()), ["app.db"]);
}

#[test]
fn a_stream_that_is_no_database_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (path, target) = (directory.path().join("app.db"), directory.path().join("new.db"));
    fill(&path);
    let mut origin = dump(&engine(&path)).unwrap();
    let bytes = origin.streams.get_mut("app.db").unwrap();
    bytes.truncate(bytes.len() / 2);
    let failure = load_from(&engine(&path), &origin, &new(&target)).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification, "{}", failure.full());
    assert_eq!(names(directory.path()), ["app.db"]);
    let failure = load_from(&engine(&path), &origin, &Target::Command).unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
}
