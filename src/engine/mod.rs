//! Engines: how one kind of source is dumped, loaded and fingerprinted.
//!
//! An engine knows its kind of source and nothing of repositories, keys or schedules: it pushes named byte streams, or a
//! tree, into a [`Sink`], and takes them back from an [`Origin`]. Adding an engine is one file here, one arm in [`build`],
//! one variant in the policy, one row in `docs/ENGINES.md`.
//! An engine does not retry, print, or decide whether a dump is good enough to keep: it fails, or it tells all it knows.

use crate::error::Result;
use crate::event::{Cancel, Context};
use crate::exec::docker::{Image, Quiet, WritingContainer};
use crate::secret::{SecretRef, Secrets};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::ops::Range;
use std::path::PathBuf;

mod accounts;
pub mod command;
mod demands;
mod leftovers;
pub mod mongo;
pub mod mysql;
pub mod postgres;
pub mod redis;
mod rehearsal;
mod returning;
mod server;
pub mod sqlite;
mod transfer;
mod trust;
pub mod vault;
pub mod volume;

pub use accounts::{Accounts, Credential, Login, Node, Pair, Session, Sight, accounts, has_accounts, takes_turns};
pub use demands::Demands;
pub use leftovers::Leftover;
pub use rehearsal::{
    Comparison, ContainerRecipe, Entrance, Ground, Probe, ProcessRecipe, Question, Reach, Rehearsable, Scratch, Site,
    Subject, rehearsable,
};
pub use returning::{Comes, Returning};
pub use server::Server;

/// One kind of source, ready to work. Building one does no I/O.
pub trait Engine: Send + Sync {
    /// `sqlite`, `volume`, `command`: the word in the configuration and in the point.
    fn kind(&self) -> &'static str;

    /// Where the source is, for people: `/srv/app.db`.
    fn location(&self) -> String;

    /// Finds out, without changing anything, whether a dump could work. A failure says what to do.
    fn preflight(&self) -> Result<()>;

    /// The image of the container that the source is in; `None` for what is in none.
    fn image(&self) -> Result<Option<Image>> {
        Ok(None)
    }

    /// Containers that may change this source behind the engine's back, stopped ones too. Empty on a host without a container
    /// engine; a failure where there is one that cannot be asked.
    fn writers(&self) -> Result<Vec<WritingContainer>> {
        Ok(Vec::new())
    }

    /// Refuses when a dump would be worth nothing, because somebody works on the source and was not made to stand still.
    fn must_be_at_rest(&self) -> Result<()> {
        Ok(())
    }

    /// Whether, and how, [`Engine::writers`] are to stand still during a dump.
    fn quiesce(&self) -> Option<Quiet> {
        None
    }

    /// What this engine has to do without, such as a Vault that could be asked for the password (it goes on with what is in
    /// memory), or a container whose own health check fails; the run ends with exit code 3.
    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }

    /// What restores that were killed left where the source is. Nothing of it is ever removed without being asked.
    fn leftovers(&self, _: &Cancel) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    /// Dumps everything into `sink`. `Ok` only when every check of this engine passed.
    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped>;

    /// Puts a dump into `target`, whose last step makes it live.
    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded>;
}

/// What an engine may use during a dump.
pub struct DumpRun<'a> {
    pub context: Context<'a>,
    /// Directory for spool files, private, removed afterwards.
    pub scratch: PathBuf,
    /// Written by the previous run for this engine's own use, valid for the chunks of [`TreeSink::reuse`]; absent after a loss.
    pub memory: Option<PathBuf>,
    /// Where to write the same for the next run.
    pub next_memory: PathBuf,
    /// Read everything again even where nothing seems to have changed.
    pub reread: bool,
}

/// What a dump was, as evidence.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Dumped {
    /// Version of the server or library, and what else identifies it.
    pub version: String,
    /// The instant the data stands for.
    pub consistent_at: Timestamp,
    /// Objects by kind, for instance `tables: 12`; a drop is an alarm.
    pub inventory: BTreeMap<String, u64>,
    pub fingerprint: Fingerprint,
    /// What the user must know: changed while read, skipped, lossy. With any, the run ends with exit code 3.
    pub warnings: Vec<String>,
    /// What is true but no reason to worry: sockets that were passed over.
    pub notes: Vec<String>,
    /// How to load this by hand, for a human in trouble.
    pub restore_hint: String,
    /// Where in the source's log this dump stands, such as a GTID set: later logs begin there.
    pub position: Option<serde_json::Value>,
    /// What the engine itself wants to find again when it loads: the real names behind streams, versions, settings.
    pub details: serde_json::Value,
}

/// Content in a form that can be compared after a restore.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Fingerprint {
    /// How the digests are made; two fingerprints compare only when this agrees.
    pub method: String,
    /// Name of the part (table, collection, `tree`) → count and digest.
    pub parts: BTreeMap<String, FingerprintPart>,
    /// What belongs to the data and is none: `trigger shop.t1`, `grant app@%` → digest of its definition. Empty in points of
    /// versions that did not look.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct FingerprintPart {
    pub count: u64,
    pub digest: String,
}

/// Where a dump goes. Errors of the sink pass through the engine unharmed.
pub trait Sink {
    /// Stores one stream to its end. `name` is a file name that tells the content: `app.db`, `globals.sql`.
    fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<()>;

    /// Begins the tree (at most one).
    fn tree(&mut self) -> Result<&mut dyn TreeSink>;
}

/// Number of a chunk in the tar stream, counted from 0.
pub type ChunkRange = Range<u32>;

/// Takes a tar stream in pieces, as `docs/FORMAT.md` §7 describes, and its catalogue.
pub trait TreeSink {
    /// Whole entries (and perhaps the header of a big file at the end): one chunk.
    fn group(&mut self, bytes: &[u8]) -> Result<ChunkRange>;

    /// `length` bytes of data of one big file; the sink cuts them. `data` must give exactly that many.
    fn file(&mut self, length: u64, data: &mut dyn Read) -> Result<ChunkRange>;

    /// Takes chunks of the previous tree again, unread. `None` when they are not to be had any more: read them.
    fn reuse(&mut self, previous: ChunkRange) -> Result<Option<ChunkRange>>;

    /// Forgets every chunk from `chunk` on, for a file that changed while it was read.
    fn rewind(&mut self, chunk: u32) -> Result<()>;

    /// One line of the catalogue, with its newline.
    fn catalogue(&mut self, line: &[u8]) -> Result<()>;
}

/// Where a restore comes from. Everything read from it has been verified.
pub trait Origin: Sync {
    fn streams(&self) -> Vec<String>;

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>>;

    fn tree(&self) -> Option<&dyn TreeOrigin>;

    fn fingerprint(&self) -> &Fingerprint;

    /// What the engine wrote as [`Dumped::details`]; null where it wrote nothing.
    fn details(&self) -> &serde_json::Value;
}

pub trait TreeOrigin: Sync {
    /// The catalogue from its beginning, line by line; each call reads it anew.
    fn catalogue(&self) -> Result<Box<dyn BufRead + Send + '_>>;

    /// Hands the chunks that touch `ranges` of the tar stream (sorted, not overlapping; `None`: all of it) to `take`, whole,
    /// with the offset at which each begins: from several threads, in no order, each chunk once.
    fn chunks(&self, ranges: Option<&[Range<u64>]>, take: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync)) -> Result<()>;
}

/// What an engine may use during a load.
pub struct LoadRun<'a> {
    pub context: Context<'a>,
    /// Only this part.
    pub part: Part,
    /// The whole copy of what is replaced: where that is still the same, it is removed. What was changed since the copy was made,
    /// and everything where there is none, is put aside and named.
    pub copy: Option<&'a Fingerprint>,
    /// What becomes of a load that does not give what was dumped.
    pub on_difference: OnDifference,
    /// How users come back that the server does not have.
    pub returning: Option<&'a Returning>,
}

/// Who compares what was loaded with what was dumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDifference {
    /// The load itself, and it fails.
    #[default]
    Fail,
    /// A rehearsal, afterwards: it wants to list everything that differs, and nobody uses what was loaded.
    LeaveToRehearsal,
}

/// Why what was replaced is kept although there is a copy.
const CHANGED: &str = "it is not what the safety backup holds: somebody wrote after that was made";
const NOT_COMPARED: &str = "it could not be compared with the safety backup";

/// How much of a point is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Part {
    #[default]
    Whole,
    /// A file or directory of a tree.
    Path(PathBuf),
    Database(String),
    /// A table, or what the engine has in its place.
    Table {
        database: String,
        table: String,
    },
}

/// What databases are called when they come back.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// As they were: into a server that has none of them. Users and grants come along.
    Same,
    /// `shop` becomes `shop` with this at its end, beside the original. Users and grants are left as they are.
    Suffix(String),
    /// The one database that is wanted gets this name.
    As(String),
}

/// Where a restore goes.
#[derive(Debug)]
pub enum Target {
    /// A path where nothing is yet.
    New(PathBuf),
    /// A Docker volume that does not exist yet.
    NewVolume(String),
    /// New databases in the server that the engine is built for. A name that is taken is refused before anything is written.
    NewDatabases(Naming),
    /// The source itself, replaced. Only [`Confirmed`] opens this door.
    Live(Confirmed),
    /// Out of bkp's hands: standard input of the engine's own restore command.
    Command,
}

/// Somebody typed the name of the source to say that it may be replaced.
#[derive(Debug)]
pub struct Confirmed(());

impl Confirmed {
    /// `None` unless what was typed is the source's name.
    pub fn by_name(source: &str, typed: &str) -> Option<Self> {
        (source == typed).then_some(Confirmed(()))
    }
}

/// What a load did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Loaded {
    pub bytes: u64,
    pub items: u64,
    pub warnings: Vec<String>,
    /// Of the time it took, what went into indexes and constraints after the rows.
    pub index_seconds: f64,
}

/// Settings of one source; each engine defines its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Settings {
    Mysql(mysql::Settings),
    Postgres(postgres::Settings),
    Mongo(mongo::Settings),
    Redis(redis::Settings),
    Sqlite(sqlite::Settings),
    Volume(volume::Settings),
    Command(command::Settings),
    Vault(vault::Settings),
}

impl Settings {
    /// Who reads the passwords from now on.
    pub fn read_secrets_with(&mut self, secrets: &Secrets) {
        if let Some(server) = self.server_mut() {
            server.secrets = secrets.clone();
        }
    }

    /// Where a server of this kind usually listens.
    pub fn usual_port(&self) -> Option<u16> {
        match self {
            Settings::Mysql(_) => Some(3306),
            Settings::Postgres(_) => Some(5432),
            Settings::Mongo(_) => Some(27017),
            Settings::Redis(_) => Some(6379),
            _ => None,
        }
    }

    /// The references to secrets that it needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        if let Settings::Vault(settings) = self {
            return settings.vault.login.references();
        }
        let of_sentinel = match self {
            Settings::Redis(settings) => settings.sentinel.as_ref().and_then(|sentinel| sentinel.password.as_ref()),
            _ => None,
        };
        self.server().and_then(|server| server.password.as_ref()).into_iter().chain(of_sentinel).collect()
    }

    /// Who bkp logs in as, where that is known.
    pub fn user(&self) -> Option<&str> {
        let named = self.server()?.user.as_deref();
        let is_default = matches!(self, Settings::Redis(_)) && named.is_none();
        if is_default { Some("default") } else { named }
    }

    /// The same server settings, to be changed.
    pub fn server_mut(&mut self) -> Option<&mut Server> {
        match self {
            Settings::Mysql(settings) => Some(&mut settings.server),
            Settings::Postgres(settings) => Some(&mut settings.server),
            Settings::Mongo(settings) => Some(&mut settings.server),
            Settings::Redis(settings) => Some(&mut settings.server),
            Settings::Sqlite(_) | Settings::Volume(_) | Settings::Command(_) | Settings::Vault(_) => None,
        }
    }

    /// The word for it in a policy.
    pub fn kind(&self) -> &'static str {
        match self {
            Settings::Mysql(_) => "mysql",
            Settings::Postgres(_) => "postgres",
            Settings::Mongo(_) => "mongo",
            Settings::Redis(_) => "redis",
            Settings::Sqlite(_) => "sqlite",
            Settings::Volume(_) => "volume",
            Settings::Command(_) => "command",
            Settings::Vault(_) => "vault",
        }
    }

    /// The server, for sources that are one.
    pub fn server(&self) -> Option<&Server> {
        match self {
            Settings::Mysql(settings) => Some(&settings.server),
            Settings::Postgres(settings) => Some(&settings.server),
            Settings::Mongo(settings) => Some(&settings.server),
            Settings::Redis(settings) => Some(&settings.server),
            Settings::Sqlite(_) | Settings::Volume(_) | Settings::Command(_) | Settings::Vault(_) => None,
        }
    }
}

/// The one place that knows all engines. No I/O.
pub fn build(settings: &Settings) -> Box<dyn Engine> {
    match settings {
        Settings::Mysql(s) => Box::new(mysql::Mysql::new(s.clone())),
        Settings::Postgres(s) => Box::new(postgres::Postgres::new(s.clone())),
        Settings::Mongo(s) => Box::new(mongo::Mongo::new(s.clone())),
        Settings::Redis(s) => Box::new(redis::Redis::new(s.clone())),
        Settings::Sqlite(s) => Box::new(sqlite::Sqlite::new(s.clone())),
        Settings::Volume(s) => Box::new(volume::Volume::new(s.clone())),
        Settings::Command(s) => Box::new(command::CommandEngine::new(s.clone())),
        Settings::Vault(s) => Box::new(vault::Vault::new(s.clone())),
    }
}

/// Settings that suffice to load a point of this kind into a new target, where its source is not configured. `location` is
/// where the source was. `None` for a kind that this version does not know, and for servers: somebody must name one.
pub fn of_kind(kind: &str, location: &std::path::Path) -> Option<Settings> {
    match kind {
        // A data directory is made without a server.
        "redis" => {
            let (server, method) = (Server::default(), redis::Method::default());
            Some(Settings::Redis(redis::Settings { server, method, sentinel: None }))
        }
        "sqlite" => Some(Settings::Sqlite(sqlite::Settings::of(location))),
        "volume" => Some(Settings::Volume(volume::Settings::of(location))),
        "vault" => Some(Settings::Vault(vault::Settings::of(location))),
        "command" => Some(Settings::Command(command::Settings {
            run: vec![location.display().to_string()],
            stream: "output".into(),
            terminator: None,
            restore: None,
            limit: command::Settings::LIMIT,
        })),
        _ => None,
    }
}
