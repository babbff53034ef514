//! The instants that a cron line means, by the rules of a real zone.
//!
//! A time that daylight saving leaves out comes right after the gap; one that happens twice comes once, unless the line
//! repeats through the hour (`*/15 * * * *`), which then goes on through both. Seconds are whole.

use crate::policy;
use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Debug)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Nothing for what is no schedule, which the configuration has refused before.
    pub fn new(schedule: &str, zone: TimeZone) -> Option<Self> {
        Some(Calendar { cron: policy::cron(schedule).ok()?, zone })
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first slot after this instant.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        let mut from = whole.to_zoned(self.zone.clone());
        // It never goes back: should the calendar ever say otherwise, the search begins again further on.
        for _ in 0..4 {
            let found = self.cron.find_next_occurrence(&from, false).ok()?;
            if found.timestamp() > after {
                return Some(found.timestamp());
            }
            from = from.checked_add(SignedDuration::from_hours(1)).ok()?;
        }
        None
    }

    /// The latest slot up to this instant.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        let whole = Timestamp::from_second(until.as_second()).ok()?;
        let found = self.cron.find_previous_occurrence(&whole.to_zoned(self.zone.clone()), true).ok()?;
        Some(found.timestamp())
    }

    /// All slots after this instant.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), |slot| self.next(*slot))
    }
}
