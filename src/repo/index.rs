//! The index: which packs and chunks a tree consists of (`docs/FORMAT.md` §5).

use crate::error::{Failure, Kind, Result};

const MAGIC: &[u8; 8] = b"BKPIDX1\n";
const PACK_BYTES: usize = 48;
const CHUNK_BYTES: usize = 44;
/// A larger pack is refused before it is decoded.
const LARGEST_PACK: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackInfo {
    pub sha256: [u8; 32],
    /// Bytes of the object.
    pub size: u64,
    /// Bytes of data in it.
    pub data: u64,
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

impl Index {
    pub fn to_bytes(&self) -> Vec<u8> {
        let chunks = self.tar.len() + self.catalogue.len();
        let mut out = Vec::with_capacity(28 + self.packs.len() * PACK_BYTES + chunks * CHUNK_BYTES);
        out.extend(MAGIC);
        out.extend((self.packs.len() as u32).to_le_bytes());
        for pack in &self.packs {
            out.extend(pack.sha256);
            out.extend(pack.size.to_le_bytes());
            out.extend(pack.data.to_le_bytes());
        }
        out.extend((self.tar.len() as u64).to_le_bytes());
        out.extend((self.catalogue.len() as u64).to_le_bytes());
        for chunk in self.tar.iter().chain(&self.catalogue) {
            out.extend(chunk.id);
            out.extend(chunk.pack.to_le_bytes());
            out.extend(chunk.offset.to_le_bytes());
            out.extend(chunk.length.to_le_bytes());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8], what: &str) -> Result<Self> {
        read(bytes).ok_or_else(|| Failure::new(Kind::Verification, format!("{what} is damaged: it is not an index")))
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

fn read(bytes: &[u8]) -> Option<Index> {
    let mut cursor = Cursor(bytes);
    if cursor.take(8)? != MAGIC {
        return None;
    }
    let packs = cursor.u32()? as usize;
    // Counts are checked against what is there before anything is allocated for them.
    if packs.checked_mul(PACK_BYTES)? > cursor.0.len() {
        return None;
    }
    let packs: Vec<PackInfo> = (0..packs)
        .map(|_| Some(PackInfo { sha256: cursor.array()?, size: cursor.u64()?, data: cursor.u64()? }))
        .collect::<Option<_>>()?;
    if packs.iter().any(|p: &PackInfo| p.data > LARGEST_PACK || p.size > 2 * LARGEST_PACK) {
        return None;
    }
    let (tar, catalogue) = (usize::try_from(cursor.u64()?).ok()?, usize::try_from(cursor.u64()?).ok()?);
    if tar.checked_add(catalogue)?.checked_mul(CHUNK_BYTES)? != cursor.0.len() {
        return None;
    }
    let mut chunks = |n: usize| -> Option<Vec<ChunkInfo>> {
        (0..n)
            .map(|_| {
                let chunk = ChunkInfo {
                    id: cursor.array()?,
                    pack: cursor.u32()?,
                    offset: cursor.u32()?,
                    length: cursor.u32()?,
                };
                let pack = packs.get(chunk.pack as usize)?;
                (u64::from(chunk.offset) + u64::from(chunk.length) <= pack.data).then_some(chunk)
            })
            .collect()
    };
    let tar = chunks(tar)?;
    let catalogue = chunks(catalogue)?;
    Some(Index { packs, tar, catalogue })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Index {
        let pack = PackInfo { sha256: [7; 32], size: 100, data: 50 };
        let chunk = |n: u8| ChunkInfo { id: [n; 32], pack: 0, offset: u32::from(n), length: 10 };
        Index { packs: vec![pack], tar: vec![chunk(1), chunk(2)], catalogue: vec![chunk(3)] }
    }

    #[test]
    fn it_reads_back() {
        assert_eq!(Index::from_bytes(&sample().to_bytes(), "x").unwrap(), sample());
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
