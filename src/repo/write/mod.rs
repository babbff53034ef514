//! Sessions: one backup of one source, from its first object to the commit (`docs/FORMAT.md` §8, §10).
//!
//! Nothing of a session is visible before [`Session::commit`] writes the signed point, and that happens last, after the
//! store was asked what it holds. A session that ends otherwise leaves objects that nothing refers to, and checkpoints
//! that the next session of the series takes up.
//! The caller holds the lock of the source; the session itself locks nothing.

mod checkpoint;
mod chunked;
mod heart;
mod object;
mod packer;
mod resume;
mod stream;
mod tree;

pub(super) use object::ObjectWriter;
pub use resume::unended;
pub use tree::TreeWriter;

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::repo::chain::{self, Seen};
use crate::repo::collect::protocol;
use crate::repo::container::encode::{self, Compression};
use crate::repo::index::{Index, PackInfo};
use crate::repo::point::{self, Body, EngineInfo, Layout, Pin, Point, Previous, StackRun, Stream, Tree};
use crate::repo::sealed::{self, SealedBy};
use crate::repo::sketch::Sampler;
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, locking, names};
use crate::store::{Key, Retain, Store, StoreError};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use checkpoint::Checkpoints;
use chunked::ChunkedStreams;
use heart::Heart;
use jiff::Timestamp;
use packer::Packer;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// How a session writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub compression: Compression,
    /// Of streams. Deduplicated ones are compressed by zstd, whatever else is said.
    pub layout: Layout,
    /// Object lock of everything that the point refers to.
    pub retain: Option<Retain>,
    /// Data per object of a stream; 0 means the default. Tests make it small.
    pub stream_object_bytes: u64,
    /// Between two signs of life; zero means the default. Tests make it short.
    pub signs_of_life: Duration,
}

/// `w/W/sess/SID`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionInfo {
    pub writer: String,
    pub source: String,
    pub bases: Vec<String>,
    pub started_at: Timestamp,
    pub protocol: u32,
    /// With which keys it seals packs. Absent in sessions of older versions.
    #[serde(default)]
    pub sealed: SealedBy,
}

impl SessionInfo {
    fn of(writer: &Writer, source: &str, base: Option<&Base>, now: Timestamp) -> Self {
        SessionInfo {
            writer: writer.id().to_owned(),
            source: source.to_owned(),
            bases: base.iter().map(|b| b.point.point.clone()).collect(),
            started_at: now,
            protocol: 1,
            sealed: writer.sealed(),
        }
    }
}

/// What is known of a dump when it is committed.
pub struct Draft {
    pub engine: EngineInfo,
    pub started_at: Timestamp,
    pub consistent_at: Timestamp,
    pub written_at: Timestamp,
    pub host: String,
    pub stack: Option<StackRun>,
    /// [`point::SAFETY`], or nothing.
    pub purpose: Option<String>,
    pub body: Body,
}

/// The previous point of the series, with what can be reused of it.
struct Base {
    point: Point,
    sha256: [u8; 32],
    index: Option<Index>,
}

pub struct Session<'a> {
    repository: &'a Repository,
    writer: &'a Writer,
    source: String,
    id: String,
    options: Options,
    cancel: &'a Cancel,
    base: Option<Base>,
    newest_number: u64,
    /// Sessions of this series that ended without an end; closed by this one's commit.
    dead: Vec<resume::Dead>,
    checkpointed: Vec<Index>,
    present: HashSet<PackInfo>,
    streams: Vec<Stream>,
    /// The same streams, where they are deduplicated.
    chunked: Option<ChunkedStreams>,
    sampler: Sampler,
    /// What deduplication stores is all that was new since the point before.
    measured_whole: bool,
    tree: Option<TreeWriter>,
    checkpoints: Arc<AtomicU32>,
    _heart: Heart,
    added: u64,
}

/// What deduplicated streams consist of, once it is stored.
#[derive(Default)]
struct StoredChunks {
    packs: Vec<PackInfo>,
    /// Bytes of the packs that were not there before.
    stored: u64,
}

impl StoredChunks {
    /// What a byte of data takes when it is compressed.
    fn compression(&self) -> f64 {
        let sum = |of: fn(&PackInfo) -> u64| self.packs.iter().map(of).sum::<u64>() as f64;
        sum(|pack| pack.size) / sum(|pack| pack.data).max(1.0)
    }
}

impl<'a> Session<'a> {
    pub fn begin(
        repository: &'a Repository,
        writer: &'a Writer,
        source: &str,
        options: Options,
        cancel: &'a Cancel,
        now: Timestamp,
    ) -> Result<Self> {
        names::check_source(source)?;
        let store = &*repository.store;
        let (base, newest_number) = resume::latest(repository, writer, source, now)?;
        let id = names::stamped(now);
        let info = SessionInfo::of(writer, source, base.as_ref(), now);
        let sealed = encode::seal(&to_json(&info)?, &writer.audience(Audience::Bookkeeping))?;
        store.put(&names::session(writer.id(), &id), Bytes::from(sealed), None)?;
        durable::crash_point("backup:session-written");
        let base = match base {
            // Forgotten between our look and our session: a collector may not have seen the pin.
            Some(base) if !resume::still_there(store, &base.point)? => None,
            other => other,
        };
        // What is known of chunks takes the fourth part of the memory.
        let workers = match options.layout {
            Layout::Stream => repository.workers(),
            Layout::Dedup => repository.clone().with_memory(repository.memory / 4 * 3).workers(),
        };
        let options = Options { compression: Compression { workers, ..options.compression }, ..options };
        let dead = resume::dead_sessions(repository, writer, source, &id)?;
        let checkpointed = resume::checkpoints(repository, writer, &dead)?;
        let checkpoints = Arc::default();
        let heart = Heart::start(Checkpoints::of(repository, writer, &id, &checkpoints), options.signs_of_life);
        let mut session = Session {
            repository,
            writer,
            source: source.to_owned(),
            id,
            options,
            cancel,
            base,
            newest_number,
            dead,
            checkpointed,
            present: HashSet::new(),
            streams: Vec::new(),
            chunked: None,
            sampler: Sampler::new(&writer.chunker_secret(), writer.chunk_id_key()),
            measured_whole: false,
            tree: None,
            checkpoints,
            _heart: heart,
            added: 0,
        };
        session.present = session.packs_present()?;
        Ok(session)
    }

    /// The point before this one, when there is one.
    pub fn previous(&self) -> Option<&Point> {
        self.base.as_ref().map(|b| &b.point)
    }

    /// Bytes of data taken so far.
    pub fn bytes(&self) -> u64 {
        self.streams.iter().map(|s| s.bytes).sum::<u64>() + self.tree.as_ref().map_or(0, TreeWriter::bytes)
    }

    fn store(&self) -> &dyn Store {
        &*self.repository.store
    }

    /// Which of the packs we may refer to are in the store, with the right size.
    fn packs_present(&self) -> Result<HashSet<PackInfo>> {
        let indexes = || self.base.iter().filter_map(|b| b.index.as_ref()).chain(&self.checkpointed);
        if indexes().next().is_none() {
            return Ok(HashSet::new());
        }
        let listed = sizes(self.store(), &names::packs(self.writer.id()))?;
        let packs: Vec<PackInfo> = indexes().flat_map(|i| &i.packs).copied().collect();
        Ok(resume::present(&packs, self.writer, &listed).collect())
    }

    /// The tree of this session, begun at the first call.
    pub fn tree(&mut self) -> &mut TreeWriter {
        if self.tree.is_none() {
            self.tree = Some(self.new_tree());
        }
        self.tree.as_mut().expect("it was just made")
    }

    /// What stores chunks; what it knows of them takes at most so many bytes.
    fn packing(&self, known_bytes: u64) -> (Packer, Checkpoints) {
        let settings = packer::PackSettings {
            store: self.repository.store.clone(),
            writer: self.writer.id().to_owned(),
            recipients: self.writer.audience(Audience::Epoch),
            sealed: self.writer.sealed(),
            compression: Compression { codec: super::container::Codec::Zstd, ..self.options.compression },
            retain: self.options.retain,
            known_bytes,
        };
        let packer = Packer::new(&settings, self.writer.chunk_id_key());
        (packer, Checkpoints::of(self.repository, self.writer, &self.id, &self.checkpoints))
    }

    fn new_tree(&self) -> TreeWriter {
        let (packer, checkpoints) = self.packing(u64::MAX);
        let mut tree = TreeWriter::new(packer, &self.writer.chunker_secret(), checkpoints);
        if let Some(index) = self.base.as_ref().and_then(|b| b.index.as_ref()) {
            tree.add_base(index, &self.present, true);
        }
        for index in &self.checkpointed {
            tree.add_base(index, &self.present, false);
        }
        tree
    }

    /// Verifies what the store holds, and writes the point: from then on the backup exists.
    pub fn commit(mut self, mut draft: Draft) -> Result<Point> {
        self.cancel.check()?;
        let mut tree = None;
        if let Some(writer) = self.tree.take() {
            let written = writer.finish()?;
            self.added += written.stored;
            tree = Some(written);
        }
        let chunked = self.chunked.take().map(ChunkedStreams::finish).transpose()?;
        let chunks = match &chunked {
            Some(written) => StoredChunks { packs: written.packs()?, stored: written.stored },
            None => StoredChunks::default(),
        };
        self.added += chunks.stored;
        if tree.is_some() || chunked.is_some() {
            draft.body.chunk_id_key = Some(BASE64.encode(self.writer.chunk_id_key()));
        }
        self.cancel.check()?;
        durable::crash_point("backup:before-list");
        let packs: Vec<&PackInfo> = tree.iter().flat_map(|t| &t.index.packs).chain(&chunks.packs).collect();
        self.verify_stored(&packs)?;
        self.lock_reused(&packs)?;
        if let Some(written) = chunked {
            self.put_stream_indexes(written)?;
        }
        let tree = match tree {
            Some(t) => {
                let index = self.put_content(&t.index.to_bytes(), Audience::All, names::index)?;
                durable::crash_point("backup:index-stored");
                Some(Tree { index, bytes: t.bytes, entries: t.entries, packs: sealed::runs(&t.index.packs) })
            }
            None => None,
        };
        let body = self.put_content(&to_json(&draft.body)?, Audience::Restorers, names::body)?;
        durable::crash_point("backup:body-stored");
        let point = self.point(draft, tree, body, &chunks);
        let sealed = point.seal(&self.writer.signing, &self.writer.audience(Audience::All))?;
        self.cancel.check()?;
        self.is_waited_for()?;
        durable::crash_point("backup:before-point");
        self.store().put_new(&point.key(), Bytes::from(sealed), self.options.retain.as_ref())?;
        durable::crash_point("backup:point-written");
        self.was_waited_for()?;
        // The point exists: a failure from here on must not say otherwise. What is missing is made up for by the next run.
        let seen = Seen { source: point.source.clone(), point: point.point.clone(), sequence: point.sequence };
        let _ = chain::remember(&self.writer.series_memory(), &seen);
        self.remember_sketch(&point.point);
        let _ = self.close();
        Ok(point)
    }

    /// A session that was silent for days is fenced by the collector, which then deletes what it has stored.
    fn is_waited_for(&self) -> Result<()> {
        let fenced = resume::is_fenced(self.store(), self.writer.id(), &self.id)?;
        if protocol::may_commit(fenced) {
            return Ok(());
        }
        let what = format!("session {} gave no sign of life for days, so that prune gave it up", self.id);
        Err(Failure::new(Kind::Verification, what)
            .hint("Do not count on this backup, whatever is listed of it; run it again"))
    }

    /// The same once the point is there. Who slept through his own fence refers to what may be going, and nobody must count on
    /// that point; nor on one of which the store does not say.
    fn was_waited_for(&self) -> Result<()> {
        self.is_waited_for().map_err(|failure| match failure.kind() {
            Kind::Verification => failure,
            kind => Failure::new(
                kind,
                "the point is there, but not whether it may be counted on: the store does not answer",
            )
            .because(failure.full())
            .hint("Run the backup again; what is stored already is not stored twice"),
        })
    }

    fn close(&self) -> Result<()> {
        durable::crash_point("backup:before-session-end");
        for session in self.dead.iter().map(|dead| &dead.id).chain([&self.id]) {
            let sealed = encode::seal(b"{}", &self.writer.audience(Audience::Bookkeeping))?;
            self.store().put(&names::session_end(self.writer.id(), session), Bytes::from(sealed), None)?;
        }
        Ok(())
    }

    /// Ends the session without a point, keeping what the next one can use.
    pub fn abandon(self) -> Result<()> {
        let tree = self.tree.map_or(Ok(()), TreeWriter::abandon);
        self.chunked.map_or(Ok(()), ChunkedStreams::abandon).and(tree)
    }

    fn point(&self, draft: Draft, tree: Option<Tree>, body: Pin, chunks: &StoredChunks) -> Point {
        let (streams, costs) = (self.streams.clone(), self.costs(chunks));
        let bytes = streams.iter().map(|s| s.bytes).sum::<u64>() + tree.as_ref().map_or(0, |t| t.bytes);
        let previous = self.base.as_ref().map(|b| Previous { point: b.point.point.clone(), sha256: b.sha256 });
        Point {
            format: point::FORMAT,
            repository: self.repository.id().to_owned(),
            writer: self.writer.id().to_owned(),
            source: self.source.clone(),
            point: names::stamped(draft.consistent_at),
            sequence: self.next_number(),
            previous,
            engine: draft.engine,
            started_at: draft.started_at,
            consistent_at: draft.consistent_at,
            written_at: draft.written_at,
            host: draft.host,
            bkp: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.writer.epoch.number,
            list: self.writer.sealed().list,
            epoch_recipient: self.writer.epoch.recipient.clone(),
            epoch_key: self.writer.epoch.sealed.clone(),
            streams,
            tree,
            body,
            bytes,
            added: self.added,
            warnings: draft.body.warnings.len() as u64,
            stack: draft.stack,
            purpose: draft.purpose,
            session: Some(self.id.clone()),
            costs,
        }
    }

    /// No number is given twice: points that were passed over, or are gone, had theirs.
    fn next_number(&self) -> u64 {
        let seen = chain::remembered(&self.writer.series_memory()).into_iter().find(|s| s.source == self.source);
        self.newest_number.max(seen.map_or(0, |s| s.sequence)) + 1
    }

    fn put_content(&mut self, data: &[u8], audience: Audience, name: fn(&str, &[u8; 32]) -> Key) -> Result<Pin> {
        let object = encode::seal(data, &self.writer.audience(audience))?;
        let sha256 = names::sha256(&object);
        let pin = Pin { key: name(self.writer.id(), &sha256), sha256, size: object.len() as u64 };
        self.added += pin.size;
        match self.store().put_new(&pin.key, Bytes::from(object), self.options.retain.as_ref()) {
            Ok(()) | Err(StoreError::Exists(_)) => Ok(pin),
            Err(e) => Err(e.into()),
        }
    }

    /// What earlier sessions stored is locked as long as their points were to be; now this point needs it as well.
    fn lock_reused(&self, packs: &[&PackInfo]) -> Result<()> {
        let Some(retain) = &self.options.retain else { return Ok(()) };
        let reused = packs.iter().filter(|pack| self.present.contains(pack));
        let keys: Vec<Key> = reused.map(|pack| names::pack(self.writer.id(), &pack.sha256)).collect();
        locking::raise_all(self.store(), &keys, retain, self.cancel)
    }

    /// Everything the point will refer to is in the store with its exact size, and its hash where the store keeps one.
    fn verify_stored(&self, packs: &[&PackInfo]) -> Result<()> {
        let lost = |key: &Key| {
            Failure::new(Kind::Verification, format!("{key} was stored, but the store does not have it whole"))
                .hint("Nothing was committed. Run the backup again; if it happens again, do not trust this store")
        };
        for pin in self.streams.iter().flat_map(|s| &s.objects) {
            let head = self.store().head(&pin.key)?;
            if head.size != pin.size || head.sha256.is_some_and(|sha256| sha256 != pin.sha256) {
                return Err(lost(&pin.key));
            }
        }
        if !packs.is_empty() {
            let listed = sizes(self.store(), &names::packs(self.writer.id()))?;
            for pack in packs {
                let key = names::pack(self.writer.id(), &pack.sha256);
                if !listed.contains(&(key.clone(), pack.size)) {
                    return Err(lost(&key));
                }
            }
        }
        Ok(())
    }
}

fn sizes(store: &dyn Store, prefix: &str) -> Result<HashSet<(Key, u64)>> {
    Ok(store.list(prefix)?.into_iter().map(|e| (e.key, e.size)).collect())
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Failure::failed("cannot write JSON").because(e))
}
