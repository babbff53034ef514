//! A rotation that Vault knows nothing of any more, as it was brought back to a state from before: both of its secrets are sealed on
//! this host, and with the recovery key it goes on from where it was.
//!
//! However far back that state is: what is published then may be older than what was in force when the rotation was begun, and whatever
//! was locked or added in between is forgotten. So what was in force is published again, and in the end only the new one lets in.

use super::act::Rotate;
use super::published;
use super::record::{self, Begun, Keeper};
use crate::clock;
use crate::engine::{Credential, Login};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;

/// What is sealed of it.
pub struct Sealed {
    pub pending: Credential,
    /// What was in force when it was begun; nothing where an older version of bkp began it.
    pub previous: Option<Credential>,
}

impl Rotate<'_> {
    /// Without the recovery key nothing is begun: a new secret would be the end of the only copy.
    pub(super) fn lost(&self) -> Result<Option<Sealed>> {
        let name = &self.rotation.name;
        let glance = record::glance(self.vault, &self.record)?;
        if !self.keepsake.is_lost(name, &glance) {
            return Ok(None);
        }
        let keys = self.recovery.as_ref().ok_or_else(|| {
            let text = format!(
                "Vault was brought back to a state from before {name} was begun: the new password is sealed on this host, and some may use it already"
            );
            Failure::new(Kind::Key, text)
                .hint(format!("Go on with the recovery key: bkp rotate resume {name} --identity recovery-key.txt"))
        })?;
        self.keepsake.unseal(name, keys).map(Some)
    }

    /// In Vault again, as it was.
    pub(super) fn record_anew(&self, keeper: &mut Keeper<'_>, sealed: &Sealed, cancel: &Cancel) -> Result<()> {
        let run = self.keepsake.run(&self.rotation.name).unwrap_or_else(|| self.run.clone());
        let published = self.read_published()?;
        let previous = sealed.previous.as_ref().unwrap_or(&published);
        let mark = Some(self.accounts.mark(cancel)?);
        let begun = Begun { run: &run, urgent: self.emergency, mark, taken: &self.taken, recovered: true };
        keeper.record(begun, (&sealed.pending, previous), clock::now())?;
        self.publish_what_was_in_force(keeper, &published, &sealed.pending, previous)
    }

    /// Unless somebody has written there since what lets in.
    fn publish_what_was_in_force(
        &self,
        keeper: &mut Keeper<'_>,
        there: &Credential,
        pending: &Credential,
        previous: &Credential,
    ) -> Result<()> {
        if there.is(pending) || there.is(previous) || self.accounts.log_in(there)? != Login::Refused {
            return Ok(());
        }
        let document = self.vault.document(&self.rotation.published)?;
        if !published::read(self.rotation, &document).is_some_and(|now| now.is(there)) {
            return Ok(());
        }
        let document = published::with(self.rotation, &document, previous);
        // After it was read: who takes over from now on writes it once more.
        keeper.renew(clock::now())?;
        self.vault.write(&self.rotation.published, &document).map(drop)
    }
}
