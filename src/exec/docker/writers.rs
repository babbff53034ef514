//! Who may write beneath a path of the host, and making those containers stand still.

use super::{Description, Docker, MountKind, State};
use crate::error::{Failure, Kind, Result};
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

/// A container that may write somewhere, now or when it runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritingContainer {
    pub id: String,
    pub name: String,
    pub state: State,
    /// The Swarm service whose task it is.
    swarm: Option<String>,
    /// The engine removes it when it stops.
    removed_at_end: bool,
}

impl From<Description> for WritingContainer {
    fn from(container: Description) -> Self {
        let task = container.labels.get("com.docker.swarm.task.id");
        let service = container.labels.get("com.docker.swarm.service.name").or(task);
        WritingContainer {
            swarm: task.and(service).cloned(),
            id: container.id,
            name: container.name,
            state: container.state,
            removed_at_end: container.removed_at_end,
        }
    }
}

impl WritingContainer {
    /// Whether something of it is in memory that may write, or will again.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Restarting)
    }

    /// Refuses where stopping would not keep it from writing, or could not be undone.
    pub fn may_be(&self, how: Quiet) -> Result<()> {
        let refused = |text: String, hint: String| Err(Failure::new(Kind::Refused, text).hint(hint));
        let name = &self.name;
        match (how, &self.swarm) {
            (Quiet::Stop, Some(service)) => refused(
                format!(
                    "container {name} is a task of the Swarm service {service}: Swarm would start another in its place"
                ),
                format!(
                    "Scale it down first (docker service scale {service}=0), run the command again, and scale it up afterwards"
                ),
            ),
            (Quiet::Stop, None) if self.removed_at_end => refused(
                format!(
                    "container {name} was started with --rm: it would be removed when it stops, and could not be started again"
                ),
                format!("Stop it yourself (docker stop {name}), run the command again, and start it as you did before"),
            ),
            _ => Ok(()),
        }
    }
}

impl Docker {
    /// Containers that have `path`, something above it or something beneath it, or the volume of that name mounted for writing; by
    /// name, stopped ones too. Never the one that bkp itself is in.
    pub fn writers_of(&self, path: &Path, volume: Option<&str>) -> Result<Vec<WritingContainer>> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let touches = |source: &Path| path.starts_with(source) || source.starts_with(&path);
        let writes = |container: &Description| {
            let mut mounts = container.mounts.iter().filter(|m| m.writable && m.kind != MountKind::Memory);
            mounts.any(|m| touches(&m.source) || (volume.is_some() && m.volume.as_deref() == volume))
        };
        let all = self.containers()?;
        let needed = self.needed_by_itself(&all)?;
        let writing = all.into_iter().filter(|c| c.state != State::Gone && writes(c) && !needed.contains(&c.id));
        Ok(writing.map(WritingContainer::from).collect())
    }

    /// Those of a Compose project, except these.
    pub fn programs_of(&self, project: &str, except: &[String]) -> Result<Vec<Description>> {
        let mut all = self.containers()?;
        let needed = self.needed_by_itself(&all)?;
        let of_project = |c: &Description| c.labels.get("com.docker.compose.project").is_some_and(|p| p == project);
        all.retain(|c| of_project(c) && !except.contains(&c.id) && !needed.contains(&c.id));
        Ok(all)
    }
}
