//! Making containers, and removing them with everything that came with them.
//!
//! What is made here has no network of the host, publishes no port, and can gain no privilege: there is no way to ask for it.
//! Images are taken as they are pinned, by digest or id, and fetched only when they are pinned by digest.

use super::connect::{ask, failure, wait};
use super::{Container, Docker, Image};
use crate::error::{Failure, Kind, Result};
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount as NewMountPoint, MountTmpfsOptions,
    MountType, NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, ListNetworksOptions, LogsOptions, RemoveContainerOptions,
};
use futures_util::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long the fetching of an image may take.
const FETCHED: Duration = Duration::from_secs(15 * 60);
/// Processes and threads that one container may have.
const PROCESSES: i64 = 2048;

/// A container to make.
#[derive(Debug, Default)]
pub struct NewContainer {
    pub name: String,
    /// Its digest or id.
    pub image: String,
    /// Instead of the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// For the entry point.
    pub arguments: Vec<String>,
    /// Never secrets: `docker inspect` shows them.
    pub environment: Vec<(String, String)>,
    pub labels: BTreeMap<String, String>,
    /// Bytes, what is on file systems in memory included.
    pub memory: u64,
    /// Hundredths of a processor.
    pub processors: u32,
    /// The only ones that it has, also where it runs as root.
    pub capabilities: &'static [&'static str],
    pub mounts: Vec<NewMount>,
    /// Absent: none at all.
    pub network: Option<NewNetwork>,
}

/// A network of the engine that was made with [`Docker::create_network`], and a name in it.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    pub name: String,
    pub alias: String,
}

#[derive(Debug)]
pub enum NewMount {
    /// A file system in memory.
    Memory {
        path: String,
        bytes: u64,
    },
    Volume {
        path: String,
        name: String,
    },
}

/// Something of the engine that has a label.
#[derive(Clone, Debug)]
pub struct Labelled {
    pub what: Thing,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Container,
    Volume,
    Network,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i64,
    pub out_of_memory: bool,
}

impl Docker {
    /// Makes sure that an image is here. One that is pinned by the digest of a registry is fetched from there.
    pub fn have_image(&self, image: &str) -> Result<()> {
        match wait(self.client.inspect_image(image))? {
            Ok(_) => return Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failure(error, &format!("cannot look for the image {image}"))),
        }
        let gone = || Failure::failed(format!("the image {image} is not on this host any more"));
        if !image.contains('@') {
            return Err(gone().hint(
                "It was not made from a registry, so it can only come from an archive (docker load) or be built again; or rehearse on a host that has it",
            ));
        }
        match self.fetch(image) {
            Ok(()) => Ok(()),
            Err(reason) => Err(Failure::failed(format!("the image {image} is not on this host any more, and cannot be fetched"))
                .because(reason)
                .hint(format!("See whether this works: docker pull {image}; without a network, bring it in an archive: docker save, docker load"))),
        }
    }

    fn fetch(&self, image: &str) -> std::result::Result<(), String> {
        let options = CreateImageOptions { from_image: Some(image.to_owned()), ..CreateImageOptions::default() };
        let mut progress = self.client.create_image(Some(options), None, None);
        let fetched = async {
            while let Some(step) = progress.next().await {
                step.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let fetched = wait(async { tokio::time::timeout(FETCHED, fetched).await }).map_err(|e| e.full())?;
        fetched.unwrap_or_else(|_| Err(format!("it took longer than {} s", FETCHED.as_secs())))
    }

    /// Makes it, and does not start it.
    pub fn make(&self, wanted: &NewContainer) -> Result<Container> {
        let options = CreateContainerOptions { name: Some(wanted.name.clone()), ..CreateContainerOptions::default() };
        let what = || format!("cannot make the container {}", wanted.name);
        let made = ask(what, self.client.create_container(Some(options), wanted.body()))?;
        let image = Image { name: wanted.image.clone(), digest: wanted.image.clone() };
        Ok(Container::new(self.clone(), made.id, wanted.name.clone(), image, None))
    }

    /// Removes a container, running or not, with its volumes without a name. One that is gone already is as good.
    pub fn remove(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match wait(self.client.remove_container(id, Some(options)))? {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            // Somebody removes it right now.
            Err(Error::DockerResponseServerError { status_code: 409, message }) if message.contains("in progress") => {
                Ok(())
            }
            Err(error) => Err(failure(error, &format!("cannot remove container {id}"))),
        }
    }

    /// A network that leads nowhere, not even to the host: only its containers reach each other.
    pub fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            internal: Some(true),
            // Else the host itself is in it, with all that listens there and the ports that live containers publish.
            options: Some(HashMap::from([("com.docker.network.bridge.inhibit_ipv4".into(), "true".into())])),
            labels: Some(labels.clone().into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        ask(|| format!("cannot make the network {name}"), self.client.create_network(request)).map(drop)
    }

    pub fn remove_network(&self, name: &str) -> Result<()> {
        match wait(self.client.remove_network(name))? {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(failure(error, &format!("cannot remove the network {name}"))),
        }
    }

    /// `None` while it runs.
    pub fn ended(&self, id: &str) -> Result<Option<Ended>> {
        let seen = ask(|| format!("cannot look at container {id}"), self.client.inspect_container(id, None))?;
        let state = seen.state.unwrap_or_default();
        let runs = state.running.unwrap_or_default() || state.paused.unwrap_or_default();
        Ok((!runs).then(|| Ended {
            exit_code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
        }))
    }

    /// The last lines that a container wrote.
    pub fn logs(&self, id: &str, lines: u32) -> Result<String> {
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let mut pieces = self.client.logs(id, Some(options));
        let text = wait(async {
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.next().await {
                match piece? {
                    LogOutput::StdOut { message } | LogOutput::StdErr { message } => bytes.extend_from_slice(&message),
                    LogOutput::StdIn { .. } | LogOutput::Console { .. } => {}
                }
            }
            Ok(bytes)
        })?;
        let text: std::result::Result<Vec<u8>, Error> = text;
        let bytes = text.map_err(|error| failure(error, &format!("cannot read the log of container {id}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Containers, volumes and networks that have a label; in an order in which they can be removed.
    pub fn all_labelled(&self, key: &str) -> Result<Vec<Labelled>> {
        let mut found = Vec::new();
        let mut add = |what, name: String, labels: BTreeMap<String, String>| {
            if labels.contains_key(key) {
                found.push(Labelled { what, name, labels });
            }
        };
        for seen in self.list_all()? {
            add(Thing::Container, seen.id.unwrap_or_default(), seen.labels.unwrap_or_default().into_iter().collect());
        }
        for volume in self.volumes()? {
            add(Thing::Volume, volume.name, volume.labels);
        }
        let request = self.client.list_networks(None::<ListNetworksOptions>);
        for network in ask(|| "cannot list the networks".into(), request)? {
            let labels = network.labels.unwrap_or_default().into_iter().collect();
            add(Thing::Network, network.name.unwrap_or_default(), labels);
        }
        Ok(found)
    }
}

impl NewContainer {
    fn body(&self) -> ContainerCreateBody {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let host = HostConfig {
            network_mode: Some(self.network.as_ref().map_or("none", |network| &network.name).to_owned()),
            memory: Some(bytes(self.memory)),
            // Together with swap: none of it.
            memory_swap: Some(bytes(self.memory)),
            nano_cpus: Some(i64::from(self.processors) * 10_000_000),
            pids_limit: Some(PROCESSES),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(self.capabilities.iter().map(|name| (*name).to_owned()).collect()),
            security_opt: Some(vec!["no-new-privileges".into()]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(HashMap::from([("max-size".into(), "16m".into()), ("max-file".into(), "1".into())])),
            }),
            mounts: Some(self.mounts.iter().map(NewMount::point).collect()),
            ..HostConfig::default()
        };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: self.entrypoint.clone(),
            cmd: (!self.arguments.is_empty()).then(|| self.arguments.clone()),
            env: Some(self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(self.labels.clone().into_iter().collect()),
            host_config: Some(host),
            networking_config: self.network.as_ref().map(|network| NetworkingConfig {
                endpoints_config: Some(HashMap::from([(
                    network.name.clone(),
                    EndpointSettings { aliases: Some(vec![network.alias.clone()]), ..EndpointSettings::default() },
                )])),
            }),
            ..ContainerCreateBody::default()
        }
    }
}

impl NewMount {
    fn point(&self) -> NewMountPoint {
        match self {
            NewMount::Memory { path, bytes } => NewMountPoint {
                typ: Some(MountType::TMPFS),
                target: Some(path.clone()),
                tmpfs_options: Some(MountTmpfsOptions {
                    size_bytes: i64::try_from(*bytes).ok(),
                    ..MountTmpfsOptions::default()
                }),
                ..NewMountPoint::default()
            },
            NewMount::Volume { path, name } => NewMountPoint {
                typ: Some(MountType::VOLUME),
                source: Some(name.clone()),
                target: Some(path.clone()),
                ..NewMountPoint::default()
            },
        }
    }
}

/// Why a container that should run has ended.
pub(in crate::exec) fn over(name: &str, ended: Ended, log: &str) -> Failure {
    let failure = match ended {
        Ended { out_of_memory: true, .. } => {
            Failure::new(Kind::Failed, format!("{name} was killed: it needs more memory than it has"))
                .hint("Give rehearsals more memory, or run them on a larger host")
        }
        Ended { exit_code, .. } => Failure::failed(format!("{name} ended with status {exit_code}")),
    };
    if log.is_empty() { failure } else { failure.because(log.to_owned()) }
}
