//! Reading a stream, in either layout: its objects one after the other, each compared with its pin, or its chunks, each
//! compared with its id; the whole with its hash.

use super::counted::{Counted, Passed};
use super::packs::{self, PackSource, Sequence};
use super::spooled::SpooledIndex;
use crate::error::{Failure, Kind, Result};
use crate::repo::container::decode;
use crate::repo::point::{Pin, Stream};
use sha2::{Digest, Sha256};
use std::io::{self, Read};

pub struct StreamReader {
    source: PackSource,
    stream: Stream,
    next: usize,
    current: Option<Current>,
    hash: Sha256,
    bytes: u64,
    proven: bool,
}

/// What is being read: an object of the stream, to be compared with its pin at its end; or its chunks.
struct Current {
    data: Box<dyn Read + Send>,
    object: Option<(Passed, Pin)>,
}

impl StreamReader {
    pub fn new(source: PackSource, stream: Stream) -> Self {
        StreamReader { source, stream, next: 0, current: None, hash: Sha256::new(), bytes: 0, proven: false }
    }

    fn open_next(&mut self) -> Result<bool> {
        let (repository, keys) = (&self.source.repository, &self.source.keys);
        if let Some(pin) = self.stream.index.as_ref().filter(|_| self.next == 0) {
            let mut index = SpooledIndex::open(repository, pin)?;
            let first = index.read(keys)?;
            let known = first.packs.clone();
            let needed = packs::needed(known.len(), first)?;
            let data = Box::new(Sequence::new(self.source.clone(), known, needed, index.into_reader(keys)?));
            self.current = Some(Current { data, object: None });
            self.next = 1;
            return Ok(true);
        }
        let Some(pin) = self.stream.objects.get(self.next).cloned() else { return Ok(false) };
        self.next += 1;
        let (counted, passed) = Counted::open(repository, &pin)?;
        let data = decode::open(counted, self.stream.codec, keys, pin.key.as_str())?;
        self.current = Some(Current { data, object: Some((passed, pin)) });
        Ok(true)
    }

    /// At the end of an object: its bytes were those of the pin.
    fn close_current(&mut self) -> Result<()> {
        let object = self.current.take().and_then(|current| current.object);
        object.map_or(Ok(()), |(passed, pin)| passed.must_be(&pin))
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
            if let Some(current) = &mut self.current {
                let n = current.data.read(buffer)?;
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
