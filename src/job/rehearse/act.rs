//! The act: open, make a place, load, compare, ask, take down. Each step is measured, and whatever ends it is a finding.

use super::Plan;
use super::findings::Findings;
use super::measure::{Phases, Reading, Timed};
use super::site::{Grounds, Site};
use crate::clock;
use crate::durable;
use crate::engine::{self, LoadRun, OnDifference, Origin, Part, Question, Rehearsable, Subject};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::{Context, Event, Outcome};
use crate::exec::scratch::container::Limits;
use crate::job::{Places, PointOrigin};
use crate::journal::Asserted;
use crate::policy::{self, Assertion, Rehearser};
use crate::repo::Repository;
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::proof::{self, Level};
use crate::repo::read::PointReader;
use crate::repo::writer::Writer;
use crate::secret::Secret;
use jiff::Timestamp;
use std::io::Read;
use std::time::Instant;

/// What a rehearsal needs besides its plan.
pub struct Rehearse<'a> {
    pub repository: &'a Repository,
    pub keys: &'a Keyring,
    pub places: &'a Places,
    /// Who signs the proof; without one none is recorded in the repository.
    pub writer: Option<&'a Writer>,
    pub assertions: &'a [Assertion],
    /// For scratch servers that are sealed.
    pub unseal_keys: &'a [Secret],
    /// What this host gives to scratch servers.
    pub rehearser: &'a Rehearser,
    /// Leave the scratch target to the user.
    pub keep: bool,
}

impl Rehearse<'_> {
    /// Never fails: why it came no further is in the findings.
    pub fn run(&self, plan: &Plan, point: &Point, context: Context<'_>, now: Timestamp) -> Findings {
        let (begun, source) = (Instant::now(), || point.source.clone());
        context.events.emit(&Event::RunStarted { run: "rehearse", source: source(), at: now });
        let (mut findings, mut phases) = (Findings::begun(plan), Phases::default());
        let ended = self.attempt(plan, point, (&mut findings, &mut phases), context);
        findings.measured(&phases, begun.elapsed().as_secs_f64());
        let ended = ended.and_then(|()| self.prove(point, &findings));
        findings.failure = ended.err().map(of_rehearsal);
        for text in &findings.warnings {
            context.events.emit(&Event::Warning { source: source(), text: text.clone() });
        }
        let outcome = match (&findings.failure, findings.warnings.is_empty()) {
            (Some(_), _) => Outcome::Failed,
            (None, false) => Outcome::DoneWithWarnings,
            (None, true) => Outcome::Done,
        };
        let seconds = begun.elapsed().as_secs_f64();
        context.events.emit(&Event::RunFinished { run: "rehearse", source: source(), outcome, seconds });
        findings
    }

    fn prove(&self, point: &Point, findings: &Findings) -> Result<()> {
        match (self.writer, findings.reached) {
            (Some(writer), Some(level)) => proof::write(self.repository, writer, point, level, clock::now()),
            _ => Ok(()),
        }
    }

    fn attempt(
        &self,
        plan: &Plan,
        point: &Point,
        (findings, phases): (&mut Findings, &mut Phases),
        context: Context<'_>,
    ) -> Result<()> {
        self.phase(context, point, "open");
        let (reading, repository) = Reading::of(self.repository);
        let reader = reading.timed(|| PointReader::open(&repository, point, self.keys, context.cancel));
        let reader = reader?;
        let location = reader.body.source_location.clone();
        let origin = PointOrigin::new(reader);
        let timed = Timed { origin: &origin, reading: &reading, workers: repository.workers() };
        let ability = engine::rehearsable(&point.engine.kind).filter(|_| plan.level > Level::Readable);
        let Some(ability) = ability else {
            self.phase(context, point, "read");
            let read = read_all(&timed, context);
            (phases.fetch, phases.decode) = reading.seconds();
            read?;
            findings.reach(Level::Readable);
            return Ok(());
        };
        let with_application =
            plan.level == Level::Checked && self.assertions.iter().any(|a| matches!(a.question, Question::Http(_)));
        let version = point.engine.version.as_str();
        let (bytes, unseal_keys) = (point.bytes, self.unseal_keys);
        let subject = Subject { origin: &origin, version, bytes, with_application, unseal_keys };
        let run = durable::random_hex(8);
        let grounds = Grounds {
            state: &self.places.state,
            parent: &self.places.rehearsals()?,
            run: &run,
            point,
            location: &location,
            limits: Limits { memory: self.rehearser.memory, processors: self.rehearser.processors },
            patience: self.rehearser.patience,
            keep: self.keep,
        };
        self.phase(context, point, "make a scratch target");
        let mut site = Site::make(&grounds, (ability, &subject), findings, context.cancel)?;
        let worked = self.work(plan, (&mut site, &grounds), (ability, &subject, &timed), (findings, phases), context);
        if worked.is_err() {
            self.keep_log(&point.source, &site, findings);
        }
        self.phase(context, point, "take down");
        let down = if self.keep { site.keep().map(Some) } else { site.remove().map(|()| None) };
        match down {
            Ok(kept) => findings.record.kept = kept,
            Err(left) => findings.warnings.push(format!(
                "the scratch target could not be removed; `bkp doctor --reap` tries again: {}",
                left.full()
            )),
        }
        worked
    }

    fn work(
        &self,
        plan: &Plan,
        (site, grounds): (&mut Site, &Grounds<'_>),
        (ability, subject, timed): (&dyn Rehearsable, &Subject<'_>, &Timed<'_>),
        (findings, phases): (&mut Findings, &mut Phases),
        context: Context<'_>,
    ) -> Result<()> {
        let phase = |phase| context.events.emit(&Event::Phase { source: plan.source.clone(), phase });
        phase("restore");
        context.meter.total_bytes.store(plan.bytes, std::sync::atomic::Ordering::Relaxed);
        let (begun, before) = (Instant::now(), timed.reading.seconds());
        let engine = engine::build(site.scratch.settings());
        let run = LoadRun {
            context,
            part: Part::Whole,
            copy: None,
            on_difference: OnDifference::LeaveToRehearsal,
            returning: None,
        };
        let loaded = engine.load(timed, &site.scratch.target(), &run);
        let (wall, after) = (begun.elapsed().as_secs_f64(), timed.reading.seconds());
        (phases.fetch, phases.decode) = after;
        let reading = after.0 + after.1 - before.0 - before.1;
        let loading = (wall - reading).max(0.0);
        phases.index = loaded.as_ref().map_or(0.0, |loaded| loaded.index_seconds).min(loading);
        phases.load = loading - phases.index;
        let loaded = loaded.map_err(|failure| site.explained(failure, grounds.limits))?;
        durable::crash_point("rehearse:loaded");
        let begun = Instant::now();
        site.loaded(grounds, (ability, subject), findings, context.cancel)?;
        if site.is_served_after_the_load() {
            phases.load += begun.elapsed().as_secs_f64();
        }
        findings.reach(Level::Loaded);
        findings.notes.extend(loaded.warnings);
        if plan.level < Level::Equal {
            return Ok(());
        }
        let begun = Instant::now();
        let verified = self.verify(plan, site, (ability, subject), findings, context);
        phases.verify = begun.elapsed().as_secs_f64();
        verified.map_err(|failure| site.explained(failure, grounds.limits))
    }

    fn verify(
        &self,
        plan: &Plan,
        site: &Site,
        (ability, subject): (&dyn Rehearsable, &Subject<'_>),
        findings: &mut Findings,
        context: Context<'_>,
    ) -> Result<()> {
        let phase = |phase| context.events.emit(&Event::Phase { source: plan.source.clone(), phase });
        let scratch = &site.scratch;
        phase("compare");
        let compared = findings.compared(ability.compare(subject, scratch, context)?);
        durable::crash_point("rehearse:compared");
        if plan.level < Level::Checked {
            return compared;
        }
        phase("check");
        let mut assertions = Vec::new();
        for assertion in self.assertions {
            let answer = match &assertion.question {
                Question::Run(command) => scratch.run(command, context.cancel),
                Question::Http(probe) => site.probe(probe, ability.entrance(), context.cancel),
                question => ability.ask(scratch, question, context.cancel),
            };
            context.cancel.check()?;
            let (holds, found) = match answer {
                Ok(answer) => assertion.expected.judge(&answer),
                Err(failure) => (false, policy::one_line(&failure.full())),
            };
            assertions.push(Asserted { name: assertion.name.clone(), holds, found });
        }
        let asserted = findings.asserted(assertions);
        compared.and(asserted)
    }

    /// The last words of a server that a point could not be loaded into, for whoever looks into it.
    fn keep_log(&self, source: &str, site: &Site, findings: &mut Findings) {
        let Some(logs) = site.logs() else { return };
        let directory = self.places.state.join("rehearsals");
        let path = directory.join(format!("{source}.log"));
        let written =
            durable::create_private_directory(&directory).and_then(|()| durable::write(&path, logs.as_bytes(), 0o600));
        findings.warnings.push(match written {
            Ok(()) => format!("the end of the scratch server's log is in {}", path.display()),
            Err(error) => format!("the log of the scratch server could not be kept: {error}"),
        });
    }

    fn phase(&self, context: Context<'_>, point: &Point, phase: &'static str) {
        context.events.emit(&Event::Phase { source: point.source.clone(), phase });
    }
}

/// Reads everything there is in a point to its end.
fn read_all(origin: &dyn Origin, context: Context<'_>) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    for name in origin.streams() {
        let mut stream = origin.stream(&name)?;
        loop {
            context.cancel.check()?;
            let read = stream.read(&mut buffer).context(|| format!("cannot read the stream {name}"))?;
            if read == 0 {
                break;
            }
            context.meter.add(read as u64, 0);
        }
    }
    let Some(tree) = origin.tree() else { return Ok(()) };
    std::io::copy(&mut tree.catalogue()?, &mut std::io::sink()).context(|| "cannot read the catalogue".into())?;
    tree.chunks(None, &|_, bytes| {
        context.meter.add(bytes.len() as u64, 0);
        context.cancel.check()
    })
}

/// Whatever kept a point from being restored is what a rehearsal is there to find.
fn of_rehearsal(failure: Failure) -> Failure {
    match failure.kind() {
        Kind::Failed | Kind::Refused => {
            let found = Failure::new(Kind::Verification, failure.full());
            match failure.next_step() {
                Some(hint) => found.hint(hint),
                None => found,
            }
        }
        _ => failure,
    }
}
