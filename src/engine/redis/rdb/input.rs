//! Bytes of an RDB file: counted, in the checksum, with the lengths and strings that everything else is made of.
//!
//! Nothing is believed: a length reserves no memory before the bytes came. Errors are of kind `Verification` and say at which
//! byte; an error of the reader below passes unharmed.

use super::lzf;
use crate::error::{Failure, Kind, Result};
use crc_fast::{CrcAlgorithm, Digest};
use std::io::{ErrorKind, Read};

const BUFFER: usize = 256 << 10;

pub struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    /// What of the buffer is in the checksum already.
    summed: usize,
    checksum: Digest,
    /// Where in the file the buffer begins.
    begins: u64,
    kept: Option<Vec<u8>>,
}

/// A length, or instead of one the number of a special encoding.
pub enum Length {
    Plain(u64),
    Special(u8),
}

impl<R: Read> Input<R> {
    pub fn new(inner: R) -> Self {
        let checksum = Digest::new(CrcAlgorithm::Crc64Redis);
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Input { inner, buffer, at: 0, filled: 0, summed: 0, checksum, begins: 0, kept: None }
    }

    pub fn offset(&self) -> u64 {
        self.begins + self.at as u64
    }

    /// A failure that says where it is.
    pub fn damaged(&self, what: &str) -> Failure {
        Failure::new(Kind::Verification, format!("the RDB data is damaged near byte {}: {what}", self.offset()))
    }

    /// CRC-64 of everything read until now.
    pub fn checksum(&mut self) -> u64 {
        self.checksum.update(&self.buffer[self.summed..self.at]);
        self.summed = self.at;
        self.checksum.finalize()
    }

    /// From now on, what is read is kept too.
    pub fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// What was read since [`keep`](Self::keep).
    pub fn kept(&mut self) -> Vec<u8> {
        self.kept.take().unwrap_or_default()
    }

    pub fn is_at_end(&mut self) -> Result<bool> {
        Ok(!self.fill()?)
    }

    fn fill(&mut self) -> Result<bool> {
        if self.at < self.filled {
            return Ok(true);
        }
        self.checksum.update(&self.buffer[self.summed..self.filled]);
        self.begins += self.filled as u64;
        (self.at, self.filled, self.summed) = (0, 0, 0);
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(read) => {
                    self.filled = read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::from_io(error, || "cannot read the RDB data".into())),
            }
        }
    }

    /// Hands the next `length` bytes to `take`, in pieces.
    pub fn pieces(&mut self, length: u64, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut left = length;
        while left > 0 {
            if !self.fill()? {
                let text = format!("the RDB data ends at byte {}, in the middle of a value", self.offset());
                return Err(Failure::new(Kind::Verification, text));
            }
            let length = left.min((self.filled - self.at) as u64) as usize;
            let piece = &self.buffer[self.at..self.at + length];
            take(piece);
            if let Some(kept) = &mut self.kept {
                kept.extend_from_slice(piece);
            }
            self.at += length;
            left -= length as u64;
        }
        Ok(())
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let mut at = 0;
        self.pieces(N as u64, |piece| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })?;
        Ok(bytes)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn length_or_special(&mut self) -> Result<Length> {
        let first = self.byte()?;
        Ok(Length::Plain(match first >> 6 {
            0 => u64::from(first & 0x3f),
            1 => u64::from(first & 0x3f) << 8 | u64::from(self.byte()?),
            3 => return Ok(Length::Special(first & 0x3f)),
            _ => match first {
                0x80 => u64::from(u32::from_be_bytes(self.array()?)),
                0x81 => u64::from_be_bytes(self.array()?),
                _ => return Err(self.damaged("a length of an unknown form")),
            },
        }))
    }

    pub fn length(&mut self) -> Result<u64> {
        match self.length_or_special()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(self.damaged("a string where a number should be")),
        }
    }

    /// Milliseconds since 1970, as versions from 9 on have them.
    pub fn milliseconds(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The next string, unpacked, in place of what `into` held.
    pub fn string(&mut self, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        let length = self.length_or_special()?;
        self.string_of(length, into)
    }

    /// The rest of a string whose length was read.
    pub fn string_of(&mut self, length: Length, into: &mut Vec<u8>) -> Result<()> {
        let number = match length {
            Length::Plain(length) => return self.pieces(length, |piece| into.extend_from_slice(piece)),
            Length::Special(0) => i64::from(i8::from_le_bytes(self.array()?)),
            Length::Special(1) => i64::from(i16::from_le_bytes(self.array()?)),
            Length::Special(2) => i64::from(i32::from_le_bytes(self.array()?)),
            Length::Special(3) => {
                let (packed, size) = (self.length()?, self.length()?);
                let mut bytes = Vec::new();
                self.pieces(packed, |piece| bytes.extend_from_slice(piece))?;
                return lzf::unpack(&bytes, size, into).ok_or_else(|| self.damaged("a packed string"));
            }
            Length::Special(other) => return Err(self.damaged(&format!("a string of the unknown encoding {other}"))),
        };
        into.extend_from_slice(number.to_string().as_bytes());
        Ok(())
    }

    /// The same, owned.
    pub fn owned_string(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.string(&mut bytes)?;
        Ok(bytes)
    }
}
