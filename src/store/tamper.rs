//! Whether a store lets these credentials destroy what they wrote: tried for real, on a fresh object below `probe/`.
//!
//! The object is locked like a backup where backups are, though only for 20 minutes. What counts in the end is whether
//! its content is still to be had; an overwrite or a delete marker above an old version has destroyed nothing.
//! Whatever can be removed afterwards is removed. Nothing else in the store is touched.

use super::directory::Directory;
use super::retry::Retrying;
use super::s3::{Put, S3};
use super::{Key, Location, LockMode, Retain, Settings, Store, StoreError, StoreResult};
use crate::durable::random_hex;
use crate::error::Result;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::sync::Arc;

/// One thing that was tried, and what the store said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    pub what: &'static str,
    /// Its words, when it refused.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tampered {
    pub attempts: Vec<Attempt>,
    /// What was written is still there as it was.
    pub survived: bool,
    /// Its lock could be made to end earlier, or to be weaker: then only the missing right to delete protects it.
    pub unlocked: bool,
    /// The object could not be removed: it stays until its lock ends.
    pub left: Option<Key>,
}

const ORIGINAL: &[u8] = b"bkp tries whether this can be destroyed";
const CHANGED: &[u8] = b"changed";

/// What lifts a lock.
const LOCK: [&str; 3] = ["shorten its lock", "shorten its lock in spite of it", "weaken its lock"];
/// What destroys an object where there are no versions.
const OBJECT: [&str; 2] = ["overwrite it", "delete it"];
/// And where there are.
const VERSION: [&str; 2] = ["delete the version", "delete the version in spite of its lock"];

/// Tries it. `lock` is how backups are locked there.
pub fn tamper(settings: &Settings, lock: Option<LockMode>, now: Timestamp) -> Result<Tampered> {
    let key = Key::new(format!("probe/{}", random_hex(8))).expect("it is a good name");
    match &settings.location {
        Location::Directory(path) => Ok(in_directory(&Directory::open(path)?, &key)?),
        Location::Bucket { .. } => {
            let s3 = Arc::new(S3::open(settings)?);
            let retry = Retrying::new(s3.clone(), settings.budget, 1);
            // Longer than clocks may differ, which S3 limits to 15 minutes.
            let retain = lock.map(|mode| Retain { mode, until: now + SignedDuration::from_mins(20) });
            Ok(InBucket { s3: &s3, retry: &retry, key: &key, now }.run(retain.as_ref(), settings)?)
        }
    }
}

#[derive(Default)]
struct Attempts(Vec<Attempt>);

impl Attempts {
    fn any_allowed(&self, some: &[&str]) -> bool {
        self.0.iter().any(|attempt| some.contains(&attempt.what) && attempt.refused.is_none())
    }

    fn refused(&self, all: [&str; 2]) -> bool {
        self.0.iter().filter(|attempt| all.contains(&attempt.what)).all(|attempt| attempt.refused.is_some())
    }

    /// A store that does not answer has not refused.
    fn add<T>(&mut self, what: &'static str, outcome: StoreResult<T>) -> StoreResult<Option<T>> {
        let (value, refused) = match outcome {
            Ok(value) => (Some(value), None),
            Err(e @ (StoreError::Denied(_) | StoreError::Other(_) | StoreError::Exists(_))) => {
                (None, Some(e.to_string()))
            }
            Err(e) => return Err(e),
        };
        self.0.push(Attempt { what, refused });
        Ok(value)
    }
}

fn in_directory(directory: &Directory, key: &Key) -> StoreResult<Tampered> {
    directory.put(key, Bytes::from_static(ORIGINAL), None)?;
    let mut attempts = Attempts::default();
    attempts.add(OBJECT[0], directory.put(key, Bytes::from_static(CHANGED), None))?;
    attempts.add(OBJECT[1], directory.delete(key))?;
    let survived = match super::read(directory, key) {
        Ok(bytes) => bytes == ORIGINAL,
        Err(StoreError::NotFound(_)) => false,
        Err(e) => return Err(e),
    };
    let left = survived.then(|| key.clone());
    Ok(Tampered { attempts: attempts.0, survived, unlocked: false, left })
}

struct InBucket<'a> {
    s3: &'a S3,
    retry: &'a Retrying,
    key: &'a Key,
    now: Timestamp,
}

impl InBucket<'_> {
    fn run(&self, retain: Option<&Retain>, settings: &Settings) -> StoreResult<Tampered> {
        let checksum = settings.capabilities.map_or(super::probe::Checksum::Sha256, |found| found.checksum);
        let put = |content| Put { checksum, ..Put::new(self.key, Bytes::from_static(content)) };
        let original = self.retry.insist(|| self.s3.put_object(&Put { retain, ..put(ORIGINAL) }))?;
        let version = original.as_deref();
        let mut attempts = Attempts::default();
        if let Some(retain) = retain {
            self.unlock(version, retain, &mut attempts)?;
        }
        attempts.add(OBJECT[0], self.retry.insist(|| self.s3.put_object(&put(CHANGED))))?;
        attempts.add(OBJECT[1], self.retry.insist(|| self.s3.delete_version(self.key, None, false)))?;
        if version.is_some() {
            attempts.add(VERSION[0], self.delete(version, false))?;
            attempts.add(VERSION[1], self.delete(version, true))?;
        }
        let size = ORIGINAL.len() as u64;
        let survived = match self.retry.insist(|| self.s3.has_version(self.key, version, size)) {
            Ok(there) => there,
            // Who may not look is told by what was refused.
            Err(StoreError::Denied(_)) => attempts.refused(if version.is_some() { VERSION } else { OBJECT }),
            Err(e) => return Err(e),
        };
        let left = self.clean_up(version)?.then(|| self.key.clone());
        Ok(Tampered { unlocked: attempts.any_allowed(&LOCK), attempts: attempts.0, survived, left })
    }

    fn unlock(&self, version: Option<&str>, retain: &Retain, attempts: &mut Attempts) -> StoreResult<()> {
        let shorter = Retain { until: self.now + SignedDuration::from_mins(16), ..*retain };
        let weaker = Retain { mode: LockMode::Governance, ..*retain };
        let modes = if retain.mode == LockMode::Compliance { 3 } else { 2 };
        let all = [(LOCK[0], &shorter, false), (LOCK[1], &shorter, true), (LOCK[2], &weaker, true)];
        for (what, goal, lift) in all.into_iter().take(modes) {
            attempts.add(what, self.retry.insist(|| self.s3.set_lock(self.key, version, goal, lift)))?;
        }
        Ok(())
    }

    fn delete(&self, version: Option<&str>, lift: bool) -> StoreResult<()> {
        self.retry.insist(|| self.s3.delete_version(self.key, version, lift))
    }

    /// Removes what may be removed; true when something stays.
    fn clean_up(&self, version: Option<&str>) -> StoreResult<bool> {
        let known = version.map(str::to_owned);
        let mut stays = false;
        let versions = self.retry.insist(|| self.s3.versions(self.key)).unwrap_or_else(|_| known.into_iter().collect());
        for version in versions {
            match self.delete(Some(&version), true) {
                Ok(()) => {}
                Err(e) if e.transient() => return Err(e),
                Err(_) => stays = true,
            }
        }
        Ok(stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_refuses_nothing_and_is_left_clean() {
        let scratch = tempfile::tempdir().unwrap();
        let settings = Settings::new(Location::Directory(scratch.path().to_owned()));
        let tampered = tamper(&settings, None, Timestamp::UNIX_EPOCH).unwrap();
        assert!(!tampered.survived && tampered.left.is_none(), "{tampered:?}");
        assert!(tampered.attempts.iter().all(|attempt| attempt.refused.is_none()), "{tampered:?}");
        assert!(super::super::open(&settings).unwrap().list("").unwrap().is_empty());
    }
}
