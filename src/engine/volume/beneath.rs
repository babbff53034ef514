//! Directories beneath a root, opened component by component and never through a symbolic link.
//!
//! There is no limit on the length of a path or the depth of a tree: few descriptors are kept, and deep levels are opened
//! again from the deepest one that is kept. Paths are relative, as in [`super::entry`].

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Levels whose descriptors are kept; deeper ones share one.
const KEPT: usize = 40;

#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    /// The path of the directory that is open last.
    path: Vec<u8>,
    /// Length of a prefix of `path`, and that directory.
    levels: Vec<(usize, OwnedFd)>,
}

impl Beneath {
    pub fn new(root: OwnedFd) -> Self {
        Beneath { root, path: Vec::new(), levels: Vec::new() }
    }

    /// The same root with nothing open, for another thread.
    pub fn again(&self) -> std::io::Result<Self> {
        Ok(Beneath::new(self.root.try_clone()?))
    }

    /// A descriptor of the directory `path`, valid until the next call.
    pub fn directory(&mut self, path: &[u8]) -> rustix::io::Result<BorrowedFd<'_>> {
        if self.path != path {
            self.leave_for(path);
            self.descend(path)?;
        }
        Ok(self.levels.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd()))
    }

    /// Closes what is not on the way to `path`.
    fn leave_for(&mut self, path: &[u8]) {
        while let Some((length, _)) = self.levels.last() {
            let on_the_way = path.starts_with(&self.path[..*length]) && matches!(path.get(*length), None | Some(b'/'));
            if on_the_way {
                break;
            }
            self.levels.pop();
        }
        let length = self.levels.last().map_or(0, |(length, _)| *length);
        self.path.truncate(length);
    }

    fn descend(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        while self.path.len() < path.len() {
            let begin = self.path.len() + usize::from(!self.path.is_empty());
            let end = path[begin..].iter().position(|&byte| byte == b'/').map_or(path.len(), |slash| begin + slash);
            let above = self.levels.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd());
            let directory = open_directory(above, &path[begin..end])?;
            if self.levels.len() >= KEPT {
                self.levels.pop();
            }
            self.path.extend_from_slice(&path[self.path.len()..end]);
            self.levels.push((end, directory));
        }
        Ok(())
    }
}

fn open_directory(above: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open(above, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens for reading without following a link, waiting for a fifo, or leaving a trace in the access time where possible.
pub fn open<P: rustix::path::Arg + Copy>(above: BorrowedFd<'_>, name: P, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::openat(above, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may ask for it.
        Err(Errno::PERM) => rustix::fs::openat(above, name, flags, Mode::empty()),
        result => result,
    }
}

pub fn stat<P: rustix::path::Arg>(above: BorrowedFd<'_>, name: P) -> rustix::io::Result<Stat> {
    rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn beneath(path: &Path) -> Beneath {
        Beneath::new(open_directory(rustix::fs::CWD, std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).unwrap())
    }

    #[test]
    fn a_link_is_never_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
        let mut beneath = beneath(root.path());
        beneath.directory(b"real").unwrap();
        assert!(matches!(beneath.directory(b"link"), Err(Errno::NOTDIR | Errno::LOOP)));
    }

    #[test]
    fn every_directory_is_found_from_every_other() {
        let root = tempfile::tempdir().unwrap();
        let deep = vec!["d"; KEPT + 20].join("/");
        let paths = ["", "a", "a/b", "ab", "a/b/c", "x", &deep, &deep[..KEPT * 2 - 1], "a/bc"].map(str::to_owned);
        for path in &paths {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let inode =
            |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(root.path().join(path)).unwrap());
        let mut beneath = beneath(root.path());
        for one in &paths {
            for other in &paths {
                for path in [one, other] {
                    let found = rustix::fs::fstat(beneath.directory(path.as_bytes()).unwrap()).unwrap();
                    assert_eq!(found.st_ino, inode(path), "{path} after {one}");
                }
            }
        }
        assert!(beneath.levels.len() <= KEPT);
    }

    #[test]
    fn after_a_failure_the_next_directory_is_still_right() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        let mut beneath = beneath(root.path());
        assert_eq!(beneath.directory(b"a/none/x").unwrap_err(), Errno::NOENT);
        let found = rustix::fs::fstat(beneath.directory(b"a").unwrap()).unwrap().st_ino;
        assert_eq!(found, std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(root.path().join("a")).unwrap()));
    }
}
