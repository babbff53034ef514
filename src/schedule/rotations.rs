//! When passwords are rotated.
//!
//! The line of a rotation says which times there are. With `every`, only the last one counts that comes before the password is
//! so old, and those after it: what was rotated by hand meanwhile puts all of them off. One without a line is never due here.

use super::{Calendar, Schedule};
use crate::journal::{Job, State};
use crate::policy::{Configuration, Policy, Rotation};
use jiff::{SignedDuration, Timestamp};

impl Schedule {
    /// Of all passwords, also of those that have none of their own: what of these was cut short is gone on with.
    pub fn of_rotations(configuration: &Configuration, host: &str, state: &State) -> Vec<Self> {
        let one = |(policy, rotation): (&Policy, &Rotation)| {
            let known = state.rotations.get(&rotation.name);
            let rotated = known.and_then(|known| known.rotated.as_ref()).map(|(at, _)| *at);
            Schedule::of_rotation(configuration, policy, rotation, host, rotated)
        };
        configuration.rotations().map(one).collect()
    }

    /// `rotated`: when it was last.
    pub fn of_rotation(
        configuration: &Configuration,
        policy: &Policy,
        rotation: &Rotation,
        host: &str,
        rotated: Option<Timestamp>,
    ) -> Self {
        let zone = policy.timezone.clone();
        let line = rotation.schedule.as_deref();
        let calendar = line.and_then(|line| Calendar::new(line, zone.clone())).unwrap_or_else(|| Calendar::never(zone));
        let from = rotated.zip(rotation.every).and_then(|(rotated, every)| {
            let old = rotated.checked_add(SignedDuration::try_from(every).ok()?).ok()?;
            calendar.latest(old).filter(|slot| *slot > rotated)
        });
        let calendar = calendar.starting(from);
        Schedule::new(Job::Rotate, &rotation.name, calendar, configuration.timing_of(rotation), host)
    }
}
