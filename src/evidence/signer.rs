//! Who signs the journal of this host: its writer, or, on a host that writes into no repository, a key of its own.
//!
//! A verifier that rehearses and only reads has no writer's key, and its journal has to be proof as well. Its key is made when
//! somebody says so, never by itself: a host that lost its writer's state must not go on under another name unseen.

use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use crate::repo::sign;
use crate::repo::writer::Writer;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Clone)]
pub struct Signer {
    pub id: String,
    pub host: String,
    /// Empty where the host writes into none.
    pub repository: String,
    pub key: SigningKey,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    id: String,
    host: String,
    created: Timestamp,
    verify_key: String,
    signing_key: String,
}

fn file(state: &Path) -> PathBuf {
    state.join("evidence").join("key.json")
}

impl Signer {
    pub fn of(writer: &Writer) -> Self {
        Signer {
            id: writer.id().to_owned(),
            host: writer.info.name.clone(),
            repository: writer.repository.clone(),
            key: writer.signing.clone(),
        }
    }

    /// The key of this host's own, where one was made.
    pub fn own(state: &Path) -> Result<Option<Self>> {
        let path = file(state);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::from_io(e, || format!("cannot read {}", path.display()))),
        };
        let damaged = || {
            Failure::new(Kind::Key, format!("{} is damaged", path.display()))
                .hint("Put it back from a copy, or move it away and make another one: bkp evidence key --new")
        };
        let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged())?;
        crate::repo::point::refuse_newer(stored.format, &path.display().to_string())?;
        let secret = Zeroizing::new(stored.signing_key);
        let seed = BASE64.decode(&*secret).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = SigningKey::from_bytes(&Zeroizing::new(seed.ok_or_else(damaged)?));
        Ok(Some(Signer { id: stored.id, host: stored.host, repository: String::new(), key }))
    }

    /// Makes a key of this host's own. One that is there is never replaced: what it signed would not be believed any more.
    pub fn make(state: &Path, host: &str, now: Timestamp) -> Result<Self> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut seed[..])
            .map_err(|e| Failure::failed("the kernel gives no random bytes").because(e.to_string()))?;
        let key = SigningKey::from_bytes(&seed);
        let id = durable::random_hex(8);
        let stored = Stored {
            format: 1,
            id: id.clone(),
            host: host.to_owned(),
            created: now,
            verify_key: sign::key_text(&key.verifying_key()),
            signing_key: BASE64.encode(&seed[..]),
        };
        let path = file(state);
        let cannot = || format!("cannot write {}", path.display());
        durable::create_private_directory(durable::parent_of(&path)).context(cannot)?;
        let text = serde_json::to_vec_pretty(&stored).map_err(|e| Failure::failed(cannot()).because(e))?;
        match durable::write_new(&path, &Zeroizing::new(text), 0o600) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::new(Kind::Refused, "this host has a key of its own already").hint("See: bkp evidence key"))
            }
            done => done.context(cannot),
        }?;
        Ok(Signer { id, host: host.to_owned(), repository: String::new(), key })
    }
}
