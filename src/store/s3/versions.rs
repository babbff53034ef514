//! Single versions of an object, for who wants to know what can be done to them.

use super::{S3, lock_mode_of, until};
use crate::store::{Key, Retain, Store as _, StoreError, StoreResult};
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockRetention};

impl S3 {
    /// Whether that version is there with this size; without an id, whatever is there now.
    pub(in crate::store) fn has_version(&self, key: &Key, version: Option<&str>, size: u64) -> StoreResult<bool> {
        let at = self.location(key);
        let request = self.connection.client.head_object().bucket(at.bucket).key(at.key);
        let request = request.set_version_id(version.map(str::to_owned));
        match self.connection.request(&format!("looking at a version of {key}"), 0, request.send()) {
            Ok(head) => Ok(head.content_length.and_then(|length| u64::try_from(length).ok()) == Some(size)),
            Err(refused) if [404, 405].contains(&refused.status) => Ok(false),
            Err(refused) => Err(refused.error),
        }
    }

    /// Sets the lock of a version, whatever it was. `lift` asks to do so in spite of a governance lock.
    pub(in crate::store) fn set_lock(
        &self,
        key: &Key,
        version: Option<&str>,
        retain: &Retain,
        lift: bool,
    ) -> StoreResult<()> {
        let at = self.location(key);
        let lock = ObjectLockRetention::builder().mode(lock_mode_of(retain)).retain_until_date(until(retain)).build();
        let request = self.connection.client.put_object_retention().bucket(at.bucket).key(at.key).retention(lock);
        let request = request.set_version_id(version.map(str::to_owned));
        let request = request.set_bypass_governance_retention(lift.then_some(true));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256).send();
        let what = format!("changing the lock of {key} in {}", self.describe());
        self.connection.request(&what, 0, request).map(|_| ()).map_err(StoreError::from)
    }
}
