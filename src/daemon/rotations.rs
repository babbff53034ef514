//! Rotations as the daemon has them in hand: their times move with what was rotated, and what was cut short is gone on with.

use super::Daemon;
use super::lanes::Lane;
use super::work::{End, TaskKind};
use crate::job::rotate::rules::{self, Allowed, Asked, Hindrance};
use crate::journal::{Fact, Job};
use crate::schedule::{Due, Schedule, opening};
use jiff::{SignedDuration, Timestamp};

/// What the times of a rotation follow from, besides its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeOf {
    rotated: Option<Timestamp>,
    may_be_refused: bool,
}

impl Daemon {
    /// What is due by the age of a password is put off when that was rotated by somebody else; and while consumers are refused,
    /// hours and days of peace do not count.
    pub(super) fn look_at_rotations(&mut self) {
        let (configuration, state) = (self.settings.configuration.clone(), self.ledger.state());
        for lane in self.lanes.iter_mut().filter(|lane| lane.schedule.job == Job::Rotate) {
            let Ok((policy, rotation)) = configuration.rotation(&lane.schedule.policy) else { continue };
            let known = state.rotations.get(&rotation.name);
            let rotated = known.and_then(|known| known.rotated.as_ref()).map(|(at, _)| *at);
            let made_of = MadeOf { rotated, may_be_refused: rules::may_be_refused(state, rotation) };
            if lane.made_of.replace(made_of) == Some(made_of) {
                continue;
            }
            let mut schedule = Schedule::of_rotation(&configuration, policy, rotation, &super::host(), rotated);
            if made_of.may_be_refused {
                let timing = &mut schedule.timing;
                (timing.blackout, timing.window, timing.freeze) = (Vec::new(), Vec::new(), Vec::new());
            }
            let before = (lane.schedule.calendar.starts(), &lane.schedule.timing);
            if before != (schedule.calendar.starts(), &schedule.timing) {
                (lane.schedule, lane.dirty) = (schedule, true);
            }
        }
    }

    /// Expects what is to be gone on with now, where nothing else of it is about to be. Gives whether there is any.
    pub(super) fn expect_what_was_cut_short(&mut self, now: Timestamp) -> bool {
        let configuration = self.settings.configuration.clone();
        let state = self.ledger.state();
        let since = state.daemon.as_ref().map_or(now, |daemon| daemon.since);
        let Ok(slot) = Timestamp::from_second(now.as_second()) else { return false };
        let is_due = |lane: &&mut Lane| {
            let known = state.policy(Job::Rotate, &lane.schedule.policy);
            let Ok((_, rotation)) = configuration.rotation(&lane.schedule.policy) else { return false };
            let has_come = known.is_some_and(|known| known.open.range(..=now).any(|(_, slot)| slot.due <= now));
            lane.schedule.job == Job::Rotate
                && lane.current
                && !has_come
                && lane.work.is_none()
                && known.is_none_or(|known| known.reached < Some(slot))
                && rules::resume_at(state, rotation, since).is_some_and(|at| at <= now)
                && opening(&lane.schedule.timing, lane.schedule.zone(), now).is_none()
        };
        let mut facts = Vec::new();
        for lane in self.lanes.iter_mut().filter(is_due) {
            let patience = SignedDuration::try_from(lane.schedule.timing.deadline).unwrap_or(SignedDuration::MAX);
            let at = Due { slot, due: slot, deadline: now.checked_add(patience).unwrap_or(Timestamp::MAX) };
            facts.push(Fact::SlotExpected { id: lane.slot(at.slot), due: at.due, deadline: at.deadline });
            lane.dirty = true;
        }
        let any = !facts.is_empty();
        self.ledger.note(facts, now);
        any
    }

    /// What a slot of a rotation is to do: begin one, or go on. Nothing where a rule keeps it from beginning, and why.
    pub(super) fn rotation_task(&self, at: usize, slot: Timestamp, now: Timestamp) -> (Vec<TaskKind>, Option<End>) {
        let schedule = &self.lanes[at].schedule;
        let (configuration, state) = (&*self.settings.configuration, self.ledger.state());
        let Ok((policy, rotation)) = configuration.rotation(&schedule.policy) else { return (Vec::new(), None) };
        let name = rotation.name.clone();
        let is_open = rules::cut_short(state, &name).is_some();
        // For what is owed no hour counts. For the rest of it, each does.
        let is_owed_only = rules::owed(state, &name).is_some()
            && opening(&configuration.timing_of(rotation), schedule.zone(), now).is_some();
        let is_time = schedule.calendar.is_time(slot);
        if is_owed_only || !is_time {
            let word = if is_open && !is_owed_only { "resume" } else { "reapply" };
            let arguments = ["rotate", word, &name].map(str::to_owned).into();
            return (vec![TaskKind::Rotate { arguments, name }], None);
        }
        let asked = Asked { configuration, policy, rotation, state, now };
        let hindrance = if is_open { None } else { rules::may_begin(&asked, Allowed::default()).err() };
        let end = hindrance.and_then(|hindrance| match hindrance {
            Hindrance::RotatedLately(_) | Hindrance::Frozen(_) => Some(End::Skipped(hindrance.why(rotation))),
            Hindrance::RehearsalFailed => Some(End::Failed(hindrance.why(rotation))),
            Hindrance::AnotherLately { .. } => None,
        });
        (vec![TaskKind::Rotate { arguments: ["rotate", &name].map(str::to_owned).into(), name }], end)
    }
}
