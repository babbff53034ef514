//! How a scratch server is started, in a container of the source's image or as a process of this host, and waited for.

use super::probe;
use super::shortage::Room;
use super::site::{DATA, Grounds, must_have_room};
use crate::backoff::pause;
use crate::durable;
use crate::engine::{self, ContainerRecipe, Rehearsable, Subject};
use crate::error::{Context as _, Failure, Result};
use crate::event::Cancel;
use crate::exec::docker::Docker;
use crate::exec::scratch::{Lease, Running, container, process};
use crate::policy;
use crate::repo::point::Image;
use crate::secret::Secret;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two questions to a server that starts.
const LOOK: Duration = Duration::from_millis(200);

impl Grounds<'_> {
    pub fn lease(&self, deadline: Timestamp) -> Lease<'_> {
        Lease { state: self.state, run: self.run, source: &self.point.source, deadline }
    }
}

/// What a server is started with.
pub struct Starting<'a> {
    pub grounds: &'a Grounds<'a>,
    pub lease: Lease<'a>,
    pub password: &'a Secret,
    pub data: Option<&'a Path>,
    pub cancel: &'a Cancel,
}

/// Where a server will be.
pub enum Where<'a> {
    /// In a container of the image that the source had.
    Container(Box<ContainerRecipe>, &'a Image),
    Process,
}

impl Starting<'_> {
    /// In a container of the source's own image; where the source was in none, or there is no engine here, as a process of
    /// this host. With how much it may store.
    pub fn place(&self, rehearsable: &dyn Rehearsable, subject: &Subject<'_>) -> Result<(Where<'_>, Room)> {
        match &self.grounds.point.engine.image {
            Some(image) if Docker::if_there()?.is_some() => {
                let recipe = rehearsable.container(subject, self.password)?;
                let memory = self.grounds.limits.memory;
                // What is put in before the start would not be seen beneath memory that is mounted then.
                let in_memory = self.data.is_none() && recipe.room <= memory / 2;
                // The server itself needs some too: data that is too much for it is to be told as that.
                let room = if in_memory { Room::Memory(memory / 4 * 3) } else { Room::Volume };
                Ok((Where::Container(Box::new(recipe), image), room))
            }
            _ => Ok((Where::Process, Room::Directory(roomy()))),
        }
    }

    /// With what it is.
    pub fn start(
        &self,
        (place, room): (Where<'_>, &Room),
        rehearsable: &dyn Rehearsable,
        subject: &Subject<'_>,
    ) -> Result<(Running, &'static str, String)> {
        match place {
            Where::Container(recipe, image) => {
                let known_as = subject.with_application.then_some(probe::SERVER);
                let running = self.container(*recipe, room, (&image.digest, known_as))?;
                Ok((running, "container", format!("{} ({})", image.name, image.digest)))
            }
            Where::Process => {
                let running = self.process(rehearsable, subject)?;
                Ok((running, "process", format!("a server on this host, for {}", subject.version)))
            }
        }
    }

    /// What was loaded for a server to begin with: files side by side.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let Some(data) = self.data else { return Ok(Vec::new()) };
        let what = || "cannot list what was loaded".to_owned();
        let paths: std::io::Result<Vec<PathBuf>> =
            std::fs::read_dir(data).context(what)?.map(|entry| entry.map(|entry| entry.path())).collect();
        Ok(paths.context(what)?.into_iter().filter(|path| path.is_file()).collect())
    }

    fn container(
        &self,
        recipe: ContainerRecipe,
        room: &Room,
        (image, known_as): (&str, Option<&'static str>),
    ) -> Result<Running> {
        let limits = self.grounds.limits;
        let data = recipe.data.to_string_lossy().into_owned();
        let wanted = container::Wanted {
            image: image.to_owned(),
            entrypoint: recipe.entrypoint,
            arguments: recipe.arguments,
            environment: recipe.environment,
            secrets: recipe.secrets.into_iter().map(|(name, secret)| (format!("{name}_FILE"), secret)).collect(),
            files: recipe.files,
            data: match room {
                Room::Memory(bytes) => container::Data::Memory(data.clone(), *bytes),
                _ => container::Data::Volume(data.clone()),
            },
            limits,
            known_as,
        };
        let port = recipe.port;
        let prepared = container::prepare(&self.lease, &wanted, self.cancel)?;
        for path in self.files()? {
            let what = || format!("cannot read {}", path.display());
            let mut file = std::fs::File::open(&path).context(what)?;
            let length = file.metadata().context(what)?.len();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            prepared.put(&data, &name, length, &mut file, self.cancel)?;
        }
        durable::crash_point("rehearse-server:prepared");
        let mut running = prepared.start()?;
        port.map_or(Ok(()), |port| running.forward(port))?;
        Ok(running)
    }

    fn process(&self, rehearsable: &dyn Rehearsable, subject: &Subject<'_>) -> Result<Running> {
        let site = process::Site::make(&self.lease, &roomy())?;
        must_have_room(site.path(), subject.bytes)?;
        let socket = site.socket();
        let (port, alone) = (site.port(), site.is_alone(self.cancel));
        let place = engine::Site { directory: site.path(), port, socket: &socket, alone };
        let recipe = rehearsable.process(subject, &place, self.password)?.ok_or_else(|| {
            Failure::failed(
                "a server of this kind is rehearsed in a container only, and there is no container engine here",
            )
            .hint("Rehearse it on a host with Docker, such as a verifier: docs/REHEARSALS.md")
        })?;
        if self.data.is_some() {
            let into = site.path().join(DATA);
            std::fs::create_dir(&into).context(|| format!("cannot create {}", into.display()))?;
            for path in self.files()? {
                let copied = std::fs::copy(&path, into.join(path.file_name().unwrap_or_default()));
                copied.context(|| "cannot copy what was loaded".into())?;
            }
        }
        let wanted = process::Wanted {
            programs: recipe.programs,
            directories: recipe.directories,
            arguments: recipe.arguments,
            before: recipe.before,
            files: recipe.files,
            by_socket: recipe.by_socket,
            alone: recipe.alone,
        };
        site.start(&wanted, self.cancel)
    }
}

/// Where a server of the host has its data: whoever runs it must be able to reach it, the path of a socket must be short, and `/tmp`
/// may be in memory.
fn roomy() -> PathBuf {
    let usual = Path::new("/var/tmp");
    match std::env::var_os("TMPDIR") {
        None if usual.is_dir() => usual.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// As one line.
fn last_words(logs: &str) -> String {
    let lines: Vec<&str> = logs.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    last.chars().filter(|c| !c.is_control()).take(600).collect()
}

/// Asks again and again, as long as the server runs and there is time.
pub fn wait_until_ready(
    running: &mut Running,
    patience: Duration,
    cancel: &Cancel,
    ready: impl Fn() -> Result<()>,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        cancel.check()?;
        running.check()?;
        let Err(failure) = ready() else { return Ok(()) };
        if begun.elapsed() > patience {
            let text = format!("the scratch server did not answer within {}", policy::duration_text(patience));
            return Err(Failure::failed(text)
                .because(format!("{}; its log ends with: {}", failure.full(), last_words(&running.logs())))
                .hint("Look at its log; give it more time with `rehearse: { patience: 15m }` in the main file, or more memory"));
        }
        pause(LOOK, &|| cancel.check().is_err());
    }
}
