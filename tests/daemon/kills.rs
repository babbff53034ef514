//! Killed at any moment and started again, the daemon loses no slot and runs none twice.

use crate::support::wait_for;
use crate::world::World;

/// Lets the daemon die at the n-th write of its journal, and a new one go on.
fn dies_at(point: &str, number: u32) -> bool {
    let world = World::new();
    world.daily("");
    let mut command = world.command(&["daemon"]);
    command.env("BKP_CRASH_AT", format!("{point}#{number}"));
    let mut running = world.host.start(command);
    let mut died = false;
    wait_for("the daemon has died, or the slot has ended", 60, || {
        died = running.child.try_wait().unwrap().is_some();
        if world.count("daemon_started") == 1 && world.slots("app").contains_key("2026-11-30T10:00:00Z") {
            world.set_clock("2026-11-30T10:00:10Z");
        }
        let all_is_noted = world.slots("app").get("2026-11-30T10:00:00Z").is_some_and(|ends| !ends.is_empty())
            && world.slots("app").contains_key("2026-12-01T10:00:00Z");
        (died || all_is_noted).then_some(())
    });
    if !died {
        running.child.kill().unwrap();
        return false;
    }
    world.set_clock("2026-11-30T10:00:20Z");
    let daemon = world.daemon();
    // Before its first record nothing was expected yet: the day begins with the next slot.
    let first = if world.slots("app").contains_key("2026-11-30T10:00:00Z") {
        "2026-11-30T10:00:00Z"
    } else {
        "2026-12-01T10:00:00Z"
    };
    world.set_clock(if first.starts_with("2026-11-30") { "2026-11-30T10:00:30Z" } else { "2026-12-01T10:00:00Z" });
    assert_eq!(world.ended("app", first), "done", "{point}#{number}");
    world.stop(daemon);
    let slots = world.slots("app");
    assert!(slots.values().all(|ends| ends.len() <= 1), "{point}#{number}: {slots:?}");
    assert_eq!(
        slots.values().filter(|ends| ends.is_empty()).count(),
        1,
        "{point}#{number}: the next one is open: {slots:?}"
    );
    let runs = world.good_runs();
    assert_eq!(runs.into_iter().collect::<Vec<_>>(), [(("app".to_owned(), first.to_owned()), 1)], "{point}#{number}");
    assert_eq!(world.host.points("app").len(), 1, "{point}#{number}");
    world.journal_is_whole();
    true
}

fn dies_everywhere(point: &str) {
    let number = (1..20).find(|number| !dies_at(point, *number)).expect("it writes so often");
    assert!(number > 3, "{point}: only {} writes were met", number - 1);
}

#[test]
fn at_any_write_before_it() {
    dies_everywhere("journal:before-write");
}

#[test]
fn at_any_write_in_the_middle() {
    dies_everywhere("journal:half-written");
}

#[test]
fn at_any_write_after_it() {
    dies_everywhere("journal:written");
}

/// A policy whose dump ends when something is written into the file that is returned.
pub fn slow(world: &World, schedule: &str) -> std::path::PathBuf {
    let fifo = world.host.path("data/fifo");
    crate::support::run("mkfifo", &[fifo.to_str().unwrap()], world.host.root());
    let slow = format!("slow: {{ command: {{ run: [cat, \"{}\"] }} }}", fifo.display());
    world.policy("slow", &format!("policy: slow\n{schedule}\nsources:\n  {slow}\n"));
    fifo
}

/// The daemon dies, and the run that it has begun goes on.
fn dies_while_its_run_goes_on(world: &World) {
    let mut daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    daemon.until("the run has begun", || world.count("run_started") == 1);
    daemon.child.kill().unwrap();
    world.host.finish(daemon).was_killed();
}

#[test]
fn a_run_that_goes_on_is_waited_for_by_the_next_daemon() {
    let world = World::new();
    let fifo = slow(&world, "schedule: \"0 10 * * *\"");
    dies_while_its_run_goes_on(&world);
    let daemon = world.daemon();
    assert_eq!(world.slots("slow")["2026-11-30T10:00:00Z"], Vec::<String>::new());
    std::fs::write(&fifo, "at last").unwrap();
    assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.count("run_started"), 1);
    assert_eq!(world.good_runs().values().collect::<Vec<_>>(), [&1]);
}

#[test]
fn a_run_that_goes_on_is_waited_for_also_when_the_next_slot_has_come() {
    for (overlap, second, runs) in [("skip", "skipped", 1), ("queue", "done", 2)] {
        let world = World::new();
        let fifo = slow(&world, &format!("schedule: \"0 10,11 * * *\"\noverlap: {overlap}"));
        dies_while_its_run_goes_on(&world);
        world.set_clock("2026-11-30T11:05:00Z");
        let daemon = world.daemon();
        if overlap == "skip" {
            assert_eq!(world.ended("slow", "2026-11-30T11:00:00Z"), second);
            assert!(world.why("2026-11-30T11:00:00Z").contains("slot 2026-11-30T10:00:00Z is still at work"));
        }
        assert_eq!(world.slots("slow")["2026-11-30T10:00:00Z"], Vec::<String>::new());
        std::fs::write(&fifo, "at last").unwrap();
        assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), "done");
        if overlap == "queue" {
            std::fs::write(&fifo, "for the second").unwrap();
        }
        assert_eq!(world.ended("slow", "2026-11-30T11:00:00Z"), second);
        world.stop(daemon);
        assert_eq!(world.count("run_started"), runs, "{overlap}");
        assert!(world.of_kind("run_ended").iter().all(|run| run["outcome"] == "done"), "{overlap}");
    }
}

#[test]
fn a_run_that_goes_on_is_ended_at_its_deadline_once_and_that_is_said() {
    let world = World::new();
    slow(&world, "schedule: \"0 10 * * *\"\ndeadline: 30m");
    dies_while_its_run_goes_on(&world);
    world.set_clock("2026-11-30T10:31:00Z");
    let daemon = world.daemon();
    assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), "failed");
    assert!(world.why("2026-11-30T10:00:00Z").contains("slow: it was still at work at its deadline, and was ended"));
    world.stop(daemon);
    let ended = &world.of_kind("run_ended")[0];
    // Told once, it could put things in order.
    assert_eq!((ended["outcome"].as_str(), ended["code"].as_u64()), (Some("aborted"), Some(143)));
}
