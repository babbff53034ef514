//! One password for all hosts of an account, and no second one, or the two of a rotation, whatever there was before.

use super::verifier::{self, is_of};
use super::{Client, Flavour, Rotation, Session, Verifiers, native, text};
use crate::engine::{Accounts, Credential, Login, Pair};
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;

/// Of MySQL: which password a statement gives, and whether what was there stays as the second one.
type Step = (Which, Stays);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Current,
    Pending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stays {
    First,
    Second,
}

/// Where MySQL keeps the verifiers of an account.
const FIRST: &str = "authentication_string";
const SECOND: &str = "JSON_UNQUOTE(JSON_EXTRACT(User_attributes, '$.additional_password'))";

/// From what an account has to the pending one with the current one behind it, which is the one that `DISCARD OLD PASSWORD` takes
/// away later. Neither is lost on the way where it lets in. `first`: what it has at the first place; none where that is neither. A
/// replica repeats the steps, and may have begun otherwise: one that was the first server may have the pending one, and would lose
/// the current one by the last step alone.
fn steps(first: Option<Which>, (current, pending): (bool, bool)) -> Vec<Step> {
    use Stays::{First, Second};
    use Which::Pending;
    let put = match (first, current, pending) {
        (Some(Pending), true, _) => return Vec::new(),
        (Some(Which::Current), _, true) => vec![],
        (Some(Which::Current), _, false) => vec![(Which::Current, First)],
        (Some(Pending), false, _) => vec![(Which::Current, First)],
        (None, _, true) => vec![(Pending, Second), (Which::Current, First)],
        (None, _, false) => vec![(Which::Current, Second)],
    };
    put.into_iter().chain([(Pending, First)]).collect()
}

impl Rotation {
    pub(super) fn set_both(&self, pair: Pair<'_>, cancel: &Cancel) -> Result<bool> {
        let nodes = self.nodes()?;
        let [current, pending] = [pair.current, pair.pending].map(|one| self.log_in(one));
        let let_in = (current? == Login::Accepted, pending? == Login::Accepted);
        self.with(cancel, |client, session| {
            let is_changed = match client.version.flavour {
                Flavour::Mysql => self.set_both_in_mysql(client, session, pair, let_in)?,
                Flavour::Mariadb => self.set_both_in_mariadb(session, pair)?,
            };
            if is_changed {
                self.is_known_again(&nodes, pair.current);
            }
            self.wait_for_replicas(session, client.version.flavour, pair.current, cancel)?;
            Ok(is_changed)
        })
    }

    fn set_both_in_mysql(
        &self,
        client: &Client<'_>,
        session: &mut Session<'_>,
        pair: Pair<'_>,
        let_in: (bool, bool),
    ) -> Result<bool> {
        let mut first = None;
        for (which, secret) in [(Which::Current, pair.current), (Which::Pending, pair.pending)] {
            if self.has_everywhere(session, secret, FIRST)? {
                first = Some(which);
            }
        }
        let (current, pending) = let_in;
        let steps = steps(first, (current, pending || self.has_everywhere(session, pair.pending, SECOND)?));
        for (which, stays) in &steps {
            let secret = if *which == Which::Current { pair.current } else { pair.pending };
            self.set_in_mysql(client, session, secret, *stays)?;
        }
        Ok(!steps.is_empty())
    }

    /// In one statement.
    fn set_both_in_mariadb(&self, session: &mut Session<'_>, pair: Pair<'_>) -> Result<bool> {
        let both = Verifiers(vec![native(pair.pending), native(pair.current)]);
        let there = self.verifiers(session)?;
        let is_so = |all: &Verifiers| all.0.len() == both.0.len() && both.0.iter().all(|one| all.0.contains(one));
        if !there.is_empty() && there.iter().all(|(_, verifiers)| is_so(verifiers)) {
            return Ok(false);
        }
        self.alter(session, |_| Ok(both.statement()))?;
        Ok(true)
    }

    pub(super) fn set_alone(&self, credential: &Credential, cancel: &Cancel) -> Result<bool> {
        let nodes = self.nodes()?;
        self.with(cancel, |client, session| {
            let is_changed = match client.version.flavour {
                Flavour::Mysql => self.set_alone_in_mysql(client, session, credential)?,
                Flavour::Mariadb => self.set_alone_in_mariadb(session, credential)?,
            };
            if is_changed {
                self.is_known_again(&nodes, credential);
            }
            self.wait_for_replicas(session, client.version.flavour, credential, cancel)?;
            Ok(is_changed)
        })
    }

    fn set_alone_in_mariadb(&self, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let alone = Verifiers(vec![native(secret)]);
        let there = self.verifiers(session)?;
        if !there.is_empty() && there.iter().all(|(_, verifiers)| *verifiers == alone) {
            return Ok(false);
        }
        self.alter(session, |_| Ok(alone.statement()))?;
        Ok(true)
    }

    /// First the password, then the second one goes: which of the two somebody logged in with is not known.
    fn set_alone_in_mysql(&self, client: &Client<'_>, session: &mut Session<'_>, secret: &Secret) -> Result<bool> {
        let has_second = self.has_second_password(session)?;
        let has_it = self.has_everywhere(session, secret, FIRST)?;
        if !has_it {
            self.set_in_mysql(client, session, secret, Stays::Second)?;
        }
        if has_second {
            self.alter(session, |_| Ok("DISCARD OLD PASSWORD".to_owned()))?;
        }
        Ok(has_second || !has_it)
    }

    /// By verifiers where the server takes them: a history of passwords refuses the password itself, when it was there before.
    fn set_in_mysql(
        &self,
        client: &Client<'_>,
        session: &mut Session<'_>,
        secret: &Secret,
        stays: Stays,
    ) -> Result<()> {
        let retained = if stays == Stays::First { " RETAIN CURRENT PASSWORD" } else { "" };
        let question = format!("SELECT host, plugin FROM mysql.user WHERE user = {}", text(&self.account));
        let variants = session.rows(&question)?;
        let one = |row: Vec<String>| {
            let [host, plugin] = <[String; 2]>::try_from(row).ok()?;
            let verifier = hex::encode(verifier::of(&plugin, secret)?);
            let (account, host, plugin) = (text(&self.account), text(&host), text(&plugin));
            Some(format!("{account}@{host} IDENTIFIED WITH {plugin} AS 0x{verifier}{retained}"))
        };
        let parts: Option<Vec<String>> = variants.into_iter().map(one).collect();
        match parts.filter(|parts| !parts.is_empty() && client.version.at_least(Flavour::Mysql, (8, 0, 17))) {
            Some(parts) => session.run(Secret::new(format!("ALTER USER {}", parts.join(", "))).expose()),
            None => self.alter(session, |_| Ok(format!("IDENTIFIED BY {}{retained}", text(secret.expose())))),
        }
    }

    /// By the verifiers; what is not understood is as good as no.
    fn has_everywhere(&self, session: &mut Session<'_>, secret: &Secret, place: &str) -> Result<bool> {
        let account = text(&self.account);
        let question = format!("SELECT plugin, HEX({place}) FROM mysql.user WHERE user = {account}");
        let rows = session.rows(&question)?;
        let is_it = |row: &Vec<String>| match &row[..] {
            [plugin, kept] => hex::decode(kept).ok().and_then(|kept| is_of(plugin, &kept, secret)) == Some(true),
            _ => false,
        };
        Ok(!rows.is_empty() && rows.iter().all(is_it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(has: [Option<Which>; 2], (which, stays): Step) -> [Option<Which>; 2] {
        [Some(which), if stays == Stays::First { has[0] } else { has[1] }]
    }

    /// Whatever somebody has: with each statement it goes on, and in the end the pending one is first and the current one second.
    #[test]
    fn nobody_loses_a_password_of_the_rotation_on_the_way_to_both() {
        let possible = [Some(Which::Current), Some(Which::Pending), None];
        for first in possible {
            for second in possible {
                let (mut has, begun) = ([first, second], [first, second]);
                let lets_in = |which| begun.contains(&Some(which));
                for step in steps(first, (lets_in(Which::Current), lets_in(Which::Pending))) {
                    has = after(has, step);
                    for one in begun.into_iter().flatten() {
                        assert!(has.contains(&Some(one)), "{begun:?} → {has:?}");
                    }
                }
                assert_eq!(has, [Some(Which::Pending), Some(Which::Current)], "{begun:?}");
            }
        }
    }

    /// The first server has the current one alone; one that was the first before, and follows now, has the pending one, too.
    #[test]
    fn a_replica_that_had_both_before_keeps_them_on_the_way() {
        let begun = [Some(Which::Pending), Some(Which::Current)];
        let mut has = begun;
        for step in steps(Some(Which::Current), (true, false)) {
            has = after(has, step);
            assert!(begun.iter().all(|one| has.contains(one)), "{has:?}");
        }
        assert_eq!(has, begun);
    }
}
