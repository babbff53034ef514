//! What wants attention of all that is known; the worst first.
//!
//! Of one source only what helps is said: why its runs fail, rather than also that it is late because of it.

use super::concern::Concern;
use super::rehearsal::RehearsalStatus;
use super::rotation::RotationStatus;
use super::status::{PolicyStatus, SourceStatus, Status};
use super::words;
use crate::job::status::Verdict;
use crate::journal::SlotEnd;
use jiff::Timestamp;

pub fn all(status: &Status) -> Vec<Concern> {
    let mut concerns = Vec::new();
    if status.journal.problems > 0 {
        concerns.push(Concern::JournalDamaged { problems: status.journal.problems });
    }
    for verdict in [Verdict::Damaged, Verdict::Missing, Verdict::Late, Verdict::Protected] {
        let of_verdict = status.sources.iter().filter(|source| source.verdict == verdict);
        concerns.extend(of_verdict.flat_map(|source| of_source(source, status.at)));
    }
    concerns.extend(status.sources.iter().filter_map(|source| of_rehearsals(source, status.at)));
    concerns.extend(status.policies.iter().filter_map(|policy| of_scheduled_rehearsals(policy, &status.sources)));
    if !status.config.ok {
        let error = status.config.error.clone().unwrap_or_default();
        concerns.push(Concern::ConfigurationRefused { error: first_line(&error) });
    }
    let not_kept = status.config.not_kept.as_deref().map(first_line);
    concerns.extend(not_kept.map(|message| Concern::ConfigurationNotKept { message }));
    concerns.extend(status.policies.iter().filter_map(missed));
    concerns.extend(of_routines(status));
    concerns.extend(status.rotations.iter().filter_map(|rotation| of_rotation(rotation, status.at)));
    concerns.extend(of_copies(status));
    let held = status
        .sources
        .iter()
        .filter_map(|source| Some(Concern::Held { source: source.source.clone(), why: source.held.clone()? }));
    concerns.extend(held);
    let failing = status.channels.iter().filter(|(_, channel)| channel.failures_in_a_row > 0);
    concerns.extend(failing.map(|(name, channel)| Concern::ChannelFailing {
        channel: name.clone(),
        times: channel.failures_in_a_row,
        message: channel.last_failure.as_ref().map(|(_, message)| first_line(message)).unwrap_or_default(),
    }));
    concerns
}

fn of_source(one: &SourceStatus, now: Timestamp) -> Vec<Concern> {
    let source = one.source.clone();
    let failing = one.last_run.as_ref().filter(|_| one.failures_in_a_row > 0).map(|last| Concern::Failing {
        source: source.clone(),
        times: one.failures_in_a_row,
        message: first_line(last.message.as_deref().unwrap_or("the run was ended")),
        hint: last.hint.clone(),
    });
    let age = one.newest.as_ref().map_or(0, |newest| newest.age_seconds);
    let state = match one.verdict {
        Verdict::Damaged => Some(Concern::Damaged { source }),
        Verdict::Late => {
            Some(Concern::Late { source, age_seconds: age, rpo_seconds: one.rpo_seconds.unwrap_or_default() })
        }
        Verdict::Missing if failing.is_none() => Some(Concern::Missing { source }),
        _ if failing.is_some() => None,
        _ => one.due.filter(|_| one.overdue).map(|due| Concern::Overdue {
            source,
            due,
            seconds: now.duration_since(due).as_secs(),
        }),
    };
    state.into_iter().chain(failing).collect()
}

fn of_rehearsals(one: &SourceStatus, now: Timestamp) -> Option<Concern> {
    let (source, rehearsal) = (one.source.clone(), one.rehearsal.as_ref()?);
    match (&rehearsal.message, rehearsal.due) {
        (Some(message), _) => Some(Concern::RehearsalFailing { source, message: first_line(message) }),
        (None, Some(due)) if rehearsal.overdue => {
            Some(Concern::RehearsalOverdue { source, seconds: now.duration_since(due).as_secs() })
        }
        _ => None,
    }
}

/// Where no source tells why its rehearsal failed, and none has passed one since.
fn of_scheduled_rehearsals(policy: &PolicyStatus, sources: &[SourceStatus]) -> Option<Concern> {
    let slots = policy.rehearsals.as_ref().filter(|slots| slots.failures_in_a_row > 0)?;
    let last = slots.last_slot.as_ref()?;
    let tells = |of: &RehearsalStatus| of.message.is_some() && of.last_at >= Some(last.slot);
    let passed = |of: &RehearsalStatus| of.passed_at > Some(last.at);
    let mut rehearsed =
        sources.iter().filter(|source| source.policy == policy.policy).filter_map(|source| source.rehearsal.as_ref());
    if rehearsed.any(|of| tells(of) || passed(of)) {
        return None;
    }
    let why = last.why.as_deref().filter(|_| matches!(last.end, SlotEnd::Failed | SlotEnd::Missed));
    Some(Concern::RehearsalsFailing {
        policy: policy.policy.clone(),
        times: slots.failures_in_a_row,
        message: why.map(first_line),
    })
}

fn missed(policy: &PolicyStatus) -> Option<Concern> {
    let last = policy.last_slot.as_ref().filter(|last| last.end == SlotEnd::Missed)?;
    Some(Concern::Missed { policy: policy.policy.clone(), slot: last.slot, why: last.why.clone() })
}

fn of_routines(status: &Status) -> impl Iterator<Item = Concern> {
    status.routines.iter().filter_map(|routine| {
        let job = words::job(routine.job);
        match routine.due {
            _ if routine.failures_in_a_row > 0 => {
                let message = routine.message.as_deref().map(first_line).unwrap_or_default();
                Some(Concern::RoutineFailing { job, message })
            }
            Some(due) if due < status.at => {
                Some(Concern::RoutineOverdue { job, seconds: status.at.duration_since(due).as_secs() })
            }
            _ => None,
        }
    })
}

/// That one is not at its end matters most: two passwords are accepted as long.
fn of_rotation(one: &RotationStatus, now: Timestamp) -> Option<Concern> {
    let rotation = one.rotation.clone();
    let message = one.message.as_deref().map(first_line);
    match (one.open_since, one.due) {
        (Some(since), _) => {
            let seconds = now.duration_since(since).as_secs();
            Some(Concern::RotationOpen { rotation, seconds, by_hand: one.by_hand, message })
        }
        _ if one.failures_in_a_row > 0 => Some(Concern::RotationFailing { rotation, message }),
        (None, Some(due)) if one.overdue => {
            Some(Concern::RotationOverdue { rotation, seconds: now.duration_since(due).as_secs() })
        }
        _ => None,
    }
}

fn of_copies(status: &Status) -> impl Iterator<Item = Concern> {
    let failing = status.copies.iter().filter(|copy| !copy.last.ok);
    failing.map(|copy| Concern::CopyFailing {
        copy: copy.copy.clone(),
        source: copy.source.clone(),
        times: copy.last.failures_in_a_row,
        message: copy.last.message.as_deref().map(first_line),
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
