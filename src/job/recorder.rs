//! Brackets runs in the journal: noted before anything happens, ended there whatever happens.
//!
//! A journal that cannot be written is told loudly, once, and keeps no run from doing its work: a backup that nobody recorded
//! is better than a record of none.

use super::backup::Done;
use super::copy::Copied;
use super::rehearse::Findings;
use crate::clock;
use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::journal::{Begun, EVERY_POLICY, Fact, Job, Journal, Reason, RunEnded, RunStarted, Running, SlotId};
use crate::repo::names::CONFIGURATION;
use crate::repo::point::Point;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// What a run is told of its slot by who starts it: in the environment variable of this name, as JSON.
pub const SLOT_VARIABLE: &str = "BKP_SLOT";

/// Which slot a process is for, and how far it stands back for other programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForSlot {
    #[serde(flatten)]
    pub id: SlotId,
    /// Number of the record that expects the slot.
    pub seq: u64,
    pub reason: Reason,
    pub nice: u8,
    /// On the disks, only when nobody else wants them.
    pub idle: bool,
}

impl ForSlot {
    pub fn of_this_process() -> Option<Self> {
        serde_json::from_str(&std::env::var(SLOT_VARIABLE).ok()?).ok()
    }
}

pub struct Recorder {
    journal: Journal,
    reason: Reason,
    /// Which expected run of the policy this is.
    slot: Option<ForSlot>,
    silent: AtomicBool,
    tell: Box<dyn Fn(&Failure) + Send + Sync>,
}

/// What is run, for whom.
#[derive(Clone, Copy, Debug)]
pub struct What<'a> {
    pub job: Job,
    /// Nothing for jobs of the whole repository.
    pub source: Option<&'a str>,
    pub policy: Option<&'a str>,
}

impl<'a> What<'a> {
    pub fn of(job: Job) -> Self {
        What { job, source: None, policy: None }
    }

    pub fn source(job: Job, source: &'a str, policy: Option<&'a str>) -> Self {
        What { job, source: Some(source), policy }
    }
}

impl Recorder {
    /// `tell` is how people learn that runs are not recorded.
    pub fn new(journal: Journal, tell: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        Recorder { journal, reason: Reason::Manual, slot: None, silent: AtomicBool::new(false), tell: Box::new(tell) }
    }

    /// Runs are those of a slot, which no source is run twice for.
    pub fn of_slot(self, slot: ForSlot) -> Self {
        Recorder { reason: slot.reason, slot: Some(slot), ..self }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A backup, with what came of it. When it is odd, its source is held.
    pub fn backup(&self, source: &str, policy: Option<&str>, act: impl FnOnce() -> Result<Done>) -> Result<Done> {
        let result = self.run(What::source(Job::Backup, source, policy), self.reason, act, note_backup);
        if let Ok(done) = &result {
            let why = done.anomalies.join("; ");
            let held = (!why.is_empty()).then(|| Fact::HoldPlaced { source: source.to_owned(), why });
            self.note(&held.into_iter().chain(lock_of(done)).collect::<Vec<_>>());
        }
        result
    }

    /// bkp's own configuration. Nothing is held when it becomes another one: it was changed by somebody who knows.
    pub fn configuration(&self, act: impl FnOnce() -> Result<Done>) -> Result<Done> {
        let result = self.run(What::source(Job::Backup, CONFIGURATION, None), self.reason, act, note_backup);
        self.note(result.as_ref().ok().and_then(lock_of).as_slice());
        result
    }

    /// Bringing a copy up to date, with what became of each point. `expected` are those that ought to be there afterwards.
    pub fn copy(
        &self,
        copy: &str,
        source: Option<&str>,
        expected: &[&Point],
        act: impl FnOnce() -> Result<Copied>,
    ) -> Result<Copied> {
        let what = What { job: Job::Copy, source, policy: None };
        let result = self.run(what, self.reason, act, note_copy);
        let facts = facts_of_copy(copy, expected, &result);
        if !facts.is_empty() {
            self.told(self.journal.append(&facts, clock::now()).map(drop));
        }
        result
    }

    /// The same before a restore replaces the source.
    pub fn safety_backup(&self, source: &str, act: impl FnOnce() -> Result<Done>) -> Result<Done> {
        self.run(What::source(Job::Backup, source, None), Reason::Safety, act, note_backup)
    }

    /// A rehearsal, with what it came to. Whatever that was is no failure of this call.
    pub fn rehearsal(&self, source: &str, policy: Option<&str>, act: impl FnOnce() -> Findings) -> Result<Findings> {
        let what = What::source(Job::Rehearse, source, policy);
        self.run(
            what,
            self.reason,
            || Ok(act()),
            |findings, run| {
                self.note(&[Fact::Rehearsed(Box::new(findings.record_of(run)))]);
                findings.ended(run)
            },
        )
    }

    /// A whole command, which ends well, with warnings, or with findings that are its failure.
    pub fn command(&self, what: What<'_>, act: impl FnOnce() -> Result<Option<Kind>>) -> Result<Option<Kind>> {
        self.finding(what, || Ok((act()?.map(|kind| Failure::new(kind, "it ended with findings")), None)))
    }

    /// The same, where it can be said in a sentence what was found, or what there is to say of a good end.
    pub fn finding(
        &self,
        what: What<'_>,
        act: impl FnOnce() -> Result<(Option<Failure>, Option<String>)>,
    ) -> Result<Option<Kind>> {
        let (found, _) = self.run(what, self.reason, act, |(found, said), run| match found {
            None => RunEnded { message: said.clone(), ..RunEnded::well(run, false) },
            Some(found) if found.kind() == Kind::Warnings => {
                RunEnded { message: said.clone(), ..RunEnded::well(run, true) }
            }
            Some(found) => RunEnded::failed(run, found),
        })?;
        Ok(found.map(|found| found.kind()))
    }

    /// What a run did, beside its end.
    pub fn note(&self, facts: &[Fact]) {
        if !facts.is_empty() {
            self.told(self.journal.append(facts, clock::now()).map(drop));
        }
    }

    /// Runs that could not begin, because of something that concerns them all.
    pub fn could_not_begin<'a>(&self, whats: impl Iterator<Item = What<'a>>, why: &Failure) {
        let mut facts = Vec::new();
        for what in whats {
            let started = self.started(what, self.reason);
            facts.push(Fact::RunEnded(RunEnded::failed(&started.run, why)));
            facts.insert(facts.len() - 1, Fact::RunStarted(started));
        }
        self.told(self.journal.append(&facts, clock::now()).map(drop));
    }

    /// Brackets `act`; `note` says what came of it when it went well.
    pub fn run<T>(
        &self,
        what: What<'_>,
        reason: Reason,
        act: impl FnOnce() -> Result<T>,
        note: impl FnOnce(&T, &str) -> RunEnded,
    ) -> Result<T> {
        self.run_named(what, reason, |_| act(), note)
    }

    /// The same for what tells of itself while it goes, by the id of its run.
    pub fn run_named<T>(
        &self,
        what: What<'_>,
        reason: Reason,
        act: impl FnOnce(&str) -> Result<T>,
        note: impl FnOnce(&T, &str) -> RunEnded,
    ) -> Result<T> {
        let started = self.started(what, reason);
        let id = started.run.clone();
        self.told(self.journal.end_what_died(clock::now()));
        let running = self.begin(started)?;
        let begun = Instant::now();
        let result = act(&id);
        if let Some(running) = running {
            let ended = match &result {
                Ok(value) => note(value, &running.id),
                Err(failure) => RunEnded::failed(&running.id, failure),
            };
            let ended = RunEnded { seconds: begun.elapsed().as_secs_f64(), ..ended };
            self.told(running.end(ended, clock::now()));
        }
        result
    }

    /// The only failure is that somebody has run this for the slot before, or does it now.
    fn begin(&self, started: RunStarted) -> Result<Option<Running>> {
        let Some(slot) = self.slot.as_ref().filter(|_| started.slot.is_some()) else {
            return Ok(self.told(self.journal.begin(started, clock::now())));
        };
        let who = started.source.clone().unwrap_or_else(|| "the repository".to_owned());
        let who = format!("slot {} of {who}", slot.id.slot);
        match self.told(self.journal.begin_for_slot(started, slot.seq, clock::now())) {
            None => Ok(None),
            Some(Begun::Running(running)) => Ok(Some(running)),
            Some(Begun::Done(run)) => Err(Failure::new(Kind::Refused, format!("{who} was done by run {run}"))),
            Some(Begun::GoesOn(run)) => Err(Failure::new(Kind::Locked, format!("{who} is being done by run {run}"))),
        }
    }

    /// A slot is for the runs of its schedule. What these bring along, such as copies, may be done several times for it.
    fn slot_of(&self, what: What<'_>, reason: Reason) -> Option<Timestamp> {
        let id = self.slot.as_ref().map(|slot| &slot.id).filter(|_| reason != Reason::Safety)?;
        let of_schedule = id.job == what.job && id.policy == what.policy.unwrap_or(EVERY_POLICY);
        of_schedule.then_some(id.slot)
    }

    fn started(&self, what: What<'_>, reason: Reason) -> RunStarted {
        RunStarted {
            run: durable::random_hex(8),
            job: what.job,
            source: what.source.map(str::to_owned),
            policy: what.policy.map(str::to_owned),
            slot: self.slot_of(what, reason),
            reason,
            pid: std::process::id(),
        }
    }

    fn told<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                if !self.silent.swap(true, Relaxed) {
                    let loud = Failure::new(
                        failure.kind(),
                        format!("the journal does not know of this run: {}", failure.full()),
                    );
                    (self.tell)(&match failure.next_step() {
                        Some(hint) => loud.hint(hint),
                        None => loud,
                    });
                }
                None
            }
        }
    }
}

fn lock_of(done: &Done) -> Option<Fact> {
    let (source, point) = (done.point.source.clone(), done.point.point.clone());
    done.locked_until.map(|until| Fact::PointLocked { source, point, until })
}

fn note_copy(copied: &Copied, run: &str) -> RunEnded {
    let ended = match &copied.stopped {
        Some(failure) => RunEnded::failed(run, failure),
        None => RunEnded::well(run, !copied.is_complete()),
    };
    RunEnded { bytes: copied.carried.bytes, added: copied.carried.bytes, ..ended }
}

/// Points that arrived, and points that did not. Of one that ought to be there and was not carried, it is known when the copy
/// came to its end: then it was there before.
fn facts_of_copy(copy: &str, expected: &[&Point], result: &Result<Copied>) -> Vec<Fact> {
    let fact = |source: &str, point: &str, problem: Option<String>| Fact::CopyEnded {
        copy: copy.to_owned(),
        source: source.to_owned(),
        point: point.to_owned(),
        ok: problem.is_none(),
        message: problem,
    };
    let arrived = result.iter().flat_map(|copied| &copied.points);
    let mut facts: Vec<Fact> = arrived.map(|point| fact(&point.source, &point.point, None)).collect();
    for (title, failure) in result.iter().flat_map(|copied| &copied.failed) {
        if let Some((source, point)) = title.split_once('/').filter(|(source, _)| *source != "w") {
            facts.push(fact(source, point, Some(failure.full())));
        }
    }
    let stopped = match result {
        Ok(copied) => copied.stopped.as_ref(),
        // Somebody else is at it; what that run does not bring any more comes with the next one.
        Err(failure) if failure.kind() == Kind::Locked => None,
        Err(failure) => Some(failure),
    };
    let is_told =
        |point: &Point| result.iter().any(|copied| copied.points.iter().any(|other| other.point == point.point));
    if let Some(failure) = stopped {
        let missing = expected.iter().filter(|point| !is_told(point));
        facts.extend(missing.map(|point| fact(&point.source, &point.point, Some(failure.full()))));
    }
    facts
}

fn note_backup(done: &Done, run: &str) -> RunEnded {
    RunEnded {
        point: Some(done.point.point.clone()),
        bytes: done.point.bytes,
        added: done.point.added,
        consistent_at: Some(done.point.consistent_at),
        message: done.warnings.first().cloned(),
        ..RunEnded::well(run, !done.warnings.is_empty())
    }
}
