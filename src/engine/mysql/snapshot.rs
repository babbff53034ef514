//! One instant for two sessions: the dump program's snapshot, and the one in which rows are counted.
//!
//! A short global read lock holds all writers while both begin. It waits behind long queries and everybody waits behind
//! it, so it is not asked for while one runs, and it gives up soon. Where it cannot be had, positions of the binary log
//! before and after tell whether anything was committed in between; otherwise nothing is claimed.

use super::Settings;
use super::client::{Client, Flavour};
use super::privileges::Grants;
use super::session::{Session, error_number};
use crate::clock;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Seconds that a query may have run without being in the way of the lock.
const LONG: u32 = 10;
/// Seconds that the lock waits at most, and everybody behind it.
const PATIENCE: u32 = 10;
const LOCK_WAIT_TIMEOUT: u16 = 1205;

pub struct Snapshot<'a> {
    pub session: Session<'a>,
    pub consistent_at: Timestamp,
    /// Where the log stood, when that is certain.
    pub position: Option<Value>,
    /// Whether rows counted in the session are those of the dump. Certain after [`Snapshot::release`].
    pub bound: bool,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
    locked: bool,
    readable: bool,
}

/// Begins the snapshot. While it is not released, writers wait.
pub fn take<'a>(client: &Client<'_>, grants: &Grants, settings: &Settings, cancel: &'a Cancel) -> Result<Snapshot<'a>> {
    let readable = grants.may_read_position();
    if !grants.may_flush(&client.version) {
        let text = "without the privilege RELOAD, row counts and checksums may be of another instant than the dump";
        if settings.lock_tables {
            return Err(Failure::new(Kind::Refused, "tables cannot be locked: RELOAD is missing")
                .hint("Grant RELOAD (or FLUSH_TABLES) ON *.* to the user of the source, or leave out `lock_tables`"));
        }
        return begin(client, false, readable, cancel).map(|snapshot| snapshot.note(text));
    }
    let reason = match long_queries(&mut client.session(cancel)?)? {
        queries if !queries.is_empty() => queries.join(", "),
        _ => match begin(client, true, readable, cancel) {
            Err(failure) if error_number(&failure.full()) == Some(LOCK_WAIT_TIMEOUT) => {
                format!("it was not to be had within {PATIENCE} s")
            }
            other => return other,
        },
    };
    if settings.lock_tables {
        return Err(Failure::new(Kind::TryLater, format!("tables cannot be locked now: {reason}"))
            .hint("Run the command again when that has ended"));
    }
    let text = format!(
        "no global read lock was taken, since it would have made everybody wait: {reason}. Row counts and checksums may be of another instant than the dump"
    );
    let mut snapshot = begin(client, false, readable, cancel)?;
    snapshot.warnings.push(text);
    Ok(snapshot)
}

fn begin<'a>(client: &Client<'_>, locked: bool, readable: bool, cancel: &'a Cancel) -> Result<Snapshot<'a>> {
    let mut session = client.session(cancel)?;
    session.run(&format!("SET SESSION lock_wait_timeout = {PATIENCE}"))?;
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
    if locked {
        session.run("FLUSH TABLES WITH READ LOCK")?;
    }
    let position = if readable { position(&mut session, client)? } else { None };
    let consistent_at = clock::now();
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
    let (warnings, notes) = (Vec::new(), Vec::new());
    Ok(Snapshot { session, consistent_at, position, bound: locked, warnings, notes, locked, readable })
}

impl Snapshot<'_> {
    fn note(mut self, text: &str) -> Self {
        self.notes.push(text.to_owned());
        self
    }

    /// The dump has not begun, and everybody who writes has waited long enough for it.
    pub fn let_writers_go_on(&mut self) -> Result<()> {
        if !self.locked {
            return Ok(());
        }
        self.warnings.push(
            "the dump program took too long to begin, and the global read lock was given back before: row counts and \
             checksums may be of another instant than the dump"
                .into(),
        );
        (self.locked, self.bound) = (false, false);
        self.session.run("UNLOCK TABLES")
    }

    /// The dump's own snapshot has begun: writers may go on, unless `keep` says that they wait until the end.
    pub fn release(&mut self, client: &Client<'_>, keep: bool, cancel: &Cancel) -> Result<()> {
        if self.locked {
            return if keep { Ok(()) } else { self.session.run("UNLOCK TABLES") };
        }
        // Nothing was committed between the two snapshots if the log has not moved.
        let now = if self.readable { position(&mut client.session(cancel)?, client)? } else { None };
        self.bound = now.is_some() && now == self.position;
        if self.bound {
            self.notes.clear();
            self.warnings.clear();
        } else {
            self.position = None;
        }
        Ok(())
    }
}

/// Where the binary log stands; `None` when there is none.
fn position(session: &mut Session<'_>, client: &Client<'_>) -> Result<Option<Value>> {
    if session.one("SELECT @@global.log_bin")? != "1" {
        return Ok(None);
    }
    let question = match client.version.at_least(Flavour::Mysql, (8, 2, 0)) {
        true => "SHOW BINARY LOG STATUS",
        false => "SHOW MASTER STATUS",
    };
    let Some(row) = session.rows(question)?.into_iter().next() else { return Ok(None) };
    let field = |at: usize| row.get(at).map(|f| f.replace('\n', "")).unwrap_or_default();
    let gtid = match client.version.flavour {
        Flavour::Mysql => field(4),
        Flavour::Mariadb => {
            let file = super::session::text(&field(0));
            session.one(&format!("SELECT IFNULL(BINLOG_GTID_POS({file}, {}), '')", field(1)))?
        }
    };
    Ok(Some(json!({ "file": field(0), "position": field(1).parse::<u64>().unwrap_or(0), "gtid": gtid })))
}

/// Statements that have run for long. Their text is not told: it may hold anything.
fn long_queries(session: &mut Session<'_>) -> Result<Vec<String>> {
    let question = format!(
        "SELECT id, user, time, SUBSTRING_INDEX(LTRIM(IFNULL(info, '')), ' ', 1) FROM information_schema.processlist \
         WHERE command IN ('Query', 'Execute') AND time >= {LONG} AND id <> CONNECTION_ID() ORDER BY time DESC LIMIT 5"
    );
    let told = |row: Vec<String>| {
        let [id, user, seconds, word] = <[String; 4]>::try_from(row).unwrap_or_default();
        let word: String = word.chars().filter(char::is_ascii_alphabetic).take(12).collect();
        format!("connection {id} of {user} has run a {} for {seconds} s", word.to_uppercase())
    };
    Ok(session.rows(&question)?.into_iter().map(told).collect())
}
