//! Users and roles: taken along where they may be read, and brought back into a server that had none of the databases.
//!
//! With `admin.system.users` they are in the archive, passwords' digests included, and come back by the command that
//! mongorestore uses. Where a server shows only names and roles, those are kept beside it; such users come back with a
//! password that nobody knows, and a warning names them. Nothing of a password is ever in the details of a point.

use super::Settings;
use super::archive::Namespace;
use super::catalog::{self, Collection};
use super::session::{Session, code};
use crate::durable::random_hex;
use crate::error::{Failure, Result};
use bson::{Bson, Document, doc};
use serde_json::Value;
use std::collections::BTreeMap;

const MERGE_USERS: &str = "tempusers";
const MERGE_ROLES: &str = "temproles";

/// Another user of this name is there already.
const USER_EXISTS: i32 = 51003;

#[derive(Default)]
pub(super) struct Accounts {
    /// Users without passwords, as far as they are not in the archive.
    pub details: Value,
    pub users: u64,
    pub notes: Vec<String>,
}

/// Decides where users and roles come from, and takes what cannot be read out of `collections`.
pub(super) fn gather(
    session: &Session<'_>,
    settings: &Settings,
    collections: &mut Vec<Collection>,
) -> Result<Accounts> {
    let mut accounts = Accounts::default();
    if !settings.is_whole() {
        collections.retain(|c| !catalog::is_account(&c.name));
        return Ok(accounts);
    }
    let users = Namespace::new(catalog::ACCOUNTS, "system.users");
    if collections.iter().any(|c| c.name == users) {
        match session.attempt_list(catalog::ACCOUNTS, doc! { "find": "system.users", "limit": 1 })? {
            Ok(_) => return Ok(accounts),
            Err(refused) if refused.code == code::UNAUTHORIZED => {}
            Err(refused) => return Err(session.refusal("find on admin.system.users", &refused)),
        }
    }
    collections.retain(|c| !catalog::is_account(&c.name));
    match session.attempt(catalog::ACCOUNTS, doc! { "usersInfo": { "forAllDBs": true } })? {
        Ok(answer) => {
            let listed = match answer.get("users") {
                Some(Bson::Array(users)) => users.as_slice(),
                // FerretDB's answer where nobody but its first user is.
                None => &[],
                Some(_) => return Err(session.strange("usersInfo")),
            };
            let listed: Vec<Value> = listed.iter().filter_map(|user| name_and_roles(user.as_document()?)).collect();
            accounts.users = listed.len() as u64;
            if !listed.is_empty() {
                accounts.notes.push(
                    "the server does not show the passwords' digests: users come back with their roles, and need new passwords"
                        .to_owned(),
                );
            }
            accounts.details = serde_json::json!({ "users": listed });
        }
        Err(refused) => {
            accounts.notes.push(format!("users and roles are not in this dump: the server says: {}", refused.message))
        }
    }
    Ok(accounts)
}

/// Users by name, each with a digest of its roles. Those that are in the archive are compared as documents when they come back.
pub(super) fn objects_of(details: &Value) -> BTreeMap<String, String> {
    let users = details["users"].as_array().map(Vec::as_slice).unwrap_or_default();
    let object = |user: &Value| {
        let (name, database) = (user["user"].as_str()?, user["db"].as_str()?);
        let mut roles: Vec<String> = user["roles"].as_array()?.iter().map(Value::to_string).collect();
        roles.sort();
        let digest = blake3::hash(roles.join(" ").as_bytes()).to_hex()[..16].to_owned();
        Some((format!("user {database}.{name}"), digest))
    };
    users.iter().filter_map(object).collect()
}

/// The same of a server as it is now; `None` where it knows no users.
pub(super) fn objects(session: &Session<'_>) -> Result<Option<BTreeMap<String, String>>> {
    let Ok(answer) = session.attempt(catalog::ACCOUNTS, doc! { "usersInfo": { "forAllDBs": true } })? else {
        return Ok(None);
    };
    let users = answer.get_array("users").map(Vec::as_slice).unwrap_or_default();
    let listed: Vec<Value> = users.iter().filter_map(|user| name_and_roles(user.as_document()?)).collect();
    Ok(Some(objects_of(&serde_json::json!({ "users": listed }))))
}

fn name_and_roles(user: &Document) -> Option<Value> {
    let roles: Vec<Value> = user
        .get_array("roles")
        .ok()?
        .iter()
        .filter_map(|role| {
            let role = role.as_document()?;
            Some(serde_json::json!({ "role": role.get_str("role").ok()?, "db": role.get_str("db").ok()? }))
        })
        .collect();
    Some(serde_json::json!({ "user": user.get_str("user").ok()?, "db": user.get_str("db").ok()?, "roles": roles }))
}

/// Users and roles of an archive, on their way into a server.
#[derive(Default)]
pub(super) struct Restored {
    users: Vec<Document>,
    roles: Vec<Document>,
}

impl Restored {
    pub fn take(&mut self, namespace: &Namespace, document: &[u8]) -> Result<()> {
        let list = match namespace.collection.as_str() {
            "system.users" => &mut self.users,
            "system.roles" => &mut self.roles,
            _ => return Ok(()),
        };
        list.push(
            Document::from_reader(document).map_err(|e| Failure::failed("a user or role is no BSON").because(e))?,
        );
        Ok(())
    }

    /// Gives the server those that it does not have; the others of the server stay. Returns how many, and warnings.
    pub fn apply(&self, session: &Session<'_>, details: &Value) -> Result<(u64, Vec<String>)> {
        if !self.users.is_empty() || !self.roles.is_empty() {
            self.merge(session)?;
        }
        let (created, warnings) = create(session, details)?;
        Ok(((self.users.len() + self.roles.len()) as u64 + created, warnings))
    }

    fn merge(&self, session: &Session<'_>) -> Result<()> {
        let forget = || -> Result<()> {
            for name in [MERGE_USERS, MERGE_ROLES] {
                // Not being there is what is wanted.
                let _ = session.attempt(catalog::ACCOUNTS, doc! { "drop": name })?;
            }
            Ok(())
        };
        forget()?;
        let mut command = doc! { "_mergeAuthzCollections": 1 };
        let lists =
            [(MERGE_USERS, "tempUsersCollection", &self.users), (MERGE_ROLES, "tempRolesCollection", &self.roles)];
        for (name, field, documents) in lists {
            if documents.is_empty() {
                continue;
            }
            let documents: Vec<Bson> = documents.iter().cloned().map(Bson::Document).collect();
            let answer = session.command(catalog::ACCOUNTS, doc! { "insert": name, "documents": documents })?;
            if answer.contains_key("writeErrors") {
                return Err(Failure::failed(format!("{}: the users cannot be put down", session.location())));
            }
            command.insert(field, format!("{}.{name}", catalog::ACCOUNTS));
        }
        command.insert("drop", false);
        command.insert("db", "");
        let merged = session.command(catalog::ACCOUNTS, command);
        forget()?;
        merged.map(|_| ())
    }
}

fn create(session: &Session<'_>, details: &Value) -> Result<(u64, Vec<String>)> {
    let mut without_password = Vec::new();
    let mut warnings = Vec::new();
    for user in details["accounts"]["users"].as_array().into_iter().flatten() {
        let (Some(name), Some(database)) = (user["user"].as_str(), user["db"].as_str()) else { continue };
        let roles: Vec<Bson> = user["roles"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|role| {
                Some(Bson::Document(doc! { "role": role["role"].as_str()?, "db": role["db"].as_str()? }))
            })
            .collect();
        match session.attempt(database, doc! { "createUser": name, "pwd": random_hex(24), "roles": roles })? {
            Ok(_) => without_password.push(format!("{database}.{name}")),
            Err(refused) if refused.code == USER_EXISTS => {}
            Err(refused) => warnings.push(format!("the user {database}.{name} cannot be created: {}", refused.message)),
        }
    }
    let created = without_password.len() as u64;
    if created > 0 {
        let names = without_password.join(", ");
        warnings
            .push(format!("their passwords are not in the point, so set new ones (db.changeUserPassword): {names}"));
    }
    Ok((created, warnings))
}
