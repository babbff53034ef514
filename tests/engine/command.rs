//! The command engine: half a dump is an error, and a restore goes through the command that the user gave.

use crate::memory_sink::{MemorySink, dump_into, load_from};
use crate::{dump, names, new};
use bkp::engine::command::{CommandEngine, Settings};
use bkp::engine::{Confirmed, Engine, Target};
use bkp::error::Kind;
use std::path::Path;

pub fn fill(path: &Path) {
    let text: String = (0..200_000).map(|n| format!("row {n}\n")).collect();
    std::fs::write(path, text).unwrap();
}

pub fn engine(path: &Path) -> CommandEngine {
    CommandEngine::new(Settings {
        run: vec!["cat".into(), path.to_str().unwrap().into()],
        stream: "rows.txt".into(),
        terminator: Some("row 199999".into()),
        restore: None,
        limit: Settings::LIMIT,
    })
}

fn shell(script: &str) -> Settings {
    let run = vec!["sh".into(), "-c".into(), script.into()];
    Settings { run, stream: Settings::STREAM.into(), terminator: None, restore: None, limit: Settings::LIMIT }
}

#[test]
fn a_command_that_fails_late_makes_no_stream() {
    let scratch = tempfile::tempdir().unwrap();
    let broken = [
        ("head -c 50000000 /dev/zero; echo 'server has gone away' >&2; exit 2", "status 2: server has gone away"),
        ("head -c 5000000 /dev/zero; kill -KILL $$", "killed by signal 9"),
    ];
    for (script, expected) in broken {
        let mut sink = MemorySink::new();
        let failure = dump_into(&CommandEngine::new(shell(script)), &mut sink, scratch.path()).unwrap_err();
        assert!(failure.full().contains(expected), "{}", failure.full());
        assert!(sink.streams.is_empty() && sink.read_bytes >= 5_000_000);
    }
}

#[test]
fn a_dump_without_its_terminator_makes_no_stream() {
    let settings = Settings { terminator: Some("-- Dump completed".into()), ..shell("echo rows") };
    let mut sink = MemorySink::new();
    let scratch = tempfile::tempdir().unwrap();
    let failure = dump_into(&CommandEngine::new(settings), &mut sink, scratch.path()).unwrap_err();
    assert!(failure.to_string().contains("terminator"), "{failure}");
    assert!(sink.streams.is_empty());
}

#[test]
fn a_command_that_takes_too_long_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = Settings { limit: std::time::Duration::from_millis(300), ..shell("echo rows; sleep 1000") };
    let mut sink = MemorySink::new();
    let failure = dump_into(&CommandEngine::new(settings), &mut sink, scratch.path()).unwrap_err();
    assert!(failure.to_string().contains("ran longer than its limit"), "{failure}");
    assert!(sink.streams.is_empty());
}

#[test]
fn what_a_command_leaves_behind_does_not_hold_the_dump() {
    let scratch = tempfile::tempdir().unwrap();
    for script in ["echo rows; sleep 1000 &", "echo rows; setsid sleep 60 &"] {
        let mut sink = MemorySink::new();
        let failure = dump_into(&CommandEngine::new(shell(script)), &mut sink, scratch.path()).unwrap_err();
        assert!(failure.to_string().contains("a process it left behind kept its output open"), "{failure}");
        assert!(failure.next_step().unwrap().contains("/dev/null"), "{failure:?}");
        assert!(sink.streams.is_empty());
    }
}

#[test]
fn an_empty_dump_is_a_warning() {
    let scratch = tempfile::tempdir().unwrap();
    let dumped = dump_into(&CommandEngine::new(shell("true")), &mut MemorySink::new(), scratch.path()).unwrap();
    assert_eq!(dumped.warnings, ["sh … wrote nothing: this point is empty"]);
}

#[test]
fn arguments_are_told_to_nobody() {
    let engine = CommandEngine::new(shell("echo --password=hunter2; exit 1"));
    let scratch = tempfile::tempdir().unwrap();
    let failure = dump_into(&engine, &mut MemorySink::new(), scratch.path()).unwrap_err();
    assert!(!format!("{failure:?} {} {}", failure.full(), engine.location()).contains("hunter2"));
}

#[test]
fn preflight_finds_what_cannot_work() {
    let missing = Settings { run: vec!["no-such-dumper".into()], ..shell("") };
    let failure = CommandEngine::new(missing).preflight().unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.to_string().contains("no-such-dumper"), "{failure}");
    let bad = [
        Settings { run: vec![], ..shell("") },
        Settings { stream: "a/b".into(), ..shell("true") },
        Settings { stream: String::new(), ..shell("true") },
        Settings { terminator: Some(" ".into()), ..shell("true") },
        Settings { restore: Some(vec![]), ..shell("true") },
    ];
    for settings in bad {
        assert_eq!(CommandEngine::new(settings.clone()).preflight().unwrap_err().kind(), Kind::Usage, "{settings:?}");
    }
}

#[test]
fn the_restore_command_gets_the_stream() {
    let directory = tempfile::tempdir().unwrap();
    let (source, restored) = (directory.path().join("source"), directory.path().join("restored"));
    fill(&source);
    let restore = vec!["sh".into(), "-c".into(), format!("cat > {}", restored.display())];
    let run = vec!["cat".into(), source.to_str().unwrap().into()];
    let engine = CommandEngine::new(Settings { run, restore: Some(restore), ..shell("") });
    let origin = dump(&engine).unwrap();
    let loaded = load_from(&engine, &origin, &Target::Command).unwrap();
    assert_eq!(std::fs::read(&restored).unwrap(), std::fs::read(&source).unwrap());
    assert_eq!(loaded.bytes, std::fs::metadata(&source).unwrap().len());
}

#[test]
fn a_restore_command_that_fails_is_a_failed_restore() {
    let script = "head -c 100 >/dev/null; echo 'duplicate key in line 7' >&2; exit 1";
    let restore = Some(vec!["sh".into(), "-c".into(), script.into()]);
    let engine = CommandEngine::new(Settings { restore, ..shell("head -c 3000000 /dev/zero") });
    let origin = dump(&engine).unwrap();
    let failure = load_from(&engine, &origin, &Target::Command).unwrap_err();
    assert_eq!(failure.full(), "sh ended with status 1: duplicate key in line 7");
}

#[test]
fn without_a_restore_command_there_is_only_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let engine = CommandEngine::new(shell("printf 'all of it'"));
    let origin = dump(&engine).unwrap();
    let failure = load_from(&engine, &origin, &Target::Command).unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.next_step().unwrap().contains("restore: ["));
    let live = Target::Live(Confirmed::by_name("x", "x").unwrap());
    let failure = load_from(&engine, &origin, &live).unwrap_err();
    assert!(failure.kind() == Kind::Usage && failure.next_step().unwrap().contains("restore command"));
    load_from(&engine, &origin, &new(&directory.path().join("file"))).unwrap();
    assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), b"all of it");
    assert_eq!(names(directory.path()), ["file"]);
}
