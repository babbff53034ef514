//! The keys that say how bkp is watched: shapes only, as in the module above.

use crate::policy::reading::Field;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where the daemon shows probes, metrics, status and its page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port, or `off`. Default: `127.0.0.1:9427`. Any other address than that of loopback wants a token.
    pub listen: Option<Field<String>>,
    /// Reference to the token that is wanted for everything but the two probes.
    pub token: Option<Field<String>>,
    /// File that holds the token.
    pub token_file: Option<Field<String>>,
    /// Names besides `localhost` by which it may be asked for where there is no token, such as that of a proxy.
    pub hosts: Option<Field<Vec<Field<String>>>>,
}

/// How the daemon writes its log to standard error.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogForm {
    Text,
    Json,
}

/// What `bkp audit` measures by.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The longest time between two runs of a policy. Default: `24h`.
    pub frequency: Option<Field<String>>,
    /// How far back points must be kept at least. Default: `35d`.
    pub retention: Option<Field<String>>,
    /// How long ago the last restore test that passed may be. Default: `30d`.
    pub rehearsed: Option<Field<String>>,
    /// How old a credential may be. Default: `365d`.
    pub credential_age: Option<Field<String>>,
    /// How old a key of bkp itself may be: those of the people who read, the data key of this host, and the one it signs with. Default: `730d`.
    pub key_age: Option<Field<String>>,
    /// How many good copies there must be besides the repository. Default: 1.
    pub copies: Option<Field<u64>>,
    /// Whether the newest points must be locked against deletion. Default: true.
    pub immutable: Option<Field<bool>>,
}
