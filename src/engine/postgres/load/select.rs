//! One table out of an archive: which entries make it whole.
//!
//! `pg_restore -t` brings rows and columns, but no index, constraint, default or sequence. So the entries are chosen by
//! what they depend on: the table with what it needs, and what belongs to it alone; for a partitioned table its partitions
//! too. Left out are foreign keys, triggers and rules, views of it, and whatever needs other tables.

use crate::engine::postgres::archive::Entry;
use crate::engine::postgres::sql;
use crate::error::{Failure, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What belongs to a table and comes along with it.
const BELONGING: &[&str] = &[
    "TABLE DATA",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TABLE ATTACH",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "COMMENT",
    "ACL",
    "POLICY",
    "ROW SECURITY",
];

pub struct Selection {
    /// In the order of the archive.
    pub ids: Vec<i64>,
    /// Schema and name of the tables with rows.
    pub tables: Vec<(String, String)>,
}

/// `wanted` is `table` or `schema.table`.
pub fn table(entries: &[Entry], wanted: &str) -> Result<Selection> {
    let start = find(entries, wanted)?;
    let mut selecting = Selecting::new(entries);
    let mut todo = vec![start.id];
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            todo.extend(selecting.take_table(id));
        }
    }
    let chosen = selecting.chosen;
    let rows = entries.iter().filter(|e| e.kind == "TABLE DATA" && chosen.contains(&e.id));
    Ok(Selection {
        tables: rows.map(|e| (e.schema.clone(), e.tag.clone())).collect(),
        ids: entries.iter().map(|e| e.id).filter(|id| chosen.contains(id)).collect(),
    })
}

struct Selecting<'e> {
    by_id: BTreeMap<i64, &'e Entry>,
    /// The entries that depend on one.
    children: BTreeMap<i64, Vec<&'e Entry>>,
    schemas: BTreeMap<&'e str, i64>,
    chosen: BTreeSet<i64>,
}

impl<'e> Selecting<'e> {
    fn new(entries: &'e [Entry]) -> Self {
        let mut children: BTreeMap<i64, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            for on in &entry.depends_on {
                children.entry(*on).or_default().push(entry);
            }
        }
        let mut selecting = Selecting {
            by_id: entries.iter().map(|entry| (entry.id, entry)).collect(),
            children,
            schemas: entries.iter().filter(|e| e.kind == "SCHEMA").map(|e| (e.tag.as_str(), e.id)).collect(),
            chosen: BTreeSet::new(),
        };
        // Columns may have their types, which no entry tells of.
        entries.iter().filter(|e| e.kind == "EXTENSION").for_each(|e| selecting.take(e.id));
        selecting
    }

    /// Takes an entry with all that it depends on.
    fn take(&mut self, id: i64) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let Some(entry) = self.by_id.get(&id) else { continue };
            if self.chosen.insert(id) {
                todo.extend(&entry.depends_on);
                // Things in a schema do not always depend on it.
                todo.extend(self.schemas.get(entry.schema.as_str()));
                if entry.kind == "SEQUENCE" {
                    let values = self.children.get(&id).into_iter().flatten().filter(|e| e.kind == "SEQUENCE SET");
                    todo.extend(values.map(|e| e.id));
                }
            }
        }
    }

    /// Takes a table with what belongs to it, and gives its partitions.
    fn take_table(&mut self, id: i64) -> Vec<i64> {
        self.take(id);
        let Some(table) = self.by_id.get(&id).copied() else { return Vec::new() };
        let mut partitions = Vec::new();
        for entry in self.children.get(&id).cloned().unwrap_or_default() {
            if !BELONGING.contains(&entry.kind.as_str()) {
                continue;
            }
            if entry.kind == "TABLE ATTACH" && (&entry.tag, &entry.schema) != (&table.tag, &table.schema) {
                let others = entry.depends_on.iter().filter(|on| **on != id);
                partitions.extend(others.filter(|on| self.by_id.get(on).is_some_and(|e| e.kind == "TABLE")));
            }
            self.take(entry.id);
            // Comments of an index, the ties of a partition's index to its parent's.
            for second in self.children.get(&entry.id).cloned().unwrap_or_default() {
                let alone = second.depends_on.iter().all(|on| self.chosen.contains(on));
                if alone && BELONGING.contains(&second.kind.as_str()) {
                    self.take(second.id);
                }
            }
        }
        partitions
    }
}

fn find<'e>(entries: &'e [Entry], wanted: &str) -> Result<&'e Entry> {
    let tables: Vec<&Entry> = entries.iter().filter(|e| e.kind == "TABLE").collect();
    let named = |e: &Entry| format!("{}.{}", e.schema, e.tag) == wanted || sql::path(&[&e.schema, &e.tag]) == wanted;
    if let Some(exact) = tables.iter().find(|e| named(e)) {
        return Ok(exact);
    }
    let alike: Vec<&&Entry> = tables.iter().filter(|e| e.tag == wanted).collect();
    match alike.as_slice() {
        [only] => Ok(only),
        [] => Err(Failure::usage(format!("the database has no table `{wanted}`"))
            .hint("Give it as SCHEMA.TABLE, as it was written when the table was made")),
        several => {
            let names: Vec<String> = several.iter().map(|e| sql::path(&[&e.schema, &e.tag])).collect();
            Err(Failure::usage(format!("several tables are called `{wanted}`"))
                .hint(format!("Say which one: {}", names.join(", "))))
        }
    }
}
