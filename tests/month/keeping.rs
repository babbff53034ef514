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

/// Not believed is what the store got before the instant that it claims, and then what does not agree with the order in which
/// the points were made: the host's clock was wrong, and nobody knows what such a point stands for.
fn believed(made: &[Made]) -> (Vec<&Made>, Vec<&Made>) {
    let (possible, mut doubtful): (Vec<&Made>, Vec<&Made>) =
        made.iter().partition(|made| made.at <= made.stored + APART);
    // For each one, how many agree up to it, at most, and which of them comes before it.
    let mut agree: Vec<(usize, Option<usize>)> = Vec::new();
    for (number, one) in possible.iter().enumerate() {
        let earlier = (0..number).filter(|before| possible[*before].at <= one.at);
        let best = earlier.max_by_key(|before| agree[*before].0);
        agree.push((best.map_or(0, |best| agree[best].0) + 1, best));
    }
    let mut next = (0..agree.len()).max_by_key(|number| agree[*number].0);
    let mut chosen = BTreeSet::new();
    while let Some(number) = next {
        chosen.insert(number);
        next = agree[number].1;
    }
    let (agreed, others): (Vec<_>, Vec<_>) =
        possible.into_iter().enumerate().partition(|(number, _)| chosen.contains(number));
    doubtful.extend(others.into_iter().map(|(_, made)| made));
    (agreed.into_iter().map(|(_, made)| made).collect(), doubtful)
}

fn newest_of_each(made: &[&Made], period: impl Fn(Timestamp) -> String, count: usize) -> Vec<String> {
    // The later one takes the place of the earlier.
    let newest: BTreeMap<String, &str> = made.iter().map(|made| (period(made.at), made.name.as_str())).collect();
    newest.into_values().rev().take(count).map(str::to_owned).collect()
}
