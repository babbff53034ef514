//! A sink and an origin in memory, so that engines are tested without a repository.
//!
//! They keep the contract of `engine::{Sink, TreeSink, Origin, TreeOrigin}` as strictly as the repository does, and where
//! the contract leaves freedom they use it: chunks come from several threads and backwards, files are cut where it hurts.
//! A [`MemorySink`] becomes a [`MemoryOrigin`]; [`MemorySink::after`] begins one that may reuse the chunks of another.
#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::unwrap_used)] // test code outside of test functions

use bkp::engine::{ChunkRange, Dumped, Engine, Fingerprint, Origin, Sink, TreeOrigin, TreeSink};
use bkp::error::{Context, Failure, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Cursor, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Length of the chunks that big files are cut into: odd, so that nothing falls on a boundary by luck.
const CUT: usize = 100_003;

/// One tree as it is stored.
#[derive(Clone, Default, Debug)]
pub struct MemoryTree {
    pub chunks: Vec<Arc<[u8]>>,
    pub catalogue: Vec<u8>,
}

impl MemoryTree {
    /// The whole tar stream.
    pub fn tar(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|c| c.iter().copied()).collect()
    }
}

#[derive(Default)]
pub struct MemorySink {
    pub streams: BTreeMap<String, Vec<u8>>,
    pub tree: Option<MemoryTree>,
    /// Chunks of the previous tree; absent numbers are lost.
    pub previous: Vec<Option<Arc<[u8]>>>,
    /// How many chunks were taken again, and how many bytes were handed over anew.
    pub reused: u32,
    pub read_bytes: u64,
    /// The sink breaks after this many bytes.
    pub room: Option<u64>,
}

/// What a sink without room says; tests look for it.
pub const NO_ROOM: &str = "the memory is full";

impl MemorySink {
    pub fn new() -> Self {
        MemorySink::default()
    }

    /// A sink whose [`TreeSink::reuse`] knows the chunks of `previous`.
    pub fn after(previous: &MemoryOrigin) -> Self {
        let chunks = previous.tree.as_ref().map(|t| t.chunks.iter().cloned().map(Some).collect());
        MemorySink { previous: chunks.unwrap_or_default(), ..MemorySink::default() }
    }

    /// The previous chunk with this number cannot be had any more.
    pub fn lose(&mut self, chunk: u32) {
        self.previous[chunk as usize] = None;
    }

    pub fn into_origin(self, dumped: &Dumped) -> MemoryOrigin {
        MemoryOrigin {
            streams: self.streams,
            tree: self.tree,
            fingerprint: dumped.fingerprint.clone(),
            details: dumped.details.clone(),
        }
    }

    fn take_bytes(&mut self, bytes: u64) -> Result<()> {
        self.read_bytes += bytes;
        match self.room {
            Some(room) if self.read_bytes > room => Err(Failure::failed(NO_ROOM)),
            _ => Ok(()),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<ChunkRange> {
        self.take_bytes(bytes.len() as u64)?;
        let tree = self.tree.as_mut().expect("the tree was begun");
        tree.chunks.push(bytes.into());
        let number = tree.chunks.len() as u32;
        Ok(number - 1..number)
    }
}

impl Sink for MemorySink {
    fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<()> {
        assert!(!self.streams.contains_key(name), "the engine gave the stream {name} twice");
        assert!(!name.is_empty() && !name.contains('/'), "`{name}` is not a file name");
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            // A read that was interrupted is an error here: readers that engines hand over retry by themselves.
            let read = data.read(&mut buffer).context(|| format!("cannot read the stream {name}"))?;
            if read == 0 {
                self.streams.insert(name.to_owned(), bytes);
                return Ok(());
            }
            self.take_bytes(read as u64)?;
            bytes.extend_from_slice(&buffer[..read]);
        }
    }

    fn tree(&mut self) -> Result<&mut dyn TreeSink> {
        assert!(self.tree.is_none(), "the engine began the tree twice");
        self.tree = Some(MemoryTree::default());
        Ok(self)
    }
}

impl TreeSink for MemorySink {
    fn group(&mut self, bytes: &[u8]) -> Result<ChunkRange> {
        assert!(!bytes.is_empty(), "an empty group");
        self.push(bytes)
    }

    fn file(&mut self, length: u64, data: &mut dyn Read) -> Result<ChunkRange> {
        let first = self.tree.as_ref().map_or(0, |t| t.chunks.len() as u32);
        let mut left = length;
        while left > 0 {
            let mut piece = Vec::new();
            (&mut *data)
                .take(left.min(CUT as u64))
                .read_to_end(&mut piece)
                .context(|| "cannot read the data of a file".into())?;
            if piece.is_empty() {
                return Err(Failure::failed(format!("the data of a file ended {left} bytes early")));
            }
            left -= piece.len() as u64;
            self.push(&piece)?;
        }
        Ok(first..self.tree.as_ref().map_or(0, |t| t.chunks.len() as u32))
    }

    fn reuse(&mut self, previous: ChunkRange) -> Result<Option<ChunkRange>> {
        let wanted = self.previous.get(previous.start as usize..previous.end as usize);
        let Some(chunks) = wanted.and_then(|chunks| chunks.iter().cloned().collect::<Option<Vec<_>>>()) else {
            return Ok(None);
        };
        self.reused += chunks.len() as u32;
        let tree = self.tree.as_mut().expect("the tree was begun");
        let first = tree.chunks.len() as u32;
        tree.chunks.extend(chunks);
        Ok(Some(first..tree.chunks.len() as u32))
    }

    fn rewind(&mut self, chunk: u32) -> Result<()> {
        let tree = self.tree.as_mut().expect("the tree was begun");
        assert!(chunk as usize <= tree.chunks.len(), "the engine rewinds to chunk {chunk}, which is not there");
        tree.chunks.truncate(chunk as usize);
        Ok(())
    }

    fn catalogue(&mut self, line: &[u8]) -> Result<()> {
        assert!(line.ends_with(b"\n") && line.iter().filter(|b| **b == b'\n').count() == 1, "not one line");
        self.tree.as_mut().expect("the tree was begun").catalogue.extend_from_slice(line);
        Ok(())
    }
}

#[derive(Clone, Default, Debug)]
pub struct MemoryOrigin {
    pub streams: BTreeMap<String, Vec<u8>>,
    pub tree: Option<MemoryTree>,
    pub fingerprint: Fingerprint,
    pub details: serde_json::Value,
}

impl Origin for MemoryOrigin {
    fn details(&self) -> &serde_json::Value {
        &self.details
    }

    fn streams(&self) -> Vec<String> {
        self.streams.keys().cloned().collect()
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        match self.streams.get(name) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            None => Err(Failure::failed(format!("there is no stream {name}"))),
        }
    }

    fn tree(&self) -> Option<&dyn TreeOrigin> {
        self.tree.as_ref().map(|t| t as &dyn TreeOrigin)
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl TreeOrigin for MemoryTree {
    fn catalogue(&self) -> Result<Box<dyn BufRead + Send>> {
        Ok(Box::new(Cursor::new(self.catalogue.clone())))
    }

    fn chunks(&self, ranges: Option<&[Range<u64>]>, take: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync)) -> Result<()> {
        if let Some(ranges) = ranges {
            assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start), "ranges must be sorted and must not overlap");
        }
        let mut offset = 0;
        let mut wanted = Vec::new();
        for chunk in &self.chunks {
            let end = offset + chunk.len() as u64;
            let touched = ranges.is_none_or(|r| r.iter().any(|r| r.start < end && offset < r.end));
            if touched {
                wanted.push((offset, chunk));
            }
            offset = end;
        }
        // The end of the list is worked on first: nobody may rely on an order.
        let (queue, failure) = (Mutex::new(wanted), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while failure.lock().unwrap().is_none() {
                        let next = queue.lock().unwrap().pop();
                        let Some((offset, chunk)) = next else { break };
                        if let Err(e) = take(offset, chunk) {
                            failure.lock().unwrap().get_or_insert(e);
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap().map_or(Ok(()), Err)
    }
}

/// What `engine` gives to `dump`, with a meter and directories of its own below `scratch`.
pub fn dump_into(engine: &dyn Engine, sink: &mut MemorySink, scratch: &Path) -> Result<Dumped> {
    let (meter, cancel) = (bkp::event::Meter::default(), bkp::event::Cancel::default());
    let context = bkp::event::Context { events: &bkp::event::Silent, meter: &meter, cancel: &cancel };
    let (memory, next_memory) = (scratch.join("memory"), scratch.join("memory.next"));
    let run = bkp::engine::DumpRun {
        context,
        scratch: scratch.to_owned(),
        memory: memory.exists().then_some(memory),
        next_memory,
        reread: false,
    };
    engine.dump(sink, &run)
}

/// Loads everything of `origin` into `target`. Of what that replaces there is a copy somewhere.
pub fn load_from(
    engine: &dyn Engine,
    origin: &MemoryOrigin,
    target: &bkp::engine::Target,
) -> Result<bkp::engine::Loaded> {
    load_over(engine, origin, target, Some(&bkp::engine::Fingerprint::default()))
}

/// The same, where this is the copy.
pub fn load_over(
    engine: &dyn Engine,
    origin: &MemoryOrigin,
    target: &bkp::engine::Target,
    copy: Option<&bkp::engine::Fingerprint>,
) -> Result<bkp::engine::Loaded> {
    let (meter, cancel) = (bkp::event::Meter::default(), bkp::event::Cancel::default());
    let context = bkp::event::Context { events: &bkp::event::Silent, meter: &meter, cancel: &cancel };
    engine.load(
        origin,
        target,
        &bkp::engine::LoadRun {
            context,
            part: bkp::engine::Part::Whole,
            copy,
            on_difference: Default::default(),
            returning: None,
        },
    )
}

/// The whole tar stream must be what the catalogue says: entry by entry without a gap, chunks cut as `docs/FORMAT.md` §7 promises.
pub fn assert_well_cut(tree: &MemoryTree) {
    const BIG: u64 = 256 << 10;
    let text = tree.catalogue.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let lines: Vec<serde_json::Value> =
        text.map(|l| serde_json::from_slice(l).expect("a line of the catalogue")).collect();
    let (last, entries) = lines.split_last().expect("a catalogue has a last line");
    assert_eq!(last["end"], entries.len() as u64, "the catalogue ends with the number of its entries");
    let mut borders = BTreeSet::new();
    let mut big = Vec::new();
    let mut at = 0;
    for entry in entries {
        borders.insert(at);
        let number = |name: &str| entry[name].as_u64();
        let data = number("z").unwrap_or_else(|| if entry["t"] == "f" { number("s").unwrap_or(0) } else { 0 });
        let begin = at + number("hb").expect("every entry has its header's length");
        if data >= BIG {
            big.push(begin..begin + data);
        }
        at = begin + data.next_multiple_of(512);
    }
    borders.insert(at);
    let (mut offset, mut cuts) = (0, BTreeSet::from([0]));
    for chunk in &tree.chunks {
        offset += chunk.len() as u64;
        cuts.insert(offset);
    }
    assert_eq!(offset, at, "the tar stream is as long as its entries");
    for range in &big {
        assert!(cuts.contains(&range.start) && cuts.contains(&range.end), "a big file shares a chunk: {range:?}");
    }
    for cut in cuts {
        let inside = big.iter().any(|r| r.start <= cut && cut <= r.end);
        assert!(inside || borders.contains(&cut), "a chunk begins in the middle of an entry, at {cut}");
    }
}
