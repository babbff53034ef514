//! Containers that stand still while something is copied or replaced, and go on afterwards, whatever happens.
//!
//! Before the first container is touched, a record of all of them is on disk, and a guard waits for the end of a pipe that only
//! this process holds: when bkp is killed, the guard lets them go on. When both are gone (power lost), the next run that calls
//! [`recover`] does. A record belongs to whoever holds its lock; nobody else touches what is in it.
//! It does not decide which containers these are.

use super::private;
use crate::durable::{self, Lock};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::exec::docker::{Docker, Quiet, WritingContainer};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The hidden command that [`guard`] runs in.
pub const GUARD: &str = "let-containers-go-on";

#[derive(Serialize, Deserialize)]
struct Still {
    id: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    how: Quiet,
    containers: Vec<Still>,
}

/// Containers that stand still until this is released or dropped.
pub struct Held {
    record: PathBuf,
    content: Record,
    guard: Option<Child>,
    since: Instant,
    _lock: Lock,
}

/// Makes `containers` stand still, in this order. When one cannot, those before it go on again.
pub fn hold(state: &Path, how: Quiet, containers: Vec<WritingContainer>) -> Result<Held> {
    let containers = containers.into_iter().map(|c| Still { id: c.id, name: c.name }).collect();
    let directory = records(state);
    private(&directory)?;
    let record = directory.join(format!("{}.json", durable::random_hex(8)));
    let lock = Lock::take(&record.with_extension("lock"), "containers that stand still")?;
    let content = Record { how, containers };
    let bytes =
        serde_json::to_vec(&content).map_err(|e| Failure::failed("cannot write down what is stopped").because(e))?;
    durable::write(&record, &bytes, 0o600).context(|| format!("cannot write {}", record.display()))?;
    let guard = start_guard(&record)?;
    let mut held = Held { record, content, guard: Some(guard), since: Instant::now(), _lock: lock };
    durable::crash_point("quiesce:recorded");
    let docker = Docker::connect()?;
    for container in &held.content.containers {
        if let Err(failure) = docker.quiet(&container.id, how) {
            held.let_go()?;
            return Err(failure);
        }
    }
    durable::crash_point("quiesce:still");
    held.since = Instant::now();
    Ok(held)
}

impl Held {
    /// Lets the containers go on, and tells for how long they stood still.
    pub fn release(mut self) -> Result<Duration> {
        let stood = self.since.elapsed();
        self.let_go()?;
        Ok(stood)
    }

    fn let_go(&mut self) -> Result<()> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        let outcome = resume(&self.record, &self.content);
        if let (Ok(()), Some(mut pipe)) = (&outcome, guard.stdin.take()) {
            let _ = pipe.write_all(b"done");
        }
        // Without that word the guard tries as well.
        drop(guard.stdin.take());
        let _ = guard.wait();
        outcome
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.let_go();
    }
}

fn records(state: &Path) -> PathBuf {
    state.join("still")
}

fn start_guard(record: &Path) -> Result<Child> {
    let program = std::env::current_exe().context(|| "cannot find out which program this is".into())?;
    std::process::Command::new(program)
        .arg(GUARD)
        .arg(record)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A signal to bkp's group must not take the guard along.
        .process_group(0)
        .spawn()
        .context(|| "cannot start the guard that lets containers go on".into())
}

/// Waits for the end of standard input; lets the containers of `record` go on unless it was told that they do.
pub fn guard(record: &Path) -> Result<()> {
    let mut told = String::new();
    let _ = std::io::stdin().read_to_string(&mut told);
    if told == "done" { Ok(()) } else { resume_recorded(record).map(drop) }
}

/// Lets go on what a run that was killed left standing still. Gives the names.
pub fn recover(state: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(records(state)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Failure::from_io(e, || format!("cannot list {}", records(state).display()))),
    };
    let mut names = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "json")) {
        match Lock::take(&path.with_extension("lock"), "containers that stand still") {
            Ok(_lock) => names.extend(resume_recorded(&path)?),
            Err(failure) if failure.kind() == Kind::Locked => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(names)
}

fn resume_recorded(path: &Path) -> Result<Vec<String>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Failure::from_io(e, || format!("cannot read {}", path.display()))),
    };
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::failed(format!("{} is not what bkp wrote", path.display())).because(e))?;
    resume(path, &record)?;
    Ok(record.containers.into_iter().map(|container| container.name).collect())
}

/// In the opposite order; the record goes when all of them run.
fn resume(path: &Path, record: &Record) -> Result<()> {
    let docker = Docker::connect()?;
    let mut outcome = Ok(());
    for container in record.containers.iter().rev() {
        if let Err(failure) = docker.go_on(&container.id, record.how) {
            outcome =
                Err(failure.hint(format!("Start it yourself: docker {} {}", record.how.undone_by(), container.name)));
        }
    }
    if outcome.is_ok() {
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(path.with_extension("lock"));
    }
    outcome
}
