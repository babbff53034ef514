//! Who can read: recipients that objects are sealed to, and the keyring that opens them.
//!
//! Operators hold their private halves offline. The data epoch's private half is sealed to them in `keys/`, and opening
//! it once per command is all they are asked for; what follows is opened with the epoch. Removing a recipient protects
//! future data only: what was sealed stays readable to who holds the key.

use crate::error::{Context, Failure, Kind, Result};
use crate::repo::{former, names};
use crate::store::{self, Store};
use age::cli_common::{StdinGuard, read_identities, read_recipients};
use age::secrecy::ExposeSecret;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// age recipients as text, so that they can be stored, compared and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(Vec<String>);

impl Recipients {
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = texts.into_iter().collect();
        all.sort();
        all.dedup();
        Recipients(all)
    }

    /// These, and one more.
    pub fn and(self, recipient: &str) -> Self {
        Recipients::new(self.0.into_iter().chain([recipient.to_owned()]))
    }

    /// Plug-in recipients start their program here.
    pub fn parse(&self) -> Result<Vec<Box<dyn age::Recipient + Send>>> {
        parse_recipients(&self.0)
    }
}

fn parse_recipients(texts: &[String]) -> Result<Vec<Box<dyn age::Recipient + Send>>> {
    read_recipients(texts.to_vec(), vec![], vec![], None, &mut StdinGuard::new(false)).map_err(|e| {
        Failure::usage("a recipient cannot be used")
            .because(e.to_string())
            .hint("A recipient is an age public key (age1…), an ssh public key, or an age plug-in's")
    })
}

/// A private key that opens objects: what a [`Keyring`] is made of.
#[derive(Clone)]
pub struct Keyring(Vec<age::x25519::Identity>);

impl Keyring {
    pub fn new(identities: impl IntoIterator<Item = age::x25519::Identity>) -> Self {
        Keyring(identities.into_iter().collect())
    }

    pub fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|i| i as &dyn age::Identity)
    }

    /// Whether the private half of this recipient is here.
    pub fn holds(&self, recipient: &str) -> bool {
        self.0.iter().any(|i| i.to_public().to_string() == recipient)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn opens_a_point(&self, store: &dyn Store) -> Result<bool> {
        for writer in store.list(names::WRITERS)? {
            let Some(id) = writer.key.last().strip_suffix(".json") else { continue };
            if let Some(point) = store.list(&names::points(id, None))?.last() {
                let sealed = store::read(store, &point.key)?;
                if crate::repo::container::decode::decrypt(&sealed[..], self, point.key.as_str()).is_ok() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    pub fn join(mut self, other: Keyring) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.0.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holds a recovery key.
    Operator,
    /// Restores for rehearsals only; opens the same objects.
    Rehearser,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRecipient {
    pub name: String,
    pub role: Role,
    pub recipient: String,
    pub added: Timestamp,
}

impl NamedRecipient {
    pub fn key(&self) -> String {
        bare(&self.recipient)
    }
}

/// A public key without what people note beside it: the comment of an ssh key.
pub fn bare(recipient: &str) -> String {
    match recipient.starts_with("ssh-") {
        true => recipient.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
        false => recipient.to_owned(),
    }
}

/// Makes an operator or rehearser out of what was typed, or says why not.
pub fn named_recipient(name: &str, role: Role, recipient: &str, now: Timestamp) -> Result<NamedRecipient> {
    let recipient = recipient.trim().to_owned();
    if recipient.starts_with("AGE-SECRET-KEY-") {
        return Err(Failure::new(Kind::Key, "that is a private key; a recipient is the public one (age1…)")
            .hint("Print it with: age-keygen -y FILE"));
    }
    parse_recipients(std::slice::from_ref(&recipient))?;
    Ok(NamedRecipient { name: name.to_owned(), role, recipient, added: now })
}

/// `keys/recipients.json`: a copy of the newest list for people; nobody believes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecipientList {
    pub recipients: Vec<NamedRecipient>,
}

/// A data epoch as its users know it: the public half, and the private half sealed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Epoch {
    pub number: u32,
    pub recipient: String,
    /// b64 of the object in `keys/`.
    pub sealed: String,
}

impl Epoch {
    /// Makes a key pair and keeps only its public half and the sealed private one.
    pub fn generate(number: u32, recipients: &[NamedRecipient]) -> Result<Self> {
        Epoch::reseal(number, &age::x25519::Identity::generate(), recipients)
    }

    /// Seals an epoch's key again, to other recipients.
    pub fn reseal(number: u32, identity: &age::x25519::Identity, recipients: &[NamedRecipient]) -> Result<Self> {
        let what = || "cannot seal the key of the data epoch".to_string();
        let texts = Recipients::new(recipients.iter().map(|r| r.recipient.clone()));
        let parsed = texts.parse()?;
        let encryptor = age::Encryptor::with_recipients(parsed.iter().map(|r| r.as_ref() as &dyn age::Recipient))
            .map_err(|e| {
                Failure::usage(what())
                    .because(e)
                    .hint("Give at least one recipient; post-quantum and classic ones cannot be mixed")
            })?;
        let mut writer = encryptor.wrap_output(Vec::new()).context(what)?;
        writer.write_all(identity.to_string().expose_secret().as_bytes()).context(what)?;
        writer.write_all(b"\n").context(what)?;
        let sealed = writer.finish().context(what)?;
        Ok(Epoch { number, recipient: identity.to_public().to_string(), sealed: BASE64.encode(sealed) })
    }

    pub fn sealed_bytes(&self) -> Result<Vec<u8>> {
        BASE64
            .decode(&self.sealed)
            .map_err(|e| Failure::failed("the stored key of the data epoch is damaged").because(e))
    }
}

/// A private key of whatever kind.
struct Held {
    identity: Box<dyn age::Identity>,
    /// There is one of a plug-in, which asks a person or a device each time, in the file that it is from.
    may_be_plugin: bool,
}

/// One of the keys of an [`Operator`], and others that whoever has it may have kept.
pub struct Part<'a> {
    own: Vec<&'a dyn age::Identity>,
    besides: Keyring,
}

impl Part<'_> {
    pub fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.own.iter().copied().chain(self.besides.identities())
    }
}

/// Whether the private half of a public key is at hand.
pub enum AtHand<'a> {
    Yes(Part<'a>),
    No,
    /// It is one of a plug-in: a person or a device would have to be asked.
    OfPlugin,
}

/// What `--identity FILE` gives: keys of any kind, and the writers' public keys noted in the files.
pub struct Operator {
    identities: Vec<Held>,
    /// Those of them that open objects directly, without a person or a program.
    plain: Vec<age::x25519::Identity>,
    /// Writer id → public key, from lines `# bkp-writer: W ed25519:…`.
    pub trusted: BTreeMap<String, String>,
    /// From lines `# bkp-repository: ID`; empty when the files do not say.
    repositories: Vec<String>,
}

impl Operator {
    /// Public keys, as far as they can be had without a person or a program.
    pub fn recipients(&self) -> Vec<String> {
        self.plain.iter().map(|identity| identity.to_public().to_string()).collect()
    }

    /// Those alone that open what is sealed to this recipient and nobody else; nothing when none does.
    pub fn into_only(mut self, recipient: &NamedRecipient) -> Result<Option<Self>> {
        let opens = opens_what_is_sealed_to(&recipient.recipient)?;
        self.identities.retain(|held| opens(&*held.identity));
        self.plain.retain(|identity| opens(identity));
        Ok((!self.identities.is_empty()).then_some(self))
    }

    /// That of a public key, with what may have been kept besides, and no other. No plug-in is asked.
    pub fn part(&self, recipient: &str, besides: Keyring) -> Result<AtHand<'_>> {
        let is_age = recipient.parse::<age::x25519::Recipient>().is_ok();
        if !is_age && !recipient.starts_with("ssh-") && recipient.parse::<age::plugin::Recipient>().is_ok() {
            return Ok(AtHand::OfPlugin);
        }
        let opens = opens_what_is_sealed_to(recipient)?;
        let held = self.identities.iter().filter(|held| !held.may_be_plugin).map(|held| &*held.identity);
        let plain = self.plain.iter().map(|identity| identity as &dyn age::Identity);
        let own: Vec<_> = held.chain(plain).filter(|identity| opens(*identity)).collect();
        Ok(if own.is_empty() { AtHand::No } else { AtHand::Yes(Part { own, besides }) })
    }

    /// Reads age identity files, ssh keys and plug-in identities. A passphrase is asked for on the terminal.
    pub fn read(files: &[std::path::PathBuf]) -> Result<Self> {
        let mut identities = Vec::new();
        let mut trusted = BTreeMap::new();
        let (mut repositories, mut plain) = (Vec::new(), Vec::new());
        for file in files {
            refuse_open_to_others(file)?;
            let text = std::fs::read(file)
                .context(|| format!("cannot read the identity {}", file.display()))
                .map_err(unreadable)?;
            let text = String::from_utf8_lossy(&text);
            plain.extend(text.lines().filter_map(|line| line.trim().parse::<age::x25519::Identity>().ok()));
            trusted.extend(noted_writers(&text));
            repositories.extend(
                text.lines().filter_map(|l| l.strip_prefix("# bkp-repository: ")).map(|id| id.trim().to_owned()),
            );
            let unusable = |why: String| {
                Failure::new(Kind::Key, format!("cannot use the identity {}", file.display()))
                    .because(why)
                    .hint("An identity is the file that bkp init made, an age key file, or an ssh private key")
            };
            let name = file.to_str().ok_or_else(|| Failure::usage("the path of an identity must be UTF-8"))?;
            let read = read_identities(vec![name.to_owned()], None, &mut StdinGuard::new(false))
                .map_err(|e| unusable(e.to_string()))?;
            if read.is_empty() {
                return Err(unusable("there is no private key in it".into()));
            }
            let may_be_plugin = text.contains("AGE-PLUGIN-");
            identities.extend(read.into_iter().map(|identity| Held { identity, may_be_plugin }));
        }
        Ok(Operator { identities, plain, trusted, repositories })
    }

    /// The same from a text that some store of secrets gave, in which there are no plug-ins and no passphrases.
    pub fn of_text(text: &str, what: &str) -> Result<Self> {
        let plain: Vec<age::x25519::Identity> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
        if plain.is_empty() {
            let hint = "It should hold the text of an identity file, with a line AGE-SECRET-KEY-1…";
            return Err(Failure::new(Kind::Key, format!("there is no private key in {what}")).hint(hint));
        }
        let repositories = text.lines().filter_map(|l| l.strip_prefix("# bkp-repository: "));
        Ok(Operator {
            identities: plain
                .iter()
                .cloned()
                .map(|key| Held { identity: Box::new(key), may_be_plugin: false })
                .collect(),
            trusted: noted_writers(text).collect(),
            repositories: repositories.map(|id| id.trim().to_owned()).collect(),
            plain,
        })
    }

    fn open(&self, sealed: &[u8]) -> std::result::Result<age::x25519::Identity, age::DecryptError> {
        let decryptor = age::Decryptor::new_buffered(sealed)?;
        let mut text = String::new();
        decryptor.decrypt(self.identities.iter().map(|held| &*held.identity))?.read_to_string(&mut text)?;
        let parsed = text.trim().parse();
        zeroize::Zeroize::zeroize(&mut text);
        parsed.map_err(|_| age::DecryptError::InvalidHeader)
    }

    /// A recovery key names its repository; another one in its place is a mistake or a fraud.
    pub fn check_repository(&self, id: &str) -> Result<()> {
        if self.repositories.is_empty() || self.repositories.iter().any(|known| known == id) {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Key,
            format!("this identity belongs to repository {}, and this is {id}", self.repositories.join(", ")),
        )
        .hint("Look at --repo: is it the place you mean?"))
    }

    /// Opens every data epoch that these identities open, by number. None at all is a failure.
    pub fn epochs(&self, store: &dyn Store) -> Result<BTreeMap<u32, age::x25519::Identity>> {
        let mut opened = BTreeMap::new();
        let mut refused = None;
        for entry in store.list("keys/")? {
            let Some(number) = epoch_number(entry.key.as_str()) else { continue };
            match self.open(&store::read(store, &entry.key)?) {
                Ok(identity) => drop(opened.insert(number, identity)),
                Err(e) => refused = Some((entry.key.to_string(), e)),
            }
        }
        match refused {
            Some((_, age::DecryptError::NoMatchingKeys)) if opened.is_empty() => {
                Err(former::taken_off(store, &self.recipients()).unwrap_or_else(of_another_repository))
            }
            Some((key, error)) if opened.is_empty() => {
                Err(Failure::new(Kind::Key, format!("cannot open {key}")).because(error.to_string()))
            }
            None if opened.is_empty() => {
                Err(Failure::new(Kind::NoRepository, "the repository has no keys/epoch-*.age"))
            }
            _ => Ok(opened),
        }
    }

    /// What opens this repository: its data epochs, and those keys that open points without anybody's help.
    pub fn keyring(&self, store: &dyn Store) -> Result<Keyring> {
        let plain = Keyring(self.plain.clone());
        match self.epochs(store) {
            Ok(epochs) => Ok(Keyring::new(epochs.into_values()).join(plain)),
            // `keys/` may be lost or exchanged; each point is sealed to the operators too, and carries its epoch.
            Err(_) if plain.opens_a_point(store)? => Ok(plain),
            Err(failure) => Err(failure),
        }
    }

    /// The keys for one point: those of `keys/`, and when the point's own is not among them (lost, or exchanged in the
    /// store), the one it carries.
    pub fn keys_for(&self, point: &crate::repo::point::Point, keys: &Keyring) -> Keyring {
        let mut keys = keys.clone();
        if !keys.holds(&point.epoch_recipient) {
            keys.0.extend(BASE64.decode(&point.epoch_key).ok().and_then(|sealed| self.open(&sealed).ok()));
        }
        keys
    }
}

/// Tried with something that is sealed for it.
fn opens_what_is_sealed_to(recipient: &str) -> Result<impl Fn(&dyn age::Identity) -> bool> {
    let parsed = parse_recipients(&[recipient.to_owned()])?;
    let what = || "cannot seal to a public key".to_string();
    let encryptor = age::Encryptor::with_recipients(parsed.iter().map(|r| r.as_ref() as &dyn age::Recipient))
        .map_err(|e| Failure::usage(what()).because(e))?;
    let sealed = encryptor.wrap_output(Vec::new()).and_then(|writer| writer.finish()).context(what)?;
    Ok(move |identity: &dyn age::Identity| {
        age::Decryptor::new_buffered(&sealed[..]).is_ok_and(|age| age.decrypt(std::iter::once(identity)).is_ok())
    })
}

fn of_another_repository() -> Failure {
    Failure::new(Kind::Key, "this identity does not belong to this repository")
        .hint("Use the recovery key that `bkp init` made for it; `bkp keys list` shows which public keys it has")
}

pub fn epoch_number(key: &str) -> Option<u32> {
    key.strip_prefix("keys/epoch-")?.strip_suffix(".age")?.parse().ok()
}

fn unreadable(why: Failure) -> Failure {
    Failure::new(Kind::Key, why.full()).hint("Look at what --identity or BKP_IDENTITY says, and who may read that file")
}

fn refuse_open_to_others(file: &Path) -> Result<()> {
    let metadata = std::fs::metadata(file)
        .context(|| format!("cannot read the identity {}", file.display()))
        .map_err(unreadable)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 && !is_handed_over(&metadata) {
        return Err(Failure::new(Kind::Refused, format!("the identity {} can be read by others", file.display()))
            .hint(format!("chmod 600 {}, and think of who may have read it", file.display())));
    }
    Ok(())
}

/// What root lets a service read that is not root, by its group and nobody else: secrets of Kubernetes come so.
fn is_handed_over(metadata: &std::fs::Metadata) -> bool {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let by_group_alone = metadata.permissions().mode() & 0o077 == 0o040;
    by_group_alone && metadata.uid() == 0 && !user.is_root() && metadata.gid() == group.as_raw()
}

pub(super) fn noted_writers(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.lines().filter_map(|line| {
        let (writer, key) = line.strip_prefix("# bkp-writer: ")?.trim().split_once(' ')?;
        Some((writer.to_owned(), key.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_not_taken_for_a_recipient_nor_repeated() {
        let secret = age::x25519::Identity::generate().to_string();
        let refused = named_recipient("me", Role::Operator, secret.expose_secret(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(!refused.full().contains(secret.expose_secret()));
    }

    #[test]
    fn a_key_in_a_file_that_also_has_one_of_a_plug_in_is_at_hand() {
        let [key, other] = [(); 2].map(|()| age::x25519::Identity::generate());
        let held = Held { identity: Box::new(key.clone()), may_be_plugin: true };
        let (trusted, repositories) = Default::default();
        let operator = Operator { identities: vec![held], plain: vec![key.clone()], trusted, repositories };
        let at_hand = |key: &age::x25519::Identity| {
            operator.part(&key.to_public().to_string(), Keyring::new(Vec::new())).unwrap()
        };
        assert!(matches!(at_hand(&key), AtHand::Yes(part) if part.identities().count() == 1));
        assert!(matches!(at_hand(&other), AtHand::No));
    }
}
