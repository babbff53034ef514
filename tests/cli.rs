//! The command line as people and scripts use it: what each command does (here), restores, and mistakes (in `tests/cli/`).
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "cli/bucket.rs"]
mod bucket;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/readers.rs"]
mod readers;
#[path = "cli/restores.rs"]
mod restores;
#[path = "cli/runs.rs"]
mod runs;
#[path = "support/mod.rs"]
mod servers;
#[path = "support/cli.rs"]
mod support;

use support::{Bkp, write_database};

/// A host with a repository and one point of each kind of source.
fn host_with_points() -> Bkp {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one", "two"]);
    host.write("documents/contracts/2026.txt", "signed");
    host.write("documents/with space.txt", "x");
    host.ok(&[
        "backup",
        "--source",
        "sqlite:app.db",
        "--source",
        "volume:./documents",
        "--source",
        "hello=command:echo hello",
    ]);
    host
}

#[test]
fn the_help_of_the_program() {
    let help = Bkp::new().ok(&["--help"]);
    insta::assert_snapshot!(help.stdout);
    assert_eq!(help.stderr, "");
}

#[test]
fn init_makes_a_repository_and_a_recovery_key() {
    use std::os::unix::fs::PermissionsExt;
    let host = Bkp::new();
    let ran = host.ok(&["init"]);
    let key = std::fs::read_dir(host.path("")).unwrap().map(|e| e.unwrap().path());
    let key = key.into_iter().find(|p| p.to_string_lossy().contains("bkp-recovery-key-")).unwrap();
    assert!(ran.stdout.contains(&key.display().to_string()), "{}", ran.stdout);
    ran.says(&["Without the recovery key nothing can be restored", "copy", "test", "remove it from this host"]);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&key).unwrap();
    assert!(text.contains("AGE-SECRET-KEY-") && text.contains("# bkp-writer: "));
    for name in ["repository.json", "README.txt", "restore/restore.sh", "keys/epoch-0001.age"] {
        assert!(host.repository().join(name).exists(), "{name}");
    }
}

#[test]
fn init_with_a_recipient_makes_no_key() {
    let host = Bkp::new();
    let recipient = "age1tdv6znl3qz6qst05pqkmzdth2qs7ux56txjtzacffsrakq7svaxq2f40ag";
    let document = host.json(&["init", "--recipient", &format!("ana={recipient}")]);
    assert_eq!(document["recovery_key_file"], serde_json::Value::Null);
    assert_eq!(document["recipients"][0]["name"], "ana");
    assert_eq!(document["recipients"][0]["recipient"], recipient);
    assert!(document["trust_line"].as_str().unwrap().starts_with("# bkp-writer: "));
    assert!(
        !std::fs::read_dir(host.path("")).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("key"))
    );
}

#[test]
fn a_backup_tells_one_line_per_source() {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    let ran = host.ok(&["backup", "--source", "sqlite:app.db"]);
    assert_eq!(ran.stdout, "");
    let fields: Vec<&str> = ran.stderr.trim_end().split("  ").collect();
    assert_eq!(fields[0], "app", "{}", ran.stderr);
    assert_eq!(fields[1], host.points("app")[0]);
    assert!(fields[2].contains(" new, "), "{}", ran.stderr);
}

#[test]
fn a_second_backup_of_an_unchanged_volume_stores_almost_nothing() {
    let host = Bkp::with_repository();
    let noise: Vec<u8> =
        (0..2_000_000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..1].to_vec()).collect();
    host.write("documents/noise", noise);
    let first = host.json(&["backup", "--source", "volume:./documents"]);
    let second = host.json(&["backup", "--source", "volume:./documents"]);
    let added = |document: &serde_json::Value| document["points"][0]["added_bytes"].as_u64().unwrap();
    assert!(added(&first) > 2_000_000, "{first}");
    assert!(added(&second) < 10_000, "{second}");
    let reread = host.json(&["backup", "--source", "volume:./documents", "--reread"]);
    assert!(added(&reread) < 100_000, "{reread}");
}

#[test]
fn points_are_listed_with_their_proof() {
    let host = host_with_points();
    let text = host.ok(&["points"]).stdout;
    assert!(text.starts_with("SOURCE") && text.contains("documents") && text.contains("written"), "{text}");
    host.ok(&["check"]);
    let document = host.json(&["points", "--source", "app"]);
    assert_eq!(document["total"], 1);
    assert_eq!(document["points"][0]["source"], "app");
    assert_eq!(document["points"][0]["engine"], "sqlite");
    assert_eq!(document["points"][0]["level"], "stored");
}

#[test]
fn show_tells_more_to_those_who_can_read() {
    let host = host_with_points();
    let id = host.points("app").remove(0);
    let without = host.ok(&["show", &id]);
    assert!(without.stdout.contains("app.db") && !without.stdout.contains("location"), "{}", without.stdout);
    let with = host.ok_with_key(&["show", "app"]);
    assert!(with.stdout.contains(&host.path("app.db").display().to_string()), "{}", with.stdout);
    assert!(with.stdout.contains("by hand"), "{}", with.stdout);
    let document = host.ok_with_key(&["show", &id, "--json"]).document();
    assert_eq!(document["body"]["source_location"], host.path("app.db").to_str().unwrap());
    assert!(document["body"]["fingerprint"]["parts"].is_object(), "{document}");
}

#[test]
fn ls_lists_files() {
    let host = host_with_points();
    let all = host.ok_with_key(&["ls", "documents"]).stdout;
    assert_eq!(all, "./\ncontracts/\ncontracts/2026.txt\nwith space.txt\n");
    assert_eq!(host.ok_with_key(&["ls", "documents", "contracts/2026.txt"]).stdout, "contracts/2026.txt\n");
    let document = host.ok_with_key(&["ls", "documents", "contracts", "--json"]).document();
    assert_eq!(document["entries"][1]["path"], "contracts/2026.txt");
    assert_eq!(document["entries"][1]["size"], 6);
    assert!(host.ok_with_key(&["ls", "app"]).stdout.contains("app.db"));
    host.run_with_key(&["ls", "documents", "nothing"]).expect_code(2).says(&["has no nothing"]);
}

#[test]
fn export_gives_the_raw_dump() {
    let host = host_with_points();
    assert_eq!(host.ok_with_key(&["export", "hello"]).stdout, "hello\n");
    host.ok_with_key(&["export", "app", "-o", "copy.db"]);
    assert_eq!(support::read_database(&host.path("copy.db")), ["one", "two"]);
    host.run_with_key(&["export", "app", "-o", "copy.db"]).expect_code(13).says(&["copy.db is there already"]);
    host.ok_with_key(&["export", "documents", "tree", "-o", "documents.tar"]);
    let listed = std::process::Command::new("tar").arg("-tf").arg(host.path("documents.tar")).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    assert!(String::from_utf8(listed.stdout).unwrap().contains("contracts/2026.txt"));
    host.run_with_key(&["export", "app", "ap.db"]).expect_code(2).says(&["did you mean `app.db`"]);
}

#[test]
fn check_proves_and_finds_damage() {
    let host = host_with_points();
    let report = host.json(&["check"]);
    assert_eq!(report["level"], "stored");
    assert_eq!(report["report"]["problems"].as_array().unwrap().len(), 0);
    host.ok_with_key(&["check", "--level", "readable"]);
    assert_eq!(host.json(&["points", "--source", "documents"])["points"][0]["level"], "readable");
    host.ok(&["check", "--sample", "50%"]);
    let quiet = host.ok(&["check", "--quiet"]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "cron mails nothing when all is well");

    let objects = support::files(&host.repository());
    let stream = objects.iter().find(|p| p.components().any(|c| c.as_os_str() == "s")).unwrap();
    let stream = host.repository().join(stream);
    let mut bytes = std::fs::read(&stream).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&stream, bytes).unwrap();
    let found = host.run(&["check"]).expect_code(4);
    assert!(found.stdout.contains("DAMAGED") && found.stdout.contains("affects "), "{}", found.stdout);
    let quiet = host.run(&["check", "--quiet"]).expect_code(4);
    assert_eq!(quiet.stdout, "");
    quiet.says(&["warning: DAMAGED", "affects "]);
}

#[test]
fn keys_are_listed_added_and_removed() {
    let host = host_with_points();
    let recipient = "age1tdv6znl3qz6qst05pqkmzdth2qs7ux56txjtzacffsrakq7svaxq2f40ag";
    assert!(host.ok(&["keys", "list"]).stdout.contains("recovery-key"));
    host.run(&["keys", "add", "ana", recipient]).expect_code(12).says(&["--identity"]);
    host.ok_with_key(&["keys", "add", "ana", recipient]);
    assert_eq!(host.json(&["keys", "list"])["recipients"][1]["name"], "ana");
    host.ok(&["keys", "new-epoch"]);
    assert_eq!(host.json(&["keys", "list"])["epoch"], 2);
    host.ok_with_key(&["keys", "remove", "ana"]).says(&["still opens"]);
    assert_eq!(host.json(&["keys", "list"])["recipients"].as_array().unwrap().len(), 1);
    host.ok(&["backup", "--source", "sqlite:app.db"]);
    host.ok_with_key(&["export", "app", "-o", "copy.db"]);
}

#[test]
fn status_answers_in_one_screen() {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    host.write("documents/a", "a");
    let policy = format!(
        "policy: main\nobjectives: {{ rpo: 24h }}\nsources:\n  app: {{ sqlite: {{ path: {} }} }}\n  documents: {{ volume: {{ path: {} }} }}\n",
        host.path("app.db").display(),
        host.path("documents").display()
    );
    host.configure("timezone: America/Bogota\n", &policy);
    host.ok(&["backup", "app"]);
    let attention = host.run(&["status"]).expect_code(5);
    assert!(attention.stdout.starts_with("Attention: 1 of 2 sources"), "{}", attention.stdout);
    assert!(attention.stdout.contains("MISSING  documents"), "{}", attention.stdout);
    host.ok(&["backup", "main"]);
    let well = host.ok(&["status"]);
    assert!(well.stdout.starts_with("All is well: 2 sources protected"), "{}", well.stdout);
    host.configure("", &policy.replace("24h", "1s"));
    support::eventually("the objective of both is missed", || {
        let document = host.run(&["status", "--json"]).document();
        document["sources"].as_array().unwrap().iter().all(|source| source["verdict"] == "late")
    });
    let document = host.run(&["status", "--json"]).expect_code(5).document();
    assert_eq!(document["ok"], false);
}

#[test]
fn doctor_looks_at_everything() {
    let host = host_with_points();
    let document = host.ok_with_key(&["doctor", "--json"]).document();
    let checks: Vec<&str> =
        document["findings"].as_array().unwrap().iter().map(|f| f["check"].as_str().unwrap()).collect();
    for check in [
        "version",
        "configuration",
        "time zone",
        "state",
        "repository",
        "store",
        "deletion",
        "clock",
        "writer",
        "recovery key",
    ] {
        assert!(checks.contains(&check), "{check} is missing: {checks:?}");
    }
    let nowhere = Bkp::new();
    nowhere.run(&["doctor"]).expect_code(1);
}

#[test]
fn the_configuration_is_checked_shown_and_described() {
    let host = Bkp::new();
    host.configure("timezone: America/Bogota\n", "policy: main\nsources:\n  app: { sqlite: { path: /srv/app.db } }\n");
    host.ok(&["config", "check"]);
    assert!(host.ok(&["config", "show"]).stdout.contains("America/Bogota"));
    assert!(serde_json::from_str::<serde_json::Value>(&host.ok(&["config", "schema"]).stdout).is_ok());
    host.configure("timezon: America/Bogota\n", "policy: main\nsources:\n  app: { sqlite: { path: 7 } }\nkeep: x\n");
    let wrong = host.run(&["config", "check"]).expect_code(2);
    wrong.says(&["timezon", "did you mean", "keep", "^"]);
    let document = host.run(&["config", "check", "--json"]).expect_code(2).document();
    assert!(document["problems"].as_array().unwrap().len() >= 2, "{document}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let host = Bkp::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(host.ok(&["completions", shell]).stdout.contains("bkp"), "{shell}");
    }
    assert!(host.ok(&["man"]).stdout.contains(".TH"));
    host.ok(&["man", "pages"]);
    for page in ["bkp.1", "bkp-restore.1", "bkp-keys-add.1"] {
        assert!(host.path("pages").join(page).exists(), "{page}");
    }
}

#[test]
fn another_host_joins_and_sees_its_own_points() {
    let first = host_with_points();
    let second = Bkp::new();
    second.write("other/file", "of the second host");
    let at = |arguments: &[&str]| {
        [arguments, &["--repo", first.repository().to_str().unwrap()]]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let run = |arguments: &[&str]| {
        let all = at(arguments);
        second.run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(&["points"]).expect_code(12).says(&["--identity"]);
    run(&["init", "--join", "--name", "host-b"]).expect_code(0).says(&["Compare the recipients"]);
    run(&["backup", "--source", "volume:./other"]).expect_code(0);
    let listed = run(&["points"]).expect_code(0).stdout;
    assert!(listed.contains("other") && !listed.contains("documents"), "{listed}");
    let key = first.path("key.txt");
    let all = run(&["points", "--identity", key.to_str().unwrap()]).expect_code(0);
    assert!(all.stdout.contains("other") && all.stdout.contains("documents"), "{}", all.stdout);
    // The key file pins the first writer, the state the second.
    assert!(!all.stderr.contains("only the store vouches"), "{}", all.stderr);
    let seen = first.ok_with_key(&["points"]);
    seen.says(&["only the store vouches for writer"]);
}
