//! Where a rehearsal takes place: what is made for it, and goes away with it.
//!
//! Everything here is made new, under a lease, and is what a [`Scratch`] is made of. That it is not the source is looked at
//! once more before anything is written.

use super::findings::Findings;
use super::probe;
use super::shortage::{self, Room};
use super::starting::{Starting, wait_until_ready};
use crate::backoff::pause;
use crate::clock;
use crate::durable;
use crate::engine::{Entrance, Ground, Probe, Reach, Rehearsable, Scratch, Subject};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::scratch::container::Limits;
use crate::exec::scratch::{Directory, Running};
use crate::repo::point::Point;
use crate::secret::{Secret, SecretRef};
use jiff::{SignedDuration, Timestamp};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Nobody needs the target of a rehearsal any longer than this.
const LEASE: SignedDuration = SignedDuration::from_hours(24);
/// One that a user wants to look at stays for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A server that fell may take so long to be seen as gone.
const GONE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

/// What is restored into a path is called so in the scratch directory.
pub const DATA: &str = "data";

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
    room: Room,
    /// Of the server.
    password: Secret,
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
        if rehearsable.ground(subject)? != Ground::Server {
            must_have_room(directory.path(), subject.bytes)?;
        }
        let room = Room::Directory(grounds.parent.to_owned());
        let settings = rehearsable.settings(subject, None);
        let scratch = Scratch::in_directory(&directory, DATA, settings);
        let mut site = Site { scratch, directory, running: None, deadline, room, password: Secret::new(String::new()) };
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
        self.password = password.clone();
        let (place, room) = starting.place(rehearsable, subject)?;
        self.room = room;
        let started = starting.start((place, &self.room), rehearsable, subject);
        let (running, kind, what) = started.map_err(|failure| self.explained(failure, grounds.limits))?;
        durable::crash_point("rehearse-server:started");
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
        let ready = wait_until_ready(running, grounds.patience, cancel, || rehearsable.ready(&settings, cancel));
        ready.map_err(|failure| self.explained(failure, grounds.limits))?;
        durable::crash_point("rehearse-server:ready");
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

    /// The same failure; or what was too small, where that is why.
    pub fn explained(&mut self, failure: Failure, limits: Limits) -> Failure {
        // What differs is no fault of the target.
        if matches!(failure.kind(), Kind::Verification | Kind::Interrupted | Kind::Terminated) {
            return failure;
        }
        let Some(running) = &mut self.running else {
            return shortage::explained(failure, "", &self.room, limits.memory);
        };
        let begun = Instant::now();
        let over = loop {
            match running.check() {
                Err(over) => break Some(over),
                Ok(()) if begun.elapsed() > GONE => break None,
                Ok(()) => _ = pause(LOOK, &|| false),
            }
        };
        let logs = running.logs();
        let failure = match over {
            Some(over) if !failure.full().contains(&over.to_string()) => {
                Failure::new(over.kind(), over.full()).because(failure.full())
            }
            _ => failure,
        };
        shortage::explained(failure, &logs, &self.room, limits.memory)
    }

    /// Starts an application beside the server, and asks it.
    pub fn probe(&self, probe: &Probe, entrance: Option<Entrance>, cancel: &Cancel) -> Result<String> {
        let (Some(running), Some(entrance)) = (&self.running, entrance) else {
            return Err(Failure::usage(
                "`http` is for servers: there is nothing here that an application could be started beside",
            ));
        };
        probe::ask(running, probe, entrance, &self.password, cancel)
    }

    /// The last lines that the server wrote.
    pub fn logs(&self) -> Option<String> {
        self.running.as_ref().map(Running::logs).filter(|logs| !logs.trim().is_empty())
    }

    /// Takes everything down.
    pub fn remove(self) -> Result<()> {
        durable::crash_point("rehearse:before-teardown");
        let is_served = self.running.is_some();
        let down = self.running.map_or(Ok(()), Running::teardown).and(self.directory.teardown());
        if is_served {
            durable::crash_point("rehearse-server:removed");
        }
        down
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

pub fn must_have_room(directory: &Path, bytes: u64) -> Result<()> {
    let found = rustix::fs::statvfs(directory).context(|| format!("cannot look at {}", directory.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= bytes {
        return Ok(());
    }
    let text = format!("there is no room for {bytes} bytes in {}: only {free} are free", directory.display());
    Err(Failure::failed(text).hint("Make room there, or let bkp have its cache on a larger disk"))
}
