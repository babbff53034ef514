//! What is remembered of the last weeks: how slots ended day by day, the distance between points, how long runs took.
//!
//! A pure fold of the journal, beside [`crate::journal::State`], which keeps only the last of each kind. Bounded: what is older
//! than [`DAYS`] is forgotten, and times are kept to the quarter of an hour, of which the days of every zone are made.
//! When the journal takes records back, it is read from its beginning, and so this begins anew.

use crate::journal::{EVERY_POLICY, Fact, Job, Outcome, Record, RunEnded, RunStarted, SlotEnd};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// How far back is looked.
pub const DAYS: i64 = 30;

const QUARTER: i64 = 15 * 60;
/// Two more, so that the first day is whole in every zone.
const KEPT: i64 = (DAYS + 2) * 24 * 60 * 60 / QUARTER;

/// Upper bounds in seconds; what takes longer is in none of them.
pub const BUCKETS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14_400.0, 28_800.0];

/// How many slots, and runs without one, ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub done: u32,
    pub warnings: u32,
    pub failed: u32,
    pub missed: u32,
    pub skipped: u32,
}

/// Runs of one job by how long they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    pub seconds: f64,
    pub count: u64,
    pub buckets: [u64; BUCKETS.len()],
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    /// The instant the data of the newest point stands for.
    newest: Option<Timestamp>,
    /// The greatest distance to the newest point that was reached in each quarter, in seconds.
    distances: BTreeMap<i64, i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chronicle {
    seq: u64,
    begun: Option<Timestamp>,
    /// The configuration in force, and since when.
    configured: Option<(String, Timestamp)>,
    tallies: BTreeMap<String, BTreeMap<i64, Tally>>,
    series: BTreeMap<String, Series>,
    first_tries: BTreeMap<String, Timestamp>,
    durations: BTreeMap<Job, Durations>,
    /// Slots whose runs had warnings only are no plain successes.
    warned: BTreeMap<(String, Timestamp), bool>,
    running: BTreeMap<String, RunStarted>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.done += other.done;
        self.warnings += other.warnings;
        self.failed += other.failed;
        self.missed += other.missed;
        self.skipped += other.skipped;
    }

    pub fn is_empty(self) -> bool {
        self == Tally::default()
    }

    fn count(&mut self, of: impl FnOnce(&mut Tally) -> &mut u32) {
        *of(self) += 1;
    }
}

fn quarter(at: Timestamp) -> i64 {
    at.as_second().div_euclid(QUARTER)
}

impl Chronicle {
    pub fn apply(&mut self, record: &Record) {
        if record.seq <= self.seq {
            *self = Chronicle::default();
        }
        self.seq = record.seq;
        let at = record.at;
        self.begun = self.begun.or(Some(at));
        match &record.fact {
            Fact::ConfigLoaded { ok: true, digest, .. }
                if self.configured.as_ref().is_none_or(|(known, _)| known != digest) =>
            {
                self.configured = Some((digest.clone(), at));
            }
            Fact::SlotEnded { id, end, .. } if id.job == Job::Backup && at >= id.slot => {
                let warned = self.warned.remove(&(id.policy.clone(), id.slot)).unwrap_or(false);
                self.tally(&id.policy, id.slot).count(|tally| match end {
                    SlotEnd::Done if warned => &mut tally.warnings,
                    SlotEnd::Done => &mut tally.done,
                    SlotEnd::Failed => &mut tally.failed,
                    SlotEnd::Missed => &mut tally.missed,
                    SlotEnd::Skipped => &mut tally.skipped,
                });
            }
            Fact::RunStarted(run) => {
                if let (Job::Backup, Some(source)) = (run.job, &run.source) {
                    self.first_tries.entry(source.clone()).or_insert(run.slot.unwrap_or(at));
                }
                self.running.insert(run.run.clone(), run.clone());
            }
            Fact::RunEnded(ended) => {
                if let Some(started) = self.running.remove(&ended.run) {
                    self.ended(&started, ended, at);
                }
            }
            _ => {}
        }
    }

    fn ended(&mut self, started: &RunStarted, ended: &RunEnded, at: Timestamp) {
        if ended.stood_back() {
            return;
        }
        let durations = self.durations.entry(started.job).or_default();
        durations.seconds += ended.seconds;
        durations.count += 1;
        if let Some(bucket) = BUCKETS.iter().position(|bound| ended.seconds <= *bound) {
            durations.buckets[bucket] += 1;
        }
        if started.job != Job::Backup {
            return;
        }
        let policy = started.policy.clone().unwrap_or_else(|| EVERY_POLICY.to_owned());
        match started.slot {
            Some(slot) if ended.outcome == Outcome::Warnings => drop(self.warned.insert((policy, slot), true)),
            Some(_) => {}
            None => self.tally(&policy, at).count(|tally| match ended.outcome {
                Outcome::Done => &mut tally.done,
                Outcome::Warnings => &mut tally.warnings,
                Outcome::Failed | Outcome::Aborted => &mut tally.failed,
            }),
        }
        if let (Some(source), Some(consistent_at), true) =
            (&started.source, ended.consistent_at, ended.outcome.is_good())
        {
            self.committed(source, consistent_at, at);
        }
    }

    /// A point was committed: until now, the one before was all there was.
    fn committed(&mut self, source: &str, consistent_at: Timestamp, at: Timestamp) {
        let series = self.series.entry(source.to_owned()).or_default();
        if let Some(newest) = series.newest {
            let distance = at.duration_since(newest).as_secs();
            let reached = series.distances.entry(quarter(at)).or_default();
            *reached = distance.max(*reached);
            series.distances = series.distances.split_off(&(quarter(at) - KEPT));
        }
        series.newest = series.newest.max(Some(consistent_at));
    }

    fn tally(&mut self, policy: &str, at: Timestamp) -> &mut Tally {
        let of_policy = self.tallies.entry(policy.to_owned()).or_default();
        let newest = of_policy.last_key_value().map_or(quarter(at), |(newest, _)| (*newest).max(quarter(at)));
        *of_policy = of_policy.split_off(&(newest - KEPT));
        of_policy.entry(quarter(at)).or_default()
    }

    /// What ended for a policy from one instant up to another.
    pub fn between(&self, policy: &str, from: Timestamp, to: Timestamp) -> Tally {
        let mut sum = Tally::default();
        if let Some(all) = self.tallies.get(policy).filter(|_| from < to) {
            all.range(quarter(from)..quarter(to)).for_each(|(_, tally)| sum.add(*tally));
        }
        sum
    }

    /// The most that would have been lost of a source at any time of the last [`DAYS`] days, in seconds: its attained RPO.
    /// Nothing before its first point.
    pub fn attained(&self, source: &str, now: Timestamp) -> Option<i64> {
        let series = self.series.get(source)?;
        let open = now.duration_since(series.newest?).as_secs();
        let from = quarter(now.checked_sub(SignedDuration::from_hours(24 * DAYS)).unwrap_or(Timestamp::MIN));
        series.distances.range(from..).map(|(_, distance)| *distance).chain([open]).max()
    }

    /// The instant the data of the newest point stands for, of all points that were made while there was a journal.
    pub fn newest(&self, source: &str) -> Option<Timestamp> {
        self.series.get(source)?.newest
    }

    /// When a backup of a source was first tried, or was to be.
    pub fn first_try(&self, source: &str) -> Option<Timestamp> {
        self.first_tries.get(source).copied()
    }

    /// Since when the configuration in force is so.
    pub fn configured(&self) -> Option<Timestamp> {
        self.configured.as_ref().map(|(_, since)| *since)
    }

    pub fn durations(&self) -> &BTreeMap<Job, Durations> {
        &self.durations
    }
}
