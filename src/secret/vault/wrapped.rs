//! The first secret id of an AppRole, which comes wrapped: a token that gives it once.
//!
//! It is unwrapped once, and kept in the state directory, readable for its owner only. Before, it is looked up where the
//! wrapping token comes from: one that somebody else made is refused. A process killed between unwrapping and keeping
//! needs a new wrapping token; that is the price of a token that works once.

use super::connection::{Connection, Trouble};
use super::{Vault, told};
use crate::backoff::{Budget, pause};
use crate::durable::{self, Lock};
use crate::error::{Context, Failure, Kind, Result};
use crate::secret::{Secret, SecretRef, local};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use vaultrs::sys::wrapping;
use zeroize::{Zeroize, Zeroizing};

/// How often it is looked whether another process has done it.
const TRIES: u32 = 50;

pub(super) struct Kept {
    pub secret_id: Secret,
    /// Fingerprint of the token it came in.
    from: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    from: String,
    secret_id: String,
}

impl Drop for File {
    fn drop(&mut self) {
        self.secret_id.zeroize();
    }
}

impl Vault {
    /// The secret id that is kept, or that of the wrapping token.
    pub(super) fn secret_id(
        &self,
        connection: &Connection,
        mount: &str,
        reference: &SecretRef,
        patience: &Budget,
    ) -> Result<Kept> {
        if let Some(kept) = self.kept()? {
            return Ok(kept);
        }
        let _lock = self.only_one()?;
        match self.kept()? {
            Some(kept) => Ok(kept),
            None => self.unpack(connection, mount, (reference, &local::read(reference)?), patience),
        }
    }

    /// The one to use after `old`, when there is one: kept by another process meanwhile, or in another wrapping token.
    pub(super) fn next_secret_id(
        &self,
        connection: &Connection,
        mount: &str,
        reference: &SecretRef,
        (old, patience): (&Kept, &Budget),
    ) -> Result<Option<Kept>> {
        let _lock = self.only_one()?;
        if let Some(kept) = self.kept()?.filter(|kept| kept.from != old.from) {
            return Ok(Some(kept));
        }
        match local::read(reference) {
            Ok(token) if fingerprint(&token) != old.from => {
                self.unpack(connection, mount, (reference, &token), patience).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn unpack(
        &self,
        connection: &Connection,
        mount: &str,
        (reference, token): (&SecretRef, &Secret),
        patience: &Budget,
    ) -> Result<Kept> {
        let token = Secret::new(token.expose().trim().to_owned());
        let speaker = connection.speaker(Some(&token))?;
        let used = |trouble: Trouble| match trouble.is_outage() {
            true => told::outage(&self.settings, &trouble),
            false => used_up(reference, &trouble),
        };
        // Asked for by nobody in particular: as the asker, the token would be used up.
        let nobody = connection.speaker(None)?;
        let origin = self.insist(patience, || {
            let (speaker, token) = (nobody.clone(), token.clone());
            connection.ask(async move { wrapping::lookup(speaker.client(), token.expose()).await })
        });
        let path = origin.map_err(used)?.creation_path;
        if !(path.starts_with(&format!("auth/{mount}/role/")) && path.ends_with("/secret-id")) {
            return Err(Failure::new(Kind::Key, format!("the wrapping token of {reference} holds no secret id: it was made at {path}"))
                .hint("Somebody may have exchanged it. Find out who, and make a new one: vault write -wrap-ttl=10m -f auth/approle/role/NAME/secret-id"));
        }
        // Not tried again when the answer is lost: it works once.
        let answer = connection.ask(async move { wrapping::unwrap::<Value>(speaker.client(), None).await });
        let mut answer = answer.map_err(used)?;
        let Some(Value::String(text)) = answer.get_mut("secret_id").map(Value::take) else {
            return Err(Failure::new(Kind::Key, format!("the wrapping token of {reference} held no secret id")));
        };
        let kept = Kept { secret_id: Secret::new(text), from: fingerprint(&token) };
        self.keep(&kept)?;
        Ok(kept)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.state.join("vault").join("secret-id.json")
    }

    pub(super) fn kept(&self) -> Result<Option<Kept>> {
        let path = self.file();
        let text = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(|| format!("cannot read the secret id for Vault in {}", path.display())),
        };
        // The error of the parser could hold a part of the text.
        let file: File = serde_json::from_slice(&text).map_err(|_| {
            Failure::new(Kind::Key, format!("{} does not hold a secret id for Vault any more", path.display()))
                .hint("Remove it, and give bkp a new wrapped secret id")
        })?;
        Ok(Some(Kept { secret_id: Secret::new(file.secret_id.clone()), from: file.from.clone() }))
    }

    /// Another one in place of the one that is kept.
    pub(super) fn keep_instead(&self, secret_id: &Secret) -> Result<()> {
        let from = self.kept()?.map_or_else(String::new, |kept| kept.from);
        self.keep(&Kept { secret_id: secret_id.clone(), from })
    }

    fn keep(&self, kept: &Kept) -> Result<()> {
        let file = File { from: kept.from.clone(), secret_id: kept.secret_id.expose().to_owned() };
        let text = serde_json::to_vec(&file).map(Zeroizing::new);
        let text = text.map_err(|e| Failure::failed("cannot write down the secret id for Vault").because(e))?;
        let path = self.file();
        durable::write(&path, &text, 0o600).context(|| {
            format!(
                "cannot keep the secret id for Vault in {}; the wrapping token is used up, so make a new one",
                path.display()
            )
        })
    }

    /// Unwrapping is for one process at a time.
    fn only_one(&self) -> Result<Lock> {
        let directory = self.state.join("vault");
        durable::create_private_directory(&directory).context(|| format!("cannot create {}", directory.display()))?;
        for _ in 1..TRIES {
            match Lock::take(&directory.join("lock"), "the login at Vault") {
                Err(failure) if failure.kind() == Kind::Locked => {
                    pause(Duration::from_millis(100), &*self.stopped);
                }
                other => return other,
            }
        }
        Lock::take(&directory.join("lock"), "the login at Vault")
    }
}

/// So that the same token is known again, and nobody learns it from the file.
fn fingerprint(token: &Secret) -> String {
    blake3::hash(token.expose().trim().as_bytes()).to_hex().to_string()
}

fn used_up(reference: &SecretRef, trouble: &Trouble) -> Failure {
    Failure::new(Kind::Key, format!("the wrapping token of {reference} is used up or too old: {}", trouble.words())).hint(
        "If bkp never ran with it, somebody else unwrapped it: find out who. Then make a new one: vault write -wrap-ttl=10m -f auth/approle/role/NAME/secret-id",
    )
}
