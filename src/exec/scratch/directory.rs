//! A private directory of one run: removed at its end, and found by others when that did not come.
//!
//! `note.json` says whose it is. The run holds a lock on it as long as its process lives, which the kernel takes away with the
//! process: no process id has to be believed.

use crate::durable;
use crate::error::{Context, Failure, Result};
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NOTE: &str = "note.json";
const INSIDE: &str = "data";
/// A directory without a note is left by a crash in between when it is older.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Whose a scratch thing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub run: String,
    pub source: String,
    /// When nobody can need it any more.
    pub deadline: Timestamp,
    /// Left on purpose, until the deadline.
    #[serde(default)]
    pub kept: bool,
}

#[derive(Debug)]
pub struct Directory {
    outer: PathBuf,
    inside: PathBuf,
    note: Note,
    removed: bool,
    _alive: File,
}

impl Directory {
    /// Makes one in `parent`, which is for nothing else.
    pub fn create(parent: &Path, note: Note) -> Result<Self> {
        let outer = parent.join(&note.run);
        let failed = || format!("cannot create the scratch directory {}", outer.display());
        durable::create_private_directory(&outer).context(failed)?;
        let path = outer.join(NOTE);
        let alive = durable::open_private(&path, true).context(failed)?;
        rustix::fs::flock(&alive, FlockOperation::NonBlockingLockExclusive).context(failed)?;
        let mut directory = Directory { inside: outer.join(INSIDE), outer, note, removed: false, _alive: alive };
        directory.write_note()?;
        durable::create_private_directory(&directory.inside)
            .context(|| format!("cannot create {}", directory.inside.display()))?;
        Ok(directory)
    }

    /// In place, for the lock is on this file and no other.
    fn write_note(&mut self) -> Result<()> {
        let text = serde_json::to_vec(&self.note).expect("a note is plain data");
        let path = self.outer.join(NOTE);
        std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
    }

    pub fn path(&self) -> &Path {
        &self.inside
    }

    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Removes it and tells when that does not work.
    pub fn remove(mut self) -> Result<()> {
        self.removed = true;
        remove_tree(&self.outer)
    }

    /// Leaves it for the user until `deadline`; gives its path.
    pub fn keep(mut self, deadline: Timestamp) -> Result<PathBuf> {
        self.note = Note { deadline, kept: true, ..self.note.clone() };
        self.write_note()?;
        self.removed = true;
        Ok(self.inside.clone())
    }

    /// Removes what runs that do not live any more left in `parent`; gives their notes.
    pub fn reap(parent: &Path, now: Timestamp) -> Result<Vec<(PathBuf, Option<Note>)>> {
        let mut reaped = Vec::new();
        let entries = match std::fs::read_dir(parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(reaped),
            Err(error) => return Err(Failure::from_io(error, || format!("cannot list {}", parent.display()))),
        };
        for entry in entries.flatten() {
            let outer = entry.path();
            match left(&outer, now) {
                None => {}
                Some(note) => {
                    remove_tree(&outer)?;
                    reaped.push((outer, note));
                }
            }
        }
        Ok(reaped)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.removed {
            let _ = remove_tree(&self.outer);
        }
    }
}

/// What it says of itself, when nobody needs it any more.
fn left(outer: &Path, now: Timestamp) -> Option<Option<Note>> {
    let Ok(file) = File::open(outer.join(NOTE)) else {
        let age = outer.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        return (outer.is_dir() && age.is_some_and(|age| age > FORGOTTEN)).then_some(None);
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return None;
    }
    let note: Option<Note> = serde_json::from_reader(&file).ok();
    match &note {
        Some(note) if note.kept && note.deadline > now => None,
        _ => Some(note),
    }
}

/// Directories of a restored tree may be closed to their owner.
fn remove_tree(path: &Path) -> Result<()> {
    let failed = || format!("cannot remove {}", path.display());
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            open_to_owner(path);
            std::fs::remove_dir_all(path).context(failed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context(failed),
    }
}

fn open_to_owner(directory: &Path) {
    let _ = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_to_owner(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(run: &str) -> Note {
        let deadline = "2026-01-01T00:00:00Z".parse().unwrap();
        Note { run: run.into(), source: "app".into(), deadline, kept: false }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_lives_stays_and_what_was_left_goes() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Directory::create(parent.path(), note("alive")).unwrap();
        let dead = Directory::create(parent.path(), note("dead")).unwrap();
        let closed = dead.path().join("closed/inner");
        std::fs::create_dir_all(&closed).unwrap();
        std::fs::set_permissions(closed.parent().unwrap(), std::fs::Permissions::from_mode(0)).unwrap();
        let kept = Directory::create(parent.path(), note("kept")).unwrap();
        let kept = kept.keep(at("2026-01-03T00:00:00Z")).unwrap();
        // As a kill leaves it: no lock, and nobody to remove it.
        let Directory { outer, inside, note, removed: _, _alive } = &dead;
        let copy = (outer.clone(), inside.clone(), note.clone());
        let mut dead = dead;
        dead.removed = true;
        drop(dead);

        let reaped = Directory::reap(parent.path(), at("2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(reaped, [(copy.0.clone(), Some(copy.2))]);
        assert!(alive.path().is_dir() && kept.is_dir() && !copy.0.exists());

        Directory::reap(parent.path(), at("2026-01-04T00:00:00Z")).unwrap();
        assert!(alive.path().is_dir() && !kept.exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }
}
