//! The calls of MinIO's admin API that rotation makes (in its words, an access key is a service account).

use super::envelope;
use super::signed::{Key, Signed, away};
use crate::error::{Failure, Kind, Result};
use crate::job::rotate::http::Answer;
use crate::policy::Minio;
use crate::secret::Secret;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What the description of a key that is on its way out begins with; then comes the rotation that it is of.
const RETIRED: &str = "retired by bkp for ";
/// The same, as it was written before rotations were told apart.
const RETIRED_BEFORE: &str = "retired by bkp; ";
/// How often who may change keys is tried when the server does not know him, so far apart.
const TRIES: u32 = 4;
const AGAIN: Duration = Duration::from_secs(1);
/// MinIO takes no longer one.
const DESCRIPTION: usize = 200;

/// What the description was before.
fn before(description: &str) -> &str {
    let told_apart = || Some(description.strip_prefix(RETIRED)?.split_once("; ")?.1);
    description.strip_prefix(RETIRED_BEFORE).or_else(told_apart).unwrap_or(description)
}

/// An access key, without its secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    #[serde(rename = "parentUser")]
    pub user: String,
    #[serde(default)]
    pub account_status: String,
    /// It may do what its user may, and not what `policy` says.
    #[serde(default)]
    pub implied_policy: bool,
    #[serde(default)]
    policy: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    pub expiration: Option<String>,
}

impl Known {
    pub fn is_off(&self) -> bool {
        self.account_status == "off"
    }

    /// Switched off by [`Admin::retire`], for whichever rotation.
    pub fn is_retired(&self) -> bool {
        self.is_off() && before(&self.description) != self.description
    }

    /// Its own, which takes from what the user may do.
    fn policy(&self) -> Result<Option<Value>> {
        if self.implied_policy {
            return Ok(None);
        }
        serde_json::from_str(&self.policy).map(Some).map_err(|_| {
            Failure::failed("MinIO does not tell what the old access key may do")
                .hint("See the policy of the key: mc admin accesskey info ALIAS KEY")
        })
    }
}

pub struct Admin<'a> {
    pub minio: &'a Minio,
    pub id: &'a str,
    pub secret: Secret,
}

impl Admin<'_> {
    /// `None` where there is no such key.
    pub fn find(&self, id: &str) -> Result<Option<Known>> {
        let url = self.url("info-service-account", &[("accessKey", id)])?;
        match self.send(&Method::GET, &url, Vec::new())? {
            Answer::Refused(StatusCode::NOT_FOUND, _) => Ok(None),
            answer => {
                let sealed = self.done(answer, "look at an access key", "admin:ListServiceAccounts")?;
                let known = serde_json::from_slice(&envelope::open(&self.secret, &sealed)?);
                known.map(Some).map_err(|_| Failure::failed("MinIO does not tell what an access key is"))
            }
        }
    }

    /// All of a user, as MinIO tells them.
    pub fn all_of(&self, user: &str) -> Result<Value> {
        let url = self.url("list-service-accounts", &[("user", user)])?;
        let answer = self.send(&Method::GET, &url, Vec::new())?;
        let sealed = self.done(answer, "list access keys", "admin:ListServiceAccounts")?;
        serde_json::from_slice(&envelope::open(&self.secret, &sealed)?)
            .map_err(|_| Failure::failed("MinIO does not tell what access keys there are"))
    }

    pub fn names_of(&self, user: &str) -> Result<Vec<String>> {
        let all = self.all_of(user)?;
        let names = all["accounts"].as_array().into_iter().flatten();
        Ok(names.filter_map(|one| Some(one["accessKey"].as_str()?.to_owned())).collect())
    }

    /// Another one that may do what `like` may.
    pub fn add(&self, key: Key<'_>, like: &Known) -> Result<()> {
        let mut body = json!({ "targetUser": like.user, "accessKey": key.id, "secretKey": key.secret.expose() });
        for (name, text) in [("name", like.name.as_str()), ("description", before(&like.description))] {
            if !text.is_empty() {
                body[name] = json!(text);
            }
        }
        if let Some(policy) = like.policy()? {
            body["policy"] = policy;
        }
        let url = self.url("add-service-account", &[])?;
        let answer = self.send(&Method::PUT, &url, self.sealed(&body)?)?;
        self.done(answer, "make an access key", "admin:CreateServiceAccount").map(drop)
    }

    /// It signs again, with this secret.
    pub fn set(&self, key: Key<'_>) -> Result<()> {
        self.update(key.id, &json!({ "newSecretKey": key.secret.expose(), "newStatus": "on" }))
    }

    /// It signs no more, and says why.
    pub fn retire(&self, id: &str, known: &Known, rotation: &str) -> Result<()> {
        let description = format!("{RETIRED}{rotation}; {}", before(&known.description));
        let description: String = description.chars().take(DESCRIPTION).collect();
        self.update(id, &json!({ "newStatus": "off", "newDescription": description }))
    }

    /// As it is, once more: a node that was away when it was changed still goes by what it knew.
    pub fn tell_again(&self, id: &str, known: &Known) -> Result<()> {
        self.update(id, &json!({ "newStatus": if known.is_off() { "off" } else { "on" } }))
    }

    pub fn take_back(&self, id: &str, known: &Known) -> Result<()> {
        let was = before(&known.description);
        // An empty one would be no change.
        self.update(id, &json!({ "newStatus": "on", "newDescription": if was.is_empty() { "in use" } else { was } }))
    }

    /// Those of the user that were switched off by [`Admin::retire`] for this rotation: another one has keys of its own.
    pub fn retired_of(&self, user: &str, rotation: &str) -> Result<Vec<String>> {
        let beginning = format!("{RETIRED}{rotation}; ");
        let all = self.all_of(user)?;
        let is_retired = |one: &&Value| {
            one["accountStatus"] == "off"
                && one["description"].as_str().is_some_and(|text| text.starts_with(&beginning))
        };
        let retired = all["accounts"].as_array().into_iter().flatten().filter(is_retired);
        Ok(retired.filter_map(|one| Some(one["accessKey"].as_str()?.to_owned())).collect())
    }

    fn update(&self, id: &str, body: &Value) -> Result<()> {
        let url = self.url("update-service-account", &[("accessKey", id)])?;
        let answer = self.send(&Method::POST, &url, self.sealed(body)?)?;
        self.done(answer, "change an access key", "admin:UpdateServiceAccount").map(drop)
    }

    /// What is gone already is as good.
    pub fn remove(&self, id: &str) -> Result<()> {
        let url = self.url("delete-service-account", &[("accessKey", id)])?;
        match self.send(&Method::DELETE, &url, Vec::new())? {
            Answer::Refused(StatusCode::NOT_FOUND, _) => Ok(()),
            answer => self.done(answer, "remove an access key", "admin:RemoveServiceAccount").map(drop),
        }
    }

    pub fn url(&self, call: &str, query: &[(&str, &str)]) -> Result<Url> {
        let text = format!("{}/minio/admin/v3/{call}", self.minio.endpoint.trim_end_matches('/'));
        let wrong = |_| Failure::usage(format!("{} is no address of a server", self.minio.endpoint));
        match query.is_empty() {
            true => Url::parse(&text).map_err(wrong),
            false => Url::parse_with_params(&text, query).map_err(wrong),
        }
    }

    pub fn key(&self) -> Key<'_> {
        Key { id: self.id, secret: &self.secret }
    }

    fn sealed(&self, body: &Value) -> Result<Vec<u8>> {
        envelope::seal(&self.secret, body.to_string().as_bytes())
    }

    /// A server that is starting knows nobody yet, and says so as if there was no such user.
    fn send(&self, method: &Method, url: &Url, body: Vec<u8>) -> Result<Answer> {
        let signed = Signed { minio: self.minio, key: self.key() };
        for _ in 1..TRIES {
            match signed.send(method, url, body.clone())? {
                Answer::Refused(_, code) if code == "InvalidAccessKeyId" => std::thread::sleep(AGAIN),
                answer => return Ok(answer),
            }
        }
        signed.send(method, url, body)
    }

    fn done(&self, answer: Answer, what: &str, right: &str) -> Result<Vec<u8>> {
        match answer {
            Answer::Done(bytes) => Ok(bytes),
            Answer::Away(why) => Err(away(self.minio, why)),
            Answer::Refused(_, code) => Err(self.refused(&code, what, right)),
        }
    }

    pub fn refused(&self, code: &str, what: &str, right: &str) -> Failure {
        let text = format!("{} may not {what} at MinIO ({}): {code}", self.id, self.minio.endpoint);
        let hint = match code {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                "Correct the access key and the secret key in `admin`".to_owned()
            }
            "AccessDenied" => format!("Give it a policy that allows {right}, as docs/ROTATION_KEYS.md shows"),
            _ => "See that `endpoint` is MinIO, and its version no older than 2023".to_owned(),
        };
        Failure::new(Kind::Key, text).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_switched_off_tells_what_it_was() {
        for (text, was) in [
            ("retired by bkp for shop; of the shop; and more", "of the shop; and more"),
            ("retired by bkp; of the shop", "of the shop"),
            ("retired by bkp; ", ""),
            ("of the shop", "of the shop"),
        ] {
            assert_eq!(before(text), was);
            let known = |status: &str| -> Known {
                serde_json::from_value(json!({ "parentUser": "u", "accountStatus": status, "description": text }))
                    .unwrap()
            };
            assert_eq!(known("off").is_retired(), text != was, "{text}");
            assert!(!known("on").is_retired(), "{text}");
        }
    }
}
