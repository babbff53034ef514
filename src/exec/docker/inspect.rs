//! What there is: containers with everything that discovery, volumes and restores ask about.
//!
//! Values of environment variables are secrets until somebody decides otherwise.

use super::Docker;
use super::connect::{ask, wait};
use crate::error::{Failure, Result};
use crate::secret::Secret;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerSummary, MountPoint};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Description {
    pub id: String,
    pub name: String,
    /// As it was asked for: `mysql:8`.
    pub image: String,
    pub image_id: String,
    /// Digest in the registry it came from.
    pub image_digest: Option<String>,
    pub state: State,
    /// `healthy`, `starting`, `unhealthy`, where there is a health check.
    pub health: Option<String>,
    pub exit_code: i64,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    pub mounts: Vec<Mount>,
    /// Name of each network, and the container's address there when it runs.
    pub networks: BTreeMap<String, String>,
    /// As Docker calls it: `bridge`, `host`, `none`, `container:…`, or a network.
    pub network_mode: String,
    pub environment: BTreeMap<String, Secret>,
    /// What runs in it: entry point and command.
    pub command: Vec<String>,
    /// As whom, when it is not root.
    pub user: Option<String>,
    /// The engine removes it when it stops (`--rm`).
    pub removed_at_end: bool,
    /// Where the engine keeps what the container writes outside of its mounts, as far as it tells.
    pub upper: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    /// Being removed, or broken.
    Gone,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub container: u16,
    /// Address and port of the engine's host.
    pub published: Option<(String, u16)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub kind: MountKind,
    /// Name of the volume.
    pub volume: Option<String>,
    /// Path on the engine's host.
    pub source: PathBuf,
    pub destination: PathBuf,
    pub writable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    Volume,
    Bind,
    Memory,
    Other,
}

impl Docker {
    /// All containers, stopped ones too, by name. One that vanishes meanwhile is left out.
    pub fn containers(&self) -> Result<Vec<Description>> {
        let mut described = Vec::new();
        for summary in self.list_all()? {
            let id = summary.id.clone().unwrap_or_default();
            match wait(self.client.inspect_container(&id, None))? {
                Ok(details) => described.push(self.describe(summary, details)),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => return Err(Failure::failed(format!("cannot look at container {id}")).because(error)),
            }
        }
        described.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(described)
    }

    /// Names of the containers and volumes with a label, and its value.
    pub fn labelled(&self, key: &str) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for summary in self.list_all()? {
            let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let value = summary.labels.and_then(|mut labels| labels.remove(key));
            found.extend(value.map(|value| (name.trim_start_matches('/').to_owned(), value)));
        }
        for mut volume in self.volumes()? {
            found.extend(volume.labels.remove(key).map(|value| (volume.name, value)));
        }
        Ok(found)
    }

    /// How one container was set up; its ports are left out.
    pub(super) fn set_up(&self, id: &str) -> Result<Description> {
        let details = ask(|| format!("cannot look at container {id}"), self.client.inspect_container(id, None))?;
        Ok(self.describe(ContainerSummary::default(), details))
    }

    fn describe(&self, summary: ContainerSummary, details: ContainerInspectResponse) -> Description {
        let config = details.config.unwrap_or_default();
        let state = details.state.unwrap_or_default();
        let image_id = details.image.unwrap_or_default();
        let health = state.health.and_then(|health| health.status).map(|status| status.to_string());
        let networks = details.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let host_config = details.host_config.unwrap_or_default();
        let layers = details.graph_driver.map(|driver| driver.data).unwrap_or_default();
        let ports = summary.ports.unwrap_or_default().into_iter().map(|port| Port {
            container: port.private_port,
            published: port.public_port.map(|public| (port.ip.unwrap_or_default(), public)),
        });
        Description {
            id: details.id.unwrap_or_default(),
            name: details.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            image_digest: self.digest(&image_id),
            image_id,
            state: state_of(&state.status.map(|status| status.to_string()).unwrap_or_default()),
            health: health.filter(|status| !status.is_empty() && status != "none"),
            exit_code: state.exit_code.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            ports: ports.collect(),
            mounts: details.mounts.unwrap_or_default().into_iter().map(Mount::from).collect(),
            networks: networks.into_iter().map(|(name, end)| (name, end.ip_address.unwrap_or_default())).collect(),
            network_mode: host_config.network_mode.unwrap_or_default(),
            environment: environment(config.env.unwrap_or_default()),
            command: [config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default()].concat(),
            user: config.user.filter(|user| !user.is_empty()),
            removed_at_end: host_config.auto_remove.unwrap_or_default(),
            upper: layers.get("UpperDir").cloned(),
        }
    }
}

pub(super) fn state_of(status: &str) -> State {
    match status {
        "created" => State::Created,
        "running" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "exited" => State::Exited,
        _ => State::Gone,
    }
}

fn environment(variables: Vec<String>) -> BTreeMap<String, Secret> {
    let split = variables.into_iter().map(|variable| match variable.split_once('=') {
        Some((name, value)) => (name.to_owned(), Secret::new(value.to_owned())),
        None => (variable, Secret::new(String::new())),
    });
    split.collect()
}

impl From<MountPoint> for Mount {
    fn from(mount: MountPoint) -> Self {
        Mount {
            kind: match mount.typ.as_deref() {
                Some("volume") => MountKind::Volume,
                Some("bind") => MountKind::Bind,
                Some("tmpfs") => MountKind::Memory,
                _ => MountKind::Other,
            },
            volume: mount.name.filter(|name| !name.is_empty()),
            source: mount.source.unwrap_or_default().into(),
            destination: mount.destination.unwrap_or_default().into(),
            writable: mount.rw.unwrap_or(true),
        }
    }
}
