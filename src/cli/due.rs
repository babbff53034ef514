//! `bkp backup POLICY --if-due`: the rules of the daemon for who is called by a timer.
//!
//! Slots are noted in the same journal, and end by the same rules. What may pass by itself leaves the slot open, and the next
//! call goes on with it, until the deadline. Policies do not wait for each other; who comes while his policy is at work leaves
//! it to the one who is there, who also notes what came of the slots that came meanwhile.

use super::Ran;
use super::environment::Environment;
use super::format::{age, instant};
use crate::clock;
use crate::daemon::{self, AT_ITS_DEADLINE, End, Exit, GRACE, Known, Turn, Verdict, end_of_slot, judge};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::recorder::ForSlot;
use crate::journal::{Fact, Job, Journal, OpenSlot, PolicyState, Reason, SlotEnd, SlotId};
use crate::policy::{Overlap, Policy};
use crate::schedule::{Busy, Decision, Schedule, Step};
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// `back_up` takes sources, and the stack that they are backed up with together.
pub fn run(
    names: &[String],
    env: &Environment,
    back_up: impl FnOnce(Vec<String>, Option<String>, &Environment) -> Ran,
) -> Ran {
    let [name] = names else {
        return Err(Failure::usage("--if-due takes one policy").hint("bkp backup POLICY --if-due"));
    };
    let (policy, schedule) = scheduled(name, env)?;
    let _turn = match Turn::take(&env.paths()?.state, name)? {
        Turn::Taken(by) => return at_work(name, &by.full(), env),
        turn => turn,
    };
    let called = Called { policy, schedule, journal: env.journal()?, env };
    called.journal.end_what_died(clock::now())?;
    let known = called.known()?;
    let busy = Busy::of_others(&known, |run| called.journal.lives(run));
    let decision = called.schedule.decide_once(&known, busy, env.now);
    called.journal.append(&called.facts(&decision), env.now)?;
    match (to_run(&decision), busy.running) {
        (Some((slot, reason, deadline)), _) => called.run(slot, reason, deadline, back_up),
        (None, Some(slot)) => at_work(name, &format!("a run of slot {slot} goes on"), env),
        (None, None) => not_due(&called.schedule, decision.wake, env),
    }
}

/// A call for a policy.
struct Called<'a> {
    policy: &'a Policy,
    schedule: Schedule,
    journal: Journal,
    env: &'a Environment,
}

impl Called<'_> {
    fn id(&self, slot: Timestamp) -> SlotId {
        SlotId { job: Job::Backup, policy: self.policy.name.clone(), slot }
    }

    fn known(&self) -> Result<PolicyState> {
        Ok(self.journal.state()?.policy(Job::Backup, &self.policy.name).cloned().unwrap_or_default())
    }

    fn run(
        &self,
        slot: Timestamp,
        reason: Reason,
        deadline: Timestamp,
        back_up: impl FnOnce(Vec<String>, Option<String>, &Environment) -> Ran,
    ) -> Ran {
        let known = self.known()?;
        let open = known.open.get(&slot);
        let sources = left(self.policy, open, self.env)?;
        let for_slot =
            ForSlot { id: self.id(slot), seq: open.map_or(0, |open| open.seq), reason, nice: 0, idle: false };
        let env = self.env;
        let mut own = Environment::new(env.globals.clone(), env.output, env.cancel.clone());
        own.slot = Some(for_slot);
        // Tries that went before count.
        let deadline =
            open.filter(|open| open.begun.is_some()).map_or(deadline, |open| self.schedule.deadline_of(open));
        let deadline = Deadline::keep(deadline, self.at_its_deadline(slot), env.cancel.clone(), self.journal.clone());
        let ran = if sources.is_empty() { Ok(None) } else { back_up(sources.clone(), self.policy.stack.clone(), &own) };
        self.note_end(slot, &sources, &ran, &deadline)?;
        match ran {
            Err(_) if deadline.has_ended_it() => {
                Err(Failure::failed(format!("policy {}: {AT_ITS_DEADLINE}", self.policy.name))
                    .hint("See how far it came: bkp journal --since today. A longer time: `deadline` of the policy"))
            }
            ran => ran,
        }
    }

    fn at_its_deadline(&self, slot: Timestamp) -> Fact {
        let why = Some(AT_ITS_DEADLINE.to_owned());
        Fact::SlotEnded { id: self.id(slot), end: SlotEnd::Failed, why, runs: Vec::new() }
    }

    /// The end of the slot, if it came to one, and what became of those that came meanwhile.
    fn note_end(&self, slot: Timestamp, sources: &[String], ran: &Ran, deadline: &Deadline) -> Result<()> {
        let (known, now) = (self.known()?, clock::now());
        let open = known.open.get(&slot);
        let busy = Busy { running: Some(slot), queued: None };
        let mut facts = self.facts(&self.schedule.decide(&known, busy, now));
        if let Some((end, why)) = ended(sources, open, ran, self.policy.timing.overlap, deadline) {
            let runs = open.into_iter().flat_map(|open| open.runs.values().map(|(run, _)| run.clone())).collect();
            facts.push(Fact::SlotEnded { id: self.id(slot), end, why, runs });
        }
        self.journal.append(&facts, now).map(drop)
    }

    fn facts(&self, decision: &Decision) -> Vec<Fact> {
        let end = |slot: Timestamp, end, why: &String| {
            Some(Fact::SlotEnded { id: self.id(slot), end, why: Some(why.clone()), runs: Vec::new() })
        };
        let fact = |step: &Step| match step {
            Step::Expect(at) => Some(Fact::SlotExpected { id: self.id(at.slot), due: at.due, deadline: at.deadline }),
            Step::Miss { slot, why } => end(*slot, SlotEnd::Missed, why),
            Step::Skip { slot, why } => end(*slot, SlotEnd::Skipped, why),
            Step::Run { .. } | Step::Queue { .. } => None,
        };
        decision.steps.iter().filter_map(fact).collect()
    }
}

/// Ends the run at its deadline as a signal would; one that does not listen, with its process.
struct Deadline {
    at: Timestamp,
    passed: Arc<AtomicBool>,
    _until_the_end: Sender<()>,
}

impl Deadline {
    /// `told` is noted where the process must be ended.
    fn keep(at: Timestamp, told: Fact, cancel: Arc<Cancel>, journal: Journal) -> Self {
        let (until_the_end, end) = channel::<()>();
        let passed = Arc::new(AtomicBool::new(false));
        let left = Duration::try_from(at.duration_since(clock::now())).unwrap_or_default();
        let to_tell = passed.clone();
        std::thread::spawn(move || {
            if end.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            to_tell.store(true, Relaxed);
            cancel.set(Kind::Terminated);
            if end.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                let _ = journal.append(&[told], clock::now());
                std::process::exit(Kind::Failed.exit_code().into());
            }
        });
        Deadline { at, passed, _until_the_end: until_the_end }
    }

    fn has_ended_it(&self) -> bool {
        self.passed.load(Relaxed)
    }
}

fn scheduled<'e>(name: &str, env: &'e Environment) -> Result<(&'e Policy, Schedule)> {
    let policies = &env.configuration()?.policies;
    let policy = policies.iter().find(|policy| policy.name == name);
    let policy =
        policy.ok_or_else(|| Failure::usage(format!("there is no policy `{name}`")).hint("bkp config show"))?;
    let schedule = Schedule::of_policy(policy, &daemon::host()).ok_or_else(|| {
        Failure::usage(format!("policy {name} has no schedule, so it is never due"))
            .hint("Add one, such as schedule: \"30 2 * * *\"")
    })?;
    Ok((policy, schedule))
}

fn to_run(decision: &Decision) -> Option<(Timestamp, Reason, Timestamp)> {
    decision.steps.iter().find_map(|step| match step {
        Step::Run { slot, reason, deadline } => Some((*slot, *reason, *deadline)),
        _ => None,
    })
}

fn not_due(schedule: &Schedule, wake: Option<Timestamp>, env: &Environment) -> Ran {
    let next = wake
        .map(|at| format!(": next {} ({})", instant(at, schedule.zone()), age(env.now.duration_since(at).as_secs())));
    let document = serde_json::json!({ "status": "not_due", "policy": schedule.policy, "next": wake });
    if env.output.json {
        env.output.document(&document)?;
    } else {
        env.output.note(&format!("{} is not due{}", schedule.policy, next.unwrap_or_default()));
    }
    Ok(None)
}

fn at_work(policy: &str, why: &str, env: &Environment) -> Ran {
    if env.output.json {
        env.output.document(&serde_json::json!({ "status": "at_work", "policy": policy, "why": why }))?;
    } else {
        env.output.note(&format!("{policy} is at work already: {why}"));
    }
    Ok(None)
}

/// The sources that an earlier call for the same slot did not get done.
fn left(policy: &Policy, open: Option<&OpenSlot>, env: &Environment) -> Result<Vec<String>> {
    let live = &env.live()?.configuration;
    let sources = live.policies.iter().filter(|live| live.name == policy.name).flat_map(|live| &live.sources);
    let is_done = |source: &str| {
        let run = open.and_then(|open| open.runs.get(source));
        run.is_some_and(|(_, ended)| ended.as_ref().is_some_and(|ended| ended.outcome.is_good()))
    };
    Ok(sources.map(|source| source.name.clone()).filter(|source| !is_done(source)).collect())
}

/// How the slot ended, by the records of its runs; nothing when the next call goes on with it.
fn ended(
    sources: &[String],
    open: Option<&OpenSlot>,
    ran: &Ran,
    overlap: Overlap,
    deadline: &Deadline,
) -> Option<(SlotEnd, Option<String>)> {
    let by_signal = ran.as_ref().is_err_and(|e| matches!(e.kind(), Kind::Interrupted | Kind::Terminated));
    if by_signal && !deadline.has_ended_it() {
        return None;
    }
    let exit = match ran {
        Ok(kind) => Exit { code: Some(kind.map_or(0, |kind| kind.exit_code())), ..Exit::default() },
        Err(e) => Exit { code: Some(e.kind().exit_code()), last_words: e.full(), ..Exit::default() },
    };
    let known = Known { slot: open, lives: &|_| false };
    let too_late = clock::now() >= deadline.at;
    let mut ends = Vec::new();
    for source in sources {
        let end = match judge(source, known, Some(&exit), 1, overlap) {
            Verdict::Ended(End::Failed(_)) if by_signal => End::Failed(AT_ITS_DEADLINE.to_owned()),
            Verdict::Ended(end) => end,
            Verdict::Again(_) if by_signal => End::Failed(AT_ITS_DEADLINE.to_owned()),
            Verdict::Again(why) if too_late => End::Failed(format!("{why}; it is too late to try again")),
            Verdict::GoesOn | Verdict::Again(_) => return None,
        };
        ends.push((source, end));
    }
    let ends: Vec<(&String, &End)> = ends.iter().map(|(source, end)| (*source, end)).collect();
    Some(if ends.is_empty() { (SlotEnd::Done, None) } else { end_of_slot(&ends) })
}
