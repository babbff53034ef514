//! The repository: backups in a store, sealed and signed, as `docs/FORMAT.md` says.
//!
//! Start here: [`Repository`] is the opened place, [`writer::Writer`] what this host needs to write, [`write::Session`] one
//! backup, [`catalog`] the points there are, [`read::PointReader`] one point opened, [`check`] the proof that it can be read.
//! What no signed point pins is not believed; what has no point does not exist. Nothing here knows engines or policies.
//!
//! Locks: none in the store. The caller holds a local lock per source during a session; safety never depends on it.

pub mod catalog;
pub mod chain;
pub mod check;
pub mod chunker;
pub mod collect;
pub mod container;
pub mod copy;
pub mod former;
pub mod held;
pub mod index;
pub mod init;
pub mod journal;
pub mod keys;
mod latest;
pub mod listing;
pub mod locking;
pub mod names;
pub mod objects;
pub mod pinned;
pub mod point;
pub mod proof;
pub mod read;
pub mod recipients;
pub mod record;
pub mod recovery_key;
mod remembered;
pub mod retention;
pub mod sealed;
mod side_by_side;
pub mod sign;
mod sketch;
pub mod write;
pub mod writer;

use crate::error::{Failure, Kind, Result};
use crate::store::{self, Store, StoreError};
use jiff::Timestamp;
use point::Pin;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::sync::Arc;

/// `repository.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepositoryInfo {
    pub format: u32,
    pub id: String,
    pub created: Timestamp,
    /// What the endpoint was found to do when the repository was made.
    pub store: serde_json::Value,
}

#[derive(Clone)]
pub struct Repository {
    pub store: Arc<dyn Store>,
    pub info: RepositoryInfo,
    /// Bytes of memory that work with this repository may take.
    memory: u64,
}

/// What holds whatever the size of the data, unless the configuration says otherwise.
pub const DEFAULT_MEMORY: u64 = 256 << 20;
/// What one writing or reading thread holds: a pack and its frames. Measured, as is what is needed besides.
const WORKER_MEMORY: u64 = 24 << 20;
const BASE_MEMORY: u64 = 128 << 20;

impl Repository {
    pub fn new(store: Arc<dyn Store>, info: RepositoryInfo) -> Self {
        Repository { store, info, memory: DEFAULT_MEMORY }
    }

    /// The same, read through another store.
    pub fn with_store(&self, store: Arc<dyn Store>) -> Self {
        Repository { store, ..self.clone() }
    }

    pub fn with_memory(self, memory: u64) -> Self {
        Repository { memory, ..self }
    }

    /// Threads that may hold a pack at the same time: one for each processor and one that waits for the store, as far as there
    /// is memory for them.
    pub fn workers(&self) -> usize {
        let fitting = self.memory.saturating_sub(BASE_MEMORY) / WORKER_MEMORY;
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get());
        (processors + 1).min(usize::try_from(fitting).unwrap_or(usize::MAX)).max(1)
    }

    /// Opens what is there; [`Kind::NoRepository`] when there is none.
    pub fn open(store: Arc<dyn Store>) -> Result<Self> {
        let none = || {
            Failure::new(Kind::NoRepository, format!("there is no repository at {}", store.describe()))
                .hint("Make one with: bkp init --repo …  (or look at --repo, BKP_REPO and `repository.url`)")
        };
        let bytes = match store::read(&*store, &names::fixed(names::REPOSITORY)) {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound(_)) => return Err(none()),
            Err(StoreError::NoStore(why)) => return Err(none().because(why)),
            Err(e) => return Err(e.into()),
        };
        let damaged = |e: serde_json::Error| {
            Failure::failed("repository.json is damaged")
                .because(e)
                .hint("Put it back from a copy of the store; the backups themselves do not depend on it")
        };
        let version: FormatOnly = serde_json::from_slice(&bytes).map_err(damaged)?;
        point::refuse_newer(version.format, "the repository")?;
        let info = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Repository::new(store, info))
    }

    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// Reads a pinned object, whole, and compares it with its pin.
    pub fn pinned(&self, pin: &Pin) -> Result<Vec<u8>> {
        let (mut object, passed) = read::Counted::open(self, pin)?;
        let mut bytes = Vec::with_capacity(usize::try_from(pin.size).unwrap_or_default().min(LARGEST_AT_ONCE));
        object.read_to_end(&mut bytes).map_err(|e| Failure::from(StoreError::from_reader(e, &pin.key)))?;
        passed.must_be(pin).map(|()| bytes)
    }
}

/// Memory is not taken for more than this before there is data for it.
const LARGEST_AT_ONCE: usize = 64 << 20;

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}
