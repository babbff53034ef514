//! What counts as a restore test, and as a journal that is whole: no proof of what was not done.

use crate::past::{Past, at};
use bkp::journal::{Asserted, Job};
use serde_json::Value;

fn satisfied(past: &Past) -> Value {
    let document: Value = serde_json::from_str(&past.report("2026-11", "oscal", &["--framework", "nist"])).unwrap();
    let findings = document["assessment-results"]["results"][0]["findings"].as_array().unwrap().clone();
    let tested = findings.into_iter().find(|finding| finding["title"] == "CP-9(1)").unwrap();
    tested["target"]["status"]["state"].clone()
}

fn november() -> Past {
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.nights("2026-11-01", "2026-11-30");
    past
}

#[test]
fn a_point_that_was_only_read_is_no_restore_test() {
    let past = november();
    for source in ["app", "docs"] {
        past.rehearsed(source, "2026-11-16T09:00:00Z", |rehearsed| {
            (rehearsed.wanted, rehearsed.reached) = ("readable".into(), Some("readable".into()));
            (rehearsed.target, rehearsed.compared, rehearsed.rto_seconds) = (None, 0, 0.0);
        });
    }
    let text = past.report("2026-11", "md", &["--framework", "nist"]);
    for told in [
        "| Restore tests passed | no evidence: none was made |",
        "| RTO kept in restore tests | not measured against an objective |",
        "read only, not restored",
        "Restore tests: no evidence",
        "Integrity checks: points read to their end: 2",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    assert!(!text.contains("RTO over time"), "{text}");
    assert_eq!(satisfied(&past), "not-satisfied");
    let audit: Value = serde_json::from_str(&past.bkp(&["audit", "--json"]).out).unwrap();
    let control =
        audit["controls"].as_array().unwrap().iter().find(|control| control["control"] == "rehearsed").unwrap();
    assert_eq!(control["failing"].as_array().unwrap().len(), 2, "{control}");
}

#[test]
fn the_control_of_nist_wants_every_source_and_no_test_without_a_result() {
    let past = november();
    past.rehearsed("app", "2026-11-16T09:00:00Z", |_| {});
    assert_eq!(satisfied(&past), "not-satisfied");
    past.rehearsed("docs", "2026-11-16T10:00:00Z", |_| {});
    assert_eq!(satisfied(&past), "satisfied");
    past.run(Job::Rehearse, Some("app"), None, at("2026-11-17T10:00:00Z"), Err("there is no point of app"));
    assert_eq!(satisfied(&past), "not-satisfied");
    let text = past.report("2026-11", "md", &[]);
    for told in [
        "app: restore test without a result, failed | there is no point of app",
        "| Restore tests passed | 2 of 3; 2 of 2 sources with one at least |",
        "| no result |",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    let audit: Value = serde_json::from_str(&past.bkp(&["audit", "--json"]).out).unwrap();
    let control =
        audit["controls"].as_array().unwrap().iter().find(|control| control["control"] == "rehearsed").unwrap();
    assert_eq!(control["failing"][0]["what"], "app", "{control}");
}

#[test]
fn what_could_not_be_compared_is_restored_and_not_called_equal() {
    let past = november();
    past.rehearsed("app", "2026-11-16T09:00:00Z", |rehearsed| {
        (rehearsed.reached, rehearsed.unbound) = (Some("loaded".into()), Some("there was nothing to compare".into()));
    });
    let text = past.report("2026-11", "md", &[]);
    assert!(text.contains("| restored; not compared | loaded |"), "{text}");
    assert!(!text.contains("restore test not passed"), "{text}");
    let spanish = past.report("2026-11", "md", &["--lang", "es"]);
    assert!(spanish.contains("no había nada que cotejar"), "{spanish}");
}

#[test]
fn a_source_that_was_never_backed_up_is_an_exception() {
    let past = Past::new();
    past.daemon_starts("2026-10-31T12:00:00Z");
    past.run(Job::Backup, Some("app"), None, at("2026-11-02T06:30:00Z"), Ok(()));
    let text = past.report("2026-11", "md", &[]);
    assert!(text.contains("docs: never backed up | no point is recorded; the objective is 25 h"), "{text}");
    assert!(!text.contains("app: never backed up"), "{text}");
}

#[test]
fn the_report_says_of_the_journal_what_evidence_verify_says() {
    let past = Past::new();
    let heads = past.host.text("heads.jsonl");
    let repository = format!("repository: {{ url: \"{}\" }}", past.host.url);
    past.host.configure(&format!("{repository}\nevidence: {{ anchor: {{ to: [{{ file: {heads} }}] }} }}\n"));
    past.daemon_starts("2026-11-01T06:00:00Z");
    past.nights("2026-11-02", "2026-11-08");
    past.bkp(&["evidence", "anchor"]).ends(0);
    let verified = |code| past.bkp(&["evidence", "verify", "--json"]).ends(code).json();
    let told = || {
        let report = past.bkp(&["report", "--period", "2026-11", "--format", "json"]).ends(0).out;
        serde_json::from_str::<Value>(&report).unwrap()["integrity"]["seen"].clone()
    };
    assert_eq!(told(), verified(0));
    let text = past.bkp(&["report", "--period", "2026-11"]).ends(0).out;
    assert!(text.contains("the chain is whole; it fits what was sealed and anchored, up to record"), "{text}");
    let key = verified(0)["key"]["key"].as_str().unwrap().to_owned();
    assert!(text.contains(&format!("bkp evidence verify evidence.tar --key {key}")), "{text}");

    // The chain holds by itself without its newest records.
    let segments = past.segments();
    let (kept, removed) = segments.split_at(segments.len() / 2);
    removed.iter().for_each(|segment| std::fs::remove_file(segment).unwrap());
    let last = kept.last().unwrap();
    let lines = std::fs::read_to_string(last).unwrap();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    std::fs::write(last, lines[..lines.len() - 1].concat()).unwrap();
    assert_eq!(told(), verified(4));
    let text = past.bkp(&["report", "--period", "2026-11", "--lang", "es"]).ends(0).out;
    assert!(text.contains("DAÑADO") && text.contains("cortado al final"), "{text}");
}

#[test]
fn no_format_holds_a_character_that_steers_the_reading() {
    const NAME: &str = "users\u{202e}txt\u{200b}\u{1b}[2J";
    let past = Past::new();
    past.daemon_starts("2026-11-01T06:00:00Z");
    past.rehearsed("app", "2026-11-16T09:00:00Z", |rehearsed| {
        rehearsed.assertions = vec![Asserted { name: NAME.into(), holds: false, found: NAME.into() }];
    });
    for format in ["json", "oscal", "csv", "md", "html"] {
        let text = past.report("2026-11", format, &["--framework", "nist"]);
        let steers = |c: &char| matches!(c, '\u{202e}' | '\u{200b}' | '\u{1b}');
        assert_eq!(text.chars().find(steers), None, "{format}");
    }
    let assertion = &past.json("2026-11")["facts"]["rehearsals"][0]["assertions"][0];
    assert_eq!(assertion["name"], NAME);
}
