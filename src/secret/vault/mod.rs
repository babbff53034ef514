//! HashiCorp Vault: logs in, keeps the token alive, reads fields of secrets, and writes what is rotated.
//!
//! Every call has a time-out; what may pass is tried again within a budget. A token that bkp made is renewed while it is
//! used and revoked when the [`Vault`] is dropped. Nothing is taken from the `VAULT_*` variables.
//! What was read is not kept here: [`super::Secrets`] does.

use super::secrets::lock;
use super::{Secret, SecretRef, VaultPath};
use crate::backoff::{Budget, chance, pause};
use crate::error::{Failure, Result};
use connection::{Connection, Trouble};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use token::Session;

mod capabilities;
mod connection;
mod examine;
mod kv;
mod login;
mod node;
mod passwords;
mod raft;
mod renewed;
mod token;
mod told;
mod wrapped;
mod write;

pub use capabilities::{Capabilities, line};
pub use examine::{Health, TokenFacts};
pub use node::{Seal, Tables};
pub use passwords::generates;
pub use raft::{Download, SNAPSHOT};
pub use write::{Document, Written};

/// Where Vault is, and as whom to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `https://host:port`, without a path; checked by [`check_address`].
    pub address: String,
    /// Where it listens instead, on this host.
    pub socket: Option<PathBuf>,
    pub namespace: Option<String>,
    /// Certificate authorities (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key (PEM) to show to a Vault that asks for them.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    pub login: Login,
    /// In which any call is answered, or counts as lost.
    pub timeout: Duration,
    /// How long to try again.
    pub budget: Budget,
}

/// As whom. `mount` is where the method is, below `auth/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Token(SecretRef),
    /// `wrapped`: the first secret id comes as a wrapping token. `renew`: it is replaced at half of its life.
    AppRole {
        mount: String,
        role_id: Given,
        secret_id: Option<SecretRef>,
        wrapped: bool,
        renew: bool,
    },
    Userpass {
        mount: String,
        user: String,
        password: SecretRef,
    },
    Kubernetes {
        mount: String,
        role: String,
        jwt: SecretRef,
    },
    Jwt {
        mount: String,
        role: Option<String>,
        jwt: SecretRef,
    },
}

/// What is no secret by itself, and may be written out or kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    Here(String),
    Kept(SecretRef),
}

impl Login {
    /// What it needs.
    pub fn references(&self) -> Vec<&SecretRef> {
        match self {
            Login::Token(reference) | Login::Kubernetes { jwt: reference, .. } | Login::Jwt { jwt: reference, .. } => {
                vec![reference]
            }
            Login::Userpass { password, .. } => vec![password],
            Login::AppRole { role_id, secret_id, .. } => {
                let role_id = match role_id {
                    Given::Here(_) => None,
                    Given::Kept(reference) => Some(reference),
                };
                role_id.into_iter().chain(secret_id).collect()
            }
        }
    }
}

impl Settings {
    pub fn new(address: String, login: Login) -> Self {
        let (socket, namespace, ca_file, client_certificate) = Default::default();
        let (timeout, budget) = (Settings::TIMEOUT, Settings::BUDGET);
        Settings { address, socket, namespace, ca_file, client_certificate, login, timeout, budget }
    }

    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// How long to try, and at first.
    pub const BUDGET: Budget = Budget {
        total: Duration::from_secs(30),
        first_contact: Duration::from_secs(15),
        base: Duration::from_millis(100),
        cap: Duration::from_secs(5),
    };

    /// Where a pod finds the token of its service account.
    pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
}

/// Whether this is the address of a server. The message does not repeat it: it could hold a password.
pub fn check_address(text: &str) -> std::result::Result<(), String> {
    let wrong = "expected the address of Vault, such as https://vault.example:8200";
    let url = reqwest::Url::parse(text).map_err(|_| wrong.to_owned())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    match (url.scheme(), url.has_host()) {
        ("http" | "https", true) if !url.username().is_empty() || url.password().is_some() => {
            Err("credentials do not belong into the address of Vault".into())
        }
        ("http" | "https", true) if bare => Ok(()),
        ("http" | "https", true) => Err("the address of Vault has no path: give scheme, host and port".into()),
        _ => Err(wrong.into()),
    }
}

/// Why there is no secret.
pub(super) struct Refusal {
    pub failure: Failure,
    /// Vault could not be asked for this secret, so what it said before may still hold.
    pub unasked: bool,
}

pub struct Vault {
    settings: Settings,
    state: PathBuf,
    stopped: Box<dyn Fn() -> bool + Send + Sync>,
    connection: Mutex<Option<Arc<Connection>>>,
    session: Mutex<Option<Arc<Session>>>,
    mounts: Mutex<Vec<kv::Mount>>,
    tended: Mutex<renewed::Tended>,
    answered: std::sync::atomic::AtomicBool,
}

impl Vault {
    pub(super) fn new(settings: Settings, state: PathBuf, stopped: Box<dyn Fn() -> bool + Send + Sync>) -> Self {
        let (connection, session, mounts, tended) = Default::default();
        Vault { settings, state, stopped, connection, session, mounts, tended, answered: false.into() }
    }

    /// One that keeps nothing on this host: for a Vault that is backed up, and not read from. No I/O.
    pub fn alone(settings: Settings) -> Self {
        Vault::new(settings, PathBuf::new(), Box::new(|| false))
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn read(&self, path: &VaultPath, patience: &Budget) -> std::result::Result<Secret, Refusal> {
        let unasked = |failure| Refusal { failure, unasked: true };
        let answer = self.in_session(patience, |connection, session| self.read_fields(connection, session, path));
        match answer.map_err(unasked)? {
            (Ok(fields), _) => kv::pick(fields, path).map_err(|failure| Refusal { failure, unasked: false }),
            (Err(trouble), _) if trouble.is_outage() => Err(unasked(told::outage(&self.settings, &trouble))),
            (Err(trouble), session) => {
                let failure = told::refused(&self.settings, path, &self.api_path(path), &session.policies, &trouble);
                Err(Refusal { failure, unasked: false })
            }
        }
    }

    /// Does something with a token that is good. One that Vault denies something is exchanged once: it may have ended, or its
    /// role may have more rights by now.
    fn in_session<T>(
        &self,
        patience: &Budget,
        work: impl Fn(&Connection, &Session) -> std::result::Result<T, Trouble>,
    ) -> Result<(std::result::Result<T, Trouble>, Arc<Session>)> {
        let connection = self.connection()?;
        let began = Instant::now();
        let (session, is_new) = self.session(&connection, patience)?;
        let left = |patience: &Budget| patience.lasting(patience.total.saturating_sub(began.elapsed()));
        let answer = self.insist(&left(patience), || work(&connection, &session));
        match answer {
            Err(trouble) if trouble.status() == Some(403) && !is_new => {
                self.end(&connection, &session);
                let (session, _) = self.session(&connection, &left(patience))?;
                Ok((self.insist(&left(patience), || work(&connection, &session)), session))
            }
            answer => Ok((answer, session)),
        }
    }

    /// Tries again what may pass.
    fn insist<T>(
        &self,
        patience: &Budget,
        mut call: impl FnMut() -> std::result::Result<T, Trouble>,
    ) -> std::result::Result<T, Trouble> {
        use std::sync::atomic::Ordering::Relaxed;
        let began = Instant::now();
        let mut failures = 0;
        loop {
            let trouble = match call() {
                Err(trouble) if trouble.is_outage() => trouble,
                answer => {
                    self.answered.store(true, Relaxed);
                    return answer;
                }
            };
            failures += 1;
            let total = if self.answered.load(Relaxed) { patience.total } else { patience.first_contact };
            let wait = patience.wait(failures, chance());
            if !trouble.may_pass() || began.elapsed() + wait > total || !pause(wait, &*self.stopped) {
                return Err(trouble);
            }
        }
    }

    fn connection(&self) -> Result<Arc<Connection>> {
        let mut connection = lock(&self.connection);
        match &*connection {
            Some(connection) => Ok(connection.clone()),
            None => Ok(connection.insert(Arc::new(Connection::open(&self.settings)?)).clone()),
        }
    }

    /// The token in use, or a new one; and whether it is new. One thread logs in, the others wait for it.
    fn session(&self, connection: &Arc<Connection>, patience: &Budget) -> Result<(Arc<Session>, bool)> {
        let mut current = lock(&self.session);
        if let Some(session) = current.as_ref().filter(|session| !session.ends_soon()) {
            let session = session.clone();
            drop(current);
            self.tend_secret_id(connection, &session, patience);
            return Ok((session, false));
        }
        let session = Arc::new(self.log_in(connection, patience)?);
        token::keep_alive(connection, &session);
        if let Some(old) = current.replace(session.clone()) {
            old.revoke_in_background(connection);
        }
        drop(current);
        self.tend_secret_id(connection, &session, patience);
        Ok((session, true))
    }

    /// This token is not to be used again.
    fn end(&self, connection: &Connection, session: &Arc<Session>) {
        let mut current = lock(&self.session);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
            session.revoke_in_background(connection);
        }
    }
}

/// The token is of no use to anybody any more.
impl Drop for Vault {
    fn drop(&mut self) {
        if let (Some(connection), Some(session)) = (lock(&self.connection).take(), lock(&self.session).take()) {
            session.revoke(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_they_are_used() {
        for good in ["https://vault.example:8200", "http://127.0.0.1:8200/", "https://[::1]:8200"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in
            ["", "vault.example", "vault.example:8200", "ftp://h", "https://", "https://h/vault", "https://h?x=1"]
        {
            assert!(check_address(bad).is_err(), "{bad}");
        }
        assert!(!check_address("https://me:hunter2@h").unwrap_err().contains("hunter2"));
    }
}
