//! What an RDB file holds: counts, and digests that depend neither on the order of keys nor on how values are packed.
//!
//! Memory is taken per database, never per key.

use crate::engine::{Fingerprint, FingerprintPart};
use std::collections::{BTreeMap, BTreeSet};

/// Goes into every fingerprint; another way of making digests gets another name.
pub const METHOD: &str = "redis-keys-v1";

/// A sum of hashes: the same for the same hashes in any order.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Sum([u64; 4]);

impl Sum {
    pub fn add(&mut self, hash: &[u8; 32]) {
        for (lane, bytes) in self.0.iter_mut().zip(hash.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }

    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (lane, bytes) in self.0.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *bytes = lane.to_le_bytes();
        }
        bytes
    }
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Part {
    pub count: u64,
    sum: Sum,
}

impl Part {
    pub fn add(&mut self, hash: &[u8; 32]) {
        self.count += 1;
        self.sum.add(hash);
    }

    fn told(&self) -> FingerprintPart {
        FingerprintPart { count: self.count, digest: hex::encode(self.sum.bytes()) }
    }
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Database {
    /// Keys that stay.
    pub lasting: Part,
    /// Keys with an expiry, or with fields that have one: they go by themselves, so they are compared apart.
    pub expiring: Part,
}

/// Everything known after an RDB file was read to its end.
#[derive(Clone, Default, Debug)]
pub struct Census {
    pub version: u32,
    /// Written by Valkey 9 or later, whose files say so.
    pub is_valkey: bool,
    pub databases: BTreeMap<u64, Database>,
    pub functions: Part,
    /// Keys by the kind of their value.
    pub kinds: BTreeMap<&'static str, u64>,
    /// What the file says of its making: `redis-ver`, `ctime`.
    pub facts: BTreeMap<String, String>,
    /// Modules whose data is in it.
    pub modules: BTreeSet<String>,
    /// Whether there was a checksum; servers can be told not to make one.
    pub has_checksum: bool,
    pub bytes: u64,
    /// Keys and fields of hashes whose time was over at the instant that was asked about.
    pub expired: u64,
}

impl Census {
    pub fn keys(&self) -> u64 {
        self.databases.values().map(|d| d.lasting.count + d.expiring.count).sum()
    }

    pub fn expiring(&self) -> u64 {
        self.databases.values().map(|d| d.expiring.count).sum()
    }

    /// When the server began to write it, in seconds since 1970 by its own clock.
    pub fn written_at(&self) -> Option<i64> {
        self.facts.get("ctime")?.parse().ok()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let mut parts = BTreeMap::new();
        for (number, database) in &self.databases {
            parts.insert(format!("db{number}/lasting"), database.lasting.told());
            parts.insert(format!("db{number}/expiring"), database.expiring.told());
        }
        parts.insert("functions".into(), self.functions.told());
        Fingerprint { method: METHOD.into(), parts, ..Fingerprint::default() }
    }

    /// Objects by kind, as evidence.
    pub fn inventory(&self) -> BTreeMap<String, u64> {
        let mut inventory: BTreeMap<String, u64> = self.kinds.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        inventory.insert("databases".into(), self.databases.len() as u64);
        inventory.insert("keys".into(), self.keys());
        inventory.insert("keys_with_expiry".into(), self.expiring());
        inventory.insert("functions".into(), self.functions.count);
        inventory
    }
}
