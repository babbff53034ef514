//! What is asked of a node of Vault as such: whether it is sealed, and, of one that was started for a rehearsal, that it begins,
//! opens, and tells what is in it.
//!
//! Unseal keys come in as secrets, go to the node that they are for, and are kept nowhere.

use super::connection::{Call, Trouble};
use super::{Vault, told};
use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use vaultrs::api;
use zeroize::Zeroize;

/// How a node is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// `shamir`, or who opens it by itself.
    pub kind: String,
    pub initialized: bool,
    pub sealed: bool,
    pub shares: u64,
    pub threshold: u64,
    /// `raft`, `file`; nothing where it is not told.
    pub storage: String,
}

/// What a node has, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Where something is mounted, by its id in the storage.
    pub mounts: BTreeMap<String, String>,
    /// The same of ways to log in.
    pub logins: BTreeMap<String, String>,
    pub policies: BTreeSet<String>,
}

impl Tables {
    /// Something that a node does not have by itself.
    pub fn own(&self) -> Option<String> {
        const BUILT_IN: [&str; 3] = ["sys/", "identity/", "cubbyhole/"];
        let mount = self.mounts.values().find(|path| !BUILT_IN.contains(&path.as_str()));
        let login = self.logins.values().find(|path| *path != "token/");
        let policy = self.policies.iter().find(|name| !matches!(name.as_str(), "default" | "root"));
        let told = |what: &str, name: Option<&String>| name.map(|name| format!("{what} {name}"));
        told("a mount", mount).or_else(|| told("a login", login)).or_else(|| told("a policy", policy))
    }
}

impl Vault {
    pub fn seal(&self) -> Result<Seal> {
        let answer = self.nobody_asks("sys/seal-status", None)?;
        let number = |key: &str| answer[key].as_u64().unwrap_or(0);
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok(Seal {
            kind: text("type"),
            initialized: answer["initialized"] == true,
            sealed: answer["sealed"] == true,
            shares: number("n"),
            threshold: number("t"),
            storage: text("storage_type"),
        })
    }

    /// Makes an empty node begin: the one key that opens it, and the token of its root.
    pub fn initialise(&self) -> Result<(Secret, Secret)> {
        let mut answer = self.nobody_asks("sys/init", Some(json!({ "secret_shares": 1, "secret_threshold": 1 })))?;
        let key = taken(&mut answer["keys"][0]);
        let token = taken(&mut answer["root_token"]);
        key.zip(token).ok_or_else(|| Failure::failed("a new node of Vault gave no key"))
    }

    /// Shows the node these keys, and says whether it is open.
    pub fn unseal(&self, keys: &[Secret]) -> Result<bool> {
        // What somebody showed it before is not to be counted.
        self.nobody_asks("sys/unseal", Some(json!({ "reset": true })))?;
        for key in keys {
            let answer = self.nobody_asks("sys/unseal", Some(json!({ "key": key.expose().trim() })))?;
            if answer["sealed"] == false {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A token of the root, made with the unseal keys.
    pub fn root_token(&self, keys: &[Secret]) -> Result<Secret> {
        let begun = self.nobody_asks("sys/generate-root/attempt", Some(json!({})))?;
        let nonce = begun["nonce"].as_str().unwrap_or_default().to_owned();
        let otp = begun["otp"].as_str().unwrap_or_default().as_bytes().to_vec();
        for key in keys {
            let shown = json!({ "key": key.expose().trim(), "nonce": nonce });
            let answer = self.nobody_asks("sys/generate-root/update", Some(shown))?;
            if answer["complete"] == true {
                let encoded = answer["encoded_token"].as_str().unwrap_or_default();
                return opened(encoded, &otp).ok_or_else(|| Failure::failed("Vault made no token that can be read"));
            }
        }
        Err(Failure::new(Kind::Key, "these unseal keys do not suffice to make a token"))
    }

    /// Logged in: what there is.
    pub fn tables(&self) -> Result<Tables> {
        let table = |path: &str| -> Result<BTreeMap<String, String>> {
            let answer = self.told(path)?;
            let entries = answer.as_object().into_iter().flatten();
            let mount = |(place, entry): (&String, &Value)| Some((entry["uuid"].as_str()?.to_owned(), place.clone()));
            Ok(entries.filter_map(mount).collect())
        };
        let policies = self.told("sys/policy")?;
        let policies = policies["policies"].as_array().into_iter().flatten();
        let policies = policies.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        Ok(Tables { mounts: table("sys/mounts")?, logins: table("sys/auth")?, policies })
    }

    fn told(&self, path: &str) -> Result<Value> {
        let (answer, session) = self.in_session(&self.settings.budget, |connection, session| {
            let speaker = session.speaker.clone();
            let call = Call { path: path.to_owned(), query: None, body: None };
            connection.ask(async move { api::exec_with_result(speaker.client(), call).await })
        })?;
        answer.map_err(|trouble| match trouble.is_outage() {
            true => told::outage(&self.settings, &trouble),
            false => {
                let text = format!("Vault at {} does not show {path}: {}", self.settings.address, trouble.words());
                let have = session.policies.join(", ");
                Failure::new(Kind::Key, text).hint(format!(
                    "The token has the policies {have}; they lack: path \"{path}\" {{ capabilities = [\"read\"] }}"
                ))
            }
        })
    }

    fn nobody_asks(&self, path: &str, body: Option<Value>) -> Result<Value> {
        let connection = self.connection()?;
        let speaker = connection.speaker(None)?;
        let answer: std::result::Result<Value, Trouble> = self.insist(&self.settings.budget, || {
            let (speaker, path, body) = (speaker.clone(), path.to_owned(), body.clone());
            let call = Call { path, query: None, body };
            connection.ask(async move { api::exec_with_no_result(speaker.client(), call).await })
        });
        answer.map_err(|trouble| match trouble.is_outage() {
            true => told::outage(&self.settings, &trouble),
            false => Failure::new(
                Kind::Key,
                format!("Vault at {} refuses {path}: {}", self.settings.address, trouble.words()),
            ),
        })
    }
}

fn taken(value: &mut Value) -> Option<Secret> {
    match value.take() {
        Value::String(text) => Some(Secret::new(text)),
        _ => None,
    }
}

/// Vault veils the token with what it gave at the beginning.
fn opened(encoded: &str, otp: &[u8]) -> Option<Secret> {
    use base64::Engine as _;
    let mut veiled = base64::engine::general_purpose::STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
    if veiled.len() != otp.len() {
        return None;
    }
    let text = veiled.iter().zip(otp).map(|(one, other)| char::from(one ^ other)).collect();
    veiled.zeroize();
    Some(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_unveiled() {
        let token = opened("XzA5TFsMDmUELzQiPyE2MR4FNTFzNRkbPwEJOA", b"7FJblVo15UYDJlEakmLc1pIPuU8I").unwrap();
        assert!(token.expose().starts_with("hvs."), "as Vault gave it");
        assert!(opened("XzA5", b"7").is_none());
    }

    #[test]
    fn a_node_that_was_only_begun_has_nothing_of_its_own() {
        let mut tables = Tables::default();
        for path in ["sys/", "identity/", "cubbyhole/"] {
            tables.mounts.insert(path.into(), path.into());
        }
        tables.logins.insert("1".into(), "token/".into());
        tables.policies.extend(["default".to_owned(), "root".to_owned()]);
        assert_eq!(tables.own(), None);
        tables.policies.insert("shop".into());
        assert_eq!(tables.own().unwrap(), "a policy shop");
    }
}
