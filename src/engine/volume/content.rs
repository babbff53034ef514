//! What is in a file, a link, and the extended attributes: the reading side of a dump.
//!
//! A file is read to exactly the size its header tells: what it grew is cut, what it lost becomes zeros. The caller compares
//! its status before and after.

use super::entry::{Extent, Xattrs, half};
use super::sparse;
use super::walk::Place;
use crate::event::Cancel;
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// How much is read at once.
const STEP: usize = 256 * 1024;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The data of a file as it is stored in the tar stream; its length is known before.
pub struct Stored<'a> {
    file: &'a OwnedFd,
    cancel: &'a Cancel,
    map: Vec<u8>,
    map_at: usize,
    pieces: Vec<Extent>,
    piece: usize,
    within: u64,
    hasher: blake3::Hasher,
    hashed: u64,
    error: Option<Errno>,
}

impl<'a> Stored<'a> {
    /// `extents`: empty for a file without holes.
    pub fn new(file: &'a OwnedFd, size: u64, extents: &[Extent], cancel: &'a Cancel) -> Self {
        let (map, pieces) = if extents.is_empty() {
            (Vec::new(), vec![Extent { offset: 0, length: size }])
        } else {
            (sparse::encode_map(extents), extents.to_vec())
        };
        let hasher = blake3::Hasher::new();
        Stored { file, cancel, map, map_at: 0, pieces, piece: 0, within: 0, hasher, hashed: 0, error: None }
    }

    /// The hash of the content of a file of `size` bytes, or why it could not be read.
    pub fn finish(mut self, size: u64) -> Result<[u8; 16], Errno> {
        self.hash_hole(size);
        self.error.map_or(Ok(half(&self.hasher.finalize())), Err)
    }

    fn hash_hole(&mut self, to: u64) {
        // A hole may be larger than a day is long. The hash of a run that a signal ended is of no interest.
        while self.hashed < to && self.cancel.check().is_ok() {
            let length = (to - self.hashed).min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..length as usize]);
            self.hashed += length;
        }
    }

    /// Fills `buffer` from the file, with zeros behind its end. After an error all is zeros: the caller will drop them.
    fn fill(&mut self, buffer: &mut [u8], offset: u64) {
        let mut done = 0;
        while done < buffer.len() && self.error.is_none() {
            match rustix::io::pread(self.file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => self.error = Some(error),
            }
        }
        buffer[done..].fill(0);
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.map_at < self.map.len() {
            let length = buffer.len().min(self.map.len() - self.map_at);
            buffer[..length].copy_from_slice(&self.map[self.map_at..self.map_at + length]);
            self.map_at += length;
            return Ok(length);
        }
        while let Some(&piece) = self.pieces.get(self.piece) {
            let length = (piece.length - self.within).min(buffer.len().min(STEP) as u64) as usize;
            if length == 0 && !buffer.is_empty() {
                (self.piece, self.within) = (self.piece + 1, 0);
                continue;
            }
            self.cancel.check()?;
            let offset = piece.offset + self.within;
            self.fill(&mut buffer[..length], offset);
            self.hash_hole(offset);
            self.hasher.update(&buffer[..length]);
            self.hashed += length as u64;
            self.within += length as u64;
            return Ok(length);
        }
        Ok(0)
    }
}

/// All extended attributes of an open file.
pub fn xattrs_of(file: &OwnedFd) -> Result<Xattrs, Errno> {
    let mut list = [0; 4096];
    match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(0) => Ok(Vec::new()),
        Ok(_) | Err(Errno::RANGE) => collect(
            |buffer| rustix::fs::flistxattr(file, buffer),
            |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
        ),
        Err(error) => none_where_unsupported(error),
    }
}

/// The same for what is not opened: directories, links, fifos, devices. The way through `/proc` follows no link in the volume.
pub fn xattrs_at(place: &Place<'_>) -> Result<Xattrs, Errno> {
    let path = path_through_proc(place);
    let mut list = [0; 4096];
    match rustix::fs::llistxattr(&path[..], &mut list[..]) {
        Ok(0) => Ok(Vec::new()),
        Ok(_) | Err(Errno::RANGE) => collect(
            |buffer| rustix::fs::llistxattr(&path[..], buffer),
            |name, buffer| rustix::fs::lgetxattr(&path[..], name, buffer),
        ),
        Err(error) => none_where_unsupported(error),
    }
}

/// A path that reaches the entry through its directory's descriptor, for calls that take no descriptor.
pub fn path_through_proc(place: &Place<'_>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", place.directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(place.name.to_bytes());
    path
}

fn none_where_unsupported(error: Errno) -> Result<Xattrs, Errno> {
    if matches!(error, Errno::NOTSUP | Errno::NOSYS) { Ok(Vec::new()) } else { Err(error) }
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Xattrs, Errno> {
    // The largest list and the largest value that Linux knows.
    let mut names = vec![0; 64 * 1024];
    let length = list(&mut names)?;
    let mut value = vec![0; 64 * 1024];
    let mut xattrs = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match get(name, &mut value) {
            Ok(length) => xattrs.push((name.to_vec(), value[..length].to_vec())),
            // It went away, or is not ours to see.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_signal_ends_the_hashing_of_a_hole_of_any_size() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let cancel = Cancel::default();
        cancel.set(Kind::Interrupted);
        let size = 1 << 60;
        let hole = [Extent { offset: size, length: 0 }];
        Stored::new(&file, size, &hole, &cancel).finish(size).unwrap();
    }
}
