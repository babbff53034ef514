//! Which points still open to keys that are nobody's any more, and what ends that.
//!
//! What is open to a key is exact ([`former`]); what ends it is told by the rules as they are today, and holds as long as backups
//! and prune go on by them.

use super::lock::Kept;
use crate::error::Result;
use crate::repo::catalog::{Catalog, horizon};
use crate::repo::former::{self, Former, Opens};
use crate::repo::keys::{Keyring, Role};
use crate::repo::pinned::Pinned;
use crate::repo::point::Point;
use crate::repo::retention::Period;
use crate::repo::sign::Trust;
use crate::repo::{Repository, pinned};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A key from before, and what it opens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dependence {
    pub name: String,
    pub role: Role,
    pub fingerprint: String,
    /// The first list without it, and when that was made.
    pub without: u32,
    pub removed: Timestamp,
    /// Somebody known here signed that list.
    pub vouched: bool,
    pub series: Vec<Depending>,
}

/// Points of one source and host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Depending {
    pub source: String,
    pub host: String,
    pub writer: String,
    /// Points that open to the key, wholly or in part.
    pub points: usize,
    /// Of them, those of which it opens only what they have from earlier ones.
    pub in_part: usize,
    /// Data epochs that hold what it opens.
    pub epochs: Vec<u32>,
    pub newest: Timestamp,
    pub ends: Ends,
}

/// What has to happen until none of these points is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "value")]
pub enum Ends {
    /// Retention: the longest of its periods is over by then, and there are so many newer points.
    Retention { until: Option<Timestamp>, newer: u32 },
    /// No rule says that any point goes.
    Nothing,
    /// Somebody pinned one of them.
    Unpinning,
    /// New points refer to chunks of old ones, for as long as those do not change.
    StoringAfresh,
    /// The newest point is among them: the host makes no backups, or was not told.
    NewKeysOnThatHost,
}

/// How long points of a source are kept; nothing where no policy says it.
pub type KeptOf<'k> = &'k dyn Fn(&str) -> Option<Kept<'k>>;

/// What these keys from before open of the points in a catalog.
pub fn look(
    repository: &Repository,
    former: &[Former],
    (keys, trust): (&Keyring, &Trust),
    catalog: &Catalog,
    (kept, now): (KeptOf<'_>, Timestamp),
) -> Result<Vec<Dependence>> {
    if former.is_empty() {
        return Ok(Vec::new());
    }
    let pins = pinned::all(repository, keys, trust)?;
    let mut series: BTreeMap<(&str, &str), Vec<&Point>> = BTreeMap::new();
    for point in &catalog.points {
        series.entry((&point.source, &point.writer)).or_default().push(point);
    }
    let of = |former: &Former| Dependence {
        name: former.name.clone(),
        role: former.role,
        fingerprint: former::fingerprint(&former.recipient),
        without: former.without,
        removed: former.removed,
        vouched: former.vouched,
        series: series.values().filter_map(|points| depending(former, points, &pins, kept, now)).collect(),
    };
    Ok(former.iter().map(of).collect())
}

fn depending(former: &Former, points: &[&Point], pins: &Pinned, kept: KeptOf<'_>, now: Timestamp) -> Option<Depending> {
    let open: Vec<&Point> = points.iter().copied().filter(|point| former.opens(point) != Opens::Not).collect();
    let newest_open = open.iter().copied().max_by_key(|point| (point.consistent_at, point.sequence))?;
    let regular = points.iter().copied().filter(|point| !point.is_safety() && point.consistent_at <= horizon(now));
    let newer = regular.clone().filter(|point| point.consistent_at > newest_open.consistent_at).count();
    let newest = regular.max_by_key(|point| (point.consistent_at, point.sequence));
    let mut epochs: Vec<u32> = open.iter().flat_map(|point| former.epochs(point)).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let ends = match newest.map(|newest| former.opens(newest)) {
        Some(Opens::Whole) => Ends::NewKeysOnThatHost,
        Some(Opens::InPart) => Ends::StoringAfresh,
        _ if open.iter().any(|point| pins.reason(point).is_some()) => Ends::Unpinning,
        _ => kept(&newest_open.source).map_or(Ends::Nothing, |kept| by_retention(kept, &open, newer)),
    };
    Some(Depending {
        source: newest_open.source.clone(),
        host: newest_open.host.clone(),
        writer: newest_open.writer.clone(),
        points: open.len(),
        in_part: open.iter().filter(|point| former.opens(point) == Opens::InPart).count(),
        epochs,
        newest: newest_open.consistent_at,
        ends,
    })
}

/// When the longest of the periods that may keep one of them is over. `newer`: how many points there are after the last of them.
fn by_retention(Kept { keep, zone }: Kept<'_>, open: &[&Point], newer: usize) -> Ends {
    let until = |point: &&Point| {
        let local = point.consistent_at.to_zoned(zone.clone());
        let within = keep.within.and_then(|within| within.after(&local));
        let safety = point.is_safety().then(|| keep.safety.after(&local)).flatten();
        Period::all(keep).iter().filter_map(|period| period.after(&local)).chain(within).chain(safety).max()
    };
    let wanted = keep.last.unwrap_or_default().max(keep.min);
    Ends::Retention {
        until: open.iter().filter_map(until).max(),
        newer: wanted.saturating_sub(u32::try_from(newer).unwrap_or(u32::MAX)),
    }
}

impl Dependence {
    pub fn points(&self) -> usize {
        self.series.iter().map(|series| series.points).sum()
    }

    pub fn in_part(&self) -> usize {
        self.series.iter().map(|series| series.in_part).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::retention::Rules;
    use jiff::tz::TimeZone;

    fn point(at: &str) -> Point {
        crate::job::restore::tests::point("00000001", at)
    }

    #[test]
    fn all_rules_that_may_keep_a_point_are_waited_for() {
        let (old, older) = (point("2026-03-01T02:00:00Z"), point("2026-02-01T02:00:00Z"));
        let ends = |keep: Rules, newer| {
            let kept = Kept { keep: &keep, zone: &TimeZone::UTC };
            match by_retention(kept, &[&older, &old], newer) {
                Ends::Retention { until, newer } => (until.map(|at| at.to_string()), newer),
                other => panic!("{other:?}"),
            }
        };
        let until = |text: &str| Some(text.to_owned());
        assert_eq!(ends(Rules { last: Some(30), ..Rules::default() }, 4), (None, 26));
        let daily = Rules { last: Some(30), daily: Some(7), ..Rules::default() };
        assert_eq!(ends(daily, 30), (until("2026-03-08T02:00:00Z"), 0));
        let monthly = Rules { daily: Some(7), monthly: Some(12), ..Rules::default() };
        assert_eq!(ends(monthly, 9), (until("2027-03-01T02:00:00Z"), 0));
    }
}
