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
