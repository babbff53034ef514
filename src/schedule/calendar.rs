//! The instants that a cron line means, by the rules of a real zone.
//!
//! A time that daylight saving leaves out comes right after the gap; one that happens twice comes once, the first time. A
//! line for every hour (`*/15 * * * *`, `@hourly`) goes on through both instead. Seconds are whole.
//! Croner moves only what names one time of the day; it drops those of `0 2,14 * * *`. So it is asked what the clock on the
//! wall shows, and which instants these are is found here.

use crate::policy;
use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Croner's own name for it is private.
const SET: u8 = 1;

#[derive(Clone, Debug)]
pub struct Calendar {
    /// Shared: it has a bit for each year there is.
    cron: Option<Arc<Cron>>,
    zone: TimeZone,
    /// No slot before this one counts.
    from: Timestamp,
}

/// Cron lines that were understood before; most policies have one of a few.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Arc<Cron>>);

impl Known {
    fn cron(&mut self, schedule: &str) -> Option<Arc<Cron>> {
        if let Some(known) = self.0.get(schedule) {
            return Some(known.clone());
        }
        let cron = Arc::new(policy::cron(schedule).ok()?);
        self.0.insert(schedule.to_owned(), cron.clone());
        Some(cron)
    }
}

impl Calendar {
    /// Nothing for what is no schedule, which the configuration has refused before.
    pub fn new(schedule: &str, zone: TimeZone) -> Option<Self> {
        Calendar::of_known(schedule, zone, &mut Known::default())
    }

    pub fn of_known(schedule: &str, zone: TimeZone, known: &mut Known) -> Option<Self> {
        Some(Calendar { cron: Some(known.cron(schedule)?), zone, from: Timestamp::MIN })
    }

    /// One without any slot.
    pub fn never(zone: TimeZone) -> Self {
        Calendar { cron: None, zone, from: Timestamp::MIN }
    }

    /// The same without the slots before this one.
    pub fn starting(self, from: Option<Timestamp>) -> Self {
        Calendar { from: from.unwrap_or(Timestamp::MIN), ..self }
    }

    /// There are slots at all.
    pub fn is_ever(&self) -> bool {
        self.cron.is_some()
    }

    /// Before this instant no slot counts.
    pub fn starts(&self) -> Timestamp {
        self.from
    }

    /// The line names this instant, whatever counts now.
    pub fn is_time(&self, slot: Timestamp) -> bool {
        self.latest_of_line(slot) == Some(slot)
    }

    /// The same, where it counts now.
    pub fn counts(&self, slot: Timestamp) -> bool {
        self.is_time(slot) && slot >= self.from
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// It counts the hours that pass, whatever the clock on the wall shows.
    fn is_of_every_hour(&self) -> bool {
        self.cron
            .as_ref()
            .is_some_and(|cron| (0..24).all(|hour| cron.pattern.hours.is_bit_set(hour, SET).unwrap_or(false)))
    }

    /// The first slot after this instant.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let before = self.from.checked_sub(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MIN);
        self.next_of_line(after.max(before))
    }

    fn next_of_line(&self, after: Timestamp) -> Option<Timestamp> {
        let cron = self.cron.as_ref()?;
        if self.is_of_every_hour() {
            return self.next_that_passes(cron, after);
        }
        let mut wall = on_a_wall(self.zone.to_datetime(Timestamp::from_second(after.as_second()).ok()?))?;
        loop {
            wall = cron.find_next_occurrence(&wall, false).ok()?;
            // What the wall shows for the second time has come before.
            if let Some(slot) = self.instant(wall.datetime()).filter(|slot| *slot > after) {
                return Some(slot);
            }
        }
    }

    fn next_that_passes(&self, cron: &Cron, after: Timestamp) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        let mut from = whole.to_zoned(self.zone.clone());
        // It never goes back: should the calendar ever say otherwise, the search begins again further on.
        for _ in 0..4 {
            let found = cron.find_next_occurrence(&from, false).ok()?;
            if found.timestamp() > after {
                return Some(found.timestamp());
            }
            from = from.checked_add(SignedDuration::from_hours(1)).ok()?;
        }
        None
    }

    /// The latest slot up to this instant.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        self.latest_of_line(until).filter(|slot| *slot >= self.from)
    }

    fn latest_of_line(&self, until: Timestamp) -> Option<Timestamp> {
        let cron = self.cron.as_ref()?;
        let whole = Timestamp::from_second(until.as_second()).ok()?;
        if self.is_of_every_hour() {
            let found = cron.find_previous_occurrence(&whole.to_zoned(self.zone.clone()), true).ok()?;
            return Some(found.timestamp());
        }
        let (mut wall, mut inclusive) = (on_a_wall(self.furthest(whole))?, true);
        loop {
            wall = cron.find_previous_occurrence(&wall, inclusive).ok()?;
            inclusive = false;
            if let Some(slot) = self.instant(wall.datetime()).filter(|slot| *slot <= until) {
                return Some(slot);
            }
        }
    }

    /// What the clock on the wall has shown up to this instant: before it was set back it may have been further.
    fn furthest(&self, until: Timestamp) -> DateTime {
        let now = self.zone.to_datetime(until);
        let second = SignedDuration::from_secs(1);
        let soon = until.checked_add(second).unwrap_or(until);
        let set = self.zone.preceding(soon).next().map(|transition| transition.timestamp());
        let before = set.and_then(|set| set.checked_sub(second).ok());
        before.map_or(now, |before| now.max(self.zone.to_datetime(before)))
    }

    /// When the clock on the wall shows this for the first time, or leaves it out.
    fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(wall).ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                let before_the_gap = after.to_timestamp(wall).ok()?;
                Some(self.zone.following(before_the_gap).next()?.timestamp())
            }
        }
    }

    /// All slots after this instant.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), |slot| self.next(*slot))
    }
}

/// For who knows only instants: there each time is shown once.
fn on_a_wall(shown: DateTime) -> Option<Zoned> {
    shown.to_zoned(TimeZone::UTC).ok()
}
