//! Passwords that the daemon rotates: when they are due, and what was cut short.

use super::postgres::{Postgres, Single};
use super::servers::Mariadb;
use super::support::host::{Host, Running};
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;

/// Shortly before three, on a Monday.
const BEFORE: &str = "2026-11-30T02:59:00Z";

fn set_clock(world: &World, to: &str) {
    let to: jiff::Timestamp = to.parse().unwrap();
    let ahead = to.duration_since(jiff::Timestamp::now()).as_secs_f64();
    fs::write(world.host.path("clock.new"), ahead.to_string()).unwrap();
    fs::rename(world.host.path("clock.new"), world.host.path("clock")).unwrap();
}

fn run(world: &World, arguments: &[&str]) -> super::support::host::Answer {
    let mut command = world.host.command(arguments);
    command.env("BKP_CLOCK", world.host.path("clock"));
    world.host.finish(world.host.start(command))
}

fn daemon(world: &World) -> Running {
    daemon_of(world, &world.host)
}

/// By the same clock.
fn daemon_of(world: &World, host: &Host) -> Running {
    let main = host.path("etc/bkp.yaml");
    let text = fs::read_to_string(&main).unwrap();
    if !text.contains("http: {") {
        fs::write(main, format!("{text}http: {{ listen: off }}\ndaemon: {{ retry: 1s }}\n")).unwrap();
    }
    let mut command = host.command(&["daemon"]);
    command.env("BKP_CLOCK", world.host.path("clock"));
    let mut running = host.start(command);
    wait_for("the daemon is ready", 60, || {
        let ended = running.child.try_wait().unwrap();
        assert!(ended.is_none(), "it has ended: {}", running.said());
        running.said().contains("ready: ").then_some(())
    });
    running
}

fn stop(world: &World, daemon: Running) {
    daemon.signal(rustix::process::Signal::TERM);
    world.host.finish(daemon).ends(0);
}

fn slots(world: &World) -> Vec<Value> {
    slots_of(&world.host)
}

fn slots_of(host: &Host) -> Vec<Value> {
    let journal = host.run(&["journal", "--json", "--last", "1000"]).ends(0).json();
    let of_rotations = |record: &&Value| record["job"] == "rotate" && !record["slot"].is_null();
    journal["records"].as_array().unwrap().iter().filter(of_rotations).cloned().collect()
}

/// How the slot ended, and why.
fn ended(world: &World, which: impl Fn(&Value) -> bool) -> (String, String) {
    let end = wait_for("the end of a slot", 120, || {
        slots(world).into_iter().find(|record| record["kind"] == "slot_ended" && which(record))
    });
    (end["as"].as_str().unwrap().to_owned(), end["why"].as_str().unwrap_or_default().to_owned())
}

/// What `bkp metrics` says of the rotation.
fn measured(world: &World, what: &str) -> f64 {
    let text = run(world, &["metrics"]).ends(0).out;
    let name = format!("bkp_rotation_{what}{{");
    let line = text.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_daemon_rotates_what_is_due_and_goes_on_with_what_was_cut_short() {
    let part = "rotations by the daemon";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let target: Arc<dyn Target> = Arc::new(server);
    let mut world = World::with(vault, target, "    schedule: \"0 3 * * *\"\n    deadline: 6h\n");
    world.open_shop();
    let first = world.old.clone();
    set_clock(&world, BEFORE);
    let at_work = daemon(&world);
    let slot = "2026-11-30T03:00:00Z";
    let expected = slots(&world);
    assert_eq!((&expected[0]["kind"], &expected[0]["slot"]), (&json!("slot_expected"), &json!(slot)));
    set_clock(&world, slot);
    assert_eq!(ended(&world, |record| record["slot"] == slot).0, "done");
    let second = world.one_password_works(&first);
    // The next one is at the last time before it is 90 days old.
    let next = |world: &World| slots(world).iter().any(|record| record["slot"] == "2027-02-28T03:00:00Z");
    wait_for("the next is expected", 60, || next(&world).then_some(()));
    let shown = run(&world, &["secrets", "--json"]).ends(0).json();
    assert!(shown["secrets"][0]["next"].as_str().unwrap().starts_with("2027-02-28T03:00"), "{shown}");
    let plan = run(&world, &["plan", "--json"]).ends(0).json();
    let of_rotations: Vec<&Value> =
        plan["upcoming"].as_array().unwrap().iter().filter(|one| one["job"] == "rotate").collect();
    assert_eq!(of_rotations[0]["slot"], "2027-02-28T03:00:00Z", "{plan}");

    // Cut short by hand: at its start, the daemon goes on.
    stop(&world, at_work);
    let mut dies = world.host.command(&["rotate", "shop-db"]);
    dies.env("BKP_CRASH_AT", "rotate:published").env("BKP_CLOCK", world.host.path("clock"));
    set_clock(&world, "2026-12-02T12:00:00Z");
    world.host.finish(world.host.start(dies)).was_killed();
    run(&world, &["status"]).says("The rotation of shop-db stopped midway");
    for what in ["open_since_timestamp_seconds", "due_timestamp_seconds", "last_success_timestamp_seconds"] {
        assert!(measured(&world, what) > 1_700_000_000.0, "{what}");
    }
    let at_work = daemon(&world);
    let (end, why) = ended(&world, |record| record["slot"].as_str().unwrap().starts_with("2026-12-02T12:0"));
    assert_eq!((end.as_str(), why.as_str()), ("done", ""));
    let third = world.one_password_works(&second);

    // Taken back: the slot failed, and says why.
    world.works_only_with("worker", &third);
    world.host.run(&["reload"]).ends(0);
    let slot = "2027-03-02T03:00:00Z";
    set_clock(&world, slot);
    let (end, why) = ended(&world, |record| record["slot"] == slot);
    assert!(end == "failed" && why.contains("the old password is in force"), "{end}: {why}");
    assert_eq!(world.published(), third);
    run(&world, &["status"]).says("The last rotation of shop-db failed");
    assert_eq!(measured(&world, "failures_in_a_row"), 1.0);
    stop(&world, at_work);
    run(&world, &["journal", "verify"]).ends(0);
}

/// Both have it in their configuration, and it is due at both in the same moment.
#[test]
fn two_daemons_rotate_a_password_once() {
    let part = "rotations by two daemons";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let target: Arc<dyn Target> = Arc::new(server);
    let mut world = World::with(vault, target, "    schedule: \"0 3 * * *\"\n    deadline: 6h\n");
    let other = world.other_host();
    world.open_shop();
    set_clock(&world, BEFORE);
    let both = [&world.host, &other].map(|host| daemon_of(&world, host));
    let slot = "2026-11-30T03:00:00Z";
    set_clock(&world, slot);
    let ends = [&world.host, &other].map(|host| {
        wait_for("the end of a slot", 120, || {
            let is_end = |record: &Value| record["kind"] == "slot_ended" && record["slot"] == slot;
            slots_of(host).into_iter().find(is_end)
        })
    });
    for (host, daemon) in [&world.host, &other].into_iter().zip(both) {
        daemon.signal(rustix::process::Signal::TERM);
        host.finish(daemon).ends(0);
    }
    let document = vault.get(&format!("kv/data/{}", world.name));
    assert_eq!(document["metadata"]["version"], 2, "it was published once: {ends:?}");
    let mut how = ends.map(|end| end["as"].as_str().unwrap().to_owned());
    how.sort();
    assert_eq!(how[0], "done", "{how:?}");
    assert_ne!(how[1], "failed");
    world.one_password_works(&world.old);
}

/// Consumers are refused as long as it is not gone on with: that waits for no window.
#[test]
fn a_gap_is_not_kept_open_until_a_window() {
    let part = "rotations with a gap by the daemon";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let times = "    schedule: \"0 3 * * *\"\n    deadline: 6h\n    window: [\"02:00-04:00\"]\n";
    let world = World::with(vault, Arc::new(Single(server)), times);
    world.has_no_clients();
    set_clock(&world, "2026-12-02T12:00:00Z");
    let mut dies = world.host.command(&["rotate", "shop-db"]);
    dies.env("BKP_CRASH_AT", "rotate:accepted").env("BKP_CLOCK", world.host.path("clock"));
    world.host.finish(world.host.start(dies)).was_killed();
    world.target.log_in(&world.old).unwrap_err();
    let at_work = daemon(&world);
    let (end, why) = ended(&world, |record| record["slot"].as_str().unwrap().starts_with("2026-12-02T12:0"));
    assert_eq!((end.as_str(), why.as_str()), ("done", ""));
    world.one_password_works(&world.old);
    stop(&world, at_work);
}

#[test]
fn rules_keep_a_rotation_from_beginning_and_say_so() {
    let part = "rules of rotations";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let mut world = World::with(vault, Arc::new(server), "    freeze: [\"2026-12-15..2027-01-07\"]\n");
    world.open_shop();
    set_clock(&world, "2026-12-20T12:00:00Z");
    run(&world, &["rotate", "shop-db"]).fails(13, "nothing is rotated on these days", "--emergency");
    assert_eq!(world.published(), world.old);
    set_clock(&world, "2027-01-08T12:00:00Z");
    // Killed before it could note its end: whoever looks next does.
    let mut dies = world.host.command(&["rotate", "shop-db"]);
    dies.env("BKP_CRASH_AT", "rotate:closed").env("BKP_CLOCK", world.host.path("clock"));
    world.host.finish(world.host.start(dies)).was_killed();
    assert_eq!(world.states().last().unwrap(), "proven");
    run(&world, &["rotate", "status"]).ends(0).says("nothing under way").says("noted afterwards");
    assert_eq!(world.states().last().unwrap(), "rotated");
    run(&world, &["rotate", "status"]).ends(0);
    assert_eq!(world.states().iter().filter(|state| *state == "rotated").count(), 1);
}
