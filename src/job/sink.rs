//! Where an engine's dump goes: a session of the repository, in the words of an engine.

use crate::engine::{ChunkRange, Sink, TreeSink};
use crate::error::Result;
use crate::repo::write::{Session, TreeWriter};
use std::io::Read;

pub struct SessionSink<'s, 'r>(pub &'s mut Session<'r>);

impl Sink for SessionSink<'_, '_> {
    fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<()> {
        self.0.stream(name, data).map(drop)
    }

    fn tree(&mut self) -> Result<&mut dyn TreeSink> {
        Ok(self.0.tree())
    }
}

impl TreeSink for TreeWriter {
    fn group(&mut self, bytes: &[u8]) -> Result<ChunkRange> {
        TreeWriter::group(self, bytes)
    }

    fn file(&mut self, length: u64, data: &mut dyn Read) -> Result<ChunkRange> {
        TreeWriter::file(self, length, data)
    }

    fn reuse(&mut self, previous: ChunkRange) -> Result<Option<ChunkRange>> {
        Ok(TreeWriter::reuse(self, previous))
    }

    fn rewind(&mut self, chunk: u32) -> Result<()> {
        TreeWriter::rewind(self, chunk);
        Ok(())
    }

    fn catalogue(&mut self, line: &[u8]) -> Result<()> {
        TreeWriter::catalogue(self, line)
    }
}
