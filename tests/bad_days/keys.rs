//! Keys and state that are wrong, missing, damaged or lost.

use crate::support::host::{Host, database, mode, texts};
use std::fs;

/// One database with one point.
fn host() -> Host {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "kept");
    host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"))]);
    host.run(&["backup"]).ends(0);
    host
}

#[test]
fn nothing_is_read_without_an_identity() {
    let host = host();
    for arguments in [&["restore", "app", "--to", "to"][..], &["export", "app"], &["check", "--level", "readable"]] {
        let answer = host.run(arguments).fails(12, "private key", "--identity FILE");
        assert_eq!(answer.out, "");
    }
    host.run(&["keys", "add", "ana", "age1zzz"]).fails_somehow();
    assert!(!host.path("home/to").exists());
    host.is_well();
}

#[test]
fn an_identity_that_does_not_fit_opens_nothing() {
    let host = host();
    // The recovery key of another repository: a real key, only not one of ours.
    let other = Host::new();
    let stranger = other.identity();
    for arguments in [&["restore", "app", "--to", "to"][..], &["export", "app"], &["check", "--level", "readable"]] {
        let mut command = host.command(arguments);
        command.arg("--identity").arg(&stranger);
        host.finish(host.start(command)).fails(12, "", "");
    }
    assert!(!host.path("home/to").exists());
    host.is_well();
}

#[test]
fn identity_files_that_are_none_are_named_and_never_repeated() {
    let host = host();
    let file = host.text("home/key");
    let restore = ["restore", "app", "--to", "to", "--identity", file.as_str()];
    host.run(&restore).fails(12, &file, "");
    // A key with a typing error is as good as the key itself.
    let typo = fs::read_to_string(host.identity()).unwrap().replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1Q");
    for text in ["", "hunter2", "\u{0}\u{1}", typo.as_str()] {
        fs::write(&file, text).unwrap();
        mode(file.as_ref(), 0o600);
        let answer = host.run(&restore).fails(12, &file, "");
        let secret = text.lines().last().unwrap_or_default();
        assert!(secret.is_empty() || !answer.err.contains(secret), "{answer:?}");
    }
    assert!(!host.path("home/to").exists());
}

#[test]
fn a_damaged_writer_state_is_told_with_the_way_out() {
    let host = host();
    let repository = fs::read_dir(host.path("state/repositories")).unwrap().next().unwrap().unwrap().path();
    let file = repository.join("writer.json");
    let good = fs::read_to_string(&file).unwrap();
    let cut = &good[..good.len() / 2];
    for garbage in ["", "{}", "not JSON", cut] {
        fs::write(&file, garbage).unwrap();
        for arguments in [&["backup"][..], &["points"], &["status"]] {
            host.run(arguments).fails(12, file.to_str().unwrap(), "bkp init --join");
        }
    }
    // The way out, as it was told.
    fs::rename(&file, repository.join("moved-away")).unwrap();
    host.run(&["init", "--join"]).ends(0);
    host.run(&["backup"]).ends(0);
    fs::remove_file(repository.join("moved-away")).unwrap();
    host.is_well();
}

#[test]
fn a_lost_state_directory_costs_the_membership_and_no_data() {
    let host = host();
    let id = host.points("app")[0]["id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(host.path("state")).unwrap();
    host.run(&["backup"]).fails(12, "no writer of", "bkp init --join");
    host.run(&["points"]).fails(12, "no writer of", "--identity FILE");
    // What was backed up needs the recovery key alone.
    host.read(&["restore", &id, "--to", "old.db"]).ends(0);
    assert_eq!(texts(&host.path("home/old.db")), ["kept"; 10]);

    host.run(&["init", "--join"]).ends(0);
    host.run(&["backup"]).ends(0);
    let answer = host.read(&["points", "--json", "--source", "app"]).ends(0);
    assert_eq!(answer.json()["points"].as_array().unwrap().len(), 2);
    host.is_well();
}

#[test]
fn a_lost_cache_makes_the_next_run_slower_and_never_wrong() {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    crate::support::host::noise(&host.path("data/docs/big"), 5_000_000, 1);
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    host.run(&["backup"]).ends(0);
    fs::remove_dir_all(host.path("cache")).unwrap();
    fs::write(host.path("data/docs/new"), "new").unwrap();
    let answer = host.run(&["backup", "--json"]).ends(0);
    let added = answer.json()["points"][0]["added_bytes"].as_u64().unwrap();
    assert!(added < 100_000, "{added} bytes were stored although nearly all of it was there");
    host.read(&["restore", "docs", "--to", "to"]).ends(0);
    assert_eq!(crate::trees::describe(&host.path("home/to")), crate::trees::describe(&host.path("data/docs")));
    host.is_well();
}

#[test]
fn what_the_engine_remembers_may_be_garbage() {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    fs::write(host.path("data/docs/a"), "a").unwrap();
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    host.run(&["backup"]).ends(0);
    let repository = fs::read_dir(host.path("cache")).unwrap().next().unwrap().unwrap().path();
    let memory = fs::read_dir(repository.join("memory")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&memory).unwrap();
    fs::write(&memory, &good[..good.len() / 2]).unwrap();
    host.run(&["backup"]).ends(0);
    host.read(&["restore", "docs", "--to", "to"]).ends(0);
    assert_eq!(fs::read_to_string(host.path("home/to/a")).unwrap(), "a");
    host.is_well();
}
