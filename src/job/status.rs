//! What is protected, how well, and what is missing: a fold of the points, their proofs, and the configuration.

use super::damage::Found;
use crate::journal::{Estimate, Job, State};
use crate::repo::catalog::Catalog;
use crate::repo::names::CONFIGURATION;
use crate::repo::point::{Cost, Layout, Point};
use crate::repo::proof::Level;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A source that the configuration names.
#[derive(Clone, Debug)]
pub struct Expected {
    pub source: String,
    pub policy: Option<String>,
    /// How old the newest point may be.
    pub rpo: Option<SignedDuration>,
    /// How long a restore may take.
    pub rto: Option<SignedDuration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is a point, and it is young enough where an objective says what that means.
    Protected,
    /// The newest point is older than the objective allows.
    Late,
    /// A check found that the newest point cannot be restored whole.
    Damaged,
    /// Configured, and there is no point.
    Missing,
    /// There are points, but the configuration does not name the source (any more).
    NotConfigured,
}

#[derive(Clone, Debug, Serialize)]
pub struct Newest {
    pub point: String,
    pub id: String,
    pub consistent_at: Timestamp,
    pub age_seconds: i64,
    pub bytes: u64,
    pub warnings: u64,
    pub host: String,
    pub engine: String,
    pub level: Option<Level>,
    pub proven_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SourceState {
    pub source: String,
    pub policy: Option<String>,
    pub verdict: Verdict,
    pub rpo_seconds: Option<i64>,
    pub newest: Option<Newest>,
    /// Nothing where no two dumps could be compared yet, and for volumes.
    pub storage: Option<Storage>,
    /// The last run on this host, where it failed.
    pub last_failure: Option<LastFailure>,
    /// What was odd about its last points: nothing old of it is pruned until somebody has looked.
    pub held: Option<String>,
    pub rto_seconds: Option<i64>,
    /// How long a restore of the newest point would take. Nothing where none was rehearsed.
    pub restore: Option<Estimate>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LastFailure {
    pub at: Timestamp,
    pub message: Option<String>,
    pub failures_in_a_row: u64,
}

/// Adds how long a restore would take, by the rehearsals that the journal knows of.
pub fn note_restore_times(states: &mut [SourceState], journal: &State) {
    for state in states {
        let known = journal.rehearsals.get(&state.source).zip(state.newest.as_ref());
        state.restore = known.and_then(|(rehearsals, newest)| Estimate::of(&rehearsals.times, newest.bytes));
    }
}

/// Adds what the journal knows of runs that failed since the last one that did not.
pub fn note_failures(states: &mut [SourceState], journal: &State) {
    let last = |job: Job, source: &str| {
        let history = journal.histories.get(&(job, source.to_owned()))?;
        let failure = history.last_failure.as_ref().filter(|_| history.failures_in_a_row > 0)?;
        let (message, failures_in_a_row) = (failure.run.message.clone(), history.failures_in_a_row);
        Some(LastFailure { at: failure.at, message, failures_in_a_row })
    };
    for state in states {
        state.last_failure = last(Job::Backup, &state.source);
    }
}

/// `why` tells why a source is held, if it is.
pub fn note_holds(states: &mut [SourceState], why: impl Fn(&str) -> Option<String>) {
    states.iter_mut().for_each(|state| state.held = why(&state.source));
}

/// What a point of a source puts into the store in either layout, on average over its last points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Storage {
    pub layout: Layout,
    /// How many points it is the average of.
    pub points: u64,
    pub stream_bytes: u64,
    pub dedup_bytes: u64,
    /// The other layout, where it would clearly take less.
    pub better: Option<Layout>,
}

/// From here on the other layout is worth a word: half of the bytes, and not only a few of them.
const CLEARLY_LESS: u64 = 10 << 20;
/// One comparison may have met an unusual day.
const FEW_POINTS: usize = 2;

impl Storage {
    pub fn of(point: &Point) -> Option<Self> {
        let layout = point.layout()?;
        let points = point.costs.len() as u64;
        let average = |of: fn(&Cost) -> u64| point.costs.iter().map(of).sum::<u64>().checked_div(points);
        let mean = Cost { stream: average(|c| c.stream)?, dedup: average(|c| c.dedup)? };
        let (own, other) = (mean.of(layout), mean.of(layout.other()));
        let clearly = point.costs.len() >= FEW_POINTS && other <= own / 2 && own - other >= CLEARLY_LESS;
        let better = clearly.then(|| layout.other());
        Some(Storage { layout, points, stream_bytes: mean.stream, dedup_bytes: mean.dedup, better })
    }
}

/// Proven levels by point, as [`crate::repo::proof::highest`] gives them.
pub type Proofs = BTreeMap<String, (Level, Timestamp)>;

/// One line per source, those that want attention first. With nothing configured (`expected` empty) every source that has
/// points counts as wanted.
pub fn fold(
    catalog: &Catalog,
    proofs: &Proofs,
    expected: &[Expected],
    damage: &[Found],
    now: Timestamp,
) -> Vec<SourceState> {
    let known = expected.iter().map(|e| e.source.as_str());
    let mut names: BTreeSet<&str> = known.chain(catalog.points.iter().map(|p| p.source.as_str())).collect();
    // bkp sees to that one by itself.
    names.remove(CONFIGURATION);
    let mut states: Vec<SourceState> =
        names.into_iter().map(|name| state(name, catalog, proofs, (expected, damage), now)).collect();
    states.sort_by_key(|s| match s.verdict {
        Verdict::Missing => 0,
        Verdict::Damaged => 1,
        Verdict::Late => 2,
        Verdict::Protected => 3,
        Verdict::NotConfigured => 4,
    });
    states
}

fn state(
    name: &str,
    catalog: &Catalog,
    proofs: &Proofs,
    (expected, damage): (&[Expected], &[Found]),
    now: Timestamp,
) -> SourceState {
    let configured = expected.iter().find(|e| e.source == name);
    let latest = catalog.latest(name, None, now);
    let storage = latest.and_then(Storage::of);
    let newest = latest.map(|point| {
        let proof = proofs.get(&point.point);
        Newest {
            point: point.point.clone(),
            id: point.id().to_owned(),
            consistent_at: point.consistent_at,
            age_seconds: now.duration_since(point.consistent_at).as_secs(),
            bytes: point.bytes,
            warnings: point.warnings,
            host: point.host.clone(),
            engine: point.engine.kind.clone(),
            level: proof.map(|(level, _)| *level),
            proven_at: proof.map(|(_, at)| *at),
        }
    });
    let rpo = configured.and_then(|e| e.rpo).map(|d| d.as_secs());
    let verdict = match &newest {
        None => Verdict::Missing,
        Some(n) if damage.iter().any(|d| d.points.contains(&format!("{name}/{}", n.point))) => Verdict::Damaged,
        Some(n) if rpo.is_some_and(|limit| n.age_seconds > limit) => Verdict::Late,
        Some(_) if configured.is_none() && !expected.is_empty() => Verdict::NotConfigured,
        Some(_) => Verdict::Protected,
    };
    let policy = configured.and_then(|e| e.policy.clone());
    SourceState {
        source: name.to_owned(),
        policy,
        verdict,
        rpo_seconds: rpo,
        newest,
        storage,
        last_failure: None,
        held: None,
        rto_seconds: configured.and_then(|e| e.rto).map(|d| d.as_secs()),
        restore: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_source_without_a_point_is_missing() {
        let expected = [Expected { source: "app".into(), policy: Some("p".into()), rpo: None, rto: None }];
        let states = fold(&Catalog::default(), &Proofs::new(), &expected, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(states.len(), 1);
        assert_eq!(states[0].verdict, Verdict::Missing);
    }
}
