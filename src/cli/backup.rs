//! `bkp backup`: one source after the other; a failure of one does not keep the others from being backed up.

use super::Ran;
use super::anchor;
use super::copies;
use super::discover::told;
use super::environment::Environment;
use super::format::{count, size, took};
use super::in_force;
use super::kept::Kept;
use super::output::plain;
use super::points::{PointView, view};
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::job::Places;
use crate::job::backup::{Backup, Done};
use crate::job::discover::labels;
use crate::job::recorder::{Recorder, What};
use crate::job::stack::{self, Ended, Member, StackBackup};
use crate::job::status::Proofs;
use crate::journal::Job;
use crate::policy::{self, Policy};
use crate::repo::Repository;
use crate::repo::names::CONFIGURATION;
use crate::repo::point::Point;
use crate::repo::writer::Writer;
use serde::Serialize;
use std::time::Instant;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bkp backup                                     everything that is configured
  bkp backup pontificia                          the sources of one policy
  bkp backup mysql-auth documents                these sources
  bkp backup --stack pontificia                  all sources of a stack, together
  bkp backup pontificia --if-due                 from a timer: when its schedule says so
  bkp backup --repo /srv/backup --source sqlite:/srv/app.db --source documents=volume:/srv/docs")]
pub struct Arguments {
    /// Policies or sources of the configuration [default: all of them]
    #[arg(value_name = "POLICY|SOURCE")]
    names: Vec<String>,
    /// A source that is not configured: sqlite:FILE, volume:DIRECTORY, command:'PROGRAM …'; NAME= in front to name it
    #[arg(long, value_name = "[NAME=]KIND:LOCATION")]
    source: Vec<String>,
    /// All sources of this stack, or those of them that are named, begun at the same moment
    #[arg(long, value_name = "NAME", conflicts_with = "source")]
    stack: Option<String>,
    /// Leave the copies as they are; the next run catches up
    #[arg(long)]
    no_copy: bool,
    /// Only when a slot of the policy's schedule has come; for timers and CronJobs, where no daemon runs
    #[arg(long, conflicts_with_all = ["source", "stack"])]
    if_due: bool,
    /// Read every file again, also where size and times say that nothing changed
    #[arg(long)]
    reread: bool,
}

#[derive(Serialize)]
struct DoneView<'a> {
    #[serde(flatten)]
    point: PointView,
    warning_texts: &'a [String],
    notes: &'a [String],
    seconds: f64,
}

#[derive(Serialize)]
struct FailureView {
    source: String,
    code: u8,
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What a run needs besides its source.
struct Place<'a> {
    env: &'a Environment,
    repository: &'a Repository,
    writer: &'a Writer,
    places: Places,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        if self.if_due {
            return super::due::run(&self.names, env, |names, stack, env| {
                Arguments { names, stack, if_due: false, source: Vec::new(), ..self }.run(env)
            });
        }
        if let Some(stack) = &self.stack {
            return self.whole_stack(env, stack);
        }
        let mut wanted = self.wanted(env)?;
        let sources = std::mem::take(&mut wanted.sources);
        let recorder = env.recorder()?;
        let (repository, writer) = recorded(&recorder, open(env), sources.iter().map(Chosen::what))?;
        let place = Place { env, repository: &repository, writer: &writer, places: env.places(&repository)? };
        let mut done: Vec<(Done, f64)> = Vec::new();
        let mut failed: Vec<(String, Failure)> = Vec::new();
        if let Some(unseen) = wanted.unseen.take() {
            // What is labelled should be backed up, and nobody knows what that is.
            if !sources.is_empty() {
                env.output.told(&named("labels", &unseen));
            }
            failed.push(("labels".to_owned(), unseen));
        }
        let all = sources.len() + failed.len();
        for chosen @ Chosen { source, policy } in &sources {
            if let Err(interrupted) = env.cancel.check() {
                recorder.could_not_begin([chosen.what()].into_iter(), &interrupted);
                failed.push((source.name.clone(), interrupted));
                break;
            }
            let started = Instant::now();
            match recorder.backup(&source.name, policy.as_deref(), || place.back_up(source, self.reread)) {
                Ok(one) => {
                    let seconds = started.elapsed().as_secs_f64();
                    summarize(env, &one, seconds);
                    done.push((one, seconds));
                }
                Err(failure) => {
                    if sources.len() > 1 {
                        env.output.told(&named(&source.name, &failure));
                    }
                    failed.push((source.name.clone(), failure));
                }
            }
        }
        let configured = self.source.is_empty() || !self.names.is_empty();
        let kept = Kept::after(configured && !done.is_empty(), env, &repository, &writer);
        let made: Vec<&Point> = done.iter().map(|(one, _)| &one.point).chain(kept.point()).collect();
        let copies = copies::after_backup(env, (&repository, &writer), &made, !self.no_copy)?;
        anchor::put_away(env, &repository, &writer, &place.places);
        if env.output.json {
            let mut document = document(env, &repository, &done, &failed)?;
            document["label_remarks"] = wanted.remarks.clone().into();
            document["configuration"] = kept.view(env)?;
            document["copies"] = copies.document();
            env.output.document(&document)?;
        }
        let warned = !wanted.remarks.is_empty() || kept.failed() || copies.warned();
        ending(&done, failed, all, warned)
    }

    fn whole_stack(&self, env: &Environment, stack: &str) -> Ran {
        let live = env.live()?;
        let sources = self.of_stack(live.configuration.stack(stack)?, stack, env)?;
        live.remarks.iter().for_each(|remark| env.output.warn(&told(remark)));
        let recorder = env.recorder()?;
        let known = in_force::Known::by_journal(env);
        let member = |(policy, source): &(&Policy, &policy::Source)| {
            let engine = env.engine(&source.settings)?;
            let options = env.write_options(source.layout, Some(*policy))?;
            let credentials = known.of(source);
            Ok(Member { source: source.name.clone(), policy: policy.name.clone(), engine, options, credentials })
        };
        let opened = open(env).and_then(|(repository, writer)| {
            let members = sources.iter().map(member).collect::<Result<Vec<_>>>()?;
            Ok((repository, writer, members))
        });
        let whats = sources.iter().map(|(policy, source)| What::source(Job::Backup, &source.name, Some(&policy.name)));
        let (repository, writer, members) = recorded(&recorder, opened, whats)?;
        let job = StackBackup {
            repository: &repository,
            writer: &writer,
            places: &env.places(&repository)?,
            recorder: &recorder,
            stack,
            memory: env.configuration()?.memory,
            reread: self.reread,
        };
        let progress = env.progress();
        let ended = job.run(&members, env.context(&progress), clock::now());
        drop(progress);
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for Ended { source, result, seconds } in ended {
            match result {
                Ok(one) => {
                    summarize(env, &one, seconds);
                    done.push((one, seconds));
                }
                Err(failure) => {
                    env.output.told(&named(&source, &failure));
                    failed.push((source, failure));
                }
            }
        }
        let kept = Kept::after(!done.is_empty(), env, &repository, &writer);
        let made: Vec<&Point> = done.iter().map(|(one, _)| &one.point).chain(kept.point()).collect();
        let copies = copies::after_backup(env, (&repository, &writer), &made, !self.no_copy)?;
        anchor::put_away(env, &repository, &writer, &env.places(&repository)?);
        let skew = stack::skew_seconds(done.iter().map(|(one, _)| one.point.consistent_at));
        if env.output.json {
            let mut document = document(env, &repository, &done, &failed)?;
            document["stack"] = serde_json::json!({ "name": stack, "skew_seconds": skew });
            document["copies"] = copies.document();
            document["configuration"] = kept.view(env)?;
            env.output.document(&document)?;
        } else {
            env.output.note(&format!("{stack}: {}, {} apart", count(done.len(), "point"), took(skew)));
        }
        ending(&done, failed, members.len(), !live.remarks.is_empty() || kept.failed() || copies.warned())
    }

    /// Those that were named, if any were.
    fn of_stack<'a>(
        &self,
        all: Vec<(&'a Policy, &'a policy::Source)>,
        stack: &str,
        env: &Environment,
    ) -> Result<Vec<(&'a Policy, &'a policy::Source)>> {
        let is = |(policy, source): &(&Policy, &policy::Source), name: &String| {
            source.name == *name || env.slot.is_none() && policy.name == *name
        };
        if let Some(unknown) = self.names.iter().find(|name| !all.iter().any(|one| is(one, name))) {
            return Err(Failure::usage(format!("stack {stack} has no policy or source {unknown}")));
        }
        let named =
            |one: &(&Policy, &policy::Source)| self.names.is_empty() || self.names.iter().any(|name| is(one, name));
        Ok(all.into_iter().filter(named).collect())
    }

    /// What is to be backed up. Labels matter unless only sources were named that are configured.
    fn wanted(&self, env: &Environment) -> Result<Wanted> {
        let configuration = env.configuration()?;
        let mut wanted = Wanted::default();
        if self.source.is_empty() || !self.names.is_empty() {
            let policies = self.names.is_empty() || self.names.iter().any(|n| configuration.source(n).is_none());
            let live = match policies.then(|| env.live()).transpose() {
                Ok(live) => live,
                Err(failure) => {
                    wanted.unseen = Some(failure);
                    None
                }
            };
            let all = live.map_or(configuration, |live| &live.configuration);
            let chosen = |(policy, source): (&Policy, &policy::Source)| Chosen {
                source: source.clone(),
                policy: Some(policy.name.clone()),
            };
            // For a slot, sources are named, and nothing else.
            let selected = if env.slot.is_some() { all.only_sources(&self.names)? } else { all.select(&self.names)? };
            wanted.sources.extend(selected.into_iter().map(chosen));
            wanted.remarks.extend(live.iter().flat_map(|live| &live.remarks).map(told));
            if policies && configuration.policies.iter().all(|policy| policy.labels.is_none()) {
                wanted.remarks.extend(labels::without_effect(configuration));
            }
        }
        wanted.remarks.iter().for_each(|remark| env.output.warn(remark));
        let sources = &mut wanted.sources;
        for text in &self.source {
            let source = policy::adhoc(text)?;
            if sources.iter().any(|chosen| chosen.source.name == source.name) {
                return Err(Failure::usage(format!("two sources are called {}", source.name))
                    .hint(format!("Give one of them another name: --source NAME={text}")));
            }
            sources.push(Chosen { source, policy: None });
        }
        if sources.is_empty() && wanted.unseen.is_none() {
            return Err(Failure::usage("there is nothing to back up: no source is configured, and none was named")
                .hint("Name one, as in --source sqlite:/srv/app.db, or write a policy into policies.d"));
        }
        Ok(wanted)
    }
}

/// What one run is to do.
#[derive(Default)]
struct Wanted {
    sources: Vec<Chosen>,
    /// Labels that have no effect.
    remarks: Vec<String>,
    /// Why it is not known what is labelled.
    unseen: Option<Failure>,
}

/// A source, and the policy that it is of.
struct Chosen {
    source: policy::Source,
    policy: Option<String>,
}

impl Chosen {
    fn what(&self) -> What<'_> {
        What::source(Job::Backup, &self.source.name, self.policy.as_deref())
    }
}

/// The doors of the repository; containers that a killed run left standing still go on before anything else happens.
fn open(env: &Environment) -> Result<(Repository, Writer)> {
    let repository = env.repository()?;
    let writer = env.writer(&repository)?;
    tell_what_goes_on(env, &env.places(&repository)?);
    Ok((repository, writer))
}

/// What failed for all of them is a run of each that failed.
fn recorded<'a, T>(recorder: &Recorder, opened: Result<T>, whats: impl Iterator<Item = What<'a>>) -> Result<T> {
    opened.inspect_err(|failure| recorder.could_not_begin(whats, failure))
}

impl Place<'_> {
    fn back_up(&self, source: &policy::Source, reread: bool) -> Result<Done> {
        let engine = self.env.engine(&source.settings)?;
        let progress = self.env.progress();
        let backup = Backup {
            repository: self.repository,
            writer: self.writer,
            places: &self.places,
            source: &source.name,
            engine: &*engine,
            options: self.env.write_options(source.layout, self.env.policy_of(&source.name)?)?,
            credentials: in_force::Known::by_journal(self.env).of(source),
            reread,
            together: None,
            purpose: None,
        };
        backup.run(self.env.context(&progress), clock::now())
    }
}

/// Containers that a killed run left standing still go on before anything else happens.
pub fn tell_what_goes_on(env: &Environment, places: &Places) {
    match places.let_go_on() {
        Ok(recovered) => {
            for container in recovered.went_on {
                env.output
                    .warn(&format!("container {container} stood still since a run that was killed; it goes on now"));
            }
            recovered.warnings.iter().for_each(|warning| env.output.warn(warning));
        }
        // What matters now is the run that was asked for.
        Err(failure) => env.output.warn(&format!(
            "whether containers stand still since a run that was killed is not known: {}",
            failure.full()
        )),
    }
}

fn named(source: &str, failure: &Failure) -> Failure {
    let mut named = Failure::new(failure.kind(), format!("{source}: {}", failure.full()));
    if let Some(hint) = failure.next_step() {
        named = named.hint(hint);
    }
    named
}

/// `mysql-auth  4f3a9c1e  1.2 GiB, 220 MiB new, 12.4 s`
pub fn summarize(env: &Environment, done: &Done, seconds: f64) {
    let point = &done.point;
    let mut line = format!(
        "{}  {}  {}, {} new, {}",
        point.source,
        point.id(),
        size(point.bytes),
        size(point.added),
        took(seconds)
    );
    if !done.warnings.is_empty() {
        line.push_str(&format!(", {}", count(done.warnings.len(), "warning")));
    }
    env.output.note(&line);
    if !done.anomalies.is_empty() && point.source != CONFIGURATION {
        let source = plain(&point.source);
        env.output.warn(&format!(
            "{source} is held: nothing old of it is pruned until somebody has looked; then: bkp ack {source}"
        ));
    }
    for note in &done.notes {
        env.output.note(&format!("  note: {}", plain(note)));
    }
}

fn document(
    env: &Environment,
    repository: &Repository,
    done: &[(Done, f64)],
    failed: &[(String, Failure)],
) -> Result<serde_json::Value> {
    let zone = env.zone()?;
    let nothing = Proofs::new();
    let points: Vec<_> = done
        .iter()
        .map(|(one, seconds)| DoneView {
            point: view(&one.point, &nothing, zone, env.now),
            warning_texts: &one.warnings,
            notes: &one.notes,
            seconds: *seconds,
        })
        .collect();
    let failures: Vec<_> = failed
        .iter()
        .map(|(source, failure)| FailureView {
            source: source.clone(),
            code: failure.kind().exit_code(),
            kind: failure.kind(),
            message: failure.full(),
            hint: failure.next_step().map(str::to_owned),
        })
        .collect();
    Ok(serde_json::json!({
        "repository": repository.id(),
        "started_at": env.now,
        "points": points,
        "failures": failures,
    }))
}

/// The first failure gives the exit code, unless a signal ended it all.
fn ending(done: &[(Done, f64)], mut failed: Vec<(String, Failure)>, sources: usize, remarks: bool) -> Ran {
    let is_signal = |f: &Failure| matches!(f.kind(), Kind::Interrupted | Kind::Terminated);
    if let Some(at) = failed.iter().position(|(_, failure)| is_signal(failure)) {
        return Err(failed.swap_remove(at).1);
    }
    if failed.is_empty() {
        let warned = remarks || done.iter().any(|(one, _)| !one.warnings.is_empty());
        return Ok(warned.then_some(Kind::Warnings));
    }
    if sources == 1 {
        return Err(failed.swap_remove(0).1);
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
    Err(Failure::new(
        failed[0].1.kind(),
        format!("{} of {sources} sources could not be backed up: {}", names.len(), names.join(", ")),
    ))
}
