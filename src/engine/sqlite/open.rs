//! Connections to databases: a living source, a still file, and what the errors of SQLite mean to a user.

use super::place;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long SQLite itself waits for a lock before [`patiently`] looks at the signal and the clock again.
const BREATH: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(10);
/// Page cache of one connection, in KiB. Scans pass by it, `integrity_check` profits.
const CACHE: i64 = 16 << 10;

/// A connection that only reads a source others may be writing to. Its end neither checkpoints nor removes the `-wal`.
///
/// Only where a crashed application left work that SQLite must finish before anybody can read (a hot journal), it is
/// opened for writing, and SQLite does what the next start of the application would do.
pub fn source(path: &Path, patience: Duration, cancel: &Cancel) -> Result<Connection> {
    let connection = begin(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| failure(e, path))?;
    let read = patiently(path, patience, cancel, || touch(&connection).map(Some));
    match read {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(error)) if unfinished(&error) => {
            drop(connection);
            let connection = begin(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|e| failure(e, path))?;
            patiently(path, patience, cancel, || touch(&connection).map(Some))?.map_err(|e| failure(e, path))?;
            Ok(connection)
        }
        Ok(Err(error)) => Err(failure(error, path)),
        Err(failure) => Err(failure),
    }
}

fn begin(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BREATH)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))
}

fn unfinished(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|e| e.extended_code);
    matches!(code, Some(ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY))
}

/// Repeats `attempt` while somebody else holds a lock (`Ok(None)`, or busy as an error), for as long as `patience` lasts.
/// Other errors of SQLite come back as they are.
pub fn patiently<T>(
    path: &Path,
    patience: Duration,
    cancel: &Cancel,
    mut attempt: impl FnMut() -> rusqlite::Result<Option<T>>,
) -> Result<rusqlite::Result<T>> {
    let begun = Instant::now();
    loop {
        cancel.check()?;
        match attempt() {
            Ok(Some(value)) => return Ok(Ok(value)),
            Ok(None) => {}
            Err(error) if busy(&error) => {}
            Err(error) => return Ok(Err(error)),
        }
        cancel.check()?;
        if begun.elapsed() >= patience {
            return Err(Failure::new(
                Kind::TryLater,
                format!("{} was locked by another process for {} s", path.display(), begun.elapsed().as_secs()),
            )
            .hint("Look for a transaction that was left open in the application, and run the command again"));
        }
        std::thread::sleep(PAUSE); // SQLite does not wait where that could be a deadlock
    }
}

/// Runs long queries on `connection`, and stops them when a signal comes: they fail then.
pub fn interruptible<T>(connection: &Connection, cancel: &Cancel, work: impl FnOnce() -> T) -> T {
    let handle = connection.get_interrupt_handle();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(PAUSE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if cancel.check().is_err() {
                    handle.interrupt();
                }
            }
        });
        let outcome = work();
        drop(done);
        outcome
    })
}

pub fn busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// A connection to a file that nobody changes. Makes no file beside it and takes no lock.
pub fn still(path: &Path) -> Result<Connection> {
    let connect = || {
        let mode = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(immutable(path), mode)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        touch(&connection)?;
        Ok(connection)
    };
    connect().map_err(|e| failure(e, path))
}

fn immutable(path: &Path) -> String {
    let mut name = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(*byte as char),
            other => write!(name, "%{other:02X}").expect("a string takes all text"),
        }
    }
    name.push_str("?immutable=1");
    name
}

/// Whether `path` is a database that can be read, leaving no trace: a reader in WAL mode would create the files beside it.
pub fn glance(path: &Path) -> Result<()> {
    let in_use = place::beside(path, "-wal").exists() || place::beside(path, "-journal").exists();
    if in_use || !place::directory_is_writable(path) {
        let connection = begin(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| failure(e, path))?;
        return match touch(&connection) {
            Err(error) if !busy(&error) && !unfinished(&error) => Err(failure(error, path)),
            _ => Ok(()),
        };
    }
    still(path).map(|_| ())
}

fn unwritable(path: &Path) -> Failure {
    Failure::failed(format!(
        "{} is in WAL mode, and its directory is not writable: readers need to make {}-shm there",
        path.display(),
        path.file_name().unwrap_or_default().to_string_lossy()
    ))
    .hint("Mount the directory writable for bkp, and run it as root or as the owner of the database")
}

/// What an error of SQLite about `path` means.
pub fn failure(error: rusqlite::Error, path: &Path) -> Failure {
    let shown = path.display();
    let extended = error.sqlite_error().map(|e| e.extended_code);
    let failure = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Failure::failed(format!(
            "{shown} is not a SQLite database, or it is encrypted"
        ))
        .hint(
            "Check the path; an encrypted database (SQLCipher) can be backed up as a file or with the engine `command`",
        ),
        Some(ErrorCode::DatabaseCorrupt) => {
            Failure::new(Kind::Verification, format!("the database {shown} is damaged"))
                .hint(format!("Restore an earlier point, or save what can be saved: sqlite3 {shown} .recover"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Failure::new(Kind::TryLater, format!("{shown} is locked by another process"))
        }
        Some(ErrorCode::DiskFull) => Failure::failed(format!("no space left while {shown} was written"))
            .hint("Free some space on that file system and run the command again; nothing half-made was kept"),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            if extended != Some(ffi::SQLITE_READONLY_ROLLBACK) && !place::directory_is_writable(path) =>
        {
            unwritable(path)
        }
        _ => Failure::failed(format!("SQLite cannot work with {shown}")),
    };
    failure.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_a_query_that_would_never_end() {
        let connection = Connection::open_in_memory().unwrap();
        let cancel = Cancel::default();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| cancel.set(Kind::Terminated));
            interruptible(&connection, &cancel, || connection.query_row(endless, [], |row| row.get::<_, i64>(0)))
        });
        assert_eq!(outcome.unwrap_err().sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
    }
}
