//! Good days: what is due runs, once, and what is written down says so.

use crate::support::host::database;
use crate::support::wait_for;
use crate::world::World;
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

#[test]
fn a_slot_is_expected_before_it_comes_and_runs_once_when_it_does() {
    let world = World::new();
    world.daily("");
    let daemon = world.daemon();
    assert_eq!(world.slots("app")["2026-11-30T10:00:00Z"], Vec::<String>::new());
    assert_eq!(world.host.points("app").len(), 0);
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    let point = &world.run(&["points", "--all", "--json"]).ends(0).json()["points"][0];
    assert!(point["consistent_at"].as_str().unwrap().starts_with("2026-11-30T10:0"), "{point}");
    // The next one is in the journal already.
    assert_eq!(world.slots("app").keys().last().unwrap(), "2026-12-01T10:00:00Z");
    let run = &world.of_kind("run_started")[0];
    assert_eq!((&run["reason"], &run["policy"]), (&json!("schedule"), &json!("app")));
    let answer = world.stop(daemon);
    assert!(answer.err.contains("backup app: begins (schedule, policy app)"), "{answer:?}");
    assert_eq!(world.of_kind("daemon_stopped").len(), 1);
    assert_eq!(world.good_runs().values().collect::<Vec<_>>(), [&1]);
    world.journal_is_whole();
}

#[test]
fn after_a_pause_one_run_makes_up_for_what_was_missed() {
    let world = World::new();
    world.daily("");
    world.stop(world.daemon());
    world.set_clock("2026-12-02T12:00:00Z");
    let daemon = world.daemon();
    assert_eq!(world.ended("app", "2026-12-02T10:00:00Z"), "done");
    assert_eq!(world.ended("app", "2026-12-01T10:00:00Z"), "missed");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "missed");
    assert_eq!(world.of_kind("run_started")[0]["reason"], "catch_up");
    assert!(world.why("2026-12-01T10:00:00Z").contains("slot 2026-12-02T10:00:00Z makes up for it"));
    world.stop(daemon);
    // With `missed: skip` nothing does.
    world.daily("missed: skip\n");
    world.set_clock("2026-12-03T12:00:00Z");
    let daemon = world.daemon();
    assert_eq!(world.ended("app", "2026-12-03T10:00:00Z"), "missed");
    world.stop(daemon);
    assert_eq!(world.host.points("app").len(), 1);
}

#[test]
fn a_clock_that_jumps_a_day_loses_no_slot_and_runs_none_twice() {
    let world = World::new();
    world.daily("");
    let daemon = world.daemon();
    world.set_clock("2026-12-01T10:30:00Z");
    assert_eq!(world.ended("app", "2026-12-01T10:00:00Z"), "done");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "missed");
    world.set_clock("2026-11-30T09:58:00Z");
    wait_for("the jump is written down", 30, || (world.count("clock_jumped") == 2).then_some(()));
    // The day is lived through again: nothing is run twice.
    world.set_clock("2026-11-30T10:01:00Z");
    wait_for("the jump is written down", 30, || (world.count("clock_jumped") >= 3).then_some(()));
    world.set_clock("2026-12-02T10:00:00Z");
    assert_eq!(world.ended("app", "2026-12-02T10:00:00Z"), "done");
    world.stop(daemon);
    assert!(world.slots("app").values().all(|ends| ends.len() <= 1), "{:?}", world.slots("app"));
    assert!(world.good_runs().values().all(|number| *number == 1));
    let jumps: Vec<i64> = world.of_kind("clock_jumped").iter().map(|jump| jump["seconds"].as_i64().unwrap()).collect();
    assert!(jumps[0] > 86_000 && jumps[1] < -86_000, "{jumps:?}");
    world.journal_is_whole();
}

#[test]
fn a_slot_in_a_blackout_waits_for_its_end() {
    let world = World::new();
    world.daily("blackout: [\"mon 09:30-11:00\"]\n");
    let daemon = world.daemon();
    assert_eq!(world.of_kind("slot_expected")[0]["due"], "2026-11-30T11:00:00Z");
    world.set_clock("2026-11-30T10:30:00Z");
    wait_for("the next slot is expected", 30, || world.slots("app").contains_key("2026-12-01T10:00:00Z").then_some(()));
    assert_eq!(world.host.points("app").len(), 0);
    world.set_clock("2026-11-30T11:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
}

#[test]
fn in_a_blackout_nothing_begins_that_waited_for_its_turn_either() {
    let world = World::new();
    world.host.configure(&format!("repository: {{ url: \"{}\" }}\ndaemon: {{ runs: 1 }}\n", world.host.url));
    let fifo = world.host.path("data/fifo");
    crate::support::run("mkfifo", &[fifo.to_str().unwrap()], world.host.root());
    let slow = format!("slow: {{ command: {{ run: [cat, \"{}\"] }} }}", fifo.display());
    let rules = "schedule: \"0 10 * * *\"\nblackout: [\"10:30-12:00\"]";
    world.policy("app", &format!("policy: app\n{rules}\nsources:\n  {slow}\n  {}\n", world.app("second")));
    let mut daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    daemon.until("the first has begun", || world.count("run_started") == 1);
    let looked = |times: usize| {
        wait_for("the clock was looked at", 30, || (world.count("clock_jumped") >= times).then_some(()));
    };
    world.set_clock("2026-11-30T10:45:00Z");
    looked(2);
    std::fs::write(&fifo, "at last").unwrap();
    daemon.until("the first has ended", || world.count("run_ended") == 1);
    world.set_clock("2026-11-30T11:30:00Z");
    looked(3);
    assert_eq!(world.count("run_started"), 1);
    assert_eq!(world.slots("app")["2026-11-30T10:00:00Z"], Vec::<String>::new());
    world.set_clock("2026-11-30T12:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.good_runs().len(), 2);
}

#[test]
fn a_configuration_that_is_broken_does_not_hide_how_things_are() {
    let world = World::new();
    world.daily("");
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.policy("other", "policy: other\nschedle: nonsense\n");
    for command in [&["status"][..], &["points"], &["plan"], &["journal"], &["healthcheck", "--objective"]] {
        let answer = world.run(command).ends(0).says("goes by the one before").says_not("schedle");
        assert!(!answer.out.is_empty(), "{answer:?}");
    }
    assert_eq!(world.run(&["status", "--json"]).ends(0).json()["sources"][0]["source"], "app");
    // What acts does not guess, and is told of it once.
    let answer = world.run(&["backup"]).ends(2);
    assert_eq!(answer.err.matches("unknown key `schedle`").count(), 1, "{answer:?}");
    world.stop(daemon);
    std::fs::remove_dir_all(world.host.path("state/daemon/configurations")).unwrap();
    let answer = world.run(&["status"]).ends(2).says_not("what labels bring");
    assert_eq!(answer.err.matches("unknown key `schedle`").count(), 1, "{answer:?}");
}

#[test]
fn what_is_reloaded_holds_and_what_is_broken_does_not() {
    let world = World::new();
    world.daily("");
    let daemon = world.daemon();
    let answer = world.run(&["reload"]).ends(0);
    assert!(answer.out.contains("has the configuration of now"), "{answer:?}");

    // A policy that breaks: the one before stays in force, also for the runs.
    world.policy("other", "policy: other\nschedle: nonsense\n");
    world.run(&["reload"]).ends(2).says("schedle");
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the daemon has refused it", 30, || {
        world.of_kind("config_loaded").iter().any(|record| record["ok"] == false).then_some(())
    });
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");

    let other = format!("policy: other\nschedule: \"30 10 * * *\"\nsources:\n  {}\n", world.app("other"));
    world.policy("other", &other);
    world.daily("timezone: Europe/Madrid\n");
    world.run(&["reload"]).ends(0);
    assert_eq!(world.ended("app", "2026-12-01T10:00:00Z"), "skipped", "another zone");
    world.set_clock("2026-11-30T10:30:00Z");
    assert_eq!(world.ended("other", "2026-11-30T10:30:00Z"), "done");
    std::fs::remove_file(world.host.path("etc/policies.d/other.yaml")).unwrap();
    world.run(&["reload"]).ends(0);
    assert_eq!(world.ended("other", "2026-12-01T10:30:00Z"), "skipped");
    std::fs::remove_file(world.host.path("etc/policies.d/app.yaml")).unwrap();
    world.run(&["reload"]).ends(0);
    let answer = world.stop(daemon);
    assert!(answer.err.contains("the one before stays in force"), "{answer:?}");
    assert!(answer.err.contains("nothing is backed up by itself"), "{answer:?}");
}

#[test]
fn two_daemons_are_one_too_many() {
    let world = World::new();
    world.daily("");
    world.run(&["reload"]).fails(1, "no daemon runs here", "bkp daemon");
    let daemon = world.daemon();
    let pid = format!("process {}", daemon.child.id());
    world.run(&["daemon"]).fails(11, &pid, "bkp reload");
    world.run(&["plan"]).ends(0).says_not("no daemon runs here");
    world.stop(daemon);
    world.run(&["plan"]).ends(0).says("no daemon runs here");
}

#[test]
fn the_plan_names_the_next_runs_in_both_zones_with_reasons() {
    let world = World::new();
    let text = "timezone: America/Bogota\njitter: 30m\n";
    world.daily(text);
    let plan = world.run(&["plan", "--next", "2", "--json"]).ends(0).json();
    let upcoming = plan["upcoming"].as_array().unwrap();
    assert_eq!(upcoming.len(), 2);
    assert_eq!(upcoming[0]["slot"], "2026-11-30T15:00:00Z");
    assert!(upcoming[0]["due_local"].as_str().unwrap().starts_with("2026-11-30 10:"));
    world.run(&["plan"]).ends(0).says("0 10 * * * in America/Bogota").says("jitter ").says("-05:00").says("Z ");
    world.run(&["plan", "ap"]).fails(2, "did you mean `app`", "bkp config show");
}

#[test]
fn many_sources_that_are_due_at_once_are_all_done_and_one_that_is_slow_does_not_hold_them_up() {
    let world = World::new();
    world.host.configure(&format!("repository: {{ url: \"{}\" }}\ndaemon: {{ runs: 3 }}\n", world.host.url));
    let fifo = world.host.path("data/fifo");
    crate::support::run("mkfifo", &[fifo.to_str().unwrap()], world.host.root());
    let slow = format!("slow: {{ command: {{ run: [cat, \"{}\"] }} }}", fifo.display());
    world.policy("slow", &format!("policy: slow\nschedule: \"0 10 * * *\"\nsources:\n  {slow}\n"));
    let sources: Vec<String> = (0..12).map(|number| format!("  {}", world.app(&format!("app-{number:02}")))).collect();
    world.policy("many", &format!("policy: many\nschedule: \"0 10 * * *\"\nsources:\n{}\n", sources.join("\n")));
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("many", "2026-11-30T10:00:00Z"), "done");
    assert_eq!(world.slots("slow")["2026-11-30T10:00:00Z"], Vec::<String>::new());
    std::fs::write(&fifo, "at last").unwrap();
    assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.good_runs().len(), 13);
}

#[test]
fn a_stack_is_backed_up_together() {
    let world = World::new();
    database(&world.host.path("data/other.db"), 5, "row");
    let other = format!("other: {{ sqlite: {{ path: \"{}\" }} }}", world.host.text("data/other.db"));
    let text =
        format!("policy: app\nstack: app\nschedule: \"0 10 * * *\"\nsources:\n  {}\n  {other}\n", world.app("app"));
    world.policy("app", &text);
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    let runs = world.of_kind("run_started");
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0]["pid"], runs[1]["pid"], "one process makes both begin at the same moment");
}

#[test]
fn the_repository_is_checked_on_its_own_schedule() {
    let world = World::new();
    let main = format!(
        "repository: {{ url: \"{}\" }}\ntimezone: UTC\ncheck: {{ schedule: \"0 10 * * *\" }}\n",
        world.host.url
    );
    world.host.configure(&main);
    world.policy("app", &format!("policy: app\nsources:\n  {}\n", world.app("app")));
    world.run(&["backup"]).ends(0);
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    wait_for("the check is done", 60, || {
        world.of_kind("slot_ended").iter().any(|r| r["job"] == "check" && r["as"] == "done").then_some(())
    });
    world.stop(daemon);
    let status = world.run(&["status", "--json"]).ends(0).json();
    assert_eq!(status["sources"][0]["newest"]["level"], "stored");
}

#[test]
fn the_status_tells_the_last_failure_beside_the_newest_point() {
    let world = World::new();
    world.daily("");
    world.run(&["backup"]).ends(0);
    let data = world.host.path("data/app.db");
    std::fs::rename(&data, world.host.path("data/away.db")).unwrap();
    world.run(&["backup"]).ends(1);
    world.run(&["backup"]).ends(1);
    let status = world.run(&["status"]).ends(3).says("FAILED").says("The last 2 runs of app failed");
    status.says(data.to_str().unwrap()).says("-> ");
    let status = world.run(&["status", "--json"]).ends(3).json();
    assert_eq!(status["sources"][0]["last_failure"]["failures_in_a_row"], 2);
    std::fs::rename(world.host.path("data/away.db"), &data).unwrap();
    world.run(&["backup"]).ends(0);
    world.run(&["status"]).ends(0).says_not("FAILED");
}

#[test]
fn a_source_that_is_called_as_its_policy_is_backed_up_once() {
    let world = World::new();
    let text =
        format!("policy: app\nschedule: \"0 10 * * *\"\nsources:\n  {}\n  {}\n", world.app("app"), world.app("b"));
    world.policy("app", &text);
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.count("run_started"), 2);
}

#[test]
fn a_service_manager_hears_how_it_is_and_one_that_does_not_listen_holds_up_nothing() {
    let world = World::new();
    world.daily("");
    let path = world.host.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let heard = Mutex::new(String::new());
    let hears = |what: &str| {
        let mut buffer = [0; 4096];
        let mut heard = heard.lock().unwrap();
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        heard.contains(what).then_some(())
    };
    let notify = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let daemon = world.daemon_with(&notify);
    wait_for("it says that it is ready", 30, || hears("READY=1"));
    wait_for("it says what is next", 30, || hears("STATUS=0 at work, next app 2026-11-30T10:00:00Z"));
    wait_for("it feeds the watchdog", 30, || hears("WATCHDOG=1"));
    world.run(&["reload"]).ends(0);
    wait_for("it says that it reloads", 30, || hears("RELOADING=1\nMONOTONIC_USEC="));
    world.stop(daemon);
    wait_for("it says that it stops", 30, || hears("STOPPING=1"));

    // Nobody reads: the socket is full after some words.
    let daemon = world.daemon_with(&notify);
    for day in ["2026-11-30", "2026-12-01", "2026-12-02"] {
        world.set_clock(&format!("{day}T10:00:00Z"));
        assert_eq!(world.ended("app", &format!("{day}T10:00:00Z")), "done");
    }
    let feeder = UnixDatagram::unbound().unwrap();
    feeder.set_nonblocking(true).unwrap();
    wait_for("the socket is full", 60, || feeder.send_to(b"WATCHDOG=1", &path).is_err().then_some(()));
    world.set_clock("2026-12-03T10:00:00Z");
    assert_eq!(world.ended("app", "2026-12-03T10:00:00Z"), "done");
    // One of the words that wait must not keep it from ending.
    world.stop(daemon);
}

#[test]
fn every_run_of_a_slot_brings_the_copies_up_to_date() {
    let world = World::new();
    let copy = format!("copies:\n  - {{ name: second, url: \"file://{}\" }}\n", world.host.text("second"));
    let main = std::fs::read_to_string(world.host.path("etc/bkp.yaml")).unwrap();
    world.host.configure(&format!("{main}daemon: {{ runs: 1 }}\n{copy}"));
    let sources = ["app", "log", "web"].map(|name| format!("  {}\n", world.app(name))).concat();
    world.policy("app", &format!("policy: app\nschedule: \"0 10 * * *\"\nsources:\n{sources}"));
    world.run(&["copy", "--create", "second"]).ends(0);
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    let said = world.stop(daemon);
    let outcomes: Vec<_> = world.of_kind("run_ended").iter().map(|run| run["outcome"].clone()).collect();
    assert!(outcomes.iter().all(|outcome| outcome == "done"), "{outcomes:?} {said:?}");
    assert!(world.of_kind("copy_ended").iter().all(|copied| copied["ok"] == true), "{said:?}");
    let there = world.run(&["points", "--from", "second", "--all", "--json"]).ends(0).json();
    assert_eq!(there["points"].as_array().unwrap().len(), 4, "with the configuration of bkp itself: {there}");
    world.run(&["copies"]).ends(0).says("2 of 2 copies good");
}
