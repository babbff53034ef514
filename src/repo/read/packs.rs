//! Reading chunks out of packs: in order ([`Sequence`]), or all that are wanted, in parallel ([`for_each`]).

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

#[derive(Clone, Copy)]
pub struct PackSource<'a> {
    pub repository: &'a Repository,
    pub writer: &'a str,
    pub keys: &'a Keyring,
    pub id_key: &'a [u8; 32],
}

impl PackSource<'_> {
    fn pin(&self, pack: &PackInfo) -> Pin {
        Pin { key: names::pack(self.writer, &pack.sha256), sha256: pack.sha256, size: pack.size }
    }

    /// A pack whose whole object was compared with its hash.
    pub fn whole(&self, pack: &PackInfo, buffer: Vec<u8>) -> Result<Frames<Cursor<Vec<u8>>>> {
        open_pack(self.repository, &self.pin(pack), self.keys, buffer)
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
        random::from_seekable(ranged, self.keys, pin.key.as_str())
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
    source: &PackSource<'_>,
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
    source: &PackSource<'_>,
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
    source: &PackSource<'_>,
    cutter: &mut Cutter<P>,
    pack: &PackInfo,
    chunks: &[(u64, ChunkInfo)],
    (stop, take): (&AtomicBool, Take<'_>),
) -> Result<()> {
    for (at, chunk) in chunks {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        take(*at, cutter.chunk(chunk, source.id_key, &|| source.pin(pack).key)?)?;
    }
    Ok(())
}

/// Chunks one after the other, as one reader. Keeps one pack open.
pub struct Sequence<'a> {
    source: PackSource<'a>,
    index: &'a Index,
    chunks: std::slice::Iter<'a, ChunkInfo>,
    open: Option<(u32, Cutter<Cursor<Vec<u8>>>)>,
    data: Vec<u8>,
    position: usize,
}

impl<'a> Sequence<'a> {
    pub fn new(source: PackSource<'a>, index: &'a Index, chunks: &'a [ChunkInfo]) -> Self {
        Sequence { source, index, chunks: chunks.iter(), open: None, data: Vec::new(), position: 0 }
    }

    fn advance(&mut self) -> Result<bool> {
        let Some(chunk) = self.chunks.next() else { return Ok(false) };
        let pack = &self.index.packs[chunk.pack as usize];
        let cutter = match &mut self.open {
            Some((number, cutter)) if *number == chunk.pack => cutter,
            slot => {
                let buffer = slot.take().map(|(_, cutter)| cutter.into_buffer()).unwrap_or_default();
                &mut slot.insert((chunk.pack, Cutter::new(self.source.whole(pack, buffer)?))).1
            }
        };
        self.data.clear();
        self.data.extend_from_slice(cutter.chunk(chunk, self.source.id_key, &|| self.source.pin(pack).key)?);
        self.position = 0;
        Ok(true)
    }
}

impl Read for Sequence<'_> {
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
