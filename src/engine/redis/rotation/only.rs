//! One password for the user on every server, or the two of a rotation, whatever else it had before.

use super::{Accounts, RULE, Rotation, added, hash, links, not_set};
use crate::engine::redis::connection::Reply;
use crate::engine::redis::group::Member;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use std::collections::BTreeSet;

impl Rotation {
    /// The last one is what servers of a group use among themselves.
    pub(super) fn set_alone(&self, wanted: &[&Secret], cancel: &Cancel) -> Result<bool> {
        let [first, .., last] = [&wanted[..1], wanted].concat()[..] else { return Ok(false) };
        let mut members = self.members(cancel)?;
        // Masters first: a link of a replica is made anew where its master accepts the password already.
        let mut changed = false;
        for member in &mut members {
            changed |= !self.has_alone(member, wanted)?;
            let there = self.user(member)?.passwords;
            if wanted.iter().any(|secret| !there.contains(&hash(secret))) {
                self.set(member, &wanted.iter().map(|secret| added(secret)).collect::<Vec<_>>())?;
            }
        }
        self.links().follow(&mut members, last, first, cancel)?;
        for member in &mut members {
            if !self.has_alone(member, wanted)? {
                self.reset(member, wanted)?;
            }
        }
        if changed {
            self.persist(cancel)?;
        }
        Ok(changed)
    }

    fn has_alone(&self, member: &mut Member<'_>, wanted: &[&Secret]) -> Result<bool> {
        let user = self.user(member)?;
        let is_open = user.flags.iter().any(|flag| flag == "nopass");
        let there: BTreeSet<&String> = user.passwords.iter().collect();
        let hashes: Vec<String> = wanted.iter().map(|secret| hash(secret)).collect();
        Ok(there == hashes.iter().collect() && !is_open && self.is_required(member, wanted)?)
    }

    /// The older way to say the password of the default user says none, or one of these.
    fn is_required(&self, member: &mut Member<'_>, wanted: &[&Secret]) -> Result<bool> {
        let required = if self.is_default() { member.setting("requirepass")? } else { String::new() };
        Ok(required.is_empty() || wanted.iter().any(|secret| required == secret.expose()))
    }

    /// In one step: there is no moment in which nothing lets in.
    fn reset(&self, member: &mut Member<'_>, wanted: &[&Secret]) -> Result<()> {
        if let Some(first) = wanted.first().filter(|_| self.is_default())
            && !self.is_required(member, wanted)?
        {
            let command: [&[u8]; 4] = [b"CONFIG", b"SET", b"requirepass", first.expose().as_bytes()];
            links::tell_secret(&mut member.connection, &command, RULE)?;
        }
        let rules: Vec<String> = wanted.iter().map(|secret| added(secret)).collect();
        let command: [&[u8]; 4] = [b"ACL", b"SETUSER", self.account.as_bytes(), b"resetpass"];
        let command: Vec<&[u8]> = command.into_iter().chain(rules.iter().map(|rule| rule.as_bytes())).collect();
        if let Reply::Refused(text) = member.connection.ask(&command)? {
            return Err(not_set(member, &text));
        }
        match self.has_alone(member, wanted)? {
            true => Ok(()),
            false => Err(Failure::failed(format!(
                "{} was told the passwords of `{}`, and has others",
                member.node, self.account
            ))
            .hint("Somebody else changes this user at the same time: look who, and run this again")),
        }
    }
}
