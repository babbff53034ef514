//! What a rehearsal of one point came to, as it stands in the journal.
//!
//! Written before the end of its run, also when it failed: reports, metrics and the hold of retention read it. It lists
//! differences by name and never holds a value of the user's data or a secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    pub run: String,
    pub source: String,
    pub point: String,
    /// The instant the point stands for.
    pub consistent_at: Timestamp,
    pub chosen: Chosen,
    /// The level that was asked for: `loaded`, `equal`, `checked`.
    pub wanted: String,
    /// The highest level that was reached; absent when the point could not even be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ScratchTarget>,
    /// Parts (tables, collections, keyspaces, files) that were compared with what the source held.
    #[serde(default)]
    pub compared: u64,
    /// What differs, each in words; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// How many there are in all.
    #[serde(default)]
    pub differing: u64,
    /// Why contents could not be bound to one instant, and hence are not called equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbound: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<Asserted>,
    /// Seconds by phase: `fetch`, `decode`, `load`, `index`, `verify`; and `overhead`, which is all the rest.
    #[serde(default)]
    pub phases: BTreeMap<String, f64>,
    /// What a real restore of this point would have taken: fetch, decode, load, index.
    #[serde(default)]
    pub rto_seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_objective_seconds: Option<f64>,
    #[serde(default)]
    pub bytes: u64,
    /// What is left of the target, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// From the least to the most that can be proven.
const LEVELS: [&str; 5] = ["stored", "readable", "loaded", "equal", "checked"];

impl Rehearsed {
    /// Whether the point came to what was wanted of it, as far as it could be compared at all.
    pub fn passed(&self) -> bool {
        let rank = |name: &str| LEVELS.iter().position(|level| *level == name);
        let (reached, wanted) = (self.reached.as_deref().and_then(rank), rank(&self.wanted));
        // What is of no single instant is compared with nothing, and cannot be called equal.
        let wanted = if self.unbound.is_some() { wanted.min(rank("loaded")) } else { wanted };
        let holds = self.assertions.iter().all(|assertion| assertion.holds);
        reached.is_some() && reached >= wanted && self.differing == 0 && holds
    }
}

/// How the point was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    Latest,
    At,
    Random,
}

/// Where it was restored, and what kept it apart from everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchTarget {
    /// `container`, `process`, `directory`, `file`, `job`.
    pub kind: String,
    /// The image and its digest, or the program and its version.
    pub what: String,
    /// In words: `no network, no published port, 512 MiB`.
    pub isolation: String,
}

/// A user's own assertion, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asserted {
    pub name: String,
    pub holds: bool,
    /// `42, expected at least 1`; never more than a line.
    pub found: String,
}
