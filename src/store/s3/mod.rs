//! Objects in an S3 bucket, below a prefix.
//!
//! Every write carries its SHA-256 where the endpoint takes it, so a body damaged on the way is refused. Requests are tried
//! once: `retry.rs` wraps this. What differs between endpoints is in [`Capabilities`], found by `probe.rs`; while they
//! are not known, writes ask first, and the endpoint is not relied on for anything.
//! In a bucket with versions, `delete` leaves the old version where it is, and `purge` does not. It makes no buckets and
//! changes none.

use super::probe::{Capabilities, Checksum, Versioning};
use super::{Entry, Head, Key, LockMode, Purged, Retain, Retention, Settings, Store, StoreError, StoreResult, Upload};
use crate::error::{Failure, Result};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, ChecksumMode, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use base64::Engine;
use bytes::Bytes;
use client::Connection;
use download::Download;
use errors::Refused;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use upload::S3Upload;

mod client;
mod download;
mod errors;
mod purge;
mod upload;
mod versions;

/// A bucket. Clones share the connection.
#[derive(Clone)]
pub struct S3 {
    connection: Arc<Connection>,
    bucket: String,
    /// Empty, or with a `/` at its end.
    prefix: String,
    capabilities: Option<Capabilities>,
    /// Whether there may be several versions of an object now, once that was asked.
    has_versions: Arc<OnceLock<bool>>,
}

/// Where an object is, in S3's words.
struct Location {
    bucket: String,
    key: String,
}

/// One request to write, with everything that a probe may want to get wrong on purpose.
#[derive(Clone)]
pub(super) struct Put<'a> {
    pub key: &'a Key,
    pub bytes: Bytes,
    pub retain: Option<&'a Retain>,
    pub only_new: bool,
    pub checksum: Checksum,
    /// Instead of the right one.
    pub sha256: Option<[u8; 32]>,
}

impl<'a> Put<'a> {
    pub fn new(key: &'a Key, bytes: Bytes) -> Self {
        Put { key, bytes, retain: None, only_new: false, checksum: Checksum::Sha256, sha256: None }
    }
}

impl S3 {
    /// Reads the credentials; does not ask the endpoint for anything yet.
    pub fn open(settings: &Settings) -> Result<Self> {
        let super::Location::Bucket { bucket, prefix } = &settings.location else {
            return Err(Failure::usage(format!("{} is not a bucket", settings.location)));
        };
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let connection = Arc::new(Connection::open(settings)?);
        let (capabilities, has_versions) = (settings.capabilities, Arc::default());
        Ok(S3 { connection, bucket: bucket.clone(), prefix, capabilities, has_versions })
    }

    fn location(&self, key: &Key) -> Location {
        Location { bucket: self.bucket.clone(), key: format!("{}{key}", self.prefix) }
    }

    fn checksum(&self) -> Checksum {
        self.capabilities.map_or(Checksum::Sha256, |found| found.checksum)
    }

    fn sends_checksums(&self) -> bool {
        self.checksum() != Checksum::Unsupported
    }

    /// Gives the version that it became, where the bucket has versions.
    pub(super) fn put_object(&self, put: &Put<'_>) -> StoreResult<Option<String>> {
        self.try_put(put).map_err(|refused| match (&*refused.code, refused.status) {
            ("PreconditionFailed", _) | (_, 412) if put.only_new => StoreError::Exists(put.key.clone()),
            _ => refused.error,
        })
    }

    fn try_put(&self, put: &Put<'_>) -> std::result::Result<Option<String>, Refused> {
        let at = self.location(put.key);
        let length = put.bytes.len() as u64;
        let mut request = self.connection.client.put_object().bucket(at.bucket).key(at.key);
        let checked = put.checksum != Checksum::Unsupported;
        if checked {
            let sha256 = put.sha256.unwrap_or_else(|| Sha256::digest(&put.bytes).into());
            request = request.checksum_sha256(base64(&sha256));
        }
        if put.only_new {
            request = request.if_none_match("*");
        }
        if let Some(retain) = put.retain {
            request = request.object_lock_mode(lock_mode(retain)).object_lock_retain_until_date(until(retain));
        }
        request = request.content_length(length as i64).body(put.bytes.clone().into());
        let what = format!("writing {} to {}", put.key, self.describe());
        // The checksum is signed with the headers; hashing the body once more would only cost time.
        let answer = match checked && self.connection.secure {
            true => self.connection.request(&what, length, request.customize().disable_payload_signing().send())?,
            false => self.connection.request(&what, length, request.send())?,
        };
        Ok(answer.version_id.filter(|version| version != "null"))
    }

    fn plain<'a>(&self, key: &'a Key, bytes: Bytes, retain: Option<&'a Retain>) -> Put<'a> {
        Put { retain, checksum: self.checksum(), ..Put::new(key, bytes) }
    }

    fn head_object(&self, key: &Key) -> StoreResult<HeadObjectOutput> {
        let at = self.location(key);
        let request = self.connection.client.head_object().bucket(at.bucket).key(at.key);
        let what = format!("looking at {key} in {}", self.describe());
        match self.connection.request(&what, 0, request.checksum_mode(ChecksumMode::Enabled).send()) {
            Ok(head) => Ok(head),
            // Without a body the answer does not tell whether the object or the bucket is missing.
            Err(refused) if refused.no_such_key() => match self.bucket_is_missing() {
                Some(gone) => Err(gone),
                None => Err(StoreError::NotFound(key.clone())),
            },
            Err(refused) => Err(refused.error),
        }
    }

    /// Who may not ask is told of the object.
    fn bucket_is_missing(&self) -> Option<StoreError> {
        let request = self.connection.client.head_bucket().bucket(&self.bucket);
        match self.connection.request("looking at the bucket", 0, request.send()) {
            Err(refused) if refused.status == 404 => {
                Some(StoreError::NoStore(format!("there is no bucket {}", self.bucket)))
            }
            _ => None,
        }
    }

    pub(super) fn versioning(&self) -> StoreResult<Versioning> {
        let request = self.connection.client.get_bucket_versioning().bucket(&self.bucket);
        match self.connection.request("asking for versioning", 0, request.send()) {
            Ok(found) if found.status == Some(BucketVersioningStatus::Enabled) => Ok(Versioning::On),
            Ok(_) => Ok(Versioning::Off),
            Err(refused) if refused.error.transient() => Err(refused.error),
            Err(_) => Ok(Versioning::Unknown),
        }
    }

    /// Deletes one version for good. `lift` asks to do so in spite of a governance lock, which needs a permission.
    pub(super) fn delete_version(&self, key: &Key, version: Option<&str>, lift: bool) -> StoreResult<()> {
        let at = self.location(key);
        let request = self.connection.client.delete_object().bucket(at.bucket).key(at.key);
        let request = request.set_version_id(version.map(str::to_owned));
        let request = request.set_bypass_governance_retention(lift.then_some(true));
        let what = format!("deleting {key} from {}", self.describe());
        self.connection.request(&what, 0, request.send()).map(|_| ()).map_err(StoreError::from)
    }

    fn page(&self, prefix: &str, token: Option<&str>) -> StoreResult<ListObjectsV2Output> {
        let request = self.connection.client.list_objects_v2().bucket(&self.bucket);
        let request =
            request.prefix(format!("{}{prefix}", self.prefix)).set_continuation_token(token.map(str::to_owned));
        let page = self.connection.request(&format!("listing {}", self.describe()), 0, request.send())?;
        let told = page.key_count.unwrap_or_default();
        if usize::try_from(told).is_ok_and(|told| told > page.contents().len()) {
            let text =
                format!("listing {}: {told} objects were told and {} came", self.describe(), page.contents().len());
            return Err(StoreError::Transient(text));
        }
        Ok(page)
    }
}

impl Store for S3 {
    fn describe(&self) -> String {
        match self.prefix.trim_end_matches('/') {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.put_object(&self.plain(key, bytes, retain)).map(|_| ())
    }

    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        let honoured = self.capabilities.map(|found| found.conditional_put);
        if honoured != Some(true) {
            match self.head_object(key) {
                Ok(_) => return Err(StoreError::Exists(key.clone())),
                Err(StoreError::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        let plain = self.plain(key, bytes, retain);
        if honoured == Some(false) {
            return self.put_object(&plain).map(|_| ());
        }
        match self.try_put(&Put { only_new: true, ..plain.clone() }) {
            Ok(_) => Ok(()),
            Err(refused) if refused.status == 412 => Err(StoreError::Exists(key.clone())),
            Err(refused) if honoured.is_none() && refused.status == 501 => self.put_object(&plain).map(|_| ()),
            Err(refused) => Err(refused.error),
        }
    }

    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        Ok(Box::new(S3Upload::begin(self, key, retain)?))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        if range.as_ref().is_some_and(|range| range.is_empty()) {
            self.head_object(key)?;
            return Ok(Box::new(std::io::empty()));
        }
        match Download::open(self, key, range)? {
            Some(download) => Ok(Box::new(download)),
            None => Ok(Box::new(std::io::empty())),
        }
    }

    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        let mut token: Option<String> = None;
        if !super::begins_names(prefix) {
            return Ok(found);
        }
        loop {
            let page = self.page(prefix, token.as_deref())?;
            for object in page.contents() {
                let name = object.key().and_then(|name| name.strip_prefix(&self.prefix));
                // What cannot be a name of ours is not ours.
                let Some(Ok(key)) = name.map(Key::new) else { continue };
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let (Some(size), Some(modified)) = (size, object.last_modified()) else {
                    return Err(StoreError::Other(format!(
                        "listing {}: no size or no date for {key}",
                        self.describe()
                    )));
                };
                found.push(Entry { key, size, modified: timestamp(modified)? });
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            let next = page.next_continuation_token;
            if next.is_none() || next == token {
                return Err(StoreError::Other(format!("listing {}: the pages do not advance", self.describe())));
            }
            token = next;
        }
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        match found.windows(2).find(|pair| pair[0].key == pair[1].key) {
            Some(twice) => Err(StoreError::Other(format!("listing {}: {} came twice", self.describe(), twice[0].key))),
            None => Ok(found),
        }
    }

    fn head(&self, key: &Key) -> StoreResult<Head> {
        let head = self.head_object(key)?;
        let retain = match (head.object_lock_mode, head.object_lock_retain_until_date) {
            (Some(mode), Some(date)) => {
                let mode = if mode == ObjectLockMode::Compliance { LockMode::Compliance } else { LockMode::Governance };
                Some(Retain { mode, until: timestamp(&date)? })
            }
            _ => None,
        };
        let odd = |what: &str| StoreError::Other(format!("looking at {key} in {}: no {what}", self.describe()));
        let size = head.content_length.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| odd("size"))?;
        let modified = timestamp(&head.last_modified.ok_or_else(|| odd("date"))?)?;
        // That of an object in parts is one of checksums, has `-N` at its end, and so does not decode.
        let sha256 = head.checksum_sha256.and_then(|text| decode(&text));
        Ok(Head { size, modified, sha256, retain })
    }

    fn delete(&self, key: &Key) -> StoreResult<()> {
        let at = self.location(key);
        let request = self.connection.client.delete_object().bucket(at.bucket).key(at.key);
        match self.connection.request(&format!("deleting {key} from {}", self.describe()), 0, request.send()) {
            Err(refused) if !refused.no_such_key() => Err(refused.error),
            _ => Ok(()),
        }
    }

    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.purge_versions(key)
    }

    fn purge_all(&self, keys: &[Key]) -> StoreResult<Vec<Purged>> {
        self.purge_together(keys)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        self.capabilities.filter(|found| found.object_lock).map(|_| self as &dyn Retention)
    }
}

impl Retention for S3 {
    fn raise(&self, key: &Key, retain: &Retain) -> StoreResult<()> {
        let mut stricter = None;
        let goal = match self.head(key)?.retain {
            None => *retain,
            Some(now) => {
                let both = [now.mode, retain.mode];
                let mode =
                    if both.contains(&LockMode::Compliance) { LockMode::Compliance } else { LockMode::Governance };
                let goal = Retain { mode, until: now.until.max(retain.until) };
                if goal == now {
                    return Ok(());
                }
                // Making a lock stricter changes its mode, for which S3 wants the permission to lift it.
                stricter = (goal.mode != now.mode).then_some(true);
                goal
            }
        };
        let at = self.location(key);
        let lock = ObjectLockRetention::builder().mode(lock_mode_of(&goal)).retain_until_date(until(&goal)).build();
        let request = self.connection.client.put_object_retention().bucket(at.bucket).key(at.key).retention(lock);
        let what = format!("locking {key} in {}", self.describe());
        let request = request.set_bypass_governance_retention(stricter);
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256).send();
        self.connection.request(&what, 0, request).map(|_| ()).map_err(|refused| refused.about(key))
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<[u8; 32]> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

fn lock_mode_of(retain: &Retain) -> ObjectLockRetentionMode {
    match retain.mode {
        LockMode::Governance => ObjectLockRetentionMode::Governance,
        LockMode::Compliance => ObjectLockRetentionMode::Compliance,
    }
}

fn lock_mode(retain: &Retain) -> ObjectLockMode {
    match retain.mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    }
}

/// Whole seconds, rounded up: a lock may last longer than asked, never shorter.
fn until(retain: &Retain) -> DateTime {
    let whole = retain.until.as_second();
    DateTime::from_secs(if retain.until.subsec_nanosecond() > 0 { whole + 1 } else { whole })
}

fn timestamp(date: &DateTime) -> StoreResult<Timestamp> {
    Timestamp::new(date.secs(), date.subsec_nanos() as i32)
        .map_err(|e| StoreError::Other(format!("the endpoint gave a date that is none: {e}")))
}
