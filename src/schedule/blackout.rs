//! Hours in which no run begins.

use crate::policy::Blackout;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// When the blackout ends that this instant lies in, the following ones included; nothing outside of them.
pub fn end_of_blackout(windows: &[Blackout], zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let mut end = None;
    // Windows may follow upon each other, but not for ever.
    for _ in 0..=7 * windows.len() {
        let inside = end.unwrap_or(at);
        match windows.iter().filter_map(|window| end_of(window, zone, inside)).max() {
            Some(later) => end = Some(later),
            None => break,
        }
    }
    end
}

/// When this window ends, if the instant lies in it.
fn end_of(window: &Blackout, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let today = at.to_zoned(zone.clone()).date();
    let yesterday = today.checked_sub(1.day()).ok()?;
    [yesterday, today]
        .into_iter()
        .filter_map(|day| span(window, zone, day))
        .find(|(from, to)| (*from..*to).contains(&at))
        .map(|(_, to)| to)
}

fn span(window: &Blackout, zone: &TimeZone, day: Date) -> Option<(Timestamp, Timestamp)> {
    if !window.begins_on(day.weekday()) {
        return None;
    }
    let last = if window.to > window.from { day } else { day.checked_add(1.day()).ok()? };
    let instant = |day: Date, time| Some(day.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp());
    Some((instant(day, window.from)?, instant(last, window.to)?))
}
