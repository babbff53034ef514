//! After a server was put back: the account takes what is published, and nothing that a backup brought back. In the middle of a
//! rotation it takes both of its passwords, so that the rotation can go on from there.
//!
//! The old ones that Vault still knows are tried, every one of them, and must be refused on every node.

use super::keepsake::{Fingerprints, Keepsake};
use super::lease::Lease;
use super::published;
use super::record::{self, Keeper};
use super::seen::probe_until;
use super::told::without;
use crate::clock;
use crate::engine::{Accounts, Credential, Login, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::policy::Rotation;
use crate::secret::VaultPath;
use crate::secret::vault::Vault;
use jiff::SignedDuration;
use std::path::{Path, PathBuf};

/// How many versions of what is published are looked through.
const LOOKED_AT: usize = 30;

/// What it needs. That no other process of this host rotates the same is known by the lock that the caller has.
pub struct Reapply<'a> {
    pub rotation: &'a Rotation,
    pub accounts: &'a dyn Accounts,
    pub vault: &'a Vault,
    /// Where the document of the rotation is.
    pub record: VaultPath,
    pub state: &'a Path,
    /// What the account had is sealed here before it is overwritten, if it can be.
    pub keepsake: std::result::Result<Keepsake, String>,
    /// The run after which this is done: what it was told is known by it.
    pub run: &'a str,
    /// The id of this host's journal, and what people call the host.
    pub holder: (String, String),
    pub lease: SignedDuration,
    /// Fingerprint of what was in force when the point was made.
    pub of_point: Option<&'a str>,
    /// Of the rotation in the middle of which it is, the old one was taken away before.
    pub is_retired: bool,
}

/// What was found, and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub changed: bool,
    /// A rotation is to go on now.
    pub is_open: bool,
    /// Both of its passwords were set, and not only the one that is published.
    pub is_both: bool,
    /// Fingerprints: of the newest that is refused, or of what a rotation that is open began with; and of what lets in.
    pub from: Option<String>,
    pub to: String,
    /// What is known of older ones, for people.
    pub negative: String,
    pub nodes: Vec<String>,
    /// Why nothing was kept of what was overwritten.
    pub uncopied: Option<String>,
}

impl Applied {
    /// The word for it in the journal.
    pub fn state(&self) -> &'static str {
        match (self.is_open, self.is_both) {
            (false, _) => "reapplied",
            (true, true) => "both_reapplied",
            (true, false) => "reapplied_open",
        }
    }
}

/// A password that was published before.
struct Older {
    version: u64,
    credential: Credential,
}

impl Reapply<'_> {
    pub fn run(&self, cancel: &Cancel) -> Result<Applied> {
        let name = &self.rotation.name;
        if Keepsake::is_lost_of(self.state, name, &record::glance(self.vault, &self.record)?) {
            let what = format!(
                "Vault was brought back to a state from before a rotation of {name}: what is published may be an old password"
            );
            return Err(Failure::new(Kind::Key, what).hint(format!(
                "Go on with the recovery key first: bkp rotate resume {name} --identity recovery-key.txt"
            )));
        }
        let (journal, host) = &self.holder;
        let keeper = Keeper::take(self.vault, self.record.clone(), (journal, host), self.lease, clock::now())?;
        self.accounts.lock_with(keeper.locks());
        let open = keeper.pending().zip(keeper.previous());
        let lease = Lease::of(keeper);
        let applied = lease.kept(|| self.apply(&lease, open, cancel));
        // Where Vault is away, the time does it.
        let _ = lease.release();
        applied
    }

    fn apply(&self, lease: &Lease<'_>, open: Option<(Credential, Credential)>, cancel: &Cancel) -> Result<Applied> {
        let (version, today) = published::now(self.vault, self.rotation)?;
        let has_one = self.is_retired || lease.is_retired() || self.accounts.has_gap();
        let wanted = wanted(&self.rotation.name, &today, open.as_ref(), has_one)?;
        let older = self.older(version, &wanted)?;
        let known = || wanted.iter().chain(older.iter().map(|old| &old.credential));
        let scrubbed = |text: &str| without(text, known());
        let (copy, uncopied) = self.copy(cancel);
        // All that may have taken long; and whoever was overtaken meanwhile changes nothing any more.
        lease.renew()?;
        let leased = cancel.on_condition(lease.condition());
        let changed = self.set(&wanted, &older, &leased).map_err(|failure| failure.reworded(scrubbed))?;
        if let (false, Some(copy), Ok(keepsake)) = (changed, copy, &self.keepsake) {
            keepsake.remove(&copy)?;
        }
        let uncopied = uncopied.filter(|_| changed);
        let prints = Fingerprints::of(self.state)?;
        let print = |credential: &Credential| prints.fingerprint(credential);
        let (from, to) = match &open {
            Some((pending, previous)) => (Some(print(previous)), print(pending)),
            None => (older.first().map(|old| print(&old.credential)), print(&today)),
        };
        Ok(Applied {
            changed,
            is_open: open.is_some(),
            is_both: wanted.len() > 1,
            from,
            to,
            negative: negative(&older, self.of_point, print, &today),
            nodes: self.accounts.nodes()?.iter().map(ToString::to_string).collect(),
            uncopied: uncopied.map(|why| scrubbed(&why)),
        })
    }

    /// Gives whether anything was changed.
    fn set(&self, wanted: &[Credential], older: &[Older], cancel: &Cancel) -> Result<bool> {
        let before: Vec<&Credential> = older.iter().map(|old| &old.credential).collect();
        let is_made_again = match wanted.first() {
            Some(credential) => self.accounts.replaces(credential, &before, cancel)?,
            None => false,
        };
        let changed = match wanted {
            [current, pending] => self.accounts.both(Pair { current, pending }, cancel)?,
            [today, ..] => self.accounts.only(today, cancel)?,
            [] => false,
        };
        let changed = is_made_again || changed;
        self.accounts.persist(cancel)?;
        self.prove(wanted, older, cancel)?;
        Ok(changed)
    }

    /// What nobody published is nowhere else. Gives where it is, if it was not there from a try before; or why there is none: nobody
    /// is kept out for that.
    fn copy(&self, cancel: &Cancel) -> (Option<PathBuf>, Option<String>) {
        match self.sealed(cancel) {
            Ok(copy) => (copy, None),
            Err(failure) => (None, Some(failure.full())),
        }
    }

    fn sealed(&self, cancel: &Cancel) -> Result<Option<PathBuf>> {
        let keepsake = self.keepsake.as_ref().map_err(|why| Failure::failed(why.clone()))?;
        let path = keepsake.replaced(&self.rotation.name, self.run);
        if path.exists() {
            return Ok(None);
        }
        keepsake.seal(&path, &self.accounts.save(cancel)?)?;
        Ok(Some(path))
    }

    /// The newest first, each once.
    fn older(&self, newest: u64, wanted: &[Credential]) -> Result<Vec<Older>> {
        let mut all: Vec<Older> = Vec::new();
        for version in (1..newest).rev().take(LOOKED_AT) {
            let Some(credential) = published::before(self.vault, self.rotation, version)? else { continue };
            let is_known = wanted.iter().chain(all.iter().map(|old| &old.credential)).any(|one| one.is(&credential));
            if !is_known {
                all.push(Older { version, credential });
            }
        }
        Ok(all)
    }

    /// Between two that are refused, one that lets in: servers count refusals in a row, and lock accounts.
    fn prove(&self, wanted: &[Credential], older: &[Older], cancel: &Cancel) -> Result<()> {
        let describe = || self.accounts.describe();
        for credential in wanted {
            if self.seen(credential, &Login::Accepted, cancel)? != Login::Accepted {
                return Err(Failure::new(Kind::Key, format!("{} does not take what is published", describe()))
                    .hint("Set it by hand, or see what the server says of the account"));
            }
        }
        for Older { version, credential } in older {
            if self.seen(credential, &Login::Refused, cancel)? != Login::Refused {
                let what =
                    format!("{} still takes an old password (version {version} of what is published)", describe());
                return Err(
                    Failure::new(Kind::Key, what).hint("Look which hosts the account has, and take it away by hand")
                );
            }
            self.accounts.log_in(&wanted[0])?;
        }
        Ok(())
    }

    /// Nodes may lag behind. Where nothing was learned, that is the failure.
    fn seen(&self, credential: &Credential, expected: &Login, cancel: &Cancel) -> Result<Login> {
        match probe_until(self.accounts, credential, expected, cancel)? {
            Login::Unknown(why) => Err(Failure::new(Kind::TryLater, format!("{}: {why}", self.accounts.describe()))),
            login => Ok(login),
        }
    }
}

/// What is to let in: what is published; in the middle of a rotation both of its passwords, the old one first, unless it
/// `has_one`: that was taken away, or the account can have no second one.
fn wanted(
    name: &str,
    today: &Credential,
    open: Option<&(Credential, Credential)>,
    has_one: bool,
) -> Result<Vec<Credential>> {
    let Some((pending, previous)) = open else { return Ok(vec![today.clone()]) };
    if !today.is(pending) && !today.is(previous) {
        let what = format!("a rotation of {name} is under way, and what is published is neither of its passwords");
        return Err(Failure::new(Kind::Key, what)
            .hint(format!("Put one of them back (vault kv rollback, or vault kv put with what its consumers have), then: bkp rotate reapply {name}")));
    }
    Ok(if has_one { vec![today.clone()] } else { vec![previous.clone(), pending.clone()] })
}

/// Which old ones were tried. All of them are refused.
fn negative(
    older: &[Older],
    of_point: Option<&str>,
    print: impl Fn(&Credential) -> String,
    today: &Credential,
) -> String {
    let versions: Vec<String> = older.iter().map(|old| old.version.to_string()).collect();
    let tried = match versions.as_slice() {
        [] => "no older password is known".to_owned(),
        [one] => format!("the old password is refused (version {one} of what is published)"),
        several => format!("the old passwords are refused (versions {} of what is published)", several.join(", ")),
    };
    let is = |credential: &Credential| of_point == Some(print(credential).as_str());
    match of_point {
        Some(_) if !is(today) && !older.iter().any(|old| is(&old.credential)) => {
            format!("{tried}; that of the point is none of them, and could not be tried")
        }
        _ => tried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn in_the_middle_of_a_rotation_both_let_in_unless_one_was_taken_away() {
        let credential = |text: &str| Credential::from(Secret::new(text.into()));
        let open = (credential("pending"), credential("previous"));
        let wanted = |today: &str, open, has_one| {
            let wanted = wanted("db", &credential(today), open, has_one)?;
            Ok::<_, Failure>(wanted.iter().map(|one| one.expose().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(wanted("today", None, false).unwrap(), ["today"]);
        for today in ["pending", "previous"] {
            assert_eq!(wanted(today, Some(&open), false).unwrap(), ["previous", "pending"]);
            assert_eq!(wanted(today, Some(&open), true).unwrap(), [today]);
        }
        assert!(wanted("of nobody", Some(&open), false).unwrap_err().full().contains("neither"));
    }

    #[test]
    fn what_is_noted_is_what_was_set() {
        let state = |is_open, is_both| {
            let applied = Applied {
                changed: true,
                is_open,
                is_both,
                from: None,
                to: String::new(),
                negative: String::new(),
                nodes: vec![],
                uncopied: None,
            };
            applied.state()
        };
        assert_eq!(state(false, false), "reapplied");
        assert_eq!(state(true, true), "both_reapplied");
        assert_eq!(state(true, false), "reapplied_open");
    }

    #[test]
    fn it_is_told_which_old_passwords_were_tried() {
        let credential = |text: &str| Credential::from(Secret::new(text.into()));
        let older = |all: &[u64]| -> Vec<Older> {
            all.iter()
                .map(|version| Older { version: *version, credential: credential(&format!("old {version}")) })
                .collect()
        };
        let told = |all: &[u64], of_point| {
            negative(&older(all), of_point, |one| one.expose().to_owned(), &credential("today"))
        };
        assert_eq!(told(&[], None), "no older password is known");
        assert_eq!(told(&[4], Some("old 4")), "the old password is refused (version 4 of what is published)");
        assert_eq!(told(&[4, 2], Some("today")), "the old passwords are refused (versions 4, 2 of what is published)");
        for all in [&[][..], &[4]] {
            assert!(
                told(all, Some("of a host that is gone"))
                    .ends_with("that of the point is none of them, and could not be tried")
            );
        }
    }
}
