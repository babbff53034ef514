//! What an endpoint really does, found by trying: documentation and version strings say little about S3 look-alikes.
//!
//! Done once, at `init`, and recorded in the repository. It writes small objects below `probe/` and deletes them again
//! where the credentials allow it; one of them may be locked for 20 minutes.

use super::retry::Retrying;
use super::s3::{Put, S3};
use super::{Key, Location, LockMode, Retain, Settings, StoreError, StoreResult};
use crate::durable::random_hex;
use crate::error::Result;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Writing only where nothing is, in one step.
    pub conditional_put: bool,
    pub checksum: Checksum,
    pub versioning: Versioning,
    /// Objects can be locked against deletion.
    pub object_lock: bool,
}

/// What becomes of the checksum that is sent with every object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// SHA-256, and a wrong one is refused.
    Sha256,
    /// SHA-256 is accepted, but so is a wrong one.
    Unverified,
    /// Requests that carry one are refused.
    Unsupported,
    /// There is no line on the way to check.
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versioning {
    On,
    Off,
    /// The credentials do not suffice to ask.
    Unknown,
}

/// What a directory does.
pub const DIRECTORY: Capabilities =
    Capabilities { conditional_put: true, checksum: Checksum::Local, versioning: Versioning::Off, object_lock: false };

/// Tries the store that `settings` name; capabilities in them are passed over.
pub fn probe(settings: &Settings, now: Timestamp) -> Result<Capabilities> {
    match &settings.location {
        Location::Directory(_) => super::open(settings).map(|_| DIRECTORY),
        Location::Bucket { .. } => {
            let s3 = Arc::new(S3::open(&Settings { capabilities: None, ..settings.clone() })?);
            let retry = Retrying::new(s3.clone(), settings.budget, 1);
            Ok(Probe { s3: &s3, retry: &retry, now }.run()?)
        }
    }
}

struct Probe<'a> {
    s3: &'a S3,
    retry: &'a Retrying,
    now: Timestamp,
}

impl Probe<'_> {
    fn run(&self) -> StoreResult<Capabilities> {
        let checksum = self.checksum()?;
        let key = fresh();
        let content = Bytes::from_static(b"bkp probe");
        let first = self.put(&Put { checksum, ..Put::new(&key, content.clone()) })?;
        let (conditional_put, again) = match self.put(&Put { checksum, only_new: true, ..Put::new(&key, content) }) {
            Ok(version) => (false, version),
            Err(StoreError::Exists(_)) => (true, None),
            Err(e) if is_answer(&e) => (false, None),
            Err(e) => return Err(e),
        };
        let versioning = match &first {
            Some(_) => Versioning::On,
            None => self.retry.insist(|| self.s3.versioning())?,
        };
        self.remove(&key, &[first, again])?;
        let object_lock = versioning != Versioning::Off && self.object_lock(checksum)?;
        Ok(Capabilities { conditional_put, checksum, versioning, object_lock })
    }

    fn checksum(&self) -> StoreResult<Checksum> {
        let key = fresh();
        let content = Bytes::from_static(b"bkp probe of checksums");
        let good = match self.put(&Put::new(&key, content.clone())) {
            Err(StoreError::Other(_)) => return Ok(Checksum::Unsupported),
            other => other?,
        };
        let (verdict, bad) = match self.put(&Put { sha256: Some([7; 32]), ..Put::new(&key, content) }) {
            Ok(version) => (Checksum::Unverified, version),
            Err(e) if is_answer(&e) => (Checksum::Sha256, None),
            Err(e) => return Err(e),
        };
        self.remove(&key, &[good, bad])?;
        Ok(verdict)
    }

    /// An endpoint may take the headers and forget them, so what counts is what it says of the object afterwards.
    fn object_lock(&self, checksum: Checksum) -> StoreResult<bool> {
        use super::Store;
        let key = fresh();
        // Longer than clocks may differ, which S3 limits to 15 minutes.
        let until = self.now + SignedDuration::from_mins(20);
        let retain = Retain { mode: LockMode::Governance, until };
        let put = Put { checksum, retain: Some(&retain), ..Put::new(&key, Bytes::from_static(b"bkp probe of locks")) };
        let version = match self.put(&put) {
            Err(e) if is_answer(&e) => return Ok(false),
            other => other?,
        };
        let locked = match self.retry.insist(|| self.s3.head(&key)) {
            Err(StoreError::Denied(_)) => false,
            other => other?.retain.is_some(),
        };
        // Who may not lift the lock leaves a few bytes behind until it ends.
        let _ = self.retry.insist(|| self.s3.delete_version(&key, version.as_deref(), true));
        Ok(locked)
    }

    /// Without versions the object itself; with them those that were made, or a delete marker would stay. Credentials that
    /// cannot delete are good ones for a writer, so that is no error.
    fn remove(&self, key: &Key, versions: &[Option<String>]) -> StoreResult<()> {
        let known: Vec<_> = versions.iter().flatten().map(|version| Some(&**version)).collect();
        for version in if known.is_empty() { vec![None] } else { known } {
            match self.retry.insist(|| self.s3.delete_version(key, version, false)) {
                Err(StoreError::Denied(_)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn put(&self, put: &Put<'_>) -> StoreResult<Option<String>> {
        self.retry.insist(|| self.s3.put_object(put))
    }
}

/// The endpoint understood and says no to this request, which is what a probe asks for.
fn is_answer(error: &StoreError) -> bool {
    matches!(error, StoreError::Other(_) | StoreError::Denied(_))
}

fn fresh() -> Key {
    Key::new(format!("probe/{}", random_hex(8))).expect("it is a good name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_can_be_recorded() {
        let text = r#"{"conditional_put":true,"checksum":"sha256","versioning":"on","object_lock":true}"#;
        let found: Capabilities = serde_json::from_str(text).unwrap();
        assert_eq!(found.checksum, Checksum::Sha256);
        assert_eq!(serde_json::to_string(&found).unwrap(), text);
    }
}
