//! What a rotation of this host stands on: the accounts, who is told of what, and who uses the secret for backups.

use super::{Said, accounts, accounts_of, canary, holder, lease, vault};
use crate::cli::environment::Environment;
use crate::cli::in_force;
use crate::engine::{Accounts, Login, Server, Settings};
use crate::error::{Failure, Kind, Result};
use crate::host;
use crate::job::rotate::delivery::Consumer;
use crate::job::rotate::keepsake::{Fingerprints, Keepsake};
use crate::job::rotate::record;
use crate::job::rotate::rules::{self, Asked, Hindrance};
use crate::job::rotate::targets::Given;
use crate::job::rotate::{Rotate, published};
use crate::journal::State;
use crate::policy::{Policy, Rotation};
use crate::repo::keys::{Keyring, Recipients, Role};
use crate::schedule::Schedule;
use crate::secret::vault::Vault;
use jiff::Timestamp;

/// What a rotation of this host stands on.
pub struct Ground<'e> {
    pub policy: &'e Policy,
    pub rotation: &'e Rotation,
    accounts: Box<dyn Accounts + 'e>,
    /// Of its server, where that is the one of a source.
    pub settings: Option<Settings>,
    pub vault: &'e Vault,
    pub keepsake: Keepsake,
    fingerprints: Fingerprints,
    /// The sources that are backed up with the account.
    pub users: Vec<&'e str>,
}

impl<'e> Ground<'e> {
    pub fn of(env: &'e Environment, name: &str, given: Given) -> Result<Self> {
        let (policy, rotation) = env.configuration()?.rotation(name)?;
        let given = accounts::given_for(env, rotation, given)?;
        let users = env.configuration()?.users_of(policy, rotation, &in_force::is_same_server);
        let (accounts, settings) = accounts_of(env, policy, rotation, given)?;
        let repository = env.repository()?;
        let operators = env.writer(&repository)?.recipients.into_iter().filter(|r| r.role == Role::Operator);
        let state = &env.paths()?.state;
        Ok(Ground {
            policy,
            rotation,
            accounts,
            settings,
            vault: vault(env)?,
            keepsake: Keepsake::of(state, Recipients::new(operators.map(|operator| operator.recipient)))?,
            fingerprints: Fingerprints::of(state)?,
            users,
        })
    }

    pub fn rotate<'g>(
        &'g self,
        env: &Environment,
        Said { why, .. }: &Said,
        run: &str,
        prove: &'g dyn Fn() -> Result<String>,
        note: &'g dyn Fn(crate::journal::Rotated),
    ) -> Result<Rotate<'g>> {
        let (name, all) = (&self.rotation.name, &self.rotation.consumers);
        Ok(Rotate {
            rotation: self.rotation,
            run: run.to_owned(),
            accounts: &*self.accounts,
            vault: self.vault,
            record: record::path(&env.configuration()?.rotator.vault_path, name)?,
            keepsake: &self.keepsake,
            fingerprints: &self.fingerprints,
            consumers: all.iter().map(|consumer| Consumer::of(name, consumer, all)).collect(),
            recovery: self.recovery(env)?,
            holder: holder(env)?,
            lease: lease(env)?,
            by: env.asker(),
            because: why.because.clone(),
            last_closed: None,
            emergency: why.emergency,
            taken: Vec::new(),
            prove,
            note,
        })
    }

    pub fn server(&self) -> Option<&Server> {
        self.settings.as_ref().and_then(Settings::server)
    }

    /// What opens escrows, where somebody gave it.
    fn recovery(&self, env: &Environment) -> Result<Option<Keyring>> {
        if !env.has_identity() {
            return Ok(None);
        }
        env.operator()?.keyring(&*env.repository()?.store).map(Some)
    }

    pub fn may_begin(
        &self,
        env: &Environment,
        state: &State,
        said: &Said,
    ) -> Result<std::result::Result<(), Hindrance>> {
        let Ground { policy, rotation, .. } = *self;
        let asked = Asked { configuration: env.configuration()?, policy, rotation, state, now: env.now };
        Ok(rules::may_begin(&asked, said.allowed()))
    }

    /// Since when the slot that this is for is none any more, by what the journal knows now: somebody came before it, or another
    /// host had the same one.
    pub fn rotated_since(&self, env: &Environment, state: &State) -> Result<Option<Timestamp>> {
        let Some(slot) = &env.slot else { return Ok(None) };
        let known = state.rotations.get(&self.rotation.name).and_then(|known| known.rotated.as_ref());
        let Some(rotated) = known.map(|(at, _)| *at) else { return Ok(None) };
        let configuration = env.configuration()?;
        let schedule = Schedule::of_rotation(configuration, self.policy, self.rotation, &host::name(), Some(rotated));
        let is_due = schedule.calendar.counts(slot.id.slot) && rotated < slot.id.slot;
        Ok((!is_due).then_some(rotated))
    }

    /// What is published lets in, everywhere.
    pub fn published_works(&self) -> Result<String> {
        match self.accounts.log_in(&published::now(self.vault, self.rotation)?.1)? {
            Login::Accepted => Ok("a login with what is published".to_owned()),
            Login::Refused | Login::Partly => Err(Failure::new(Kind::Key, "what is published is refused")
                .hint(format!("bkp rotate resume {}", self.rotation.name))),
            Login::Unknown(why) => {
                Err(Failure::new(Kind::TryLater, why).hint(format!("bkp rotate resume {}", self.rotation.name)))
            }
        }
    }

    /// What was done with the new one by bkp itself, where it uses it.
    pub fn canaries(&self, env: &Environment) -> Result<Vec<String>> {
        let (users, copies) = (&self.users, env.configuration()?.copies_opened_with(self.rotation));
        let sources = match (&self.settings, users.is_empty()) {
            (_, true) => None,
            (Some(_), false) => {
                users.iter().try_for_each(|source| canary::backup(env, source))?;
                Some(users.join(", "))
            }
            // It opens the repository: one proves as much as all.
            (None, false) => {
                let (source, failed) = canary::backup_of_one(env, users)?;
                failed.iter().for_each(|failure| env.output.warn(&failure.full()));
                Some(source.to_owned())
            }
        };
        copies.iter().try_for_each(|copy| canary::copy(env, copy))?;
        let copies = copies.iter().map(|copy| format!("the copy {copy} brought up to date"));
        Ok(sources.map(|sources| format!("a backup of {sources}")).into_iter().chain(copies).collect())
    }
}
