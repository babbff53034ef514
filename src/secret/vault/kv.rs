//! Reads one secret: finds the mount, tells version 1 of the key-value engine from version 2, and picks the field.
//!
//! Both `kv/shop/db` and `kv/data/shop/db` mean the same secret of a mount of version 2. Vault is asked what the mount is;
//! where it does not tell, the `data/` in the path decides.

use super::connection::{Call, Connection, Trouble};
use super::token::Session;
use super::{Vault, VaultPath};
use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use crate::secret::secrets::lock;
use serde_json::{Map, Value};
use vaultrs::api::kv1::requests::GetSecretRequest;
use vaultrs::api::kv2::requests::ReadSecretRequest;
use vaultrs::{api, client::VaultClient, error::ClientError};
use zeroize::Zeroize;

/// A mount that was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Ends with a slash.
    path: String,
    versioned: bool,
}

/// How a path is read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    Versioned { mount: String, path: String },
    Plain { mount: String, path: String },
}

impl Reading {
    /// As the API has it, and as policies of Vault name it.
    fn api_path(&self) -> String {
        match self {
            Reading::Versioned { mount, path } => format!("{mount}/data/{path}"),
            Reading::Plain { mount, path } => format!("{mount}/{path}"),
        }
    }
}

/// `mount` is absent where Vault did not tell.
fn reading(path: &str, mount: Option<&Mount>) -> Reading {
    let (first, rest) = match mount {
        Some(mount) => (mount.path.trim_end_matches('/'), &path[mount.path.len()..]),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let below_data = rest.strip_prefix("data/").filter(|rest| !rest.is_empty());
    let own = |text: &str| text.to_owned();
    match (mount, below_data) {
        (Some(Mount { versioned: true, .. }) | None, Some(inner)) => {
            Reading::Versioned { mount: own(first), path: own(inner) }
        }
        (Some(Mount { versioned: true, .. }), None) => Reading::Versioned { mount: own(first), path: own(rest) },
        _ => Reading::Plain { mount: own(first), path: own(rest) },
    }
}

impl Vault {
    /// What Vault's policies call this path, as far as it is known.
    pub(super) fn api_path(&self, path: &VaultPath) -> String {
        reading(&path.path, self.known_mount(&path.path).as_ref()).api_path()
    }

    fn known_mount(&self, path: &str) -> Option<Mount> {
        lock(&self.mounts).iter().find(|mount| path.starts_with(&mount.path)).cloned()
    }

    /// What the path is mounted on. `None` where this token is not told.
    pub(super) fn mount(
        &self,
        connection: &Connection,
        session: &Session,
        path: &str,
    ) -> std::result::Result<Option<Mount>, Trouble> {
        if let Some(mount) = self.known_mount(path) {
            return Ok(Some(mount));
        }
        let speaker = session.speaker.clone();
        let call = Call { path: format!("sys/internal/ui/mounts/{path}"), query: None, body: None };
        let told = match connection.ask(async move { api::exec_with_result(speaker.client(), call).await }) {
            Ok(told) => told,
            Err(trouble) if trouble.is_outage() => return Err(trouble),
            Err(_) => return Ok(None),
        };
        let Some(place) = told["path"].as_str().filter(|place| place.ends_with('/') && path.starts_with(place)) else {
            return Ok(None);
        };
        let mount = Mount { path: place.to_owned(), versioned: told["options"]["version"] == "2" };
        lock(&self.mounts).push(mount.clone());
        Ok(Some(mount))
    }

    /// The fields of a secret, as Vault has them.
    pub(super) fn read_fields(
        &self,
        connection: &Connection,
        session: &Session,
        path: &VaultPath,
    ) -> std::result::Result<Fields, Trouble> {
        let mount = self.mount(connection, session, &path.path)?;
        let reading = reading(&path.path, mount.as_ref());
        let speaker = session.speaker.clone();
        let version = path.version;
        connection.ask(async move {
            match reading {
                Reading::Versioned { mount, path } => versioned(speaker.client(), mount, path, version).await,
                Reading::Plain { mount, path } => plain(speaker.client(), mount, path, version).await,
            }
        })
    }
}

impl Vault {
    /// When the version that a reference means was written. Nothing: the engine does not note it.
    pub(super) fn read_time(
        &self,
        connection: &Connection,
        session: &Session,
        path: &VaultPath,
    ) -> std::result::Result<Option<String>, Trouble> {
        let known = self.mount(connection, session, &path.path)?;
        let Reading::Versioned { mount, path: inner } = reading(&path.path, known.as_ref()) else { return Ok(None) };
        let (speaker, version) = (session.speaker.clone(), path.version);
        connection.ask(async move {
            let mut request = ReadSecretRequest::builder();
            let request = request.mount(mount).path(inner).version(version).build();
            let request = request.map_err(|_| ClientError::ResponseEmptyError)?;
            let answer = api::exec_with_result(speaker.client(), request).await?;
            // What came along is wiped.
            drop(Fields(Answer::Values(answer.data)));
            Ok(Some(answer.metadata.created_time))
        })
    }
}

/// What was read. Wiped when dropped.
pub(super) struct Fields(pub Answer);

pub(super) enum Answer {
    Values(Value),
    /// The engine gives a lease with it: each reading makes another account.
    Leased,
    /// A version is asked of an engine that has none.
    Unversioned,
}

impl Drop for Fields {
    fn drop(&mut self) {
        if let Answer::Values(value) = &mut self.0 {
            wipe(value);
        }
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}

async fn versioned(
    client: &VaultClient,
    mount: String,
    path: String,
    version: Option<u64>,
) -> std::result::Result<Fields, ClientError> {
    let mut request = ReadSecretRequest::builder();
    let request = request.mount(mount).path(path).version(version).build();
    let answer = api::exec_with_result(client, request.map_err(|_| ClientError::ResponseEmptyError)?).await?;
    Ok(Fields(Answer::Values(answer.data)))
}

async fn plain(
    client: &VaultClient,
    mount: String,
    path: String,
    version: Option<u64>,
) -> std::result::Result<Fields, ClientError> {
    if version.is_some() {
        return Ok(Fields(Answer::Unversioned));
    }
    let request = GetSecretRequest::builder().mount(mount).path(path).build();
    let answer = api::exec_with_no_result(client, request.map_err(|_| ClientError::ResponseEmptyError)?).await?;
    let fields = Fields(Answer::Values(answer.data));
    Ok(if answer.lease_id.is_empty() { fields } else { Fields(Answer::Leased) })
}

/// The value of the field. A failure names the fields that are there, and no value.
pub(super) fn pick(fields: Fields, path: &VaultPath) -> Result<Secret> {
    let secret = format!("the secret of ref+vault://{path}");
    let values = match &fields.0 {
        Answer::Values(values) => values,
        Answer::Leased => {
            return Err(Failure::new(Kind::Key, format!("{secret} is another one each time it is read")).hint(
                "bkp reads secrets of key-value engines and static roles (database/static-creds/NAME), no dynamic ones",
            ));
        }
        Answer::Unversioned => {
            return Err(Failure::usage(format!(
                "{secret} is in a key-value engine of version 1, which keeps no versions"
            ))
            .hint("Leave out ?version=, or upgrade the mount: vault kv enable-versioning MOUNT"));
        }
    };
    let mut value = values;
    for key in &path.field {
        value = match value.as_object().and_then(|map| map.get(key)) {
            Some(value) => value,
            None => {
                let there = names(value).map_or_else(
                    || "it has no fields at this place".to_owned(),
                    |names| {
                        if names.is_empty() { "it is empty".into() } else { format!("it has: {}", names.join(", ")) }
                    },
                );
                return Err(Failure::new(Kind::Key, format!("{secret} has no field `{key}`"))
                    .hint(format!("Correct what stands after #/; {there}")));
            }
        };
    }
    match value {
        Value::String(text) => Ok(Secret::new(text.clone())),
        Value::Number(number) => Ok(Secret::new(number.to_string())),
        Value::Bool(yes) => Ok(Secret::new(yes.to_string())),
        other => {
            let inside = names(other).filter(|names| !names.is_empty()).map(|names| names.join(", "));
            let failure = Failure::new(Kind::Key, format!("{secret} is no text"));
            Err(match inside {
                Some(inside) => failure.hint(format!("Add one of these after the field, with a slash: {inside}")),
                None => failure.hint("Store it as text: vault kv put PATH FIELD=VALUE"),
            })
        }
    }
}

fn names(value: &Value) -> Option<Vec<&str>> {
    value.as_object().map(|map: &Map<String, Value>| map.keys().map(String::as_str).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(path: &str, mount: &str, versioned: bool) -> String {
        reading(path, Some(&Mount { path: mount.into(), versioned })).api_path()
    }

    #[test]
    fn both_forms_of_a_path_mean_the_same_secret() {
        assert_eq!(at("kv/shop/db", "kv/", true), "kv/data/shop/db");
        assert_eq!(at("kv/data/shop/db", "kv/", true), "kv/data/shop/db");
        assert_eq!(at("team/a/kv/shop", "team/a/kv/", true), "team/a/kv/data/shop");
        assert_eq!(at("kv/data", "kv/", true), "kv/data/data", "a secret may have that name");
    }

    #[test]
    fn where_there_are_no_versions_the_path_stands_as_it_is() {
        assert_eq!(at("old/shop/db", "old/", false), "old/shop/db");
        assert_eq!(at("old/data/shop", "old/", false), "old/data/shop");
        assert_eq!(at("database/static-creds/app", "database/", false), "database/static-creds/app");
    }

    #[test]
    fn the_path_decides_where_vault_does_not_tell() {
        let versioned = Reading::Versioned { mount: "kv".into(), path: "shop/db".into() };
        assert_eq!(reading("kv/data/shop/db", None), versioned);
        assert_eq!(reading("kv/shop/db", None), Reading::Plain { mount: "kv".into(), path: "shop/db".into() });
    }

    fn picked(field: &str) -> Result<Secret> {
        let values = json!({ "password": "hunter2", "port": 3306, "tls": true, "keys": { "a/b": "deep hunter2" }, "list": ["hunter2"] });
        pick(Fields(Answer::Values(values)), &format!("kv/x#/{field}").parse().unwrap())
    }

    #[test]
    fn a_field_is_a_text_or_written_as_one() {
        for (field, expected) in
            [("password", "hunter2"), ("port", "3306"), ("tls", "true"), ("keys/a~1b", "deep hunter2")]
        {
            assert_eq!(picked(field).unwrap().expose(), expected);
        }
    }

    #[test]
    fn what_is_no_field_is_told_with_the_names_of_those_that_are() {
        for (field, hint) in [
            ("pasword", "it has: keys, list, password, port, tls"),
            ("password/x", "it has no fields at this place"),
            ("keys", "with a slash: a/b"),
            ("list", "Store it as text"),
        ] {
            let failure = picked(field).unwrap_err();
            let told = format!("{} {}", failure.full(), failure.next_step().unwrap());
            assert!(told.contains(hint) && told.contains("ref+vault://kv/x#/") && !told.contains("hunter2"), "{told}");
            assert_eq!(failure.kind(), Kind::Key);
        }
    }

    #[test]
    fn fields_are_wiped() {
        let mut value = json!({ "a": "hunter2", "b": { "c": ["hunter2"] } });
        wipe(&mut value);
        assert_eq!(value, json!({ "a": "", "b": { "c": [""] } }));
    }
}
