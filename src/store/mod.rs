//! Objects in a place that keeps them: a directory, a bucket, or memory (for tests).
//!
//! [`Store`] is a small contract that every kind keeps (`tests/store.rs` holds them to it). It blocks; callers that want
//! overlap use threads. Retries and limits wrap the contract once (`retry.rs`); nothing above this layer sleeps.
//! A store knows nothing of what it keeps: no encryption, no meaning of names.

use bytes::Bytes;
use jiff::Timestamp;
use std::fmt;
use std::io::Read;
use std::ops::Range;

pub mod bandwidth;
mod body;
pub mod directory;
pub mod memory;
pub mod observed;
mod outage;
pub mod probe;
pub mod retry;
pub mod s3;
mod settings;
pub mod tamper;

pub use outage::Watch;
pub use settings::{Addressing, Location, Settings, create, open, open_bare, open_watched};

/// Name of an object: segments of `A-Z a-z 0-9 . _ = -`, each of at most 255 bytes (the limit of file systems), none of
/// them beginning with `.`, joined by `/`; at most 900 bytes. Where `a/b` is an object `a` cannot be one: a directory is no file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        let good = |segment: &str| {
            !segment.is_empty()
                && segment.len() <= 255
                && !segment.starts_with('.')
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b))
        };
        if name.len() <= 900 && name.split('/').all(good) { Ok(Key(name)) } else { Err(StoreError::BadName(name)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `/`.
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for Key {
    type Error = StoreError;

    fn try_from(name: String) -> Result<Self, StoreError> {
        Key::new(name)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0
    }
}

/// What callers branch on. The texts name the object and the store, never a credential.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} is not in the store")]
    NotFound(Key),
    #[error("{0} is in the store already")]
    Exists(Key),
    #[error("`{0}` is not a name of an object")]
    BadName(String),
    /// The store says no, and will say no again: a wrong key, a missing permission, a locked object.
    #[error("the store refuses: {0}")]
    Denied(String),
    /// There is no such bucket or directory.
    #[error("{0}")]
    NoStore(String),
    /// No space left where the store is.
    #[error("the store is full: {0}")]
    Full(String),
    /// Worth another try: time-outs, 5xx, broken connections.
    #[error("{0}")]
    Transient(String),
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    pub fn transient(&self) -> bool {
        matches!(self, StoreError::Transient(_))
    }
}

pub type StoreResult<T> = Result<T, StoreError>;

/// A store's error can travel through a reader; [`StoreError::from_reader`] takes it out again.
impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        std::io::Error::other(error)
    }
}

impl StoreError {
    /// What a reader of an object failed with. An error of the system is final: only stores know what may be tried again.
    pub fn from_reader(error: std::io::Error, key: &Key) -> StoreError {
        use crate::error::{Failure, Kind};
        let Some(inner) = error.get_ref() else { return StoreError::Other(format!("reading {key}: {error}")) };
        if inner.is::<StoreError>() {
            let inner = error.into_inner().expect("an inner error was just seen");
            return *inner.downcast::<StoreError>().expect("its type was just checked");
        }
        match inner.downcast_ref::<Failure>() {
            Some(failure) if failure.kind() == Kind::TryLater => StoreError::Transient(failure.full()),
            Some(failure) if failure.kind() == Kind::Key => StoreError::Denied(failure.full()),
            Some(failure) => StoreError::Other(failure.full()),
            None => StoreError::Other(format!("reading {key}: {error}")),
        }
    }
}

impl From<StoreError> for crate::error::Failure {
    fn from(error: StoreError) -> Self {
        use crate::error::{Failure, Kind};
        match &error {
            StoreError::Denied(_) => Failure::new(Kind::Key, error.to_string())
                .hint("Check the credentials of the store and what they allow: bkp doctor"),
            StoreError::Transient(_) => Failure::new(Kind::TryLater, error.to_string())
                .hint("The store did not answer in time; run the command again later"),
            StoreError::NoStore(_) => Failure::new(Kind::NoRepository, error.to_string())
                .hint("Check that it is mounted, and that --repo, BKP_REPO or `repository.url` names the right place"),
            StoreError::Full(_) => Failure::failed(error.to_string())
                .hint("Free some space there and run the command again; nothing half-made was kept"),
            _ => Failure::failed(error.to_string()),
        }
    }
}

/// A listed object. `modified` is the store's clock, not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub size: u64,
    pub modified: Timestamp,
}

/// What the store says of one object. `sha256` only where the store kept one of the whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub modified: Timestamp,
    pub sha256: Option<[u8; 32]>,
    pub retain: Option<Retain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    Governance,
    Compliance,
}

/// Object lock: the object cannot be deleted before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retain {
    pub mode: LockMode,
    pub until: Timestamp,
}

/// What became of an object that was to be gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    Gone,
    /// Some version of it is locked. It may be deleted when the lock ends.
    Locked,
}

/// S3 deletes so many with one request.
pub const TOGETHER: usize = 1000;

/// The contract.
pub trait Store: Send + Sync {
    /// Where this is, for messages: `file:///srv/backup`, `s3://bucket/prefix`. Without credentials.
    fn describe(&self) -> String;

    /// Writes an object whole or not at all, over what was there. After `Ok` it survives a crash of the store.
    /// `retain` is an error where the store cannot lock: a promise is not dropped in silence.
    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()>;

    /// The same, but [`StoreError::Exists`] when there is one already. Where the endpoint does not honour the condition
    /// this is a `head` and a `put`: a net, not a lock; nothing may depend on its atomicity.
    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()>;

    /// Begins an object whose size is not known yet. Nothing is visible before [`Upload::finish`].
    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>>;

    /// Reads an object, or a part of it. A range beyond the end gives what is there. A torn transfer is an error of the
    /// reader, never an early end. After a transient error the reader may be read again: it goes on where it broke, in the
    /// same object, or fails for good when that has been replaced.
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>>;

    /// All objects whose names begin with `prefix`, sorted by name. All of them, or an error.
    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>>;

    fn head(&self, key: &Key) -> StoreResult<Head>;

    /// Deletes an object; one that is not there is `Ok`. Where the store keeps versions, the old one stays.
    fn delete(&self, key: &Key) -> StoreResult<()>;

    /// Deletes an object with all its versions, so that its bytes are gone; one that is not there is `Ok`. A lock is never
    /// lifted: [`Purged::Locked`] when one holds it.
    fn purge(&self, key: &Key) -> StoreResult<Purged>;

    /// The same for several, at most [`TOGETHER`], in their order; with fewer requests where the store can. When one cannot
    /// be deleted, others may be gone.
    fn purge_all(&self, keys: &[Key]) -> StoreResult<Vec<Purged>> {
        keys.iter().map(|key| self.purge(key)).collect()
    }

    /// Object lock, where the store has it.
    fn retention(&self) -> Option<&dyn Retention> {
        None
    }
}

/// Object lock of objects that exist already.
pub trait Retention: Send + Sync {
    /// Raises the retention of an object; never lowers it.
    fn raise(&self, key: &Key, retain: &Retain) -> StoreResult<()>;
}

/// An object in the making. Dropped without `finish`, nothing of it stays.
///
/// Parts may be sent from several threads at once, each number once. All parts but the last are at least 5 MiB, at most
/// 10,000 parts (the limits of S3).
pub trait Upload: Send + Sync {
    /// `number` counts from 1; `offset` is where the part begins in the object.
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()>;

    /// Makes the object visible whole. After an error it may be called again; when the earlier call had reached the store
    /// after all, that is `Ok`.
    fn finish(&self) -> StoreResult<()>;
}

/// Reads a whole object into memory.
pub fn read(store: &dyn Store, key: &Key) -> StoreResult<Vec<u8>> {
    let mut bytes = Vec::new();
    store.get(key, None)?.read_to_end(&mut bytes).map_err(|e| StoreError::from_reader(e, key))?;
    Ok(bytes)
}

/// Can a name begin with this? Endpoints dislike being asked for what cannot be, and a directory must not be left.
fn begins_names(prefix: &str) -> bool {
    prefix.is_empty() || Key::new(prefix.strip_suffix('/').unwrap_or(prefix)).is_ok()
}

/// Parts, sorted by number, must follow one another without a gap; gives the size of the whole.
fn check_parts(key: &Key, parts: impl Iterator<Item = (u32, u64, u64)>) -> StoreResult<u64> {
    let mut size = 0;
    for (expected, (number, offset, length)) in (1..).zip(parts) {
        if number != expected || offset != size {
            let text = format!("part {number} of {key} begins at {offset} instead of part {expected} at {size}");
            return Err(StoreError::Other(text));
        }
        size += length;
    }
    Ok(size)
}
