//! A dump of a server: everything that must hold is looked at first, then one stream of all databases in one snapshot,
//! with rows counted in the same one, and at last the question whether everything is there.
//!
//! Streams: `dump.sql` (tables, rows, views, triggers; loads by hand), `definitions.sql` (the same without rows),
//! `routines.sql` (with events), `accounts.sql` (when the user may read them).

use super::catalog::{self, Catalog, some};
use super::client::{Client, Flavour, Version};
use super::fingerprint::{self, Measured};
use super::observe::{Observed, Seen};
use super::observed_objects;
use super::privileges::Grants;
use super::session::{Session, error_number};
use super::snapshot::{self, Snapshot};
use super::views::{self, Broken};
use super::{ACCOUNTS, DEFINITIONS, DUMP, Details, ROUTINES, Settings, accounts, leftovers, programs};
use crate::clock;
use crate::engine::leftovers::UNFINISHED;
use crate::engine::{DumpRun, Dumped, Fingerprint, Sink};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::Remarks;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What dump programs die of when somebody changes tables under them.
const CHANGED: [u16; 4] = [1412, 1146, 1054, 1051];

/// How long everybody who writes waits for a dump to begin. The program keeps its first lines back until there are some
/// kilobytes of them, and a first table may take its time.
const PATIENCE: Duration = Duration::from_secs(15);

/// Lines that say nothing about this dump.
const HARMLESS: [&str; 2] = ["masking policies", "Using a password on the command line"];

/// A server that has been looked at, ready to be dumped.
struct Ready<'a> {
    client: Client<'a>,
    grants: Grants,
    databases: Vec<String>,
    program: String,
    arguments: Vec<String>,
    with_accounts: bool,
    broken_views: Vec<Broken>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

/// Finds out without changing anything whether a dump could work.
pub fn preflight(settings: &Settings) -> Result<()> {
    prepare(settings, &Cancel::default()).map(drop)
}

fn prepare<'a>(settings: &'a Settings, cancel: &Cancel) -> Result<Ready<'a>> {
    let (client, mut session) = Client::connect(&settings.server, cancel)?;
    let (program, version) = client.dump_program(cancel)?;
    let grants = Grants::read(&mut session, &client)?;
    if settings.databases.is_empty() {
        grants.must_see_all_databases()?;
    }
    let all = catalog::databases(&mut session)?;
    let mut databases = catalog::choose(all, &settings.databases, &settings.exclude)?;
    let unfinished = leftovers::unfinished(&mut session)?;
    if let Some(wanted) = settings.databases.iter().find(|wanted| unfinished.contains(wanted)) {
        return Err(Failure::new(Kind::Refused, format!("database {wanted} is {UNFINISHED}"))
            .hint("Wait for the restore, or run it again; leave the database out of `databases` until then"));
    }
    databases.retain(|database| !unfinished.contains(database));
    let location = settings.server.location();
    let left = |database: &String| leftovers::leftover(database, &location, UNFINISHED).told();
    let warnings = unfinished.iter().map(left).collect();
    for database in &databases {
        grants.must_dump(database, &client.version)?;
    }
    let mut notes = Vec::new();
    let accounts = grants.must_dump_accounts();
    let with_accounts = accounts.is_ok();
    match accounts {
        // A user of one database cannot see the others' accounts, and need not.
        Err(_) if !settings.databases.is_empty() => {
            notes.push("users and grants are not in this point: SELECT on `mysql`.* is missing".to_owned());
        }
        other => other?,
    }
    catalog::must_be_loadable(&mut session, client.version.flavour, &databases)?;
    session.close()?;
    let broken_views = views::broken(&client, &databases, cancel)?;
    let arguments = arguments(&version, &client.version, &databases, &broken_views);
    Ok(Ready { client, grants, databases, program, arguments, with_accounts, broken_views, warnings, notes })
}

/// Options of the dump program. Rows and definitions only: routines and events are written by bkp. Those at the end undo
/// what option files (`my.cnf`) may say, which would make a dump that looks whole.
fn arguments(program: &Version, server: &Version, databases: &[String], broken_views: &[Broken]) -> Vec<String> {
    let mut all: Vec<String> = [
        "--single-transaction",
        "--quick",
        "--hex-blob",
        "--triggers",
        "--skip-routines",
        "--skip-events",
        "--skip-add-locks",
        "--no-tablespaces",
        "--default-character-set=utf8mb4",
        "--skip-dump-date",
        "--order-by-primary",
        "--max-allowed-packet=1G",
        "--where=1=1",
        "--skip-no-data",
        "--skip-no-create-info",
        "--skip-replace",
        "--skip-insert-ignore",
        "--skip-compact",
        "--comments",
        "--set-charset",
    ]
    .map(str::to_owned)
    .into();
    if program.flavour == Flavour::Mysql {
        all.push("--set-gtid-purged=OFF".into());
    }
    if program.at_least(Flavour::Mysql, (8, 0, 0)) {
        all.push("--column-statistics=0".into());
    }
    let history = (10, 11, 0);
    if program.at_least(Flavour::Mariadb, history) && server.at_least(Flavour::Mariadb, history) {
        all.push("--dump-history".into());
    }
    all.extend(broken_views.iter().map(|view| format!("--ignore-table={}.{}", view.database, view.name)));
    all.extend(["--databases".to_owned(), "--".to_owned()]);
    all.extend(databases.iter().cloned());
    all
}

pub fn dump(settings: &Settings, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
    let cancel = run.context.cancel;
    let ready = prepare(settings, cancel)?;
    let mut guard = ready.client.session(cancel)?;
    keep_definitions_still(&mut guard, &ready)?;
    let catalog = ready.catalog(&mut guard)?;
    let programs = programs::write(&mut guard, &catalog.programs)?;
    let accounts = ready.accounts(&mut guard, &catalog)?;
    let parts = rows(settings, &ready, &catalog, sink, run)?;
    compare(&ready, &catalog, &parts.seen, &mut guard)?;
    parts.must_have_rows(&catalog)?;
    sink.stream(DEFINITIONS, &mut &parts.seen.definitions)?;
    let routines = format!("{}{}", programs.sql, views::text(&ready.broken_views));
    sink.stream(ROUTINES, &mut routines.as_bytes())?;
    if let Some(accounts) = &accounts {
        sink.stream(ACCOUNTS, &mut accounts.sql().as_bytes())?;
    }
    let objects = observed_objects::of_source(&mut guard, &catalog.databases, &ready.broken_views, accounts.as_ref())?;
    let details = Details::read(&mut guard, &ready.client, &catalog, parts.seen.longest_statement)?;
    guard.close()?;
    let mut dumped = parts.into_dumped(&ready, &catalog, settings, details)?;
    dumped.fingerprint.objects = objects;
    dumped.warnings.extend(views::warning(&ready.broken_views));
    dumped.warnings.extend(ready.warnings);
    dumped.notes.extend(ready.notes);
    dumped.notes.extend(programs.notes);
    if let Some(accounts) = accounts {
        dumped.inventory.insert("accounts".into(), accounts.created.len() as u64);
    }
    Ok(dumped)
}

impl Ready<'_> {
    /// What there is, but for what no dump can hold.
    fn catalog(&self, session: &mut Session<'_>) -> Result<Catalog> {
        let catalog = Catalog::read(session, &self.client, self.databases.clone())?;
        Ok(catalog.without_views(self.broken_views.len()))
    }

    /// Where the user may read them.
    fn accounts(&self, session: &mut Session<'_>, catalog: &Catalog) -> Result<Option<accounts::Accounts>> {
        let is_broken =
            |database: &str, name: &str| self.broken_views.iter().any(|v| v.database == database && v.name == name);
        let has = |database: &str, name: &str| catalog.has(database, name) && !is_broken(database, name);
        self.with_accounts.then(|| accounts::of_databases(session, &self.client, &has)).transpose()
    }
}

/// The fingerprint that a dump of this very moment would have, had nobody written meanwhile.
pub fn fingerprint(settings: &Settings, cancel: &Cancel) -> Result<Fingerprint> {
    let ready = prepare(settings, cancel)?;
    let mut session = ready.client.session(cancel)?;
    let catalog = ready.catalog(&mut session)?;
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
    let measured = fingerprint::measure(&mut session, &ready.client.version, &catalog.tables)?;
    let accounts = ready.accounts(&mut session, &catalog)?;
    let objects =
        observed_objects::of_source(&mut session, &catalog.databases, &ready.broken_views, accounts.as_ref())?;
    session.close()?;
    Ok(Fingerprint { objects, ..measured.fingerprint })
}

/// MySQL can keep changes of definitions out while rows come and go. MariaDB's dump fails when one happens.
fn keep_definitions_still(session: &mut Session<'_>, ready: &Ready<'_>) -> Result<()> {
    let able = ready.client.version.at_least(Flavour::Mysql, (8, 0, 0)) && ready.grants.may_globally("BACKUP_ADMIN");
    if !able {
        return Ok(());
    }
    session.run("SET SESSION lock_wait_timeout = 60")?;
    session.run("LOCK INSTANCE FOR BACKUP").map_err(|failure| match error_number(&failure.full()) {
        Some(1205) => Failure::new(Kind::TryLater, "a change of some table's definition has been going on for 60 s")
            .hint("Run the command again when it has ended")
            .because(failure),
        _ => failure,
    })
}

/// What the dump of the rows gave.
struct Parts {
    seen: Seen,
    measured: Measured,
    consistent_at: jiff::Timestamp,
    position: Option<serde_json::Value>,
    bound: bool,
    warnings: Vec<String>,
    notes: Vec<String>,
}

fn rows(
    settings: &Settings,
    ready: &Ready<'_>,
    catalog: &Catalog,
    sink: &mut dyn Sink,
    run: &DumpRun<'_>,
) -> Result<Parts> {
    let (client, cancel) = (&ready.client, run.context.cancel);
    let definitions = spool(&run.scratch)?;
    if catalog.databases.is_empty() {
        return nothing(client, definitions, sink);
    }
    let lock_all = settings.lock_tables && !catalog.not_transactional().is_empty();
    // Ended with the dump, or when the dump fails: its answers may be far away then, or may never come.
    let counting = Cancel::default();
    let mut snapshot = snapshot::take(client, &ready.grants, settings, &counting)?;
    let remarks = Remarks::default();
    let output = client.dump(&ready.program, &ready.arguments, &remarks, cancel)?;
    let mut observed = Observed::new(output, definitions, run.context);
    let begun = match lock_all {
        true => observed.wait_for_beginning(),
        false => beginning(&mut observed, &mut snapshot),
    };
    begun.map_err(|failure| explain(failure, client))?;
    snapshot.release(client, lock_all, cancel)?;
    let (mut warnings, notes) = (std::mem::take(&mut snapshot.warnings), std::mem::take(&mut snapshot.notes));
    let (consistent_at, position, bound) = (snapshot.consistent_at, snapshot.position.take(), snapshot.bound);
    let measured = beside(client, catalog, snapshot, &counting, || {
        sink.stream(DUMP, &mut observed).map_err(|failure| explain(failure, client))
    })?;
    let seen = observed.finish()?;
    warnings.extend(said(&ready.program, &remarks));
    Ok(Parts { seen, measured, consistent_at, position, bound, warnings, notes })
}

/// Waits for the dump's transaction to begin, but does not let everybody else wait for it without end.
fn beginning(observed: &mut Observed<'_>, snapshot: &mut Snapshot<'_>) -> Result<()> {
    let (begun, beginning) = mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let outcome = observed.wait_for_beginning();
            let _ = begun.send(());
            outcome
        });
        let unlocked = match beginning.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => snapshot.let_writers_go_on(),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        };
        let begun = waiting.join().unwrap_or_else(|_| Err(Failure::failed("waiting for the dump broke off")));
        begun.and(unlocked)
    })
}

/// What a dump program that ended well complained about.
fn said(program: &str, remarks: &Remarks) -> Vec<String> {
    let lines = remarks.lines().into_iter().filter(|line| !HARMLESS.iter().any(|harmless| line.contains(harmless)));
    lines.map(|line| format!("{program} says: {line}")).collect()
}

/// Counts rows in the snapshot while `dump` goes on. When the dump fails, the counting is ended too.
fn beside(
    client: &Client<'_>,
    catalog: &Catalog,
    snapshot: Snapshot<'_>,
    cancel: &Cancel,
    dump: impl FnOnce() -> Result<()>,
) -> Result<Measured> {
    let mut session = snapshot.session;
    std::thread::scope(|scope| {
        let counting = scope.spawn(move || {
            let measured = fingerprint::measure(&mut session, &client.version, &catalog.tables);
            measured.and_then(|measured| session.close().map(|()| measured))
        });
        let dumped = dump();
        if dumped.is_err() {
            cancel.set(Kind::Terminated);
        }
        let measured = counting.join().unwrap_or_else(|_| Err(Failure::failed("counting rows broke off")));
        dumped.and(measured)
    })
}

fn nothing(client: &Client<'_>, definitions: File, sink: &mut dyn Sink) -> Result<Parts> {
    sink.stream(DUMP, &mut "-- This server has no databases.\n-- Dump completed\n".as_bytes())?;
    let counts = ["databases", "tables", "views", "triggers", "sequences"].map(|what| (what, 0));
    let mut measured = Measured::default();
    measured.fingerprint.method = fingerprint::method(&client.version, true);
    Ok(Parts {
        seen: Seen { counts: counts.into(), definitions, longest_statement: 0, with_rows: BTreeSet::new() },
        measured,
        consistent_at: clock::now(),
        position: None,
        bound: true,
        warnings: vec!["there are no databases: this point holds users and grants only".into()],
        notes: Vec::new(),
    })
}

/// A nameless file in the run's own directory.
fn spool(directory: &Path) -> Result<File> {
    std::fs::create_dir_all(directory)
        .and_then(|()| tempfile::tempfile_in(directory))
        .context(|| format!("cannot write into {}", directory.display()))
}

/// Definitions that changed under the dump are no fault of anybody: it may be run again.
fn explain(failure: Failure, client: &Client<'_>) -> Failure {
    let full = failure.full();
    // `Couldn't execute 'show create table `t`': Table 'd.t' doesn't exist (1146)`, or with the number before the text.
    let told = |number: &u16| full.contains(&format!("({number})")) || error_number(&full) == Some(*number);
    let changed = CHANGED.iter().any(told);
    if changed || full.contains("Table definition has changed") || full.contains("field count") {
        return Failure::new(Kind::TryLater, "a table was changed, emptied or dropped while it was dumped")
            .hint("Run the command again; on MySQL, BACKUP_ADMIN for the user keeps such changes out")
            .passing()
            .because(failure);
    }
    client.explain(failure)
}

/// The stream must hold what the server has; `again` asks it once more, for what was changed meanwhile.
fn compare(ready: &Ready<'_>, catalog: &Catalog, seen: &Seen, session: &mut Session<'_>) -> Result<()> {
    let differs = |catalog: &Catalog| {
        let counts = catalog.counts();
        seen.counts.iter().find(|(what, count)| counts.get(**what) != Some(count)).map(|(what, count)| {
            format!("the dump holds {count} {what}, the server has {}", counts.get(*what).copied().unwrap_or(0))
        })
    };
    let Some(before) = differs(catalog) else { return Ok(()) };
    let now = ready.catalog(session)?;
    if now.counts() == catalog.counts() {
        return Err(Failure::new(Kind::Verification, before)
            .hint("The dump program left something out. Compare by hand: mysqldump --no-data"));
    }
    Err(Failure::new(Kind::TryLater, format!("{before}: definitions were changed during the dump"))
        .hint("Run the command again")
        .passing())
}

impl Parts {
    /// A table that has rows must have some in the dump. What servers keep of the past is not always dumped.
    fn must_have_rows(&self, catalog: &Catalog) -> Result<()> {
        let counted = |path: &str| self.measured.fingerprint.parts.get(path).map_or(0, |part| part.count);
        let empty = catalog.tables.iter().filter(|table| self.bound && !table.versioned).map(|table| table.path());
        match empty.into_iter().find(|path| counted(path) > 0 && !self.seen.with_rows.contains(path)) {
            None => Ok(()),
            Some(path) => {
                let text = format!("the dump holds no row of {path}, the server has {}", counted(&path));
                Err(Failure::new(Kind::Verification, text)
                    .hint("Look for options like `ignore-table-data` in the client's option files: mysqldump --print-defaults"))
            }
        }
    }

    fn into_dumped(
        mut self,
        ready: &Ready<'_>,
        catalog: &Catalog,
        settings: &Settings,
        details: Details,
    ) -> Result<Dumped> {
        let mut inventory: BTreeMap<String, u64> = catalog.counts().clone();
        inventory.retain(|what, count| *count > 0 || what == "databases" || what == "tables");
        let loose = catalog.not_transactional();
        if !loose.is_empty() && !settings.lock_tables {
            self.warnings.push(format!(
                "tables without transactions may have changed while they were dumped: {}. Convert them to InnoDB, or set `lock_tables: true`",
                some(&loose)
            ));
        }
        if !self.measured.rounded.is_empty() {
            self.warnings.push(format!(
                "the client rounds values of FLOAT columns, and the dump has them rounded: {}. DOUBLE is exact",
                some(&self.measured.rounded)
            ));
        }
        let mut fingerprint = self.measured.fingerprint;
        fingerprint.method = fingerprint::method(&ready.client.version, self.bound);
        Ok(Dumped {
            version: ready.client.version.to_string(),
            consistent_at: self.consistent_at,
            inventory,
            fingerprint,
            warnings: self.warnings,
            notes: self.notes,
            restore_hint: "mysql --comments < dump.sql, then routines.sql, then accounts.sql (definitions.sql is dump.sql without rows)".into(),
            position: self.position,
            details: serde_json::to_value(details)
                .map_err(|e| Failure::failed("cannot write down what the server is").because(e))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_fit_flavour_and_version() {
        let of = |text: &str| Version::of_client(text);
        let mysql = of("mysqldump  Ver 9.7.4 for Linux");
        let arguments_of = |program: &Version| arguments(program, program, &["-a b".to_owned()], &[]).join(" ");
        let text = arguments_of(&mysql);
        assert!(text.contains("--column-statistics=0 ") && text.ends_with("--databases -- -a b"), "{text}");
        let old = arguments_of(&of("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux"));
        assert!(!old.contains("column-statistics") && old.contains("--set-gtid-purged=OFF"), "{old}");
        let mariadb = arguments_of(&of("mariadb-dump from 11.8.3-MariaDB, client 10.19"));
        assert!(!mariadb.contains("gtid") && mariadb.contains("--dump-history"), "{mariadb}");
        assert!(!arguments_of(&of("mysqldump  Ver 10.19 Distrib 10.6.1-MariaDB")).contains("history"));
    }
}
