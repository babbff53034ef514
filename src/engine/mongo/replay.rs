//! Replays the oplog's window over restored collections, so that all of them stand for its end.
//!
//! Every step can be done again: inserts replace, deletes of what is gone do nothing, changes of a document that is gone
//! are passed over, for its deletion is in the window too. Indexes are only noted down: they are made at the end.

use super::archive::Namespace;
use super::load::{Definitions, Names, Route, taken};
use super::session::{Refused, Session, code};
use crate::error::{Failure, Kind, Result};
use bson::{Bson, Document, doc};
use std::collections::BTreeMap;

/// Changes to one collection that go in one command.
const TOGETHER: usize = 500;

pub(super) struct Replay<'a> {
    session: &'a Session<'a>,
    names: &'a Names,
    routes: &'a BTreeMap<Namespace, Route>,
    definitions: &'a mut Definitions,
    /// Operations of transactions whose end has not come.
    transactions: BTreeMap<String, Vec<Document>>,
    waiting: Option<Waiting>,
}

struct Waiting {
    target: Namespace,
    /// `update` or `delete`.
    command: &'static str,
    changes: Vec<Bson>,
}

impl<'a> Replay<'a> {
    pub fn new(
        session: &'a Session<'a>,
        names: &'a Names,
        routes: &'a BTreeMap<Namespace, Route>,
        definitions: &'a mut Definitions,
    ) -> Self {
        Replay { session, names, routes, definitions, transactions: BTreeMap::new(), waiting: None }
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }

    pub fn entry(&mut self, entry: &Document) -> Result<()> {
        match transaction(entry) {
            Some(id) => self.part_of_transaction(id, entry),
            None => self.operation(entry),
        }
    }

    /// A large transaction has several entries, a prepared one is decided by a later entry.
    fn part_of_transaction(&mut self, id: String, entry: &Document) -> Result<()> {
        let Ok(command) = entry.get_document("o") else { return self.operation(entry) };
        if command.contains_key("abortTransaction") {
            self.transactions.remove(&id);
            return Ok(());
        }
        let is_decided = command.contains_key("commitTransaction");
        if !is_decided {
            let Ok(nested) = command.get_array("applyOps") else { return self.operation(entry) };
            let nested = nested.iter().filter_map(Bson::as_document).cloned();
            self.transactions.entry(id.clone()).or_default().extend(nested);
            let is_open = |field: &str| command.get_bool(field).unwrap_or(false);
            if is_open("partialTxn") || is_open("prepare") {
                return Ok(());
            }
        }
        let operations = self.transactions.remove(&id).unwrap_or_default();
        operations.iter().try_for_each(|operation| self.operation(operation))
    }

    fn operation(&mut self, operation: &Document) -> Result<()> {
        let namespace = operation.get_str("ns").unwrap_or_default();
        let Some((database, collection)) = namespace.split_once('.') else { return Ok(()) };
        let kind = operation.get_str("op").unwrap_or_default();
        let object = operation.get_document("o").map_err(|_| strange(operation))?;
        if kind == "c" {
            return self.command(database, object);
        }
        let source = Namespace::new(database, collection);
        let Some(target) = self.target(&source) else { return Ok(()) };
        match kind {
            "i" => {
                self.appears(&source, &target);
                let query = doc! { "_id": object.get("_id").ok_or_else(|| strange(operation))?.clone() };
                self.push(&target, "update", doc! { "q": query, "u": object.clone(), "upsert": true })
            }
            "u" => self.update(&target, operation, object),
            "d" => {
                let query = doc! { "_id": object.get("_id").ok_or_else(|| strange(operation))?.clone() };
                self.push(&target, "delete", doc! { "q": query, "limit": 1 })
            }
            "n" | "cd" | "ci" | "cu" | "km" => Ok(()),
            _ => Err(strange(operation)),
        }
    }

    fn update(&mut self, target: &Namespace, operation: &Document, object: &Document) -> Result<()> {
        let query = match operation.get_document("o2") {
            Ok(query) => query.clone(),
            Err(_) => doc! { "_id": object.get("_id").ok_or_else(|| strange(operation))?.clone() },
        };
        if object.contains_key("diff") && object.contains_key("$v") {
            return self.difference(target, query, object);
        }
        let is_replacement = !object.keys().any(|key| key.starts_with('$'));
        let mut change = object.clone();
        change.remove("$v");
        self.push(target, "update", doc! { "q": query, "u": change, "upsert": is_replacement })
    }

    /// Only the server can apply its own form of a difference, and only to a document that is there.
    fn difference(&mut self, target: &Namespace, query: Document, object: &Document) -> Result<()> {
        self.flush()?;
        let filter =
            doc! { "find": &target.collection, "filter": query.clone(), "limit": 1, "projection": { "_id": 1 } };
        if self.session.list(&target.database, filter)?.is_empty() {
            return Ok(());
        }
        let operation = doc! { "op": "u", "ns": target.to_string(), "o2": query, "o": object.clone() };
        self.session.command("admin", doc! { "applyOps": [operation] }).map(|_| ())
    }

    fn command(&mut self, database: &str, object: &Document) -> Result<()> {
        self.flush()?;
        let Some((name, about)) = object.iter().next() else { return Ok(()) };
        if let ("applyOps", Bson::Array(nested)) = (name.as_str(), about) {
            return nested.iter().filter_map(Bson::as_document).try_for_each(|nested| self.operation(nested));
        }
        if name == "dropDatabase" {
            let made: Vec<Namespace> = self.definitions.made.iter().cloned().collect();
            let gone = self.names.database(database);
            return made.iter().filter(|name| name.database == gone).try_for_each(|name| self.drop(name));
        }
        let Bson::String(collection) = about else { return Ok(()) };
        let Some(target) = self.target(&Namespace::new(database, collection)) else { return Ok(()) };
        match name.as_str() {
            "create" => self.create(&Namespace::new(database, collection), &target, object),
            "drop" => self.drop(&target),
            "createIndexes" => {
                let mut index = object.clone();
                index.remove("createIndexes");
                self.add_indexes(target, [index])
            }
            "commitIndexBuild" => {
                let indexes = object.get_array("indexes").map(Vec::as_slice).unwrap_or_default();
                self.add_indexes(target, indexes.iter().filter_map(Bson::as_document).cloned())
            }
            "dropIndexes" | "deleteIndexes" | "dropIndex" | "deleteIndex" => {
                let gone = object.get_str("index").unwrap_or("*");
                let is_gone = |index: &Document| gone == "*" || index.get_str("name").is_ok_and(|other| other == gone);
                self.definitions.indexes.entry(target).or_default().retain(|index| !is_gone(index));
                Ok(())
            }
            "collMod" => self.modify(&target, object),
            "startIndexBuild" | "abortIndexBuild" | "setMultikeyMetadata" | "dropIdent" | "emptycapped" => Ok(()),
            other => Err(Failure::new(
                Kind::Verification,
                format!("the oplog of this point has `{other}`, which bkp cannot replay"),
            )
            .hint("Export the archive and restore it with: mongorestore --archive --oplogReplay")),
        }
    }

    fn create(&mut self, source: &Namespace, target: &Namespace, object: &Document) -> Result<()> {
        if self.definitions.made.contains(target) {
            return Ok(());
        }
        let mut options = object.clone();
        options.remove("create");
        let live = self.names.live(source);
        if options.contains_key("viewOn") {
            self.definitions.views.insert(live, options);
            return Ok(());
        }
        self.definitions.live.insert(target.clone(), live);
        self.definitions.create(self.session, target, &options)
    }

    fn drop(&mut self, target: &Namespace) -> Result<()> {
        self.definitions.indexes.remove(target);
        self.definitions.live.remove(target);
        self.definitions.views.remove(target);
        self.definitions.made.remove(target);
        let answer = self.session.attempt(&target.database, doc! { "drop": &target.collection })?;
        self.unless_gone(&format!("drop {target}"), answer)
    }

    /// Of an index that is still to be made, the change is noted down with it.
    fn modify(&mut self, target: &Namespace, object: &Document) -> Result<()> {
        if let Ok(change) = object.get_document("index") {
            let name = change.get_str("name").unwrap_or_default();
            let indexes = self.definitions.indexes.entry(target.clone()).or_default();
            for index in indexes.iter_mut().filter(|index| index.get_str("name").is_ok_and(|other| other == name)) {
                let kept = change.iter().filter(|(key, _)| !["name", "keyPattern"].contains(&key.as_str()));
                index.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
            }
            return Ok(());
        }
        let mut command = doc! { "collMod": &target.collection };
        command.extend(object.iter().skip(1).map(|(key, value)| (key.clone(), value.clone())));
        let answer = self.session.attempt(&target.database, command)?;
        self.unless_gone(&format!("collMod on {target}"), answer)
    }

    fn unless_gone(&self, what: &str, answer: std::result::Result<Document, Refused>) -> Result<()> {
        match answer {
            Err(refused) if refused.code != code::NAMESPACE_NOT_FOUND => Err(self.session.refusal(what, &refused)),
            _ => Ok(()),
        }
    }

    fn add_indexes(&mut self, target: Namespace, indexes: impl IntoIterator<Item = Document>) -> Result<()> {
        let known = self.definitions.indexes.entry(target).or_default();
        for index in indexes {
            known.retain(|other| other.get("name") != index.get("name"));
            known.push(index);
        }
        Ok(())
    }

    fn target(&self, name: &Namespace) -> Option<Namespace> {
        if let Some(target) = self.routes.get(name) {
            return Some(target.target.clone());
        }
        let is_own = name.collection.starts_with("system.") && name.collection != "system.js";
        if is_own { None } else { self.names.target(name) }
    }

    /// A server may create a collection with its first document and not say so.
    fn appears(&mut self, source: &Namespace, target: &Namespace) {
        if !self.routes.contains_key(source) && self.definitions.made.insert(target.clone()) {
            self.definitions.live.insert(target.clone(), self.names.live(source));
        }
    }

    fn push(&mut self, target: &Namespace, command: &'static str, change: Document) -> Result<()> {
        let fits = |waiting: &Waiting| {
            waiting.target == *target && waiting.command == command && waiting.changes.len() < TOGETHER
        };
        if !self.waiting.as_ref().is_some_and(fits) {
            self.flush()?;
        }
        let waiting =
            self.waiting.get_or_insert_with(|| Waiting { target: target.clone(), command, changes: Vec::new() });
        waiting.changes.push(Bson::Document(change));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(Waiting { target, command, changes }) = self.waiting.take() else { return Ok(()) };
        let list = if command == "update" { "updates" } else { "deletes" };
        let mut order = doc! { command: &target.collection, list: changes };
        if self.routes.values().any(|route| route.raw && route.target == target) {
            order.insert("rawData", true);
        }
        let answer = self.session.command(&target.database, order)?;
        // Changes that find nothing are right here; only what the server refuses counts.
        taken(&answer, 0, &target)
    }
}

fn strange(operation: &Document) -> Failure {
    let kind = operation.get_str("op").unwrap_or("?");
    let namespace = operation.get_str("ns").unwrap_or("?");
    Failure::new(Kind::Verification, format!("an entry `{kind}` of the oplog on {namespace} is not understood"))
        .hint("Export the archive and restore it with: mongorestore --archive --oplogReplay")
}

/// Which transaction an entry belongs to.
fn transaction(entry: &Document) -> Option<String> {
    let (session, number) = (entry.get_document("lsid").ok()?, entry.get("txnNumber")?);
    (entry.get_str("op").is_ok_and(|op| op == "c")).then(|| format!("{session} {number}"))
}
