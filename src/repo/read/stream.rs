//! Reading a stream: its objects one after the other, each compared with its pin, the whole with its hash.

use super::counted::{Counted, Passed};
use crate::error::{Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::container::decode;
use crate::repo::keys::Keyring;
use crate::repo::point::{Pin, Stream};
use sha2::{Digest, Sha256};
use std::io::{self, Read};

pub struct StreamReader {
    repository: Repository,
    stream: Stream,
    keys: Keyring,
    next: usize,
    current: Option<(Box<dyn Read + Send>, Passed, Pin)>,
    hash: Sha256,
    bytes: u64,
    proven: bool,
}

impl StreamReader {
    pub fn new(repository: Repository, stream: Stream, keys: Keyring) -> Self {
        StreamReader { repository, stream, keys, next: 0, current: None, hash: Sha256::new(), bytes: 0, proven: false }
    }

    fn open_next(&mut self) -> Result<bool> {
        let Some(pin) = self.stream.objects.get(self.next).cloned() else { return Ok(false) };
        self.next += 1;
        let (counted, passed) = Counted::open(&self.repository, &pin)?;
        let data = decode::open(counted, self.stream.codec, &self.keys, pin.key.as_str())?;
        self.current = Some((data, passed, pin));
        Ok(true)
    }

    /// At the end of an object: its bytes were those of the pin.
    fn close_current(&mut self) -> Result<()> {
        self.current.take().map_or(Ok(()), |(_, passed, pin)| passed.must_be(&pin))
    }

    fn prove(&mut self) -> Result<()> {
        if self.bytes != self.stream.bytes || <[u8; 32]>::from(self.hash.clone().finalize()) != self.stream.sha256 {
            let what = format!("the stream {} is damaged: it is not what was written", self.stream.name);
            return Err(Failure::new(Kind::Verification, what));
        }
        self.proven = true;
        Ok(())
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.proven || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some((data, ..)) = &mut self.current {
                let n = data.read(buffer)?;
                if n > 0 {
                    self.hash.update(&buffer[..n]);
                    self.bytes += n as u64;
                    return Ok(n);
                }
                self.close_current()?;
            }
            if !self.open_next()? {
                self.prove()?;
                return Ok(0);
            }
        }
    }
}
