//! What of a rotation stays on this host: the pending secret sealed to the operators, the account as it was, and the key that
//! fingerprints are made with.
//!
//! Sealed files open with the recovery key alone: `age -d -i recovery-key.txt FILE | zstd -d`. The host itself cannot read them.

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

/// The secrets of a rotation.
pub struct Sealed {
    pub pending: Credential,
    /// What was in force when it was begun; nothing where an older version of bkp began it.
    pub previous: Option<Credential>,
}

/// That the one in force is sealed, too.
const PREVIOUS: &str = "previous";

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

    /// Both, of this run.
    pub fn is_escrowed(&self, rotation: &str, run: Option<&str>) -> bool {
        let noted = noted(&self.directory, rotation);
        let is_of = |noted: Noted| noted.run.is_none() || noted.run.as_deref() == run && noted.has_previous;
        self.escrow(rotation).exists() && noted.is_none_or(is_of)
    }

    /// Before them is noted at which version the record in Vault was, and for which run; the pending one comes last, as by that it is
    /// known that there is something to lose.
    pub fn seal_both(
        &self,
        rotation: &str,
        (version, run): (u64, &str),
        (previous, pending): (&Credential, &Credential),
    ) -> Result<()> {
        let path = version_file(&self.directory, rotation);
        let what = || format!("cannot write {}", path.display());
        let note = |more: &str| durable::write(&path, format!("{version} {run}{more}").as_bytes(), 0o600).context(what);
        note("")?;
        self.seal_credential(&self.previous(rotation), previous)?;
        note(&format!(" {PREVIOUS}"))?;
        self.seal_credential(&self.escrow(rotation), pending)
    }

    /// Who was moved and seen to work.
    pub fn passed(&self, rotation: &str) -> Passed {
        Passed::read(passed::file(&self.directory, rotation))
    }

    /// The run whose secret is escrowed, where that was noted.
    pub fn run(&self, rotation: &str) -> Option<String> {
        noted(&self.directory, rotation)?.run
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

    /// What is sealed of both secrets, with the recovery key. With `users` where the name changes with the secret.
    pub fn unseal(&self, rotation: &str, users: bool, keys: &Keyring) -> Result<Sealed> {
        let previous = self.previous(rotation);
        // Without the word it may be of another one, which an older version of bkp left there.
        let is_there = noted(&self.directory, rotation).is_some_and(|noted| noted.has_previous) && previous.exists();
        let previous = is_there.then(|| unsealed(&previous, users, keys)).transpose()?;
        Ok(Sealed { pending: unsealed(&self.escrow(rotation), users, keys)?, previous })
    }

    /// Its user stands before it, where the name changes with the secret.
    fn seal_credential(&self, path: &Path, credential: &Credential) -> Result<()> {
        let user = credential.user.as_ref().map_or_else(String::new, |user| format!("{user}\n"));
        self.seal_text(path, Zeroizing::new(format!("{user}{}\n", credential.expose())))
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
        self.seal_text(path, Zeroizing::new(format!("{}\n", secret.expose().trim_end())))
    }

    fn seal_text(&self, path: &Path, text: Zeroizing<String>) -> Result<()> {
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

/// To the byte: a key in PEM ends with a line of its own.
fn unsealed(path: &Path, has_user: bool, keys: &Keyring) -> Result<Credential> {
    let sealed = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let text = Zeroizing::new(decode::open_whole(&sealed, keys, &path.display().to_string())?);
    let text = std::str::from_utf8(&text).map_err(|_| Failure::failed(format!("{} is damaged", path.display())))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (user, secret) = match text.split_once('\n').filter(|_| has_user) {
        Some((user, secret)) => (Some(user.to_owned()), secret),
        None => (None, text),
    };
    Ok(Credential { user, secret: Secret::new(secret.to_owned()) })
}

fn version_file(directory: &Path, rotation: &str) -> PathBuf {
    directory.join(format!("{rotation}.pending.version"))
}

/// What was noted with an escrow.
struct Noted {
    version: u64,
    run: Option<String>,
    has_previous: bool,
}

fn noted(directory: &Path, rotation: &str) -> Option<Noted> {
    let text = std::fs::read_to_string(version_file(directory, rotation)).ok()?;
    let mut words = text.split_whitespace();
    let (version, run) = (words.next()?.parse().ok()?, words.next().map(str::to_owned));
    Some(Noted { version, run, has_previous: words.next() == Some(PREVIOUS) })
}

fn is_lost(directory: &Path, rotation: &str, glance: &Glance) -> bool {
    let is_escrowed = directory.join(format!("{rotation}.pending.age")).exists();
    is_escrowed
        && noted(directory, rotation).is_some_and(|noted| match noted.run {
            // However many were written since: other hosts write, too.
            Some(run) => !glance.knows(&run),
            None => glance.version < noted.version,
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

    /// A key in PEM ends with a line break, and is another one without.
    #[test]
    fn both_secrets_come_back_to_the_byte() {
        let identity = age::x25519::Identity::generate();
        let recipients = Recipients::new([identity.to_public().to_string()]);
        let keys = Keyring::new([identity]);
        let directory = tempfile::tempdir().unwrap();
        let keepsake = Keepsake::of(directory.path(), recipients).unwrap();
        let credential = |user: Option<&str>, text: &str| Credential {
            user: user.map(str::to_owned),
            secret: Secret::new(text.to_owned()),
        };
        for (user, previous, pending) in
            [(Some("kid"), "-----BEGIN\nof it\n-----END\n", "x"), (None, "pw ", "pw\t"), (None, "a\nb", "\n")]
        {
            let (previous, pending) = (credential(user, previous), credential(user, pending));
            keepsake.seal_both("db", (7, "r1"), (&previous, &pending)).unwrap();
            let sealed = keepsake.unseal("db", user.is_some(), &keys).unwrap();
            assert!(sealed.pending.is(&pending) && sealed.previous.unwrap().is(&previous), "{user:?}");
            assert!(keepsake.is_escrowed("db", Some("r1")) && !keepsake.is_escrowed("db", Some("r2")));
        }
        // As an older version notes it: what lies beside it may be of another rotation.
        std::fs::write(version_file(&keepsake.directory, "db"), "7 r1").unwrap();
        assert!(keepsake.unseal("db", false, &keys).unwrap().previous.is_none());
        assert!(!keepsake.is_escrowed("db", Some("r1")), "it is sealed once more, with the other one");
    }

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
