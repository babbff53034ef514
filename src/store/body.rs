//! A reader that knows how much is to come, and what a range means.
//!
//! An object that ends early is an error, never an end of file: whoever reads must not take half an object for a whole one.

use super::{Key, StoreError};
use std::io::{self, Read};

/// Gives exactly `left` bytes of `inner`, or an error for good: what was cut here stays cut.
pub(super) struct Exact<R> {
    pub inner: R,
    pub left: u64,
    pub key: Key,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.left.min(buffer.len() as u64) as usize;
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..most])?;
        if n == 0 {
            let text = format!("{} ended {} bytes too early", self.key, self.left);
            return Err(StoreError::Other(text).into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// What a range means for an object of `size` bytes: where it begins and how many bytes it has.
pub(super) fn clip(range: Option<&std::ops::Range<u64>>, size: u64) -> (u64, u64) {
    match range {
        None => (0, size),
        Some(range) => {
            let start = range.start.min(size);
            (start, range.end.clamp(start, size) - start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_end_is_an_error() {
        let mut reader = Exact { inner: &b"abc"[..], left: 5, key: Key::new("x").unwrap() };
        let mut taken = Vec::new();
        let error = StoreError::from_reader(reader.read_to_end(&mut taken).unwrap_err(), &reader.key);
        assert_eq!(taken, b"abc");
        assert_eq!(error.to_string(), "x ended 2 bytes too early");
        assert!(!error.transient());
    }

    #[test]
    fn ranges_give_what_is_there() {
        assert_eq!(clip(None, 10), (0, 10));
        assert_eq!(clip(Some(&(2..5)), 10), (2, 3));
        assert_eq!(clip(Some(&(8..50)), 10), (8, 2));
        assert_eq!(clip(Some(&(50..60)), 10), (10, 0));
        assert_eq!(clip(Some(&(4..4)), 10), (4, 0));
    }
}
