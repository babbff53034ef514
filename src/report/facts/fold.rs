//! The fold of the journal into [`Facts`]: pure, record by record.
//!
//! A slot belongs to the period in which its instant lies, whenever it ended; everything else to that in which it was noted.

use super::{
    Anchor, ClockChange, CopySeries, Deletion, EndOfRun, EndOfSlot, Facts, Hold, Loaded, Mark, Name, Names, Rehearsal,
    Release, RetentionChange, RotationState, Run, Series, Slot, is_unknown,
};
use crate::journal::{Fact, Job, Outcome, Record, RunEnded, RunStarted, SlotEnd, SlotId};
use crate::repo::names::CONFIGURATION;
use crate::report::period::Period;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

pub struct Fold<'a> {
    period: &'a Period,
    facts: Facts,
    names: Names,
    last: Option<Mark>,
    /// In the order of their instants.
    slots: BTreeMap<(Job, Name), Vec<Slot>>,
    /// Runs without an end; with their place among those of the facts.
    open: HashMap<String, (Run, Option<usize>)>,
    holds: BTreeMap<String, Hold>,
    copies: BTreeMap<(Name, Name), CopySeries>,
    configuration: Option<Loaded>,
}

impl<'a> Fold<'a> {
    /// Of a journal of about that many records. A year may hold hundreds of thousands of runs, and moving them to where there is
    /// room for more would take as much again: it is asked for beforehand, and takes nothing until it is used.
    pub fn of(period: &'a Period, records: usize) -> Self {
        // Each has a beginning and an end.
        let runs = Vec::with_capacity(records / 2);
        Fold {
            period,
            facts: Facts { runs, ..Facts::default() },
            names: Names::default(),
            last: None,
            slots: BTreeMap::new(),
            open: HashMap::new(),
            holds: BTreeMap::new(),
            copies: BTreeMap::new(),
            configuration: None,
        }
    }

    pub fn apply(&mut self, record: &Record) {
        let mark = Mark { record: record.seq, at: record.at };
        self.note_place(mark, &record.fact);
        match &record.fact {
            Fact::SlotExpected { id, due, deadline } => self.expect(id, mark, *due, *deadline),
            Fact::SlotEnded { id, end, why, .. } => self.end_slot(id, mark, *end, why),
            Fact::RunStarted(run) => self.start(run, mark),
            Fact::RunEnded(run) => self.end(run, mark),
            Fact::DaemonStarted { version, .. } => {
                self.facts.attendance.started(mark, version, self.last, self.period);
            }
            Fact::DaemonStopped { why, .. } => self.facts.attendance.stopped(mark, why),
            Fact::ConfigLoaded { ok, error, digest } => self.configure(mark, *ok, error, digest),
            Fact::HoldPlaced { source, why } => self.hold(source, mark, why),
            Fact::HoldReleased { source, by, why } => self.release(source, mark, by, why),
            Fact::JournalBegun { journal, host } => self.begin(journal, host),
            fact => {
                if self.period.contains(record.at) {
                    self.in_period(fact, mark);
                }
            }
        }
        self.last = Some(mark);
    }

    /// Where in the journal, and in time.
    fn note_place(&mut self, mark: Mark, fact: &Fact) {
        let chain = &mut self.facts.journal;
        chain.first = chain.first.or(Some(mark));
        chain.last = Some(mark);
        chain.records += 1;
        chain.unknown += u64::from(is_unknown(fact));
        if !self.period.contains(mark.at) {
            return;
        }
        chain.records_in_period += 1;
        chain.first_in_period = chain.first_in_period.or(Some(mark));
        chain.last_in_period = Some(mark);
        if let Some(last) = self.last.filter(|last| mark.at < last.at) {
            let seconds = mark.at.duration_since(last.at).as_secs();
            // Two processes may have asked for the time in another order than they wrote.
            if seconds < -1 {
                self.facts.clock.push(ClockChange { mark, seconds, noticed: false });
            }
        }
    }

    fn begin(&mut self, journal: &str, host: &str) {
        let chain = &mut self.facts.journal;
        chain.id = chain.id.take().or_else(|| Some(journal.to_owned()));
        if !chain.hosts.iter().any(|known| known == host) {
            chain.hosts.push(host.to_owned());
        }
    }

    fn in_period(&mut self, fact: &Fact, mark: Mark) {
        let (facts, names) = (&mut self.facts, &mut self.names);
        match fact {
            Fact::TailMended { .. } => facts.journal.mended.push(mark),
            Fact::ClockJumped { seconds } => {
                facts.clock.push(ClockChange { mark, seconds: *seconds, noticed: true });
            }
            Fact::RetentionChanged { policy, from, to, by } => facts.retention.push(RetentionChange {
                mark,
                policy: names.of(policy),
                from: from.clone(),
                to: to.clone(),
                by: by.clone(),
            }),
            Fact::PointsDeleted { source, points, bytes, why } => {
                let prune = self.open.values().map(|(run, _)| run).filter(|run| run.job == Job::Prune);
                let prune = prune.max_by_key(|run| run.started.record);
                facts.deletions.push(Deletion {
                    mark,
                    source: names.of(source),
                    points: points.iter().map(|point| point.as_str().into()).collect(),
                    bytes: *bytes,
                    why: names.of_some(why),
                    run: prune.map(|run| run.run.clone()),
                    reason: prune.map(|run| run.reason),
                });
            }
            Fact::CopyEnded { copy, source, ok, message, .. } => {
                let (copy, source) = (names.of(copy), names.of(source));
                let message = names.of_some(message);
                copied(self.copies.entry((copy.clone(), source.clone())), copy, source, mark, (*ok, message));
            }
            Fact::Rehearsed(rehearsed) => {
                facts.rehearsals.push(Rehearsal { mark, rehearsed: rehearsed.clone() });
            }
            Fact::Rotation(rotated) => facts.rotations.push(RotationState { mark, rotated: rotated.clone() }),
            Fact::Anchored { place, upto, hash, ok, message } => facts.anchors.push(Anchor {
                mark,
                place: names.of(place),
                upto: *upto,
                hash: hash.clone(),
                ok: *ok,
                message: message.clone(),
            }),
            Fact::Notified { channel, .. } => facts.messages.entry(names.of(channel)).or_default().sent += 1,
            Fact::NotifyFailed { channel, message, .. } => {
                let messages = facts.messages.entry(names.of(channel)).or_default();
                messages.failed += 1;
                messages.last_failure = Some((mark, message.clone()));
            }
            _ => {}
        }
    }

    fn slot(&mut self, id: &SlotId) -> Option<&mut Slot> {
        if !self.period.contains(id.slot) {
            return None;
        }
        let series = self.slots.entry((id.job, self.names.of(&id.policy))).or_default();
        let place = series.binary_search_by_key(&id.slot, |slot| slot.slot).unwrap_or_else(|place| {
            let (due, deadline, expected, ended) = Default::default();
            // Room for twice as many would be most of what a year of many slots takes.
            if series.len() == series.capacity() {
                series.reserve_exact((series.len() / 8).max(4));
            }
            series.insert(place, Slot { slot: id.slot, due, deadline, expected, ended, warned: false });
            place
        });
        Some(&mut series[place])
    }

    fn expect(&mut self, id: &SlotId, mark: Mark, due: Timestamp, deadline: Timestamp) {
        if let Some(slot) = self.slot(id)
            && slot.expected.is_none()
        {
            (slot.expected, slot.due, slot.deadline) = (Some(mark), Some(due), Some(deadline));
        }
    }

    fn end_slot(&mut self, id: &SlotId, mark: Mark, end: SlotEnd, why: &Option<String>) {
        let why = self.names.of_some(why);
        if let Some(slot) = self.slot(id) {
            slot.ended = Some(EndOfSlot { mark, end, why });
        }
    }

    fn start(&mut self, run: &RunStarted, mark: Mark) {
        let started = Run {
            run: run.run.as_str().into(),
            job: run.job,
            source: self.names.of_some(&run.source),
            policy: self.names.of_some(&run.policy),
            slot: run.slot,
            reason: run.reason,
            started: mark,
            ended: None,
        };
        let place = self.period.contains(mark.at).then(|| {
            self.facts.runs.push(started.clone());
            self.facts.runs.len() - 1
        });
        self.open.insert(run.run.clone(), (started, place));
    }

    fn end(&mut self, ended: &RunEnded, mark: Mark) {
        let Some((mut run, place)) = self.open.remove(&ended.run) else { return };
        let good = ended.outcome.is_good();
        if let (Some(source), Some(consistent_at), true, Job::Backup) =
            (&run.source, ended.consistent_at, good, run.job)
            && **source != *CONFIGURATION
        {
            let recovery = self.facts.recovery.entry(source.clone()).or_default();
            recovery.committed(mark, consistent_at, self.period);
        }
        if good && mark.at < self.period.to {
            self.facts.last_good.insert((run.job, run.source.clone()), mark);
        }
        if ended.outcome == Outcome::Warnings
            && let Some(slot) = run.slot
        {
            let policy = run.policy.as_deref().unwrap_or(crate::journal::EVERY_POLICY).to_owned();
            if let Some(slot) = self.slot(&SlotId { job: run.job, policy, slot }) {
                slot.warned = true;
            }
        }
        if place.is_none() && !self.period.contains(mark.at) {
            return;
        }
        let end = EndOfRun {
            mark,
            outcome: ended.outcome,
            code: ended.code,
            message: self.names.of_some(&ended.message),
            point: ended.point.as_deref().map(Into::into),
            bytes: ended.bytes,
            added: ended.added,
            seconds: ended.seconds,
            consistent_at: ended.consistent_at,
        };
        match place {
            Some(place) => self.facts.runs[place].ended = Some(end),
            None => {
                run.ended = Some(end);
                self.facts.runs.push(run);
            }
        }
    }

    fn configure(&mut self, mark: Mark, ok: bool, error: &Option<String>, digest: &str) {
        let before = mark.at < self.period.from;
        let loaded = Loaded { mark, ok, digest: digest.to_owned(), error: error.clone(), before };
        if before && ok {
            let known = self.configuration.take().filter(|known| known.digest == loaded.digest);
            self.configuration = known.or(Some(loaded));
        } else if self.period.contains(mark.at) {
            self.facts.configurations.push(loaded);
        }
    }

    fn hold(&mut self, source: &str, mark: Mark, why: &str) {
        let hold = Hold { source: self.names.of(source), placed: mark, why: self.names.of(why), released: None };
        if let Some(before) = self.holds.insert(source.to_owned(), hold) {
            self.keep_hold(before);
        }
    }

    fn release(&mut self, source: &str, mark: Mark, by: &str, why: &str) {
        if let Some(mut hold) = self.holds.remove(source) {
            hold.released = Some(Release { mark, by: by.to_owned(), why: why.to_owned() });
            self.keep_hold(hold);
        }
    }

    fn keep_hold(&mut self, hold: Hold) {
        let over = hold.released.as_ref().is_some_and(|release| release.mark.at < self.period.from);
        if !over && hold.placed.at < self.period.to {
            self.facts.holds.push(hold);
        }
    }

    pub fn finish(mut self, now: Timestamp) -> Facts {
        let until = self.period.until(now);
        for hold in std::mem::take(&mut self.holds).into_values() {
            self.keep_hold(hold);
        }
        let mut facts = self.facts;
        facts.holds.sort_by_key(|hold| hold.placed);
        // No two have the same number; a stable sort would take half as much memory again.
        facts.runs.sort_unstable_by_key(|run| run.started);
        facts.configurations.splice(0..0, self.configuration);
        facts.copies = self.copies.into_values().collect();
        // The next slot is noted before it comes: nothing can be said of it yet.
        let series = |((job, policy), mut slots): ((Job, Name), Vec<Slot>)| {
            slots.retain(|slot| slot.slot <= now);
            (!slots.is_empty()).then_some(Series { job, policy, slots })
        };
        facts.schedules = self.slots.into_iter().filter_map(series).collect();
        facts.attendance.finish(self.period, until);
        facts.recovery.values_mut().for_each(|recovery| recovery.finish(self.period, until));
        facts
    }
}

fn copied(
    entry: std::collections::btree_map::Entry<'_, (Name, Name), CopySeries>,
    copy: Name,
    source: Name,
    mark: Mark,
    (ok, message): (bool, Option<Name>),
) {
    let nothing = CopySeries { copy, source, arrived: 0, failed: 0, last_arrived: None, last_failed: None };
    let series = entry.or_insert(nothing);
    if ok {
        series.arrived += 1;
        series.last_arrived = Some(mark);
    } else {
        series.failed += 1;
        series.last_failed = Some((mark, message));
    }
}
