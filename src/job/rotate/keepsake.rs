//! What of a rotation stays on this host: the pending secret sealed to the operators, the account as it was, and the key that
//! fingerprints are made with.
//!
//! Sealed files open with the recovery key alone: `age -d -i recovery-key.txt FILE | zstd -d`. The host itself cannot read them.

use crate::durable::{self, Lock};
use crate::engine::Credential;
use crate::error::{Context, Failure, Kind, Result};
use crate::repo::container::{decode, encode};
use crate::repo::keys::{Keyring, Recipients};
use crate::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
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

    /// The account as it was before the last rotation.
    pub fn account(&self, rotation: &str) -> PathBuf {
        self.directory.join(format!("{rotation}.account.age"))
    }

    /// One process of this host rotates it at a time.
    pub fn lock(&self, rotation: &str) -> Result<Lock> {
        Lock::take(&self.directory.join(format!("{rotation}.lock")), &format!("the rotation {rotation}"))
    }

    /// And one at all: several may be written into the same file, and move the same consumers.
    pub fn turn(&self) -> Result<Lock> {
        Lock::take(&self.directory.join("at-work"), "the rotations of this host")
    }

    pub fn is_escrowed(&self, rotation: &str) -> bool {
        self.escrow(rotation).exists()
    }

    /// Notes at which version the record in Vault was, before the pending secret is escrowed.
    pub fn note_version(&self, rotation: &str, version: u64) -> Result<()> {
        let path = self.version_file(rotation);
        let what = || format!("cannot write {}", path.display());
        durable::write(&path, version.to_string().as_bytes(), 0o600).context(what)
    }

    /// The pending secret is here, and a Vault whose record is at this version has not heard of it yet: it went back to an older
    /// state. Where another host brought the rotation to its end, the record has gone on.
    pub fn is_lost(&self, rotation: &str, version: u64) -> bool {
        is_lost(&self.directory, rotation, version)
    }

    /// The same where nobody asks who the operators are.
    pub fn is_lost_of(state: &Path, rotation: &str, version: u64) -> bool {
        is_lost(&directory(state), rotation, version)
    }

    /// What is sealed of the pending secret, with the recovery key.
    pub fn unseal(&self, rotation: &str, keys: &Keyring) -> Result<Credential> {
        let path = self.escrow(rotation);
        let sealed = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        let text = Zeroizing::new(decode::open_whole(&sealed, keys, &path.display().to_string())?);
        let text = std::str::from_utf8(&text).map_err(|_| Failure::failed(format!("{} is damaged", path.display())))?;
        // The user stands before it, where users take turns.
        let (user, secret) = match text.trim_end().split_once('\n') {
            Some((user, secret)) => (Some(user.to_owned()), secret),
            None => (None, text.trim_end()),
        };
        Ok(Credential { user, secret: Secret::new(secret.to_owned()) })
    }

    fn version_file(&self, rotation: &str) -> PathBuf {
        version_file(&self.directory, rotation)
    }

    /// Nothing is pending any more.
    pub fn forget(&self, rotation: &str) -> Result<()> {
        self.remove(&self.escrow(rotation))?;
        self.remove(&self.version_file(rotation))
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

fn version_file(directory: &Path, rotation: &str) -> PathBuf {
    directory.join(format!("{rotation}.pending.version"))
}

fn is_lost(directory: &Path, rotation: &str, version: u64) -> bool {
    let noted = std::fs::read_to_string(version_file(directory, rotation)).ok();
    let noted = noted.and_then(|text| text.trim().parse::<u64>().ok());
    let is_escrowed = directory.join(format!("{rotation}.pending.age")).exists();
    is_escrowed && noted.is_some_and(|noted| version < noted)
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
