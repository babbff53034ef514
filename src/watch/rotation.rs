//! What is known of the rotations of a password, and when the next one must be done.

use super::due::{self, Since};
use super::status::Known;
use crate::job::rotate::readers::NAME;
use crate::job::rotate::rules;
use crate::journal::{Job, PolicyState, SlotEnd};
use crate::policy::{Policy, Rotation};
use crate::repo::keys::NamedRecipient;
use crate::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct RotationStatus {
    pub rotation: String,
    pub policy: String,
    pub source: String,
    pub account: String,
    /// When it came to its end last.
    pub rotated_at: Option<Timestamp>,
    /// When the daemon begins the next one.
    pub next: Option<Timestamp>,
    /// By when the next one must have come to its end. Absent where nobody said how often.
    pub due: Option<Timestamp>,
    pub overdue: bool,
    /// Since when one is not at its end, with nobody at it.
    pub open_since: Option<Timestamp>,
    /// It is not gone on with before somebody does what `message` says.
    pub by_hand: bool,
    pub failures_in_a_row: u64,
    /// Of the last failure, as long as it is the last word.
    pub message: Option<String>,
}

pub fn all(known: &Known<'_>, now: Timestamp) -> Vec<RotationStatus> {
    let schedules = Schedule::of_rotations(known.configuration, known.host, known.state);
    let rotations = known.configuration.rotations().zip(&schedules);
    let all = rotations.map(|((policy, rotation), schedule)| of(known, policy, rotation, schedule, now));
    all.chain(recipients(known, now)).collect()
}

/// When the key of somebody who reads the backups is to be another one.
pub fn reader_due(reader: &NamedRecipient, every: Option<SignedDuration>) -> Option<Timestamp> {
    every.map(|every| reader.added.checked_add(every).unwrap_or(Timestamp::MAX))
}

/// Of the keys that read the backups: when the oldest one is due, by who reads since when; and one that stopped midway, or failed, by
/// the records of this host.
fn recipients(known: &Known<'_>, now: Timestamp) -> Option<RotationStatus> {
    let every = known.configuration.rotator.recipients_every.and_then(|every| every.try_into().ok());
    let due = known.readers.iter().filter_map(|reader| reader_due(reader, every)).min();
    let history = known.state.histories.get(&(Job::Rotate, NAME.to_owned()));
    let failed = history.filter(|history| history.failures_in_a_row > 0);
    let open = rules::cut_short(known.state, NAME);
    if failed.is_none() && open.is_none() && due.is_none() {
        return None;
    }
    let rotated = known.state.rotations.get(NAME).and_then(|known| known.rotated.as_ref());
    Some(RotationStatus {
        rotation: NAME.to_owned(),
        policy: "repository".to_owned(),
        source: "repository".to_owned(),
        account: "recipients".to_owned(),
        rotated_at: rotated.map(|(at, _)| *at),
        next: None,
        by_hand: false,
        due,
        overdue: due.is_some_and(|due| due < now),
        open_since: open.map(|(at, _)| at),
        failures_in_a_row: failed.map_or(0, |history| history.failures_in_a_row),
        message: failed.and_then(|history| history.last.as_ref()?.run.message.clone()),
    })
}

fn of(known: &Known<'_>, policy: &Policy, rotation: &Rotation, schedule: &Schedule, now: Timestamp) -> RotationStatus {
    let (state, name) = (known.state, &rotation.name);
    let rotated = state.rotations.get(name).and_then(|known| known.rotated.as_ref()).map(|(at, _)| *at);
    let history = state.histories.get(&(Job::Rotate, name.clone()));
    let first_try = history.and_then(|history| history.last_started);
    let since = Since { last_success: rotated, first_try, configured: known.configured };
    let due = match (schedule.calendar.is_ever(), rules::due(rotation, state)) {
        (true, _) => due::due(Some(schedule), None, since, None, now),
        // One that was never rotated has been due ever since it could have been.
        (false, due) => due.map(|due| due.or(first_try).or(known.configured).unwrap_or(now).min(Timestamp::MAX)),
    };
    let slots = state.policy(Job::Rotate, name).and_then(|slots| of_slots(slots, rotated));
    let failed = history.filter(|history| history.failures_in_a_row > 0);
    let message = failed.and_then(|history| history.last.as_ref()?.run.message.clone());
    RotationStatus {
        rotation: name.clone(),
        policy: policy.name.clone(),
        source: rotation.target.name().to_owned(),
        account: rotation.account.clone(),
        rotated_at: rotated,
        next: schedule.upcoming(now).next().map(|next| next.due),
        overdue: due.is_some_and(|due| due < now),
        due,
        open_since: rules::cut_short(state, name).or(rules::owed(state, name)).map(|(at, _)| at),
        by_hand: rules::is_by_hand(state, name),
        failures_in_a_row: failed.map_or(0, |history| history.failures_in_a_row).max(slots.as_ref().map_or(0, |s| s.0)),
        message: message.or(slots.and_then(|(_, why)| why)),
    }
}

/// Slots that came to nothing since, and why: some have no run, because a rule kept it from beginning.
fn of_slots(slots: &PolicyState, rotated: Option<Timestamp>) -> Option<(u64, Option<String>)> {
    let (_, at, end, why) = slots.last_ended.as_ref()?;
    let counts = *end == SlotEnd::Failed && rotated.is_none_or(|rotated| rotated < *at);
    counts.then(|| (slots.failures_in_a_row, why.clone()))
}
