//! One database at one instant, held open: every table locked against changes of its definition, then a snapshot that
//! `pg_dump` shares.
//!
//! The locks come first. A table that is truncated, or swapped for another, between a snapshot and its lock would be read
//! as empty without any error; `pg_dump` alone has that gap. A table that appears meanwhile makes it begin again.

use super::catalogue::{self, Table};
use super::client::Clients;
use super::session::Session;
use crate::clock;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often it is begun again when definitions change meanwhile.
pub const ATTEMPTS: u32 = 3;
/// Tables locked by one statement.
const AT_ONCE: usize = 200;

pub struct Snapshot<'a> {
    pub session: Session<'a>,
    pub id: String,
    /// Whatever was committed by then is in it.
    pub at: Timestamp,
    pub tables: Vec<Table>,
}

impl<'a> Snapshot<'a> {
    pub fn open(clients: &Clients, database: &str, lock_wait: Duration, cancel: &'a Cancel) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let last = attempt == ATTEMPTS;
            match Snapshot::begin(clients, database, lock_wait, cancel, last) {
                Ok(Some(snapshot)) => return Ok(snapshot),
                Ok(None) => {}
                Err(failure) if last || !is_about_changes(&failure) => return Err(failure),
                Err(_) => cancel.check()?,
            }
            attempt += 1;
        }
    }

    /// `None` when a table appeared that is not locked, unless this is the last attempt, where it is locked late.
    fn begin(
        clients: &Clients,
        database: &str,
        lock_wait: Duration,
        cancel: &'a Cancel,
        last: bool,
    ) -> Result<Option<Self>> {
        let mut session = Session::open(clients, database, cancel)?;
        session.wait_for_locks(lock_wait)?;
        let before = catalogue::tables(&mut session)?;
        check_readable(&before, database, clients)?;
        session.run("begin isolation level repeatable read, read only")?;
        lock(&mut session, before.iter())?;
        let at = clock::now();
        let id = session.row("select pg_export_snapshot() as id")?["id"].as_str().unwrap_or_default().to_owned();
        let tables = catalogue::tables(&mut session)?;
        let locked: BTreeSet<u32> = before.iter().map(|table| table.oid).collect();
        let late: Vec<&Table> = tables.iter().filter(|t| t.has_rows() && !locked.contains(&t.oid)).collect();
        if !late.is_empty() {
            if !last {
                return Ok(None);
            }
            check_readable(&tables, database, clients)?;
            lock(&mut session, late.into_iter())?;
        }
        Ok(Some(Snapshot { session, id, at, tables }))
    }
}

fn lock<'t>(session: &mut Session<'_>, tables: impl Iterator<Item = &'t Table>) -> Result<()> {
    let names: Vec<String> = tables.filter(|t| t.has_rows()).map(|t| format!("only {}", t.quoted())).collect();
    for some in names.chunks(AT_ONCE) {
        session.run(&format!("lock table {} in access share mode", some.join(", ")))?;
    }
    Ok(())
}

/// Something was dropped or locked by a statement that changes definitions: another attempt may do.
pub fn is_about_changes(failure: &Failure) -> bool {
    let text = failure.full();
    ["lock timeout", "does not exist", "could not open relation"].iter().any(|sign| text.contains(sign))
}

/// The user may read everything, and sees all rows of it; otherwise what is missing, by name.
pub fn check_readable(tables: &[Table], database: &str, clients: &Clients) -> Result<()> {
    let user = super::sql::name(clients.user());
    let names = |which: fn(&&Table) -> bool| -> Vec<String> {
        tables.iter().filter(which).map(|t| super::sql::path(&[&t.schema, &t.name])).collect()
    };
    let unreadable = names(|t| !t.readable && (t.has_rows() || t.is_sequence()));
    if !unreadable.is_empty() {
        let grant = if clients.major() >= 14 {
            format!("GRANT pg_read_all_data TO {user};")
        } else {
            format!(
                "GRANT USAGE ON SCHEMA … TO {user}; GRANT SELECT ON ALL TABLES IN SCHEMA … TO {user}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA … TO {user};"
            )
        };
        return Err(Failure::failed(format!(
            "`{}` may not read all of database {database}: {}",
            clients.user(),
            few(&unreadable)
        ))
        .hint(format!("Run as a superuser: {grant}")));
    }
    let hidden = names(|t| t.hidden && t.has_rows());
    if !hidden.is_empty() {
        return Err(Failure::failed(format!(
            "row-level security hides rows from `{}` in database {database}: {}",
            clients.user(),
            few(&hidden)
        ))
        .hint(format!(
            "Run as a superuser: ALTER ROLE {user} BYPASSRLS; or let the owner of the tables make the backup"
        )));
    }
    Ok(())
}

/// The first of many names.
pub fn few(names: &[String]) -> String {
    match names {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        _ => names.join(", "),
    }
}
