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
fn keys_of_bkp_itself_that_grew_old_are_named_with_the_way_to_new_ones() {
    let past = Past::new();
    past.bkp(&["backup"]).ends(0);
    let judged = |past: &Past| {
        let document: Value = serde_json::from_str(&past.bkp(&["audit", "--json"]).out).unwrap();
        control(&document, "key_age").clone()
    };
    let fresh = judged(&past);
    assert_eq!((&fresh["standing"], &fresh["judged"]), (&"passed".into(), &3.into()), "{fresh}");
    past.set_clock("2029-01-01T12:00:00Z");
    let old = judged(&past);
    let failing = old["failing"].as_array().unwrap();
    let next = |what: &str| {
        let named = failing.iter().find(|finding| finding["what"].as_str().unwrap().starts_with(what));
        named.unwrap_or_else(|| panic!("no {what}: {old}"))["next"].as_str().unwrap().to_owned()
    };
    assert!(next("key of recovery-key (operator)").contains("bkp rotate recipients recovery-key="), "{old}");
    assert!(next("signing key of this host").contains("bkp init --join"), "{old}");
    assert_eq!(next("data key 1"), "bkp keys new-epoch");
    // It does what it says. The store dates the new key by its own clock.
    past.bkp(&["keys", "new-epoch"]).ends(0);
    let ahead = past.host.store().join("keys/epoch-0002.age");
    let file = std::fs::File::open(ahead).unwrap();
    file.set_modified(at("2029-01-01T12:00:00Z").into()).unwrap();
    let renewed = judged(&past);
    assert_eq!(renewed["failing"].as_array().unwrap().len(), 2, "{renewed}");
    past.set_clock("2026-11-30T12:00:00Z");
    let main = std::fs::read_to_string(past.host.path("etc/bkp.yaml")).unwrap();
    past.host.configure(&format!("{main}audit: {{ key_age: 36500d }}\n"));
    past.set_clock("2029-01-01T12:00:00Z");
    assert_eq!(judged(&past)["standing"], "passed");
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
