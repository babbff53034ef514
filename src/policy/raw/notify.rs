//! The keys that say who is told of what happens: shapes only, as in the module above.

use crate::policy::channels::Topic;
use crate::policy::reading::Field;
use schemars::JsonSchema;
use serde::Deserialize;

/// Somebody to tell: exactly one of `mail`, `webhook`, `ping`, `ntfy`, `slack`, `discord` and `telegram`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Name of the channel. Default: that of its kind.
    pub name: Option<Field<String>>,
    pub mail: Option<Field<Mail>>,
    pub webhook: Option<Field<Webhook>>,
    pub ping: Option<Field<Ping>>,
    pub ntfy: Option<Field<Ntfy>>,
    pub slack: Option<Field<Hook>>,
    pub discord: Option<Field<Hook>>,
    pub telegram: Option<Field<Telegram>>,
    /// What to tell. Default: failure, recovery, missed, anomaly, configuration, notifier.
    pub on: Option<Field<Vec<Field<Topic>>>>,
    /// Only what concerns these policies. Default: all.
    pub policies: Option<Field<Vec<Field<String>>>>,
    /// Default: `en`.
    pub language: Option<Field<Language>>,
    /// `brief` names no source and repeats no error, for channels that others can read. Default: `full`; for `ntfy` `brief`.
    pub detail: Option<Field<Detail>>,
    /// When a digest is due: `08:00`, or `mon 08:00` for one a week. Default: `08:00`.
    pub digest: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    En,
    Es,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    Full,
    Brief,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub to: Option<Field<Vec<Field<String>>>>,
    /// Default: `bkp@` and the name of this host.
    pub from: Option<Field<String>>,
    /// `smtp://HOST:587` (STARTTLS, or refused), `smtps://HOST:465`, or `smtp+plain://HOST:25` without encryption.
    pub smtp: Option<Field<String>>,
    pub user: Option<Field<String>>,
    /// Reference to the password.
    pub password: Option<Field<String>>,
    /// File that holds the password.
    pub password_file: Option<Field<String>>,
    /// Certificate authorities to trust besides the system's, in PEM.
    pub ca_file: Option<Field<String>>,
}

/// A JSON document by POST, with `X-Bkp-Signature` when there is a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The address, or a reference to it where it is a secret.
    pub url: Option<Field<String>>,
    /// File that holds the address.
    pub url_file: Option<Field<String>>,
    /// Reference to what the signature is made with (HMAC-SHA256).
    pub secret: Option<Field<String>>,
    /// File that holds it.
    pub secret_file: Option<Field<String>>,
}

/// An address as of healthchecks.io: `/start` when a run begins, the address itself when it went well, `/fail` when it did not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// Reference to the address.
    pub url: Option<Field<String>>,
    /// File that holds the address.
    pub url_file: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ntfy {
    /// The address of the topic, such as `https://ntfy.sh/TOPIC`, or a reference to it.
    pub url: Option<Field<String>>,
    /// File that holds the address.
    pub url_file: Option<Field<String>>,
    /// Reference to an access token.
    pub token: Option<Field<String>>,
    /// File that holds an access token.
    pub token_file: Option<Field<String>>,
}

/// An incoming webhook of a chat, whose address is a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Reference to the address.
    pub url: Option<Field<String>>,
    /// File that holds the address.
    pub url_file: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telegram {
    /// Reference to the token of the bot.
    pub token: Option<Field<String>>,
    /// File that holds the token of the bot.
    pub token_file: Option<Field<String>>,
    /// Number or `@name` of the chat.
    pub chat: Option<Field<String>>,
    /// Where the Bot API is. Default: `https://api.telegram.org`.
    pub api: Option<Field<String>>,
}
