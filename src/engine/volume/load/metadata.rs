//! Owner, mode, attributes and times of what is built. What this user may not set is counted and told once.

use crate::engine::volume::content::path_through_proc;
use crate::engine::volume::entry::{Time, Xattrs, display};
use crate::engine::volume::header::Decoded;
use crate::engine::volume::walk::Place;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

#[derive(Clone, Debug)]
pub struct Metadata {
    pub mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    xattrs: Xattrs,
}

impl From<Decoded> for Metadata {
    fn from(Decoded { entry, xattrs, .. }: Decoded) -> Self {
        Metadata { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
    }
}

/// What a new file has by itself.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
}

impl Defaults {
    /// The umask can be read without a moment in which it is another only from here.
    pub fn of_process(uid: u32, gid: u32) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
        // Not known: every mode is set explicitly.
        Defaults { uid, gid, umask: umask.unwrap_or(0o777) }
    }
}

/// What could not be set: how often, and the first case.
#[derive(Debug, Default)]
pub struct Complaints {
    owner: Mutex<Option<(u64, String)>>,
    xattrs: Mutex<Option<(u64, String)>>,
    devices: Mutex<Option<(u64, String)>>,
}

impl Complaints {
    pub fn device(&self, path: &[u8], error: Errno) {
        note(&self.devices, path, error);
    }

    pub fn into_warnings(self) -> Vec<String> {
        let tell = |complaint: Mutex<Option<(u64, String)>>, what: &str| {
            let (count, first) = complaint.into_inner().ok().flatten()?;
            Some(format!("{what} of {count} entries (first: {first}); run bkp as root to get them back"))
        };
        [
            tell(self.owner, "could not set the owner"),
            tell(self.xattrs, "could not set extended attributes"),
            tell(self.devices, "could not create the device nodes"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn note(complaint: &Mutex<Option<(u64, String)>>, path: &[u8], error: Errno) {
    let mut complaint = complaint.lock().expect("nobody panics while complaining");
    let first = || (0, format!("{}, {}", display(path), std::io::Error::from(error)));
    complaint.get_or_insert_with(first).0 += 1;
}

/// The mode to create a file with so that it often needs no change.
pub fn creation_mode(metadata: &Metadata) -> Mode {
    Mode::from_raw_mode(metadata.mode & 0o777)
}

/// Sets everything on an open file or directory that has the permission bits `has`. The times come last.
pub fn apply(
    file: BorrowedFd<'_>,
    path: &[u8],
    metadata: &Metadata,
    has: u32,
    defaults: &Defaults,
    complaints: &Complaints,
) -> rustix::io::Result<()> {
    let mut mode = metadata.mode;
    if (metadata.uid, metadata.gid) != (defaults.uid, defaults.gid) {
        match rustix::fs::fchown(file, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid))) {
            Ok(()) => {}
            Err(error @ (Errno::PERM | Errno::INVAL)) => {
                note(&complaints.owner, path, error);
                // Nobody is to become the wrong user.
                mode &= 0o1777;
            }
            Err(error) => return Err(error),
        }
    }
    if mode != has {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    for (name, value) in &metadata.xattrs {
        tolerate(rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()), path, complaints)?;
    }
    rustix::fs::futimens(file, &times(metadata.mtime))
}

/// The same for what cannot be opened.
pub fn apply_to_name(
    place: &Place<'_>,
    metadata: &Metadata,
    is_link: bool,
    defaults: &Defaults,
    complaints: &Complaints,
) -> rustix::io::Result<()> {
    let (directory, name) = (place.directory, place.name);
    if (metadata.uid, metadata.gid) != (defaults.uid, defaults.gid) {
        let owner = (Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)));
        match rustix::fs::chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
            Err(error @ (Errno::PERM | Errno::INVAL)) => note(&complaints.owner, place.path, error),
            result => result?,
        }
    }
    if !is_link {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
    }
    if !metadata.xattrs.is_empty() {
        let path = path_through_proc(place);
        for (name, value) in &metadata.xattrs {
            let set = rustix::fs::lsetxattr(&path[..], &name[..], value, XattrFlags::empty());
            tolerate(set, place.path, complaints)?;
        }
    }
    rustix::fs::utimensat(directory, name, &times(metadata.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

fn tolerate(result: rustix::io::Result<()>, path: &[u8], complaints: &Complaints) -> rustix::io::Result<()> {
    match result {
        Err(error @ (Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL)) => {
            note(&complaints.xattrs, path, error);
            Ok(())
        }
        result => result,
    }
}

fn times((seconds, nanoseconds): Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}
