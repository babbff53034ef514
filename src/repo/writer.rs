//! The writer: what this installation holds to write into one repository, kept in its state directory, mode 0600.
//!
//! With it one can write points, list them, and reuse chunks; one cannot read a single byte that was backed up.
//! It also pins what the store must not be believed about: recipients, the epoch, and the writer's own key.

use crate::durable::{self, Lock};
use crate::error::{Context, Failure, Kind, Result};
use crate::repo::keys::{Epoch, Keyring, NamedRecipient, Recipients};
use crate::repo::sealed::SealedBy;
use crate::repo::sign::{self, Trust};
use age::secrecy::ExposeSecret;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// `writers/W.json`, for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterInfo {
    pub format: u32,
    pub writer: String,
    pub name: String,
    pub verify_key: String,
    pub recipient: String,
    pub created: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    repository: String,
    info: WriterInfo,
    identity: String,
    signing_key: String,
    secret: String,
    recipients: Vec<NamedRecipient>,
    /// Absent in states of older versions.
    #[serde(default)]
    list_version: u32,
    epoch: Epoch,
    #[serde(default)]
    oldest_reused: u32,
    #[serde(default)]
    epoch_list: u32,
}

pub struct Writer {
    pub repository: String,
    pub info: WriterInfo,
    pub signing: SigningKey,
    /// Keys chunk ids and the chunker are derived from.
    secret: Zeroizing<[u8; 32]>,
    identity: age::x25519::Identity,
    pub recipients: Vec<NamedRecipient>,
    /// Number of the list in the repository that `recipients` is from: the store must not come with an older one.
    pub list_version: u32,
    pub epoch: Epoch,
    /// Packs of data epochs before this one are not used again: what is in them is stored anew.
    pub oldest_reused: u32,
    /// Number of the list that `epoch` was sealed to first; 0 in states of older versions, which kept an epoch for whom it should
    /// not be open any more.
    pub epoch_list: u32,
    path: PathBuf,
}

/// Whom an object is sealed to (the table in `docs/FORMAT.md` §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Points and indexes: writer, operators, rehearsers, epoch.
    All,
    /// Streams and bodies: operators, rehearsers, epoch.
    Restorers,
    /// Packs: the epoch alone.
    Epoch,
    /// Sessions: writer and operators.
    Bookkeeping,
}

/// Where the state of a repository's writer is.
pub fn state_file(state: &Path, repository: &str) -> PathBuf {
    state.join("repositories").join(repository).join("writer.json")
}

/// Who reads what this host writes, where the repository is not asked; nobody where it writes into several, or none.
pub fn readers(state: &Path) -> Vec<NamedRecipient> {
    #[derive(Deserialize)]
    struct Readers {
        recipients: Vec<NamedRecipient>,
    }
    let all = std::fs::read_dir(state.join("repositories")).into_iter().flatten().flatten();
    let texts = all.filter_map(|entry| std::fs::read(entry.path().join("writer.json")).ok().map(Zeroizing::new));
    let mut all: Vec<Readers> = texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect();
    match all.len() {
        1 => all.remove(0).recipients,
        _ => Vec::new(),
    }
}

impl Writer {
    /// Makes a new writer; nothing is stored before [`save`](Self::save).
    pub fn generate(
        repository: &str,
        name: &str,
        recipients: Vec<NamedRecipient>,
        state: &Path,
        now: Timestamp,
    ) -> Result<Self> {
        let mut seed = Zeroizing::new([0u8; 32]);
        let mut secret = Zeroizing::new([0u8; 32]);
        for bytes in [&mut seed, &mut secret] {
            getrandom::fill(&mut bytes[..])
                .map_err(|e| Failure::failed("the kernel gives no random bytes").because(e.to_string()))?;
        }
        let signing = SigningKey::from_bytes(&seed);
        let identity = age::x25519::Identity::generate();
        let info = WriterInfo {
            format: super::point::FORMAT,
            writer: durable::random_hex(8),
            name: name.to_owned(),
            verify_key: sign::key_text(&signing.verifying_key()),
            recipient: identity.to_public().to_string(),
            created: now,
        };
        let epoch = Epoch::generate(1, &recipients)?;
        let path = state_file(state, repository);
        let repository = repository.to_owned();
        Ok(Writer {
            repository,
            info,
            signing,
            secret,
            identity,
            recipients,
            list_version: 0,
            epoch,
            oldest_reused: 0,
            epoch_list: 0,
            path,
        })
    }

    /// `None` when this installation is no writer of the repository.
    pub fn load(state: &Path, repository: &str) -> Result<Option<Self>> {
        Writer::read(state_file(state, repository))
    }

    /// As its keys are now: somebody may have changed them since this was loaded. Whoever does looks which sources are locked once the
    /// new keys are in force, so that nothing is begun with the old ones after that.
    pub fn again(&self) -> Result<Self> {
        Writer::read(self.path.clone())?
            .ok_or_else(|| Failure::new(Kind::Key, format!("{} is gone", self.path.display())))
    }

    fn read(path: PathBuf) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::from_io(e, || format!("cannot read {}", path.display()))),
        };
        let damaged = |why: &str| {
            Failure::new(Kind::Key, format!("{} is damaged: {why}", path.display()))
                .hint("Put it back from a copy, or move it away and register this host anew with: bkp init --join")
        };
        let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged("it is not what bkp wrote"))?;
        super::point::refuse_newer(stored.format, &path.display().to_string())?;
        let bytes =
            |text: &str| BASE64.decode(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok()).map(Zeroizing::new);
        let seed = bytes(&stored.signing_key).ok_or_else(|| damaged("the signing key"))?;
        Ok(Some(Writer {
            repository: stored.repository,
            info: stored.info,
            signing: SigningKey::from_bytes(&seed),
            secret: bytes(&stored.secret).ok_or_else(|| damaged("the secret"))?,
            identity: stored.identity.parse().map_err(|_| damaged("the identity"))?,
            recipients: stored.recipients,
            list_version: stored.list_version,
            epoch: stored.epoch,
            oldest_reused: stored.oldest_reused,
            epoch_list: stored.epoch_list,
            path,
        }))
    }

    pub fn save(&self) -> Result<()> {
        let what = || format!("cannot write {}", self.path.display());
        let stored = Stored {
            format: super::point::FORMAT,
            repository: self.repository.clone(),
            info: self.info.clone(),
            identity: self.identity.to_string().expose_secret().to_owned(),
            signing_key: BASE64.encode(self.signing.to_bytes()),
            secret: BASE64.encode(&self.secret[..]),
            recipients: self.recipients.clone(),
            list_version: self.list_version,
            epoch: self.epoch.clone(),
            oldest_reused: self.oldest_reused,
            epoch_list: self.epoch_list,
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&stored).map_err(|e| Failure::failed(what()).because(e))?);
        durable::create_private_directory(durable::parent_of(&self.path)).context(what)?;
        durable::write(&self.path, &text, 0o600).context(what)
    }

    /// Where the newest points that this writer made are remembered.
    pub fn series_memory(&self) -> PathBuf {
        durable::parent_of(&self.path).join("series")
    }

    /// Where samples of the last dumps are kept, by source.
    pub fn sketches(&self) -> PathBuf {
        durable::parent_of(&self.path).join("sketches")
    }

    pub fn id(&self) -> &str {
        &self.info.writer
    }

    pub fn keyring(&self) -> Keyring {
        Keyring::new([self.identity.clone()])
    }

    /// This writer's own signatures are believed without the store.
    pub fn trust(&self) -> Trust {
        Trust { pinned: [(self.info.writer.clone(), self.info.verify_key.clone())].into() }
    }

    /// The line for recovery keys that pins this writer's public key.
    pub fn trust_line(&self) -> String {
        format!("# bkp-writer: {} {}", self.info.writer, self.info.verify_key)
    }

    pub fn chunk_id_key(&self) -> [u8; 32] {
        blake3::derive_key("bkp 2026 chunk ids", &self.secret[..])
    }

    pub fn chunker_secret(&self) -> [u8; 32] {
        blake3::derive_key("bkp 2026 chunk boundaries", &self.secret[..])
    }

    /// With which keys what is written now is sealed.
    pub fn sealed(&self) -> SealedBy {
        let list = if self.epoch_list == 0 { 0 } else { self.list_version };
        SealedBy { epoch: self.epoch.number, list }
    }

    /// Whether new points may refer to what was sealed like this.
    pub fn reuses(&self, sealed: SealedBy) -> bool {
        sealed.epoch >= self.oldest_reused
    }

    /// One process of this host changes its keys at a time; to be taken before the state is loaded.
    pub fn lock(state: &Path, repository: &str) -> Result<Lock> {
        let path = state_file(state, repository).with_extension("lock");
        durable::create_private_directory(durable::parent_of(&path))
            .context(|| format!("cannot create {}", durable::parent_of(&path).display()))?;
        Lock::take(&path, "the keys of this host")
    }

    pub fn audience(&self, audience: Audience) -> Recipients {
        let people = || self.recipients.iter().map(|r| r.recipient.clone());
        let writer = || [self.info.recipient.clone()];
        let epoch = || [self.epoch.recipient.clone()];
        match audience {
            Audience::All => Recipients::new(people().chain(writer()).chain(epoch())),
            Audience::Restorers => Recipients::new(people().chain(epoch())),
            Audience::Epoch => Recipients::new(epoch()),
            Audience::Bookkeeping => Recipients::new(people().chain(writer())),
        }
    }
}
