//! `bkp restore`: choose, show the plan, do exactly that.

use super::Ran;
use super::backup::tell_what_goes_on;
use super::environment::{Access, Environment};
use super::format;
use super::globals::FromCopy;
use super::plan::{describe, report};
use super::{points, show};
use crate::engine::{self, Confirmed, Engine, Naming, Part, Settings};
use crate::error::{Failure, Kind, Result};
use crate::job::restore::{self, Destination, Plan, Request, Wanted};
use crate::policy::{self, When};
use crate::repo::catalog::{self, Catalog};
use crate::repo::point::Point;
use crate::repo::read::PointReader;
use crate::repo::{Repository, names};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Instant;

mod act;

pub use act::Opened;

#[derive(clap::Args, Clone, Debug, Default)]
#[command(after_help = "\
Nothing is overwritten unless --in-place says so. Without --to, the data goes to NAME_restore_INSTANT beside the source; \
databases get such names in their own server. Another server must have none of the databases; users and grants come along.
--at takes 2026-01-02T03:04:05Z, '2026-01-02 03:04' (local time), 2026-01-02, '2h ago', yesterday, latest, or a point.

Examples:
  bkp restore app --identity recovery-key.txt
  bkp restore app --at '2026-11-22 14:30' --to /srv/app-yesterday.db --identity recovery-key.txt
  bkp restore documents --path contracts/2026 --to ./contracts --identity recovery-key.txt
  bkp restore shop-db --database shop --table orders --identity recovery-key.txt
  bkp restore shop-db --to mysql:container=scratch,user=root,password_file=/run/secrets/root --identity recovery-key.txt
  bkp restore app --at '2h ago' --dry-run --identity recovery-key.txt
  bkp restore app --at '2h ago' --plan 1f6b0c52a9de --identity recovery-key.txt
  bkp restore app --in-place --confirm app --identity recovery-key.txt
  bkp restore --stack pontificia --at '2026-11-22 02:30' --dry-run --identity recovery-key.txt")]
pub struct Arguments {
    /// What to restore: a source (its newest point), or a point
    #[arg(value_name = "SOURCE|POINT")]
    what: Option<String>,
    /// All sources of this stack, each at its newest point not after --at
    #[arg(long, value_name = "NAME", conflicts_with_all = ["what", "source", "path", "database", "table", "to"])]
    stack: Option<String>,
    /// With --stack: without this source; may be repeated
    #[arg(long, value_name = "SOURCE", requires = "stack")]
    pub skip: Vec<String>,
    /// As it was at this instant [default: latest]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// The source: its name, or [NAME=]KIND:LOCATION for one that is not configured
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this file or directory of a volume
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Only this database of a server
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    database: Option<String>,
    /// Only this table (or collection) of the database
    #[arg(long, value_name = "NAME", requires = "database")]
    table: Option<String>,
    /// What the database is called when it is back
    #[arg(long = "as", value_name = "NAME", requires = "database", conflicts_with = "in_place")]
    name: Option<String>,
    /// Where to: a path where nothing is yet, volume:NAME for a new Docker volume, another server as KIND:KEY=VALUE,…
    #[arg(long, value_name = "TARGET", conflicts_with = "in_place")]
    to: Option<PathBuf>,
    /// Replace the source itself, after a safety backup of what is there
    #[arg(long)]
    pub in_place: bool,
    /// The name of the source, to confirm --in-place, or that its restore command may run
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
    #[command(flatten)]
    pub agreed: Agreed,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do it only when it is the plan with this hash (see --dry-run)
    #[arg(long, value_name = "HASH", conflicts_with = "dry_run")]
    pub plan: Option<String>,
    #[command(flatten)]
    pub from: FromCopy,
}

/// What somebody wants of an act beside its plan.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Agreed {
    /// With --in-place: go on when the safety backup fails, because the source is gone or broken
    #[arg(long, requires = "in_place")]
    no_safety_backup: bool,
    /// Users that come back into the server are locked, but for those that bkp rotates or logs in as
    #[arg(long)]
    lock_accounts: bool,
}

/// A point, what will be done with it, and the engine that can.
pub struct Prepared {
    pub point: Point,
    pub plan: Plan,
    pub settings: Settings,
    pub engine: Box<dyn Engine>,
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository_or(self.from.from.as_deref())?;
        let access = env.reading(&repository)?;
        let opened = Opened { env, repository: &repository, access: &access, copy: self.from.is_copy() };
        // What a killed restore stopped belongs to the plan again.
        tell_what_goes_on(env, &env.places(&repository)?);
        if let Some(stack) = &self.stack {
            return super::stack::restore(&self, &opened, stack);
        }
        let prepared = self.prepare(&opened)?;
        let Prepared { point: _, plan, .. } = &prepared;
        plan.must_be(self.plan.as_deref())?;
        if self.dry_run {
            env.output.answer(plan, || describe(env, plan))?;
            if !env.output.json {
                env.output.note(&format!(
                    "\nNothing was done. To do it: the same command with --plan {} instead of --dry-run",
                    plan.hash
                ));
            }
            return Ok(None);
        }
        refuse_what_exists(&plan.act.target)?;
        let confirmed = self.confirmed(plan)?;
        if !env.output.json {
            env.output.note(&describe(env, plan));
        }
        let started = Instant::now();
        let restored = opened.act(&prepared, confirmed, self.agreed)?;
        report(env, plan, &restored, started.elapsed().as_secs_f64())?;
        Ok((!restored.warnings.is_empty()).then_some(Kind::Warnings))
    }

    /// The same for one source of a stack.
    pub fn of_source(&self, source: &str) -> Self {
        Arguments { what: Some(source.to_owned()), ..self.clone() }
    }

    /// Everything up to the act itself.
    pub fn prepare(&self, opened: &Opened<'_>) -> Result<Prepared> {
        let Opened { env, repository, access, .. } = *opened;
        let adhoc = self.source.as_deref().filter(|s| s.contains(':')).map(policy::adhoc).transpose()?;
        let (request, catalog) = self.look(env, repository, access, adhoc.as_ref())?;
        let point = restore::choose(&catalog, &request)?.clone();
        env.reads(&point);
        for (newer, why) in restore::passed_over(&catalog, &request, &point) {
            let at = format::utc(newer.consistent_at);
            env.output.warn(&format!("point {} ({at}) is passed over: {why}; to take it, name it", newer.id()));
        }
        let settings = self.settings(env, adhoc, &point, repository, access)?;
        let engine = env.engine(&settings)?;
        let target = self.target(&settings, &*engine, &point)?;
        let (stopped, unseen) = match target {
            Destination::InPlace(_) => restore::to_be_stopped(&*engine)?,
            _ => Default::default(),
        };
        // The act tells it as well, when there is one.
        unseen.filter(|_| self.dry_run).iter().for_each(|text| env.output.warn(text));
        let plan = restore::plan(&point, &request, target, stopped, env.now);
        Ok(Prepared { point, plan, settings, engine })
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
        let by_id = match &when {
            Some(When::Point(id)) => Some(id),
            _ => None,
        };
        let catalog = match named.as_ref().or(self.what.as_ref()).or(by_id) {
            Some(name) => points::read_for(env, repository, access, name)?,
            None => points::read(env, repository, access, catalog::Wanted::default())?,
        };
        let mut source = named;
        let mut wanted = match when {
            Some(When::Point(id)) => Wanted::Point(id),
            Some(When::Instant(instant)) => Wanted::At(instant),
            Some(When::Latest) | None => Wanted::Latest(env.now),
        };
        match &self.what {
            Some(what) if catalog.newest(what, None, Timestamp::MAX).is_some() => {
                if source.as_ref().is_some_and(|s| s != what) {
                    return Err(Failure::usage(format!("`{what}` and --source name two sources")));
                }
                source = Some(what.clone());
            }
            Some(what) => {
                let point = show::find(&catalog, what, env.now)?;
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
        Ok((Request { source, own_writer, wanted, part: self.part() }, catalog))
    }

    fn part(&self) -> Part {
        match (&self.path, &self.database, &self.table) {
            (Some(path), _, _) => Part::Path(path.clone()),
            (None, Some(database), Some(table)) => Part::Table { database: database.clone(), table: table.clone() },
            (None, Some(database), None) => Part::Database(database.clone()),
            (None, None, _) => Part::Whole,
        }
    }

    /// The other server that --to names, for a point of a server.
    fn other_server(&self, point: &Point) -> Result<Option<policy::Source>> {
        let Some(to) = self.to.as_deref().and_then(Path::to_str) else { return Ok(None) };
        let of_this_kind = to.split_once(':').is_some_and(|(kind, _)| kind == point.engine.kind);
        let source = of_this_kind.then(|| policy::adhoc(to)).transpose()?;
        let is_server = |settings: &Settings| settings.server().is_some() || matches!(settings, Settings::Vault(_));
        Ok(source.filter(|source| is_server(&source.settings)))
    }

    /// Times are meant in the zone of the source's policy.
    fn zone<'e>(&self, env: &'e Environment, source: Option<&str>) -> Result<&'e jiff::tz::TimeZone> {
        let source = source.or(self.what.as_deref());
        let policy = source.map(|name| env.source(name)).transpose()?.flatten();
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
        if let Some(other) = self.other_server(point)? {
            return Ok(other.settings);
        }
        let configured = env.source(&point.source)?.map(|(_, source)| source.clone());
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
        if let Some(server) = settings.server().filter(|_| !matches!(settings, Settings::Redis(_))) {
            return self.databases(server.location(), point);
        }
        if self.other_server(point)?.is_some() {
            return Ok(Destination::NewDatabases { server: engine.location(), naming: Naming::Same });
        }
        if let Some(volume) = self.new_volume(settings, point) {
            return Ok(Destination::NewVolume(volume));
        }
        match (&self.to, settings) {
            (Some(path), _) => Ok(Destination::New(absolute(path)?)),
            (None, Settings::Command(command)) if command.restore.is_some() => Ok(Destination::Command),
            (None, Settings::Command(_)) => {
                Ok(Destination::New(restore::default_target(Path::new(stream), point, &here()?)))
            }
            (None, Settings::Vault(_)) => {
                let file = format!("{}.snap", point.source);
                Ok(Destination::New(restore::default_target(Path::new(&file), point, &here()?)))
            }
            (None, Settings::Redis(_)) => {
                Ok(Destination::New(restore::default_target(Path::new(&point.source), point, &here()?)))
            }
            (None, _) => Ok(Destination::New(restore::default_target(Path::new(&engine.location()), point, &here()?))),
        }
    }

    /// The Docker volume to make: `--to volume:NAME`, or one named after the volume that was backed up.
    fn new_volume(&self, settings: &Settings, point: &Point) -> Option<String> {
        let Settings::Volume(volume) = settings else { return None };
        match &self.to {
            Some(to) => to.to_str()?.strip_prefix("volume:").filter(|name| !name.contains('/')).map(str::to_owned),
            None => volume.name.as_ref().map(|name| format!("{name}_restore_{}", names::utc(point.consistent_at))),
        }
    }

    /// Beside the databases there are, unless another server or another name was given.
    fn databases(&self, server: String, point: &Point) -> Result<Destination> {
        let naming = match (&self.name, &self.to) {
            (Some(name), _) => Naming::As(name.clone()),
            (None, None) => Naming::Suffix(format!("_restore_{}", names::utc(point.consistent_at))),
            (None, Some(to)) if self.other_server(point)?.is_none() => {
                return Err(Failure::usage(format!("{} is no server to restore databases into", to.display())).hint(
                    format!("Name one as --to {}:container=NAME,user=NAME,password_file=PATH", point.engine.kind),
                ));
            }
            (None, Some(_)) => Naming::Same,
        };
        Ok(Destination::NewDatabases { server, naming })
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

pub fn refuse_what_exists(target: &Destination) -> Result<()> {
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
