//! What the journal comes to: a pure fold, record by record, that status, metrics and notifications read.
//!
//! It keeps what is needed to judge now: the last of each kind, what is open, and counts; never the whole history.

use super::record::{Fact, Job, Outcome, Reason, Record, RunEnded, RunStarted, SlotEnd, SlotId};
use super::restore_time::{self, RestoreTime};
use super::{Rehearsed, Rotated};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// A clock that is set back by less may have been right: what was done under it is not done again.
const BELIEVABLE: SignedDuration = SignedDuration::from_hours(25);

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    /// Of the last record.
    pub seq: u64,
    pub at: Option<Timestamp>,
    /// Runs by job and source; the source is empty for jobs of the whole repository.
    #[serde(serialize_with = "by_name")]
    pub histories: BTreeMap<(Job, String), History>,
    /// Runs without an end. Whether their processes live is not to be seen here: [`super::Journal::lives`].
    pub running: BTreeMap<String, RunStarted>,
    /// Schedules by job and policy.
    #[serde(serialize_with = "by_name")]
    pub policies: BTreeMap<(Job, String), PolicyState>,
    pub holds: BTreeMap<String, Hold>,
    /// Rehearsals by source.
    pub rehearsals: BTreeMap<String, RehearsalState>,
    /// Rotations by name.
    pub rotations: BTreeMap<String, RotationState>,
    /// Copies by name and source.
    #[serde(serialize_with = "by_names")]
    pub copies: BTreeMap<(String, String), Copied>,
    pub channels: BTreeMap<String, Channel>,
    /// What was seen last of the repository.
    pub repository: Option<Seen>,
    /// By source: the instant of its oldest point, as far as the journal knows.
    pub oldest: BTreeMap<String, Timestamp>,
    /// By source: until when the store keeps its newest point whatever happens, as it was when that was made.
    pub locked: BTreeMap<String, Timestamp>,
    pub daemon: Option<Daemon>,
    pub config: Option<ConfigLoad>,
    pub clock_jumps: u64,
    pub last_clock_jump: Option<(Timestamp, i64)>,
    pub mended: u64,
    /// Lines that are no record, and breaks of the chain.
    pub problems: u64,
    started_at: BTreeMap<String, Timestamp>,
}

fn by_name<V: Serialize, S: serde::Serializer>(
    map: &BTreeMap<(Job, String), V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.iter().map(|((job, name), value)| (job, name, value)))
}

fn by_names<V: Serialize, S: serde::Serializer>(
    map: &BTreeMap<(String, String), V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.iter().map(|((one, other), value)| (one, other, value)))
}

/// The runs of one job on one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    pub policy: Option<String>,
    pub last_started: Option<Timestamp>,
    pub last: Option<Last>,
    pub last_success: Option<Last>,
    pub last_failure: Option<Last>,
    /// Tries of one slot count once.
    pub failures_in_a_row: u64,
    #[serde(skip)]
    failed_slot: Option<Timestamp>,
    pub ended: Counts,
    pub seconds: f64,
    pub bytes: u64,
    pub added: u64,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Last {
    pub at: Timestamp,
    pub started: Timestamp,
    pub reason: Reason,
    #[serde(flatten)]
    pub run: RunEnded,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub done: u64,
    pub warnings: u64,
    pub failed: u64,
    pub aborted: u64,
}

/// The slots of one schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicyState {
    /// Expected, and not ended.
    pub open: BTreeMap<Timestamp, OpenSlot>,
    /// The latest slot that came and ended: no slot up to here is expected again. A clock that turns out to have been wrong by
    /// more than a day is not believed, or it would keep the schedule waiting.
    pub reached: Option<Timestamp>,
    pub last_ended: Option<(Timestamp, Timestamp, SlotEnd, Option<String>)>,
    pub last_done: Option<(Timestamp, Timestamp)>,
    pub done: u64,
    pub failed: u64,
    pub missed: u64,
    pub skipped: u64,
    /// Slots in a row that came to nothing: failed or missed.
    pub failures_in_a_row: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenSlot {
    /// Number of the record that expects it.
    pub seq: u64,
    pub due: Timestamp,
    pub deadline: Timestamp,
    /// When its first run began.
    pub begun: Option<Timestamp>,
    /// The last run for each source (empty: for the whole), with its end.
    pub runs: BTreeMap<String, (String, Option<RunEnded>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    pub at: Timestamp,
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hold {
    pub since: Timestamp,
    pub why: String,
}

/// What rehearsals of a source came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RehearsalState {
    pub last_at: Timestamp,
    pub last: Option<Box<Rehearsed>>,
    /// The last one that passed.
    pub passed: Option<(Timestamp, Box<Rehearsed>)>,
    /// By level, when a rehearsal that passed came so far.
    pub reached: BTreeMap<String, Timestamp>,
    pub failures_in_a_row: u64,
    /// How long the last restores took; the newest is the last.
    pub times: Vec<RestoreTime>,
}

impl RehearsalState {
    fn take_in(&mut self, rehearsed: &Rehearsed, at: Timestamp) {
        self.last_at = at;
        self.times.extend(RestoreTime::of(rehearsed, at));
        self.times.drain(..self.times.len().saturating_sub(restore_time::KEPT));
        self.last = Some(Box::new(rehearsed.clone()));
        if rehearsed.passed() {
            self.failures_in_a_row = 0;
            self.passed = Some((at, Box::new(rehearsed.clone())));
            self.reached.extend(rehearsed.reached.clone().map(|level| (level, at)));
        } else {
            self.failures_in_a_row += 1;
        }
    }

    /// The point that must not go, because what came after it did not pass; and why.
    pub fn held(&self) -> Option<(&str, String)> {
        let (at, passed) = self.passed.as_ref().filter(|_| self.failures_in_a_row > 0)?;
        let day = at.strftime("%Y-%m-%d");
        Some((&passed.point, format!("the last one that passed a rehearsal ({day}); the newest rehearsal failed")))
    }
}

/// What became of the rotations of one password.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RotationState {
    /// The newest state, and when.
    pub last: Option<(Timestamp, Box<Rotated>)>,
    /// The last rotation that came to its end.
    pub rotated: Option<(Timestamp, Box<Rotated>)>,
    /// Of the one that is under way, the old password was taken away, or was about to be.
    pub retired: bool,
    /// The server was restored, and is not known to take what is published, and nothing else.
    pub owed: Option<(Timestamp, Box<Rotated>)>,
    /// When it was seen last that what is published lets in.
    pub proven: Option<(Timestamp, Box<Rotated>)>,
}

impl RotationState {
    fn take_in(&mut self, rotated: &Rotated, at: Timestamp) {
        if rotated.state == Rotated::OWED {
            self.owed = Some((at, Box::new(rotated.clone())));
            return;
        }
        if rotated.is_reapplied() {
            self.owed = None;
        }
        // Whatever comes after it: who goes on moves the consumers once more, and a restore brings nothing of it back.
        self.retired = match &*rotated.state {
            "retiring" | "retired" | "refused" | "ended" => true,
            "planned" => false,
            _ => self.retired && !rotated.is_end(),
        };
        let at = rotated.when.filter(|when| *when < at).unwrap_or(at);
        self.last = Some((at, Box::new(rotated.clone())));
        if rotated.state == "proven" || rotated.is_reapplied() {
            self.proven.clone_from(&self.last);
        }
        if matches!(&*rotated.state, "rotated" | "elsewhere") {
            self.rotated.clone_from(&self.last);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copied {
    pub last: Timestamp,
    pub ok: bool,
    pub point: String,
    pub message: Option<String>,
    pub last_ok: Option<(Timestamp, String)>,
    pub failures_in_a_row: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Channel {
    pub last_ok: Option<Timestamp>,
    pub last_failure: Option<(Timestamp, String)>,
    pub failures_in_a_row: u64,
    pub sent: u64,
    pub failed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Daemon {
    pub pid: u32,
    pub version: String,
    pub since: Timestamp,
    pub stopped: Option<(Timestamp, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfigLoad {
    pub at: Timestamp,
    pub ok: bool,
    pub error: Option<String>,
    pub digest: String,
    /// When the configuration in force was taken.
    pub last_ok: Option<Timestamp>,
}

impl State {
    /// Backups of a source.
    pub fn backups(&self, source: &str) -> Option<&History> {
        self.histories.get(&(Job::Backup, source.to_owned()))
    }

    pub fn policy(&self, job: Job, policy: &str) -> Option<&PolicyState> {
        self.policies.get(&(job, policy.to_owned()))
    }

    /// Which run of a source goes on, as far as the journal knows.
    pub fn running_on(&self, source: &str) -> Option<&RunStarted> {
        self.running.values().find(|run| run.source.as_deref() == Some(source))
    }

    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        if self.at.is_some_and(|before| at < before) {
            self.doubt(at);
        }
        (self.seq, self.at) = (record.seq, Some(at));
        match &record.fact {
            Fact::TailMended { .. } => self.mended += 1,
            Fact::DaemonStarted { pid, version } => {
                self.daemon = Some(Daemon { pid: *pid, version: version.clone(), since: at, stopped: None });
            }
            Fact::DaemonStopped { why, .. } => {
                self.daemon.iter_mut().for_each(|daemon| daemon.stopped = Some((at, why.clone())));
            }
            Fact::ConfigLoaded { ok, error, digest } => {
                let before = self.config.as_ref().and_then(|config| config.last_ok);
                let last_ok = if *ok { Some(at) } else { before };
                self.config = Some(ConfigLoad { at, ok: *ok, error: error.clone(), digest: digest.clone(), last_ok });
            }
            Fact::SlotExpected { id, due, deadline } => self.expect(id, record.seq, *due, *deadline),
            Fact::SlotEnded { id, end, why, .. } => self.end_slot(id, at, *end, why.clone()),
            Fact::RunStarted(run) => self.start(run, at),
            Fact::RunEnded(run) => self.end(run, at),
            Fact::ClockJumped { seconds } => {
                self.clock_jumps += 1;
                self.last_clock_jump = Some((at, *seconds));
            }
            Fact::HoldPlaced { source, why } => {
                self.holds.insert(source.clone(), Hold { since: at, why: why.clone() });
            }
            Fact::HoldReleased { source, .. } => drop(self.holds.remove(source)),
            Fact::PointLocked { source, until, .. } => drop(self.locked.insert(source.clone(), *until)),
            Fact::RepositorySeen { objects, bytes, oldest } => {
                self.repository = Some(Seen { at, objects: *objects, bytes: *bytes });
                self.oldest.clone_from(oldest);
            }
            Fact::CopyEnded { copy, source, point, ok, message } => {
                self.copied((copy, source), at, point, *ok, message.clone());
            }
            Fact::Rehearsed(rehearsed) => {
                self.rehearsals.entry(rehearsed.source.clone()).or_default().take_in(rehearsed, at);
            }
            Fact::Rotation(rotated) => {
                self.rotations.entry(rotated.rotation.clone()).or_default().take_in(rotated, at);
            }
            Fact::Notified { channel, .. } => self.notified(channel, at, None),
            Fact::NotifyFailed { channel, message, .. } => self.notified(channel, at, Some(message)),
            Fact::JournalBegun { .. }
            | Fact::RetentionChanged { .. }
            | Fact::PointsDeleted { .. }
            | Fact::Anchored { .. }
            | Fact::Unknown => {}
        }
    }

    fn notified(&mut self, channel: &str, at: Timestamp, failure: Option<&String>) {
        let channel = self.channels.entry(channel.to_owned()).or_default();
        match failure {
            None => {
                (channel.last_ok, channel.failures_in_a_row) = (Some(at), 0);
                channel.sent += 1;
            }
            Some(message) => {
                channel.last_failure = Some((at, message.clone()));
                channel.failures_in_a_row += 1;
                channel.failed += 1;
            }
        }
    }

    fn start(&mut self, run: &RunStarted, at: Timestamp) {
        let history = self.histories.entry((run.job, run.source.clone().unwrap_or_default())).or_default();
        history.last_started = Some(at);
        if run.policy.is_some() {
            history.policy = run.policy.clone();
        }
        if let Some(slot) = self.slot_of(run) {
            slot.begun.get_or_insert(at);
            slot.runs.insert(run.source.clone().unwrap_or_default(), (run.run.clone(), None));
        }
        self.running.insert(run.run.clone(), run.clone());
        self.started_at.insert(run.run.clone(), at);
    }

    fn end(&mut self, ended: &RunEnded, at: Timestamp) {
        let (Some(run), Some(started)) = (self.running.remove(&ended.run), self.started_at.remove(&ended.run)) else {
            return;
        };
        if let Some(slot) = self.slot_of(&run) {
            slot.runs.insert(run.source.clone().unwrap_or_default(), (run.run.clone(), Some(ended.clone())));
        }
        if let (Job::Backup, Some(source), Some(consistent_at)) = (run.job, &run.source, ended.consistent_at) {
            self.oldest.entry(source.clone()).or_insert(consistent_at);
            // Who made it without a lock says nothing more of it.
            self.locked.remove(source);
        }
        if ended.stood_back() {
            return;
        }
        let history = self.histories.entry((run.job, run.source.unwrap_or_default())).or_default();
        let last = Last { at, started, reason: run.reason, run: ended.clone() };
        let count = match ended.outcome {
            Outcome::Done => &mut history.ended.done,
            Outcome::Warnings => &mut history.ended.warnings,
            Outcome::Failed => &mut history.ended.failed,
            Outcome::Aborted => &mut history.ended.aborted,
        };
        *count += 1;
        history.seconds += ended.seconds;
        history.bytes += ended.bytes;
        history.added += ended.added;
        if ended.outcome.is_good() {
            (history.failures_in_a_row, history.failed_slot) = (0, None);
            history.last_success = Some(last.clone());
        } else {
            let is_tried_again = run.slot.is_some() && run.slot == history.failed_slot;
            history.failures_in_a_row += u64::from(!is_tried_again);
            history.failed_slot = run.slot;
            history.last_failure = Some(last.clone());
        }
        history.last = Some(last);
    }

    fn slot_of(&mut self, run: &RunStarted) -> Option<&mut OpenSlot> {
        let policy = run.policy.clone().unwrap_or_else(|| super::EVERY_POLICY.to_owned());
        self.policies.get_mut(&(run.job, policy))?.open.get_mut(&run.slot?)
    }

    fn expect(&mut self, id: &SlotId, seq: u64, due: Timestamp, deadline: Timestamp) {
        let policy = self.policies.entry((id.job, id.policy.clone())).or_default();
        policy.open.entry(id.slot).or_insert(OpenSlot { seq, due, deadline, begun: None, runs: BTreeMap::new() });
    }

    fn end_slot(&mut self, id: &SlotId, at: Timestamp, end: SlotEnd, why: Option<String>) {
        let policy = self.policies.entry((id.job, id.policy.clone())).or_default();
        policy.open.remove(&id.slot);
        policy.last_ended = Some((id.slot, at, end, why));
        // What was taken back before it came may come all the same, with another configuration, and counts then.
        if at < id.slot {
            return;
        }
        policy.reached = policy.reached.max(Some(id.slot));
        match end {
            SlotEnd::Done => {
                policy.done += 1;
                policy.failures_in_a_row = 0;
                policy.last_done = Some((id.slot, at));
            }
            SlotEnd::Failed => policy.failed += 1,
            SlotEnd::Missed => policy.missed += 1,
            SlotEnd::Skipped => policy.skipped += 1,
        }
        if matches!(end, SlotEnd::Failed | SlotEnd::Missed) {
            policy.failures_in_a_row += 1;
        }
    }

    /// The clock was set back.
    fn doubt(&mut self, at: Timestamp) {
        let believable = at.checked_add(BELIEVABLE).unwrap_or(Timestamp::MAX);
        for policy in self.policies.values_mut() {
            policy.reached = policy.reached.filter(|slot| *slot <= believable);
        }
    }

    fn copied(&mut self, (copy, source): (&str, &str), at: Timestamp, point: &str, ok: bool, message: Option<String>) {
        let key = (copy.to_owned(), source.to_owned());
        let before = self.copies.get(&key);
        let last_ok = if ok { Some((at, point.to_owned())) } else { before.and_then(|copied| copied.last_ok.clone()) };
        let failures_in_a_row = if ok { 0 } else { 1 + before.map_or(0, |copied| copied.failures_in_a_row) };
        let copied = Copied { last: at, ok, point: point.to_owned(), message, last_ok, failures_in_a_row };
        self.copies.insert(key, copied);
    }
}
