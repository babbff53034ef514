//! A store with somebody who sees what goes through it: to hold it back, or to measure it. Everything else is as the store has it.

use super::{Entry, Head, Key, Purged, Retain, Retention, Store, StoreResult, Upload};
use bytes::Bytes;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub trait Observer: Clone + Send + Sync + 'static {
    /// Before so many bytes of a body are written.
    fn writes(&self, _bytes: usize) {}

    /// After so many bytes of a body were read, and how long that took; none of them when it was only asked for.
    fn has_read(&self, bytes: usize, took: Duration);

    /// The most that is read at once.
    fn gulp(&self) -> usize {
        usize::MAX
    }
}

#[derive(Clone)]
pub struct Observed<W> {
    store: Arc<dyn Store>,
    observer: W,
}

impl<W> Observed<W> {
    pub fn new(store: Arc<dyn Store>, observer: W) -> Self {
        Observed { store, observer }
    }
}

impl<W: Observer> Store for Observed<W> {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.observer.writes(bytes.len());
        self.store.put(key, bytes, retain)
    }

    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.observer.writes(bytes.len());
        self.store.put_new(key, bytes, retain)
    }

    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        let upload = self.store.upload(key, retain)?;
        Ok(Box::new(ObservedUpload { upload, observer: self.observer.clone() }))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        let begun = Instant::now();
        let body = self.store.get(key, range);
        self.observer.has_read(0, begun.elapsed());
        Ok(Box::new(ObservedBody { body: body?, observer: self.observer.clone() }))
    }

    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        self.store.list(prefix)
    }

    fn head(&self, key: &Key) -> StoreResult<Head> {
        self.store.head(key)
    }

    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.store.delete(key)
    }

    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.store.purge(key)
    }

    fn purge_all(&self, keys: &[Key]) -> StoreResult<Vec<Purged>> {
        self.store.purge_all(keys)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        self.store.retention()
    }
}

struct ObservedUpload<W> {
    upload: Box<dyn Upload>,
    observer: W,
}

impl<W: Observer> Upload for ObservedUpload<W> {
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()> {
        self.observer.writes(bytes.len());
        self.upload.part(number, offset, bytes)
    }

    fn finish(&self) -> StoreResult<()> {
        self.upload.finish()
    }
}

struct ObservedBody<W> {
    body: Box<dyn Read + Send>,
    observer: W,
}

impl<W: Observer> Read for ObservedBody<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.observer.gulp());
        let begun = Instant::now();
        let read = self.body.read(&mut buffer[..most]);
        self.observer.has_read(read.as_ref().copied().unwrap_or(0), begun.elapsed());
        read
    }
}
