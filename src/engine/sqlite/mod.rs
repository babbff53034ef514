//! SQLite databases, alive while they are backed up.
//!
//! A dump is one step of SQLite's own online backup into a spool file, which is then checked (size, `integrity_check`,
//! foreign keys), fingerprinted, and streamed out. The source is read as any reader would: content that is still in the `-wal`
//! belongs to it, writers go on, nothing is checkpointed, no `-wal` is removed.
//! Neither is a file of the source ever opened except through SQLite while it may be in use: closing any descriptor of a
//! file drops *all* POSIX locks that this process holds on it.
//! Memory does not grow with the database; the largest single value (at most 1 GB by SQLite's own limit) is held once.

use super::leftovers::{self, Leftover};
use super::{DumpRun, Dumped, Engine, LoadRun, Loaded, Origin, Sink, Target};
use crate::error::Result;
use crate::event::Cancel;
use crate::exec::docker::{self, Docker, WritingContainer};
use std::path::PathBuf;
use std::time::Duration;

mod check;
mod dump;
mod fingerprint;
mod live;
mod load;
mod open;
mod place;
mod rehearsal;

pub use fingerprint::fingerprint;
pub use rehearsal::Rehearsal;

/// How long a database may be locked by others before a run gives up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The database file; on a Docker volume, where Docker keeps volumes unless Docker says otherwise.
    pub path: PathBuf,
    pub volume: Option<OnVolume>,
}

/// A database on a Docker volume.
#[derive(Clone, Debug, PartialEq)]
pub struct OnVolume {
    pub name: String,
    /// Relative to the volume.
    pub path: PathBuf,
}

impl Settings {
    /// A database that has nothing to do with Docker.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Settings { path: path.into(), volume: None }
    }

    /// Where the database is, for a volume as Docker says.
    pub fn located(&self) -> Result<PathBuf> {
        let Some(OnVolume { name, path }) = &self.volume else { return Ok(self.path.clone()) };
        Ok(docker::find_volume(name)?.place()?.join(path))
    }
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
        self.settings.located().unwrap_or_else(|_| self.settings.path.clone()).display().to_string()
    }

    fn leftovers(&self, _: &Cancel) -> Result<Vec<Leftover>> {
        Ok(leftovers::beside(&self.settings.located().unwrap_or_else(|_| self.settings.path.clone())))
    }

    fn writers(&self) -> Result<Vec<WritingContainer>> {
        let (Some(docker), path) = (Docker::if_there()?, self.settings.located()?) else { return Ok(Vec::new()) };
        let volume = self.settings.volume.as_ref().map(|on| on.name.as_str());
        path.parent().map_or_else(|| Ok(Vec::new()), |directory| docker.writers_of(directory, volume))
    }

    fn preflight(&self) -> Result<()> {
        let path = place::find(&self.settings.located()?)?;
        open::glance(&path)
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        let path = place::find(&self.settings.located()?)?;
        // As it is configured: behind a symbolic link the file may be called anything.
        let name = self.settings.path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        dump::dump(&path, &name, self.patience, sink, run)
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        match target {
            Target::New(path) => load::into_new(origin, path, run),
            Target::Live(_) => live::replace(origin, &self.settings.located()?, self.patience, run),
            Target::Command | Target::NewVolume(_) | Target::NewDatabases(_) => {
                Err(crate::error::Failure::usage("a SQLite database is restored into a file")
                    .hint("Give the new file with --to"))
            }
        }
    }
}
