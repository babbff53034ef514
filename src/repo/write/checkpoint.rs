//! Checkpoints: what a session has stored so far, so that an interrupted backup does not store it again.

use super::packer::Packer;
use crate::durable;
use crate::error::Result;
use crate::repo::container::encode;
use crate::repo::index::{ChunkInfo, Index};
use crate::repo::keys::Recipients;
use crate::repo::names;
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
    /// Shared by all that write checkpoints of the session.
    numbers: Arc<AtomicU32>,
    last: Instant,
}

impl Checkpoints {
    pub fn new(
        store: Arc<dyn Store>,
        (writer, session): (&str, &str),
        recipients: Recipients,
        numbers: Arc<AtomicU32>,
    ) -> Self {
        let (writer, session) = (writer.to_owned(), session.to_owned());
        Checkpoints { store, writer, session, recipients, numbers, last: Instant::now() }
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
        let object = encode::seal(&index.to_bytes(), &self.recipients)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.store.put(&names::checkpoint(&self.writer, &self.session, number), Bytes::from(object), None)?;
        durable::crash_point("backup:checkpoint-written");
        Ok(())
    }
}
