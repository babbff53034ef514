//! The keys that say how passwords are rotated: shapes only, as in the module above.

use super::Consumer;
use crate::policy::reading::{Field, Named};
use schemars::JsonSchema;
use serde::Deserialize;

/// What rotations of all policies have in common.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotator {
    /// Below which path of Vault (key-value, version 2) bkp keeps what it is at. Default: `kv/bkp/rot`.
    pub vault_path: Option<Field<String>>,
    /// How long after one rotation the next one of another password may begin. Default: `5m`.
    pub apart: Option<Field<String>>,
    /// How long another host waits before it takes over a rotation from one that says nothing any more. Default: `15m`.
    pub lease: Option<Field<String>>,
    /// How often those who read the backups get another key: `365d`. By hand, as it takes theirs; this says when it is due.
    pub recipients_every: Option<Field<String>>,
    /// Hours in which the daemon begins rotations, where one has no `window` of its own.
    pub window: Option<Field<Vec<Field<String>>>>,
    /// Days on which nothing is rotated, beside those that a rotation has of its own.
    pub freeze: Option<Field<Vec<Field<String>>>>,
}

/// One secret that is exchanged everywhere it is used: a password, an access key, or a key that signs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The source whose server has the account: MySQL from 8.0.14, MariaDB from 10.4, PostgreSQL, MongoDB, Redis from 6, or Valkey.
    pub source: Option<Field<String>>,
    /// In place of `source`: access keys of a user of MinIO, who is the `account`.
    pub minio: Option<Field<Minio>>,
    /// In place of `source`: a key that signs tokens (JWT).
    pub signing_key: Option<Field<SigningKey>>,
    /// In place of `source`: the server where the `account` logs in to send mail. People change its password; bkp does the rest.
    pub smtp: Option<Field<Smtp>>,
    /// Name of the account. With `logins` in PostgreSQL: the role that owns, and that both are members of.
    pub account: Option<Field<String>>,
    /// PostgreSQL and MongoDB have only one password for a user: here two take turns, as in `[app_a, app_b]`.
    pub logins: Option<Field<Vec<Field<String>>>>,
    /// Where it is published whose turn it is: another field of the secret that has the password.
    pub published_user: Option<Field<String>>,
    /// Without `logins`: consumers may be refused from the change of the password until they were moved. Default: false.
    pub accept_gap: Option<Field<bool>>,
    /// Another account, which may change that one. Default: the one that backups are made with.
    pub admin: Option<Field<Admin>>,
    /// Where the password is published, and read by those who use it: `ref+vault://PATH#/FIELD`.
    pub published: Option<Field<String>>,
    /// `HOST:PORT` of each server that the account must be able to log in at. Default: that of the source.
    pub nodes: Option<Field<Vec<Field<String>>>>,
    /// What new passwords are like.
    pub password: Option<Field<Password>>,
    /// How old the password may get, such as `90d`. With a schedule, it is rotated at the last of its times before that.
    pub every: Option<Field<String>>,
    /// When the daemon rotates it: cron as for a policy, in its zone. Default: never; then `bkp secrets` tells when it is due.
    pub schedule: Option<Field<String>>,
    /// What to do about times that came while nothing was running. Default: `run-once`.
    pub missed: Option<Field<super::Missed>>,
    /// Puts it off by a part of this, always the same for this password on this host. Default: none.
    pub jitter: Option<Field<String>>,
    /// How long after it was due it may be at work, waiting and trying again included. Default: `24h`.
    pub deadline: Option<Field<String>>,
    /// Hours in which it does not begin, in the zone of the policy.
    pub blackout: Option<Field<Vec<Field<String>>>>,
    /// Hours in which the daemon begins it, such as `sat,sun 02:00-05:00`. Default: at any hour.
    pub window: Option<Field<Vec<Field<String>>>>,
    /// Days on which it is not rotated, such as `2026-12-15..2027-01-07`, or `12-15..01-07` for every year.
    pub freeze: Option<Field<Vec<Field<String>>>>,
    /// No rotation sooner after the last one. Default: `1h`.
    pub distance: Option<Field<String>>,
    /// What else has the password and need not be moved: names of containers or services, and paths; `*` at the end stands for any
    /// rest. Whatever else is found to have it is a reason not to rotate.
    pub known: Option<Field<Vec<Field<String>>>>,
    /// Who uses the password, in the order in which they are moved.
    pub consumers: Option<Field<Named<Consumer>>>,
}

/// Access keys of MinIO. They are made by its admin API; other S3 servers have no such.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Minio {
    /// Address of the server, such as `https://minio.example:9000`.
    pub endpoint: Option<Field<String>>,
    /// Default: `us-east-1`.
    pub region: Option<Field<String>>,
    /// A bucket that the keys may list: that is how they are tried.
    pub bucket: Option<Field<String>>,
    /// PEM file of the certificate authorities that are trusted. Default: those of the system.
    pub ca_file: Option<Field<String>>,
    /// How long nobody may have signed with the old key before it is retired. Default: `10s`.
    pub quiet: Option<Field<String>>,
}

/// A key that signs tokens, and the list of public keys by which they are verified (JWKS).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// Where that list is: a field of a secret in Vault, whose name is usually `keys`.
    pub jwks: Option<Field<String>>,
    /// Of new keys. Default: `ES256`.
    pub algorithm: Option<Field<SigningAlgorithm>>,
    /// How long a verifier may remember the list: for so long, the new key is in it before it signs.
    pub overlap: Option<Field<String>>,
    /// How long a token may be valid: for so long, the old key stays in the list after nobody signs with it any more.
    pub lifetime: Option<Field<String>>,
    /// Addresses at which verifiers are served the list, where they do not read it in Vault.
    pub served: Option<Field<Vec<Field<String>>>>,
}

/// A mail server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtp://HOST:587` (STARTTLS, or refused), `smtps://HOST:465`, or `smtp+plain://HOST:25` without encryption.
    pub server: Option<Field<String>>,
    /// Certificate authorities to trust besides the system's, in PEM.
    pub ca_file: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub enum SigningAlgorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "RS256")]
    Rs256,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub user: Option<Field<String>>,
    /// Reference to its password.
    pub password: Option<Field<String>>,
    /// File that holds its password.
    pub password_file: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// How many characters, from 24 to 128. Default: 40.
    pub length: Option<Field<u64>>,
    /// Of which characters. Both are safe in addresses and in `.env` files. Default: `url_safe`.
    pub alphabet: Option<Field<Alphabet>>,
    /// Name of a password policy of Vault, which makes them instead; what it makes must fit the alphabet, and have 24 to 128 characters.
    pub vault_policy: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// Letters, digits, `_` and `-`.
    UrlSafe,
    /// Letters and digits.
    Alphanumeric,
}
