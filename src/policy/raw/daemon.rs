//! The keys that say when things run, and how: shapes only, as in the module above.

use crate::policy::reading::Field;
use schemars::JsonSchema;
use serde::Deserialize;

/// How the daemon runs what is due.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// How many runs at once on this host. Default: 2.
    pub runs: Option<Field<u64>>,
    /// How many of them with the same store. Default: 4.
    pub runs_per_store: Option<Field<u64>>,
    /// How far runs stand back for other programs, 0 to 19. Default: 10.
    pub nice: Option<Field<u64>>,
    /// How far they stand back on the disks. Default: `best-effort`.
    pub io: Option<Field<IoClass>>,
    /// How long to wait for runs to end when the daemon is stopped; then they are ended. Default: `8m`.
    pub drain: Option<Field<String>>,
    /// How long to wait before a run is tried again whose store did not answer; it doubles each time. Default: `1m`.
    pub retry: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    BestEffort,
    Idle,
}

/// `bkp prune` by the daemon.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// As that of a policy, in the zone of the main file.
    pub schedule: Option<Field<String>>,
}

/// `bkp check` by the daemon.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// As that of a policy, in the zone of the main file.
    pub schedule: Option<Field<String>>,
    /// How far to go. Default: `stored`, for which the keys of this host suffice.
    pub level: Option<Field<Level>>,
    /// Only a part of the objects, another one each day, such as `5%`. Default: all.
    pub sample: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Stored,
    Readable,
}

/// What to do about slots that came while nothing was running.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    RunOnce,
    Skip,
}

/// What to do when a slot comes while the one before is still at work.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    Skip,
    Queue,
}
