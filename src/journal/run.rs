//! Runs: begun in the journal before anything happens, and ended there whatever happens.
//!
//! A run holds a lock on a file of its own as long as its process lives. The kernel takes the lock away with the process, also
//! when another process has its number by now, and in another container: whoever finds a run without an end and without
//! a holder ends it as aborted.

use super::Journal;
use super::record::{Fact, Outcome, RunEnded, RunStarted};
use crate::durable;
use crate::error::{Context, Kind, Result};
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// The file of a run that was never noted is left by a crash in between when it is older.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What became of the wish to run something for a slot.
#[derive(Debug)]
pub enum Begun {
    Running(Running),
    /// This run did it.
    Done(String),
    /// This run is at it.
    GoesOn(String),
}

/// A run that goes on.
#[derive(Debug)]
pub struct Running {
    journal: Journal,
    pub id: String,
    _alive: File,
}

impl Journal {
    fn runs(&self) -> PathBuf {
        self.directory().join("runs")
    }

    /// Notes that a run begins. Its id is taken from `started`.
    pub fn begin(&self, started: RunStarted, now: Timestamp) -> Result<Running> {
        let running = self.prepare(&started.run)?;
        self.append(&[Fact::RunStarted(started)], now)?;
        Ok(running)
    }

    /// The same for a slot: unless it was done for this source before, or is being done. `seq` is the record that expects it.
    pub fn begin_for_slot(&self, started: RunStarted, seq: u64, now: Timestamp) -> Result<Begun> {
        let mut locked = self.lock()?;
        let mut before: Vec<(String, bool, bool)> = Vec::new();
        self.cursor(seq).advance(&mut |record| match &record.fact {
            Fact::RunStarted(run) if run.is_for_the_same(&started) => before.push((run.run.clone(), false, false)),
            Fact::RunEnded(ended) => {
                let run = before.iter_mut().find(|(run, _, _)| *run == ended.run);
                run.into_iter().for_each(|run| (run.1, run.2) = (true, ended.outcome.is_good()));
            }
            _ => {}
        })?;
        if let Some((run, _, _)) = before.iter().find(|(_, _, good)| *good) {
            return Ok(Begun::Done(run.clone()));
        }
        if let Some((run, _, _)) = before.iter().find(|(run, ended, _)| !ended && self.lives(run)) {
            return Ok(Begun::GoesOn(run.clone()));
        }
        let running = self.prepare(&started.run)?;
        locked.append(&[Fact::RunStarted(started)], now)?;
        Ok(Begun::Running(running))
    }

    /// Takes the lock of a run that is about to be noted.
    fn prepare(&self, id: &str) -> Result<Running> {
        let runs = self.runs();
        durable::create_private_directory(&runs).context(|| format!("cannot create {}", runs.display()))?;
        let path = runs.join(id);
        let alive = durable::open_private(&path, true).context(|| format!("cannot create {}", path.display()))?;
        rustix::fs::flock(&alive, FlockOperation::NonBlockingLockExclusive)
            .context(|| format!("cannot lock {}", path.display()))?;
        Ok(Running { journal: self.clone(), id: id.to_owned(), _alive: alive })
    }

    /// Whether the process of a run is still there.
    pub fn lives(&self, run: &str) -> bool {
        let Ok(file) = File::open(self.runs().join(run)) else { return false };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Ends as aborted what nobody runs any more. Gives how many these were. Costs next to nothing when there is none.
    pub fn end_what_died(&self, now: Timestamp) -> Result<usize> {
        let left: Vec<String> = self.left_behind()?;
        if left.is_empty() {
            return Ok(0);
        }
        // Under the lock nobody can end a run between the look and the note.
        let mut locked = self.lock()?;
        let state = self.state()?;
        let (dead, unknown): (Vec<_>, Vec<_>) =
            left.into_iter().filter(|run| !self.lives(run)).partition(|run| state.running.contains_key(run));
        if !dead.is_empty() {
            let facts: Vec<Fact> = dead.iter().map(|run| Fact::RunEnded(vanished(run))).collect();
            locked.append(&facts, now)?;
        }
        // Whoever has just made its file may not have noted its run yet.
        let old = |run: &String| {
            let modified = std::fs::metadata(self.runs().join(run)).and_then(|file| file.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN))
        };
        let gone = dead.iter().chain(unknown.iter().filter(|run| old(run)));
        gone.for_each(|run| drop(std::fs::remove_file(self.runs().join(run))));
        Ok(dead.len())
    }

    /// Files of runs that nobody holds.
    fn left_behind(&self) -> Result<Vec<String>> {
        let runs = self.runs();
        let entries = match std::fs::read_dir(&runs) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot list {}", runs.display()))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|run| !self.lives(run)).collect())
    }
}

impl Running {
    pub fn end(self, ended: RunEnded, now: Timestamp) -> Result<()> {
        self.journal.append(&[Fact::RunEnded(ended)], now)?;
        let _ = std::fs::remove_file(self.journal.runs().join(&self.id));
        Ok(())
    }
}

fn vanished(run: &str) -> RunEnded {
    RunEnded {
        outcome: Outcome::Aborted,
        code: Kind::Failed.exit_code(),
        message: Some("the process vanished: it was killed, or the host went down".into()),
        ..RunEnded::well(run, false)
    }
}
