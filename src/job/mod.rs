//! Jobs: backup, restore, check, status. The only place where engines and the repository meet.
//!
//! A job is a plan (a pure function of what is known) and an act. Jobs emit events and count on the meter; they print
//! nothing. They find their directories in [`Places`] and take the clock's word only from their callers.

mod anomaly;
pub mod backup;
pub mod check;
pub mod configuration;
pub mod copy;
pub mod damage;
pub mod dependence;
pub mod discover;
pub mod gate;
mod inventory;
pub mod lock;
mod origin;
pub mod prune;
pub mod quiesce;
pub mod recorder;
pub mod rehearse;
pub mod restore;
pub mod rotate;
mod sink;
pub mod stack;
pub mod status;

use crate::durable::{self, Lock};
use crate::error::{Context as _, Result};
use crate::exec::docker::{Quiet, WritingContainer};
use crate::repo::writer::Writer;
use crate::repo::{Repository, names};
use std::path::{Path, PathBuf};

pub use origin::PointOrigin;

/// The directories of this installation that belong to one repository.
#[derive(Clone, Debug)]
pub struct Places {
    state: PathBuf,
    cache: PathBuf,
    repository: String,
    /// Of which the findings are.
    copy: Option<String>,
}

impl Places {
    pub fn new(state: &Path, cache: &Path, repository: &Repository) -> Self {
        Places { state: state.to_owned(), cache: cache.to_owned(), repository: repository.id().to_owned(), copy: None }
    }

    /// Takes the lock of a source: one run at a time writes a series, or replaces a source.
    pub fn lock(&self, source: &str) -> Result<Lock> {
        names::check_source(source)?;
        let directory = self.state.join("locks").join(&self.repository);
        private(&directory)?;
        Lock::take(&directory.join(format!("{source}.lock")), &format!("source {source}"))
    }

    /// Whether another process has the lock of a source.
    pub fn is_locked(&self, source: &str) -> bool {
        Lock::is_held(&self.state.join("locks").join(&self.repository).join(format!("{source}.lock")))
    }

    /// Takes the lock of a copy: one run at a time of this host writes into it.
    pub fn lock_copy(&self, copy: &str) -> Result<Lock> {
        let directory = self.state.join("locks").join(&self.repository).join("copies");
        private(&directory)?;
        Lock::take(&directory.join(format!("{copy}.lock")), &format!("copy {copy}"))
    }

    /// The same directories, where what is found in a copy is remembered by itself.
    pub fn of_copy(&self, copy: &str) -> Self {
        Places { copy: Some(copy.to_owned()), ..self.clone() }
    }

    fn is_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// Where the newest point of each series that this host has put there is remembered: by who writes them, or by who copies
    /// them. Nothing, where that is another host.
    fn newest(&self, host: &Writer, whose: &str) -> Option<PathBuf> {
        match &self.copy {
            None => (host.id() == whose).then(|| host.series_memory()),
            Some(copy) => Some(self.brought(copy, whose)),
        }
    }

    fn brought(&self, copy: &str, whose: &str) -> PathBuf {
        self.state.join("repositories").join(&self.repository).join(format!("series-{copy}")).join(whose)
    }

    /// Takes the lock of those who prune a writer on this host. A courtesy: safety does not depend on it.
    pub fn lock_prune(&self, writer: &str) -> Result<Lock> {
        let directory = self.state.join("locks").join(&self.repository);
        private(&directory)?;
        // No source is called so: their names do not begin with a dot.
        Lock::take(&directory.join(format!(".prune-{writer}.lock")), &format!("pruning of writer {writer}"))
    }

    /// Takes the lock of a place that a restore makes: one run at a time of this host takes what it finds there for its own.
    fn lock_target(&self, target: &restore::Destination) -> Result<Lock> {
        let directory = self.state.join("locks").join("targets");
        private(&directory)?;
        let canonical = serde_json::to_vec(target).expect("a destination is plain data");
        let name = hex::encode(&names::sha256(&canonical)[..16]);
        Lock::take(&directory.join(format!("{name}.lock")), "the target of this restore")
    }

    /// Lets go on what a killed run left standing still; see [`quiesce`].
    pub fn let_go_on(&self) -> Result<quiesce::Recovered> {
        quiesce::recover(&self.state)
    }

    /// Where scratch targets are made that are files.
    fn rehearsals(&self) -> Result<PathBuf> {
        let path = self.cache.join("rehearsals");
        private(&path)?;
        Ok(path)
    }

    /// A directory for one run of a source, empty; what a killed run left in it is removed. The caller holds the lock.
    fn scratch(&self, source: &str) -> Result<Scratch> {
        let path = self.cache.join(&self.repository).join("scratch").join(source);
        remove_all(&path)?;
        private(&path)?;
        Ok(Scratch(path))
    }

    /// Makes containers stand still; see [`quiesce`].
    pub fn hold(&self, how: Quiet, containers: &[WritingContainer]) -> Result<quiesce::Held> {
        quiesce::hold(&self.state, how, containers)
    }

    /// Whose turn it is, of the parts that samples are taken of.
    fn turn(&self) -> PathBuf {
        let name = self.copy.as_ref().map_or_else(|| "turn".to_owned(), |copy| format!("turn-{copy}"));
        self.state.join("repositories").join(&self.repository).join(name)
    }

    /// What checks found to be damaged.
    fn damage(&self) -> PathBuf {
        let repository = self.state.join("repositories").join(&self.repository);
        match &self.copy {
            None => damage_of(&repository),
            Some(copy) => repository.join(format!("damage-{copy}.json")),
        }
    }

    /// Up to where the journal was put into the repository.
    pub fn sealed(&self) -> PathBuf {
        self.state.join("repositories").join(&self.repository).join("journal-sealed")
    }

    /// What lists remember of points, by name and time in one store.
    pub fn listings(&self) -> PathBuf {
        let name = self.copy.as_ref().map_or_else(|| "listings".to_owned(), |copy| format!("listings-{copy}"));
        self.cache.join(&self.repository).join(name)
    }

    fn inventories(&self) -> PathBuf {
        self.cache.join(&self.repository).join("inventories")
    }

    /// Up to where rehearsals in the journal were looked for, and put into the repository as signed statements.
    pub fn attested(&self) -> PathBuf {
        self.state.join("repositories").join(&self.repository).join("journal-attested")
    }

    fn memory(&self) -> PathBuf {
        self.cache.join(&self.repository).join("memory")
    }
}

fn damage_of(repository: &Path) -> PathBuf {
    repository.join("damage.json")
}

fn private(directory: &Path) -> Result<()> {
    durable::create_private_directory(directory).context(|| format!("cannot create {}", directory.display()))
}

fn remove_all(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removed with everything in it at the end of the run, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_all(&self.0);
    }
}
