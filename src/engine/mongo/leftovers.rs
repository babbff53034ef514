//! Collections of a restore that is not done: in place they have names of their own; new ones are written down in the
//! collection [`MARK`] of their database before they are made, and crossed out when everything is. No dump takes them.
//! What a restore in place put aside is told as well: it may have been kept on purpose.

use super::archive::Namespace;
use super::catalog::{self, Collection};
use super::session::{Session, code};
use crate::engine::Leftover;
use crate::engine::leftovers::{REPLACED, UNFINISHED};
use crate::error::{Failure, Result};
use bson::{Bson, Document, doc};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const STAGED: &str = "bkp_restore_";
pub(super) const ASIDE: &str = "bkp_replaced_";
const MARK: &str = "bkp_restore_unfinished";

/// Collections by database.
pub(super) type Marked = BTreeMap<String, Vec<String>>;

/// Writes down what is going to be made.
pub(super) fn mark(session: &Session<'_>, marked: &Marked) -> Result<()> {
    for (database, names) in marked {
        let updates: Vec<Bson> = names
            .iter()
            .map(|name| doc! { "q": { "_id": name }, "u": { "_id": name, "by": myself() }, "upsert": true }.into())
            .collect();
        accepted(&session.command(database, doc! { "update": MARK, "updates": updates })?, database)?;
    }
    Ok(())
}

/// Crosses it out again: it is whole, or gone.
pub(super) fn unmark(session: &Session<'_>, marked: &Marked) -> Result<()> {
    for (database, names) in marked {
        let these = doc! { "_id": { "$in": names.clone() } };
        accepted(
            &session.command(database, doc! { "delete": MARK, "deletes": [{ "q": these, "limit": 0 }] })?,
            database,
        )?;
        if marks(session, database)?.is_empty() {
            session.command(database, doc! { "drop": MARK })?;
        }
    }
    Ok(())
}

/// Who restores: whoever has the lock of a target on this host knows that nobody else of this host still does.
fn myself() -> String {
    format!("{}@{}", rustix::process::getuid().as_raw(), crate::host::name())
}

/// Drops what restores of this host began in a database and did not end. `false`, and nothing is dropped, when a mark is
/// somebody else's, who may still be at work.
pub(super) fn remove_own(session: &Session<'_>, database: &str) -> Result<bool> {
    let marks = session.list(database, doc! { "find": MARK })?;
    if marks.iter().any(|mark| mark.get_str("by").ok() != Some(&myself())) {
        return Ok(false);
    }
    let names: Vec<String> = marks.iter().filter_map(|mark| mark.get_str("_id").ok().map(str::to_owned)).collect();
    for name in &names {
        match session.attempt(database, doc! { "drop": name })? {
            Err(refused) if refused.code != code::NAMESPACE_NOT_FOUND => {
                return Err(session.refusal(&format!("drop {database}.{name}"), &refused));
            }
            _ => {}
        }
    }
    unmark(session, &Marked::from([(database.to_owned(), names)]))?;
    Ok(true)
}

/// Where the marks of a restore are.
pub(super) fn names(marked: &Marked) -> Vec<String> {
    marked.keys().map(|database| format!("{database}.{MARK}")).collect()
}

fn accepted(answer: &Document, database: &str) -> Result<()> {
    match answer.get_array("writeErrors") {
        Ok(errors) if !errors.is_empty() => {
            Err(Failure::failed(format!("the server did not take what was written to {database}.{MARK}")))
        }
        _ => Ok(()),
    }
}

fn marks(session: &Session<'_>, database: &str) -> Result<BTreeSet<String>> {
    let documents = session.list(database, doc! { "find": MARK })?;
    Ok(documents.iter().filter_map(|document| document.get_str("_id").ok().map(str::to_owned)).collect())
}

/// Whether a restore into this database is not done.
pub(super) fn is_marked(there: &[Collection]) -> bool {
    there.iter().any(|collection| collection.name.collection == MARK)
}

/// Takes out of `collections` what is not whole, and gives what there is to say of it.
pub(super) fn leave_out(session: &Session<'_>, collections: &mut Vec<Collection>) -> Result<Vec<String>> {
    let mut unfinished = BTreeSet::new();
    for collection in collections.iter() {
        let name = &collection.name;
        if name.collection == MARK {
            unfinished.extend(marks(session, &name.database)?.into_iter().map(|n| Namespace::new(&name.database, n)));
            unfinished.insert(name.clone());
        } else if is_staged(&name.collection) {
            unfinished.insert(name.clone());
        }
    }
    let (left, whole) = std::mem::take(collections).into_iter().partition(|c| unfinished.contains(&c.name));
    *collections = whole;
    let left: Vec<Collection> = left;
    Ok(left.iter().map(|c| leftover(&c.name, session.location(), UNFINISHED).told()).collect())
}

pub(super) fn all(session: &Session<'_>) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for database in catalog::all_databases(session)? {
        let there = catalog::collections(session, &database)?;
        let marks = if is_marked(&there) { marks(session, &database)? } else { BTreeSet::new() };
        for Collection { name, .. } in &there {
            let what = match name.collection.as_str() {
                name if name == MARK || is_staged(name) || marks.contains(name) => UNFINISHED,
                name if is_aside(name) => REPLACED,
                _ => continue,
            };
            found.push(leftover(name, session.location(), what));
        }
    }
    Ok(found)
}

fn leftover(name: &Namespace, location: &str, what: &'static str) -> Leftover {
    let [database, collection] = [&name.database, &name.collection].map(|name| serde_json::Value::from(name.as_str()));
    Leftover {
        place: format!("collection {name} of {location}"),
        what,
        remove: format!("db.getSiblingDB({database}).getCollection({collection}).drop()"),
    }
}

/// What restores left stays where it is: it may be the only copy of something.
pub(super) fn is_left(collection: &str) -> bool {
    is_staged(collection) || is_aside(collection)
}

fn is_staged(collection: &str) -> bool {
    has_id(collection, STAGED)
}

fn is_aside(collection: &str) -> bool {
    has_id(collection, ASIDE)
}

/// `bkp_restore_1f2e3d4c_orders`.
fn has_id(collection: &str, prefix: &str) -> bool {
    let id = collection.strip_prefix(prefix).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
    id.is_some_and(|id| id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_restore_gives_are_taken_for_its_own() {
        assert!(is_staged("bkp_restore_1f2e3d4c_orders") && is_aside("bkp_replaced_1f2e3d4c_a.b"));
        for name in ["bkp_restore_orders_of_2026", "bkp_restore_1f2e3d4c", "orders", MARK] {
            assert!(!is_staged(name) && !is_aside(name), "{name}");
        }
    }

    #[test]
    fn what_removes_a_collection_quotes_its_name() {
        let odd = leftover(&Namespace::new("a\"b", "c d"), "here", UNFINISHED);
        assert_eq!(odd.remove, r#"db.getSiblingDB("a\"b").getCollection("c d").drop()"#);
    }
}
