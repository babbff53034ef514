//! After a server was put back: the account takes what is published, and nothing that a backup brought back.

use crate::engine::{Accounts, Credential, Login, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;

/// What was found, and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Only what is published let in.
    AsItWas,
    Changed,
}

/// `today` is what is published, `before` what was in force before, as far as it is known. When this returns, the one lets in on
/// every node and the other nowhere.
pub fn reapply(
    accounts: &dyn Accounts,
    today: &Credential,
    before: Option<&Credential>,
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
    let pair = Pair { current: before.unwrap_or(today), pending: today };
    if !takes_today {
        accounts.accept_both(pair, cancel)?;
    }
    accounts.retire(pair, cancel)?;
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
