//! Sealed segments of a journal (`docs/FORMAT.md` §8): `w/W/journal/JOURNAL-FIRST`, signed by the writer.
//!
//! Written once and never again: what a host knew of itself when it sealed a segment stands against what it may say later.
//! Beside it stand signed heads of the journal (`heads/`, for everybody to read) and signed statements of rehearsals.

use crate::error::{Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::container::{decode, encode};
use crate::repo::keys::Keyring;
use crate::repo::names;
use crate::repo::sign::{self, Detached};
use crate::repo::writer::{Audience, Writer};
use crate::store::{self, Key, Retain, StoreError};
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;

/// Of a segment.
pub const PAYLOAD_TYPE: &str = "application/vnd.bkp.journal+jsonl";

/// Puts a segment into the repository, unless it is there.
pub fn put(
    repository: &Repository,
    writer: &Writer,
    (journal, first): (&str, u64),
    segment: &[u8],
    retain: Option<&Retain>,
) -> Result<()> {
    let signed = sign::sign(PAYLOAD_TYPE, segment, &writer.signing);
    let sealed = encode::seal(&signed, &writer.audience(Audience::Bookkeeping))?;
    put_once(repository, &names::journal(writer.id(), journal, first), sealed, retain)
}

/// Puts the signed statement of a rehearsal into the repository, unless it is there.
pub fn put_statement(
    repository: &Repository,
    writer: &Writer,
    (journal, seq): (&str, u64),
    envelope: &[u8],
    retain: Option<&Retain>,
) -> Result<()> {
    let sealed = encode::seal(envelope, &writer.audience(Audience::Bookkeeping))?;
    put_once(repository, &names::rehearsal(writer.id(), journal, seq), sealed, retain)
}

/// Puts a signed head into a store, as it is: it says nothing that the store must not see.
pub fn put_head(repository: &Repository, key: &Key, envelope: &[u8], retain: Option<&Retain>) -> Result<()> {
    put_once(repository, key, envelope.to_vec(), retain)
}

fn put_once(repository: &Repository, key: &Key, bytes: Vec<u8>, retain: Option<&Retain>) -> Result<()> {
    match repository.store.put_new(key, Bytes::from(bytes), retain) {
        Err(StoreError::Exists(_)) => Ok(()),
        put => Ok(put?),
    }
}

/// The segments of a writer's journals, by journal and number of the first record.
pub fn list(repository: &Repository, writer: &str) -> Result<Vec<(String, u64)>> {
    numbered(repository, &names::journals(writer), "")
}

/// The heads that are there, by journal and number.
pub fn list_heads(repository: &Repository, writer: &str) -> Result<Vec<(String, u64)>> {
    numbered(repository, &names::heads(writer), ".json")
}

/// The heads that have a time stamp, by journal and number.
pub fn list_stamps(repository: &Repository, writer: &str) -> Result<Vec<(String, u64)>> {
    numbered(repository, &names::heads(writer), ".tsr")
}

/// The statements that are there, by journal and number of the record.
pub fn list_statements(repository: &Repository, writer: &str) -> Result<Vec<(String, u64)>> {
    numbered(repository, &names::rehearsals(writer), "")
}

fn numbered(repository: &Repository, prefix: &str, suffix: &str) -> Result<Vec<(String, u64)>> {
    let entries = repository.store.list(prefix)?;
    let mut found: Vec<(String, u64)> = entries
        .iter()
        .filter_map(|entry| {
            let (journal, number) = entry.key.last().strip_suffix(suffix)?.rsplit_once('-')?;
            Some((journal.to_owned(), number.parse().ok()?))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// The envelope of a statement; whose signature it has is for the caller to check.
pub fn read_statement(repository: &Repository, keys: &Keyring, writer: &str, at: (&str, u64)) -> Result<Vec<u8>> {
    let key = names::rehearsal(writer, at.0, at.1);
    decode::open_whole(&store::read(&*repository.store, &key)?, keys, &format!("the statement {key}"))
}

/// A segment as it was when it was sealed, and its signature.
pub fn read(
    repository: &Repository,
    keys: &Keyring,
    (writer, signer): (&str, &VerifyingKey),
    (journal, first): (&str, u64),
) -> Result<(Vec<u8>, Detached)> {
    let key = names::journal(writer, journal, first);
    let what = format!("the journal {key}");
    let envelope = decode::open_whole(&store::read(&*repository.store, &key)?, keys, &what)?;
    let segment = sign::verify(&envelope, PAYLOAD_TYPE, signer, &what)?;
    if !segment.starts_with(format!("{{\"seq\":{first},").as_bytes()) {
        return Err(Failure::new(Kind::Verification, format!("{what} is another part of a journal")));
    }
    Ok((segment, sign::detached(&envelope, &what)?))
}
