//! Reading chunks out of packs: in order ([`Sequence`]), or all that are wanted, in parallel ([`for_each`]).
//!
//! What was deduplicated over many points lies in many packs, and who reads it in order comes back to each of them again and
//! again: a sequence keeps as many open as memory allows, and never fetches one whole twice.

use super::counted::Counted;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::repo::container::random::{self, Frames};
use crate::repo::index::{ChunkInfo, Index, PackInfo};
use crate::repo::keys::Keyring;
use crate::repo::point::Pin;
use crate::repo::{Repository, names};
use crate::store::{Key, Store};
use std::collections::HashMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Of a pack of which less than this part is wanted, only the needed segments are fetched.
const PARTIAL: u64 = 4;
const BLOCK_BYTES: u64 = 256 << 10;

/// What open packs of one sequence may take. Most of a pack is compressed; of one that is open in part, little is held.
const OPEN_BYTES: u64 = 80 << 20;
const OPEN_PARTIAL: u64 = 3 << 19;

/// Where the packs of a point are, and what opens them.
#[derive(Clone)]
pub struct PackSource {
    pub repository: Repository,
    pub writer: String,
    pub keys: Keyring,
    pub id_key: [u8; 32],
}

impl PackSource {
    fn pin(&self, pack: &PackInfo) -> Pin {
        Pin { key: names::pack(&self.writer, &pack.sha256), sha256: pack.sha256, size: pack.size }
    }

    /// A pack whose whole object was compared with its hash.
    pub fn whole(&self, pack: &PackInfo, buffer: Vec<u8>) -> Result<Frames<Cursor<Vec<u8>>>> {
        open_pack(&self.repository, &self.pin(pack), &self.keys, buffer)
    }

    /// A pack of which only parts are fetched: their authenticity is that of the chunk ids.
    fn partial(&self, pack: &PackInfo) -> Result<Frames<impl Read + Seek + use<>>> {
        let pin = self.pin(pack);
        let ranged = Ranged {
            store: self.repository.store.clone(),
            size: pin.size,
            at: 0,
            block_at: 0,
            block: Vec::new(),
            key: pin.key.clone(),
        };
        random::from_seekable(ranged, &self.keys, pin.key.as_str())
    }
}

/// Opens a pack as a whole: the object is hashed while it is decrypted, so that it is in memory once, in `buffer`.
pub fn open_pack(
    repository: &Repository,
    pin: &Pin,
    keys: &Keyring,
    buffer: Vec<u8>,
) -> Result<Frames<Cursor<Vec<u8>>>> {
    let (input, passed) = Counted::open(repository, pin)?;
    let plain = match random::decrypt_whole(input, pin.size, keys, pin.key.as_str(), buffer) {
        Ok(plain) => plain,
        // That the object is not what was written says more than where decrypting it stopped.
        Err(failure) if failure.kind() == Kind::Verification => {
            return repository.pinned(pin).and(Err(failure));
        }
        Err(failure) => return Err(failure),
    };
    passed.must_be(pin)?;
    random::from_plain(plain, pin.key.as_str())
}

/// Copies chunks out of frames, remembering the frame it is in: neighbours come cheap.
pub struct Cutter<P> {
    frames: Frames<P>,
    current: Option<usize>,
    data: Vec<u8>,
    /// A chunk that is in more than one frame.
    chunk: Vec<u8>,
}

impl<P: Read + Seek> Cutter<P> {
    pub fn new(frames: Frames<P>) -> Self {
        Cutter { frames, current: None, data: Vec::new(), chunk: Vec::new() }
    }

    /// The bytes of a chunk, once their id is proven.
    pub fn chunk(&mut self, chunk: &ChunkInfo, id_key: &[u8; 32], pack: &dyn Fn() -> Key) -> Result<&[u8]> {
        let at = u64::from(chunk.offset);
        let range = self.enter(at)?;
        let wanted = chunk.length as usize;
        let bytes = if wanted <= range.len() {
            &self.data[range.start..range.start + wanted]
        } else {
            self.join(at, wanted)?;
            &self.chunk[..]
        };
        if blake3::keyed_hash(id_key, bytes) != blake3::Hash::from_bytes(chunk.id) {
            return Err(Failure::new(
                Kind::Verification,
                format!("{} is damaged: a chunk in it is not what was written", pack()),
            ));
        }
        Ok(bytes)
    }

    /// Decodes the frame that holds the byte at `at`, and tells where in it that byte and what follows is.
    fn enter(&mut self, at: u64) -> Result<Range<usize>> {
        let number = self.frames.frame_of(at)?;
        if self.current != Some(number) {
            self.current = None;
            self.frames.frame(number, &mut self.data)?;
            self.current = Some(number);
        }
        Ok((at - self.frames.data_start(number)) as usize..self.data.len())
    }

    fn join(&mut self, from: u64, length: usize) -> Result<()> {
        self.chunk.clear();
        self.chunk.reserve(length);
        while self.chunk.len() < length {
            let range = self.enter(from + self.chunk.len() as u64)?;
            let some = range.len().min(length - self.chunk.len());
            self.chunk.extend_from_slice(&self.data[range.start..range.start + some]);
        }
        Ok(())
    }
}

impl Cutter<Cursor<Vec<u8>>> {
    fn into_buffer(self) -> Vec<u8> {
        self.frames.into_plain().into_inner()
    }
}

/// Hands over `wanted` (offset in the stream, chunk), pack by pack, from `workers` threads.
pub fn for_each(
    source: &PackSource,
    index: &Index,
    wanted: &[(u64, ChunkInfo)],
    workers: usize,
    cancel: &Cancel,
    take: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync),
) -> Result<()> {
    let jobs = by_pack(wanted);
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let first_failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(jobs.len()) {
            scope.spawn(|| {
                // Kept from pack to pack: the kernel has to zero fresh memory.
                let mut buffer = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let Some((pack, chunks)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    let result = cancel.check().and_then(|()| {
                        one_pack(source, &index.packs[*pack as usize], chunks, &mut buffer, (&stop, take))
                    });
                    if let Err(failure) = result {
                        stop.store(true, Ordering::Relaxed);
                        first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                    }
                }
            });
        }
    });
    first_failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Packs in the order of their first use; in each, its chunks by offset, so that every frame is decoded once.
fn by_pack(wanted: &[(u64, ChunkInfo)]) -> Vec<(u32, Vec<(u64, ChunkInfo)>)> {
    let mut places: HashMap<u32, usize> = HashMap::new();
    let mut jobs: Vec<(u32, Vec<(u64, ChunkInfo)>)> = Vec::new();
    for (at, chunk) in wanted {
        let place = *places.entry(chunk.pack).or_insert_with(|| {
            jobs.push((chunk.pack, Vec::new()));
            jobs.len() - 1
        });
        jobs[place].1.push((*at, *chunk));
    }
    for (_, chunks) in &mut jobs {
        chunks.sort_by_key(|(at, chunk)| (chunk.offset, *at));
    }
    jobs
}

type Take<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<()> + Sync);

fn one_pack(
    source: &PackSource,
    pack: &PackInfo,
    chunks: &[(u64, ChunkInfo)],
    buffer: &mut Vec<u8>,
    to: (&AtomicBool, Take<'_>),
) -> Result<()> {
    let needed: u64 = chunks.iter().map(|(_, c)| u64::from(c.length)).sum();
    if needed * PARTIAL < pack.data {
        return cut(source, &mut Cutter::new(source.partial(pack)?), pack, chunks, to);
    }
    let mut cutter = Cutter::new(source.whole(pack, std::mem::take(buffer))?);
    cut(source, &mut cutter, pack, chunks, to)?;
    *buffer = cutter.into_buffer();
    Ok(())
}

fn cut<P: Read + Seek>(
    source: &PackSource,
    cutter: &mut Cutter<P>,
    pack: &PackInfo,
    chunks: &[(u64, ChunkInfo)],
    (stop, take): (&AtomicBool, Take<'_>),
) -> Result<()> {
    for (at, chunk) in chunks {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        take(*at, cutter.chunk(chunk, &source.id_key, &|| source.pin(pack).key)?)?;
    }
    Ok(())
}

/// A pack of which chunks can be had, whole or in part.
trait Chunks: Send {
    fn chunk(&mut self, chunk: &ChunkInfo, id_key: &[u8; 32], pack: &dyn Fn() -> Key) -> Result<&[u8]>;
}

impl<P: Read + Seek + Send> Chunks for Cutter<P> {
    fn chunk(&mut self, chunk: &ChunkInfo, id_key: &[u8; 32], pack: &dyn Fn() -> Key) -> Result<&[u8]> {
        Cutter::chunk(self, chunk, id_key, pack)
    }
}

struct OpenPack {
    number: u32,
    weight: u64,
    chunks: Box<dyn Chunks>,
}

/// Chunks one after the other, as one reader.
pub struct Sequence<I> {
    source: PackSource,
    packs: Vec<PackInfo>,
    /// Bytes that are wanted of each pack; 0 from when it was fetched whole: if it is needed again, then in part.
    needed: Vec<u64>,
    chunks: I,
    /// The one used last stands first.
    open: Vec<OpenPack>,
    data: Vec<u8>,
    position: usize,
}

/// How many bytes of each of so many packs these chunks are.
pub fn needed(packs: usize, chunks: impl Iterator<Item = Result<ChunkInfo>>) -> Result<Vec<u64>> {
    let mut needed = vec![0; packs];
    for chunk in chunks {
        let chunk = chunk?;
        needed[chunk.pack as usize] += u64::from(chunk.length);
    }
    Ok(needed)
}

impl<I: Iterator<Item = Result<ChunkInfo>>> Sequence<I> {
    pub fn new(source: PackSource, packs: Vec<PackInfo>, needed: Vec<u64>, chunks: I) -> Self {
        Sequence { source, packs, needed, chunks, open: Vec::new(), data: Vec::new(), position: 0 }
    }

    fn advance(&mut self) -> Result<bool> {
        let Some(chunk) = self.chunks.next().transpose()? else { return Ok(false) };
        let at = self.open.iter().position(|open| open.number == chunk.pack);
        let used = match at {
            Some(at) => self.open.remove(at),
            None => self.open_pack(chunk.pack)?,
        };
        self.open.insert(0, used);
        let (source, pack) = (&self.source, &self.packs[chunk.pack as usize]);
        let bytes = self.open[0].chunks.chunk(&chunk, &source.id_key, &|| source.pin(pack).key)?;
        self.data.clear();
        self.data.extend_from_slice(bytes);
        self.position = 0;
        Ok(true)
    }

    fn open_pack(&mut self, number: u32) -> Result<OpenPack> {
        let pack = &self.packs[number as usize];
        let needed = std::mem::take(&mut self.needed[number as usize]);
        let whole = needed * PARTIAL >= pack.data;
        let weight = OPEN_PARTIAL + if whole { pack.size } else { 0 };
        while !self.open.is_empty() && self.open.iter().map(|open| open.weight).sum::<u64>() + weight > OPEN_BYTES {
            self.open.pop();
        }
        let chunks: Box<dyn Chunks> = match whole {
            true => Box::new(Cutter::new(self.source.whole(pack, Vec::new())?)),
            false => Box::new(Cutter::new(self.source.partial(pack)?)),
        };
        Ok(OpenPack { number, weight, chunks })
    }
}

impl<I: Iterator<Item = Result<ChunkInfo>>> Read for Sequence<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.data.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let n = buffer.len().min(self.data.len() - self.position);
        buffer[..n].copy_from_slice(&self.data[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}

/// An object read by ranges, one block at a time.
struct Ranged {
    store: Arc<dyn Store>,
    key: Key,
    size: u64,
    at: u64,
    block_at: u64,
    block: Vec<u8>,
}

impl Read for Ranged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inside = |at: u64, block_at: u64, length: usize| at >= block_at && at < block_at + length as u64;
        if self.at >= self.size {
            return Ok(0);
        }
        if !inside(self.at, self.block_at, self.block.len()) {
            let end = (self.at + BLOCK_BYTES).min(self.size);
            self.block.clear();
            let mut part =
                self.store.get(&self.key, Some(self.at..end)).map_err(|e| io::Error::from(Failure::from(e)))?;
            part.read_to_end(&mut self.block)?;
            self.block_at = self.at;
            if self.block.is_empty() {
                return Err(Failure::new(Kind::Verification, format!("{} is shorter than it was", self.key)).into());
            }
        }
        let from = (self.at - self.block_at) as usize;
        let n = buffer.len().min(self.block.len() - from);
        buffer[..n].copy_from_slice(&self.block[from..from + n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Ranged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
