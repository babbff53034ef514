//! `bkp audit`: what fails is named with the next step, and what is not known is no pass.

use crate::past::{Past, at};
use bkp::journal::Job;
use serde_json::Value;

fn control<'d>(document: &'d Value, name: &str) -> &'d Value {
    document["controls"].as_array().unwrap().iter().find(|control| control["control"] == name).unwrap()
}

/// Two sources that were just backed up, and what is nearly good enough.
fn audited(main: &str, policy: &str) -> (i32, Value, String) {
    let past = Past::new();
    past.host.configure(&format!("repository: {{ url: \"{}\" }}\ntimezone: America/Bogota\n{main}", past.host.url));
    past.policy(policy);
    past.bkp(&["backup"]).ends(0);
    past.rehearsed("app", "2026-11-29T09:00:00Z", |_| {});
    past.run(Job::Check, None, None, at("2026-11-29T11:00:00Z"), Ok(()));
    let answer = past.bkp(&["audit", "--json"]);
    let text = past.bkp(&["audit"]).out;
    (answer.status.code().unwrap(), serde_json::from_str(&answer.out).unwrap(), text)
}

#[test]
fn each_thing_that_fails_is_named_with_the_next_step() {
    let (code, document, text) = audited("", "objectives: { rpo: 25h, rto: 10s }\nkeep: { daily: 14 }\n");
    assert_eq!(code, 5);
    for (name, what) in [
        ("copy_elsewhere", "app"),
        ("immutability", "docs"),
        ("rehearsed", "docs"),
        ("rto_met", "app"),
        ("retention", "nightly"),
    ] {
        let control = control(&document, name);
        assert_eq!(control["standing"], "failed", "{control}");
        let failing = control["failing"].as_array().unwrap();
        assert!(failing.iter().any(|finding| finding["what"] == what && finding["next"] != ""), "{control}");
    }
    assert_eq!(control(&document, "rehearsed")["failing"].as_array().unwrap().len(), 1);
    for name in ["frequency", "recent_point", "encryption"] {
        assert_eq!(control(&document, name)["standing"], "passed", "{name}");
    }
    assert!(text.contains("FAILED  rehearsed: docs: no restore test is recorded\n  → bkp rehearse docs"), "{text}");
}

#[test]
fn thresholds_are_those_of_the_configuration() {
    let main = "audit: { frequency: 12h, retention: 7d, copies: 0, immutable: false, rehearsed: 12h }\n";
    let (code, document, _) = audited(main, "objectives: { rpo: 25h }\nkeep: { daily: 14 }\n");
    assert_eq!(code, 5);
    assert_eq!(control(&document, "frequency")["failing"][0]["what"], "nightly");
    assert_eq!(control(&document, "rehearsed")["failing"].as_array().unwrap().len(), 2);
    for (name, standing) in [
        ("retention", "passed"),
        ("copy_elsewhere", "passed"),
        ("immutability", "nothing_to_judge"),
        ("rto_met", "nothing_to_judge"),
    ] {
        assert_eq!(control(&document, name)["standing"], standing, "{name}");
    }
}

#[test]
fn what_cannot_be_seen_is_not_known_and_no_pass() {
    let past = Past::new();
    std::fs::rename(past.host.store(), past.host.path("gone")).unwrap();
    let document: Value = serde_json::from_str(&past.bkp(&["audit", "--json"]).out).unwrap();
    assert_eq!(control(&document, "encryption")["standing"], "not_known");
    assert_eq!(control(&document, "recent_point")["unknown"].as_array().unwrap().len(), 2);
    assert_eq!(document["ok"], false);
}
