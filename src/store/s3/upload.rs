//! An object sent in parts (S3's multipart upload), which the bucket shows only when it is whole.

use super::{Location, S3, base64, lock_mode, until};
use crate::store::{Key, Retain, Store, StoreError, StoreResult, Upload, check_parts};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub(super) struct S3Upload {
    s3: S3,
    key: Key,
    at: Location,
    id: String,
    retain: Option<Retain>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parts: BTreeMap<u32, Part>,
    finished: bool,
}

#[derive(Clone)]
struct Part {
    offset: u64,
    length: u64,
    tag: Option<String>,
    /// As far as the endpoint takes it.
    sha256: Option<[u8; 32]>,
}

impl S3Upload {
    pub fn begin(s3: &S3, key: &Key, retain: Option<&Retain>) -> StoreResult<Self> {
        let at = s3.location(key);
        let mut request = s3.connection.client.create_multipart_upload().bucket(&at.bucket).key(&at.key);
        if s3.sends_checksums() {
            request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
        }
        if let Some(retain) = retain {
            request = request.object_lock_mode(lock_mode(retain)).object_lock_retain_until_date(until(retain));
        }
        let what = format!("beginning {key} in {}", s3.describe());
        let answer = s3.connection.request(&what, 0, request.send())?;
        let id = answer.upload_id.ok_or_else(|| StoreError::Other(format!("{what}: no id in the answer")))?;
        Ok(S3Upload { s3: s3.clone(), key: key.clone(), at, id, retain: retain.copied(), state: Mutex::default() })
    }

    /// The answer to an earlier try was lost, and the upload is gone: is the object there, made of these parts?
    fn is_there(&self, parts: &BTreeMap<u32, Part>, size: u64) -> StoreResult<bool> {
        let head = match self.s3.head_object(&self.key) {
            Err(StoreError::NotFound(_)) => return Ok(false),
            other => other?,
        };
        let count = parts.len();
        let right_size = head.content_length.is_some_and(|length| u64::try_from(length) == Ok(size));
        let tag = head.e_tag.unwrap_or_default();
        let checksum = match (head.checksum_sha256, composite(parts)) {
            (Some(found), Some(expected)) => found.trim_end_matches(&format!("-{count}")) == expected,
            _ => tag.trim_matches('"').ends_with(&format!("-{count}")),
        };
        Ok(right_size && checksum)
    }
}

/// What S3 calls the checksum of an object in parts: that of the checksums of the parts.
fn composite(parts: &BTreeMap<u32, Part>) -> Option<String> {
    let mut hash = Sha256::new();
    for part in parts.values() {
        hash.update(part.sha256?);
    }
    Some(base64(&hash.finalize()))
}

impl Upload for S3Upload {
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()> {
        let length = bytes.len() as u64;
        let index = i32::try_from(number).map_err(|_| StoreError::Other(format!("part {number} is too many")))?;
        let client = &self.s3.connection.client;
        let mut request = client.upload_part().bucket(&self.at.bucket).key(&self.at.key).upload_id(&self.id);
        let sha256 = self.s3.sends_checksums().then(|| <[u8; 32]>::from(Sha256::digest(&bytes)));
        if let Some(sha256) = &sha256 {
            request = request.checksum_sha256(base64(sha256));
        }
        request = request.part_number(index).content_length(length as i64).body(bytes.into());
        let what = format!("writing part {number} of {} in {}", self.key, self.s3.describe());
        let connection = &self.s3.connection;
        let answer = match sha256.is_some() && connection.secure {
            true => connection.request(&what, length, request.customize().disable_payload_signing().send())?,
            false => connection.request(&what, length, request.send())?,
        };
        let part = Part { offset, length, tag: answer.e_tag, sha256 };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).parts.insert(number, part);
        Ok(())
    }

    fn finish(&self) -> StoreResult<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.finished {
            return Ok(());
        }
        let parts = state.parts.iter().map(|(number, part)| (*number, part.offset, part.length));
        let size = check_parts(&self.key, parts)?;
        if state.parts.is_empty() {
            // S3 makes no object of no parts. The upload is aborted when this is dropped.
            return self.s3.put(&self.key, Bytes::new(), self.retain.as_ref());
        }
        let completed = |(number, part): (&u32, &Part)| {
            CompletedPart::builder()
                .part_number(*number as i32)
                .set_e_tag(part.tag.clone())
                .set_checksum_sha256(part.sha256.as_ref().map(|sha256| base64(sha256)))
                .build()
        };
        let list = CompletedMultipartUpload::builder().set_parts(Some(state.parts.iter().map(completed).collect()));
        let client = &self.s3.connection.client;
        let request = client.complete_multipart_upload().bucket(&self.at.bucket).key(&self.at.key).upload_id(&self.id);
        let what = format!("finishing {} in {}", self.key, self.s3.describe());
        match self.s3.connection.request(&what, size, request.multipart_upload(list.build()).send()) {
            Ok(_) => {}
            Err(refused) if refused.is("NoSuchUpload") && self.is_there(&state.parts, size)? => {}
            Err(refused) => return Err(refused.error),
        }
        state.finished = true;
        Ok(())
    }
}

/// An abort that fails leaves parts that cost money and that nobody sees, so it is tried more than once.
impl Drop for S3Upload {
    fn drop(&mut self) {
        if self.state.lock().unwrap_or_else(PoisonError::into_inner).finished {
            return;
        }
        for _ in 0..3 {
            let client = &self.s3.connection.client;
            let request = client.abort_multipart_upload().bucket(&self.at.bucket).key(&self.at.key).upload_id(&self.id);
            match self.s3.connection.request("aborting an upload", 0, request.send()) {
                Err(refused) if refused.error.transient() => {}
                _ => return,
            }
        }
    }
}
