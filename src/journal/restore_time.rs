//! How long restores took in rehearsals, and what that says of one of today's data. Pure.
//!
//! Only rehearsals into the same kind of target are taken together, and an estimate names it: a process of a host is no
//! container. Each phase is taken to grow with the bytes of the point; what a server needs to start is no part of it.

use super::Rehearsed;
use crate::repo::proof::Level;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Rehearsals whose times are kept for each source.
pub const KEPT: usize = 20;
/// The newest of them that an estimate is made of: older ones knew another machine.
const ASKED: usize = 5;
/// What a restore consists of, as the phases of a rehearsal are called.
const PHASES: [&str; 4] = ["fetch", "decode", "load", "index"];

/// One restore that came to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestoreTime {
    pub at: Timestamp,
    pub bytes: u64,
    /// What it was restored into: `container`, `process`, `file`, `directory`.
    pub target: String,
    /// In seconds: fetch, decode, load, index.
    pub phases: BTreeMap<String, f64>,
}

/// How long a whole restore would take now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub seconds: f64,
    pub phases: BTreeMap<String, f64>,
    /// Of the data that it is for.
    pub bytes: u64,
    /// How many rehearsals it was made of.
    pub rehearsals: usize,
    /// What they restored into.
    pub target: String,
    /// The largest of them.
    pub largest_bytes: u64,
}

impl RestoreTime {
    /// `None` where nothing was restored.
    pub fn of(rehearsed: &Rehearsed, at: Timestamp) -> Option<Self> {
        let target = rehearsed.target.as_ref()?.kind.clone();
        let is_loaded = rehearsed.reached.as_deref().and_then(Level::parse) >= Some(Level::Loaded);
        let phases: BTreeMap<String, f64> =
            PHASES.iter().filter_map(|name| Some(((*name).to_owned(), *rehearsed.phases.get(*name)?))).collect();
        let is_timed = rehearsed.bytes > 0 && phases.values().sum::<f64>() > 0.0;
        (is_loaded && is_timed).then_some(RestoreTime { at, bytes: rehearsed.bytes, target, phases })
    }

    pub fn seconds(&self) -> f64 {
        rounded(self.phases.values().sum())
    }
}

impl Estimate {
    /// Of the newest of `times`, which are in their order, for this many bytes.
    pub fn of(times: &[RestoreTime], bytes: u64) -> Option<Self> {
        let target = times.last()?.target.clone();
        let same: Vec<&RestoreTime> = times.iter().rev().filter(|time| time.target == target).take(ASKED).collect();
        let restored: f64 = same.iter().map(|time| time.bytes as f64).sum();
        let scaled = |name: &str| {
            let seconds: f64 = same.iter().filter_map(|time| time.phases.get(name)).sum();
            (name.to_owned(), rounded(seconds * bytes as f64 / restored))
        };
        let phases: BTreeMap<String, f64> = PHASES.iter().map(|name| scaled(name)).collect();
        let largest_bytes = same.iter().map(|time| time.bytes).max()?;
        let seconds = rounded(phases.values().sum());
        Some(Estimate { seconds, phases, bytes, rehearsals: same.len(), target, largest_bytes })
    }

    /// Whether it is for far more than was ever restored: then it is little more than a guess.
    pub fn is_far_fetched(&self) -> bool {
        self.bytes > self.largest_bytes.saturating_mul(3)
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(bytes: u64, target: &str, load: f64) -> RestoreTime {
        let phases = [("fetch", 1.0), ("decode", 1.0), ("load", load), ("index", 0.0)];
        let phases = phases.into_iter().map(|(name, seconds)| (name.to_owned(), seconds)).collect();
        RestoreTime { at: Timestamp::UNIX_EPOCH, bytes, target: target.into(), phases }
    }

    #[test]
    fn each_phase_grows_with_the_data() {
        let estimate = Estimate::of(&[time(100, "container", 10.0), time(300, "container", 30.0)], 800).unwrap();
        assert_eq!((estimate.phases["load"], estimate.phases["fetch"]), (80.0, 4.0));
        assert_eq!((estimate.seconds, estimate.rehearsals, estimate.largest_bytes), (88.0, 2, 300));
        assert!(!estimate.is_far_fetched());
        assert!(Estimate::of(&[time(100, "file", 1.0)], 301).unwrap().is_far_fetched());
    }

    #[test]
    fn other_kinds_of_targets_say_nothing_of_this_one() {
        let times = [time(100, "container", 500.0), time(100, "process", 8.0)];
        let estimate = Estimate::of(&times, 100).unwrap();
        assert_eq!((estimate.target.as_str(), estimate.rehearsals, estimate.seconds), ("process", 1, 10.0));
        assert_eq!(Estimate::of(&[], 100), None);
    }

    #[test]
    fn only_the_newest_are_asked() {
        let mut times = vec![time(100, "file", 998.0); 3];
        times.extend(vec![time(100, "file", 8.0); ASKED]);
        assert_eq!(Estimate::of(&times, 100).unwrap().seconds, 10.0);
    }

    #[test]
    fn what_was_not_loaded_was_not_restored() {
        let mut rehearsed: Rehearsed = serde_json::from_value(serde_json::json!({
            "run": "r", "source": "app", "point": "p", "consistent_at": "2026-11-01T00:00:00Z", "chosen": "latest",
            "wanted": "equal", "reached": "loaded", "bytes": 5, "phases": { "load": 2.0, "verify": 9.0, "overhead": 1.0 },
            "target": { "kind": "file", "what": "a file", "isolation": "private" },
        }))
        .unwrap();
        let known = RestoreTime::of(&rehearsed, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(known.phases, BTreeMap::from([("load".to_owned(), 2.0)]));
        rehearsed.reached = Some("readable".into());
        assert_eq!(RestoreTime::of(&rehearsed, Timestamp::UNIX_EPOCH), None);
    }
}
