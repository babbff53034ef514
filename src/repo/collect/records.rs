//! What a collector writes: tombstones, fences, marks and their lists of the dead (`docs/FORMAT.md` §11).
//!
//! All are signed by the collector and sealed to the writer it collects for, itself and the operators. A mark carries what
//! the next run compares with: which points and open sessions there were, which numbers were forgotten, which rules held.

use super::protocol::{DeadList, Id};
use crate::error::{Failure, Kind, Result};
use crate::repo::container::{decode, encode};
use crate::repo::keys::{Keyring, Recipients};
use crate::repo::point::Pin;
use crate::repo::record::Record;
use crate::repo::retention::Rules;
use crate::repo::{Repository, names};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A point was removed on purpose. What it referred to is found through it as long as a session may need that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    pub repository: String,
    pub writer: String,
    pub source: String,
    pub point: String,
    /// Absent for one that could not be opened.
    pub sequence: Option<u64>,
    pub reason: String,
    pub at: Timestamp,
    /// Who removed it.
    pub collector: String,
    /// b64 of the object, as it was; absent for one that could not be opened.
    pub object: Option<String>,
}

/// A session is not waited for any longer: it must not commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fence {
    pub repository: String,
    pub writer: String,
    pub session: String,
    pub at: Timestamp,
    pub collector: String,
}

/// What a collector saw, and what it found dead.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    pub repository: String,
    pub writer: String,
    pub collector: String,
    pub number: u32,
    /// The store's clock.
    pub at: Timestamp,
    /// Since when that clock waits to be confirmed, after it leapt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Timestamp>,
    /// Names of the marks that the list of the dead refers to, this one the last: number → name.
    pub marks: BTreeMap<u32, String>,
    pub series: BTreeMap<String, SeriesMemory>,
    /// Sessions that were open.
    pub sessions: Vec<String>,
    pub objects: u64,
    pub bytes: u64,
    pub dead: Pin,
}

/// What is remembered of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesMemory {
    /// `UTC-ID` and number of each point that was there.
    pub points: BTreeMap<String, u64>,
    /// Numbers that were forgotten, as ranges with both ends, without those below the oldest point that is there.
    pub forgotten: Vec<(u64, u64)>,
    /// The rules that held when something was last forgotten.
    pub rules: Option<Rules>,
}

macro_rules! records {
    ($($record:ty = $name:literal),*) => {
        $(impl Record for $record {
            const TYPE: &'static str = concat!("application/vnd.bkp.", $name, "+json");

            fn repository(&self) -> &str {
                &self.repository
            }
        })*
    };
}

records!(Tombstone = "tombstone", Fence = "fence", Mark = "mark");

/// Numbers as sorted ranges.
pub fn add_number(ranges: &mut Vec<(u64, u64)>, number: u64) {
    ranges.push((number, number));
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(first, last) in ranges.iter() {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    *ranges = merged;
}

/// Leaves out what is below the oldest point: nothing asks for it any more.
pub fn forget_below(ranges: &mut Vec<(u64, u64)>, oldest: u64) {
    ranges.retain(|(_, last)| *last >= oldest);
}

pub fn has_number(ranges: &[(u64, u64)], number: u64) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// 16 bytes of identity and the number of a mark, for each dead object.
const DEAD_BYTES: usize = 20;
const MAGIC: &[u8; 8] = b"BKPDEAD1";

/// Stores a list of the dead, and gives its pin for the mark.
pub fn put_dead_list(repository: &Repository, writer: &str, dead: &DeadList, to: &Recipients) -> Result<Pin> {
    let mut entries: Vec<(Id, u32)> = dead.0.iter().map(|(id, number)| (*id, *number)).collect();
    entries.sort_unstable();
    let mut data = Vec::with_capacity(MAGIC.len() + entries.len() * DEAD_BYTES);
    data.extend(MAGIC);
    for (id, number) in entries {
        data.extend(id.to_le_bytes());
        data.extend(number.to_le_bytes());
    }
    let object = encode::seal(&data, to)?;
    let sha256 = names::sha256(&object);
    let pin = Pin { key: names::dead_list(writer, &sha256), sha256, size: object.len() as u64 };
    repository.store.put(&pin.key, Bytes::from(object), None)?;
    Ok(pin)
}

pub fn read_dead_list(repository: &Repository, pin: &Pin, keys: &Keyring) -> Result<DeadList> {
    let damaged = || Failure::new(Kind::Verification, format!("{} is damaged: it is no list of the dead", pin.key));
    let data = decode::open_whole(&repository.pinned(pin)?, keys, pin.key.as_str())?;
    let entries = data.strip_prefix(MAGIC).ok_or_else(damaged)?;
    if !entries.len().is_multiple_of(DEAD_BYTES) {
        return Err(damaged());
    }
    let entry = |bytes: &[u8]| {
        let (id, number) = (bytes[..16].try_into().ok()?, bytes[16..].try_into().ok()?);
        Some((Id::from_le_bytes(id), u32::from_le_bytes(number)))
    };
    Ok(DeadList(entries.chunks_exact(DEAD_BYTES).filter_map(entry).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_as_ranges() {
        let mut ranges = Vec::new();
        for number in [5, 3, 4, 9, 1, 9, 2] {
            add_number(&mut ranges, number);
        }
        assert_eq!(ranges, [(1, 5), (9, 9)]);
        assert!(has_number(&ranges, 4) && !has_number(&ranges, 6));
        forget_below(&mut ranges, 6);
        assert_eq!(ranges, [(9, 9)]);
    }
}
