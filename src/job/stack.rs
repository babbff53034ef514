//! A whole stack: its sources backed up together, and restored to one instant.
//!
//! Backup: every source is made ready, and their dumps begin at the same moment, as many at once as memory allows; the points
//! carry the name of the common run, and how far apart their instants are is told. Each source fails by itself.
//! Restore: one plan for all, whose hash covers the plans of the sources. What was finished is remembered on disk, so that the same
//! plan goes on after a crash where it stood. Which containers must stop meanwhile is the caller's affair.

use super::backup::{Backup, Done, Together};
use super::gate::Gate;
use super::recorder::Recorder;
use super::restore::Plan;
use super::{Places, private};
use crate::clock;
use crate::durable;
use crate::engine::Engine;
use crate::error::{Failure, Kind, Result};
use crate::event::{Context, Event, Events};
use crate::exec::docker::Description;
use crate::repo::point::StackRun;
use crate::repo::write::Options;
use crate::repo::writer::Writer;
use crate::repo::{Repository, names};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What one running backup of a stack takes of the memory that is allowed.
const MEMORY_OF_ONE: u64 = 48 << 20;

/// One source of a stack.
pub struct Member {
    pub source: String,
    pub policy: String,
    pub engine: Box<dyn Engine>,
    pub options: Options,
    pub credentials: Vec<serde_json::Value>,
}

/// How the backup of one source ended, and how many seconds it took.
pub struct Ended {
    pub source: String,
    pub result: Result<Done>,
    pub seconds: f64,
}

pub struct StackBackup<'a> {
    pub repository: &'a Repository,
    pub writer: &'a Writer,
    pub places: &'a Places,
    pub recorder: &'a Recorder,
    pub stack: &'a str,
    /// Bytes of memory for all of them together.
    pub memory: u64,
    pub reread: bool,
}

impl StackBackup<'_> {
    /// Backs up all members; servers before files, because their dumps stand for the instant at which they begin.
    pub fn run(&self, members: &[Member], context: Context<'_>, now: Timestamp) -> Vec<Ended> {
        let at_once = usize::try_from(self.memory / MEMORY_OF_ONE).unwrap_or(usize::MAX).clamp(1, members.len().max(1));
        let stack = StackRun { name: self.stack.to_owned(), run: names::stamped(now) };
        let repository = self.repository.clone().with_memory(self.memory / at_once as u64);
        let mut order: Vec<&Member> = members.iter().collect();
        order.sort_by_key(|member| member.engine.kind() == "volume");
        // Only those that run at once can wait for each other.
        let gate = Gate::of(at_once);
        let tickets = Mutex::new((0..at_once).map(|_| gate.ticket()).collect::<Vec<_>>());
        let events = Quiet(context.events);
        context.events.emit(&Event::Phase { source: self.stack.to_owned(), phase: "backup" });
        let context = Context { events: &events, ..context };
        let next = Mutex::new(order.iter());
        let ended = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let ticket = tickets.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some(member) = taken else { return };
                        let together = Together { stack: stack.clone(), ticket: Cell::new(ticket) };
                        let one = self.one(&repository, member, together, context);
                        ended.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                    }
                });
            }
        });
        let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        ended.sort_by(|a, b| a.source.cmp(&b.source));
        ended
    }

    fn one<'a>(
        &'a self,
        repository: &'a Repository,
        member: &'a Member,
        together: Together<'a>,
        context: Context<'_>,
    ) -> Ended {
        let backup = Backup {
            repository,
            writer: self.writer,
            places: self.places,
            source: &member.source,
            engine: &*member.engine,
            options: member.options,
            credentials: member.credentials.clone(),
            reread: self.reread,
            together: Some(together),
            purpose: None,
        };
        let started = Instant::now();
        let run = || backup.run(context, clock::now());
        let result = self.recorder.backup(&member.source, Some(&member.policy), run);
        Ended { source: member.source.clone(), result, seconds: started.elapsed().as_secs_f64() }
    }
}

/// Passes on what matters of many runs at once; their phases would only take turns on the display.
struct Quiet<'a>(&'a dyn Events);

impl Events for Quiet<'_> {
    fn emit(&self, event: &Event) {
        if !matches!(event, Event::Phase { .. }) {
            self.0.emit(event);
        }
    }
}

/// Seconds between the earliest and the latest instant.
pub fn skew_seconds(instants: impl Iterator<Item = Timestamp> + Clone) -> f64 {
    match (instants.clone().min(), instants.max()) {
        (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
        _ => 0.0,
    }
}

/// What will be done with a stack: the plans of its sources, in the order in which they are carried out.
#[derive(Clone, Debug, Serialize)]
pub struct StackPlan {
    pub hash: String,
    pub stack: String,
    pub members: Vec<Plan>,
    pub skew_seconds: f64,
    /// Containers that stand still meanwhile.
    pub stopped: Vec<String>,
}

/// Those first that need others (`depends_on` of Compose): the order in which they stop, and from back to front in which they start.
pub fn dependents_first(mut containers: Vec<Description>) -> Vec<Description> {
    let services: BTreeMap<String, Vec<String>> = containers
        .iter()
        .filter_map(|c| Some((c.labels.get("com.docker.compose.service")?.clone(), needs(c))))
        .collect();
    let depth = |c: &Description| {
        c.labels.get("com.docker.compose.service").map_or(0, |service| depth_of(service, &services, services.len()))
    };
    containers.sort_by_key(|c| (std::cmp::Reverse(depth(c)), c.name.clone()));
    containers
}

/// `db:service_healthy:false,cache:service_started:true` are db and cache.
fn needs(container: &Description) -> Vec<String> {
    let label = container.labels.get("com.docker.compose.depends_on").map(String::as_str).unwrap_or_default();
    let names = label.split(',').filter_map(|one| one.split(':').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// How many stand below it; `left` ends what turns in a circle.
fn depth_of(service: &str, services: &BTreeMap<String, Vec<String>>, left: usize) -> usize {
    let below = services.get(service).into_iter().flatten().filter(|_| left > 0);
    below.map(|need| 1 + depth_of(need, services, left - 1)).max().unwrap_or(0)
}

/// Puts the plans together: servers first, then files, because programs need the former to start. No effects.
pub fn plan(stack: &str, mut members: Vec<Plan>, stopped: Vec<String>) -> StackPlan {
    members.sort_by(|a, b| {
        let order = |plan: &Plan| (matches!(plan.act.engine.as_str(), "volume" | "command"), plan.act.source.clone());
        order(a).cmp(&order(b))
    });
    let hashes: Vec<&str> =
        members.iter().map(|plan| plan.hash.as_str()).chain(stopped.iter().map(String::as_str)).collect();
    let hash = hex::encode(&names::sha256(hashes.join("\n").as_bytes())[..6]);
    let skew_seconds = skew_seconds(members.iter().map(|plan| plan.resolved_at));
    StackPlan { hash, stack: stack.to_owned(), members, skew_seconds, stopped }
}

impl StackPlan {
    /// Refuses unless this is the plan that was looked at.
    pub fn must_be(&self, expected: Option<&str>) -> Result<()> {
        match expected {
            Some(hash) if hash != self.hash => {
                Err(Failure::new(Kind::Refused, format!("this would be plan {}, not {hash}", self.hash))
                    .hint("Something changed since, or other options were given. Look again with --dry-run"))
            }
            _ => Ok(()),
        }
    }
}

/// How far a restore of a stack has come, on disk until it is done.
pub struct Advance {
    path: PathBuf,
    done: Finished,
}

#[derive(Default, Serialize, Deserialize)]
struct Finished {
    /// Source → what it was restored to.
    sources: BTreeMap<String, String>,
}

impl Advance {
    /// Takes up what an earlier run of the same plan left.
    pub fn of(plan: &StackPlan, places: &Places) -> Result<Self> {
        let directory = places.state.join("restores").join(&places.repository);
        private(&directory)?;
        let path = directory.join(format!("{}.json", plan.hash));
        let done = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Finished::default(),
            Err(e) => return Err(Failure::from_io(e, || format!("cannot read {}", path.display()))),
        };
        Ok(Advance { path, done })
    }

    /// What `source` was restored to by an earlier run.
    pub fn finished(&self, source: &str) -> Option<&str> {
        self.done.sources.get(source).map(String::as_str)
    }

    pub fn note(&mut self, source: &str, target: &str) -> Result<()> {
        self.done.sources.insert(source.to_owned(), target.to_owned());
        let bytes =
            serde_json::to_vec(&self.done).map_err(|e| Failure::failed("cannot write down what is done").because(e))?;
        durable::write(&self.path, &bytes, 0o600)
            .map_err(|e| Failure::from_io(e, || format!("cannot write {}", self.path.display())))?;
        durable::crash_point("stack:one-restored");
        Ok(())
    }

    /// Everything is done: nothing is left to go on with.
    pub fn close(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
