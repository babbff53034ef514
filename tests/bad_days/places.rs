//! Places that fill up, vanish or go away while they are used.

use crate::support::host::{Host, noise};
use crate::support::minio::{Minio, PASSWORD, USER};
use crate::support::not_run;
use crate::trees::{Mounted, describe};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the test `name` again in a mount namespace of its own, where mounts are nobody else's business. True in there.
fn alone(name: &str, part: &str) -> bool {
    if std::env::var_os("BKP_TEST_ALONE").is_some() {
        return true;
    }
    let mut unshare = Command::new("unshare");
    if !unshare.args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        not_run(part, "it mounts small file systems; run the tests as root to have it run");
        return false;
    }
    let output = Command::new("unshare")
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("BKP_TEST_ALONE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    false
}

fn mounted(path: &Path, size: &str) -> Mounted {
    fs::create_dir_all(path).unwrap();
    let mounted = Mounted::tmpfs(path).unwrap();
    Mounted::resize(path, size);
    mounted
}

fn volume(host: &Host) -> String {
    format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))
}

fn all(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            found.push(entry.path());
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_store_is_full() {
    if !alone("places::the_store_is_full", "a full disk during a backup") {
        return;
    }
    let host = Host::bare();
    let _mounted = mounted(&host.store(), "16m");
    host.run(&["init", "--recovery-key", &host.text("recovery-key.txt")]).ends(0);
    fs::create_dir(host.path("data/docs")).unwrap();
    fs::write(host.path("data/docs/small"), "small").unwrap();
    host.sources(&[
        volume(&host),
        format!("dump: {{ command: {{ run: [cat, \"{}\"] }} }}", host.text("data/docs/big")),
    ]);
    host.run(&["backup", "docs"]).ends(0);
    noise(&host.path("data/docs/big"), 40 << 20, 1);
    for source in ["docs", "dump"] {
        host.run(&["backup", source]).fails(1, "No space left", "Free some space");
        host.is_tidy();
    }
    assert_eq!(host.points("docs").len(), 1);
    assert_eq!(host.points("dump").len(), 0);
    // What was there before is whole, although the disk is full.
    host.read(&["restore", "docs", "--to", "to"]).ends(0);
    assert_eq!(fs::read_to_string(host.path("home/to/small")).unwrap(), "small");
    Mounted::resize(&host.store(), "200m");
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn one_of_two_copies_is_full() {
    if !alone("places::one_of_two_copies_is_full", "a full disk while a copy is made") {
        return;
    }
    let host = Host::new();
    let _mounted = mounted(&host.path("small"), "8m");
    let copy = |name: &str| format!("  - {{ name: {name}, url: \"file://{}\" }}\n", host.text(name));
    let (small, large) = (copy("small"), copy("large"));
    host.configure(&format!("repository: {{ url: \"{}\" }}\ncopies:\n{small}{large}", host.url));
    fs::create_dir(host.path("data/docs")).unwrap();
    fs::write(host.path("data/docs/small"), "small").unwrap();
    host.sources(&[
        volume(&host),
        format!("dump: {{ command: {{ run: [cat, \"{}\"] }} }}", host.text("data/docs/big")),
    ]);
    host.run(&["copy", "--create", "small", "large"]).ends(0);
    host.run(&["backup", "docs"]).ends(0);
    noise(&host.path("data/docs/big"), 20 << 20, 1);
    for source in ["docs", "dump"] {
        host.next_second();
        let answer = host.run(&["backup", source]).ends(3);
        answer.says("copy small: the store is full").says("Free some space").says("copy large: 1 point");
        host.is_tidy();
    }
    host.run(&["copies"]).ends(3).says("2 of 3 copies good");
    // What the full one has is whole, and the rest comes when there is room.
    host.read(&["check", "--copy", "small", "--level", "readable"]).ends(0);
    Mounted::resize(&host.path("small"), "200m");
    host.run(&["copy"]).ends(0).says("copy small: 2 points").says("copy large: nothing was missing");
    host.read(&["check", "--copy", "small", "--level", "readable"]).ends(0);
    host.run(&["copies"]).ends(0).says("3 of 3 copies good");
}

#[test]
fn the_target_of_a_restore_is_full() {
    if !alone("places::the_target_of_a_restore_is_full", "a full disk during a restore") {
        return;
    }
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    noise(&host.path("data/docs/big"), 40 << 20, 1);
    crate::support::host::database(&host.path("data/app.db"), 200_000, &"text ".repeat(20));
    host.sources(&[
        volume(&host),
        format!("dump: {{ command: {{ run: [cat, \"{}\"] }} }}", host.text("data/docs/big")),
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
    ]);
    host.run(&["backup"]).ends(0);
    let place = host.path("small");
    let _mounted = mounted(&place, "8m");
    fs::write(place.join("mine"), "mine").unwrap();
    for source in ["docs", "dump", "app"] {
        let to = place.join(source);
        let answer = host.read(&["restore", source, "--to", to.to_str().unwrap()]);
        answer.fails(1, "No space left", "Free some space");
        assert_eq!(all(&place), [place.join("mine")], "{source}");
    }
    // In place, the old content stays as it was.
    drop(_mounted);
    let _mounted = mounted(&place, "60m");
    let live = place.join("docs");
    fs::create_dir(&live).unwrap();
    fs::copy(host.path("data/docs/big"), live.join("big")).unwrap();
    fs::write(live.join("added"), "added").unwrap();
    let before = describe(&live);
    let source = format!("docs=volume:{}", live.display());
    let arguments = ["restore", "--source", &source, "--in-place", "--confirm", "docs"];
    host.read(&arguments).fails(1, "No space left", "Free some space");
    assert_eq!(describe(&live), before);
    host.is_tidy();
    Mounted::resize(&place, "200m");
    let id = host.points("docs").last().unwrap()["id"].as_str().unwrap().to_owned();
    host.read(&[&arguments[..], &["--at", &id]].concat()).ends(0);
    assert_eq!(fs::read(live.join("big")).unwrap(), fs::read(host.path("data/docs/big")).unwrap());
    assert!(!live.join("added").exists());
    host.is_well();
}

#[test]
fn the_scratch_space_is_full() {
    if !alone("places::the_scratch_space_is_full", "a full cache directory during a backup") {
        return;
    }
    let host = Host::new();
    crate::support::host::database(&host.path("data/app.db"), 200_000, &"text ".repeat(20));
    host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"))]);
    let _mounted = mounted(&host.path("cache"), "4m");
    let answer = host.run(&["backup"]).fails_somehow();
    answer.says("hint: ");
    assert_eq!(host.points("app").len(), 0);
    host.is_tidy();
    Mounted::resize(&host.path("cache"), "200m");
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn the_store_directory_goes_away_in_the_middle() {
    let host = Host::new();
    let script = "echo begun > begun; while [ ! -e go ]; do sleep 0.05; done; head -c 3000000 /dev/urandom";
    host.sources(&[format!("dump: {{ command: {{ run: [sh, -c, \"{script}\"] }} }}")]);
    let mut running = host.start(host.command(&["backup"]));
    running.until("the dump", || host.path("home/begun").exists());
    fs::rename(host.store(), host.path("away")).unwrap();
    fs::write(host.path("home/go"), "").unwrap();
    host.finish(running).fails(10, &host.text("store"), "");
    // Nothing is made where a file system may only not be mounted.
    assert!(!host.store().exists());
    host.run(&["backup"]).fails(10, &host.text("store"), "");
    fs::rename(host.path("away"), host.store()).unwrap();
    assert_eq!(host.points("dump").len(), 0);
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn the_object_store_goes_away_in_the_middle() {
    let Some(minio) = Minio::alone("an object store that goes away") else { return };
    let host = Host::bare();
    let bucket = minio.bucket(false);
    host.configure(&format!(
        "repository: {{ url: \"s3://{bucket}/prod\", endpoint: \"{}\", access_key: ref+env://KEY, secret_key_file: \"{}\" }}\n",
        minio.endpoint(),
        host.text("secret"),
    ));
    fs::write(host.path("secret"), PASSWORD).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = host.command(arguments);
        command.env("KEY", USER).env("BKP_IDENTITY", host.identity()).env("BKP_PATIENCE", "3s");
        command
    };
    let run = |arguments: &[&str]| host.finish(host.start(command(arguments)));
    run(&["init", "--recovery-key", &host.text("recovery-key.txt")]).ends(0);
    let script = "echo begun > begun; while [ ! -e go ]; do sleep 0.05; done; head -c 30000000 /dev/urandom";
    host.sources(&[format!("dump: {{ command: {{ run: [sh, -c, \"{script}\"] }} }}")]);
    let mut running = host.start(command(&["backup"]));
    running.until("the dump", || host.path("home/begun").exists());
    minio.stop();
    fs::write(host.path("home/go"), "").unwrap();
    host.finish(running).fails(75, "given up after", "run the command again later");
    run(&["backup"]).fails(75, "given up after", "run the command again later");
    run(&["points"]).fails(75, "given up after", "run the command again later");

    minio.start_again();
    let points = run(&["points", "--json"]).ends(0);
    assert_eq!(points.json()["total"], 0);
    run(&["backup"]).ends(0);
    run(&["check", "--level", "readable"]).ends(0).says("no problem found");
    host.is_tidy();
    // Wrong credentials are no matter of patience.
    fs::write(host.path("secret"), "not-the-password").unwrap();
    run(&["backup"]).fails(12, "", "credentials");
}

#[test]
fn doctor_works_where_the_store_can_only_be_read() {
    let host = Host::of_nobody();
    let store = host.text("store");
    crate::support::run("chmod", &["-R", "a-w", &store], host.root());
    let mut command = host.command(&["doctor"]);
    command.env("BKP_STATE_DIR", host.path("no-state")).env("BKP_IDENTITY", host.identity());
    let answer = host.finish(host.start(command)).ends(0);
    answer.says("it cannot be written to from here").says("opens 1 data epoch");
    // A host that writes cannot do its work then.
    host.run(&["doctor"]).ends(1).says("FAILED");
    crate::support::run("chmod", &["-R", "u+w", &store], host.root());
    host.run(&["doctor"]).ends(0);
}
