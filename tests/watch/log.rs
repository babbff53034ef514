//! The log of the daemon: each line stands alone, and says what the journal says.

use super::world::World;
use serde_json::Value;
use std::fs;

fn configure(world: &World, more: &str) {
    world.host.configure(&format!("repository: {{ url: \"{}\" }}\nhttp: {{ listen: off }}\n{more}", world.host.url));
}

/// Of a daemon that ran one slot of each kind: one that went well, and one that did not.
fn log(world: &World) -> String {
    world.daily("");
    let daemon = world.daemon();
    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    fs::rename(world.host.path("data/app.db"), world.host.path("data/away.db")).unwrap();
    world.set_clock("2026-12-01T10:00:00Z");
    assert_eq!(world.ended("app", "2026-12-01T10:00:00Z"), "failed");
    world.stop(daemon).err
}

#[test]
fn where_nobody_looks_it_is_json_with_stable_events() {
    let world = World::new();
    configure(&world, "");
    let log = log(&world);
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    let of = |event: &str| lines.iter().filter(move |line| line["event"] == event).collect::<Vec<_>>();
    for line in &lines {
        for key in ["at", "level", "event", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    assert_eq!(of("daemon_started").len(), 1);
    assert_eq!(of("daemon_stopped").len(), 1);
    let ended = of("run_ended");
    assert_eq!((&ended[0]["outcome"], &ended[0]["level"]), (&"done".into(), &"info".into()));
    let failed = ended.last().unwrap();
    for (key, value) in
        [("outcome", "failed"), ("level", "error"), ("job", "backup"), ("source", "app"), ("policy", "app")]
    {
        assert_eq!(failed[key], value, "{key} in {failed}");
    }
    // Each record of the journal has its line, with its number.
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    let records: Vec<u64> = world.records().iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    let since = records.iter().position(|seq| *seq == numbers[0]).unwrap();
    assert_eq!(numbers, records[since..]);
}

#[test]
fn text_is_for_people() {
    let world = World::new();
    configure(&world, "log: text\n");
    let log = log(&world);
    assert!(log.contains("backup app: done: "), "{log}");
    assert!(log.contains("ERROR backup app: FAILED: "), "{log}");
    assert!(log.lines().all(|line| line.starts_with("2026-")), "{log}");
    assert!(!log.contains("expected at"), "what is only for machines: {log}");
}
