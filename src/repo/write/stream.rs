//! Streams of a session, in either layout, and what they cost in both.

use super::chunked::{ChunkedStreams, WrittenStreams};
use super::{Session, StoredChunks, object, resume, sizes};
use crate::durable;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::repo::container::encode::{self, Compression};
use crate::repo::names;
use crate::repo::point::{Cost, Layout, Pin, Stream};
use crate::repo::read::{IN_MEMORY, SpooledIndex};
use crate::repo::sealed::{self, SealedRun};
use crate::repo::sketch::{Sampler, Sketch};
use crate::repo::writer::Audience;
use crate::store::Store;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;

/// Data per object of a stream; more goes into a second object. With its padding it fits into the 10,000 parts that S3
/// takes, and the padding into the 32 bits that its frame has.
const STREAM_OBJECT_BYTES: u64 = 128 << 30;

/// A point carries the costs of so many points before it.
const COSTS: usize = 7;
/// What one chunk takes in a sealed index: its id does not compress, the rest does.
const SEALED_ENTRY: u64 = 36;

impl Session<'_> {
    /// Stores one stream to its end. Characters that names may not have become `_`.
    pub fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<u64> {
        let name = names::stream_name(name);
        if self.streams.iter().any(|s| s.name == name) {
            return Err(Failure::failed(format!("the dump has two streams named `{name}`")));
        }
        let mut data = Cancellable { data, cancel: self.cancel };
        let stream = match self.options.layout {
            Layout::Stream => self.in_objects(name, &mut data)?,
            Layout::Dedup => self.in_chunks(name, &mut data)?,
        };
        durable::crash_point("backup:stream-stored");
        let bytes = stream.bytes;
        self.streams.push(stream);
        Ok(bytes)
    }

    fn in_objects(&mut self, name: String, data: &mut dyn Read) -> Result<Stream> {
        let recipients = self.writer.audience(Audience::Restorers);
        let limit =
            if self.options.stream_object_bytes == 0 { STREAM_OBJECT_BYTES } else { self.options.stream_object_bytes };
        let mut hash = Sha256::new();
        let mut objects: Vec<Pin> = Vec::new();
        let mut bytes = 0;
        let mut data = Sampled { data, sampler: &mut self.sampler };
        loop {
            let store: Arc<dyn Store> = self.repository.store.clone();
            let output = object::ObjectWriter::new(store, names::new_stream(self.writer.id()), self.options.retain);
            let (encoded, output) =
                encode::encode(&mut data, output, self.options.compression, &recipients, &mut hash, limit)?;
            let pin = output.finish()?;
            bytes += encoded.bytes;
            self.added += pin.size;
            objects.push(pin);
            if encoded.complete {
                break;
            }
        }
        self.sampler.end();
        let codec = self.options.compression.codec;
        Ok(Stream { name, codec, bytes, sha256: hash.finalize().into(), objects, index: None, packs: Vec::new() })
    }

    /// Its index comes with the commit.
    fn in_chunks(&mut self, name: String, data: &mut dyn Read) -> Result<Stream> {
        let mut chunked = match self.chunked.take() {
            Some(chunked) => chunked,
            None => self.new_chunked()?,
        };
        let mut hashed = Hashed { data, hash: Sha256::new(), bytes: 0 };
        let stored = chunked.stream(&mut hashed, &mut self.sampler);
        self.chunked = Some(chunked);
        stored?;
        let (bytes, sha256) = (hashed.bytes, hashed.hash.finalize().into());
        let codec = crate::repo::container::Codec::Zstd;
        Ok(Stream { name, codec, bytes, sha256, objects: Vec::new(), index: None, packs: Vec::new() })
    }

    fn new_chunked(&mut self) -> Result<ChunkedStreams> {
        let (packer, checkpoints) = self.packing(self.repository.memory / 4);
        let mut chunked = ChunkedStreams::new(packer, &self.writer.chunker_secret(), checkpoints);
        let streams = self.base.iter().flat_map(|b| &b.point.streams);
        let pins: Vec<(Pin, Vec<SealedRun>)> =
            streams.filter_map(|s| Some((s.index.clone()?, s.packs.clone()))).collect();
        if !pins.is_empty() {
            let listed = sizes(self.store(), &names::packs(self.writer.id()))?;
            let keys = self.writer.keyring();
            for (pin, sealed) in &pins {
                // A lost index costs deduplication, not the backup.
                let Ok(mut index) = SpooledIndex::open(self.repository, pin) else { continue };
                let Ok(reader) = index.read(&keys) else { continue };
                let mut packs = reader.packs.clone();
                sealed::tell(&mut packs, sealed);
                self.present.extend(resume::present(&packs, self.writer, &listed));
                let _ = chunked.add_base(&packs, &self.present, reader);
            }
        }
        let left = std::mem::take(&mut self.checkpointed);
        self.measured_whole = !pins.is_empty() && left.is_empty();
        for index in left {
            chunked.add_base(&index.packs, &self.present, index.tar.into_iter().map(Ok))?;
        }
        Ok(chunked)
    }

    /// What the user should know of how the streams were stored.
    pub fn notes(&self) -> Vec<String> {
        let overfull = self.chunked.as_ref().is_some_and(ChunkedStreams::is_overfull);
        let text = "there are more chunks than `memory` allows to tell apart: the rest is stored again in each point; allow more";
        overfull.then(|| text.to_owned()).into_iter().collect()
    }

    /// Stores the indexes. Everything they refer to has been seen in the store.
    pub(super) fn put_stream_indexes(&mut self, written: WrittenStreams) -> Result<()> {
        let sealed = written.sealed()?;
        for ((number, index), sealed) in written.indexes()?.into_iter().enumerate().zip(sealed) {
            let pin = self.put_index(index)?;
            durable::crash_point("backup:index-stored");
            self.added += pin.size;
            (self.streams[number].index, self.streams[number].packs) = (Some(pin), sealed);
        }
        Ok(())
    }

    /// An object is named after its content, so it is sealed before it is sent; large ones into a file.
    fn put_index(&self, mut data: impl Read) -> Result<Pin> {
        let recipients = self.writer.audience(Audience::All);
        let compression = Compression { workers: 1, ..Compression::default() };
        let sealed = tempfile::spooled_tempfile(IN_MEMORY);
        let (_, mut sealed) =
            encode::encode(&mut data, sealed, compression, &recipients, &mut Sha256::new(), u64::MAX)?;
        let unread = |e| Failure::from_io(e, || "cannot spool the index of a stream".into());
        sealed.rewind().map_err(unread)?;
        let mut hashed = Hashed { data: &mut sealed, hash: Sha256::new(), bytes: 0 };
        io::copy(&mut hashed, &mut io::sink()).map_err(unread)?;
        let key = names::index(self.writer.id(), &hashed.hash.finalize().into());
        sealed.rewind().map_err(unread)?;
        let mut output = object::ObjectWriter::new(self.repository.store.clone(), key, self.options.retain);
        io::copy(&mut sealed, &mut output).map_err(unread)?;
        output.finish()
    }

    fn sketch_file(&self) -> PathBuf {
        self.writer.sketches().join(&self.source)
    }

    /// What the streams of this point cost in each layout, before those of the points before it. The own layout is measured; the
    /// other is what the share of chunks that were not in the point before says.
    pub(super) fn costs(&self, chunks: &StoredChunks) -> Vec<Cost> {
        let Some(base) = &self.base else { return Vec::new() };
        let bytes: u64 = self.streams.iter().map(|s| s.bytes).sum();
        let objects: u64 = self.streams.iter().flat_map(|s| &s.objects).map(|pin| pin.size).sum();
        let indexes: u64 = self.streams.iter().filter_map(|s| s.index.as_ref()).map(|pin| pin.size).sum();
        let stream = match self.options.layout {
            Layout::Stream => objects,
            Layout::Dedup => (bytes as f64 * chunks.compression()) as u64,
        };
        let before = Sketch::load(&self.sketch_file(), &base.point.point);
        let share = before.and_then(|before| self.sampler.sketch.new_share(&before));
        let dedup = match share {
            _ if self.options.layout == Layout::Dedup && self.measured_whole => Some(chunks.stored + indexes),
            share => share.map(|share| (share * stream as f64) as u64 + self.sampler.chunks * SEALED_ENTRY),
        };
        let this = dedup.filter(|_| bytes > 0).map(|dedup| Cost { stream, dedup });
        this.into_iter().chain(base.point.costs.iter().copied()).take(COSTS).collect()
    }

    /// Keeps what the next run compares with. Losing it costs an estimate.
    pub(super) fn remember_sketch(&self, point: &str) {
        if !self.streams.is_empty() {
            let _ = self.sampler.sketch.save(&self.sketch_file(), point);
        }
    }
}

/// A reader that stops when the run is cancelled.
struct Cancellable<'a> {
    data: &'a mut dyn Read,
    cancel: &'a Cancel,
}

impl Read for Cancellable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.data.read(buffer)
    }
}

/// Shows what is read to the sampler.
struct Sampled<'a> {
    data: &'a mut dyn Read,
    sampler: &'a mut Sampler,
}

impl Read for Sampled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.data.read(buffer)?;
        self.sampler.pass(&buffer[..n]);
        Ok(n)
    }
}

struct Hashed<'a> {
    data: &'a mut dyn Read,
    hash: Sha256,
    bytes: u64,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.data.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}
