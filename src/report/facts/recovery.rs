//! How much of a source would have been lost at worst, day by day: the distance from each instant to the newest point.
//!
//! Just before a point is committed the one before it is all there is; so the distance is greatest then, or at the end of the
//! day when none is.

use super::Mark;
use crate::report::period::Period;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Recovery {
    /// What the newest point stood for when the period began.
    pub before: Option<Timestamp>,
    /// The first point there ever was, where it was made in the period: before it there was nothing to go back to.
    pub first: Option<Timestamp>,
    pub points: u64,
    pub worst: Option<Worst>,
    pub days: BTreeMap<Date, DayOfPoints>,
    #[serde(skip)]
    newest: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worst {
    pub seconds: i64,
    pub at: Timestamp,
    /// The record that ended it; nothing where the period ended first.
    pub record: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DayOfPoints {
    pub points: u64,
    /// Nothing on the day of the first point there ever was.
    pub worst_seconds: Option<i64>,
    pub newest: Timestamp,
}

impl Recovery {
    pub fn committed(&mut self, mark: Mark, consistent_at: Timestamp, period: &Period) {
        let before = self.newest;
        self.newest = self.newest.max(Some(consistent_at));
        if mark.at < period.from {
            self.before = self.newest;
        }
        if !period.contains(mark.at) {
            return;
        }
        self.points += 1;
        if before.is_none() {
            self.first = Some(mark.at);
        }
        let distance = before.map(|before| mark.at.duration_since(before).as_secs());
        if let Some(seconds) = distance {
            self.note(Worst { seconds, at: mark.at, record: Some(mark.record) });
        }
        let newest = self.newest.unwrap_or(consistent_at);
        let day =
            self.days.entry(period.date_of(mark.at)).or_insert(DayOfPoints { points: 0, worst_seconds: None, newest });
        day.points += 1;
        day.worst_seconds = day.worst_seconds.max(distance);
        day.newest = newest;
    }

    fn note(&mut self, found: Worst) {
        if self.worst.is_none_or(|worst| worst.seconds < found.seconds) {
            self.worst = Some(found);
        }
    }

    /// Fills in the days, and the time after the last point.
    pub fn finish(&mut self, period: &Period, until: Timestamp) {
        let mut newest = self.before;
        for day in period.days().take_while(|day| day.from < until) {
            let known = self.days.get(&day.date).copied();
            newest = known.map(|day| day.newest).or(newest);
            let Some(newest) = newest else { continue };
            let end = day.to.min(until);
            let open = end.duration_since(newest).as_secs();
            let day_of_points =
                self.days.entry(day.date).or_insert(DayOfPoints { points: 0, worst_seconds: None, newest });
            day_of_points.worst_seconds = day_of_points.worst_seconds.max(Some(open));
            if end == until {
                self.note(Worst { seconds: open, at: until, record: None });
            }
        }
    }
}
