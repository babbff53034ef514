//! Runs that meet each other, are interrupted, or find their target taken.

use crate::support::host::{Host, database, noise, texts};
use crate::trees::describe;
use rustix::process::Signal;
use std::fs;

/// A source that says it has begun, and ends when the file `go` is there.
fn waiting(host: &Host) -> String {
    let script = "echo $$$$ > begun; while [ ! -e go ]; do sleep 0.05; done; echo data";
    host.sources(&[format!("dump: {{ command: {{ run: [sh, -c, \"{script}\"] }} }}")]);
    "dump".to_owned()
}

#[test]
fn the_same_source_twice_at_once() {
    let host = Host::new();
    waiting(&host);
    let mut first = host.start(host.command(&["backup"]));
    first.until("the dump", || host.path("home/begun").exists());
    let process = format!("process {}", first.child.id());
    host.run(&["backup"]).fails(11, "source dump is locked", "Wait for it to end").says(&process);
    // Another source is not in its way, nor is reading.
    let other = ["backup", "--source", "other=command:echo other"];
    host.run(&other).ends(0);
    host.run(&["points"]).ends(0);
    fs::write(host.path("home/go"), "").unwrap();
    host.finish(first).ends(0);
    assert_eq!(host.points("dump").len(), 1);
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn a_killed_run_holds_no_lock() {
    let host = Host::new();
    waiting(&host);
    let mut first = host.start(host.command(&["backup"]));
    first.until("the dump", || host.path("home/begun").exists());
    first.signal(Signal::KILL);
    host.finish(first).was_killed();
    fs::write(host.path("home/go"), "").unwrap();
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn an_interrupted_backup_is_gone_on_with() {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    for file in 0..6 {
        noise(&host.path(&format!("data/docs/{file}")), 40 << 20, file);
    }
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    let mut running = host.start(host.command(&["backup"]));
    running.until("the third pack", || host.objects("p").len() >= 3);
    running.signal(Signal::INT);
    host.finish(running).ends(130).says("interrupted");
    assert_eq!(host.points("docs").len(), 0);
    host.is_tidy();

    let answer = host.run(&["backup", "--json"]).ends(0);
    let point = &answer.json()["points"][0];
    let (bytes, added) = (point["bytes"].as_u64().unwrap(), point["added_bytes"].as_u64().unwrap());
    assert!(added + (35 << 20) < bytes, "{added} of {bytes} were stored again");
    host.read(&["restore", "docs", "--to", "to"]).ends(0);
    assert_eq!(describe(&host.path("home/to")), describe(&host.path("data/docs")));
    host.is_well();
}

#[test]
fn a_signal_ends_the_command_that_is_backed_up_too() {
    let host = Host::new();
    waiting(&host);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut running = host.start(host.command(&["backup"]));
        let begun = host.path("home/begun");
        running.until("the dump", || fs::read_to_string(&begun).is_ok_and(|text| text.ends_with('\n')));
        let process: u32 = fs::read_to_string(&begun).unwrap().trim().parse().unwrap();
        running.signal(signal);
        host.finish(running).ends(code);
        assert!(!std::path::Path::new(&format!("/proc/{process}/cmdline")).exists());
        fs::remove_file(begun).unwrap();
        assert_eq!(host.points("dump").len(), 0);
    }
    fs::write(host.path("home/go"), "").unwrap();
    host.run(&["backup"]).ends(0);
    host.is_well();
}

#[test]
fn an_interrupted_restore_leaves_nothing() {
    let host = Host::new();
    fs::create_dir(host.path("data/docs")).unwrap();
    for file in 0..6 {
        noise(&host.path(&format!("data/docs/{file}")), 40 << 20, file);
    }
    host.sources(&[format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs"))]);
    host.run(&["backup"]).ends(0);
    let mut command = host.command(&["restore", "docs", "--to", "to"]);
    command.env("BKP_IDENTITY", host.identity());
    let mut running = host.start(command);
    let begun = || fs::read_dir(host.path("home")).unwrap().next().is_some();
    running.until("the restored tree", begun);
    running.signal(Signal::INT);
    host.finish(running).ends(130);
    assert_eq!(fs::read_dir(host.path("home")).unwrap().count(), 0);
    host.is_well();
}

#[test]
fn a_target_that_exists_is_left_alone() {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "kept");
    fs::create_dir(host.path("data/docs")).unwrap();
    fs::write(host.path("data/docs/a"), "a").unwrap();
    host.sources(&[
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
        "dump: { command: { run: [echo, dump] } }".to_owned(),
    ]);
    host.run(&["backup"]).ends(0);
    fs::write(host.path("home/file"), "mine").unwrap();
    fs::create_dir(host.path("home/directory")).unwrap();
    std::os::unix::fs::symlink("/no/such", host.path("home/link")).unwrap();
    for source in ["app", "docs", "dump"] {
        for target in ["file", "directory", "link"] {
            host.read(&["restore", source, "--to", target]).fails(13, target, "");
        }
        host.read(&["restore", source, "--to", "no/such/place"]).fails_somehow().says("no/such").says("hint: ");
    }
    assert_eq!(fs::read_to_string(host.path("home/file")).unwrap(), "mine");
    assert_eq!(fs::read_dir(host.path("home/directory")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(host.path("home")).unwrap().count(), 3);

    // In place only with the word that confirms it, and the right one.
    host.read(&["restore", "app", "--in-place"]).fails(13, "replace what app is now", "--confirm app");
    host.read(&["restore", "app", "--in-place", "--confirm", "docs"]).fails_somehow();
    assert_eq!(host.points("app").len(), 1);
    assert_eq!(texts(&host.path("data/app.db")), ["kept"; 10]);
    host.is_well();
}

#[test]
fn a_plan_that_is_not_the_one_that_was_shown_is_refused() {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "old");
    host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"))]);
    host.run(&["backup"]).ends(0);
    let plan = ["restore", "app", "--to", "to.db"];
    let answer = host.read(&[&plan[..], &["--dry-run", "--json"]].concat()).ends(0);
    let hash = answer.json()["hash"].as_str().unwrap().to_owned();
    let as_planned = [&plan[..], &["--plan", &hash]].concat();
    host.next_second();
    database(&host.path("data/app.db"), 10, "new");
    host.run(&["backup"]).ends(0);
    host.read(&as_planned).fails(13, &hash, "--dry-run");
    assert!(!host.path("home/to.db").exists());
    host.is_well();
}
