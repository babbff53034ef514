//! Where a rehearsal takes place: what is made for it, and goes away with it.
//!
//! Everything here is made new, under a lease, and is what a [`Scratch`] is made of. That it is not the source is looked at
//! once more before anything is written.

use super::findings::Findings;
use super::server::{Seat, Start};
use crate::clock;
use crate::durable;
use crate::engine::{Ground, Rehearsable, Scratch, Subject};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::scratch::container::Limits;
use crate::exec::scratch::{Directory, Lease, Running};
use crate::repo::point::Image;
use jiff::{SignedDuration, Timestamp};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Nobody needs the target of a rehearsal any longer than this.
const LEASE: SignedDuration = SignedDuration::from_hours(24);
/// One that a user wants to look at stays for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is restored into a path is called so in the scratch directory.
const DATA: &str = "data";

/// Where things may be made, and for whom.
pub struct Grounds<'a> {
    pub state: &'a Path,
    /// For files.
    pub parent: &'a Path,
    pub run: &'a str,
    pub source: &'a str,
    /// Where the source was when it was dumped, as the point says.
    pub location: &'a str,
    pub keep: bool,
    /// Of the container that the source was in.
    pub image: Option<&'a Image>,
    pub limits: Limits,
}

/// A scratch target, with what it is made of.
pub struct Site<'a> {
    pub scratch: Scratch,
    /// A server that waits for its data.
    seat: Option<Seat<'a>>,
    server: Option<Running>,
    directory: Directory,
}

impl<'a> Site<'a> {
    pub fn make(
        grounds: &Grounds<'a>,
        ability: &dyn Rehearsable,
        subject: &Subject<'_>,
        findings: &mut Findings,
        cancel: &Cancel,
    ) -> Result<Self> {
        let ground = ability.ground(subject)?;
        let deadline = deadline(clock::now(), grounds.keep);
        let lease = Lease { state: grounds.state, run: grounds.run, source: grounds.source, deadline };
        let directory = Directory::make(&lease, grounds.parent)?;
        durable::crash_point("rehearse:target-made");
        must_not_be(directory.path(), Path::new(grounds.location))?;
        must_have_room(directory.path(), subject.bytes)?;
        let what = |what: &str| format!("a new {what} on this host");
        let isolation = "private to this user, removed afterwards".to_owned();
        let settings = || ability.settings(subject, None);
        let (scratch, seat, server) = match ground {
            Ground::File | Ground::Directory => {
                let kind = if ground == Ground::File { "file" } else { "directory" };
                findings.target(kind, what(kind), isolation);
                (Scratch::in_directory(&directory, DATA, settings()), None, None)
            }
            Ground::Server => {
                let seat = Seat::take(grounds, &lease)?;
                let start = Start { ability, subject, directory: &directory, data: None, cancel };
                let started = seat.start(&start, findings)?;
                (Scratch::of_server(&directory, started.settings), None, Some(started.server))
            }
            Ground::ServerOnData => {
                let seat = Seat::take(grounds, &lease)?;
                let place = seat.directory().unwrap_or(&directory);
                (Scratch::in_directory(place, DATA, settings()), Some(seat), None)
            }
        };
        Ok(Site { scratch, seat, server, directory })
    }

    /// Starts the server on what was loaded, where it is one that begins with its data.
    pub fn serve(
        &mut self,
        ability: &dyn Rehearsable,
        subject: &Subject<'_>,
        findings: &mut Findings,
        cancel: &Cancel,
    ) -> Result<()> {
        let Some(seat) = self.seat.take() else { return Ok(()) };
        let (directory, data) = (&self.directory, self.scratch.path());
        let started = seat.start(&Start { ability, subject, directory, data, cancel }, findings)?;
        self.scratch.now_served(started.settings);
        self.server = Some(started.server);
        Ok(())
    }

    /// Takes everything down.
    pub fn remove(self) -> Result<()> {
        durable::crash_point("rehearse:before-teardown");
        self.server.map_or(Ok(()), Running::teardown)?;
        self.directory.teardown()
    }

    /// Leaves it to the user; says where it is, and how to remove it.
    pub fn keep(self) -> Result<String> {
        match self.server {
            // Its password is in the directory.
            Some(server) => Ok(format!("{}; {}", server.keep()?, self.directory.keep()?)),
            None => self.directory.keep(),
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

fn must_have_room(directory: &Path, bytes: u64) -> Result<()> {
    let found = rustix::fs::statvfs(directory).context(|| format!("cannot look at {}", directory.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= bytes {
        return Ok(());
    }
    let text = format!("there is no room for {bytes} bytes in {}: only {free} are free", directory.display());
    Err(Failure::failed(text).hint("Make room there, or let bkp have its cache on a larger disk"))
}
