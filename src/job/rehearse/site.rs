//! Where a rehearsal takes place: what is made for it, and goes away with it.
//!
//! Everything here is made new, under a lease, and is what a [`Scratch`] is made of. That it is not the source is looked at
//! once more before anything is written.

use super::findings::Findings;
use crate::backoff::pause;
use crate::clock;
use crate::durable;
use crate::engine::{self, ContainerRecipe, Ground, Reach, Rehearsable, Scratch, Subject};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::docker::Docker;
use crate::exec::scratch::container::{self, Limits};
use crate::exec::scratch::{Directory, Lease, Running, process};
use crate::policy;
use crate::repo::point::Point;
use crate::secret::{Secret, SecretRef};
use jiff::{SignedDuration, Timestamp};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Nobody needs the target of a rehearsal any longer than this.
const LEASE: SignedDuration = SignedDuration::from_hours(24);
/// One that a user wants to look at stays for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Between two questions to a server that starts.
const LOOK: Duration = Duration::from_millis(200);

/// What is restored into a path is called so in the scratch directory.
const DATA: &str = "data";

/// Where things may be made, for whom, and how much of them.
pub struct Grounds<'a> {
    pub state: &'a Path,
    /// For files.
    pub parent: &'a Path,
    pub run: &'a str,
    pub point: &'a Point,
    /// Where the source was when it was dumped, as the point says.
    pub location: &'a str,
    pub limits: Limits,
    /// How long a server may take to answer.
    pub patience: Duration,
    pub keep: bool,
}

/// A scratch target, with what it is made of.
pub struct Site {
    pub scratch: Scratch,
    directory: Directory,
    running: Option<Running>,
    deadline: Timestamp,
}

type Ability<'a> = (&'a dyn Rehearsable, &'a Subject<'a>);

impl Site {
    /// Makes it, up to a server that answers.
    pub fn make(grounds: &Grounds<'_>, ability: Ability<'_>, findings: &mut Findings, cancel: &Cancel) -> Result<Self> {
        let (rehearsable, subject) = ability;
        let deadline = deadline(clock::now(), grounds.keep);
        let directory = Directory::make(&grounds.lease(deadline), grounds.parent)?;
        durable::crash_point("rehearse:target-made");
        must_not_be(directory.path(), Path::new(grounds.location))?;
        must_have_room(directory.path(), subject.bytes)?;
        let settings = rehearsable.settings(subject, None);
        let scratch = Scratch::in_directory(&directory, DATA, settings);
        let mut site = Site { scratch, directory, running: None, deadline };
        let isolation = "private to this user, removed afterwards".to_owned();
        match rehearsable.ground(subject)? {
            Ground::File => findings.target("file", "a new file on this host".to_owned(), isolation),
            Ground::Directory | Ground::ServerOnData => {
                findings.target("directory", "a new directory on this host".to_owned(), isolation);
            }
            Ground::Server => site.serve(grounds, ability, None, findings, cancel)?,
        }
        Ok(site)
    }

    /// Starts the server on what was loaded, where that is how it is done.
    pub fn loaded(
        &mut self,
        grounds: &Grounds<'_>,
        ability: Ability<'_>,
        findings: &mut Findings,
        cancel: &Cancel,
    ) -> Result<()> {
        let data = self.scratch.path().map(Path::to_owned);
        match ability.0.ground(ability.1)? {
            Ground::ServerOnData => self.serve(grounds, ability, data.as_deref(), findings, cancel),
            _ => Ok(()),
        }
    }

    /// Starts a server, waits until it answers, and makes sure that it is nobody else's.
    fn serve(
        &mut self,
        grounds: &Grounds<'_>,
        (rehearsable, subject): Ability<'_>,
        data: Option<&Path>,
        findings: &mut Findings,
        cancel: &Cancel,
    ) -> Result<()> {
        let password = Secret::new(durable::random_hex(24));
        let file = self.directory.path().join("password");
        durable::write_new(&file, password.expose().as_bytes(), 0o600)
            .context(|| format!("cannot write {}", file.display()))?;
        let starting = Starting { grounds, lease: grounds.lease(self.deadline), password: &password, data, cancel };
        let (running, kind, what) = starting.start(rehearsable, subject)?;
        findings.target(kind, what, running.isolation().to_owned());
        let reached = running.reach();
        let reach = Reach {
            place: running.place(),
            host: reached.host,
            port: reached.port,
            socket: reached.socket,
            password: SecretRef::File(file),
        };
        let settings = rehearsable.settings(subject, Some(&reach));
        let running = self.running.insert(running);
        wait_until_ready(running, grounds.patience, cancel, || rehearsable.ready(&settings, cancel))?;
        if data.is_none() {
            rehearsable.must_be_empty(&settings, cancel)?;
        }
        rehearsable.prepare(subject, &settings, cancel)?;
        self.scratch = match data {
            None => Scratch::of_server(&self.directory, settings),
            Some(_) => std::mem::replace(&mut self.scratch, Scratch::of_server(&self.directory, settings.clone()))
                .now_served(settings),
        };
        Ok(())
    }

    /// A real restore would start it as well, on the data that it loaded.
    pub fn is_served_after_the_load(&self) -> bool {
        self.running.is_some() && self.scratch.path().is_some()
    }

    /// The last lines that the server wrote.
    pub fn logs(&self) -> Option<String> {
        self.running.as_ref().map(Running::logs).filter(|logs| !logs.trim().is_empty())
    }

    /// Takes everything down.
    pub fn remove(self) -> Result<()> {
        durable::crash_point("rehearse:before-teardown");
        let down = self.running.map_or(Ok(()), Running::teardown);
        down.and(self.directory.teardown())
    }

    /// Leaves it to the user; says where it is, and how to remove it.
    pub fn keep(self) -> Result<String> {
        let directory = self.directory.keep()?;
        match self.running {
            Some(running) => Ok(format!("{}; its password is in the {directory}", running.keep()?)),
            None => Ok(directory),
        }
    }
}

impl Grounds<'_> {
    fn lease(&self, deadline: Timestamp) -> Lease<'_> {
        Lease { state: self.state, run: self.run, source: &self.point.source, deadline }
    }
}

/// What a server is started with.
struct Starting<'a> {
    grounds: &'a Grounds<'a>,
    lease: Lease<'a>,
    password: &'a Secret,
    data: Option<&'a Path>,
    cancel: &'a Cancel,
}

impl Starting<'_> {
    /// In a container of the source's own image; where the source was in none, or there is no engine here, as a process of
    /// this host. With what it is.
    fn start(&self, rehearsable: &dyn Rehearsable, subject: &Subject<'_>) -> Result<(Running, &'static str, String)> {
        match &self.grounds.point.engine.image {
            Some(image) if Docker::if_there()?.is_some() => {
                let running = self.container(rehearsable.container(subject, self.password)?, &image.digest)?;
                Ok((running, "container", format!("{} ({})", image.name, image.digest)))
            }
            _ => {
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

    fn container(&self, recipe: ContainerRecipe, image: &str) -> Result<Running> {
        let limits = self.grounds.limits;
        let data = recipe.data.to_string_lossy().into_owned();
        // What is put in before the start would not be seen beneath memory that is mounted then.
        let in_memory = self.data.is_none() && recipe.room <= limits.memory / 2;
        let wanted = container::Wanted {
            image: image.to_owned(),
            entrypoint: recipe.entrypoint,
            arguments: recipe.arguments,
            environment: recipe.environment,
            secrets: recipe.secrets.into_iter().map(|(name, secret)| (format!("{name}_FILE"), secret)).collect(),
            files: recipe.files,
            data: if in_memory { container::Data::Memory(data.clone()) } else { container::Data::Volume(data.clone()) },
            limits,
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
        let mut running = prepared.start()?;
        port.map_or(Ok(()), |port| running.forward(port))?;
        Ok(running)
    }

    fn process(&self, rehearsable: &dyn Rehearsable, subject: &Subject<'_>) -> Result<Running> {
        // Whoever runs the server must be able to reach it, and the path of a socket must be short.
        let site = process::Site::make(&self.lease, &std::env::temp_dir())?;
        let socket = site.socket();
        let place = engine::Site { directory: site.path(), port: site.port(), socket: &socket };
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
        };
        site.start(&wanted, self.cancel)
    }
}

/// As one line.
fn last_words(logs: &str) -> String {
    let lines: Vec<&str> = logs.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    last.chars().filter(|c| !c.is_control()).take(600).collect()
}

/// Asks again and again, as long as the server runs and there is time.
fn wait_until_ready(
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

fn deadline(now: Timestamp, keep: bool) -> Timestamp {
    now.checked_add(if keep { KEPT } else { LEASE }).unwrap_or(Timestamp::MAX)
}

/// The scratch directory was made just now and cannot be the source; whoever changes that shall find out here.
fn must_not_be(directory: &Path, source: &Path) -> Result<()> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let is_empty = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty && (identity(source).is_none() || identity(source) != identity(directory)) {
        return Ok(());
    }
    let text = format!("{} is not an empty scratch directory; nothing was restored", directory.display());
    Err(Failure::new(Kind::Refused, text).hint("Please report this: a rehearsal must never touch its source"))
}

fn must_have_room(directory: &Path, bytes: u64) -> Result<()> {
    let found = rustix::fs::statvfs(directory).context(|| format!("cannot look at {}", directory.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= bytes {
        return Ok(());
    }
    let text = format!("there is no room for {bytes} bytes in {}: only {free} are free", directory.display());
    Err(Failure::failed(text).hint("Make room there, or let bkp have its cache on a larger disk"))
}
