//! What anybody may know of a rotation without taking it.

use super::record::{Closed, Holder};
use crate::error::{Failure, Kind};
use crate::secret::{Secret, VaultPath};
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

/// Why nobody else goes on with it; `is_over`: as far as that is known.
pub(super) fn held(path: &VaultPath, holder: &Holder, is_over: Option<bool>) -> Failure {
    let Holder { host, until, .. } = holder;
    let text = format!("{} is being rotated by {host}, which has it until {until}", path.path);
    Failure::new(Kind::Locked, text).hint(match is_over {
        Some(_) => {
            "Wait for it, or look there: bkp rotate status. It can be resumed here when that time is over".to_owned()
        }
        None => format!(
            "Vault does not tell its time here (sys/health), so bkp cannot know when that is over. Look there: bkp rotate status. If that host is gone for good: vault kv patch -remove-data=holder {}",
            path.path
        ),
    })
}

pub(super) fn taken_over(text: &str) -> Failure {
    Failure::new(Kind::Locked, text).hint("Look who: bkp rotate status, there and here")
}
