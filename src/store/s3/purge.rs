//! Deleting for good: every version of an object, and the marks that say it was deleted.
//!
//! A lock is never lifted, also where the credentials could: what is locked is told apart from what may not be deleted.
//! Without versions in the bucket, or without the permission to list them, the object itself is all there is to delete.

use super::S3;
use crate::store::probe::Versioning;
use crate::store::{Key, Purged, Store, StoreError, StoreResult};
use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{Delete, ObjectIdentifier, ObjectLockLegalHoldStatus};
use std::collections::HashSet;

impl S3 {
    /// Asked anew, once: versions may have been switched on since the repository was made. Then a plain delete would leave
    /// everything where it is, and hide it.
    fn has_versions(&self) -> StoreResult<bool> {
        if let Some(known) = self.has_versions.get() {
            return Ok(*known);
        }
        let request = self.connection.client.get_bucket_versioning().bucket(&self.bucket);
        let found = match self.connection.request("asking for versioning", 0, request.send()) {
            // Switched off again, the old ones are still there.
            Ok(found) => found.status.is_some(),
            Err(refused) if refused.error.transient() => return Err(refused.error),
            Err(refused) => {
                let off = self.capabilities.is_some_and(|found| found.versioning == Versioning::Off);
                !off || matches!(refused.error, StoreError::Denied(_))
            }
        };
        Ok(*self.has_versions.get_or_init(|| found))
    }

    pub(super) fn purge_versions(&self, key: &Key) -> StoreResult<Purged> {
        if !self.has_versions()? {
            return self.delete(key).map(|()| Purged::Gone);
        }
        let versions = match self.versions(key) {
            // Who may not list versions may still delete what has none.
            Err(StoreError::Denied(_)) if self.capabilities.is_none_or(|found| found.versioning != Versioning::On) => {
                return self.delete(key).map(|()| Purged::Gone);
            }
            listed => listed?,
        };
        let mut outcome = Purged::Gone;
        for version in versions {
            match self.delete_version(key, Some(&version), false) {
                Ok(()) | Err(StoreError::NotFound(_)) => {}
                Err(StoreError::Denied(_)) if self.is_locked(key, &version)? => outcome = Purged::Locked,
                Err(e) => return Err(e),
            }
        }
        Ok(outcome)
    }

    /// With one request where there are no versions. Not every endpoint can, and what it does not delete is tried by itself,
    /// which also tells why.
    pub(super) fn purge_together(&self, keys: &[Key]) -> StoreResult<Vec<Purged>> {
        let left: HashSet<String> = match keys {
            [_, _, ..] if !self.has_versions()? => match self.delete_together(keys) {
                Err(error) if error.transient() => return Err(error),
                Err(_) => keys.iter().map(|key| self.location(key).key).collect(),
                Ok(left) => left,
            },
            _ => keys.iter().map(|key| self.location(key).key).collect(),
        };
        let one = |key: &Key| match left.contains(&self.location(key).key) {
            true => self.purge_versions(key),
            false => Ok(Purged::Gone),
        };
        keys.iter().map(one).collect()
    }

    /// Gives the names of those that are still there.
    fn delete_together(&self, keys: &[Key]) -> StoreResult<HashSet<String>> {
        let what = format!("deleting {} objects from {}", keys.len(), self.describe());
        let odd = |error: BuildError| StoreError::Other(format!("{what}: {error}"));
        let named = |key: &Key| ObjectIdentifier::builder().key(self.location(key).key).build();
        let objects = keys.iter().map(named).collect::<Result<_, _>>().map_err(odd)?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(odd)?;
        let request = self.connection.client.delete_objects().bucket(&self.bucket).delete(delete);
        let answer = self.connection.request(&what, 0, request.send()).map_err(StoreError::from)?;
        Ok(answer.errors().iter().filter_map(|error| error.key().map(str::to_owned)).collect())
    }

    /// Ids of all versions and delete markers of exactly this name. A bucket without versions knows an object by `null`.
    pub(in crate::store) fn versions(&self, key: &Key) -> StoreResult<Vec<String>> {
        let name = self.location(key).key;
        let mut found = Vec::new();
        let mut after: Option<(Option<String>, Option<String>)> = None;
        loop {
            let page = self.version_page(&name, after.clone())?;
            let versions = page.versions().iter().map(|v| (v.key(), v.version_id()));
            let markers = page.delete_markers().iter().map(|m| (m.key(), m.version_id()));
            // The prefix of a name is a prefix of other names too.
            let of_this = versions.chain(markers).filter(|(of, _)| *of == Some(&name));
            found.extend(of_this.filter_map(|(_, version)| version.map(str::to_owned)));
            // Names are listed in order: behind this one stand only others.
            let passed = page.next_key_marker.as_deref().is_some_and(|next| next > name.as_str());
            if page.is_truncated() != Some(true) || passed {
                return Ok(found);
            }
            let next = Some((page.next_key_marker, page.next_version_id_marker));
            if next == after {
                return Err(StoreError::Other(format!("listing the versions of {key}: the pages do not advance")));
            }
            after = next;
        }
    }

    fn version_page(
        &self,
        name: &str,
        after: Option<(Option<String>, Option<String>)>,
    ) -> StoreResult<ListObjectVersionsOutput> {
        let (key_marker, version_marker) = after.unwrap_or_default();
        let request = self.connection.client.list_object_versions().bucket(&self.bucket).prefix(name);
        let request = request.set_key_marker(key_marker).set_version_id_marker(version_marker);
        let what = format!("listing the versions of {name} in {}", self.describe());
        self.connection.request(&what, 0, request.send()).map_err(StoreError::from)
    }

    /// A version that is gone by now is not locked.
    fn is_locked(&self, key: &Key, version: &str) -> StoreResult<bool> {
        let at = self.location(key);
        let request = self.connection.client.head_object().bucket(at.bucket).key(at.key).version_id(version);
        let what = format!("looking at a version of {key} in {}", self.describe());
        match self.connection.request(&what, 0, request.send()) {
            Ok(head) => {
                let held = head.object_lock_legal_hold_status == Some(ObjectLockLegalHoldStatus::On);
                Ok(held || head.object_lock_retain_until_date.is_some())
            }
            Err(refused) if refused.error.transient() => Err(refused.error),
            Err(_) => Ok(false),
        }
    }
}
