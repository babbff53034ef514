//! Secrets from a real Vault: every way in, every kind of reference, and its bad days. The only stand-ins are the API of
//! Kubernetes, which is asked about tokens, and a proxy in front of Vault that answers in its place or not at all.
#![allow(clippy::unwrap_used)] // test code outside of test functions

mod support;

#[path = "vault/documents.rs"]
mod documents;
#[path = "vault/login.rs"]
mod login;
#[path = "vault/outage.rs"]
mod outage;
#[path = "vault/program.rs"]
mod program;
#[path = "vault/reading.rs"]
mod reading;
#[path = "vault/renewal.rs"]
mod renewal;
#[path = "vault/snapshots.rs"]
mod snapshots;

use bkp::backoff::Budget;
use bkp::error::Failure;
use bkp::secret::vault::{Given, Login, Settings};
use bkp::secret::{SecretRef, Secrets};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use support::vault::Vault;
use tempfile::TempDir;

/// Soon done with what does not pass.
const QUICK: Budget = Budget {
    total: Duration::from_secs(2),
    first_contact: Duration::from_secs(2),
    base: Duration::from_millis(10),
    cap: Duration::from_millis(100),
};

/// What one process of bkp has: its state, and the files that lead into Vault.
pub struct Client {
    pub directory: TempDir,
    pub settings: Settings,
}

impl Client {
    pub fn new(address: &str, login: Login) -> Client {
        let settings = Settings { budget: QUICK, ..Settings::new(address.into(), login) };
        Client { directory: tempfile::tempdir().unwrap(), settings }
    }

    /// By AppRole, with a secret id in a file. The role may read `kv/NAME`, which has a password.
    pub fn of_role(vault: &Vault, address: &str, name: &str) -> Client {
        let role_id = vault.role(name, json!({}));
        vault.write(name, json!({ "password": password(name) }));
        let mut client = Client::new(address, Login::Token(SecretRef::Env("NONE".into())));
        let secret_id = client.keep("secret-id", &vault.secret_id(name));
        client.settings.login = approle(&role_id, secret_id, false);
        client
    }

    /// A file with a secret.
    pub fn keep(&self, name: &str, text: &str) -> SecretRef {
        let path = self.directory.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        SecretRef::File(path)
    }

    pub fn state(&self) -> &Path {
        self.directory.path()
    }

    /// A process of bkp begins.
    pub fn begin(&self) -> Secrets {
        Secrets::with_vault(self.settings.clone(), self.state(), || false)
    }
}

pub fn approle(role_id: &str, secret_id: SecretRef, wrapped: bool) -> Login {
    Login::AppRole {
        mount: "approle".into(),
        role_id: Given::Here(role_id.into()),
        secret_id: Some(secret_id),
        wrapped,
        renew: false,
    }
}

/// The password that is at `kv/NAME`.
pub fn password(name: &str) -> String {
    format!("hunter2-{name}")
}

pub fn reference(text: &str) -> SecretRef {
    format!("ref+vault://{text}").parse().unwrap()
}

/// The password at `kv/NAME`, or the whole message: which never has a secret in it.
pub fn read(secrets: &Secrets, name: &str) -> Result<String, String> {
    let read = secrets.read(&reference(&format!("kv/{name}#/password")));
    read.map(|secret| secret.expose().to_owned()).map_err(|failure| told(&failure))
}

/// Sentence, causes and hint.
#[track_caller]
pub fn told(failure: &Failure) -> String {
    let text = format!("{} → {}", failure.full(), failure.next_step().expect("every failure says what to do"));
    let all = format!("{text} {failure:?}");
    for secret in ["hunter2", "hvs.", "hvb."] {
        assert!(!all.contains(secret), "a secret was told: {all}");
    }
    text
}
