//! When a backup of a source must have come to a good end: the instant that one alert compares with, for every schedule.
//!
//! It is the deadline of the first slot after the last success. Where nothing succeeded yet, it counts from the first try, or
//! else from when the source was configured: what never ran is due too.

use crate::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};

/// What is known about a source.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// When the last run began that ended well.
    pub last_success: Option<Timestamp>,
    pub first_try: Option<Timestamp>,
    pub configured: Option<Timestamp>,
}

/// Nothing without a schedule and without an objective: then nobody said when.
pub fn due(
    schedule: Option<&Schedule>,
    rpo: Option<SignedDuration>,
    since: Since,
    newest: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let never = since.first_try.or(since.configured).unwrap_or(now).min(now);
    match (schedule, rpo) {
        // A slot that was tried and failed counts, so the search begins just before it.
        (Some(schedule), _) => {
            let from = since.last_success.unwrap_or_else(|| earlier(never));
            schedule.upcoming(from).next().map(|due| due.deadline)
        }
        (None, Some(rpo)) => newest.unwrap_or(never).checked_add(rpo).ok(),
        (None, None) => None,
    }
}

fn earlier(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_secs(1)).unwrap_or(at)
}
