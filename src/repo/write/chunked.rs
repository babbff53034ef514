//! Streams as chunks: what the streams of the point before had is not stored again.
//!
//! Memory does not grow with the data: which chunks a stream consists of is spooled, and what is known of stored chunks is bounded by
//! [`Packer`]. An index is written when all packs are stored, by [`Session::commit`](super::Session::commit).

use super::checkpoint::Checkpoints;
use super::packer::{Lane, Packer};
use crate::error::{Failure, Result};
use crate::repo::chunker::{Chunker, OF_STREAMS};
use crate::repo::index::{self, CHUNK_BYTES, ChunkInfo, PackInfo};
use crate::repo::read::IN_MEMORY;
use crate::repo::sealed::{self, SealedRun};
use crate::repo::sketch::Sampler;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use tempfile::SpooledTempFile;

pub struct ChunkedStreams {
    packer: Packer,
    chunker: Chunker,
    checkpoints: Checkpoints,
    buffer: Vec<u8>,
    streams: Vec<Chunks>,
}

/// The chunks of one stream, in order; their packs are numbered as they come.
struct Chunks {
    spool: BufWriter<SpooledTempFile>,
    count: u64,
    numbers: HashMap<u32, u32>,
    /// By number.
    slots: Vec<u32>,
}

/// All packs are stored.
pub struct WrittenStreams {
    slots: Vec<Option<PackInfo>>,
    streams: Vec<Chunks>,
    /// Bytes of packs that were stored.
    pub stored: u64,
}

impl ChunkedStreams {
    pub fn new(packer: Packer, chunker_secret: &[u8; 32], checkpoints: Checkpoints) -> Self {
        let chunker = Chunker::new(chunker_secret, OF_STREAMS);
        ChunkedStreams { packer, chunker, checkpoints, buffer: Vec::new(), streams: Vec::new() }
    }

    /// Makes the chunks of a stored index available, as far as `present` has their packs.
    pub fn add_base(
        &mut self,
        packs: &[PackInfo],
        present: &HashSet<PackInfo>,
        chunks: impl Iterator<Item = Result<ChunkInfo>>,
    ) -> Result<()> {
        let slots = self.packer.add_stored_packs(packs, present);
        for chunk in chunks {
            let chunk = chunk?;
            if let Some(slot) = slots[chunk.pack as usize] {
                self.packer.add_known(&ChunkInfo { pack: slot, ..chunk });
            }
        }
        Ok(())
    }

    /// Stores one stream to its end; `sampler` sees every chunk.
    pub fn stream(&mut self, data: &mut dyn Read, sampler: &mut Sampler) -> Result<()> {
        let spool = BufWriter::with_capacity(64 << 10, tempfile::spooled_tempfile(IN_MEMORY));
        let mut chunks = Chunks { spool, count: 0, numbers: HashMap::new(), slots: Vec::new() };
        let (packer, checkpoints) = (&mut self.packer, &mut self.checkpoints);
        let cut = self.chunker.cut_all::<Carried>(data, &mut self.buffer, |bytes| {
            let chunk = packer.add(Lane::Data, bytes)?;
            sampler.chunk(bytes, &chunk.id);
            chunks.push(chunk)?;
            checkpoints.write_if_due(packer)?;
            Ok(())
        });
        cut.map_err(|Carried(failure)| failure)?;
        self.streams.push(chunks);
        Ok(())
    }

    /// More chunks came than the memory that is allowed can tell apart.
    pub fn is_overfull(&self) -> bool {
        self.packer.is_overfull()
    }

    /// Waits until everything is stored.
    pub fn finish(mut self) -> Result<WrittenStreams> {
        let slots = self.packer.finish()?;
        Ok(WrittenStreams { slots, streams: self.streams, stored: self.packer.stored })
    }

    /// Leaves a checkpoint of all that is stored, so that the next run need not store it again.
    pub fn abandon(mut self) -> Result<()> {
        let settled = self.packer.settle();
        self.checkpoints.write(&mut self.packer).and(settled)
    }
}

impl Chunks {
    fn push(&mut self, chunk: ChunkInfo) -> Result<()> {
        let number = *self.numbers.entry(chunk.pack).or_insert_with(|| {
            self.slots.push(chunk.pack);
            self.slots.len() as u32 - 1
        });
        self.count += 1;
        self.spool.write_all(&ChunkInfo { pack: number, ..chunk }.to_bytes()).map_err(unspooled)
    }
}

impl WrittenStreams {
    /// All packs that the streams consist of, each once.
    pub fn packs(&self) -> Result<Vec<PackInfo>> {
        let mut seen = HashSet::new();
        let slots = self.streams.iter().flat_map(|chunks| &chunks.slots);
        slots.filter(|slot| seen.insert(**slot)).map(|slot| self.pack(*slot)).collect()
    }

    /// With which keys the packs of each stream are sealed.
    pub fn sealed(&self) -> Result<Vec<Vec<SealedRun>>> {
        let of = |chunks: &Chunks| chunks.slots.iter().map(|slot| self.pack(*slot)).collect::<Result<Vec<_>>>();
        self.streams.iter().map(|chunks| of(chunks).map(|packs| sealed::runs(&packs))).collect()
    }

    fn pack(&self, slot: u32) -> Result<PackInfo> {
        let pack = self.slots.get(slot as usize).copied().flatten();
        pack.ok_or_else(|| Failure::failed("a pack was not stored"))
    }

    /// The index of one stream after the other, as bytes to be read.
    pub fn indexes(mut self) -> Result<Vec<impl Read>> {
        let mut all = Vec::new();
        for chunks in std::mem::take(&mut self.streams) {
            let packs = chunks.slots.iter().map(|slot| self.pack(*slot)).collect::<Result<Vec<_>>>()?;
            let head = index::head(&packs, chunks.count, 0);
            let mut spool = chunks.spool.into_inner().map_err(|e| unspooled(e.into_error()))?;
            spool.rewind().map_err(unspooled)?;
            let chunks = BufReader::with_capacity(64 << 10, spool).take(chunks.count * CHUNK_BYTES as u64);
            all.push(io::Cursor::new(head).chain(chunks));
        }
        Ok(all)
    }
}

fn unspooled(error: io::Error) -> Failure {
    Failure::from_io(error, || format!("cannot spool the list of chunks in {}", std::env::temp_dir().display()))
}

/// A failure on its way through the chunker, which knows I/O errors only.
struct Carried(Failure);

impl From<io::Error> for Carried {
    fn from(error: io::Error) -> Self {
        Carried(Failure::from_io(error, || "cannot read the stream".into()))
    }
}

impl From<Failure> for Carried {
    fn from(failure: Failure) -> Self {
        Carried(failure)
    }
}
