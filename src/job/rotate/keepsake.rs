//! What of a rotation stays on this host: the pending secret sealed to the operators, the account as it was, and the key that
//! fingerprints are made with.
//!
//! Sealed files open with the recovery key alone: `age -d -i recovery-key.txt FILE | zstd -d`. The host itself cannot read them.

use super::lost::Sealed;
use super::passed::{self, Passed};
use super::record::Glance;
use crate::durable::{self, Lock};
use crate::engine::Credential;
use crate::error::{Context, Failure, Kind, Result};
use crate::repo::container::{decode, encode};
use crate::repo::keys::{Keyring, Recipients};
use crate::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Digits of a fingerprint: enough to tell secrets apart, and no help in guessing one.
const DIGITS: usize = 12;

/// The directory of rotations in the state of this host.
pub struct Keepsake {
    directory: PathBuf,
    recipients: Recipients,
}

impl Keepsake {
    /// `recipients` are the operators of the repository.
    pub fn of(state: &Path, recipients: Recipients) -> Result<Self> {
        let directory = directory(state);
        durable::create_private_directory(&directory).context(|| format!("cannot create {}", directory.display()))?;
        Ok(Keepsake { directory, recipients })
    }

    pub fn escrow(&self, rotation: &str) -> PathBuf {
        self.directory.join(format!("{rotation}.pending.age"))
    }

    /// What was in force when that one was made.
    pub fn previous(&self, rotation: &str) -> PathBuf {
        self.directory.join(format!("{rotation}.previous.age"))
    }

    /// The account as it was before the last rotation.
    pub fn account(&self, rotation: &str) -> PathBuf {
        self.directory.join(format!("{rotation}.account.age"))
    }

    /// The account as it was when a server that was put back was given what is published, after that run.
    pub fn replaced(&self, rotation: &str, run: &str) -> PathBuf {
        self.directory.join(format!("{rotation}.replaced.{run}.age"))
    }

    /// One process of this host rotates it at a time.
    pub fn lock(&self, rotation: &str) -> Result<Lock> {
        Lock::take(&self.directory.join(format!("{rotation}.lock")), &format!("the rotation {rotation}"))
    }

    /// And one at all: several may be written into the same file, and move the same consumers.
    pub fn turn(&self) -> Result<Lock> {
        Lock::take(&self.directory.join("at-work"), "the rotations of this host")
    }

    /// Of this run.
    pub fn is_escrowed(&self, rotation: &str, run: Option<&str>) -> bool {
        let noted = self.run(rotation);
        self.escrow(rotation).exists() && (noted.is_none() || noted.as_deref() == run)
    }

    /// Notes at which version the record in Vault was, and for which run, before the pending secret is escrowed.
    pub fn note_run(&self, rotation: &str, version: u64, run: &str) -> Result<()> {
        let path = version_file(&self.directory, rotation);
        let what = || format!("cannot write {}", path.display());
        durable::write(&path, format!("{version} {run}").as_bytes(), 0o600).context(what)
    }

    /// Who was moved and seen to work.
    pub fn passed(&self, rotation: &str) -> Passed {
        Passed::read(passed::file(&self.directory, rotation))
    }

    /// The run whose secret is escrowed, where that was noted.
    pub fn run(&self, rotation: &str) -> Option<String> {
        noted(&self.directory, rotation)?.1
    }

    /// A pending secret is here, and Vault has not heard of its run: it went back to an older state. Where another host brought
    /// the rotation to its end, that is known there.
    pub fn is_lost(&self, rotation: &str, glance: &Glance) -> bool {
        is_lost(&self.directory, rotation, glance)
    }

    /// The same where nobody asks who the operators are.
    pub fn is_lost_of(state: &Path, rotation: &str, glance: &Glance) -> bool {
        is_lost(&directory(state), rotation, glance)
    }

    /// What is sealed of both secrets, with the recovery key.
    pub fn unseal(&self, rotation: &str, keys: &Keyring) -> Result<Sealed> {
        let previous = self.previous(rotation);
        let previous = previous.exists().then(|| unsealed(&previous, keys)).transpose()?;
        Ok(Sealed { pending: unsealed(&self.escrow(rotation), keys)?, previous })
    }

    /// Its user stands before it, where the name changes with the secret.
    pub fn seal_credential(&self, path: &Path, credential: &Credential) -> Result<()> {
        let user = credential.user.as_ref().map_or_else(String::new, |user| format!("{user}\n"));
        self.seal(path, &Secret::new(format!("{user}{}", credential.expose())))
    }

    /// Nothing is pending any more of runs that came to their end. What is of another one may be the only copy of a password that
    /// somebody uses, and is moved aside.
    pub fn clear(&self, rotation: &str, is_over: impl FnOnce(&str) -> bool, now: Timestamp) -> Result<()> {
        let (escrow, noted) = (self.escrow(rotation), self.run(rotation));
        let is_kept = escrow.exists() && !noted.is_some_and(|run| is_over(&run));
        for (path, what) in [(self.previous(rotation), "previous"), (escrow, "pending")] {
            if is_kept && path.exists() {
                let aside = self.directory.join(format!("{rotation}.{what}.{}.age", now.strftime("%Y%m%dT%H%M%SZ")));
                durable::move_new(&path, &aside).context(|| format!("cannot move {} aside", path.display()))?;
            }
            self.remove(&path)?;
        }
        self.remove(&passed::file(&self.directory, rotation))?;
        self.remove(&version_file(&self.directory, rotation))
    }

    /// Durable when this returns.
    pub fn seal(&self, path: &Path, secret: &Secret) -> Result<()> {
        let text = Zeroizing::new(format!("{}\n", secret.expose().trim_end()));
        let sealed = encode::seal(text.as_bytes(), &self.recipients)?;
        durable::write(path, &sealed, 0o600).context(|| format!("cannot write {}", path.display()))
    }

    pub fn remove(&self, path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context(|| format!("cannot remove {}", path.display()))
            }
            _ => durable::sync_directory(&self.directory).context(|| "cannot sync a directory".into()),
        }
    }
}

fn unsealed(path: &Path, keys: &Keyring) -> Result<Credential> {
    let sealed = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let text = Zeroizing::new(decode::open_whole(&sealed, keys, &path.display().to_string())?);
    let text = std::str::from_utf8(&text).map_err(|_| Failure::failed(format!("{} is damaged", path.display())))?;
    let (user, secret) = match text.trim_end().split_once('\n') {
        Some((user, secret)) => (Some(user.to_owned()), secret),
        None => (None, text.trim_end()),
    };
    Ok(Credential { user, secret: Secret::new(secret.to_owned()) })
}

fn version_file(directory: &Path, rotation: &str) -> PathBuf {
    directory.join(format!("{rotation}.pending.version"))
}

/// The version of the record and the run that were noted with an escrow.
fn noted(directory: &Path, rotation: &str) -> Option<(u64, Option<String>)> {
    let text = std::fs::read_to_string(version_file(directory, rotation)).ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next().map(str::to_owned)))
}

fn is_lost(directory: &Path, rotation: &str, glance: &Glance) -> bool {
    let is_escrowed = directory.join(format!("{rotation}.pending.age")).exists();
    is_escrowed
        && noted(directory, rotation).is_some_and(|(version, run)| match run {
            // However many were written since: other hosts write, too.
            Some(run) => !glance.knows(&run),
            None => glance.version < version,
        })
}

fn directory(state: &Path) -> PathBuf {
    state.join("rotations")
}

/// Tells secrets apart without telling them: the same for the same secret, on this host.
pub struct Fingerprints(Zeroizing<Vec<u8>>);

impl Fingerprints {
    pub fn of(state: &Path) -> Result<Self> {
        let path = directory(state).join("fingerprint-key");
        let what = || format!("cannot read {}", path.display());
        durable::create_private_directory(&directory(state)).context(what)?;
        let fresh = Zeroizing::new(durable::random_hex(32));
        match durable::write_new(&path, fresh.as_bytes(), 0o600) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).context(what),
            _ => {}
        }
        let key = std::fs::read(&path).context(what)?;
        if key.len() < 32 {
            return Err(Failure::new(Kind::Key, format!("{} is damaged", path.display()))
                .hint("Move it away: fingerprints from now on cannot be compared with those before"));
        }
        Ok(Fingerprints(Zeroizing::new(key)))
    }

    pub fn fingerprint(&self, secret: &Secret) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(secret.expose().as_bytes());
        let mut text = hex::encode(mac.finalize().into_bytes());
        text.truncate(DIGITS);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_the_same_on_one_host_only() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let secret = Secret::new("hunter2".into());
        let print = |directory: &tempfile::TempDir| Fingerprints::of(directory.path()).unwrap().fingerprint(&secret);
        assert_eq!(print(&one), print(&one));
        assert_ne!(print(&one), print(&other));
        assert_eq!(print(&one).len(), DIGITS);
    }
}
