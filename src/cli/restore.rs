//! `bkp restore`: choose, show the plan, do exactly that.

use super::Ran;
use super::backup::summarize;
use super::environment::{Access, Environment};
use super::format::{self, instant, size, span, took};
use super::output::{pairs, plain};
use super::{points, show};
use crate::engine::{self, Confirmed, Engine, Settings};
use crate::error::{Failure, Kind, Result};
use crate::job::backup::Backup;
use crate::job::restore::{self, Destination, Plan, Request, Restore, Restored, Wanted};
use crate::policy::{self, When};
use crate::repo::Repository;
use crate::repo::catalog::{self, Catalog};
use crate::repo::point::Point;
use crate::repo::read::PointReader;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Nothing is overwritten unless --in-place says so. Without --to, the data goes to NAME_restore_INSTANT beside the source.
--at takes 2026-01-02T03:04:05Z, '2026-01-02 03:04' (local time), 2026-01-02, '2h ago', yesterday, latest, or a point.

Examples:
  bkp restore app --identity recovery-key.txt
  bkp restore app --at '2026-11-22 14:30' --to /srv/app-yesterday.db --identity recovery-key.txt
  bkp restore documents --path contracts/2026 --to ./contracts --identity recovery-key.txt
  bkp restore app --at '2h ago' --dry-run --identity recovery-key.txt
  bkp restore app --at '2h ago' --plan 1f6b0c52a9de --identity recovery-key.txt
  bkp restore app --in-place --confirm app --identity recovery-key.txt")]
pub struct Arguments {
    /// What to restore: a source (its newest point), or a point
    #[arg(value_name = "SOURCE|POINT")]
    what: Option<String>,
    /// As it was at this instant [default: latest]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// The source: its name, or [NAME=]KIND:LOCATION for one that is not configured
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this file or directory of a volume
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Where to: a path where nothing is yet
    #[arg(long, value_name = "TARGET", conflicts_with = "in_place")]
    to: Option<PathBuf>,
    /// Replace the source itself, after a safety backup of what is there
    #[arg(long)]
    in_place: bool,
    /// The name of the source, to confirm --in-place, or that its restore command may run
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// With --in-place: go on when the safety backup fails, because the source is gone or broken
    #[arg(long, requires = "in_place")]
    no_safety_backup: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do it only when it is the plan with this hash (see --dry-run)
    #[arg(long, value_name = "HASH", conflicts_with = "dry_run")]
    plan: Option<String>,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let adhoc = self.source.as_deref().filter(|s| s.contains(':')).map(policy::adhoc).transpose()?;
        let repository = env.repository()?;
        let access = env.reading(&repository)?;
        let (request, catalog) = self.look(env, &repository, &access, adhoc.as_ref())?;
        let point = restore::choose(&catalog, &request)?;
        let settings = self.settings(env, adhoc, point, &repository, &access)?;
        let engine = engine::build(&settings);
        let target = self.target(&settings, &*engine, point)?;
        let plan = restore::plan(point, &request, target, env.now);
        plan.must_be(self.plan.as_deref())?;
        if self.dry_run {
            env.output.answer(&plan, || describe(env, &plan))?;
            if !env.output.json {
                env.output.note(&format!(
                    "\nNothing was done. To do it: the same command with --plan {} instead of --dry-run",
                    plan.hash
                ));
            }
            return Ok(None);
        }
        refuse_what_exists(&plan.act.target)?;
        let confirmed = self.confirmed(&plan)?;
        if !env.output.json {
            env.output.note(&describe(env, &plan));
        }
        let opened = Opened { env, repository: &repository, access: &access };
        opened.act(&plan, point, &*engine, confirmed, self.no_safety_backup)
    }

    /// What is wanted, and the points to choose from.
    fn look(
        &self,
        env: &Environment,
        repository: &Repository,
        access: &Access,
        adhoc: Option<&policy::Source>,
    ) -> Result<(Request, Catalog)> {
        let named = adhoc.map(|s| s.name.clone()).or_else(|| self.source.clone());
        let when = self
            .at
            .as_deref()
            .map(|text| When::parse(text, &env.now.to_zoned(self.zone(env, named.as_deref())?.clone())));
        let when = when.transpose()?;
        let catalog = match named.as_ref().or(self.what.as_ref()) {
            Some(name) => points::read_for(env, repository, access, name)?,
            None => points::read(env, repository, access, catalog::Wanted::default())?,
        };
        let mut source = named;
        let mut wanted = match when {
            Some(When::Point(id)) => Wanted::Point(id),
            Some(When::Instant(instant)) => Wanted::At(instant),
            Some(When::Latest) | None => Wanted::At(Timestamp::MAX),
        };
        match &self.what {
            Some(what) if catalog.newest(what, None, Timestamp::MAX).is_some() => {
                if source.as_ref().is_some_and(|s| s != what) {
                    return Err(Failure::usage(format!("`{what}` and --source name two sources")));
                }
                source = Some(what.clone());
            }
            Some(what) => {
                let point = show::find(&catalog, what)?;
                if self.at.is_some() {
                    return Err(
                        Failure::usage("a point and --at cannot be given together").hint("A point has its own instant")
                    );
                }
                wanted = Wanted::Point(point.point.clone());
            }
            None if source.is_none() && !matches!(wanted, Wanted::Point(_)) => source = Some(only_source(&catalog)?),
            None => {}
        }
        let own_writer = access.writer.as_ref().map(|w| w.id().to_owned());
        Ok((Request { source, own_writer, wanted, path: self.path.clone() }, catalog))
    }

    /// Times are meant in the zone of the source's policy.
    fn zone<'e>(&self, env: &'e Environment, source: Option<&str>) -> Result<&'e jiff::tz::TimeZone> {
        let source = source.or(self.what.as_deref());
        let policy = source.map(|name| env.configuration().map(|c| c.source(name))).transpose()?.flatten();
        policy.map_or_else(|| env.zone(), |(policy, _)| Ok(&policy.timezone))
    }

    /// How to load: as configured on this host, else by the kind of the point, which suffices for a new target.
    fn settings(
        &self,
        env: &Environment,
        adhoc: Option<policy::Source>,
        point: &Point,
        repository: &Repository,
        access: &Access,
    ) -> Result<Settings> {
        let configured = env.configuration()?.source(&point.source).map(|(_, source)| source.clone());
        if let Some(source) = adhoc.or(configured)
            && engine::build(&source.settings).kind() == point.engine.kind
        {
            return Ok(source.settings);
        }
        if self.in_place {
            return Err(Failure::usage(format!(
                "where {} is on this host is not known, so it cannot be replaced",
                point.source
            ))
            .hint(format!("Name it: --source {}={}:LOCATION", point.source, point.engine.kind)));
        }
        let body = PointReader::open(repository, point, &access.keys_for(point), &env.cancel)?.body;
        engine::of_kind(&point.engine.kind, Path::new(&body.source_location)).ok_or_else(|| {
            Failure::usage(format!("a {} cannot be restored without its configuration", point.engine.kind))
                .hint(format!("Get the raw dump with: bkp export {}", point.id()))
        })
    }

    fn target(&self, settings: &Settings, engine: &dyn Engine, point: &Point) -> Result<Destination> {
        if self.in_place {
            if matches!(settings, Settings::Command(_)) {
                return Err(Failure::usage("the output of a command has no place that could be replaced")
                    .hint("Restore through the restore command of the source, or to a file with --to"));
            }
            return Ok(Destination::InPlace(engine.location()));
        }
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|e| Failure::from_io(e, || format!("cannot tell where {} is", path.display())))
        };
        let here = || absolute(Path::new("."));
        let stream = point.streams.first().map_or("dump", |s| s.name.as_str());
        match (&self.to, settings) {
            (Some(path), _) => Ok(Destination::New(absolute(path)?)),
            (None, Settings::Command(command)) if command.restore.is_some() => Ok(Destination::Command),
            (None, Settings::Command(_)) => {
                Ok(Destination::New(restore::default_target(Path::new(stream), point, &here()?)))
            }
            (None, _) => Ok(Destination::New(restore::default_target(Path::new(&engine.location()), point, &here()?))),
        }
    }

    fn confirmed(&self, plan: &Plan) -> Result<Option<Confirmed>> {
        let by_command = matches!(plan.act.target, Destination::Command);
        if !self.in_place && !by_command {
            return Ok(None);
        }
        let typed = self.confirm.as_deref().ok_or_else(|| restore::not_confirmed(&plan.act.source))?;
        let confirmed = Confirmed::by_name(&plan.act.source, typed).ok_or_else(|| {
            Failure::new(Kind::Refused, format!("--confirm {typed} is not the name of the source, {}", plan.act.source))
        })?;
        Ok((!by_command).then_some(confirmed))
    }
}

/// What an act takes place in.
struct Opened<'a> {
    env: &'a Environment,
    repository: &'a Repository,
    access: &'a Access,
}

impl Opened<'_> {
    fn act(
        &self,
        plan: &Plan,
        point: &Point,
        engine: &dyn Engine,
        confirmed: Option<Confirmed>,
        without_safety: bool,
    ) -> Ran {
        let Opened { env, repository, access } = *self;
        let places = env.places(repository)?;
        let options = env.write_options()?;
        let safety = access.writer.as_ref().map(|writer| Backup {
            repository,
            writer,
            places: &places,
            source: &point.source,
            engine,
            options,
            reread: false,
        });
        let keys = access.keys_for(point);
        let job = Restore { repository, keys: &keys, places: &places, engine, safety, without_safety };
        let progress = env.progress();
        let started = Instant::now();
        let restored = job.run(plan, point, confirmed, env.context(&progress), Timestamp::now())?;
        drop(progress);
        report(env, plan, &restored, started.elapsed().as_secs_f64())?;
        Ok((!restored.warnings.is_empty()).then_some(Kind::Warnings))
    }
}

fn only_source(catalog: &Catalog) -> Result<String> {
    let mut sources: Vec<&str> = catalog.points.iter().map(|p| p.source.as_str()).collect();
    sources.sort();
    sources.dedup();
    match sources.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::failed("there is no point to restore").hint("Make one with: bkp backup")),
        many => Err(Failure::usage("which source?").hint(format!("Name one of: {}", many.join(", ")))),
    }
}

fn refuse_what_exists(target: &Destination) -> Result<()> {
    match target {
        Destination::New(path) if std::fs::symlink_metadata(path).is_ok() => Err(Failure::new(
            Kind::Refused,
            format!("{} is there already", path.display()),
        )
        .hint(
            "A restore never overwrites: give another place with --to, or replace the source itself with --in-place",
        )),
        _ => Ok(()),
    }
}

fn describe(env: &Environment, plan: &Plan) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let both = |at| format!("{}  ({})", instant(at, &zone), format::utc(at));
    let mut rows = vec![("plan", plan.hash.clone()), ("source", plan.act.source.clone())];
    if let Some(requested) = plan.requested_at {
        rows.push(("asked for", both(requested)));
    }
    rows.push(("point", format!("{}  {}", plan.id, size(plan.bytes))));
    rows.push(("written by", format!("{}  (writer {})", plain(&plan.host), plan.writer)));
    rows.push(("stands for", both(plan.resolved_at)));
    rows.push((
        "lost",
        match plan.loss_seconds {
            _ if plan.requested_at.is_none() => "everything that was written after that instant".to_owned(),
            0 => "nothing".to_owned(),
            seconds => format!("what was written in the {} between", span(seconds)),
        },
    ));
    if plan.warnings > 0 {
        rows.push(("warnings", format!("the backup ended with {}; see: bkp show {}", plan.warnings, plan.id)));
    }
    rows.push((
        "target",
        match &plan.act.target {
            Destination::New(path) => format!("{}  (new)", path.display()),
            Destination::InPlace(location) => format!("{location}  (REPLACED)"),
            Destination::Command => "the restore command of the source".to_owned(),
        },
    ));
    for (number, step) in plan.steps.iter().enumerate() {
        rows.push((if number == 0 { "steps" } else { "" }, format!("{}. {step}", number + 1)));
    }
    pairs(&rows)
}

fn report(env: &Environment, plan: &Plan, restored: &Restored, seconds: f64) -> Result<()> {
    if let Some(safety) = &restored.safety {
        summarize(env, safety, seconds);
    }
    let document = serde_json::json!({
        "plan": plan,
        "bytes": restored.loaded.bytes,
        "items": restored.loaded.items,
        "warning_texts": restored.warnings,
        "safety_point": restored.safety.as_ref().map(|s| &s.point.point),
        "seconds": seconds,
    });
    if env.output.json {
        return env.output.document(&document);
    }
    let target = match &plan.act.target {
        Destination::New(path) => path.display().to_string(),
        Destination::InPlace(location) => location.clone(),
        Destination::Command => plan.act.source.clone(),
    };
    env.output.data(&target)?;
    env.output.note(&format!(
        "{} restored from {}: {}, {}",
        plan.act.source,
        plan.id,
        size(restored.loaded.bytes),
        took(seconds)
    ));
    Ok(())
}
