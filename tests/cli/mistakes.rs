//! Typical mistakes: what the message says, which exit code, and that nothing was changed.

use crate::support::{Bkp, write_database};
use std::os::unix::fs::PermissionsExt;

#[test]
fn no_repository() {
    let host = Bkp::new();
    host.run(&["points"]).expect_code(10).says(&["error: ", "repository", "bkp init"]);
    std::fs::create_dir(host.repository()).unwrap();
    host.run(&["points"]).expect_code(10).says(&["there is no repository at", "bkp init"]);
    let mut unnamed = host.command(&["points"]);
    unnamed.env_remove("BKP_REPO");
    let ran = crate::support::Ran::of(unnamed.output().unwrap()).expect_code(10);
    ran.says(&["no repository was named", "--repo"]);
}

#[test]
fn a_second_init_changes_nothing() {
    let host = Bkp::with_repository();
    let before = std::fs::read(host.repository().join("repository.json")).unwrap();
    host.run(&["init"]).expect_code(13).says(&["already", "--join"]);
    assert_eq!(std::fs::read(host.repository().join("repository.json")).unwrap(), before);
}

#[test]
fn a_recovery_key_is_never_written_over_something() {
    let host = Bkp::new();
    host.write("key.txt", "precious");
    host.run(&["init", "--recovery-key", "key.txt"]).expect_code(13).says(&["key.txt is there already"]);
    assert_eq!(std::fs::read(host.path("key.txt")).unwrap(), b"precious");
    assert!(!host.repository().join("repository.json").exists());
}

#[test]
fn a_recovery_key_is_not_put_where_everybody_may_write() {
    let host = Bkp::new();
    std::fs::create_dir(host.path("shared")).unwrap();
    std::fs::set_permissions(host.path("shared"), std::fs::Permissions::from_mode(0o777)).unwrap();
    host.run(&["init", "--recovery-key", "shared/key.txt"])
        .expect_code(13)
        .says(&["everybody may change", "--recovery-key"]);
    assert_eq!(std::fs::read_dir(host.path("shared")).unwrap().count(), 0);
    assert!(!host.repository().join("repository.json").exists());
}

#[test]
fn a_private_key_is_no_recipient() {
    let host = Bkp::with_repository();
    let key = std::fs::read_to_string(host.path("key.txt")).unwrap();
    let secret = key.lines().find(|l| l.starts_with("AGE-SECRET-KEY-")).unwrap();
    let other = Bkp::new();
    other.run(&["init", "--recipient", secret]).expect_code(12).says(&["that is a private key"]);
}

#[test]
fn identities_that_do_not_fit() {
    let host = host();
    host.run(&["export", "app"]).expect_code(12).says(&["--identity", "BKP_IDENTITY"]);
    let stranger = Bkp::with_repository();
    let wrong = stranger.path("key.txt");
    host.run(&["export", "app", "--identity", wrong.to_str().unwrap()])
        .expect_code(12)
        .says(&["this identity belongs to repository", "--repo"]);
    host.run(&["export", "app", "--identity", "missing.txt"]).expect_code(12).says(&["missing.txt"]);
    host.write("nonsense.txt", "nonsense");
    std::fs::set_permissions(host.path("nonsense.txt"), std::fs::Permissions::from_mode(0o600)).unwrap();
    host.run(&["export", "app", "--identity", "nonsense.txt"]).expect_code(12).says(&["cannot use the identity"]);
    std::fs::set_permissions(host.path("key.txt"), std::fs::Permissions::from_mode(0o644)).unwrap();
    host.run_with_key(&["export", "app"]).expect_code(13).says(&["can be read by others", "chmod 600"]);
}

/// A host with one point of `app`.
fn host() -> Bkp {
    let host = Bkp::with_repository();
    write_database(&host.path("app.db"), &["one"]);
    host.ok(&["backup", "--source", "sqlite:app.db"]);
    host
}

#[test]
fn unknown_names_come_with_a_suggestion() {
    let host = host();
    host.configure("", "policy: main\nsources:\n  app: { sqlite: { path: /srv/app.db } }\n");
    host.run(&["backup", "ap"]).expect_code(2).says(&["did you mean `app`?"]);
    host.run(&["backup", "--source", "sqlit:app.db"]).expect_code(2).says(&["did you mean `sqlite`?"]);
    host.run(&["backpu"]).expect_code(2).says(&["backup"]);
    host.run_with_key(&["restore", "ap"]).expect_code(2).says(&["did you mean `app`?"]);
    host.run(&["show", "00000000"]).expect_code(1).says(&["there is no point 00000000", "bkp points"]);
}

#[test]
fn nothing_to_back_up() {
    Bkp::with_repository().run(&["backup"]).expect_code(2).says(&["nothing to back up", "--source"]);
}

#[test]
fn a_target_that_exists() {
    let host = host();
    host.write("there.db", "precious");
    host.run_with_key(&["restore", "app", "--to", "there.db"]).expect_code(13).says(&["there.db is there already"]);
    assert_eq!(std::fs::read(host.path("there.db")).unwrap(), b"precious");
}

#[test]
fn instants_that_cannot_be_meant() {
    let host = host();
    host.configure("timezone: Europe/Madrid\n", "policy: main\nsources:\n  app: { sqlite: { path: /srv/app.db } }\n");
    let at = |instant: &str| host.run_with_key(&["restore", "app", "--to", "x.db", "--at", instant]).expect_code(2);
    at("gestern abend");
    at("2025-10-26 02:30").says(&["2025-10-26", "+02", "+01"]);
    at("2025-03-30 02:30").says(&["2025-03-30"]);
    at("2999-01-01T00:00:00Z").says(&["future"]);
    assert!(!host.path("x.db").exists());
}

#[test]
fn a_source_whose_place_is_not_known_cannot_be_replaced() {
    let host = host();
    host.run_with_key(&["restore", "app", "--in-place", "--confirm", "app"])
        .expect_code(2)
        .says(&["--source app=sqlite:LOCATION"]);
}

#[test]
fn a_failure_is_told_to_machines_too() {
    let host = Bkp::new();
    let ran = host.run(&["points", "--json"]).expect_code(10);
    assert_eq!(ran.stdout, "");
    let last: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last["message_type"], "exit_error");
    assert_eq!(last["code"], 10);
    assert_eq!(last["kind"], "no_repository");
    let usage = host.run(&["points", "--nonsense", "--json"]).expect_code(2);
    let last: serde_json::Value = serde_json::from_str(usage.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(last["code"], 2);
}

#[test]
fn a_secret_in_the_configuration_is_not_repeated() {
    let host = Bkp::new();
    host.configure("repository: { url: s3://bucket, secret_key: hunter2 }\n", "policy: main\n");
    let ran = host.run(&["config", "check"]).expect_code(2);
    assert!(!ran.stderr.contains("hunter2") && !ran.stdout.contains("hunter2"), "{}", ran.stderr);
}
