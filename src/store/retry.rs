//! The one loop that tries again with a store, and the one limit on requests under way.
//!
//! [`Retrying`] wraps any store. Only what [`StoreError::transient`] calls so is tried again, with exponential back-off and
//! full jitter, until the [`Budget`] is spent; then the last error comes out. A body that breaks is resumed where it broke.
//! A write whose answer was lost may have happened: `put_new` then compares what is there with what it wrote.
//! The limit is on requests, not on open readers and uploads, so holding many of those cannot lock up.

use super::outage::{Outages, Waiting, Watch};
use super::{Entry, Head, Key, Purged, Retain, Retention, Store, StoreError, StoreResult, Upload};
use crate::backoff::{chance, pause};
use crate::error::Failure;
use crate::event::Cancel;
use bytes::Bytes;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

pub use crate::backoff::Budget;

pub struct Retrying {
    core: Arc<Core>,
}

struct Core {
    store: Arc<dyn Store>,
    budget: Budget,
    limit: Limit,
    cancel: Arc<Cancel>,
    answered: AtomicBool,
    outages: Outages,
}

/// Failures in a row of one operation.
#[derive(Default)]
struct Failures {
    count: u32,
    since: Option<Instant>,
}

impl Retrying {
    pub fn new(store: Arc<dyn Store>, budget: Budget, parallel: usize) -> Self {
        Retrying::watched(store, budget, parallel, Watch::default())
    }

    /// The same; a signal ends the waiting, and outages are told.
    pub fn watched(store: Arc<dyn Store>, budget: Budget, parallel: usize, watch: Watch) -> Self {
        let limit = Limit { free: Mutex::new(parallel.max(1)), freed: Condvar::new() };
        let (cancel, outages) = (watch.cancel, Outages::new(watch.events));
        Retrying { core: Arc::new(Core { store, budget, limit, cancel, answered: AtomicBool::new(false), outages }) }
    }
}

impl Retrying {
    /// Runs something else under the same rules.
    pub(super) fn insist<T>(&self, mut operation: impl FnMut() -> StoreResult<T>) -> StoreResult<T> {
        self.core.insist(|_| operation())
    }
}

impl Core {
    /// Runs `operation` until it succeeds, fails for good, or the budget is spent. It is told how often it failed before.
    fn insist<T>(&self, mut operation: impl FnMut(u32) -> StoreResult<T>) -> StoreResult<T> {
        let mut failures = Failures::default();
        loop {
            let outcome = {
                let _permit = self.limit.take();
                operation(failures.count)
            };
            match outcome {
                Err(error) if error.transient() => self.pause(&mut failures, error)?,
                outcome => {
                    self.has_answered();
                    return outcome;
                }
            }
        }
    }

    fn has_answered(&self) {
        self.answered.store(true, Relaxed);
        self.outages.answered(&*self.store);
    }

    /// Waits before the next try, or gives the error back when there is to be none.
    fn pause(&self, failures: &mut Failures, error: StoreError) -> StoreResult<()> {
        failures.count += 1;
        let since = *failures.since.get_or_insert_with(Instant::now);
        let total = if self.answered.load(Relaxed) { self.budget.total } else { self.budget.first_contact };
        let wait = self.budget.wait(failures.count, chance());
        let spent = since.elapsed();
        if spent + wait > total {
            let tries = failures.count;
            let text = format!("{error} (given up after {tries} tries in {} s)", spent.as_secs());
            return Err(StoreError::Transient(text));
        }
        let waiting = Waiting { failures: failures.count, spent, left: total.saturating_sub(spent) };
        self.outages.waits(&*self.store, &error, &waiting);
        if pause(wait, &|| self.cancel.check().is_err()) { Ok(()) } else { Err(error) }
    }

    /// Is what is there what we wrote?
    fn same(&self, key: &Key, bytes: &Bytes) -> StoreResult<bool> {
        use sha2::{Digest, Sha256};
        let head = self.store.head(key)?;
        if head.size != bytes.len() as u64 {
            return Ok(false);
        }
        match head.sha256 {
            Some(sha256) => Ok(sha256 == <[u8; 32]>::from(Sha256::digest(bytes))),
            None => Ok(super::read(&*self.store, key)? == bytes[..]),
        }
    }
}

impl Store for Retrying {
    fn describe(&self) -> String {
        self.core.store.describe()
    }

    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.core.insist(|_| self.core.store.put(key, bytes.clone(), retain))
    }

    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.core.insist(|failures| match self.core.store.put_new(key, bytes.clone(), retain) {
            Err(StoreError::Exists(_)) if failures > 0 && self.core.same(key, &bytes)? => Ok(()),
            other => other,
        })
    }

    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        let upload = self.core.insist(|_| self.core.store.upload(key, retain))?;
        Ok(Box::new(RetryingUpload { core: self.core.clone(), upload }))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        let body = self.core.insist(|_| self.core.store.get(key, range.clone()))?;
        Ok(Box::new(Resuming { core: self.core.clone(), key: key.clone(), body, failures: Failures::default() }))
    }

    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        self.core.insist(|_| self.core.store.list(prefix))
    }

    fn head(&self, key: &Key) -> StoreResult<Head> {
        self.core.insist(|_| self.core.store.head(key))
    }

    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.core.insist(|_| self.core.store.delete(key))
    }

    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.core.insist(|_| self.core.store.purge(key))
    }

    fn purge_all(&self, keys: &[Key]) -> StoreResult<Vec<Purged>> {
        self.core.insist(|_| self.core.store.purge_all(keys))
    }

    fn retention(&self) -> Option<&dyn Retention> {
        self.core.store.retention().map(|_| self as &dyn Retention)
    }
}

impl Retention for Retrying {
    fn raise(&self, key: &Key, retain: &Retain) -> StoreResult<()> {
        let gone = || StoreError::Other(format!("{} cannot lock objects", self.describe()));
        self.core.insist(|_| self.core.store.retention().ok_or_else(gone)?.raise(key, retain))
    }
}

struct RetryingUpload {
    core: Arc<Core>,
    upload: Box<dyn Upload>,
}

impl Upload for RetryingUpload {
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()> {
        self.core.insist(|_| self.upload.part(number, offset, bytes.clone()))
    }

    fn finish(&self) -> StoreResult<()> {
        self.core.insist(|_| self.upload.finish())
    }
}

/// A body that is read on after a break. Its last error is a [`Failure`], as callers above the stores expect.
struct Resuming {
    core: Arc<Core>,
    key: Key,
    body: Box<dyn Read + Send>,
    failures: Failures,
}

impl Read for Resuming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let outcome = {
                // After a break this is a request like any other.
                let _permit = (self.failures.count > 0).then(|| self.core.limit.take());
                self.body.read(buffer)
            };
            let error = match outcome {
                Ok(n) => {
                    if self.failures.count > 0 {
                        self.core.has_answered();
                        self.failures = Failures::default();
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                Err(e) => StoreError::from_reader(e, &self.key),
            };
            let verdict = if error.transient() { self.core.pause(&mut self.failures, error) } else { Err(error) };
            verdict.map_err(|e| io::Error::from(Failure::from(e)))?;
        }
    }
}

/// A counting semaphore.
struct Limit {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Permit<'a>(&'a Limit);

impl Limit {
    fn take(&self) -> Permit<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::time::Duration;

    #[test]
    fn the_limit_holds() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let limit = Limit { free: Mutex::new(3), freed: Condvar::new() };
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _permit = limit.take();
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(limit.free.into_inner().unwrap(), 3);
    }

    #[test]
    fn a_signal_ends_the_waiting() {
        let forever = Budget { base: Duration::from_secs(3600), cap: Duration::from_secs(3600), ..Budget::default() };
        let budget = Budget { total: Duration::MAX, first_contact: Duration::MAX, ..forever };
        let watch = Watch::default();
        watch.cancel.set(Kind::Interrupted);
        let memory = Arc::new(crate::store::memory::Memory::new());
        let store = Retrying::watched(memory, budget, 1, watch);
        let outcome: StoreResult<()> = store.core.insist(|_| Err(StoreError::Transient("busy".into())));
        assert_eq!(outcome.unwrap_err().to_string(), "busy");
    }
}
