//! How long what took: time is measured where bytes pass, and shared out so that the phases add up to what a clock on the wall says.
//!
//! What is read is fetched from the store and decoded. Where several threads read at once, each second of theirs counts for its
//! part of a second.

use crate::durable;
use crate::engine::{Fingerprint, Origin, TreeOrigin};
use crate::error::Result;
use crate::repo::Repository;
use crate::store::observed::{Observed, Observer};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was spent on reading so far.
#[derive(Clone, Default)]
pub struct Reading {
    /// In the store, all threads together, in nanoseconds.
    in_store: Arc<AtomicU64>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Clone, Copy, Default)]
struct Shared {
    fetch: f64,
    decode: f64,
}

impl Reading {
    /// The same repository, where what is fetched is measured.
    pub fn of(repository: &Repository) -> (Self, Repository) {
        let reading = Reading::default();
        let store = Arc::new(Observed::new(repository.store.clone(), InStore(reading.in_store.clone())));
        (reading, repository.with_store(store))
    }

    fn in_store(&self) -> f64 {
        Duration::from_nanos(self.in_store.load(Relaxed)).as_secs_f64()
    }

    /// Seconds of the wall clock that were spent in reading since `store_before`, of which `threads` shared the store.
    fn add(&self, seconds: f64, store_before: f64, threads: f64) {
        let fetch = ((self.in_store() - store_before) / threads).clamp(0.0, seconds);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.fetch += fetch;
        shared.decode += seconds - fetch;
    }

    /// Measures what `act` does as reading.
    pub fn timed<T>(&self, act: impl FnOnce() -> T) -> T {
        let (before, begun) = (self.in_store(), Instant::now());
        let result = act();
        self.add(begun.elapsed().as_secs_f64(), before, 1.0);
        result
    }

    /// `fetch` and `decode`, in seconds.
    pub fn seconds(&self) -> (f64, f64) {
        let shared = *self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        (shared.fetch, shared.decode)
    }
}

/// The phases of a rehearsal, as they stand in the journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    pub fetch: f64,
    pub decode: f64,
    pub load: f64,
    pub index: f64,
    pub verify: f64,
}

impl Phases {
    /// What a real restore would have taken.
    pub fn rto(&self) -> f64 {
        self.fetch + self.decode + self.load + self.index
    }

    /// With everything else that `total` seconds were spent on.
    pub fn named(&self, total: f64) -> BTreeMap<String, f64> {
        let overhead = (total - self.rto() - self.verify).max(0.0);
        let all = [
            ("fetch", self.fetch),
            ("decode", self.decode),
            ("load", self.load),
            ("index", self.index),
            ("verify", self.verify),
            ("overhead", overhead),
        ];
        all.into_iter().map(|(name, seconds)| (name.to_owned(), (seconds * 1000.0).round() / 1000.0)).collect()
    }
}

/// An origin, with a watch on what is read of it.
pub struct Timed<'a> {
    pub origin: &'a dyn Origin,
    pub reading: &'a Reading,
    pub workers: usize,
}

impl Origin for Timed<'_> {
    fn streams(&self) -> Vec<String> {
        self.origin.streams()
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let inner = self.reading.timed(|| self.origin.stream(name))?;
        durable::crash_point("rehearse:loading");
        Ok(Box::new(TimedRead { inner, reading: self.reading.clone() }))
    }

    fn tree(&self) -> Option<&dyn TreeOrigin> {
        self.origin.tree().map(|_| self as &dyn TreeOrigin)
    }

    fn fingerprint(&self) -> &Fingerprint {
        self.origin.fingerprint()
    }

    fn details(&self) -> &serde_json::Value {
        self.origin.details()
    }
}

impl TreeOrigin for Timed<'_> {
    fn catalogue(&self) -> Result<Box<dyn BufRead + Send + '_>> {
        let tree = self.origin.tree().expect("only a tree is asked for its catalogue");
        let inner = self.reading.timed(|| tree.catalogue())?;
        Ok(Box::new(BufReader::with_capacity(256 << 10, TimedRead { inner, reading: self.reading.clone() })))
    }

    fn chunks(&self, ranges: Option<&[Range<u64>]>, take: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync)) -> Result<()> {
        let tree = self.origin.tree().expect("only a tree is asked for its chunks");
        durable::crash_point("rehearse:loading");
        let taking = AtomicU64::new(0);
        let (before, begun) = (self.reading.in_store(), Instant::now());
        let result = tree.chunks(ranges, &|offset, bytes| {
            let begun = Instant::now();
            let taken = take(offset, bytes);
            taking.fetch_add(nanoseconds(begun), Relaxed);
            taken
        });
        let (all, threads) = (begun.elapsed().as_secs_f64(), self.workers as f64);
        let loading = Duration::from_nanos(taking.into_inner()).as_secs_f64() / threads;
        self.reading.add((all - loading).max(0.0), before, threads);
        result
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

struct TimedRead<R> {
    inner: R,
    reading: Reading,
}

impl<R: Read> Read for TimedRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = &mut self.inner;
        self.reading.timed(|| inner.read(buffer))
    }
}

/// How long reading from a store took.
#[derive(Clone)]
struct InStore(Arc<AtomicU64>);

impl Observer for InStore {
    fn has_read(&self, _: usize, took: Duration) {
        self.0.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up() {
        let reading = Reading::default();
        reading.in_store.store(4_000_000_000, Relaxed);
        reading.add(3.0, 0.0, 2.0);
        assert_eq!(reading.seconds(), (2.0, 1.0));
        // A store can take no longer than the reading that it was part of.
        reading.add(1.0, 0.0, 2.0);
        assert_eq!(reading.seconds(), (3.0, 1.0));
        let phases = Phases { fetch: 3.0, decode: 1.0, load: 5.0, index: 1.0, verify: 2.0 };
        let named = phases.named(12.5);
        assert_eq!((phases.rto(), named["overhead"]), (10.0, 0.5));
        assert!((named.values().sum::<f64>() - 12.5).abs() < 0.001);
    }
}
