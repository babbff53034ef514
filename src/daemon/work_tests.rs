//! What is made of runs and their ends.

use super::child::Exit;
use super::work::{End, Known, Task, TaskKind, Verdict, Work, judge};
use crate::journal::{Job, OpenSlot, Outcome, Reason, RunEnded, SlotEnd, SlotId};
use crate::policy::Overlap;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn exit(code: Option<u8>) -> Exit {
    Exit { code, last_words: "last words".into(), output: String::new() }
}

fn slot(outcome: Option<Outcome>, code: u8) -> OpenSlot {
    let at = Timestamp::UNIX_EPOCH;
    let ended = outcome.map(|outcome| RunEnded { outcome, code, ..RunEnded::well("r", false) });
    OpenSlot {
        seq: 1,
        due: at,
        deadline: at,
        begun: Some(at),
        runs: BTreeMap::from([("app".into(), ("r".into(), ended))]),
    }
}

fn of(slot: Option<&OpenSlot>, exit: Option<&Exit>, attempts: u32, overlap: Overlap) -> Verdict {
    judge("app", Known { slot, lives: &|_| false }, exit, attempts, overlap)
}

#[test]
fn the_journal_is_believed_before_the_exit_code() {
    let good = slot(Some(Outcome::Warnings), 3);
    assert_eq!(of(Some(&good), Some(&exit(Some(13))), 1, Overlap::Skip), Verdict::Ended(End::Good));
    let failed = slot(Some(Outcome::Failed), 1);
    let Verdict::Ended(End::Failed(why)) = of(Some(&failed), Some(&exit(Some(0))), 1, Overlap::Skip) else { panic!() };
    assert_eq!(why, "exit code 1");
    // Somebody else has it in hand for the same slot.
    let begun = slot(None, 0);
    let known = Known { slot: Some(&begun), lives: &|run| run == "r" };
    assert_eq!(judge("app", known, Some(&exit(Some(11))), 1, Overlap::Skip), Verdict::GoesOn);
}

#[test]
fn a_run_that_began_and_whose_end_could_not_be_written_is_not_run_again() {
    let begun = slot(None, 0);
    assert_eq!(of(Some(&begun), Some(&exit(Some(0))), 1, Overlap::Skip), Verdict::Ended(End::Good));
    assert_eq!(
        of(Some(&begun), Some(&exit(Some(1))), 1, Overlap::Skip),
        Verdict::Ended(End::Failed("last words".into()))
    );
    // One that nobody saw the end of is.
    assert!(matches!(of(Some(&begun), None, 1, Overlap::Skip), Verdict::Again(_)));
    assert!(matches!(of(Some(&begun), None, 3, Overlap::Skip), Verdict::Ended(End::Failed(_))));
}

#[test]
fn a_run_without_a_record_is_judged_by_its_process() {
    for code in [0, 3] {
        assert_eq!(of(None, Some(&exit(Some(code))), 1, Overlap::Skip), Verdict::Ended(End::Good));
    }
    assert_eq!(of(None, Some(&exit(Some(1))), 1, Overlap::Skip), Verdict::Ended(End::Failed("last words".into())));
    assert_eq!(of(None, Some(&exit(None)), 1, Overlap::Skip), Verdict::Again("last words".into()));
    assert_eq!(of(None, Some(&exit(None)), 3, Overlap::Skip), Verdict::Ended(End::Failed("last words".into())));
}

#[test]
fn what_may_pass_is_tried_again_and_what_is_locked_goes_by_the_rule() {
    let later = slot(Some(Outcome::Failed), 75);
    assert!(matches!(of(Some(&later), None, 9, Overlap::Skip), Verdict::Again(_)));
    assert_eq!(of(Some(&later), Some(&exit(Some(0))), 2, Overlap::Skip), Verdict::Ended(End::Good), "nothing to do");
    let locked = slot(Some(Outcome::Failed), 11);
    assert!(matches!(of(Some(&locked), None, 1, Overlap::Queue), Verdict::Again(_)));
    assert!(matches!(of(Some(&locked), None, 1, Overlap::Skip), Verdict::Ended(End::Skipped(_))));
    let aborted = slot(Some(Outcome::Aborted), 1);
    assert!(matches!(of(Some(&aborted), None, 1, Overlap::Skip), Verdict::Again(_)));
    assert!(matches!(of(Some(&aborted), None, 3, Overlap::Skip), Verdict::Ended(End::Failed(_))));
}

#[test]
fn waits_grow_between_tries() {
    let mut task = Task::new(TaskKind::List);
    let mut waits = Vec::new();
    for attempts in [1, 2, 3, 6, 40] {
        task.attempts = attempts;
        waits.push(task.backoff(Duration::from_secs(60)).as_secs());
    }
    assert_eq!(waits, [60, 120, 240, 900, 900]);
}

#[test]
fn a_slot_is_as_its_worst_source() {
    let ended = |ends: &[(&str, End)]| {
        let mut task = Task::new(TaskKind::Backup { sources: vec![], stack: None });
        task.ends = ends.iter().map(|(source, end)| ((*source).to_owned(), end.clone())).collect();
        let id = SlotId { job: Job::Backup, policy: "p".into(), slot: Timestamp::UNIX_EPOCH };
        let (due, reason) = (id.slot, Reason::Schedule);
        Work { slot: id, due, reason, deadline: Instant::now(), overlap: Overlap::Skip, tasks: vec![task] }.end()
    };
    let (failed, skipped) = (End::Failed("gone".into()), End::Skipped("locked".into()));
    assert_eq!(ended(&[("a", End::Good)]), (SlotEnd::Done, None));
    assert_eq!(ended(&[("a", End::Good), ("b", skipped.clone())]), (SlotEnd::Done, Some("b: locked".into())));
    assert_eq!(ended(&[("a", End::Good), ("b", failed)]), (SlotEnd::Failed, Some("b: gone".into())));
    assert_eq!(ended(&[("a", skipped)]).0, SlotEnd::Skipped);
    assert_eq!(ended(&[]).0, SlotEnd::Skipped);
    assert_eq!(ended(&[("a", End::NeverBegan), ("b", End::NeverBegan)]).0, SlotEnd::Missed);
    let (end, why) = ended(&[("a", End::Good), ("b", End::NeverBegan)]);
    assert_eq!((end, why.as_deref()), (SlotEnd::Failed, Some("b: it did not come to its turn before its deadline")));
}
