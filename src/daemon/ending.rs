//! What happens when runs end, or do not; and slots with them.

use super::Daemon;
use super::child::Exit;
use super::lanes::{Lane, backups, unknown_sources};
use super::news::TaskKey;
use super::work::{End, Known, Stage, Task, TaskKind, Verdict, judge};
use crate::clock;
use crate::journal::Fact;
use crate::schedule::{Notice, Weight};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// So long a run that was told to end may take to put things in order.
pub const GRACE: Duration = Duration::from_secs(20);
/// How often runs are looked after that are not children of this process.
const ADOPTED_EVERY: Duration = Duration::from_secs(1);
pub const AT_ITS_DEADLINE: &str = "it was still at work at its deadline, and was ended";
const NOT_AGAIN: &str = "it did not come to its turn again before its deadline";

impl Daemon {
    fn lane_of(&self, key: &TaskKey) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.work.as_ref().is_some_and(|work| work.slot == key.slot))
    }

    pub(super) fn said(&mut self, key: &TaskKey, line: String) {
        let work = self.lane_of(key).and_then(|lane| self.lanes[lane].work.as_ref());
        let source = work.and_then(|work| work.tasks.get(key.task)).and_then(|task| match &task.kind {
            TaskKind::Backup { sources, stack: None } => sources.first().cloned(),
            _ => None,
        });
        let policy = Some(key.slot.policy.clone());
        let weight = if line.starts_with("error:") { Weight::Error } else { Weight::Warning };
        self.ledger.tell(&Notice { weight, event: "run_said", policy, source, text: line });
    }

    /// A process of ours has ended: what came of each source that it had?
    pub(super) fn ended(&mut self, key: &TaskKey, exit: &Exit) {
        let process = self.children.iter().position(|(of, _)| of == key).map(|at| self.children.swap_remove(at).1);
        self.ledger.settle(clock::now());
        let stopping = self.stopping.is_some();
        let told_to_end = process.is_some_and(|process| process.told_to_end.is_some());
        let Some(lane) = self.lane_of(key) else { return };
        let known = self.ledger.state().policy(key.slot.job, &key.slot.policy);
        let open = known.and_then(|known| known.open.get(&key.slot.slot));
        let journal = self.ledger.journal();
        let known = Known { slot: open, lives: &|run| journal.lives(run) };
        let Some(work) = self.lanes[lane].work.as_mut() else { return };
        let (overlap, deadline) = (work.overlap, work.deadline);
        let Some(task) = work.tasks.get_mut(key.task) else { return };
        task.attempts += 1;
        if task.kind == TaskKind::List {
            return self.listed(lane, key.task, exit);
        }
        let (mut goes_on, mut again) = (false, None);
        for source in task.left() {
            match judge(&source, known, Some(exit), task.attempts, overlap) {
                Verdict::Ended(End::Failed(_)) if stopping && told_to_end => again = Some(String::new()),
                Verdict::Ended(end) => drop(task.ends.insert(source, end)),
                Verdict::GoesOn => goes_on = true,
                Verdict::Again(why) => again = Some(why),
            }
        }
        task.stage = match again {
            _ if task.left().is_empty() => Stage::Over,
            // The slot stays open, and is taken up by the next daemon.
            _ if stopping => Stage::Waiting(None),
            _ if told_to_end => return task.give_up(&End::Failed(AT_ITS_DEADLINE.into())),
            _ if goes_on => Stage::Adopted,
            why => {
                let wait = task.backoff(self.settings.configuration.daemon.retry);
                let until = Instant::now() + wait;
                if until >= deadline {
                    let why = format!("{}; it is too late to try again", why.unwrap_or_default());
                    return task.give_up(&End::Failed(why));
                }
                Stage::Waiting(Some(until))
            }
        };
    }

    /// Which sources labels bring: they become tasks. Where that is not known, what is configured is backed up all the same.
    fn listed(&mut self, lane: usize, at: usize, exit: &Exit) {
        let sources: Option<Vec<String>> =
            if exit.code == Some(0) { serde_json::from_str(&exit.output).ok() } else { None };
        let name = self.lanes[lane].schedule.policy.clone();
        let Some(policy) = self.settings.configuration.policies.iter().find(|policy| policy.name == name) else {
            return;
        };
        let configured = || policy.sources.iter().map(|source| source.name.clone()).collect();
        let kinds = backups(policy, &sources.clone().unwrap_or_else(configured));
        let Some(mut work) = self.lanes[lane].work.take() else { return };
        work.tasks[at].stage = Stage::Over;
        if sources.is_none() {
            work.tasks[at].give_up(&unknown_sources(&exit.last_words));
        }
        let mut before = std::mem::replace(&mut work.tasks, kinds.into_iter().map(Task::new).collect());
        self.take_up(&mut work);
        before.append(&mut work.tasks);
        work.tasks = before;
        self.lanes[lane].work = Some(work);
    }

    /// Ends what is at work for too long, or while everything stops; first in order, then hard.
    pub(super) fn keep_deadlines(&mut self) {
        let now = Instant::now();
        let stop_now = self.stopping.as_ref().is_some_and(|stopping| stopping.at_once || now >= stopping.until);
        let overdue = |key: &TaskKey| {
            let work = self.lanes.iter().filter_map(|lane| lane.work.as_ref()).find(|work| work.slot == key.slot);
            work.is_none_or(|work| now >= work.deadline)
        };
        let late: Vec<bool> = self.children.iter().map(|(key, _)| stop_now || overdue(key)).collect();
        for ((_, process), late) in self.children.iter_mut().zip(late) {
            match process.told_to_end {
                None if late => {
                    process.child.terminate();
                    process.told_to_end = Some(now);
                }
                Some(told) if now >= told + GRACE => process.child.kill(),
                _ => {}
            }
        }
        self.end_what_is_overdue(now);
    }

    /// What waits for too long, and what a daemon before this one began.
    fn end_what_is_overdue(&mut self, now: Instant) {
        let (ledger, lanes) = (&self.ledger, &mut self.lanes);
        for work in lanes.iter_mut().filter_map(|lane| lane.work.as_mut()).filter(|work| now >= work.deadline) {
            let known = ledger.state().policy(work.slot.job, &work.slot.policy);
            let open = known.and_then(|known| known.open.get(&work.slot.slot));
            for task in &mut work.tasks {
                match task.stage {
                    Stage::Waiting(_) if task.attempts == 0 => task.give_up(&End::NeverBegan),
                    Stage::Waiting(_) => task.give_up(&End::Failed(NOT_AGAIN.into())),
                    Stage::Adopted => {
                        let first = task.told_to_end.is_none();
                        let hard = *task.told_to_end.get_or_insert(now) + GRACE <= now;
                        let runs = task.left().into_iter().filter_map(|source| open?.runs.get(&source));
                        let runs = runs.filter(|_| first || hard);
                        runs.for_each(|(run, _)| ledger.end_adopted(run, hard));
                    }
                    Stage::Running | Stage::Over => {}
                }
            }
        }
    }

    /// Notes the slots that are over. Gives whether there were any.
    pub(super) fn finish_slots(&mut self, now: Timestamp) -> bool {
        let mut facts = Vec::new();
        let mut over = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let Some(work) = lane.work.as_ref().filter(|work| work.is_over()) else { continue };
            let known = self.ledger.state().policy(work.slot.job, &work.slot.policy);
            let open = known.and_then(|known| known.open.get(&work.slot.slot));
            let runs: Vec<String> =
                open.into_iter().flat_map(|open| open.runs.values().map(|(run, _)| run.clone())).collect();
            let (end, why) = work.end();
            facts.push(Fact::SlotEnded { id: work.slot.clone(), end, why, runs });
            lane.work = None;
            lane.dirty = true;
            over.push(at);
        }
        self.ledger.note(facts, now);
        let next: Vec<Fact> = over.iter().filter_map(|at| self.next_in_line(*at, now)).collect();
        self.ledger.note(next, now);
        self.lanes.retain(|lane| lane.current || lane.work.is_some());
        !over.is_empty()
    }

    /// How long nothing has to be looked at, as far as is known.
    pub(super) fn next_wake(&self, now: Timestamp) -> Option<Duration> {
        let steady = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(steady);
        let shut = |lane: &Lane| lane.shut_until.filter(|_| lane.work.is_some());
        let wakes = |lane: &Lane| lane.wake.into_iter().chain(shut(lane)).min();
        let scheduled = self.lanes.iter().filter(|_| self.stopping.is_none()).filter_map(wakes);
        let scheduled = scheduled.map(|wake| Duration::try_from(wake.duration_since(now)).unwrap_or_default());
        let works = self.lanes.iter().filter_map(|lane| lane.work.as_ref());
        let at_work = works.flat_map(|work| {
            let retries = work.tasks.iter().filter_map(|task| match task.stage {
                Stage::Waiting(Some(at)) => Some(until(at)),
                Stage::Adopted => Some(ADOPTED_EVERY),
                _ => None,
            });
            let deadline = (work.deadline > steady).then(|| until(work.deadline));
            retries.chain(deadline).collect::<Vec<_>>()
        });
        let told = self.children.iter().filter_map(|(_, process)| Some(until(process.told_to_end? + GRACE)));
        let stop = self.stopping.iter().map(|stopping| until(stopping.until));
        scheduled.chain(at_work).chain(told).chain(stop).min()
    }
}
