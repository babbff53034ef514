//! Who may write beneath a path of the host, and making those containers stand still.

use super::{Docker, MountKind, State};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How a container is kept from writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quiet {
    /// Frozen where it is: files are as after a power cut, all at one instant.
    Pause,
    /// Ended in order, and started again.
    Stop,
}

impl Quiet {
    /// The word of the `docker` command that lets it go on.
    pub fn undone_by(self) -> &'static str {
        match self {
            Quiet::Pause => "unpause",
            Quiet::Stop => "start",
        }
    }

    pub fn done(self) -> &'static str {
        match self {
            Quiet::Pause => "paused",
            Quiet::Stop => "stopped",
        }
    }
}

/// A running container that may write somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritingContainer {
    pub id: String,
    pub name: String,
}

impl Docker {
    /// Running containers that have `path`, something above it or something beneath it mounted for writing, by name.
    pub fn writers_of(&self, path: &Path) -> Result<Vec<WritingContainer>> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let touches = |source: &Path| path.starts_with(source) || source.starts_with(&path);
        let all = self.containers()?;
        let writing = all.into_iter().filter(|container| {
            let mounts = container.mounts.iter();
            container.state == State::Running
                && mounts.filter(|m| m.writable && m.kind != MountKind::Memory).any(|m| touches(&m.source))
        });
        Ok(writing.map(|c| WritingContainer { id: c.id, name: c.name }).collect())
    }

    pub fn quiet(&self, id: &str, how: Quiet) -> Result<()> {
        match how {
            Quiet::Pause => self.pause(id),
            Quiet::Stop => self.stop(id),
        }
    }

    pub fn go_on(&self, id: &str, how: Quiet) -> Result<()> {
        match how {
            Quiet::Pause => self.unpause(id),
            Quiet::Stop => self.start(id),
        }
    }
}
