//! What a run tells while it goes: one vocabulary, many readers (progress bar, JSON lines, later journal and metrics).
//!
//! Nothing below `job/` prints or logs. It counts on the [`Meter`], emits an [`Event`], and asks [`Cancel`] whether to go on.

use crate::error::{Failure, Kind, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;
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

/// Set by a signal, asked by every loop that may run long, and before each thing that is told to a server.
#[derive(Clone, Default)]
pub struct Cancel {
    signal: Arc<AtomicU8>,
    condition: Option<Condition>,
}

/// What has to hold besides; and why not.
pub type Condition = Arc<dyn Fn() -> Result<()> + Send + Sync>;

impl Cancel {
    /// `kind` is [`Kind::Interrupted`] or [`Kind::Terminated`]; the first one wins.
    pub fn set(&self, kind: Kind) {
        let _ = self.signal.compare_exchange(0, kind.exit_code(), Relaxed, Relaxed);
    }

    /// The same signal, for what may go on only as long as this holds, too; it takes the place of a condition from before.
    pub fn on_condition(&self, condition: Condition) -> Cancel {
        Cancel { signal: Arc::clone(&self.signal), condition: Some(condition) }
    }

    pub fn check(&self) -> Result<()> {
        match self.signal.load(Relaxed) {
            0 => self.condition.as_ref().map_or(Ok(()), |condition| condition()),
            143 => Err(Failure::new(Kind::Terminated, "terminated by a signal")),
            _ => Err(Failure::new(Kind::Interrupted, "interrupted")),
        }
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({:?})", self.check().err().map(|failure| failure.kind()))
    }
}

/// What every long operation is handed.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub events: &'a dyn Events,
    pub meter: &'a Meter,
    pub cancel: &'a Cancel,
}
