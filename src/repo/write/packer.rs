//! Chunks into packs: deduplicates, fills packs, and has them compressed, sealed and stored by a pool of threads.
//!
//! Memory is bounded: one open pack for data, one for the catalogue, one in each worker, and what is known of chunks. A chunk is known by its
//! keyed id; what is known comes from the bases and checkpoints of this series only, never from other writers.

use crate::durable;
use crate::error::{Failure, Result};
use crate::repo::container::{FRAME_BYTES, encode};
use crate::repo::index::{ChunkInfo, PackInfo};
use crate::repo::keys::Recipients;
use crate::repo::names;
use crate::repo::sealed::SealedBy;
use crate::store::{Retain, Store, StoreError};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Data per pack; the chunk that reaches it is the last. A little under 16 MiB, because Padmé's steps double at each power
/// of two: the same padding costs twice as much just above one. Larger packs would cost memory in every worker, and gain
/// nothing that was measured.
const PACK_BYTES: usize = 14 << 20;
const CATALOGUE_PACK_BYTES: usize = 7 << 20;

/// What the threads need to know.
#[derive(Clone)]
pub struct PackSettings {
    pub store: Arc<dyn Store>,
    pub writer: String,
    pub recipients: Recipients,
    pub sealed: SealedBy,
    pub compression: encode::Compression,
    pub retain: Option<Retain>,
    /// What is known of chunks takes at most so much memory; what comes beyond that is stored without being known.
    pub known_bytes: u64,
}

/// What a place in the table of known chunks takes; tables double, and are at most seven eighths full.
const KNOWN_BYTES: u64 = 29;

/// How many chunks can be known in so much memory.
fn most_known(bytes: u64) -> usize {
    let places = (bytes / KNOWN_BYTES).checked_ilog2().map_or(0, |bits| 1u64 << bits);
    usize::try_from(places / 8 * 7).unwrap_or(usize::MAX)
}

/// A pack being filled.
#[derive(Default)]
struct OpenPack {
    slot: u32,
    frames: Vec<Vec<u8>>,
    bytes: usize,
    chunks: Vec<ChunkInfo>,
}

type Job = (u32, Vec<Vec<u8>>);

/// Which of the two open packs a chunk goes to: readers want the catalogue without the data around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Data,
    Catalogue,
}

#[derive(Clone, Copy)]
struct Place {
    pack: u32,
    offset: u32,
    length: u32,
}

pub struct Packer {
    id_key: [u8; 32],
    known: HashMap<[u8; 16], Place>,
    most_known: usize,
    /// By slot; `None` while the pack is not stored yet.
    packs: Vec<Option<PackInfo>>,
    open: [Option<OpenPack>; 2],
    in_flight: HashMap<u32, Vec<ChunkInfo>>,
    /// Stored since the last checkpoint.
    fresh: Vec<(PackInfo, Vec<ChunkInfo>)>,
    jobs: Option<Sender<Job>>,
    /// Frames that were compressed, to be filled again: the kernel has to zero fresh memory.
    emptied: Receiver<Vec<u8>>,
    results: Receiver<Result<(u32, PackInfo)>>,
    workers: Vec<JoinHandle<()>>,
    /// A pack could not be stored.
    failed: bool,
    /// Bytes of the objects stored by this packer.
    pub stored: u64,
}

impl Packer {
    pub fn new(settings: &PackSettings, id_key: [u8; 32]) -> Self {
        // No queue: a full pack waits in the hands of the reader, not in memory of its own.
        let (jobs, queue) = bounded::<Job>(0);
        let (answers, results) = unbounded();
        let (empty, emptied) = unbounded();
        let workers = (0..settings.compression.workers.max(1))
            .map(|_| {
                let (settings, queue, answers, empty) =
                    (settings.clone(), queue.clone(), answers.clone(), empty.clone());
                std::thread::spawn(move || work(&settings, &queue, &answers, &empty))
            })
            .collect();
        Packer {
            id_key,
            known: HashMap::new(),
            most_known: most_known(settings.known_bytes),
            packs: Vec::new(),
            open: [None, None],
            in_flight: HashMap::new(),
            fresh: Vec::new(),
            jobs: Some(jobs),
            emptied,
            results,
            workers,
            failed: false,
            stored: 0,
        }
    }

    /// Slots of packs of an earlier session, as far as they are in the store.
    pub fn add_stored_packs(&mut self, packs: &[PackInfo], present: &HashSet<PackInfo>) -> Vec<Option<u32>> {
        let mut slot = |pack: &PackInfo| {
            self.packs.push(Some(*pack));
            self.packs.len() as u32 - 1
        };
        packs.iter().map(|pack| present.contains(pack).then(|| slot(pack))).collect()
    }

    /// There is no memory for what is known of more chunks.
    pub fn is_overfull(&self) -> bool {
        self.known.len() >= self.most_known
    }

    fn know(&mut self, id: &[u8; 32], place: Place) {
        if !self.is_overfull() {
            self.known.entry(short(id)).or_insert(place);
        }
    }

    /// Makes a stored chunk available for deduplication. `chunk.pack` is a slot.
    pub fn add_known(&mut self, chunk: &ChunkInfo) {
        let place = Place { pack: chunk.pack, offset: chunk.offset, length: chunk.length };
        self.know(&chunk.id, place);
    }

    /// Stores a chunk, unless it is known. In the result, `pack` is a slot.
    pub fn add(&mut self, lane: Lane, bytes: &[u8]) -> Result<ChunkInfo> {
        let id = *blake3::keyed_hash(&self.id_key, bytes).as_bytes();
        if let Some(place) = self.known.get(&short(&id)) {
            return Ok(ChunkInfo { id, pack: place.pack, offset: place.offset, length: place.length });
        }
        let open = match &mut self.open[lane as usize] {
            Some(open) => open,
            none => {
                let slot = self.packs.len() as u32;
                self.packs.push(None);
                none.insert(OpenPack { slot, ..OpenPack::default() })
            }
        };
        let chunk = ChunkInfo { id, pack: open.slot, offset: open.bytes as u32, length: bytes.len() as u32 };
        open.append(bytes, &self.emptied);
        open.chunks.push(chunk);
        let full = open.bytes >= if lane == Lane::Data { PACK_BYTES } else { CATALOGUE_PACK_BYTES };
        self.know(&id, Place { pack: chunk.pack, offset: chunk.offset, length: chunk.length });
        if full {
            self.send(lane)?;
        }
        Ok(chunk)
    }

    fn send(&mut self, lane: Lane) -> Result<()> {
        if let Some(open) = self.open[lane as usize].take() {
            self.in_flight.insert(open.slot, open.chunks);
            let gone = self.jobs.as_ref().is_none_or(|jobs| jobs.send((open.slot, open.frames)).is_err());
            self.collect()?;
            if gone {
                return Err(Failure::failed("the threads that store packs have ended"));
            }
        }
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        while let Ok(result) = self.results.try_recv() {
            self.failed |= result.is_err();
            self.note(result?);
        }
        Ok(())
    }

    fn note(&mut self, (slot, pack): (u32, PackInfo)) {
        self.packs[slot as usize] = Some(pack);
        self.stored += pack.size;
        let chunks = self.in_flight.remove(&slot).unwrap_or_default();
        self.fresh.push((pack, chunks));
    }

    /// Packs stored since the last time, with what is in them; for checkpoints.
    pub fn take_fresh(&mut self) -> Vec<(PackInfo, Vec<ChunkInfo>)> {
        std::mem::take(&mut self.fresh)
    }

    pub fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// Waits for everything that is under way, whatever fails; what was stored is fresh then. What is open is stored too, unless
    /// the store has failed already. The first failure comes out.
    pub fn settle(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        for lane in [Lane::Data, Lane::Catalogue] {
            if !self.failed {
                outcome = outcome.and(self.send(lane));
            }
        }
        self.jobs = None;
        while let Ok(result) = self.results.recv() {
            match result {
                Ok(stored) => self.note(stored),
                Err(failure) => outcome = outcome.and(Err(failure)),
            }
        }
        outcome
    }

    /// Stores what is open, waits for everything, and gives the packs by slot.
    pub fn finish(&mut self) -> Result<Vec<Option<PackInfo>>> {
        self.send(Lane::Data)?;
        self.send(Lane::Catalogue)?;
        self.jobs = None;
        while let Ok(result) = self.results.recv() {
            self.note(result?);
        }
        Ok(std::mem::take(&mut self.packs))
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl OpenPack {
    /// Frames are filled to the brim, without regard to chunks.
    fn append(&mut self, mut bytes: &[u8], emptied: &Receiver<Vec<u8>>) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            if self.frames.last().is_none_or(|f| f.len() == FRAME_BYTES) {
                self.frames.push(emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(FRAME_BYTES)));
            }
            let frame = self.frames.last_mut().expect("one was just pushed");
            let (now, later) = bytes.split_at(bytes.len().min(FRAME_BYTES - frame.len()));
            frame.extend_from_slice(now);
            bytes = later;
        }
    }
}

fn short(id: &[u8; 32]) -> [u8; 16] {
    id[..16].try_into().expect("a slice of 16 bytes")
}

fn work(
    settings: &PackSettings,
    queue: &Receiver<Job>,
    answers: &Sender<Result<(u32, PackInfo)>>,
    empty: &Sender<Vec<u8>>,
) {
    let mut compressor = encode::FrameCompressor::new(settings.compression);
    // Kept from pack to pack, for the same reason as frames.
    let mut buffer = Vec::new();
    for (slot, frames) in queue {
        let result = match &mut compressor {
            Ok(compressor) => store_pack(settings, compressor, frames, (empty, &mut buffer)).map(|pack| (slot, pack)),
            Err(e) => Err(Failure::failed(e.full())),
        };
        if answers.send(result).is_err() {
            return;
        }
    }
}

fn store_pack(
    settings: &PackSettings,
    compressor: &mut encode::FrameCompressor,
    frames: Vec<Vec<u8>>,
    (empty, buffer): (&Sender<Vec<u8>>, &mut Vec<u8>),
) -> Result<PackInfo> {
    let data = frames.iter().map(|f| f.len() as u64).sum();
    let emptied = |mut frame: Vec<u8>| {
        frame.clear();
        // The packer has ended: nobody needs it.
        let _ = empty.send(frame);
    };
    let object = encode::seal_frames(frames, compressor, &settings.recipients, std::mem::take(buffer), emptied)?;
    let sha256 = names::sha256(&object);
    let size = object.len() as u64;
    let object = Bytes::from(object);
    match settings.store.put_new(&names::pack(&settings.writer, &sha256), object.clone(), settings.retain.as_ref()) {
        // The name is the hash of the content: what is there is the same.
        Ok(()) | Err(StoreError::Exists(_)) => {}
        Err(e) => return Err(e.into()),
    }
    durable::crash_point("backup:pack-stored");
    // A store that still holds it keeps it.
    if let Ok(mut object) = object.try_into_mut() {
        object.clear();
        *buffer = object.into();
    }
    Ok(PackInfo { sha256, size, data, sealed: settings.sealed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_fits_into_its_memory() {
        assert_eq!(most_known(64 << 20), (2 << 20) / 8 * 7);
        assert_eq!(most_known(0), 0);
        assert!(most_known(u64::MAX) > 1 << 50);
        assert!((size_of::<([u8; 16], Place)>() as u64) < KNOWN_BYTES);
    }
}
