//! What a restore that was killed leaves: beside its target, in it where that is a mount point, or in a server.
//!
//! Found by name alone, and removed by nobody but the user: it may be the only copy of what was replaced.

use super::volume::{ASIDE_PREFIX, STAGING_PREFIX};
use crate::durable::{self, TEMPORARY_PREFIX};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// `/srv/.bkp-restore-…`, `database bkp_1f2e3d4c_shop of container db`.
    pub place: String,
    pub what: &'static str,
    /// What removes it: a command, or a statement for the server.
    pub remove: String,
}

/// What a server has that a restore began and did not end.
pub const UNFINISHED: &str = "not whole: a restore into it goes on, or was killed";
/// What a restore in place put aside.
pub const REPLACED: &str = "what a restore in place replaced";

impl Leftover {
    /// A database of a server. `quoted` is its name in a statement.
    pub fn database(name: &str, quoted: &str, location: &str, what: &'static str) -> Self {
        let place = format!("database {name} of {location}");
        Leftover { place, what, remove: format!("DROP DATABASE {quoted};") }
    }

    /// As a warning of a run.
    pub fn told(&self) -> String {
        format!("{} is {}. When nobody needs it: {}", self.place, self.what, self.remove)
    }
}

/// Whether this is the mark in the name of what a restore prepares: `1f2e3d4c`.
pub fn is_mark(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a restore in place gives such names to what it puts aside: `shop_replaced_20261122T193200Z`.
pub fn is_replaced(database: &str) -> bool {
    let stamp = database.rsplit_once("_replaced_").map(|(_, stamp)| stamp.as_bytes());
    // Some servers fold names into small letters.
    stamp.is_some_and(|stamp| {
        stamp.len() == 16
            && stamp[8].eq_ignore_ascii_case(&b'T')
            && stamp[15].eq_ignore_ascii_case(&b'Z')
            && stamp.iter().filter(|b| b.is_ascii_digit()).count() == 14
    })
}

/// Of the directory that a target is in, and of the target itself. A directory that cannot be listed has none.
pub fn beside(target: &Path) -> Vec<Leftover> {
    let mut found = within(durable::parent_of(target));
    found.extend(within(target));
    found.sort();
    found.dedup();
    found
}

pub fn within(directory: &Path) -> Vec<Leftover> {
    let kinds = [
        (STAGING_PREFIX, "left by a restore that was killed: the restored tree, or what it replaced"),
        (ASIDE_PREFIX, "what a restore replaced, in whole or in part; the other part is where it was"),
        (TEMPORARY_PREFIX, "a file that was being written when bkp was killed"),
    ];
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let name = entry.file_name();
        let (_, what) = kinds.iter().find(|(prefix, _)| name.to_string_lossy().starts_with(prefix))?;
        let place = entry.path().display().to_string();
        Some(Leftover { remove: format!("rm -r -- '{}'", place.replace('\'', "'\\''")), place, what })
    });
    named.collect()
}
