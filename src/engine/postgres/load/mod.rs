//! Restores: every database is loaded under a name of its own, compared with the fingerprint, and gets its real name last.
//!
//! All that can be known to be wrong is refused before anything is written. Until the last step, which names all databases
//! in one transaction, what was there is untouched; what a failure leaves is removed, or named where that fails too.
//! Roles come along only into a server of its own or in place, without passwords, and never over one that is there.

mod create;
mod placing;
mod restoring;
mod roles;
mod select;

use super::archive;
use super::catalogue::{self, Database, Details};
use super::client::Clients;
use super::fingerprint::{self, Parts};
use super::session::Session;
use super::{Postgres, leftovers, snapshot, sql};
use crate::durable;
use crate::engine::{Leftover, LoadRun, Loaded, Naming, OnDifference, Origin, Part, Target};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

/// One database on its way back.
struct Item<'d> {
    database: &'d Database,
    /// Only this table of it, with what belongs to it.
    table: Option<String>,
    /// What it is called while it is loaded, and at the end.
    temporary: String,
    name: String,
    /// There is one of that name, which it takes the place of.
    replaces: bool,
}

/// What the server that is loaded into has already.
struct There {
    databases: BTreeSet<String>,
    roles: BTreeSet<String>,
    /// Of these, who may not log in.
    closed: BTreeSet<String>,
    tablespaces: BTreeSet<String>,
}

impl There {
    fn look(session: &mut Session<'_>) -> Result<Self> {
        let mut set = |table: &str, column: &str| -> Result<BTreeSet<String>> {
            let query = format!("select {column} as value from {table}");
            Ok(catalogue::strings(session, &query)?.into_iter().collect())
        };
        Ok(There {
            databases: set("pg_database", "datname")?,
            roles: set("pg_roles", "rolname")?,
            closed: set("pg_roles where not rolcanlogin", "rolname")?,
            tablespaces: set("pg_tablespace", "spcname")?,
        })
    }
}

pub fn load(engine: &Postgres, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
    let cancel = run.context.cancel;
    cancel.check()?;
    let naming = match target {
        Target::NewDatabases(naming) => Some(naming),
        Target::Live(_) => None,
        _ => {
            return Err(Failure::usage("a PostgreSQL dump is restored into databases, not into a file")
                .hint("Restore into new databases, or export the streams and use pg_restore"));
        }
    };
    let details: Details = serde_json::from_value(origin.details().clone())
        .map_err(|e| Failure::new(Kind::Verification, "the point does not say what its databases are").because(e))?;
    let mut clients = Clients::find(&engine.settings.server, cancel)?;
    check_version(&clients, &details)?;
    let mut session = Session::open(&clients, &clients.maintenance, cancel)?;
    let there = There::look(&mut session)?;
    let items = planned(&details, naming, run, &there, &clients, cancel)?;
    check_extensions(&mut session, &items)?;
    if items.iter().any(|item| item.replaces && item.name == clients.maintenance) {
        clients.maintenance = "template1".into();
        session = Session::open(&clients, &clients.maintenance, cancel)?;
    }
    let left = leftovers::all(&mut session, &engine.settings.server.location())?;
    let mut loaded = Loaded::default();
    let mut new_roles = Vec::new();
    let with_roles = matches!(naming, None | Some(Naming::Same));
    if with_roles {
        let all = run.part == Part::Whole;
        let wanted = roles::Wanted { details: &details, items: &items, all, returning: run.returning };
        let came = roles::create(&mut session, &clients, &wanted, &there)?;
        (loaded.warnings, new_roles) = (came.warnings, came.new);
    } else {
        check_roles(&items, &there)?;
    }
    let loading = Loading { clients: &clients, origin, run, there: &there, details: &details };
    match loading.all(&mut session, &items, &mut loaded) {
        Ok(()) => {
            loaded.warnings.extend(left.iter().map(Leftover::told));
            Ok(loaded)
        }
        Err(failure) => Err(cleared(&clients, &items, &new_roles, failure)),
    }
}

fn check_version(clients: &Clients, details: &Details) -> Result<()> {
    let source = details.version / 10_000;
    if clients.major() >= source {
        return Ok(());
    }
    let text = format!(
        "the point is of PostgreSQL {source} and this server is {}: a dump does not load into an older server",
        clients.major()
    );
    Err(Failure::new(Kind::Refused, text).hint(format!("Restore into PostgreSQL {source} or newer")))
}

/// What is to be done, or why it cannot.
fn planned<'d>(
    details: &'d Details,
    naming: Option<&Naming>,
    run: &LoadRun<'_>,
    there: &There,
    clients: &Clients,
    cancel: &Cancel,
) -> Result<Vec<Item<'d>>> {
    let (database, table) = match &run.part {
        Part::Whole => (None, None),
        Part::Database(database) => (Some(database), None),
        Part::Table { database, table } => (Some(database), Some(table)),
        Part::Path(_) => {
            return Err(Failure::usage("a PostgreSQL point holds databases and no paths: --path does not apply"));
        }
    };
    let wanted: Vec<&Database> =
        details.databases.iter().filter(|d| database.is_none_or(|name| *name == d.name)).collect();
    if let (Some(name), true) = (database, wanted.is_empty()) {
        let names: Vec<&str> = details.databases.iter().map(|d| d.name.as_str()).collect();
        return Err(Failure::usage(format!("the point holds no database `{name}`"))
            .hint(format!("It holds: {}", names.join(", "))));
    }
    if table.is_some() && matches!(naming, None | Some(Naming::Same)) {
        return Err(Failure::usage("a single table is restored into a database of its own, never in place")
            .hint("Give that database a name, and copy from there what is wanted"));
    }
    if matches!(naming, Some(Naming::As(_))) && wanted.len() != 1 {
        return Err(Failure::usage(format!("the point holds {} databases: one name does not fit them", wanted.len()))
            .hint("Say which database is wanted"));
    }
    let mut items = Vec::new();
    for database in wanted {
        let name = match naming {
            None | Some(Naming::Same) => database.name.clone(),
            Some(Naming::Suffix(suffix)) => format!("{}{suffix}", database.name),
            Some(Naming::As(name)) => name.clone(),
        };
        if name.is_empty() || name.len() > 63 {
            return Err(Failure::usage(format!("`{name}` is no name for a database: it must have 1 to 63 bytes")));
        }
        let is_there = there.databases.contains(&name);
        let free = !is_there || naming.is_none() || (name == "postgres" && is_empty(clients, &name, cancel)?);
        if !free {
            return Err(Failure::new(
                Kind::Refused,
                format!("there is a database {name} already; nothing was changed"),
            )
            .hint("Choose another name, or drop it first if nobody needs it"));
        }
        let temporary =
            sql::fitted(&format!("{}{}", leftovers::STAGED, database.name), &format!("_{}", durable::random_hex(4)));
        items.push(Item { database, table: table.cloned(), temporary, name, replaces: is_there });
    }
    Ok(items)
}

fn is_empty(clients: &Clients, database: &str, cancel: &Cancel) -> Result<bool> {
    catalogue::is_untouched(&mut Session::open(clients, database, cancel)?)
}

fn check_extensions(session: &mut Session<'_>, items: &[Item<'_>]) -> Result<()> {
    let query = "select name as value from pg_available_extensions";
    let available: BTreeSet<String> = catalogue::strings(session, query)?.into_iter().collect();
    for item in items {
        let missing = item.database.extensions.iter().filter(|e| !available.contains(&e.name));
        let missing: Vec<String> = missing.map(|e| format!("{} {}", e.name, e.version)).collect();
        if !missing.is_empty() {
            return Err(Failure::failed(format!(
                "the server lacks extensions that database {} needs: {}; nothing was changed",
                item.database.name,
                missing.join(", ")
            ))
            .hint("Install their packages on the server, or restore into the image that the source uses"));
        }
    }
    Ok(())
}

/// Owners and grants are restored as they were, so those roles must be there.
fn check_roles(items: &[Item<'_>], there: &There) -> Result<()> {
    let needed = items.iter().flat_map(|item| item.database.roles.iter().chain([&item.database.owner]));
    let missing: BTreeSet<&String> = needed.filter(|role| !there.roles.contains(*role)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|role| (*role).clone()).collect();
    let create: Vec<String> = names.iter().map(|role| format!("CREATE ROLE {};", sql::name(role))).collect();
    Err(Failure::new(
        Kind::Refused,
        format!("the server lacks roles that own or may do things: {}", snapshot::few(&names)),
    )
    .hint(format!("Create them first: {}", create.join(" "))))
}

/// Removes what was begun, and adds to the failure what could not be removed.
fn cleared(clients: &Clients, items: &[Item<'_>], new_roles: &[String], failure: Failure) -> Failure {
    // Also after a signal: what is left would only puzzle.
    let never = Cancel::default();
    let left: Vec<&str> = items
        .iter()
        .map(|item| item.temporary.as_str())
        .filter(|name| placing::remove(clients, name, &never).is_err())
        .collect();
    let databases = left.iter().map(|name| format!("DROP DATABASE IF EXISTS {};", sql::name(name)));
    let roles = new_roles.iter().filter(|role| placing::remove_role(clients, role, &never).is_err());
    let roles = roles.map(|role| format!("DROP ROLE IF EXISTS {};", sql::name(role)));
    let drop: Vec<String> = databases.chain(roles).collect();
    if drop.is_empty() {
        return failure;
    }
    let hint = failure.next_step().map(|step| format!("{step}. ")).unwrap_or_default();
    failure.hint(format!("{hint}What was begun may be left; remove it as a superuser: {}", drop.join(" ")))
}

struct Loading<'l> {
    clients: &'l Clients,
    origin: &'l dyn Origin,
    run: &'l LoadRun<'l>,
    there: &'l There,
    details: &'l Details,
}

impl Loading<'_> {
    fn all(&self, session: &mut Session<'_>, items: &[Item<'_>], loaded: &mut Loaded) -> Result<()> {
        for item in items {
            self.one(session, item, loaded)?;
            durable::crash_point("restore:data-written");
        }
        durable::crash_point("restore:before-live");
        let replaced = placing::make_live(session, self.clients, items, self.run.context.cancel)?;
        durable::crash_point("restore:after-live");
        loaded.warnings.extend(placing::put_aside(self.clients, &replaced, self.run));
        Ok(())
    }

    fn one(&self, maintenance: &mut Session<'_>, item: &Item<'_>, loaded: &mut Loaded) -> Result<()> {
        let cancel = self.run.context.cancel;
        let stream = &item.database.stream;
        let list = match &item.table {
            Some(table) => {
                let entries = archive::list(&mut self.origin.stream(stream)?)?;
                Some(select::table(&entries, table)?)
            }
            None => None,
        };
        create::database(maintenance, self.clients, item, self.there)?;
        durable::crash_point("restore:target-begun");
        let ids = list.as_ref().map(|list| list.ids.as_slice());
        loaded.bytes += restoring::Restore {
            clients: self.clients,
            context: self.run.context,
            database: &item.temporary,
            size: item.database.bytes,
            tablespaces: self.details.tablespaces.iter().all(|name| self.there.tablespaces.contains(name)),
        }
        .run(self.origin.stream(stream)?, ids)
        .map_err(|failure| of_database(failure, &item.database.name))?;
        let mut session = Session::open(self.clients, &item.temporary, cancel)?;
        session.run("analyze")?;
        self.compare(&mut session, item, list.as_ref().map(|list| list.tables.as_slice()))?;
        session.close()?;
        loaded.warnings.extend(create::properties(maintenance, item)?);
        loaded.items += 1;
        Ok(())
    }

    /// What is in the new database against the fingerprint of the point.
    fn compare(&self, session: &mut Session<'_>, item: &Item<'_>, only: Option<&[(String, String)]>) -> Result<()> {
        let expected = self.origin.fingerprint();
        if expected.method != fingerprint::METHOD || self.run.on_difference == OnDifference::LeaveToRehearsal {
            return Ok(());
        }
        let database = &item.database.name;
        let mut tables = catalogue::tables(session)?;
        let rows = match only {
            Some(only) => {
                tables.retain(|t| only.iter().any(|(schema, name)| *schema == t.schema && *name == t.name));
                let mut rows = fingerprint::rows(session, &tables, self.run.context, &AtomicBool::new(false))?;
                rows.large_objects = None;
                rows
            }
            None => fingerprint::rows(session, &tables, self.run.context, &AtomicBool::new(false))?,
        };
        let sequences = if only.is_some() { None } else { fingerprint::sequences(session, &tables)? };
        let found = fingerprint::parts(database, &tables, rows, sequences);
        let prefix = format!("{}.", sql::path(&[database]));
        let wanted: Parts = expected
            .parts
            .iter()
            .filter(|(name, _)| if only.is_some() { found.contains_key(*name) } else { name.starts_with(&prefix) })
            .map(|(name, part)| (name.clone(), part.clone()))
            .collect();
        let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
        let different: Vec<String> =
            names.into_iter().filter(|name| wanted.get(*name) != found.get(*name)).cloned().collect();
        if different.is_empty() {
            return Ok(());
        }
        let text =
            format!("what was loaded is not what the fingerprint of the point says: {}", snapshot::few(&different));
        Err(Failure::new(Kind::Verification, text).hint("Take another point, and look at this one: bkp check"))
    }
}

fn of_database(failure: Failure, database: &str) -> Failure {
    let said = failure.full();
    if !said.contains("pg_restore: ") && !failure.to_string().contains("pg_restore") {
        return failure;
    }
    let hint = match said.contains("No space left on device") {
        true => {
            "The disk of the server is full: make room where its data is, and run the command again; nothing of what was there has changed"
        }
        false => "Read what the server said; nothing of what was there has changed",
    };
    Failure::new(failure.kind(), format!("database {database} cannot be loaded")).because(said).hint(hint)
}
