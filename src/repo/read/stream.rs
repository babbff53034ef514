//! Reading a stream: its objects one after the other, each compared with its pin, the whole with its hash.

use crate::error::{Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::container::decode;
use crate::repo::keys::Keyring;
use crate::repo::point::{Pin, Stream};
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// What went through a [`Counted`], shared with whoever compares it at the end.
type Passed = Arc<Mutex<(Sha256, u64)>>;

struct Counted<R> {
    inner: R,
    passed: Passed,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.0.update(&buffer[..n]);
        passed.1 += n as u64;
        Ok(n)
    }
}

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
        let object = self.repository.store.get(&pin.key, None).map_err(|e| match e {
            crate::store::StoreError::NotFound(key) => {
                Failure::new(Kind::Verification, format!("{key} is missing from the store"))
            }
            other => other.into(),
        })?;
        let passed: Passed = Arc::default();
        let counted = BufReader::with_capacity(256 << 10, Counted { inner: object, passed: passed.clone() });
        let data = decode::open(counted, self.stream.codec, &self.keys, pin.key.as_str())?;
        self.current = Some((data, passed, pin));
        Ok(true)
    }

    fn damaged(&self, what: &str) -> Failure {
        Failure::new(Kind::Verification, format!("{what} is damaged: it is not what was written"))
    }

    /// At the end of an object: its bytes were those of the pin.
    fn close_current(&mut self) -> Result<()> {
        if let Some((_, passed, pin)) = self.current.take() {
            let passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            if passed.1 != pin.size || <[u8; 32]>::from(passed.0.clone().finalize()) != pin.sha256 {
                return Err(self.damaged(pin.key.as_str()));
            }
        }
        Ok(())
    }

    fn prove(&mut self) -> Result<()> {
        if self.bytes != self.stream.bytes || <[u8; 32]>::from(self.hash.clone().finalize()) != self.stream.sha256 {
            return Err(self.damaged(&format!("the stream {}", self.stream.name)));
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
