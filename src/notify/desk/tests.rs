//! What is news, and what is not.

use super::*;
use crate::journal::RunEnded;

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}:00Z").parse().unwrap()
}

/// A desk, and a journal that is told to it.
#[derive(Default)]
struct Told {
    desk: Desk,
    seq: u64,
}

impl Told {
    fn fact(&mut self, when: &str, fact: Fact) -> Vec<String> {
        self.seq += 1;
        let news = self.desk.take(&Record { seq: self.seq, at: at(when), fact });
        news.iter().filter(|news| !matches!(news.topic(), Topic::Start | Topic::Success)).map(shown).collect()
    }

    fn run(&mut self, when: &str, source: &str, slot: Option<&str>, reason: Reason, ended: RunEnded) -> Vec<String> {
        let started = RunStarted {
            run: ended.run.clone(),
            job: Job::Backup,
            source: Some(source.into()),
            policy: Some("shop".into()),
            slot: slot.map(at),
            reason,
            pid: 1,
        };
        let mut news = self.fact(when, Fact::RunStarted(started));
        news.extend(self.fact(when, Fact::RunEnded(ended)));
        news
    }

    fn slot(&mut self, when: &str, slot: &str, end: SlotEnd, runs: &[&str]) -> Vec<String> {
        let id = SlotId { job: Job::Backup, policy: "shop".into(), slot: at(slot) };
        let runs = runs.iter().map(|run| run.to_string()).collect();
        self.fact(when, Fact::SlotEnded { id, end, why: Some("the host was down".into()), runs })
    }
}

fn failed(run: &str) -> RunEnded {
    RunEnded { outcome: Outcome::Failed, code: 1, message: Some("no answer".into()), ..RunEnded::well(run, false) }
}

fn shown(news: &News) -> String {
    match &news.about {
        About::Failed { name, message, .. } => format!("{name} failed: {message}"),
        About::Recovered { name, .. } => format!("{name} recovered"),
        About::Missed { slot, .. } => format!("missed {slot}"),
        other => format!("{other:?}").split([' ', '(']).next().unwrap().to_owned(),
    }
}

#[test]
fn a_failure_is_told_once_then_daily_and_its_end_once() {
    let mut told = Told::default();
    let mut run = |when: &str, ended| told.run(when, "db", None, Reason::CatchUp, ended);
    assert_eq!(run("01T02:30", RunEnded::well("a", false)), [""; 0]);
    assert_eq!(run("02T02:30", failed("b")), ["db failed: no answer"]);
    assert_eq!(run("02T03:30", failed("c")), [""; 0], "it still fails, and that is known");
    assert_eq!(run("03T02:30", failed("d")), ["db failed: no answer"], "a day later somebody may have forgotten");
    assert_eq!(run("03T03:30", RunEnded::well("e", true)), ["db recovered"]);
    assert_eq!(run("03T04:30", RunEnded::well("f", false)), [""; 0]);
}

#[test]
fn what_is_tried_again_within_its_slot_is_no_news() {
    let mut told = Told::default();
    let slot = Some("05T02:30");
    assert_eq!(told.run("05T02:30", "db", slot, Reason::Schedule, failed("a")), [""; 0]);
    assert_eq!(told.run("05T02:40", "db", slot, Reason::Schedule, RunEnded::well("b", false)), [""; 0]);
    assert_eq!(told.slot("05T02:41", "05T02:30", SlotEnd::Done, &["a", "b"]), [""; 0]);
    told.run("06T02:30", "db", Some("06T02:30"), Reason::Schedule, failed("c"));
    told.run("06T02:30", "files", Some("06T02:30"), Reason::Schedule, RunEnded::well("d", false));
    assert_eq!(told.slot("06T02:41", "06T02:30", SlotEnd::Failed, &["c", "d"]), ["db failed: no answer"]);
}

#[test]
fn what_is_tried_in_vain_for_half_an_hour_is_told_at_once_and_once() {
    let mut told = Told::default();
    let (slot, later) = (Some("05T02:30"), Some("05T02:55"));
    for (minute, run) in [("30", "a"), ("31", "b"), ("33", "c"), ("45", "d")] {
        assert_eq!(told.run(&format!("05T02:{minute}"), "db", slot, Reason::Schedule, failed(run)), [""; 0]);
    }
    told.run("05T02:46", "files", slot, Reason::Schedule, failed("e"));
    told.run("05T02:47", "cache", slot, Reason::Schedule, failed("f"));
    told.run("05T02:48", "cache", slot, Reason::Schedule, RunEnded::well("g", false));
    assert_eq!(
        told.run("05T03:00", "db", slot, Reason::Schedule, failed("h")),
        ["db failed: no answer", "files failed: no answer"],
        "the store is down for all, and one letter says so"
    );
    assert_eq!(told.run("05T03:01", "db", slot, Reason::Schedule, failed("i")), [""; 0], "that is known");
    let stopped = RunEnded { outcome: Outcome::Aborted, code: 143, ..RunEnded::well("j", false) };
    assert_eq!(told.run("05T03:40", "cache", later, Reason::Schedule, stopped), [""; 0]);
    told.run("05T03:41", "db", slot, Reason::Schedule, RunEnded::well("k", false));
    told.run("05T03:42", "files", slot, Reason::Schedule, RunEnded::well("l", false));
    let runs = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "k", "l"];
    assert_eq!(told.slot("05T03:43", "05T02:30", SlotEnd::Done, &runs), ["db recovered", "files recovered"]);
}

#[test]
fn slots_that_came_to_nothing_are_told_and_so_is_that_they_come_again() {
    let mut told = Told::default();
    assert_eq!(told.slot("07T09:00", "07T02:30", SlotEnd::Missed, &[]), ["missed 2026-11-07T02:30:00Z"]);
    assert_eq!(told.slot("07T09:00", "07T03:30", SlotEnd::Missed, &[]), [""; 0], "one letter for a night");
    assert_eq!(told.slot("07T10:31", "07T10:30", SlotEnd::Done, &[]), ["shop recovered"]);
    assert_eq!(told.slot("07T11:30", "07T11:30", SlotEnd::Failed, &[]), ["shop failed: the host was down"]);
    assert_eq!(told.slot("07T12:30", "07T12:30", SlotEnd::Skipped, &[]), [""; 0]);
}

#[test]
fn who_interrupts_a_run_by_hand_knows_of_it() {
    let mut told = Told::default();
    let interrupted = RunEnded { outcome: Outcome::Aborted, code: 130, ..RunEnded::well("a", false) };
    assert_eq!(told.run("08T02:30", "db", None, Reason::Manual, interrupted), [""; 0]);
    let killed =
        RunEnded { outcome: Outcome::Aborted, code: 1, message: Some("vanished".into()), ..RunEnded::well("b", false) };
    assert_eq!(told.run("08T02:31", "db", None, Reason::Manual, killed), ["db failed: vanished"]);
}

#[test]
fn a_copy_works_again_when_all_that_failed_has_been_copied() {
    let mut told = Told::default();
    let mut copy = |when: &str, source: &str, ok| {
        let (copy, source, point) = ("usb".to_owned(), source.to_owned(), "p".to_owned());
        told.fact(when, Fact::CopyEnded { copy, source, point, ok, message: Some("torn".into()) })
    };
    assert_eq!(copy("09T01:00", "b", false), ["usb failed: b: torn"]);
    for hour in 2..8 {
        assert_eq!(copy(&format!("09T0{hour}:00"), "a", true), [""; 0], "the other one is not copied yet");
        assert_eq!(copy(&format!("09T0{hour}:01"), "b", false), [""; 0], "this is known");
    }
    assert_eq!(copy("09T09:00", "c", false), [""; 0], "a store that is down is told of once");
    assert_eq!(copy("10T09:00", "b", false), ["usb failed: b: torn (and: c)"]);
    assert_eq!(copy("10T10:00", "b", true), [""; 0]);
    assert_eq!(copy("10T11:00", "c", true), ["usb recovered"]);
}

#[test]
fn what_was_told_while_the_clock_was_ahead_is_told_again() {
    let mut told = Told::default();
    let mut run = |when: &str, ended| told.run(when, "db", None, Reason::CatchUp, ended);
    assert_eq!(run("25T02:30", failed("a")), ["db failed: no answer"]);
    assert_eq!(run("02T02:30", failed("b")), ["db failed: no answer"], "the clock is right again");
    assert_eq!(run("02T03:30", failed("c")), [""; 0]);
    assert_eq!(run("03T02:30", failed("d")), ["db failed: no answer"]);
}

#[test]
fn copies_configuration_holds_and_channels_are_watched_too() {
    let mut told = Told::default();
    let copy = |ok| Fact::CopyEnded {
        copy: "madrid".into(),
        source: "db".into(),
        point: "p".into(),
        ok,
        message: Some("full".into()),
    };
    assert_eq!(told.fact("09T01:00", copy(false)), ["madrid failed: db: full"]);
    assert_eq!(told.fact("09T01:01", copy(false)), [""; 0]);
    assert_eq!(told.fact("09T01:02", copy(true)), ["madrid recovered"]);
    let loaded = |ok| Fact::ConfigLoaded { ok, error: Some("line 3".into()), digest: "d".into() };
    assert_eq!(told.fact("09T02:00", loaded(false)), ["NotReloaded"]);
    assert_eq!(told.fact("09T02:01", loaded(true)), ["Reloaded"]);
    let held = Fact::HoldPlaced { source: "db".into(), why: "half its size".into() };
    assert_eq!(told.fact("09T03:00", held), ["Held"]);
    let down = Fact::NotifyFailed { channel: "mail".into(), event: "x".into(), message: "refused".into() };
    assert_eq!(told.fact("09T04:00", down.clone()), ["ChannelDown"]);
    assert_eq!(told.fact("09T05:00", down), [""; 0]);
    let arrived = Fact::Notified { channel: "mail".into(), event: "x".into() };
    assert_eq!(told.fact("09T06:00", arrived.clone()), ["ChannelBack"]);
    assert_eq!(told.fact("09T06:01", arrived), [""; 0]);
}

#[test]
fn who_stands_back_for_somebody_else_has_not_failed() {
    let mut told = Told::default();
    let locked = |run| RunEnded { code: 11, message: Some("app is locked by another run".into()), ..failed(run) };
    assert!(told.run("29 10:00", "app", None, Reason::Manual, locked("r1")).is_empty());
    assert!(told.run("29 10:05", "app", Some("29 10:05"), Reason::Schedule, locked("r2")).is_empty());
    assert!(told.slot("29 10:06", "29 10:05", SlotEnd::Skipped, &["r2"]).is_empty());
    // Who waited for his turn until the deadline, in vain, has.
    assert!(told.run("29 11:00", "app", Some("29 11:00"), Reason::Schedule, locked("r3")).is_empty());
    assert_eq!(told.slot("29 12:00", "29 11:00", SlotEnd::Failed, &["r3"]).len(), 1);
}
