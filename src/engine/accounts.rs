//! Accounts whose passwords can be changed without a gap: what rotation needs of an engine.
//!
//! Every call can be made twice. What a password is worth is told by logging in with it, anew and over the network, never by what
//! an engine says of it; only a definite refusal is one. Secrets never stand in a statement, an argument or an error text where
//! the engine knows a way around it.

use super::{Demands, Server, Settings, mongo, mysql, postgres, redis};
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use std::fmt;
use std::ops::Deref;

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
    /// By some nodes and not by others, where nodes know nothing of each other: each can be told again.
    Partly,
    /// Why nothing was learned.
    Unknown(String),
}

impl Login {
    /// Why nothing was learned of nodes that follow one of them: they lag behind, or went their own way.
    pub const NODES_DIFFER: &str = "some nodes accept it, and others refuse it";

    /// Of several nodes that follow one of them: accepted where all accept it, refused where all refuse it.
    pub fn of_all(all: impl IntoIterator<Item = Login>) -> Login {
        let mut seen: Option<Login> = None;
        for login in all {
            seen = Some(match (seen, login) {
                (_, unknown @ Login::Unknown(_)) | (Some(unknown @ Login::Unknown(_)), _) => unknown,
                (None, login) => login,
                (Some(before), login) if before == login => login,
                _ => Login::Unknown(Login::NODES_DIFFER.into()),
            });
        }
        seen.unwrap_or_else(|| Login::Unknown("there is no node".into()))
    }

    /// Of several nodes of which each is told by itself.
    pub fn of_each(all: Vec<Login>) -> Login {
        let is_known = !all.iter().any(|login| matches!(login, Login::Unknown(_)));
        let differ = all.contains(&Login::Accepted) && all.contains(&Login::Refused);
        if is_known && differ { Login::Partly } else { Login::of_all(all) }
    }
}

/// A secret, and whose it is where names take turns: each new secret then belongs to the other one of two users.
#[derive(Clone, Debug)]
pub struct Credential {
    pub user: Option<String>,
    pub secret: Secret,
}

impl Credential {
    /// The same user and the same secret.
    pub fn is(&self, other: &Credential) -> bool {
        self.user == other.user && self.secret.expose() == other.secret.expose()
    }
}

/// Of the only user there is.
impl From<Secret> for Credential {
    fn from(secret: Secret) -> Self {
        Credential { user: None, secret }
    }
}

/// Most that is told a credential only wants its secret.
impl Deref for Credential {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.secret
    }
}

/// What is in force, and what comes after it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub current: &'a Credential,
    pub pending: &'a Credential,
}

impl<'a> Pair<'a> {
    /// On the way back.
    pub fn turned(self) -> Pair<'a> {
        Pair { current: self.pending, pending: self.current }
    }
}

/// A session of the account, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub client: String,
}

/// Whether a server shows who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    Shown,
    /// Nobody shows it, and what may be there has had its time to pass; how that is known.
    Passed(String),
    /// Why not.
    Hidden(String),
}

pub trait Accounts: Send + Sync {
    /// For people: `app on MySQL 8.4.3 at container mysql-auth`.
    fn describe(&self) -> String;

    /// Whether this can be done at all: version, plug-ins, rights, foreign second passwords. Changes nothing. Gives what people
    /// should know of besides.
    fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>>;

    /// What comes next, where it is not a password that a rule makes: a key with a name of its own.
    fn mint(&self) -> Result<Option<Credential>> {
        Ok(None)
    }

    /// What the server wants of new passwords.
    fn demands(&self, _: &Cancel) -> Result<Option<Demands>> {
        Ok(None)
    }

    /// The account's definition as statements that would bring it back, verifiers included: it is kept sealed.
    fn save(&self, cancel: &Cancel) -> Result<Secret>;

    /// Everywhere the account can log in: all of them are tried.
    fn nodes(&self) -> Result<Vec<Node>>;

    /// One login with it, over a connection of its own that ends at once, and a query.
    fn probe(&self, credential: &Credential, node: &Node) -> Login;

    /// What the logins on all nodes come to. Nodes that disagree are waited for, unless each of them can be told again.
    fn together(&self, logins: Vec<Login>) -> Login {
        Login::of_all(logins)
    }

    /// What becomes of it on all nodes.
    fn log_in(&self, credential: &Credential) -> Result<Login> {
        Ok(self.together(self.nodes()?.iter().map(|node| self.probe(credential, node)).collect()))
    }

    /// From now on both are accepted. Called when the pending one is refused, or nodes differ; the current one must stay good.
    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()>;

    /// Only the pending one is accepted from now on. Sessions live on.
    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()>;

    /// Only the current one is accepted from now on, whatever was begun before.
    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()>;

    /// This one and nothing else lets in from now on: for every host, on every node, every other password goes, also one that
    /// nobody knows; where names take turns, the other user is locked. Sessions live on. Gives whether anything had to be
    /// changed.
    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool>;

    /// Where each credential is a thing by itself, which a server that was put back may not have any more: this one is made again, as
    /// the newest is that it has of those from before; and these go. Gives whether anything had to be changed.
    fn replaces(&self, _: &Credential, _before: &[&Credential], _: &Cancel) -> Result<bool> {
        Ok(false)
    }

    /// Where who lets in is a list that was put back: whoever has this name goes, of whom nothing else is known any more.
    fn forget(&self, _: &str, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// These two let in from now on, as [`accept_both`](Self::accept_both) leaves them, and nothing else that can be beside them.
    /// Whichever of them does already does so all the time: somebody may have no other. Gives whether anything had to be changed.
    fn both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<bool> {
        match (self.log_in(pair.current)?, self.log_in(pair.pending)?) {
            (Login::Accepted, Login::Accepted) => return Ok(false),
            (Login::Refused, Login::Refused) => drop(self.only(pair.current, cancel)?),
            (Login::Accepted, _) => {}
            (_, pending) => {
                self.accept_both(pair.turned(), cancel)?;
                if pending == Login::Accepted {
                    return Ok(true);
                }
            }
        }
        self.accept_both(pair, cancel).map(|()| true)
    }

    /// A restart of the server changes nothing of it. For engines that write by themselves, nothing is to be done.
    fn persist(&self, cancel: &Cancel) -> Result<()>;

    /// Whoever looks up what the pending one is worth has had the time to: nobody may be told that one before. Where it takes long,
    /// it ends with `TryLater`. Servers know at once.
    fn settle_before_publishing(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// Every consumer was moved, so nothing new begins with the current one; what goes on without a session has its time to pass. Where
    /// it takes long, it ends with `TryLater`. Of what has sessions, these tell. What was noted of it before the instant of the mark,
    /// where there is one, is of another rotation.
    fn drain_before_retiring(&self, _: Pair<'_>, _mark: Option<&str>, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// What the server is told outlives its restart at once. Otherwise it takes [`persist`](Self::persist), and what was seen
    /// before that may have been undone by a restart.
    fn writes_at_once(&self) -> bool {
        true
    }

    /// An instant in the server's own counting, to tell sessions from before it later.
    fn mark(&self, cancel: &Cancel) -> Result<String>;

    /// Sessions that may go back to the current credential: those of the account that are older than the mark, or all of the
    /// current user where names take turns.
    fn sessions_before(&self, pair: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<Session>>;

    fn end_session(&self, session: &Session, cancel: &Cancel) -> Result<()>;

    /// What [`sessions_before`](Self::sessions_before) is worth: an empty answer of a server that shows none says nothing.
    fn sight(&self, _: &Cancel) -> Result<Sight> {
        Ok(Sight::Shown)
    }

    /// What is to end when the current credential may be known to others, whatever it says that it is.
    fn sessions_to_end(&self, pair: Pair<'_>, mark: &str, cancel: &Cancel) -> Result<Vec<Session>> {
        self.sessions_before(pair, mark, cancel)
    }

    /// Sessions of the user of this credential alone, where names take turns, and older than the mark where the server tells: somebody
    /// may have begun one before the user was given it.
    fn sessions_of(&self, _: &Credential, _mark: &str, _: &Cancel) -> Result<Vec<Session>> {
        Ok(Vec::new())
    }

    /// What to lock users with from now on, the newest first: keys of bkp's own, which follow from no credential. By the others,
    /// what was locked before is known. Where a lock is a password, and nothing else.
    fn lock_with(&self, _: Vec<Secret>) {}

    /// The way that is gone has changed, or is gone on with: this one stays, and the other one goes. Whatever says that this one is
    /// about to go is taken back.
    fn stays(&self, _: &Credential, _goes: &Credential, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// The current one is lost in the moment in which the pending one is accepted: who logs in anew before it was moved is
    /// refused. Only where somebody has chosen that.
    fn has_gap(&self) -> bool {
        false
    }
}

/// Those that are named, else the server itself where it can be reached over the network.
pub(super) fn nodes_of(server: &Server, named: &[Node], port: u16) -> Result<Vec<Node>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    if let (Some(socket), None) = (&server.socket, &server.host) {
        let what = format!("the server at {} is only known by its socket", socket.display());
        return Err(Failure::usage(what).hint("Passwords are tried over the network: give `nodes: [HOST:PORT]`"));
    }
    let (host, port) = server.address(port)?;
    Ok(vec![Node { host, port }])
}

/// The accounts of a server, where this version can rotate them. `settings` log in as somebody who may change them; `nodes` are
/// tried besides the server itself. With `logins`, these two take turns.
pub fn accounts(
    settings: &Settings,
    account: &str,
    logins: Option<&[String; 2]>,
    nodes: &[Node],
) -> Option<Box<dyn Accounts>> {
    match settings {
        Settings::Mysql(settings) => {
            Some(Box::new(mysql::Rotation::new(settings.server.clone(), account.to_owned(), nodes.to_vec())))
        }
        Settings::Postgres(settings) => Some(Box::new(postgres::Rotation::new(
            settings.server.clone(),
            account.to_owned(),
            logins.cloned(),
            nodes.to_vec(),
        ))),
        Settings::Mongo(settings) => {
            Some(Box::new(mongo::Rotation::new(settings.clone(), account.to_owned(), logins.cloned(), nodes.to_vec())))
        }
        Settings::Redis(settings) => {
            Some(Box::new(redis::Rotation::new(settings.clone(), account.to_owned(), nodes.to_vec())))
        }
        // One line for each engine that can.
        Settings::Vault(_) | Settings::Sqlite(_) | Settings::Volume(_) | Settings::Command(_) => None,
    }
}

/// Whether two users can take turns there.
pub fn takes_turns(settings: &Settings) -> bool {
    matches!(settings, Settings::Postgres(_) | Settings::Mongo(_))
}

/// The same question before anything is opened, for the configuration.
pub fn has_accounts(settings: &Settings) -> bool {
    matches!(settings, Settings::Mysql(_) | Settings::Postgres(_) | Settings::Mongo(_) | Settings::Redis(_))
}
