//! Passwords that a password policy of Vault makes.

use super::connection::Call;
use super::{Vault, line, told};
use crate::error::{Failure, Kind, Result};
use crate::secret::Secret;
use serde_json::Value;
use vaultrs::api;

/// Where a policy makes passwords.
pub fn generates(policy: &str) -> String {
    format!("sys/policies/password/{policy}/generate")
}

impl Vault {
    /// A new one each time; Vault keeps none.
    pub fn password(&self, policy: &str) -> Result<Secret> {
        let path = generates(policy);
        let (answer, _) = self.in_session(&self.settings.budget, |connection, session| {
            let speaker = session.speaker.clone();
            let call = Call { path: path.clone(), query: None, body: None };
            connection.ask(async move { api::exec_with_result(speaker.client(), call).await })
        })?;
        let mut answer: Value = answer.map_err(|trouble| match trouble.status() {
            _ if trouble.is_outage() => told::outage(&self.settings, &trouble),
            Some(403) => Failure::new(Kind::Key, format!("Vault denies {path}: {}", trouble.words()))
                .hint(format!("Add to one of the token's policies: {}", line(&path, &["read"]))),
            _ => Failure::usage(format!("Vault has no password policy {policy}: {}", trouble.words()))
                .hint("Make it: vault write sys/policies/password/NAME policy=@FILE"),
        })?;
        match answer.get_mut("password").map(Value::take) {
            Some(Value::String(password)) => Ok(Secret::new(password)),
            _ => Err(Failure::failed(format!("the password policy {policy} of Vault gave no password"))),
        }
    }
}
