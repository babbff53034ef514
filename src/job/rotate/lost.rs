//! A rotation that Vault knows nothing of any more, as it was brought back to a state from before: both of its secrets are sealed on
//! this host, and with the recovery key it goes on from where it was.
//!
//! However far back that state is: what is published then may be older than what was in force when the rotation was begun, and whatever
//! was locked or added in between is forgotten. So what was in force is published again, by whoever goes on and until that is done, and
//! in the end only the new one lets in.

use super::act::{At, Rotate};
use super::keepsake::Sealed;
use super::published;
use super::record::{self, Begun, Keeper, Recovered};
use super::state::Direction;
use crate::clock;
use crate::durable::crash_point;
use crate::engine::{Credential, Login};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::policy::Target;
use crate::secret::vault::Written;
use sha2::{Digest, Sha256};

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
        self.keepsake.unseal(name, self.rotation.changes_name(), keys).map(Some)
    }

    /// In Vault again, as it was.
    pub(super) fn record_anew(&self, keeper: &mut Keeper<'_>, sealed: &Sealed, cancel: &Cancel) -> Result<()> {
        let run = self.keepsake.run(&self.rotation.name).unwrap_or_else(|| self.run.clone());
        let (_, there) = published::now(self.vault, self.rotation)?;
        let previous = sealed.previous.as_ref().unwrap_or(&there);
        let recovered = Some(Recovered { digest: digest(&there), user: there.user.clone() });
        let mark = Some(self.accounts.mark(cancel)?);
        let begun = Begun { run: &run, urgent: self.emergency, mark, taken: &self.taken, recovered };
        keeper.record(begun, (&sealed.pending, previous), clock::now())?;
        crash_point("rotate:recorded-anew");
        Ok(())
    }

    /// What was in force, where Vault has something older still; unless somebody has published another one since, or it lets in. Who
    /// takes over writes the same once more, and others may change what stands beside it: so it is not known by its version.
    pub(super) fn publish_again(&self, at: &mut At<'_>) -> Result<()> {
        let (Some(recovered), Some(pair)) = (at.keeper.recovered(), at.pair()) else { return Ok(()) };
        let document = self.vault.document(&self.rotation.published)?;
        let Some(there) = published::read(self.rotation, &document) else { return Ok(()) };
        if there.is(pair.pending) || there.is(pair.current) || digest(&there) != recovered.digest {
            return Ok(());
        }
        match self.rotation.target {
            // The list of those that are good is as old as that: it says nothing, and has neither of the two.
            Target::SigningKey(_) => self.accounts.accept_both(pair.turned(), &at.leased)?,
            _ => match self.accounts.log_in(&there)? {
                Login::Refused => {}
                Login::Accepted => return Ok(()),
                Login::Partly => return Err(self.later("some nodes take what is published, and others do not", at)),
                Login::Unknown(why) => return Err(self.later(&why, at)),
            },
        }
        // After it was read: who takes over from now on writes it once more.
        at.keeper.renew()?;
        let document = published::with(self.rotation, &document, pair.current);
        if let Written::Version(_) = self.vault.write(&self.rotation.published, &document)? {
            let note = "again, as Vault came back from an older state: what was in force when this was begun";
            self.noted(at, "unpublished", None, Some(note.into()));
        }
        Ok(())
    }

    /// A Vault that was put back has forgotten who was locked how, and what was in force in between.
    pub(super) fn only_the_new_one(&self, at: &At<'_>) -> Result<()> {
        let (Some(recovered), Some(pair), Direction::Forward) =
            (at.keeper.recovered(), at.pair(), at.keeper.direction())
        else {
            return Ok(());
        };
        at.keeper.renew()?;
        self.accounts.only(pair.pending, &at.leased)?;
        match recovered.user.filter(|user| pair.pending.user.as_ref() != Some(user)) {
            Some(user) => self.accounts.forget(&user, &at.leased),
            None => Ok(()),
        }
    }
}

/// Kept where the secrets themselves are.
fn digest(credential: &Credential) -> String {
    hex::encode(Sha256::digest(credential.secret.expose()))
}
