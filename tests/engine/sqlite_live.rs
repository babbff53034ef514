//! A restored SQLite database in the place of the living one: never a mixture, never under the feet of its users.

use crate::memory_sink::{MemoryOrigin, load_from, load_over};
use crate::sqlite::{engine, fill, number, other, sql};
use crate::{dump, names};
use bkp::durable;
use bkp::engine::sqlite::fingerprint;
use bkp::engine::{Confirmed, Fingerprint, Target};
use bkp::error::{Failure, Kind, Result};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn live() -> Target {
    Target::Live(Confirmed::by_name("app", "app").unwrap())
}

fn restore(path: &Path, origin: &MemoryOrigin) -> Result<bkp::engine::Loaded> {
    // What is broken has no copy.
    let copy = dump(&engine(path).patience(Duration::from_millis(100))).ok().map(|now| now.fingerprint);
    restore_over(path, origin, copy.as_ref())
}

fn restore_over(path: &Path, origin: &MemoryOrigin, copy: Option<&Fingerprint>) -> Result<bkp::engine::Loaded> {
    load_over(&engine(path).patience(Duration::from_millis(100)), origin, &live(), copy)
}

/// A database in WAL mode, a dump of it, and after that a commit that is only in the `-wal` of a writer that crashed.
fn crashed(directory: &Path) -> (PathBuf, MemoryOrigin) {
    let path = directory.join("app.db");
    fill(&path);
    sql(&path, "PRAGMA journal_mode = WAL");
    let origin = dump(&engine(&path)).unwrap();
    drop(other("wal", &path));
    assert!(std::fs::metadata(directory.join("app.db-wal")).unwrap().len() > 0);
    (path, origin)
}

#[test]
fn the_wal_of_the_old_database_is_not_applied_to_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let (path, origin) = crashed(directory.path());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let root = rustix::process::getuid().is_root();
    if root {
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    }
    let old = std::fs::metadata(&path).unwrap();
    let loaded = restore(&path, &origin).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(names(directory.path()), ["app.db"]);
    let new = std::fs::metadata(&path).unwrap();
    assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));
    assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint);
    assert_eq!(number(&path, "SELECT count(*) FROM sqlite_schema WHERE name = 'late'"), 0, "the old -wal was applied");
    assert_eq!(std::fs::read(&path).unwrap()[18], 2, "the database is in WAL mode again");
}

#[test]
fn what_was_written_after_the_copy_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (path, origin) = crashed(directory.path());
    let loaded = restore_over(&path, &origin, Some(&origin.fingerprint)).unwrap();
    assert!(loaded.warnings[0].contains("not what the safety backup holds"), "{:?}", loaded.warnings);
    let names = names(directory.path());
    let kept = names.iter().find(|name| name.contains(".replaced-")).unwrap();
    let late = "SELECT count(*) FROM sqlite_schema WHERE name = 'late'";
    assert_eq!((number(&directory.path().join(kept), late), number(&path, late)), (1, 0));
}

#[test]
fn a_restore_goes_through_a_symbolic_link() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real");
    std::fs::create_dir(&real).unwrap();
    let (path, origin) = crashed(&real);
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    restore(&link, &origin).unwrap();
    assert!(link.is_symlink());
    assert_eq!(names(&real), ["app.db"]);
    assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint);
}

fn assert_refused(failure: &Failure, directory: &Path, before: &[String]) {
    assert_eq!(failure.kind(), Kind::Locked, "{}", failure.full());
    assert!(failure.to_string().contains("app.db is in use"), "{failure}");
    assert!(failure.next_step().unwrap().contains("Stop the application"));
    assert_eq!(names(directory), before);
}

#[test]
fn a_database_that_a_process_has_open_is_not_replaced() {
    for (mode, role) in
        [("WAL", "write"), ("WAL", "idle"), ("DELETE", "write"), ("DELETE", "exclusive"), ("DELETE", "idle")]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        fill(&path);
        sql(&path, &format!("PRAGMA journal_mode = {mode}"));
        let origin = dump(&engine(&path)).unwrap();
        let user = other(role, &path);
        let before = names(directory.path());
        let failure = restore(&path, &origin).unwrap_err();
        assert_refused(&failure, directory.path(), &before);
        assert!(failure.to_string().contains("by process "), "{failure}");
        drop(user);
        restore(&path, &origin).unwrap();
        assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint, "{mode} {role}");
    }
}

#[test]
fn a_lock_alone_is_enough_to_refuse() {
    // Held by this process, which is not in the list of others: as by one whose open files bkp may not see.
    for (mode, statements) in [
        ("WAL", "SELECT * FROM users"),
        ("WAL", "BEGIN IMMEDIATE"),
        ("DELETE", "BEGIN IMMEDIATE"),
        ("DELETE", "BEGIN; SELECT * FROM users"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        fill(&path);
        sql(&path, &format!("PRAGMA journal_mode = {mode}"));
        let origin = dump(&engine(&path)).unwrap();
        let user = rusqlite::Connection::open(&path).unwrap();
        user.execute_batch(statements).unwrap();
        let before = names(directory.path());
        let failure = restore(&path, &origin).unwrap_err();
        assert_refused(&failure, directory.path(), &before);
        let now: String = user.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(now, mode.to_lowercase());
        drop(user);
        assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint);
    }
}

#[test]
fn a_broken_database_is_replaced_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (path, origin) = crashed(directory.path());
    std::fs::write(&path, "not a database any more ".repeat(500)).unwrap();
    let wal = std::fs::read(directory.path().join("app.db-wal")).unwrap();
    let loaded = restore(&path, &origin).unwrap();
    assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint);
    assert!(loaded.warnings[0].contains("app.db.replaced-"), "{:?}", loaded.warnings);
    let names = names(directory.path());
    let kept = |end: &str| names.iter().find(|n| n.contains(".replaced-") && n.ends_with(end)).unwrap();
    assert_eq!(std::fs::read(directory.path().join(kept("-wal"))).unwrap(), wal);
    assert_eq!(names.iter().filter(|n| !n.contains(".replaced-")).collect::<Vec<_>>(), ["app.db"]);
}

#[test]
fn a_database_that_is_gone_comes_back_without_its_old_wal() {
    let directory = tempfile::tempdir().unwrap();
    let (path, origin) = crashed(directory.path());
    std::fs::remove_file(&path).unwrap();
    let loaded = restore(&path, &origin).unwrap();
    assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint);
    assert!(loaded.warnings.iter().any(|w| w.contains("app.db was absent")), "{:?}", loaded.warnings);
    assert!(!directory.path().join("app.db-wal").exists());
}

/// Not a test of its own: the restore that [`a_crash_leaves_the_old_or_the_new_database`] kills.
#[test]
fn a_process_that_restores() {
    let Some(directory) = std::env::var_os("BKP_TEST_RESTORE").map(PathBuf::from) else { return };
    let path = directory.join("app.db");
    let origin = dump(&engine(&directory.join("wanted.db"))).unwrap();
    restore(&path, &origin).unwrap();
}

#[test]
fn a_crash_leaves_the_old_or_the_new_database() {
    let points = durable::CRASH_POINTS.iter().filter(|point| point.starts_with("restore:"));
    for (point, broken) in points.flat_map(|point| [(*point, false), (*point, true)]) {
        let directory = tempfile::tempdir().unwrap();
        let (path, origin) = crashed(directory.path());
        if broken {
            std::fs::write(&path, "not a database any more ".repeat(500)).unwrap();
        }
        load_from(&engine(&path), &origin, &crate::new(&directory.path().join("wanted.db"))).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite_live::a_process_that_restores"])
            .env("BKP_TEST_RESTORE", directory.path())
            .env("BKP_CRASH_AT", point)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "{point} was not reached");
        if path.exists() && !broken {
            // Opened as the application would: the old one with all that was in its -wal, or the new one with nothing of it.
            let late = number(&path, "SELECT count(*) FROM sqlite_schema WHERE name = 'late'");
            let expected = i64::from(point != "restore:after-live");
            assert_eq!(late, expected, "{point}");
            assert_eq!(number(&path, "SELECT count(*) FROM users"), 2002, "{point}");
        }
        restore(&path, &origin).unwrap();
        assert_eq!(fingerprint(&path).unwrap(), origin.fingerprint, "{point}");
    }
}

#[test]
fn a_database_of_many_steps_is_copied_as_of_one_instant_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    sql(&path, "PRAGMA journal_mode = WAL; CREATE TABLE filler(data); CREATE TABLE a(n); CREATE TABLE b(n)");
    // Several times what one step copies.
    sql(
        &path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1600) INSERT INTO filler SELECT randomblob(65536) FROM n",
    );
    let over = std::sync::atomic::AtomicBool::new(false);
    let origin = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::from_secs(10)).unwrap();
            let mut commits = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) || commits == 0 {
                connection
                    .execute_batch("BEGIN IMMEDIATE; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); COMMIT")
                    .unwrap();
                commits += 1;
            }
        });
        let origin = dump(&engine(&path));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        origin.unwrap()
    });
    let count = |table: &str| origin.fingerprint.parts[&format!("table {table}")].count;
    assert_eq!(count("filler"), 1600);
    assert_eq!(count("a"), count("b"), "the copy is not of one instant");
}
