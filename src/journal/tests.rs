//! The journal against torn ends, flipped bits, many writers, and a model of the fold.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn journal() -> (tempfile::TempDir, Journal) {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::of(directory.path());
    (directory, journal)
}

fn hold(number: usize) -> Fact {
    Fact::HoldPlaced { source: format!("s{number}"), why: "w".repeat(number % 50) }
}

fn read(journal: &Journal) -> (Vec<Record>, Vec<Problem>) {
    let mut records = Vec::new();
    let problems = journal.cursor(0).advance(&mut |record| records.push(record.clone())).unwrap();
    (records, problems)
}

fn only_file(journal: &Journal) -> std::path::PathBuf {
    let mut files = segments::list(journal.directory()).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0).path
}

fn started(run: &str, source: &str) -> RunStarted {
    RunStarted {
        run: run.into(),
        job: Job::Backup,
        source: Some(source.into()),
        policy: None,
        slot: None,
        reason: Reason::Manual,
        pid: 1,
    }
}

#[test]
fn what_is_written_is_read_in_order_without_gaps() {
    let (_directory, journal) = journal();
    assert_eq!(read(&journal), (vec![], vec![]));
    for number in 0..20 {
        journal.append(&[hold(number), hold(number + 100)], at(number as i64)).unwrap();
    }
    let (records, problems) = read(&journal);
    assert_eq!(problems, []);
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), (1..=41).collect::<Vec<_>>());
    assert!(matches!(records[0].fact, Fact::JournalBegun { .. }));
    assert_eq!(records[2], Record { seq: 3, at: at(0), fact: hold(100) });
}

#[test]
fn many_that_write_at_once_make_one_chain() {
    let (_directory, journal) = journal();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let journal = &journal;
            scope.spawn(move || (0..25).for_each(|n| drop(journal.append(&[hold(writer * 100 + n)], at(0)).unwrap())));
        }
    });
    let (records, problems) = read(&journal);
    assert_eq!((records.len(), problems), (201, vec![]));
}

#[test]
fn an_end_torn_at_any_byte_is_mended_and_told_and_no_whole_record_is_lost() {
    let (_directory, journal) = journal();
    journal.append(&[hold(1)], at(1)).unwrap();
    let whole = fs::read(only_file(&journal)).unwrap();
    journal.append(&[hold(2)], at(2)).unwrap();
    let more = fs::read(only_file(&journal)).unwrap();
    for cut in whole.len() + 1..more.len() {
        fs::write(only_file(&journal), &more[..cut]).unwrap();
        let (before, problems) = read(&journal);
        assert_eq!((before.len(), problems), (2, vec![]), "a reader leaves alone what may still be being written");
        let appended = journal.append(&[hold(3)], at(3)).unwrap();
        assert_eq!(appended.mended, Some((cut - whole.len()) as u64));
        let (records, problems) = read(&journal);
        assert_eq!(problems, []);
        assert_eq!(records[2].fact, Fact::TailMended { bytes: (cut - whole.len()) as u64 });
        assert_eq!(records[3].fact, hold(3));
    }
    let kept = fs::read_dir(journal.directory()).unwrap().flatten();
    assert!(kept.filter(|e| e.file_name().to_string_lossy().starts_with("torn-")).count() > 0);
}

#[test]
fn an_end_of_zeros_as_after_a_power_cut_is_mended() {
    let (_directory, journal) = journal();
    journal.append(&[hold(1)], at(1)).unwrap();
    let mut bytes = fs::read(only_file(&journal)).unwrap();
    bytes.extend(vec![0; 5000]);
    bytes.push(b'\n');
    fs::write(only_file(&journal), &bytes).unwrap();
    assert_eq!(journal.append(&[hold(2)], at(2)).unwrap().mended, Some(5001));
    assert_eq!(read(&journal).1, []);
    assert_eq!(journal.state().unwrap().mended, 1);
}

#[test]
fn a_changed_bit_and_a_line_taken_out_are_found_and_the_rest_is_read() {
    let (_directory, journal) = journal();
    (0..5).for_each(|n| drop(journal.append(&[hold(n)], at(0)).unwrap()));
    let path = only_file(&journal);
    let sound = fs::read_to_string(&path).unwrap();

    fs::write(&path, sound.replacen("\"s2\"", "\"x2\"", 1)).unwrap();
    let (records, problems) = read(&journal);
    assert_eq!(records.len(), 5);
    assert!(problems[0].problem.contains("its check does not fit"), "{problems:?}");
    assert!(problems[1].problem.contains("what was between them is gone"), "{problems:?}");

    let without: String = sound.lines().filter(|l| !l.contains("\"s2\"")).map(|l| format!("{l}\n")).collect();
    fs::write(&path, without).unwrap();
    assert!(read(&journal).1[0].problem.contains("record 5 follows record 3"));

    // A whole record in the place of another, its check right: the next one does not go on from it.
    let lines: Vec<&str> = sound.lines().collect();
    let sound_before = line::decode(lines[2].as_bytes()).unwrap().head();
    let (forged, _) = line::encode(&sound_before, at(0), &hold(77)).unwrap();
    fs::write(&path, sound.replacen(&format!("{}\n", lines[3]), &forged, 1)).unwrap();
    let (records, problems) = read(&journal);
    assert_eq!((records.len(), problems.len()), (6, 1));
    assert!(problems[0].problem.contains("one of them was changed"));
}

#[test]
fn segments_follow_each_other() {
    let (_directory, journal) = journal();
    let large = Fact::HoldPlaced { source: "s".into(), why: "w".repeat(900_000) };
    let mut cursor = journal.cursor(0);
    let mut seen = Vec::new();
    for _ in 0..12 {
        journal.append(std::slice::from_ref(&large), at(0)).unwrap();
        assert_eq!(cursor.advance(&mut |record| seen.push(record.seq)).unwrap(), []);
    }
    assert_eq!(seen, (1..=13).collect::<Vec<_>>());
    let files = segments::list(journal.directory()).unwrap();
    assert_eq!(files.len(), 3);
    assert_eq!(read(&journal).1, []);

    let mut from = Vec::new();
    journal.cursor(9).advance(&mut |record| from.push(record.seq)).unwrap();
    assert_eq!(from, (9..=13).collect::<Vec<_>>());

    // Killed between making the next segment and writing into it.
    fs::write(segments::path_of(journal.directory(), 14), "").unwrap();
    journal.append(&[hold(1)], at(0)).unwrap();
    assert_eq!(read(&journal).1, []);

    // One in the middle is gone.
    fs::remove_file(&files[1].path).unwrap();
    assert!(read(&journal).1[0].problem.contains("what was between them is gone"));
}

#[test]
fn a_run_whose_process_is_gone_is_ended_by_the_next_reader() {
    let (_directory, journal) = journal();
    let lives = journal.begin(started("lives", "app"), at(0)).unwrap();
    drop(journal.begin(started("dies", "docs"), at(0)).unwrap());
    assert!(journal.lives("lives") && !journal.lives("dies"));
    assert_eq!(journal.end_what_died(at(9)).unwrap(), 1);
    assert_eq!(journal.end_what_died(at(9)).unwrap(), 0);
    let state = journal.state().unwrap();
    assert_eq!(state.backups("docs").unwrap().last.as_ref().unwrap().run.outcome, Outcome::Aborted);
    assert_eq!(state.running_on("app").unwrap().run, "lives");
    lives.end(RunEnded::well("lives", false), at(10)).unwrap();
    let state = journal.state().unwrap();
    assert_eq!(state.running.len(), 0);
    assert_eq!(state.backups("app").unwrap().last_success.as_ref().unwrap().at, at(10));
}

#[test]
fn a_record_that_could_not_be_made_safe_is_forgotten_again() {
    let (_directory, journal) = journal();
    journal.append(&[hold(1)], at(0)).unwrap();
    let length = fs::metadata(only_file(&journal)).unwrap().len();
    journal.append(&[hold(2)], at(0)).unwrap();
    let mut follower = journal.follow();
    follower.catch_up(&mut |_| {}).unwrap();
    assert!(follower.state.holds.contains_key("s2"));
    // As a writer does whose disk turned out to be full.
    fs::File::options().write(true).open(only_file(&journal)).unwrap().set_len(length).unwrap();
    follower.catch_up(&mut |_| {}).unwrap();
    assert!(!follower.state.holds.contains_key("s2") && follower.state.holds.contains_key("s1"));
}

#[test]
fn slots_are_open_until_they_end_and_know_their_runs() {
    let (_directory, journal) = journal();
    let id = SlotId { job: Job::Backup, policy: "p".into(), slot: at(100) };
    journal.append(&[Fact::SlotExpected { id: id.clone(), due: at(110), deadline: at(900) }], at(0)).unwrap();
    let run = RunStarted { policy: Some("p".into()), slot: Some(at(100)), ..started("r1", "app") };
    let running = journal.begin(run, at(111)).unwrap();
    running.end(RunEnded::well("r1", true), at(112)).unwrap();
    let state = journal.state().unwrap();
    let open = &state.policy(Job::Backup, "p").unwrap().open[&at(100)];
    assert_eq!((open.due, open.runs["app"].0.as_str()), (at(110), "r1"));
    assert_eq!(open.runs["app"].1.as_ref().unwrap().outcome, Outcome::Warnings);
    let ended = Fact::SlotEnded { id, end: SlotEnd::Done, why: None, runs: vec!["r1".into()] };
    journal.append(&[ended], at(113)).unwrap();
    let state = journal.state().unwrap();
    let policy = state.policy(Job::Backup, "p").unwrap();
    assert!(policy.open.is_empty());
    assert_eq!((policy.reached, policy.last_done), (Some(at(100)), Some((at(100), at(113)))));
}

#[test]
fn a_clock_set_back_by_years_does_not_keep_schedules_waiting() {
    let (_directory, journal) = journal();
    let day = 86_400;
    let reached = |second| {
        let slot = at(second - 60);
        let id = SlotId { job: Job::Backup, policy: "p".into(), slot };
        let expected = Fact::SlotExpected { id: id.clone(), due: slot, deadline: at(second + 60) };
        let ended = Fact::SlotEnded { id, end: SlotEnd::Done, why: None, runs: vec![] };
        journal.append(&[expected, ended], at(second)).unwrap();
        journal.state().unwrap().policy(Job::Backup, "p").unwrap().reached
    };
    assert_eq!(reached(day), Some(at(day - 60)));
    journal.append(&[Fact::ClockJumped { seconds: -day }], at(60)).unwrap();
    assert_eq!(journal.state().unwrap().policy(Job::Backup, "p").unwrap().reached, Some(at(day - 60)), "not twice");
    assert!(reached(365 * day).is_some());
    journal.append(&[Fact::ClockJumped { seconds: -364 * day }], at(day)).unwrap();
    assert_eq!(journal.state().unwrap().policy(Job::Backup, "p").unwrap().reached, None);
}

/// One step of the model.
#[derive(Clone, Debug)]
enum Step {
    Hold(u8),
    Release(u8),
    Begin(u8),
    End(u8, bool),
    Tear(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Hold),
        (0..4u8).prop_map(Step::Release),
        (0..6u8).prop_map(Step::Begin),
        (0..6u8, any::<bool>()).prop_map(|(run, good)| Step::End(run, good)),
        (1..40usize).prop_map(Step::Tear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is written and torn, the chain is whole afterwards, and the fold is what the model says; also when it is
    /// taken in bit by bit.
    #[test]
    fn the_fold_is_that_of_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let (_directory, journal) = journal();
        let held = Mutex::new(BTreeMap::new());
        let (mut runs, mut failures) = (BTreeMap::new(), 0u64);
        let mut follower = journal.follow();
        for (second, step) in steps.iter().enumerate() {
            let now = at(second as i64);
            match step {
                Step::Hold(n) => {
                    journal.append(&[Fact::HoldPlaced { source: n.to_string(), why: String::new() }], now).unwrap();
                    held.lock().unwrap().insert(n.to_string(), now);
                }
                Step::Release(n) => {
                    let released = Fact::HoldReleased { source: n.to_string(), by: "a".into(), why: String::new() };
                    journal.append(&[released], now).unwrap();
                    held.lock().unwrap().remove(&n.to_string());
                }
                Step::Begin(n) if !runs.contains_key(n) => {
                    let id = format!("{n}-{second}");
                    runs.insert(*n, journal.begin(started(&id, "app"), now).unwrap());
                }
                Step::End(n, good) => {
                    if let Some(run) = runs.remove(n) {
                        let outcome = if *good { Outcome::Done } else { Outcome::Failed };
                        let ended = RunEnded { outcome, ..RunEnded::well(&run.id, false) };
                        run.end(ended, now).unwrap();
                        failures = if *good { 0 } else { failures + 1 };
                    }
                }
                Step::Tear(bytes) => {
                    if let Some(last) = segments::list(journal.directory()).unwrap().last() {
                        use std::io::Write;
                        let mut file = fs::File::options().append(true).open(&last.path).unwrap();
                        file.write_all(&vec![b'{'; *bytes]).unwrap();
                    }
                }
                Step::Begin(_) => {}
            }
            follower.catch_up(&mut |_| {}).unwrap();
        }
        journal.append(&[], at(0)).unwrap();
        follower.catch_up(&mut |_| {}).unwrap();
        prop_assert_eq!(&follower.problems, &vec![]);
        let state = journal.state().unwrap();
        prop_assert_eq!(&state, &follower.state);
        let holds: BTreeMap<_, _> = state.holds.iter().map(|(name, hold)| (name.clone(), hold.since)).collect();
        prop_assert_eq!(holds, held.into_inner().unwrap());
        prop_assert_eq!(state.running.len(), runs.len());
        prop_assert_eq!(state.backups("app").map_or(0, |history| history.failures_in_a_row), failures);
    }
}

#[test]
fn what_happened_on_a_day_is_sealed_by_the_first_record_of_another() {
    let (_directory, journal) = journal();
    let day = |day: i8| format!("2026-11-{day:02}T23:59:59Z").parse().unwrap();
    let append = |when: i8| {
        journal.append(&[hold(1)], day(when)).unwrap();
        journal.sealed_segments().unwrap().len()
    };
    assert_eq!([append(1), append(1), append(2), append(2)], [0, 0, 1, 1]);
    assert_eq!([append(28), append(3), append(3)], [2, 3, 3], "a clock that was ahead keeps nothing open");
    assert_eq!(read(&journal).1, []);
}
