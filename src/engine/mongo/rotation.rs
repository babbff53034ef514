//! Passwords of MongoDB, which knows one for each user: two users with the same roles take turns, so that nobody is without one. A
//! single user is changed where somebody has accepted the gap.
//!
//! Whose turn comes is made anew, with the roles that the other one has; whose turn is over gets a password that nobody knows,
//! and is dropped when its next turn comes. Writes are acknowledged by a majority. Users are those of the source's `auth_database`.

use super::session::{Session, log_in};
use super::{Settings, extended_json};
use crate::durable::random_hex;
use crate::engine::accounts as rotation;
use crate::engine::{Accounts, Credential, Login, Node, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use bson::{Bson, Document, doc};

const PORT: u16 = 27017;
/// For how long a majority is waited for, in milliseconds.
const MAJORITY: i32 = 60_000;
/// Length of a password that nobody is to know, in random bytes.
const NOBODYS: usize = 32;

pub struct Rotation {
    settings: Settings,
    account: String,
    logins: Option<[String; 2]>,
    nodes: Vec<Node>,
}

impl Rotation {
    pub fn new(settings: Settings, account: String, logins: Option<[String; 2]>, nodes: Vec<Node>) -> Self {
        Rotation { settings, account, logins, nodes }
    }

    fn user<'c>(&'c self, credential: &'c Credential) -> &'c str {
        credential.user.as_deref().unwrap_or(&self.account)
    }

    fn database(&self) -> &str {
        self.settings.auth_database.as_deref().unwrap_or("admin")
    }

    /// The user as the server shows it; `None` where there is none.
    fn find(&self, session: &Session<'_>, user: &str) -> Result<Option<Document>> {
        let question = doc! { "usersInfo": { "user": user, "db": self.database() } };
        let answer = session.command(self.database(), question)?;
        let users = answer.get_array("users").map(Vec::as_slice).unwrap_or_default();
        Ok(users.iter().filter_map(Bson::as_document).find(|found| is(found, "user", user)).cloned())
    }

    fn roles(&self, session: &Session<'_>, user: &str) -> Result<Vec<Bson>> {
        let Some(found) = self.find(session, user)? else {
            let (at, database) = (session.location(), self.database());
            return Err(Failure::new(Kind::Key, format!("there is no user {user} in {database} at {at}"))
                .hint("Correct what is published, `account` or `logins`; users are looked for in `auth_database`"));
        };
        let roles = found.get_array("roles").cloned().unwrap_or_default();
        // Servers add more to a role than they take back.
        let plain = |role: &Bson| {
            let role = role.as_document()?;
            Some(Bson::Document(doc! { "role": role.get_str("role").ok()?, "db": role.get_str("db").ok()? }))
        };
        Ok(roles.iter().filter_map(plain).collect())
    }

    /// A command about one user, which a majority has when this returns.
    fn change(&self, session: &Session<'_>, mut command: Document) -> Result<()> {
        command.insert("writeConcern", doc! { "w": "majority", "wtimeout": MAJORITY });
        session.command(self.database(), command).map(drop).map_err(|failure| match failure.next_step() {
            Some(_) => failure,
            None => failure.hint("Who changes it needs the role userAdmin of the database that has the users"),
        })
    }

    /// From now on with a password that nobody knows.
    fn lock(&self, user: &str, cancel: &Cancel) -> Result<()> {
        let session = Session::open(&self.settings, cancel)?;
        match self.find(&session, user)? {
            Some(_) => self.change(&session, doc! { "updateUser": user, "pwd": random_hex(NOBODYS) }),
            None => Ok(()),
        }
    }
}

/// Everything that the server is at, sessions without work included; nothing where it does not say.
fn in_progress(session: &Session<'_>) -> Result<Vec<Bson>> {
    let answer = session.attempt("admin", doc! { "currentOp": 1, "$all": true })?;
    Ok(answer.ok().and_then(|answer| answer.get_array("inprog").ok().cloned()).unwrap_or_default())
}

fn is(document: &Document, field: &str, text: &str) -> bool {
    document.get_str(field).is_ok_and(|there| there == text)
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
        let session = Session::open(&self.settings, cancel)?;
        let user = self.user(current);
        let mut notes = Vec::new();
        if self.roles(&session, user)?.is_empty() {
            notes.push(format!("{user} has no roles, and neither will the other one"));
        }
        let has_user = |one: &Bson| one.as_document().is_some_and(|one| one.contains_key("effectiveUsers"));
        if self.logins.is_some() && !in_progress(&session)?.iter().any(has_user) {
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
            if self.find(&session, other)?.is_some() {
                notes.push(format!("{other}, whose turn comes, is dropped and made anew with the roles of {user}"));
            }
        }
        Ok(notes)
    }

    /// As the commands `createUser` would take them, but for the credentials, which only some servers show.
    fn save(&self, cancel: &Cancel) -> Result<Secret> {
        let session = Session::open(&self.settings, cancel)?;
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
        let session = Session::open(&self.settings, cancel)?;
        let (current, pending) = (self.user(pair.current), self.user(pair.pending));
        let password = pair.pending.expose();
        if self.logins.is_none() {
            return self.change(&session, doc! { "updateUser": current, "pwd": password });
        }
        let roles = self.roles(&session, current)?;
        if self.find(&session, pending)?.is_some() {
            self.change(&session, doc! { "dropUser": pending })?;
        }
        self.change(&session, doc! { "createUser": pending, "pwd": password, "roles": roles })
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

    /// Whether the other user was locked already is not to be seen: that is done again, and counts for nothing.
    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let own = self.user(credential);
        let others = || self.logins.iter().flatten().filter(|login| *login != own);
        let is_open = self.log_in(credential)? == Login::Accepted;
        if !is_open {
            let session = Session::open(&self.settings, cancel)?;
            let password = credential.expose();
            match (self.find(&session, own)?, others().next()) {
                (None, Some(other)) => {
                    let roles = self.roles(&session, other)?;
                    self.change(&session, doc! { "createUser": own, "pwd": password, "roles": roles })?;
                }
                _ => self.change(&session, doc! { "updateUser": own, "pwd": password })?,
            }
        }
        others().try_for_each(|other| self.lock(other, cancel))?;
        Ok(!is_open)
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
        let session = Session::open(&self.settings, cancel)?;
        let listed = in_progress(&session)?;
        let user = self.user(pair.current);
        let one = |listed: &Bson| {
            let listed = listed.as_document()?;
            let mut users = listed.get_array("effectiveUsers").ok()?.iter().filter_map(Bson::as_document);
            users.find(|one| is(one, "user", user) && is(one, "db", self.database()))?;
            let client = listed.get_str("client").unwrap_or("somewhere").to_owned();
            Some(rotation::Session { id: listed.get("opid").map(ToString::to_string).unwrap_or_default(), client })
        };
        Ok(listed.iter().filter_map(one).collect())
    }

    /// What it is at ends; the server closes no session that is idle.
    fn end_session(&self, session: &rotation::Session, cancel: &Cancel) -> Result<()> {
        let Ok(number) = session.id.parse::<i64>() else { return Ok(()) };
        let server = Session::open(&self.settings, cancel)?;
        server.attempt("admin", doc! { "killOp": 1, "op": number }).map(drop)
    }

    fn has_gap(&self) -> bool {
        self.logins.is_none()
    }
}
