//! What the journal can say: one record for each thing that was expected, begun, ended or decided.
//!
//! A record tells a fact, never an opinion: what it means is the affair of the fold ([`super::State`]) and of its readers.
//! Fields are added, never taken away or given another meaning; a kind that this version does not know is passed over.
//! No record ever holds a secret.

use super::rehearsed::Rehearsed;
use super::rotated::Rotated;
use crate::error::{Failure, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    pub seq: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub fact: Fact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    Backup,
    Copy,
    Prune,
    Check,
    Restore,
    Rehearse,
    Rotate,
    /// Of the head of the journal.
    Anchor,
}

/// Why a run was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Schedule,
    /// Its slot was missed, or was cut short, and is made up for.
    CatchUp,
    Manual,
    /// Before a restore in place.
    Safety,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Warnings,
    Failed,
    /// The process came to its end in the middle: by a signal, or nobody knows how.
    Aborted,
}

impl Outcome {
    pub fn is_good(self) -> bool {
        matches!(self, Outcome::Done | Outcome::Warnings)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotEnd {
    Done,
    Failed,
    /// Nothing ran when it should have.
    Missed,
    /// By a rule of the policy, nothing was to run.
    Skipped,
}

/// One expected run of a schedule. `policy` is [`EVERY_POLICY`] for schedules of the main file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    #[serde(default = "backup", skip_serializing_if = "is_backup")]
    pub job: Job,
    pub policy: String,
    /// The instant of the calendar, before jitter.
    pub slot: Timestamp,
}

/// No policy can have this name.
pub const EVERY_POLICY: &str = "*";

pub fn backup() -> Job {
    Job::Backup
}

fn is_backup(job: &Job) -> bool {
    *job == Job::Backup
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub run: String,
    pub job: Job,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
    pub reason: Reason,
    pub pid: u32,
}

impl RunStarted {
    pub fn is_for_the_same(&self, other: &RunStarted) -> bool {
        (self.job, &self.source, &self.policy, self.slot) == (other.job, &other.source, &other.policy, other.slot)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    pub run: String,
    pub outcome: Outcome,
    /// The exit code that a command would end with for this alone.
    pub code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    #[serde(default)]
    pub bytes: u64,
    /// Of these, new in the store.
    #[serde(default)]
    pub added: u64,
    #[serde(default)]
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Timestamp>,
}

impl RunEnded {
    pub fn well(run: &str, warnings: bool) -> Self {
        let (outcome, code) =
            if warnings { (Outcome::Warnings, Kind::Warnings.exit_code()) } else { (Outcome::Done, 0) };
        RunEnded {
            run: run.to_owned(),
            outcome,
            code,
            message: None,
            hint: None,
            point: None,
            bytes: 0,
            added: 0,
            seconds: 0.0,
            consistent_at: None,
        }
    }

    /// Somebody else had it in hand: it stood back, and nothing has failed.
    pub fn stood_back(&self) -> bool {
        self.outcome == Outcome::Failed && self.code == Kind::Locked.exit_code()
    }

    pub fn failed(run: &str, failure: &Failure) -> Self {
        let by_signal = matches!(failure.kind(), Kind::Interrupted | Kind::Terminated);
        RunEnded {
            outcome: if by_signal { Outcome::Aborted } else { Outcome::Failed },
            code: failure.kind().exit_code(),
            message: Some(failure.full()),
            hint: failure.next_step().map(str::to_owned),
            ..RunEnded::well(run, false)
        }
    }
}

/// The vocabulary (`docs/JOURNAL.md`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// The first record of each journal.
    JournalBegun {
        journal: String,
        host: String,
    },
    /// What the last process to write left half-written was taken away; no whole record was lost.
    TailMended {
        bytes: u64,
    },
    DaemonStarted {
        pid: u32,
        version: String,
    },
    DaemonStopped {
        pid: u32,
        why: String,
    },
    ConfigLoaded {
        ok: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Of all files together; that of the configuration which stays in force where this one is not good.
        digest: String,
    },
    SlotExpected {
        #[serde(flatten)]
        id: SlotId,
        /// With jitter, and outside blackouts.
        due: Timestamp,
        deadline: Timestamp,
    },
    SlotEnded {
        #[serde(flatten)]
        id: SlotId,
        #[serde(rename = "as")]
        end: SlotEnd,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        runs: Vec<String>,
    },
    RunStarted(RunStarted),
    RunEnded(RunEnded),
    /// The clock went so many seconds further (or back) than time did.
    ClockJumped {
        seconds: i64,
    },
    HoldPlaced {
        source: String,
        why: String,
    },
    HoldReleased {
        source: String,
        by: String,
        why: String,
    },
    RetentionChanged {
        policy: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<serde_json::Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<serde_json::Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    PointsDeleted {
        source: String,
        points: Vec<String>,
        #[serde(default)]
        bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The store refuses to delete a point that was just made before this instant.
    PointLocked {
        source: String,
        point: String,
        until: Timestamp,
    },
    /// Somebody looked at everything that this host keeps in the repository.
    RepositorySeen {
        objects: u64,
        bytes: u64,
        /// The instant of the oldest point of each source.
        oldest: BTreeMap<String, Timestamp>,
    },
    CopyEnded {
        copy: String,
        source: String,
        point: String,
        ok: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Rehearsed(Box<Rehearsed>),
    /// A rotation has come to a state.
    Rotation(Box<Rotated>),
    /// The head of the journal was put where whoever owns this host does not reach: nothing before it can be cut off unseen.
    Anchored {
        /// The name of the place in the configuration.
        place: String,
        /// Of the last record that it covers, and that record's hash.
        upto: u64,
        hash: String,
        ok: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Notified {
        channel: String,
        event: String,
    },
    NotifyFailed {
        channel: String,
        event: String,
        message: String,
    },
    /// Of a newer version.
    #[serde(other)]
    Unknown,
}

impl Fact {
    /// As it stands in the journal.
    pub fn kind(&self) -> &'static str {
        match self {
            Fact::JournalBegun { .. } => "journal_begun",
            Fact::TailMended { .. } => "tail_mended",
            Fact::DaemonStarted { .. } => "daemon_started",
            Fact::DaemonStopped { .. } => "daemon_stopped",
            Fact::ConfigLoaded { .. } => "config_loaded",
            Fact::SlotExpected { .. } => "slot_expected",
            Fact::SlotEnded { .. } => "slot_ended",
            Fact::RunStarted(_) => "run_started",
            Fact::RunEnded(_) => "run_ended",
            Fact::ClockJumped { .. } => "clock_jumped",
            Fact::HoldPlaced { .. } => "hold_placed",
            Fact::HoldReleased { .. } => "hold_released",
            Fact::RetentionChanged { .. } => "retention_changed",
            Fact::PointsDeleted { .. } => "points_deleted",
            Fact::PointLocked { .. } => "point_locked",
            Fact::RepositorySeen { .. } => "repository_seen",
            Fact::CopyEnded { .. } => "copy_ended",
            Fact::Rehearsed(_) => "rehearsed",
            Fact::Rotation(_) => "rotation",
            Fact::Anchored { .. } => "anchored",
            Fact::Notified { .. } => "notified",
            Fact::NotifyFailed { .. } => "notify_failed",
            Fact::Unknown => "unknown",
        }
    }
}
