//! The volume engine through its public surface, against real trees and the real `tar`.

#![allow(clippy::unwrap_used)] // what helps a test is a test

#[path = "support/memory_sink.rs"]
mod memory_sink;
#[path = "support/trees.rs"]
mod trees;

use bkp::engine::volume::{self, Settings, Volume};
use bkp::engine::{ChunkRange, Confirmed, DumpRun, Dumped, Engine, LoadRun, Loaded, Part, Sink, Target, TreeSink};
use bkp::error::{Failure, Kind, Result};
use bkp::event::{Cancel, Context, Meter, Silent};
use memory_sink::{MemoryOrigin, MemorySink, assert_well_cut, dump_into, load_from};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use trees::{Described, Sandbox, describe, everything, settle, tool};

fn origin(sink: MemorySink, dumped: &Dumped) -> MemoryOrigin {
    assert_well_cut(sink.tree.as_ref().unwrap());
    sink.into_origin(dumped)
}

/// Dumps `path` for the first time.
fn dump(path: &Path, scratch: &Path) -> (MemoryOrigin, Dumped) {
    dump_with(Settings::of(path), scratch)
}

fn dump_with(settings: Settings, scratch: &Path) -> (MemoryOrigin, Dumped) {
    let engine = Volume::new(settings);
    let mut sink = MemorySink::new();
    let dumped = dump_into(&engine, &mut sink, scratch).unwrap();
    (origin(sink, &dumped), dumped)
}

/// Dumps again with the memory of the last dump; gives the sink with its counters.
fn dump_again(path: &Path, scratch: &Path, last: &MemoryOrigin) -> (MemorySink, Dumped) {
    remember(scratch);
    let mut sink = MemorySink::after(last);
    let dumped = dump_into(&Volume::new(Settings::of(path)), &mut sink, scratch).unwrap();
    assert_well_cut(sink.tree.as_ref().unwrap());
    (sink, dumped)
}

fn remember(scratch: &Path) {
    fs::rename(scratch.join("memory.next"), scratch.join("memory")).unwrap();
}

fn load(origin: &MemoryOrigin, to: &Path) -> Result<Loaded> {
    load_from(&Volume::new(Settings::of("/nowhere")), origin, &Target::New(to.to_owned()))
}

fn load_part(origin: &MemoryOrigin, part: &str, source: &Path, target: &Target) -> Result<Loaded> {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    Volume::new(Settings::of(source)).load(
        origin,
        target,
        &LoadRun {
            context,
            part: Part::Path(PathBuf::from(part)),
            copy: Some(&bkp::engine::Fingerprint::default()),
            on_difference: Default::default(),
            returning: None,
        },
    )
}

fn live() -> Target {
    Target::Live(Confirmed::by_name("docs", "docs").unwrap())
}

fn fingerprint(path: &Path) -> bkp::engine::Fingerprint {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    volume::fingerprint(&Settings::of(path), Context { events: &Silent, meter: &meter, cancel: &cancel }).unwrap()
}

/// Nothing that a restore uses on its way is left in `directory`.
fn assert_tidy(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().starts_with(".bkp-"), "{name:?} was left behind");
    }
}

fn paths(origin: &MemoryOrigin) -> Vec<String> {
    let lines = origin.tree.as_ref().unwrap().catalogue.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let values = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    values.filter_map(|value| value["p"].as_str().map(str::to_owned)).collect()
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, dumped) = dump(&source, sandbox.scratch());
    assert_eq!(dumped.warnings, Vec::<String>::new());
    assert_eq!(dumped.notes, ["socket is not stored: a socket"]);
    let target = sandbox.path("restored");
    let loaded = load(&origin, &target).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(describe(&target), describe(&source));
    assert_eq!(fingerprint(&target), dumped.fingerprint);
    assert_eq!(loaded.bytes, dumped.inventory["bytes"]);
    assert_tidy(sandbox.root());
}

#[test]
fn the_fingerprint_sees_every_kind_of_change() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let before = fingerprint(&source);
    assert_eq!(fingerprint(&source), before);
    let file = source.join("small");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("mode", &|| tool("chmod", &["0600"], &file)),
        ("attribute", &|| tool("setfattr", &["-n", "user.colour", "-v", "green"], &file)),
        ("time", &|| tool("touch", &["-d", "2001-01-01"], &file)),
        ("content", &|| {
            let time = fs::metadata(&file).unwrap().modified().unwrap();
            fs::write(&file, "SMALL").unwrap();
            fs::File::open(&file).unwrap().set_modified(time).unwrap();
        }),
    ];
    let mut last = before;
    for (what, change) in changes {
        change();
        let now = fingerprint(&source);
        assert_ne!(now, last, "{what}");
        last = now;
    }
}

#[test]
fn the_real_tar_extracts_an_equal_tree() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, dumped) = dump(&source, sandbox.scratch());
    let target = sandbox.path("extracted");
    fs::create_dir(&target).unwrap();
    let archive = sandbox.path("tree.tar");
    fs::write(&archive, origin.tree.unwrap().tar()).unwrap();
    let output = Command::new("tar")
        .args(["--extract", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--same-permissions"])
        .arg("--directory")
        .arg(&target)
        .arg("--file")
        .arg(&archive)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(describe(&target), describe(&source));
    assert_eq!(fingerprint(&target), dumped.fingerprint);
}

#[test]
fn sparse_files_stay_sparse_and_hard_links_stay_one_file() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    let target = sandbox.path("restored");
    load(&origin, &target).unwrap();
    for name in ["sparse-big", "sparse-small", "only-a-hole"] {
        let (one, other) = (fs::metadata(source.join(name)).unwrap(), fs::metadata(target.join(name)).unwrap());
        assert!(other.blocks() <= one.blocks() && other.blocks() * 512 < other.len() / 2, "{name}: {}", other.blocks());
    }
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    assert_eq!(inode("hard"), inode("dir/hard-too"));
    assert_eq!(fs::metadata(target.join("hard")).unwrap().nlink(), 2);
}

#[test]
fn an_unchanged_tree_is_not_read_again() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    // A time in the future is never old enough.
    tool("touch", &["-d", "2020-01-01"], &source.join("just-small"));
    settle(&source);
    let (first, dumped) = dump(&source, sandbox.scratch());
    let (sink, again) = dump_again(&source, sandbox.scratch(), &first);
    assert_eq!((sink.read_bytes, sink.reused as usize), (0, first.tree.as_ref().unwrap().chunks.len()));
    assert_eq!((&again.fingerprint, &again.inventory), (&dumped.fingerprint, &dumped.inventory));
    assert_eq!(sink.tree.as_ref().unwrap().catalogue, first.tree.as_ref().unwrap().catalogue);
    // The memory of the second run serves the third as well.
    let second = sink.into_origin(&again);
    let (sink, _) = dump_again(&source, sandbox.scratch(), &second);
    assert_eq!(sink.read_bytes, 0);
}

#[test]
fn one_changed_file_costs_one_group() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    trees::many(&source, 2000);
    settle(&source);
    let (first, dumped) = dump(&source, sandbox.scratch());
    let chunks = first.tree.as_ref().unwrap().chunks.len() as u32;
    assert!(chunks > 10);
    let changed = source.join("d007").join("f0003");
    fs::OpenOptions::new().write(true).open(&changed).unwrap().write_all_at(b"other", 0).unwrap();
    let (sink, again) = dump_again(&source, sandbox.scratch(), &first);
    assert_eq!(sink.reused, chunks - 1);
    assert_ne!(again.fingerprint, dumped.fingerprint);
    let target = sandbox.path("restored");
    load(&sink.into_origin(&again), &target).unwrap();
    assert_eq!(describe(&target), describe(&source));
}

#[test]
fn a_big_file_is_not_read_because_of_its_neighbours() {
    let sandbox = Sandbox::new();
    let source = tree_with_a_big_file(&sandbox);
    settle(&source);
    let (mut last, _) = dump(&source, sandbox.scratch());
    for name in ["b", "aa", "y"] {
        fs::write(source.join(name), name).unwrap();
        settle(&source);
        let (sink, again) = dump_again(&source, sandbox.scratch(), &last);
        assert!(sink.read_bytes < 20_000, "{name}: {}", sink.read_bytes);
        last = sink.into_origin(&again);
        let target = sandbox.path(&format!("restored-{name}"));
        load(&last, &target).unwrap();
        assert_eq!(describe(&target), describe(&source));
    }
}

#[test]
fn added_removed_and_renamed_files_are_found() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    trees::many(&source, 1000);
    settle(&source);
    let (mut last, _) = dump(&source, sandbox.scratch());
    let changes: [&dyn Fn(); 5] = [
        &|| fs::write(source.join("d003/aaa"), "new").unwrap(),
        &|| fs::remove_file(source.join("d004/f0004")).unwrap(),
        &|| fs::rename(source.join("d005"), source.join("zzz")).unwrap(),
        &|| fs::hard_link(source.join("d001/f0001"), source.join("a-link")).unwrap(),
        &|| fs::write(source.join("zzzz"), vec![7; 300_001]).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        change();
        settle(&source);
        let (sink, again) = dump_again(&source, sandbox.scratch(), &last);
        assert!(sink.reused > 0);
        last = sink.into_origin(&again);
        let target = sandbox.path(&format!("restored{number}"));
        load(&last, &target).unwrap();
        assert_eq!(describe(&target), describe(&source), "change {number}");
        assert_eq!(fingerprint(&target), again.fingerprint);
    }
}

#[test]
fn lost_chunks_are_read_again() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    settle(&source);
    let (first, dumped) = dump(&source, sandbox.scratch());
    remember(sandbox.scratch());
    let chunks = first.tree.as_ref().unwrap().chunks.len() as u32;
    for lost in 0..chunks {
        let mut sink = MemorySink::after(&first);
        sink.lose(lost);
        let again = dump_into(&Volume::new(Settings::of(&source)), &mut sink, sandbox.scratch()).unwrap();
        assert!(sink.reused < chunks * 2 && sink.read_bytes > 0, "chunk {lost}");
        assert_eq!(sink.tree.as_ref().unwrap().tar(), first.tree.as_ref().unwrap().tar());
        assert_eq!(again.fingerprint, dumped.fingerprint);
    }
}

#[test]
fn what_changed_just_before_the_last_scan_is_read_again() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    trees::many(&source, 50);
    let (first, _) = dump(&source, sandbox.scratch());
    let (sink, _) = dump_again(&source, sandbox.scratch(), &first);
    assert_eq!(sink.reused, 0);
}

#[test]
fn a_reread_reads_everything() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    settle(&source);
    let (first, _) = dump(&source, sandbox.scratch());
    remember(sandbox.scratch());
    let mut sink = MemorySink::after(&first);
    let settings = Settings { read_all: true, ..Settings::of(&source) };
    dump_into(&Volume::new(settings), &mut sink, sandbox.scratch()).unwrap();
    assert_eq!(sink.reused, 0);
}

#[test]
fn a_damaged_memory_costs_time_only() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    settle(&source);
    let (first, dumped) = dump(&source, sandbox.scratch());
    let path = sandbox.scratch().join("memory.next");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (sink, again) = dump_again(&source, sandbox.scratch(), &first);
    assert_eq!(sink.reused, 0);
    assert_eq!(again.fingerprint, dumped.fingerprint);
}

/// A sink that meddles with the source while a big file is read.
struct Meddling<'a> {
    inner: MemorySink,
    meddle: &'a mut dyn FnMut(),
}

impl Sink for Meddling<'_> {
    fn stream(&mut self, _: &str, _: &mut dyn std::io::Read) -> Result<()> {
        Err(Failure::failed("a volume has no streams"))
    }
    fn tree(&mut self) -> Result<&mut dyn TreeSink> {
        Sink::tree(&mut self.inner)?;
        Ok(self)
    }
}

impl TreeSink for Meddling<'_> {
    fn group(&mut self, bytes: &[u8]) -> Result<ChunkRange> {
        self.inner.group(bytes)
    }
    fn file(&mut self, length: u64, data: &mut dyn std::io::Read) -> Result<ChunkRange> {
        (self.meddle)();
        self.inner.file(length, data)
    }
    fn reuse(&mut self, previous: ChunkRange) -> Result<Option<ChunkRange>> {
        self.inner.reuse(previous)
    }
    fn rewind(&mut self, chunk: u32) -> Result<()> {
        self.inner.rewind(chunk)
    }
    fn catalogue(&mut self, line: &[u8]) -> Result<()> {
        self.inner.catalogue(line)
    }
}

/// Dumps a tree with one big file, `meddle` being called whenever a big file is read.
fn dump_meddled(sandbox: &Sandbox, source: &Path, meddle: &mut dyn FnMut()) -> (MemoryOrigin, Dumped) {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let scratch = sandbox.scratch().to_owned();
    let run = DumpRun { context, next_memory: scratch.join("memory.next"), scratch, memory: None, reread: false };
    let mut sink = Meddling { inner: MemorySink::new(), meddle };
    let dumped = Volume::new(Settings::of(source)).dump(&mut sink, &run).unwrap();
    (origin(sink.inner, &dumped), dumped)
}

fn tree_with_a_big_file(sandbox: &Sandbox) -> PathBuf {
    let source = sandbox.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "a").unwrap();
    fs::write(source.join("big"), vec![1; 700_000]).unwrap();
    fs::write(source.join("z"), "z").unwrap();
    source
}

#[test]
fn a_file_that_changes_once_while_it_is_read_is_read_again() {
    type Change = fn(&fs::File);
    let changes: [(Change, u64); 3] = [
        (|f| f.set_len(900_001).unwrap(), 900_001),
        (|f| f.set_len(400_000).unwrap(), 400_000),
        (|f| f.set_len(9).unwrap(), 9),
    ];
    for (change, size) in changes {
        let sandbox = Sandbox::new();
        let source = tree_with_a_big_file(&sandbox);
        let mut times = 0;
        let (origin, dumped) = dump_meddled(&sandbox, &source, &mut || {
            times += 1;
            if times == 1 {
                change(&fs::OpenOptions::new().write(true).open(source.join("big")).unwrap());
            }
        });
        assert_eq!(dumped.warnings, Vec::<String>::new());
        let target = sandbox.path("restored");
        load(&origin, &target).unwrap();
        assert_eq!(fs::metadata(target.join("big")).unwrap().len(), size);
        assert_eq!(describe(&target), describe(&source));
    }
}

#[test]
fn a_file_that_never_rests_is_stored_and_told() {
    for grows in [true, false] {
        let sandbox = Sandbox::new();
        let source = tree_with_a_big_file(&sandbox);
        let mut size = 700_000;
        let (origin, dumped) = dump_meddled(&sandbox, &source, &mut || {
            size = if grows { size + 1000 } else { size - 1000 };
            fs::OpenOptions::new().write(true).open(source.join("big")).unwrap().set_len(size).unwrap();
        });
        assert_eq!(dumped.warnings.len(), 1);
        assert!(dumped.warnings[0].starts_with("big changed while it was read"), "{:?}", dumped.warnings);
        let catalogue = String::from_utf8(origin.tree.as_ref().unwrap().catalogue.clone()).unwrap();
        assert!(catalogue.lines().any(|line| line.starts_with(r#"{"p":"big""#) && line.ends_with(r#","x":1}"#)));
        let target = sandbox.path("restored");
        load(&origin, &target).unwrap();
        assert_eq!(fs::read(target.join("z")).unwrap(), b"z");
        assert_eq!(fs::metadata(target.join("big")).unwrap().len(), if grows { 701_000 } else { 699_000 });
    }
}

#[test]
fn what_vanishes_during_the_dump_is_told_and_left_out() {
    let sandbox = Sandbox::new();
    let source = tree_with_a_big_file(&sandbox);
    let (origin, dumped) = dump_meddled(&sandbox, &source, &mut || {
        let _ = fs::remove_file(source.join("z"));
    });
    assert_eq!(dumped.warnings, ["z vanished while the volume was read; it is left out"]);
    assert_eq!(paths(&origin), ["./", "a", "big"]);
    load(&origin, &sandbox.path("restored")).unwrap();
}

#[test]
fn what_may_not_be_read_is_told_and_left_out() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    trees::many(&source, 3);
    fs::write(source.join("secret"), "x").unwrap();
    fs::create_dir(source.join("closed")).unwrap();
    fs::write(source.join("closed/inner"), "x").unwrap();
    for name in ["secret", "closed"] {
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    // Root may read everything: this test's own body runs again as somebody else.
    let warnings = trees::as_nobody(&sandbox, "what_may_not_be_read_is_told_and_left_out", || {
        let (origin, dumped) = dump(&source, sandbox.scratch());
        assert!(paths(&origin).contains(&"closed".to_owned()) && !paths(&origin).contains(&"secret".to_owned()));
        dumped.warnings
    });
    if let Some(warnings) = warnings {
        assert_eq!(
            warnings,
            [
                "permission denied: closed cannot be read and is left out",
                "permission denied: secret cannot be read and is left out"
            ]
        );
    }
}

#[test]
fn a_source_that_is_not_there_is_a_failure() {
    let sandbox = Sandbox::new();
    let engine = Volume::new(Settings::of(sandbox.path("none")));
    assert!(engine.preflight().unwrap_err().to_string().contains("none"));
    let failure = dump_into(&engine, &mut MemorySink::new(), sandbox.scratch()).unwrap_err();
    assert_eq!(failure.kind(), Kind::Failed);
    assert!(failure.full().contains("No such file"), "{}", failure.full());
    fs::write(sandbox.path("file"), "x").unwrap();
    assert!(Volume::new(Settings::of(sandbox.path("file"))).preflight().is_err());
}

#[test]
fn patterns_choose_what_belongs_to_the_volume() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    for path in
        ["a/x.tmp", "a/keep", "a/cache/one", "b/cache/two", "b/deep/er/file", "top.tmp", ".bkp-restore-0011/tree/x"]
    {
        fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
        fs::write(source.join(path), path).unwrap();
    }
    let chosen = |include: &[&str], exclude: &[&str]| {
        let texts = |patterns: &[&str]| patterns.iter().map(|p| p.to_string()).collect();
        let settings = Settings { include: texts(include), exclude: texts(exclude), ..Settings::of(&source) };
        paths(&dump_with(settings, sandbox.scratch()).0).join(" ")
    };
    assert_eq!(chosen(&[], &["*.tmp", "b/cache"]), "./ a a/cache a/cache/one a/keep b b/deep b/deep/er b/deep/er/file");
    assert_eq!(chosen(&[], &["cache/", "/a/k*", "**/er"]), "./ a a/x.tmp b b/deep top.tmp");
    assert_eq!(chosen(&["*.tmp"], &[]), "./ a a/x.tmp top.tmp");
    assert_eq!(
        chosen(&["deep", "a/*"], &["*.tmp"]),
        "./ a a/cache a/cache/one a/keep b b/deep b/deep/er b/deep/er/file"
    );
    let bad = Settings { exclude: vec!["a[".into()], ..Settings::of(&source) };
    assert_eq!(Volume::new(bad).preflight().unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_tree_deeper_than_any_path_may_be_comes_back() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).unwrap();
    trees::deep(&source, 300, &"directory-".repeat(2));
    let (origin, dumped) = dump(&source, sandbox.scratch());
    assert_eq!(dumped.warnings, Vec::<String>::new());
    assert_eq!((dumped.inventory["directories"], dumped.inventory["files"]), (301, 300));
    let target = sandbox.path("restored");
    load(&origin, &target).unwrap();
    assert_eq!(fingerprint(&target), dumped.fingerprint);
}

#[test]
fn many_small_files_come_back() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    trees::many(&source, 20_000);
    let (origin, dumped) = dump(&source, sandbox.scratch());
    assert_eq!(dumped.inventory["files"], 20_000);
    let target = sandbox.path("restored");
    assert_eq!(load(&origin, &target).unwrap().items, dumped.fingerprint.parts["tree"].count);
    assert_eq!(fingerprint(&target), dumped.fingerprint);
}

#[test]
fn an_empty_volume_is_a_volume() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir(&source).unwrap();
    let (origin, dumped) = dump(&source, sandbox.scratch());
    load(&origin, &sandbox.path("restored")).unwrap();
    assert_eq!(fingerprint(&sandbox.path("restored")), dumped.fingerprint);
}

#[test]
fn a_part_of_a_tree_becomes_the_target() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    for (number, part) in ["small", "big", "sparse-big", "dir", "link", "unicode-ä"].iter().enumerate() {
        let target = sandbox.path(&format!("restored{number}"));
        load_part(&origin, part, &source, &Target::New(target.clone())).unwrap();
        let one = |path: &Path| -> Vec<Described> { trees::describe_without_links(path) };
        assert_eq!(one(&target), one(&source.join(part)), "{part}");
    }
    // `dir/hard-too` is a link to a file outside: it came as a file.
    assert_eq!(fs::read(sandbox.path("restored3/hard-too")).unwrap(), fs::read(source.join("hard")).unwrap());
    assert_tidy(sandbox.root());
}

#[test]
fn a_part_that_is_not_there_suggests_what_is() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    let target = Target::New(sandbox.path("restored"));
    let failure = load_part(&origin, "dir/hard-to", &source, &target).unwrap_err();
    assert_eq!(failure.kind(), Kind::Usage);
    assert!(failure.next_step().unwrap().contains("dir/hard-too"), "{failure:?}");
    assert!(!sandbox.path("restored").exists());
}

#[test]
fn nothing_is_overwritten() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    let before = describe(&source);
    let failure = load(&origin, &source).unwrap_err();
    assert_eq!(failure.kind(), Kind::Refused);
    assert_eq!(describe(&source), before);
    let failure = load(&origin, &sandbox.path("no/such/parent")).unwrap_err();
    assert!(failure.next_step().unwrap().contains("mkdir -p"));
    assert_tidy(sandbox.root());
}

#[test]
fn an_unsafe_catalogue_creates_nothing() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    trees::many(&source, 3);
    let (origin, _) = dump(&source, sandbox.scratch());
    for bad in ["../escape", "/etc/escape", "d000/../../escape", ""] {
        let mut evil = origin.clone();
        let tree = evil.tree.as_mut().unwrap();
        let text = String::from_utf8(tree.catalogue.clone()).unwrap();
        tree.catalogue = text.replace(r#""p":"d000/f0000""#, &format!(r#""p":"{bad}""#)).into_bytes();
        let failure = load(&evil, &sandbox.path("restored")).unwrap_err();
        assert_eq!(failure.kind(), Kind::Verification, "{bad}");
        assert!(!sandbox.path("restored").exists() && !sandbox.path("escape").exists());
        assert_tidy(sandbox.root());
    }
}

#[test]
fn a_link_in_the_tree_leads_nowhere() {
    let sandbox = Sandbox::new();
    let (outside, source) = (sandbox.path("outside"), sandbox.path("source"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(source.join("trap")).unwrap();
    fs::write(source.join("trap/file"), "x").unwrap();
    let (mut origin, _) = dump(&source, sandbox.scratch());
    // The same tree, but what was a directory is now a link to the outside, in the archive and in the catalogue.
    let link = sandbox.path("evil");
    fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink(&outside, link.join("trap")).unwrap();
    let (evil, _) = dump(&link, sandbox.scratch());
    let lines = |origin: &MemoryOrigin| -> Vec<String> {
        String::from_utf8(origin.tree.as_ref().unwrap().catalogue.clone()).unwrap().lines().map(str::to_owned).collect()
    };
    let (good, bad) = (lines(&origin), lines(&evil));
    let length = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let stored = if value["t"] == "f" { value["s"].as_u64().unwrap_or(0) } else { 0 };
        (value["hb"].as_u64().unwrap() + stored.next_multiple_of(512)) as usize
    };
    let (good_tar, bad_tar) = (origin.tree.as_ref().unwrap().tar(), evil.tree.as_ref().unwrap().tar());
    let file = length(&good[0]) + length(&good[1]);
    let tar = [&good_tar[..length(&good[0])], &bad_tar[length(&bad[0])..], &good_tar[file..]].concat();
    let tree = origin.tree.as_mut().unwrap();
    tree.chunks = vec![tar.into()];
    tree.catalogue = format!("{}\n{}\n{}\n{{\"end\":3}}\n", good[0], bad[1], good[2]).into_bytes();
    load(&origin, &sandbox.path("restored")).unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!sandbox.path("restored").exists());
    assert_tidy(sandbox.root());
}

#[test]
fn missing_pieces_are_noticed() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    let chunks = origin.tree.as_ref().unwrap().chunks.len();
    for missing in 0..chunks {
        let mut less = origin.clone();
        let tree = less.tree.as_mut().unwrap();
        let empty: Vec<u8> = vec![0; tree.chunks[missing].len()];
        tree.chunks[missing] = empty.into();
        if tree.chunks[missing].len() < 512 || missing != 0 && missing != chunks - 1 {
            continue;
        }
        let failure = load(&less, &sandbox.path("restored")).unwrap_err();
        assert_eq!(failure.kind(), Kind::Verification, "{failure:?}");
        assert!(!sandbox.path("restored").exists());
    }
    let mut less = origin.clone();
    less.tree.as_mut().unwrap().chunks.pop();
    assert_eq!(load(&less, &sandbox.path("restored")).unwrap_err().kind(), Kind::Verification);
    assert_tidy(sandbox.root());
}

#[test]
fn the_live_source_is_replaced_as_a_whole() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    let before = describe(&source);
    fs::write(source.join("new"), "new").unwrap();
    fs::remove_file(source.join("small")).unwrap();
    load_from(&Volume::new(Settings::of(&source)), &origin, &live()).unwrap();
    assert_eq!(describe(&source), before);
    assert_tidy(sandbox.root());
}

#[test]
fn a_live_part_is_replaced_alone() {
    let sandbox = Sandbox::new();
    let source = everything(&sandbox);
    let (origin, _) = dump(&source, sandbox.scratch());
    let before = trees::describe_without_links(&source.join("dir"));
    fs::write(source.join("small"), "stays").unwrap();
    fs::write(source.join("dir/new"), "goes").unwrap();
    load_part(&origin, "dir", &source, &live()).unwrap();
    assert_eq!(trees::describe_without_links(&source.join("dir")), before);
    assert_eq!(fs::read(source.join("small")).unwrap(), b"stays");
    fs::remove_file(source.join("dir/hard-too")).unwrap();
    load_part(&origin, "dir/hard-too", &source, &live()).unwrap();
    assert!(source.join("dir/hard-too").is_file());
    assert_tidy(&source);
    assert_tidy(&source.join("dir"));
    // A link in the live source does not lead the restore out of it.
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(source.join("dir")).unwrap();
    std::os::unix::fs::symlink(&outside, source.join("dir")).unwrap();
    load_part(&origin, "dir/hard-too", &source, &live()).unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_no_backup_has_is_kept_when_the_source_is_replaced() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    fs::create_dir_all(source.join("cache")).unwrap();
    fs::write(source.join("a"), "good").unwrap();
    fs::write(source.join("cache/left out"), "precious").unwrap();
    let settings = Settings { exclude: vec!["cache".into()], ..Settings::of(&source) };
    let (origin, _) = dump_with(settings.clone(), sandbox.scratch());
    fs::write(source.join("a"), "spoilt").unwrap();
    let loaded = load_from(&Volume::new(settings), &origin, &live()).unwrap();
    assert_eq!(fs::read(source.join("a")).unwrap(), b"good");
    let kept = fs::read_dir(sandbox.root()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.to_string_lossy().contains(".bkp-old-")).unwrap();
    assert_eq!(fs::read(kept.join("tree/cache/left out")).unwrap(), b"precious");
    assert!(loaded.warnings[0].contains(&kept.display().to_string()), "{:?}", loaded.warnings);
}

#[test]
fn what_is_mounted_in_the_source_is_not_replaced() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("source");
    let inner = source.join("dir/inner");
    fs::create_dir_all(&inner).unwrap();
    let Some(_mounted) = trees::Mounted::tmpfs(&inner) else {
        assert!(!rustix::process::geteuid().is_root() || trees::mounts_are_forbidden(), "root can mount");
        return;
    };
    fs::write(inner.join("other"), "precious").unwrap();
    let (origin, _) = dump(&source, sandbox.scratch());
    let engine = Volume::new(Settings::of(&source));
    for refused in [load_from(&engine, &origin, &live()), load_part(&origin, "dir", &source, &live())] {
        assert_eq!(refused.unwrap_err().kind(), Kind::Refused);
    }
    assert_eq!(fs::read(inner.join("other")).unwrap(), b"precious");
    assert_tidy(sandbox.root());
}

#[test]
fn a_mount_point_is_refilled() {
    let sandbox = Sandbox::new();
    let mount = sandbox.path("mount");
    fs::create_dir(&mount).unwrap();
    let Some(_mounted) = trees::Mounted::tmpfs(&mount) else {
        assert!(!rustix::process::geteuid().is_root() || trees::mounts_are_forbidden(), "root can mount");
        return;
    };
    trees::many(&mount, 40);
    fs::set_permissions(&mount, fs::Permissions::from_mode(0o751)).unwrap();
    let (origin, _) = dump(&mount, sandbox.scratch());
    let before = describe(&mount);
    fs::write(mount.join("new"), "new").unwrap();
    fs::remove_dir_all(mount.join("d000")).unwrap();
    let engine = Volume::new(Settings::of(&mount));
    load_from(&engine, &origin, &live()).unwrap();
    assert_eq!(describe(&mount), before);
    assert_tidy(&mount);
    // A disk that is too small: what was there stays, and nothing is left.
    trees::Mounted::resize(&mount, "200k");
    fs::write(mount.join("mark"), "mark").unwrap();
    let failure = load_from(&engine, &origin, &live()).unwrap_err();
    assert!(failure.next_step().unwrap().contains("Free some space"), "{failure:?}");
    assert_eq!(fs::read(mount.join("mark")).unwrap(), b"mark");
    assert_tidy(&mount);
}

#[test]
fn a_point_without_a_tree_is_refused() {
    let sandbox = Sandbox::new();
    let failure = load(&MemoryOrigin::default(), &sandbox.path("restored")).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification);
    assert!(load_from(&Volume::new(Settings::of("/x")), &MemoryOrigin::default(), &Target::Command).is_err());
}
