//! The private directory in which a tree is built. Dropped, it is removed with everything in it.

use super::TREE;
use crate::durable;
use crate::engine::volume::beneath::{self, Beneath};
use crate::engine::volume::entry::split;
use crate::engine::volume::walk::{Names, STAGING_PREFIX};
use crate::error::{Context, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
}

impl Staging {
    pub fn create_in(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("{STAGING_PREFIX}{}", durable::random_hex(6)));
        let failed = || format!("cannot create {}", path.display());
        rustix::fs::mkdir(&path, Mode::RWXU).context(failed)?;
        let staging = Staging { path: path.clone() };
        let directory = staging.open()?;
        // Neither the group nor the default ACL of the place is to be inherited by what is built.
        rustix::fs::fchmod(&directory, Mode::RWXU).context(failed)?;
        match rustix::fs::fremovexattr(&directory, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(staging),
            Err(error) => Err(error).context(failed),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is being built.
    pub fn tree(&self) -> PathBuf {
        self.path.join(TREE)
    }

    pub fn open(&self) -> Result<OwnedFd> {
        open(&self.path).context(|| format!("cannot open {}", self.path.display()))
    }

    /// From now on it is called so that everybody sees it holds the old tree.
    pub fn rename(&mut self, path: PathBuf) -> std::io::Result<()> {
        durable::move_new(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    /// Leaves it where it is, for the user.
    pub fn keep(self) -> PathBuf {
        let path = self.path.clone();
        std::mem::forget(self);
        path
    }

    /// Removes it and tells when that does not work.
    pub fn remove(self) -> std::io::Result<()> {
        let removed = remove_tree(&self.path);
        std::mem::forget(self);
        removed
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Removes a directory with all that is in it, however deep; follows no link, and stops at what is mounted in it.
pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    let root = open(path)?;
    let device = rustix::fs::fstat(&root)?.st_dev;
    let mut levels = vec![(Vec::new(), Names::of(&root)?, 0)];
    let mut beneath = Beneath::new(root);
    while let Some((directory, names, next)) = levels.last_mut() {
        if *next == names.len() {
            let (above, name) = split(directory);
            if !name.is_empty() {
                rustix::fs::unlinkat(beneath.directory(above)?, name, AtFlags::REMOVEDIR)?;
            }
            levels.pop();
            continue;
        }
        let name = names.get(*next);
        *next += 1;
        let above = beneath.directory(directory)?;
        match rustix::fs::unlinkat(above, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                // A directory of ours may be closed to ourselves.
                let _ = rustix::fs::chmodat(above, name, Mode::RWXU, AtFlags::empty());
                let inner = beneath::open(above, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                if rustix::fs::fstat(&inner)?.st_dev != device {
                    return Err(Errno::XDEV.into());
                }
                let mut path = directory.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name.to_bytes());
                let names = Names::of(&inner)?;
                levels.push((path, names, 0));
            }
            Err(error) => return Err(error.into()),
        }
    }
    std::fs::remove_dir(path)
}
