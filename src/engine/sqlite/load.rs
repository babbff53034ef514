//! From a stream to a database in a new file: written, checked and compared under a temporary name, then named.

use super::{check, fingerprint, place};
use crate::durable::{self, TempFile};
use crate::engine::transfer;
use crate::engine::{LoadRun, Loaded, OnDifference, Origin};
use crate::error::{Failure, Kind, Result};
use std::path::Path;

/// Differences that a message lists.
const TOLD: usize = 5;

/// Files that SQLite would take for a part of the database `path`. `-shm` alone does no harm, but nobody keeps it alone.
pub const SUFFIXES: [&str; 3] = ["-wal", "-journal", "-shm"];

pub fn into_new(origin: &dyn Origin, path: &Path, run: &LoadRun<'_>) -> Result<Loaded> {
    transfer::must_be_free(path)?;
    for suffix in SUFFIXES {
        let left = place::beside(path, suffix);
        if left.symlink_metadata().is_ok() {
            return Err(Failure::new(
                Kind::Refused,
                format!("{} is left of another database: SQLite would apply it to the restored one", left.display()),
            )
            .hint("Choose another --to, or move that file away"));
        }
    }
    let (file, loaded) = receive(origin, path, run)?;
    transfer::appear(file, path)?;
    Ok(loaded)
}

/// Writes the database beside `target`, and lets nothing through that is not exactly what was dumped.
pub fn receive(origin: &dyn Origin, target: &Path, run: &LoadRun<'_>) -> Result<(TempFile, Loaded)> {
    let mut data = transfer::only_stream(origin, run)?;
    let file = transfer::receive(&mut data, target)?;
    let warnings = check::sound(file.path(), target, run.context.cancel)?;
    if run.on_difference == OnDifference::LeaveToRehearsal {
        let items = fingerprint::rows(origin.fingerprint());
        return Ok((file, Loaded { bytes: data.bytes(), items, warnings, ..Loaded::default() }));
    }
    let found = fingerprint::of_still(file.path(), target, run.context.cancel)?;
    let different = fingerprint::differences(origin.fingerprint(), &found);
    if !different.is_empty() {
        let more = if different.len() > TOLD { format!(" and {} more", different.len() - TOLD) } else { String::new() };
        let told = different[..different.len().min(TOLD)].join("; ");
        return Err(Failure::new(
            Kind::Verification,
            format!("what was restored for {} is not what was dumped; nothing was changed", target.display()),
        )
        .because(format!("{told}{more}"))
        .hint("Take another point, and look at this one: bkp check"));
    }
    durable::crash_point("restore:data-written");
    Ok((file, Loaded { bytes: data.bytes(), items: fingerprint::rows(&found), warnings, ..Loaded::default() }))
}
