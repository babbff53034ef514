//! What a server holds: databases, collections, views, time series, and the indexes of each.
//!
//! Left out are the same as by mongodump: `local`, `config`, and what servers keep for themselves. A database that is
//! asked for by name must be there: a misspelt name is an error, not an empty dump.

use super::Settings;
use super::archive::{self, Namespace};
use super::session::{Session, code};
use crate::error::{Failure, Kind as FailureKind, Result};
use bson::{Bson, Document, doc};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Collection,
    View,
    TimeSeries,
}

impl Kind {
    /// As `listCollections` calls it, and archives too.
    pub fn as_listed(self) -> &'static str {
        match self {
            Kind::Collection => "collection",
            Kind::View => "view",
            Kind::TimeSeries => "timeseries",
        }
    }
}

pub(super) fn kind(listed: &str, options: &Document) -> Kind {
    match listed {
        "view" => Kind::View,
        "timeseries" => Kind::TimeSeries,
        _ if options.contains_key("viewOn") => Kind::View,
        _ => Kind::Collection,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Collection {
    pub name: Namespace,
    pub kind: Kind,
    pub options: Document,
    pub indexes: Vec<Document>,
    /// In hexadecimal; servers that are not MongoDB may have none.
    pub uuid: Option<String>,
}

impl Collection {
    /// Where servers before 8.3 keep the data of a time series.
    pub fn buckets(&self) -> Namespace {
        Namespace::new(&self.name.database, format!("system.buckets.{}", self.name.collection))
    }

    pub fn is_capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false)
    }
}

/// From this version on a time series is read and written by its own name, as `rawData`.
const RAW_TIME_SERIES: (u32, u32) = (8, 3);

/// Whether a server of this version keeps time series under their own names.
pub(super) fn has_raw_time_series(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= RAW_TIME_SERIES
}

/// The collections that hold users and roles.
pub(super) const ACCOUNTS: &str = "admin";

pub(super) fn is_account(name: &Namespace) -> bool {
    name.database == ACCOUNTS && name.collection.starts_with("system.")
}

pub(super) fn version(session: &Session<'_>) -> Result<String> {
    let answer = session.command("admin", doc! { "buildInfo": 1 })?;
    answer.get_str("version").map(ToOwned::to_owned).map_err(|_| session.strange("buildInfo"))
}

/// Asks for the databases. A user who may not see them all gets those of his own, without a word: where all are wanted, that
/// must be an error.
fn list_databases(session: &Session<'_>, settings: &Settings) -> Result<Document> {
    let some = doc! { "listDatabases": 1, "nameOnly": true };
    if !settings.databases.is_empty() {
        return session.command("admin", some);
    }
    let mut all = some.clone();
    all.insert("authorizedDatabases", false);
    match session.attempt("admin", all)? {
        Ok(answer) => Ok(answer),
        Err(refused) if refused.code == code::UNAUTHORIZED => {
            let text = format!(
                "{}: this user may not see all databases, and the source is the whole server",
                session.location()
            );
            Err(Failure::new(FailureKind::Refused, text).because(refused.message).hint(
                "db.getSiblingDB('admin').grantRolesToUser('USER', ['backup']), or name the databases with `databases`",
            ))
        }
        // A server that does not know the word does not hide any either.
        Err(_) => session.command("admin", some),
    }
}

/// Routers of sharded clusters say that they are one.
pub(super) fn must_be_no_router(session: &Session<'_>) -> Result<()> {
    let answer = match session.attempt("admin", doc! { "hello": 1 })? {
        Ok(answer) => answer,
        Err(_) => session.command("admin", doc! { "isMaster": 1 })?,
    };
    if !is_router(&answer) {
        return Ok(());
    }
    let text = format!("{} is mongos, the router of a sharded cluster, which is not one source", session.location());
    Err(Failure::new(FailureKind::Refused, text)
        .hint("Back up each shard and the config servers through their own replica sets: docs/ENGINES.md"))
}

fn is_router(hello: &Document) -> bool {
    hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid")
}

/// Names of all databases that this user may see.
pub(super) fn all_databases(session: &Session<'_>) -> Result<Vec<String>> {
    listed(session, &session.command("admin", doc! { "listDatabases": 1, "nameOnly": true })?)
}

fn listed(session: &Session<'_>, answer: &Document) -> Result<Vec<String>> {
    let listed = answer.get_array("databases").map_err(|_| session.strange("listDatabases"))?;
    Ok(listed.iter().filter_map(|entry| entry.as_document()?.get_str("name").ok().map(ToOwned::to_owned)).collect())
}

/// Names of the databases that belong to the source, sorted.
pub(super) fn databases(session: &Session<'_>, settings: &Settings) -> Result<Vec<String>> {
    let there = listed(session, &list_databases(session, settings)?)?;
    if let Some(missing) = settings.databases.iter().find(|name| !there.contains(name)) {
        return Err(Failure::failed(format!("{}: there is no database {missing}", session.location()))
            .hint(format!("The databases there are: {}", there.join(", "))));
    }
    let mut names: Vec<String> = there.into_iter().filter(|name| settings.wants(name)).collect();
    names.sort();
    Ok(names)
}

/// All collections of a database, in the order of their names.
pub(super) fn collections(session: &Session<'_>, database: &str) -> Result<Vec<Collection>> {
    let mut found = Vec::new();
    for entry in session.list(database, doc! { "listCollections": 1 })? {
        let entry = Document::try_from(entry.as_ref()).map_err(|_| session.strange("listCollections"))?;
        let name = entry.get_str("name").map_err(|_| session.strange("listCollections"))?;
        if is_left_out(database, name) {
            continue;
        }
        let options = entry.get_document("options").cloned().unwrap_or_default();
        let kind = kind(entry.get_str("type").unwrap_or_default(), &options);
        let uuid = entry.get_document("info").ok().and_then(archive::uuid);
        found.push(Collection { name: Namespace::new(database, name), kind, options, indexes: Vec::new(), uuid });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Everything of the source, with indexes. A collection that goes away in between was not there.
pub(super) fn read(session: &Session<'_>, settings: &Settings) -> Result<Vec<Collection>> {
    let mut all = Vec::new();
    for database in databases(session, settings)? {
        for mut collection in collections(session, &database)? {
            if collection.kind != Kind::View {
                match indexes(session, &collection.name)? {
                    Some(indexes) => collection.indexes = indexes,
                    None => continue,
                }
            }
            all.push(collection);
        }
    }
    Ok(all)
}

/// `None` when there is no such collection.
pub(super) fn indexes(session: &Session<'_>, name: &Namespace) -> Result<Option<Vec<Document>>> {
    let command = doc! { "listIndexes": &name.collection };
    match session.attempt_list(&name.database, command)? {
        Err(refused) if refused.code == code::NAMESPACE_NOT_FOUND => Ok(None),
        Err(refused) => Err(session.refusal(&format!("listIndexes on {name}"), &refused)),
        Ok(found) => {
            let decoded = found.iter().map(|index| Document::try_from(index.as_ref()));
            decoded.collect::<std::result::Result<_, _>>().map(Some).map_err(|_| session.strange("listIndexes"))
        }
    }
}

fn is_left_out(database: &str, name: &str) -> bool {
    match database {
        ACCOUNTS if name.starts_with("system.") => !["system.users", "system.roles", "system.version"].contains(&name),
        _ => name.starts_with("system.") && name != "system.js" || name.contains('$'),
    }
}

/// What of an index can be compared between two servers: all but numbers of versions and the engine's own settings.
pub(super) fn comparable(index: &Document) -> Document {
    let own = ["v", "ns", "background", "storageEngine", "textIndexVersion", "2dsphereIndexVersion"];
    let mut fields: Vec<(&String, &Bson)> = index.iter().filter(|(key, _)| !own.contains(&key.as_str())).collect();
    fields.sort_by_key(|(key, _)| *key);
    fields.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_told_from_a_server_that_stands_alone() {
        assert!(is_router(&doc! { "ismaster": true, "msg": "isdbgrid", "maxWireVersion": 21 }));
        assert!(!is_router(&doc! { "isWritablePrimary": true, "maxWireVersion": 21 }));
    }
}
