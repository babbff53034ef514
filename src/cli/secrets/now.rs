//! Whether what is published lets in, and what came before it does not: asked of Vault and of the server.

use crate::cli::environment::Environment;
use crate::cli::rotate::{accounts_of, vault};
use crate::engine::Login;
use crate::error::{Kind, Result};
use crate::job::rotate::published;
use crate::job::rotate::targets::Given;
use crate::policy::{Policy, Rotation};
use jiff::Timestamp;
use serde::Serialize;

/// Of a password as it is now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Now {
    /// When what is published was written.
    pub written: Option<Timestamp>,
    pub works: Option<bool>,
    /// An older version of what is published, that lets in and should not.
    pub old_version_works: Option<u64>,
    /// Why something of this is not known.
    pub unknown: Option<String>,
}

/// Asks one after the other, and nobody any more once Vault is away.
pub struct Asking<'e> {
    pub env: &'e Environment,
    pub away: Option<String>,
}

impl Asking<'_> {
    /// In the middle of a rotation, both of its passwords may let in.
    pub fn ask(&mut self, policy: &Policy, rotation: &Rotation, is_open: bool) -> Now {
        if let Some(why) = &self.away {
            return Now { unknown: Some(why.clone()), ..Now::default() };
        }
        // Of a key for signing or a mail server, there is nothing to be asked in passing.
        if rotation.target.source().is_none() {
            return Now::default();
        }
        let mut now = Now::default();
        if let Err(failure) = self.look(policy, rotation, is_open, &mut now) {
            if failure.kind() == Kind::TryLater && now.written.is_none() {
                self.away = Some(failure.full());
            }
            now.unknown = Some(failure.full());
        }
        now
    }

    fn look(&self, policy: &Policy, rotation: &Rotation, is_open: bool, now: &mut Now) -> Result<()> {
        let vault = vault(self.env)?;
        let (version, today) = published::now(vault, rotation)?;
        now.written = vault.written(&rotation.published)?;
        let (accounts, _) = accounts_of(self.env, policy, rotation, Given::default())?;
        match accounts.log_in(&today)? {
            Login::Accepted => now.works = Some(true),
            Login::Refused | Login::Partly => now.works = Some(false),
            Login::Unknown(why) => now.unknown = Some(why),
        }
        if now.works != Some(true) || is_open {
            return Ok(());
        }
        // One, and no more: servers count refusals, until somebody gets in again.
        for version in (1..version).rev() {
            let Some(old) = published::before(vault, rotation, version)?.filter(|old| !old.is(&today)) else {
                continue;
            };
            let lets_in = matches!(accounts.log_in(&old)?, Login::Accepted | Login::Partly);
            now.old_version_works = lets_in.then_some(version);
            accounts.log_in(&today)?;
            return Ok(());
        }
        Ok(())
    }
}

impl Now {
    pub fn is_wrong(&self) -> bool {
        self.works == Some(false) || self.old_version_works.is_some()
    }

    pub fn word(&self) -> String {
        match (self.works, self.old_version_works, &self.unknown) {
            (Some(false), ..) => "PUBLISHED, BUT REFUSED".to_owned(),
            (Some(true), Some(version), _) => format!("WORKS, AND SO DOES AN OLD ONE (version {version})"),
            (Some(true), None, None) => "works".to_owned(),
            (Some(true), None, Some(why)) => format!("works; of the old one not known: {why}"),
            (None, _, Some(why)) => format!("not known: {why}"),
            (None, _, None) => "not asked".to_owned(),
        }
    }
}
