//! A state of a rotation, as it stands in the journal: who, what, why, when, and what was seen.
//!
//! Secrets are there as fingerprints, which are made with a key of this host and tell one from another, and nothing else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rotated {
    pub run: String,
    /// Its name in the configuration.
    pub rotation: String,
    pub source: String,
    pub account: String,
    /// `planned`, `pending`, `accepted`, `tested`, `published`, `delivered`, `reloaded`, `moved`, `unused`, `retired`, `persisted`,
    /// `proven`, `rotated`; `retiring` where its refusal was not seen yet, and `refused` when it was; `ended`, of sessions; on the way
    /// back `turned_back`, `unpublished`, `undone`, `rolled_back`; `stopped`; and `overtaken`, when its process died and what is
    /// published since is neither of its passwords; and `elsewhere`, when another host exchanged it; and of a restore `owed`
    /// before it, and `reapplied` after it; in the middle of a rotation `both_reapplied`, or `reapplied_open` where one of its
    /// passwords was set.
    pub state: String,
    /// When that was, where it is noted later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Timestamp>,
    /// Who asked for it, where that was no schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Fingerprint of the secret that was in force when the rotation began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whose it was, where names take turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_user: Option<String>,
    /// Of the one that comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_user: Option<String>,
    /// Where logins were tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// What was seen, or why it went no further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Rotated {
    pub const OWED: &str = "owed";

    /// A server that was restored takes what it should again.
    pub fn is_reapplied(&self) -> bool {
        matches!(self.state.as_str(), "reapplied" | "both_reapplied" | "reapplied_open")
    }

    /// Nothing of this rotation is open any more.
    pub fn is_end(&self) -> bool {
        matches!(self.state.as_str(), "rotated" | "rolled_back" | "overtaken" | "reapplied" | "elsewhere")
    }
}
