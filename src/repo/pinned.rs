//! Pinned points: those that somebody asked to keep, whatever the retention says, and why (`docs/FORMAT.md` §8).
//!
//! A pin is a signed record beside the proofs, and so is its end: nothing has to be deleted for it, which a host may not be
//! able to. Of the records about a point, the one with the latest time decides; one that cannot be read or believed counts
//! as a pin, because a point too many costs little.

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::latest::{self, Latest, Said};
use crate::repo::point::Point;
use crate::repo::record::Record;
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, names};
use crate::store::Key;
use jiff::Timestamp;
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

impl Said for PinRecord {
    fn stands(&self) -> bool {
        self.pinned
    }
}

/// Why points are pinned, by `WRITER/SOURCE/UTC-ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    latest: Latest,
    /// Records that cannot be read or believed, by source and point: whose point is meant is not known.
    unreadable: BTreeMap<(String, String), Key>,
}

impl Pinned {
    pub fn reason(&self, point: &Point) -> Option<String> {
        let unreadable = self.unreadable.get(&(point.source.clone(), point.point.clone()));
        let told = self.latest.why(&title(&point.writer, &point.source, &point.point)).map(str::to_owned);
        told.or_else(|| unreadable.map(|key| format!("{key} cannot be read, and may be a pin")))
    }
}

fn title(writer: &str, source: &str, point: &str) -> String {
    format!("{writer}/{source}/{point}")
}

/// All there are, of all writers.
pub fn all(repository: &Repository, keys: &Keyring, trust: &Trust) -> Result<Pinned> {
    let mut pinned = Pinned::default();
    latest::each(
        (repository, keys, trust),
        "pin",
        names::pinned_points,
        |entry, record: Option<PinRecord>| match record {
            Some(record) => {
                let title = title(&record.point_writer, &record.source, &record.point);
                pinned.latest.take_in(title, record.at, record.pinned.then_some(record.reason));
            }
            None => {
                let source = entry.key.as_str().rsplit('/').nth(1).unwrap_or_default().to_owned();
                let point = entry.key.last().split('.').next().unwrap_or_default().to_owned();
                pinned.unreadable.insert((source, point), entry.key);
            }
        },
    )?;
    Ok(pinned)
}

/// Pins a point, or ends that.
pub fn write(
    repository: &Repository,
    writer: &Writer,
    known: &Pinned,
    point: &Point,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let at = known.latest.instant_of_next(&title(&point.writer, &point.source, &point.point), now);
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
    let key = names::pinned_point(writer.id(), &point.source, &point.point, at);
    latest::write(repository, writer, &point.writer, &key, &record)
}
