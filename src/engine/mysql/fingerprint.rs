//! Row counts and `CHECKSUM TABLE`, table by table, in one snapshot; and FLOAT columns that a dump rounds.
//!
//! Checksums compare only between servers of one flavour and series, which is why both stand in the method. Tables
//! that no snapshot holds still have no part.

use super::catalog::Table;
use super::client::{Flavour, Version};
use super::session::{Session, name};
use crate::engine::{Fingerprint, FingerprintPart};
use crate::error::Result;

/// Added to the method when the snapshot may not be that of the dump: nothing compares with it.
const UNBOUND: &str = " (not bound to the dump)";

#[derive(Default)]
pub struct Measured {
    pub fingerprint: Fingerprint,
    /// Columns whose values a dump rounds, with how many.
    pub rounded: Vec<String>,
}

pub fn method(version: &Version, bound: bool) -> String {
    let flavour = match version.flavour {
        Flavour::Mysql => "mysql",
        Flavour::Mariadb => "mariadb",
    };
    let (major, minor, _) = version.number;
    format!("checksum-table-1 {flavour} {major}.{minor}{}", if bound { "" } else { UNBOUND })
}

/// Whether counts and checksums are those of the dumped rows.
pub fn is_bound(fingerprint: &Fingerprint) -> bool {
    !fingerprint.method.ends_with(UNBOUND) && !fingerprint.method.is_empty()
}

pub fn measure(session: &mut Session<'_>, version: &Version, tables: &[Table]) -> Result<Measured> {
    let mut measured = Measured::default();
    measured.fingerprint.method = method(version, true);
    for table in tables.iter().filter(|t| t.is_transactional()) {
        let count = count(session, table)?;
        let digest = checksum(session, table)?;
        measured.fingerprint.parts.insert(table.path(), FingerprintPart { count, digest });
        measured.rounded.extend(rounded(session, version, table)?);
    }
    Ok(measured)
}

pub fn count(session: &mut Session<'_>, table: &Table) -> Result<u64> {
    let history = if table.versioned { " FOR SYSTEM_TIME ALL" } else { "" };
    session.number(&format!("SELECT COUNT(*) FROM {}{history}", table.path()))
}

pub fn checksum(session: &mut Session<'_>, table: &Table) -> Result<String> {
    let rows = session.rows(&format!("CHECKSUM TABLE {} EXTENDED", table.path()))?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).unwrap_or_default())
}

/// The clients write FLOAT values with six digits, and some need nine.
fn rounded(session: &mut Session<'_>, version: &Version, table: &Table) -> Result<Vec<String>> {
    if table.floats.is_empty() {
        return Ok(Vec::new());
    }
    if !version.at_least(Flavour::Mysql, (8, 0, 17)) && !version.at_least(Flavour::Mariadb, (10, 5, 0)) {
        return Ok(table.floats.iter().map(|c| format!("{}.{} (perhaps)", table.path(), name(c))).collect());
    }
    let lossy = |column: &String| {
        let column = name(column);
        format!("IFNULL(SUM(CAST(CAST({column} AS CHAR) AS FLOAT) <> {column}), 0)")
    };
    let sums: Vec<String> = table.floats.iter().map(lossy).collect();
    let counts = session.rows(&format!("SELECT {} FROM {}", sums.join(", "), table.path()))?;
    let counts = counts.into_iter().next().unwrap_or_default();
    let told = |(column, count): (&String, String)| {
        (count != "0").then(|| format!("{}.{} ({count} values)", table.path(), name(column)))
    };
    Ok(table.floats.iter().zip(counts).filter_map(told).collect())
}
