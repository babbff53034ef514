//! What anybody may know of a rotation without taking it.

use super::record::{Closed, Holder};
use crate::secret::Secret;
use jiff::Timestamp;
use serde::Serialize;

/// What anybody may know of it.
#[derive(Clone, Debug, Serialize)]
pub struct Glance {
    pub holder: Option<Holder>,
    pub begun: Option<Timestamp>,
    pub is_open: bool,
    pub back: bool,
    pub may_be_published: bool,
    #[serde(skip)]
    pub urgent: bool,
    #[serde(skip)]
    pub run: Option<String>,
    #[serde(skip)]
    pub closed: Vec<Closed>,
    #[serde(skip)]
    pub locks: Vec<Secret>,
    /// Of the document: it only grows, unless Vault itself goes back to an older state.
    pub version: u64,
}

impl Glance {
    /// Whether this is the document that the run was recorded in, and not one from before it.
    pub fn knows(&self, run: &str) -> bool {
        self.run.as_deref() == Some(run) || self.closed.iter().any(|closed| closed.run == run)
    }

    /// The last one that exchanged the password.
    pub fn rotated(&self) -> Option<&Closed> {
        self.closed.iter().rev().find(|closed| closed.rotated)
    }

    pub fn last_closed(&self) -> Option<&str> {
        self.closed.last().map(|closed| closed.run.as_str())
    }
}
