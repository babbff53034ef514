//! What a point needs: every object, by its pin. Its header pins some of them, its indexes the packs.
//!
//! Indexes are compared with their pins before they are believed. The writer's own keys suffice.

use crate::error::Result;
use crate::repo::index::PackInfo;
use crate::repo::keys::Keyring;
use crate::repo::point::{Pin, Point};
use crate::repo::read::SpooledIndex;
use crate::repo::{Repository, names};
use std::collections::HashSet;

/// The objects of a point, each once.
pub struct Objects {
    /// Packs, and streams as they are: most of the bytes.
    pub data: Vec<Pin>,
    /// Indexes and body, which say what the data is. Of no use without it.
    pub meaning: Vec<Pin>,
}

impl Objects {
    pub fn of(repository: &Repository, point: &Point, keys: &Keyring) -> Result<Self> {
        let mut data: Vec<Pin> = point.streams.iter().flat_map(|stream| stream.objects.iter().cloned()).collect();
        let mut meaning = vec![point.body.clone()];
        let mut packs = Vec::new();
        let of_streams = point.streams.iter().filter_map(|stream| stream.index.as_ref());
        for pin in point.tree.iter().map(|tree| &tree.index).chain(of_streams) {
            meaning.push(pin.clone());
            packs.extend(SpooledIndex::open(repository, pin)?.read(keys)?.packs);
        }
        data.extend(packs.iter().map(|pack| pack_pin(point, pack)));
        let mut seen = HashSet::new();
        data.retain(|pin| seen.insert(pin.key.clone()));
        Ok(Objects { data, meaning })
    }

    pub fn all(&self) -> impl Iterator<Item = &Pin> {
        self.data.iter().chain(&self.meaning)
    }
}

pub fn pack_pin(point: &Point, pack: &PackInfo) -> Pin {
    Pin { key: names::pack(&point.writer, &pack.sha256), sha256: pack.sha256, size: pack.size }
}
