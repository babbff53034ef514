//! Sealed segments of a journal (`docs/FORMAT.md` §8): `w/W/journal/JOURNAL-FIRST`, signed by the writer.
//!
//! Written once and never again: what a host knew of itself when it sealed a segment stands against what it may say later.

use crate::error::{Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::container::{decode, encode};
use crate::repo::keys::Keyring;
use crate::repo::names;
use crate::repo::sign;
use crate::repo::writer::{Audience, Writer};
use crate::store::{self, StoreError};
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;

const PAYLOAD_TYPE: &str = "application/vnd.bkp.journal+jsonl";

/// Puts a segment into the repository, unless it is there.
pub fn put(repository: &Repository, writer: &Writer, journal: &str, first: u64, segment: &[u8]) -> Result<()> {
    let signed = sign::sign(PAYLOAD_TYPE, segment, &writer.signing);
    let sealed = encode::seal(&signed, &writer.audience(Audience::Bookkeeping))?;
    match repository.store.put_new(&names::journal(writer.id(), journal, first), Bytes::from(sealed), None) {
        Err(StoreError::Exists(_)) => Ok(()),
        put => Ok(put?),
    }
}

/// The segments of a writer's journals, by journal and number of the first record.
pub fn list(repository: &Repository, writer: &str) -> Result<Vec<(String, u64)>> {
    let entries = repository.store.list(&names::journals(writer))?;
    let mut found: Vec<(String, u64)> = entries
        .iter()
        .filter_map(|entry| {
            let (journal, first) = entry.key.last().rsplit_once('-')?;
            Some((journal.to_owned(), first.parse().ok()?))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// A segment as it was when it was sealed.
pub fn read(
    repository: &Repository,
    keys: &Keyring,
    (writer, signer): (&str, &VerifyingKey),
    (journal, first): (&str, u64),
) -> Result<Vec<u8>> {
    let key = names::journal(writer, journal, first);
    let what = format!("the journal {key}");
    let envelope = decode::open_whole(&store::read(&*repository.store, &key)?, keys, &what)?;
    let segment = sign::verify(&envelope, PAYLOAD_TYPE, signer, &what)?;
    if !segment.starts_with(format!("{{\"seq\":{first},").as_bytes()) {
        return Err(Failure::new(Kind::Verification, format!("{what} is another part of a journal")));
    }
    Ok(segment)
}
