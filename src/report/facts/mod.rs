//! What the journal says of a period: plain data, each piece with the number of the record that it was read from.
//!
//! [`read`] goes through the whole journal once, and keeps what belongs to the period and what it needs to know of the time
//! before. Nothing is judged here, and nothing is left out: whether the journal is whole is the affair of `evidence`; what is
//! shown of it, and in which words, that of the document.

mod attendance;
mod fold;
mod name;
mod recovery;
mod rotations;
#[cfg(test)]
mod tests;

pub use attendance::{Absence, Attendance, Ending};
pub use name::{Name, Names};
pub use recovery::{DayOfPoints, Recovery, Worst};
pub use rotations::{Rotation, RotationState};

use super::period::Period;
use crate::error::Result;
use crate::journal::{Fact, Hash, Job, Journal, Outcome, Reason, Rehearsed, SlotEnd, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A record of the journal that stands behind a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mark {
    pub record: u64,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    pub journal: Chain,
    /// Expected runs whose instant lies in the period; in its order for each schedule.
    pub schedules: Vec<Series>,
    /// Runs that were begun or ended in the period, in the order in which they were begun.
    pub runs: Vec<Run>,
    pub configurations: Vec<Loaded>,
    pub retention: Vec<RetentionChange>,
    pub deletions: Vec<Deletion>,
    pub copies: Vec<CopySeries>,
    pub rehearsals: Vec<Rehearsal>,
    /// States of rotations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rotations: Vec<RotationState>,
    pub holds: Vec<Hold>,
    pub clock: Vec<ClockChange>,
    pub attendance: Attendance,
    pub recovery: BTreeMap<Name, Recovery>,
    pub messages: BTreeMap<Name, Messages>,
    pub anchors: Vec<Anchor>,
    /// The last good end of each job for each source up to the end of the period, also where that was before it.
    #[serde(skip)]
    pub last_good: BTreeMap<(Job, Option<Name>), Mark>,
}

/// The journal itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Chain {
    pub id: Option<String>,
    pub hosts: Vec<String>,
    pub first: Option<Mark>,
    pub last: Option<Mark>,
    pub head: Hash,
    pub records: u64,
    pub records_in_period: u64,
    pub first_in_period: Option<Mark>,
    pub last_in_period: Option<Mark>,
    /// Records of a newer version, which nothing is known of.
    pub unknown: u64,
    /// Whose chain holds, and which say nothing that makes sense.
    pub unreadable: u64,
    pub mended: Vec<Mark>,
}

/// The slots of one schedule.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub job: Job,
    pub policy: Name,
    pub slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slot {
    pub slot: Timestamp,
    pub due: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    pub expected: Option<Mark>,
    pub ended: Option<EndOfSlot>,
    /// A run of it ended with warnings.
    pub warned: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndOfSlot {
    #[serde(flatten)]
    pub mark: Mark,
    #[serde(rename = "as")]
    pub end: SlotEnd,
    pub why: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    pub run: Box<str>,
    pub job: Job,
    pub source: Option<Name>,
    pub policy: Option<Name>,
    pub slot: Option<Timestamp>,
    pub reason: Reason,
    pub started: Mark,
    /// Nothing: it was going on when the report was made, or it was killed and nobody has looked since.
    pub ended: Option<EndOfRun>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndOfRun {
    #[serde(flatten)]
    pub mark: Mark,
    pub outcome: Outcome,
    pub code: u8,
    pub message: Option<Name>,
    pub point: Option<Box<str>>,
    pub bytes: u64,
    pub added: u64,
    pub seconds: f64,
    pub consistent_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loaded {
    #[serde(flatten)]
    pub mark: Mark,
    pub ok: bool,
    pub digest: String,
    pub error: Option<String>,
    /// It was in force when the period began.
    pub before: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetentionChange {
    #[serde(flatten)]
    pub mark: Mark,
    pub policy: Name,
    pub from: Option<serde_json::Value>,
    pub to: Option<serde_json::Value>,
    pub by: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deletion {
    #[serde(flatten)]
    pub mark: Mark,
    pub source: Name,
    pub points: Vec<Box<str>>,
    pub bytes: u64,
    pub why: Option<Name>,
    /// The run that deleted, and why that was begun.
    pub run: Option<Box<str>>,
    pub reason: Option<Reason>,
}

/// What arrived in one copy of one source.
#[derive(Clone, Debug, Serialize)]
pub struct CopySeries {
    pub copy: Name,
    pub source: Name,
    pub arrived: u64,
    pub failed: u64,
    pub last_arrived: Option<Mark>,
    pub last_failed: Option<(Mark, Option<Name>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rehearsal {
    #[serde(flatten)]
    pub mark: Mark,
    #[serde(flatten)]
    pub rehearsed: Box<Rehearsed>,
}

/// Deletion was stopped for a source, until somebody had looked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hold {
    pub source: Name,
    pub placed: Mark,
    pub why: Name,
    pub released: Option<Release>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Release {
    #[serde(flatten)]
    pub mark: Mark,
    pub by: String,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClockChange {
    #[serde(flatten)]
    pub mark: Mark,
    /// So far it went further than time did; negative when it was set back.
    pub seconds: i64,
    /// The daemon noticed it; else it is seen in the times of the records.
    pub noticed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Messages {
    pub sent: u64,
    pub failed: u64,
    pub last_failure: Option<(Mark, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Anchor {
    #[serde(flatten)]
    pub mark: Mark,
    pub place: Name,
    pub upto: u64,
    pub hash: String,
    pub ok: bool,
    pub message: Option<String>,
}

/// What the journal says of a period.
pub fn read(journal: &Journal, period: &Period, now: Timestamp) -> Result<Facts> {
    let begun = journal.segments()?.last().map_or(0, |(first, _)| *first);
    let mut fold = fold::Fold::of(period, usize::try_from(begun).unwrap_or_default());
    let mut cursor = journal.cursor(0);
    let problems = cursor.advance(&mut |record| fold.apply(record))?;
    let mut facts = fold.finish(now);
    facts.journal.head = cursor.head().hash;
    facts.journal.unreadable = problems.iter().filter(|problem| problem.is_of_its_content()).count() as u64;
    Ok(facts)
}

impl Facts {
    pub fn slots(&self) -> impl Iterator<Item = (&Series, &Slot)> {
        self.schedules.iter().flat_map(|series| series.slots.iter().map(move |slot| (series, slot)))
    }

    pub fn runs_of(&self, job: Job) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.job == job)
    }

    /// Tests of a restore that came to a result.
    pub fn tests(&self) -> impl Iterator<Item = &Rehearsal> {
        self.rehearsals.iter().filter(|test| test.is_of_restore())
    }

    /// Tests that came to none: there was no point, they were killed, or something else kept them from it. One that goes on
    /// is not among them.
    pub fn fruitless(&self) -> impl Iterator<Item = (&Run, &EndOfRun)> {
        let known: std::collections::HashSet<&str> = self.rehearsals.iter().map(|r| r.rehearsed.run.as_str()).collect();
        let ended = self.runs_of(Job::Rehearse).filter_map(|run| Some((run, run.ended.as_ref()?)));
        ended.filter(move |(run, end)| !end.outcome.is_good() && !known.contains(&*run.run))
    }
}

impl Slot {
    pub fn end(&self) -> Option<SlotEnd> {
        self.ended.as_ref().map(|ended| ended.end)
    }
}

impl Rehearsal {
    pub fn verdict(&self) -> Verdict {
        self.rehearsed.verdict()
    }

    /// It restored, as far as was wanted.
    pub fn is_restored(&self) -> bool {
        self.verdict().is_restored()
    }

    /// It was to restore, whatever came of it. To read a point to its end is a check, and no test of a restore.
    pub fn is_of_restore(&self) -> bool {
        self.verdict() != Verdict::NotRestored
    }

    /// Nothing where there is no objective, or nothing was restored.
    pub fn meets_rto(&self) -> Option<bool> {
        let objective = self.rehearsed.rto_objective_seconds?;
        self.is_restored().then_some(self.rehearsed.rto_seconds <= objective)
    }
}

/// Kinds that the fold has no use for, told apart from those that this version does not know.
fn is_unknown(fact: &Fact) -> bool {
    matches!(fact, Fact::Unknown)
}
