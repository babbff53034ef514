//! `bkp backup POLICY --if-due`: the rules of the daemon for who is called by a timer.
//!
//! Slots are noted in the same journal. What may pass by itself leaves the slot open, and the next call goes on with it.

use super::Ran;
use super::environment::Environment;
use super::format::{age, instant};
use crate::clock;
use crate::daemon;
use crate::error::{Failure, Kind, Result};
use crate::job::recorder::ForSlot;
use crate::journal::{Fact, Job, PolicyState, Reason, SlotEnd, SlotId};
use crate::policy::Policy;
use crate::schedule::{Decision, Schedule, Step};
use jiff::Timestamp;

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
    let _alone = daemon::become_the_daemon(&env.paths()?.state).map_err(|failure| match failure.kind() {
        Kind::Locked => Failure::new(Kind::Locked, "the schedules of this host are looked after already")
            .because(failure.full())
            .hint("Use either the daemon or timers"),
        _ => failure,
    })?;
    let journal = env.journal()?;
    journal.end_what_died(clock::now())?;
    let state = journal.state()?;
    let known = state.policy(Job::Backup, name).cloned().unwrap_or_default();
    let decision = schedule.decide_once(&known, env.now);
    let id = |slot| SlotId { job: Job::Backup, policy: name.clone(), slot };
    journal.append(&facts(&decision, id), env.now)?;
    let Some((slot, reason)) = to_run(&decision) else {
        return not_due(&schedule, decision.wake, env);
    };
    let sources = left(policy, &known, slot, env)?;
    let state = journal.state()?;
    let open = state.policy(Job::Backup, name).and_then(|known| known.open.get(&slot));
    let for_slot = ForSlot { id: id(slot), seq: open.map_or(0, |open| open.seq), reason, nice: 0, idle: false };
    let mut own = Environment::new(env.globals.clone(), env.output, env.cancel.clone());
    own.slot = Some(for_slot);
    let ran = if sources.is_empty() { Ok(None) } else { back_up(sources, policy.stack.clone(), &own) };
    if let Some((end, why)) = ended(&ran) {
        let state = journal.state()?;
        let open = state.policy(Job::Backup, name).and_then(|known| known.open.get(&slot));
        let runs = open.into_iter().flat_map(|open| open.runs.values().map(|(run, _)| run.clone())).collect();
        journal.append(&[Fact::SlotEnded { id: id(slot), end, why, runs }], clock::now())?;
    }
    ran
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

fn facts(decision: &Decision, id: impl Fn(Timestamp) -> SlotId) -> Vec<Fact> {
    let end = |slot: Timestamp, end, why: &String| {
        Some(Fact::SlotEnded { id: id(slot), end, why: Some(why.clone()), runs: Vec::new() })
    };
    let fact = |step: &Step| match step {
        Step::Expect(at) => Some(Fact::SlotExpected { id: id(at.slot), due: at.due, deadline: at.deadline }),
        Step::Miss { slot, why } => end(*slot, SlotEnd::Missed, why),
        Step::Skip { slot, why } => end(*slot, SlotEnd::Skipped, why),
        Step::Run { .. } | Step::Queue { .. } => None,
    };
    decision.steps.iter().filter_map(fact).collect()
}

fn to_run(decision: &Decision) -> Option<(Timestamp, Reason)> {
    decision.steps.iter().find_map(|step| match step {
        Step::Run { slot, reason, .. } => Some((*slot, *reason)),
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

/// The sources that an earlier call for the same slot did not get done.
fn left(policy: &Policy, known: &PolicyState, slot: Timestamp, env: &Environment) -> Result<Vec<String>> {
    let live = &env.live()?.configuration;
    let sources = live.policies.iter().filter(|live| live.name == policy.name).flat_map(|live| &live.sources);
    let is_done = |source: &str| {
        let run = known.open.get(&slot).and_then(|open| open.runs.get(source));
        run.is_some_and(|(_, ended)| ended.as_ref().is_some_and(|ended| ended.outcome.is_good()))
    };
    Ok(sources.map(|source| source.name.clone()).filter(|source| !is_done(source)).collect())
}

/// How the slot ended; nothing when the next call goes on with it.
fn ended(ran: &Ran) -> Option<(SlotEnd, Option<String>)> {
    match ran {
        Ok(_) => Some((SlotEnd::Done, None)),
        Err(failure) => match failure.kind() {
            Kind::TryLater | Kind::Interrupted | Kind::Terminated => None,
            Kind::Locked => Some((SlotEnd::Skipped, Some(failure.full()))),
            _ => Some((SlotEnd::Failed, Some(failure.full()))),
        },
    }
}
