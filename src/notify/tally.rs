//! What happened in the last days, in numbers, for a digest.

use crate::journal::{Fact, Job, Outcome, Record, RunStarted, SlotEnd};
use crate::repo::names::CONFIGURATION;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Longer than the longest period of a digest.
const KEPT: SignedDuration = SignedDuration::from_hours(8 * 24);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// The end of a backup, or of a slot, when it was, and what came of it.
    ends: VecDeque<(Timestamp, End)>,
    running: BTreeMap<String, RunStarted>,
    /// Sources whose last backup failed.
    pub failing: BTreeSet<String>,
    pub held: BTreeSet<String>,
    last_good: BTreeMap<String, Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Good { added: u64 },
    Bad,
    Missed,
}

/// What is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub good: u64,
    pub bad: u64,
    pub missed: u64,
    pub added: u64,
    pub sources: usize,
}

impl Tally {
    pub fn take(&mut self, record: &Record) {
        let at = record.at;
        match &record.fact {
            // What bkp keeps of itself is no source of anybody.
            Fact::RunStarted(run) if run.job == Job::Backup && run.source.as_deref() != Some(CONFIGURATION) => {
                self.running.insert(run.run.clone(), run.clone());
            }
            Fact::RunEnded(run) => {
                let Some(source) = self.running.remove(&run.run).and_then(|started| started.source) else { return };
                if run.stood_back() {
                    return;
                }
                if run.outcome.is_good() {
                    self.failing.remove(&source);
                    self.last_good.insert(source, at);
                    self.ends.push_back((at, End::Good { added: run.added }));
                } else if run.outcome != Outcome::Aborted || self.last_good.contains_key(&source) {
                    self.failing.insert(source);
                    self.ends.push_back((at, End::Bad));
                }
            }
            Fact::SlotEnded { end: SlotEnd::Missed, .. } => self.ends.push_back((at, End::Missed)),
            Fact::HoldPlaced { source, .. } => {
                self.held.insert(source.clone());
            }
            Fact::HoldReleased { source, .. } => {
                self.held.remove(source);
            }
            _ => {}
        }
        // The clock was ahead: what ended then has ended by now.
        for (then, _) in self.ends.iter_mut().rev().take_while(|(then, _)| *then > at) {
            *then = at;
        }
        while self.ends.front().is_some_and(|(then, _)| at.duration_since(*then) > KEPT) {
            self.ends.pop_front();
        }
    }

    pub fn since(&self, since: Timestamp) -> Numbers {
        let mut numbers = Numbers { sources: self.last_good.len(), ..Numbers::default() };
        for (_, end) in self.ends.iter().filter(|(at, _)| *at >= since) {
            match end {
                End::Good { added } => {
                    numbers.good += 1;
                    numbers.added += added;
                }
                End::Bad => numbers.bad += 1,
                End::Missed => numbers.missed += 1,
            }
        }
        numbers
    }

    /// Sources by the age of their newest good backup, the oldest first.
    pub fn oldest(&self) -> Option<(&str, Timestamp)> {
        self.last_good.iter().map(|(source, at)| (source.as_str(), *at)).min_by_key(|(_, at)| *at)
    }
}
