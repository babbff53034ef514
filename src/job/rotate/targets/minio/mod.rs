//! Access keys of a user of MinIO: each rotation makes another one, and removes the one before.
//!
//! bkp itself chooses the name and the secret, so that both are durable before MinIO hears of them. The new key may do what the
//! old one may. The old one is switched off first, which can be taken back, and only removed when it is refused everywhere and
//! the new one still lets in.

pub mod admin;
pub mod envelope;
pub mod signed;
mod watch;

use super::Given;
use crate::clock;
use crate::engine::{Accounts, Credential, Login, Node, Pair, Session, Sight};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::rotate::http::Answer;
use crate::job::rotate::password;
use crate::job::rotate::seen::probe_until;
use crate::job::rotate::sessions::patience_of;
use crate::policy::{Alphabet, Minio, PasswordRule, Rotation};
use crate::secret::{Secret, SecretRef, Secrets};
use admin::{Admin, Known};
use reqwest::{Method, Url};
use serde_json::Value;
use signed::{Key, Signed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use watch::Span;

/// As long as those that MinIO makes.
const ID: usize = 20;
const SECRET: usize = 40;
/// There is no such access key.
const UNKNOWN: &str = "InvalidAccessKeyId";

pub struct AccessKeys<'e> {
    minio: Minio,
    rotation: String,
    /// Whose keys.
    user: String,
    admin: (String, SecretRef),
    secrets: &'e Secrets,
    nodes: Vec<Node>,
    urgent: bool,
    span: Span,
    /// The name of the key that is on its way out, once a rotation is gone on with.
    goes: Mutex<Option<String>>,
}

impl<'e> AccessKeys<'e> {
    pub fn new(
        minio: &Minio,
        rotation: &Rotation,
        admin: (String, SecretRef),
        secrets: &'e Secrets,
        given: &Given,
    ) -> Result<Self> {
        let url = Url::parse(&minio.endpoint).ok();
        let of_endpoint =
            url.and_then(|url| Some(Node { host: url.host_str()?.to_owned(), port: url.port_or_known_default()? }));
        let of_endpoint =
            of_endpoint.ok_or_else(|| Failure::usage(format!("{} is no address of a server", minio.endpoint)))?;
        let nodes = if rotation.nodes.is_empty() { vec![of_endpoint] } else { rotation.nodes.clone() };
        let span = Span { quiet: minio.quiet, patience: patience_of(rotation) };
        let (rotation, user) = (rotation.name.clone(), rotation.account.clone());
        let (urgent, goes) = (given.urgent, Mutex::default());
        Ok(AccessKeys { minio: minio.clone(), rotation, user, admin, secrets, nodes, urgent, span, goes })
    }

    fn admin(&self) -> Result<Admin<'_>> {
        let (id, secret) = &self.admin;
        Ok(Admin { minio: &self.minio, id, secret: self.secrets.read(secret)? })
    }

    fn goes(&self) -> MutexGuard<'_, Option<String>> {
        self.goes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listing the bucket at that node.
    fn listing(&self, node: &Node) -> Result<Url> {
        let scheme = if self.minio.endpoint.starts_with("https:") { "https" } else { "http" };
        let host = if node.host.contains(':') && !node.host.starts_with('[') {
            format!("[{}]", node.host)
        } else {
            node.host.clone()
        };
        let text = format!("{scheme}://{host}:{}/{}", node.port, self.minio.bucket);
        Url::parse_with_params(&text, &[("list-type", "2"), ("max-keys", "1")])
            .map_err(|_| Failure::usage(format!("{node} is no address of a server")))
    }

    fn list(&self, key: Key<'_>, node: &Node) -> Result<Answer> {
        Signed { minio: &self.minio, key }.send(&Method::GET, &self.listing(node)?, Vec::new())
    }

    /// A node that is starting says of every key that there is none: what it says counts when it knows that of the administrator.
    fn try_to_list(&self, credential: &Credential, node: &Node) -> Result<Login> {
        let key = key_of(credential)?;
        let mut answer = self.list(key, node)?;
        if is_unknown(&answer) {
            if is_unknown(&self.list(self.admin()?.key(), node)?) {
                return Ok(Login::Unknown(format!("{node} knows no access key, not that of `admin` either")));
            }
            answer = self.list(key, node)?;
        }
        Ok(match answer {
            Answer::Done(_) => Login::Accepted,
            Answer::Refused(_, code) if code == UNKNOWN || code == "SignatureDoesNotMatch" => Login::Refused,
            Answer::Refused(_, code) if code == "AccessDenied" => Login::Unknown(format!(
                "{node} does not let the access key list the bucket {}: give its user a policy that does",
                self.minio.bucket
            )),
            Answer::Refused(_, why) | Answer::Away(why) => Login::Unknown(format!("{node}: {why}")),
        })
    }

    fn not_everywhere<const N: usize>(&self, logins: [Login; N]) -> Failure {
        let why = logins.into_iter().find_map(|login| match login {
            Login::Unknown(why) => Some(why),
            _ => None,
        });
        let text = format!("{} is switched off, and not yet seen to be refused everywhere", self.describe());
        Failure::new(Kind::TryLater, text).because(why.unwrap_or_else(|| "a node still lets it in".into()))
    }

    /// One of this user, and of nobody else.
    fn owned(&self, admin: &Admin<'_>, id: &str) -> Result<Option<Known>> {
        // Of what is no access key, MinIO tells nobody anything.
        if admin.names_of(&self.user)?.iter().any(|known| known == id) { admin.find(id) } else { Ok(None) }
    }
}

impl Accounts for AccessKeys<'_> {
    fn describe(&self) -> String {
        format!("the access key of {} on MinIO at {}", self.user, self.minio.endpoint)
    }

    fn preflight(&self, current: &Credential, _: &Cancel) -> Result<Vec<String>> {
        let admin = self.admin()?;
        let id = key_of(current)?.id;
        if id == admin.id {
            return Err(Failure::new(Kind::Refused, "`admin` signs with the key that is to be replaced")
                .hint("Give `admin` an access key of another user"));
        }
        let Some(known) = self.owned(&admin, id)? else {
            let text = format!(
                "what is published is no access key of {} that could be removed: it is one of somebody else, or the user itself",
                self.user
            );
            return Err(Failure::new(Kind::Refused, text).hint(
                "Make an access key for the user, and give that to its consumers first: mc admin accesskey create ALIAS USER",
            ));
        };
        let mut notes = Vec::new();
        if let Some(expiration) = known.expiration.filter(|text| !text.starts_with("1970") && !text.starts_with("0001"))
        {
            notes.push(format!("the access key expires at {expiration}; the new one does not"));
        }
        if !watch::may_watch(&admin)? {
            notes.push(format!(
                "{} may not watch requests (admin:ServerTrace): who still signs with the old key when it is retired is not seen",
                admin.id
            ));
        }
        Ok(notes)
    }

    fn mint(&self) -> Result<Option<Credential>> {
        let rule = |length| PasswordRule { length, alphabet: Alphabet::Alphanumeric };
        let id = password::generate(rule(SECRET))?.expose().to_uppercase();
        Ok(Some(Credential { user: Some(id[..ID].to_owned()), secret: password::generate(rule(SECRET))? }))
    }

    fn save(&self, _: &Cancel) -> Result<Secret> {
        let all = self.admin()?.all_of(&self.user)?;
        Ok(Secret::new(serde_json::to_string_pretty::<Value>(&all).unwrap_or_default()))
    }

    fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.nodes.clone())
    }

    fn probe(&self, credential: &Credential, node: &Node) -> Login {
        self.try_to_list(credential, node).unwrap_or_else(|failure| Login::Unknown(failure.full()))
    }

    /// Each goes by what it remembers, and can be told again.
    fn together(&self, logins: Vec<Login>) -> Login {
        Login::of_each(logins)
    }

    /// Nodes that differ are told again what they should know, the old key as it is.
    fn accept_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let admin = self.admin()?;
        let (pending, old) = (key_of(pair.pending)?, key_of(pair.current)?.id);
        let known = self.owned(&admin, old)?;
        if self.owned(&admin, pending.id)?.is_some() {
            cancel.check()?;
            admin.set(pending)?;
            return known.map_or(Ok(()), |known| admin.tell_again(old, &known));
        }
        let like = known.ok_or_else(|| {
            let text = "the old access key is gone, and with it what the new one should be allowed to do";
            Failure::new(Kind::Refused, text).hint("Make an access key by hand, and publish that")
        })?;
        cancel.check()?;
        admin.add(pending, &like)
    }

    fn retire(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let admin = self.admin()?;
        let old = key_of(pair.current)?.id;
        let Some(known) = self.owned(&admin, old)? else { return Ok(()) };
        cancel.check()?;
        admin.retire(old, &known, &self.rotation)?;
        let old_login = probe_until(self, pair.current, &Login::Refused, cancel)?;
        let new_login = probe_until(self, pair.pending, &Login::Accepted, cancel)?;
        match (old_login, new_login) {
            (Login::Refused, Login::Accepted) => cancel.check().and_then(|()| admin.remove(old)),
            (_, Login::Refused) => {
                admin.take_back(old, &known)?;
                Err(Failure::failed(
                    "without the old access key the new one is refused: the old one is switched on again",
                )
                .hint("Look at the user and its keys: mc admin accesskey list ALIAS USER"))
            }
            (old, new) => Err(self.not_everywhere([old, new])),
        }
    }

    /// What is removed is told to no node again, and one that was away would go on with it: so it is switched off before.
    fn undo(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<()> {
        let admin = self.admin()?;
        let old = key_of(pair.current)?.id;
        if let Some(known) = self.owned(&admin, old)?.filter(Known::is_off) {
            cancel.check()?;
            admin.take_back(old, &known)?;
        }
        let pending = key_of(pair.pending)?.id;
        let Some(known) = self.owned(&admin, pending)? else { return Ok(()) };
        cancel.check()?;
        admin.retire(pending, &known, &self.rotation)?;
        match probe_until(self, pair.pending, &Login::Refused, cancel)? {
            Login::Refused => cancel.check().and_then(|()| admin.remove(pending)),
            login => Err(self.not_everywhere([login])),
        }
    }

    /// Other keys of the user are other people's: each is a rotation of its own.
    fn only(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let admin = self.admin()?;
        let retired = admin.retired_of(&self.user, &self.rotation)?;
        cancel.check()?;
        retired.iter().try_for_each(|id| admin.remove(id))?;
        let key = key_of(credential)?;
        match self.owned(&admin, key.id)? {
            Some(_) if self.log_in(credential)? == Login::Accepted => Ok(!retired.is_empty()),
            Some(_) => cancel.check().and_then(|()| admin.set(key)).map(|()| true),
            None => Err(Failure::new(Kind::Refused, "MinIO has no access key of the name that is published")
                .hint("Make one by hand for the user, with the name and the secret that are published; or publish another one that its consumers have")),
        }
    }

    /// What the newest of them may do, this one may. Of those that go, nobody may sign with any.
    fn replaces(&self, credential: &Credential, before: &[&Credential], cancel: &Cancel) -> Result<bool> {
        let admin = self.admin()?;
        let mut there = Vec::new();
        for old in before {
            let id = key_of(old)?.id;
            there.extend(self.owned(&admin, id)?.filter(|_| id != admin.id).map(|known| (*old, known)));
        }
        let Some((_, like)) = there.first() else { return Ok(false) };
        let key = key_of(credential)?;
        cancel.check()?;
        match self.owned(&admin, key.id)? {
            None => admin.add(key, like)?,
            Some(_) if self.log_in(credential)? == Login::Refused => admin.set(key)?,
            Some(_) => {}
        }
        // Whoever has one of these has no other: they go when this one lets in.
        if probe_until(self, credential, &Login::Accepted, cancel)? != Login::Accepted {
            return Ok(true);
        }
        if there.iter().any(|(_, known)| !known.is_off()) && !watch::may_watch(&admin)? {
            let what = format!(
                "whether anybody signs with a key from before is not seen: {} may not watch requests",
                admin.id
            );
            return Err(Failure::new(Kind::Refused, what).hint(
                "Both let in. Allow it admin:ServerTrace, or remove the keys from before by hand; then: bkp rotate reapply NAME",
            ));
        }
        for (old, known) in &there {
            let id = key_of(old)?.id;
            let pair = Pair { current: old, pending: credential };
            let signs = if known.is_off() { Vec::new() } else { self.sessions_before(pair, "", cancel)? };
            if let Some(session) = signs.first() {
                let what = format!("{} signs with the access key {id}, which was published before", session.client);
                return Err(Failure::new(Kind::Refused, what).hint(
                    "Both let in. Give it the one that is published, or remove that key by hand; then: bkp rotate reapply NAME",
                ));
            }
            cancel.check()?;
            admin.remove(id)?;
        }
        Ok(true)
    }

    /// Nothing is forgotten in a restart. What was only switched off, because its process died then, is removed.
    fn persist(&self, cancel: &Cancel) -> Result<()> {
        let admin = self.admin()?;
        let retired = admin.retired_of(&self.user, &self.rotation)?;
        cancel.check()?;
        retired.iter().try_for_each(|id| admin.remove(id))?;
        // Those that an older version switched off do not say which rotation they are of.
        let Some(id) = self.goes().clone() else { return Ok(()) };
        match self.owned(&admin, &id)?.is_some_and(|known| known.is_retired()) {
            true => admin.remove(&id),
            false => Ok(()),
        }
    }

    fn stays(&self, _: &Credential, goes: &Credential, _: &Cancel) -> Result<()> {
        *self.goes() = Some(key_of(goes)?.id.to_owned());
        Ok(())
    }

    /// Whoever signs with the old key tells its name: no instant is needed.
    fn mark(&self, _: &Cancel) -> Result<String> {
        Ok(clock::now().to_string())
    }

    fn sessions_before(&self, pair: Pair<'_>, _: &str, cancel: &Cancel) -> Result<Vec<Session>> {
        if self.urgent {
            return Ok(Vec::new());
        }
        let admin = self.admin()?;
        if !watch::may_watch(&admin)? {
            return Ok(Vec::new());
        }
        let places: Result<Vec<Url>> = self.nodes.iter().map(|node| self.listing(node)).collect();
        let own = watch::Own::new(key_of(pair.pending)?, places?);
        watch::who_signs(&admin, key_of(pair.current)?.id, own, self.span, cancel)
    }

    fn sight(&self, _: &Cancel) -> Result<Sight> {
        if self.urgent {
            return Ok(Sight::Passed("each request is a login of its own: there is no session to end".into()));
        }
        let admin = self.admin()?;
        Ok(match watch::may_watch(&admin)? {
            true => Sight::Shown,
            false => Sight::Hidden(format!("{} may not watch requests (admin:ServerTrace)", admin.id)),
        })
    }

    /// Each request stands for itself. The old key may be there with another secret, which somebody gave it.
    fn sessions_to_end(&self, pair: Pair<'_>, _: &str, _: &Cancel) -> Result<Vec<Session>> {
        let old = key_of(pair.current)?.id;
        let left = self.owned(&self.admin()?, old)?;
        Ok(left.map(|_| Session { id: old.to_owned(), client: format!("the access key {old}") }).into_iter().collect())
    }

    fn end_session(&self, session: &Session, _: &Cancel) -> Result<()> {
        let admin = self.admin()?;
        if let Some(known) = admin.find(&session.id)? {
            admin.retire(&session.id, &known, &self.rotation)?;
        }
        admin.remove(&session.id)
    }
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(_, code) if code == UNKNOWN)
}

fn key_of(credential: &Credential) -> Result<Key<'_>> {
    let id = credential.user.as_deref().ok_or_else(|| Failure::usage("nothing says which access key it is"))?;
    Ok(Key { id, secret: credential })
}
