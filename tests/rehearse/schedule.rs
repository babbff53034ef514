//! What the daemon rehearses, and what follows from it: records, metrics, and a point that stays.

use super::seeded;
use super::support::host::{Host, database};
use super::support::wait_for;
use super::world::World;
use bkp::engine::{Settings, sqlite};
use std::fs;

const REHEARSED: &str = "objectives: { rto: 1h }\nkeep: { last: 1 }\nrehearse: { schedule: \"30 10 * * *\", level: readable, frequency: { equal: 7d } }\n";

fn world() -> World {
    let world = World::new();
    let configured = format!(
        "repository: {{ url: \"{}\" }}\nhttp: {{ listen: off }}\nrehearse: {{ identity_file: \"{}\" }}\n",
        world.host.url,
        world.host.text("recovery-key.txt")
    );
    world.host.configure(&configured);
    world.policy("app", &format!("policy: app\n{REHEARSED}sources:\n  {}\n", world.app("app")));
    world.run(&["backup", "app"]).ends(0);
    world
}

/// How a slot of rehearsals ended.
fn ended(world: &World, slot: &str) -> String {
    wait_for(&format!("the end of slot {slot}"), 60, || {
        let is_it = |record: &serde_json::Value| record["job"] == "rehearse" && record["slot"] == slot;
        let ended = world.of_kind("slot_ended").into_iter().find(is_it)?;
        Some(ended["as"].as_str().unwrap().to_owned())
    })
}

#[test]
fn the_daemon_rehearses_what_is_due_and_goes_deeper_from_time_to_time() {
    let world = world();
    world.run(&["plan"]).ends(0).says("rehearse");
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:30:00Z");
    assert_eq!(ended(&world, "2026-11-30T10:30:00Z"), "done");
    world.set_clock("2026-12-01T10:30:00Z");
    assert_eq!(ended(&world, "2026-12-01T10:30:00Z"), "done");
    world.stop(daemon);
    let reached: Vec<String> =
        world.of_kind("rehearsed").iter().map(|record| record["reached"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reached, ["equal", "readable"]);
    let run = world.of_kind("run_started").into_iter().find(|run| run["job"] == "rehearse").unwrap();
    assert_eq!((&run["policy"], &run["reason"], &run["source"]), (&"app".into(), &"schedule".into(), &"app".into()));
    let metrics = world.run(&["metrics"]).ends(0).out;
    for name in [
        "bkp_rehearsal_last_success_timestamp_seconds",
        "bkp_rehearsal_due_timestamp_seconds",
        "bkp_rehearsal_measured_rto_seconds",
        "bkp_rto_estimated_seconds",
        "bkp_rehearsal_last_status",
    ] {
        assert!(metrics.contains(&format!("{name}{{source=\"app\",policy=\"app\"}}")), "{name}: {metrics}");
    }
    assert!(metrics.contains("level=\"equal\""), "{metrics}");
    world.journal_is_whole();
}

#[test]
fn a_schedule_that_cannot_rehearse_at_all_is_told_everywhere() {
    let world = world();
    fs::rename(world.host.path("recovery-key.txt"), world.host.path("elsewhere.txt")).unwrap();
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:30:00Z");
    assert_eq!(ended(&world, "2026-11-30T10:30:00Z"), "failed");
    world.stop(daemon);
    let told = "The last scheduled rehearsal of policy app came to nothing: ";
    world.run(&["status"]).ends(4).says(told).says("-> bkp doctor; bkp rehearse app");
    world.run(&["healthcheck", "--objective"]).ends(5).says(told);
    let status: serde_json::Value = serde_json::from_str(&world.run(&["status", "--json"]).ends(4).out).unwrap();
    let named = |concern: &serde_json::Value| concern["concern"] == "rehearsals_failing" && concern["policy"] == "app";
    assert!(status["concerns"].as_array().unwrap().iter().any(named), "{status:#}");
    assert_eq!(status["ok"], false);
    fs::rename(world.host.path("elsewhere.txt"), world.host.path("recovery-key.txt")).unwrap();
    world.host.next_second();
    world.run(&["rehearse", "app"]).ends(0);
    world.run(&["status"]).says_not("came to nothing");
}

#[test]
fn the_last_point_that_passed_stays_while_later_ones_fail() {
    let host = Host::new();
    database(&host.path("data/app.db"), 10, "row");
    let source = format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"));
    let policy = format!("policy: app\nkeep: {{ last: 1 }}\nsources:\n  {source}\n");
    fs::write(host.path("etc/policies.d/app.yaml"), policy).unwrap();
    host.run(&["backup"]).ends(0);
    let first = host.points("app")[0]["id"].as_str().unwrap().to_owned();
    host.read(&["rehearse", "app"]).ends(0);
    let settings = Settings::Sqlite(sqlite::Settings::of(host.path("data/app.db")));
    seeded::point(&host, "app", &settings, |dumped| {
        dumped.fingerprint.objects.insert("trigger lost".into(), "x".into());
    });
    host.read(&["rehearse", "app"]).ends(4).says("trigger lost: missing");
    host.run(&["prune", "--dry-run"]).says("the last one that passed a rehearsal");
    host.run(&["prune", "--forget", &first]).fails(13, "the last one that passed a rehearsal", "bkp rehearse app");
    // Once the newest one passes, the rules hold again.
    host.next_second();
    host.run(&["backup"]).ends(0);
    host.read(&["rehearse", "app"]).ends(0);
    host.run(&["prune", "--dry-run"]).says_not("the last one that passed a rehearsal");
}
