//! What must be left of the points that were made: written from `docs/RETENTION.md`, and not from the program.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub last: usize,
    pub daily: usize,
    pub weekly: usize,
    pub zone: &'static str,
}

/// A point, as the store has seen it come; in the order in which they came.
#[derive(Clone, Debug)]
pub struct Made {
    pub name: String,
    /// What it stands for, by the clock of the host, as its name says.
    pub at: Timestamp,
    /// When it came, by the clock of the store.
    pub stored: Timestamp,
}

/// A host and its store may be so far apart.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Names of those that stay.
pub fn kept(keep: &Keep, made: &[Made]) -> BTreeSet<String> {
    let (believed, doubtful) = believed(made);
    let mut stay: BTreeSet<String> = doubtful.into_iter().map(|made| made.name.clone()).collect();
    // The newest one stays whatever is said.
    stay.extend(believed.iter().rev().take(keep.last.max(1)).map(|made| made.name.clone()));
    let zone = TimeZone::get(keep.zone).unwrap();
    let day = |at: Timestamp| zone.to_datetime(at).date().to_string();
    let week = |at: Timestamp| {
        let week = zone.to_datetime(at).date().iso_week_date();
        format!("{} {:02}", week.year(), week.week())
    };
    stay.extend(newest_of_each(&believed, day, keep.daily));
    stay.extend(newest_of_each(&believed, week, keep.weekly));
    stay
}

/// Names of what the store got before the instant that it claims, or that claims an earlier one than what came before it:
/// the host's clock was wrong then, and nobody knows what it stands for.
fn believed(made: &[Made]) -> (Vec<&Made>, Vec<&Made>) {
    let mut latest = Timestamp::MIN;
    made.iter().partition(|made| {
        let is_believed = made.at <= made.stored + APART && made.at >= latest;
        if is_believed {
            latest = made.at;
        }
        is_believed
    })
}

fn newest_of_each(made: &[&Made], period: impl Fn(Timestamp) -> String, count: usize) -> Vec<String> {
    // The later one takes the place of the earlier.
    let newest: BTreeMap<String, &str> = made.iter().map(|made| (period(made.at), made.name.as_str())).collect();
    newest.into_values().rev().take(count).map(str::to_owned).collect()
}
