//! What a run tells while it goes: one vocabulary, many readers (progress bar, JSON lines, later journal and metrics).
//!
//! Nothing below `job/` prints or logs. It counts on the [`Meter`], emits an [`Event`], and asks [`Cancel`] whether to go on.

use crate::error::{Failure, Kind, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Happenings of a run. Serialized, an event is one line of `--json` progress; fields may be added.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum Event {
    RunStarted {
        run: &'static str,
        source: String,
        at: Timestamp,
    },
    /// A step of the run begins; what the meter shows from now on belongs to it.
    Phase {
        source: String,
        phase: &'static str,
    },
    Warning {
        source: String,
        text: String,
    },
    /// The point exists now.
    Committed {
        source: String,
        point: String,
        bytes: u64,
        added: u64,
    },
    /// The point exists in a copy of the repository as well.
    Copied {
        copy: String,
        source: String,
        point: String,
        bytes: u64,
    },
    /// The store does not answer; it is asked again until then. Told once, however many requests wait.
    StoreSilent {
        store: String,
        error: String,
        until: Timestamp,
    },
    /// It does again.
    StoreAnswers {
        store: String,
        seconds: f64,
    },
    RunFinished {
        run: &'static str,
        source: String,
        outcome: Outcome,
        seconds: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    DoneWithWarnings,
    Failed,
}

pub trait Events: Send + Sync {
    fn emit(&self, event: &Event);
}

/// Drops everything; for commands that have nothing to tell before their answer.
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _: &Event) {}
}

/// Counters that workers raise and displays read. `total_bytes` 0 means not known.
#[derive(Default, Debug)]
pub struct Meter {
    pub bytes: AtomicU64,
    pub items: AtomicU64,
    pub stored_bytes: AtomicU64,
    pub total_bytes: AtomicU64,
    pub total_items: AtomicU64,
}

impl Meter {
    pub fn add(&self, bytes: u64, items: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.items.fetch_add(items, Relaxed);
    }
}

/// Set by a signal, asked by every loop that may run long.
#[derive(Default, Debug)]
pub struct Cancel(AtomicU8);

impl Cancel {
    /// `kind` is [`Kind::Interrupted`] or [`Kind::Terminated`]; the first one wins.
    pub fn set(&self, kind: Kind) {
        let _ = self.0.compare_exchange(0, kind.exit_code(), Relaxed, Relaxed);
    }

    pub fn check(&self) -> Result<()> {
        match self.0.load(Relaxed) {
            0 => Ok(()),
            143 => Err(Failure::new(Kind::Terminated, "terminated by a signal")),
            _ => Err(Failure::new(Kind::Interrupted, "interrupted")),
        }
    }
}

/// What every long operation is handed.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub events: &'a dyn Events,
    pub meter: &'a Meter,
    pub cancel: &'a Cancel,
}
