//! The oplog: the log of a replica set, and the part of it that belongs to a dump.
//!
//! A dump reads collections one after the other while they change. The entries from its start to its end make them one
//! instant again when they are replayed. The window is whole only if its first entry is still there after its last was
//! read, and some changes cannot be replayed: then the dump fails, and the next one may go through.

use super::Settings;
use super::archive::Namespace;
use super::dump::Block;
use super::feed::Feed;
use super::session::{Session, code};
use super::walk::Reader;
use crate::error::{Failure, Kind, Result};
use bson::{Bson, Document, RawDocument, Timestamp, doc};
use jiff::Timestamp as Instant;
use std::collections::BTreeSet;

const DATABASE: &str = "local";
const COLLECTION: &str = "oplog.rs";

/// What no replay can repeat, by the first field of the command.
const NOT_REPEATABLE: [&str; 5] =
    ["renameCollection", "importCollection", "convertToCapped", "upgradeDowngradeViewlessTimeseries", "globalIndex"];

/// The entries that a dump has.
pub(super) struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
    /// When the end was looked up: the data stands for this instant.
    pub read_at: Instant,
    pub seen: Seen,
}

impl Window {
    pub fn position(&self) -> serde_json::Value {
        let point = |at: Timestamp| serde_json::json!({ "t": at.time, "i": at.increment });
        serde_json::json!({
            "kind": "oplog", "start": point(self.start), "end": point(self.end), "entries": self.seen.entries,
        })
    }
}

/// The time of the last entry. `None` where there is no oplog.
pub(super) fn newest(session: &Session<'_>) -> Result<Option<Timestamp>> {
    edge(session, -1)
}

/// Where the window of a dump that begins now must begin: before the oldest transaction that is not finished.
pub(super) fn start(session: &Session<'_>) -> Result<Option<Timestamp>> {
    let Some(newest) = newest(session)? else { return Ok(None) };
    let command = doc! {
        "find": "transactions",
        "filter": { "state": { "$in": ["prepared", "inProgress"] } },
        "sort": { "startOpTime": 1 },
        "limit": 1,
    };
    let oldest = match session.attempt_list("config", command)? {
        Ok(found) => found.first().and_then(|t| t.get_document("startOpTime").ok()?.get_timestamp("ts").ok()),
        Err(refused) if refused.code == code::UNAUTHORIZED => {
            return Err(session.refusal("find on config.transactions", &refused));
        }
        Err(_) => None,
    };
    Ok(Some(oldest.map_or(newest, |oldest| oldest.min(newest))))
}

fn edge(session: &Session<'_>, direction: i32) -> Result<Option<Timestamp>> {
    let command = doc! { "find": COLLECTION, "sort": { "$natural": direction }, "limit": 1 };
    match session.attempt_list(DATABASE, command)? {
        Ok(found) => Ok(found.first().and_then(|entry| entry.get_timestamp("ts").ok())),
        Err(refused) if is_member(session)? => Err(session.refusal("find on local.oplog.rs", &refused)),
        Err(_) => Ok(None),
    }
}

fn is_member(session: &Session<'_>) -> Result<bool> {
    let answer = match session.attempt("admin", doc! { "hello": 1 })? {
        Ok(answer) => answer,
        Err(_) => session.command("admin", doc! { "isMaster": 1 })?,
    };
    Ok(answer.contains_key("setName"))
}

/// Writes the entries from `start` to now into the archive. Returns the last one's time, and the instant that it stands for.
pub(super) fn copy(
    session: &Session<'_>,
    start: Timestamp,
    settings: &Settings,
    feed: &mut Feed,
) -> Result<(Timestamp, Instant)> {
    let read_at = Instant::now();
    let end = newest(session)?.ok_or_else(|| lost(session))?;
    reaches_back(session, start)?;
    let name = Namespace::oplog();
    let mut block = Block::new(feed, &name);
    let mut first = None;
    let filter = doc! { "ts": { "$gte": start, "$lte": end } };
    let mut batches = session.batches(DATABASE, doc! { "find": COLLECTION, "filter": filter })?;
    while let Some(batch) = batches.next()? {
        for entry in batch.doc_slices().map_err(|_| session.strange("the oplog"))? {
            let entry = entry.ok().and_then(|value| value.as_document()).ok_or_else(|| session.strange("the oplog"))?;
            first = first.or(entry.get_timestamp("ts").ok());
            check(entry)?;
            if belongs(entry, settings) {
                block.document(entry.as_bytes())?;
            }
        }
    }
    reaches_back(session, start)?;
    if first != Some(start) {
        return Err(lost(session));
    }
    block.end()?;
    Ok((end, read_at))
}

fn reaches_back(session: &Session<'_>, start: Timestamp) -> Result<()> {
    match edge(session, 1)? {
        Some(oldest) if oldest <= start => Ok(()),
        _ => Err(lost(session)),
    }
}

fn lost(session: &Session<'_>) -> Failure {
    let text =
        format!("{}: the oplog is too short: its entries from the start of the dump are gone", session.location());
    Failure::failed(text).hint("Make the oplog larger (replSetResizeOplog), or back up when less is written")
}

/// Refuses what would make the archive impossible to restore.
fn check(entry: &RawDocument) -> Result<()> {
    let namespace = entry.get_str("ns").unwrap_or_default();
    let command = entry.get_document("o").ok().and_then(|o| o.iter().next()?.ok());
    let name = command.map(|(name, _)| name.as_str()).unwrap_or_default();
    let is_command = entry.get_str("op").is_ok_and(|op| op == "c");
    if namespace == "admin.system.version" || is_command && NOT_REPEATABLE.contains(&name) {
        let what = if is_command { name } else { "a change of the server's own version" };
        let text = format!("{what} on {namespace} happened during the dump, which no restore could repeat");
        return Err(Failure::new(Kind::TryLater, text).hint("Run the backup again").passing());
    }
    let operator = |key: &str| key.starts_with('$') && !["$set", "$unset", "$v"].contains(&key);
    let changes = if entry.get_str("op").is_ok_and(|op| op == "u") { entry.get_document("o").ok() } else { None };
    let keys = changes.into_iter().flat_map(|o| o.iter().filter_map(std::result::Result::ok));
    match keys.map(|(key, _)| key.as_str()).find(|key| operator(key)) {
        None => Ok(()),
        Some(key) => Err(Failure::failed(format!("the oplog says {key} on {namespace}, which would be done twice"))
            .hint("MongoDB's own oplog has no such entries: stop what writes during the dump")),
    }
}

/// Entries of other databases are no part of this source. Transactions may touch any and are sorted out when replayed.
fn belongs(entry: &RawDocument, settings: &Settings) -> bool {
    if settings.is_whole() {
        return true;
    }
    let namespace = entry.get_str("ns").unwrap_or_default();
    let database = namespace.split('.').next().unwrap_or_default();
    database == "admin" || settings.wants(database)
}

/// The oplog of an archive that passes by.
#[derive(Default)]
pub(super) struct Seen {
    /// The entry at this time was there before the dump began: all collections have what it changed.
    pub start: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub entries: u64,
    pub touched: Touched,
}

impl Reader for Seen {
    fn document(&mut self, namespace: &Namespace, document: &[u8]) -> Result<()> {
        if *namespace != Namespace::oplog() {
            return Ok(());
        }
        let entry = Document::from_reader(document)
            .map_err(|e| Failure::failed("an entry of the oplog is no BSON").because(e))?;
        let at = entry.get_timestamp("ts").ok();
        self.start = self.start.or(at);
        self.last = at;
        self.entries += 1;
        if at != self.start || entry.get_str("op").is_ok_and(|op| op == "c") {
            self.touched.operation(&entry);
        }
        Ok(())
    }
}

/// Collections that the window changes.
#[derive(Default)]
pub(super) struct Touched {
    collections: BTreeSet<Namespace>,
    /// Those of them that are made, dropped, or get other options or indexes.
    redefined: BTreeSet<Namespace>,
    databases: BTreeSet<String>,
}

impl Touched {
    pub fn has(&self, name: &Namespace) -> bool {
        let buckets = Namespace::new(&name.database, format!("system.buckets.{}", name.collection));
        self.databases.contains(&name.database)
            || self.collections.contains(name)
            || self.collections.contains(&buckets)
    }

    pub fn redefines(&self, name: &Namespace) -> bool {
        self.databases.contains(&name.database) || self.redefined.contains(name)
    }

    pub fn note(&self) -> Option<String> {
        let names: Vec<String> = self.collections.iter().map(ToString::to_string).collect();
        let databases = self.databases.iter().map(|name| format!("{name} (dropped)"));
        let all: Vec<String> = names.into_iter().chain(databases).collect();
        (!all.is_empty()).then(|| {
            let some = all.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let more = if all.len() > 10 { format!(" and {} more", all.len() - 10) } else { String::new() };
            format!("changed during the dump, made one instant by the oplog, and not in the fingerprint: {some}{more}")
        })
    }

    fn operation(&mut self, operation: &Document) {
        let namespace = operation.get_str("ns").unwrap_or_default();
        let Some((database, collection)) = namespace.split_once('.') else { return };
        match operation.get_str("op") {
            Ok("n") => {}
            Ok("c") => {
                let Ok(command) = operation.get_document("o") else { return };
                match command.iter().next() {
                    Some((name, Bson::Array(nested))) if name == "applyOps" => {
                        nested.iter().filter_map(Bson::as_document).for_each(|nested| self.operation(nested));
                    }
                    Some((name, _)) if name == "dropDatabase" => _ = self.databases.insert(database.to_owned()),
                    Some((_, Bson::String(collection))) => {
                        let name = Namespace::new(database, collection);
                        self.redefined.insert(name.clone());
                        self.collections.insert(name);
                    }
                    _ => {}
                }
            }
            _ => _ = self.collections.insert(Namespace::new(database, collection)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(entry: &Document) -> Result<()> {
        let bytes = entry.to_vec().expect("a document can be written");
        check(RawDocument::from_bytes(&bytes).expect("what was written can be read"))
    }

    #[test]
    fn what_cannot_be_repeated_ends_the_dump_and_says_to_try_again() {
        for command in NOT_REPEATABLE {
            let failure = checked(&doc! { "op": "c", "ns": "shop.$cmd", "o": { command: "shop.a" } }).unwrap_err();
            assert_eq!(failure.kind(), Kind::TryLater);
            assert!(failure.to_string().contains(command), "{failure}");
        }
        checked(&doc! { "op": "u", "ns": "admin.system.version", "o": { "version": "8.0" } }).unwrap_err();
        checked(&doc! { "op": "i", "ns": "shop.a", "o": { "renameCollection": "a word like any other" } }).unwrap();
        checked(&doc! { "op": "c", "ns": "shop.$cmd", "o": { "create": "a" } }).unwrap();
        checked(&doc! { "op": "u", "ns": "shop.a", "o": { "$inc": { "n": 1 } }, "o2": { "_id": 1 } }).unwrap_err();
        checked(&doc! { "op": "u", "ns": "shop.a", "o": { "$v": 1, "$set": { "n": 1 } }, "o2": { "_id": 1 } }).unwrap();
        checked(&doc! { "op": "u", "ns": "shop.a", "o": { "$v": 2, "diff": { "u": { "n": 1 } } } }).unwrap();
    }

    #[test]
    fn nested_changes_and_whole_databases_count_as_touched() {
        let mut touched = Touched::default();
        let nested = [doc! { "op": "i", "ns": "shop.a", "o": {} }, doc! { "op": "d", "ns": "shop.b", "o": {} }];
        touched.operation(&doc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": nested.to_vec() } });
        touched.operation(&doc! { "op": "c", "ns": "shop.$cmd", "o": { "createIndexes": "c", "key": { "x": 1 } } });
        touched.operation(&doc! { "op": "c", "ns": "gone.$cmd", "o": { "dropDatabase": 1 } });
        touched.operation(&doc! { "op": "n", "ns": "", "o": {} });
        for (database, name) in [("shop", "a"), ("shop", "b"), ("shop", "c"), ("gone", "anything")] {
            assert!(touched.has(&Namespace::new(database, name)), "{database}.{name}");
        }
        assert!(!touched.has(&Namespace::new("shop", "d")));
        assert!(!touched.redefines(&Namespace::new("shop", "a")) && touched.redefines(&Namespace::new("shop", "c")));
    }
}
