//! Writes secrets of a key-value engine of version 2, each time on the condition that nobody has written since: `cas`.
//!
//! An answer that was lost may belong to a write that took place: what is refused as outdated is read back, and counts as
//! written when it is the very version and content. Nothing is ever deleted here, and no metadata is changed.

use super::connection::{Call, Connection, Trouble};
use super::kv::{Answer, Fields};
use super::token::Session;
use super::{Vault, VaultPath, line, told};
use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;
use vaultrs::api;

/// All fields of one version of a secret. Wiped when dropped; `Debug` shows no value.
pub struct Document {
    fields: Fields,
    /// 0 where there is no secret yet.
    pub version: u64,
    /// When that was written, by the clock of Vault.
    pub written: Option<Timestamp>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document(version {})", self.version)
    }
}

impl Document {
    /// With these fields, to be written over `version`.
    pub fn new(version: u64, fields: Value) -> Self {
        Document { fields: Fields(Answer::Values(fields)), version, written: None }
    }

    pub fn value(&self) -> &Value {
        match &self.fields.0 {
            Answer::Values(value) => value,
            Answer::Leased | Answer::Unversioned => &Value::Null,
        }
    }

    /// The text at this place.
    pub fn text(&self, field: &[String]) -> Option<Secret> {
        let at = field.iter().try_fold(self.value(), |value, key| value.as_object()?.get(key))?;
        at.as_str().map(|text| Secret::new(text.to_owned()))
    }

    /// The same document with another text at this place; what is beside it stays.
    pub fn with(&self, field: &[String], secret: &Secret) -> Document {
        let mut value = self.value().clone();
        let mut at = &mut value;
        for key in field {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[key.as_str()];
        }
        *at = Value::String(secret.expose().to_owned());
        Document::new(self.version, value)
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As this version.
    Version(u64),
    /// Somebody else wrote first; nothing was changed.
    Outdated,
}

type Got = std::result::Result<Value, Trouble>;

impl Vault {
    /// The newest version. `field` of the path does not matter.
    pub fn document(&self, path: &VaultPath) -> Result<Document> {
        match self.get(path, None)? {
            (Ok(answer), _) => document(answer).ok_or_else(|| not_versioned(path)),
            (Err(Trouble::Refused { status: 404, errors, deleted: None }), _) if errors.is_empty() => {
                Ok(Document::new(0, Value::Null))
            }
            (Err(trouble), session) => Err(self.denied(path, &session, &trouble, "reading")),
        }
    }

    /// This version; nothing where it is there no more: deleted, or one too many.
    pub fn document_of(&self, path: &VaultPath, version: u64) -> Result<Option<Document>> {
        match self.get(path, Some(format!("version={version}")))? {
            (Ok(answer), _) => document(answer).ok_or_else(|| not_versioned(path)).map(Some),
            (Err(trouble), _) if trouble.status() == Some(404) => Ok(None),
            (Err(trouble), session) => Err(self.denied(path, &session, &trouble, "reading")),
        }
    }

    fn get(&self, path: &VaultPath, query: Option<String>) -> Result<(Got, Arc<Session>)> {
        self.in_session(&self.settings.budget, |connection, session| {
            let api_path = self.versioned_path(connection, session, path)?;
            let speaker = session.speaker.clone();
            let call = Call { path: api_path, query: query.clone(), body: None };
            connection.ask(async move { api::exec_with_result(speaker.client(), call).await })
        })
    }

    /// Writes a version after the one that `document` is of.
    pub fn write(&self, path: &VaultPath, document: &Document) -> Result<Written> {
        let body = json!({ "options": { "cas": document.version }, "data": document.value() });
        let (answer, session) = self.in_session(&self.settings.budget, |connection, session| {
            let api_path = self.versioned_path(connection, session, path)?;
            let speaker = session.speaker.clone();
            let call = Call { path: api_path, query: None, body: Some(body.clone()) };
            let answer: Value = connection.ask(async move { api::exec_with_result(speaker.client(), call).await })?;
            answer["version"].as_u64().ok_or_else(|| Trouble::NotUnderstood("the answer names no version".into()))
        })?;
        let _wiped = Document::new(0, body);
        match answer {
            Ok(version) => Ok(Written::Version(version)),
            Err(trouble) if trouble.status() == Some(400) && trouble.says("check-and-set") => {
                let there = self.document(path)?;
                let is_ours = there.version == document.version + 1 && there.value() == document.value();
                Ok(if is_ours { Written::Version(there.version) } else { Written::Outdated })
            }
            Err(trouble) => Err(self.denied(path, &session, &trouble, "writing")),
        }
    }

    /// What Vault's policies call this path, after Vault was asked what it is mounted on.
    pub fn mounted(&self, path: &VaultPath) -> Result<String> {
        let (answer, _) = self
            .in_session(&self.settings.budget, |connection, session| self.versioned_path(connection, session, path))?;
        answer.map_err(|trouble| told::outage(&self.settings, &trouble))
    }

    /// `MOUNT/data/PATH`, also where Vault does not tell what the mount is.
    fn versioned_path(
        &self,
        connection: &Connection,
        session: &Session,
        path: &VaultPath,
    ) -> std::result::Result<String, Trouble> {
        self.mount(connection, session, &path.path)?;
        Ok(self.api_path(path))
    }

    fn denied(&self, path: &VaultPath, session: &Session, trouble: &Trouble, what: &str) -> Failure {
        if trouble.is_outage() {
            return told::outage(&self.settings, trouble);
        }
        let api_path = self.api_path(path);
        if trouble.status() == Some(403) {
            let have = session.policies.join(", ");
            let words = trouble.words();
            let text = format!("Vault denies {what} {api_path}: {words}; the token has the policies {have}");
            return Failure::new(Kind::Key, text)
                .hint(format!("Add to one of its policies: {}", line(&api_path, &["create", "read", "update"])));
        }
        if what == "reading" {
            return told::refused(&self.settings, path, &api_path, &session.policies, trouble);
        }
        Failure::new(Kind::Key, format!("Vault does not take {api_path}: {}", trouble.words()))
            .hint("Try it with Vault's own client: vault kv put -cas=VERSION")
    }
}

fn not_versioned(path: &VaultPath) -> Failure {
    Failure::usage(format!("{} is not in a key-value engine of version 2", path.path))
        .hint("Rotation needs one, which keeps versions: vault kv enable-versioning MOUNT")
}

fn document(mut answer: Value) -> Option<Document> {
    let version = answer["metadata"]["version"].as_u64()?;
    let data = answer.get_mut("data").map(Value::take)?;
    let written = answer["metadata"]["created_time"].as_str().and_then(|at| at.parse().ok());
    Some(Document { written, ..Document::new(version, data) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_replaced_and_what_is_beside_it_stays() {
        let document = Document::new(3, json!({ "user": "app", "keys": { "old": "hunter2", "other": "x" } }));
        let field = ["keys".to_owned(), "old".to_owned()];
        let with = document.with(&field, &Secret::new("new".into()));
        assert_eq!(with.text(&field).unwrap().expose(), "new");
        assert_eq!(with.value()["user"], "app");
        assert_eq!((with.value()["keys"]["other"].as_str(), with.version), (Some("x"), 3));
        let empty = Document::new(0, Value::Null).with(&field, &Secret::new("new".into()));
        assert_eq!(empty.value(), &json!({ "keys": { "old": "new" } }));
        assert!(!format!("{document:?}").contains("hunter2"));
    }
}
