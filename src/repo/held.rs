//! Held sources: those whose old points stay until somebody has looked at an odd backup (`docs/FORMAT.md` §8).
//!
//! A hold is a signed record beside the pins, and so is its end. It stands in the repository because whoever prunes may be
//! another host, or one that has lost its state. Of the records about a source, the one with the latest time decides; one
//! that cannot be read or believed counts as a hold, because a point too many costs little.

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::record::{self, Record};
use crate::repo::sign::{Trust, Trusted};
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, catalog, names};
use crate::store;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    pub repository: String,
    /// Who says so.
    pub writer: String,
    /// Whose points are meant.
    pub point_writer: String,
    pub source: String,
    /// Or no longer.
    pub held: bool,
    pub why: String,
    pub at: Timestamp,
}

impl Record for HoldRecord {
    const TYPE: &'static str = "application/vnd.bkp.hold+json";

    fn repository(&self) -> &str {
        &self.repository
    }
}

/// What is known of the sources of one writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    latest: BTreeMap<String, (Timestamp, Option<String>)>,
}

impl Held {
    /// Why a source is held.
    pub fn why(&self, source: &str) -> Option<&str> {
        self.latest.get(source).and_then(|(_, why)| why.as_deref())
    }

    pub fn all(&self) -> BTreeMap<String, String> {
        self.latest.keys().filter_map(|source| Some((source.clone(), self.why(source)?.to_owned()))).collect()
    }

    fn take_in(&mut self, source: String, at: Timestamp, why: Option<String>) {
        let new = (at, why);
        let latest = self.latest.entry(source).or_insert_with(|| new.clone());
        if latest.0 < new.0 {
            *latest = new;
        }
    }
}

/// What all writers say of the sources of one. Where a writer's key is pinned here, those that only the store vouches for can
/// hold a source and not release it.
pub fn of(repository: &Repository, keys: &Keyring, trust: &Trust, whose: &str) -> Result<Held> {
    let mut held = Held::default();
    for info in catalog::writers(repository)?.0 {
        let signer = trust.decide(&info.writer, &info.verify_key)?;
        let stranger = matches!(signer, Trusted::FromStore(_)) && !trust.pinned.is_empty();
        for entry in repository.store.list(&names::holds_of(&info.writer, whose))? {
            let sealed = store::read(&*repository.store, &entry.key)?;
            let what = format!("the hold {}", entry.key);
            match record::open::<HoldRecord>(&sealed, keys, signer.key(), repository.id(), &what) {
                Ok(record) if record.point_writer != whose || (stranger && !record.held) => {}
                Ok(record) => held.take_in(record.source, record.at, record.held.then_some(record.why)),
                Err(_) => {
                    let source = entry.key.as_str().rsplit('/').nth(1).unwrap_or_default().to_owned();
                    let at = names::instant_of(entry.key.last()).unwrap_or(entry.modified);
                    held.take_in(source, at, Some(format!("{} cannot be read, and may be a hold", entry.key)));
                }
            }
        }
    }
    Ok(held)
}

/// Holds a source of `whose`, or ends that. What is written counts, also where an earlier record has a time from a clock that
/// was ahead.
pub fn write(
    repository: &Repository,
    writer: &Writer,
    known: &Held,
    (whose, source): (&str, &str),
    (held, why): (bool, &str),
    now: Timestamp,
) -> Result<()> {
    let before = known.latest.get(source);
    let after = before.and_then(|(at, _)| at.checked_add(SignedDuration::from_secs(1)).ok());
    let at = after.map_or(now, |after| after.max(now));
    let record = HoldRecord {
        repository: repository.id().to_owned(),
        writer: writer.id().to_owned(),
        point_writer: whose.to_owned(),
        source: source.to_owned(),
        held,
        why: why.to_owned(),
        at,
    };
    let mut recipients = writer.audience(Audience::All);
    if let Some(info) = catalog::writer(repository, whose)? {
        recipients = recipients.and(&info.recipient);
    }
    let sealed = record::seal(&record, writer, &recipients)?;
    Ok(repository.store.put(&names::new_hold(writer.id(), (whose, source), at), Bytes::from(sealed), None)?)
}
