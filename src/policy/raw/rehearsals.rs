//! The keys that say how restores are rehearsed: shapes only, as in the module above.

use super::{Missed, Overlap};
use crate::policy::reading::{Field, Named};
use schemars::JsonSchema;
use serde::Deserialize;

/// What rehearsals on this host need.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rehearser {
    /// Reference to the private key that opens backups for rehearsals, such as `ref+file:///etc/bkp/rehearser.txt`.
    pub identity: Option<Field<String>>,
    /// File that holds it.
    pub identity_file: Option<Field<String>>,
    /// References to the unseal keys of a Vault, as many as its threshold, to open what a rehearsal restored of it. Whoever has them
    /// and a backup can read all that is in that Vault: keep them on a host of their own.
    pub unseal_keys: Option<Field<Vec<Field<String>>>>,
    /// How much memory a scratch server may take. Default: `2GiB`.
    pub memory: Option<Field<String>>,
    /// How long a scratch server may take until it answers. Default: `5m`.
    pub patience: Option<Field<String>>,
    /// Hundredths of a processor that a scratch server may take. Default: `200`.
    pub processors: Option<Field<u64>>,
}

/// How restores of the sources are rehearsed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rehearse {
    /// When: as the schedule of the policy.
    pub schedule: Option<Field<String>>,
    /// How far to go. Default: `equal`.
    pub level: Option<Field<RehearsalLevel>>,
    /// How long a source may go without a rehearsal that went deeper than `level`: then the next one does.
    pub frequency: Option<Field<Frequency>>,
    /// The part of the sources that is rehearsed each time, those first that waited longest, such as `20%`. Default: all.
    pub sample: Option<Field<String>>,
    /// Which point of a source. Default: `latest`.
    pub point: Option<Field<WhichPoint>>,
    /// What must be true of what came back.
    pub assert: Option<Field<Vec<Field<Assert>>>>,
    /// What to do about slots that came while nothing was running. Default: `run-once`.
    pub missed: Option<Field<Missed>>,
    /// Puts slots off by a part of this, such as `2h`. Default: none.
    pub jitter: Option<Field<String>>,
    /// How long after it was due a slot may be at work. Default: `24h`.
    pub deadline: Option<Field<String>>,
    /// What to do when a slot comes while the one before is still at work. Default: `skip`.
    pub overlap: Option<Field<Overlap>>,
    /// Hours in which no rehearsal begins.
    pub blackout: Option<Field<Vec<Field<String>>>>,
}

/// How far a rehearsal goes; each level includes those before it.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RehearsalLevel {
    /// Everything is decrypted and decoded to its end.
    Readable,
    /// A scratch target takes it.
    Loaded,
    /// What came back is what the source held; assertions are checked where there are any.
    Equal,
    /// The assertions hold.
    Checked,
}

/// For each level the longest time between two rehearsals that reach it, such as `7d`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Frequency {
    pub loaded: Option<Field<String>>,
    pub equal: Option<Field<String>>,
    pub checked: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhichPoint {
    Latest,
    /// Another one each time, of all that there are.
    Random,
}

/// A question to what came back, one of `sql`, `mongo`, `redis` and `run`, and the answer that is expected.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assert {
    /// Which source of the policy. May be left out where there is one.
    pub source: Option<Field<String>>,
    /// What it is called in reports. Default: the question.
    pub name: Option<Field<String>>,
    /// A query: the first field of its first row is the answer.
    pub sql: Option<Field<String>>,
    /// A command document of MongoDB in JSON, such as `{ "count": "users" }`.
    pub mongo: Option<Field<String>>,
    /// Of `mongo`: the path to the value in the answer. Default: `n`.
    pub value: Option<Field<String>>,
    /// A command of Redis and its arguments.
    pub redis: Option<Field<Vec<Field<String>>>>,
    /// A command that runs inside the scratch container, or in the directory that was restored: its output is the answer, and it
    /// must end well.
    pub run: Option<Field<Vec<Field<String>>>>,
    /// An application that is started beside the scratch server, in a network that leads nowhere, and what it answers.
    pub http: Option<Field<Application>>,
    /// The database that is asked; of Redis its number.
    pub database: Option<Field<String>>,
    /// The answer is exactly this.
    pub equals: Option<Field<String>>,
    /// The answer has this in it.
    pub contains: Option<Field<String>>,
    /// The answer is a number, not less than this.
    pub min: Option<Field<String>>,
    /// The answer is a number, not more than this.
    pub max: Option<Field<String>>,
}

/// An application and what it is asked. In `command`, `environment` and `files` these stand for what it needs: `{host}`, `{port}`,
/// `{user}` and `{password_file}` of the scratch server; in `files` also `{password}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its image, as it is called on the host, or by its digest.
    pub image: Option<Field<String>>,
    /// Arguments of its entry point. Default: those of the image.
    pub command: Option<Field<Vec<Field<String>>>>,
    /// Variables. Never secrets: whoever may inspect containers sees them.
    pub environment: Option<Field<Named<String>>>,
    /// Files that are put in before it starts: path and content.
    pub files: Option<Field<Named<String>>>,
    /// Where it listens.
    pub port: Option<Field<u64>>,
    /// What is asked of it. Default: `/`.
    pub path: Option<Field<String>>,
    /// The status of a good answer. Default: `200`.
    pub status: Option<Field<u64>>,
    /// How long it may take until it gives one. Default: `2m`.
    pub patience: Option<Field<String>>,
}
