//! The configuration as it is written: which keys exist, and of what type. Nothing here knows what a value means.
//!
//! The JSON schema comes from these shapes and their comments, which editors show. A key exists here only when something reads it.

use super::reading::{Field, Named};
use schemars::JsonSchema;
use serde::Deserialize;

mod consumers;
mod daemon;
mod evidence;
mod notify;
mod rehearsals;
mod rotations;
mod watching;

pub use consumers::{Compose, Consumer, Container, Swarm, Workload};
pub use daemon::{Check, Daemon, IoClass, Level, Missed, Overlap, Prune};
pub use evidence::{AnchorPlace, Evidence};
pub use notify::{Detail, Hook, Language, Mail, Notify};
pub use rehearsals::{Application, Assert, Frequency, RehearsalLevel, Rehearse, Rehearser, WhichPoint};
pub use rotations::{Admin, Alphabet, Minio, Password, Rotation, Rotator, SigningAlgorithm, SigningKey, Smtp};
pub use watching::{Audit, Http, LogForm};

/// One JSON schema for both kinds of files: what has the key `policy` is a policy.
pub fn schema() -> serde_json::Value {
    let mut generator = schemars::SchemaGenerator::default();
    let main = generator.subschema_for::<Main>();
    let policy = generator.subschema_for::<Policy>();
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of bkp",
        "if": { "required": ["policy"] },
        "then": policy,
        "else": main,
        "$defs": generator.take_definitions(true),
    })
}

/// The main file, `bkp.yaml`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "bkp.yaml")]
pub struct Main {
    /// Where backups are kept.
    pub repository: Option<Field<Store>>,
    /// Further stores, each of which gets a copy of every point.
    pub copies: Option<Field<Vec<Field<Store>>>>,
    /// The Vault that references `ref+vault://` are read from.
    pub vault: Option<Field<Vault>>,
    /// Zone of schedules and of times without one, such as `America/Bogota`. Default: that of the host.
    pub timezone: Option<Field<String>>,
    /// How much memory a run may take, such as `256MiB`.
    pub memory: Option<Field<String>>,
    /// How the daemon runs what is due.
    pub daemon: Option<Field<Daemon>>,
    /// When what nobody keeps any more is taken out of the repository.
    pub prune: Option<Field<Prune>>,
    /// When the repository is read again.
    pub check: Option<Field<Check>>,
    /// What rehearsals of restores need on this host.
    pub rehearse: Option<Field<Rehearser>>,
    /// What rotations of passwords have in common.
    pub rotate: Option<Field<Rotator>>,
    /// How long the journal stays locked in the store, and who else holds its head.
    pub evidence: Option<Field<Evidence>>,
    /// What `bkp audit` measures by.
    pub audit: Option<Field<Audit>>,
    /// Where the daemon shows how things are.
    pub http: Option<Field<Http>>,
    /// How the daemon writes its log. Default: text on a terminal, fields for systemd's journal, JSON elsewhere.
    pub log: Option<Field<LogForm>>,
    /// Who is told of what happens.
    pub notify: Option<Field<Vec<Field<Notify>>>>,
}

/// A place where backups are kept. Secrets are references: `ref+file:///path`, `ref+vault://PATH#/FIELD`, `ref+env://NAME`, `ref+cred://NAME`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Of a copy: what it is called.
    pub name: Option<Field<String>>,
    /// `s3://BUCKET/PREFIX`, `file:///DIRECTORY` or `/DIRECTORY`.
    pub url: Option<Field<String>>,
    /// The S3 server, such as `https://minio.example:9000`. Default: Amazon's.
    pub endpoint: Option<Field<String>>,
    pub region: Option<Field<String>>,
    /// Reference to the access key.
    pub access_key: Option<Field<String>>,
    /// File that holds the access key.
    pub access_key_file: Option<Field<String>>,
    /// Reference to the secret key.
    pub secret_key: Option<Field<String>>,
    /// File that holds the secret key.
    pub secret_key_file: Option<Field<String>>,
    /// Reference to the session token.
    pub session_token: Option<Field<String>>,
    /// File that holds the session token.
    pub session_token_file: Option<Field<String>>,
    /// Where the bucket's name stands in a request: in the path, or in front of the host.
    pub addressing: Option<Field<Addressing>>,
    /// Certificate authorities to trust, in PEM, instead of the system's.
    pub ca_file: Option<Field<String>>,
    /// Ask the store to refuse deletion for a time.
    pub object_lock: Option<Field<ObjectLock>>,
    /// How much goes to and from it, at most, such as `20MiB/s`.
    pub bandwidth: Option<Field<String>>,
    /// Of a copy: which points it keeps. Default: all that the repository has.
    pub keep: Option<Field<Keep>>,
}

/// Where Vault is, and as whom to speak to it: exactly one of `approle`, `token`, `userpass`, `kubernetes` and `jwt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Such as `https://vault.example:8200`.
    pub address: Option<Field<String>>,
    pub namespace: Option<Field<String>>,
    /// Certificate authorities to trust, in PEM, instead of the system's.
    pub ca_file: Option<Field<String>>,
    /// Certificate (PEM) for a Vault that asks for one; its key is in `client_key_file`.
    pub client_certificate_file: Option<Field<String>>,
    pub client_key_file: Option<Field<String>>,
    /// In which any call must be answered. Default: `10s`.
    pub timeout: Option<Field<String>>,
    pub approle: Option<Field<AppRole>>,
    /// Reference to a token.
    pub token: Option<Field<String>>,
    /// File that holds a token.
    pub token_file: Option<Field<String>>,
    pub userpass: Option<Field<Userpass>>,
    pub kubernetes: Option<Field<Kubernetes>>,
    pub jwt: Option<Field<Jwt>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Where the method is mounted, below `auth/`. Default: `approle`.
    pub mount: Option<Field<String>>,
    /// The role id, or a reference to it.
    pub role_id: Option<Field<String>>,
    /// File that holds the role id.
    pub role_id_file: Option<Field<String>>,
    /// Reference to the secret id.
    pub secret_id: Option<Field<String>>,
    /// File that holds the secret id.
    pub secret_id_file: Option<Field<String>>,
    /// What is referred to is a wrapping token: it is unwrapped once, and the secret id is kept in the state directory.
    pub wrapped: Option<Field<bool>>,
    /// Replace the secret id at half of its life: in its file, or where one that came wrapped is kept. The role needs leave for it.
    pub renew: Option<Field<bool>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Userpass {
    /// Where the method is mounted, below `auth/`. Default: `userpass`.
    pub mount: Option<Field<String>>,
    pub user: Option<Field<String>>,
    /// Reference to the password.
    pub password: Option<Field<String>>,
    /// File that holds the password.
    pub password_file: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Where the method is mounted, below `auth/`. Default: `kubernetes`.
    pub mount: Option<Field<String>>,
    /// The role of Vault that the service account is bound to.
    pub role: Option<Field<String>>,
    /// File that holds the token of the service account. Default: where a pod has it.
    pub jwt_file: Option<Field<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Where the method is mounted, below `auth/`. Default: `jwt`.
    pub mount: Option<Field<String>>,
    /// Default: the one that Vault has for this method.
    pub role: Option<Field<String>>,
    /// Reference to the token.
    pub jwt: Option<Field<String>>,
    /// File that holds the token.
    pub jwt_file: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    Path,
    Virtual,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    pub mode: Option<Field<LockMode>>,
    /// For how long: days (`30d`), or `policy`: as long as the policy of the source keeps the point.
    pub keep: Option<Field<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    Governance,
    Compliance,
}

/// A file in `policies.d`: what is backed up together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "A file in policies.d")]
pub struct Policy {
    /// Name of the policy.
    pub policy: Option<Field<String>>,
    /// Name of the stack, usually the Compose project: its sources are backed up and restored together.
    pub stack: Option<Field<String>>,
    /// When: cron with 5 or 6 fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`.
    pub schedule: Option<Field<String>>,
    /// Zone of the schedule, and of times given for these sources. Default: that of the main file.
    pub timezone: Option<Field<String>>,
    /// What to do about slots that came while nothing was running: `run-once` makes up for all of them with one run. Default: `run-once`.
    pub missed: Option<Field<Missed>>,
    /// Puts slots off by a part of this, always the same for this policy on this host, such as `20m`. Default: none.
    pub jitter: Option<Field<String>>,
    /// How long after it was due a slot may be at work; then it is ended, and counts as failed. Default: `24h`.
    pub deadline: Option<Field<String>>,
    /// What to do when a slot comes while the one before is still at work, or somebody else has its source. Default: `skip`.
    pub overlap: Option<Field<Overlap>>,
    /// Hours in which no run begins, in the zone of the policy, such as `mon-fri 08:00-18:00`.
    pub blackout: Option<Field<Vec<Field<String>>>>,
    pub objectives: Option<Field<Objectives>>,
    pub keep: Option<Field<Keep>>,
    /// Takes in containers and volumes with the label `bkp.policy=NAME`; absent, none. Accounts come from here, never from a label.
    pub labels: Option<Field<Labels>>,
    /// How restores of these sources are rehearsed.
    pub rehearse: Option<Field<Rehearse>>,
    /// Passwords that are changed everywhere they are used, by name. Names are unique over all policies.
    pub rotate: Option<Field<Named<Rotation>>>,
    /// How dumps are stored, where a source does not say otherwise. Default: `stream`.
    pub layout: Option<Field<Layout>>,
    /// What is backed up, by name. Names are unique over all policies.
    pub sources: Option<Field<Named<Source>>>,
}

/// How servers and volumes are backed up that labels bring. A server's keys are those of a source, without where it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Where nothing is said here of an engine: the account that the server's container was set up with (`MYSQL_ROOT_PASSWORD_FILE`
    /// and the like).
    pub own_accounts: Option<Field<bool>>,
    pub mysql: Option<Field<Server>>,
    pub postgres: Option<Field<Server>>,
    pub mongo: Option<Field<Server>>,
    pub redis: Option<Field<Server>>,
    /// Keep the containers that write into a volume still while it is read.
    pub quiesce: Option<Field<Quiesce>>,
}

/// What is promised.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// How old the newest point may be, such as `24h`.
    pub rpo: Option<Field<String>>,
    /// How long a restore may take, such as `30m`.
    pub rto: Option<Field<String>>,
}

/// How many points are kept of each period. A point stays as long as one of these wants it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    pub last: Option<Field<u64>>,
    pub hourly: Option<Field<u64>>,
    pub daily: Option<Field<u64>>,
    pub weekly: Option<Field<u64>>,
    pub monthly: Option<Field<u64>>,
    pub yearly: Option<Field<u64>>,
    /// All points that are not older than this, counted back from the newest: `7d`, `1mo`, `1y`.
    pub within: Option<Field<String>>,
    /// Never fewer points than this. Default: 1.
    pub min: Option<Field<u64>>,
    /// How long safety backups stay, those that a restore makes of what it replaces. Default: `7d`.
    pub safety: Option<Field<String>>,
}

/// How the dumps of a source are stored; `bkp status` tells what either costs.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Each by itself: restored with one pipe, and damaged alone.
    Stream,
    /// As small chunks; those that the point before had are not stored again.
    Dedup,
}

/// One thing to protect: exactly one kind of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A MySQL or MariaDB server.
    pub mysql: Option<Field<Server>>,
    /// A PostgreSQL server.
    pub postgres: Option<Field<Server>>,
    /// A MongoDB server.
    pub mongo: Option<Field<Server>>,
    /// A Redis or Valkey server.
    pub redis: Option<Field<Server>>,
    pub sqlite: Option<Field<Sqlite>>,
    pub volume: Option<Field<Volume>>,
    pub command: Option<Field<Command>>,
    /// A Vault or OpenBao with integrated storage (raft), and as whom bkp takes its snapshots: best a role that may do nothing else.
    pub vault: Option<Field<Vault>>,
    /// How dumps are stored. Not for `volume`, whose files are deduplicated always.
    pub layout: Option<Field<Layout>>,
}

/// A database server: in a container, which is named by one of `container`, `service`, `swarm_service` and `label`; or reached by
/// `host` or `socket` with the clients of this host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Name of the container.
    pub container: Option<Field<String>>,
    /// Compose service whose container it is.
    pub service: Option<Field<String>>,
    /// Compose project of the service. Default: the policy's stack.
    pub project: Option<Field<String>>,
    /// Swarm service with a task on this node.
    pub swarm_service: Option<Field<String>>,
    /// Label of the container, as `KEY=VALUE`.
    pub label: Option<Field<String>>,
    pub host: Option<Field<String>>,
    pub port: Option<Field<u64>>,
    /// Path of the server's Unix socket.
    pub socket: Option<Field<String>>,
    pub user: Option<Field<String>>,
    /// Reference to the password, such as `ref+file:///run/secrets/name`.
    pub password: Option<Field<String>>,
    /// File that holds the password.
    pub password_file: Option<Field<String>>,
    /// Certificate authorities to trust, in PEM; the connection is then encrypted, or refused.
    pub ca_file: Option<Field<String>>,
    /// Only these databases. Not for `redis`.
    pub databases: Option<Field<Vec<Field<String>>>>,
    /// Not these databases. Not for `redis`.
    pub exclude: Option<Field<Vec<Field<String>>>>,
    /// For `mysql`: lock tables that know no transactions while they are dumped.
    pub lock_tables: Option<Field<bool>>,
    /// For `mongo`: the database that holds the user. Default: `admin`.
    pub auth_database: Option<Field<String>>,
    /// For `mongo`: through `mongodump` inside the container.
    pub mongodump: Option<Field<bool>>,
    /// For `redis`: how the data gets out. Default: as a replica where the network allows it, else by a snapshot.
    pub method: Option<Field<RedisMethod>>,
    /// For `redis`: the sentinels that know which server is the master.
    pub sentinel: Option<Field<Sentinel>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisMethod {
    Replica,
    Snapshot,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// `HOST:PORT` of each sentinel.
    pub addresses: Option<Field<Vec<Field<String>>>>,
    /// Name of the master, as the sentinels have it.
    pub master: Option<Field<String>>,
    /// Reference to the sentinels' password.
    pub password: Option<Field<String>>,
    /// File that holds the sentinels' password.
    pub password_file: Option<Field<String>>,
}

/// A SQLite database, copied while programs write to it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// The database file; relative to the volume when one is named.
    pub path: Option<Field<String>>,
    /// Name of the Docker volume that holds it.
    pub volume: Option<Field<String>>,
}

/// A directory tree: `path`, or the `name` of a Docker volume.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    pub path: Option<Field<String>>,
    /// Name of a Docker volume.
    pub name: Option<Field<String>>,
    /// Keep the containers that write into it still while it is read: `pause` (all files of one instant, as after a power cut) or
    /// `stop`. They go on afterwards, also when bkp is killed.
    pub quiesce: Option<Field<Quiesce>>,
    /// Only what matches one of these patterns, relative to the volume; one without a slash fits at any depth.
    pub include: Option<Field<Vec<Field<String>>>>,
    /// Not what matches one of these patterns; a directory is left out with all that is in it.
    pub exclude: Option<Field<Vec<Field<String>>>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quiesce {
    Pause,
    Stop,
}

/// What a program writes to its standard output.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments. No shell looks at them.
    pub run: Option<Field<Vec<Field<String>>>>,
    /// Name of the stream in the backup: a file name that tells the content, such as `database.sql`.
    pub stream: Option<Field<String>>,
    /// What a complete output ends with; without it the output counts as cut.
    pub terminator: Option<Field<String>>,
    /// The program that takes a restore on its standard input.
    pub restore: Option<Field<Vec<Field<String>>>>,
    /// How long `run` may take before it is killed, such as `2h`. Default: `24h`.
    pub limit: Option<Field<String>>,
}
