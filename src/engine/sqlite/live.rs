//! A restored database in the place of the living one, so that it never meets the `-wal` or journal of the old one.
//!
//! 1. The new database is written, checked and compared beside the old one.
//! 2. Refused while another process has the old one open. SQLite is made to settle the old one: its journal or `-wal` is
//!    applied to it and removed (`journal_mode = DELETE`), then it is locked. A crash here leaves the old database, whole.
//! 3. One rename replaces it, under the lock. Before: the old database alone; after: the new one alone. Where no safety
//!    backup has it, the old one gets a second name first.
//!
//! An old database too broken for step 2 is moved out of the way first, then its journals, then the new one gets the name: a crash
//! in between leaves no database, with everything kept as `*.replaced-…`. Those are never deleted: no safety copy exists of them.
//! A program that is started during the rename itself may still hold the old file, so the application has to be stopped.

use super::load::{self, SUFFIXES};
use super::{fingerprint, open, place};
use crate::durable::{self, TempFile};
use crate::engine::transfer;
use crate::engine::{CHANGED, LoadRun, Loaded, NOT_COMPARED, Origin};
use crate::error::{Context as _, Failure, Kind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::FlockOperation;
use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What becomes of the old database.
enum Old {
    /// Settled, locked as long as the connection lives, and about to be replaced.
    Locked(Connection),
    /// SQLite cannot read it: to be moved away.
    Broken,
    Absent,
}

pub fn replace(origin: &dyn Origin, path: &Path, patience: Duration, run: &LoadRun<'_>) -> Result<Loaded> {
    // Through symbolic links, as SQLite does: the files beside the database are beside the real one.
    let path = match std::fs::canonicalize(path) {
        Ok(real) => real,
        Err(_) => std::path::absolute(path).context(|| format!("cannot resolve {}", path.display()))?,
    };
    let path = path.as_path();
    let old = std::fs::metadata(path).ok();
    if old.as_ref().is_some_and(|m| !m.is_file()) {
        return Err(Failure::usage(format!("{} is not a regular file", path.display())));
    }
    nobody_has_it(path)?;
    let (mut file, mut loaded) = load::receive(origin, path, run)?;
    match &old {
        Some(old) => same_owner(&mut file, old, path)?,
        None => {
            let text = format!("{} was absent: the new file belongs to the user bkp runs as", path.display());
            loaded.warnings.push(text);
        }
    }
    nobody_has_it(path)?;
    match settle(path, old.is_some(), patience, run)? {
        Old::Locked(connection) => {
            if let Some(why) = why_kept(&connection, path, run) {
                loaded.warnings.push(keep(path, &why)?);
            }
            durable::crash_point("restore:before-live");
            file.commit(path).context(|| format!("cannot replace {}", path.display()))?;
            durable::crash_point("restore:after-live");
            drop(connection); // the lock on the old file, which has no name any more
        }
        Old::Broken | Old::Absent => {
            loaded.warnings.extend(move_away(path)?);
            transfer::appear(file, path)?;
        }
    }
    Ok(loaded)
}

/// Why what is replaced must stay: no copy of it is known to hold all that it holds.
fn why_kept(connection: &Connection, path: &Path, run: &LoadRun<'_>) -> Option<String> {
    let Some(copy) = run.copy else { return Some("there is no whole copy of it".into()) };
    match fingerprint::of_locked(connection, path, run.context.cancel) {
        Ok(now) if fingerprint::differences(copy, &now).is_empty() => None,
        Ok(_) => Some(CHANGED.into()),
        Err(failure) => Some(format!("{NOT_COMPARED} ({})", failure.full())),
    }
}

/// The old database under a second name, before the new one takes its first. It is settled: no journal belongs to it.
fn keep(path: &Path, why: &str) -> Result<String> {
    let aside = place::beside(path, &replaced_mark());
    durable::also_name(path, &aside).map_err(|e| {
        Failure::from_io(e, || format!("cannot keep {} as {}; nothing was changed", path.display(), aside.display()))
            .hint("Copy it elsewhere by hand, or make the safety backup work")
    })?;
    Ok(format!("what was replaced is kept as {}: {why}; remove it when nothing in it is needed", aside.display()))
}

fn replaced_mark() -> String {
    format!(".replaced-{}", durable::random_hex(4))
}

/// The application could not open a database of another owner, so there is none.
fn same_owner(file: &mut TempFile, old: &Metadata, path: &Path) -> Result<()> {
    let (uid, gid) = (old.uid(), old.gid());
    std::os::unix::fs::fchown(file.file(), Some(uid), Some(gid)).map_err(|error| {
        Failure::failed(format!("cannot give {} to its owner {uid}:{gid}; nothing was changed", path.display()))
            .because(error)
            .hint("Run bkp as root or as the owner of the database")
    })?;
    // After the owner, whose change drops some bits of the mode.
    let mode = std::fs::Permissions::from_mode(old.mode() & 0o7777);
    file.file().set_permissions(mode).context(|| format!("cannot set the mode of {}", path.display()))
}

fn locked(path: &Path, by: &str) -> Failure {
    Failure::new(Kind::Locked, format!("{} is in use{by}; nothing was changed", path.display()))
        .hint("Stop the application that uses it and run the command again")
}

/// Looks at the open files of all processes that may be looked at: an idle connection without WAL holds no lock, and
/// would go on writing into the old file.
fn nobody_has_it(path: &Path) -> Result<()> {
    let Ok(file) = std::fs::metadata(path) else { return Ok(()) };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Ok(()) };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let mut open = descriptors.flatten().filter_map(|fd| std::fs::metadata(fd.path()).ok());
        if pid != std::process::id() && open.any(|found| (found.dev(), found.ino()) == (file.dev(), file.ino())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Err(locked(path, &format!(" by process {pid} ({})", name.trim())));
        }
    }
    Ok(())
}

fn settle(path: &Path, exists: bool, patience: Duration, run: &LoadRun<'_>) -> Result<Old> {
    if !exists {
        return Ok(Old::Absent);
    }
    match settle_with_sqlite(path, patience, run) {
        Ok(settled) => {
            let connection = settled?;
            remove_leftovers(path)?;
            Ok(Old::Locked(connection))
        }
        Err(error) if broken(&error) => {
            nobody_locks_it(path)?;
            Ok(Old::Broken)
        }
        Err(error) => Err(open::failure(error, path)),
    }
}

/// What is still there under the exclusive lock was of no use to SQLite, such as a journal that never became hot.
fn remove_leftovers(path: &Path) -> Result<()> {
    for suffix in SUFFIXES {
        let left = place::beside(path, suffix);
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::from_io(error, || format!("cannot remove {}", left.display())));
            }
            _ => {}
        }
    }
    durable::sync_directory(durable::parent_of(path)).context(|| format!("cannot sync beside {}", path.display()))
}

fn broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure | ErrorCode::Unknown)
    )
}

/// The outer error is one of SQLite that is not about locks.
fn settle_with_sqlite(path: &Path, patience: Duration, run: &LoadRun<'_>) -> rusqlite::Result<Result<Connection>> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_millis(250))?;
    let locking = open::patiently(path, patience, run.context.cancel, || {
        let mode: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
        if mode != "delete" {
            return Ok(None);
        }
        connection.execute_batch("BEGIN EXCLUSIVE").map(Some)
    });
    match locking {
        Ok(Ok(())) => Ok(Ok(connection)),
        Ok(Err(error)) => Err(error),
        Err(failure) if failure.kind() == Kind::TryLater => Ok(Err(locked(path, ""))),
        Err(failure) => Ok(Err(failure)),
    }
}

/// Every user of a database in WAL mode, and every transaction otherwise, holds a POSIX lock on the file.
fn nobody_locks_it(path: &Path) -> Result<()> {
    let file: File =
        OpenOptions::new().read(true).write(true).open(path).context(|| format!("cannot open {}", path.display()))?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Err(locked(path, "")),
        Err(error) => Err(Failure::failed(format!("cannot lock {}", path.display())).because(error)),
    }
}

/// Moves the database first, so that no journal is ever missing from under its name, then what belongs to it.
fn move_away(path: &Path) -> Result<Vec<String>> {
    let mark = replaced_mark();
    let mut warnings = Vec::new();
    for suffix in [""].into_iter().chain(SUFFIXES) {
        let from = place::beside(path, suffix);
        if from.symlink_metadata().is_ok() {
            let to: PathBuf = place::beside(&place::beside(path, &mark), suffix);
            durable::move_new(&from, &to).context(|| format!("cannot move {} away", from.display()))?;
            warnings.push(format!(
                "{} could not be settled by SQLite and was kept as {}",
                from.display(),
                to.display()
            ));
        }
    }
    Ok(warnings)
}
