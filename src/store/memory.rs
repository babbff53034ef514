//! A store in memory, for tests of everything above. It keeps the whole contract and forgets all when it is dropped.
//!
//! It cannot lock objects.

use super::body::clip;
use super::{Entry, Head, Key, Purged, Retain, Store, StoreError, StoreResult, Upload};
use crate::clock;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Objects = BTreeMap<Key, (Bytes, Timestamp)>;

/// Clones share their objects.
#[derive(Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<Objects>>,
}

impl Memory {
    pub fn new() -> Self {
        Memory::default()
    }

    /// A map is never left half-changed, so a panic elsewhere has not spoilt it.
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_lock(retain: Option<&Retain>) -> StoreResult<()> {
    match retain {
        None => Ok(()),
        Some(_) => Err(StoreError::Other("memory cannot lock objects".into())),
    }
}

impl Store for Memory {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        without_lock(retain)?;
        self.objects().insert(key.clone(), (bytes, clock::now()));
        Ok(())
    }

    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        without_lock(retain)?;
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Err(StoreError::Exists(key.clone()));
        }
        objects.insert(key.clone(), (bytes, clock::now()));
        Ok(())
    }

    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        without_lock(retain)?;
        Ok(Box::new(MemoryUpload { memory: self.clone(), key: key.clone(), parts: Mutex::default() }))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        let objects = self.objects();
        let (bytes, _) = objects.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let (start, length) = clip(range.as_ref(), bytes.len() as u64);
        Ok(Box::new(Cursor::new(bytes.slice(start as usize..(start + length) as usize))))
    }

    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        let entry = |(key, (bytes, modified)): (&Key, &(Bytes, Timestamp))| Entry {
            key: key.clone(),
            size: bytes.len() as u64,
            modified: *modified,
        };
        Ok(self.objects().iter().filter(|(key, _)| key.as_str().starts_with(prefix)).map(entry).collect())
    }

    fn head(&self, key: &Key) -> StoreResult<Head> {
        let objects = self.objects();
        let (bytes, modified) = objects.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let sha256 = Some(Sha256::digest(bytes).into());
        Ok(Head { size: bytes.len() as u64, modified: *modified, sha256, retain: None })
    }

    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.delete(key).map(|()| Purged::Gone)
    }
}

struct MemoryUpload {
    memory: Memory,
    key: Key,
    parts: Mutex<BTreeMap<u32, (u64, Bytes)>>,
}

impl Upload for MemoryUpload {
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, (offset, bytes));
        Ok(())
    }

    fn finish(&self) -> StoreResult<()> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        super::check_parts(&self.key, parts.iter().map(|(number, (offset, b))| (*number, *offset, b.len() as u64)))?;
        let mut whole = BytesMut::new();
        for (_, part) in parts.values() {
            whole.extend_from_slice(part);
        }
        self.memory.put(&self.key, whole.freeze(), None)
    }
}
