//! `bkp backup POLICY --if-due`, for who is called by timers: the rules of the daemon, one policy apart from the other.

use crate::bad_days::hanging;
use crate::kills::slow;
use crate::support::wait_for;
use crate::world::{World, processes};
use serde_json::json;

#[test]
fn a_timer_follows_the_same_rules() {
    let world = World::new();
    world.daily("");
    let due = ["backup", "app", "--if-due"];
    // Nothing is known yet: the slot of yesterday counts as having just come.
    world.run(&due).ends(0);
    assert_eq!(world.slots("app")["2026-11-29T10:00:00Z"], ["done"]);
    world.run(&due).ends(0).says("app is not due: next 2026-11-30 10:00:00 +00:00");
    world.set_clock("2026-11-30T10:00:00Z");
    // A failure that may pass leaves the slot open, and the next call goes on.
    let store = world.host.store();
    std::fs::rename(&store, world.host.path("away")).unwrap();
    world.run(&due).ends(10);
    std::fs::rename(world.host.path("away"), &store).unwrap();
    assert_eq!(world.slots("app")["2026-11-30T10:00:00Z"], ["failed"]);
    world.set_clock("2026-12-02T10:05:00Z");
    world.run(&due).ends(0);
    assert_eq!(world.slots("app")["2026-12-01T10:00:00Z"], ["missed"]);
    assert_eq!(world.slots("app")["2026-12-02T10:00:00Z"], ["done"]);
    assert_eq!(world.run(&["backup", "app", "--if-due", "--json"]).ends(0).json()["status"], "not_due");
    assert_eq!(world.host.points("app").len(), 2);
    let daemon = world.daemon();
    world.run(&due).fails(11, "looked after already", "either the daemon or timers");
    world.stop(daemon);
    world.run(&["backup", "--if-due"]).ends(2);
}

#[test]
fn policies_do_not_wait_for_each_other_and_nobody_takes_a_timer_for_the_daemon() {
    let world = World::new();
    let fifo = slow(&world, "schedule: \"0 10 * * *\"");
    world.daily("");
    let mut long = world.host.start(world.command(&["backup", "slow", "--if-due"]));
    long.until("the run has begun", || world.count("run_started") == 1);
    world.run(&["backup", "app", "--if-due"]).ends(0);
    assert_eq!(world.slots("app")["2026-11-29T10:00:00Z"], ["done"]);

    world
        .run(&["backup", "slow", "--if-due"])
        .ends(0)
        .says("slow is at work already")
        .says(&long.child.id().to_string());
    assert_eq!(world.run(&["backup", "slow", "--if-due", "--json"]).ends(0).json()["status"], "at_work");
    world.run(&["reload"]).fails(1, "no daemon runs here", "bkp daemon");
    world.run(&["plan"]).ends(0).says("no daemon runs here");
    world.run(&["daemon"]).fails(11, "timers look after the schedules", "either the daemon or timers");

    // What comes meanwhile goes by the rule, and is noted by who is at work.
    world.set_clock("2026-11-30T10:05:00Z");
    world.run(&["backup", "slow", "--if-due"]).ends(0).says("slow is at work already");
    std::fs::write(&fifo, "at last").unwrap();
    world.host.finish(long).ends(0);
    assert_eq!(world.slots("slow")["2026-11-29T10:00:00Z"], ["done"]);
    assert_eq!(world.slots("slow")["2026-11-30T10:00:00Z"], ["skipped"]);
    world.run(&["backup", "slow", "--if-due"]).ends(0).says("slow is not due: next 2026-12-01");
    world.journal_is_whole();
}

#[test]
fn a_dump_that_hangs_is_ended_at_its_deadline_without_a_daemon_too() {
    let world = World::new();
    let mark = hanging(&world, "deadline: 3s\n");
    world.run(&["backup", "hangs", "--if-due"]).fails(1, "still at work at its deadline", "`deadline` of the policy");
    assert_eq!(world.slots("hangs")["2026-11-29T10:00:00Z"], ["failed"]);
    assert!(world.why("2026-11-29T10:00:00Z").contains("still at work at its deadline"));
    assert_eq!(world.of_kind("run_ended")[0]["outcome"], json!("aborted"));
    wait_for("its processes are gone", 30, || processes(&mark).is_empty().then_some(()));
}

#[test]
fn a_slot_is_as_its_worst_source_whichever_came_first() {
    let world = World::new();
    let fifo = slow(&world, "");
    let sources = format!(
        "  slow: {{ command: {{ run: [cat, \"{}\"] }} }}\n  gone: {{ sqlite: {{ path: /nonexistent }} }}",
        fifo.display()
    );
    world.policy("slow", &format!("policy: both\nschedule: \"0 10 * * *\"\nsources:\n{sources}\n"));
    let mut by_hand = world.host.start(world.command(&["backup", "slow"]));
    by_hand.until("the run has begun", || world.count("run_started") == 1);
    world.run(&["backup", "both", "--if-due"]).fails_somehow();
    assert_eq!(world.slots("both")["2026-11-29T10:00:00Z"], ["failed"]);
    let why = world.why("2026-11-29T10:00:00Z");
    assert!(why.contains("gone: ") && !why.contains("slow: "), "{why}");
    std::fs::write(&fifo, "at last").unwrap();
    world.host.finish(by_hand).ends(0);
}
