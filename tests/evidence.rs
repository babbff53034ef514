//! The journal as proof, through the real program: every kind of tampering is found, and it is said where.
//!
//! Who tampers here does it well: checks are made anew, and whole chains too. A bundle is verified without bkp by the recipe as
//! it is written in docs/EVIDENCE.md.

#![allow(dead_code, clippy::unwrap_used)] // sinks have more than is used here; all of this is test

#[path = "notify/sinks.rs"]
mod sinks;
mod support;

#[path = "evidence/anchors.rs"]
mod anchors;
#[path = "evidence/attacks.rs"]
mod attacks;
#[path = "evidence/bundles.rs"]
mod bundles;
#[path = "evidence/tampering.rs"]
mod tampering;
#[path = "evidence/vectors.rs"]
mod vectors;
#[path = "evidence/verifiers.rs"]
mod verifiers;

use bkp::journal::{Chosen, Fact, Job, Journal, Reason, Rehearsed, RunEnded, RunStarted, ScratchTarget};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use support::host::{Answer, Host, database};

/// A host with a point, and a journal of more than one segment.
fn host() -> Host {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "row");
    host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"))]);
    host.run(&["backup"]).ends(0);
    for run in 0..19 {
        runs(&host, run);
    }
    host
}

/// Two records more.
fn runs(host: &Host, number: u32) {
    let journal = Journal::of(&host.path("state"));
    let run = format!("{number:016x}");
    let started = RunStarted {
        run: run.clone(),
        job: Job::Backup,
        source: Some("app".into()),
        policy: None,
        slot: None,
        reason: Reason::Schedule,
        pid: 1,
    };
    let facts = [Fact::RunStarted(started), Fact::RunEnded(RunEnded::well(&run, false))];
    journal.append(&facts, bkp::clock::now()).unwrap();
}

/// Notes a rehearsal of the newest point, as the job does.
fn rehearsed(host: &Host, differences: &[&str]) -> String {
    let point = host.points("app")[0].clone();
    let rehearsed = Rehearsed {
        run: "00000000000000aa".into(),
        source: "app".into(),
        point: point["point"].as_str().unwrap().into(),
        consistent_at: point["consistent_at"].as_str().unwrap().parse().unwrap(),
        chosen: Chosen::Latest,
        wanted: "equal".into(),
        reached: Some(if differences.is_empty() { "equal" } else { "loaded" }.into()),
        target: Some(ScratchTarget { kind: "file".into(), what: "SQLite".into(), isolation: "a new file".into() }),
        compared: 1,
        differences: differences.iter().map(|text| (*text).to_owned()).collect(),
        differing: differences.len() as u64,
        unbound: None,
        assertions: Vec::new(),
        phases: [("load".to_owned(), 0.5)].into(),
        rto_seconds: 0.7,
        rto_objective_seconds: Some(60.0),
        bytes: 100,
        kept: None,
    };
    let point = rehearsed.point.clone();
    let journal = Journal::of(&host.path("state"));
    journal.append(&[Fact::Rehearsed(Box::new(rehearsed))], bkp::clock::now()).unwrap();
    point
}

fn verified(host: &Host, more: &[&str]) -> Answer {
    host.run(&[&["evidence", "verify", "--json"], more].concat())
}

/// The findings as `tampering from..to`.
fn found(answer: Answer) -> Vec<String> {
    let document = answer.json();
    let one =
        |finding: &Value| format!("{} {}..{}", finding["tampering"].as_str().unwrap(), finding["from"], finding["to"]);
    document["findings"].as_array().unwrap().iter().map(one).collect()
}

fn segments(host: &Host) -> Vec<PathBuf> {
    Journal::of(&host.path("state")).segments().unwrap().into_iter().map(|(_, path)| path).collect()
}

fn lines(path: &PathBuf) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn write(path: &PathBuf, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

/// The whole hash of a record.
fn hash(line: &str) -> String {
    use sha2::Digest;
    let (body, _) = line.rsplit_once(",\"check\":\"").unwrap();
    hex::encode(sha2::Sha256::digest(body))
}

/// The line with its check made anew, and perhaps going on from another record.
fn forged(line: &str, prev: Option<&str>) -> String {
    use sha2::Digest;
    let (body, _) = line.rsplit_once(",\"check\":\"").unwrap();
    let mut body = body.to_owned();
    if let Some(prev) = prev {
        let at = body.find("\"prev\":\"").unwrap() + 8;
        body.replace_range(at..at + 64, prev);
    }
    let check = hex::encode(sha2::Sha256::digest(&body));
    format!("{body},\"check\":\"{}\"}}", &check[..16])
}

/// Everything from a record on, made anew so that the chain holds by itself.
fn rechained(lines: &[String], from: usize) -> Vec<String> {
    let mut all = lines.to_vec();
    for at in from..all.len() {
        let prev = at.checked_sub(1).map(|before| hash(&all[before]));
        all[at] = forged(&all[at], prev.as_deref());
    }
    all
}
