//! Reading single frames of a container, through its seek table. For packs.
//!
//! Works on a whole decrypted object in memory, or on a seekable one of which only the needed segments are fetched.

use super::decode::{damaged, decrypt, unread};
use super::{FRAME_BYTES, Frame, SEEK_FOOTER_BYTES, parse_table, u32_at};
use crate::error::Result;
use crate::repo::keys::Keyring;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

/// An opened container: its frames by number.
pub struct Frames<P> {
    plain: P,
    /// Where each frame begins in the plaintext of the age file, and where its data begins.
    starts: Vec<(u64, u64, Frame)>,
    data_bytes: u64,
    decoder: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    what: String,
}

/// Decrypts a whole object of `size` bytes into `plain`, whatever that held. Nothing of it may be used before the caller has
/// compared what was read.
pub fn decrypt_whole(
    input: impl BufRead,
    size: u64,
    keys: &Keyring,
    what: &str,
    mut plain: Vec<u8>,
) -> Result<Vec<u8>> {
    let mut decrypted = decrypt(input, keys, what)?;
    // A plaintext is shorter than its object. What the buffer held needs no zeroing, nor a second buffer beside it.
    let size = size as usize;
    if plain.capacity() < size {
        plain = Vec::new();
        plain.reserve_exact(size);
    }
    plain.resize(plain.len().max(size), 0);
    let mut filled = 0;
    while filled < plain.len() {
        match decrypted.read(&mut plain[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unread(what, e)),
        }
    }
    plain.truncate(filled);
    Ok(plain)
}

/// The frames of a decrypted object.
pub fn from_plain(plain: Vec<u8>, what: &str) -> Result<Frames<std::io::Cursor<Vec<u8>>>> {
    Frames::new(std::io::Cursor::new(plain), what)
}

/// Decrypts only what is asked for. The hash of the object cannot be checked this way: the caller checks chunk ids.
pub fn from_seekable<'a, R: Read + Seek + Send + 'a>(
    input: R,
    keys: &Keyring,
    what: &str,
) -> Result<Frames<impl Read + Seek + use<'a, R>>> {
    Frames::new(decrypt(BufReader::with_capacity(64 << 10, input), keys, what)?, what)
}

impl<P: Read + Seek> Frames<P> {
    fn new(mut plain: P, what: &str) -> Result<Self> {
        let table = read_table(&mut plain).map_err(|e| unread(what, e))?;
        let mut starts = Vec::with_capacity(table.len());
        let (mut at, mut data_at) = (0u64, 0u64);
        for frame in table {
            if frame.data as usize > FRAME_BYTES {
                return Err(damaged(what, "a frame is larger than the format allows"));
            }
            starts.push((at, data_at, frame));
            at += u64::from(frame.compressed);
            data_at += u64::from(frame.data);
        }
        let decoder = zstd::bulk::Decompressor::new().map_err(|e| damaged(what, e.to_string()))?;
        Ok(Frames { plain, starts, data_bytes: data_at, decoder, compressed: Vec::new(), what: what.to_owned() })
    }

    pub fn into_plain(self) -> P {
        self.plain
    }

    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The number of the frame that holds this byte of the data.
    pub fn frame_of(&self, offset: u64) -> Result<usize> {
        let after = self.starts.partition_point(|(_, data_at, _)| *data_at <= offset);
        if offset >= self.data_bytes || after == 0 {
            return Err(damaged(&self.what, "a chunk is said to be beyond its end"));
        }
        Ok(after - 1)
    }

    /// Where the data of a frame begins.
    pub fn data_start(&self, number: usize) -> u64 {
        self.starts[number].1
    }

    /// Puts the data of one frame into `data`.
    pub fn frame(&mut self, number: usize, data: &mut Vec<u8>) -> Result<()> {
        let Some(&(at, _, frame)) = self.starts.get(number) else {
            return Err(damaged(&self.what, "a chunk is said to be beyond its end"));
        };
        self.compressed.resize(frame.compressed as usize, 0);
        self.plain
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.plain.read_exact(&mut self.compressed))
            .map_err(|e| unread(&self.what, e))?;
        data.clear();
        data.reserve_exact(frame.data as usize);
        self.decoder.decompress_to_buffer(&self.compressed, data).map_err(|e| damaged(&self.what, e.to_string()))?;
        if data.len() != frame.data as usize {
            return Err(damaged(&self.what, "a frame has another length than its seek table says"));
        }
        Ok(())
    }
}

fn read_table(plain: &mut (impl Read + Seek)) -> std::io::Result<Vec<Frame>> {
    let bad = |why: &str| std::io::Error::other(why.to_owned());
    let length = plain.seek(SeekFrom::End(0))?;
    let mut footer = [0u8; SEEK_FOOTER_BYTES];
    let footer_at = length.checked_sub(SEEK_FOOTER_BYTES as u64).ok_or_else(|| bad("it is cut"))?;
    plain.seek(SeekFrom::Start(footer_at))?;
    plain.read_exact(&mut footer)?;
    let count = u64::from(u32_at(&footer, 0).unwrap_or(0));
    let table_bytes = count * 8 + SEEK_FOOTER_BYTES as u64;
    let table_at =
        length.checked_sub(table_bytes).filter(|_| count <= 1 << 24).ok_or_else(|| bad("its seek table is cut"))?;
    let mut content = vec![0; table_bytes as usize];
    plain.seek(SeekFrom::Start(table_at))?;
    plain.read_exact(&mut content)?;
    let table = parse_table(&content).map_err(bad)?;
    let covered: u64 = table.iter().map(|f| u64::from(f.compressed)).sum();
    if covered + 8 + table_bytes != length {
        return Err(bad("its seek table does not cover it"));
    }
    Ok(table)
}
