//! What the loop is told by everybody else: signals, timers, processes.

use super::child::Exit;
use crate::journal::SlotId;

/// A task of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskKey {
    pub slot: SlotId,
    /// Its place among the tasks of the slot.
    pub task: usize,
}

#[derive(Clone, Debug)]
pub enum News {
    /// The timer says that something is due.
    Due,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
    /// A run said something on standard error.
    Said {
        key: TaskKey,
        line: String,
    },
    Ended {
        key: TaskKey,
        exit: Exit,
    },
}
