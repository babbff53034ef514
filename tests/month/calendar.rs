//! Which slots a month has, found by walking over its days: no cron line is read for it.

use jiff::civil::{Date, Weekday, time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use std::collections::BTreeSet;

/// One schedule of the configuration, as a person would write it into a diary.
pub struct Lane {
    pub job: &'static str,
    /// `*` for what the main file wants.
    pub policy: &'static str,
    pub zone: &'static str,
    /// Hours and minutes of each of its days.
    pub times: &'static [(i8, i8)],
    pub days: &'static [Weekday],
}

pub const DAILY: &[Weekday] = &[
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub at: Timestamp,
    pub job: &'static str,
    pub policy: &'static str,
}

/// All slots after `from` and up to `until`, in order.
pub fn slots(lanes: &[Lane], from: Timestamp, until: Timestamp) -> BTreeSet<Slot> {
    let mut all = BTreeSet::new();
    for lane in lanes {
        let zone = TimeZone::get(lane.zone).unwrap();
        let mut day = zone.to_datetime(from).date().yesterday().unwrap();
        while zone.to_timestamp(day.to_datetime(time(0, 0, 0, 0))).unwrap() <= until {
            for (hour, minute) in lane.times.iter().filter(|_| lane.days.contains(&day.weekday())) {
                let at = instant(&zone, day, *hour, *minute);
                if from < at && at <= until {
                    all.insert(Slot { at, job: lane.job, policy: lane.policy });
                }
            }
            day = day.checked_add(1.day()).unwrap();
        }
    }
    all
}

/// What the clock on the wall skips comes when it has skipped it; what it shows twice comes the first time.
fn instant(zone: &TimeZone, day: Date, hour: i8, minute: i8) -> Timestamp {
    let wall = day.to_datetime(time(hour, minute, 0, 0));
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(wall).unwrap()
        }
        AmbiguousOffset::Gap { after, .. } => {
            let before_the_gap = after.to_timestamp(wall).unwrap();
            zone.following(before_the_gap).next().unwrap().timestamp()
        }
    }
}

#[test]
fn the_diary_is_right_when_clocks_change() {
    let lane = [Lane { job: "backup", policy: "books", zone: "Europe/Madrid", times: &[(2, 30)], days: DAILY }];
    let of = |from: &str, until: &str| {
        let all = slots(&lane, from.parse().unwrap(), until.parse().unwrap());
        all.into_iter().map(|slot| slot.at.to_string()).collect::<Vec<_>>()
    };
    let autumn = of("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let spring = of("2027-03-27T12:00:00Z", "2027-03-29T12:00:00Z");
    assert_eq!(spring, ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
}
