//! What restores leave in a server: a part of the data after one that was killed, or what one in place replaced.
//!
//! Keys tell, which a restore sets before the first other one and removes with its last step.

use super::connection::{Connection, Reply};
use crate::engine::Leftover;
use crate::engine::leftovers::{REPLACED, UNFINISHED};
use crate::error::{Failure, Result};

/// In database 0 of a server that was empty, and in every database where data waits to be exchanged.
pub const MARK_WHOLE: &str = "bkp_restore_unfinished";
pub const MARK_STAGED: &str = "bkp_restore_staged";
/// In a database with what was exchanged.
pub const MARK_ASIDE: &str = "bkp_replaced";

/// Numbers of the databases that hold keys.
pub fn occupied(connection: &mut Connection<'_>) -> Result<Vec<u64>> {
    super::restore::told(connection, &[b"INFO", b"keyspace"], "+info").map(|lines| numbers(&lines))
}

fn numbers(lines: &[String]) -> Vec<u64> {
    lines.iter().filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok()).collect()
}

/// Databases with one of the keys, and which. Where keys may not be asked about, nothing is known.
pub fn marked(connection: &mut Connection<'_>) -> Result<Vec<(u64, &'static str)>> {
    let mut found = Vec::new();
    let Some(keyspace) = connection.ask(&[b"INFO", b"keyspace"])?.permitted() else { return Ok(found) };
    for number in numbers(&keyspace.lines()) {
        if connection.ask(&[b"SELECT", number.to_string().as_bytes()])?.permitted().is_none() {
            continue;
        }
        for mark in [MARK_WHOLE, MARK_STAGED, MARK_ASIDE] {
            if connection.ask(&[b"EXISTS", mark.as_bytes()])? == Reply::Number(1) {
                found.push((number, mark));
            }
        }
    }
    connection.ask(&[b"SELECT", b"0"])?;
    Ok(found)
}

pub fn all(connection: &mut Connection<'_>) -> Result<Vec<Leftover>> {
    let server = connection.address.to_string();
    let what = |mark: &str| if mark == MARK_ASIDE { REPLACED } else { UNFINISHED };
    Ok(marked(connection)?.into_iter().map(|(number, mark)| leftover(&server, number, mark, what(mark))).collect())
}

fn leftover(server: &str, number: u64, mark: &str, what: &'static str) -> Leftover {
    if mark == MARK_WHOLE {
        return Leftover { place: format!("the data of {server}"), what, remove: "FLUSHALL".into() };
    }
    Leftover {
        place: format!("database {number} of {server}"),
        what,
        remove: format!("FLUSHDB in that database (redis-cli -n {number} FLUSHDB)"),
    }
}

/// The failure of a restore into a server, with what is left there now.
pub fn in_part(failure: Failure, server: &impl std::fmt::Display) -> Failure {
    let text = format!("the restore into {server} stopped half-way: {}", failure.full());
    Failure::new(failure.kind(), text).hint(
        "The server was empty and has a part of the data now: FLUSHALL removes it, and the restore can be run again",
    )
}
