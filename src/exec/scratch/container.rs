//! A scratch server in a container of the image that its source had.
//!
//! No network at all (or, where an application is asked beside it, one that leads nowhere), no published port, bounded memory and processors, no privilege beyond what an entry point needs that
//! begins as root, owns its data directory and becomes another user. Data is in memory or in a volume of its own. Passwords
//! come in as files, which official images read through their `…_FILE` variables: `docker inspect` shows none.

use super::record::{Held, Records, What};
use super::{DEADLINE, LABEL, Lease, RECORD, Reach, Running, SOURCE};
use crate::durable::random_hex;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::exec::Place;
use crate::exec::docker::{
    Container, Docker, File, Forward, NewContainer, NewMount, NewNetwork, Owner, Selector, over,
};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `chown` its data directory, look into it when it belongs to the server, and become that server's user.
const CAPABILITIES: &[&str] = &["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];
/// Lines of its log that are told.
const LINES: u32 = 40;
const ROOT: Owner = Owner { user: 0, group: 0 };

/// A server in a container.
#[derive(Debug)]
pub struct Wanted {
    /// Its digest or id.
    pub image: String,
    /// Instead of the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// For the entry point.
    pub arguments: Vec<String>,
    /// Never secrets.
    pub environment: Vec<(String, String)>,
    /// The value of each variable is the path of a file with the secret.
    pub secrets: Vec<(String, Secret)>,
    /// Put in before it starts: path, content and mode. They belong to root.
    pub files: Vec<(PathBuf, Secret, u32)>,
    pub data: Data,
    pub limits: Limits,
    /// In a network of its own that leads nowhere, where it has this name; absent: in none.
    pub known_as: Option<&'static str>,
}

/// A program that is asked beside a server. It has the server's limits, and nothing that lasts.
#[derive(Debug)]
pub struct Application {
    pub image: String,
    pub arguments: Vec<String>,
    /// Never secrets.
    pub environment: Vec<(String, String)>,
    /// Put in before it starts: path and content. Everybody in there can read them.
    pub files: Vec<(PathBuf, Secret)>,
    pub port: u16,
}

/// An application that runs, until it is dropped.
#[derive(Debug)]
pub struct Beside {
    docker: Docker,
    container: Container,
    forward: Forward,
}

/// What an application is called in the network.
const APPLICATION: &str = "application";

/// What a server may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes, data in memory included.
    pub memory: u64,
    /// Hundredths of a processor.
    pub processors: u32,
}

/// Where its data is while it is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// In memory, at this path, of at most so many bytes.
    Memory(String, u64),
    /// In a volume of its own, at this path.
    Volume(String),
}

/// A container that was made and does not run yet: files can be put into it.
#[derive(Debug)]
pub struct Prepared {
    body: Body,
}

#[derive(Debug)]
pub struct Body {
    held: Held,
    docker: Docker,
    container: Container,
    isolation: String,
    labels: BTreeMap<String, String>,
    limits: Limits,
    /// To its port, where that is wanted.
    forward: Option<Forward>,
}

/// Makes the container. Whatever this leaves when it fails is gone before it returns.
pub fn prepare(lease: &Lease<'_>, wanted: &Wanted, cancel: &Cancel) -> Result<Prepared> {
    let docker = Docker::connect()?;
    docker.have_image(&wanted.image)?;
    let number = random_hex(6);
    let name = format!("bkp-scratch-{number}");
    let record = format!("{}/{number}", Records::of(lease.state).name()?);
    let labels = BTreeMap::from([
        (LABEL.to_owned(), lease.run.to_owned()),
        (SOURCE.to_owned(), lease.source.to_owned()),
        (DEADLINE.to_owned(), lease.deadline.to_string()),
        (RECORD.to_owned(), record),
    ]);
    let mut held = Held::begin(lease, &number, What::Container(name.clone()))?;
    match make(&docker, &name, wanted, labels.clone(), cancel) {
        Ok(container) => {
            let (isolation, limits) = (isolation(wanted), wanted.limits);
            Ok(Prepared { body: Body { held, docker, container, isolation, labels, limits, forward: None } })
        }
        Err(failure) => {
            if remove(&docker, &name).is_ok() {
                let _ = held.let_go();
            }
            Err(failure)
        }
    }
}

fn make(
    docker: &Docker,
    name: &str,
    wanted: &Wanted,
    labels: BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<Container> {
    let mount = match &wanted.data {
        Data::Memory(path, bytes) => NewMount::Memory { path: path.clone(), bytes: *bytes },
        Data::Volume(path) => {
            docker.create_volume(name, "local", &labels, &BTreeMap::new())?;
            NewMount::Volume { path: path.clone(), name: name.to_owned() }
        }
    };
    let network = wanted.known_as.map(|alias| NewNetwork { name: name.to_owned(), alias: alias.to_owned() });
    if network.is_some() {
        docker.create_network(name, &labels)?;
    }
    let mut environment = wanted.environment.clone();
    let mut files = wanted.files.clone();
    for (variable, secret) in &wanted.secrets {
        let path = format!("/bkp-{}", variable.to_lowercase());
        // Entry points read it when they are the server's user already; nobody else is in there.
        files.push((path.clone().into(), secret.clone(), 0o444));
        environment.push((variable.clone(), path));
    }
    let container = docker.make(&NewContainer {
        name: name.to_owned(),
        image: wanted.image.clone(),
        entrypoint: wanted.entrypoint.clone(),
        arguments: wanted.arguments.clone(),
        environment,
        labels,
        memory: wanted.limits.memory,
        processors: wanted.limits.processors,
        capabilities: CAPABILITIES,
        mounts: vec![mount],
        network,
    })?;
    put_in(&container, files, cancel)?;
    Ok(container)
}

fn put_in(container: &Container, files: Vec<(PathBuf, Secret, u32)>, cancel: &Cancel) -> Result<()> {
    for (path, content, mode) in files {
        let mut bytes = content.expose().as_bytes();
        let (parent, name) = split(&path)?;
        let file = File { name, mode, owner: ROOT, length: bytes.len() as u64 };
        container.write_file(parent, &file, &mut bytes, cancel)?;
    }
    Ok(())
}

fn isolation(wanted: &Wanted) -> String {
    let Limits { memory, processors } = wanted.limits;
    let data = if matches!(wanted.data, Data::Memory(..)) { "data in memory" } else { "a volume of its own" };
    let isolated = match wanted.known_as {
        Some(_) => "container without any network but one of its own that leads nowhere, ports or privileges",
        None => "container without network, ports or privileges",
    };
    format!("{isolated}; {} MiB, {processors} % of a processor, {data}", memory >> 20)
}

fn split(path: &Path) -> Result<(&str, &str)> {
    let parts = path.parent().and_then(Path::to_str).zip(path.file_name().and_then(|name| name.to_str()));
    parts.ok_or_else(|| Failure::failed(format!("{} is no path of a file in a container", path.display())))
}

/// Of an application beside the server of that name.
fn beside(name: &str) -> String {
    format!("{name}-{APPLICATION}")
}

/// The container of that name with what runs beside it, and the volume and the network that have the same.
fn remove(docker: &Docker, name: &str) -> Result<()> {
    docker.remove(&beside(name))?;
    docker.remove(name)?;
    docker.remove_network(name)?;
    if docker.volumes()?.iter().any(|volume| volume.name == name) {
        docker.remove_volume(name)?;
    }
    Ok(())
}

impl Prepared {
    /// Puts a file into the directory at `path`, which the image or a mount must have.
    pub fn put(&self, path: &str, name: &str, length: u64, data: &mut dyn Read, cancel: &Cancel) -> Result<()> {
        // The server's user is not known here, and nobody else is in there.
        let file = File { name, mode: 0o666, owner: ROOT, length };
        self.body.container.write_file(path, &file, data, cancel)
    }

    /// Starts the server. Whether it is ready is for its clients to find out.
    pub fn start(mut self) -> Result<Running> {
        match self.body.docker.start(&self.body.container.id) {
            Ok(()) => Ok(Running(super::Body::Container(Box::new(self.body)))),
            Err(failure) => {
                // What stays is reaped later.
                let _ = self.body.end();
                Err(failure)
            }
        }
    }
}

impl Body {
    pub fn place(&self) -> Place {
        Place::Container(Selector::Name(self.container.id.clone()))
    }

    pub fn forward(&mut self, port: u16) -> Result<()> {
        self.forward = Some(self.container.forward("127.0.0.1", port)?);
        Ok(())
    }

    /// Starts an application in the network of the server; it is reached through a program of either.
    pub fn beside(&self, wanted: Application, cancel: &Cancel) -> Result<Beside> {
        self.docker.have_image(&wanted.image)?;
        let name = beside(&self.container.name);
        self.docker.remove(&name)?;
        let container = self.docker.make(&NewContainer {
            name,
            image: wanted.image,
            entrypoint: None,
            arguments: wanted.arguments,
            environment: wanted.environment,
            labels: self.labels.clone(),
            memory: self.limits.memory,
            processors: self.limits.processors,
            capabilities: CAPABILITIES,
            mounts: Vec::new(),
            network: Some(NewNetwork { name: self.container.name.clone(), alias: APPLICATION.to_owned() }),
        })?;
        let started = || {
            let files = wanted.files.into_iter().map(|(path, content)| (path, content, 0o444)).collect();
            put_in(&container, files, cancel)?;
            self.docker.start(&container.id)?;
            let through_server = self.container.forward(APPLICATION, wanted.port);
            through_server.or_else(|_| container.forward("127.0.0.1", wanted.port))
        };
        match started() {
            Ok(forward) => Ok(Beside { docker: self.docker.clone(), container, forward }),
            Err(failure) => {
                // What stays goes with the server.
                let _ = self.docker.remove(&container.id);
                Err(failure)
            }
        }
    }

    pub fn reach(&self) -> Reach {
        match &self.forward {
            Some(forward) => Reach { host: Some("127.0.0.1".into()), port: Some(forward.port), socket: None },
            None => Reach::default(),
        }
    }

    pub fn isolation(&self) -> &str {
        &self.isolation
    }

    pub fn check(&self) -> Result<()> {
        match self.docker.ended(&self.container.id)? {
            None => Ok(()),
            Some(ended) => {
                Err(over(&format!("the scratch container {}", self.container.name), ended, &self.last_words()))
            }
        }
    }

    pub fn logs(&self) -> String {
        self.docker.logs(&self.container.id, LINES).unwrap_or_default()
    }

    fn last_words(&self) -> String {
        last_words(&self.logs())
    }

    pub fn keep(&mut self) -> Result<String> {
        self.held.keep()?;
        let name = &self.container.name;
        Ok(format!(
            "container {name}; look at it: docker exec -it {name} sh; remove it: docker rm -fv {name}; docker volume rm -f {name}"
        ))
    }

    pub fn end(&mut self) -> Result<()> {
        if self.held.is_let_go() {
            return Ok(());
        }
        remove(&self.docker, &self.container.name)?;
        self.held.let_go()
    }
}

/// The last lines of a log as one.
fn last_words(logs: &str) -> String {
    let lines: Vec<&str> = logs.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(5)..].join(" | ");
    last.chars().filter(|c| !c.is_control()).take(1000).collect()
}

impl Beside {
    /// Of loopback here, where it answers.
    pub fn port(&self) -> u16 {
        self.forward.port
    }

    /// Fails when it does not run any more, with the end of what it said.
    pub fn check(&self) -> Result<()> {
        match self.docker.ended(&self.container.id)? {
            None => Ok(()),
            Some(ended) => Err(over("the application", ended, &self.last_words())),
        }
    }

    pub fn last_words(&self) -> String {
        last_words(&self.docker.logs(&self.container.id, LINES).unwrap_or_default())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What stays goes with the server.
        let _ = self.docker.remove(&self.container.id);
    }
}

/// One that a killed process left.
pub(super) fn remove_named(name: &str) -> Result<()> {
    remove(&Docker::connect()?, name)
}
