//! One picture of what is known and what comes, for those who show it or tell of it; and how they are told as it happens.
//!
//! The daemon makes it; metrics, pages and notifications read it and have no state of their own.

use crate::journal::{Job, Record, State};
use crate::policy::Configuration;
use jiff::Timestamp;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Outlook {
    pub at: Timestamp,
    pub state: State,
    pub configuration: Arc<Configuration>,
    /// The next slot of each schedule.
    pub upcoming: Vec<Upcoming>,
    /// What keeps the daemon from doing all it should.
    pub degraded: Vec<String>,
    /// Every schedule has been looked at.
    pub ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upcoming {
    pub job: Job,
    pub policy: String,
    pub slot: Timestamp,
    pub due: Timestamp,
}

/// Who is told what happens, while it does. It must not wait for anything: the loop of the daemon waits for it.
pub trait Observer: Send {
    /// A record is in the journal, by whomever; `state` has taken it in.
    fn recorded(&mut self, record: &Record, state: &State);

    /// Something that is not in the journal.
    fn noticed(&mut self, notice: &Notice);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Note,
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub weight: Weight,
    /// A word that does not change: `reload_failed`.
    pub event: &'static str,
    pub policy: Option<String>,
    pub source: Option<String>,
    pub text: String,
}

impl Notice {
    pub fn new(weight: Weight, event: &'static str, text: impl Into<String>) -> Self {
        Notice { weight, event, policy: None, source: None, text: text.into() }
    }
}
