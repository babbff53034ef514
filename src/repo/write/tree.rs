//! The writing half of a tree: groups and files become chunks, the catalogue as well, and both an index.
//!
//! Chunks of the previous tree can be taken again unread ([`TreeWriter::reuse`]), as long as their packs are in the store.

use super::checkpoint::Checkpoints;
use super::packer::{Lane, Packer};
use crate::error::{Failure, Result};
use crate::repo::chunker::{Chunker, OF_TREES};
use crate::repo::index::{ChunkInfo, Index, PackInfo};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::ops::Range;

pub struct TreeWriter {
    packer: Packer,
    chunker: Chunker,
    checkpoints: Checkpoints,
    /// Chunks of the tar stream so far; `pack` is a slot of the packer.
    tar: Vec<ChunkInfo>,
    catalogue: Vec<ChunkInfo>,
    catalogue_buffer: Vec<u8>,
    entries: u64,
    /// The previous tree's tar chunks with slots; `None` where the pack is gone.
    previous: Vec<Option<ChunkInfo>>,
    buffer: Vec<u8>,
}

/// What a finished tree was.
pub struct WrittenTree {
    pub index: Index,
    pub bytes: u64,
    pub entries: u64,
    pub stored: u64,
}

impl TreeWriter {
    pub fn new(packer: Packer, chunker_secret: &[u8; 32], checkpoints: Checkpoints) -> Self {
        TreeWriter {
            packer,
            chunker: Chunker::new(chunker_secret, OF_TREES),
            checkpoints,
            tar: Vec::new(),
            catalogue: Vec::new(),
            catalogue_buffer: Vec::new(),
            entries: 0,
            previous: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Makes the chunks of a stored index available, as far as `present` has their packs. With `is_previous` it is also the
    /// one that [`reuse`](Self::reuse) counts in.
    pub fn add_base(&mut self, index: &Index, present: &HashSet<PackInfo>, is_previous: bool) {
        let slots = self.packer.add_stored_packs(&index.packs, present);
        let with_slot = |chunk: &ChunkInfo| slots[chunk.pack as usize].map(|slot| ChunkInfo { pack: slot, ..*chunk });
        for chunk in index.tar.iter().chain(&index.catalogue).filter_map(with_slot) {
            self.packer.add_known(&chunk);
        }
        if is_previous {
            self.previous = index.tar.iter().map(with_slot).collect();
        }
    }

    /// Length of the tar stream so far.
    pub fn bytes(&self) -> u64 {
        self.tar.iter().map(|c| u64::from(c.length)).sum()
    }

    fn next(&self) -> u32 {
        self.tar.len() as u32
    }

    pub fn group(&mut self, bytes: &[u8]) -> Result<Range<u32>> {
        let first = self.next();
        let chunk = self.packer.add(Lane::Data, bytes)?;
        self.tar.push(chunk);
        self.checkpoints.write_if_due(&mut self.packer)?;
        Ok(first..first + 1)
    }

    pub fn file(&mut self, length: u64, data: &mut dyn Read) -> Result<Range<u32>> {
        let first = self.next();
        let mut taken = 0;
        let (packer, tar, checkpoints) = (&mut self.packer, &mut self.tar, &mut self.checkpoints);
        let cut = self.chunker.cut_all::<Carried>(&mut data.take(length), &mut self.buffer, |bytes| {
            taken += bytes.len() as u64;
            tar.push(packer.add(Lane::Data, bytes)?);
            checkpoints.write_if_due(packer)?;
            Ok(())
        });
        cut.map_err(|Carried(failure)| failure)?;
        if taken != length {
            return Err(Failure::failed(format!("a file of {length} bytes gave {taken}")));
        }
        Ok(first..self.next())
    }

    pub fn reuse(&mut self, previous: Range<u32>) -> Option<Range<u32>> {
        let chunks = self.previous.get(previous.start as usize..previous.end as usize)?;
        let first = self.tar.len();
        self.tar.extend(chunks.iter().map_while(|c| *c));
        if self.tar.len() - first < chunks.len() {
            self.tar.truncate(first);
            return None;
        }
        Some(first as u32..self.next())
    }

    pub fn rewind(&mut self, chunk: u32) {
        self.tar.truncate(chunk as usize);
    }

    pub fn catalogue(&mut self, line: &[u8]) -> Result<()> {
        self.entries += 1;
        self.catalogue_buffer.extend_from_slice(line);
        if self.catalogue_buffer.len() >= 2 * OF_TREES.maximum {
            self.cut_catalogue(OF_TREES.maximum)?;
        }
        Ok(())
    }

    /// Stores chunks from the front of the buffer until less than `keep` is left.
    fn cut_catalogue(&mut self, keep: usize) -> Result<()> {
        let mut start = 0;
        while self.catalogue_buffer.len() - start > keep {
            let length = self.chunker.cut(&self.catalogue_buffer[start..]);
            let chunk = self.packer.add(Lane::Catalogue, &self.catalogue_buffer[start..start + length])?;
            self.catalogue.push(chunk);
            start += length;
        }
        self.catalogue_buffer.drain(..start);
        Ok(())
    }

    /// Waits until everything is stored.
    pub fn finish(mut self) -> Result<WrittenTree> {
        self.cut_catalogue(0)?;
        let slots = self.packer.finish()?;
        let bytes = self.bytes();
        let index = renumber(&slots, &self.tar, &self.catalogue)?;
        // The last line of a catalogue is its end mark, no entry.
        Ok(WrittenTree { index, bytes, entries: self.entries.saturating_sub(1), stored: self.packer.stored })
    }

    /// Leaves a checkpoint of all that is stored, so that the next run need not store it again.
    pub fn abandon(mut self) -> Result<()> {
        let settled = self.packer.settle();
        self.checkpoints.write(&mut self.packer).and(settled)
    }
}

/// From slots to the packs that are really used.
fn renumber(slots: &[Option<PackInfo>], tar: &[ChunkInfo], catalogue: &[ChunkInfo]) -> Result<Index> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut packs = Vec::new();
    let mut convert = |chunk: &ChunkInfo| {
        let number = match numbers.get(&chunk.pack) {
            Some(number) => *number,
            None => {
                let pack = slots.get(chunk.pack as usize).copied().flatten();
                packs.push(pack.ok_or_else(|| Failure::failed("a pack was not stored"))?);
                numbers.insert(chunk.pack, packs.len() as u32 - 1);
                packs.len() as u32 - 1
            }
        };
        Ok(ChunkInfo { pack: number, ..*chunk })
    };
    let tar = tar.iter().map(&mut convert).collect::<Result<_>>()?;
    let catalogue = catalogue.iter().map(&mut convert).collect::<Result<_>>()?;
    Ok(Index { packs, tar, catalogue })
}

/// A failure on its way through the chunker, which knows I/O errors only.
struct Carried(Failure);

impl From<io::Error> for Carried {
    fn from(error: io::Error) -> Self {
        Carried(Failure::from_io(error, || "cannot read a file".into()))
    }
}

impl From<Failure> for Carried {
    fn from(failure: Failure) -> Self {
        Carried(failure)
    }
}
