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

#[test]
fn a_run_that_goes_on_is_waited_for_by_the_next_daemon() {
    let world = World::new();
    let fifo = world.host.path("data/fifo");
    crate::support::run("mkfifo", &[fifo.to_str().unwrap()], world.host.root());
    let slow = format!("slow: {{ command: {{ run: [cat, \"{}\"] }} }}", fifo.display());
    world.policy("slow", &format!("policy: slow\nschedule: \"0 10 * * *\"\nsources:\n  {slow}\n"));
    let mut daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    daemon.until("the run has begun", || world.count("run_started") == 1);
    daemon.child.kill().unwrap();
    world.host.finish(daemon).was_killed();

    let daemon = world.daemon();
    assert_eq!(world.slots("slow")["2026-11-30T10:00:00Z"], Vec::<String>::new());
    std::fs::write(&fifo, "at last").unwrap();
    assert_eq!(world.ended("slow", "2026-11-30T10:00:00Z"), "done");
    world.stop(daemon);
    assert_eq!(world.count("run_started"), 1);
    assert_eq!(world.good_runs().values().collect::<Vec<_>>(), [&1]);
}
