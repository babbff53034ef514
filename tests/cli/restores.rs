//! Restores: the right point, the right place, and nothing overwritten that nobody named.

use crate::support::{self, Bkp, read_database, write_database};

/// Three points of one database, and the instant each stands for.
fn three_versions() -> (Bkp, Vec<String>) {
    let host = Bkp::with_repository();
    for rows in [["first"], ["second"], ["third"]] {
        write_database(&host.path("app.db"), &rows);
        host.ok(&["backup", "--source", "sqlite:app.db"]);
    }
    let document = host.json(&["points", "--all", "--source", "app"]);
    let points = document["points"].as_array().unwrap();
    let instants = points.iter().rev().map(|p| p["consistent_at"].as_str().unwrap().to_owned()).collect();
    (host, instants)
}

#[test]
fn an_instant_chooses_among_three_points() {
    let (host, instants) = three_versions();
    for (number, (instant, expected)) in instants.iter().zip(["first", "second", "third"]).enumerate() {
        let target = format!("restored-{number}.db");
        host.ok_with_key(&["restore", "app", "--at", instant, "--to", &target]);
        assert_eq!(read_database(&host.path(&target)), [expected]);
    }
    let before: jiff::Timestamp = instants[1].parse().unwrap();
    let before = (before - jiff::SignedDuration::from_nanos(1)).to_string();
    host.ok_with_key(&["restore", "app", "--at", &before, "--to", "before.db"]);
    assert_eq!(read_database(&host.path("before.db")), ["first"]);
    let id = &host.points("app")[1];
    host.ok_with_key(&["restore", id, "--to", "by-id.db"]);
    assert_eq!(read_database(&host.path("by-id.db")), ["second"]);
    host.run_with_key(&["restore", "app", "--at", "2020-01-01T00:00:00Z", "--to", "old.db"])
        .expect_code(1)
        .says(&["no point of app is as old", &host.points("app")[0]]);
}

#[test]
fn without_a_target_the_data_goes_beside_the_source() {
    let (host, _) = three_versions();
    let ran = host.ok_with_key(&["restore", "app"]);
    let target = std::path::PathBuf::from(ran.stdout.trim());
    assert_eq!(target.parent().unwrap(), host.path("").parent().unwrap().join("work"));
    assert!(target.file_name().unwrap().to_str().unwrap().starts_with("app_restore_20"), "{target:?}");
    assert_eq!(read_database(&target), ["third"]);
    assert_eq!(read_database(&host.path("app.db")), ["third"]);
    host.run_with_key(&["restore", "app"]).expect_code(13).says(&["is there already", "--to"]);
}

#[test]
fn the_identity_alone_suffices_on_a_new_machine() {
    let (host, _) = three_versions();
    let other = Bkp::new();
    std::fs::copy(host.path("key.txt"), other.path("key.txt")).unwrap();
    let repository = host.repository();
    let ran = other.ok_with_key(&["restore", "app", "--repo", repository.to_str().unwrap(), "--to", "app.db"]);
    assert!(!ran.stderr.contains("vouches"), "{}", ran.stderr);
    assert_eq!(read_database(&other.path("app.db")), ["third"]);
    assert!(!other.state().join("repositories").exists());
}

#[test]
fn a_key_without_the_writer_line_makes_it_say_whom_it_believes() {
    let (host, _) = three_versions();
    let text = std::fs::read_to_string(host.path("key.txt")).unwrap();
    let bare: String = text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let other = Bkp::new();
    other.write("key.txt", bare);
    private(&other.path("key.txt"));
    let repository = host.repository();
    other
        .ok_with_key(&["restore", "app", "--repo", repository.to_str().unwrap(), "--to", "app.db"])
        .says(&["only the store vouches for writer", "ed25519:"]);
}

fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_part_of_a_volume() {
    let host = Bkp::with_repository();
    host.write("documents/contracts/2026/a.txt", "a");
    host.write("documents/other.txt", "b");
    host.ok(&["backup", "--source", "volume:./documents"]);
    host.ok_with_key(&["restore", "documents", "--path", "contracts/2026", "--to", "part"]);
    let files = support::files(&host.path("part"));
    assert!(files.iter().any(|f| f.ends_with("a.txt")) && !files.iter().any(|f| f.ends_with("other.txt")), "{files:?}");
    host.ok_with_key(&["restore", "documents", "--to", "all"]);
    assert_eq!(support::files(&host.path("all")), support::files(&host.path("documents")));
}

#[test]
fn in_place_takes_a_safety_backup_and_wants_the_name() {
    let (host, instants) = three_versions();
    write_database(&host.path("app.db"), &["spoilt"]);
    let in_place = ["restore", "app", "--at", &instants[0], "--in-place", "--source", "app=sqlite:app.db"];
    host.run_with_key(&in_place).expect_code(13).says(&["this may replace what app is now", "--confirm app"]);
    host.run_with_key(&[&in_place[..], &["--confirm", "apq"]].concat()).expect_code(13);
    assert_eq!(read_database(&host.path("app.db")), ["spoilt"]);
    assert_eq!(host.points("app").len(), 3);

    host.ok_with_key(&[&in_place[..], &["--confirm", "app"]].concat());
    assert_eq!(read_database(&host.path("app.db")), ["first"]);
    let points = host.points("app");
    assert_eq!(points.len(), 4);
    host.ok_with_key(&["restore", &points[3], "--to", "safety.db"]).says(&["safety backup"]);
    assert_eq!(read_database(&host.path("safety.db")), ["spoilt"]);

    // What was replaced is no backup of what the source ought to be.
    let listed = host.json(&["points", "--source", "app"]);
    assert_eq!(listed["points"][0]["purpose"], "safety");
    assert!(host.ok(&["points"]).stdout.contains("safety backup"));
    assert_eq!(host.json(&["status"])["sources"][0]["newest"]["id"], points[2].as_str());
    let latest = host.ok_with_key(&["restore", "app", "--to", "latest.db"]);
    latest.says(&[&points[3], "is passed over: it is a safety backup"]);
    assert_eq!(read_database(&host.path("latest.db")), ["third"]);
    host.ok_with_key(&["export", "app", "-o", "export.db"]);
    assert_eq!(read_database(&host.path("export.db")), ["third"]);
}

/// All files beside the database that keep what it was.
fn replaced(host: &Bkp) -> Vec<std::path::PathBuf> {
    let names = std::fs::read_dir(host.path("")).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_string_lossy().contains(".replaced-")).collect()
}

#[test]
fn a_database_of_which_there_is_no_safety_backup_is_kept() {
    let (host, _) = three_versions();
    // A host that is no writer of the repository can make none.
    let other = Bkp::new();
    std::fs::copy(host.path("key.txt"), other.path("key.txt")).unwrap();
    write_database(&other.path("app.db"), &["precious"]);
    let repository = host.repository();
    let in_place = ["restore", "--in-place", "--source", "sqlite:app.db", "--confirm", "app", "--no-safety-backup"];
    let all = [&in_place[..], &["--repo", repository.to_str().unwrap()]].concat();
    let ran = other.run_with_key(&all).expect_code(3);
    let kept = replaced(&other);
    ran.says(&[
        "there is no safety backup",
        "what was replaced is kept as",
        kept[0].file_name().unwrap().to_str().unwrap(),
    ]);
    assert_eq!(read_database(&other.path("app.db")), ["third"]);
    assert_eq!(kept.len(), 1);
    assert_eq!(read_database(&kept[0]), ["precious"]);
}

#[test]
fn a_point_from_a_clock_that_was_ahead_is_passed_over_and_not_built_upon() {
    let host = Bkp::with_repository();
    host.write("documents/a", "a".repeat(2_000_000));
    let back_up = || host.json(&["backup", "--source", "volume:./documents"])["points"][0].clone();
    let first = back_up();
    back_up_in_the_future(&host);
    host.write("documents/b", "now");
    let third = back_up();
    let future = host.points("documents").pop().unwrap();
    let shown = host.json(&["show", third["id"].as_str().unwrap()]);
    assert_eq!(shown["previous"], first["point"], "it builds on the point before the jump");
    assert_eq!(shown["sequence"], 3, "no number is given twice");
    let ran = host.ok_with_key(&["restore", "documents", "--to", "restored"]);
    ran.says(&[&future, "is passed over: it is from the future"]);
    assert_eq!(std::fs::read(host.path("restored/b")).unwrap(), b"now");
    host.ok_with_key(&["check", "--level", "readable"]);
    let added = third["added_bytes"].as_u64().unwrap();
    assert!(added < 100_000, "{added} bytes were stored again");
}

/// One more point of `documents`, made while the clock was decades ahead.
fn back_up_in_the_future(host: &Bkp) {
    use bkp::repo::point::{Body, EngineInfo};
    use bkp::repo::write::{Draft, Options, Session};
    use bkp::store::{Location, Settings};
    let store = bkp::store::open(&Settings::new(Location::Directory(host.repository()))).unwrap();
    let repository = bkp::repo::Repository::open(store).unwrap();
    let writer = bkp::repo::writer::Writer::load(&host.state(), repository.id()).unwrap().unwrap();
    let then: jiff::Timestamp = "2090-01-01T00:00:00Z".parse().unwrap();
    let cancel = bkp::event::Cancel::default();
    let mut session = Session::begin(&repository, &writer, "documents", Options::default(), &cancel, then).unwrap();
    session.stream("dump", &mut &b"from the future"[..]).unwrap();
    let draft = Draft {
        engine: EngineInfo { kind: "volume".into(), version: "1".into(), image: None },
        started_at: then,
        consistent_at: then,
        written_at: then,
        host: "host-a".into(),
        purpose: None,
        stack: None,
        body: Body::default(),
    };
    session.commit(draft).unwrap();
}

#[test]
fn a_repository_inside_the_volume_is_left_out_and_never_replaced() {
    let host = Bkp::with_repository();
    host.write("documents/a.txt", "a");
    let inside = host.path("documents/repository");
    std::fs::rename(host.repository(), &inside).unwrap();
    let here = ["--repo", inside.to_str().unwrap(), "--source", "volume:./documents"];
    for run in 0..2 {
        let ran = host.run(&[&["backup", "--json"][..], &here].concat()).expect_code(0);
        let point = &ran.document()["points"][0];
        assert_eq!(point["entries"], 2, "run {run}: the root and one file");
        let note = point["notes"][0].as_str().unwrap();
        assert!(note.contains("repository") && note.contains("of bkp itself"), "{note}");
    }
    // By what it is, not by how it is spelt.
    std::os::unix::fs::symlink(&inside, host.path("link")).unwrap();
    let linked = ["backup", "--json", "--repo", "link", "--source", "volume:./documents"];
    assert_eq!(host.run(&linked).expect_code(0).document()["points"][0]["entries"], 2);
    let in_place = [&["restore", "--in-place", "--confirm", "documents"][..], &here].concat();
    host.run_with_key(&in_place).expect_code(13).says(&["would be replaced with it", "--to"]);
    assert!(inside.join("repository.json").exists());
    host.run(&["backup", "--repo", inside.to_str().unwrap(), "--source", "volume:./documents/repository"])
        .expect_code(2)
        .says(&["is the repository"]);
}

#[test]
fn a_volume_is_replaced_in_place() {
    let host = Bkp::with_repository();
    host.write("documents/a.txt", "good");
    host.ok(&["backup", "--source", "volume:./documents"]);
    host.write("documents/a.txt", "spoilt");
    host.write("documents/new.txt", "new");
    host.ok_with_key(&["restore", "--in-place", "--source", "volume:./documents", "--confirm", "documents"]);
    assert_eq!(std::fs::read(host.path("documents/a.txt")).unwrap(), b"good");
    assert_eq!(support::files(&host.path("documents")).len(), 1);
    assert_eq!(host.points("documents").len(), 2);
}

#[test]
fn a_source_that_is_gone_comes_back_only_when_the_missing_safety_backup_is_accepted() {
    let (host, _) = three_versions();
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = std::fs::remove_file(host.path(name));
    }
    let in_place = ["restore", "--in-place", "--source", "sqlite:app.db", "--confirm", "app"];
    host.run_with_key(&in_place).expect_code(13).says(&["safety backup", "--no-safety-backup"]);
    assert!(!host.path("app.db").exists());
    host.run_with_key(&[&in_place[..], &["--no-safety-backup"]].concat())
        .expect_code(3)
        .says(&["there is no safety backup"]);
    assert_eq!(read_database(&host.path("app.db")), ["third"]);
}

#[test]
fn a_plan_is_shown_and_only_that_plan_is_run() {
    let (host, instants) = three_versions();
    let words = ["restore", "app", "--at", &instants[1], "--to", "restored.db"];
    let plan = host.ok_with_key(&[&words[..], &["--dry-run", "--json"]].concat()).document();
    assert_eq!(plan["source"], "app");
    assert_eq!(plan["overwrites"], false);
    assert_eq!(plan["loss_seconds"], 0);
    let hash = plan["hash"].as_str().unwrap();
    assert_eq!(hash.len(), 12);
    assert!(!host.path("restored.db").exists());
    let text = host.ok_with_key(&[&words[..], &["--dry-run"]].concat());
    assert!(text.stdout.contains(hash) && text.stdout.contains("restored.db"), "{}", text.stdout);

    let other = ["restore", "app", "--at", &instants[0], "--to", "restored.db", "--plan", hash];
    host.run_with_key(&other).expect_code(13).says(&[hash, "--dry-run"]);
    assert!(!host.path("restored.db").exists());
    host.ok_with_key(&[&words[..], &["--plan", hash]].concat());
    assert_eq!(read_database(&host.path("restored.db")), ["second"]);
}

#[test]
fn a_command_takes_its_dump_back() {
    let host = Bkp::with_repository();
    let policy = format!(
        "policy: main\nsources:\n  dump: {{ command: {{ run: [echo, content], restore: [sh, -c, 'cat > {}'] }} }}\n",
        host.path("taken").display()
    );
    host.configure("", &policy);
    host.ok(&["backup"]);
    host.run_with_key(&["restore", "dump"]).expect_code(13).says(&["--confirm dump"]);
    assert!(
        !host.path("taken").exists(),
        "the restore command may replace what is alive: it runs on confirmation only"
    );
    host.ok_with_key(&["restore", "dump", "--confirm", "dump"]);
    assert_eq!(std::fs::read(host.path("taken")).unwrap(), b"content\n");
    host.ok_with_key(&["restore", "dump", "--to", "file"]);
    assert_eq!(std::fs::read(host.path("file")).unwrap(), b"content\n");
}

#[test]
fn a_point_that_is_named_is_read_alone() {
    let (host, _) = three_versions();
    let ids = host.points("app");
    let broken =
        support::files(&host.repository()).into_iter().find(|f| f.to_string_lossy().ends_with(&ids[2])).unwrap();
    std::fs::write(host.repository().join(broken), "garbage").unwrap();
    for words in [
        &["show", &ids[0]][..],
        &["ls", &ids[0]],
        &["export", &ids[0], "-o", "raw.db"],
        &["restore", &ids[0], "--to", "one.db"],
        &["restore", "--at", &ids[0], "--to", "two.db"],
    ] {
        let ran = host.ok_with_key(words);
        assert!(!ran.stderr.contains("warning"), "{words:?} looked at other points: {}", ran.stderr);
    }
    assert_eq!(read_database(&host.path("two.db")), ["first"]);
    host.run_with_key(&["show", "app"]).expect_code(0).says(&["warning", &ids[2]]);
}
