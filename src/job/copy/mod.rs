//! Copies: what the repository has is carried into a further store, and how far that has come is seen by looking there.
//!
//! No state is kept of a copy: what it lacks is the difference of two listings, so whatever was interrupted or failed is
//! made up for by the next run. The newest points go first. A point that is damaged in the repository is left out, told,
//! and does not keep the others from being carried. The point exists in the repository before any of this begins, so a copy
//! that fails loses nothing.

mod kept;
pub mod state;

use super::Places;
use super::lock::Kept;
use crate::backoff;
use crate::durable::Lock;
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context, Event};
use crate::repo::catalog::{self, Wanted};
use crate::repo::chain::{self, Seen};
use crate::repo::check::title;
use crate::repo::collect::forgotten::{self, Removed};
use crate::repo::copy::{self, Carried, Carrying, Shelf};
use crate::repo::keys::Keyring;
use crate::repo::objects::Objects;
use crate::repo::point::Point;
use crate::repo::sign::Trust;
use crate::repo::{Repository, names};
use crate::store::{self, Entry, Key, Retain};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One store that is to have what another one has.
pub struct Copy<'a> {
    pub name: &'a str,
    pub from: &'a Repository,
    pub to: &'a Repository,
    /// They open the points, and the indexes that tell which objects those need.
    pub keys: &'a Keyring,
    pub trust: &'a Trust,
    pub places: &'a Places,
    /// Only points of this writer; the others' are closed to it.
    pub writer: Option<&'a str>,
    pub source: Option<&'a str>,
    /// What the copy keeps of its own, where it does not keep all that the repository has.
    pub kept: Option<Kept<'a>>,
    /// Object lock there of what a point needs.
    pub lock: &'a dyn Fn(&Point) -> Option<Retain>,
    /// Look into every point and object that is there, and put right what is not what it should be.
    pub repair: bool,
    /// What was forgotten there on purpose is not brought back.
    pub leave_forgotten: bool,
    /// How long to wait while another run of this host brings something there: it may have begun before the newest point.
    pub patience: Duration,
}

/// How often it is looked whether the other run has ended.
const LOOK: Duration = Duration::from_millis(200);

/// What was done, also when it came to an end too early.
#[derive(Default)]
pub struct Copied {
    pub points: Vec<Point>,
    pub carried: Carried,
    /// Points that could not be carried because of what they are in the repository.
    pub failed: Vec<(String, Failure)>,
    /// How many points stay away because they were forgotten there on purpose.
    pub forgotten: u64,
    /// What stands beside the points and was left out, with the reason.
    pub left_out: Vec<String>,
    /// Why no more was tried.
    pub stopped: Option<Failure>,
}

impl Copied {
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.left_out.is_empty() && self.stopped.is_none()
    }
}

impl Copy<'_> {
    pub fn run(&self, context: Context<'_>, now: Timestamp) -> Result<Copied> {
        let _lock = self.turn(context.cancel)?;
        copy::must_be_of(self.to, self.from)?;
        let mut copied = Copied { left_out: copy::bring(self.from, self.to, self.trust)?, ..Copied::default() };
        let mut shelves = self.shelves()?;
        for (point, sealed) in self.wanted(&shelves, &mut copied, now)? {
            let there = shelves.entry(point.writer.clone()).or_default();
            if let Err(failure) = self.carry(&point, &sealed, there, context, &mut copied) {
                copied.stopped = Some(failure);
                break;
            }
        }
        if let Err(failure) = self.look_again(&mut copied, context) {
            copied.stopped.get_or_insert(failure);
        }
        Ok(copied)
    }

    fn turn(&self, cancel: &Cancel) -> Result<Lock> {
        let until = Instant::now() + self.patience;
        loop {
            match self.places.lock_copy(self.name) {
                Err(failure) if failure.kind() == Kind::Locked && Instant::now() < until => {
                    backoff::pause(LOOK, &|| cancel.check().is_err());
                    cancel.check()?;
                }
                turn => return turn,
            }
        }
    }

    /// What the copy holds, by writer.
    fn shelves(&self) -> Result<BTreeMap<String, Shelf>> {
        let writers = catalog::writers(self.from)?.0.into_iter().map(|info| info.writer);
        let meant = writers.filter(|writer| self.writer.is_none_or(|own| own == writer));
        meant.map(|writer| Ok((writer.clone(), copy::shelf(&*self.to.store, &names::of_writer(&writer))?))).collect()
    }

    /// The points that the copy lacks, newest first, with their objects.
    fn wanted(
        &self,
        shelves: &BTreeMap<String, Shelf>,
        copied: &mut Copied,
        now: Timestamp,
    ) -> Result<Vec<(Point, Vec<u8>)>> {
        let mut missing: BTreeSet<Key> = BTreeSet::new();
        for (writer, shelf) in shelves {
            let listed = self.from.store.list(&names::points(writer, self.source))?;
            let lacks = |key: &Key, size: u64| self.repair || shelf.get(key) != Some(&size);
            let keeps = self.keeps(writer, shelf, &listed, now)?;
            let meant = |key: &Key| keeps.as_ref().is_none_or(|keeps| keeps.contains(key));
            missing.extend(listed.iter().filter(|e| lacks(&e.key, e.size) && meant(&e.key)).map(|e| e.key.clone()));
        }
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let (source, writer) = (self.source, self.writer);
        let wanted = Wanted { source, writer, among: Some(&missing), ..Wanted::default() };
        let found = catalog::list(self.from, self.keys, self.trust, wanted)?;
        copied.failed.extend(found.broken.into_iter().map(|(key, failure)| (key.to_string(), failure)));
        let removed = self.removed(shelves)?;
        let mut points = Vec::new();
        for point in found.points {
            let key = point.key();
            let is_there = shelves.get(&point.writer).is_some_and(|shelf| shelf.contains_key(&key));
            if !is_there && removed.get(&point.writer).is_some_and(|removed| removed.includes(&point)) {
                copied.forgotten += 1;
                continue;
            }
            let sealed = store::read(&*self.from.store, &key)?;
            // Between two looks it could have been exchanged.
            if found.hashes.get(&key) == Some(&names::sha256(&sealed)) {
                points.push((point, sealed));
            }
        }
        points.sort_by_key(|(point, _)| std::cmp::Reverse(point.consistent_at));
        Ok(points)
    }

    /// By writer, what was forgotten in the other store.
    fn removed(&self, shelves: &BTreeMap<String, Shelf>) -> Result<BTreeMap<String, Removed>> {
        let writers = shelves.keys().filter(|_| self.leave_forgotten);
        let of = |writer: &String| Ok((writer.clone(), forgotten::removed(self.to, self.keys, self.trust, writer)?));
        writers.map(of).collect()
    }

    /// What the rules of the copy keep, of all that is in either store.
    fn keeps(&self, writer: &str, shelf: &Shelf, listed: &[Entry], now: Timestamp) -> Result<Option<BTreeSet<Key>>> {
        let Some(kept) = self.kept else { return Ok(None) };
        let pins = self.from.store.list(&names::pinned_points(writer))?;
        let pins = kept::pins(pins.iter().map(|entry| &entry.key));
        let there = copy::points(shelf, writer).map(|(key, _)| key);
        let wanted = kept::wanted(kept, there.chain(listed.iter().map(|entry| &entry.key)), &pins, now);
        Ok(Some(wanted.into_iter().cloned().collect()))
    }

    /// A failure from here is about a store, and ends the run; what is wrong with the point itself is noted.
    fn carry(
        &self,
        point: &Point,
        sealed: &[u8],
        there: &mut Shelf,
        context: Context<'_>,
        copied: &mut Copied,
    ) -> Result<()> {
        context.events.emit(&Event::Phase { source: point.source.clone(), phase: "copy" });
        let carried = Objects::of(self.from, point, self.keys).and_then(|objects| {
            let (from, to, retain, reread) = (self.from, self.to, (self.lock)(point), self.repair);
            let carrying = Carrying { from, to, point, sealed, objects: &objects, there, retain, reread };
            let carried = carrying.run(context)?;
            there.extend(objects.all().map(|pin| (pin.key.clone(), pin.size)));
            Ok(carried)
        });
        match carried {
            Ok(carried) => {
                let (copy, source, point_name) = (self.name.to_owned(), point.source.clone(), point.point.clone());
                copied.carried.add(carried);
                if carried.objects > 0 {
                    copied.points.push(point.clone());
                }
                // Without it a prune there knows less, and nothing is lost.
                let _ = self.remember(point);
                context.events.emit(&Event::Copied { copy, source, point: point_name, bytes: carried.bytes });
                Ok(())
            }
            Err(failure) if failure.kind() == Kind::Verification => {
                copied.failed.push((title(point), failure));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// For whoever prunes there: a listing without it is not to be believed.
    fn remember(&self, point: &Point) -> Result<()> {
        let directory = self.places.brought(self.name, &point.writer);
        let is_newer = |seen: &Seen| seen.source == point.source && seen.sequence >= point.sequence;
        if chain::remembered(&directory).iter().any(is_newer) {
            return Ok(());
        }
        let (source, name) = (point.source.clone(), point.point.clone());
        chain::remember(&directory, &Seen { source, point: name, sequence: point.sequence })
    }

    /// What was there at the beginning may have been deleted by somebody meanwhile: then it is brought again.
    fn look_again(&self, copied: &mut Copied, context: Context<'_>) -> Result<()> {
        if copied.points.is_empty() {
            return Ok(());
        }
        let mut shelves = self.shelves()?;
        for point in &copied.points {
            let objects = Objects::of(self.from, point, self.keys)?;
            let there = shelves.entry(point.writer.clone()).or_default();
            if copy::lacking(&objects, there).next().is_none() && there.contains_key(&point.key()) {
                continue;
            }
            let sealed = store::read(&*self.from.store, &point.key())?;
            let (from, to, retain) = (self.from, self.to, (self.lock)(point));
            let again = Carrying { from, to, point, sealed: &sealed, objects: &objects, there, retain, reread: false };
            copied.carried.add(again.run(context)?);
            there.extend(objects.all().map(|pin| (pin.key.clone(), pin.size)));
        }
        Ok(())
    }
}
