//! The gzip codec of the container: members of 1 MiB, padding in the `FEXTRA` field of empty members, and an end mark.
//!
//! For people whose recovery tool is `zcat`. No seek table: streams only.

use super::padme;
use flate2::{Compression, GzBuilder};
use std::io::{self, Write};

const PADDING: [u8; 2] = *b"BP";
const END: [u8; 2] = *b"BE";
/// `FEXTRA` holds 65,535 bytes, 4 of them the header of the subfield.
const LARGEST_PADDING: u64 = 65_531;

pub fn member(data: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let level = Compression::new(level.clamp(1, 9).unsigned_abs());
    let mut writer = GzBuilder::new().write(Vec::with_capacity(data.len() / 2), level);
    writer.write_all(data)?;
    writer.finish()
}

fn empty_member(subfield: [u8; 2], length: u64) -> io::Result<Vec<u8>> {
    let mut extra = Vec::with_capacity(length as usize + 4);
    extra.extend(subfield);
    extra.extend((length as u16).to_le_bytes());
    extra.resize(length as usize + 4, 0);
    GzBuilder::new().extra(extra).write(Vec::new(), Compression::new(1)).finish()
}

/// Padding and end mark for members of `body` bytes in all.
pub fn write_trailer(body: u64, out: &mut dyn Write) -> io::Result<()> {
    let end = empty_member(END, 0)?;
    let overhead = end.len() as u64;
    let unpadded = body + end.len() as u64;
    let mut missing = padme(unpadded + overhead) - unpadded;
    while missing > 0 {
        let whole = LARGEST_PADDING + overhead;
        // What is left after this member must be nothing, or enough for another one.
        let this = if missing <= whole { missing } else { whole.min(missing - overhead) };
        out.write_all(&empty_member(PADDING, this - overhead)?)?;
        missing -= this;
    }
    out.write_all(&end)
}

/// Whether the extra field of a member marks the end of the container.
pub fn is_end(extra: Option<&[u8]>) -> bool {
    extra.is_some_and(|e| e.len() == 4 && e[..2] == END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_trailer_pads_and_decodes_to_nothing() {
        for body in [0, 1, 20, 1000, 70_000, 5_000_000, 123_456_789] {
            let mut trailer = Vec::new();
            write_trailer(body, &mut trailer).unwrap();
            assert_eq!(padme(body + trailer.len() as u64), body + trailer.len() as u64);
            let mut out = Vec::new();
            flate2::read::MultiGzDecoder::new(&trailer[..]).read_to_end(&mut out).unwrap();
            assert!(out.is_empty());
        }
    }
}
