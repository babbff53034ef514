//! From a living database to a stream: copy it under one read lock, check the copy, send it.
//!
//! A backup in steps begins anew whenever somebody has written between two of them, and never ends, unless its connection keeps
//! a read transaction open over all of them: then every step sees the same snapshot. In WAL mode writers do not notice; with a
//! rollback journal they wait until the copy is made (`notes` says how long). A signal is seen between the steps.
//! `consistent_at` is read just before the transaction: all that was committed by then is in the copy.

use super::{check, fingerprint, open};
use crate::clock;
use crate::engine::transfer::Metered;
use crate::engine::{DumpRun, Dumped, Fingerprint, Sink};
use crate::error::{Context as _, Failure, Kind, Result};
use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Pages between two looks at the signal: a fraction of a second of copying.
const PAGES: i32 = 8192;
/// Where the number of the library that wrote the file last stands in its header.
const WRITER_AT: u64 = 96;

/// Dumps the database `path` as the stream `name`.
pub fn dump(path: &Path, name: &str, patience: Duration, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
    let copy = run.scratch.join("copy.db");
    let (consistent_at, waited) = copy_in_one_step(path, &copy, patience, run)?;
    let (warnings, fingerprint) = std::thread::scope(|scope| {
        let checks = scope.spawn(|| check::sound(&copy, path, run.context.cancel));
        let fingerprint = fingerprint::of_still(&copy, path, run.context.cancel);
        // The check comes first: of a damaged file it knows more than that it could not be read.
        let warnings = checks.join().expect("a check does not panic")?;
        Ok::<_, Failure>((warnings, fingerprint?))
    })?;
    let inventory = inventory(&copy, path, &fingerprint)?;
    let version = version(&copy)?;
    send(path, name, &copy, sink, run)?;
    std::fs::remove_file(&copy).context(|| format!("cannot remove {}", copy.display()))?;
    Ok(Dumped {
        position: None,
        details: serde_json::Value::Null,
        version,
        consistent_at,
        inventory,
        fingerprint,
        warnings,
        notes: waited.into_iter().collect(),
        restore_hint: format!(
            "this stream is the database file: stop the application, remove {0}-wal, {0}-shm and {0}-journal, and put it in their place",
            path.display()
        ),
    })
}

/// Makes the copy; gives the instant it stands for, and a note where writers had to wait.
fn copy_in_one_step(
    path: &Path,
    copy: &Path,
    patience: Duration,
    run: &DumpRun<'_>,
) -> Result<(Timestamp, Option<String>)> {
    let cancel = run.context.cancel;
    let source = open::source(path, patience, cancel)?;
    let spool = |error| {
        let failure = open::failure(error, copy);
        Failure::new(failure.kind(), format!("cannot copy {} into {}", path.display(), run.scratch.display()))
            .because(failure.full())
            .hint("The directory for spool files needs as much space as the database has")
    };
    File::create_new(copy).context(|| format!("cannot create {}", copy.display()))?;
    let mut destination = Connection::open(copy).map_err(spool)?;
    // A spool file that a crash leaves behind is of no use: no journal, no waiting for the disk.
    destination.pragma_update(None, "synchronous", "OFF").map_err(spool)?;
    destination.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(())).map_err(spool)?;
    let step = |destination: &mut Connection| {
        let mut moment = (clock::now(), Instant::now());
        let done = open::patiently(path, patience, cancel, || {
            moment = (clock::now(), Instant::now());
            // The first read takes the lock, and the snapshot with it.
            let held = source.unchecked_transaction()?;
            held.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            let backup = Backup::new(&source, destination)?;
            loop {
                match backup.step(PAGES)? {
                    StepResult::Done => return Ok(Some(())),
                    StepResult::More if cancel.check().is_err() => return Ok(None),
                    StepResult::More => {}
                    // Nothing that was copied counts: it is begun anew.
                    _ => return Ok(None),
                }
            }
        })?;
        done.map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => spool(error),
            _ => open::failure(error, path),
        })?;
        Ok::<_, Failure>(moment)
    };
    let (at, begun) = step(&mut destination)?;
    let took = begun.elapsed();
    let mode: String =
        source.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(|error| open::failure(error, path))?;
    let note = (mode != "wal").then(|| {
        let seconds = took.as_secs_f64();
        format!(
            "journal mode {mode}: writers had to wait up to {seconds:.1} s for the copy; in WAL mode they would not"
        )
    });
    destination.close().map_err(|(_, error)| spool(error))?;
    Ok((at, note))
}

fn send(path: &Path, name: &str, copy: &Path, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<()> {
    let file = File::open(copy).context(|| format!("cannot read the copy of {}", path.display()))?;
    let size = file.metadata().context(|| format!("cannot look at the copy of {}", path.display()))?.len();
    run.context.meter.total_bytes.fetch_add(size, Relaxed);
    let mut data = Metered::new(file, run.context);
    sink.stream(name, &mut data)?;
    if data.ended() && data.bytes() == size {
        return Ok(());
    }
    let text = format!("only {} of {size} bytes of the copy of {} were stored", data.bytes(), path.display());
    Err(Failure::new(Kind::Failed, text))
}

fn inventory(copy: &Path, shown: &Path, fingerprint: &Fingerprint) -> Result<BTreeMap<String, u64>> {
    let connection = open::still(copy)?;
    let count = |condition: &str| {
        let query = format!("SELECT count(*) FROM main.sqlite_schema WHERE {condition}");
        let found = connection.query_row(&query, [], |row| row.get::<_, i64>(0));
        found.map(i64::cast_unsigned).map_err(|e| open::failure(e, shown))
    };
    Ok(BTreeMap::from([
        ("indexes".into(), count("type = 'index' AND sql IS NOT NULL")?),
        ("rows".into(), fingerprint::rows(fingerprint)),
        ("tables".into(), count("type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?),
        ("triggers".into(), count("type = 'trigger'")?),
        ("views".into(), count("type = 'view'")?),
        ("virtual tables".into(), count("type = 'table' AND rootpage = 0")?),
    ]))
}

fn version(copy: &Path) -> Result<String> {
    let mut number = [0; 4];
    let file = File::open(copy).context(|| format!("cannot read {}", copy.display()))?;
    file.read_exact_at(&mut number, WRITER_AT).context(|| format!("cannot read {}", copy.display()))?;
    let writer = u32::from_be_bytes(number);
    let (major, minor, patch) = (writer / 1_000_000, writer / 1000 % 1000, writer % 1000);
    Ok(format!("SQLite {} (file last written by {major}.{minor}.{patch})", rusqlite::version()))
}
