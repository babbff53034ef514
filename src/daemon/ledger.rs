//! The journal as the daemon uses it: it writes, takes in what others wrote, and goes on when the disk is full.
//!
//! What cannot be written is kept and counted as if it were, so that no slot is run twice because of it; it is written, in its
//! order, as soon as there is room. Until then the daemon is degraded.

use crate::error::{Failure, Result};
use crate::journal::{Fact, Follower, Journal, Record, State};
use crate::schedule::{Notice, Observer, Weight};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

pub struct Ledger {
    journal: Journal,
    follower: Follower,
    /// What waits for room on the disk, and the state with it.
    unwritten: Vec<Fact>,
    with_unwritten: Option<State>,
    failure: Option<String>,
    observers: Vec<Box<dyn Observer>>,
    /// The last record that observers were told of.
    told: u64,
}

impl Ledger {
    /// Reads the whole journal.
    pub fn open(journal: Journal, observers: Vec<Box<dyn Observer>>) -> Result<Self> {
        let mut follower = journal.follow();
        follower.catch_up(&mut |_| {})?;
        let told = follower.state.seq;
        Ok(Ledger { journal, follower, unwritten: Vec::new(), with_unwritten: None, failure: None, observers, told })
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn state(&self) -> &State {
        self.with_unwritten.as_ref().unwrap_or(&self.follower.state)
    }

    pub fn degraded(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub fn tell(&mut self, notice: &Notice) {
        self.observers.iter_mut().for_each(|observer| observer.noticed(notice));
    }

    pub fn note(&mut self, facts: Vec<Fact>, now: Timestamp) {
        if facts.is_empty() {
            return;
        }
        if let Some(state) = &mut self.with_unwritten {
            take_in(state, &facts, now);
        }
        self.unwritten.extend(facts);
        self.write(now);
    }

    /// Ends a run of a daemon before this one: asks it to, or `hard`, with everything in its group. Who holds its lock has the
    /// number that the journal says.
    pub fn end_adopted(&self, run: &str, hard: bool) {
        let pid = self.state().running.get(run).filter(|_| self.journal.lives(run)).map(|run| run.pid);
        let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else { return };
        let _ = match hard {
            false => kill_process(pid, Signal::TERM),
            true => kill_process_group(pid, Signal::KILL).or_else(|_| kill_process(pid, Signal::KILL)),
        };
    }

    /// Ends the runs whose processes are gone, and takes in what was written.
    pub fn settle(&mut self, now: Timestamp) {
        if let Err(failure) = self.journal.end_what_died(now) {
            self.fail(&failure);
        }
        if !self.unwritten.is_empty() {
            self.write(now);
        }
        self.catch_up();
    }

    /// Takes in what was written.
    pub fn catch_up(&mut self) {
        let Ledger { follower, observers, told, .. } = self;
        let mut seen: Vec<Record> = Vec::new();
        // Where the journal had to be read anew from its beginning, nobody is told of it all again.
        let result = follower.catch_up(&mut |record| {
            if record.seq > *told {
                seen.push(record.clone())
            }
        });
        *told = follower.state.seq;
        for record in &seen {
            observers.iter_mut().for_each(|observer| observer.recorded(record, &follower.state));
        }
        if let Err(failure) = result {
            self.fail(&failure);
        }
    }

    fn write(&mut self, now: Timestamp) {
        match self.journal.append(&self.unwritten, now) {
            Ok(appended) => {
                self.unwritten.clear();
                self.with_unwritten = None;
                if self.failure.take().is_some() {
                    self.tell(&Notice::new(Weight::Note, "journal_recovered", "the journal can be written again"));
                }
                if let Some(bytes) = appended.mended {
                    let text = format!(
                        "the end of the journal was torn; {bytes} bytes of a record that was never whole were set aside"
                    );
                    self.tell(&Notice::new(Weight::Warning, "journal_mended", text));
                }
                self.catch_up();
            }
            Err(failure) => {
                if self.with_unwritten.is_none() {
                    let mut state = self.follower.state.clone();
                    take_in(&mut state, &self.unwritten, now);
                    self.with_unwritten = Some(state);
                }
                self.fail(&failure);
            }
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let text = failure.full();
        if self.failure.as_ref() != Some(&text) {
            let hint = failure.next_step().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let loud = format!("runs go on, but are not recorded: {text}{hint}");
            self.tell(&Notice::new(Weight::Error, "journal_failed", loud));
            self.failure = Some(text);
        }
    }
}

fn take_in(state: &mut State, facts: &[Fact], now: Timestamp) {
    for fact in facts {
        let record = Record { seq: state.seq + 1, at: now, fact: fact.clone() };
        state.apply(&record);
    }
}
