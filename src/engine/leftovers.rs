//! What a restore that was killed leaves beside its target, or in it where that is a mount point.
//!
//! Found by name alone, and removed by nobody but the user: it may be the only copy of what was replaced.

use super::Settings;
use super::volume::{ASIDE_PREFIX, STAGING_PREFIX};
use crate::durable::{self, TEMPORARY_PREFIX};
use std::path::{Path, PathBuf};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    pub path: PathBuf,
    pub what: &'static str,
}

/// Of a source of this host. A directory that cannot be listed has none.
pub fn of(settings: &Settings) -> Vec<Leftover> {
    let mut found = match settings {
        Settings::Sqlite(sqlite) => {
            let path = sqlite.located().unwrap_or_else(|_| sqlite.path.clone());
            within(durable::parent_of(&path))
        }
        Settings::Volume(volume) => {
            let path = volume.located().map_or_else(|_| volume.path.clone(), |volume| volume.path);
            let real = path.canonicalize().unwrap_or(path);
            within(durable::parent_of(&real)).into_iter().chain(within(&real)).collect()
        }
        _ => Vec::new(),
    };
    found.sort();
    found.dedup();
    found
}

fn within(directory: &Path) -> Vec<Leftover> {
    let kinds = [
        (STAGING_PREFIX, "left by a restore that was killed: the restored tree, or what it replaced"),
        (ASIDE_PREFIX, "what a restore replaced, in whole or in part; the other part is where it was"),
        (TEMPORARY_PREFIX, "a file that was being written when bkp was killed"),
    ];
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let name = entry.file_name();
        let (_, what) = kinds.iter().find(|(prefix, _)| name.to_string_lossy().starts_with(prefix))?;
        Some(Leftover { path: entry.path(), what })
    });
    named.collect()
}
