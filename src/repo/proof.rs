//! Proofs: signed records of how far a point was verified, and when (`docs/FORMAT.md` §8).

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::record::{self, Record};
use crate::repo::remembered::Remembered;
use crate::repo::side_by_side::side_by_side;
use crate::repo::sign::Trust;
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, catalog, names};
use crate::store::{self, Entry};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How far a point is proven; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Its bytes were read again and are those that were written.
    Stored,
    /// It was decrypted and decoded to the end.
    Readable,
    /// A scratch engine accepted it.
    Loaded,
    /// Its contents equal the fingerprint of the source.
    Equal,
    /// The user's own assertions hold.
    Checked,
}

impl Level {
    /// From the weakest to the strongest.
    pub const ALL: [Level; 5] = [Level::Stored, Level::Readable, Level::Loaded, Level::Equal, Level::Checked];

    pub fn name(self) -> &'static str {
        match self {
            Level::Stored => "stored",
            Level::Readable => "readable",
            Level::Loaded => "loaded",
            Level::Equal => "equal",
            Level::Checked => "checked",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proof {
    pub repository: String,
    /// Who proved.
    pub writer: String,
    /// Whose point it is.
    pub point_writer: String,
    pub source: String,
    pub point: String,
    pub level: Level,
    pub at: Timestamp,
    pub detail: serde_json::Value,
}

impl Record for Proof {
    const TYPE: &'static str = "application/vnd.bkp.proof+json";

    fn repository(&self) -> &str {
        &self.repository
    }
}

pub fn write(repository: &Repository, writer: &Writer, point: &Point, level: Level, at: Timestamp) -> Result<()> {
    let proof = Proof {
        repository: repository.id().to_owned(),
        writer: writer.id().to_owned(),
        point_writer: point.writer.clone(),
        source: point.source.clone(),
        point: point.point.clone(),
        level,
        at,
        detail: serde_json::Value::Null,
    };
    // Whose point it is must be able to read it: what is older may be deleted only behind it.
    let recipients = match catalog::writer(repository, &point.writer)? {
        Some(info) => writer.audience(Audience::All).and(&info.recipient),
        None => writer.audience(Audience::All),
    };
    let sealed = record::seal(&proof, writer, &recipients)?;
    let key = names::proof(writer.id(), &point.source, &point.point, level.name(), at);
    Ok(repository.store.put(&key, Bytes::from(sealed), None)?)
}

/// Whose proofs, and where to remember them.
#[derive(Clone, Copy, Default)]
pub struct Of<'a> {
    pub source: Option<&'a str>,
    /// All when absent.
    pub points: Option<&'a BTreeSet<&'a str>>,
    /// As in [`crate::repo::listing::Asked`].
    pub remember: Option<&'a Path>,
}

/// The highest proven level of each point, and when it was proven last. Only the one record that would count is opened;
/// one that cannot be opened or believed does not count.
pub fn highest(
    repository: &Repository,
    keys: &Keyring,
    trust: &Trust,
    source: Option<&str>,
) -> Result<BTreeMap<String, (Level, Timestamp)>> {
    highest_of(repository, keys, trust, Of { source, ..Of::default() })
}

/// The same of these points, for lists.
pub fn highest_of(
    repository: &Repository,
    keys: &Keyring,
    trust: &Trust,
    of: Of<'_>,
) -> Result<BTreeMap<String, (Level, Timestamp)>> {
    let mut best = BTreeMap::new();
    for info in catalog::writers(repository)?.0 {
        let signer = trust.decide(&info.writer, &info.verify_key)?;
        for (source, entries) in catalog::by_series(repository.store.list(&names::proofs(&info.writer, of.source))?) {
            let remember = of.remember.map(|to| to.join(&info.writer).join("proofs").join(source));
            let mut known: Remembered<Proven> = Remembered::open(remember, signer.key());
            let mut candidates = candidates(&entries, of.points);
            candidates.values_mut().for_each(|records| records.sort_by_key(|(level, entry)| (*level, &entry.key)));
            // Mostly the highest one is believed, and no other has to be opened.
            let highest = candidates.iter().filter_map(|(point, records)| Some((*point, *records.last()?)));
            let new: Vec<_> = highest.filter(|(_, (_, entry))| known.get(entry).is_none()).collect();
            let open = |point: &str, level: Level, entry: &Entry| {
                let proof = open(repository, keys, signer.key(), &entry.key).ok()?;
                (proof.point == point && proof.level == level).then_some((level, proof.at))
            };
            let opened = side_by_side(&new, |(point, (level, entry))| Ok(open(point, *level, entry)))?;
            for ((_, (_, entry)), proven) in new.iter().zip(opened) {
                proven.into_iter().for_each(|proven| known.put(entry, proven));
            }
            for (point, records) in candidates {
                let believed = records.into_iter().rev().find_map(|(level, entry)| {
                    if let Some(proven) = known.get(entry) {
                        return Some(*proven);
                    }
                    let proven = open(point, level, entry)?;
                    known.put(entry, proven);
                    Some(proven)
                });
                if let Some(proven) = believed {
                    let entry = best.entry(point.to_owned()).or_insert(proven);
                    *entry = proven.max(*entry);
                }
            }
            known.keep(&entries);
        }
    }
    Ok(best)
}

type Proven = (Level, Timestamp);

/// The records there are of each point.
fn candidates<'e>(entries: &'e [Entry], points: Option<&BTreeSet<&str>>) -> BTreeMap<&'e str, Vec<(Level, &'e Entry)>> {
    let mut candidates: BTreeMap<&str, Vec<(Level, &Entry)>> = BTreeMap::new();
    for entry in entries {
        let mut parts = entry.key.last().split('.');
        if let (Some(point), Some(level)) = (parts.next(), parts.next().and_then(Level::parse))
            && points.is_none_or(|wanted| wanted.contains(point))
        {
            candidates.entry(point).or_default().push((level, entry));
        }
    }
    candidates
}

fn open(
    repository: &Repository,
    keys: &Keyring,
    signer: &ed25519_dalek::VerifyingKey,
    key: &store::Key,
) -> Result<Proof> {
    let sealed = store::read(&*repository.store, key)?;
    record::open(&sealed, keys, signer, repository.id(), &format!("the proof {key}"))
}
