//! What every engine promises (here), and what each one does with bad input and bad days (in `tests/engine/`).
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "support/memory_sink.rs"]
mod memory_sink;

#[path = "engine/command.rs"]
mod command;
#[path = "engine/sqlite.rs"]
mod sqlite;
#[path = "engine/sqlite_live.rs"]
mod sqlite_live;

use bkp::engine::{Engine, Target};
use bkp::error::{Failure, Kind, Result};
use memory_sink::{MemoryOrigin, MemorySink, NO_ROOM, dump_into, load_from};
use std::path::Path;
use std::time::{Duration, Instant};

/// Dumps everything, as a backup does.
fn dump(engine: &dyn Engine) -> Result<MemoryOrigin> {
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(engine, &mut sink, scratch.path())?;
    Ok(sink.into_origin(&dumped))
}

fn new(path: &Path) -> Target {
    Target::New(path.to_owned())
}

/// Waits until `condition` holds, at most a minute.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come true");
        std::thread::yield_now();
    }
}

/// The names in a directory, without temporary ones hidden: nothing may be left behind.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The same engine for the source at another path.
type EngineAt = Box<dyn Fn(&Path) -> Box<dyn Engine>>;

/// One engine for the contract: how to make a source at a path, and the engine for it.
struct Case {
    name: &'static str,
    fill: fn(&Path),
    engine: EngineAt,
}

fn cases() -> Vec<Case> {
    vec![
        Case { name: "sqlite", fill: sqlite::fill, engine: Box::new(|path| Box::new(sqlite::engine(path))) },
        Case { name: "command", fill: command::fill, engine: Box::new(|path| Box::new(command::engine(path))) },
    ]
}

#[test]
fn what_was_dumped_and_loaded_is_equal() {
    for Case { name, fill, engine } in cases() {
        let directory = tempfile::tempdir().unwrap();
        let (source, restored) = (directory.path().join("source"), directory.path().join("restored"));
        fill(&source);
        let engine_here = engine(&source);
        assert_eq!(engine_here.kind(), name);
        engine_here.preflight().unwrap();
        let before = jiff::Timestamp::now();
        let scratch = tempfile::tempdir().unwrap();
        let mut sink = MemorySink::new();
        let dumped = dump_into(engine_here.as_ref(), &mut sink, scratch.path()).unwrap();
        assert!(before <= dumped.consistent_at && dumped.consistent_at <= jiff::Timestamp::now(), "{name}");
        assert!(!dumped.fingerprint.parts.is_empty() && !dumped.version.is_empty() && !dumped.restore_hint.is_empty());
        assert_eq!(dumped.warnings, Vec::<String>::new(), "{name}");

        let origin = sink.into_origin(&dumped);
        let loaded = load_from(engine_here.as_ref(), &origin, &new(&restored)).unwrap();
        let stored: usize = origin.streams.values().map(Vec::len).sum();
        assert_eq!(loaded.bytes, stored as u64, "{name}");
        let again = dump(engine(&restored).as_ref()).unwrap();
        assert_eq!(again.fingerprint, dumped.fingerprint, "{name}");
        assert!(names(scratch.path()).is_empty(), "{name} leaves spool files");
    }
}

#[test]
fn a_target_that_is_there_is_never_touched() {
    for Case { name, fill, engine } in cases() {
        let directory = tempfile::tempdir().unwrap();
        let (source, taken) = (directory.path().join("source"), directory.path().join("taken"));
        fill(&source);
        std::fs::write(&taken, "mine").unwrap();
        let origin = dump(engine(&source).as_ref()).unwrap();
        let failure = load_from(engine(&source).as_ref(), &origin, &new(&taken)).unwrap_err();
        assert_eq!(failure.kind(), Kind::Refused, "{name}");
        assert!(failure.to_string().contains("taken is there already"), "{name}: {failure}");
        assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
        assert_eq!(names(directory.path()), ["source", "taken"]);
    }
}

#[test]
fn a_failure_of_the_sink_passes_through_unharmed() {
    for Case { name, fill, engine } in cases() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fill(&source);
        let scratch = tempfile::tempdir().unwrap();
        let mut sink = MemorySink { room: Some(1000), ..MemorySink::new() };
        let failure: Failure = dump_into(engine(&source).as_ref(), &mut sink, scratch.path()).unwrap_err();
        assert_eq!(failure.to_string(), NO_ROOM, "{name}");
        assert!(sink.streams.is_empty(), "{name}");
    }
}

#[test]
fn what_does_not_fit_its_fingerprint_is_not_restored() {
    for Case { name, fill, engine } in cases() {
        let directory = tempfile::tempdir().unwrap();
        let (source, restored) = (directory.path().join("source"), directory.path().join("restored"));
        fill(&source);
        let mut origin = dump(engine(&source).as_ref()).unwrap();
        for part in origin.fingerprint.parts.values_mut() {
            part.digest = part.digest.replace(|c: char| c.is_ascii_hexdigit(), "7");
        }
        let failure = load_from(engine(&source).as_ref(), &origin, &new(&restored)).unwrap_err();
        assert_eq!(failure.kind(), Kind::Verification, "{name}");
        assert_eq!(names(directory.path()), ["source"], "{name} leaves something");
    }
}

#[test]
fn a_signal_stops_a_dump_and_a_load() {
    use bkp::engine::{DumpRun, LoadRun};
    use bkp::event::{Cancel, Context, Meter, Silent};
    for Case { name, fill, engine } in cases() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fill(&source);
        let origin = dump(engine(&source).as_ref()).unwrap();
        let (meter, cancel) = (Meter::default(), Cancel::default());
        let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
        cancel.set(Kind::Terminated);
        let scratch = tempfile::tempdir().unwrap();
        let run = DumpRun {
            context,
            scratch: scratch.path().to_owned(),
            memory: None,
            next_memory: scratch.path().join("memory"),
            reread: false,
        };
        let stopped = engine(&source).dump(&mut MemorySink::new(), &run).unwrap_err();
        assert_eq!(stopped.kind(), Kind::Terminated, "{name}");
        let target = new(&directory.path().join("restored"));
        let stopped = engine(&source)
            .load(
                &origin,
                &target,
                &LoadRun {
                    context,
                    part: bkp::engine::Part::Whole,
                    copy: None,
                    on_difference: Default::default(),
                    returning: None,
                },
            )
            .unwrap_err();
        assert_eq!(stopped.kind(), Kind::Terminated, "{name}");
        assert_eq!(names(directory.path()), ["source"], "{name} leaves something");
    }
}
