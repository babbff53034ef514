//! One entry of a tree, as the tar stream, the catalogue and the memory of the last run tell it.
//!
//! Paths are bytes relative to the root, without a leading or trailing slash; the root itself is the empty path.

use crate::error::{Failure, Kind as FailureKind, Result};
use std::borrow::Cow;

/// Stored data of this many bytes or more has chunks of its own.
pub const BIG: u64 = 256 * 1024;

/// Everything in a tar stream stands at multiples of this.
pub const BLOCK: u64 = 512;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    Directory,
    #[default]
    File,
    Symlink,
    /// A further name of a file; `link` is the first.
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

impl Kind {
    /// The letter in the catalogue.
    pub fn letter(self) -> u8 {
        match self {
            Kind::Directory => b'd',
            Kind::File => b'f',
            Kind::Symlink => b'l',
            Kind::HardLink => b'h',
            Kind::Fifo => b'p',
            Kind::CharacterDevice => b'c',
            Kind::BlockDevice => b'b',
        }
    }

    pub fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'd' => Kind::Directory,
            b'f' => Kind::File,
            b'l' => Kind::Symlink,
            b'h' => Kind::HardLink,
            b'p' => Kind::Fifo,
            b'c' => Kind::CharacterDevice,
            b'b' => Kind::BlockDevice,
            _ => return None,
        })
    }
}

/// A piece of a sparse file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// Seconds and nanoseconds since the epoch; the nanoseconds are never negative.
pub type Time = (i64, u32);

/// Name and value, in the order the kernel lists them.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Length of a file's content; 0 for everything else.
    pub size: u64,
    pub mtime: Time,
    /// Target of a symbolic link, first name of a hard link.
    pub link: Vec<u8>,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Empty unless the file has holes.
    pub sparse: Vec<Extent>,
    /// Bytes in the tar stream from the beginning of the entry to its data.
    pub header: u64,
    /// Bytes of data in the tar stream, without padding.
    pub stored: u64,
    /// First half of the BLAKE3 of a file's content.
    pub hash: Option<[u8; 16]>,
    /// First half of the BLAKE3 of the extended attributes, where there are any.
    pub xattrs: Option<[u8; 16]>,
    /// The file changed while it was read, twice.
    pub changed: bool,
}

impl Entry {
    pub fn is_big(&self) -> bool {
        self.kind == Kind::File && self.stored >= BIG
    }

    /// Bytes the entry takes in the tar stream, padding included.
    pub fn length(&self) -> u64 {
        self.header + self.stored + padding(self.stored)
    }

    /// What the fingerprint of a tree is made of; its description is [`super::METHOD`].
    pub fn fingerprint(&self, hasher: &mut blake3::Hasher, buffer: &mut Vec<u8>) {
        buffer.clear();
        let hard_link = self.kind == Kind::HardLink;
        bytes_with_length(buffer, &self.path);
        buffer.push(self.kind.letter());
        bytes_with_length(buffer, &self.link);
        if !hard_link {
            for number in [self.mode, self.uid, self.gid, self.device.0, self.device.1] {
                buffer.extend_from_slice(&number.to_le_bytes());
            }
            buffer.extend_from_slice(&self.size.to_le_bytes());
            buffer.extend_from_slice(&self.mtime.0.to_le_bytes());
            buffer.extend_from_slice(&self.mtime.1.to_le_bytes());
            buffer.extend_from_slice(&self.hash.unwrap_or_default());
            buffer.extend_from_slice(&self.xattrs.unwrap_or_default());
        }
        hasher.update(buffer);
    }
}

fn bytes_with_length(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    buffer.extend_from_slice(bytes);
}

/// First half of the BLAKE3 of all attributes, in the order of their names.
pub fn xattrs_digest(xattrs: &Xattrs) -> Option<[u8; 16]> {
    if xattrs.is_empty() {
        return None;
    }
    let mut sorted: Vec<_> = xattrs.iter().collect();
    sorted.sort();
    let mut buffer = Vec::new();
    for (name, value) in sorted {
        bytes_with_length(&mut buffer, name);
        bytes_with_length(&mut buffer, value);
    }
    Some(half(&blake3::hash(&buffer)))
}

pub fn half(hash: &blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

/// Zero bytes that follow `length` bytes up to the next block.
pub fn padding(length: u64) -> u64 {
    (BLOCK - length % BLOCK) % BLOCK
}

/// How a path is written for people: the root as `./`, bytes that are no text replaced.
pub fn display(path: &[u8]) -> Cow<'_, str> {
    if path.is_empty() { Cow::Borrowed("./") } else { String::from_utf8_lossy(path) }
}

/// The directory a path is in and its name there.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Takes a path from an archive only when it cannot leave the root.
pub fn safe_path(path: &[u8]) -> Result<&[u8]> {
    if path == b"./" || path == b"." {
        return Ok(b"");
    }
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    let bad = |part: &[u8]| part.is_empty() || part == b"." || part == b".." || part.len() > 255 || part.contains(&0);
    if inner.split(|&byte| byte == b'/').any(bad) {
        return Err(Failure::new(
            FailureKind::Verification,
            format!("the tree names an unsafe path, {:?}; nothing of it is restored", String::from_utf8_lossy(path)),
        )
        .hint("Restore an older point, and find out who could write to the source"));
    }
    Ok(inner)
}

/// Order of the walk: a directory, then its content by the bytes of the names.
pub fn order(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let rank = |path: &[u8]| match path.get(common) {
        None => 0,
        Some(b'/') => 1,
        Some(byte) => u16::from(*byte) + 2,
    };
    rank(one).cmp(&rank(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn only_paths_inside_the_root_are_safe() {
        for bad in [&b""[..], b"/", b"/etc/passwd", b"../x", b"a/../b", b"a//b", b"a/.", b"..", b"a/..", b"a\0b"] {
            assert!(safe_path(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(safe_path(b"./").unwrap(), b"");
        assert_eq!(safe_path(b"a/b/").unwrap(), b"a/b");
        assert_eq!(safe_path(b"..a/b..\n\xff").unwrap(), b"..a/b..\n\xff");
    }

    #[test]
    fn a_directory_comes_before_its_content_and_its_content_before_longer_names() {
        for (less, more) in [("", "a"), ("a", "a/b"), ("a/z", "a-b"), ("a/b", "a b"), ("a", "b"), ("a/b/c", "a/c")] {
            assert_eq!(order(less.as_bytes(), more.as_bytes()), Ordering::Less, "{less} {more}");
            assert_eq!(order(more.as_bytes(), less.as_bytes()), Ordering::Greater, "{less} {more}");
        }
        assert_eq!(order(b"a/b", b"a/b"), Ordering::Equal);
    }

    #[test]
    fn attributes_in_another_order_are_the_same_attributes() {
        let one = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), b"2".to_vec())];
        let other: Xattrs = one.iter().rev().cloned().collect();
        assert_eq!(xattrs_digest(&one), xattrs_digest(&other));
        assert_ne!(xattrs_digest(&one), xattrs_digest(&one[..1].to_vec()));
        assert_eq!(xattrs_digest(&Vec::new()), None);
    }
}
