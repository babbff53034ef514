//! Bad days: dumps that hang, stores that are away, disks that are full, signals in the middle.

use crate::support::minio::{Minio, PASSWORD, USER};
use crate::support::wait_for;
use crate::trees::Mounted;
use crate::world::{World, processes};
use rustix::process::Signal;
use std::fs;
use std::io::Write;

/// A policy whose dump never ends, with a child of its own.
pub fn hanging(world: &World, more: &str) -> String {
    let mark = world.host.text("data/hangs");
    let script = format!("sh -c 'exec tail -f /dev/null --pid=1 {mark}' & tail -f /dev/null {mark}");
    fs::write(&mark, "").unwrap();
    let run = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    let text =
        format!("policy: hangs\nschedule: \"0 10 * * *\"\n{more}sources:\n  hangs: {{ command: {{ run: {run} }} }}\n");
    world.policy("hangs", &text);
    mark
}

#[test]
fn a_dump_that_hangs_is_ended_at_its_deadline_with_all_that_belongs_to_it() {
    let world = World::new();
    let mark = hanging(&world, "deadline: 4s\n");
    let mut daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    daemon.until("the dump hangs", || processes(&mark).len() >= 2);
    assert_eq!(world.ended("hangs", "2026-11-30T10:00:00Z"), "failed");
    assert!(world.why("2026-11-30T10:00:00Z").contains("still at work at its deadline"));
    wait_for("its processes are gone", 30, || processes(&mark).is_empty().then_some(()));
    let ended = &world.of_kind("run_ended")[0];
    assert_eq!((ended["outcome"].as_str(), ended["code"].as_u64()), (Some("aborted"), Some(143)));
    world.stop(daemon);
    // The lock is free.
    let text = fs::read_to_string(world.host.path("etc/policies.d/hangs.yaml")).unwrap();
    world.policy("hangs", &text.replace("tail -f", "echo"));
    world.run(&["backup", "hangs"]).ends(0);
}

#[test]
fn a_signal_lets_what_is_at_work_end_and_a_second_one_does_not() {
    let world = World::new();
    let fifo = world.host.path("data/fifo");
    crate::support::run("mkfifo", &[fifo.to_str().unwrap()], world.host.root());
    let slow = format!("slow: {{ command: {{ run: [cat, \"{}\"] }} }}", fifo.display());
    world.policy("slow", &format!("policy: slow\nschedule: \"0 10 * * *\"\nsources:\n  {slow}\n"));
    let mut daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    daemon.until("the run has begun", || world.count("run_started") == 1);
    daemon.signal(Signal::TERM);
    fs::write(&fifo, "at last").unwrap();
    world.host.finish(daemon).ends(0);
    assert_eq!(world.slots("slow")["2026-11-30T10:00:00Z"], ["done"]);

    world.set_clock("2026-12-01T10:00:00Z");
    let mut daemon = world.daemon();
    daemon.until("the run has begun", || world.count("run_started") == 2);
    daemon.signal(Signal::TERM);
    wait_for("it begins to stop", 30, || daemon.said().contains("stopping when 1 at work").then_some(()));
    daemon.signal(Signal::TERM);
    world.host.finish(daemon).ends(0);
    assert_eq!(world.of_kind("run_ended")[1]["code"], 143);
    // Its slot is not lost: the next daemon takes it up.
    assert_eq!(world.slots("slow")["2026-12-01T10:00:00Z"], Vec::<String>::new());
    let daemon = world.daemon();
    wait_for("the run has begun again", 30, || (world.count("run_started") == 3).then_some(()));
    assert_eq!(world.of_kind("run_started")[2]["reason"], "catch_up");
    fs::write(&fifo, "at last").unwrap();
    assert_eq!(world.ended("slow", "2026-12-01T10:00:00Z"), "done");
    world.stop(daemon);
    world.host.is_tidy();
}

#[test]
fn a_store_that_is_away_is_tried_again_until_it_is_back() {
    let Some(minio) = Minio::alone("a store that is away while the daemon runs") else { return };
    let world = World::new();
    let url = format!("s3://{}/prod", minio.bucket(false));
    let keys = [("AWS_ACCESS_KEY_ID", USER), ("AWS_SECRET_ACCESS_KEY", PASSWORD)];
    let main = format!(
        "repository: {{ url: \"{url}\", endpoint: \"{}\", region: us-east-1 }}\ndaemon: {{ retry: 1s }}\n",
        minio.endpoint()
    );
    world.host.configure(&main);
    let mut init = world.command(&["init", "--recovery-key", &world.host.text("s3-key.txt")]);
    world
        .host
        .finish(world.host.start({
            init.envs(keys);
            init
        }))
        .ends(0);
    world.daily("");
    minio.stop();
    let daemon = world.daemon_with(&[keys[0], keys[1], ("BKP_PATIENCE", "1s")]);
    world.set_clock("2026-11-30T10:00:00Z");
    wait_for("it was tried more than once", 120, || {
        (world.of_kind("run_ended").iter().filter(|run| run["code"] == 75).count() >= 2).then_some(())
    });
    assert_eq!(world.slots("app")["2026-11-30T10:00:00Z"], Vec::<String>::new(), "nobody is told of a failure yet");
    minio.start_again();
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.good_runs().values().collect::<Vec<_>>(), [&1]);
}

#[test]
fn a_disk_without_room_for_the_journal_stops_no_backup_and_runs_none_twice() {
    let world = World::new();
    fs::create_dir_all(world.host.path("state/journal")).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&world.host.path("state/journal")) else {
        return crate::support::not_run("a journal on a full disk", "mounting a tmpfs takes root");
    };
    // So many that their records do not fit into what is left of a page.
    let names: Vec<String> = (0..15).map(|number| format!("app-{number:02}")).collect();
    let sources: String = names.iter().map(|name| format!("  {}\n", world.app(name))).collect();
    world.policy("app", &format!("policy: app\nschedule: \"0 10 * * *\"\nsources:\n{sources}"));
    let daemon = world.daemon();
    Mounted::resize(&world.host.path("state/journal"), "1m");
    let filler = world.host.path("state/journal/filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
    world.set_clock("2026-11-30T10:00:00Z");
    wait_for("the daemon has noticed", 60, || daemon.said().contains("runs go on, but are not recorded").then_some(()));
    for name in &names {
        wait_for(&format!("the backup of {name} is there"), 60, || (!world.host.points(name).is_empty()).then_some(()));
        assert_eq!(world.host.points(name).len(), 1, "{name}");
    }
    drop(file);
    fs::remove_file(&filler).unwrap();
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.set_clock("2026-12-01T10:00:00Z");
    assert_eq!(world.ended("app", "2026-12-01T10:00:00Z"), "done");
    assert!(daemon.said().contains("the journal can be written again"), "{}", daemon.said());
    world.stop(daemon);
    for name in &names {
        assert_eq!(world.host.points(name).len(), 2, "{name}");
    }
    world.journal_is_whole();
}

#[test]
fn a_state_directory_without_room_keeps_nobody_from_a_first_backup_and_no_daemon_from_its_start() {
    let world = World::new();
    let page = crate::support::free_port();
    world.host.configure(&format!(
        "repository: {{ url: \"{}\" }}\nhttp: {{ listen: \"127.0.0.1:{page}\" }}\n",
        world.host.url
    ));
    let (state, before) = (world.host.path("state"), world.host.path("before"));
    fs::rename(&state, &before).unwrap();
    fs::create_dir(&state).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&state) else {
        return crate::support::not_run("a state directory on a full disk", "mounting a tmpfs takes root");
    };
    crate::support::run("cp", &["-a", &format!("{}/.", before.display()), state.to_str().unwrap()], world.host.root());
    world.daily("");
    let mut daemon = world.daemon();
    daemon.child.kill().unwrap();
    world.host.finish(daemon).was_killed();
    // Not even a note of who holds a lock has room.
    fs::write(state.join("daemon.lock"), "").unwrap();
    let mut filler = fs::File::create(state.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}

    let daemon = world.daemon();
    let pid = format!("process {}", daemon.child.id());
    world.run(&["daemon"]).fails(11, &pid, "bkp reload");
    world.run(&["healthcheck"]).ends(0);
    world.set_clock("2026-11-30T10:00:00Z");
    wait_for("the first backup is there", 60, || (!world.host.points("app").is_empty()).then_some(()));
    fs::remove_file(state.join("filler")).unwrap();
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.host.points("app").len(), 1);
    world.journal_is_whole();
}

#[test]
fn a_source_that_somebody_else_has_is_skipped_or_waited_for_by_the_rule() {
    for (rule, first) in [("skip", "skipped"), ("queue", "done")] {
        let world = World::new();
        let fifo = world.host.path("data/fifo");
        crate::support::run("mkfifo", &[fifo.to_str().unwrap()], world.host.root());
        world.host.configure(&format!("repository: {{ url: \"{}\" }}\ndaemon: {{ retry: 1s }}\n", world.host.url));
        let slow = format!("slow: {{ command: {{ run: [cat, \"{}\"] }} }}", fifo.display());
        world.policy("slow", &format!("policy: slow\nschedule: \"0 10 * * *\"\noverlap: {rule}\nsources:\n  {slow}\n"));
        let mut by_hand = world.host.start(world.command(&["backup", "slow"]));
        by_hand.until("the run has begun", || world.count("run_started") == 1);
        let daemon = world.daemon();
        world.set_clock("2026-11-30T10:00:00Z");
        wait_for("the daemon found it locked", 60, || {
            world.of_kind("run_ended").iter().any(|run| run["code"] == 11).then_some(())
        });
        if rule == "queue" {
            fs::write(&fifo, "for the first").unwrap();
            world.host.finish(by_hand).ends(0);
            fs::write(&fifo, "for the second").unwrap();
            assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), first);
        } else {
            assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), first);
            assert!(world.why("2026-11-30T10:00:00Z").contains("is locked by another run"));
            // Nothing has failed.
            world.run(&["status"]).says_not("FAILED");
            let status = world.run(&["metrics"]);
            status.says("bkp_runs_total{").says_not("result=\"failed\"} 1");
            fs::write(&fifo, "for the first").unwrap();
            world.host.finish(by_hand).ends(0);
        }
        world.stop(daemon);
    }
}

#[test]
fn a_prune_that_cannot_look_at_the_store_is_a_run_that_failed() {
    let world = World::new();
    let repository = format!("repository: {{ url: \"{}\" }}\n", world.host.url);
    world.host.configure(&format!("{repository}http: {{ listen: off }}\nprune: {{ schedule: \"0 10 * * *\" }}\n"));
    let daemon = world.daemon();
    fs::rename(world.host.store(), world.host.path("away")).unwrap();
    world.set_clock("2026-11-30T10:00:00Z");
    let ended = wait_for("the slot has ended", 60, || {
        world.of_kind("slot_ended").into_iter().find(|slot| slot["job"] == "prune")
    });
    assert_eq!(ended["as"], "failed", "{ended}");
    let of_run = |record: &&serde_json::Value| record["run"] == ended["runs"][0];
    let records = world.records();
    let [begun, over] = records.iter().filter(of_run).collect::<Vec<_>>()[..] else { panic!("{ended}") };
    assert_eq!(
        (&begun["kind"], &begun["job"], &begun["reason"]),
        (&"run_started".into(), &"prune".into(), &"schedule".into())
    );
    assert_eq!((&over["kind"], &over["outcome"]), (&"run_ended".into(), &"failed".into()));
    assert_eq!(over["message"], ended["why"], "{over}");
    world.stop(daemon);
}
