//! A restore: what could not work is refused first, then everything is made beside what is there, and it becomes visible
//! as the last step.
//!
//! New databases hold a table [`UNFINISHED`] until they are whole; when a restore fails they are dropped again. A live
//! database is made under another name and swapped in (`live.rs`). Order: tables, rows by several clients at once,
//! indexes, counts compared, then users, routines, views, triggers, events, grants.

mod definitions;
mod indexes;
mod live;
mod rows;

use super::accounts::{self, Accounts};
use super::catalog;
use super::client::Client;
use super::privileges::Grants;
use super::session::{Session, name, text};
use super::statement::databases_named;
use super::{ACCOUNTS, DEFINITIONS, DUMP, Details, ROUTINES, Settings, fingerprint, leftovers};
use crate::engine::{Comes, Leftover, LoadRun, Loaded, Naming, OnDifference, Origin, Part, Returning, Target};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use definitions::{Database, Definitions, using};
use indexes::{Divided, Later};
use rows::{Destination, Rows};
use std::io::Read;

/// Stands in a database that is not whole yet.
pub const UNFINISHED: &str = "bkp_restore_unfinished";

pub fn load(settings: &Settings, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
    let naming = match target {
        Target::NewDatabases(naming) => Some(naming),
        Target::Live(_) => None,
        Target::New(_) | Target::NewVolume(_) | Target::Command => {
            return Err(Failure::usage("a dump of MySQL or MariaDB is restored into a server")
                .hint("Restore into new databases or in place; to have the files, use: bkp export"));
        }
    };
    let cancel = run.context.cancel;
    let (client, mut session) = Client::connect(&settings.server, cancel)?;
    must_fit(&Details::of(origin)?, &client, &mut session)?;
    let mut found = Definitions::default();
    for stream in [DEFINITIONS, ROUTINES] {
        found.read(&mut origin.stream(stream)?)?;
    }
    let definitions = found.only(&run.part)?;
    let place = settings.server.location();
    let mut left = leftovers::all(&mut session, &place)?;
    let mut load =
        Load { client: &client, origin, run, definitions, log_off: false, made: Vec::new(), accounts_made: Vec::new() };
    let loaded = match naming {
        Some(naming) => load.new_databases(naming, &mut session),
        None => live::replace(&mut load, &mut session),
    };
    let mut loaded = loaded.map_err(|failure| load.remove(failure))?;
    // What this restore took the place of is no more.
    let now = leftovers::all(&mut session, &place)?;
    left.retain(|one| now.contains(one));
    loaded.warnings.extend(left.iter().map(Leftover::told));
    Ok(loaded)
}

/// Refuses a server that would not take the dump, or take it differently.
fn must_fit(details: &Details, client: &Client<'_>, session: &mut Session<'_>) -> Result<()> {
    let refused = |reason: String| Err(Failure::new(Kind::Refused, format!("{reason}; nothing was changed")));
    let (version, place) = (&client.version, client.place());
    if details.flavour != version.flavour {
        return refused(format!(
            "the point is of {} {}, and the server on {place} is {version}: dumps do not pass between the two",
            details.flavour, details.version
        ));
    }
    let source = super::client::Version::of_server(&details.version);
    if (version.number.0, version.number.1) < (source.number.0, source.number.1) {
        return refused(format!(
            "the point is of {} {}, and the server on {place} is older: {}",
            details.flavour, details.version, version.text
        ));
    }
    let accepted = session.number("SELECT @@global.max_allowed_packet")?;
    if accepted <= details.longest_statement {
        return refused(format!(
            "the dump has a statement of {} bytes, and the server on {place} takes {accepted} (max_allowed_packet)",
            details.longest_statement
        ))
        .map_err(|f: Failure| f.hint("SET GLOBAL max_allowed_packet = 1073741824; and run the command again"));
    }
    Ok(())
}

/// What the accounts of a point did to a server.
struct Came {
    warnings: Vec<String>,
    /// Were not there before.
    new: Vec<String>,
}

/// One restore on its way.
struct Load<'a> {
    client: &'a Client<'a>,
    origin: &'a dyn Origin,
    run: &'a LoadRun<'a>,
    definitions: Definitions,
    log_off: bool,
    /// Databases that this restore made and that are of no use until it is done.
    made: Vec<String>,
    /// What drops the accounts that it made, which are of no use without the databases.
    accounts_made: Vec<String>,
}

impl Load<'_> {
    fn new_databases(&mut self, naming: &Naming, session: &mut Session<'_>) -> Result<Loaded> {
        let targets = self.names(naming)?;
        let taken: Vec<String> = session.column("SELECT schema_name FROM information_schema.schemata")?;
        must_be_alone(&targets, session)?;
        let unfinished = leftovers::unfinished(session)?;
        if let Some(taken) = targets.iter().find(|target| taken.contains(target) && !unfinished.contains(target)) {
            return Err(Failure::new(
                Kind::Refused,
                format!("there is a database {taken} already; nothing was changed"),
            )
            .hint("Choose another name or suffix, or restore in place"));
        }
        // What a killed restore left under these names was never of use.
        for target in targets.iter().filter(|target| taken.contains(target)) {
            session.run(&format!("DROP DATABASE {}", name(target)))?;
        }
        let same = *naming == Naming::Same;
        self.log_off = same && can_leave_log(session, self.client)?;
        let mut loaded = self.tables_and_rows(&targets, session)?;
        if same && self.run.part == Part::Whole {
            loaded.warnings.extend(self.accounts(session)?.warnings);
        }
        for (database, target) in self.definitions.databases.iter().zip(&targets) {
            // This server may be another one, or the data so old that an event would clear it away at once.
            let events_off = !same || session.one("SELECT @@global.event_scheduler")? == "ON";
            self.feed(database.finish(target, events_off))?;
            loaded.warnings.extend(old_names(&self.definitions, database, target));
            if let Some(enable) = database.enable_events(target).filter(|_| events_off) {
                let why = if same { "this server would run them at once" } else { "it is a copy" };
                loaded
                    .warnings
                    .push(format!("the events of {target} are switched off: {why}. To switch them on: {enable}"));
            }
        }
        if same && self.run.part == Part::Whole {
            self.grants(None)?;
        }
        for target in &targets {
            session.run(&format!("DROP TABLE {}.{}", name(target), name(UNFINISHED)))?;
        }
        self.made.clear();
        self.accounts_made.clear();
        Ok(loaded)
    }

    fn names(&self, naming: &Naming) -> Result<Vec<String>> {
        let databases = &self.definitions.databases;
        let names: Vec<String> = match naming {
            Naming::Same => databases.iter().map(|d| d.name.clone()).collect(),
            Naming::Suffix(suffix) => databases.iter().map(|d| format!("{}{suffix}", d.name)).collect(),
            Naming::As(other) if databases.len() == 1 => vec![other.clone()],
            Naming::As(_) => {
                return Err(Failure::usage(format!(
                    "the point holds {} databases, and one name was given",
                    databases.len()
                ))
                .hint("Name the database that is wanted, or give a suffix"));
            }
        };
        match names.iter().find(|n| n.is_empty() || n.chars().count() > 64) {
            Some(bad) => Err(Failure::usage(format!("`{bad}` cannot be the name of a database: 1 to 64 characters"))),
            None => Ok(names),
        }
    }

    /// Makes the databases under the names `targets`, with all tables and rows, and compares the counts.
    fn tables_and_rows(&mut self, targets: &[String], session: &mut Session<'_>) -> Result<Loaded> {
        let mut destinations = Vec::new();
        let only = match &self.run.part {
            Part::Table { table, .. } => Some(table.clone()),
            _ => None,
        };
        let referred = indexes::referred(self.definitions.databases.iter().flat_map(|d| &d.tables));
        let mut later = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            let database = &self.definitions.databases[at];
            let mut script = format!("CREATE DATABASE {}", name(target)).into_bytes();
            script.extend_from_slice(&database.options);
            script.extend_from_slice(b";\n");
            self.feed(script)?;
            self.made.push(target.clone());
            let mark =
                format!("CREATE TABLE {}.{} (restore_goes_on_or_broke_off int);\n", name(target), name(UNFINISHED));
            self.feed(mark.into_bytes())?;
            crate::durable::crash_point("restore:target-begun");
            let mut script = using(target);
            for table in &database.tables {
                let part = format!("{}.{}", name(&database.name), name(&table.name));
                let rows = self.origin.fingerprint().parts.get(&part).map_or(0, |part| part.count);
                match indexes::divide(table, rows, &referred) {
                    Some(Divided { script: beginning, later: additions }) => {
                        script.extend_from_slice(&beginning);
                        let (target, table) = (target.clone(), table.name.clone());
                        later.push(Later { target, table, additions, rows });
                    }
                    None => script.extend_from_slice(&table.script),
                }
            }
            self.feed(script)?;
            destinations.push(Destination {
                source: database.name.clone(),
                target: target.clone(),
                table: only.clone(),
            });
        }
        let rows =
            Rows { client: self.client, destinations: &destinations, log_off: self.log_off, context: self.run.context };
        let bytes = rows.load(&mut self.origin.stream(DUMP)?)?;
        let begun = std::time::Instant::now();
        self.add_indexes(later)?;
        let index_seconds = begun.elapsed().as_secs_f64();
        crate::durable::crash_point("restore:data-written");
        let warnings = match self.run.on_difference {
            OnDifference::Fail => self.compare(targets, session)?,
            OnDifference::LeaveToRehearsal => Vec::new(),
        };
        let items = self.definitions.databases.iter().map(|d| d.tables.len() as u64).sum();
        Ok(Loaded { bytes, items, warnings, index_seconds })
    }

    /// Every table must hold as many rows as were counted when it was dumped.
    fn compare(&self, targets: &[String], session: &mut Session<'_>) -> Result<Vec<String>> {
        let expected = self.origin.fingerprint();
        if !fingerprint::is_bound(expected) {
            return Ok(vec![
                "row counts were not compared: those of the point are of another instant than its rows".into(),
            ]);
        }
        let made = catalog::Catalog::read(session, self.client, targets.to_vec())?;
        let comparable = expected.method == fingerprint::method(&self.client.version, true);
        let mut different = Vec::new();
        for (database, target) in self.definitions.databases.iter().zip(targets) {
            for table in made.tables.iter().filter(|t| t.database == *target) {
                let part = format!("{}.{}", name(&database.name), name(&table.name));
                let Some(part) = expected.parts.get(&part) else { continue };
                let count = fingerprint::count(session, table)?;
                if count != part.count {
                    let text = format!(
                        "{} has {count} rows after the restore, and had {} in the point",
                        table.path(),
                        part.count
                    );
                    return Err(Failure::new(Kind::Verification, text));
                }
                if comparable && fingerprint::checksum(session, table)? != part.digest {
                    different.push(table.path());
                }
            }
        }
        let text = "there are as many rows as in the point, but not all values are the same (a dump rounds FLOAT, and \
                    loses -0.0 and ENUM values that are not in the list)";
        Ok(if different.is_empty() { Vec::new() } else { vec![format!("{text}: {}", catalog::some(&different))] })
    }

    fn feed(&self, script: Vec<u8>) -> Result<()> {
        self.feed_under(script, self.run.context.cancel)
    }

    fn feed_under(&self, script: Vec<u8>, cancel: &Cancel) -> Result<()> {
        let mut text = if self.log_off { b"SET SESSION sql_log_bin = 0;\n".to_vec() } else { Vec::new() };
        text.extend_from_slice(&script);
        self.client.feed(&mut text.as_slice(), cancel)
    }

    fn read_accounts(&self) -> Result<Option<Accounts>> {
        if !self.origin.streams().iter().any(|stream| stream == ACCOUNTS) {
            return Ok(None);
        }
        let mut sql = Vec::new();
        self.origin
            .stream(ACCOUNTS)?
            .read_to_end(&mut sql)
            .context(|| "cannot read the accounts of the point".into())?;
        Accounts::parse(&sql).map(Some)
    }

    /// Makes the accounts that are not there. Says which passwords come back, and which stay.
    fn accounts(&mut self, session: &mut Session<'_>) -> Result<Came> {
        let Some(then) = self.read_accounts()? else {
            return Ok(Came { warnings: vec!["the point holds no users and grants".into()], new: Vec::new() });
        };
        let now = accounts::read(session, self.client)?;
        let (kept, new): (Vec<&String>, Vec<&String>) = then.created.keys().partition(|a| now.created.contains_key(*a));
        let plugins = session.column(
            "SELECT plugin_name FROM information_schema.plugins WHERE plugin_status = 'ACTIVE' AND plugin_type = 'AUTHENTICATION'",
        )?;
        let is_known = |account: &String| then.plugins(account).iter().all(|p| plugins.iter().any(|known| known == p));
        let (new, unknown): (Vec<&String>, Vec<&String>) = new.into_iter().partition(|account| is_known(account));
        let comes = |account: &str| match then.users.get(account) {
            Some(user) => Returning::of(self.run.returning, user),
            None => Comes::AsItWas,
        };
        let how = |account: &&&String| format!("{};\n", then.creation(account, comes(account)));
        let mut script: String = new.iter().map(|account| how(&account)).collect();
        script
            .extend(unknown.iter().map(|account| format!("{};\n", then.substitute(account, comes(account), &plugins))));
        let word = |account: &String| if then.roles.contains(account) { "ROLE" } else { "USER" };
        let made = new.iter().chain(&unknown);
        self.accounts_made = made.map(|a| format!("DROP {} IF EXISTS {a};", word(a))).collect();
        self.feed(script.into_bytes())?;
        // A restore that was killed may have locked them.
        let closed = kept.iter().filter(|a| now.is_locked(a) && !then.is_locked(a));
        let closed: Vec<String> = closed.map(|account| (*account).clone()).collect();
        let changed: Vec<String> = kept.into_iter().filter(|a| then.proof(a) != now.proof(a)).cloned().collect();
        let of = |is: fn(Comes<'_>) -> bool| -> Vec<String> {
            let those = new.iter().filter(|a| then.proof(a).is_some() && is(comes(a)));
            those.map(|a| (*a).clone()).collect()
        };
        let back = of(|comes| matches!(comes, Comes::AsItWas));
        let locked = of(|comes| matches!(comes, Comes::Locked));
        let mut warnings = Vec::new();
        if !back.is_empty() {
            let text = "accounts come back with the passwords that they had at the time of the point";
            warnings.push(format!("{text}: {}", catalog::some(&back)));
        }
        if !locked.is_empty() {
            let text = "accounts come back locked, for nothing here knows of them (ALTER USER … ACCOUNT UNLOCK)";
            warnings.push(format!("{text}: {}", catalog::some(&locked)));
        }
        if !closed.is_empty() {
            let text = "accounts are locked, and were not at the time of the point (ALTER USER … ACCOUNT UNLOCK)";
            warnings.push(format!("{text}: {}", catalog::some(&closed)));
        }
        if !changed.is_empty() {
            let text = "accounts keep the passwords that they have, which are not those of the point";
            warnings.push(format!("{text}: {}", catalog::some(&changed)));
        }
        if !unknown.is_empty() {
            let told = |account: &&String| format!("{account} ({})", then.plugins(account).join(", "));
            let text = "this server does not have the plugins by which accounts logged in: they come back with a password \
                        that nobody knows, and need a new one (ALTER USER … IDENTIFIED BY …)";
            warnings.push(format!("{text}: {}", catalog::some(&unknown.iter().map(told).collect::<Vec<_>>())));
        }
        Ok(Came { warnings, new: new.into_iter().chain(unknown).cloned().collect() })
    }

    /// Gives the grants of the point: to everybody, or to these accounts.
    fn grants(&self, only: Option<&[String]>) -> Result<()> {
        let Some(then) = self.read_accounts()? else { return Ok(()) };
        let wanted = |account: &String| only.is_none_or(|only| only.contains(account));
        let grants = then.ordered_grants().filter(|(account, _)| wanted(account));
        let script: String = grants.map(|(_, grant)| format!("{grant};\n")).collect();
        self.feed(script.into_bytes())
    }

    /// Drops what a failed restore made. What cannot be dropped is named.
    fn remove(&self, failure: Failure) -> Failure {
        let databases = self.made.iter().map(|made| format!("DROP DATABASE IF EXISTS {};", name(made)));
        let drops: Vec<String> = databases.chain(self.accounts_made.iter().cloned()).collect();
        if drops.is_empty() {
            return failure;
        }
        // Also after a signal.
        let never = Cancel::default();
        let left: Vec<String> = match self.client.session(&never) {
            Ok(mut session) => {
                drops.into_iter().filter(|drop| session.run(drop.trim_end_matches(';')).is_err()).collect()
            }
            Err(_) => drops,
        };
        if left.is_empty() {
            return failure;
        }
        let text = format!("{failure}; what it had made could not be removed");
        Failure::new(failure.kind(), text).hint(left.join(" ")).because(failure)
    }
}

/// One restore at a time makes a database. The lock is the session's, and ends with it however that ends.
fn must_be_alone(targets: &[String], session: &mut Session<'_>) -> Result<()> {
    for target in targets {
        let lock = format!("bkp-{}", &blake3::hash(target.as_bytes()).to_hex()[..32]);
        if session.one(&format!("SELECT GET_LOCK({}, 0)", text(&lock)))? != "1" {
            return Err(Failure::new(Kind::Locked, format!("another restore makes the database {target}"))
                .hint("Wait for it to end"));
        }
    }
    Ok(())
}

/// Views and programs that will not follow to a new name.
fn old_names(definitions: &Definitions, database: &Database, target: &str) -> Vec<String> {
    if database.name == target {
        return Vec::new();
    }
    let names: Vec<&str> = definitions.databases.iter().map(|d| d.name.as_str()).collect();
    let told = |object: &definitions::Object| {
        let named = databases_named(&object.script, &names);
        let word = object.kind.to_lowercase();
        named.first().map(|old| format!("{word} {} of {target} still names database {old}", object.name))
    };
    database.texts().filter_map(told).collect()
}

/// Whether the load may stay out of the binary log: nobody follows it, and the user may.
fn can_leave_log(session: &mut Session<'_>, client: &Client<'_>) -> Result<bool> {
    let grants = Grants::read(session, client)?;
    let may = ["SUPER", "SESSION_VARIABLES_ADMIN", "SYSTEM_VARIABLES_ADMIN", "BINLOG ADMIN"];
    if !may.iter().any(|privilege| grants.may_globally(privilege)) || !grants.may_globally("PROCESS") {
        return Ok(false);
    }
    let following = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE {} OR command LIKE {}",
        text("Binlog Dump%"),
        text("Group replication%")
    );
    Ok(session.number(&following)? == 0)
}
