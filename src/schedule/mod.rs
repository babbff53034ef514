//! When things are due: the calendar of a schedule, and what to do about its slots at an instant.
//!
//! Pure: `now` and what the journal knows come in, steps with their reasons come out ([`Schedule::decide`]). The daemon carries
//! them out and notes each in the journal, which makes it known the next time; so a crash between any two of them costs nothing.
//! Nothing here waits, and nothing asks a clock.

mod blackout;
mod calendar;
mod decide;
mod outlook;
mod rotations;
#[cfg(test)]
mod tests;

use crate::journal::{EVERY_POLICY, Job};
use crate::policy::{Configuration, Policy, Routine, Timing};
use calendar::Known;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

pub use blackout::opening;
pub use calendar::Calendar;
pub use decide::{Busy, Decision, Step};
pub use outlook::{Notice, Observer, Outlook, Upcoming, Weight};

/// What is to happen regularly, and by which rules.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub job: Job,
    /// [`EVERY_POLICY`] for what the main file wants; the name of the rotation for one.
    pub policy: String,
    pub calendar: Calendar,
    pub timing: Timing,
    /// How far this policy is put off on this host.
    pub jitter: Duration,
}

/// When a slot is due, and until when it may be at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub slot: Timestamp,
    pub due: Timestamp,
    pub deadline: Timestamp,
}

impl Schedule {
    /// Nothing where the policy has no schedule. `host` tells this installation from others with the same policy.
    pub fn of_policy(policy: &Policy, host: &str) -> Option<Self> {
        Schedule::of_known(policy, host, &mut Known::default())
    }

    fn of_known(policy: &Policy, host: &str, known: &mut Known) -> Option<Self> {
        let calendar = Calendar::of_known(policy.schedule.as_deref()?, policy.timezone.clone(), known)?;
        Some(Schedule::new(Job::Backup, &policy.name, calendar, policy.timing.clone(), host))
    }

    /// When the sources of a policy are rehearsed.
    pub fn of_rehearsals(policy: &Policy, host: &str) -> Option<Self> {
        let rehearsals = policy.rehearsals.as_ref()?;
        let calendar = Calendar::new(rehearsals.schedule.as_deref()?, policy.timezone.clone())?;
        Some(Schedule::new(Job::Rehearse, &policy.name, calendar, rehearsals.timing.clone(), host))
    }

    /// Of all policies, and of the main file.
    pub fn all(configuration: &Configuration, host: &str) -> Vec<Self> {
        let routine = |job, routine: &Option<Routine>| {
            let routine = routine.as_ref()?;
            let calendar = Calendar::new(&routine.schedule, configuration.timezone.clone())?;
            Some(Schedule::new(job, EVERY_POLICY, calendar, routine.timing.clone(), host))
        };
        let mut known = Known::default();
        let policies = configuration.policies.iter().filter_map(|policy| Schedule::of_known(policy, host, &mut known));
        let rehearsed = |policy: &Policy| Schedule::of_rehearsals(policy, host);
        let rehearsals = configuration.policies.iter().filter_map(rehearsed);
        let routines = [
            routine(Job::Prune, &configuration.prune),
            routine(Job::Check, &configuration.check),
            routine(Job::Anchor, &configuration.evidence.anchor),
        ];
        policies.chain(rehearsals).chain(routines.into_iter().flatten()).collect()
    }

    fn new(job: Job, policy: &str, calendar: Calendar, timing: Timing, host: &str) -> Self {
        let jitter = timing.jitter.mul_f64(part_of(&format!("{host}/{policy}")));
        Schedule { job, policy: policy.to_owned(), calendar, timing, jitter }
    }

    pub fn zone(&self) -> &TimeZone {
        self.calendar.zone()
    }

    pub fn due(&self, slot: Timestamp) -> Due {
        let put_off = later(slot, self.jitter);
        let due = opening(&self.timing, self.zone(), put_off).unwrap_or(put_off);
        Due { slot, due, deadline: later(due, self.timing.deadline) }
    }

    /// The next slots, and when they are due, without looking at what was done.
    pub fn upcoming(&self, now: Timestamp) -> impl Iterator<Item = Due> {
        self.calendar.after(now).map(|slot| self.due(slot))
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// In 0..1, always the same for a name.
fn part_of(name: &str) -> f64 {
    let hash = blake3::hash(name.as_bytes());
    let bytes = [hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]];
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
