//! Two users that take turns: whether one is as good as the other, and whether somebody still uses the one whose turn it is not.
//!
//! Whose turn is over gets a password that follows from a key of bkp's own, a new one for each rotation, which is with its document
//! in Vault. That it still lets in is how bkp tells, before the next turn and on any host, that nobody else has given the user
//! another one.

use super::rotation::{Rotation, away};
use super::session::{Session, log_in};
use crate::durable::random_hex;
use crate::engine::Accounts;
use crate::engine::accounts as rotation;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use bson::{Bson, Document, doc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::BTreeSet;

/// Length of a password that nobody is to know, in random bytes.
const NOBODYS: usize = 32;

impl Rotation {
    /// Whether `other` may get a new password, and be used in place of `user`.
    pub(super) fn may_have_its_turn(
        &self,
        session: &Session<'_>,
        user: &str,
        other: &str,
        cancel: &Cancel,
    ) -> Result<()> {
        let current = self.definition(session, user)?;
        let Some(found) = self.find(session, other)? else { return current.can_be_made(other) };
        current.must_be_that_of((user, other), &Definition::of(&found))?;
        let there = self.who_is_there(other, cancel)?;
        if !there.is_empty() {
            let clients: Vec<&str> = there.iter().map(|session| session.client.as_str()).collect();
            let what = format!(
                "somebody is logged in as {other}, which is about to get a new password: {}",
                clients.join(", ")
            );
            return Err(Failure::new(Kind::Refused, what).hint(format!("Move them to {user} first")));
        }
        if self.is_locked(other)? || self.was_locked_before(other)? {
            return Ok(());
        }
        let what = format!("{other} has a password that bkp did not set: somebody may use it");
        Err(Failure::new(Kind::Refused, what).hint(format!(
            "Look first whether another host has a rotation under way (bkp rotate status there). When nobody uses {other}: db.getSiblingDB('{}').dropUser('{other}'), and it is made anew as {user} is; or, where Vault came back from an older state: bkp rotate reapply NAME, which locks it",
            self.database()
        )))
    }

    pub(super) fn definition(&self, session: &Session<'_>, user: &str) -> Result<Definition> {
        if let Some(found) = self.find(session, user)? {
            return Ok(Definition::of(&found));
        }
        let (at, database) = (session.location(), self.database());
        Err(Failure::new(Kind::Key, format!("there is no user {user} in {database} at {at}"))
            .hint("Correct what is published, `account` or `logins`; users are looked for in `auth_database`"))
    }

    /// Nobody logs in as this one any more, where there is one. Its roles stay, for sessions that it may still have.
    pub(super) fn lock(&self, user: &str, cancel: &Cancel) -> Result<()> {
        let session = self.open(None, cancel)?;
        if self.find(&session, user)?.is_none() {
            return Ok(());
        }
        let key = self.locks().first().cloned();
        let password =
            key.map_or_else(|| Secret::new(random_hex(NOBODYS)), |key| lock_of(&key, (user, self.database())));
        self.change(&session, doc! { "updateUser": user, "pwd": password.expose() })
    }

    /// By bkp, and as it was left since.
    pub(super) fn is_locked(&self, user: &str) -> Result<bool> {
        let keys = self.locks().clone();
        self.is_locked_with(user, &keys)
    }

    /// By a bkp whose locks followed from the password of who changes accounts. It is known, so that its turn comes, and never used:
    /// whoever had that password once could log in.
    fn was_locked_before(&self, user: &str) -> Result<bool> {
        let password = self.settings.server.password()?;
        self.is_locked_with(user, password.as_slice())
    }

    fn is_locked_with(&self, user: &str, keys: &[Secret]) -> Result<bool> {
        let nodes = self.nodes()?;
        let Some(node) = nodes.first() else { return Ok(false) };
        for key in keys {
            if log_in(&self.settings, node, user, &lock_of(key, (user, self.database()))).map_err(away)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sessions of the user at each server that was named, or at that of the source; none where a server does not tell.
    pub(super) fn who_is_there(&self, user: &str, cancel: &Cancel) -> Result<Vec<rotation::Session>> {
        let of_each = self.in_progress(cancel)?.into_iter().enumerate();
        Ok(of_each.flat_map(|(number, listed)| sessions(&listed, (user, self.database()), number)).collect())
    }

    /// Everything that each server is at, sessions without work included; nothing where it does not say.
    pub(super) fn in_progress(&self, cancel: &Cancel) -> Result<Vec<Vec<Bson>>> {
        let each = self.servers();
        let listed = each.into_iter().map(|node| {
            let session = self.open(node, cancel)?;
            let answer = session.attempt("admin", doc! { "currentOp": 1, "$all": true })?;
            Ok(answer.ok().and_then(|answer| answer.get_array("inprog").ok().cloned()).unwrap_or_default())
        });
        listed.collect()
    }
}

fn lock_of(key: &Secret, (user, database): (&str, &str)) -> Secret {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("locked: {database}.{user}").as_bytes());
    Secret::new(hex::encode(mac.finalize().into_bytes()))
}

/// Whether the server says whose each session is.
pub(super) fn tells_users(listed: &[Bson]) -> bool {
    listed.iter().any(|one| one.as_document().is_some_and(|one| one.contains_key("effectiveUsers")))
}

fn sessions(listed: &[Bson], (user, database): (&str, &str), number: usize) -> Vec<rotation::Session> {
    let is = |document: &Document, field: &str, text: &str| document.get_str(field).is_ok_and(|there| there == text);
    let one = |listed: &Bson| {
        let listed = listed.as_document()?;
        let mut users = listed.get_array("effectiveUsers").ok()?.iter().filter_map(Bson::as_document);
        users.find(|one| is(one, "user", user) && is(one, "db", database))?;
        let client = listed.get_str("client").unwrap_or("somewhere").to_owned();
        let operation = listed.get("opid").map(ToString::to_string).unwrap_or_default();
        Some(rotation::Session { id: format!("{operation}@{number}"), client })
    };
    listed.iter().filter_map(one).collect()
}

/// What a user may do, and all else that it has besides its name and password.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Definition {
    roles: BTreeSet<(String, String)>,
    custom: Document,
    restrictions: Vec<Bson>,
}

impl Definition {
    /// Servers add more to a role than they take back.
    pub(super) fn of(found: &Document) -> Self {
        let role = |role: &Bson| {
            let role = role.as_document()?;
            Some((role.get_str("role").ok()?.to_owned(), role.get_str("db").ok()?.to_owned()))
        };
        Definition {
            roles: found.get_array("roles").map(|roles| roles.iter().filter_map(role).collect()).unwrap_or_default(),
            custom: found.get_document("customData").cloned().unwrap_or_default(),
            restrictions: found.get_array("authenticationRestrictions").cloned().unwrap_or_default(),
        }
    }

    pub(super) fn has_no_roles(&self) -> bool {
        self.roles.is_empty()
    }

    /// The command that makes another user like this one.
    pub(super) fn creation(&self, user: &str, password: &Secret) -> Document {
        let role = |(role, database): &(String, String)| doc! { "role": role, "db": database };
        let roles: Vec<Document> = self.roles.iter().map(role).collect();
        let mut command = doc! { "createUser": user, "pwd": password.expose(), "roles": roles };
        if !self.custom.is_empty() {
            command.insert("customData", self.custom.clone());
        }
        command
    }

    /// A user with restrictions is made by whoever knows what they are good for.
    pub(super) fn can_be_made(&self, other: &str) -> Result<()> {
        if self.restrictions.is_empty() {
            return Ok(());
        }
        let what =
            format!("{other} does not exist, and is to have the same authenticationRestrictions as the other one");
        Err(Failure::new(Kind::Refused, what).hint("Make it by hand, with a password that nobody keeps, and drop none"))
    }

    /// Who takes over must be able to do the same, and nothing that it has is to be lost.
    pub(super) fn must_be_that_of(&self, (user, other): (&str, &str), there: &Definition) -> Result<()> {
        let compared = [
            ("roles", self.roles == there.roles),
            ("customData", self.custom == there.custom),
            ("authenticationRestrictions", self.restrictions == there.restrictions),
        ];
        let Some((differs, _)) = compared.into_iter().find(|(_, is_same)| !is_same) else { return Ok(()) };
        let what = format!("{user} and {other} have different {differs}, and cannot take turns");
        Err(Failure::new(Kind::Refused, what).hint(format!(
            "Give both the same (updateUser), or drop {other} when nobody uses it: it is made anew as {user} is"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MongoDB has it; the servers of the tests do not tell users.
    #[test]
    fn sessions_are_those_of_one_user_of_one_database() {
        let users = |user: &str, database: &str| vec![doc! { "user": user, "db": database }];
        let listed: Vec<Bson> = [
            doc! { "type": "op", "opid": 17, "client": "10.0.0.5:4711", "effectiveUsers": users("app_b", "admin") },
            doc! { "type": "idleSession", "client": "10.0.0.6:1", "effectiveUsers": users("app_b", "other") },
            doc! { "type": "op", "opid": 18, "client": "10.0.0.7:1", "effectiveUsers": users("app_a", "admin") },
            doc! { "type": "op", "opid": 19, "desc": "of the server itself" },
        ]
        .map(Bson::Document)
        .to_vec();
        let found = sessions(&listed, ("app_b", "admin"), 2);
        assert_eq!(found, [rotation::Session { id: "17@2".into(), client: "10.0.0.5:4711".into() }]);
        assert!(tells_users(&listed) && !tells_users(&listed[3..]));
    }

    #[test]
    fn users_that_differ_in_anything_do_not_take_turns() {
        let role = |role: &str| doc! { "role": role, "db": "shop", "minFcv": "7.0" };
        let plain = doc! { "user": "app_a", "roles": [role("readWrite"), role("dbAdmin")] };
        let with = |name: &str, value: Bson| {
            let mut user = plain.clone();
            user.insert(name, value);
            Definition::of(&user)
        };
        let own = Definition::of(&plain);
        own.must_be_that_of(("a", "b"), &Definition::of(&doc! { "roles": [role("dbAdmin"), role("readWrite")] }))
            .unwrap();
        let restrictions = Bson::Array(vec![Bson::Document(doc! { "clientSource": ["10.0.0.0/8"] })]);
        let restricted = with("authenticationRestrictions", restrictions);
        for (differs, other) in [
            ("roles", with("roles", Bson::Array(vec![Bson::Document(role("readWrite"))]))),
            ("customData", with("customData", Bson::Document(doc! { "owner": "x" }))),
            (
                "authenticationRestrictions",
                Definition::of(&doc! {
                    "roles": plain.get_array("roles").unwrap().clone(), "authenticationRestrictions": restricted.restrictions.clone()
                }),
            ),
        ] {
            let failure = own.must_be_that_of(("a", "b"), &other).unwrap_err();
            assert!(failure.full().contains(&format!("different {differs}")), "{}", failure.full());
        }
        restricted.can_be_made("b").unwrap_err();
        let made = with("customData", Bson::Document(doc! { "owner": "x" })).creation("b", &Secret::new("pw".into()));
        assert_eq!(made.get_array("roles").unwrap().len(), 2);
        assert_eq!(made.get_document("customData").unwrap(), &doc! { "owner": "x" });
    }
}
