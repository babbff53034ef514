//! One password for the user on every server, whatever else it had before.

use super::{Accounts, RULE, Rotation, added, hash, links, not_set};
use crate::engine::redis::connection::Reply;
use crate::engine::redis::group::Member;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::secret::Secret;

impl Rotation {
    pub(super) fn set_alone(&self, secret: &Secret, cancel: &Cancel) -> Result<bool> {
        let mut members = self.members(cancel)?;
        // Masters first: a link of a replica is made anew where its master accepts the password already.
        let mut changed = false;
        for member in &mut members {
            changed |= !self.has_alone(member, secret)?;
            if !self.user(member)?.passwords.contains(&hash(secret)) {
                self.set(member, &[added(secret)])?;
            }
        }
        self.links().follow(&mut members, secret, secret, cancel)?;
        for member in &mut members {
            if !self.has_alone(member, secret)? {
                self.reset(member, secret)?;
            }
        }
        if changed {
            self.persist(cancel)?;
        }
        Ok(changed)
    }

    fn has_alone(&self, member: &mut Member<'_>, secret: &Secret) -> Result<bool> {
        let user = self.user(member)?;
        let is_open = user.flags.iter().any(|flag| flag == "nopass");
        let required = if self.is_default() { member.setting("requirepass")? } else { String::new() };
        let is_required = required.is_empty() || required == secret.expose();
        Ok(user.passwords == [hash(secret)] && !is_open && is_required)
    }

    /// In one step: there is no moment in which nothing lets in.
    fn reset(&self, member: &mut Member<'_>, secret: &Secret) -> Result<()> {
        if self.is_default() && !member.setting("requirepass")?.is_empty() {
            let command: [&[u8]; 4] = [b"CONFIG", b"SET", b"requirepass", secret.expose().as_bytes()];
            links::tell_secret(&mut member.connection, &command, RULE)?;
        }
        let rule = added(secret);
        let command: [&[u8]; 5] = [b"ACL", b"SETUSER", self.account.as_bytes(), b"resetpass", rule.as_bytes()];
        if let Reply::Refused(text) = member.connection.ask(&command)? {
            return Err(not_set(member, &text));
        }
        match self.has_alone(member, secret)? {
            true => Ok(()),
            false => Err(Failure::failed(format!(
                "{} was told one password of `{}`, and has others",
                member.node, self.account
            ))
            .hint("Somebody else changes this user at the same time: look who, and run this again")),
        }
    }
}
