//! What a rehearsal of one point came to, as it stands in the journal.
//!
//! Written before the end of its run, also when it failed: reports, metrics and the hold of retention read it. It lists
//! differences by name and never holds a value of the user's data or a secret.

use crate::repo::proof::Level;
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

/// What a rehearsal comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Restored, and as good as was wanted.
    Passed,
    /// Restored; its contents are of no single instant, and were compared with nothing.
    NotCompared,
    /// As good as was wanted, which was to read it to its end: nothing was restored.
    NotRestored,
    Failed,
}

impl Verdict {
    /// Whether it shows that the point restores.
    pub fn is_restored(self) -> bool {
        matches!(self, Verdict::Passed | Verdict::NotCompared)
    }
}

impl Rehearsed {
    pub fn verdict(&self) -> Verdict {
        let (reached, wanted) = (self.reached.as_deref().and_then(Level::parse), Level::parse(&self.wanted));
        // What is of no single instant is compared with nothing, and cannot be called equal.
        let compared = reached >= Some(Level::Equal);
        let wanted = if self.unbound.is_some() { wanted.min(Some(Level::Loaded)) } else { wanted };
        let holds = self.assertions.iter().all(|assertion| assertion.holds);
        match reached.is_some() && reached >= wanted && self.differing == 0 && holds {
            false => Verdict::Failed,
            true if reached < Some(Level::Loaded) => Verdict::NotRestored,
            true if self.unbound.is_some() && !compared => Verdict::NotCompared,
            true => Verdict::Passed,
        }
    }

    /// Whether the point came to what was wanted of it, as far as it could be compared at all.
    pub fn passed(&self) -> bool {
        self.verdict() != Verdict::Failed
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

impl ScratchTarget {
    /// Nothing in it reaches anything else.
    pub fn is_without_network(&self) -> bool {
        match self.kind.as_str() {
            "container" => true,
            "process" => self.isolation.ends_with("no network"),
            _ => false,
        }
    }
}

/// A user's own assertion, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asserted {
    pub name: String,
    pub holds: bool,
    /// `42, expected at least 1`; never more than a line.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehearsed(wanted: &str, reached: Option<&str>) -> Rehearsed {
        Rehearsed {
            run: "1".into(),
            source: "app".into(),
            point: "p".into(),
            consistent_at: Timestamp::UNIX_EPOCH,
            chosen: Chosen::Latest,
            wanted: wanted.into(),
            reached: reached.map(str::to_owned),
            target: None,
            compared: 0,
            differences: vec![],
            differing: 0,
            unbound: None,
            assertions: vec![],
            phases: BTreeMap::new(),
            rto_seconds: 0.0,
            rto_objective_seconds: None,
            bytes: 0,
            kept: None,
        }
    }

    #[test]
    fn what_was_not_restored_shows_nothing_of_restoring() {
        let table = [
            ("equal", Some("equal"), false, Verdict::Passed),
            ("loaded", Some("loaded"), false, Verdict::Passed),
            ("checked", Some("equal"), false, Verdict::Failed),
            ("equal", Some("loaded"), false, Verdict::Failed),
            ("equal", Some("loaded"), true, Verdict::NotCompared),
            ("readable", Some("readable"), false, Verdict::NotRestored),
            ("equal", Some("readable"), true, Verdict::Failed),
            ("equal", None, false, Verdict::Failed),
        ];
        for (wanted, reached, unbound, verdict) in table {
            let unbound = unbound.then(|| "written meanwhile".to_owned());
            let rehearsed = Rehearsed { unbound, ..rehearsed(wanted, reached) };
            assert_eq!(rehearsed.verdict(), verdict, "{wanted} {reached:?}");
        }
        let differs = Rehearsed { differing: 1, ..rehearsed("equal", Some("equal")) };
        assert_eq!(differs.verdict(), Verdict::Failed);
    }
}
