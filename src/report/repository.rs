//! What the repository itself says: its points with their proofs, who can read, who writes, and what is locked.
//!
//! Read with the keys of this host. The lock is read back from the store for the newest point of each source: what was
//! asked for when it was written does not count.

use crate::error::Result;
use crate::job::dependence::{self, Dependence, KeptOf};
use crate::repo::keys::{self, Keyring, NamedRecipient};
use crate::repo::proof::{self, Level};
use crate::repo::sign::Trust;
use crate::repo::writer::{Writer, WriterInfo};
use crate::repo::{Repository, catalog, former, pinned, recipients};
use crate::store::LockMode;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize)]
pub struct RepositoryFacts {
    pub location: String,
    pub id: String,
    pub created: Timestamp,
    /// What its endpoint was found to do when the repository was made.
    pub abilities: serde_json::Value,
    pub points: Vec<PointFacts>,
    pub broken: Vec<Broken>,
    pub readers: Vec<NamedRecipient>,
    /// Keys of those who read once, and which points still open to them.
    pub former: Vec<Dependence>,
    /// Numbers of the lists of who reads that are missing or damaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_lists: Vec<u32>,
    pub writers: Vec<WriterInfo>,
    pub epochs: Vec<EpochFacts>,
    /// What this host writes with; nothing where it only reads.
    pub this_host: Option<ThisHost>,
    /// Of the newest point of each source.
    pub locks: BTreeMap<String, Option<LockFacts>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PointFacts {
    pub source: String,
    pub point: String,
    pub consistent_at: Timestamp,
    pub written_at: Timestamp,
    pub host: String,
    pub engine: String,
    pub engine_version: String,
    pub bytes: u64,
    pub added: u64,
    pub warnings: u64,
    pub safety: bool,
    pub level: Option<Level>,
    pub proven_at: Option<Timestamp>,
    pub pinned: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    pub object: String,
    pub problem: String,
}

/// A key that data is sealed to, and since when it has been in the store.
#[derive(Clone, Debug, Serialize)]
pub struct EpochFacts {
    pub number: u32,
    pub stored: Timestamp,
}

/// The keys of a host among those of all.
#[derive(Clone, Debug, Serialize)]
pub struct ThisHost {
    pub writer: String,
    /// Number of the data key that new data is sealed to.
    pub epoch: u32,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct LockFacts {
    pub mode: LockMode,
    pub until: Timestamp,
}

/// `host`: this host, where it writes. It reads its own points only, unless an operator's key was given (`all`).
pub fn look(
    repository: &Repository,
    (keys, trust): (&Keyring, &Trust),
    (host, all): (Option<&Writer>, bool),
    kept: KeptOf<'_>,
    now: Timestamp,
) -> Result<RepositoryFacts> {
    let own = host.filter(|_| !all);
    let wanted = catalog::Wanted { writer: own.map(Writer::id), ..catalog::Wanted::default() };
    let catalog = catalog::list(repository, keys, trust, wanted)?;
    let proofs = proof::highest(repository, keys, trust, None)?;
    let pins = pinned::all(repository, keys, trust)?;
    let locks = locks(repository, &catalog, now)?;
    let points = catalog.points.iter().map(|point| {
        let proven = proofs.get(&point.point);
        PointFacts {
            source: point.source.clone(),
            point: point.point.clone(),
            consistent_at: point.consistent_at,
            written_at: point.written_at,
            host: point.host.clone(),
            engine: point.engine.kind.clone(),
            engine_version: point.engine.version.clone(),
            bytes: point.bytes,
            added: point.added,
            warnings: point.warnings,
            safety: point.is_safety(),
            level: proven.map(|(level, _)| *level),
            proven_at: proven.map(|(_, at)| *at),
            pinned: pins.reason(point),
        }
    });
    let broken = |(key, failure): &(crate::store::Key, crate::error::Failure)| Broken {
        object: key.to_string(),
        problem: failure.full(),
    };
    let (former, unknown_lists) = former::all(repository, trust)?;
    Ok(RepositoryFacts {
        location: repository.store.describe(),
        id: repository.id().to_owned(),
        created: repository.info.created,
        abilities: repository.info.store.clone(),
        points: points.collect(),
        broken: catalog.broken.iter().map(broken).collect(),
        readers: match own {
            Some(writer) => writer.recipients.clone(),
            None => recipients::claimed(&*repository.store)?.1,
        },
        former: dependence::look(repository, &former, (keys, trust), &catalog, (kept, now))?,
        unknown_lists,
        writers: catalog::writers(repository)?.0,
        epochs: epochs(repository)?,
        this_host: host.map(|host| ThisHost { writer: host.id().to_owned(), epoch: host.epoch.number }),
        locks,
    })
}

/// Of the newest point of each source.
fn locks(
    repository: &Repository,
    catalog: &catalog::Catalog,
    now: Timestamp,
) -> Result<BTreeMap<String, Option<LockFacts>>> {
    let mut locks = BTreeMap::new();
    let sources: std::collections::BTreeSet<&str> = catalog.points.iter().map(|p| p.source.as_str()).collect();
    for source in sources {
        let Some(newest) = catalog.latest(source, None, now) else { continue };
        let retain = repository.store.head(&newest.key())?.retain;
        let lock = retain.map(|retain| LockFacts { mode: retain.mode, until: retain.until });
        locks.insert(source.to_owned(), lock);
    }
    Ok(locks)
}

fn epochs(repository: &Repository) -> Result<Vec<EpochFacts>> {
    let all = repository.store.list("keys/")?.into_iter();
    let of = |entry: crate::store::Entry| {
        Some(EpochFacts { number: keys::epoch_number(entry.key.as_str())?, stored: entry.modified })
    };
    Ok(all.filter_map(of).collect())
}

impl RepositoryFacts {
    pub fn can_lock(&self) -> bool {
        self.abilities.get("object_lock").and_then(serde_json::Value::as_bool).unwrap_or(false)
    }

    pub fn newest(&self, source: &str) -> Option<&PointFacts> {
        self.points.iter().filter(|p| p.source == source && !p.safety).max_by_key(|p| p.consistent_at)
    }
}
