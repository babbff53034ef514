//! Content-defined chunking: FastCDC (Xia et al., 2020) with a gear table that is secret to the writer.
//!
//! Boundaries are part of what a repository is: were they to move, everything would be stored again. Hence this loop is
//! our own, pinned by golden values, and not a dependency's. Readers need nothing of it.

use std::io::{self, Read};

/// How long chunks are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    minimum: usize,
    average_bits: u32,
    pub maximum: usize,
}

/// For trees: 256 KiB, 1 MiB, 4 MiB.
pub const OF_TREES: Sizes = Sizes { minimum: 256 << 10, average_bits: 20, maximum: 4 << 20 };
/// For dumps, where rows change all over: 16 KiB, 64 KiB, 256 KiB.
pub const OF_STREAMS: Sizes = Sizes { minimum: 16 << 10, average_bits: 16, maximum: 256 << 10 };

/// What is read at a time, at least: so that little is moved for small chunks.
const READ: usize = 1 << 20;

/// The high bits: they depend on the last 64 bytes, the low ones on fewer.
const fn mask(bits: u32) -> u64 {
    !0 << (64 - bits)
}

pub struct Chunker {
    gear: Box<[u64; 256]>,
    sizes: Sizes,
}

impl Chunker {
    /// The table is 2048 bytes of BLAKE3's output keyed with the writer's secret, so that nobody else can tell from sizes
    /// where a known file would be cut.
    pub fn new(secret: &[u8; 32], sizes: Sizes) -> Self {
        let mut gear = Box::new([0u64; 256]);
        let mut output = blake3::Hasher::new_keyed(secret).update(b"bkp gear table v1").finalize_xof();
        for value in gear.iter_mut() {
            let mut bytes = [0; 8];
            output.fill(&mut bytes);
            *value = u64::from_le_bytes(bytes);
        }
        Chunker { gear, sizes }
    }

    /// Length of the first chunk of `data`, which must hold the largest chunk there can be, or all that is left.
    pub fn cut(&self, data: &[u8]) -> usize {
        let Sizes { minimum, average_bits, maximum } = self.sizes;
        if data.len() <= minimum {
            return data.len();
        }
        let end = data.len().min(maximum);
        let normal = end.min(1 << average_bits).max(minimum);
        let mut hash = 0u64;
        // Normalisation level 1: one bit harder below the average, one bit easier above.
        if let Some(at) = self.scan(&data[minimum..normal], &mut hash, mask(average_bits + 1)) {
            return minimum + at;
        }
        match self.scan(&data[normal..end], &mut hash, mask(average_bits - 1)) {
            Some(at) => normal + at,
            None => end,
        }
    }

    fn scan(&self, data: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let mut h = *hash;
        for (at, byte) in data.iter().enumerate() {
            h = (h << 1).wrapping_add(self.gear[usize::from(*byte)]);
            if h & mask == 0 {
                return Some(at + 1);
            }
        }
        *hash = h;
        None
    }

    /// Cuts what `data` gives until its end, and hands each chunk to `take`.
    pub fn cut_all<E: From<io::Error>>(
        &self,
        data: &mut dyn Read,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        buffer.clear();
        let (maximum, mut start) = (self.sizes.maximum, 0);
        loop {
            buffer.drain(..start);
            let wanted = maximum + maximum.max(READ) - buffer.len();
            let got = data.take(wanted as u64).read_to_end(buffer)?;
            let ended = got < wanted;
            start = 0;
            while start < buffer.len() && (ended || buffer.len() - start >= maximum) {
                let length = self.cut(&buffer[start..]);
                take(&buffer[start..start + length])?;
                start += length;
            }
            if ended {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that never change: BLAKE3's output of a fixed text.
    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    const MINIMUM: usize = OF_TREES.minimum;
    const MAXIMUM: usize = OF_TREES.maximum;

    fn lengths(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
        let mut all = Vec::new();
        chunker
            .cut_all::<io::Error>(&mut &data[..], &mut Vec::new(), |chunk| {
                all.push(chunk.len());
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn boundaries_never_move() {
        let golden = [
            640446, 979057, 1684761, 1424591, 1504728, 362712, 923593, 1092351, 1004439, 307480, 1813852, 2009176,
            1098596, 1030330, 901104,
        ];
        assert_eq!(lengths(&Chunker::new(&[1; 32], OF_TREES), &noise(16 << 20)), golden);
    }

    #[test]
    fn boundaries_in_streams_never_move() {
        let all = lengths(&Chunker::new(&[1; 32], OF_STREAMS), &noise(1 << 20));
        let golden = [81427, 92526, 114398, 173881, 79525, 68058, 20027, 55896, 66963, 118469, 65145, 112261];
        assert_eq!(all, golden);
    }

    #[test]
    fn chunks_cover_the_data_within_bounds() {
        for length in [0, 1, MINIMUM, MINIMUM + 1, MAXIMUM, 3 * MAXIMUM + 17] {
            for data in [noise(length), vec![0; length]] {
                let all = lengths(&Chunker::new(&[9; 32], OF_TREES), &data);
                assert_eq!(all.iter().sum::<usize>(), length);
                assert!(all.iter().all(|l| *l <= MAXIMUM) && all.iter().rev().skip(1).all(|l| *l >= MINIMUM));
            }
        }
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let chunker = Chunker::new(&[3; 32], OF_TREES);
        let data = noise(24 << 20);
        let mut changed = data.clone();
        changed.splice(5_000_000..5_000_000, *b"inserted");
        let before = lengths(&chunker, &data);
        let after = lengths(&chunker, &changed);
        let same_tail = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(before.len() - same_tail <= 6, "{before:?} {after:?}");
    }

    #[test]
    fn another_secret_cuts_elsewhere() {
        let data = noise(16 << 20);
        assert_ne!(
            lengths(&Chunker::new(&[1; 32], OF_TREES), &data),
            lengths(&Chunker::new(&[2; 32], OF_TREES), &data)
        );
    }
}
