//! The points as lists show them: of many points the newest, opened side by side, and those that this host has opened before
//! not again.
//!
//! For showing only. Who decides by points reads them with [`catalog::list`].

use crate::error::{Kind, Result};
use crate::repo::catalog::{self, Broken};
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::proof::{self, Level};
use crate::repo::remembered::Remembered;
use crate::repo::side_by_side::side_by_side;
use crate::repo::sign::{Trust, Trusted};
use crate::repo::{Repository, names};
use crate::store::{self, Entry, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is shown of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub writer: String,
    pub source: String,
    /// `UTC-ID`.
    pub point: String,
    pub sequence: u64,
    pub engine: String,
    pub engine_version: String,
    pub host: String,
    pub consistent_at: Timestamp,
    pub bytes: u64,
    pub added: u64,
    pub entries: Option<u64>,
    pub streams: Vec<String>,
    pub warnings: u64,
    pub purpose: Option<String>,
}

impl From<&Point> for Summary {
    fn from(point: &Point) -> Self {
        Summary {
            writer: point.writer.clone(),
            source: point.source.clone(),
            point: point.point.clone(),
            sequence: point.sequence,
            engine: point.engine.kind.clone(),
            engine_version: point.engine.version.clone(),
            host: point.host.clone(),
            consistent_at: point.consistent_at,
            bytes: point.bytes,
            added: point.added,
            entries: point.tree.as_ref().map(|tree| tree.entries),
            streams: point.streams.iter().map(|stream| stream.name.clone()).collect(),
            warnings: point.warnings,
            purpose: point.purpose.clone(),
        }
    }
}

/// Which points, and where to remember them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    pub source: Option<&'a str>,
    pub writer: Option<&'a str>,
    /// So many of each series; all when absent.
    pub newest: Option<usize>,
    /// A private directory for what this host can open by itself.
    pub remember: Option<&'a Path>,
}

#[derive(Debug, Default)]
pub struct Listing {
    pub points: Vec<Summary>,
    /// Of these points.
    pub proofs: BTreeMap<String, (Level, Timestamp)>,
    /// All that are there, also those that were not asked for.
    pub total: usize,
    pub broken: Broken,
    /// As in [`catalog::Catalog`].
    pub unpinned: BTreeMap<String, String>,
}

pub fn list(repository: &Repository, keys: &Keyring, trust: &Trust, asked: Asked<'_>) -> Result<Listing> {
    let believed = catalog::believed(repository, trust, asked.writer)?;
    let mut listing = Listing { broken: believed.broken, unpinned: believed.unpinned, ..Listing::default() };
    for (info, signer) in believed.writers {
        let listed = repository.store.list(&names::points(&info.writer, asked.source))?;
        for (source, entries) in catalog::by_series(listed) {
            listing.total += entries.len();
            let remember = asked.remember.map(|to| to.join(&info.writer).join("points").join(&source));
            let mut known = Remembered::open(remember, signer.key());
            let first = asked.newest.map_or(0, |newest| entries.len().saturating_sub(newest));
            read_series(repository, keys, &signer, &entries[first..], &mut known, &mut listing)?;
            known.keep(&entries);
        }
    }
    let shown: BTreeSet<&str> = listing.points.iter().map(|point| point.point.as_str()).collect();
    let of = proof::Of { source: asked.source, points: Some(&shown), remember: asked.remember };
    listing.proofs = proof::highest_of(repository, keys, trust, of)?;
    Ok(listing)
}

fn read_series(
    repository: &Repository,
    keys: &Keyring,
    signer: &Trusted,
    entries: &[Entry],
    known: &mut Remembered<Summary>,
    listing: &mut Listing,
) -> Result<()> {
    let open = |entry: &&Entry| -> Result<Option<Result<Summary>>> {
        let sealed = match store::read(&*repository.store, &entry.key) {
            Ok(sealed) => sealed,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        match Point::open(&sealed, &entry.key, keys, signer.key(), repository.id()) {
            // Without a fitting key nothing opens: that is about the user, not about this point.
            Err(e) if e.kind() == Kind::Key => Err(e),
            opened => Ok(Some(opened.map(|point| (&point).into()))),
        }
    };
    let new: Vec<&Entry> = entries.iter().filter(|entry| known.get(entry).is_none()).collect();
    for (entry, opened) in new.iter().zip(side_by_side(&new, open)?) {
        match opened {
            Some(Ok(summary)) => known.put(entry, summary),
            Some(Err(failure)) => listing.broken.push((entry.key.clone(), failure)),
            None => {}
        }
    }
    listing.points.extend(entries.iter().filter_map(|entry| known.get(entry).cloned()));
    Ok(())
}
