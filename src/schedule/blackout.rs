//! Hours and days in which no run begins.

use crate::policy::{Blackout, Freeze, Timing};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Rules that shut every hour are not looked through for ever.
const MOST: usize = 1000;

/// When may begin what may not at this instant, by blackouts, windows and frozen days; nothing where it may now.
pub fn opening(timing: &Timing, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let mut moved = None;
    for _ in 0..MOST {
        let inside = moved.unwrap_or(at);
        let shut = end_of_blackout(&timing.blackout, zone, inside)
            .or_else(|| end_of_freeze(&timing.freeze, zone, inside))
            .or_else(|| next_window(&timing.window, zone, inside));
        match shut {
            Some(later) => moved = Some(later),
            None => break,
        }
    }
    moved
}

/// When the frozen days are over that this instant lies in.
pub fn end_of_freeze(freeze: &[Freeze], zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let today = at.to_zoned(zone.clone()).date();
    let end = freeze.iter().filter(|freeze| freeze.holds(today)).filter_map(|freeze| freeze.end(today)).max()?;
    Some(end.to_zoned(zone.clone()).ok()?.timestamp())
}

/// When the next window opens; nothing in one, and without any.
fn next_window(windows: &[Blackout], zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    if windows.is_empty() || windows.iter().any(|window| end_of(window, zone, at).is_some()) {
        return None;
    }
    let today = at.to_zoned(zone.clone()).date();
    let days = (0..=8).filter_map(|days| today.checked_add(days.days()).ok());
    let begins = days.flat_map(|day| windows.iter().filter_map(move |window| Some(span(window, zone, day)?.0)));
    begins.filter(|begin| *begin > at).min()
}

/// When the blackout ends that this instant lies in, the following ones included; nothing outside of them.
fn end_of_blackout(windows: &[Blackout], zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
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
