//! Logging in: from the settings to a token.
//!
//! What the login needs is read late and never kept: a pod's token changes, and so may any file.

use super::connection::{Connection, Trouble};
use super::token::Session;
use super::{Given, Login, Vault, told};
use crate::backoff::Budget;
use crate::error::{Failure, Kind, Result};
use crate::secret::{Secret, SecretRef, local};
use std::sync::Arc;
use vaultrs::api::AuthInfo;
use vaultrs::auth;
use zeroize::Zeroizing;

impl Vault {
    pub(super) fn log_in(&self, connection: &Arc<Connection>, patience: &Budget) -> Result<Session> {
        let auth = match &self.settings.login {
            Login::Token(reference) => return self.with_token(connection, reference, patience),
            Login::AppRole { mount, role_id, secret_id, wrapped, .. } => {
                return self.with_role(connection, (mount, role_id), (secret_id.as_ref(), *wrapped), patience);
            }
            Login::Userpass { mount, user, password } => {
                let password = local::read(password)?;
                self.ask_for_token(connection, patience, [mount, user, password.expose()])
            }
            Login::Kubernetes { mount, role, jwt } => {
                let jwt = self.jwt(jwt)?;
                self.ask_for_token(connection, patience, [mount, role, jwt.expose().trim()])
            }
            Login::Jwt { mount, role, jwt } => {
                let jwt = self.jwt(jwt)?;
                let role = role.as_deref().unwrap_or_default();
                self.ask_for_token(connection, patience, [mount, role, jwt.expose().trim()])
            }
        };
        let auth = auth.map_err(|trouble| told::login(&self.settings, &trouble))?;
        self.made(connection, auth)
    }

    fn made(&self, connection: &Connection, mut auth: AuthInfo) -> Result<Session> {
        let token = Secret::new(std::mem::take(&mut auth.client_token));
        Ok(Session::made(connection.speaker(Some(&token))?, &auth))
    }

    fn jwt(&self, reference: &SecretRef) -> Result<Secret> {
        let jwt = local::read(reference)?;
        match jwt.expose().trim().is_empty() {
            true => Err(Failure::new(Kind::Key, format!("the token for the login at Vault is empty ({reference})"))),
            false => Ok(jwt),
        }
    }

    /// `words` are the mount, who, and the proof, as the method wants them.
    fn ask_for_token(
        &self,
        connection: &Connection,
        patience: &Budget,
        words: [&str; 3],
    ) -> std::result::Result<AuthInfo, Trouble> {
        let speaker = connection.speaker(None).map_err(|failure| Trouble::NotUnderstood(failure.full()))?;
        self.insist(patience, || {
            let (speaker, way) = (speaker.clone(), self.settings.login.clone());
            let [mount, who, proof] = words.map(|word| Zeroizing::new(word.to_owned()));
            connection.ask(async move {
                let client = speaker.client();
                match way {
                    Login::Userpass { .. } => auth::userpass::login(client, &mount, &who, &proof).await,
                    Login::Kubernetes { .. } => auth::kubernetes::login(client, &mount, &who, &proof).await,
                    Login::Jwt { role, .. } => auth::oidc::login(client, &mount, &proof, role).await,
                    Login::AppRole { .. } | Login::Token(_) => auth::approle::login(client, &mount, &who, &proof).await,
                }
            })
        })
    }

    fn with_token(&self, connection: &Connection, reference: &SecretRef, patience: &Budget) -> Result<Session> {
        let token = local::read(reference)?;
        let token = Secret::new(token.expose().trim().to_owned());
        if token.expose().is_empty() {
            return Err(Failure::new(Kind::Key, format!("the token for Vault is empty ({reference})")));
        }
        let speaker = connection.speaker(Some(&token))?;
        let facts = self.insist(patience, || {
            let speaker = speaker.clone();
            connection.ask(async move { vaultrs::token::lookup_self(speaker.client()).await })
        });
        let facts = facts.map_err(|trouble| told::login(&self.settings, &trouble))?;
        Ok(Session::of_token(speaker, facts.policies, facts.ttl, facts.renewable.unwrap_or(false)))
    }

    /// A secret id that came wrapped was unwrapped once and is kept; when Vault does not take it any more, and another wrapped one
    /// lies there, that is unwrapped.
    fn with_role(
        &self,
        connection: &Connection,
        (mount, role_id): (&str, &Given),
        (reference, wrapped): (Option<&SecretRef>, bool),
        patience: &Budget,
    ) -> Result<Session> {
        let role_id = match role_id {
            Given::Here(text) => Secret::new(text.clone()),
            Given::Kept(reference) => local::read(reference)?,
        };
        let log_in = |secret_id: &Secret| {
            self.ask_for_token(connection, patience, [mount, role_id.expose().trim(), secret_id.expose().trim()])
        };
        let refused = |trouble: Trouble| told::login(&self.settings, &trouble);
        let auth = match (reference, wrapped) {
            (None, _) => log_in(&Secret::new(String::new())).map_err(refused)?,
            (Some(reference), false) => {
                let read = local::read(reference)?;
                match log_in(&read) {
                    Err(trouble) if trouble.status() == Some(400) => {
                        // Another process may just have replaced it.
                        match local::read(reference)? {
                            next if next.expose() != read.expose() => log_in(&next).map_err(refused)?,
                            _ => return Err(refused(trouble)),
                        }
                    }
                    answer => answer.map_err(refused)?,
                }
            }
            (Some(reference), true) => {
                let kept = self.secret_id(connection, mount, reference, patience)?;
                match log_in(&kept.secret_id) {
                    Err(trouble) if trouble.status() == Some(400) => {
                        match self.next_secret_id(connection, mount, reference, (&kept, patience))? {
                            Some(next) => log_in(&next.secret_id).map_err(refused)?,
                            None => return Err(refused(trouble)),
                        }
                    }
                    answer => answer.map_err(refused)?,
                }
            }
        };
        self.made(connection, auth)
    }
}
