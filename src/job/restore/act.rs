//! The act of a restore: it does what a [`Plan`] says, and nothing else.
//!
//! In place, the containers that write stop first, then the safety backup is made, then the source is replaced: nothing is
//! written that neither the safety backup nor the source has. The containers go on however it ends.

use super::{Destination, Plan};
use crate::durable::Lock;
use crate::engine::{Confirmed, Engine, LoadRun, Loaded, OnDifference, Part, Returning, Target};
use crate::error::{Failure, Kind, Result};
use crate::event::{Context, Event, Outcome};
use crate::exec::docker::{Quiet, WritingContainer};
use crate::job::backup::{Backup, Done};
use crate::job::quiesce::Held;
use crate::job::recorder::Recorder;
use crate::job::{Places, PointOrigin};
use crate::repo::Repository;
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::read::PointReader;
use jiff::Timestamp;

/// What an act needs besides its plan.
pub struct Restore<'a, 'b> {
    pub repository: &'a Repository,
    pub keys: &'a Keyring,
    pub places: &'a Places,
    pub engine: &'a dyn Engine,
    pub recorder: &'a Recorder,
    /// How to back up the source first; required in place.
    pub safety: Option<Backup<'a>>,
    /// Go on when the safety backup fails, because the source is gone or broken.
    pub without_safety: bool,
    /// How users come back that the server does not have.
    pub returning: Option<Returning>,
    /// Told before anything of the target is changed, and not where it does not come so far.
    pub begins: &'b dyn Fn(),
}

#[derive(Debug)]
pub struct Restored {
    pub loaded: Loaded,
    pub safety: Option<Done>,
    pub warnings: Vec<String>,
}

/// A source that is to be replaced, and that nobody changes meanwhile.
#[derive(Default)]
struct Live {
    safety: Option<Done>,
    held: Option<Held>,
    warnings: Vec<String>,
    _lock: Option<Lock>,
}

impl Restore<'_, '_> {
    pub fn run(
        &self,
        plan: &Plan,
        point: &Point,
        confirmed: Option<Confirmed>,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Restored> {
        let source = || point.source.clone();
        let started = std::time::Instant::now();
        context.events.emit(&Event::RunStarted { run: "restore", source: source(), at: now });
        let restored = self.attempt(plan, point, confirmed, context, now);
        if restored.is_err() {
            // What is not as it should be around the target may be the reason.
            self.warn(context, point, &self.engine.degraded());
        }
        let outcome = match &restored {
            Ok(r) if r.warnings.is_empty() => Outcome::Done,
            Ok(_) => Outcome::DoneWithWarnings,
            Err(_) => Outcome::Failed,
        };
        let seconds = started.elapsed().as_secs_f64();
        context.events.emit(&Event::RunFinished { run: "restore", source: source(), outcome, seconds });
        restored
    }

    fn attempt(
        &self,
        plan: &Plan,
        point: &Point,
        confirmed: Option<Confirmed>,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Restored> {
        let phase = |phase| self.phase(context, point, phase);
        phase("open");
        let reader = PointReader::open(self.repository, point, self.keys, context.cancel)?;
        let _target = self.places.lock_target(&plan.act.target)?;
        let mut live = None;
        let target = match &plan.act.target {
            Destination::New(path) => Target::New(path.clone()),
            Destination::NewVolume(name) => Target::NewVolume(name.clone()),
            Destination::NewDatabases { naming, .. } => Target::NewDatabases(naming.clone()),
            Destination::Command => Target::Command,
            Destination::InPlace(_) => {
                let confirmed = confirmed.ok_or_else(|| not_confirmed(&point.source))?;
                live = Some(self.make_ready(point, context, now)?);
                Target::Live(confirmed)
            }
        };
        phase("restore");
        if plan.act.part == Part::Whole {
            context.meter.total_bytes.store(plan.bytes, std::sync::atomic::Ordering::Relaxed);
        }
        // One with warnings may lack something.
        let safety = live.as_ref().and_then(|live| live.safety.as_ref()).filter(|done| done.warnings.is_empty());
        let copy = safety.map(|done| &done.fingerprint);
        let run = LoadRun {
            context,
            part: plan.act.part.clone(),
            copy,
            on_difference: OnDifference::Fail,
            returning: self.returning.as_ref(),
        };
        (self.begins)();
        let loaded = self.engine.load(&PointOrigin::new(reader), &target, &run);
        let Live { safety, held, mut warnings, .. } = live.unwrap_or_default();
        warnings.extend(held.map(|held| held.release().warnings).unwrap_or_default());
        let loaded = loaded.inspect_err(|_| self.warn(context, point, &warnings))?;
        warnings.extend(loaded.warnings.iter().cloned().chain(self.engine.degraded()));
        self.warn(context, point, &warnings);
        Ok(Restored { loaded, safety, warnings })
    }

    /// Nobody writes any more when the safety backup begins: what came after it would be in no backup.
    fn make_ready(&self, point: &Point, context: Context<'_>, now: Timestamp) -> Result<Live> {
        let phase = |phase| self.phase(context, point, phase);
        let mut live = Live { _lock: Some(self.places.lock(&point.source)?), ..Live::default() };
        let (writers, unseen) = writers(self.engine)?;
        live.warnings.extend(unseen);
        if !writers.is_empty() {
            phase("stop the containers that write");
            live.held = Some(self.places.hold(Quiet::Stop, &writers)?);
        }
        phase("safety backup");
        match self.back_up_first(context, now) {
            Ok(done) => live.safety = Some(done),
            Err(failure) if self.without_safety && !is_signal(&failure) => {
                live.warnings.push(format!("there is no safety backup: {}", failure.full()));
            }
            Err(failure) => return Err(failure),
        }
        Ok(live)
    }

    fn phase(&self, context: Context<'_>, point: &Point, phase: &'static str) {
        context.events.emit(&Event::Phase { source: point.source.clone(), phase });
    }

    fn warn(&self, context: Context<'_>, point: &Point, texts: &[String]) {
        for text in texts {
            context.events.emit(&Event::Warning { source: point.source.clone(), text: text.clone() });
        }
    }

    fn back_up_first(&self, context: Context<'_>, now: Timestamp) -> Result<Done> {
        let refused = |why: Failure| {
            if is_signal(&why) {
                return why;
            }
            Failure::new(Kind::Refused, "the safety backup could not be made, so nothing was restored")
                .because(why.full())
                .hint("Repair that; or, when what is there is worth nothing any more, add --no-safety-backup")
        };
        let Some(safety) = &self.safety else {
            return Err(refused(Failure::failed("this host is no writer of the repository")));
        };
        self.recorder.safety_backup(safety.source, || safety.run_locked(context, now)).map_err(refused)
    }
}

fn is_signal(failure: &Failure) -> bool {
    matches!(failure.kind(), Kind::Interrupted | Kind::Terminated)
}

/// The refusal to replace a source that nobody named.
pub fn not_confirmed(source: &str) -> Failure {
    Failure::new(Kind::Refused, format!("this may replace what {source} is now"))
        .hint(format!("Say so with --confirm {source}; in place, a safety backup is made first"))
}

/// Names of the containers that an act in place stops. Refuses those that it must not stop; tells what cannot be found out.
pub fn to_be_stopped(engine: &dyn Engine) -> Result<(Vec<String>, Option<String>)> {
    let (writers, unseen) = writers(engine)?;
    let alive = writers.into_iter().filter(WritingContainer::is_alive);
    Ok((alive.map(|container| container.name).collect(), unseen))
}

/// Whoever may not ask the container engine may still own the files: that is told, and no more.
fn writers(engine: &dyn Engine) -> Result<(Vec<WritingContainer>, Option<String>)> {
    match engine.writers() {
        Ok(writers) => {
            writers.iter().filter(|container| container.is_alive()).try_for_each(|c| c.may_be(Quiet::Stop))?;
            Ok((writers, None))
        }
        Err(failure) if failure.kind() == Kind::Key => {
            let text = format!("containers that write there are not known, and not stopped: {}", failure.full());
            Ok((Vec::new(), Some(text)))
        }
        Err(failure) => Err(failure),
    }
}
