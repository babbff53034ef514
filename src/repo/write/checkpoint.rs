//! Checkpoints: what a session has stored so far, so that an interrupted backup does not store it again.

use super::packer::Packer;
use crate::durable;
use crate::error::Result;
use crate::repo::container::encode;
use crate::repo::index::{ChunkInfo, Index};
use crate::repo::keys::Recipients;
use crate::repo::writer::{Audience, Writer};
use crate::repo::{Repository, names};
use crate::store::Store;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const EVERY_PACKS: usize = 64;
const EVERY: Duration = Duration::from_secs(300);

pub struct Checkpoints {
    pub store: Arc<dyn Store>,
    pub writer: String,
    pub session: String,
    pub recipients: Recipients,
    numbers: Arc<AtomicU32>,
    last: Instant,
}

impl Checkpoints {
    /// `numbers` are shared by all that write checkpoints of this session.
    pub fn of(repository: &Repository, writer: &Writer, session: &str, numbers: &Arc<AtomicU32>) -> Self {
        let (store, recipients) = (repository.store.clone(), writer.audience(Audience::All));
        let (writer, session) = (writer.id().to_owned(), session.to_owned());
        Checkpoints { store, writer, session, recipients, numbers: numbers.clone(), last: Instant::now() }
    }

    pub fn write_if_due(&mut self, packer: &mut Packer) -> Result<()> {
        let fresh = packer.fresh();
        if fresh >= EVERY_PACKS || (fresh > 0 && self.last.elapsed() >= EVERY) { self.write(packer) } else { Ok(()) }
    }

    /// Writes what was stored since the checkpoint before.
    pub fn write(&mut self, packer: &mut Packer) -> Result<()> {
        self.last = Instant::now();
        let mut index = Index::default();
        for (number, (pack, chunks)) in packer.take_fresh().into_iter().enumerate() {
            index.packs.push(pack);
            index.tar.extend(chunks.into_iter().map(|c| ChunkInfo { pack: number as u32, ..c }));
        }
        if index.packs.is_empty() {
            return Ok(());
        }
        self.put(&index)?;
        durable::crash_point("backup:checkpoint-written");
        Ok(())
    }
    /// Only says that the session goes on.
    pub fn live(&self) -> Result<()> {
        self.put(&Index::default())
    }

    fn put(&self, index: &Index) -> Result<()> {
        let object = encode::seal(&index.to_bytes(), &self.recipients)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Ok(self.store.put(&names::checkpoint(&self.writer, &self.session, number), Bytes::from(object), None)?)
    }
}
