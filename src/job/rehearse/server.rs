//! Scratch servers for rehearsals: where they run, started as the engine says, and waited for until they answer.
//!
//! In a container of the image that the source had, where there is a container engine; else as a process of this host. That a
//! server is ready is what an answered question says, never an open port.

use super::findings::Findings;
use super::site::Grounds;
use crate::durable;
use crate::engine::{self, ContainerRecipe, ProcessRecipe, Reach, ReachedBy, Rehearsable, Settings, Subject};
use crate::error::{Context as _, Failure, Result};
use crate::event::Cancel;
use crate::exec::Place;
use crate::exec::docker::Docker;
use crate::exec::scratch::container::{self, Data, Limits};
use crate::exec::scratch::{Directory, Lease, Running, process};
use crate::secret::{Secret, SecretRef};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a server may take until it answers.
const READY: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(100);

/// Where a server is going to run.
pub struct Seat<'a> {
    lease: Lease<'a>,
    limits: Limits,
    kind: SeatKind<'a>,
}

enum SeatKind<'a> {
    /// Of an image, by digest or id.
    Container(&'a str),
    Process(process::Site),
}

/// A server that answers, and how it is spoken to.
pub struct Started {
    pub server: Running,
    pub settings: Settings,
}

/// What a start needs to know besides the place.
pub struct Start<'a> {
    pub ability: &'a dyn Rehearsable,
    pub subject: &'a Subject<'a>,
    /// Its password is written there.
    pub directory: &'a Directory,
    /// What it is to begin with.
    pub data: Option<&'a Path>,
    pub cancel: &'a Cancel,
}

impl<'a> Seat<'a> {
    /// Chooses by what the point says of its source, and by what there is here.
    pub fn take(grounds: &Grounds<'a>, lease: &Lease<'a>) -> Result<Self> {
        let kind = match grounds.image {
            Some(image) if Docker::if_there()?.is_some() => SeatKind::Container(&image.digest),
            // Sockets need short paths.
            _ => SeatKind::Process(process::Site::make(lease, &std::env::temp_dir())?),
        };
        Ok(Seat { lease: lease.clone(), limits: grounds.limits, kind })
    }

    /// Where data for a process is written before it starts.
    pub fn directory(&self) -> Option<&Directory> {
        match &self.kind {
            SeatKind::Container(_) => None,
            SeatKind::Process(site) => Some(site.directory()),
        }
    }

    /// Starts the server, and waits until it is ready for work.
    pub fn start(self, start: &Start<'_>, findings: &mut Findings) -> Result<Started> {
        let password = Secret::new(durable::random_hex(16));
        let file = start.directory.path().join("password");
        durable::write_new(&file, password.expose().as_bytes(), 0o600)
            .context(|| format!("cannot write {}", file.display()))?;
        let (mut server, reach) = match self.kind {
            SeatKind::Container(image) => {
                let recipe = start.ability.container(start.subject, &password)?;
                let mut server = in_container(&self.lease, self.limits, (image, &recipe), start)?;
                findings.target("container", image.to_owned(), server.isolation().to_owned());
                let reach = of_container(&mut server, &recipe, SecretRef::File(file))?;
                (server, reach)
            }
            SeatKind::Process(site) => {
                let (what, server) = as_process(site, &password, start)?;
                findings.target("process", what, server.isolation().to_owned());
                let at = server.reach();
                let (place, password) = (Place::Host, SecretRef::File(file));
                (server, Reach { place, host: at.host, port: at.port, socket: at.socket, password })
            }
        };
        durable::crash_point("rehearse:server-started");
        let settings = start.ability.settings(start.subject, Some(&reach));
        wait(start, &settings, &mut server)?;
        if start.data.is_none() {
            start.ability.must_be_empty(&settings, start.cancel)?;
        }
        start.ability.prepare(start.subject, &settings, start.cancel)?;
        Ok(Started { server, settings })
    }
}

fn in_container(
    lease: &Lease<'_>,
    limits: Limits,
    (image, recipe): (&str, &ContainerRecipe),
    start: &Start<'_>,
) -> Result<Running> {
    let path = recipe.data.display().to_string();
    // Files can be put into a volume, and not into memory, before the start.
    let in_memory = recipe.room <= limits.memory / 2 && start.data.is_none();
    let wanted = container::Wanted {
        image: image.to_owned(),
        entrypoint: recipe.entrypoint.clone(),
        arguments: recipe.arguments.clone(),
        environment: recipe.environment.clone(),
        secrets: recipe.secrets.clone(),
        files: recipe.files.clone(),
        data: if in_memory { Data::Memory(path.clone()) } else { Data::Volume(path.clone()) },
        limits,
    };
    let prepared = container::prepare(lease, &wanted, start.cancel)?;
    for file in start.data.map(files).transpose()?.unwrap_or_default() {
        let what = || format!("cannot read {}", file.display());
        let mut data = File::open(&file).context(what)?;
        let length = data.metadata().context(what)?.len();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        prepared.put(&path, &name, length, &mut data, start.cancel)?;
    }
    prepared.start()
}

/// The files right in a directory: servers that begin with their data need no others.
fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let what = || format!("cannot read {}", directory.display());
    let entries = std::fs::read_dir(directory).context(what)?;
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(paths.context(what)?.into_iter().filter(|path| path.is_file()).collect())
}

fn of_container(server: &mut Running, recipe: &ContainerRecipe, password: SecretRef) -> Result<Reach> {
    Ok(match recipe.port {
        None => Reach { place: server.place(), host: None, port: None, socket: recipe.socket.clone(), password },
        Some(port) => {
            let port = Some(server.forward(port)?);
            Reach { place: Place::Host, host: Some("127.0.0.1".into()), port, socket: None, password }
        }
    })
}

fn as_process(site: process::Site, password: &Secret, start: &Start<'_>) -> Result<(String, Running)> {
    let (socket, password_file) = (site.socket(), site.path().join("password"));
    let here =
        engine::Site { directory: site.path(), port: site.port(), socket: &socket, password_file: &password_file };
    let recipe = start.ability.process(start.subject, &here, password)?.ok_or_else(|| {
        Failure::failed("there is no way to run this kind of server as a process of this host")
            .hint("Rehearse on a host with Docker and the image of the source")
    })?;
    let ProcessRecipe { programs, directories, before, arguments, mut files, reached_by } = recipe;
    files.push((password_file.clone(), password.clone()));
    let by_socket = reached_by == ReachedBy::Socket;
    let what = programs.join(" or ");
    let wanted = process::Wanted { programs, directories, arguments, before, files, by_socket };
    Ok((what, site.start(&wanted, start.cancel)?))
}

/// Waits until it answers, as long as it runs.
fn wait(start: &Start<'_>, settings: &Settings, server: &mut Running) -> Result<()> {
    let (begun, limit) = (Instant::now(), patience());
    loop {
        start.cancel.check()?;
        server.check()?;
        let Err(not_yet) = start.ability.ready(settings, start.cancel) else { return Ok(()) };
        if begun.elapsed() > limit {
            let logs = server.logs();
            let last = logs.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
            let text = format!("the scratch server was not ready for work after {} s", limit.as_secs());
            let reason = format!("{}; its log ends with: {last}", not_yet.full());
            return Err(Failure::failed(text).because(reason).hint(
                "Run it again with --keep and look at the server; give it more memory with `memory` of `rehearse:`",
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// Tests cannot wait as long as a user. Absent from release builds.
fn patience() -> Duration {
    let told = std::env::var("BKP_READY_WITHIN").ok().filter(|_| cfg!(debug_assertions));
    told.and_then(|seconds| seconds.parse().ok()).map_or(READY, Duration::from_secs)
}
