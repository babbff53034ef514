//! What verification of the journal of a host finds.

use super::*;
use bkp::evidence::{Tampering, summary};
use proptest::prelude::*;

#[test]
fn a_journal_that_nobody_touched_fits() {
    let host = host();
    let answer = verified(&host, &[]);
    let document = answer.ends(0).json();
    assert_eq!((document["ok"].clone(), document["findings"].clone()), (true.into(), serde_json::json!([])));
    assert_eq!(document["records"], 43);
    assert_eq!(document["last"]["hash"].as_str().unwrap(), hash(&lines(&segments(&host)[0])[42]));
    assert_eq!(document["verdict"], "fits");
    // Who asks nobody else knows no more than that.
    host.run(&["evidence", "verify", "--offline"])
        .ends(3)
        .says("NOT KNOWN  repository was not asked: --offline")
        .says("nothing wrong was found in what could be looked at");
}

#[test]
fn a_record_that_was_taken_out_is_missed_by_its_number() {
    let host = host();
    let path = &segments(&host)[0];
    let mut all = lines(path);
    all.drain(9..12);
    write(path, &all);
    let answer = verified(&host, &["--offline"]).ends(4);
    let finding = answer.json()["findings"][0].clone();
    assert_eq!(found(answer), ["removed 10..12"]);
    assert_eq!(finding["segment"], "0000000000000001.jsonl");
    assert!(finding["after"].is_string() && finding["before"].is_string());
    host.run(&["evidence", "verify", "--offline"]).ends(4).says("records 10 to 12 are gone").says("written between");
    // From the beginning as well.
    let all = lines(path);
    write(path, &all[3..]);
    assert_eq!(found(verified(&host, &["--offline"]).ends(4)), ["removed 1..3", "removed 10..12"]);
}

#[test]
fn a_record_that_was_edited_is_named_also_when_its_check_was_made_anew() {
    let host = host();
    let path = &segments(&host)[0];
    let all = lines(path);
    for (how, expected) in [
        (all[12].replace("\"outcome\":\"done\"", "\"outcome\":\"failed\""), "edited 13..13"),
        (all[12].replace("\"kind\"", "\"kinder\""), "edited 13..13"),
    ] {
        let mut edited = all.clone();
        edited[12] = how.clone();
        write(path, &edited);
        assert_eq!(found(verified(&host, &["--offline"]).ends(4)), [expected], "{how}");
        edited[12] = forged(&how, None);
        write(path, &edited);
        assert_eq!(found(verified(&host, &["--offline"]).ends(4))[0], expected, "{how}");
    }
}

#[test]
fn records_that_were_moved_or_put_in_are_named() {
    let host = host();
    let path = &segments(&host)[0];
    let all = lines(path);
    let mut moved = all.clone();
    moved.swap(9, 11);
    write(path, &moved);
    let found_here = found(verified(&host, &["--offline"]).ends(4));
    assert!(found_here.iter().all(|found| found.starts_with("reordered")), "{found_here:?}");
    let mut put_in = all.clone();
    put_in.insert(10, forged(&all[10].replace("done", "gone"), None));
    write(path, &put_in);
    assert_eq!(found(verified(&host, &["--offline"]).ends(4)), ["inserted 11..11"]);
}

#[test]
fn an_outcome_without_an_attempt_is_found_also_where_the_chain_holds() {
    let host = host();
    let path = &segments(&host)[0];
    let mut all = lines(path);
    // The attempt becomes another kind of record, and everything after it is made anew.
    assert!(all[12].contains("run_ended") && all[11].contains("run_started"));
    let (begin, rest) = all[11].split_once("\"kind\":").unwrap();
    let (_, check) = rest.rsplit_once(",\"check\"").unwrap();
    all[11] = format!("{begin}\"kind\":\"tail_mended\",\"bytes\":1,\"check\"{check}");
    write(path, &rechained(&all, 11));
    assert_eq!(found(verified(&host, &["--offline"]).ends(4)), ["no_attempt 13..13"]);
}

#[test]
fn what_was_sealed_stands_against_a_journal_that_was_rewritten_as_a_whole() {
    let host = host();
    Journal::of(&host.path("state")).seal(bkp::clock::now()).unwrap();
    host.run(&["backup"]).ends(0);
    assert_eq!(host.objects("journal").len(), 1);
    let document = verified(&host, &[]).ends(0).json();
    assert_eq!((document["sealed"].clone(), document["covered_to"].clone()), (1.into(), 43.into()));

    let path = &segments(&host)[0];
    let all = lines(path);
    let mut rewritten = all.clone();
    rewritten[12] = rewritten[12].replace("\"bytes\":0", "\"bytes\":7");
    let rewritten = rechained(&rewritten, 12);
    write(path, &rewritten);
    let next = &segments(&host)[1];
    let continued = [vec![rewritten[42].clone()], lines(next)].concat();
    write(next, &rechained(&continued, 1)[1..]);
    // By itself it holds; only the repository knows better, and which record was the first.
    verified(&host, &["--offline"]).ends(3);
    let answer = verified(&host, &[]);
    assert_eq!(found(answer.ends(4)), ["rewritten 13..43"]);
    host.run(&["evidence", "verify"]).ends(4).says("the repository has the true ones");
    // What is sealed can be read without the host.
    host.read(&["evidence", "verify", "--stored"]).ends(0).says("everything fits");
}

#[test]
fn sealed_records_that_are_cut_off_at_the_end_are_missed() {
    let host = host();
    Journal::of(&host.path("state")).seal(bkp::clock::now()).unwrap();
    host.run(&["backup"]).ends(0);
    Journal::of(&host.path("state")).seal(bkp::clock::now()).unwrap();
    host.run(&["backup"]).ends(0);
    let all = segments(&host);
    fs::remove_file(&all[2]).unwrap();
    fs::remove_file(&all[1]).unwrap();
    let answer = verified(&host, &[]);
    assert_eq!(found(answer.ends(4)), ["cut_off 44..45"]);
    // In the middle of a segment that was sealed, too.
    let first = lines(&all[0]);
    write(&all[0], &first[..40]);
    let answer = verified(&host, &[]);
    assert_eq!(found(answer.ends(4)), ["rewritten 41..43", "cut_off 41..45"]);
}

fn journal_of(directory: &std::path::Path) -> Journal {
    let journal = Journal::of(directory);
    for number in 0..40u32 {
        let fact = Fact::HoldPlaced { source: format!("source-{number}"), why: "x".repeat(number as usize % 7) };
        journal.append(&[fact], "2026-11-30T00:00:00Z".parse().unwrap()).unwrap();
        if number % 13 == 12 {
            journal.seal(bkp::clock::now()).unwrap();
        }
    }
    journal
}

/// The full million is verified with BKP_TEST_FULL_SIZE=1; the work grows evenly with the number.
#[test]
fn a_million_records_are_verified_in_a_bearable_time() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::of(directory.path());
    let number = if std::env::var_os("BKP_TEST_FULL_SIZE").is_some_and(|value| value == "1") { 500_000 } else { 5_000 };
    for batch in 0..number / 1000 {
        let facts: Vec<Fact> = (0..1000)
            .flat_map(|run| {
                let id = format!("{batch:08x}{run:08x}");
                let source = Some(format!("source-{:03}", run % 500));
                let started = RunStarted {
                    run: id.clone(),
                    job: Job::Backup,
                    policy: source.clone(),
                    source,
                    slot: None,
                    reason: Reason::Schedule,
                    pid: 1,
                };
                [Fact::RunStarted(started), Fact::RunEnded(RunEnded::well(&id, false))]
            })
            .collect();
        journal.append(&facts, bkp::clock::now()).unwrap();
    }
    let begun = std::time::Instant::now();
    let verification = summary(&journal).unwrap();
    println!("{} records verified in {:.2} s", verification.records, begun.elapsed().as_secs_f64());
    assert!(verification.ok);
    assert_eq!((verification.records, verification.runs), (2 * number + 1, number));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is done to the bytes in the middle is found, and found no further away than the record after it.
    #[test]
    fn no_change_of_the_bytes_goes_unseen(at in 0usize..10_000, byte in any::<u8>(), cut in 0usize..40, how in 0usize..3) {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal_of(directory.path());
        prop_assert!(summary(&journal).unwrap().ok);
        let segments = journal.segments().unwrap();
        let (first, path) = &segments[at % (segments.len() - 1)];
        let before = fs::read(path).unwrap();
        let mut bytes = before.clone();
        let place = at % bytes.len();
        match how {
            0 => bytes[place] = byte,
            1 => drop(bytes.drain(place..(place + cut).min(before.len()))),
            _ => bytes.insert(place, byte),
        }
        prop_assume!(bytes != before);
        fs::write(path, &bytes).unwrap();
        let verification = summary(&journal).unwrap();
        prop_assert!(!verification.ok);
        let record = first + before[..place].iter().filter(|b| **b == b'\n').count() as u64;
        let near = |from: u64, to: u64| from <= record + 2 && record <= to + 2;
        prop_assert!(verification.findings.iter().any(|f| near(f.from, f.to)), "{record}: {:?}", verification.findings);
        prop_assert!(verification.findings.iter().all(|f| f.tampering != Tampering::Signature));
    }
}
