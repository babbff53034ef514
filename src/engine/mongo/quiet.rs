//! Whether a server without an oplog stood still while it was dumped, so that all of its collections are of one instant.
//!
//! Two witnesses, and both are needed. The server counts the commands that it carries out: none that may write came between the
//! start of the dump and the end of a second reading. And that second reading, which begins when the dump has ended, finds in every
//! collection what the dump found: each held it at both times, and so all of them did at the instant between the two.
//! A change that was taken back before the second reading would be counted; a command that was under way before the count, or
//! one of another server on the same storage, shows in what is read. A server that does not count is never called still.

use super::session::Session;
use crate::engine::Fingerprint;
use crate::error::Result;
use bson::{Bson, Document, doc};
use std::collections::BTreeMap;

/// Commands that change nothing. Any other that is carried out meanwhile, also one that is not known here, may have written.
const READING: &[&str] = &[
    "authenticate",
    "buildInfo",
    "buildinfo",
    "collStats",
    "connectionStatus",
    "count",
    "currentOp",
    "dbStats",
    "distinct",
    "endSessions",
    "explain",
    "find",
    "getCmdLineOpts",
    "getLog",
    "getMore",
    "getParameter",
    "hello",
    "hostInfo",
    "isMaster",
    "ismaster",
    "killCursors",
    "listCollections",
    "listCommands",
    "listDatabases",
    "listIndexes",
    "logout",
    "ping",
    "replSetGetStatus",
    "rolesInfo",
    "saslContinue",
    "saslStart",
    "serverStatus",
    "startSession",
    "top",
    "usersInfo",
    "validate",
    "whatsmyuri",
];

/// What a server has carried out since it was started, but for what only reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    process: i64,
    counted: BTreeMap<String, i64>,
}

/// `None` where the server does not count, or does not tell.
pub(super) fn written(session: &Session<'_>) -> Result<Option<Written>> {
    let answer = session.attempt("admin", doc! { "serverStatus": 1 })?;
    Ok(answer.ok().as_ref().and_then(Written::of))
}

/// Whether nothing was written, by both witnesses.
pub(super) fn is_still(before: Option<&Written>, after: Option<&Written>, was: &Fingerprint, is: &Fingerprint) -> bool {
    before.is_some() && before == after && was == is
}

impl Written {
    fn of(status: &Document) -> Option<Self> {
        let metrics = status.get_document("metrics").ok()?;
        let mut counted = BTreeMap::new();
        let mut count = |name: String, value: Option<&Bson>| {
            // One that never came is not listed everywhere.
            counted.extend(value.and_then(number).filter(|count| *count != 0).map(|count| (name, count)));
        };
        let commands = metrics.get_document("commands").ok().filter(|commands| !commands.is_empty())?;
        for (name, command) in commands.iter().filter(|(name, _)| !READING.contains(&name.as_str())) {
            match command.as_document() {
                Some(command) => count(name.clone(), command.get("total")),
                None => count(name.clone(), Some(command)),
            }
        }
        // What the server does by itself, such as deleting what has expired.
        for (group, names) in [("document", &["inserted", "updated", "deleted"][..]), ("ttl", &["deletedDocuments"])] {
            let Ok(group_counted) = metrics.get_document(group) else { continue };
            names.iter().for_each(|name| count(format!("{group}.{name}"), group_counted.get(name)));
        }
        Some(Written { process: status.get("pid").and_then(number)?, counted })
    }
}

fn number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(commands: Document) -> Document {
        doc! { "pid": 7i64, "metrics": { "commands": commands, "ttl": { "deletedDocuments": 3i64 } } }
    }

    fn written(commands: Document) -> Option<Written> {
        Written::of(&status(commands))
    }

    #[test]
    fn reading_changes_nothing_and_everything_else_may() {
        let before = written(doc! { "find": { "total": 1i64 }, "insert": { "total": 5i64 } });
        let read = written(doc! { "find": { "total": 90i64 }, "insert": { "total": 5i64 }, "drop": { "total": 0i64 } });
        assert_eq!(before, read);
        for changed in [
            doc! { "find": { "total": 1i64 }, "insert": { "total": 6i64 } },
            doc! { "insert": { "total": 5i64 }, "newCommand": { "total": 1i64 } },
            doc! { "insert": { "total": 5i64 }, "aggregate": { "total": 1i64 } },
        ] {
            assert_ne!(before, written(changed));
        }
        let mut restarted = status(doc! { "insert": { "total": 5i64 } });
        restarted.insert("pid", 8i64);
        assert_ne!(before, Written::of(&restarted));
        let mut expired = status(doc! { "insert": { "total": 5i64 } });
        expired.get_document_mut("metrics").unwrap().insert("ttl", doc! { "deletedDocuments": 4i64 });
        assert_ne!(before, Written::of(&expired));
    }

    #[test]
    fn a_server_that_does_not_count_is_not_called_still() {
        assert_eq!(Written::of(&doc! { "pid": 7i64 }), None);
        assert_eq!(written(doc! {}), None);
        let same = Fingerprint::default();
        assert!(!is_still(None, None, &same, &same));
        let counted = written(doc! { "insert": { "total": 5i64 } });
        assert!(is_still(counted.as_ref(), counted.as_ref(), &same, &same));
        let other = Fingerprint { method: "other".into(), ..Fingerprint::default() };
        assert!(!is_still(counted.as_ref(), counted.as_ref(), &same, &other));
    }
}
