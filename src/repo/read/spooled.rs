//! The index of a deduplicated stream, which may have millions of chunks: fetched once, compared with its pin, and then read
//! from front to back as often as wanted, without being held in memory. What is spooled is the sealed object.

use super::Counted;
use crate::error::{Failure, Result};
use crate::repo::Repository;
use crate::repo::container::{Codec, decode};
use crate::repo::index::IndexReader;
use crate::repo::keys::Keyring;
use crate::repo::point::Pin;
use crate::store::StoreError;
use std::io::{self, BufReader, Read, Seek};
use tempfile::SpooledTempFile;

/// What is larger goes into an unnamed file: 44 bytes a chunk, so this is a stream of about 12 GiB.
pub const IN_MEMORY: usize = 8 << 20;

pub struct SpooledIndex {
    sealed: SpooledTempFile,
    what: String,
}

impl SpooledIndex {
    pub fn open(repository: &Repository, pin: &Pin) -> Result<Self> {
        let (mut object, passed) = Counted::open(repository, pin)?;
        let mut sealed = tempfile::spooled_tempfile(IN_MEMORY);
        let copied = io::copy(&mut object, &mut sealed);
        copied.map_err(|e| match e.get_ref().is_some() {
            true => Failure::from(StoreError::from_reader(e, &pin.key)),
            false => Failure::from_io(e, || format!("cannot spool {} in {}", pin.key, std::env::temp_dir().display())),
        })?;
        passed.must_be(pin)?;
        Ok(SpooledIndex { sealed, what: pin.key.to_string() })
    }

    pub fn read(&mut self, keys: &Keyring) -> Result<IndexReader<Box<dyn Read + Send + '_>>> {
        rewind(&mut self.sealed, &self.what)?;
        reader(&mut self.sealed, keys, &self.what)
    }

    pub fn into_reader(mut self, keys: &Keyring) -> Result<IndexReader<Box<dyn Read + Send>>> {
        rewind(&mut self.sealed, &self.what)?;
        reader(self.sealed, keys, &self.what)
    }
}

fn rewind(sealed: &mut SpooledTempFile, what: &str) -> Result<()> {
    sealed.rewind().map_err(|e| Failure::from_io(e, || format!("cannot read {what} again")))
}

fn reader<'a>(
    sealed: impl Read + Send + 'a,
    keys: &Keyring,
    what: &str,
) -> Result<IndexReader<Box<dyn Read + Send + 'a>>> {
    let data = decode::open(BufReader::with_capacity(64 << 10, sealed), Codec::Zstd, keys, what)?;
    let buffered: Box<dyn Read + Send + 'a> = Box::new(BufReader::with_capacity(64 << 10, data));
    IndexReader::new(buffered, what)
}
