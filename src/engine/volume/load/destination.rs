//! Where a restored tree goes, and the last step that puts it there.
//!
//! A source that is a directory is exchanged in one step. A mount point cannot be renamed: its entries are moved aside and
//! the new ones moved in, one by one, and back again when one of them fails.

use super::metadata::{self, Complaints, Defaults, Metadata};
use super::staging::{self, Staging};
use crate::durable;
use crate::engine::Target;
use crate::engine::volume::beneath::Beneath;
use crate::engine::volume::entry::{display, split};
use crate::engine::volume::walk::{ASIDE_PREFIX, Names, STAGING_PREFIX};
use crate::error::{Context, Failure, Kind as FailureKind, Result};
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub enum Destination {
    /// Nothing is there.
    New(PathBuf),
    /// Something is there, or may be, and gives way. The descriptor keeps a directory of the path open.
    Replace {
        path: PathBuf,
        parent: PathBuf,
        _open: Option<OwnedFd>,
    },
    Mount(PathBuf),
}

impl Destination {
    pub fn find(target: &Target, source: &Path, part: Option<&[u8]>) -> Result<Self> {
        match (target, part) {
            (Target::New(path), _) => new(path),
            (Target::Live(_), None) => live(source),
            (Target::Live(_), Some(part)) => live_part(source, part),
            (Target::Command | Target::NewVolume(_) | Target::NewDatabases(_), _) => {
                Err(Failure::usage("a volume is restored into a directory, not into a command or a server")
                    .hint("Say where to with --to, or use `bkp export` for the tar stream"))
            }
        }
    }

    /// The directory beside the target, on the same file system.
    pub fn staging_parent(&self) -> &Path {
        match self {
            Destination::New(path) => durable::parent_of(path),
            Destination::Replace { parent, .. } => parent,
            Destination::Mount(path) => path,
        }
    }

    /// Makes the finished tree live; gives warnings. On failure the target is as it was. What gives way is removed, unless
    /// it is to be kept.
    pub fn make_live(&self, staging: Staging, root: Option<&Metadata>, keep: bool) -> Result<Vec<String>> {
        if !matches!(self, Destination::New(_)) {
            // What takes the place of good data must be on the disk itself.
            rustix::fs::syncfs(staging.open()?).context(|| "cannot write the new tree to the disk".into())?;
        }
        durable::crash_point("restore:before-live");
        let warnings = match self {
            Destination::New(path) => {
                let moved = durable::move_new(&staging.tree(), path);
                moved.context(|| format!("cannot move the restored tree to {}", path.display()))?;
                durable::crash_point("restore:after-live");
                told(staging.remove(), "the empty directory")
            }
            Destination::Replace { path, .. } => replace(path, staging, keep)?,
            Destination::Mount(path) => refill(path, staging, root, keep)?,
        };
        Ok(warnings)
    }
}

fn new(path: &Path) -> Result<Destination> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::new(FailureKind::Refused, format!("{} exists already", path.display()))
            .hint("Restore to a name that is free; nothing is ever overwritten"));
    }
    let parent = durable::parent_of(path);
    if !parent.is_dir() {
        return Err(Failure::usage(format!("{} is not a directory", parent.display()))
            .hint(format!("Create it first: mkdir -p {}", parent.display())));
    }
    Ok(Destination::New(path.to_owned()))
}

fn live(source: &Path) -> Result<Destination> {
    if source.symlink_metadata().is_err() {
        return new(source);
    }
    let path = source.canonicalize().context(|| format!("cannot find {}", source.display()))?;
    nothing_is_mounted_beneath(&path)?;
    if is_mount_point(&path)? {
        return Ok(Destination::Mount(path));
    }
    Ok(Destination::Replace { parent: durable::parent_of(&path).to_owned(), path, _open: None })
}

/// The part's directory is reached without following a link that somebody with access to the volume may have put there.
fn live_part(source: &Path, part: &[u8]) -> Result<Destination> {
    let (above, name) = split(part);
    let failed = || format!("cannot open {} in {}", display(above), source.display());
    let root = rustix::fs::open(source, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut beneath = Beneath::new(root.context(|| format!("cannot open {}", source.display()))?);
    let open = beneath
        .directory(above)
        .map_err(|e| {
            Failure::from_io(e.into(), failed).hint("Restore the directory it is in, or restore to a new place")
        })?
        .try_clone_to_owned()
        .context(failed)?;
    let parent = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    let real = parent.canonicalize().context(failed)?.join(OsStr::from_bytes(name));
    nothing_is_mounted_beneath(&real)?;
    Ok(Destination::Replace { path: parent.join(OsStr::from_bytes(name)), parent, _open: Some(open) })
}

/// What is mounted in the old tree would go with it, and it is in no backup of this volume.
fn nothing_is_mounted_beneath(path: &Path) -> Result<()> {
    let mounts = std::fs::read("/proc/self/mountinfo").context(|| "cannot read the table of mounts".into())?;
    match mounted_beneath(&mounts, path) {
        None => Ok(()),
        Some(mount) => Err(Failure::new(
            FailureKind::Refused,
            format!("{} is mounted in {}, and would be replaced with it", mount.display(), path.display()),
        )
        .hint("Unmount it first, or restore to a new place with --to; nothing was changed")),
    }
}

fn mounted_beneath(mounts: &[u8], path: &Path) -> Option<PathBuf> {
    let points = mounts.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    points.map(unescaped).find(|point| point != path && point.starts_with(path))
}

/// The kernel writes spaces, tabs, newlines and backslashes as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsStr::from_bytes(&plain))
}

fn is_mount_point(path: &Path) -> Result<bool> {
    let failed = || format!("cannot look at {}", path.display());
    let flags = StatxFlags::BASIC_STATS;
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags).context(failed)?;
    if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Kernels before 5.8 do not tell; another device does.
    let above = rustix::fs::stat(path.join("..")).context(failed)?;
    let here = rustix::fs::stat(path).context(failed)?;
    Ok(above.st_dev != here.st_dev || above.st_ino == here.st_ino)
}

fn replace(path: &Path, mut staging: Staging, keep: bool) -> Result<Vec<String>> {
    let shown = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let failed = || format!("cannot put the restored tree in the place of {shown}");
    if path.symlink_metadata().is_err() {
        durable::move_new(&staging.tree(), path).context(failed)?;
        durable::crash_point("restore:after-live");
        return Ok(told(staging.remove(), "the empty directory"));
    }
    let aside = durable::parent_of(path).join(format!("{ASIDE_PREFIX}{}", durable::random_hex(6)));
    match durable::exchange(&staging.tree(), path) {
        Ok(()) => {
            durable::crash_point("restore:after-live");
            staging.rename(aside).context(|| "the restored tree is live; cannot rename the old one".into())?;
            Ok(if keep { kept(&staging.keep()) } else { told(staging.remove(), "the old tree") })
        }
        // File systems that cannot exchange: two steps, and back if the second fails.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            durable::move_new(path, &aside).context(failed)?;
            if let Err(error) = durable::move_new(&staging.tree(), path) {
                durable::move_new(&aside, path).context(|| format!("the old tree is now {}", aside.display()))?;
                return Err(Failure::from_io(error, failed));
            }
            durable::crash_point("restore:after-live");
            let mut warnings = told(staging.remove(), "the empty directory");
            if keep {
                warnings.extend(kept(&aside));
                return Ok(warnings);
            }
            let old = if aside.is_dir() { staging::remove_tree(&aside) } else { std::fs::remove_file(&aside) };
            warnings.extend(told(old, "the old tree"));
            Ok(warnings)
        }
        Err(error) => Err(Failure::from_io(error, failed)),
    }
}

/// Replaces what is in a directory that cannot be renamed.
fn refill(mount: &Path, staging: Staging, root: Option<&Metadata>, keep: bool) -> Result<Vec<String>> {
    let failed = || format!("cannot put the restored tree into {}", mount.display());
    let aside = mount.join(format!("{ASIDE_PREFIX}{}", durable::random_hex(6)));
    rustix::fs::mkdir(&aside, Mode::RWXU).context(failed)?;
    let mut moved: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut left = Vec::new();
    let mut swap = || -> std::io::Result<()> {
        for (from, to) in [(mount, &aside), (&staging.tree(), &mount.to_owned())] {
            let directory =
                rustix::fs::open(from, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let names = Names::of(&directory)?;
            for index in 0..names.len() {
                let name = OsStr::from_bytes(names.get(index).to_bytes());
                let bytes = name.as_bytes();
                let ours = [STAGING_PREFIX, ASIDE_PREFIX].iter().any(|prefix| bytes.starts_with(prefix.as_bytes()));
                if from == mount && ours {
                    let path = mount.join(name);
                    left.extend((path != aside && path != staging.path()).then_some(path));
                    continue;
                }
                durable::move_new(&from.join(name), &to.join(name))?;
                durable::crash_point("refill:between-moves");
                moved.push((from.join(name), to.join(name)));
            }
        }
        Ok(())
    };
    if let Err(error) = swap() {
        for (from, to) in moved.iter().rev() {
            durable::move_new(to, from).context(|| format!("the old tree is partly in {}", aside.display()))?;
        }
        let _ = std::fs::remove_dir(&aside);
        return Err(Failure::from_io(error, failed));
    }
    durable::crash_point("restore:after-live");
    let mut warnings = if keep { kept(&aside) } else { told(staging::remove_tree(&aside), "the old tree") };
    warnings.extend(told(staging.remove(), "the empty directory"));
    warnings.extend(left.iter().map(|path| {
        format!(
            "{} is left of a restore that was killed, and may hold what was there before it; remove it when nothing in it is needed",
            path.display()
        )
    }));
    // Last, because moving changes its times.
    if let Some(metadata) = root {
        let directory = rustix::fs::open(mount, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(failed)?;
        let found = rustix::fs::fstat(&directory).context(failed)?;
        let (defaults, complaints) = (Defaults::of_process(found.st_uid, found.st_gid), Complaints::default());
        metadata::apply(directory.as_fd(), b"", metadata, u32::MAX, &defaults, &complaints).context(failed)?;
        warnings.extend(complaints.into_warnings());
    }
    Ok(warnings)
}

fn kept(aside: &Path) -> Vec<String> {
    // Reached through a descriptor, the path would mean nothing to the user.
    let shown = std::fs::canonicalize(aside).unwrap_or_else(|_| aside.to_owned());
    vec![format!(
        "what was replaced is kept as {}, for no backup may have all of it; remove it when nothing in it is needed",
        shown.display()
    )]
}

/// Leftovers are no reason to fail when the restore itself is done.
fn told(removed: std::io::Result<()>, what: &str) -> Vec<String> {
    removed
        .err()
        .map(|error| format!("the restore is done, but {what} beside it cannot be removed: {error}"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mounted_beneath_counts() {
        let mounts = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 22 0:40 / /srv/docs rw - tmpfs none rw\n\
            31 22 0:41 / /srv/docs-2 rw - tmpfs none rw\n\
            32 30 0:42 / /srv/docs/a\\040b\\134c rw - tmpfs none rw\n";
        let beneath = |path: &str| mounted_beneath(mounts, Path::new(path));
        assert_eq!(beneath("/srv/docs"), Some("/srv/docs/a b\\c".into()));
        assert_eq!(beneath("/srv/docs-2"), None);
        assert_eq!(beneath("/srv/docs/a b\\c"), None);
    }
}
