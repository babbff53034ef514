//! How long objects are locked, tier by tier.
//!
//! `keep: 30d` is a fixed time. With `keep: policy` a new point is locked for as long as the finest of the periods that
//! retention counts keeps it: the last of a day for so many days. That it is the last of a week, a month or a year is only
//! known when that is over: then its lock, and that of all it needs, is raised to what that period keeps. Every run looks at
//! all points that stand for a period, so what one run could not raise, the next one does. Which instant means what is pure.

use crate::error::Result;
use crate::event::Cancel;
use crate::policy::{Keep, LockKeep, ObjectLock, Policy};
use crate::repo::catalog::{self, Wanted};
use crate::repo::keys::Keyring;
use crate::repo::retention::Period;
use crate::repo::sign::Trust;
use crate::repo::{Repository, locking, names};
use crate::store::{Key, Retain};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Where no policy says how long points are kept.
const WITHOUT_POLICY: i64 = 30;

/// What retention keeps, and in which zone its days are.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub keep: &'a Keep,
    pub zone: &'a TimeZone,
}

impl<'a> Kept<'a> {
    pub fn by(policy: &'a Policy) -> Option<Self> {
        policy.keep.as_ref().map(|keep| Kept { keep, zone: &policy.timezone })
    }
}

/// The lock of a point that is made now, and of all that it needs.
pub fn of_new(lock: &ObjectLock, kept: Option<Kept<'_>>, now: Timestamp) -> Retain {
    let days = |days: i64| now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX);
    let until = match (lock.keep, kept) {
        (LockKeep::Days(number), _) => days(i64::from(number)),
        (LockKeep::Policy, Some(kept)) => finest(kept, now).unwrap_or_else(|| days(1)),
        (LockKeep::Policy, None) => days(WITHOUT_POLICY),
    };
    Retain { mode: lock.mode, until }
}

/// Until when the finest period keeps a point of that instant. A number of points (`last`) is no time.
fn finest(Kept { keep, zone }: Kept<'_>, at: Timestamp) -> Option<Timestamp> {
    let local = at.to_zoned(zone.clone());
    let of_period = Period::all(keep).first().and_then(|period| period.after(&local));
    let within = keep.within.and_then(|within| within.after(&local));
    of_period.into_iter().chain(within).max()
}

/// Points that stand for a period that is over, and until when retention will want them for it. `points` have the newest first.
pub fn tiers<'k>(Kept { keep, zone }: Kept<'_>, points: &[(&'k Key, Timestamp)]) -> BTreeMap<&'k Key, Timestamp> {
    let mut wanted: BTreeMap<&Key, Timestamp> = BTreeMap::new();
    for period in Period::all(keep) {
        let (mut number, mut current) = (0, None);
        for (key, at) in points {
            let local = at.to_zoned(zone.clone());
            let name = (period.of)(&local);
            if current.as_ref() == Some(&name) {
                continue;
            }
            (number, current) = (number + 1, Some(name));
            if number > period.count {
                break;
            }
            // Of the period that is not over yet, another point may come to be the last.
            if let Some(until) = period.after(&local).filter(|_| number > 1) {
                let longest = wanted.entry(*key).or_insert(until);
                *longest = until.max(*longest);
            }
        }
    }
    wanted
}

/// The locks of one series in one store.
pub struct Series<'a> {
    pub repository: &'a Repository,
    pub keys: &'a Keyring,
    pub trust: &'a Trust,
    pub writer: &'a str,
    pub source: &'a str,
    pub lock: &'a ObjectLock,
    pub kept: Kept<'a>,
}

impl Series<'_> {
    /// Raises what is locked for less than retention wants it. Gives how many points that were.
    pub fn raise(&self, cancel: &Cancel, now: Timestamp) -> Result<u64> {
        let store = &self.repository.store;
        if self.lock.keep != LockKeep::Policy || store.retention().is_none() {
            return Ok(0);
        }
        let mut listed: Vec<Key> =
            store.list(&names::points(self.writer, Some(self.source)))?.into_iter().map(|entry| entry.key).collect();
        let mut raised = 0;
        loop {
            let short = self.short(&listed, now)?;
            let among: BTreeSet<Key> = short.keys().cloned().collect();
            let wanted = Wanted {
                source: Some(self.source),
                writer: Some(self.writer),
                among: Some(&among),
                ..Wanted::default()
            };
            let points = match among.is_empty() {
                true => return Ok(raised),
                false => catalog::list(self.repository, self.keys, self.trust, wanted)?.points,
            };
            // Retention does not count safety backups: without them others stand for their periods.
            let safety: BTreeSet<Key> = points.iter().filter(|p| p.is_safety()).map(|p| p.key()).collect();
            if safety.is_empty() {
                for point in &points {
                    let retain = Retain { mode: self.lock.mode, until: short[&point.key()] };
                    locking::raise_point(self.repository, point, self.keys, &retain, cancel)?;
                    raised += 1;
                }
                return Ok(raised);
            }
            listed.retain(|key| !safety.contains(key));
        }
    }

    /// Points whose lock ends too early, and when it should.
    fn short(&self, listed: &[Key], now: Timestamp) -> Result<BTreeMap<Key, Timestamp>> {
        let mut points: Vec<(&Key, Timestamp)> =
            listed.iter().filter_map(|key| Some((key, names::instant_of(key.last())?))).collect();
        points.sort_by_key(|(key, at)| std::cmp::Reverse((*at, *key)));
        let mut short = BTreeMap::new();
        for (key, until) in tiers(self.kept, &points).into_iter().filter(|(_, until)| *until > now) {
            let held = self.repository.store.head(key)?.retain;
            if held.is_none_or(|held| held.until < until) {
                short.insert(key.clone(), until);
            }
        }
        Ok(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LockMode;

    fn keep(yaml: &[(&str, u32)]) -> Keep {
        let rules: serde_json::Map<_, _> =
            yaml.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
        let mut value = serde_json::json!({ "min": 1, "safety": "7d" });
        value.as_object_mut().unwrap().extend(rules);
        serde_json::from_value(value).unwrap()
    }

    fn days(lock: LockKeep, kept: Option<&Keep>) -> i64 {
        let lock = ObjectLock { mode: LockMode::Compliance, keep: lock };
        let zone = TimeZone::UTC;
        let retain = of_new(&lock, kept.map(|keep| Kept { keep, zone: &zone }), Timestamp::UNIX_EPOCH);
        assert_eq!(retain.mode, LockMode::Compliance);
        retain.until.as_second() / 86_400
    }

    #[test]
    fn the_finest_period_of_the_policy_counts() {
        assert_eq!(days(LockKeep::Policy, Some(&keep(&[("last", 3), ("daily", 14), ("yearly", 2)]))), 14);
        assert_eq!(days(LockKeep::Policy, Some(&keep(&[("hourly", 48), ("daily", 14)]))), 2);
        assert_eq!(days(LockKeep::Policy, Some(&keep(&[("yearly", 2)]))), 730);
        assert_eq!(days(LockKeep::Policy, Some(&keep(&[("last", 3)]))), 1);
        assert_eq!(days(LockKeep::Policy, None), 30);
        assert_eq!(days(LockKeep::Days(7), Some(&keep(&[("daily", 14)]))), 7);
    }

    #[test]
    fn a_point_is_wanted_for_the_periods_it_ends() {
        let names =
            ["20260105T020000Z", "20260104T020000Z", "20260103T020000Z", "20260102T020000Z", "20251231T020000Z"];
        let keys: Vec<Key> =
            names.iter().map(|name| Key::new(format!("w/a/points/app/{name}-00000001")).unwrap()).collect();
        let points: Vec<_> = keys.iter().map(|key| (key, names::instant_of(key.last()).unwrap())).collect();
        let keep = keep(&[("daily", 3), ("weekly", 2), ("yearly", 2)]);
        let wanted = tiers(Kept { keep: &keep, zone: &TimeZone::UTC }, &points);
        let of = |number: usize| wanted.get(&keys[number]).map(|at: &Timestamp| at.to_string());
        assert_eq!(of(0), None, "it ends no period yet");
        assert_eq!(of(1).unwrap(), "2026-01-18T02:00:00Z", "a Sunday: the last of its week");
        assert_eq!(of(2).unwrap(), "2026-01-06T02:00:00Z", "the last of its day");
        assert_eq!(of(3), None, "beyond the days, and no end of a week");
        assert_eq!(of(4).unwrap(), "2027-12-31T02:00:00Z", "the last of its year");
    }
}
