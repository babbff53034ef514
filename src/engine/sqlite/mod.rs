//! SQLite databases, alive while they are backed up.
//!
//! A dump is one step of SQLite's own online backup into a spool file, which is then checked (size, `integrity_check`,
//! foreign keys), fingerprinted, and streamed out. The source is read as any reader would: content that is still in the `-wal`
//! belongs to it, writers go on, nothing is checkpointed, no `-wal` is removed.
//! Neither is a file of the source ever opened except through SQLite while it may be in use: closing any descriptor of a
//! file drops *all* POSIX locks that this process holds on it.
//! Memory does not grow with the database; the largest single value (at most 1 GB by SQLite's own limit) is held once.

use super::{DumpRun, Dumped, Engine, LoadRun, Loaded, Origin, Sink, Target};
use crate::error::Result;
use crate::exec::docker::{Docker, WritingContainer};
use std::path::PathBuf;
use std::time::Duration;

mod check;
mod dump;
mod fingerprint;
mod live;
mod load;
mod open;
mod place;

pub use fingerprint::fingerprint;

/// How long a database may be locked by others before a run gives up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub path: PathBuf,
}

pub struct Sqlite {
    settings: Settings,
    patience: Duration,
}

impl Sqlite {
    pub fn new(settings: Settings) -> Self {
        Sqlite { settings, patience: PATIENCE }
    }

    /// Waits for locks of others at most this long.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl Engine for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn location(&self) -> String {
        self.settings.path.display().to_string()
    }

    fn writers(&self) -> Result<Vec<WritingContainer>> {
        match (Docker::connect(), self.settings.path.parent()) {
            (Ok(docker), Some(directory)) => docker.writers_of(directory),
            _ => Ok(Vec::new()),
        }
    }

    fn preflight(&self) -> Result<()> {
        let path = place::find(&self.settings.path)?;
        open::glance(&path)
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        let path = place::find(&self.settings.path)?;
        // As it is configured: behind a symbolic link the file may be called anything.
        let name = self.settings.path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        dump::dump(&path, &name, self.patience, sink, run)
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        match target {
            Target::New(path) => load::into_new(origin, path, run),
            Target::Live(_) => live::replace(origin, &self.settings.path, self.patience, run),
            Target::Command | Target::NewVolume(_) | Target::NewDatabases(_) => {
                Err(crate::error::Failure::usage("a SQLite database is restored into a file")
                    .hint("Give the new file with --to"))
            }
        }
    }
}
