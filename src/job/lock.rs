//! How long objects are locked. Pure.
//!
//! `keep: 30d` is a fixed time. With `keep: policy` a new point is locked for as long as the finest of the periods that
//! retention counts keeps it: the last of a day for so many days. That it becomes the last of a week, a month or a year is
//! only known when that is over; then its lock is raised to what that period keeps.

use crate::policy::{Keep, LockKeep, ObjectLock};
use crate::store::Retain;
use jiff::{SignedDuration, Timestamp};

/// Where no policy says how long points are kept.
const WITHOUT_POLICY: i64 = 30;

/// The lock of a point that is made now, and of all that it refers to.
pub fn of_new(lock: &ObjectLock, keep: Option<&Keep>, now: Timestamp) -> Retain {
    let days = match (lock.keep, keep) {
        (LockKeep::Days(days), _) => i64::from(days),
        (LockKeep::Policy, Some(keep)) => finest(keep),
        (LockKeep::Policy, None) => WITHOUT_POLICY,
    };
    Retain { mode: lock.mode, until: now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX) }
}

/// Days for which the finest period keeps a point, at least one. A number of points (`last`) is no time.
fn finest(keep: &Keep) -> i64 {
    let periods = [
        keep.hourly.map(|hours| i64::from(hours.div_ceil(24))),
        keep.daily.map(i64::from),
        keep.weekly.map(|weeks| 7 * i64::from(weeks)),
        keep.monthly.map(|months| 31 * i64::from(months)),
        keep.yearly.map(|years| 366 * i64::from(years)),
    ];
    periods.into_iter().flatten().next().unwrap_or(1).min(100 * 366)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LockMode;

    fn days(keep: LockKeep, policy: Option<Keep>) -> i64 {
        let lock = ObjectLock { mode: LockMode::Compliance, keep };
        let retain = of_new(&lock, policy.as_ref(), Timestamp::UNIX_EPOCH);
        assert_eq!(retain.mode, LockMode::Compliance);
        retain.until.as_second() / 86_400
    }

    #[test]
    fn the_finest_period_of_the_policy_counts() {
        let keep = Keep { last: Some(3), daily: Some(14), yearly: Some(2), ..Keep::default() };
        assert_eq!(days(LockKeep::Policy, Some(keep)), 14);
        assert_eq!(days(LockKeep::Policy, Some(Keep { hourly: Some(30), ..keep })), 2);
        assert_eq!(days(LockKeep::Policy, Some(Keep { daily: None, ..keep })), 732);
        assert_eq!(days(LockKeep::Policy, Some(Keep { last: Some(3), ..Keep::default() })), 1);
        assert_eq!(days(LockKeep::Policy, None), 30);
        assert_eq!(days(LockKeep::Days(7), Some(keep)), 7);
    }
}
