//! What stays and what goes, by example and by property.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rules(text: &str) -> Rules {
    let mut rules = Rules::default();
    for part in text.split(", ") {
        let (name, value) = part.split_once(' ').unwrap();
        let count = value.parse().ok();
        match name {
            "last" => rules.last = count,
            "hourly" => rules.hourly = count,
            "daily" => rules.daily = count,
            "weekly" => rules.weekly = count,
            "monthly" => rules.monthly = count,
            "yearly" => rules.yearly = count,
            "min" => rules.min = value.parse().unwrap(),
            "within" => rules.within = Some(value.parse().unwrap()),
            "safety" => rules.safety = value.parse().unwrap(),
            other => panic!("{other}"),
        }
    }
    rules
}

/// Points in the order in which they were made, the newest proven readable.
fn series(instants: &[Timestamp]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = (0u64..)
        .zip(instants)
        .map(|(number, &at)| Candidate {
            point: format!("{}-{number:08x}", crate::repo::names::utc(at)),
            sequence: number + 1,
            at,
            stored: at,
            safety: false,
            level: None,
            pinned: None,
        })
        .collect();
    if let Some(newest) = all.last_mut() {
        newest.level = Some(Level::Readable);
    }
    all
}

fn daily(first: &str, days: i64) -> Vec<Timestamp> {
    (0..days).map(|day| at(first) + jiff::SignedDuration::from_hours(24 * day)).collect()
}

const LONG_AFTER: &str = "2030-01-01T00:00:00Z";

fn kept_in(zone: &str, rules: &Rules, candidates: &[Candidate]) -> Vec<usize> {
    let zone = TimeZone::get(zone).unwrap();
    let decisions = decide(rules, &zone, candidates, at(LONG_AFTER));
    let number = |point: &str| candidates.iter().position(|c| c.point == point).unwrap();
    decisions.iter().filter(|d| d.keep).map(|d| number(&d.point)).collect()
}

fn kept(rules: &Rules, candidates: &[Candidate]) -> Vec<usize> {
    kept_in("UTC", rules, candidates)
}

fn reason(rules: &Rules, candidates: &[Candidate], i: usize) -> String {
    let decisions = decide(rules, &TimeZone::UTC, candidates, at(LONG_AFTER));
    decisions.into_iter().find(|d| d.point == candidates[i].point).unwrap().reason
}

#[test]
fn each_rule_keeps_the_newest_point_of_its_periods() {
    let points = series(&daily("2026-01-01T02:30:00Z", 60));
    assert_eq!(kept(&rules("last 3"), &points), [57, 58, 59]);
    assert_eq!(kept(&rules("daily 2"), &points), [58, 59]);
    // 2026-03-01 is a Sunday: the newest days of three ISO weeks.
    assert_eq!(kept(&rules("weekly 3"), &points), [45, 52, 59]);
    assert_eq!(kept(&rules("monthly 2"), &points), [58, 59]);
    assert_eq!(kept(&rules("monthly 9"), &points), [30, 58, 59]);
    assert_eq!(kept(&rules("yearly 5"), &points), [59]);
    assert_eq!(kept(&rules("within 3d"), &points), [56, 57, 58, 59]);
    assert_eq!(kept(&rules("within 1mo"), &points).first(), Some(&31), "February is as long as it is");
    assert_eq!(kept(&rules("last 1, weekly 2, monthly 2"), &points), [52, 58, 59]);
}

#[test]
fn every_decision_has_a_reason_that_names_what_decided() {
    let points = series(&daily("2026-01-01T02:30:00Z", 60));
    let wanted = rules("daily 2, monthly 3");
    assert_eq!(reason(&wanted, &points, 58), "daily 2 of 2: 2026-02-28, monthly 2 of 3: 2026-02");
    assert_eq!(reason(&wanted, &points, 57), "0000003a stands for 2026-02 (monthly)");
    assert_eq!(reason(&rules("daily 2"), &points, 0), "beyond what is kept: daily 2");
    assert_eq!(reason(&wanted, &points, 59), "the newest point");
}

#[test]
fn days_are_those_of_the_zone() {
    // 23:30 and 00:30 in Bogotá are one day in UTC.
    let points = series(&[at("2026-05-02T04:30:00Z"), at("2026-05-02T05:30:00Z")]);
    assert_eq!(kept_in("America/Bogota", &rules("daily 5"), &points), [0, 1]);
    assert_eq!(kept_in("UTC", &rules("daily 5"), &points), [1]);
}

#[test]
fn an_hour_that_daylight_saving_repeats_is_two_hours_and_one_that_it_leaves_out_is_none() {
    let autumn = ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
    let points = series(&autumn.map(at));
    assert_eq!(kept_in("Europe/Madrid", &rules("hourly 9"), &points), [0, 1, 2, 3], "01:30, 02:30, 02:30, 03:30");
    assert_eq!(kept_in("Europe/Madrid", &rules("daily 9"), &points), [3]);
    let spring = series(&["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"].map(at));
    assert_eq!(kept_in("Europe/Madrid", &rules("hourly 9"), &spring), [0, 1], "01:30 and 03:30");
    // A day back is a day of the calendar, not 24 hours.
    let spring = series(&["2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"].map(at));
    assert_eq!(kept_in("Europe/Madrid", &rules("within 1d"), &spring), [0, 1]);
    assert_eq!(kept_in("Europe/Madrid", &rules("within 22h"), &spring), [1]);
}

#[test]
fn the_newest_proven_points_and_all_behind_no_readable_one_stay() {
    let mut points = series(&daily("2026-01-01T00:00:00Z", 10));
    points[9].level = None;
    assert_eq!(kept(&rules("last 1"), &points).len(), 10, "nothing is readable");
    points[3].level = Some(Level::Equal);
    points[6].level = Some(Level::Readable);
    points[7].level = Some(Level::Stored);
    assert_eq!(kept(&rules("last 1"), &points), [3, 6, 7, 8, 9]);
    assert_eq!(reason(&rules("last 1"), &points, 3), "the newest point that is proven equal");
    assert_eq!(reason(&rules("last 1"), &points, 8), "no newer point is proven readable yet");
}

#[test]
fn pinned_points_stay_and_the_minimum_holds() {
    let mut points = series(&daily("2026-01-01T00:00:00Z", 10));
    points[2].pinned = Some("the audit".into());
    assert_eq!(kept(&rules("last 1"), &points), [2, 9]);
    assert_eq!(reason(&rules("last 1"), &points, 2), "pinned: the audit");
    assert_eq!(kept(&rules("yearly 1, min 4"), &points), [2, 6, 7, 8, 9]);
    assert_eq!(reason(&rules("yearly 1, min 4"), &points, 8), "minimum 2 of 4");
}

#[test]
fn safety_backups_count_for_nothing_and_have_their_own_time() {
    let mut points = series(&daily("2026-01-01T00:00:00Z", 10));
    points[8].safety = true;
    points[1].safety = true;
    let zone = TimeZone::UTC;
    let decisions = decide(&rules("last 2"), &zone, &points, at("2026-01-12T00:00:00Z"));
    let keeps: Vec<bool> = decisions.iter().map(|d| d.keep).collect();
    assert_eq!(keeps, [false, false, false, false, false, false, false, true, true, true]);
    assert_eq!(decisions[8].reason, "a safety backup; those stay for 7d");
    assert_eq!(decisions[1].reason, "a safety backup older than 7d");
    points[1].pinned = Some("before the great migration".into());
    assert!(decide(&rules("last 2"), &zone, &points, at("2026-01-12T00:00:00Z"))[1].keep);
}

#[test]
fn a_point_from_the_future_stays_and_counts_for_nothing() {
    let mut points = series(&daily("2026-01-01T00:00:00Z", 10));
    points[5].at = at("2027-01-01T00:00:00Z");
    points[5].stored = at("2026-01-06T00:00:00Z");
    assert_eq!(kept(&rules("last 2"), &points), [8, 9, 5]);
    assert!(reason(&rules("last 2"), &points, 5).contains("from the future"));
}

#[test]
fn a_clock_that_leapt_a_year_deletes_nothing_of_the_year_before() {
    // Host and store share the clock, so nothing contradicts it.
    let mut instants = daily("2026-01-01T00:00:00Z", 10);
    instants.push(at("2027-01-10T00:00:00Z"));
    let mut points = series(&instants);
    points[9].level = Some(Level::Readable);
    assert_eq!(kept(&rules("within 3d"), &points), [6, 7, 8, 9, 10]);
    // A day later another point confirms that a year has passed.
    instants.push(at("2027-01-11T00:00:00Z"));
    assert_eq!(kept(&rules("within 3d"), &series(&instants)), [10, 11]);
    // The clock is right again, and the point from then is the odd one.
    let mut back = daily("2026-01-01T00:00:00Z", 10);
    back.extend([at("2027-01-10T00:00:00Z"), at("2026-01-11T00:00:00Z"), at("2026-01-12T00:00:00Z")]);
    assert_eq!(kept(&rules("within 3d"), &series(&back)), [8, 9, 11, 12, 10]);
}

#[test]
fn a_burst_of_points_with_invented_times_pushes_no_true_one_out() {
    let mut instants = daily("2026-03-01T00:00:00Z", 14);
    // A thousand points in the last minute, which claim to be spread over the two weeks.
    instants.extend((0..1000).map(|n| at("2026-03-01T00:00:10Z") + jiff::SignedDuration::from_mins(18 * n)));
    let mut points = series(&instants);
    points[14..].iter_mut().for_each(|point| point.stored = at("2026-03-14T12:00:00Z"));
    let kept = kept(&rules("last 3, daily 14, monthly 1"), &points);
    assert!((0..14).all(|i| kept.contains(&i)), "{kept:?}");
}

#[test]
fn a_repository_that_was_moved_is_pruned_like_before() {
    let mut points = series(&daily("2026-01-01T00:00:00Z", 60));
    // The store got all but the last ones on the day of the move.
    points[..55].iter_mut().for_each(|point| point.stored = at("2026-02-24T12:00:00Z"));
    assert_eq!(kept(&rules("daily 2, monthly 3"), &points), [30, 58, 59]);
}

#[test]
fn times_on_the_calendar_are_read_and_written() {
    for (text, shown) in [("7d", "7d"), ("1mo", "1mo"), ("1y6mo", "1y 6mo"), ("2w", "2w"), ("36h", "36h")] {
        let age: Age = text.parse().unwrap();
        assert_eq!(age.to_string(), shown);
        assert_eq!(age.to_string().parse::<Age>().unwrap(), age);
    }
    for bad in ["", "7", "0d", "-7d", "7 parsecs", "d", "99999y", "7d ago", "P7D"] {
        assert!(bad.parse::<Age>().is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever the points, the rules and the clocks: the newest believed point stays, as do the newest proven one, what is
    /// pinned, and the minimum; and what stays under fewer rules stays under more.
    #[test]
    fn the_promises_hold(
        raw in proptest::collection::vec((0i64..4_000_000, 0u8..6, any::<bool>(), 0u8..20), 0..40),
        last in proptest::option::of(1u32..5), daily in proptest::option::of(1u32..5), min in 1u32..4,
    ) {
        let instants: Vec<Timestamp> = raw.iter().map(|(s, ..)| at("2026-01-01T00:00:00Z") + jiff::SignedDuration::from_secs(*s)).collect();
        let mut points = series(&instants);
        for (point, (_, level, safety, pin)) in points.iter_mut().zip(&raw) {
            point.level = [None, None, Some(Level::Stored), Some(Level::Readable), Some(Level::Loaded), Some(Level::Equal)][usize::from(*level)];
            point.safety = *safety;
            point.pinned = (*pin == 0).then(|| "x".into());
        }
        let rules = Rules { last, daily, min, ..rules("last 1") };
        let rules = Rules { last: rules.last, ..rules };
        let kept = kept(&rules, &points);
        let believed = instants::believe(&points, at(LONG_AFTER));
        let regular: Vec<usize> = {
            let mut all: Vec<usize> = (0..points.len()).filter(|&i| believed[i].is_ok() && !points[i].safety).collect();
            all.sort_by_key(|&i| (points[i].at, points[i].sequence));
            all
        };
        for &i in regular.iter().rev().take(min as usize) {
            prop_assert!(kept.contains(&i));
        }
        if let Some(i) = regular.iter().rev().find(|&&i| points[i].level >= Some(Level::Readable)) {
            prop_assert!(kept.contains(i));
        }
        for i in 0..points.len() {
            prop_assert!(kept.contains(&i) || (points[i].pinned.is_none() && believed[i].is_ok()));
        }
        let more = Rules { monthly: Some(3), ..rules };
        let more = self::kept(&more, &points);
        prop_assert!(kept.iter().all(|i| more.contains(i)));
    }
}
