//! One point, opened for reading. What comes out has been verified: pins by SHA-256, streams by their hash, chunks by id.
//!
//! A reader gives an error instead of end-of-file when something is missing; whoever restores must not make anything live
//! before it saw a good end.

mod counted;
mod packs;
mod spooled;
mod stream;

pub(super) use counted::Counted;
pub(super) use packs::{Cutter, PackSource, open_pack};
pub(super) use spooled::{IN_MEMORY, SpooledIndex};
pub(super) use stream::StreamReader;

use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::repo::Repository;
use crate::repo::container::decode;
use crate::repo::index::{ChunkInfo, Index};
use crate::repo::keys::Keyring;
use crate::repo::point::{Body, Point};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

pub struct PointReader<'a> {
    repository: &'a Repository,
    pub point: &'a Point,
    pub body: Body,
    keys: Keyring,
    index: Option<Index>,
    id_key: [u8; 32],
    cancel: &'a Cancel,
}

impl<'a> PointReader<'a> {
    /// Opens body and index. `keys` must hold the point's data epoch.
    pub fn open(repository: &'a Repository, point: &'a Point, keys: &Keyring, cancel: &'a Cancel) -> Result<Self> {
        let what = format!("the body of point {}", point.id());
        let body = decode::open_whole(&repository.pinned(&point.body)?, keys, &what)?;
        let body: Body = serde_json::from_slice(&body)
            .map_err(|e| Failure::new(Kind::Verification, format!("{what} is damaged")).because(e))?;
        let index = match &point.tree {
            Some(tree) => {
                let what = format!("the index of point {}", point.id());
                Some(Index::from_bytes(&decode::open_whole(&repository.pinned(&tree.index)?, keys, &what)?, &what)?)
            }
            None => None,
        };
        let id_key =
            body.chunk_id_key.as_deref().and_then(|text| BASE64.decode(text).ok()).and_then(|b| b.try_into().ok());
        let in_chunks = index.is_some() || point.streams.iter().any(|s| s.index.is_some());
        if in_chunks && id_key.is_none() {
            return Err(Failure::new(Kind::Verification, format!("{what} lacks the key of its chunks")));
        }
        Ok(PointReader {
            repository,
            point,
            body,
            keys: keys.clone(),
            index,
            id_key: id_key.unwrap_or_default(),
            cancel,
        })
    }

    pub(super) fn into_index(self) -> Option<Index> {
        self.index
    }

    pub(super) fn id_key(&self) -> &[u8; 32] {
        &self.id_key
    }

    /// The data of one stream.
    pub fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let stream = self.point.streams.iter().find(|s| s.name == name).ok_or_else(|| {
            let names: Vec<_> = self.point.streams.iter().map(|s| s.name.as_str()).collect();
            Failure::usage(format!("point {} has no stream `{name}`", self.point.id()))
                .hint(format!("It has: {}", names.join(", ")))
        })?;
        Ok(Box::new(StreamReader::new(self.packs(), stream.clone())))
    }

    fn tree(&self) -> Result<&Index> {
        self.index.as_ref().ok_or_else(|| Failure::usage(format!("point {} has no tree", self.point.id())))
    }

    fn packs(&self) -> PackSource {
        PackSource {
            repository: self.repository.clone(),
            writer: self.point.writer.clone(),
            keys: self.keys.clone(),
            id_key: self.id_key,
        }
    }

    fn in_order<'s>(&'s self, index: &Index, chunks: &'s [ChunkInfo]) -> Result<impl Read + Send + use<'s>> {
        let chunks = || chunks.iter().map(|chunk| Ok(*chunk));
        let needed = packs::needed(index.packs.len(), chunks())?;
        Ok(packs::Sequence::new(self.packs(), index.packs.clone(), needed, chunks()))
    }

    /// The catalogue, line by line.
    pub fn catalogue(&self) -> Result<Box<dyn BufRead + Send + '_>> {
        let index = self.tree()?;
        Ok(Box::new(BufReader::with_capacity(256 << 10, self.in_order(index, &index.catalogue)?)))
    }

    /// The whole tar stream, in order.
    pub fn tar(&self) -> Result<Box<dyn Read + Send + '_>> {
        let index = self.tree()?;
        Ok(Box::new(self.in_order(index, &index.tar)?))
    }

    /// Hands over the chunks that touch `ranges` of the tar stream (all of it when `None`), each with its offset, from several
    /// threads and in no order. Each pack is fetched once; of packs of which little is wanted, only that is fetched.
    pub fn chunks(
        &self,
        ranges: Option<&[Range<u64>]>,
        take: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync),
    ) -> Result<()> {
        let index = self.tree()?;
        let workers = self.repository.workers();
        packs::for_each(&self.packs(), index, &wanted(&index.tar, ranges), workers, self.cancel, take)
    }
}

/// Chunks that touch the ranges, with their offsets in the tar stream.
fn wanted(tar: &[ChunkInfo], ranges: Option<&[Range<u64>]>) -> Vec<(u64, ChunkInfo)> {
    let mut all = Vec::new();
    let mut at = 0u64;
    let mut ranges = ranges.map(|r| r.iter().peekable());
    for chunk in tar {
        let end = at + u64::from(chunk.length);
        let touched = match &mut ranges {
            None => true,
            Some(ranges) => {
                while ranges.next_if(|r| r.end <= at).is_some() {}
                ranges.peek().is_some_and(|r| r.start < end)
            }
        };
        if touched {
            all.push((at, *chunk));
        }
        at = end;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_touched_chunks_are_wanted() {
        let chunk = |length| ChunkInfo { id: [0; 32], pack: 0, offset: 0, length };
        let tar = [chunk(10), chunk(10), chunk(10), chunk(10)];
        let offsets = |ranges: &[(u64, u64)]| {
            let ranges: Vec<_> = ranges.iter().map(|(from, to)| *from..*to).collect();
            wanted(&tar, Some(&ranges)).iter().map(|(at, _)| *at).collect::<Vec<_>>()
        };
        assert_eq!(offsets(&[(0, 1)]), [0]);
        assert_eq!(offsets(&[(9, 11), (30, 31)]), [0, 10, 30]);
        assert_eq!(offsets(&[(10, 20)]), [10]);
        assert_eq!(wanted(&tar, None).len(), 4);
    }
}
