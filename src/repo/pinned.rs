//! Pinned points: those that somebody asked to keep, whatever the retention says, and why (`docs/FORMAT.md` §8).
//!
//! A pin is a signed record beside the proofs, and so is its end: nothing has to be deleted for it, which a host may not be
//! able to. Of the records about a point, the one with the latest time decides; one that cannot be read or believed counts
//! as a pin, because a point too many costs little.

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::record::{self, Record};
use crate::repo::sign::{Trust, Trusted};
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, catalog, names};
use crate::store::{self, Key};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    pub repository: String,
    /// Who says so.
    pub writer: String,
    /// Whose point it is.
    pub point_writer: String,
    pub source: String,
    pub point: String,
    /// Or no longer.
    pub pinned: bool,
    pub reason: String,
    pub at: Timestamp,
}

impl Record for PinRecord {
    const TYPE: &'static str = "application/vnd.bkp.pin+json";

    fn repository(&self) -> &str {
        &self.repository
    }
}

/// Why points are pinned, by `WRITER/SOURCE/UTC-ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    latest: BTreeMap<String, (Timestamp, Option<String>)>,
    /// Records that cannot be read or believed, by source and point: whose point is meant is not known.
    unreadable: BTreeMap<(String, String), Key>,
}

impl Pinned {
    pub fn reason(&self, point: &Point) -> Option<String> {
        let unreadable = self.unreadable.get(&(point.source.clone(), point.point.clone()));
        let told = self.latest.get(&title(&point.writer, &point.source, &point.point)).and_then(|(_, why)| why.clone());
        told.or_else(|| unreadable.map(|key| format!("{key} cannot be read, and may be a pin")))
    }

    fn take_in(&mut self, record: PinRecord) {
        let title = title(&record.point_writer, &record.source, &record.point);
        let new = (record.at, record.pinned.then_some(record.reason));
        let latest = self.latest.entry(title).or_insert_with(|| new.clone());
        if latest.0 < new.0 {
            *latest = new;
        }
    }
}

fn title(writer: &str, source: &str, point: &str) -> String {
    format!("{writer}/{source}/{point}")
}

/// All there are, of all writers. Where a writer's key is pinned here, those that only the store vouches for can pin and
/// not unpin.
pub fn all(repository: &Repository, keys: &Keyring, trust: &Trust) -> Result<Pinned> {
    let mut pinned = Pinned::default();
    for info in catalog::writers(repository)?.0 {
        let signer = trust.decide(&info.writer, &info.verify_key)?;
        let stranger = matches!(signer, Trusted::FromStore(_)) && !trust.pinned.is_empty();
        for entry in repository.store.list(&names::pinned_points(&info.writer))? {
            let sealed = store::read(&*repository.store, &entry.key)?;
            let what = format!("the pin {}", entry.key);
            match record::open::<PinRecord>(&sealed, keys, signer.key(), repository.id(), &what) {
                Ok(record) if stranger && !record.pinned => {}
                Ok(record) => pinned.take_in(record),
                Err(_) => {
                    let source = entry.key.as_str().rsplit('/').nth(1).unwrap_or_default().to_owned();
                    let point = entry.key.last().split('.').next().unwrap_or_default().to_owned();
                    pinned.unreadable.insert((source, point), entry.key);
                }
            }
        }
    }
    Ok(pinned)
}

/// Pins a point, or ends that. What is written counts, also where an earlier record has a time from a clock that was ahead.
pub fn write(
    repository: &Repository,
    writer: &Writer,
    known: &Pinned,
    point: &Point,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let before = known.latest.get(&title(&point.writer, &point.source, &point.point));
    let after = before.and_then(|(at, _)| at.checked_add(SignedDuration::from_secs(1)).ok());
    let at = after.map_or(now, |after| after.max(now));
    let record = PinRecord {
        repository: repository.id().to_owned(),
        writer: writer.id().to_owned(),
        point_writer: point.writer.clone(),
        source: point.source.clone(),
        point: point.point.clone(),
        pinned: reason.is_some(),
        reason: reason.unwrap_or_default().to_owned(),
        at,
    };
    let mut recipients = writer.audience(Audience::All);
    if let Some(info) = catalog::writer(repository, &point.writer)? {
        recipients = recipients.and(&info.recipient);
    }
    let sealed = record::seal(&record, writer, &recipients)?;
    let key = names::pinned_point(writer.id(), &point.source, &point.point, at);
    Ok(repository.store.put(&key, Bytes::from(sealed), None)?)
}
