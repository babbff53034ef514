//! Files with holes: where their data is, and how GNU tar's sparse format 1.0 stores it (the map, then the data).

use super::entry::{BLOCK, Extent, padding};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// Asks the file system for the data of a file of `size` bytes. Empty when there is no hole in it (or none to be known of).
pub fn map(file: BorrowedFd<'_>, size: u64) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(begin) if begin < size => begin,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return Vec::new(),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(begin)) {
            Ok(end) if end > begin => end.min(size),
            _ => return Vec::new(),
        };
        extents.push(Extent { offset: begin, length: end - begin });
        at = end;
    }
    if extents.first() == Some(&Extent { offset: 0, length: size }) {
        return Vec::new();
    }
    // As GNU tar does it: the end of the file, should it be a hole, is told by an empty piece.
    if extents.last().is_none_or(|last| last.offset + last.length < size) {
        extents.push(Extent { offset: size, length: 0 });
    }
    extents
}

/// The map as it stands before the data in the tar stream.
pub fn encode_map(extents: &[Extent]) -> Vec<u8> {
    let mut text = format!("{}\n", extents.len()).into_bytes();
    for extent in extents {
        text.extend_from_slice(format!("{}\n{}\n", extent.offset, extent.length).as_bytes());
    }
    text.resize(text.len() + padding(text.len() as u64) as usize, 0);
    text
}

/// Reads a map back; gives it and the bytes it took. `None` when it is not one, or does not fit a file of `size` bytes.
pub fn decode_map(bytes: &[u8], size: u64) -> Option<(Vec<Extent>, u64)> {
    let mut at = 0;
    let mut number = || {
        let end = at + bytes[at..].iter().take(21).position(|&byte| byte == b'\n')?;
        let value: u64 = std::str::from_utf8(&bytes[at..end]).ok()?.parse().ok()?;
        at = end + 1;
        Some(value)
    };
    let count = number()?;
    let mut extents = Vec::new();
    for _ in 0..count {
        extents.push(Extent { offset: number()?, length: number()? });
    }
    let length = (at as u64).next_multiple_of(BLOCK);
    (is_valid(&extents, size) && length <= bytes.len() as u64).then_some((extents, length))
}

/// Whether the pieces are in order, apart, and inside a file of `size` bytes.
pub fn is_valid(extents: &[Extent], size: u64) -> bool {
    let mut from = 0;
    extents.iter().all(|extent| {
        let end = extent.offset.checked_add(extent.length);
        let fits = extent.offset >= from && end.is_some_and(|end| end <= size);
        from = end.unwrap_or(u64::MAX);
        fits
    })
}

pub fn data_length(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.length).sum()
}

/// Gives the pieces of `bytes`, which stand at `from` in the stored data behind the map, to `write` with their places in the file.
pub fn scatter<E>(
    extents: &[Extent],
    from: u64,
    bytes: &[u8],
    mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let to = from + bytes.len() as u64;
    let mut stored = 0;
    for extent in extents {
        let begin = stored.max(from);
        let end = (stored + extent.length).min(to);
        if begin < end {
            write(extent.offset + (begin - stored), &bytes[(begin - from) as usize..(end - from) as usize])?;
        }
        stored += extent.length;
        if stored >= to {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pairs: &[(u64, u64)]) -> Vec<Extent> {
        pairs.iter().map(|&(offset, length)| Extent { offset, length }).collect()
    }

    #[test]
    fn a_map_survives_the_way_through_text() {
        for map in [extents(&[(1000, 0)]), extents(&[(0, 10), (512, 100), (1000, 0)])] {
            let text = encode_map(&map);
            assert_eq!(text.len() % 512, 0);
            assert_eq!(decode_map(&text, 1000), Some((map, text.len() as u64)));
        }
    }

    #[test]
    fn a_map_that_lies_is_refused() {
        for text in
            ["", "2\n0\n5\n", "1\n0\n2000\n", "2\n10\n10\n15\n10\n", "1\n18446744073709551615\n2\n", "1\n-1\n5\n"]
        {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(512, 0);
            assert_eq!(decode_map(&bytes, 1000), None, "{text:?}");
        }
        assert_eq!(decode_map(b"1\n0\n5\n", 1000), None, "without its padding");
    }

    #[test]
    fn stored_data_finds_its_places() {
        let map = extents(&[(10, 4), (100, 6), (200, 0)]);
        for from in 0..10u64 {
            for to in from..=10 {
                let mut file = [b'.'; 200];
                let bytes: Vec<u8> = (from..to).map(|i| b'a' + i as u8).collect();
                scatter::<()>(&map, from, &bytes, |at, piece| {
                    file[at as usize..at as usize + piece.len()].copy_from_slice(piece);
                    Ok(())
                })
                .unwrap();
                let stored: Vec<u8> = file[10..14].iter().chain(&file[100..106]).copied().collect();
                let expected: Vec<u8> =
                    (0..10).map(|i| if (from..to).contains(&i) { b'a' + i as u8 } else { b'.' }).collect();
                assert_eq!(stored, expected);
            }
        }
    }
}
