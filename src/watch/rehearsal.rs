//! What is known of the rehearsals of a source and of those of a policy, and when the next one must have passed.

use super::due::{self, Since};
use super::status::{EndedSlot, Known};
use crate::journal::{Estimate, Job, RestoreTime};
use crate::policy::Policy;
use crate::schedule::Schedule;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the last rehearsals of a source came to.
#[derive(Clone, Debug, Serialize)]
pub struct RehearsalStatus {
    pub last_at: Option<Timestamp>,
    pub passed_at: Option<Timestamp>,
    /// The level that the last one that passed reached.
    pub level: Option<String>,
    /// How long the last restore took; rehearsals that only read restored nothing.
    pub rto_measured_seconds: Option<f64>,
    /// How long one of the newest point would take.
    pub rto_estimated: Option<Estimate>,
    pub failures_in_a_row: u64,
    /// By when the next one must have passed.
    pub due: Option<Timestamp>,
    pub overdue: bool,
    /// By level, when it was reached last.
    pub reached: BTreeMap<String, Timestamp>,
    /// Of the last run, when it failed.
    pub message: Option<String>,
}

/// What the schedule of the rehearsals of a policy came to: a slot may fail before a rehearsal of any source has begun.
#[derive(Clone, Debug, Serialize)]
pub struct RehearsalSlots {
    pub last_slot: Option<EndedSlot>,
    /// Failed or missed.
    pub failures_in_a_row: u64,
}

/// Nothing where none are scheduled.
pub fn slots(known: &Known<'_>, policy: &Policy) -> Option<RehearsalSlots> {
    policy.rehearsals.as_ref()?.schedule.as_ref()?;
    let state = known.state.policy(Job::Rehearse, &policy.name);
    Some(RehearsalSlots {
        last_slot: state.and_then(EndedSlot::of),
        failures_in_a_row: state.map_or(0, |state| state.failures_in_a_row),
    })
}

/// `bytes`: of the newest point, where they are known.
pub fn of(
    known: &Known<'_>,
    name: &str,
    policy: &Policy,
    bytes: Option<u64>,
    now: Timestamp,
) -> Option<RehearsalStatus> {
    let state = known.state.rehearsals.get(name);
    let history = known.state.histories.get(&(Job::Rehearse, name.to_owned()));
    // Where each run takes only a part of the sources, none of them is due by itself.
    let all_at_once = policy.rehearsals.as_ref().is_some_and(|rehearsals| rehearsals.sample >= 1.0);
    let schedule = Schedule::of_rehearsals(policy, known.host).filter(|_| all_at_once);
    if state.is_none() && history.is_none() && schedule.is_none() {
        return None;
    }
    let success = history.and_then(|history| history.last_success.as_ref());
    let first_try = history.and_then(|history| history.last_failure.as_ref()).map(|last| last.started);
    let since = Since { last_success: success.map(|last| last.started), first_try, configured: known.configured };
    let due = schedule.as_ref().and_then(|schedule| due::due(Some(schedule), None, since, None, now));
    let passed = state.and_then(|state| state.passed.as_ref());
    let failed = history.and_then(|history| history.last.as_ref()).filter(|last| !last.run.outcome.is_good());
    Some(RehearsalStatus {
        last_at: history.and_then(|history| history.last.as_ref()).map(|last| last.at),
        passed_at: passed.map(|(at, _)| *at),
        level: passed.and_then(|(_, passed)| passed.reached.clone()),
        rto_measured_seconds: state.and_then(|state| state.times.last()).map(RestoreTime::seconds),
        rto_estimated: state.zip(bytes).and_then(|(state, bytes)| Estimate::of(&state.times, bytes)),
        failures_in_a_row: history.map_or(0, |history| history.failures_in_a_row),
        overdue: due.is_some_and(|due| due < now),
        due,
        reached: state.map(|state| state.reached.clone()).unwrap_or_default(),
        message: failed
            .map(|last| last.run.message.clone().unwrap_or_else(|| "it failed, and did not say why".to_owned())),
    })
}
