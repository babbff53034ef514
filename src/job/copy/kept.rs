//! Which points a copy with a `keep` of its own wants to have. Pure: it is decided by names alone, so that looking how far
//! behind a copy is costs two listings.
//!
//! Counted is what is in either store. That a point is a safety backup does not show in its name: it may stand for a day until it
//! is gone. A point that somebody pinned, or has pinned once, is wanted.

use crate::job::lock::Kept;
use crate::repo::names;
use crate::repo::proof::Level;
use crate::repo::retention::{self, Candidate};
use crate::store::Key;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Names (`UTC-ID`) of pinned points.
pub type Pins = BTreeSet<String>;

/// The points in the records of pins.
pub fn pins<'k>(records: impl Iterator<Item = &'k Key>) -> Pins {
    records.filter_map(|key| key.last().split('.').next().map(str::to_owned)).collect()
}

/// Of all these points, those that the rules keep.
pub fn wanted<'k>(
    kept: Kept<'_>,
    points: impl Iterator<Item = &'k Key>,
    pins: &Pins,
    now: Timestamp,
) -> BTreeSet<&'k Key> {
    let mut series: BTreeMap<&str, Vec<(Timestamp, &Key)>> = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    for key in points.collect::<BTreeSet<_>>() {
        let source = key.as_str().rsplit_once('/').map_or("", |(series, _)| series);
        match names::instant_of(key.last()) {
            Some(at) if !pins.contains(key.last()) => series.entry(source).or_default().push((at, key)),
            _ => drop(wanted.insert(key)),
        }
    }
    for points in series.values_mut() {
        points.sort_unstable();
        let newest = points.len().saturating_sub(1);
        let candidate = |(number, (at, key)): (usize, &(Timestamp, &Key))| Candidate {
            point: key.last().to_owned(),
            sequence: number as u64 + 1,
            at: *at,
            stored: *at,
            safety: false,
            // What is proven decides what may be deleted, not what is worth bringing.
            level: (number == newest).then_some(Level::Readable),
            pinned: None,
        };
        let candidates: Vec<Candidate> = points.iter().enumerate().map(candidate).collect();
        let decisions = retention::decide(kept.keep, kept.zone, &candidates, now);
        let keep: BTreeSet<&str> = decisions.iter().filter(|d| d.keep).map(|d| d.point.as_str()).collect();
        wanted.extend(points.iter().map(|(_, key)| *key).filter(|key| keep.contains(key.last())));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    #[test]
    fn the_rules_choose_among_names_and_pins_are_wanted_anyway() {
        let keep = serde_json::from_value(serde_json::json!({ "weekly": 2, "min": 1, "safety": "7d" })).unwrap();
        let key = |day: u32| Key::new(format!("w/a/points/app/202601{day:02}T020000Z-000000{day:02}")).unwrap();
        let keys: Vec<Key> = (1..=20).map(key).collect();
        let pins = pins([Key::new("w/a/pins/app/20260103T020000Z-00000003.20260104T000000Z").unwrap()].iter());
        let kept = Kept { keep: &keep, zone: &TimeZone::UTC };
        let now = "2026-01-20T03:00:00Z".parse().unwrap();
        let days: Vec<&str> = wanted(kept, keys.iter(), &pins, now).iter().map(|key| &key.last()[6..8]).collect();
        assert_eq!(days, ["03", "18", "20"], "the pinned one, the last of a week, the newest");
    }
}
