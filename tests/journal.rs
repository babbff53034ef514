//! The journal, through the real program: every run leaves a record, whatever becomes of it.
//!
//! Commands are killed at every write, disks are full, ends are torn, and the records are read back as a user does. The format
//! itself is checked here without bkp: with `sha256sum`, as docs/JOURNAL.md says.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;
#[path = "support/trees.rs"]
mod trees;

use bkp::journal::{Fact, Job, Journal, Reason, RunEnded, RunStarted};
use bkp::repo::Repository;
use bkp::repo::keys::Operator;
use bkp::repo::writer::Writer;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use support::host::{Host, database};
use trees::Mounted;

/// A host with a database and a directory.
fn host() -> Host {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "row");
    fs::create_dir(host.path("data/docs")).unwrap();
    fs::write(host.path("data/docs/a"), "a").unwrap();
    host.sources(&[
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
    ]);
    host
}

fn records(host: &Host) -> Vec<Value> {
    let document = host.run(&["journal", "--json", "--last", "100000"]).ends(0).json();
    assert_eq!(document["problems"], serde_json::json!([]));
    document["records"].as_array().unwrap().clone()
}

/// Kind, and what the runs say of themselves.
fn told(host: &Host) -> Vec<String> {
    let text = |record: &Value, key: &str| record[key].as_str().map(str::to_owned);
    let one = |record: &Value| {
        let parts = ["kind", "job", "source", "policy", "reason", "outcome"].map(|key| text(record, key));
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    records(host).iter().skip(1).map(one).collect()
}

fn file(host: &Host) -> PathBuf {
    host.path("state/journal/0000000000000001.jsonl")
}

#[test]
fn runs_are_recorded_with_what_came_of_them() {
    let host = host();
    host.run(&["backup"]).ends(0);
    fs::remove_dir_all(host.path("data/docs")).unwrap();
    host.run(&["backup", "docs"]).ends(1);
    host.run(&["check"]).ends(0);
    host.read(&["restore", "app", "--to", &host.text("restored.db")]).ends(0);
    host.read(&["restore", "app", "--in-place", "--confirm", "app"]).ends(0);
    assert_eq!(
        told(&host),
        [
            "run_started backup app all manual",
            "run_ended done",
            "run_started backup docs all manual",
            "run_ended done",
            "run_started backup bkp-configuration manual",
            "run_ended done",
            "run_started backup docs all manual",
            "run_ended failed",
            "run_started check manual",
            "repository_seen",
            "run_ended done",
            "run_started restore app all manual",
            "run_ended done",
            "run_started restore app all manual",
            "run_started backup app safety",
            "run_ended done",
            "run_ended done",
        ]
    );
    let all = records(&host);
    let (started, ended) = (&all[1], &all[2]);
    assert_eq!(started["run"], ended["run"]);
    assert_eq!(ended["point"], host.points("app")[1]["point"]);
    assert!(ended["bytes"].as_u64().unwrap() > 0 && ended["consistent_at"].is_string());
    let failed = &all[8];
    assert_eq!(failed["code"], 1);
    assert!(failed["message"].as_str().unwrap().contains(&host.text("data/docs")), "{failed}");
    host.run(&["journal"]).ends(0).says("FAILED").says("backup docs");
    let of_docs = host.run(&["journal", "--source", "docs", "--json"]).ends(0).json();
    assert_eq!(of_docs["records"].as_array().unwrap().len(), 4);
    host.run(&["journal", "verify"]).ends(0).says("18 records").says("no problem found");
}

#[test]
fn what_kept_all_from_beginning_is_a_failed_run_of_each() {
    let host = host();
    fs::remove_dir_all(host.store()).unwrap();
    host.run(&["backup"]).ends(10);
    let expected = [
        "run_started backup app all manual",
        "run_ended failed",
        "run_started backup docs all manual",
        "run_ended failed",
    ];
    assert_eq!(told(&host), expected);
    assert_eq!(records(&host)[2]["code"], 10);
}

#[test]
fn a_run_that_was_killed_is_told_by_the_next_command() {
    let host = host();
    let mut command = host.command(&["backup", "app"]);
    command.env("BKP_CRASH_AT", "backup:stream-stored");
    host.finish(host.start(command)).was_killed();
    assert_eq!(told(&host), ["run_started backup app all manual", "run_ended aborted"]);
    assert!(records(&host)[2]["message"].as_str().unwrap().contains("vanished"));
    assert_eq!(fs::read_dir(host.path("state/journal/runs")).unwrap().count(), 0);
}

#[test]
fn a_signal_ends_a_run_as_aborted() {
    let host = host();
    host.sources(&["slow: { command: { run: [sleep, \"60\"] } }".to_owned()]);
    let mut running = host.start(host.command(&["backup"]));
    running.until("the run is in the journal", || {
        fs::read_to_string(file(&host)).is_ok_and(|text| text.contains("run_started"))
    });
    running.signal(Signal::TERM);
    host.finish(running).ends(143);
    assert_eq!(told(&host), ["run_started backup slow all manual", "run_ended aborted"]);
    assert_eq!(records(&host)[2]["code"], 143);
}

#[test]
fn killed_at_any_write_the_journal_is_whole_and_goes_on() {
    for point in ["journal:before-write", "journal:half-written", "journal:written"] {
        for number in 1..=2 {
            let host = host();
            let mut command = host.command(&["backup", "app"]);
            command.env("BKP_CRASH_AT", format!("{point}#{number}"));
            host.finish(host.start(command)).was_killed();
            host.run(&["backup", "app"]).ends(0);
            host.run(&["journal", "verify"]).ends(0).says("no problem found");
            let told = told(&host);
            let last = told.iter().rposition(|told| told == "run_started backup app all manual").unwrap();
            assert_eq!(told[last + 1], "run_ended done", "{point}#{number}");
            // What began has an end.
            let count = |kind: &str| told.iter().filter(|told| told.starts_with(kind)).count();
            assert_eq!(count("run_started"), count("run_ended"), "{point}#{number}: {told:?}");
            assert_eq!(count("tail_mended"), usize::from(point == "journal:half-written"), "{point}#{number}");
        }
    }
}

#[test]
fn a_torn_end_is_mended_aloud() {
    let host = host();
    host.run(&["backup", "app"]).ends(0);
    fs::File::options().append(true).open(file(&host)).unwrap().write_all(b"{\"seq\":6,\"at\":\"20").unwrap();
    host.run(&["journal", "verify"]).ends(0).says("5 records");
    host.run(&["backup", "app"]).ends(0);
    host.run(&["journal", "verify"]).ends(0).says("8 records").says("a torn end was mended once");
    assert_eq!(told(&host)[4], "tail_mended");
}

#[test]
fn a_record_that_was_changed_is_found() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let sound = fs::read_to_string(file(&host)).unwrap();
    fs::write(file(&host), sound.replacen("\"outcome\":\"done\"", "\"outcome\":\"none\"", 1)).unwrap();
    host.run(&["journal", "verify"]).ends(4).says("DAMAGED").says("its check does not fit what it says");
    host.run(&["journal"]).ends(0).says("bkp journal verify");
    // It goes on being written all the same.
    host.run(&["backup"]).ends(0);

    let lines: Vec<&str> = sound.lines().collect();
    fs::write(file(&host), [&lines[..2], &lines[3..]].concat().join("\n") + "\n").unwrap();
    host.run(&["journal", "verify"]).ends(4).says("record 4 follows record 2");
}

#[test]
fn the_chain_can_be_told_without_bkp() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let script = r#"
        prev=$(printf '0%.0s' $(seq 64)); seq=0
        while read -r line; do
            seq=$((seq + 1))
            case $line in "{\"seq\":$seq,"*"\"prev\":\"$prev\""*) ;; *) echo "record $seq"; exit 1 ;; esac
            prev=$(printf %s "${line%,\"check\":*}" | sha256sum | cut -d' ' -f1)
            case $line in *",\"check\":\"$(printf %s "$prev" | cut -c1-16)\"}") ;; *) echo "check $seq"; exit 1 ;; esac
        done < "$1"
        echo "$seq $prev"
    "#;
    let output = std::process::Command::new("bash").args(["-c", script, "bash"]).arg(file(&host)).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let head = host.run(&["journal", "verify", "--json"]).ends(0).json();
    assert_eq!(said.trim(), format!("7 {}", head["head"].as_str().unwrap()));
}

#[test]
fn a_full_disk_keeps_no_backup_from_being_made_and_is_told() {
    let host = host();
    // Only the journal has no room: the writer's keys are elsewhere in the state directory.
    fs::create_dir_all(host.path("state/journal")).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&host.path("state/journal")) else {
        return support::not_run("a journal on a full disk", "mounting a tmpfs takes root");
    };
    let filler = host.path("state/journal/filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    host.run(&["backup"]).ends(0).says("the journal does not know of this run").says("Free some space");
    assert_eq!(host.points("app").len(), 1);
    drop(file);
    fs::remove_file(&filler).unwrap();
    host.run(&["backup"]).ends(0).says_not("the journal does not know");
    host.run(&["journal", "verify"]).ends(0).says("no problem found");
}

#[test]
fn sealed_segments_are_kept_in_the_repository_where_the_host_cannot_change_them() {
    let host = host();
    host.run(&["backup", "app"]).ends(0);
    let journal = Journal::of(&host.path("state"));
    // Long records, so that segments are full soon.
    for _ in 0..8 {
        let long = Fact::HoldPlaced { source: "app".into(), why: "w".repeat(900_000) };
        journal.append(&[long], "2026-11-30T00:00:00Z".parse().unwrap()).unwrap();
    }
    let sealed = journal.sealed_segments().unwrap();
    assert!(!sealed.is_empty());
    assert_eq!(host.objects("journal").len(), 0);
    host.run(&["backup", "app"]).ends(0);
    assert_eq!(host.objects("journal").len(), sealed.len());
    host.run(&["backup", "app"]).ends(0);
    assert_eq!(host.objects("journal").len(), sealed.len(), "once is enough");

    // An operator reads them, and they are what the host has.
    let repository = open(&host);
    let writer = Writer::load(&host.path("state"), repository.id()).unwrap().unwrap();
    let operator = Operator::read(&[host.identity()]).unwrap();
    let keys = operator.keyring(&*repository.store).unwrap();
    let signer = writer.signing.verifying_key();
    let segments = bkp::repo::journal::list(&repository, writer.id()).unwrap();
    assert_eq!(segments.len(), sealed.len());
    for ((id, first), (own_first, path)) in segments.iter().zip(&sealed) {
        assert_eq!((Some(id.clone()), first), (journal.id().unwrap(), own_first));
        let (read, _) = bkp::repo::journal::read(&repository, &keys, (writer.id(), &signer), (id, *first)).unwrap();
        assert!(read == fs::read(path).unwrap());
    }
    let (id, first) = &segments[0];
    let stranger = Host::new();
    let stranger_id = fs::read_dir(stranger.path("state/repositories")).unwrap().next().unwrap().unwrap().file_name();
    let stranger = Writer::load(&stranger.path("state"), stranger_id.to_str().unwrap()).unwrap().unwrap();
    let other = stranger.signing.verifying_key();
    let refused = bkp::repo::journal::read(&repository, &keys, (writer.id(), &other), (id, *first)).unwrap_err();
    assert!(refused.to_string().contains("not signed by the writer"), "{refused}");
    host.is_well();
}

fn open(host: &Host) -> Repository {
    let settings = bkp::store::Settings::new(host.url.parse().unwrap());
    Repository::open(bkp::store::open(&settings).unwrap()).unwrap()
}

#[test]
fn a_million_records_are_folded_in_a_bearable_time_and_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::of(directory.path());
    let at = "2026-11-30T00:00:00Z".parse().unwrap();
    // The full million is measured with `make bench`; the work grows evenly with the number.
    let number = if std::env::var_os("BKP_TEST_FULL_SIZE").is_some_and(|value| value == "1") { 500_000 } else { 5_000 };
    for batch in 0..number / 1000 {
        let facts: Vec<Fact> = (0..1000)
            .flat_map(|run| {
                let id = format!("{batch:08x}{run:08x}");
                let (job, source) = (Job::Backup, Some(format!("source-{:03}", run % 500)));
                let (policy, slot, reason) = (source.clone(), Some(at), Reason::Schedule);
                let started = RunStarted { run: id.clone(), job, source, policy, slot, reason, pid: 1 };
                [Fact::RunStarted(started), Fact::RunEnded(RunEnded::well(&id, false))]
            })
            .collect();
        journal.append(&facts, at).unwrap();
    }
    let begun = std::time::Instant::now();
    let state = journal.state().unwrap();
    println!("{} records folded in {:.2} s", state.seq, begun.elapsed().as_secs_f64());
    assert_eq!(state.seq, 2 * number + 1);
    assert_eq!(state.histories.len(), 500);
    assert_eq!(state.histories.values().map(|history| history.ended.done).sum::<u64>(), number);
}
