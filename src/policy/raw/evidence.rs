//! The keys that make the journal proof for others: shapes only, as in the module above.

use super::Mail;
use crate::policy::reading::{Field, OneOrMore};
use schemars::JsonSchema;
use serde::Deserialize;

/// The journal as proof for others.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How long sealed records, statements and anchors are locked in a store with `object_lock`. Default: `400d`.
    pub keep: Option<Field<String>>,
    /// Where the head of the journal is put besides the repository, and when.
    pub anchor: Option<Field<Anchor>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// As that of a policy, in the zone of the main file. Without one, only `bkp evidence anchor` does it.
    pub schedule: Option<Field<String>>,
    /// Who is to hold it.
    pub to: Option<Field<Vec<Field<AnchorPlace>>>>,
}

/// Somebody to hold the head of the journal: exactly one of `copy`, `file`, `mail` and `timestamp`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorPlace {
    /// Name of the place. Default: that of the copy, or the kind.
    pub name: Option<Field<String>>,
    /// A copy of the repository, by its name.
    pub copy: Option<Field<String>>,
    /// A file that each head is appended to, where this host cannot take it back: on a share, a disk that only appends, a log.
    pub file: Option<Field<String>>,
    /// To people, who keep the mail.
    pub mail: Option<Field<Mail>>,
    /// A time-stamping authority (RFC 3161), whose answer goes into the repository.
    pub timestamp: Option<Field<TimeStamp>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeStamp {
    /// Where it takes requests by HTTP, such as `https://tsa.example/tsr`. Of a list, the next one is asked when one gives no time
    /// stamp.
    pub url: Option<Field<OneOrMore<String>>>,
    /// The certificates of all authorities whose time stamps are believed, in PEM. Without it a time stamp is taken as it comes.
    pub ca_file: Option<Field<String>>,
}
