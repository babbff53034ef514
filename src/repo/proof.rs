//! Proofs: signed records of how far a point was verified, and when (`docs/FORMAT.md` §8).

use crate::error::Result;
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::record::{self, Record};
use crate::repo::sign::Trust;
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, catalog, names};
use crate::store;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    pub fn name(self) -> &'static str {
        match self {
            Level::Stored => "stored",
            Level::Readable => "readable",
            Level::Loaded => "loaded",
            Level::Equal => "equal",
            Level::Checked => "checked",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Level::Stored, Level::Readable, Level::Loaded, Level::Equal, Level::Checked]
            .into_iter()
            .find(|l| l.name() == name)
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

/// The highest proven level of each point, and when it was proven last. Only the one record that would count is opened;
/// one that cannot be opened or believed does not count.
pub fn highest(
    repository: &Repository,
    keys: &Keyring,
    trust: &Trust,
    source: Option<&str>,
) -> Result<BTreeMap<String, (Level, Timestamp)>> {
    let mut best = BTreeMap::new();
    for info in catalog::writers(repository)?.0 {
        let signer = trust.decide(&info.writer, &info.verify_key)?;
        let mut candidates: BTreeMap<String, Vec<(Level, store::Key)>> = BTreeMap::new();
        for entry in repository.store.list(&names::proofs(&info.writer, source))? {
            let mut parts = entry.key.last().split('.');
            if let (Some(point), Some(level)) = (parts.next(), parts.next().and_then(Level::parse)) {
                candidates.entry(point.to_owned()).or_default().push((level, entry.key));
            }
        }
        for (point, mut records) in candidates {
            records.sort();
            let believed = records.into_iter().rev().find_map(|(level, key)| {
                let proof = open(repository, keys, signer.key(), &key).ok()?;
                (proof.point == point && proof.level == level).then_some((level, proof.at))
            });
            if let Some(proven) = believed {
                let entry = best.entry(point).or_insert(proven);
                *entry = proven.max(*entry);
            }
        }
    }
    Ok(best)
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
