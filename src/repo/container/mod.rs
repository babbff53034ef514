//! The container (`docs/FORMAT.md` §2): data in independent compressed frames, padding, seek table, all inside one age file.
//!
//! `encode.rs` makes it, `decode.rs` reads it from front to back, `random.rs` reads single frames of it.
//! Any container can be undone with `age -d | zstd -d` (or `zcat`). It proves integrity, not origin: see `point.rs`.

pub mod decode;
pub mod encode;
pub mod gzip;
pub mod random;

use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Write};

/// Data per frame.
pub const FRAME_BYTES: usize = 1 << 20;

const SKIPPABLE_PADDING: u32 = 0x184D_2A51;
const SKIPPABLE_SEEK_TABLE: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const SEEK_FOOTER_BYTES: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    #[default]
    Zstd,
    Gzip,
}

/// One frame, as the seek table has it: bytes in the container, bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub compressed: u32,
    pub data: u32,
}

/// Padmé (Nikitin et al., "Reducing metadata leakage from encrypted files", 2019): at most 12 % more, and of the length
/// only O(log log L) bits stay visible.
pub fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let e = u64::from(length.ilog2());
    let s = u64::from(e.max(1).ilog2()) + 1;
    let mask = (1u64 << (e.saturating_sub(s))) - 1;
    (length + mask) & !mask
}

/// The padding frame and the seek table that end a container whose frames are `frames`.
/// The padding of a large one is larger than memory ought to be, so it is written in pieces.
fn write_trailer(frames: &[Frame], out: &mut dyn Write) -> io::Result<()> {
    let body: u64 = frames.iter().map(|f| u64::from(f.compressed)).sum();
    let table = 8 + (frames.len() + 1) * 8 + SEEK_FOOTER_BYTES;
    let unpadded = body + 8 + table as u64;
    let padding = padme(unpadded) - unpadded;
    let too_large = || io::Error::other("the object is larger than the format allows");
    let padding = u32::try_from(padding).ok().filter(|p| p.checked_add(8).is_some()).ok_or_else(too_large)?;
    out.write_all(&SKIPPABLE_PADDING.to_le_bytes())?;
    out.write_all(&padding.to_le_bytes())?;
    io::copy(&mut io::repeat(0).take(padding.into()), out)?;
    let mut ending = Vec::with_capacity(table);
    ending.extend(SKIPPABLE_SEEK_TABLE.to_le_bytes());
    ending.extend(((table - 8) as u32).to_le_bytes());
    let padding_frame = Frame { compressed: 8 + padding, data: 0 };
    for frame in frames.iter().chain([&padding_frame]) {
        ending.extend(frame.compressed.to_le_bytes());
        ending.extend(frame.data.to_le_bytes());
    }
    ending.extend((frames.len() as u32 + 1).to_le_bytes());
    ending.push(0);
    ending.extend(SEEKABLE_MAGIC.to_le_bytes());
    out.write_all(&ending)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads the content of a seek-table frame (without its 8 bytes of header): entries and footer.
fn parse_table(content: &[u8]) -> Result<Vec<Frame>, &'static str> {
    let entries_end = content.len().checked_sub(SEEK_FOOTER_BYTES).ok_or("the seek table is too short")?;
    let count = u32_at(content, entries_end).ok_or("the seek table is too short")? as usize;
    if u32_at(content, entries_end + 5) != Some(SEEKABLE_MAGIC) || content[entries_end + 4] != 0 {
        return Err("the seek table has no footer");
    }
    if count.checked_mul(8) != Some(entries_end) || count == 0 {
        return Err("the seek table has the wrong length");
    }
    let frame = |i: usize| Some(Frame { compressed: u32_at(content, i * 8)?, data: u32_at(content, i * 8 + 4)? });
    (0..count).map(|i| frame(i).ok_or("the seek table is too short")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padme_agrees_with_the_paper() {
        assert_eq!([2, 9, 1000, 1_000_001].map(padme), [2, 10, 1024, 1_015_808]);
    }

    /// Counts, and remembers the largest piece.
    #[derive(Default)]
    struct Pieces {
        bytes: u64,
        largest: usize,
    }

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes += bytes.len() as u64;
            self.largest = self.largest.max(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_padding_of_a_large_object_is_never_in_memory() {
        // 20 GiB and a little: about 256 MiB are missing to the next Padmé length.
        let frames = vec![Frame { compressed: 1 << 20, data: 1 << 20 }; 20 << 10];
        let mut pieces = Pieces::default();
        write_trailer(&frames, &mut pieces).unwrap();
        assert!(pieces.bytes > 200 << 20 && pieces.largest < 1 << 20, "{} in {}", pieces.bytes, pieces.largest);
    }

    #[test]
    fn an_object_whose_padding_has_no_number_is_refused() {
        let frames = vec![Frame { compressed: 1 << 20, data: 1 << 20 }; (512 << 10) + 1];
        let refused = write_trailer(&frames, &mut io::sink()).unwrap_err();
        assert!(refused.to_string().contains("larger than the format allows"));
    }

    proptest! {
        #[test]
        fn padding_is_small_and_hides(length in 2u64..1 << 40) {
            let padded = padme(length);
            prop_assert!(padded >= length && padded - length <= length / 8 + 1);
            prop_assert_eq!(padme(padded), padded);
        }

        #[test]
        fn a_table_reads_back(sizes in proptest::collection::vec((1u32..2_000_000, 1u32..=1 << 20), 0..50)) {
            let frames: Vec<_> = sizes.into_iter().map(|(compressed, data)| Frame { compressed, data }).collect();
            let mut trailer = Vec::new();
            write_trailer(&frames, &mut trailer).unwrap();
            let padding = u32_at(&trailer, 4).unwrap() as usize;
            let read = parse_table(&trailer[8 + padding + 8..]).unwrap();
            prop_assert_eq!(&read[..frames.len()], &frames[..]);
            prop_assert_eq!(read[frames.len()], Frame { compressed: 8 + padding as u32, data: 0 });
        }

        #[test]
        fn foreign_tables_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_table(&bytes);
        }
    }
}
