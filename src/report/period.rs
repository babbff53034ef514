//! The time that a report is about: a year, a quarter, a month, a week of ISO 8601, or from one day to another.
//!
//! Whole days of one zone, so that a night is in one report and in no other. Half-open: it ends where the next one begins.

use crate::error::{Failure, Result};
use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

#[derive(Clone, Debug, PartialEq)]
pub struct Period {
    /// As it was asked for.
    pub name: String,
    pub first_day: Date,
    /// The last day that belongs to it.
    pub last_day: Date,
    pub from: Timestamp,
    /// The first instant that does not.
    pub to: Timestamp,
    pub zone: TimeZone,
}

/// One day, as long as it is in its zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Day {
    pub date: Date,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Period {
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self> {
        let text = text.trim();
        let wrong = || {
            Failure::usage(format!("`{text}` is no period"))
                .hint("Write 2026, 2026-Q4, 2026-11, 2026-W48, or from one day to another: 2026-10-01..2026-11-15")
        };
        let (first, last) = days_of(text).filter(|(first, last)| first <= last).ok_or_else(wrong)?;
        Period::of_days(text, first, last, zone).ok_or_else(wrong)
    }

    fn of_days(name: &str, first_day: Date, last_day: Date, zone: &TimeZone) -> Option<Self> {
        let begin = |day: Date| day.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
        let (from, to) = (begin(first_day)?, begin(last_day.tomorrow().ok()?)?);
        Some(Period { name: name.to_owned(), first_day, last_day, from, to, zone: zone.clone() })
    }

    /// The quarter of an instant.
    pub fn quarter_of(now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let today = now.to_zoned(zone.clone());
        Period::parse(&format!("{}-Q{}", today.year(), (today.month() - 1) / 3 + 1), zone)
    }

    /// Today, and so many days before it.
    pub fn last_days(days: i64, now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let today = now.to_zoned(zone.clone()).date();
        let first = today.checked_sub(days.days());
        let period = first.ok().and_then(|first| Period::of_days(&format!("{first}..{today}"), first, today, zone));
        period.ok_or_else(|| Failure::usage(format!("{days} days before today is no day")))
    }

    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Where what can be known ends: a period may not be over yet.
    pub fn until(&self, now: Timestamp) -> Timestamp {
        self.to.min(now).max(self.from)
    }

    pub fn days(&self) -> impl Iterator<Item = Day> + '_ {
        let days = std::iter::successors(Some(self.first_day), |day| day.tomorrow().ok());
        days.take_while(|day| *day <= self.last_day).filter_map(|date| {
            let begin = |day: Date| day.to_zoned(self.zone.clone()).ok().map(|zoned| zoned.timestamp());
            Some(Day { date, from: begin(date)?, to: begin(date.tomorrow().ok()?)? })
        })
    }

    pub fn date_of(&self, at: Timestamp) -> Date {
        at.to_zoned(self.zone.clone()).date()
    }
}

fn days_of(text: &str) -> Option<(Date, Date)> {
    if let Some((from, to)) = text.split_once("..") {
        return Some((day(from)?, day(to)?));
    }
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i16>().ok().filter(|_| plain)
    };
    let Some((year, rest)) = text.split_once('-') else {
        let year = number(text, 4)?;
        return Some((Date::new(year, 1, 1).ok()?, Date::new(year, 12, 31).ok()?));
    };
    let year = number(year, 4)?;
    if let Some(week) = rest.strip_prefix(['W', 'w']) {
        let monday = ISOWeekDate::new(year, i8::try_from(number(week, 2)?).ok()?, Weekday::Monday).ok()?.date();
        return Some((monday, monday.checked_add(6.days()).ok()?));
    }
    let (month, months) = match rest.strip_prefix(['Q', 'q', 'T', 't']) {
        Some(quarter) => (3 * number(quarter, 1).filter(|q| (1..=4).contains(q))? - 2, 3),
        None => match number(rest, 2) {
            Some(month) => (month, 1),
            None => return day(text).map(|day| (day, day)),
        },
    };
    let first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
    Some((first, first.checked_add(months.months()).ok()?.yesterday().ok()?))
}

fn day(text: &str) -> Option<Date> {
    let text = text.trim();
    text.parse().ok().filter(|_| text.len() == 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bogota() -> TimeZone {
        TimeZone::get("America/Bogota").unwrap()
    }

    #[test]
    fn periods_are_whole_days_of_the_zone() {
        let table = [
            ("2026", "2026-01-01T05:00:00Z", "2027-01-01T05:00:00Z"),
            ("2026-Q4", "2026-10-01T05:00:00Z", "2027-01-01T05:00:00Z"),
            ("2026-t1", "2026-01-01T05:00:00Z", "2026-04-01T05:00:00Z"),
            ("2026-11", "2026-11-01T05:00:00Z", "2026-12-01T05:00:00Z"),
            ("2026-W48", "2026-11-23T05:00:00Z", "2026-11-30T05:00:00Z"),
            ("2026-10-01..2026-10-02", "2026-10-01T05:00:00Z", "2026-10-03T05:00:00Z"),
            ("2026-10-01", "2026-10-01T05:00:00Z", "2026-10-02T05:00:00Z"),
        ];
        for (text, from, to) in table {
            let period = Period::parse(text, &bogota()).unwrap();
            assert_eq!((period.from.to_string(), period.to.to_string()), (from.into(), to.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in ["", "26", "2026-Q5", "2026-13", "2026-W54", "2026-10-02..2026-10-01", "..", "2026-1", "+202", "x"]
        {
            assert!(Period::parse(text, &bogota()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_is_as_long_as_daylight_saving_makes_it() {
        let madrid = TimeZone::get("Europe/Madrid").unwrap();
        let period = Period::parse("2026-10-24..2026-10-26", &madrid).unwrap();
        let hours: Vec<i64> = period.days().map(|day| day.to.duration_since(day.from).as_hours()).collect();
        assert_eq!(hours, [24, 25, 24]);
    }

    #[test]
    fn a_period_that_is_not_over_ends_now() {
        let period = Period::parse("2026-Q4", &bogota()).unwrap();
        let now = "2026-11-30T00:00:00Z".parse().unwrap();
        assert_eq!(period.until(now), now);
        assert_eq!(period, Period::quarter_of(now, &bogota()).unwrap());
    }
}
