//! Dumps: the roles of the server, and one archive for each database.
//!
//! Every archive is walked to its end while it streams past, and compared with what the server itself counted in the same
//! snapshot: objects of each kind, rows of each table, large objects. Databases are consistent each in itself; their
//! snapshots are taken together, a few at a time.
//! The first bytes of an archive come when `pg_dump` has all its locks, so until then a dump can begin again.

use super::archive::{Contents, Walked};
use super::catalogue::{self, Database, Details, Table};
use super::client::{Clients, explained};
use super::fingerprint::{self, Parts, Rows};
use super::session::Session;
use super::snapshot::{self, ATTEMPTS, Snapshot};
use super::{Postgres, leftovers, objects, sql};
use crate::clock;
use crate::engine::leftovers::UNFINISHED;
use crate::engine::transfer::Metered;
use crate::engine::{DumpRun, Dumped, Sink};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::Remarks;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Snapshots held at the same time; each takes a connection.
const AT_ONCE: usize = 8;
/// `pg_dump` is killed when it gives nothing for so long.
const SILENCE: Duration = Duration::from_secs(30 * 60);
pub const GLOBALS: &str = "globals.sql";
const END_OF_GLOBALS: &str = "-- PostgreSQL database cluster dump complete\n--";

const POSITION: &str = "
select (select system_identifier::text from pg_control_system()) as system_identifier,
  (select timeline_id from pg_control_checkpoint()) as timeline,
  (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text as lsn";

/// The kinds that are counted, as `pg_dump` calls them and as people do.
const KINDS: &[(&str, &str)] = &[
    ("TABLE", "tables"),
    ("VIEW", "views"),
    ("MATERIALIZED VIEW", "materialized views"),
    ("SEQUENCE", "sequences"),
    ("FOREIGN TABLE", "foreign tables"),
    ("FUNCTION", "functions"),
    ("PROCEDURE", "procedures"),
    ("AGGREGATE", "aggregates"),
    ("TRIGGER", "triggers"),
    ("EVENT TRIGGER", "event triggers"),
    ("POLICY", "policies"),
    ("INDEX", "indexes"),
    ("CONSTRAINT", "constraints"),
    ("FK CONSTRAINT", "foreign keys"),
    ("TYPE", "types"),
    ("DOMAIN", "domains"),
    ("EXTENSION", "extensions"),
    ("PUBLICATION", "publications"),
    ("SUBSCRIPTION", "subscriptions"),
];

/// What the dump of one database gave.
struct Archived {
    contents: Contents,
    parts: Parts,
    objects: BTreeMap<String, String>,
    said: Said,
}

/// What a client that ended well complained about.
#[derive(Default)]
struct Said {
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Said {
    /// Foreign keys in a circle are made after all rows, and are in nobody's way.
    fn of(program: &str, about: &str, remarks: &Remarks) -> Self {
        let mut said = Said::default();
        let mut harmless = false;
        for line in remarks.lines() {
            let explains = ["detail:", "hint:"].iter().any(|word| line.contains(word));
            harmless = if explains { harmless } else { line.contains("circular foreign-key") };
            let text = line.strip_prefix(&format!("{program}: ")).unwrap_or(&line);
            let list = if harmless { &mut said.notes } else { &mut said.warnings };
            list.push(format!("{program} says of {about}: {text}"));
        }
        said
    }
}

pub fn dump(engine: &Postgres, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
    let cancel = run.context.cancel;
    cancel.check()?;
    let clients = Clients::find(&engine.settings.server, cancel)?;
    let Chosen { mut details, mut warnings, position } = chosen(engine, &clients, cancel)?;
    for database in &details.databases {
        warnings.extend(look_at(&clients, database, cancel)?);
    }
    let (globals, said) = globals(&clients, &details, cancel)?;
    warnings.extend(said.warnings);
    let mut told = said.notes;
    sink.stream(GLOBALS, &mut Metered::new(Cursor::new(globals), run.context))?;
    let mut inventory = BTreeMap::from([
        ("databases".to_owned(), details.databases.len() as u64),
        ("roles".to_owned(), details.roles.len() as u64),
    ]);
    let (mut parts, mut objects) = (Parts::new(), BTreeMap::new());
    let lock_wait = engine.lock_wait;
    let begun = clock::now();
    for some in details.databases.chunks_mut(AT_ONCE) {
        let snapshots: Vec<Snapshot<'_>> =
            some.iter().map(|d| Snapshot::open(&clients, &d.name, lock_wait, cancel)).collect::<Result<_>>()?;
        for (database, snapshot) in some.iter_mut().zip(snapshots) {
            let archived =
                Job { clients: &clients, context: run.context, lock_wait }.archive(database, snapshot, sink)?;
            if archived.contents.unknown {
                warnings.push(format!(
                    "the archive of {} is of version {}, which is newer than bkp knows: that it is whole is only what pg_dump says",
                    database.name, archived.contents.version
                ));
            }
            count(&archived.contents, &mut inventory);
            warnings.extend(archived.said.warnings);
            told.extend(archived.said.notes);
            parts.extend(archived.parts);
            objects.extend(archived.objects);
        }
    }
    let instants = details.databases.iter().filter_map(|d| d.consistent_at);
    let (first, last) = (instants.clone().min(), instants.max());
    Ok(Dumped {
        version: clients.version_text.clone(),
        consistent_at: first.unwrap_or(begun),
        inventory,
        fingerprint: fingerprint::of(parts, objects),
        warnings,
        notes: notes(&details, first, last).into_iter().chain(told).collect(),
        restore_hint: "psql -f globals.sql (roles, without passwords), createdb NAME -T template0, then for each \
                       database: pg_restore --exit-on-error -d NAME FILE.dump"
            .into(),
        position: Some(position),
        details: serde_json::to_value(&details).map_err(|e| Failure::failed("cannot keep the details").because(e))?,
    })
}

/// Whether a dump could work.
pub fn preflight(engine: &Postgres, cancel: &Cancel) -> Result<()> {
    let clients = Clients::find(&engine.settings.server, cancel)?;
    let chosen = chosen(engine, &clients, cancel)?;
    chosen.details.databases.iter().try_for_each(|database| look_at(&clients, database, cancel).map(|_| ()))
}

pub struct Chosen {
    pub details: Details,
    pub warnings: Vec<String>,
    /// Of the server's log, before anything of it is dumped.
    pub position: serde_json::Value,
}

/// The databases that the settings mean, each with the name of its stream.
pub fn chosen(engine: &Postgres, clients: &Clients, cancel: &Cancel) -> Result<Chosen> {
    let settings = &engine.settings;
    let mut session = Session::open(clients, &clients.maintenance, cancel)?;
    let mut details = catalogue::details(&mut session, clients.version)?;
    let position = session.row(POSITION)?;
    let is_named = |name: &str| settings.databases.iter().any(|wanted| wanted == name);
    if let Some(missing) = settings.databases.iter().find(|name| details.databases.iter().all(|d| d.name != **name)) {
        let there: Vec<String> = details.databases.iter().map(|d| d.name.clone()).collect();
        return Err(Failure::usage(format!("there is no database `{missing}`"))
            .hint(format!("There are: {}", there.join(", "))));
    }
    let mut warnings = Vec::new();
    let mut streams = BTreeSet::from([GLOBALS.to_owned()]);
    let mut databases = Vec::new();
    for mut database in std::mem::take(&mut details.databases) {
        let named = is_named(&database.name);
        let unwanted = settings.exclude.contains(&database.name) || (!settings.databases.is_empty() && !named);
        if unwanted || (database.name == "template1" && !named) {
            continue;
        }
        if !named && leftovers::is_staged(&database.name) {
            let left = leftovers::leftover(&database.name, &settings.server.location(), UNFINISHED);
            warnings.push(left.told());
            continue;
        }
        if !database.allows_connections {
            warnings.push(format!("database {} allows no connections and is left out", database.name));
            continue;
        }
        if !database.may_connect {
            let (user, name) = (sql::name(clients.user()), sql::name(&database.name));
            return Err(Failure::failed(format!("`{}` may not connect to {}", clients.user(), database.name))
                .hint(format!("Run as a superuser: GRANT CONNECT ON DATABASE {name} TO {user};")));
        }
        if database.name == "postgres" && !named {
            // It is everywhere, and mostly nobody's.
            let mut inside = Session::open(clients, "postgres", cancel)?;
            if catalogue::is_untouched(&mut inside)? {
                continue;
            }
        }
        database.stream = stream_name(&database.name, &mut streams);
        databases.push(database);
    }
    if databases.is_empty() {
        warnings.push("there is no database with anything in it: only roles are backed up".into());
    }
    details.databases = databases;
    Ok(Chosen { details, warnings, position })
}

/// A plain file name that no other stream has, whatever the database is called.
fn stream_name(database: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c.to_ascii_lowercase() } else { '_' };
    let base: String = database.chars().map(plain).collect();
    let numbered = (2..).map(|number| format!("{base}-{number}.dump"));
    let name = std::iter::once(format!("{base}.dump")).chain(numbered).find(|name| !taken.contains(name));
    let name = name.expect("numbers do not end");
    taken.insert(name.clone());
    name
}

/// Looks into a database before anything is dumped: may all be read, and what is known to be left out.
fn look_at(clients: &Clients, database: &Database, cancel: &Cancel) -> Result<Vec<String>> {
    let mut session = Session::open(clients, &database.name, cancel)?;
    snapshot::check_readable(&catalogue::tables(&mut session)?, &database.name, clients)?;
    let invalid = catalogue::invalid_indexes(&mut session)?;
    let told = format!("invalid indexes of {} are left out: {}", database.name, snapshot::few(&invalid));
    Ok(if invalid.is_empty() { Vec::new() } else { vec![told] })
}

/// What belongs to no database, with what `pg_dumpall` forgets.
fn globals(clients: &Clients, details: &Details, cancel: &Cancel) -> Result<(Vec<u8>, Said)> {
    let mut command = clients.command("pg_dumpall", &clients.maintenance);
    command.arguments.extend(["--globals-only", "--no-role-passwords", "-l"].map(Into::into));
    command.arguments.push(clients.maintenance.clone().into());
    command.terminator = Some(END_OF_GLOBALS.into());
    let mut bytes = Vec::new();
    clients
        .exec()
        .start(&command, cancel)?
        .read_to_end(&mut bytes)
        .map_err(|e| explained(Failure::from_io(e, || "cannot read the roles".into()), clients.user()))?;
    for setting in details.settings.iter().filter_map(|kept| sql::setting(kept)) {
        bytes.extend_from_slice(format!("\nALTER ROLE ALL {setting};\n").as_bytes());
    }
    Ok((bytes, Said::of("pg_dumpall", "the server", &command.remarks)))
}

fn notes(details: &Details, first: Option<Timestamp>, last: Option<Timestamp>) -> Vec<String> {
    match (first, last) {
        (Some(first), Some(last)) if details.databases.len() > 1 => vec![format!(
            "each database is consistent in itself; among them {} ms lie between the first and the last",
            last.duration_since(first).as_millis()
        )],
        _ => Vec::new(),
    }
}

fn count(contents: &Contents, inventory: &mut BTreeMap<String, u64>) {
    let found = contents.kinds();
    for (kind, name) in KINDS {
        *inventory.entry((*name).to_owned()).or_default() += found.get(kind).copied().unwrap_or(0);
    }
    *inventory.entry("large objects".to_owned()).or_default() += contents.large_objects();
}

struct Job<'r> {
    clients: &'r Clients,
    context: Context<'r>,
    lock_wait: Duration,
}

impl<'r> Job<'r> {
    fn archive(&self, database: &mut Database, snapshot: Snapshot<'r>, sink: &mut dyn Sink) -> Result<Archived> {
        let (mut snapshot, output, remarks) = self.start(database, snapshot)?;
        let tables = std::mem::take(&mut snapshot.tables);
        let counts = catalogue::counts(&mut snapshot.session)?;
        let objects = objects::of(&mut snapshot.session, &database.name)?;
        database.extensions = catalogue::extensions(&mut snapshot.session)?;
        database.consistent_at = Some(snapshot.at);
        let mut walked = Walked::new(Metered::new(output, self.context));
        let stop = AtomicBool::new(false);
        let (streamed, rows) = std::thread::scope(|scope| {
            let (session, tables, stop, context) = (&mut snapshot.session, &tables, &stop, self.context);
            let counting = scope.spawn(move || fingerprint::rows(session, tables, context, stop));
            let streamed = sink.stream(&database.stream, &mut walked);
            stop.store(streamed.is_err(), Relaxed);
            let rows = counting.join();
            (streamed, rows.unwrap_or_else(|_| Err(Failure::failed("counting the rows ended unexpectedly"))))
        });
        streamed.map_err(|failure| about(failure, database))?;
        let rows = rows?;
        let contents = walked
            .contents()
            .ok_or_else(|| Failure::failed(format!("the dump of {} was not read to its end", database.name)))?;
        snapshot.session.close()?;
        database.bytes = contents.bytes;
        let said = Said::of("pg_dump", &database.name, &remarks);
        if contents.unknown {
            let parts = fingerprint::parts(&database.name, &tables, rows, None);
            return Ok(Archived { contents, parts, objects, said });
        }
        compare(&database.name, &contents, &counts, &tables, &rows)?;
        let sequences = fingerprint::sequences_of(&contents.entries, &tables)?;
        let parts = fingerprint::parts(&database.name, &tables, rows, sequences);
        Ok(Archived { contents, parts, objects, said })
    }

    /// Starts `pg_dump` and waits for its first bytes; begins again, with a new snapshot, where definitions change.
    fn start(
        &self,
        database: &Database,
        first: Snapshot<'r>,
    ) -> Result<(Snapshot<'r>, Box<dyn Read + Send + 'r>, Remarks)> {
        let mut snapshot = first;
        let mut attempt = 1;
        loop {
            let mut command = self.clients.command("pg_dump", &database.name);
            command.arguments.extend(["-Fc", "--compress=0", "--no-sync"].map(Into::into));
            command.arguments.push(format!("--snapshot={}", snapshot.id).into());
            command.arguments.push(format!("--lock-wait-timeout={}", self.lock_wait.as_millis()).into());
            command.silence = Some(SILENCE);
            let mut output = self.clients.exec().start(&command, self.context.cancel)?;
            let mut begin = vec![0; 64 << 10];
            match output.read(&mut begin) {
                Ok(read) => {
                    begin.truncate(read);
                    return Ok((snapshot, Box::new(Cursor::new(begin).chain(output)), command.remarks));
                }
                Err(error) => {
                    let failure = Failure::from_io(error, || format!("cannot read the dump of {}", database.name));
                    if attempt == ATTEMPTS || !snapshot::is_about_changes(&failure) {
                        return Err(about(explained(failure, self.clients.user()), database));
                    }
                }
            }
            attempt += 1;
            drop(snapshot);
            snapshot = Snapshot::open(self.clients, &database.name, self.lock_wait, self.context.cancel)?;
        }
    }
}

/// Says which database it was, of what `pg_dump` says itself.
fn about(failure: Failure, database: &Database) -> Failure {
    if !failure.to_string().contains("pg_dump") || failure.kind() == Kind::Verification {
        return failure;
    }
    let hint = failure.next_step().map(str::to_owned);
    let told = Failure::new(failure.kind(), format!("cannot dump database {}", database.name)).because(failure.full());
    hint.into_iter().fold(told, Failure::hint)
}

/// What the archive holds against what the server counted in the same snapshot.
fn compare(
    database: &str,
    contents: &Contents,
    counts: &BTreeMap<String, u64>,
    tables: &[Table],
    rows: &Rows,
) -> Result<()> {
    let wrong = |what: String| {
        Failure::new(Kind::Verification, format!("the dump of {database} is not whole: {what}"))
            .hint("Run the backup again; when it says the same, look for statements that change tables meanwhile")
    };
    let data: BTreeMap<u32, i64> =
        contents.entries.iter().filter(|e| e.kind == "TABLE DATA").map(|e| (e.oid, e.id)).collect();
    for table in tables {
        let Some(counted) = rows.tables.get(&table.oid) else { continue };
        let name = sql::path(&[&table.schema, &table.name]);
        let block = data.get(&table.oid).and_then(|id| contents.blocks.get(id));
        let block = block.ok_or_else(|| wrong(format!("it has no data of {name}")))?;
        if let Some(dumped) = block.rows.filter(|dumped| *dumped != counted.count) {
            return Err(wrong(format!("it has {dumped} rows of {name}, where the server counts {}", counted.count)));
        }
    }
    let found = contents.kinds();
    for (kind, there) in counts {
        let dumped = found.get(kind.as_str()).copied().unwrap_or(0);
        if dumped < *there {
            return Err(wrong(format!("it has {dumped} of kind {kind}, where the catalogue has {there}")));
        }
    }
    let large_objects = rows.large_objects.as_ref().map_or(0, |part| part.count);
    if contents.large_objects() != large_objects {
        return Err(wrong(format!("it has {} large objects of {large_objects}", contents.large_objects())));
    }
    Ok(())
}
