//! Held sources: those whose old points stay until somebody has looked at an odd backup (`docs/FORMAT.md` §8).
//!
//! A hold is a signed record beside the pins, and so is its end. It stands in the repository because whoever prunes may be
//! another host, or one that has lost its state. Of the records about a source, the one with the latest time decides; one
//! that cannot be read or believed counts as a hold, because a point too many costs little.

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::latest::{self, Latest, Said};
use crate::repo::record::Record;
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use crate::repo::{Repository, names};
use jiff::Timestamp;
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

impl Said for HoldRecord {
    fn stands(&self) -> bool {
        self.held
    }
}

/// What is known of the sources of one writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    latest: Latest,
}

impl Held {
    /// Why a source is held.
    pub fn why(&self, source: &str) -> Option<&str> {
        self.latest.why(source)
    }

    pub fn all(&self) -> BTreeMap<String, String> {
        self.latest.all()
    }
}

/// What all writers say of the sources of one.
pub fn of(repository: &Repository, keys: &Keyring, trust: &Trust, whose: &str) -> Result<Held> {
    let mut held = Held::default();
    let place = |writer: &str| names::holds_of(writer, whose);
    latest::each((repository, keys, trust), "hold", place, |entry, record: Option<HoldRecord>| match record {
        Some(record) if record.point_writer != whose => {}
        Some(record) => held.latest.take_in(record.source, record.at, record.held.then_some(record.why)),
        None => {
            let source = entry.key.as_str().rsplit('/').nth(1).unwrap_or_default().to_owned();
            let at = names::instant_of(entry.key.last()).unwrap_or(entry.modified);
            held.latest.take_in(source, at, Some(format!("{} cannot be read, and may be a hold", entry.key)));
        }
    })?;
    Ok(held)
}

/// Holds a source of `whose`, or ends that.
pub fn write(
    repository: &Repository,
    writer: &Writer,
    known: &Held,
    (whose, source): (&str, &str),
    (held, why): (bool, &str),
    now: Timestamp,
) -> Result<()> {
    let at = known.latest.instant_of_next(source, now);
    let record = HoldRecord {
        repository: repository.id().to_owned(),
        writer: writer.id().to_owned(),
        point_writer: whose.to_owned(),
        source: source.to_owned(),
        held,
        why: why.to_owned(),
        at,
    };
    latest::write(repository, writer, whose, &names::new_hold(writer.id(), (whose, source), at), &record)
}
