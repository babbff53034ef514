//! Passwords of MongoDB, which knows one for each user: two users with the same roles take turns, so that nobody is without one. A
//! single user is changed where somebody has accepted the gap.
//!
//! Whose turn comes must be like the other one and used by nobody, or is made as the other one is; whose turn is over gets a
//! password that nobody else knows ([`turns`](super::turns)). Writes are acknowledged by a majority. Users are those of the source's `auth_database`.

use super::session::{Session, log_in};
use super::turns::{Definition, tells_users};
use super::{Settings, extended_json};
use crate::engine::accounts as rotation;
use crate::engine::{Accounts, Credential, Login, Node, Pair, Sight};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use bson::{Bson, Document, doc};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PORT: u16 = 27017;
/// For how long a majority is waited for, in milliseconds.
const MAJORITY: i32 = 60_000;

pub struct Rotation {
    pub(super) settings: Settings,
    account: String,
    logins: Option<[String; 2]>,
    nodes: Vec<Node>,
    /// What users are locked with, the newest first.
    locks: Mutex<Vec<Secret>>,
}

impl Rotation {
    pub fn new(settings: Settings, account: String, logins: Option<[String; 2]>, nodes: Vec<Node>) -> Self {
        Rotation { settings, account, logins, nodes, locks: Mutex::default() }
    }

    fn user<'c>(&'c self, credential: &'c Credential) -> &'c str {
        credential.user.as_deref().unwrap_or(&self.account)
    }

    pub(super) fn locks(&self) -> MutexGuard<'_, Vec<Secret>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn database(&self) -> &str {
        self.settings.auth_database.as_deref().unwrap_or("admin")
    }

    /// Those that were named, or that of the source.
    pub(super) fn servers(&self) -> Vec<Option<&Node>> {
        if self.nodes.is_empty() { vec![None] } else { self.nodes.iter().map(Some).collect() }
    }

    pub(super) fn open<'a>(&self, node: Option<&Node>, cancel: &'a Cancel) -> Result<Session<'a>> {
        Session::open_at(&self.settings, node, cancel).map_err(away)
    }

    /// The user as the server shows it; `None` where there is none.
    pub(super) fn find(&self, session: &Session<'_>, user: &str) -> Result<Option<Document>> {
        let mut question = doc! { "usersInfo": { "user": user, "db": self.database() } };
        let plain = question.clone();
        question.insert("showAuthenticationRestrictions", true);
        let answer = match session.attempt(self.database(), question)? {
            Ok(answer) => answer,
            // Not every server has them.
            Err(_) => session.command(self.database(), plain)?,
        };
        let users = answer.get_array("users").map(Vec::as_slice).unwrap_or_default();
        let is_it = |found: &&Document| found.get_str("user").is_ok_and(|there| there == user);
        Ok(users.iter().filter_map(Bson::as_document).find(is_it).cloned())
    }

    /// A command about one user, which a majority has when this returns.
    pub(super) fn change(&self, session: &Session<'_>, mut command: Document) -> Result<()> {
        command.insert("writeConcern", doc! { "w": "majority", "wtimeout": MAJORITY });
        session.command(self.database(), command).map(drop).map_err(|failure| match failure.next_step() {
            Some(_) => failure,
            None => failure.hint("Who changes it needs the role userAdmin of the database that has the users"),
        })
    }
}

/// A server that does not answer comes back, and then it is gone on with.
pub(super) fn away(failure: Failure) -> Failure {
    match failure.kind() {
        Kind::Failed => {
            let next = failure.next_step().unwrap_or("Go on when it is");
            Failure::new(Kind::TryLater, failure.full()).hint(format!("Is it running? {next}"))
        }
        _ => failure,
    }
}

impl Accounts for Rotation {
    fn describe(&self) -> String {
        let location = self.settings.server.location();
        match &self.logins {
            Some([one, other]) => format!("{one} and {other} by turns at {location}"),
            None => format!("{} at {location}", self.account),
        }
    }

    fn preflight(&self, current: &Credential, cancel: &Cancel) -> Result<Vec<String>> {
        let session = self.open(None, cancel)?;
        let user = self.user(current);
        let mut notes = Vec::new();
        if self.definition(&session, user)?.has_no_roles() {
            notes.push(format!("{user} has no roles, and neither will the other one"));
        }
        if self.logins.is_some() && !self.in_progress(cancel)?.iter().all(|listed| tells_users(listed)) {
            notes.push(
                "the server does not say who is there: that everybody was moved is only known by the checks".to_owned(),
            );
        }
        let Some(logins) = &self.logins else {
            notes.push(format!(
                "{user} has one password: from its change until a consumer was moved, that one is refused when it logs in anew. \
                 With `logins`, two users take turns and nobody is"
            ));
            return Ok(notes);
        };
        for other in logins.iter().filter(|login| *login != user) {
            self.may_have_its_turn(&session, user, other, cancel)?;
        }
        Ok(notes)
    }

    /// As the commands `createUser` would take them, but for the credentials, which only some servers show.
    fn save(&self, cancel: &Cancel) -> Result<Secret> {
        let session = self.open(None, cancel)?;
        let names = match &self.logins {
            Some(logins) => logins.to_vec(),
            None => vec![self.account.clone()],
        };
        let mut lines = Vec::new();
        for name in names {
            let with_credentials =
                doc! { "usersInfo": { "user": &name, "db": self.database() }, "showCredentials": true };
            let shown = session.attempt(self.database(), with_credentials)?.ok();
            let shown = shown.and_then(|answer| answer.get_array("users").ok()?.first()?.as_document().cloned());
            let found = match shown {
                Some(found) => Some(found),
                None => self.find(&session, &name)?,
            };
            lines.extend(found.as_ref().map(extended_json::canonical));
        }
        Ok(Secret::new(lines.join("\n")))
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        rotation::nodes_of(&self.settings.server, &self.nodes, PORT)
    }

    fn probe(&self, credential: &Credential, node: &Node) -> Login {
        let user = self.user(credential);
        match log_in(&self.settings, node, user, credential) {
            Ok(true) => Login::Accepted,
            Ok(false) => Login::Refused,
            Err(failure) => Login::Unknown(format!("{node} cannot be asked as {user}: {}", failure.full())),
        }
    }

    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let session = self.open(None, cancel)?;
        let (current, pending) = (self.user(pair.current), self.user(pair.pending));
        let password = pair.pending.expose();
        if self.logins.is_none() {
            return self.change(&session, doc! { "updateUser": current, "pwd": password });
        }
        let definition = self.definition(&session, current)?;
        let Some(found) = self.find(&session, pending)? else {
            return self.change(&session, definition.creation(pending, pair.pending));
        };
        definition.must_be_that_of((current, pending), &Definition::of(&found))?;
        self.change(&session, doc! { "updateUser": pending, "pwd": password })
    }

    /// Of one user, the old password went with the new one.
    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        match &self.logins {
            Some(_) => self.lock(self.user(pair.current), cancel),
            None => Ok(()),
        }
    }

    /// Of one user, the pending password never came: otherwise there is no way back.
    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        match &self.logins {
            Some(_) => self.lock(self.user(pair.pending), cancel),
            None => Ok(()),
        }
    }

    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let own = self.user(credential);
        let others = || self.logins.iter().flatten().filter(|login| *login != own);
        let mut changed = self.log_in(credential)? != Login::Accepted;
        let session = self.open(None, cancel)?;
        if changed {
            let change = match (self.find(&session, own)?, others().next()) {
                (None, Some(other)) => self.definition(&session, other)?.creation(own, credential),
                _ => doc! { "updateUser": own, "pwd": credential.expose() },
            };
            self.change(&session, change)?;
        }
        for other in others() {
            if self.find(&session, other)?.is_some() && !self.is_locked(other)? {
                self.lock(other, cancel)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn persist(&self, _: &Cancel) -> Result<()> {
        Ok(())
    }

    /// Sessions are told by their user.
    fn mark(&self, _: &Cancel) -> Result<String> {
        Ok("by user".to_owned())
    }

    /// Where the server says who is there; a server that does not shows none.
    fn sessions_before(&self, pair: Pair<'_>, _: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        if self.logins.is_none() {
            return Ok(Vec::new());
        }
        self.who_is_there(self.user(pair.current), cancel)
    }

    /// How old each is, the server does not tell.
    fn sessions_of(&self, credential: &Credential, _: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        match &self.logins {
            Some(_) => self.who_is_there(self.user(credential), cancel),
            None => Ok(Vec::new()),
        }
    }

    fn sight(&self, cancel: &Cancel) -> Result<Sight> {
        if self.logins.is_none() {
            return Ok(Sight::Hidden("a session does not tell which password it began with".into()));
        }
        let each = self.in_progress(cancel)?;
        Ok(match each.iter().all(|listed| tells_users(listed)) {
            true => Sight::Shown,
            false => Sight::Hidden("the server does not say who is there".into()),
        })
    }

    /// What it is at ends; the server closes no session that is idle.
    fn end_session(&self, session: &rotation::Session, cancel: &Cancel) -> Result<()> {
        let (number, at) = session.id.split_once('@').unwrap_or_default();
        let (Ok(number), Ok(at)) = (number.parse::<i64>(), at.parse::<usize>()) else { return Ok(()) };
        let node = self.servers().get(at).copied().flatten();
        let server = self.open(node, cancel)?;
        server.attempt("admin", doc! { "killOp": 1, "op": number }).map(drop)
    }

    fn lock_with(&self, keys: Vec<Secret>) {
        *self.locks() = keys;
    }

    fn has_gap(&self) -> bool {
        self.logins.is_none()
    }
}
