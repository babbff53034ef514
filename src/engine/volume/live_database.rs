//! Recognizes the data directory of a database server, and whether one works on it now.
//!
//! Files of a server that works cannot be copied one after the other: the copy would be of no instant at all. Known by the files
//! that each server cannot do without; whether one is at work, by its own lock file or a lock that the kernel shows in `/proc/locks`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The server whose data directory this is, when it is at work there: `PostgreSQL`.
pub fn at_work(root: &Path) -> Option<&'static str> {
    let has = |name: &str| root.join(name).exists();
    if has("PG_VERSION") && has("global/pg_control") {
        return has("postmaster.pid").then_some("PostgreSQL");
    }
    if has("WiredTiger") || has("WiredTiger.wt") {
        let named = std::fs::metadata(root.join("mongod.lock")).is_ok_and(|lock| lock.len() > 0);
        return (named || locked(&root.join("WiredTiger.lock"))).then_some("MongoDB");
    }
    if has("ibdata1") {
        return (locked(&root.join("ibdata1")) || locked(&root.join("aria_log_control"))).then_some("MySQL or MariaDB");
    }
    None
}

/// Whether the kernel holds a lock for anybody on this file.
fn locked(path: &Path) -> bool {
    let (Ok(metadata), Ok(locks)) = (std::fs::metadata(path), std::fs::read_to_string("/proc/locks")) else {
        return false;
    };
    let inode = format!(":{}", metadata.ino());
    locks
        .lines()
        .any(|line| line.split_whitespace().any(|word| word.matches(':').count() == 2 && word.ends_with(&inode)))
}
