//! After a server was put back: the account takes what is published, and nothing that a backup brought back.

use crate::durable::random_hex;
use crate::engine::{Accounts, Credential, Login, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::secret::Secret;

/// What was found, and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Only what is published let in.
    AsItWas,
    Changed,
}

/// `today` is what is published, `before` what was in force before, as far as it is known; `other` the user whose turn it is not,
/// where two take turns. When this returns, the one lets in on every node, and `before` and `other` nowhere.
pub fn reapply(
    accounts: &dyn Accounts,
    today: &Credential,
    before: Option<&Credential>,
    other: Option<&str>,
    cancel: &Cancel,
) -> Result<Applied> {
    let nodes = accounts.nodes()?;
    let log_in = |secret: &Credential| Login::of_all(nodes.iter().map(|node| accounts.probe(secret, node)));
    let unknown = |why: String| Failure::new(Kind::TryLater, format!("{}: {why}", accounts.describe()));
    let lets_in = |secret: &Credential| match log_in(secret) {
        Login::Accepted => Ok(true),
        Login::Refused | Login::Partly => Ok(false),
        Login::Unknown(why) => Err(unknown(why)),
    };
    // On one node is enough.
    let still_opens = |secret: &Credential| match log_in(secret) {
        Login::Accepted | Login::Partly => Ok(true),
        Login::Refused => Ok(false),
        Login::Unknown(why) => Err(unknown(why)),
    };
    let (takes_today, takes_before) = (lets_in(today)?, before.map_or(Ok(false), still_opens)?);
    if takes_today && !takes_before {
        return Ok(Applied::AsItWas);
    }
    // Never the one of today: what is retired is locked, or taken away by its value.
    let nobody_s = |user: Option<&str>| {
        let (user, secret) = (user.map(str::to_owned), Secret::new(random_hex(16)));
        Credential { user, secret }
    };
    if !takes_today {
        let current = before.cloned().unwrap_or_else(|| nobody_s(today.user.as_deref()));
        accounts.accept_both(Pair { current: &current, pending: today }, cancel)?;
    }
    let retired = before.filter(|before| before.user.as_deref() == other).cloned();
    let retired = retired.unwrap_or_else(|| nobody_s(other));
    accounts.retire(Pair { current: &retired, pending: today }, cancel)?;
    accounts.persist(cancel)?;
    if !lets_in(today)? {
        return Err(Failure::new(Kind::Key, format!("{} does not take what is published", accounts.describe()))
            .hint("Set it by hand, or see what the server says of the account"));
    }
    if before.map_or(Ok(false), still_opens)? {
        return Err(Failure::new(Kind::Key, format!("{} still takes an old password", accounts.describe()))
            .hint("Look which hosts the account has, and take it away by hand"));
    }
    Ok(Applied::Changed)
}
