//! What a database contains, in a form that survives a restore and does not depend on the order of rows.
//!
//! One part for each table with its number of rows; the digest is the sum (modulo 2²⁵⁶) of the BLAKE3 of every row, so that
//! threads can share the work and duplicates count. A row is its columns, each with its type: a tag, then 8 bytes (integer,
//! bits of a real), or length (2 bytes) and text as UTF-8 or blob, or length (8 bytes) and BLAKE3 when those are long.
//! Implicit rowids are no content, because VACUUM changes them. Virtual tables are not read, but the tables they keep their
//! data in are; neither are virtual generated columns, which may need functions of the application, nor `sqlite_stat*`.
//! The part `schema` covers the text of all definitions, `header` what the file says of itself.

use super::{open, place};
use crate::engine::rehearsal::Comparison;
use crate::engine::{Fingerprint, FingerprintPart};
use crate::error::{Failure, Result};
use crate::event::Cancel;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

const METHOD: &str = "sqlite-1";
/// The part that covers all definitions.
const SCHEMA: &str = "schema";
/// Values longer than this go into the digest of their row by their own.
const LONG: usize = 4 << 10;
/// Tables with more rowids than this are read in pieces, by several threads.
const SPLIT: i64 = 50_000;
const PIECES: i64 = 16;
/// Rows between two looks at the signal.
const ROWS: u64 = 4096;

/// Fingerprint of a database that nobody writes to at the moment.
pub fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let path = place::find(path)?;
    for suffix in ["-wal", "-journal"] {
        let left = place::beside(&path, suffix);
        if std::fs::metadata(&left).is_ok_and(|m| m.len() > 0) {
            return Err(Failure::failed(format!(
                "{} is in use, or was not closed: there is {}",
                path.display(),
                left.display()
            ))
            .hint("Stop what has it open; then let SQLite finish: sqlite3 FILE 'pragma wal_checkpoint(truncate)'"));
        }
    }
    of_still(&path, &path, &Cancel::default())
}

/// The same of a file that cannot change; messages call it `shown`.
pub fn of_still(file: &Path, shown: &Path, cancel: &Cancel) -> Result<Fingerprint> {
    let connection = open::still(file)?;
    let work =
        Work { queue: Mutex::new(plan(&connection).map_err(|e| open::failure(e, shown))?), sums: Mutex::default() };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| {
                scope.spawn(|| {
                    let connection = open::still(file)?;
                    work.take_part(&connection, shown, cancel)
                })
            })
            .collect();
        let mut result = work.take_part(&connection, shown, cancel);
        for other in others {
            result = result.and(other.join().expect("a worker does not panic"));
        }
        result
    })?;
    finished(work, &connection, shown, cancel)
}

/// The same through a connection that keeps all others away, and is the only way to read the file without losing its locks.
pub fn of_locked(connection: &Connection, shown: &Path, cancel: &Cancel) -> Result<Fingerprint> {
    let work =
        Work { queue: Mutex::new(plan(connection).map_err(|e| open::failure(e, shown))?), sums: Mutex::default() };
    work.take_part(connection, shown, cancel)?;
    finished(work, connection, shown, cancel)
}

fn finished(work: Work, connection: &Connection, shown: &Path, cancel: &Cancel) -> Result<Fingerprint> {
    let mut parts: BTreeMap<String, FingerprintPart> = BTreeMap::new();
    for (table, sum) in work.sums.into_inner().expect("a worker does not panic") {
        parts.insert(format!("table {table}"), FingerprintPart { count: sum.rows, digest: sum.hexadecimal() });
    }
    parts.insert(SCHEMA.into(), schema(connection, cancel).map_err(|e| e.about(shown))?);
    parts.insert("header".into(), header(connection).map_err(|e| open::failure(e, shown))?);
    let objects = objects(connection).map_err(|e| open::failure(e, shown))?;
    Ok(Fingerprint { method: METHOD.into(), parts, objects })
}

/// What differs between two fingerprints, by name.
pub fn compare(was: &Fingerprint, is: &Fingerprint) -> Comparison {
    let mut comparison = Comparison::default();
    if was.method != is.method {
        let text = format!("the fingerprints were made in different ways ({} and {})", was.method, is.method);
        comparison.unbound.push(text);
        return comparison;
    }
    let names: BTreeSet<&String> = was.parts.keys().chain(is.parts.keys()).collect();
    // The whole of the definitions, which are told one by one where the point has them so.
    let in_detail = !was.objects.is_empty();
    let names = names.into_iter().filter(|name| !in_detail || name.as_str() != SCHEMA);
    for name in names {
        comparison.part(name, was.parts.get(name), is.parts.get(name), |was, is| {
            if was.count == is.count {
                "other content".to_owned()
            } else {
                format!("{} rows instead of {}", is.count, was.count)
            }
        });
    }
    if in_detail {
        let names: BTreeSet<&String> = was.objects.keys().chain(is.objects.keys()).collect();
        // A table that is missing has been told.
        let told = |name: &String| was.parts.contains_key(name) != is.parts.contains_key(name);
        for name in names.into_iter().filter(|name| !told(name)) {
            comparison.part(name, was.objects.get(name), is.objects.get(name), |_, _| "another definition".into());
        }
        if comparison.differing == 0 {
            let schema = |of: &Fingerprint| of.parts.get(SCHEMA).cloned();
            comparison.part(SCHEMA, schema(was).as_ref(), schema(is).as_ref(), |_, _| "another definition".into());
        }
    }
    comparison
}

/// The same in words; empty when they are equal.
pub fn differences(was: &Fingerprint, is: &Fingerprint) -> Vec<String> {
    let comparison = compare(was, is);
    comparison.unbound.into_iter().chain(comparison.differences).collect()
}

/// Number of rows of all tables of a fingerprint.
pub fn rows(fingerprint: &Fingerprint) -> u64 {
    fingerprint.parts.iter().filter(|(name, _)| name.starts_with("table ")).map(|(_, part)| part.count).sum()
}

/// One query of the scan.
struct Piece {
    table: String,
    query: String,
}

struct Work {
    queue: Mutex<Vec<Piece>>,
    sums: Mutex<BTreeMap<String, Sum>>,
}

impl Work {
    fn take_part(&self, connection: &Connection, shown: &Path, cancel: &Cancel) -> Result<()> {
        loop {
            let next = self.queue.lock().expect("a worker does not panic").pop();
            let Some(piece) = next else { return Ok(()) };
            match scan(connection, &piece.query, cancel) {
                Ok(sum) => {
                    let mut sums = self.sums.lock().expect("a worker does not panic");
                    sums.entry(piece.table).or_default().join(&sum);
                }
                Err(error) => {
                    self.queue.lock().expect("a worker does not panic").clear();
                    return Err(error.about(shown));
                }
            }
        }
    }
}

fn plan(connection: &Connection) -> rusqlite::Result<Vec<Piece>> {
    let mut tables = connection.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'",
    )?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut pieces = Vec::new();
    for table in names {
        let columns = columns(connection, &table)?;
        let list: Vec<String> = columns.iter().map(|column| format!("t.{}", quoted(column))).collect();
        // Not by an index: what is compared is the table itself.
        let from = format!("FROM main.{} AS t NOT INDEXED", quoted(&table));
        let select = format!("SELECT {} {from}", if list.is_empty() { "NULL".into() } else { list.join(", ") });
        match bounds(connection, &columns, &from) {
            Some((name, first, last)) if last.saturating_sub(first) > SPLIT => {
                let step = (last.saturating_sub(first) / PIECES).max(1);
                let mut begin = first;
                loop {
                    let end = begin.saturating_add(step);
                    let only = if end >= last { format!("<= {last}") } else { format!("< {end}") };
                    let query = format!("{select} WHERE t.{name} >= {begin} AND t.{name} {only}");
                    pieces.push(Piece { table: table.clone(), query });
                    if end >= last {
                        break;
                    }
                    begin = end;
                }
            }
            _ => pieces.push(Piece { table, query: select }),
        }
    }
    Ok(pieces)
}

/// Columns that are stored in the table.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden IN (0, 3)")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// A name of the rowid that no column has taken, and the first and last rowid. `None` without rowids or without rows.
fn bounds(connection: &Connection, columns: &[String], from: &str) -> Option<(&'static str, i64, i64)> {
    let name = ["_rowid_", "rowid", "oid"].into_iter().find(|n| !columns.iter().any(|c| c.eq_ignore_ascii_case(n)))?;
    let edge = |function: &str| {
        let query = format!("SELECT {function}(t.{name}) {from}");
        connection.query_row(&query, [], |row| row.get::<_, Option<i64>>(0)).ok().flatten()
    };
    Some((name, edge("min")?, edge("max")?))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

enum ScanError {
    Sqlite(rusqlite::Error),
    Stopped(Failure),
}

impl ScanError {
    fn about(self, shown: &Path) -> Failure {
        match self {
            ScanError::Stopped(failure) => failure,
            ScanError::Sqlite(error) => open::failure(error, shown),
        }
    }
}

impl From<rusqlite::Error> for ScanError {
    fn from(error: rusqlite::Error) -> Self {
        ScanError::Sqlite(error)
    }
}

fn scan(connection: &Connection, query: &str, cancel: &Cancel) -> std::result::Result<Sum, ScanError> {
    let mut statement = connection.prepare(query)?;
    let count = statement.column_count();
    let mut rows = statement.query([])?;
    let mut sum = Sum::default();
    let mut encoded = Vec::new();
    while let Some(row) = rows.next()? {
        encoded.clear();
        for column in 0..count {
            encode(&mut encoded, row.get_ref(column)?);
        }
        sum.add(blake3::hash(&encoded).as_bytes());
        if sum.rows % ROWS == 0 {
            cancel.check().map_err(ScanError::Stopped)?;
        }
    }
    Ok(sum)
}

fn encode(row: &mut Vec<u8>, value: ValueRef<'_>) {
    let mut bytes = |tag: u8, bytes: &[u8]| {
        if bytes.len() > LONG {
            row.push(tag + 2);
            row.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            row.extend_from_slice(blake3::hash(bytes).as_bytes());
        } else {
            row.push(tag);
            row.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            row.extend_from_slice(bytes);
        }
    };
    match value {
        ValueRef::Text(text) => bytes(3, text),
        ValueRef::Blob(blob) => bytes(4, blob),
        ValueRef::Null => row.push(0),
        ValueRef::Integer(number) => {
            row.push(1);
            row.extend_from_slice(&number.to_le_bytes());
        }
        ValueRef::Real(number) => {
            row.push(2);
            row.extend_from_slice(&number.to_bits().to_le_bytes());
        }
    }
}

/// Sum of digests, as four limbs from the lowest.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Sum {
    rows: u64,
    limbs: [u64; 4],
}

impl Sum {
    fn add(&mut self, digest: &[u8; 32]) {
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(digest.chunks_exact(8)) {
            *limb = bytes.iter().rev().fold(0, |limb, byte| (limb << 8) | u64::from(*byte));
        }
        self.join(&Sum { rows: 1, limbs });
    }

    fn join(&mut self, other: &Sum) {
        self.rows += other.rows;
        let mut carry = false;
        for (limb, add) in self.limbs.iter_mut().zip(other.limbs) {
            let (sum, first) = limb.overflowing_add(add);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
    }

    fn hexadecimal(&self) -> String {
        hex::encode(self.limbs.map(u64::to_le_bytes).concat())
    }
}

fn schema(connection: &Connection, cancel: &Cancel) -> std::result::Result<FingerprintPart, ScanError> {
    let query =
        "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'";
    let sum = scan(connection, query, cancel)?;
    Ok(FingerprintPart { count: sum.rows, digest: sum.hexadecimal() })
}

/// The definitions one by one, so that a missing trigger can be named.
fn objects(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = connection.prepare(
        "SELECT type, name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let rows = statement.query_map([], |row| {
        let (kind, name, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((format!("{kind} {name}"), blake3::hash(sql.as_bytes()).to_hex().to_string()))
    })?;
    rows.collect()
}

fn header(connection: &Connection) -> rusqlite::Result<FingerprintPart> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let encoding: String = connection.pragma_query_value(None, "encoding", |row| row.get(0))?;
    let (version, application) = (number("user_version")?, number("application_id")?);
    let digest = format!("user_version={version} application_id={application} encoding={encoding}");
    Ok(FingerprintPart { count: 1, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(connection: &Connection, query: &str) -> Sum {
        match scan(connection, query, &Cancel::default()) {
            Ok(sum) => sum,
            Err(_) => panic!("the query fails"),
        }
    }

    #[test]
    fn order_does_not_count_and_duplicates_do() {
        let c = Connection::open_in_memory().unwrap();
        let forward = sum(&c, "VALUES (1, 'a'), (2, 'b'), (2, 'b')");
        assert_eq!(forward, sum(&c, "VALUES (2, 'b'), (1, 'a'), (2, 'b')"));
        assert_ne!(forward, sum(&c, "VALUES (1, 'a'), (2, 'b')"));
        assert_ne!(forward.limbs, sum(&c, "VALUES (1, 'a'), (1, 'a'), (2, 'b')").limbs);
        assert_eq!(forward.rows, 3);
    }

    #[test]
    fn values_of_other_types_or_borders_differ() {
        let c = Connection::open_in_memory().unwrap();
        let rows = [
            "1",
            "1.0",
            "'1'",
            "x'31'",
            "NULL",
            "''",
            "x''",
            "0",
            "0.0",
            "-0.0",
            "9223372036854775807",
            "'a', 'bc'",
            "'ab', 'c'",
            "'abc', ''",
            "1, NULL",
            "NULL, 1",
            "zeroblob(4096)",
            "zeroblob(4097)",
            "zeroblob(4098)",
            "CAST(zeroblob(4097) AS TEXT)",
        ];
        let mut seen: Vec<(String, &str)> = rows.map(|r| (sum(&c, &format!("SELECT {r}")).hexadecimal(), r)).to_vec();
        seen.sort();
        // SQLite itself makes no difference between 0.0 and -0.0 in a literal.
        let same: Vec<_> = seen.windows(2).filter(|w| w[0].0 == w[1].0).map(|w| (w[0].1, w[1].1)).collect();
        assert!(same.is_empty() || same == [("-0.0", "0.0")] || same == [("0.0", "-0.0")], "{same:?}");
    }

    #[test]
    fn sums_carry() {
        let mut sum = Sum { rows: 0, limbs: [u64::MAX, u64::MAX, 0, 0] };
        sum.add(&{
            let mut one = [0; 32];
            one[0] = 1;
            one
        });
        assert_eq!(sum.limbs, [0, 0, 1, 0]);
        assert_eq!(&sum.hexadecimal()[30..36], "000100");
    }
}
