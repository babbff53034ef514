//! What was removed on purpose: tombstones, and the numbers that marks remember. Checks ask here before they call a gap in a
//! series a finding; collectors, what a removed point referred to.

use super::Collector;
use super::records::{self, Mark, Tombstone};
use crate::error::{Kind, Result};
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::record;
use crate::repo::sign::{Trust, Trusted};
use crate::repo::{Repository, catalog, names, sign};
use crate::store;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::collections::BTreeMap;

/// All tombstones of a writer that one of these signed, by source and point. Others say nothing.
pub(super) fn tombstones(
    repository: &Repository,
    keys: &Keyring,
    signers: &[Trusted],
    writer: &str,
) -> Result<BTreeMap<(String, String), Tombstone>> {
    let mut all = BTreeMap::new();
    for entry in repository.store.list(&names::collector(writer, "forgotten"))? {
        let sealed = match store::read(&*repository.store, &entry.key) {
            Ok(sealed) => sealed,
            Err(store::StoreError::NotFound(_)) => continue,
            Err(e) => return Err(e.into()),
        };
        let what = format!("the tombstone {}", entry.key);
        let believed = signers
            .iter()
            .find_map(|signer| record::open::<Tombstone>(&sealed, keys, signer.key(), repository.id(), &what).ok());
        let is_named_so =
            |t: &Tombstone| entry.key == names::tombstone(writer, &t.source, &t.point) && t.writer == writer;
        if let Some(tombstone) = believed.filter(|t| names::check_source(&t.source).is_ok() && is_named_so(t)) {
            all.insert((tombstone.source.clone(), tombstone.point.clone()), tombstone);
        }
    }
    Ok(all)
}

/// The point that a tombstone stands for; nothing when it does not say, or is not to be believed.
pub(super) fn point_of(collector: &Collector<'_>, tombstone: &Tombstone) -> Option<Point> {
    let sealed = BASE64.decode(tombstone.object.as_ref()?).ok()?;
    let name = names::point(&tombstone.writer, &tombstone.source, &tombstone.point);
    let signer = sign::parse_key(&collector.whose.verify_key).ok()?;
    Point::open(&sealed, &name, collector.keys, &signer, collector.repository.id()).ok()
}

/// Numbers of each series of a writer that were forgotten, according to those whose keys are known here.
pub fn numbers(
    repository: &Repository,
    keys: &Keyring,
    trust: &Trust,
    writer: &str,
) -> Result<BTreeMap<String, Vec<(u64, u64)>>> {
    let mut signers = Vec::new();
    for info in catalog::writers(repository)?.0 {
        match trust.decide(&info.writer, &info.verify_key)? {
            Trusted::FromStore(_) if !trust.pinned.is_empty() => {}
            signer => signers.push(signer),
        }
    }
    let mut all: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    if let Some(mark) = newest_mark(repository, keys, &signers, writer)? {
        all.extend(mark.series.into_iter().map(|(source, memory)| (source, memory.forgotten)));
    }
    for ((source, _), tombstone) in tombstones(repository, keys, &signers, writer)? {
        if let Some(number) = tombstone.sequence {
            records::add_number(all.entry(source).or_default(), number);
        }
    }
    Ok(all)
}

fn newest_mark(repository: &Repository, keys: &Keyring, signers: &[Trusted], writer: &str) -> Result<Option<Mark>> {
    let mut listed = repository.store.list(&names::collector(writer, "marks"))?;
    listed.sort_by_key(|entry| (names::mark_number(&entry.key), entry.modified));
    for entry in listed.iter().rev() {
        let sealed = match store::read(&*repository.store, &entry.key) {
            Ok(sealed) => sealed,
            Err(store::StoreError::NotFound(_)) => continue,
            Err(e) => return Err(e.into()),
        };
        let what = format!("the mark {}", entry.key);
        for signer in signers {
            match record::open::<Mark>(&sealed, keys, signer.key(), repository.id(), &what) {
                Ok(mark) if mark.writer == writer => return Ok(Some(mark)),
                Ok(_) => {}
                Err(e) if e.kind() == Kind::TryLater => return Err(e),
                Err(_) => {}
            }
        }
    }
    Ok(None)
}
