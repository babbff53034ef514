//! What a session finds when it begins: the previous point of its series, and what interrupted sessions left.

use super::{Base, SessionInfo};
use crate::error::{Failure, Result};
use crate::repo::catalog::horizon;
use crate::repo::collect::protocol;
use crate::repo::container::decode;
use crate::repo::index::{Index, PackInfo};
use crate::repo::point::Point;
use crate::repo::sealed::{self, SealedBy};
use crate::repo::writer::Writer;
use crate::repo::{Repository, names, sign};
use crate::store::{self, Key, Store, StoreError};
use jiff::Timestamp;
use std::collections::HashSet;

/// The newest point of the series, with its index, and the highest number seen on the way. A damaged one is passed over for
/// the one before: it must not stop backups, and `bkp check` names it. So is one from the future: after a clock that was
/// wrong for an hour, everything would build on what was then, for ever.
pub(super) fn latest(
    repository: &Repository,
    writer: &Writer,
    source: &str,
    now: Timestamp,
) -> Result<(Option<Base>, u64)> {
    let store = &*repository.store;
    let keys = writer.keyring();
    let signer = sign::parse_key(&writer.info.verify_key)?;
    let mut newest: Option<(Point, [u8; 32])> = None;
    let mut number = 0;
    for entry in store.list(&names::points(writer.id(), Some(source)))?.into_iter().rev() {
        // Names have whole seconds: several points may share one.
        let instant = names::instant_of(entry.key.last());
        if newest.as_ref().is_some_and(|(point, _)| names::instant_of(&point.point) != instant) {
            break;
        }
        let sealed = match store::read(store, &entry.key) {
            Ok(sealed) => sealed,
            Err(StoreError::NotFound(_)) => continue,
            Err(e) => return Err(e.into()),
        };
        let Ok(point) = Point::open(&sealed, &entry.key, &keys, &signer, repository.id()) else { continue };
        number = number.max(point.sequence);
        if point.consistent_at > horizon(now) {
            continue;
        }
        let order = |point: &Point| (point.consistent_at, point.sequence);
        if newest.as_ref().is_none_or(|(other, _)| order(other) < order(&point)) {
            newest = Some((point, names::sha256(&sealed)));
        }
    }
    let Some((point, sha256)) = newest else { return Ok((None, number)) };
    let index = match &point.tree {
        Some(tree) => repository
            .pinned(&tree.index)
            .and_then(|sealed| Index::from_bytes(&decode::open_whole(&sealed, &keys, "the index")?, "the index")),
        None => Ok(Index::default()),
    };
    // A lost index costs deduplication, not the backup.
    let mut index = index.ok().filter(|i| !i.packs.is_empty());
    if let (Some(index), Some(tree)) = (&mut index, &point.tree) {
        sealed::tell(&mut index.packs, &tree.packs);
    }
    Ok((Some(Base { point, sha256, index }), number))
}

/// Which of these packs are listed, with their sizes, and may be used again.
pub(super) fn present(
    packs: &[PackInfo],
    writer: &Writer,
    listed: &HashSet<(Key, u64)>,
) -> impl Iterator<Item = PackInfo> {
    let is_listed = |pack: &&PackInfo| listed.contains(&(names::pack(writer.id(), &pack.sha256), pack.size));
    packs.iter().filter(|pack| writer.reuses(pack.sealed)).filter(is_listed).copied()
}

pub(super) fn still_there(store: &dyn Store, point: &Point) -> Result<bool> {
    match store.head(&point.key()) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn is_fenced(store: &dyn Store, writer: &str, session: &str) -> Result<bool> {
    match store.head(&names::fence(writer, session)) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A session that came to no end.
pub(super) struct Dead {
    pub id: String,
    /// With which keys it sealed its packs.
    sealed: SealedBy,
}

/// Sessions of this series that have no end and no fence. Whoever holds the lock of the source knows that they are dead, and
/// asks only once the session of its own is in the store: a collector that fences them later has seen it.
pub(super) fn dead_sessions(repository: &Repository, writer: &Writer, source: &str, mine: &str) -> Result<Vec<Dead>> {
    let store = &*repository.store;
    let all: Vec<String> =
        store.list(&names::sessions(writer.id()))?.into_iter().map(|e| e.key.last().to_owned()).collect();
    let mut dead = Vec::new();
    for id in all.iter().filter(|id| !id.ends_with(".end") && *id != mine && !all.contains(&format!("{id}.end"))) {
        let sealed = store::read(store, &names::session(writer.id(), id))?;
        let Ok(data) = decode::open_whole(&sealed, &writer.keyring(), "a session") else { continue };
        let info: SessionInfo = serde_json::from_slice(&data)
            .map_err(|e| Failure::failed(format!("the session {id} is damaged")).because(e))?;
        if info.source == source && protocol::may_adopt(is_fenced(store, writer.id(), id)?) {
            dead.push(Dead { id: id.clone(), sealed: info.sealed });
        }
    }
    Ok(dead)
}

/// Sessions of this writer that have no end, of whatever source: they go on, or died. With which keys each of them seals.
pub fn unended(repository: &Repository, writer: &Writer) -> Result<Vec<(String, SealedBy)>> {
    let store = &*repository.store;
    let all: Vec<String> =
        store.list(&names::sessions(writer.id()))?.into_iter().map(|e| e.key.last().to_owned()).collect();
    let mut unended = Vec::new();
    for id in all.iter().filter(|id| !id.ends_with(".end") && !all.contains(&format!("{id}.end"))) {
        let sealed = match store::read(store, &names::session(writer.id(), id)) {
            Ok(sealed) => sealed,
            // Somebody pruned it meanwhile.
            Err(StoreError::NotFound(_)) => continue,
            Err(e) => return Err(e.into()),
        };
        let info = decode::open_whole(&sealed, &writer.keyring(), "a session").ok();
        let info = info.and_then(|data| serde_json::from_slice::<SessionInfo>(&data).ok());
        unended.extend(info.map(|info| (info.source, info.sealed)));
    }
    Ok(unended)
}

/// What those sessions had stored. A damaged checkpoint is passed over: it only costs storing again.
pub(super) fn checkpoints(repository: &Repository, writer: &Writer, sessions: &[Dead]) -> Result<Vec<Index>> {
    let store = &*repository.store;
    let mut all = Vec::new();
    for Dead { id, sealed } in sessions {
        for entry in store.list(&names::checkpoints(writer.id(), id))? {
            let object = store::read(store, &entry.key)?;
            let index = decode::open_whole(&object, &writer.keyring(), "a checkpoint")
                .and_then(|data| Index::from_bytes(&data, "a checkpoint"));
            let Ok(mut index) = index else { continue };
            index.packs.iter_mut().for_each(|pack| pack.sealed = *sealed);
            // An empty one was only a sign of life.
            all.extend(Some(index).filter(|index| !index.packs.is_empty()));
        }
    }
    Ok(all)
}
