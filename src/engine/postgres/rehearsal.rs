//! What a rehearsal asks of PostgreSQL: a server of its own with no promises to keep, and whether every row, definition, owner,
//! grant and role is there again; and the user's own questions.
//!
//! Passwords of roles are in no point, so they are not compared.

use super::catalogue::{self, Details, Role};
use super::client::Clients;
use super::session::Session;
use super::{Postgres, Settings, dump};
use crate::engine::Server;
use crate::engine::Settings as AnySettings;
use crate::engine::rehearsal::{
    Comparison, ContainerRecipe, Entrance, Ground, ProcessRecipe, Question, Reach, Rehearsable, Scratch, Site, Subject,
    counted, must_be_fresh,
};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::{Command, Place};
use crate::secret::Secret;
use std::ffi::OsString;
use std::path::PathBuf;

const USER: &str = "postgres";
/// In a container; what an image mounts elsewhere is not used.
const DATA: &str = "/var/lib/postgresql/data";
/// Nothing in it is to last. No worker needs shared memory that a container does not have.
const FAST: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=2GB",
    "autovacuum=off",
    "maintenance_work_mem=128MB",
    "max_parallel_workers_per_gather=0",
    "max_parallel_maintenance_workers=0",
];

pub struct Rehearsal;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::Server)
    }

    fn container(&self, subject: &Subject<'_>, password: &Secret) -> Result<ContainerRecipe> {
        Ok(ContainerRecipe {
            arguments: ["postgres"].into_iter().chain(fast()).map(str::to_owned).collect(),
            environment: vec![
                ("PGDATA".into(), DATA.into()),
                ("POSTGRES_INITDB_ARGS".into(), "--auth-host=scram-sha-256 --no-sync".into()),
            ],
            secrets: vec![("POSTGRES_PASSWORD".into(), password.clone())],
            data: DATA.into(),
            // Indexes and the log for one write come on top of the rows.
            room: 3 * subject.bytes + (512 << 20),
            ..ContainerRecipe::default()
        })
    }

    fn process(&self, subject: &Subject<'_>, site: &Site<'_>, password: &Secret) -> Result<Option<ProcessRecipe>> {
        let data = site.directory.join("data");
        let mut file = OsString::from("--pwfile=");
        let password_file = site.directory.join("password");
        file.push(&password_file);
        let options = ["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"];
        let options = options.into_iter().map(OsString::from);
        let before = Command {
            program: "initdb".into(),
            arguments: options.chain([data.clone().into(), file]).collect(),
            ..Command::default()
        };
        let arguments = [OsString::from("-D"), data.into(), "-k".into(), site.directory.into()];
        let here = ["-c", "listen_addresses="].into_iter().chain(fast()).map(OsString::from);
        Ok(Some(ProcessRecipe {
            programs: vec!["postgres"],
            directories: directories(subject),
            before: vec![before],
            arguments: arguments.into_iter().chain(here).collect(),
            files: vec![(password_file, password.clone())],
            by_socket: true,
            alone: false,
        }))
    }

    fn settings(&self, _: &Subject<'_>, reach: Option<&Reach>) -> AnySettings {
        let server = reach.map(|reach| Server {
            place: reach.place.clone(),
            // The server that official images set themselves up with listens on a socket, and goes away again.
            host: (reach.place != Place::Host).then(|| "127.0.0.1".to_owned()),
            socket: reach.socket.as_ref().and_then(|socket| socket.parent()).map(PathBuf::from),
            user: Some(USER.into()),
            password: Some(reach.password.clone()),
            ..Server::default()
        });
        AnySettings::Postgres(Settings { server: server.unwrap_or_default(), databases: vec![], exclude: vec![] })
    }

    fn ready(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        Clients::find(&of(settings)?.server, cancel).map(drop)
    }

    fn must_be_empty(&self, settings: &AnySettings, cancel: &Cancel) -> Result<()> {
        let settings = of(settings)?;
        let clients = Clients::find(&settings.server, cancel)?;
        let there = dump::chosen(&Postgres::new(settings.clone()), &clients, cancel)?.details.databases;
        must_be_fresh(there.first().map(|database| format!("a database {}", database.name)))
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let settings = of(scratch.settings())?;
        let (was, is) = (subject.origin.fingerprint(), super::fingerprint(settings, context)?);
        let mut comparison = match Comparison::of(was, &is) {
            Ok(comparison) => comparison,
            Err(unbound) => return Ok(unbound),
        };
        comparison.all(&was.parts, &is.parts, |was, is| counted(was, is, "rows"));
        let there: Details = details(subject)?;
        let clients = Clients::find(&settings.server, context.cancel)?;
        let mut session = Session::open(&clients, &clients.maintenance, context.cancel)?;
        let here = catalogue::details(&mut session, clients.version)?;
        if was.objects.is_empty() {
            comparison.unbound.push("the point does not say what definitions and grants there were".into());
        } else {
            // Other versions say the same in other words.
            let same_words = there.version / 10_000 == clients.major();
            let names = was.objects.keys().chain(is.objects.keys().filter(|name| !was.objects.contains_key(*name)));
            for name in names {
                let (before, now) = (was.objects.get(name), is.objects.get(name));
                let now = if same_words || before.is_none() { now } else { now.and(before) };
                comparison.part(name, before, now, |_, _| "another definition".to_owned());
            }
        }
        for role in &there.roles {
            let now = here.roles.iter().find(|now| now.name == role.name);
            // The scratch server's own superuser was there before.
            let now = if role.name == USER { now.and(Some(role)) } else { now };
            comparison.part(&format!("role {}", role.name), Some(role), now, role_told);
        }
        Ok(comparison)
    }

    fn entrance(&self) -> Option<Entrance> {
        Some(Entrance { port: 5432, user: Some(USER) })
    }

    fn ask(&self, scratch: &Scratch, question: &Question, cancel: &Cancel) -> Result<String> {
        let Question::Sql { database, query } = question else {
            return Err(question.is_not_for("PostgreSQL"));
        };
        let settings = of(scratch.settings())?;
        let clients = Clients::find(&settings.server, cancel)?;
        let database = match database {
            Some(database) => database.clone(),
            None => only(dump::chosen(&Postgres::new(settings.clone()), &clients, cancel)?.details)?,
        };
        let mut session = Session::open(&clients, &database, cancel)?;
        session.run("set search_path = public; begin read only")?;
        let query = query.trim().trim_end_matches(';');
        let answers = session.rows::<serde_json::Value>(&format!(
            "select (select value from json_each_text(row_to_json(answer)) limit 1) as value from ({query}\n) as answer limit 1"
        ));
        let answers = answers.map_err(|error| Failure::failed("the query failed").because(error.full()))?;
        let answer = answers.first().ok_or_else(|| Failure::failed("the query gave no row"))?;
        Ok(answer["value"].as_str().unwrap_or("NULL").to_owned())
    }
}

fn fast() -> impl Iterator<Item = &'static str> {
    FAST.iter().flat_map(|setting| ["-c", *setting])
}

fn of(settings: &AnySettings) -> Result<&Settings> {
    match settings {
        AnySettings::Postgres(settings) => Ok(settings),
        _ => Err(Failure::failed("these settings are not of PostgreSQL")),
    }
}

fn details(subject: &Subject<'_>) -> Result<Details> {
    serde_json::from_value(subject.origin.details().clone())
        .map_err(|e| Failure::new(Kind::Verification, "the point does not say what its databases are").because(e))
}

/// Where programs of the source's version are, and then newer ones, which read its dumps.
fn directories(subject: &Subject<'_>) -> Vec<PathBuf> {
    let major = details(subject).map_or(0, |details| details.version / 10_000);
    let all = (major..=major + 10)
        .flat_map(|major| [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")]);
    all.map(PathBuf::from).filter(|directory| directory.is_dir()).collect()
}

fn only(details: Details) -> Result<String> {
    match &details.databases[..] {
        [one] => Ok(one.name.clone()),
        all => Err(Failure::usage(format!("the point has {} databases, and the question names none", all.len()))
            .hint("Say which: `database:` beside `sql:` in `assert`")),
    }
}

fn role_told(was: &Role, is: &Role) -> String {
    match was.member_of == is.member_of {
        true => "its attributes or settings are not the same".to_owned(),
        false => "its memberships are not the same".to_owned(),
    }
}
