//! One backup of one source: lock, preflight, session, dump, commit.
//!
//! Whatever fails before the commit ends the session without a point and is told as it happened. What fails after it is a
//! note, because the backup exists. The engine's memory of a run is kept under the name of the point it belongs to, and
//! handed out only to the run that builds on that point.

use super::anomaly::{self, Inventory};
use super::gate::Ticket;
use super::sink::SessionSink;
use super::{Places, private};
use crate::clock;
use crate::durable;
use crate::engine::{DumpRun, Dumped, Engine, Fingerprint};
use crate::error::{Failure, Result};
use crate::event::{Context, Event, Outcome};
use crate::exec::docker;
use crate::host;
use crate::repo::names::CONFIGURATION;
use crate::repo::point::{Body, EngineInfo, Image, Point, StackRun};
use crate::repo::write::{Draft, Options, Session};
use crate::repo::writer::Writer;
use crate::repo::{Repository, held};
use jiff::Timestamp;
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// How often a dump is begun that fails of something passing.
const ATTEMPTS: usize = 3;

/// One source to back up, and where to.
pub struct Backup<'a> {
    pub repository: &'a Repository,
    pub writer: &'a Writer,
    pub places: &'a Places,
    pub source: &'a str,
    pub engine: &'a dyn Engine,
    pub options: Options,
    /// Read everything again even where nothing seems to have changed.
    pub reread: bool,
    /// [`SAFETY`](crate::repo::point::SAFETY), or nothing.
    pub purpose: Option<&'static str>,
    /// Versions of the credentials that are in force at its server: names and fingerprints, never values.
    pub credentials: Vec<serde_json::Value>,
    /// The others that are backed up together with this source.
    pub together: Option<Together<'a>>,
}

/// What a run shares with the others of its stack.
pub struct Together<'a> {
    pub stack: StackRun,
    /// For the gate where each waits until all are ready to dump; given back also when this run ends before.
    pub ticket: Cell<Option<Ticket<'a>>>,
}

/// A backup that exists.
#[derive(Debug)]
pub struct Done {
    pub point: Point,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
    pub fingerprint: Fingerprint,
    /// What somebody should look at before anything old is deleted.
    pub anomalies: Vec<String>,
    /// Until when the store refuses to delete it.
    pub locked_until: Option<Timestamp>,
}

impl Backup<'_> {
    pub fn run(&self, context: Context<'_>, now: Timestamp) -> Result<Done> {
        let _lock = self.places.lock(self.source)?;
        self.run_locked(context, now)
    }

    /// The same for a caller that holds the lock of the source already.
    pub(super) fn run_locked(&self, context: Context<'_>, now: Timestamp) -> Result<Done> {
        let source = || self.source.to_owned();
        let started = std::time::Instant::now();
        context.events.emit(&Event::RunStarted { run: "backup", source: source(), at: now });
        // What is not as it should be around the source may be the reason.
        let done = self.attempts(context, now).inspect_err(|_| self.warn(context, &self.engine.degraded()));
        let outcome = match &done {
            Ok(done) if done.warnings.is_empty() => Outcome::Done,
            Ok(_) => Outcome::DoneWithWarnings,
            Err(_) => Outcome::Failed,
        };
        let seconds = started.elapsed().as_secs_f64();
        context.events.emit(&Event::RunFinished { run: "backup", source: source(), outcome, seconds });
        done
    }

    /// Begins again when what was in the way is gone by itself, such as a table that was changed while it was dumped.
    fn attempts(&self, context: Context<'_>, now: Timestamp) -> Result<Done> {
        for _ in 1..ATTEMPTS {
            match self.attempt(context, now) {
                Err(failure) if failure.is_passing() => {
                    self.warn(context, &[format!("{}; the dump begins again", failure.full())]);
                }
                other => return other,
            }
        }
        self.attempt(context, now)
    }

    fn attempt(&self, context: Context<'_>, now: Timestamp) -> Result<Done> {
        self.phase(context, "preflight");
        self.engine.preflight()?;
        let image = self.engine.image()?.map(|docker::Image { name, digest }| Image { name, digest });
        context.cancel.check()?;
        let scratch = self.places.scratch(self.source)?;
        let writer = self.writer.again()?;
        let mut session = Session::begin(self.repository, &writer, self.source, self.options, context.cancel, now)?;
        let previous = session.previous().cloned();
        let run = DumpRun {
            context,
            scratch: scratch.path().to_owned(),
            memory: previous.as_ref().map(|p| self.memory_of(p)).filter(|path| path.exists()),
            next_memory: scratch.path().join("next-memory"),
            reread: self.reread,
        };
        if let Some(ticket) = self.together.as_ref().and_then(|together| together.ticket.take()) {
            self.phase(context, "wait for the others");
            ticket.pass(context.cancel)?;
        }
        self.phase(context, "dump");
        let mut dumped = match self.dump(&mut SessionSink(&mut session), &run) {
            Ok(dumped) => dumped,
            Err(failure) => {
                // The failure that matters is the first one.
                let _ = session.abandon();
                return Err(failure);
            }
        };
        self.phase(context, "commit");
        dumped.warnings.extend(anomaly::shrunk(previous.as_ref().map(|p| p.bytes), session.bytes()));
        // What is about to be replaced may well be in a bad way.
        let regular = previous.as_ref().filter(|_| self.purpose.is_none());
        let dropped = regular.and_then(|previous| self.dropped(previous, &dumped.inventory));
        dumped.warnings.extend(dropped.clone());
        dumped.notes.extend(session.notes());
        dumped.warnings.extend(self.engine.degraded());
        let (mut warnings, mut notes) = (dumped.warnings.clone(), dumped.notes.clone());
        let (fingerprint, inventory) = (dumped.fingerprint.clone(), dumped.inventory.clone());
        let point = session.commit(self.draft(dumped, image, now)?)?;
        if let Err(failure) = self.keep_memory(&run.next_memory, &point, previous.as_ref()) {
            notes.push(format!("the next run will read everything again: {}", failure.full()));
        }
        self.places.remember_inventory(&point, inventory);
        self.warn(context, &warnings);
        context.events.emit(&Event::Committed {
            source: self.source.to_owned(),
            point: point.point.clone(),
            bytes: point.bytes,
            added: point.added,
        });
        let odd =
            previous.iter().flat_map(|previous| anomaly::of(previous, &point, previous.epoch < writer.oldest_reused));
        let anomalies: Vec<String> = odd.chain(dropped).collect();
        warnings.extend(self.held(&anomalies, context, now));
        let locked_until = self.options.retain.map(|retain| retain.until);
        Ok(Done { point, warnings, notes, fingerprint, anomalies, locked_until })
    }

    /// A warning, where that cannot be known elsewhere.
    fn held(&self, anomalies: &[String], context: Context<'_>, now: Timestamp) -> Option<String> {
        let failure = self.hold(anomalies, now).err()?;
        let text = format!("only this host knows that it is held, and another one may prune it: {}", failure.full());
        self.warn(context, std::slice::from_ref(&text));
        Some(text)
    }

    /// Whoever prunes is to know of it, and that may be another host.
    fn hold(&self, anomalies: &[String], now: Timestamp) -> Result<()> {
        if anomalies.is_empty() || self.source == CONFIGURATION {
            return Ok(());
        }
        let (repository, writer) = (self.repository, self.writer);
        let known = held::of(repository, &writer.keyring(), &writer.trust(), writer.id())?;
        held::write(repository, writer, &known, (writer.id(), self.source), (true, &anomalies.join("; ")), now)
    }

    fn dropped(&self, previous: &Point, inventory: &Inventory) -> Option<String> {
        anomaly::dropped(self.engine.kind(), &self.places.inventory(previous)?, inventory)
    }

    /// Keeps the containers that write still where that was asked for, not longer than the reading takes.
    fn dump(&self, sink: &mut SessionSink<'_, '_>, run: &DumpRun<'_>) -> Result<Dumped> {
        let Some(how) = self.engine.quiesce() else { return self.engine.dump(sink, run) };
        let writers = self.engine.writers()?;
        writers.iter().filter(|container| container.is_alive()).try_for_each(|container| container.may_be(how))?;
        let held = self.places.hold(how, &writers)?;
        let names = held.names();
        if names.is_empty() {
            self.engine.must_be_at_rest()?;
        }
        let dumped = self.engine.dump(sink, run);
        let released = held.release();
        let mut dumped = dumped.inspect_err(|_| self.warn(run.context, &released.warnings))?;
        match (names.is_empty(), writers.is_empty()) {
            (false, _) => {
                let stood = released.stood.as_secs_f64();
                dumped.notes.push(format!("{} for {stood:.1} s: {}", how.done(), names.join(", ")));
            }
            (true, false) => {
                let names: Vec<&str> = writers.iter().map(|container| container.name.as_str()).collect();
                dumped.notes.push(format!("nobody had to be {}: {} did not run", how.done(), names.join(", ")));
            }
            (true, true) => dumped.warnings.push(format!(
                "nobody was {}: no container has {} mounted for writing, so whatever writes there went on",
                how.done(),
                self.engine.location()
            )),
        }
        dumped.warnings.extend(released.warnings);
        Ok(dumped)
    }

    fn warn(&self, context: Context<'_>, texts: &[String]) {
        for text in texts {
            context.events.emit(&Event::Warning { source: self.source.to_owned(), text: text.clone() });
        }
    }

    fn phase(&self, context: Context<'_>, phase: &'static str) {
        context.events.emit(&Event::Phase { source: self.source.to_owned(), phase });
    }

    fn draft(&self, dumped: Dumped, image: Option<Image>, started_at: Timestamp) -> Result<Draft> {
        let fingerprint = serde_json::to_value(&dumped.fingerprint)
            .map_err(|e| Failure::failed("cannot write the fingerprint").because(e))?;
        let body = Body {
            source_location: self.engine.location(),
            fingerprint,
            inventory: dumped.inventory,
            warnings: dumped.warnings,
            notes: dumped.notes,
            position: dumped.position,
            details: dumped.details,
            restore: dumped.restore_hint,
            credentials: self.credentials.clone(),
            ..Body::default()
        };
        Ok(Draft {
            engine: EngineInfo { kind: self.engine.kind().to_owned(), version: dumped.version, image },
            started_at,
            consistent_at: dumped.consistent_at,
            written_at: clock::now(),
            host: host::name(),
            stack: self.together.as_ref().map(|together| together.stack.clone()),
            purpose: self.purpose.map(str::to_owned),
            body,
        })
    }

    fn memory_of(&self, point: &Point) -> PathBuf {
        self.places.memory().join(format!("{}.{}", self.source, point.point))
    }

    /// Puts what the engine wrote for its next run under the new point's name, and removes what belongs to older points. That of
    /// the point before stays: should this run's clock turn out wrong, the next one builds on that again.
    fn keep_memory(&self, written: &Path, point: &Point, before: Option<&Point>) -> Result<()> {
        let directory = self.places.memory();
        private(&directory)?;
        let kept = self.memory_of(point);
        let what = || format!("cannot keep {}", kept.display());
        if written.exists() {
            durable::replace(written, &kept).map_err(|e| Failure::from_io(e, what))?;
        }
        let is_old = |of: &str| of != point.point && before.is_none_or(|p| of != p.point);
        let of_this_source =
            |name: &str| name.rsplit_once('.').is_some_and(|(source, of)| source == self.source && is_old(of));
        for entry in std::fs::read_dir(&directory).map_err(|e| Failure::from_io(e, what))?.flatten() {
            if entry.file_name().to_str().is_some_and(of_this_source) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}
