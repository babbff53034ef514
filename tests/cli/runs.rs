//! Backups that do not go smoothly: failures, warnings, two at once, signals, and what is left behind.

use crate::support::{Bkp, Ran, eventually, files, write_database};
use std::process::Child;

/// A backup that waits until [`Waiting::release`].
struct Waiting {
    host: Bkp,
    child: Child,
}

const SLOW: &str = "slow=command:touch started; cat gate; echo end";

fn waiting() -> Waiting {
    let host = Bkp::with_repository();
    assert!(std::process::Command::new("mkfifo").arg(host.path("gate")).status().unwrap().success());
    let child = host.start(&["backup", "--source", SLOW]);
    eventually("the dump has started", || host.path("started").exists());
    Waiting { host, child }
}

impl Waiting {
    fn release(&self) {
        std::fs::write(self.host.path("gate"), "data\n").unwrap();
    }

    fn end(self) -> (Bkp, Ran) {
        (self.host, Ran::of(self.child.wait_with_output().unwrap()))
    }

    fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

#[test]
fn the_same_source_twice_at_once() {
    let first = waiting();
    let second = first.host.run(&["backup", "--source", SLOW]).expect_code(11);
    second.says(&["source slow is locked by another run", &format!("process {}", first.child.id())]);
    first.release();
    let (host, ran) = first.end();
    ran.expect_code(0);
    assert_eq!(host.points("slow").len(), 1);
}

#[test]
fn signals_end_a_backup_in_order() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let running = waiting();
        running.signal(signal);
        let (host, ran) = running.end();
        ran.expect_code(code);
        assert_eq!(host.points("slow").len(), 0);
        let left = files(&host.cache());
        assert!(left.is_empty(), "{left:?}");
        let temporary: Vec<_> =
            files(&host.repository()).into_iter().filter(|p| p.to_string_lossy().contains("tmp")).collect();
        assert!(temporary.is_empty(), "{temporary:?}");
    }
}

#[test]
fn one_failure_does_not_keep_the_others_from_being_backed_up() {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    let ran = host.run(&[
        "backup",
        "--json",
        "--source",
        "broken=command:echo half; exit 3",
        "--source",
        "sqlite:app.db",
        "--source",
        "sqlite:missing.db",
    ]);
    let ran = ran.expect_code(1);
    ran.says(&["broken: ", "missing", "2 of 3 sources could not be backed up: broken, missing"]);
    let document = ran.document();
    assert_eq!(document["points"].as_array().unwrap().len(), 1);
    assert_eq!(document["failures"][0]["source"], "broken");
    assert_eq!(host.points("app").len(), 1);
    assert_eq!(host.points("broken").len(), 0);
}

#[test]
fn a_shrunken_source_is_a_warning() {
    let host = Bkp::with_repository();
    let backup = |size: usize| {
        host.write("data", "x".repeat(size));
        host.run(&["backup", "--source", "data=command:cat data", "--json"])
    };
    backup(10_000).expect_code(0);
    let warned = backup(100).expect_code(3);
    assert!(warned.stderr.contains("warning: data: "), "{}", warned.stderr);
    assert_eq!(warned.document()["points"][0]["warning_texts"].as_array().unwrap().len(), 1);
    assert_eq!(host.points("data").len(), 2);
}

#[test]
fn progress_as_lines_of_json() {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    let ran = host.ok(&["backup", "--source", "sqlite:app.db", "--progress", "json", "--quiet"]);
    let lines: Vec<serde_json::Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> =
        lines.iter().map(|l| l["message_type"].as_str().unwrap()).filter(|t| *t != "progress").collect();
    assert_eq!(types.first(), Some(&"run_started"));
    assert!(types.contains(&"committed"));
    assert_eq!(types.last(), Some(&"run_finished"));
}

#[test]
fn no_output_names_a_private_key_of_the_writer() {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    let state = files(&host.state()).into_iter().find(|p| p.ends_with("writer.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(host.state().join(state)).unwrap()).unwrap();
    let secrets: Vec<&str> =
        ["identity", "signing_key", "secret"].iter().map(|name| state[*name].as_str().unwrap()).collect();
    for words in [
        &["backup", "--source", "sqlite:app.db", "--json"][..],
        &["points", "--json"],
        &["show", "app", "--json"],
        &["keys", "list", "--json"],
        &["doctor", "--json"],
        &["status", "--json"],
        &["check", "--json"],
        &["config", "show"],
    ] {
        let ran = host.run_with_key(words);
        for secret in &secrets {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{words:?} shows a secret");
        }
    }
}
