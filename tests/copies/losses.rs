//! A store is lost, away, full or killed: what is there of the points, and how the copies come back.

use crate::support::free_port;
use crate::support::host::{Host, database, texts};
use crate::trees::describe;
use crate::{content, host_with, standing};
use bkp::durable::CRASH_POINTS;
use std::fs;
use std::path::Path;
use std::process::Command;

fn restored(host: &Host, words: &[&str], to: &str) -> std::path::PathBuf {
    let to = host.path(to);
    host.read(&[&["restore"], words, &["--to", to.to_str().unwrap()]].concat()).ends(0);
    to
}

#[test]
fn when_the_repository_is_lost_a_copy_restores_everything() {
    let host = host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["backup"]).ends(0);
    fs::remove_dir_all(host.store()).unwrap();

    let hint = "The copy second answers: bkp restore app --to away.db --from second";
    host.read(&["restore", "app", "--to", "away.db"]).fails(10, "there is no directory", hint);
    host.run(&["points"]).fails(10, "there is no directory", "bkp points --from second");
    host.run(&["status"]).fails(10, "there is no directory", "The copy second answers: bkp points --from second");
    host.run(&["copies"]).ends(3).says("1 of 2 copies good");
    assert_eq!(texts(&restored(&host, &["app", "--from", "second"], "app.db")), vec!["old"; 300]);
    assert_eq!(texts(&restored(&host, &["log", "--from", "second"], "log.db")), vec!["old"; 20_000]);
    let docs = restored(&host, &["docs", "--from", "second"], "docs");
    assert_eq!(describe(&docs), describe(&host.path("data/docs")));
    host.read(&["ls", "docs", "--from", "second"]).ends(0).says("deep/file");
    host.read(&["show", "app", "--from", "second"]).ends(0).says("file://");
    host.read(&["export", "app", "--from", "second", "-o", &host.text("app.raw")]).ends(0);

    // The copy is a repository by itself: on a machine that knows nothing but the key and the place.
    let url = format!("file://{}", host.text("second"));
    let bare = Host::bare();
    fs::copy(host.identity(), bare.identity()).unwrap();
    bare.read(&["--repo", &url, "check", "--level", "readable"]).ends(0).says("no problem found");
    bare.read(&["--repo", &url, "restore", "docs", "--to", &bare.text("docs")]).ends(0);
    assert_eq!(describe(&bare.path("docs")), describe(&host.path("data/docs")));
    by_script(&host, &host.path("second"));

    // And it becomes the repository again.
    host.run(&["copy", "--from", "second", "--create", "repository"]).ends(0).says("copy repository: 4 points");
    host.run(&["copies"]).ends(0).says("2 of 2 copies good");
    content(&host, "new", 2);
    host.run(&["backup"]).ends(0);
    host.is_well();
}

/// Without bkp, by the script that lies in the copy.
fn by_script(host: &Host, copy: &Path) {
    for (source, rows) in [("app", 300), ("log", 20_000)] {
        let to = host.path(&format!("script-{source}.db"));
        let mut command = if source == "app" {
            let mut command = Command::new("sh");
            command.arg(copy.join("restore/restore.sh"));
            command
        } else {
            let mut command = Command::new("python3");
            command.arg(copy.join("restore/restore.py")).env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        let output = command.arg("-i").arg(host.identity()).arg("-r").arg(copy).arg("-o").arg(&to);
        let output = output.args(["stream", source]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(texts(&to), vec!["old"; rows], "{source}");
    }
}

#[test]
fn a_restore_in_place_from_a_copy_puts_its_safety_backup_into_the_repository() {
    let host = host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["backup", "app"]).ends(0);
    database(&host.path("data/app.db"), 10, "spoilt");
    let words = ["restore", "app", "--from", "second", "--in-place", "--confirm", "app"];
    host.read(&words).ends(0);
    assert_eq!(texts(&host.path("data/app.db")), vec!["old"; 300]);
    assert_eq!(host.points("app").len(), 2);
    let there = host.run(&["points", "--from", "second", "--source", "app", "--json"]).ends(0).json();
    assert_eq!(there["points"].as_array().unwrap().len(), 1, "{there}");

    fs::rename(host.store(), host.path("away")).unwrap();
    database(&host.path("data/app.db"), 10, "spoilt");
    host.read(&words).fails(13, "the safety backup could not be made", "--no-safety-backup");
    assert_eq!(texts(&host.path("data/app.db")), vec!["spoilt"; 10]);
    host.read(&[&words[..], &["--no-safety-backup"]].concat()).ends(3);
    assert_eq!(texts(&host.path("data/app.db")), vec!["old"; 300]);
}

#[test]
fn a_copy_that_was_away_catches_up() {
    let host = host_with(&["second", "third"]);
    host.run(&["copy", "--create", "second", "third"]).ends(0);
    host.run(&["backup"]).ends(0);
    fs::rename(host.path("second"), host.path("away")).unwrap();
    for (number, text) in [(2, "newer"), (3, "newest")] {
        host.next_second();
        content(&host, text, number);
        host.run(&["backup"]).ends(3).says("copy second: there is no directory").says("copy third: 3 points");
    }
    host.run(&["copies"]).ends(3).says("2 of 3 copies good");
    fs::rename(host.path("away"), host.path("second")).unwrap();
    let behind = standing(&host, "second");
    assert_eq!((&behind["points"], &behind["missing"]), (&4.into(), &6.into()), "{behind}");
    assert!(behind["behind_seconds"].as_i64().is_some(), "{behind}");
    host.next_second();
    host.run(&["backup", "app"]).ends(0).says("copy second: 7 points");
    host.run(&["copies"]).ends(0).says("3 of 3 copies good");
    host.read(&["check", "--copy", "second", "--level", "readable"]).ends(0).says("no problem found");
    assert_eq!(texts(&restored(&host, &["log", "--from", "second"], "log.db")), vec!["newest"; 20_000]);
}

#[test]
fn a_copy_that_does_not_answer_loses_no_backup_and_holds_up_no_other() {
    let host = host_with(&["third"]);
    let silent = format!(
        "  - {{ name: silent, url: s3://bucket/p, endpoint: \"http://127.0.0.1:{}\", access_key: ref+env://HOME, secret_key: ref+env://HOME }}\n",
        free_port()
    );
    let third = crate::in_directory(&host, "third");
    host.configure(&format!("repository: {{ url: \"{}\" }}\ncopies:\n{silent}{third}", host.url));
    host.run(&["copy", "--create", "third"]).ends(0);
    let answer = host.run(&["--patience", "1s", "backup", "--json"]).ends(3);
    let document = answer.says("copy silent: ").says("bkp copy silent").json();
    assert_eq!(document["points"].as_array().unwrap().len(), 3);
    assert_eq!((&document["copies"][0]["ok"], &document["copies"][1]["ok"]), (&false.into(), &true.into()));
    host.run(&["--patience", "1s", "copies"]).ends(3).says("2 of 3 copies good").says("UNREACHABLE");
    host.run(&["--patience", "1s", "copy"]).ends(3);
    host.run(&["--patience", "1s", "copy", "silent"]).ends(75);
}

#[test]
fn a_copy_killed_anywhere_is_gone_on_with() {
    for point in CRASH_POINTS.iter().filter(|point| point.starts_with("copy:")) {
        let host = host_with(&["second"]);
        host.run(&["backup", "--no-copy"]).ends(0);
        let mut command = host.command(&["copy", "--create", "second"]);
        command.env("BKP_CRASH_AT", point);
        host.finish(host.start(command)).was_killed();
        // What is listed there is whole.
        if host.path("second/repository.json").exists() {
            host.run(&["check", "--copy", "second"]).ends(0);
        }
        let before = standing(&host, "second");
        let expected = if *point == "copy:point-written" { 1 } else { 0 };
        assert_eq!(before["points"], expected, "{point}: {before}");
        host.run(&["copy", "--create", "second"]).ends(0);
        host.run(&["copies"]).ends(0).says("2 of 2 copies good");
        host.read(&["check", "--copy", "second", "--level", "readable"]).ends(0).says("no problem found");
        assert_eq!(texts(&restored(&host, &["app", "--from", "second"], "app.db")), vec!["old"; 300], "{point}");
    }
}
