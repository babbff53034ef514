//! Those inside a group who log in themselves: replicas at their master, and sentinels at all servers.
//!
//! A link that stands goes on with a password that is gone, and falls with the next failover. So each one is told the new
//! password, made to connect anew once, and seen to come back, before the old one is taken away.

use super::connection::{Connection, Reply, refused};
use super::group::Member;
use super::rotation::DEFAULT;
use super::snapshot::pause;
use super::{Settings, sentinel};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const RULE: &str = "+config|get +config|set +client|list +client|kill +info";
/// How the connections of sentinels begin their names.
const SENTINEL: &str = "sentinel-";
/// How long a replica may take until it has its link again. Where it lost too much, it copies everything first.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Links<'a> {
    pub settings: &'a Settings,
    pub account: &'a str,
}

impl Links<'_> {
    /// Whether this server logs in, or would after a failover, at its master as the account.
    pub fn is_used_by(&self, member: &mut Member<'_>) -> Result<bool> {
        if member.setting("masterauth")?.is_empty() {
            return Ok(false);
        }
        let user = member.setting("masteruser")?;
        Ok(if user.is_empty() { self.account == DEFAULT } else { user == self.account })
    }

    pub fn note(&self, member: &mut Member<'_>) -> Result<Option<String>> {
        Ok((member.is_replica() && self.is_used_by(member)?).then(|| {
            format!(
                "{} copies its master with this account: its link is made anew once, and once more for a way back",
                member.node
            )
        }))
    }

    /// Whether sentinels log in as the account: they are told by the names that they give themselves.
    fn are_sentinels(&self, members: &mut [Member<'_>]) -> Result<bool> {
        let mut users = Vec::new();
        for member in members {
            let all = member.clients()?;
            let sentinels =
                all.into_iter().filter(|client| client.get("name").is_some_and(|name| name.starts_with(SENTINEL)));
            users.extend(sentinels.filter_map(|mut client| client.remove("user")));
        }
        let is_likely = users.is_empty() && self.settings.sentinel.is_some() && self.account == DEFAULT;
        Ok(is_likely || users.iter().any(|user| user == self.account))
    }

    /// Sessions of the account that are links: they were made anew before anything was published, and are told apart by that.
    pub fn inside(&self, members: &mut [Member<'_>]) -> Result<Inside> {
        let mut replicas = false;
        for member in members.iter_mut() {
            replicas |= self.is_used_by(member)?;
        }
        Ok(Inside { replicas, sentinels: self.are_sentinels(members)? })
    }

    pub fn check_sentinels(&self, members: &mut [Member<'_>]) -> Result<()> {
        if !self.are_sentinels(members)? {
            return Ok(());
        }
        let Some(named) = &self.settings.sentinel else {
            return Err(Failure::new(Kind::Refused, "sentinels watch this server with this account").hint(
                "They must be told the new password: write `sentinel: { addresses: […], master: … }` into the source",
            ));
        };
        sentinel::every(self.settings, named, &Cancel::default()).map(drop)
    }

    /// From now on all of them log in with `to`; what has it already is left alone.
    pub fn follow(&self, members: &mut [Member<'_>], to: &Secret, from: &Secret, cancel: &Cancel) -> Result<()> {
        for member in members.iter_mut() {
            if self.is_used_by(member)? && member.setting("masterauth")? != to.expose() {
                self.renew(member, to, from, cancel)?;
            }
        }
        // Where none is configured, a name that a client gave itself is no reason to stop.
        let Some(named) = &self.settings.sentinel else { return Ok(()) };
        if !self.are_sentinels(members)? {
            return Ok(());
        }
        for mut connection in sentinel::every(self.settings, named, cancel)? {
            let command: [&[u8]; 5] =
                [b"SENTINEL", b"SET", named.master.as_bytes(), b"auth-pass", to.expose().as_bytes()];
            tell_secret(&mut connection, &command, "+sentinel")?;
        }
        Ok(())
    }

    /// The server has the password for its master, and its link was seen with it. Otherwise it is as before.
    pub fn renew(&self, member: &mut Member<'_>, to: &Secret, from: &Secret, cancel: &Cancel) -> Result<()> {
        tell(member, to)?;
        if !member.is_replica() {
            return Ok(());
        }
        let Err(failure) = reconnect(member, cancel) else { return Ok(()) };
        // With what it had, it was connected. Where that fails too, the first reason is the one to know.
        let _ = tell(member, from).and_then(|()| reconnect(member, cancel));
        Err(failure)
    }
}

/// Who of those inside logs in as the account.
pub struct Inside {
    replicas: bool,
    sentinels: bool,
}

impl Inside {
    /// Those that do not only say so of themselves: anybody may take the name of a sentinel, and sentinels come back.
    pub fn without_names(self) -> Inside {
        Inside { sentinels: false, ..self }
    }

    pub fn has(&self, client: &BTreeMap<String, String>) -> bool {
        let is = |name: &str| client.get(name).map_or("", String::as_str);
        self.replicas && is("flags").contains('S') || self.sentinels && is("name").starts_with(SENTINEL)
    }
}

fn tell(member: &mut Member<'_>, secret: &Secret) -> Result<()> {
    let command: [&[u8]; 4] = [b"CONFIG", b"SET", b"masterauth", secret.expose().as_bytes()];
    tell_secret(&mut member.connection, &command, RULE)
}

/// Servers that do not know a command repeat it: of what they say to one with a password, only the first word is taken.
pub fn tell_secret(connection: &mut Connection<'_>, command: &[&[u8]], rule: &str) -> Result<()> {
    match connection.ask(command)? {
        Reply::Refused(text) => {
            let words = command.iter().take(2).map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
            let code = text.split_whitespace().next().unwrap_or_default();
            Err(refused(&connection.address.to_string(), &words, rule, code))
        }
        _ => Ok(()),
    }
}

/// Ends the link of a replica to its master, and waits for another one.
fn reconnect(member: &mut Member<'_>, cancel: &Cancel) -> Result<()> {
    let begun = Instant::now();
    let mut was_ended = false;
    loop {
        // One that is just being made cannot be ended: it may have begun with what was said before.
        if !was_ended {
            let killed = member.told(&["CLIENT", "KILL", "TYPE", "master"], RULE)?;
            was_ended = killed.first().is_some_and(|number| number != "0");
        }
        let lines = member.told(&["INFO", "replication"], RULE)?;
        if was_ended && lines.iter().any(|line| line.trim() == "master_link_status:up") {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let what = format!("the replica {} does not come back to its master with the new password", member.node);
            return Err(Failure::failed(what).hint("Look at its log, and at `masteruser` of its configuration"));
        }
        pause(cancel)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_nobody_a_sentinel_in_an_emergency() {
        let client = |name: &str, flags: &str| {
            BTreeMap::from([("name".to_owned(), name.to_owned()), ("flags".to_owned(), flags.to_owned())])
        };
        let inside = || Inside { replicas: true, sentinels: true };
        let (sentinel, replica) = (client("sentinel-x-cmd", "N"), client("", "S"));
        assert!(inside().has(&sentinel) && inside().has(&replica) && !inside().has(&client("web", "N")));
        assert!(!inside().without_names().has(&sentinel) && inside().without_names().has(&replica));
    }
}
