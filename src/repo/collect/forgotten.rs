//! What was removed on purpose: tombstones, and the numbers that marks remember. Checks ask here before they call a gap in a
//! series a finding; collectors, what a removed point referred to.

use super::Collector;
use super::records::{self, Mark, SeriesMemory, Tombstone};
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

/// What was removed on purpose of the points of a writer.
pub struct Removed {
    /// As the newest mark remembers them.
    series: BTreeMap<String, SeriesMemory>,
    tombstones: BTreeMap<(String, String), Tombstone>,
}

/// According to those whose keys are known here.
pub fn removed(repository: &Repository, keys: &Keyring, trust: &Trust, writer: &str) -> Result<Removed> {
    let mut signers = Vec::new();
    for info in catalog::writers(repository)?.0 {
        match trust.decide(&info.writer, &info.verify_key)? {
            Trusted::FromStore(_) if !trust.pinned.is_empty() => {}
            signer => signers.push(signer),
        }
    }
    Ok(Removed {
        series: newest_mark(repository, keys, &signers, writer)?.map(|mark| mark.series).unwrap_or_default(),
        tombstones: tombstones(repository, keys, &signers, writer)?,
    })
}

impl Removed {
    /// Numbers by series, without those below the oldest point that the mark saw.
    pub fn numbers(self) -> BTreeMap<String, Vec<(u64, u64)>> {
        let of_series = |(source, memory): (String, SeriesMemory)| (source, memory.forgotten);
        let mut all: BTreeMap<String, Vec<(u64, u64)>> = self.series.into_iter().map(of_series).collect();
        for ((source, _), tombstone) in self.tombstones {
            if let Some(number) = tombstone.sequence {
                records::add_number(all.entry(source).or_default(), number);
            }
        }
        all
    }

    /// Whether this point was. One that the mark saw, or that came after it, and is gone without a tombstone, was lost.
    pub fn includes(&self, point: &Point) -> bool {
        if self.tombstones.contains_key(&(point.source.clone(), point.point.clone())) {
            return true;
        }
        let Some(memory) = self.series.get(&point.source) else { return false };
        let before_the_oldest = memory.points.values().min().is_some_and(|oldest| point.sequence < *oldest);
        !memory.points.contains_key(&point.point)
            && (before_the_oldest || records::has_number(&memory.forgotten, point.sequence))
    }
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
