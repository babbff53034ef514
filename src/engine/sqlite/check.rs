//! Whether a copy is a sound database. Works on a still file.
//!
//! `integrity_check` decides: what it finds ends the backup. It stops where the schema uses functions or collations that only
//! the application has; then it goes table by table, and the tables it cannot check are warnings (their pages are still
//! read, for the fingerprint). Violated foreign keys are the source's own content and are warnings too; CHECK constraints
//! are not looked at (SQLite passes over them in a file that is opened for reading).

use super::open;
use crate::error::{Context, Failure, Kind, Result};
use crate::event::Cancel;
use rusqlite::{Connection, ToSql};
use std::collections::BTreeMap;
use std::path::Path;

/// Complaints of `integrity_check` that are asked for, and how many of them a message repeats.
const ASKED: u32 = 20;
const TOLD: usize = 3;

/// Checks the file `copy`; `shown` is what messages call it. Gives the warnings.
pub fn sound(copy: &Path, shown: &Path, cancel: &Cancel) -> Result<Vec<String>> {
    let connection = open::still(copy).map_err(|e| renamed(e, shown))?;
    let mut warnings = Vec::new();
    whole_pages(&connection, copy, shown)?;
    let checked = open::interruptible(&connection, cancel, || {
        integrity(&connection, shown, &mut warnings)?;
        foreign_keys(&connection, shown, &mut warnings)
    });
    // What an interrupted check complains of is the interruption.
    cancel.check()?;
    checked.map(|()| warnings)
}

/// The copy is a spool file nobody knows: messages speak of the database itself.
fn renamed(failure: Failure, shown: &Path) -> Failure {
    Failure::new(failure.kind(), format!("the copy of {} cannot be read", shown.display())).because(failure.full())
}

fn whole_pages(connection: &Connection, copy: &Path, shown: &Path) -> Result<()> {
    let pragma =
        |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0).map(i64::cast_unsigned));
    let pages = pragma("page_count").map_err(|e| open::failure(e, shown))?;
    let size = pages * pragma("page_size").map_err(|e| open::failure(e, shown))?;
    let found = std::fs::metadata(copy).context(|| format!("cannot look at the copy of {}", shown.display()))?.len();
    if size == found {
        return Ok(());
    }
    let text = format!("the copy of {} has {found} bytes, but its pages are {size}", shown.display());
    Err(Failure::new(Kind::Verification, text).hint("Run the backup again; if it repeats, the database is damaged"))
}

fn integrity(connection: &Connection, shown: &Path, warnings: &mut Vec<String>) -> Result<()> {
    let complaints = match complaints(connection, ASKED) {
        Ok(complaints) => complaints,
        Err(_) => table_by_table(connection, warnings).map_err(|e| open::failure(e, shown))?,
    };
    if complaints.is_empty() {
        return Ok(());
    }
    let told = complaints[..complaints.len().min(TOLD)].join("; ");
    let more = if complaints.len() > TOLD { " and more" } else { "" };
    Err(Failure::new(Kind::Verification, format!("the database {} is damaged", shown.display()))
        .because(format!("{told}{more}"))
        .hint(format!("Restore an earlier point, or save what can be saved: sqlite3 {} .recover", shown.display())))
}

fn table_by_table(connection: &Connection, warnings: &mut Vec<String>) -> rusqlite::Result<Vec<String>> {
    let mut tables = connection.prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0")?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut all = Vec::new();
    for name in names {
        match complaints(connection, name.as_str()) {
            Ok(complaints) => all.extend(complaints),
            Err(error) => warnings.push(format!("table {name} could not be checked: {error}")),
        }
    }
    Ok(all)
}

/// What `integrity_check` complains of; nothing when all is well. `what` is how many complaints are wanted, or one table.
/// Only a missing ability is an error here: whatever else stops the check is a damage.
fn complaints(connection: &Connection, what: impl ToSql) -> rusqlite::Result<Vec<String>> {
    let mut lines = Vec::new();
    let result = connection.pragma(None, "integrity_check", what, |row| {
        lines.push(row.get::<_, String>(0)?.replace('\n', " "));
        Ok(())
    });
    match result {
        Ok(()) => {
            lines.retain(|line| line != "ok");
            Ok(lines)
        }
        Err(error) if missing_ability(&error) => Err(error),
        Err(error) => {
            lines.push(error.to_string());
            Ok(lines)
        }
    }
}

/// `no such function`, `no such collation sequence`, `no such module`: plain errors of SQL.
fn missing_ability(error: &rusqlite::Error) -> bool {
    error.to_string().contains("no such ")
}

fn foreign_keys(connection: &Connection, shown: &Path, warnings: &mut Vec<String>) -> Result<()> {
    let mut broken: BTreeMap<(String, String), u64> = BTreeMap::new();
    let result = connection.pragma_query(None, "foreign_key_check", |row| {
        *broken.entry((row.get(0)?, row.get(2)?)).or_default() += 1;
        Ok(())
    });
    match result {
        Ok(()) => {}
        // A key that does not fit its parent, or an ability that only the application has.
        Err(error) if missing_ability(&error) || error.to_string().contains("foreign key mismatch") => {
            warnings.push(format!("the foreign keys could not be checked: {error}"));
        }
        Err(error) => return Err(open::failure(error, shown)),
    }
    for ((table, parent), count) in broken {
        let rows = if count == 1 { "1 row refers" } else { &format!("{count} rows refer") };
        warnings.push(format!("table {table}: {rows} to rows of {parent} that do not exist (foreign key)"));
    }
    Ok(())
}
