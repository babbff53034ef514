//! The fold at the edges of a period.

use super::*;
use crate::journal::{Journal, RunEnded, RunStarted, SlotId};
use jiff::tz::TimeZone;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn november() -> Period {
    Period::parse("2026-11", &TimeZone::UTC).unwrap()
}

/// What a journal with these facts says of November; the report is made in January.
fn facts_of(all: Vec<(&str, Fact)>) -> Facts {
    let state = tempfile::tempdir().unwrap();
    let journal = Journal::of(state.path());
    for (when, fact) in all {
        journal.append(&[fact], at(when)).unwrap();
    }
    read(&journal, &november(), at("2027-01-01T00:00:00Z")).unwrap()
}

fn started(run: &str) -> Fact {
    Fact::RunStarted(RunStarted {
        run: run.into(),
        job: Job::Backup,
        source: Some("app".into()),
        policy: None,
        slot: None,
        reason: Reason::Manual,
        pid: 1,
    })
}

fn ended(run: &str, consistent_at: &str) -> Fact {
    Fact::RunEnded(RunEnded { consistent_at: Some(at(consistent_at)), ..RunEnded::well(run, false) })
}

fn daemon() -> Fact {
    Fact::DaemonStarted { pid: 1, version: "1".into() }
}

#[test]
fn a_run_over_the_beginning_of_the_period_belongs_to_it() {
    let facts = facts_of(vec![
        ("2026-10-31T23:59:00Z", started("a")),
        ("2026-11-01T00:01:00Z", ended("a", "2026-10-31T23:59:00Z")),
        ("2026-11-30T23:59:00Z", started("b")),
        ("2026-12-01T00:01:00Z", ended("b", "2026-11-30T23:59:00Z")),
        ("2026-12-02T00:00:00Z", started("c")),
    ]);
    let runs: Vec<&str> = facts.runs.iter().map(|run| &*run.run).collect();
    assert_eq!(runs, ["a", "b"]);
    assert!(facts.runs.iter().all(|run| run.ended.is_some()));
    assert_eq!((facts.journal.records, facts.journal.records_in_period), (6, 2));
}

#[test]
fn a_slot_belongs_to_the_period_of_its_instant_whenever_it_ended() {
    let id = |slot| SlotId { job: Job::Backup, policy: "p".into(), slot: at(slot) };
    let expected = |slot| Fact::SlotExpected { id: id(slot), due: at(slot), deadline: at(slot) };
    let ended = |slot| Fact::SlotEnded { id: id(slot), end: SlotEnd::Done, why: None, runs: vec![] };
    let facts = facts_of(vec![
        ("2026-10-30T00:00:00Z", expected("2026-10-31T23:00:00Z")),
        ("2026-11-01T00:10:00Z", ended("2026-10-31T23:00:00Z")),
        ("2026-11-29T00:00:00Z", expected("2026-11-30T23:00:00Z")),
        ("2026-12-01T00:10:00Z", ended("2026-11-30T23:00:00Z")),
    ]);
    let slots: Vec<&Slot> = facts.slots().map(|(_, slot)| slot).collect();
    assert_eq!(slots.len(), 1);
    assert_eq!((slots[0].slot, slots[0].end()), (at("2026-11-30T23:00:00Z"), Some(SlotEnd::Done)));
}

#[test]
fn what_could_have_been_lost_grows_until_there_is_another_point() {
    let facts = facts_of(vec![
        ("2026-10-31T02:00:00Z", started("a")),
        ("2026-10-31T02:10:00Z", ended("a", "2026-10-31T02:00:00Z")),
        ("2026-11-03T02:00:00Z", started("b")),
        ("2026-11-03T02:10:00Z", ended("b", "2026-11-03T02:00:00Z")),
    ]);
    let recovery = &facts.recovery["app"];
    assert_eq!((recovery.before, recovery.first), (Some(at("2026-10-31T02:00:00Z")), None));
    let seconds = |day: &str| recovery.days[&day.parse().unwrap()].worst_seconds.unwrap();
    assert_eq!(seconds("2026-11-01"), 46 * 3600);
    assert_eq!(seconds("2026-11-03"), 72 * 3600 + 600);
    assert_eq!(seconds("2026-11-04"), 46 * 3600);
    // To the end of the month, and no further.
    assert_eq!(recovery.worst.unwrap(), Worst { seconds: 27 * 86_400 + 22 * 3600, at: november().to, record: None });
}

#[test]
fn times_without_a_daemon_are_cut_to_the_period() {
    let facts = facts_of(vec![
        ("2026-10-01T00:00:00Z", daemon()),
        ("2026-10-31T00:00:00Z", Fact::DaemonStopped { pid: 1, why: "SIGTERM".into() }),
        ("2026-11-02T00:00:00Z", daemon()),
        ("2026-11-10T00:00:00Z", Fact::TailMended { bytes: 1 }),
        ("2026-11-12T00:00:00Z", daemon()),
        ("2026-11-20T00:00:00Z", Fact::DaemonStopped { pid: 1, why: "SIGTERM".into() }),
    ]);
    let told: Vec<(Timestamp, Option<Timestamp>)> = facts.attendance.absences.iter().map(|a| (a.from, a.to)).collect();
    let expected = [
        (at("2026-11-01T00:00:00Z"), Some(at("2026-11-02T00:00:00Z"))),
        (at("2026-11-10T00:00:00Z"), Some(at("2026-11-12T00:00:00Z"))),
        (at("2026-11-20T00:00:00Z"), None),
    ];
    assert_eq!(told, expected);
    assert_eq!(facts.attendance.absences[1].how, Ending::Vanished);
}

#[test]
fn a_clock_that_went_back_is_seen_in_the_records_too() {
    let facts =
        facts_of(vec![("2026-11-05T12:00:00Z", daemon()), ("2026-11-05T10:00:00Z", Fact::TailMended { bytes: 1 })]);
    assert_eq!(facts.clock.len(), 1);
    assert_eq!((facts.clock[0].seconds, facts.clock[0].noticed), (-7200, false));
}

#[test]
fn a_hold_that_reaches_into_the_period_is_told() {
    let placed = |source: &str| Fact::HoldPlaced { source: source.into(), why: "half is gone".into() };
    let released = |source: &str| Fact::HoldReleased { source: source.into(), by: "ana".into(), why: "meant".into() };
    let facts = facts_of(vec![
        ("2026-10-01T00:00:00Z", placed("over")),
        ("2026-10-02T00:00:00Z", released("over")),
        ("2026-10-03T00:00:00Z", placed("app")),
        ("2026-11-02T00:00:00Z", released("app")),
        ("2026-12-02T00:00:00Z", placed("later")),
    ]);
    let told: Vec<&str> = facts.holds.iter().map(|hold| &*hold.source).collect();
    assert_eq!(told, ["app"]);
    assert_eq!(facts.holds[0].released.as_ref().unwrap().by, "ana");
}
