//! Writing one object whose size is not known yet, in parts that are sent while the next ones are made.

use crate::error::{Failure, Result};
use crate::repo::point::Pin;
use crate::store::{Key, Retain, Store, StoreResult, Upload};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;

/// S3's 10,000 parts of this make 156 GiB.
const PART: usize = 16 << 20;
/// Sent at the same time; with the one being filled, this bounds memory.
const IN_FLIGHT: usize = 2;

pub struct ObjectWriter {
    store: Arc<dyn Store>,
    key: Key,
    retain: Option<Retain>,
    buffer: Vec<u8>,
    hash: Sha256,
    size: u64,
    /// Begins with the second part: what fits into one is put in one piece.
    upload: Option<Arc<dyn Upload>>,
    parts: u32,
    sent: u64,
    in_flight: VecDeque<JoinHandle<StoreResult<()>>>,
}

impl ObjectWriter {
    pub fn new(store: Arc<dyn Store>, key: Key, retain: Option<Retain>) -> Self {
        let (hash, in_flight) = (Sha256::new(), VecDeque::new());
        ObjectWriter {
            store,
            key,
            retain,
            buffer: Vec::new(),
            hash,
            size: 0,
            upload: None,
            parts: 0,
            sent: 0,
            in_flight,
        }
    }

    fn send(&mut self) -> Result<()> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => self.upload.insert(Arc::from(self.store.upload(&self.key, self.retain.as_ref())?)).clone(),
        };
        while self.in_flight.len() >= IN_FLIGHT {
            self.wait_for_one()?;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.parts += 1;
        let (number, offset) = (self.parts, self.sent);
        self.sent += bytes.len() as u64;
        self.in_flight.push_back(std::thread::spawn(move || upload.part(number, offset, bytes)));
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<()> {
        match self.in_flight.pop_front().map(JoinHandle::join) {
            Some(Ok(result)) => Ok(result?),
            Some(Err(_)) => Err(Failure::failed(format!("the thread that stores {} has ended", self.key))),
            None => Ok(()),
        }
    }

    /// Makes the object visible and says exactly what it is.
    pub fn finish(mut self) -> Result<Pin> {
        if self.parts == 0 {
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            self.store.put(&self.key, bytes, self.retain.as_ref())?;
        } else {
            if !self.buffer.is_empty() {
                self.send()?;
            }
            while !self.in_flight.is_empty() {
                self.wait_for_one()?;
            }
            if let Some(upload) = &self.upload {
                upload.finish()?;
            }
        }
        let sha256 = std::mem::take(&mut self.hash).finalize().into();
        Ok(Pin { key: self.key.clone(), sha256, size: self.size })
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= PART {
            self.send()?;
        }
        let n = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        while !self.in_flight.is_empty() {
            let _ = self.wait_for_one();
        }
    }
}
