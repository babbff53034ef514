//! What a database contains, in a form that can be compared after a restore.
//!
//! Per table the number of rows and the sum of a hash of each row's text, which no order changes; computed by the server,
//! inside of the snapshot that is dumped. A table's rows are its own: those of partitions and children are theirs.
//! Large objects count by pieces of their content; sequences by their last values, which are bound to no snapshot, so
//! that a dump takes them from its archive. Materialized views and foreign tables are not looked at: their rows are made
//! anew, or are elsewhere.

use super::archive::Entry;
use super::catalogue::Table;
use super::session::Session;
use super::sql;
use crate::engine::{Fingerprint, FingerprintPart};
use crate::error::{Failure, Kind, Result};
use crate::event::Context;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How the fingerprint is made.
pub const METHOD: &str = "postgres-rows-1";
/// The parts of a database that are no tables.
pub const SEQUENCES: &str = "(sequences)";
pub const LARGE_OBJECTS: &str = "(large objects)";

pub type Parts = BTreeMap<String, FingerprintPart>;

/// Tables by their number in the catalogue, and large objects.
#[derive(Debug, Default)]
pub struct Rows {
    pub tables: BTreeMap<u32, FingerprintPart>,
    pub large_objects: Option<FingerprintPart>,
}

pub fn of(parts: Parts, objects: BTreeMap<String, String>) -> Fingerprint {
    Fingerprint { method: METHOD.into(), parts, objects }
}

/// Asks the server for all rows. `stop` ends it before the next table.
pub fn rows(session: &mut Session<'_>, tables: &[Table], context: Context<'_>, stop: &AtomicBool) -> Result<Rows> {
    let mut rows = Rows::default();
    for table in tables.iter().filter(|table| table.has_rows()) {
        context.cancel.check()?;
        if stop.load(Relaxed) {
            return Ok(rows);
        }
        let query = format!(
            "select count(*) as count, coalesce(sum(hashtextextended((bkp_row.*)::text collate \"C\", 0)), 0)::text as digest \
             from only {} as bkp_row",
            table.quoted()
        );
        let answer = session.row(&query)?;
        rows.tables.insert(table.oid, part(&answer));
    }
    rows.large_objects = large_objects(session)?;
    Ok(rows)
}

/// Those of a database without any are no part.
fn large_objects(session: &mut Session<'_>) -> Result<Option<FingerprintPart>> {
    if session.row("select count(*) as count from pg_largeobject_metadata")?["count"] == 0 {
        return Ok(None);
    }
    // Reading whole objects to learn their length is what is left to users who may not look at their pages.
    let sizes = if super::catalogue::is_superuser(session)? {
        "select m.oid, coalesce((max(p.pageno) + 1)::int8 * 2048, 0) as size \
         from pg_largeobject_metadata m left join pg_largeobject p on p.loid = m.oid group by m.oid"
    } else {
        "select m.oid, length(lo_get(m.oid))::int8 as size from pg_largeobject_metadata m"
    };
    let query = format!(
        "select (select count(*) from pg_largeobject_metadata) as count, \
           coalesce(sum(hashtextextended(o.oid::text || '/' || i || '/' || md5(piece.data), 0)), 0)::text as digest \
         from ({sizes}) as o, generate_series(0, (o.size - 1) / 1048576) as i, \
           lateral (select lo_get(o.oid, i * 1048576, 1048576) as data) as piece where length(piece.data) > 0"
    );
    session.row(&query).map(|answer| Some(part(&answer)))
}

fn part(answer: &Value) -> FingerprintPart {
    let digest = answer["digest"].as_str().unwrap_or_default().to_owned();
    FingerprintPart { count: answer["count"].as_u64().unwrap_or_default(), digest }
}

/// The last values of sequences as they are now.
pub fn sequences(session: &mut Session<'_>, tables: &[Table]) -> Result<Option<FingerprintPart>> {
    let mut values = Vec::new();
    for table in tables.iter().filter(|table| table.is_sequence()) {
        let answer =
            session.row(&format!("select last_value::text as last, is_called as called from {}", table.quoted()))?;
        values.push((table, answer["last"].as_str().unwrap_or_default().to_owned(), answer["called"] == true));
    }
    Ok(digest_of(values))
}

/// The last values of sequences as an archive sets them.
pub fn sequences_of(entries: &[Entry], tables: &[Table]) -> Result<Option<FingerprintPart>> {
    // An entry that sets a value has no identity of its own, but depends on the sequence.
    let ids: BTreeMap<i64, u32> = entries.iter().filter(|e| e.kind == "SEQUENCE").map(|e| (e.id, e.oid)).collect();
    let mut set: BTreeMap<u32, &Entry> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == "SEQUENCE SET") {
        set.extend(entry.depends_on.iter().filter_map(|on| ids.get(on)).map(|oid| (*oid, entry)));
    }
    let mut values = Vec::new();
    for table in tables.iter().filter(|table| table.is_sequence()) {
        let value = set.get(&table.oid).and_then(|entry| {
            // SELECT pg_catalog.setval('public.orders_id_seq', 42, true);
            let (_, values) = entry.definition.rsplit_once("', ")?;
            values.split_once(')')?.0.split_once(", ")
        });
        let (last, called) = value.ok_or_else(|| {
            Failure::new(Kind::Verification, format!("the dump does not set the sequence {}", table.quoted()))
        })?;
        values.push((table, last.to_owned(), called == "true"));
    }
    Ok(digest_of(values))
}

fn digest_of(mut values: Vec<(&Table, String, bool)>) -> Option<FingerprintPart> {
    values.sort_by(|a, b| (&a.0.schema, &a.0.name).cmp(&(&b.0.schema, &b.0.name)));
    let mut hash = blake3::Hasher::new();
    for (table, last, called) in &values {
        hash.update(format!("{} {last} {called}\n", table.quoted()).as_bytes());
    }
    let count = values.len() as u64;
    (count > 0).then(|| FingerprintPart { count, digest: hash.finalize().to_hex()[..16].to_owned() })
}

/// Puts the parts of one database together under its name.
pub fn parts(database: &str, tables: &[Table], rows: Rows, sequences: Option<FingerprintPart>) -> Parts {
    let mut parts = Parts::new();
    for table in tables {
        if let Some(part) = rows.tables.get(&table.oid) {
            parts.insert(sql::path(&[database, &table.schema, &table.name]), part.clone());
        }
    }
    let others = [(LARGE_OBJECTS, rows.large_objects), (SEQUENCES, sequences)];
    for (name, part) in others {
        parts.extend(part.map(|part| (format!("{}.{name}", sql::path(&[database])), part)));
    }
    parts
}
