//! Containers that stand still while something is copied or replaced, and go on afterwards, whatever happens.
//!
//! Before the first container is touched, a record of all of them is on disk, and a guard waits for the end of a pipe that only
//! this process holds: when bkp is killed, the guard lets them go on. When both are gone (power lost), the next run that calls
//! [`recover`] does. A record lives as long as its lock is held. One container may stand in several living records: it goes on
//! with the last of them. Records are looked at and containers go on only in turn (`turn`), whichever process it is.
//! It does not decide which containers these are.

use super::private;
use crate::durable::{self, Lock};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::exec::docker::{Docker, Quiet, State, Went, WritingContainer};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The hidden command that [`guard`] runs in.
pub const GUARD: &str = "let-containers-go-on";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Still {
    id: String,
    name: String,
    how: Quiet,
}

#[derive(Serialize, Deserialize)]
struct Record {
    containers: Vec<Still>,
}

/// Containers that stand still until this is released or dropped.
pub struct Held {
    record: PathBuf,
    content: Record,
    guard: Option<Child>,
    since: Instant,
    /// Paused by somebody else, who lets them go on.
    by_others: Vec<String>,
    lock: Option<Lock>,
}

/// How those that stood still went on.
#[derive(Debug, Default)]
pub struct Released {
    pub stood: Duration,
    /// What must be told: a container that did not go on.
    pub warnings: Vec<String>,
}

/// What came of the containers of runs that were killed.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Names of those that go on now.
    pub went_on: Vec<String>,
    /// Of those that could not.
    pub warnings: Vec<String>,
}

/// Makes `containers` stand still, in this order. When one cannot, those before it go on again.
pub fn hold(state: &Path, how: Quiet, containers: &[WritingContainer]) -> Result<Held> {
    let directory = records(state);
    private(&directory)?;
    let docker = Docker::connect()?;
    let mut held = claim(&directory, &docker, how, containers)?;
    durable::crash_point("quiesce:recorded");
    for container in &held.content.containers {
        // Also those of other records: their runs may only be about to.
        if let Err(failure) = docker.quiet(&container.id, container.how) {
            held.let_go();
            return Err(failure);
        }
    }
    durable::crash_point("quiesce:still");
    held.since = Instant::now();
    Ok(held)
}

/// Writes down which of them this run makes stand still, in its turn.
fn claim(directory: &Path, docker: &Docker, how: Quiet, containers: &[WritingContainer]) -> Result<Held> {
    let _turn = turn(directory)?;
    resume_dead(directory)?;
    let others = living(directory, None)?;
    let (mut still, mut by_others) = (Vec::new(), Vec::new());
    for container in containers {
        let name = &container.name;
        let one = |how| Still { id: container.id.clone(), name: name.clone(), how };
        let state = docker.state(&container.id)?;
        match (others.iter().find(|other| other.id == container.id), state) {
            (_, State::Gone) => {}
            (Some(other), _) if other.how == Quiet::Pause && how == Quiet::Stop => {
                return Err(Failure::new(Kind::TryLater, format!("container {name} is paused for another run of bkp"))
                    .hint("Run the command again when that has ended"));
            }
            (Some(other), _) => still.push(one(other.how)),
            (None, State::Running) => still.push(one(how)),
            (None, State::Restarting) if how == Quiet::Stop => still.push(one(how)),
            (None, State::Restarting) => {
                return Err(Failure::failed(format!("container {name} keeps restarting: it cannot be paused"))
                    .hint(format!("See why: docker logs --tail 50 {name}; or stop it")));
            }
            (None, State::Paused) if how == Quiet::Stop => {
                let text = format!("container {name} is paused, by somebody else, and still has its files open");
                return Err(Failure::new(Kind::Refused, text)
                    .hint(format!("Let it go on (docker unpause {name}) or end it, and run the command again")));
            }
            (None, State::Paused) => by_others.push(name.clone()),
            (None, State::Created | State::Exited) => {}
        }
    }
    let record = directory.join(format!("{}.json", durable::random_hex(8)));
    let mut held = Held {
        lock: None,
        guard: None,
        content: Record { containers: still },
        since: Instant::now(),
        by_others,
        record,
    };
    if held.content.containers.is_empty() {
        return Ok(held);
    }
    held.lock = Some(Lock::take(&held.record.with_extension("lock"), "containers that stand still")?);
    let bytes = serde_json::to_vec(&held.content)
        .map_err(|e| Failure::failed("cannot write down what is stopped").because(e))?;
    durable::write(&held.record, &bytes, 0o600).context(|| format!("cannot write {}", held.record.display()))?;
    held.guard = Some(start_guard(&held.record)?);
    Ok(held)
}

impl Held {
    /// Names of all that stand still, also of those that somebody else paused.
    pub fn names(&self) -> Vec<String> {
        let own = self.content.containers.iter().map(|container| &container.name);
        own.chain(&self.by_others).cloned().collect()
    }

    /// Lets the containers go on, except those that another run still needs.
    pub fn release(mut self) -> Released {
        let stood = self.since.elapsed();
        Released { stood, warnings: self.let_go() }
    }

    fn let_go(&mut self) -> Vec<String> {
        let Some(mut guard) = self.guard.take() else { return Vec::new() };
        let resumed = turn(durable::parent_of(&self.record)).and_then(|_turn| resume(&self.record, &self.content));
        let warnings = match resumed {
            Ok(resumed) => resumed.warnings,
            Err(failure) => vec![failure.full()],
        };
        if let (true, Some(mut pipe)) = (warnings.is_empty(), guard.stdin.take()) {
            let _ = pipe.write_all(b"done");
        }
        // Without that word the guard tries as well.
        drop(guard.stdin.take());
        self.lock = None;
        let _ = guard.wait();
        warnings
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

/// Whoever reads or removes records, or lets containers go on, has this meanwhile.
fn turn(directory: &Path) -> Result<Lock> {
    Lock::wait(&directory.join("turn"))
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
    if told == "done" {
        return Ok(());
    }
    let _turn = turn(durable::parent_of(record))?;
    resume_recorded(record).map(drop)
}

/// Lets go on what a run that was killed left standing still.
pub fn recover(state: &Path) -> Result<Recovered> {
    let directory = records(state);
    if !directory.is_dir() {
        return Ok(Recovered::default());
    }
    let _turn = turn(&directory)?;
    resume_dead(&directory)
}

fn paths(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).context(|| format!("cannot list {}", directory.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect())
}

/// The lock of a record that nobody holds; `None` for one whose run lives.
fn of_nobody(record: &Path) -> Result<Option<Lock>> {
    match Lock::take(&record.with_extension("lock"), "containers that stand still") {
        Ok(lock) => Ok(Some(lock)),
        Err(failure) if failure.kind() == Kind::Locked => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn resume_dead(directory: &Path) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    for path in paths(directory)? {
        let Some(_lock) = of_nobody(&path)? else { continue };
        match resume_recorded(&path) {
            Ok(one) => {
                recovered.went_on.extend(one.went_on);
                recovered.warnings.extend(one.warnings);
            }
            Err(failure) => recovered.warnings.push(failure.full()),
        }
    }
    Ok(recovered)
}

/// What stands in records whose runs live, except in this one.
fn living(directory: &Path, except: Option<&Path>) -> Result<Vec<Still>> {
    let mut still = Vec::new();
    for path in paths(directory)?.into_iter().filter(|path| except != Some(path)) {
        if of_nobody(&path)?.is_none() {
            still.extend(read(&path)?.into_iter().flat_map(|record| record.containers));
        }
    }
    Ok(still)
}

fn read(path: &Path) -> Result<Option<Record>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::from_io(e, || format!("cannot read {}", path.display()))),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Failure::failed(format!("{} is not what bkp wrote", path.display()))
            .because(e)
            .hint("Look which containers it names, start them, and remove the file")
    })
}

fn resume_recorded(path: &Path) -> Result<Recovered> {
    read(path)?.map_or_else(|| Ok(Recovered::default()), |record| resume(path, &record))
}

/// In the opposite order; the record goes when all of them run, are not there any more, or stand still for another run.
fn resume(path: &Path, record: &Record) -> Result<Recovered> {
    let others = living(durable::parent_of(path), Some(path))?;
    let docker = Docker::connect()?;
    let mut resumed = Recovered::default();
    for container in record.containers.iter().rev().filter(|c| others.iter().all(|other| other.id != c.id)) {
        match docker.go_on(&container.id, container.how) {
            Ok(Went::On) => resumed.went_on.push(container.name.clone()),
            Ok(Went::Gone) => {}
            Err(failure) => resumed.warnings.push(format!(
                "container {} stands still and could not go on: {}. Start it yourself: docker {} {}",
                container.name,
                failure.full(),
                container.how.undone_by(),
                container.name
            )),
        }
    }
    if resumed.warnings.is_empty() {
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(path.with_extension("lock"));
    }
    Ok(resumed)
}
