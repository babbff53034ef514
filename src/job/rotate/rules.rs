//! Whether a rotation may begin now, and when one that was cut short is gone on with. Pure. What was begun before may always be
//! brought to its end.

use crate::error::{Failure, Kind};
use crate::journal::{Job, Rotated, State};
use crate::policy::{Configuration, Policy, Rotation, duration_text};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// So long nobody goes on by itself with what somebody interrupted: he may be looking into it.
const LEFT_ALONE: SignedDuration = SignedDuration::from_mins(15);
/// And with what only a person can mend, or what did not work.
const TRIED_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What is asked about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub configuration: &'a Configuration,
    pub policy: &'a Policy,
    pub rotation: &'a Rotation,
    pub state: &'a State,
    pub now: Timestamp,
}

/// What somebody who knows better passes over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Everything.
    pub emergency: bool,
    /// That the last rehearsal of the source failed.
    pub unrehearsed: bool,
}

/// Why it does not begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Hindrance {
    /// It was done.
    RotatedLately(Timestamp),
    /// Days on which nothing is rotated; the first one after them.
    Frozen(String),
    /// Another one was; this one may begin then.
    AnotherLately {
        other: String,
        until: Timestamp,
    },
    RehearsalFailed,
}

pub fn may_begin(asked: &Asked<'_>, allowed: Allowed) -> Result<(), Hindrance> {
    if allowed.emergency {
        return Ok(());
    }
    let Asked { configuration, policy, rotation, state, now } = *asked;
    let until = |at: &Timestamp, distance: Duration| {
        let distance = SignedDuration::try_from(distance).unwrap_or(SignedDuration::MAX);
        at.checked_add(distance).unwrap_or(Timestamp::MAX)
    };
    let ended = |name: &str| state.rotations.get(name).and_then(|known| known.rotated.as_ref()).map(|(at, _)| *at);
    if let Some(at) = ended(&rotation.name).filter(|at| until(at, rotation.distance) > now) {
        return Err(Hindrance::RotatedLately(at));
    }
    let today = now.to_zoned(policy.timezone.clone()).date();
    let frozen = configuration.timing_of(rotation).freeze;
    if let Some(end) = frozen.iter().filter(|freeze| freeze.holds(today)).filter_map(|freeze| freeze.end(today)).max() {
        return Err(Hindrance::Frozen(end.to_string()));
    }
    if !allowed.unrehearsed
        && rotation
            .target
            .source()
            .and_then(|source| state.rehearsals.get(source))
            .is_some_and(|known| known.failures_in_a_row > 0)
    {
        return Err(Hindrance::RehearsalFailed);
    }
    let others = configuration.rotations().map(|(_, other)| &other.name).filter(|name| **name != rotation.name);
    let lately = others.filter_map(|other| Some((other, until(&ended(other)?, configuration.rotator.apart))));
    match lately.max_by_key(|(_, until)| *until).filter(|(_, until)| *until > now) {
        Some((other, until)) => Err(Hindrance::AnotherLately { other: other.clone(), until }),
        None => Ok(()),
    }
}

impl Hindrance {
    pub fn why(&self, rotation: &Rotation) -> String {
        let name = &rotation.name;
        match self {
            Hindrance::RotatedLately(at) => {
                format!("{name} was rotated at {at}, less than {} ago", duration_text(rotation.distance))
            }
            Hindrance::Frozen(end) => format!("nothing is rotated on these days (`freeze`), until {end}"),
            Hindrance::AnotherLately { other, until } => {
                format!("{other} was rotated shortly before; {name} may be from {until} on (`apart`)")
            }
            Hindrance::RehearsalFailed => {
                format!(
                    "the last rehearsal of {} failed: what is changed now could not be restored",
                    rotation.target.name()
                )
            }
        }
    }

    /// Waits, where it is a daemon that asks.
    pub fn failure(&self, rotation: &Rotation, by_schedule: bool) -> Failure {
        let name = &rotation.name;
        let hint = match self {
            Hindrance::RotatedLately(_) => {
                format!("Wait, lower `distance`, or say that it must be: bkp rotate {name} --emergency")
            }
            Hindrance::Frozen(_) | Hindrance::AnotherLately { .. } => {
                format!("Wait, or say that it must be: bkp rotate {name} --emergency")
            }
            Hindrance::RehearsalFailed => format!(
                "Look into it first: bkp rehearse {}; or say that it must be: bkp rotate {name} --unrehearsed",
                rotation.target.name()
            ),
        };
        let waits = by_schedule && matches!(self, Hindrance::AnotherLately { .. });
        Failure::new(if waits { Kind::TryLater } else { Kind::Refused }, self.why(rotation)).hint(hint)
    }
}

/// Until when the next rotation ought to have been; `None` where nobody said how old a password may get. A password that bkp
/// never rotated is due.
pub fn due(rotation: &Rotation, state: &State) -> Option<Option<Timestamp>> {
    let every = SignedDuration::try_from(rotation.every?).unwrap_or(SignedDuration::MAX);
    let last = state.rotations.get(&rotation.name).and_then(|known| known.rotated.as_ref());
    Some(last.and_then(|(at, _)| at.checked_add(every).ok()))
}

/// The last record of a rotation that has no end in the journal, with nobody at it.
pub fn cut_short<'s>(state: &'s State, name: &str) -> Option<(Timestamp, &'s Rotated)> {
    let (at, last) = state.rotations.get(name)?.last.as_ref()?;
    let is_open = !last.is_end() && !state.running.contains_key(&last.run);
    is_open.then_some((*at, &**last))
}

/// A restore of the server, after which nobody saw yet that it takes what is published, and nothing else; and no run is at that.
pub fn owed<'s>(state: &'s State, name: &str) -> Option<(Timestamp, &'s Rotated)> {
    let (at, owed) = state.rotations.get(name)?.owed.as_ref()?;
    (!state.running.contains_key(&owed.run)).then_some((*at, &**owed))
}

/// When it is gone on with by the daemon, which began at `since`: at once, if it was begun before that. No later than with the
/// next slot in any case.
pub fn resume_at(state: &State, name: &str, since: Timestamp) -> Option<Timestamp> {
    let tried =
        state.policy(Job::Rotate, name).and_then(|known| known.last_ended.as_ref()).map(|(_, ended, ..)| *ended);
    let Some((at, last)) = cut_short(state, name) else {
        // Until then an old password may let in.
        let (at, _) = owed(state, name)?;
        return match tried.filter(|tried| *tried >= at) {
            Some(tried) => tried.checked_add(LEFT_ALONE).ok(),
            None => Some(at),
        };
    };
    let wait = match tried.filter(|tried| *tried >= at) {
        Some(tried) => return tried.checked_add(TRIED_AGAIN).ok(),
        None if at < since => SignedDuration::ZERO,
        None if last.state == "stopped" => TRIED_AGAIN,
        None => LEFT_ALONE,
    };
    at.checked_add(wait).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Fact, Record, SlotEnd, SlotId};

    fn at(text: &str) -> Timestamp {
        format!("2026-11-30T{text}Z").parse().unwrap()
    }

    fn state(facts: &[(&str, Fact)]) -> State {
        let mut state = State::default();
        for (seq, (when, fact)) in (1..).zip(facts) {
            state.apply(&Record { seq, at: at(when), fact: fact.clone() });
        }
        state
    }

    fn noted(word: &str) -> Fact {
        let rotated = Rotated { run: "r".into(), rotation: "db".into(), state: word.into(), ..Rotated::default() };
        Fact::Rotation(Box::new(rotated))
    }

    #[test]
    fn what_was_cut_short_is_gone_on_with_at_the_start_and_later_by_hand() {
        let killed = state(&[("10:00:00", noted("published"))]);
        assert_eq!(resume_at(&killed, "db", at("11:00:00")), Some(at("10:00:00")), "before the daemon began");
        assert_eq!(resume_at(&killed, "db", at("09:00:00")), Some(at("10:15:00")), "somebody may be looking into it");
        let stopped = state(&[("10:00:00", noted("stopped"))]);
        let tomorrow = at("10:00:00").checked_add(TRIED_AGAIN).ok();
        assert_eq!(resume_at(&stopped, "db", at("09:00:00")), tomorrow);
        let ended = state(&[("10:00:00", noted("published")), ("10:01:00", noted("rotated"))]);
        assert_eq!(resume_at(&ended, "db", at("11:00:00")), None);
    }

    #[test]
    fn what_a_restore_owes_is_done_at_once_and_then_again_and_again() {
        let owed = state(&[("09:00:00", noted("rotated")), ("10:00:00", noted(Rotated::OWED))]);
        assert_eq!(resume_at(&owed, "db", at("09:00:00")), Some(at("10:00:00")));
        let id = SlotId { job: Job::Rotate, policy: "db".into(), slot: at("10:00:01") };
        let end = Fact::SlotEnded { id, end: SlotEnd::Failed, why: None, runs: vec![] };
        let tried = state(&[("10:00:00", noted(Rotated::OWED)), ("10:00:02", end)]);
        assert_eq!(resume_at(&tried, "db", at("09:00:00")), Some(at("10:15:02")));
        let done = state(&[("10:00:00", noted(Rotated::OWED)), ("10:01:00", noted("reapplied"))]);
        assert_eq!(resume_at(&done, "db", at("09:00:00")), None);
        let between = state(&[("09:00:00", noted("published")), ("10:00:00", noted(Rotated::OWED))]);
        assert_eq!(cut_short(&between, "db").unwrap().1.state, "published", "the rotation is as open as it was");
        let both = state(&[("10:00:00", noted(Rotated::OWED)), ("10:01:00", noted("both_reapplied"))]);
        assert!(cut_short(&both, "db").is_some() && super::owed(&both, "db").is_none(), "and has to go on");
    }

    #[test]
    fn what_could_not_be_gone_on_with_is_not_tried_all_the_time() {
        let id = SlotId { job: Job::Rotate, policy: "db".into(), slot: at("11:00:00") };
        let end = Fact::SlotEnded { id, end: SlotEnd::Failed, why: None, runs: vec![] };
        let tried = state(&[("10:00:00", noted("published")), ("11:00:01", end)]);
        assert_eq!(resume_at(&tried, "db", at("10:30:00")), at("11:00:01").checked_add(TRIED_AGAIN).ok());
    }
}
