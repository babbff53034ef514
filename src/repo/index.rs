//! The index: which packs and chunks a tree, or a deduplicated stream, consists of (`docs/FORMAT.md` §5).

use crate::error::{Failure, Kind, Result};
use crate::repo::sealed::SealedBy;
use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"BKPIDX1\n";
const PACK_BYTES: usize = 48;
pub const CHUNK_BYTES: usize = 44;
/// A larger pack is refused before it is decoded.
const LARGEST_PACK: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackInfo {
    pub sha256: [u8; 32],
    /// Bytes of the object.
    pub size: u64,
    /// Bytes of data in it.
    pub data: u64,
    /// Not in an index: the point that has the index says it ([`crate::repo::sealed`]).
    pub sealed: SealedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    pub id: [u8; 32],
    /// Number of the pack in [`Index::packs`].
    pub pack: u32,
    pub offset: u32,
    pub length: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub packs: Vec<PackInfo>,
    /// Chunks of the tar stream, in order.
    pub tar: Vec<ChunkInfo>,
    /// Chunks of the catalogue, in order.
    pub catalogue: Vec<ChunkInfo>,
}

impl ChunkInfo {
    pub fn to_bytes(self) -> [u8; CHUNK_BYTES] {
        let mut out = [0; CHUNK_BYTES];
        out[..32].copy_from_slice(&self.id);
        for (at, number) in [(32, self.pack), (36, self.offset), (40, self.length)] {
            out[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8; CHUNK_BYTES]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[..32]);
        ChunkInfo { id, pack: number(32), offset: number(36), length: number(40) }
    }
}

/// All of an index that stands before its chunks.
pub fn head(packs: &[PackInfo], tar: u64, catalogue: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(28 + packs.len() * PACK_BYTES);
    out.extend(MAGIC);
    out.extend((packs.len() as u32).to_le_bytes());
    for pack in packs {
        out.extend(pack.sha256);
        out.extend(pack.size.to_le_bytes());
        out.extend(pack.data.to_le_bytes());
    }
    out.extend(tar.to_le_bytes());
    out.extend(catalogue.to_le_bytes());
    out
}

impl Index {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = head(&self.packs, self.tar.len() as u64, self.catalogue.len() as u64);
        out.reserve((self.tar.len() + self.catalogue.len()) * CHUNK_BYTES);
        for chunk in self.tar.iter().chain(&self.catalogue) {
            out.extend(chunk.to_bytes());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8], what: &str) -> Result<Self> {
        let mut reader = IndexReader::new(bytes, what)?;
        let tar = usize::try_from(reader.tar).unwrap_or(usize::MAX);
        let mut chunks = reader.by_ref().collect::<Result<Vec<_>>>()?;
        let catalogue = chunks.split_off(tar);
        Ok(Index { packs: reader.packs, tar: chunks, catalogue })
    }
}

/// An index from front to back, for who does not want to hold it: an iterator over its chunks. What its counts say is believed
/// only as far as there is data for it.
pub struct IndexReader<R> {
    input: R,
    what: String,
    pub packs: Vec<PackInfo>,
    /// How many chunks of the tar stream, or of a stream, come first.
    pub tar: u64,
    /// How many are left.
    left: u64,
    ended: bool,
}

impl<R: Read> IndexReader<R> {
    pub fn new(input: R, what: &str) -> Result<Self> {
        let (what, packs) = (what.to_owned(), Vec::new());
        let mut reader = IndexReader { input, what, packs, tar: 0, left: 0, ended: false };
        if reader.array::<8>()? != *MAGIC {
            return Err(reader.damaged());
        }
        for _ in 0..u32::from_le_bytes(reader.array()?) {
            let (sha256, size, data) = (reader.array()?, reader.number()?, reader.number()?);
            if data > LARGEST_PACK || size > 2 * LARGEST_PACK {
                return Err(reader.damaged());
            }
            reader.packs.push(PackInfo { sha256, size, data, sealed: SealedBy::default() });
        }
        reader.tar = reader.number()?;
        reader.left = reader.tar.checked_add(reader.number()?).ok_or_else(|| reader.damaged())?;
        Ok(reader)
    }

    fn damaged(&self) -> Failure {
        Failure::new(Kind::Verification, format!("{} is damaged: it is not an index", self.what))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        match self.input.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged()),
            Err(e) => Err(Failure::from_io(e, || format!("cannot read {}", self.what))),
        }
    }

    fn number(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn chunk(&mut self) -> Result<ChunkInfo> {
        let chunk = ChunkInfo::from_bytes(&self.array()?);
        let pack = self.packs.get(chunk.pack as usize).ok_or_else(|| self.damaged())?;
        if u64::from(chunk.offset) + u64::from(chunk.length) > pack.data {
            return Err(self.damaged());
        }
        self.left -= 1;
        Ok(chunk)
    }

    /// Nothing follows the last chunk.
    fn end(&mut self) -> Result<()> {
        self.ended = true;
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged()),
            Err(e) => Err(Failure::from_io(e, || format!("cannot read {}", self.what))),
        }
    }
}

impl<R: Read> Iterator for IndexReader<R> {
    type Item = Result<ChunkInfo>;

    fn next(&mut self) -> Option<Result<ChunkInfo>> {
        if self.left == 0 {
            return if self.ended { None } else { self.end().err().map(Err) };
        }
        let chunk = self.chunk();
        if chunk.is_err() {
            (self.left, self.ended) = (0, true);
        }
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Index {
        let pack = PackInfo { sha256: [7; 32], size: 100, data: 50, sealed: SealedBy::default() };
        let chunk = |n: u8| ChunkInfo { id: [n; 32], pack: 0, offset: u32::from(n), length: 10 };
        Index { packs: vec![pack], tar: vec![chunk(1), chunk(2)], catalogue: vec![chunk(3)] }
    }

    #[test]
    fn it_reads_back() {
        assert_eq!(Index::from_bytes(&sample().to_bytes(), "x").unwrap(), sample());
    }

    #[test]
    fn what_follows_the_last_chunk_is_refused() {
        let mut bytes = sample().to_bytes();
        bytes.push(0);
        assert!(Index::from_bytes(&bytes, "x").is_err());
    }

    #[test]
    fn a_chunk_beyond_its_pack_is_refused() {
        let mut index = sample();
        index.tar[0].offset = 45;
        assert!(Index::from_bytes(&index.to_bytes(), "x").is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let _ = Index::from_bytes(&bytes, "x");
            let mut good = sample().to_bytes();
            good.truncate(cut.min(good.len()));
            let _ = Index::from_bytes(&good, "x");
            bytes.splice(0..0, *MAGIC);
            let _ = Index::from_bytes(&bytes, "x");
        }
    }
}
