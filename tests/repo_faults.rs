//! A backup whose store fails at any one of its operations: before, or after it took effect, once or for good.
//!
//! Whatever happens, what is committed stays readable, nothing half-made is visible, and the next backup succeeds.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in #[test] functions only

#[path = "support/repository.rs"]
#[allow(dead_code)]
mod support;

use bkp::error::Result;
use bkp::repo::proof::Level;
use bkp::repo::write::{Options, Session};
use bkp::repo::{Repository, point::Point};
use bkp::store::memory::Memory;
use bkp::store::{Entry, Head, Key, Purged, Retain, Store, StoreError, StoreResult, Upload};
use bytes::Bytes;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use support::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The operation does nothing and fails.
    Before,
    /// The operation takes effect, and its answer is lost.
    After,
    /// From here on, nothing works any more.
    Gone,
}

/// Fails at the operation with number `at`.
struct FailsAt {
    inner: Arc<dyn Store>,
    at: u64,
    fault: Fault,
    operations: AtomicU64,
}

impl FailsAt {
    fn guard<T>(&self, operation: impl FnOnce() -> StoreResult<T>) -> StoreResult<T> {
        let number = self.operations.fetch_add(1, SeqCst);
        let broken = || StoreError::Other("the store went away".into());
        match self.fault {
            Fault::Gone if number >= self.at => Err(broken()),
            Fault::Before if number == self.at => Err(broken()),
            Fault::After if number == self.at => operation().and(Err(broken())),
            _ => operation(),
        }
    }
}

impl Store for FailsAt {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.guard(|| self.inner.put(key, bytes, retain))
    }
    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.guard(|| self.inner.put_new(key, bytes, retain))
    }
    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        self.guard(|| self.inner.upload(key, retain))
    }
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        self.guard(|| self.inner.get(key, range))
    }
    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        self.guard(|| self.inner.list(prefix))
    }
    fn head(&self, key: &Key) -> StoreResult<Head> {
        self.guard(|| self.inner.head(key))
    }
    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.guard(|| self.inner.delete(key))
    }
    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.guard(|| self.inner.purge(key))
    }
}

fn pieces(generation: u64) -> Vec<Vec<u8>> {
    vec![noise(generation, 5000), noise(1, 700_000), noise(100 + generation, 300_000)]
}

/// A backup with a stream and a tree, against a store that may fail; the session is ended as a job would end it.
fn attempt(fixture: &Fixture, store: Arc<dyn Store>, generation: u64) -> Result<Point> {
    let repository = Repository::new(store, fixture.repository.info.clone());
    let mut session = Session::begin(
        &repository,
        &fixture.writer,
        "s",
        Options::default(),
        &fixture.cancel,
        at("2026-03-02T00:00:00Z"),
    )?;
    let dumped = session
        .stream("dump", &mut &noise(generation, 10_000)[..])
        .and_then(|_| write_tree(&mut session, &pieces(generation)));
    match dumped {
        Ok(()) => session.commit(draft("2026-03-02T00:00:00Z")),
        Err(failure) => {
            let _ = session.abandon();
            Err(failure)
        }
    }
}

fn holds(fixture: &Fixture, generations: &[u64], context: &str) {
    let catalog = fixture.catalog();
    assert!(catalog.broken.is_empty(), "{context}: {:?}", catalog.broken);
    let report = fixture.check(Some(Level::Readable));
    assert_eq!(report.problems, [], "{context}");
    for point in &catalog.points {
        let data = fixture.read_stream(point).unwrap();
        let generation = *generations
            .iter()
            .find(|g| data == noise(**g, 10_000))
            .unwrap_or_else(|| panic!("{context}: unknown data"));
        assert!(fixture.read_tar(point) == pieces(generation).concat(), "{context}");
    }
}

#[test]
fn a_store_that_fails_at_any_operation_leaves_whole_points_only() {
    for fault in [Fault::Before, Fault::After, Fault::Gone] {
        let mut number = 0;
        loop {
            let context = format!("{fault:?} at operation {number}");
            let memory: Arc<dyn Store> = Arc::new(Memory::new());
            let fixture = Fixture::on(memory.clone());
            attempt(&fixture, memory.clone(), 1).unwrap();
            let failing = Arc::new(FailsAt { inner: memory.clone(), at: number, fault, operations: AtomicU64::new(0) });
            let result = attempt(&fixture, failing.clone(), 2);
            holds(&fixture, &[1, 2], &context);
            let visible = fixture.catalog().points.len();
            // The last question is asked when the point is there, and without an answer the backup says so.
            let told = result.as_ref().is_err_and(|failure| failure.to_string().contains("the point is there"));
            assert!(
                if result.is_ok() || told { visible == 2 } else { visible == 1 || fault == Fault::After },
                "{context}: {visible} points, {result:?}"
            );
            attempt(&fixture, memory, 3).unwrap_or_else(|e| panic!("{context}: the next backup: {}", e.full()));
            holds(&fixture, &[1, 2, 3], &context);
            if failing.operations.load(SeqCst) <= number {
                break;
            }
            number += 1;
        }
        assert!(number > 10, "{fault:?}: the backup had {number} operations");
    }
}

#[test]
fn what_was_stored_before_a_pack_failed_is_not_stored_again() {
    let memory: Arc<dyn Store> = Arc::new(Memory::new());
    let fixture = Fixture::on(memory.clone());
    let pieces: Vec<_> = (0..8).map(|seed| noise(seed, 8 << 20)).collect();
    // Numbers of operations vary with the threads; what matters is that packs are stored before it.
    let store = Arc::new(FailsAtPack { inner: memory.clone(), at: 3, packs: AtomicU64::new(0) });
    let broken = Repository::new(store, fixture.repository.info.clone());
    let now = at("2026-01-01T00:00:00Z");
    let mut session =
        Session::begin(&broken, &fixture.writer, "tree", Options::default(), &fixture.cancel, now).unwrap();
    let written = write_tree(&mut session, &pieces).and_then(|()| session.tree().group(b"the end").map(drop));
    let stored_before = fixture.repository.store.list(&packs(&fixture)).unwrap().len();
    assert!(session.abandon().is_err() || written.is_err());
    let stored = fixture.repository.store.list(&packs(&fixture)).unwrap();
    assert!(stored.len() >= 3 && stored.len() >= stored_before);

    let point = fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &pieces).unwrap();
    let bytes: u64 = stored.iter().map(|entry| entry.size).sum();
    let all = pieces.iter().map(|p| p.len() as u64).sum::<u64>();
    // The chunk that was at hand when it failed may have been cut short, and is at most so large.
    let again = 4 << 20;
    assert!(point.added + bytes < all + again + (1 << 20), "{} of {all} were stored, {} again", bytes, point.added);
    assert!(fixture.read_tar(&point) == pieces.concat());
}

fn packs(fixture: &Fixture) -> String {
    format!("w/{}/p/", fixture.writer.id())
}

/// Fails to store one pack.
struct FailsAtPack {
    inner: Arc<dyn Store>,
    at: u64,
    packs: AtomicU64,
}

impl Store for FailsAtPack {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.inner.put(key, bytes, retain)
    }
    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        if key.as_str().contains("/p/") && self.packs.fetch_add(1, SeqCst) == self.at {
            return Err(StoreError::Other("no space left".into()));
        }
        self.inner.put_new(key, bytes, retain)
    }
    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        self.inner.upload(key, retain)
    }
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        self.inner.get(key, range)
    }
    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        self.inner.list(prefix)
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
