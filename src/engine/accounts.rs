//! Accounts whose passwords can be changed without a gap: what rotation needs of an engine.
//!
//! Every call can be made twice. What a password is worth is told by logging in with it, anew and over the network, never by what
//! an engine says of it; only a definite refusal is one. Secrets never stand in a statement, an argument or an error text where
//! the engine knows a way around it.

use super::{Settings, mysql};
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;
use std::fmt;

/// Somewhere the account can log in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What a login came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Login {
    Accepted,
    /// By the server, because of the password.
    Refused,
    /// Why nothing was learned.
    Unknown(String),
}

impl Login {
    /// Of several nodes: accepted where all accept it, refused where all refuse it.
    pub fn of_all(all: impl IntoIterator<Item = Login>) -> Login {
        let mut seen: Option<Login> = None;
        for login in all {
            seen = Some(match (seen, login) {
                (_, unknown @ Login::Unknown(_)) | (Some(unknown @ Login::Unknown(_)), _) => unknown,
                (None, login) => login,
                (Some(before), login) if before == login => login,
                _ => Login::Unknown("some nodes accept it, and others refuse it".into()),
            });
        }
        seen.unwrap_or_else(|| Login::Unknown("there is no node".into()))
    }
}

/// The account and the secret that is in force, and the one that comes after it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub current: &'a Secret,
    pub pending: &'a Secret,
}

/// A session of the account, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub client: String,
}

pub trait Accounts: Send + Sync {
    /// For people: `app on MySQL 8.4.3 at container mysql-auth`.
    fn describe(&self) -> String;

    /// Whether this can be done at all: version, plug-ins, rights, foreign second passwords. Changes nothing. Gives what people
    /// should know of besides.
    fn preflight(&self, current: &Secret, cancel: &Cancel) -> Result<Vec<String>>;

    /// The account's definition as statements that would bring it back, verifiers included: it is kept sealed.
    fn save(&self, cancel: &Cancel) -> Result<Secret>;

    /// Everywhere the account can log in: all of them are tried.
    fn nodes(&self) -> Result<Vec<Node>>;

    /// One login with this password, over a connection of its own that ends at once, and a query.
    fn probe(&self, secret: &Secret, node: &Node) -> Login;

    /// From now on both are accepted. Called when the pending one is refused; the current one must stay good.
    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()>;

    /// Only the pending one is accepted from now on. Sessions live on.
    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()>;

    /// Only the current one is accepted from now on, whatever was begun before.
    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()>;

    /// A restart of the server changes nothing of it. For engines that write by themselves, nothing is to be done.
    fn persist(&self, cancel: &Cancel) -> Result<()>;

    /// An instant in the server's own counting, to tell sessions from before it later.
    fn mark(&self, cancel: &Cancel) -> Result<String>;

    /// Sessions of the account that are older than the mark.
    fn sessions_before(&self, mark: &str, cancel: &Cancel) -> Result<Vec<Session>>;

    fn end_session(&self, session: &Session, cancel: &Cancel) -> Result<()>;
}

/// The accounts of a server, where this version can rotate them. `settings` log in as somebody who may change them; `nodes` are
/// tried besides the server itself.
pub fn accounts(settings: &Settings, account: &str, nodes: &[Node]) -> Option<Box<dyn Accounts>> {
    match settings {
        Settings::Mysql(settings) => {
            Some(Box::new(mysql::Rotation::new(settings.server.clone(), account.to_owned(), nodes.to_vec())))
        }
        // One line for each engine that can.
        Settings::Postgres(_)
        | Settings::Mongo(_)
        | Settings::Redis(_)
        | Settings::Sqlite(_)
        | Settings::Volume(_)
        | Settings::Command(_)
        | Settings::Vault(_) => None,
    }
}

/// The same question before anything is opened, for the configuration.
pub fn has_accounts(settings: &Settings) -> bool {
    matches!(settings, Settings::Mysql(_))
}
