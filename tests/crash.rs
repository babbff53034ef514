//! Killed at every place that is worth it, the program leaves nothing a normal run does not get over.
//!
//! Each point of [`CRASH_POINTS`] is visited by a child that must really die of SIGKILL there: a point that is never reached
//! fails the test. Then the same command runs again, everything checks as readable, and what is restored is the old or the
//! new content, never a mixture.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "crash/recipients.rs"]
mod recipients;
mod support;
#[path = "support/trees.rs"]
mod trees;

use bkp::durable::CRASH_POINTS;
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use support::host::{Answer, Host, database, noise, texts};
use trees::describe;

fn points_of(job: &str) -> Vec<&'static str> {
    let points: Vec<_> = CRASH_POINTS.iter().copied().filter(|point| point.starts_with(job)).collect();
    assert!(!points.is_empty());
    points
}

#[test]
fn every_crash_point_belongs_to_a_test_here() {
    let known = ["backup:", "restore:", "refill:", "init:", "keys:", "recipients:"];
    // tests/containers.rs, tests/copies.rs, tests/journal.rs, tests/prune/kills.rs, tests/rehearse/kills.rs,
    // tests/rotate/kills.rs, tests/rotate/deliveries.rs, tests/rotate/redis.rs, tests/vault/renewal.rs
    let elsewhere = [
        "quiesce:",
        "stack:",
        "journal:",
        "copy:",
        "prune:",
        "rehearse:",
        "rehearse-server:",
        "rehearse-application:",
        "rotate:",
        "rotate-node:",
        "rotate-lease:",
        "rotate-consumer:",
        "vault-secret-id:",
    ];
    assert!(CRASH_POINTS.iter().all(|point| known.iter().chain(&elsewhere).any(|job| point.starts_with(job))));
}

/// Runs with the recovery key, and dies there.
fn dies_at(host: &Host, point: &str, arguments: &[&str]) -> Answer {
    let mut command = host.command(arguments);
    command.env("BKP_CRASH_AT", point).env("BKP_IDENTITY", host.identity());
    let answer = host.finish(host.start(command));
    println!("{point}: {arguments:?}");
    answer.was_killed()
}

/// A host with a database and a tree, one point of each, and newer content that is in no point.
fn host() -> Host {
    let host = Host::new();
    fill(&host);
    host
}

fn fill(host: &Host) {
    database(&host.path("data/app.db"), 100, "old");
    fs::create_dir(host.path("data/docs")).unwrap();
    fs::write(host.path("data/docs/same"), "same").unwrap();
    noise(&host.path("data/docs/big"), 1_200_000, 1);
    fs::write(host.path("data/docs/changes"), "old").unwrap();
    host.sources(&[
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
    ]);
    host.run(&["backup"]).ends(0);
    database(&host.path("data/app.db"), 200, "new");
    fs::write(host.path("data/docs/changes"), "new").unwrap();
    noise(&host.path("data/docs/added"), 400_000, 2);
}

/// Restores a point to a new place and gives the place.
fn restored(host: &Host, point: &str, name: &str) -> PathBuf {
    let to = host.path(name);
    host.read(&["restore", point, "--to", to.to_str().unwrap()]).ends(0);
    to
}

#[test]
fn a_backup_killed_anywhere_leaves_a_whole_point_or_none() {
    for point in points_of("backup:").into_iter().filter(|p| *p != "backup:checkpoint-written") {
        // Streams and trees pass through different places.
        let source = if point == "backup:stream-stored" { "app" } else { "docs" };
        let host = host();
        let old = host.points(source).pop().unwrap();
        dies_at(&host, point, &["backup", source]);
        let after = host.points(source).len();
        let committed = ["backup:point-written", "backup:before-session-end"].contains(&point);
        assert_eq!(after, if committed { 2 } else { 1 }, "{point}");

        host.run(&["backup"]).ends(0);
        host.read(&["check", "--level", "readable"]).ends(0).says("no problem found");
        assert_eq!(host.points(source).len(), after + 1, "{point}");
        let new = restored(&host, "docs", "new-docs");
        assert_eq!(describe(&new), describe(&host.path("data/docs")), "{point}");
        assert_eq!(texts(&restored(&host, "app", "new.db")), vec!["new"; 200], "{point}");
        let old = restored(&host, old["id"].as_str().unwrap(), "old");
        match source {
            "app" => assert_eq!(texts(&old), vec!["old"; 100], "{point}"),
            _ => assert_eq!(fs::read_to_string(old.join("changes")).unwrap(), "old", "{point}"),
        }
        assert!(!host.path("cache").join("scratch").exists());
    }
}

#[test]
fn a_backup_into_chunks_killed_anywhere_leaves_a_whole_point_or_none() {
    for point in points_of("backup:").into_iter().filter(|p| *p != "backup:checkpoint-written") {
        let host = Host::new();
        host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }}, layout: dedup }}", host.text("data/app.db"))]);
        database(&host.path("data/app.db"), 9_000, "old");
        host.run(&["backup"]).ends(0);
        let old = host.points("app").pop().unwrap();
        host.next_second();
        database(&host.path("data/app.db"), 10_000, "new");
        dies_at(&host, point, &["backup"]);
        let after = host.points("app").len();
        let committed = ["backup:point-written", "backup:before-session-end"].contains(&point);
        assert_eq!(after, if committed { 2 } else { 1 }, "{point}");

        host.next_second();
        host.run(&["backup"]).ends(0);
        assert_eq!(host.points("app").len(), after + 1, "{point}");
        host.is_well();
        assert_eq!(texts(&restored(&host, "app", "new.db")), vec!["new"; 10_000], "{point}");
        assert_eq!(texts(&restored(&host, old["id"].as_str().unwrap(), "old.db")), vec!["old"; 9_000], "{point}");
    }
}

#[test]
fn a_backup_killed_after_a_checkpoint_is_gone_on_with() {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    for file in 0..6 {
        noise(&host.path(&format!("data/docs/{file}")), 40 << 20, file);
    }
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    let mut command = host.command(&["backup"]);
    command.env("BKP_CRASH_AT", "backup:checkpoint-written");
    let mut running = host.start(command);
    // An interrupt makes it write what it has so far.
    running.until("the third pack", || host.objects("p").len() >= 3);
    running.signal(Signal::INT);
    host.finish(running).was_killed();
    assert_eq!(host.points("docs").len(), 0);

    host.run(&["backup"]).ends(0);
    let point = host.points("docs").pop().unwrap();
    let (bytes, added) = (point["bytes"].as_u64().unwrap(), point["added_bytes"].as_u64().unwrap());
    assert!(added + (35 << 20) < bytes, "{added} of {bytes} were stored again");
    host.read(&["check", "--level", "readable"]).ends(0);
    assert_eq!(describe(&restored(&host, "docs", "new")), describe(&host.path("data/docs")));
}

#[test]
fn a_restore_killed_anywhere_leaves_the_old_or_the_new_and_never_a_mixture() {
    for source in ["app", "docs"] {
        for point in points_of("restore:") {
            let host = host();
            let docs = host.path("data/docs");
            let now = describe(&docs);
            let id = host.points(source)[0]["id"].as_str().unwrap().to_owned();
            let then = restored(&host, &id, "then");
            let arguments = ["restore", &id, "--in-place", "--confirm", source];
            dies_at(&host, point, &arguments);

            let live = point == "restore:after-live";
            match source {
                "app" => {
                    let expected = if live { vec!["old"; 100] } else { vec!["new"; 200] };
                    assert_eq!(texts(&host.path("data/app.db")), expected, "{point}");
                }
                _ => assert_eq!(describe(&docs), if live { describe(&then) } else { now }, "{point}"),
            }
            // The safety backup of what was there came first.
            assert_eq!(host.points(source).len(), 2, "{point}");

            host.read(&arguments).ends(0);
            match source {
                "app" => assert_eq!(texts(&host.path("data/app.db")), vec!["old"; 100], "{point}"),
                _ => assert_eq!(describe(&docs), describe(&then), "{point}"),
            }
            host.run(&["backup"]).ends(0);
            host.read(&["check", "--level", "readable"]).ends(0).says("no problem found");
        }
    }
}

#[test]
fn a_mount_point_whose_restore_is_killed_between_two_moves_loses_nothing_and_is_told() {
    let host = Host::new();
    let mount = host.path("data/mount");
    fs::create_dir(&mount).unwrap();
    let Some(_mounted) = trees::Mounted::tmpfs(&mount) else {
        assert!(!rustix::process::geteuid().is_root() || trees::mounts_are_forbidden(), "root can mount");
        return;
    };
    for name in ["a", "b", "c"] {
        fs::write(mount.join(name), "old").unwrap();
    }
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", mount.display())]);
    host.run(&["backup"]).ends(0);
    fs::write(mount.join("b"), "new").unwrap();
    let id = host.points("docs")[0]["id"].as_str().unwrap().to_owned();
    let arguments = ["restore", &id, "--in-place", "--confirm", "docs"];
    dies_at(&host, "refill:between-moves", &arguments);

    // One entry was moved aside, the others are where they were; doctor says where to look.
    let aside = fs::read_dir(&mount).unwrap().map(|e| e.unwrap().path());
    let aside = aside.into_iter().find(|p| p.to_string_lossy().contains(".bkp-old-")).unwrap();
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 4, "two entries, what was moved aside, and the restored tree");
    let shown = aside.to_str().unwrap();
    host.run(&["doctor"]).ends(3).says(shown).says("rm -r").says(".bkp-restore-");

    // The safety backup has all of what was there, and the restore can be done again.
    let safety = host.points("docs")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(restored(&host, &safety, "safety").join("b")).unwrap(), "new");
    host.read(&arguments).ends(3).says(shown).says("left of a restore that was killed");
    for entry in fs::read_dir(&mount).unwrap().map(|e| e.unwrap().path()) {
        if entry.file_name().unwrap().to_str().unwrap().starts_with(".bkp-") {
            fs::remove_dir_all(entry).unwrap();
        }
    }
    for name in ["a", "b", "c"] {
        assert_eq!(fs::read_to_string(mount.join(name)).unwrap(), "old");
    }
    host.run(&["backup"]).ends(0);
}

#[test]
fn a_restore_to_a_new_place_that_is_killed_shows_nothing_under_its_name() {
    for source in ["app", "docs"] {
        for point in points_of("restore:") {
            let host = host();
            let to = host.path("target");
            let arguments = ["restore", source, "--to", to.to_str().unwrap()];
            dies_at(&host, point, &arguments);
            if point == "restore:after-live" {
                host.read(&arguments).ends(13).says("target");
            } else {
                assert!(!to.exists(), "{point}");
                host.read(&arguments).ends(0);
            }
            match source {
                "app" => assert_eq!(texts(&to), vec!["old"; 100], "{point}"),
                _ => assert_eq!(fs::read_to_string(to.join("changes")).unwrap(), "old", "{point}"),
            }
        }
    }
}

#[test]
fn an_init_that_is_killed_can_be_done_again() {
    for point in points_of("keys:").into_iter().chain(points_of("init:")) {
        let host = Host::bare();
        fs::create_dir(host.path("data/docs")).unwrap();
        fs::write(host.path("data/docs/a"), "a").unwrap();
        host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
        let key = host.text("recovery-key.txt");
        let mut command = host.command(&["init", "--recovery-key", &key]);
        command.env("BKP_CRASH_AT", point);
        host.finish(host.start(command)).was_killed();
        assert!(host.identity().exists(), "there was never a repository without its key");

        if point == "init:repository-written" {
            // It is there, with this host as its writer: nothing needs to be done again.
            host.run(&["init", "--recovery-key", &host.text("other.txt")]).fails(13, "already", "--join");
        } else {
            host.run(&["backup"]).fails(10, "there is no repository", "bkp init");
            // A key is never overwritten: that of the first try is of no use.
            fs::remove_file(host.identity()).unwrap();
            host.run(&["init", "--recovery-key", &key]).ends(0);
        }
        host.run(&["backup"]).ends(0);
        host.is_well();
        assert_eq!(fs::read_to_string(restored(&host, "docs", "new").join("a")).unwrap(), "a");
    }
}

#[test]
fn keys_that_are_being_changed_survive_a_kill() {
    let ana = age::x25519::Identity::generate();
    let public = ana.to_public().to_string();
    let add = ["keys", "add", "ana", public.as_str()];
    let remove = ["keys", "remove", "ana"];
    let new_epoch = ["keys", "new-epoch"];
    for (point, arguments) in [
        ("keys:epoch-written", &add[..]),
        ("keys:list-written", &add[..]),
        ("keys:recipients-written", &add[..]),
        ("keys:epoch-written", &remove[..]),
        ("keys:list-written", &remove[..]),
        ("keys:recipients-written", &remove[..]),
        ("keys:epoch-written", &new_epoch[..]),
    ] {
        let host = host();
        if arguments[1] == "remove" {
            host.read(&add).ends(0);
            host.run(&["backup"]).ends(0);
        }
        dies_at(&host, point, arguments);
        // Old and new points stay readable before and after the command is done again.
        host.run(&["backup"]).ends(0);
        host.read(&["check", "--level", "readable"]).ends(0);
        host.read(arguments).ends(0);
        host.run(&["backup"]).ends(0);
        host.is_well();
        assert_eq!(texts(&restored(&host, "app", "new.db")), vec!["new"; 200], "{point} {arguments:?}");
    }
}
