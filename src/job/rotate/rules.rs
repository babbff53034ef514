//! Whether a rotation may begin now, and when one that was cut short is gone on with. Pure. What was begun before may always be
//! brought to its end.

use crate::error::{Failure, Kind};
use crate::journal::{Job, Outcome, Rotated, RunEnded, State};
use crate::policy::{Configuration, Policy, Rotation, duration_text};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// So long nobody goes on by itself with what somebody interrupted: he may be looking into it. And with what only has to wait.
const LEFT_ALONE: SignedDuration = SignedDuration::from_mins(15);
/// The same while consumers are refused.
const IN_A_GAP: SignedDuration = SignedDuration::from_mins(1);
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
                format!("{name} was rotated at {at:.0}, less than {} ago", duration_text(rotation.distance))
            }
            Hindrance::Frozen(end) => format!("nothing is rotated on these days (`freeze`), until {end:.0}"),
            Hindrance::AnotherLately { other, until } => {
                format!("{other} was rotated shortly before; {name} may be from {until:.0} on (`apart`)")
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

/// What kept the last try of one that is open from its end, in its words.
pub fn waits_for<'s>(state: &'s State, name: &str) -> Option<&'s str> {
    cut_short(state, name)?;
    last_try(state, name).filter(|last| !last.outcome.is_good())?.message.as_deref()
}

/// Whether that is something that somebody has to do.
pub fn is_by_hand(state: &State, name: &str) -> bool {
    let is_by_hand = |last: &RunEnded| last.code == Kind::ByHand.exit_code();
    cut_short(state, name).is_some() && last_try(state, name).is_some_and(is_by_hand)
}

fn last_try<'s>(state: &'s State, name: &str) -> Option<&'s RunEnded> {
    let last = state.histories.get(&(Job::Rotate, name.to_owned())).and_then(|known| known.last.as_ref());
    last.map(|last| &last.run)
}

/// A restore of the server, after which nobody saw yet that it takes what is published, and nothing else; and no run is at that.
pub fn owed<'s>(state: &'s State, name: &str) -> Option<(Timestamp, &'s Rotated)> {
    let (at, owed) = state.rotations.get(name)?.owed.as_ref()?;
    (!state.running.contains_key(&owed.run)).then_some((*at, &**owed))
}

/// Whether consumers may be refused as long as nothing is done: a restore closed the account, or it is in a gap. No rule for when
/// rotations may be holds then.
pub fn may_be_refused(state: &State, rotation: &Rotation) -> bool {
    owed(state, &rotation.name).is_some() || is_in_gap(state, rotation)
}

/// The server has one password, and was about to be told the new one.
fn is_in_gap(state: &State, rotation: &Rotation) -> bool {
    let open = cut_short(state, &rotation.name).filter(|_| rotation.accepts_gap);
    open.is_some_and(|(_, last)| last.to.is_some())
}

/// When it is gone on with by the daemon, which began at `since`: at once, if it was begun before that, or in a gap. No later than
/// with the next slot in any case. What a restore owes comes first: until then nothing that was begun can be gone on with.
pub fn resume_at(state: &State, rotation: &Rotation, since: Timestamp) -> Option<Timestamp> {
    let name = &rotation.name;
    let tried = state.policy(Job::Rotate, name).and_then(|known| known.last_ended.as_ref());
    let tried = |at: Timestamp| tried.map(|(_, ended, ..)| *ended).filter(|tried| *tried >= at);
    // Until then an old password may let in, or none.
    if let Some((at, _)) = owed(state, name) {
        return tried(at).map_or(Some(at), |tried| tried.checked_add(LEFT_ALONE).ok());
    }
    let (at, last) = cut_short(state, name)?;
    // To try again would change nothing, and whoever does it says so.
    if is_by_hand(state, name) {
        return None;
    }
    let tried = tried(at);
    let is_decided_by_somebody = match tried {
        // What was tried was that, and it is done.
        Some(_) => !only_waited(state, name) && !last.is_reapplied(),
        None => last.state == "stopped",
    };
    let wait = match (is_in_gap(state, rotation), tried, is_decided_by_somebody) {
        (_, None, _) if at < since => SignedDuration::ZERO,
        (_, Some(tried), false) if tried < since => SignedDuration::ZERO,
        (true, None, false) => SignedDuration::ZERO,
        (true, Some(_), false) => IN_A_GAP,
        (true, _, true) | (false, _, false) => LEFT_ALONE,
        (false, _, true) => TRIED_AGAIN,
    };
    tried.unwrap_or(at).checked_add(wait).ok()
}

/// The last try found nothing wrong: Vault or a server was away, something else was at it, or it was ended from outside.
fn only_waited(state: &State, name: &str) -> bool {
    last_try(state, name).is_some_and(|last| {
        last.outcome == Outcome::Aborted || [Kind::TryLater, Kind::Locked].map(Kind::exit_code).contains(&last.code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Fact, Reason, Record, RunStarted, SlotEnd, SlotId};
    use crate::policy::{Paths, load_with};

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
        let (run, rotation, to) = ("r".into(), "db".into(), Some("new".into()));
        let rotated = Rotated { run, rotation, to, state: word.into(), ..Rotated::default() };
        Fact::Rotation(Box::new(rotated))
    }

    /// As the configuration has it, with a gap or without.
    fn rotation(gap: bool) -> Rotation {
        let (kind, accepted) = if gap { ("postgres", "    accept_gap: true\n") } else { ("mysql", "") };
        let policy = format!(
            "policy: shop\nsources:\n  db: {{ {kind}: {{ host: db, user: bkp }} }}\nrotate:\n  db:\n    source: db\n    account: app\n{accepted}    published: ref+vault://kv/shop#/password\n    consumers: {{ web: {{ command: [reload] }} }}\n"
        );
        let main =
            "repository: { url: /srv/backups }\ntimezone: UTC\nvault: { address: 'https://vault', token_file: /t }\n";
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("policies.d")).unwrap();
        std::fs::write(directory.path().join("policies.d/shop.yaml"), policy).unwrap();
        let config = directory.path().join("bkp.yaml");
        std::fs::write(&config, main).unwrap();
        let [state, cache, run] = ["state", "cache", "run"].map(|name| directory.path().join(name));
        let paths = Paths { config, config_given: true, state, cache, run };
        let loaded = load_with(&paths, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"));
        loaded.rotation("db").unwrap().1.clone()
    }

    #[test]
    fn what_was_cut_short_is_gone_on_with_at_the_start_and_later_by_hand() {
        let db = rotation(false);
        let killed = state(&[("10:00:00", noted("published"))]);
        assert_eq!(resume_at(&killed, &db, at("11:00:00")), Some(at("10:00:00")), "before the daemon began");
        assert_eq!(resume_at(&killed, &db, at("09:00:00")), Some(at("10:15:00")), "somebody may be looking into it");
        let stopped = state(&[("10:00:00", noted("stopped"))]);
        let tomorrow = at("10:00:00").checked_add(TRIED_AGAIN).ok();
        assert_eq!(resume_at(&stopped, &db, at("09:00:00")), tomorrow);
        let ended = state(&[("10:00:00", noted("published")), ("10:01:00", noted("rotated"))]);
        assert_eq!(resume_at(&ended, &db, at("11:00:00")), None);
    }

    /// A rotation that was tried again and came to nothing, with this kind of failure.
    fn tried(kind: Kind) -> State {
        let id = SlotId { job: Job::Rotate, policy: "db".into(), slot: at("11:00:00") };
        let run = RunStarted {
            run: "r2".into(),
            job: Job::Rotate,
            source: Some("db".into()),
            policy: Some("db".into()),
            slot: Some(id.slot),
            reason: Reason::CatchUp,
            pid: 1,
        };
        let run_ended = RunEnded::failed("r2", &Failure::new(kind, "why"));
        let end = Fact::SlotEnded { id, end: SlotEnd::Failed, why: None, runs: vec![] };
        state(&[
            ("10:00:00", noted("published")),
            ("11:00:00", Fact::RunStarted(run)),
            ("11:00:01", Fact::RunEnded(run_ended)),
            ("11:00:01", end),
        ])
    }

    #[test]
    fn what_a_restore_owes_is_done_at_once_and_then_again_and_again() {
        let db = rotation(false);
        let owed = state(&[("09:00:00", noted("rotated")), ("10:00:00", noted(Rotated::OWED))]);
        assert_eq!(resume_at(&owed, &db, at("09:00:00")), Some(at("10:00:00")));
        let id = SlotId { job: Job::Rotate, policy: "db".into(), slot: at("10:00:01") };
        let end = Fact::SlotEnded { id, end: SlotEnd::Failed, why: None, runs: vec![] };
        let tried = state(&[("10:00:00", noted(Rotated::OWED)), ("10:00:02", end)]);
        assert_eq!(resume_at(&tried, &db, at("09:00:00")), Some(at("10:15:02")));
        let done = state(&[("10:00:00", noted(Rotated::OWED)), ("10:01:00", noted("reapplied"))]);
        assert_eq!(resume_at(&done, &db, at("09:00:00")), None);
        let between = state(&[("09:00:00", noted("published")), ("10:00:00", noted(Rotated::OWED))]);
        assert_eq!(cut_short(&between, "db").unwrap().1.state, "published", "the rotation is as open as it was");
        assert_eq!(resume_at(&between, &db, at("09:30:00")), Some(at("10:00:00")), "and is not waited for");
        let id = SlotId { job: Job::Rotate, policy: "db".into(), slot: at("10:00:01") };
        let end = Fact::SlotEnded { id, end: SlotEnd::Failed, why: None, runs: vec![] };
        let stopped = [("09:00:00", noted("stopped")), ("10:00:00", noted(Rotated::OWED)), ("10:00:02", end)];
        assert_eq!(resume_at(&state(&stopped), &db, at("09:30:00")), Some(at("10:15:02")), "nor left alone for a day");
        let both = state(&[("10:00:00", noted(Rotated::OWED)), ("10:01:00", noted("both_reapplied"))]);
        assert!(cut_short(&both, "db").is_some() && super::owed(&both, "db").is_none(), "and has to go on");
        let id = SlotId { job: Job::Rotate, policy: "db".into(), slot: at("10:00:01") };
        let end = Fact::SlotEnded { id, end: SlotEnd::Done, why: None, runs: vec![] };
        let both = [("10:00:00", noted(Rotated::OWED)), ("10:01:00", noted("both_reapplied")), ("10:01:01", end)];
        assert_eq!(resume_at(&state(&both), &db, at("09:00:00")), Some(at("10:16:01")), "not a day later");
    }

    #[test]
    fn what_could_not_be_gone_on_with_is_not_tried_all_the_time() {
        let failed = resume_at(&tried(Kind::Failed), &rotation(false), at("10:30:00"));
        assert_eq!(failed, at("11:00:01").checked_add(TRIED_AGAIN).ok());
        let waited = resume_at(&tried(Kind::TryLater), &rotation(false), at("10:30:00"));
        assert_eq!(waited, Some(at("11:15:01")), "nobody has to decide anything");
        let waited = resume_at(&tried(Kind::TryLater), &rotation(false), at("12:00:00"));
        assert_eq!(waited, Some(at("11:00:01")), "before the daemon began");
    }

    #[test]
    fn what_only_a_person_can_do_is_not_tried_by_the_daemon() {
        for since in ["10:30:00", "12:00:00"] {
            assert_eq!(resume_at(&tried(Kind::ByHand), &rotation(false), at(since)), None);
        }
        assert!(is_by_hand(&tried(Kind::ByHand), "db") && !is_by_hand(&tried(Kind::TryLater), "db"));
        assert_eq!(waits_for(&tried(Kind::TryLater), "db"), Some("why"));
    }

    #[test]
    fn while_consumers_are_refused_nobody_is_left_alone_with_it() {
        let db = rotation(true);
        for state_word in ["pending", "accepted", "published", "moved"] {
            let killed = state(&[("10:00:00", noted(state_word))]);
            assert!(is_in_gap(&killed, &db) && !is_in_gap(&killed, &rotation(false)));
            assert_eq!(resume_at(&killed, &db, at("09:00:00")), Some(at("10:00:00")), "{state_word}");
        }
        assert_eq!(resume_at(&tried(Kind::TryLater), &db, at("10:30:00")), Some(at("11:01:01")));
        assert_eq!(resume_at(&tried(Kind::Failed), &db, at("10:30:00")), Some(at("11:15:01")));
        let planned = Rotated { run: "r".into(), rotation: "db".into(), state: "planned".into(), ..Rotated::default() };
        let planned = state(&[("10:00:00", Fact::Rotation(Box::new(planned)))]);
        assert!(!is_in_gap(&planned, &db), "nothing was changed yet");
    }

    /// Otherwise a restore would bring back what may have leaked.
    #[test]
    fn what_was_retired_stays_so_until_the_end_of_the_rotation() {
        let is_retired = |words: &[&str]| {
            let noted: Vec<_> = words.iter().map(|word| ("10:00:00", noted(word))).collect();
            state(&noted).rotations["db"].retired
        };
        assert!(!is_retired(&["planned", "published", "moved", "unused"]));
        for word in ["retiring", "retired", "refused", "ended"] {
            for after in ["moved", "stopped", "reapplied_open", "proven"] {
                assert!(is_retired(&["planned", word, after]), "{word} {after}");
            }
        }
        for end in ["rotated", "rolled_back", "elsewhere", "reapplied"] {
            assert!(!is_retired(&["planned", "retired", end]), "{end}");
        }
        assert!(!is_retired(&["retired", "planned"]), "the one before");
    }

    /// Neither a window nor a freeze keeps an account closed.
    #[test]
    fn what_a_restore_owes_waits_for_no_hour() {
        for db in [rotation(false), rotation(true)] {
            let owed = state(&[("09:00:00", noted("rotated")), ("10:00:00", noted(Rotated::OWED))]);
            assert!(may_be_refused(&owed, &db));
            let between = state(&[("09:00:00", noted("published")), ("10:00:00", noted(Rotated::OWED))]);
            assert!(may_be_refused(&between, &db));
            let done = state(&[("10:00:00", noted(Rotated::OWED)), ("10:01:00", noted("reapplied"))]);
            assert!(!may_be_refused(&done, &db));
        }
    }
}
