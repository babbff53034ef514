//! Marking many objects keeps to its memory: a quarter of a million within 160 MiB. Alone in its program, because it looks at the memory of all of it.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "support/repository.rs"]
#[allow(dead_code)]
mod support;

use bkp::event::Cancel;
use bkp::repo::collect::Collector;
use bkp::repo::collect::protocol::PROTOCOL;
use bkp::repo::collect::survey::{Asked, survey};
use bkp::repo::container::encode;
use bkp::repo::index::{self, PackInfo};
use bkp::repo::names;
use bkp::repo::point::{Pin, Tree};
use bkp::repo::writer::Audience;
use bkp::store::memory::Memory;
use bkp::store::{Entry, Head, Key, Purged, Retain, Store, StoreResult, Upload};
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use support::{Fixture, at};

const OBJECTS: u64 = 250_000;
const LIMIT_MIB: u64 = 160;
/// Of each pack.
const SIZE: u64 = 32 << 20;

/// A store that lists packs which nobody has to hold.
#[derive(Default)]
struct Many {
    inner: Memory,
    writer: Mutex<String>,
}

fn pack(number: u64) -> PackInfo {
    PackInfo {
        sha256: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        size: SIZE,
        data: SIZE,
        sealed: Default::default(),
    }
}

impl Store for Many {
    fn describe(&self) -> String {
        "many".into()
    }
    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.inner.put(key, bytes, retain)
    }
    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.inner.put_new(key, bytes, retain)
    }
    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        self.inner.upload(key, retain)
    }
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        self.inner.get(key, range)
    }
    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        let mut entries = self.inner.list(prefix)?;
        let writer = self.writer.lock().unwrap().clone();
        if !writer.is_empty() && prefix == names::of_writer(&writer) {
            let modified = at("2026-01-01T00:00:00Z");
            entries.extend((0..OBJECTS).map(|number| Entry {
                key: names::pack(&writer, &pack(number).sha256),
                size: SIZE,
                modified,
            }));
        }
        Ok(entries)
    }
    fn head(&self, key: &Key) -> StoreResult<Head> {
        self.inner.head(key)
    }
    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.inner.delete(key)
    }
    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.inner.purge(key)
    }
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// A point whose tree consists of the first half of the packs.
fn point_over_half(fixture: &Fixture) {
    let point = fixture.back_up_stream("s", "2026-01-02T00:00:00Z", b"x");
    let packs: Vec<PackInfo> = (0..OBJECTS / 2).map(pack).collect();
    let object = encode::seal(&index::head(&packs, 0, 0), &fixture.writer.audience(Audience::All)).unwrap();
    let sha256 = names::sha256(&object);
    let pin = Pin { key: names::index(fixture.writer.id(), &sha256), sha256, size: object.len() as u64 };
    let store = &fixture.repository.store;
    store.put(&pin.key, Bytes::from(object), None).unwrap();
    let point =
        bkp::repo::point::Point { tree: Some(Tree { index: pin, bytes: 0, entries: 0, packs: Vec::new() }), ..point };
    let sealed = point.seal(&fixture.writer.signing, &fixture.writer.audience(Audience::All)).unwrap();
    store.put(&point.key(), Bytes::from(sealed), None).unwrap();
}

#[test]
fn many_objects_are_marked_within_the_memory() {
    let store = Arc::new(Many::default());
    let fixture = Fixture::on(store.clone());
    point_over_half(&fixture);
    *store.writer.lock().unwrap() = fixture.writer.id().to_owned();
    let (keys, trust, cancel) = (fixture.writer.keyring(), fixture.writer.trust(), Cancel::default());
    let collector = Collector {
        repository: &fixture.repository,
        whose: &fixture.writer.info,
        by: &fixture.writer,
        keys: &keys,
        trust: &trust,
        newest: Some(fixture.writer.series_memory()),
        whole: true,
        protocol: PROTOCOL,
        cancel: &cancel,
    };
    let begun = std::time::Instant::now();
    for _ in 0..2 {
        let previous = collector.previous().unwrap();
        let now = Timestamp::now();
        let known = Default::default();
        let asked = Asked { previous: previous.as_ref(), known: &known, now, accept_missing: false };
        let survey = survey(&collector, asked).unwrap();
        assert_eq!(survey.problems, []);
        assert_eq!(survey.dead.len() as u64, OBJECTS / 2);
        let (_, dead) = collector.mark(&survey, previous.as_ref(), &BTreeMap::new()).unwrap();
        assert_eq!(dead.0.len() as u64, OBJECTS / 2);
    }
    let peak = peak_mib();
    println!("{OBJECTS} objects: {peak} MiB, {:.1} s for two marks", begun.elapsed().as_secs_f64());
    assert!(peak <= LIMIT_MIB, "{peak} MiB");
}
