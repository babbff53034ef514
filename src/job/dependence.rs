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
    /// Retention: the last one goes by then.
    Retention(Timestamp),
    /// Retention: after so many newer points.
    NewerPoints(u32),
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

pub fn look(
    repository: &Repository,
    (keys, trust): (&Keyring, &Trust),
    catalog: &Catalog,
    kept: KeptOf<'_>,
    now: Timestamp,
) -> Result<Vec<Dependence>> {
    let former = former::all(repository, trust)?;
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
    let newest = regular.max_by_key(|point| (point.consistent_at, point.sequence));
    let mut epochs: Vec<u32> = open.iter().flat_map(|point| former.epochs(point)).collect();
    epochs.sort_unstable();
    epochs.dedup();
    let ends = match newest.map(|newest| former.opens(newest)) {
        Some(Opens::Whole) => Ends::NewKeysOnThatHost,
        Some(Opens::InPart) => Ends::StoringAfresh,
        _ if open.iter().any(|point| pins.reason(point).is_some()) => Ends::Unpinning,
        _ => kept(&newest_open.source).map_or(Ends::Nothing, |kept| by_retention(kept, &open)),
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

/// When the longest of the periods that may keep one of them is over.
fn by_retention(Kept { keep, zone }: Kept<'_>, open: &[&Point]) -> Ends {
    let until = |point: &&Point| {
        let local = point.consistent_at.to_zoned(zone.clone());
        let within = keep.within.and_then(|within| within.after(&local));
        Period::all(keep).iter().filter_map(|period| period.after(&local)).chain(within).max()
    };
    match open.iter().filter_map(until).max() {
        Some(until) => Ends::Retention(until),
        None => Ends::NewerPoints(keep.last.unwrap_or_default().max(keep.min)),
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
