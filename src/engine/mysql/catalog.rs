//! What a server has: databases, tables, views, triggers, routines, events. Counted by `information_schema`, which is
//! why privileges are looked at first.

use super::client::{Client, Flavour};
use super::session::{Session, name, texts};
use crate::error::{Failure, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Databases of the server itself.
const SYSTEM: [&str; 5] = ["mysql", "information_schema", "performance_schema", "sys", "ndbinfo"];
/// Engines whose tables stand still in a snapshot.
const TRANSACTIONAL: [&str; 4] = ["InnoDB", "ROCKSDB", "TokuDB", "ndbcluster"];

#[derive(Clone, Debug)]
pub struct Table {
    pub database: String,
    pub name: String,
    pub engine: String,
    pub versioned: bool,
    /// Columns of type FLOAT that hold values of their own.
    pub floats: Vec<String>,
}

impl Table {
    /// In back quotes; also the name of its part in a fingerprint.
    pub fn path(&self) -> String {
        format!("{}.{}", name(&self.database), name(&self.name))
    }

    pub fn is_transactional(&self) -> bool {
        TRANSACTIONAL.iter().any(|engine| engine.eq_ignore_ascii_case(&self.engine))
    }
}

/// A procedure, function, package or event: the word that creates it, database, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    pub database: String,
    /// Packages come before their bodies, and routines before events.
    pub kind: &'static str,
    pub name: String,
}

#[derive(Debug, Default)]
pub struct Catalog {
    pub databases: Vec<String>,
    pub tables: Vec<Table>,
    pub programs: Vec<Program>,
    /// Database and name of everything that a grant can be on.
    objects: BTreeSet<(String, String)>,
    counts: BTreeMap<String, u64>,
}

/// All databases that belong to users, whoever may see them.
pub fn databases(session: &mut Session<'_>) -> Result<Vec<String>> {
    let all = session.column("SELECT schema_name FROM information_schema.schemata ORDER BY schema_name")?;
    Ok(all.into_iter().filter(|n| !SYSTEM.iter().any(|system| n.eq_ignore_ascii_case(system))).collect())
}

/// Those of them that `only` and `exclude` leave. A name in `only` that is not there is an error: it may be misspelt.
pub fn choose(all: Vec<String>, only: &[String], exclude: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        return Err(Failure::failed(format!("there is no database {unknown}, or it is hidden from this user"))
            .hint("Correct `databases` of the source, or grant the user access to it"));
    }
    let wanted = |name: &String| (only.is_empty() || only.contains(name)) && !exclude.contains(name);
    Ok(all.into_iter().filter(wanted).collect())
}

/// MariaDB's client writes the names of foreign keys as they are: with a back quote in one, no server reads the dump.
pub fn must_be_loadable(session: &mut Session<'_>, flavour: Flavour, databases: &[String]) -> Result<()> {
    if flavour != Flavour::Mariadb {
        return Ok(());
    }
    let keys = session.rows(&format!(
        "SELECT constraint_schema, table_name, constraint_name FROM information_schema.referential_constraints \
         WHERE constraint_name LIKE '%`%' AND constraint_schema IN ({})",
        texts(databases)
    ))?;
    let told = |row: Vec<String>| {
        let [database, table, key] = <[String; 3]>::try_from(row).unwrap_or_default();
        format!("{} of {}.{}", name(&key), name(&database), name(&table))
    };
    let keys: Vec<String> = keys.into_iter().map(told).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let text =
        "the names of foreign keys have back quotes, and MariaDB's client makes no dump of them that could be loaded";
    Err(Failure::new(Kind::Refused, format!("{text}: {}", some(&keys)))
        .hint("Name them otherwise: ALTER TABLE … DROP FOREIGN KEY …, ADD CONSTRAINT … FOREIGN KEY …"))
}

impl Catalog {
    pub fn read(session: &mut Session<'_>, client: &Client<'_>, databases: Vec<String>) -> Result<Self> {
        let mut catalog = Catalog { databases, ..Catalog::default() };
        catalog.read_tables(session)?;
        catalog.read_programs(session, client.version.flavour)?;
        let triggers = session.column("SELECT trigger_schema FROM information_schema.triggers")?;
        catalog.count("triggers", triggers.iter().filter(|database| catalog.databases.contains(database)).count());
        catalog.count("databases", catalog.databases.len());
        Ok(catalog)
    }

    fn read_tables(&mut self, session: &mut Session<'_>) -> Result<()> {
        let wanted: BTreeSet<String> = self.databases.iter().cloned().collect();
        let columns = session.rows(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns \
             WHERE data_type = 'float' AND extra NOT LIKE '%GENERATED%' ORDER BY 1, 2, ordinal_position",
        )?;
        let mut floats: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for row in columns {
            let [database, table, column] = <[String; 3]>::try_from(row).unwrap_or_default();
            floats.entry((database, table)).or_default().push(column);
        }
        let mut counts = BTreeMap::from([("tables", 0), ("views", 0), ("sequences", 0)]);
        let mut seen = BTreeSet::new();
        let rows = session.rows(
            "SELECT table_schema, table_name, table_type, IFNULL(engine, '') FROM information_schema.tables \
             ORDER BY table_schema, table_name",
        )?;
        for row in rows {
            let [database, name, kind, engine] = <[String; 4]>::try_from(row).unwrap_or_default();
            // MariaDB 10.11 lists system-versioned tables and sequences twice.
            if !wanted.contains(&database) || !seen.insert((database.clone(), name.clone())) {
                continue;
            }
            let counted = match kind.as_str() {
                "VIEW" => "views",
                "SEQUENCE" => "sequences",
                _ => "tables",
            };
            *counts.entry(counted).or_default() += 1;
            self.objects.insert((database.clone(), name.clone()));
            if counted == "tables" {
                let floats = floats.remove(&(database.clone(), name.clone())).unwrap_or_default();
                self.tables.push(Table { database, name, engine, versioned: kind == "SYSTEM VERSIONED", floats });
            }
        }
        counts.into_iter().for_each(|(what, count)| self.count(what, count));
        Ok(())
    }

    fn read_programs(&mut self, session: &mut Session<'_>, flavour: Flavour) -> Result<()> {
        let routines = "SELECT routine_schema, routine_type, routine_name FROM information_schema.routines";
        let events = "SELECT event_schema, 'EVENT', event_name FROM information_schema.events";
        let mut rows = session.rows(routines)?;
        rows.extend(session.rows(events)?);
        for row in rows {
            let [database, kind, name] = <[String; 3]>::try_from(row).unwrap_or_default();
            let kinds = ["PROCEDURE", "FUNCTION", "PACKAGE", "PACKAGE BODY", "EVENT"];
            let kind = kinds
                .into_iter()
                .find(|known| *known == kind)
                .filter(|k| flavour == Flavour::Mariadb || !k.starts_with("PACKAGE"));
            let kind = kind.ok_or_else(|| Failure::failed(format!("{database}.{name} is of an unknown kind")))?;
            if self.databases.contains(&database) {
                self.objects.insert((database.clone(), name.clone()));
                self.programs.push(Program { database, kind, name });
            }
        }
        let order = |p: &Program| {
            let kinds = ["PACKAGE", "PACKAGE BODY", "FUNCTION", "PROCEDURE", "EVENT"];
            (p.database.clone(), kinds.iter().position(|kind| *kind == p.kind), p.name.clone())
        };
        self.programs.sort_by_key(order);
        let count = |kind: &str| self.programs.iter().filter(|p| p.kind == kind).count();
        let counts = [("procedures", count("PROCEDURE")), ("functions", count("FUNCTION")), ("events", count("EVENT"))];
        counts.into_iter().for_each(|(what, count)| self.count(what, count));
        Ok(())
    }

    /// Leaves out of the counts what no dump will hold.
    pub fn without_views(mut self, count: usize) -> Self {
        let views = self.counts.get("views").map_or(0, |views| views.saturating_sub(count as u64));
        self.counts.insert("views".to_owned(), views);
        self
    }

    /// Whether there is a table, view or routine of this name.
    pub fn has(&self, database: &str, name: &str) -> bool {
        self.objects.iter().any(|(d, n)| d.eq_ignore_ascii_case(database) && n.eq_ignore_ascii_case(name))
    }

    fn count(&mut self, what: &str, count: usize) {
        self.counts.insert(what.to_owned(), count as u64);
    }

    /// Objects by kind.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// Tables that a snapshot does not hold still.
    pub fn not_transactional(&self) -> Vec<String> {
        self.tables.iter().filter(|t| !t.is_transactional()).map(|t| format!("{} ({})", t.path(), t.engine)).collect()
    }
}

/// Some of many, for a message.
pub fn some(names: &[String]) -> String {
    const TOLD: usize = 8;
    match names.len() {
        0..=TOLD => names.join(", "),
        more => format!("{} and {} more", names[..TOLD].join(", "), more - TOLD),
    }
}
