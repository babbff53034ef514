//! A store that misbehaves on purpose, between the retries and a real store.
//!
//! The first `times` calls of each operation on each name get the fault, later ones work: so whoever tries often enough
//! gets through, and whoever does not, does not.

use bkp::store::{Entry, Head, Key, Purged, Retain, Retention, Store, StoreError, StoreResult, Upload};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The line breaks before the request arrives.
    Error,
    /// The request is carried out, and the answer is lost.
    AnswerLost,
    /// A body breaks in its middle.
    TornRead,
    /// A listing that is known to be incomplete.
    BrokenList,
    /// A listing that looks complete and is not. No layer below the repository can notice; it counts for itself.
    ShortList,
    /// 503: come back later.
    Unavailable,
    /// Bodies that come in drops.
    Slow,
}

pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
}

struct Plan {
    fault: Fault,
    times: u32,
    calls: Mutex<HashMap<(&'static str, String), u32>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>, fault: Fault, times: u32) -> Self {
        Faulty { inner, plan: Arc::new(Plan { fault, times, calls: Mutex::default() }) }
    }

    /// How many faults there were.
    pub fn faults(&self) -> u32 {
        self.plan.calls.lock().unwrap().values().map(|calls| (*calls).min(self.plan.times)).sum()
    }
}

impl Plan {
    /// Is it this call's turn to fail in this way?
    fn strikes(&self, operation: &'static str, name: &str) -> bool {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry((operation, name.to_owned())).or_default();
        *count += 1;
        *count <= self.times
    }

    fn call<T>(&self, operation: &'static str, name: &str, work: impl FnOnce() -> StoreResult<T>) -> StoreResult<T> {
        let fail = |text: &str| Err(StoreError::Transient(format!("{operation} {name}: {text}")));
        match self.fault {
            Fault::Error if self.strikes(operation, name) => fail("connection reset"),
            Fault::Unavailable if self.strikes(operation, name) => fail("SlowDown (status 503)"),
            Fault::AnswerLost if self.strikes(operation, name) => {
                let _ = work();
                fail("no answer in time")
            }
            _ => work(),
        }
    }
}

impl Store for Faulty {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.plan.call("put", key.as_str(), || self.inner.put(key, bytes, retain))
    }

    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.plan.call("put_new", key.as_str(), || self.inner.put_new(key, bytes, retain))
    }

    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        let inner = self.plan.call("upload", key.as_str(), || self.inner.upload(key, retain))?;
        Ok(Box::new(FaultyUpload { inner, key: key.clone(), plan: self.plan.clone() }))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        let body = self.plan.call("get", key.as_str(), || self.inner.get(key, range))?;
        Ok(match self.plan.fault {
            Fault::TornRead if self.plan.strikes("body", key.as_str()) => Box::new(Torn { body, left: 1000 }),
            Fault::Slow => Box::new(Drops { body, next: 1 }),
            _ => body,
        })
    }

    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        let mut entries = self.plan.call("list", prefix, || self.inner.list(prefix))?;
        match self.plan.fault {
            Fault::BrokenList if self.plan.strikes("page", prefix) => {
                Err(StoreError::Transient("listing: 1000 objects were told and 400 came".into()))
            }
            Fault::ShortList if self.plan.strikes("page", prefix) => {
                entries.pop();
                Ok(entries)
            }
            _ => Ok(entries),
        }
    }

    fn head(&self, key: &Key) -> StoreResult<Head> {
        self.plan.call("head", key.as_str(), || self.inner.head(key))
    }

    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.plan.call("delete", key.as_str(), || self.inner.delete(key))
    }

    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.plan.call("purge", key.as_str(), || self.inner.purge(key))
    }

    fn retention(&self) -> Option<&dyn Retention> {
        self.inner.retention()
    }
}

struct FaultyUpload {
    inner: Box<dyn Upload>,
    key: Key,
    plan: Arc<Plan>,
}

impl Upload for FaultyUpload {
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()> {
        self.plan.call("part", &format!("{} {number}", self.key), || self.inner.part(number, offset, bytes))
    }

    fn finish(&self) -> StoreResult<()> {
        self.plan.call("finish", self.key.as_str(), || self.inner.finish())
    }
}

/// Breaks once, and goes on when it is read again, as the contract says.
struct Torn {
    body: Box<dyn Read + Send>,
    left: usize,
}

impl Read for Torn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.left = usize::MAX;
            return Err(StoreError::Transient("the body broke".into()).into());
        }
        let most = self.left.min(buffer.len());
        let n = self.body.read(&mut buffer[..most])?;
        self.left -= n;
        Ok(n)
    }
}

struct Drops {
    body: Box<dyn Read + Send>,
    next: usize,
}

impl Read for Drops {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::yield_now();
        let most = self.next.min(buffer.len());
        self.next = self.next % 4093 + 7;
        self.body.read(&mut buffer[..most])
    }
}
