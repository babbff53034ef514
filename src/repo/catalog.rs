//! The points there are: listed, opened, their signatures checked, and chosen by instant or id.

use crate::error::{Failure, Kind, Result};
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::side_by_side::side_by_side;
use crate::repo::sign::{self, Trust, Trusted};
use crate::repo::writer::WriterInfo;
use crate::repo::{Repository, names};
use crate::store::{self, Entry, Key, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Objects that are there but cannot be believed or opened, with the reason.
pub type Broken = Vec<(Key, Failure)>;

/// The points of a repository, as far as they could be opened.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Sorted by writer, source and instant.
    pub points: Vec<Point>,
    /// Points, and writers, that exist but cannot be believed or opened, with the reason.
    pub broken: Broken,
    /// Writers whose key only the store vouches for: id and key. Their points are here only when no key at all is pinned.
    pub unpinned: BTreeMap<String, String>,
    /// SHA-256 of the objects of `points`, for the chain.
    pub hashes: BTreeMap<Key, [u8; 32]>,
    /// When the store got the objects of `points`, by its clock.
    pub stored: BTreeMap<Key, Timestamp>,
}

/// Clocks of hosts may differ by so much.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A point beyond this was made under a wrong clock: it says nothing about how old the data is.
pub fn horizon(now: Timestamp) -> Timestamp {
    now.checked_add(CLOCK_SKEW).unwrap_or(now)
}

/// Which points to read. Reading fewer is faster: each costs one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub source: Option<&'a str>,
    /// Only those of this writer; another one's are closed to it.
    pub writer: Option<&'a str>,
    /// Only the newest of each series that is not after this instant, and the safety backups after that one.
    pub newest_until: Option<Timestamp>,
    /// Only those with this id, or the beginning of one.
    pub id: Option<&'a str>,
    /// With `newest_until`: also those after that instant.
    pub and_later: bool,
    /// Only these objects.
    pub among: Option<&'a BTreeSet<Key>>,
}

/// The writers there are, and what stands among them and is none: that must not hide the others.
pub fn writers(repository: &Repository) -> Result<(Vec<WriterInfo>, Broken)> {
    let (mut all, mut broken) = (Vec::new(), Vec::new());
    for entry in repository.store.list(names::WRITERS)? {
        let damaged = Failure::new(Kind::Verification, format!("{} is damaged", entry.key));
        match serde_json::from_slice::<WriterInfo>(&store::read(&*repository.store, &entry.key)?) {
            Ok(info) if !names::is_writer(&entry.key, &info.writer) => {
                broken.push((entry.key, damaged.because("it is about another writer")));
            }
            Ok(info) if sign::parse_key(&info.verify_key).is_err() => {
                broken.push((entry.key, damaged.because("the key in it is none")));
            }
            Ok(info) => all.push(info),
            Err(e) => broken.push((entry.key, damaged.because(e))),
        }
    }
    Ok((all, broken))
}

/// What a writer says of itself; nothing when it is not there, or is damaged.
pub fn writer(repository: &Repository, id: &str) -> Result<Option<WriterInfo>> {
    match store::read(&*repository.store, &names::writer(id)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|info: &WriterInfo| info.writer == id)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The writers whose points are to be believed, with their keys.
pub struct Believed {
    pub writers: Vec<(WriterInfo, Trusted)>,
    pub broken: Broken,
    pub unpinned: BTreeMap<String, String>,
}

/// All of them, or only this one.
pub fn believed(repository: &Repository, trust: &Trust, only: Option<&str>) -> Result<Believed> {
    let (all, broken) = writers(repository)?;
    let mut believed = Believed { writers: Vec::new(), broken, unpinned: BTreeMap::new() };
    for info in all.into_iter().filter(|info| only.is_none_or(|only| only == info.writer)) {
        let signer = trust.decide(&info.writer, &info.verify_key)?;
        if let Trusted::FromStore(_) = signer {
            believed.unpinned.insert(info.writer.clone(), info.verify_key.clone());
            // Whoever can write to the store can register a writer. Who knows one true key is not to be given another's data.
            if !trust.pinned.is_empty() {
                continue;
            }
        }
        believed.writers.push((info, signer));
    }
    Ok(believed)
}

pub fn list(repository: &Repository, keys: &Keyring, trust: &Trust, wanted: Wanted<'_>) -> Result<Catalog> {
    let believed = believed(repository, trust, wanted.writer)?;
    let mut catalog = Catalog { broken: believed.broken, unpinned: believed.unpinned, ..Catalog::default() };
    for (info, signer) in believed.writers {
        let mut listed = repository.store.list(&names::points(&info.writer, wanted.source))?;
        listed.retain(|e| {
            wanted.id.is_none_or(|id| has_id(e.key.last(), id)) && wanted.among.is_none_or(|keys| keys.contains(&e.key))
        });
        catalog.stored.extend(listed.iter().map(|entry| (entry.key.clone(), entry.modified)));
        let series = by_series(listed).into_values();
        let series = series.map(|entries| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>());
        // Where the newest are wanted, which ones are opened depends on what was found before in the series.
        let parts: Vec<Vec<Key>> = match wanted.newest_until {
            Some(_) => series.collect(),
            None => series.flatten().map(|key| vec![key]).collect(),
        };
        for part in side_by_side(&parts, |part| read_series(repository, keys, &signer, part, &wanted))? {
            catalog.points.extend(part.points);
            catalog.hashes.extend(part.hashes);
            catalog.broken.extend(part.broken);
        }
    }
    Ok(catalog)
}

/// By source, each sorted by name, and so by instant.
pub fn by_series(listed: Vec<Entry>) -> BTreeMap<String, Vec<Entry>> {
    let mut series: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in listed {
        let source = entry.key.as_str().rsplit('/').nth(1).unwrap_or_default();
        match series.get_mut(source) {
            Some(of_source) => of_source.push(entry),
            None => drop(series.insert(source.to_owned(), vec![entry])),
        }
    }
    series
}

/// Whether a point of this name (`UTC-ID`) is meant by what was typed.
fn has_id(point: &str, typed: &str) -> bool {
    point == typed || (typed.len() >= 4 && names::short_id(point).starts_with(typed))
}

fn read_series(
    repository: &Repository,
    keys: &Keyring,
    signer: &Trusted,
    names_of_series: &[Key],
    wanted: &Wanted<'_>,
) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    let Some(until) = wanted.newest_until else {
        for key in names_of_series {
            read_one(repository, keys, signer, key.clone(), &mut catalog)?;
        }
        return Ok(catalog);
    };
    let in_time = |key: &Key| wanted.and_later || names::instant_of(key.last()).is_some_and(|at| at <= until);
    let mut found = None;
    for key in names_of_series.iter().rev().filter(|key| in_time(key)) {
        // Names have whole seconds: several points may share one.
        let second = names::instant_of(key.last());
        if found.is_some() && found != second {
            break;
        }
        let opened = read_one(repository, keys, signer, key.clone(), &mut catalog)?;
        // The point itself is exact.
        if opened && catalog.points.last().is_some_and(|p| p.consistent_at <= until && !p.is_safety()) {
            found = second;
        }
    }
    Ok(catalog)
}

/// Whether it could be opened.
pub fn read_one(
    repository: &Repository,
    keys: &Keyring,
    signer: &Trusted,
    key: Key,
    catalog: &mut Catalog,
) -> Result<bool> {
    let sealed = match store::read(&*repository.store, &key) {
        Ok(sealed) => sealed,
        Err(StoreError::NotFound(_)) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    match Point::open(&sealed, &key, keys, signer.key(), repository.id()) {
        Ok(point) => {
            catalog.hashes.insert(key, names::sha256(&sealed));
            catalog.points.push(point);
            Ok(true)
        }
        // Without a fitting key nothing opens: that is about the user, not about this point.
        Err(e) if e.kind() == Kind::Key => Err(e),
        Err(e) => {
            catalog.broken.push((key, e));
            Ok(false)
        }
    }
}

impl Catalog {
    /// The point with this id or the beginning of one (at least 4 digits).
    pub fn by_id(&self, id: &str) -> Result<&Point> {
        let fits = |p: &&Point| has_id(&p.point, id);
        let found: Vec<&Point> = self.points.iter().filter(fits).collect();
        match found[..] {
            [point] => Ok(point),
            [] => Err(Failure::failed(format!("there is no point {id}")).hint("List them with: bkp points")),
            _ => {
                Err(Failure::usage(format!("{id} is the beginning of {} points", found.len())).hint("Give more digits"))
            }
        }
    }

    /// The newest point of `source` (of one writer, when there are several) whose data stands for an instant not after `until`.
    pub fn newest(&self, source: &str, writer: Option<&str>, until: Timestamp) -> Option<&Point> {
        self.points
            .iter()
            .filter(|p| p.source == source && writer.is_none_or(|w| p.writer == w) && p.consistent_at <= until)
            .max_by_key(|p| (p.consistent_at, p.sequence))
    }

    /// The backup of `source` that stands for it now: the newest that is neither a safety backup nor from the future.
    pub fn latest(&self, source: &str, writer: Option<&str>, now: Timestamp) -> Option<&Point> {
        self.points
            .iter()
            .filter(|p| p.source == source && writer.is_none_or(|w| p.writer == w))
            .filter(|p| !p.is_safety() && p.consistent_at <= horizon(now))
            .max_by_key(|p| (p.consistent_at, p.sequence))
    }
}
