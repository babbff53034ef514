//! One lane for each schedule: when to look at it, and the slot that is at work.

use super::Daemon;
use super::rotations::MadeOf;
use super::work::{End, Known, Stage, Task, TaskKind, Verdict, Work, judge};
use crate::journal::{Fact, Job, PolicyState, Reason, SlotEnd, SlotId};
use crate::policy::Policy;
use crate::schedule::{Busy, Due, Schedule, Step, Upcoming, opening};
use jiff::Timestamp;
use std::time::{Duration, Instant};

pub struct Lane {
    pub schedule: Schedule,
    /// It is in the configuration still.
    pub current: bool,
    pub wake: Option<Timestamp>,
    /// Something has changed that it depends on.
    pub dirty: bool,
    pub work: Option<Work>,
    /// Waits for the one at work.
    pub queued: Option<(Timestamp, Timestamp)>,
    /// The end of the blackout it is in: until then no run of it begins, no first one and no further try.
    pub shut_until: Option<Timestamp>,
    /// Of a rotation: what its times were made of, where they are not those of the configuration alone.
    pub made_of: Option<MadeOf>,
    next: Option<Due>,
}

impl Lane {
    fn new(schedule: Schedule) -> Self {
        Lane {
            schedule,
            current: true,
            wake: None,
            dirty: true,
            work: None,
            queued: None,
            shut_until: None,
            made_of: None,
            next: None,
        }
    }

    pub fn is_of(&self, job: Job, policy: &str) -> bool {
        self.schedule.job == job && self.schedule.policy == policy
    }

    pub fn slot(&self, slot: Timestamp) -> SlotId {
        SlotId { job: self.schedule.job, policy: self.schedule.policy.clone(), slot }
    }

    pub fn upcoming(&self) -> Option<Upcoming> {
        let next = self.next.filter(|_| self.current)?;
        Some(Upcoming { job: self.schedule.job, policy: self.schedule.policy.clone(), slot: next.slot, due: next.due })
    }

    fn busy(&self) -> Busy {
        Busy { running: self.work.as_ref().map(|work| work.slot.slot), queued: self.queued.map(|(slot, _)| slot) }
    }
}

impl Daemon {
    /// Lanes of the configuration in force; what is at work in the lanes before goes on.
    pub(super) fn make_lanes(&mut self, now: Timestamp) {
        let mut before = std::mem::take(&mut self.lanes);
        let rotations = Schedule::of_rotations(&self.settings.configuration, &super::host(), self.ledger.state());
        for schedule in self.settings.schedules.iter().cloned().chain(rotations) {
            let known = before.iter().position(|lane| lane.is_of(schedule.job, &schedule.policy));
            let mut lane = Lane::new(schedule);
            if let Some(old) = known.map(|at| before.swap_remove(at)) {
                (lane.work, lane.queued) = (old.work, old.queued);
            }
            self.lanes.push(lane);
        }
        let at_work = before.into_iter().filter(|lane| lane.work.is_some());
        self.lanes.extend(at_work.map(|lane| Lane { current: false, queued: None, ..lane }));
        self.take_back_what_nobody_wants(now);
    }

    /// Slots of policies that have no schedule any more.
    fn take_back_what_nobody_wants(&mut self, now: Timestamp) {
        let mut facts = Vec::new();
        for ((job, policy), known) in &self.ledger.state().policies {
            let lane = self.lanes.iter().find(|lane| lane.is_of(*job, policy));
            if lane.is_some_and(|lane| lane.current) {
                continue;
            }
            let at_work = lane.and_then(|lane| lane.work.as_ref()).map(|work| work.slot.slot);
            for slot in known.open.keys().filter(|slot| Some(**slot) != at_work) {
                let end = if *slot > now { SlotEnd::Skipped } else { SlotEnd::Missed };
                let why = Some("the policy has no schedule any more".to_owned());
                let id = SlotId { job: *job, policy: policy.clone(), slot: *slot };
                facts.push(Fact::SlotEnded { id, end, why, runs: Vec::new() });
            }
        }
        self.ledger.note(facts, now);
    }

    /// Which lanes are in a blackout.
    pub(super) fn look_at_blackouts(&mut self, now: Timestamp) {
        for lane in &mut self.lanes {
            lane.shut_until = opening(&lane.schedule.timing, lane.schedule.zone(), now);
        }
    }

    /// Slots that a daemon before this one began, and whose runs go on, are at work before anything is decided.
    pub(super) fn adopt(&mut self, now: Timestamp) {
        for at in 0..self.lanes.len() {
            let lane = &self.lanes[at];
            let Some(known) = self.ledger.state().policy(lane.schedule.job, &lane.schedule.policy) else { continue };
            let others = Busy::of_others(known, |run| self.ledger.journal().lives(run));
            let Some(slot) = others.running.filter(|_| lane.work.is_none()) else { continue };
            let deadline = known.open.get(&slot).map_or(slot, |open| lane.schedule.deadline_of(open));
            self.put_to_work(at, slot, Reason::CatchUp, deadline, now);
        }
    }

    /// Asks the schedules that may have something to say, notes what they say, and only then does it.
    pub(super) fn decide(&mut self, now: Timestamp) {
        if self.stopping.is_some() {
            return;
        }
        let nothing = PolicyState::default();
        let (mut facts, mut acts) = (Vec::new(), Vec::new());
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.current || !lane.dirty && lane.wake.is_none_or(|wake| wake > now) {
                continue;
            }
            lane.dirty = false;
            let known = self.ledger.state().policy(lane.schedule.job, &lane.schedule.policy).unwrap_or(&nothing);
            let decision = lane.schedule.decide(known, lane.busy(), now);
            lane.wake = decision.wake;
            lane.next = lane.schedule.upcoming(now).next();
            for step in decision.steps {
                facts.extend(lane.fact(&step));
                acts.push((at, step));
            }
        }
        self.ledger.note(facts, now);
        for (at, step) in acts {
            match step {
                Step::Run { slot, reason, deadline } => self.put_to_work(at, slot, reason, deadline, now),
                Step::Queue { slot, deadline } => self.lanes[at].queued = Some((slot, deadline)),
                Step::Skip { slot, .. } if self.lanes[at].queued.is_some_and(|(queued, _)| queued == slot) => {
                    self.lanes[at].queued = None;
                }
                Step::Expect(_) | Step::Miss { .. } | Step::Skip { .. } => {}
            }
        }
    }

    /// Makes the tasks of a slot. What was done of it before is known from the journal.
    pub(super) fn put_to_work(
        &mut self,
        at: usize,
        slot: Timestamp,
        reason: Reason,
        deadline: Timestamp,
        now: Timestamp,
    ) {
        let lane = &self.lanes[at];
        let (job, name) = (lane.schedule.job, lane.schedule.policy.clone());
        let policy = self.settings.configuration.policies.iter().find(|policy| policy.name == name);
        let mut hindered = None;
        let kinds = match (job, policy) {
            (Job::Rotate, _) => {
                let (kinds, end) = self.rotation_task(at, slot, now);
                hindered = end;
                kinds
            }
            (Job::Backup, Some(policy)) if policy.labels.is_some() => vec![TaskKind::List],
            (Job::Backup, Some(policy)) => {
                backups(policy, &policy.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>())
            }
            // Its sources, one after the other: a host has room for one scratch server.
            (Job::Rehearse, Some(policy)) => {
                vec![TaskKind::Whole { arguments: vec!["rehearse".to_owned(), policy.name.clone()] }]
            }
            (Job::Backup | Job::Rehearse, None) => Vec::new(),
            _ => vec![TaskKind::Whole { arguments: self.whole(job) }],
        };
        let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
        let due =
            self.ledger.state().policy(job, &name).and_then(|known| known.open.get(&slot)).map_or(slot, |o| o.due);
        let mut work = Work {
            slot: lane.slot(slot),
            due,
            reason,
            deadline: Instant::now() + left,
            overlap: lane.schedule.timing.overlap,
            tasks: kinds.into_iter().map(Task::new).collect(),
        };
        self.take_up(&mut work);
        if let Some(end) = hindered {
            work.tasks.iter_mut().filter(|task| task.stage != Stage::Adopted).for_each(|task| task.give_up(&end));
        }
        self.lanes[at].work = Some(work);
    }

    fn whole(&self, job: Job) -> Vec<String> {
        let configuration = &self.settings.configuration;
        if job == Job::Anchor {
            return ["evidence", "anchor"].map(str::to_owned).to_vec();
        }
        let (command, routine) = match job {
            Job::Prune => ("prune", &configuration.prune),
            _ => ("check", &configuration.check),
        };
        let arguments = routine.iter().flat_map(|routine| routine.arguments.iter().cloned());
        [command.to_owned()].into_iter().chain(arguments).collect()
    }

    /// What the journal knows of a slot that was begun before.
    pub(super) fn take_up(&self, work: &mut Work) {
        let state = self.ledger.state();
        let open = state.policy(work.slot.job, &work.slot.policy).and_then(|known| known.open.get(&work.slot.slot));
        let Some(open) = open.filter(|open| !open.runs.is_empty()) else { return };
        let known = Known { slot: Some(open), lives: &|run| self.ledger.journal().lives(run) };
        for task in &mut work.tasks {
            let mut goes_on = false;
            for source in task.left() {
                match judge(&source, known, None, 1, work.overlap) {
                    // What was not begun has no record, and nothing came of it.
                    _ if !open.runs.contains_key(&source) => {}
                    Verdict::Ended(end) => drop(task.ends.insert(source, end)),
                    Verdict::GoesOn => goes_on = true,
                    Verdict::Again(_) => task.attempts = 1,
                }
            }
            if goes_on {
                task.stage = Stage::Adopted;
            } else if task.left().is_empty() {
                task.stage = Stage::Over;
            }
        }
    }

    /// The slot that waited, when the one before it has ended.
    pub(super) fn next_in_line(&mut self, at: usize, now: Timestamp) -> Option<Fact> {
        let (slot, deadline) = self.lanes[at].queued.take()?;
        if deadline > now {
            self.put_to_work(at, slot, Reason::Schedule, deadline, now);
            return None;
        }
        let why = Some("the slot before it was at work until after its deadline".to_owned());
        Some(Fact::SlotEnded { id: self.lanes[at].slot(slot), end: SlotEnd::Missed, why, runs: Vec::new() })
    }
}

impl Lane {
    fn fact(&self, step: &Step) -> Option<Fact> {
        let end = |slot: Timestamp, end, why: &String| {
            Some(Fact::SlotEnded { id: self.slot(slot), end, why: Some(why.clone()), runs: Vec::new() })
        };
        match step {
            Step::Expect(due) => {
                Some(Fact::SlotExpected { id: self.slot(due.slot), due: due.due, deadline: due.deadline })
            }
            Step::Miss { slot, why } => end(*slot, SlotEnd::Missed, why),
            Step::Skip { slot, why } => end(*slot, SlotEnd::Skipped, why),
            Step::Run { .. } | Step::Queue { .. } => None,
        }
    }
}

/// Each source by itself, or all of a stack together.
pub fn backups(policy: &Policy, sources: &[String]) -> Vec<TaskKind> {
    match &policy.stack {
        Some(stack) if sources.len() > 1 => {
            vec![TaskKind::Backup { sources: sources.to_vec(), stack: Some(stack.clone()) }]
        }
        _ => sources.iter().map(|source| TaskKind::Backup { sources: vec![source.clone()], stack: None }).collect(),
    }
}

/// What cannot be found out counts as the failure of the policy as a whole.
pub fn unknown_sources(why: &str) -> End {
    End::Failed(format!("it is not known what is labelled: {why}"))
}
