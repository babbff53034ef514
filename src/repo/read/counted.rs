//! Counting and hashing what is read of an object, to compare it with its pin without holding it in memory.

use crate::error::{Failure, Kind, Result};
use crate::repo::Repository;
use crate::repo::point::Pin;
use crate::store::StoreError;
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// What has gone through, shared with whoever compares it at the end.
#[derive(Clone, Default)]
pub struct Passed(Arc<Mutex<(Sha256, u64)>>);

pub struct Counted {
    inner: Box<dyn Read + Send>,
    passed: Passed,
}

impl Counted {
    /// Begins to read a pinned object.
    pub fn open(repository: &Repository, pin: &Pin) -> Result<(BufReader<Self>, Passed)> {
        let inner = repository.store.get(&pin.key, None).map_err(|e| match e {
            StoreError::NotFound(key) => Failure::new(Kind::Verification, format!("{key} is missing from the store")),
            other => other.into(),
        })?;
        // One byte more than there should be tells a longer object; its rest is not read.
        let inner = Box::new(inner.take(pin.size + 1));
        let passed = Passed::default();
        Ok((BufReader::with_capacity(256 << 10, Counted { inner, passed: passed.clone() }), passed))
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let mut passed = self.passed.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.0.update(&buffer[..n]);
        passed.1 += n as u64;
        Ok(n)
    }
}

impl Passed {
    /// An error unless exactly the pinned bytes went through.
    pub fn must_be(&self, pin: &Pin) -> Result<()> {
        let passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let damaged = |why: String| Err(Failure::new(Kind::Verification, format!("{} is damaged: {why}", pin.key)));
        match passed.1 {
            bytes if bytes > pin.size => damaged(format!("it has more than {} bytes", pin.size)),
            bytes if bytes < pin.size => damaged(format!("it has {bytes} bytes instead of {}", pin.size)),
            _ if <[u8; 32]>::from(passed.0.clone().finalize()) != pin.sha256 => {
                damaged("its bytes are not those that were written".into())
            }
            _ => Ok(()),
        }
    }
}
