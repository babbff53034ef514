//! What the token may do, without doing it: `sys/capabilities-self`, which is the dry run of everything that is asked of Vault.

use super::connection::{Call, Trouble};
use super::token::Session;
use super::{Settings, Vault, told};
use crate::error::{Failure, Kind, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vaultrs::api;

/// What a token may do at some paths, and which policies it has.
pub struct Capabilities {
    /// Nothing where the token may not even ask: a policy `default` lets it.
    granted: Option<BTreeMap<String, Vec<String>>>,
    policies: Vec<String>,
}

impl Capabilities {
    /// Which of `needed` are missing at the path; none where that is not known.
    pub fn missing<'n>(&self, path: &str, needed: &[&'n str]) -> Vec<&'n str> {
        let Some(granted) = &self.granted else { return Vec::new() };
        let granted = granted.get(path).map(Vec::as_slice).unwrap_or_default();
        let has = |capability: &str| granted.iter().any(|one| one == capability || one == "root");
        needed.iter().filter(|capability| !has(capability)).copied().collect()
    }

    /// As Vault answered.
    pub(super) fn told(
        settings: &Settings,
        answer: std::result::Result<Value, Trouble>,
        paths: &[&str],
        session: &Session,
    ) -> Result<Self> {
        let policies = session.policies.clone();
        let words =
            |list: &Value| list.as_array().into_iter().flatten().filter_map(|one| Some(one.as_str()?.into())).collect();
        let granted = |answer: Value| paths.iter().map(|path| ((*path).to_owned(), words(&answer[*path]))).collect();
        match answer {
            Ok(answer) => Ok(Capabilities { granted: Some(granted(answer)), policies }),
            Err(trouble) if trouble.is_outage() => Err(told::outage(settings, &trouble)),
            Err(trouble) => not_told(&trouble).map(|()| Capabilities { granted: None, policies }),
        }
    }

    /// Whether Vault told them.
    pub fn are_known(&self) -> bool {
        self.granted.is_some()
    }

    /// Names of the token's policies.
    pub fn policies(&self) -> String {
        self.policies.join(", ")
    }
}

impl Vault {
    /// Asks for all of them at once.
    pub fn capabilities(&self, paths: &[&str]) -> Result<Capabilities> {
        let (answer, session) = self.in_session(&self.settings.budget, |connection, session| {
            let speaker = session.speaker.clone();
            let body = Some(json!({ "paths": paths }));
            let call = Call { path: "sys/capabilities-self".into(), query: None, body };
            connection.ask(async move { api::exec_with_result(speaker.client(), call).await })
        })?;
        Capabilities::told(&self.settings, answer, paths, &session)
    }

    /// Whether the token may do all of this there.
    pub fn may(&self, path: &str, needed: &[&str]) -> Result<()> {
        self.may_all(&[(path.to_owned(), needed)]).map(drop)
    }

    /// Whether the token may do everything that is wanted at each of these paths; else all that is missing, with the lines that a
    /// policy of Vault needs. False where Vault does not tell.
    pub fn may_all(&self, wanted: &[(String, &[&str])]) -> Result<bool> {
        let paths: Vec<&str> = wanted.iter().map(|(path, _)| path.as_str()).collect();
        let capabilities = self.capabilities(&paths)?;
        let (mut missing, mut lines) = (Vec::new(), Vec::new());
        for (path, needed) in wanted {
            let lacks = capabilities.missing(path, needed);
            if !lacks.is_empty() {
                missing.push(format!("{} {path}", lacks.join(", ")));
                lines.push(line(path, needed));
            }
        }
        if missing.is_empty() {
            return Ok(capabilities.are_known());
        }
        let have = capabilities.policies();
        let text = format!("the token of Vault (policies {have}) may not {}", missing.join("; nor "));
        Err(Failure::new(Kind::Key, text).hint(format!("Add to one of its policies: {}", lines.join(" "))))
    }
}

/// The line of a policy that grants this.
pub fn line(path: &str, capabilities: &[&str]) -> String {
    let quoted: Vec<String> = capabilities.iter().map(|capability| format!("\"{capability}\"")).collect();
    format!("path \"{path}\" {{ capabilities = [{}] }}", quoted.join(", "))
}

/// A token without the policy `default` may not ask; then only doing it tells.
fn not_told(trouble: &Trouble) -> Result<()> {
    match trouble.status() {
        Some(403) => Ok(()),
        _ => Err(Failure::failed(format!("Vault does not tell what the token may do: {}", trouble.words()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_and_root_may_do_everything() {
        let granted = [("kv/a", vec!["read", "update"]), ("kv/b", vec!["root"]), ("kv/c", vec!["deny"])];
        let granted =
            granted.into_iter().map(|(path, list)| (path.to_owned(), list.into_iter().map(str::to_owned).collect()));
        let known = Capabilities { granted: Some(granted.collect()), policies: vec!["bkp".into()] };
        assert_eq!(known.missing("kv/a", &["create", "read"]), ["create"]);
        assert!(known.missing("kv/b", &["create", "sudo"]).is_empty());
        assert_eq!(known.missing("kv/c", &["read"]), ["read"]);
        assert_eq!(known.missing("kv/unknown", &["read"]), ["read"]);
        let unknown = Capabilities { granted: None, policies: vec![] };
        assert!(unknown.missing("kv/a", &["read"]).is_empty() && !unknown.are_known());
    }
}
