//! Signed records of which the latest about a thing decides: pins and holds (`docs/FORMAT.md` §8).
//!
//! What was said is ended by another record: nothing has to be deleted for it, which a host may not be able to.

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::record::{self, Record};
use crate::repo::sign::{Trust, Trusted};
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, catalog};
use crate::store::{self, Entry, Key};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A record that says something, or ends what was said.
pub trait Said: Record {
    fn stands(&self) -> bool;
}

/// Why something stands, by what it is about; nothing where it was ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latest(BTreeMap<String, (Timestamp, Option<String>)>);

impl Latest {
    pub fn why(&self, about: &str) -> Option<&str> {
        self.0.get(about).and_then(|(_, why)| why.as_deref())
    }

    pub fn all(&self) -> BTreeMap<String, String> {
        self.0.keys().filter_map(|about| Some((about.clone(), self.why(about)?.to_owned()))).collect()
    }

    pub fn take_in(&mut self, about: String, at: Timestamp, why: Option<String>) {
        let new = (at, why);
        let latest = self.0.entry(about).or_insert_with(|| new.clone());
        if latest.0 < new.0 {
            *latest = new;
        }
    }

    /// When a new record is to be from so that it counts, also where an earlier one has a time from a clock that was ahead.
    pub fn instant_of_next(&self, about: &str, now: Timestamp) -> Timestamp {
        let before = self.0.get(about);
        let after = before.and_then(|(at, _)| at.checked_add(SignedDuration::from_secs(1)).ok());
        after.map_or(now, |after| after.max(now))
    }
}

/// What all writers say below what `place` names of each; nothing for a record that cannot be read or believed. Where a
/// writer's key is pinned here, those that only the store vouches for can say something and not end it.
pub fn each<R: Said>(
    (repository, keys, trust): (&Repository, &Keyring, &Trust),
    kind: &str,
    place: impl Fn(&str) -> String,
    mut take: impl FnMut(Entry, Option<R>),
) -> Result<()> {
    for info in catalog::writers(repository)?.0 {
        let signer = trust.decide(&info.writer, &info.verify_key)?;
        let stranger = matches!(signer, Trusted::FromStore(_)) && !trust.pinned.is_empty();
        for entry in repository.store.list(&place(&info.writer))? {
            let sealed = store::read(&*repository.store, &entry.key)?;
            let what = format!("the {kind} {}", entry.key);
            match record::open::<R>(&sealed, keys, signer.key(), repository.id(), &what) {
                Ok(record) if stranger && !record.stands() => {}
                opened => take(entry, opened.ok()),
            }
        }
    }
    Ok(())
}

/// Writes a record that the writer `whose` can read, too.
pub fn write<R: Said>(repository: &Repository, writer: &Writer, whose: &str, key: &Key, record: &R) -> Result<()> {
    let mut recipients = writer.audience(Audience::All);
    if let Some(info) = catalog::writer(repository, whose)? {
        recipients = recipients.and(&info.recipient);
    }
    let sealed = record::seal(record, writer, &recipients)?;
    Ok(repository.store.put(key, Bytes::from(sealed), None)?)
}
