//! What `bkp doctor` wants to know of Vault. Each question is asked once, with the time-out of a call, or few times.

use super::connection::{Call, Connection, Trouble};
use super::token::Session;
use super::told::{self, policy_line};
use super::{Vault, VaultPath};
use crate::error::{Failure, Kind, Result};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use vaultrs::api;

/// An age is worth no long wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// What Vault says of itself, to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub version: String,
    pub initialized: bool,
    pub sealed: bool,
    pub standby: bool,
    /// By its own clock.
    pub time: Option<Timestamp>,
    /// Its cluster; not known of one that is sealed.
    pub cluster: Option<String>,
    pub is_openbao: bool,
}

/// The token that bkp works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    pub policies: Vec<String>,
    /// How long it lasts without being renewed; `None` for ever.
    pub lasts: Option<Duration>,
    pub renewable: bool,
    /// Given as it is, and not made by a login.
    pub is_given: bool,
}

impl Vault {
    pub fn health(&self) -> Result<Health> {
        let connection = self.connection()?;
        let speaker = connection.speaker(None)?;
        let answer = self.insist(&self.settings.budget, || {
            let speaker = speaker.clone();
            let query = Some("standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200&drsecondarycode=200");
            let call = Call { path: "sys/health".into(), query: query.map(str::to_owned), body: None };
            connection.ask(async move { api::exec_with_no_result(speaker.client(), call).await })
        });
        let answer: Value = answer.map_err(|trouble| told::outage(&self.settings, &trouble))?;
        let is = |key: &str| answer[key] == true;
        Ok(Health {
            version: answer["version"].as_str().unwrap_or("of an unknown version").to_owned(),
            initialized: is("initialized"),
            sealed: is("sealed"),
            standby: is("standby"),
            time: answer["server_time_utc"].as_i64().and_then(|at| Timestamp::from_second(at).ok()),
            cluster: answer["cluster_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
            // Only Vault has editions.
            is_openbao: answer.get("enterprise").is_none(),
        })
    }

    /// Logs in, if need be.
    pub fn token(&self) -> Result<TokenFacts> {
        let (facts, _) = self.in_session(&self.settings.budget, |connection: &Connection, session: &Session| {
            let speaker = session.speaker.clone();
            connection.ask(async move { vaultrs::token::lookup_self(speaker.client()).await })
        })?;
        let facts = facts.map_err(|trouble| told::login(&self.settings, &trouble))?;
        Ok(TokenFacts {
            policies: facts.policies,
            lasts: (facts.ttl > 0).then(|| Duration::from_secs(facts.ttl)),
            renewable: facts.renewable.unwrap_or(false),
            is_given: matches!(self.settings.login, super::Login::Token(_)),
        })
    }

    /// Whether the token may read the secret, and whether the secret has the field: without its value leaving here.
    pub fn may_read(&self, path: &VaultPath) -> Result<()> {
        let api_path = self.mounted(path)?;
        let capabilities = self.capabilities(&[&api_path])?;
        if !capabilities.missing(&api_path, &["read"]).is_empty() {
            let have = capabilities.policies();
            let text = format!("the token (policies {have}) may not read {api_path} (for ref+vault://{path})");
            return Err(
                Failure::new(Kind::Key, text).hint(format!("Add to one of its policies: {}", policy_line(&api_path)))
            );
        }
        self.read(path, &self.settings.budget).map(drop).map_err(|refusal| refusal.failure)
    }

    /// When the secret, or the version of it that is named, was written last; nothing where Vault does not note it.
    pub fn written(&self, path: &VaultPath) -> Result<Option<Timestamp>> {
        let patience = self.settings.budget.lasting(self.settings.budget.total.min(PATIENCE));
        let (answer, _) =
            self.in_session(&patience, |connection, session| self.read_time(connection, session, path))?;
        match answer {
            Ok(time) => Ok(time.and_then(|time| time.parse().ok())),
            Err(trouble) if trouble.is_outage() => Err(told::outage(&self.settings, &trouble)),
            Err(trouble) => Err(unexpected(&trouble)),
        }
    }
}

fn unexpected(trouble: &Trouble) -> Failure {
    Failure::failed(format!("Vault does not tell what the token may do: {}", trouble.words()))
}
