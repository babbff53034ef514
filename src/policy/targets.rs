//! Whose secret is rotated: that of an account at the server of a source, or something that no source is behind.

use super::Source;
use super::channels::{Encryption, mail_server};
use super::consumers::{Consumer, Told};
use super::convert::{absolute, not_empty, text_of};
use super::problem::Place;
use super::raw;
use super::reading::{Field, Reader};
use super::turns::ChangingName;
use super::values::{self, duration_text};
use crate::secret::{SecretRef, VaultPath};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The account of the rotation, at the server of this source.
    Source(String),
    Minio(Minio),
    SigningKey(SigningKey),
    Smtp(MailServer),
}

/// Access keys of a user of MinIO, who is the account of the rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Minio {
    pub endpoint: String,
    pub region: String,
    /// Which they are tried with, by listing it.
    pub bucket: String,
    pub ca_file: Option<PathBuf>,
    /// For so long, nobody may have signed with the old one before it is retired.
    pub quiet: Duration,
}

/// A key that signs tokens (JWT). Its public half is read by those who verify them.
#[derive(Clone, Debug, PartialEq)]
pub struct SigningKey {
    /// Where the list of public keys is.
    pub jwks: VaultPath,
    pub algorithm: SigningAlgorithm,
    /// How long a verifier may remember the list.
    pub overlap: Duration,
    /// How long a token may be valid.
    pub lifetime: Duration,
    /// Where verifiers read the list, if not in Vault.
    pub served: Vec<String>,
}

/// The server where the account of the rotation logs in to send mail. Its password is changed by people.
#[derive(Clone, Debug, PartialEq)]
pub struct MailServer {
    pub encryption: Encryption,
    pub host: String,
    pub port: u16,
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigningAlgorithm {
    #[default]
    Es256,
    EdDsa,
    Rs256,
}

impl SigningAlgorithm {
    /// As tokens have it.
    pub fn name(self) -> &'static str {
        match self {
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::EdDsa => "EdDSA",
            SigningAlgorithm::Rs256 => "RS256",
        }
    }
}

const QUIET: Duration = Duration::from_secs(10);

impl Target {
    pub fn source(&self) -> Option<&str> {
        match self {
            Target::Source(name) => Some(name),
            Target::Minio(_) | Target::SigningKey(_) | Target::Smtp(_) => None,
        }
    }

    /// For people: the source, or what else it is.
    pub fn name(&self) -> &str {
        match self {
            Target::Source(name) => name,
            Target::Minio(_) => "minio",
            Target::SigningKey(_) => "signing key",
            Target::Smtp(_) => "smtp",
        }
    }

    /// By which people know it, where nothing of the configuration stands beside it.
    pub fn place(&self) -> String {
        match self {
            Target::Source(name) => name.clone(),
            Target::Minio(minio) => minio.endpoint.clone(),
            Target::SigningKey(key) => format!("ref+vault://{}", key.jwks),
            Target::Smtp(server) => format!("{}://{}:{}", scheme(server.encryption), server.host, server.port),
        }
    }

    /// Two rotations of it would undo each other.
    pub fn is_shared_with(&self, other: &Target) -> bool {
        // A user of MinIO may have several access keys, and a list several keys.
        matches!(self, Target::Source(_) | Target::Smtp(_)) && self == other
    }
}

impl Reader<'_> {
    /// With the source, where there is one.
    pub(super) fn target<'s>(
        &self,
        raw: &raw::Rotation,
        place: Place,
        sources: &'s [(Source, Place)],
    ) -> (Option<Target>, Option<&'s Source>) {
        match (&raw.source, &raw.minio, &raw.signing_key, &raw.smtp) {
            (Some(written), None, None, None) => {
                let source = self.rotated_source(written, sources);
                (source.map(|source| Target::Source(source.name.clone())), source)
            }
            (None, Some(written), None, None) => (self.minio(raw, written).map(Target::Minio), None),
            (None, None, Some(written), None) => (self.signing_key(raw, written).map(Target::SigningKey), None),
            (None, None, None, Some(written)) => (self.mail_account(raw, written).map(Target::Smtp), None),
            (None, None, None, None) => {
                let help =
                    "add `source: NAME`, the source whose server has the account; or `minio`, `signing_key` or `smtp`";
                self.note_missing(place, "this rotation has no `source`", help);
                (None, None)
            }
            _ => (self.wrong(place, "a rotation is of one thing: `source`, `minio`, `signing_key` or `smtp`"), None),
        }
    }

    fn minio(&self, raw: &raw::Rotation, field: &Field<raw::Minio>) -> Option<Minio> {
        let written = field.value.as_ref()?;
        for (key, missing, help) in [
            ("endpoint", written.endpoint.is_none(), "endpoint: https://minio.example:9000"),
            ("bucket", written.bucket.is_none(), "bucket: NAME, one that the keys may list"),
        ] {
            if missing {
                self.note_missing(field.place, format!("`minio` has no `{key}`"), format!("add `{help}`"));
            }
        }
        if raw.admin.is_none() {
            let help =
                "write `admin: { user: ACCESS_KEY, password_file: … }`, of a user who may make access keys for others";
            self.wrong_with_help::<()>(field.place, "an access key does not replace itself here", help);
        }
        if let Some(rule) = &raw.password {
            self.wrong::<()>(rule.place, "access keys are always made of 20 and 40 characters: leave this out");
        }
        Some(Minio {
            endpoint: self.text(&written.endpoint, values::endpoint)?,
            region: self
                .text(&written.region, |text| not_empty(text, "a region"))
                .unwrap_or_else(|| "us-east-1".to_owned()),
            bucket: self.text(&written.bucket, |text| not_empty(text, "a bucket"))?,
            ca_file: self.text(&written.ca_file, absolute),
            quiet: self.text(&written.quiet, values::duration).unwrap_or(QUIET),
        })
    }

    fn signing_key(&self, raw: &raw::Rotation, field: &Field<raw::SigningKey>) -> Option<SigningKey> {
        let written = field.value.as_ref()?;
        for (key, missing, help) in [
            ("jwks", written.jwks.is_none(), "jwks: ref+vault://kv/shop/jwks#/keys, the list that verifiers read"),
            ("overlap", written.overlap.is_none(), "overlap: 15m, how long a verifier may remember that list"),
            ("lifetime", written.lifetime.is_none(), "lifetime: 1h, how long a token may be valid"),
        ] {
            if missing {
                self.note_missing(field.place, format!("`signing_key` has no `{key}`"), format!("add `{help}`"));
            }
        }
        for (key, place) in [
            ("account", raw.account.as_ref().map(|field| field.place)),
            ("admin", raw.admin.as_ref().map(|field| field.place)),
            ("nodes", raw.nodes.as_ref().map(|field| field.place)),
            ("password", raw.password.as_ref().map(|field| field.place)),
        ] {
            if let Some(place) = place {
                self.wrong::<()>(place, format!("`{key}` means nothing for a key that signs: leave it out"));
            }
        }
        let served = written.served.iter().filter_map(|field| field.value.as_ref()).flatten();
        Some(SigningKey {
            jwks: written.jwks.as_ref().and_then(|path| self.published(path))?,
            algorithm: written.algorithm.as_ref().and_then(|field| field.value).map_or_else(Default::default, from_raw),
            overlap: self.text(&written.overlap, values::duration)?,
            lifetime: self.text(&written.lifetime, values::duration)?,
            served: served.filter_map(|address| text_of(self, address, address_of_list)).collect(),
        })
    }

    fn mail_account(&self, raw: &raw::Rotation, field: &Field<raw::Smtp>) -> Option<MailServer> {
        let written = field.value.as_ref()?;
        if written.server.is_none() {
            self.note_missing(field.place, "`smtp` has no `server`", "add `server: smtp://mail.example:587`");
        }
        for (key, place) in [
            ("admin", raw.admin.as_ref().map(|field| field.place)),
            ("logins", raw.logins.as_ref().map(|field| field.place)),
            ("published_user", raw.published_user.as_ref().map(|field| field.place)),
            ("password", raw.password.as_ref().map(|field| field.place)),
            ("schedule", raw.schedule.as_ref().map(|field| field.place)),
        ] {
            if let Some(place) = place {
                let help = "its new password comes from the provider, and a person gives it to `bkp rotate`";
                self.wrong_with_help::<()>(
                    place,
                    format!("`{key}` means nothing for a mail account: leave it out"),
                    help,
                );
            }
        }
        let (encryption, host, port) = self.text(&written.server, mail_server)?;
        Some(MailServer { encryption, host, port, ca_file: self.text(&written.ca_file, absolute) })
    }

    /// Who may read a key that signs, and how.
    pub(super) fn signing_key_is_kept(
        &self,
        target: Option<&Target>,
        published: Option<&VaultPath>,
        consumers: Option<&[Consumer]>,
        place: Place,
    ) {
        let Some(Target::SigningKey(key)) = target else { return };
        if published.is_some_and(|published| published.path == key.jwks.path) {
            let help = "write the list into a secret of its own, as in ref+vault://kv/shop/jwks#/keys";
            self.wrong_with_help::<()>(place, "whoever verifies tokens could read the key that signs them", help);
        }
        for consumer in consumers.into_iter().flatten() {
            let wrong = match &consumer.told {
                Told::EnvFile { .. } => "a key of several lines, which no variable of an `env_file` can be",
                Told::Swarm(_) => "a key and its name, of which a secret of Swarm holds one only",
                Told::Published | Told::SecretFile(_) | Told::Kubernetes(_) => continue,
            };
            let text = format!("{} is told {wrong}", consumer.name);
            self.wrong_with_help::<()>(place, text, "give it a `secret_file`, or let it read what is published");
        }
    }

    /// Where each secret comes with a name of its own, which is published beside it.
    pub(super) fn names(
        &self,
        raw: &raw::Rotation,
        place: Place,
        published: Option<&VaultPath>,
    ) -> Option<ChangingName> {
        if let Some(logins) = &raw.logins {
            self.wrong::<()>(logins.place, "each one gets a name of its own here, and none take turns: leave this out");
        }
        let Some(user) = &raw.published_user else {
            let help =
                "write another field of the same secret, as in `published_user: ref+vault://kv/shop/s3#/access_key`";
            self.note_missing(place, "nothing says where the name of the key is published", help);
            return None;
        };
        Some(ChangingName { published: self.beside(user, published)?, turns: None })
    }
}

fn address_of_list(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    match url.filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected an address such as https://shop.example/.well-known/jwks.json".into()),
    }
}

fn from_raw(algorithm: raw::SigningAlgorithm) -> SigningAlgorithm {
    match algorithm {
        raw::SigningAlgorithm::Es256 => SigningAlgorithm::Es256,
        raw::SigningAlgorithm::EdDsa => SigningAlgorithm::EdDsa,
        raw::SigningAlgorithm::Rs256 => SigningAlgorithm::Rs256,
    }
}

fn scheme(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::StartTls => "smtp",
        Encryption::FromTheBeginning => "smtps",
        Encryption::None => "smtp+plain",
    }
}

/// For showing.
pub fn shown(target: &Target) -> Vec<(Vec<&'static str>, Value)> {
    match target {
        Target::Source(name) => vec![(vec!["source"], json!(name))],
        Target::Minio(minio) => vec![
            (vec!["minio", "endpoint"], json!(minio.endpoint)),
            (vec!["minio", "region"], json!(minio.region)),
            (vec!["minio", "bucket"], json!(minio.bucket)),
            (vec!["minio", "ca_file"], json!(minio.ca_file)),
            (vec!["minio", "quiet"], json!(duration_text(minio.quiet))),
        ],
        Target::Smtp(server) => vec![
            (vec!["smtp", "server"], json!(format!("{}://{}:{}", scheme(server.encryption), server.host, server.port))),
            (vec!["smtp", "ca_file"], json!(server.ca_file)),
        ],
        Target::SigningKey(key) => vec![
            (vec!["signing_key", "jwks"], json!(SecretRef::Vault(key.jwks.clone()).to_string())),
            (vec!["signing_key", "algorithm"], json!(key.algorithm.name())),
            (vec!["signing_key", "overlap"], json!(duration_text(key.overlap))),
            (vec!["signing_key", "lifetime"], json!(duration_text(key.lifetime))),
            (vec!["signing_key", "served"], json!(Some(&key.served).filter(|served| !served.is_empty()))),
        ],
    }
    .into_iter()
    .filter(|(_, value)| !value.is_null())
    .collect()
}
