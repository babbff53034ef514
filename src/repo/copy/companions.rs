//! What makes a copy a repository by itself: `repository.json`, the restore scripts, keys, writers, proofs, pins and journals.
//!
//! None of this is pinned by a point. The scripts are those of this bkp and not those of the other store; lists and writers
//! that are there already stay as they are; of `keys/`, only what looks like a key takes the place of what is there. A point
//! carries the key of its epoch, so that no data is lost with `keys/`.

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::repo::proof::Level;
use crate::repo::sign::Trust;
use crate::repo::{Repository, RepositoryInfo, catalog, init, keys, names};
use crate::store::{self, Key, Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// How every age file begins.
const SEALED: &[u8] = b"age-encryption.org/v1\n";

/// Makes an empty repository out of a store, as a copy of `from`. `abilities` are what the store was found to do.
pub fn prepare(from: &Repository, to: Arc<dyn Store>, abilities: serde_json::Value) -> Result<Repository> {
    let info = RepositoryInfo { store: abilities, ..from.info.clone() };
    for (name, text) in init::travelling() {
        to.put(&names::fixed(name), Bytes::from_static(text.as_bytes()), None)?;
    }
    match to.put_new(&names::fixed(names::REPOSITORY), init::json(&info)?, None) {
        Ok(()) | Err(StoreError::Exists(_)) => {}
        Err(e) => return Err(e.into()),
    }
    durable::crash_point("copy:prepared");
    let made = Repository::open(to)?;
    must_be_of(&made, from)?;
    Ok(made)
}

/// A copy is of this repository and of no other.
pub fn must_be_of(copy: &Repository, of: &Repository) -> Result<()> {
    must_have_id(copy, of.id())
}

pub fn must_have_id(copy: &Repository, id: &str) -> Result<()> {
    if copy.id() == id {
        return Ok(());
    }
    let (place, id) = (copy.store.describe(), &copy.id()[..copy.id().len().min(8)]);
    Err(Failure::new(Kind::Refused, format!("{place} holds another repository ({id})"))
        .hint("Give the copy a directory or a prefix of its own"))
}

/// Brings along what changed since the last time. Gives what was left out, with the reason.
pub fn bring(from: &Repository, to: &Repository, trust: &Trust) -> Result<Vec<String>> {
    must_be_of(to, from)?;
    let mut left_out = Vec::new();
    bring_keys(&*from.store, &*to.store, &mut left_out)?;
    let there = to.store.list(names::WRITERS)?;
    let (writers, broken) = catalog::writers(from)?;
    left_out.extend(broken.into_iter().map(|(key, failure)| format!("{key}: {}", failure.full())));
    for info in &writers {
        trust.decide(&info.writer, &info.verify_key)?;
        let key = names::writer(&info.writer);
        if !there.iter().any(|entry| entry.key == key) {
            put_new(&*to.store, &key, store::read(&*from.store, &key)?)?;
        }
        // What was proven of the contents holds in every store that holds the same bytes. That bytes were read again does not.
        let of_the_bytes = format!(".{}.", Level::Stored.name());
        bring_records(from, to, &names::proofs(&info.writer, None), |name| !name.contains(&of_the_bytes))?;
        bring_records(from, to, &names::pinned_points(&info.writer), |_| true)?;
        bring_records(from, to, &names::holds(&info.writer), |_| true)?;
        let evidence = [names::journals, names::rehearsals, names::heads].map(|prefix| prefix(&info.writer));
        evidence.iter().try_for_each(|prefix| bring_records(from, to, prefix, |_| true))?;
    }
    durable::crash_point("copy:companions-written");
    Ok(left_out)
}

fn put_new(store: &dyn Store, key: &Key, bytes: Vec<u8>) -> Result<()> {
    match store.put_new(key, Bytes::from(bytes), None) {
        Ok(()) | Err(StoreError::Exists(_)) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Numbered lists are never written twice. The list for people and the epochs change when somebody is let in or goes.
fn bring_keys(from: &dyn Store, to: &dyn Store, left_out: &mut Vec<String>) -> Result<()> {
    for entry in from.list("keys/")? {
        let (key, name) = (&entry.key, entry.key.as_str());
        let is_list = names::recipients_number(name).is_some();
        let is_epoch = keys::epoch_number(name).is_some();
        if !is_list && !is_epoch && name != names::RECIPIENTS {
            continue;
        }
        let bytes = store::read(from, key)?;
        let known = match store::read(to, key) {
            Ok(known) => Some(known),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let good = if is_epoch {
            bytes.starts_with(SEALED)
        } else {
            serde_json::from_slice::<serde_json::Value>(&bytes).is_ok()
        };
        match known {
            Some(known) if known == bytes => {}
            _ if !good => left_out.push(format!("{name} in {} is damaged", from.describe())),
            Some(_) if is_list => left_out.push(format!("{name} is another list in {}", to.describe())),
            Some(_) => to.put(key, Bytes::from(bytes), None)?,
            None => put_new(to, key, bytes)?,
        }
    }
    Ok(())
}

/// Signed records that are never changed.
fn bring_records(from: &Repository, to: &Repository, prefix: &str, meant: impl Fn(&str) -> bool) -> Result<()> {
    let there = to.store.list(prefix)?;
    for entry in from.store.list(prefix)? {
        let known = there.binary_search_by(|known| known.key.cmp(&entry.key)).is_ok();
        if !known && meant(entry.key.last()) {
            put_new(&*to.store, &entry.key, store::read(&*from.store, &entry.key)?)?;
        }
    }
    Ok(())
}
