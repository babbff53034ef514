//! Containers: finding them, looking at them, and running commands inside them through the Engine API.
//!
//! A container is named by a [`Selector`] and looked for when it is needed, because Compose and Swarm make containers anew.
//! A command inside one keeps every promise of [`super::Exec`]: no TTY, streams told apart, the exit status looked at after the
//! end of the output, and the process ended when bkp is. In an image without `sh` three of them are weaker: a command that is
//! given up is killed only when bkp is root on the engine's host, it outlives a killed bkp unless it notices the end of its
//! input, and the engine may drop the end of its output when nobody reads for two seconds (ask for a terminator).
//! This folder is the only place that names bollard; its types do not leave it.

use crate::error::Result;
use std::fmt;

mod address;
mod attached;
mod clock;
mod connect;
mod container;
mod control;
mod conversation;
mod files;
mod find;
mod forward;
mod inspect;
mod making;
mod opening;
mod own;
mod run;
mod scripts;
mod session;
mod told;
mod volumes;
mod writers;

pub use container::{Container, Image};
pub use control::Went;
pub use files::{File, Owner};
pub use forward::Forward;
pub use inspect::{Description, Mount, MountKind, Port, State};
pub(super) use making::over;
pub use making::{Ended, Labelled, NewContainer, NewMount, NewNetwork, Thing};
pub use told::Told;
pub use volumes::{Volume, find_volume};
pub use writers::{Quiet, WritingContainer};

/// Which container is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By its name or id.
    Name(String),
    /// The container of a Compose service.
    Compose { project: String, service: String },
    /// The one container with this label.
    Label { key: String, value: String },
    /// A task of a Swarm service that runs on this node.
    Swarm { service: String },
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Name(name) => write!(f, "container {name}"),
            Selector::Compose { project, service } => write!(f, "service {service} of project {project}"),
            Selector::Label { key, value } => write!(f, "container with label {key}={value}"),
            Selector::Swarm { service } => write!(f, "a task of the Swarm service {service}"),
        }
    }
}

/// A connection to a container engine.
#[derive(Clone)]
pub struct Docker {
    client: bollard::Docker,
    endpoint: connect::Endpoint,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Docker({:?})", self.endpoint)
    }
}

impl Docker {
    /// To the engine of `DOCKER_HOST`, or of this host.
    pub fn connect() -> Result<Self> {
        let (client, endpoint) = connect::open()?;
        Ok(Docker { client, endpoint })
    }

    /// The same, where hosts without any engine are as good: `None` there, and a failure where one is and cannot be asked.
    pub fn if_there() -> Result<Option<Self>> {
        if connect::is_there() { Self::connect().map(Some) } else { Ok(None) }
    }
}
