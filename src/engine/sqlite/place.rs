//! Where a database stands: whether the path can be one, and whether SQLite's locks hold on that file system.
//!
//! Locks and the shared memory of WAL mode work among processes of one kernel on a local file system only. Over NFS, SMB, 9p or
//! virtiofs a copy can be torn without any error, so such a place is refused. Looks only; opens nothing.

use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use rustix::fs::{Access, access, statfs};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The real path of the database, after everything about the place was found good.
pub fn find(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::failed(format!("{shown} does not exist"))
                .hint("Check the path of the source; if the database moved, change it in the configuration"));
        }
        Err(error) => return Err(Failure::from_io(error, || format!("cannot look at {shown}"))),
    };
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{shown} is a directory, not a SQLite database"))
            .hint(format!("Give the database file in it, or back the directory up as volume:{shown}")));
    }
    if !metadata.is_file() {
        return Err(Failure::usage(format!("{shown} is not a regular file")));
    }
    if access(path, Access::READ_OK).is_err() {
        let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
        return Err(Failure::failed(format!("no permission to read {shown} (owner {uid}:{gid}, mode {mode:o})"))
            .hint("Run bkp as root or as the owner of the database"));
    }
    if metadata.len() == 0 {
        return Err(Failure::failed(format!("{shown} is empty: there is no database in it"))
            .hint("Check that this is the file the application writes to"));
    }
    let real = std::fs::canonicalize(path).context(|| format!("cannot resolve {shown}"))?;
    on_a_local_file_system(&real)?;
    Ok(real)
}

fn on_a_local_file_system(path: &Path) -> Result<()> {
    let found = statfs(path).context(|| format!("cannot find out the file system of {}", path.display()))?;
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let kind = mount_kind(&String::from_utf8_lossy(&mounts), path);
    match shared(found.f_type as u32, kind.as_deref()) {
        None => Ok(()),
        Some(name) => Err(Failure::new(
            Kind::Refused,
            format!("{} is on {name}, where the locks of SQLite do not protect a copy", path.display()),
        )
        .hint("Run bkp on the machine that has the disk, or let the application make the copy (engine `command`)")),
    }
}

/// The name of a file system whose locks cannot be trusted, by its number; `kind` is the name in the table of mounts,
/// which tells the many that are FUSE to the kernel apart.
fn shared(magic: u32, kind: Option<&str>) -> Option<String> {
    let name = match magic {
        0x6969 => "NFS",
        0x0102_1997 => "9p",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x00C3_6400 => "CephFS",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x786F_4256 => "a shared folder of VirtualBox",
        0x6573_5546 => {
            return match kind {
                Some("fuseblk" | "fuse.fuse-overlayfs") => None,
                other => Some(other.unwrap_or("FUSE").to_owned()),
            };
        }
        _ => return None,
    };
    Some(name.to_owned())
}

/// The kind of the mount that `path` is on, from `/proc/self/mountinfo`: the deepest mount point above it, the latest of equals.
fn mount_kind(mounts: &str, path: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let (place, details) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?.replace("\\040", " ");
        Some((PathBuf::from(point), details.split(' ').next()?))
    });
    let above = mounted.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind.to_owned())
}

/// `app.db-wal` of `app.db`, and so on.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether the shared memory of WAL mode can be made or used beside the database.
pub fn directory_is_writable(path: &Path) -> bool {
    access(durable::parent_of(path), Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_reliable_locks_are_named() {
        assert_eq!(shared(0xEF53, Some("ext4")), None);
        assert_eq!(shared(0x794C_7630, Some("overlay")), None);
        assert_eq!(shared(0x6969, Some("nfs4")).as_deref(), Some("NFS"));
        assert_eq!(shared(0x0102_1997, Some("9p")).as_deref(), Some("9p"));
        assert_eq!(shared(0xFE53_4D42, Some("cifs")).as_deref(), Some("SMB"));
        assert_eq!(shared(0x6573_5546, Some("virtiofs")).as_deref(), Some("virtiofs"));
        assert_eq!(shared(0x6573_5546, Some("fuse.sshfs")).as_deref(), Some("fuse.sshfs"));
        assert_eq!(shared(0x6573_5546, None).as_deref(), Some("FUSE"));
        assert_eq!(shared(0x6573_5546, Some("fuseblk")), None);
    }

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 22 0:40 / /srv rw shared:1 - virtiofs share rw\n\
            31 30 0:41 / /srv/my\\040data rw - xfs /dev/vdb rw\n\
            32 30 0:42 / /srv/my\\040data rw - btrfs /dev/vdc rw\n";
        let kind = |path: &str| mount_kind(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/home/app.db"), "ext4");
        assert_eq!(kind("/srv/app.db"), "virtiofs");
        assert_eq!(kind("/srvx/app.db"), "ext4");
        assert_eq!(kind("/srv/my data/app.db"), "btrfs");
    }
}
