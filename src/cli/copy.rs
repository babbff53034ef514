//! `bkp copy`: brings copies up to date, makes new ones, and puts right what is damaged in one store from another.

use super::Ran;
use super::copies::{Outcomes, tell};
use super::environment::{Access, Environment};
use super::globals::FromCopy;
use super::locks;
use crate::error::{Failure, Kind, Result};
use crate::event::{Event, Events};
use crate::job::copy::{Copied, Copy};
use crate::job::lock::{self, Kept};
use crate::job::recorder::What;
use crate::journal::Job;
use crate::policy::{CopySettings, ObjectLock, PRIMARY};
use crate::repo::Repository;
use crate::repo::copy::prepare;
use crate::repo::point::Point;
use crate::repo::writer::Writer;
use crate::store::{self, probe};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Backups bring the copies up to date by themselves; this is for the first time, and for catching up. A copy is a repository \
by itself: it restores with --from NAME, or anywhere with --repo URL.

Examples:
  bkp copy --create madrid                       make a new copy where there is none
  bkp copy                                       bring every copy up to date
  bkp copy madrid --source mysql-auth
  bkp copy --repair madrid                       read all of it, and bring again what is damaged
  bkp copy --from madrid --repair repository     put right the repository from a copy of it")]
pub struct Arguments {
    /// Which copies [default: all of them]; `repository` is the repository itself
    #[arg(value_name = "COPY")]
    names: Vec<String>,
    /// Only points of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Make the copy where there is no repository yet
    #[arg(long, requires = "names")]
    create: bool,
    /// Read what is there too, and bring again what is not what it should be
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    from: FromCopy,
}

/// What is asked for beside bringing what is missing.
#[derive(Clone, Copy, Default)]
pub struct Extent<'a> {
    pub source: Option<&'a str>,
    pub create: bool,
    pub repair: bool,
    /// How long to wait for another run that is at it.
    pub patience: Duration,
}

/// What holds after a backup. Two that end at the same moment both bring the copies up to date, one after the other.
const AFTER_A_BACKUP: Extent<'static> =
    Extent { source: None, create: false, repair: false, patience: Duration::from_secs(10 * 60) };

/// A store that is to have what another one has.
pub struct Target<'a> {
    name: &'a str,
    settings: store::Settings,
    lock: Option<ObjectLock>,
    kept: Option<Kept<'a>>,
}

impl<'a> Target<'a> {
    pub fn copy(env: &'a Environment, copy: &'a CopySettings) -> Result<Self> {
        let (settings, lock, zone) = (env.copy_settings(copy)?, copy.store.object_lock, env.zone()?);
        let kept = copy.keep.as_ref().map(|keep| Kept { keep, zone });
        Ok(Target { name: &copy.name, settings, lock, kept })
    }

    fn named(env: &'a Environment, name: &str) -> Result<Self> {
        let configuration = env.configuration()?;
        if name != PRIMARY {
            return Target::copy(env, configuration.copy(name)?);
        }
        let lock = configuration.repository.as_ref().and_then(|repository| repository.object_lock);
        Ok(Target { name: PRIMARY, settings: env.store_settings()?, lock, kept: None })
    }

    /// Opens it, or makes it when that was asked for. A file system that is not mounted must not look like a new copy.
    fn open(&self, env: &Environment, from: &Repository, create: bool) -> Result<Repository> {
        let opened = env.open(self.settings.clone());
        let made = match opened {
            Err(failure) if failure.kind() == Kind::NoRepository && create => self.create(env, from)?,
            Err(failure) if failure.kind() == Kind::NoRepository => {
                let again = if self.name == PRIMARY { "--from COPY " } else { "" };
                return Err(failure.hint(format!(
                    "Check that it is mounted; when it is new: bkp copy {again}--create {}",
                    self.name
                )));
            }
            other => other?,
        };
        if self.lock.is_some() && made.store.retention().is_none() {
            let place = made.store.describe();
            return Err(Failure::usage(format!("{place} cannot lock objects, and the configuration asks for it"))
                .hint("Make a bucket with object lock, or remove `object_lock:` there"));
        }
        Ok(made)
    }

    fn create(&self, env: &Environment, from: &Repository) -> Result<Repository> {
        let store = store::create(&self.settings, env.watch()?)?;
        let found = probe::probe(&self.settings, env.now)?;
        let abilities = serde_json::to_value(found).map_err(|e| Failure::failed("cannot write JSON").because(e))?;
        prepare(from, store, abilities)?;
        env.output.note(&format!("copy {}: made at {}", self.name, self.settings.location));
        env.open(self.settings.clone())
    }
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let from = self.from.from.as_deref();
        let configuration = env.configuration()?;
        let all = || configuration.copies.iter().map(|copy| copy.name.clone()).filter(|n| Some(n.as_str()) != from);
        let names = if self.names.is_empty() { all().collect() } else { self.names.clone() };
        if names.is_empty() {
            return Err(Failure::usage("there is no copy to bring up to date")
                .hint("Write it into `copies:` of the main file, as in policies/bkp.yaml"));
        }
        if let Some(name) = names.iter().find(|name| *name == from.unwrap_or(PRIMARY)) {
            return Err(Failure::usage(format!("`{name}` would be copied onto itself"))
                .hint("Name another store to read with --from"));
        }
        let targets = names.iter().map(|name| Target::named(env, name)).collect::<Result<Vec<_>>>()?;
        let opened = env.repository_or(from).and_then(|repository| Ok((env.listing(&repository)?, repository)));
        let (access, repository) = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                let what = What { job: Job::Copy, source: self.source.as_deref(), policy: None };
                env.recorder()?.could_not_begin([what].into_iter(), &failure);
                return Err(failure);
            }
        };
        let own = access.writer.as_ref().map(Writer::id).filter(|_| access.operator.is_none());
        let extent =
            Extent { source: self.source.as_deref(), create: self.create, repair: self.repair, ..Extent::default() };
        let mut outcomes = Outcomes::default();
        for target in &targets {
            env.cancel.check()?;
            let outcome = into(env, &repository, (&access, own), (target, &[]), Some(extent));
            if targets.len() > 1 || outcome.is_ok() {
                tell(env, target.name, &outcome);
            }
            outcomes.add(target.name, outcome);
        }
        if env.output.json {
            env.output.document(&serde_json::json!({ "copies": outcomes.document() }))?;
        }
        outcomes.ending()
    }
}

/// Brings one store up to date, and has the journal know. `expected` are points that ought to be there then.
pub fn into(
    env: &Environment,
    from: &Repository,
    access: (&Access, Option<&str>),
    (target, expected): (&Target<'_>, &[&Point]),
    extent: Option<Extent<'_>>,
) -> Result<Copied> {
    let recorder = env.recorder()?;
    let act = || carry(env, from, access, target, extent.unwrap_or(AFTER_A_BACKUP));
    recorder.copy(target.name, extent.and_then(|extent| extent.source), expected, act)
}

fn carry(
    env: &Environment,
    from: &Repository,
    (access, writer): (&Access, Option<&str>),
    target: &Target<'_>,
    Extent { source, create, repair, patience }: Extent<'_>,
) -> Result<Copied> {
    let to = target.open(env, from, create)?;
    let locked = |point: &Point| {
        let of_source = || env.policy_of(&point.source).ok().flatten().and_then(Kept::by);
        target.lock.as_ref().map(|lock| lock::of_new(lock, target.kept.or_else(of_source), env.now))
    };
    let job = Copy {
        name: target.name,
        from,
        to: &to,
        keys: &access.keys,
        trust: &access.trust,
        places: &env.places(from)?,
        writer,
        source,
        kept: target.kept,
        lock: &locked,
        repair,
        // In a copy its own rules say what is wanted.
        leave_forgotten: target.name == PRIMARY,
        patience,
    };
    let progress = env.progress();
    progress.emit(&Event::Phase { source: target.name.to_owned(), phase: "compare" });
    let mut copied = job.run(env.context(&progress), env.now)?;
    drop(progress);
    let sources: BTreeSet<(&str, &str)> =
        copied.points.iter().map(|point| (point.writer.as_str(), point.source.as_str())).collect();
    let raised = locks::raise(env, &to, (&access.keys, &access.trust), (target.lock.as_ref(), target.kept), &sources);
    if let Err(failure) = raised {
        copied.left_out.push(failure.full());
    }
    Ok(copied)
}
