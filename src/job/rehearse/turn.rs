//! Whose turn it is, and how deep to go: what a schedule with a sample and frequencies means at an instant. Pure.

use crate::journal::{RehearsalState, State};
use crate::repo::proof::Level;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whether a source belongs to the part that is rehearsed in this slot: those first that waited longest. What was rehearsed
/// since the slot came counts as a part of it.
pub fn is_due(source: &str, all: &[&str], sample: f64, slot: Timestamp, state: &State) -> bool {
    let wanted = ((all.len() as f64 * sample).ceil() as usize).clamp(1, all.len().max(1));
    let last = |source: &str| state.rehearsals.get(source).map(|known| known.last_at);
    let done = all.iter().filter(|source| last(source).is_some_and(|at| at >= slot)).count();
    let mut waiting: Vec<(Option<Timestamp>, &str)> =
        all.iter().map(|source| (last(source), *source)).filter(|(at, _)| at.is_none_or(|at| at < slot)).collect();
    waiting.sort_unstable();
    waiting.iter().take(wanted.saturating_sub(done)).any(|(_, name)| *name == source)
}

/// The level of the schedule, or a deeper one that has not been reached for as long as it may be.
pub fn level(
    usual: Level,
    frequency: &BTreeMap<Level, Duration>,
    known: Option<&RehearsalState>,
    now: Timestamp,
) -> Level {
    let is_due = |(level, most): &(&Level, &Duration)| {
        let since = known.and_then(|known| {
            known.reached.iter().filter(|(name, _)| Level::parse(name) >= Some(**level)).map(|(_, at)| *at).max()
        });
        // A slot comes at about the same time of a day: what is due within the hour is due.
        let soon = now.checked_add(SignedDuration::from_hours(1)).unwrap_or(now);
        let most = SignedDuration::try_from(**most).unwrap_or(SignedDuration::MAX);
        since.is_none_or(|at| at.checked_add(most).is_ok_and(|due| due <= soon))
    };
    frequency.iter().filter(is_due).map(|(level, _)| *level).max().unwrap_or(usual).max(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn known(last: &str, reached: &[(&str, &str)]) -> RehearsalState {
        let reached = reached.iter().map(|(level, when)| ((*level).to_owned(), at(when))).collect();
        RehearsalState { last_at: at(last), reached, ..RehearsalState::default() }
    }

    #[test]
    fn those_that_waited_longest_come_first() {
        let mut state = State::default();
        state.rehearsals.insert("a".into(), known("2026-11-03T00:00:00Z", &[]));
        state.rehearsals.insert("b".into(), known("2026-11-01T00:00:00Z", &[]));
        let (all, slot) = (["a", "b", "c", "d"], at("2026-11-05T00:00:00Z"));
        let due = |state: &State, sample| {
            all.iter().filter(|s| is_due(s, &all, sample, slot, state)).copied().collect::<Vec<_>>()
        };
        assert_eq!(due(&state, 0.5), ["c", "d"]);
        assert_eq!(due(&state, 0.75), ["b", "c", "d"]);
        assert_eq!(due(&state, 0.01), ["c"]);
        assert_eq!(due(&state, 1.0), all);
        state.rehearsals.insert("c".into(), known("2026-11-05T00:01:00Z", &[]));
        assert_eq!(due(&state, 0.5), ["d"], "c was one of the two");
    }

    #[test]
    fn a_level_is_due_when_its_time_is_over() {
        let day = |days: u64| Duration::from_secs(days * 86_400);
        let frequency = BTreeMap::from([(Level::Equal, day(7)), (Level::Checked, day(30))]);
        let now = at("2026-11-30T02:00:00Z");
        let of = |reached: &[(&str, &str)]| {
            level(Level::Readable, &frequency, Some(&known("2026-11-29T02:00:00Z", reached)), now)
        };
        assert_eq!(level(Level::Readable, &frequency, None, now), Level::Checked);
        let checked = ("checked", "2026-11-20T02:00:00Z");
        assert_eq!(of(&[checked]), Level::Equal, "ten days ago");
        assert_eq!(of(&[checked, ("equal", "2026-11-28T02:00:00Z")]), Level::Readable);
        assert_eq!(
            of(&[checked, ("equal", "2026-11-23T02:10:00Z")]),
            Level::Equal,
            "a slot earlier in the hour counts"
        );
        assert_eq!(of(&[("checked", "2026-10-31T02:00:00Z")]), Level::Checked);
    }
}
