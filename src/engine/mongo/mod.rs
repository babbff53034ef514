//! MongoDB: by bkp's own client into the archive of `mongodump --archive`, or through `mongodump` inside the container.
//!
//! One stream, `archive`, which `mongorestore --archive` reads. Whatever wrote it, it is read along to its end before it
//! counts (`walk.rs`). Where there is an oplog, the entries of the dump's time are in the archive, and a restore replays
//! them: the result stands for the end of that window. Without one, collections may be of different instants, and every
//! point says so, unless the server can be shown to have stood still (`quiet.rs`). Not done: sharded clusters as a whole, and logs between dumps.

mod accounts;
mod archive;
mod catalog;
mod dump;
mod extended_json;
mod feed;
mod leftovers;
mod load;
mod oplog;
mod quiet;
mod rehearsal;
mod replay;
mod rotation;
mod session;
mod tool;
mod turns;
mod walk;

use super::{DumpRun, Dumped, Engine, Fingerprint, Leftover, LoadRun, Loaded, Origin, Server, Sink, Target};
use crate::error::Result;
use crate::event::{Cancel, Context};
use crate::exec::docker::Image;
use session::Session;

pub use rehearsal::Rehearsal;
pub use rotation::Rotation;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub server: Server,
    /// Database that holds the user; `admin` unless it is said.
    pub auth_database: Option<String>,
    /// Only these databases; none: all of them.
    pub databases: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Through `mongodump` inside the container instead of bkp's own client.
    pub mongodump: bool,
}

impl Settings {
    /// Whether a database is part of the source.
    fn wants(&self, database: &str) -> bool {
        let is_own = database == "local" || database == "config" || database.starts_with("__mdb_internal");
        let chosen = self.databases.is_empty() || self.databases.iter().any(|name| name == database);
        !is_own && chosen && !self.exclude.iter().any(|name| name == database)
    }

    /// Users and roles belong to the whole server: they come along only with all of it.
    fn is_whole(&self) -> bool {
        self.databases.is_empty() && self.exclude.is_empty()
    }
}

/// The name of the one stream.
const STREAM: &str = "archive";

pub struct Mongo {
    settings: Settings,
}

impl Mongo {
    pub fn new(settings: Settings) -> Self {
        Mongo { settings }
    }
}

impl Engine for Mongo {
    fn kind(&self) -> &'static str {
        "mongo"
    }

    fn location(&self) -> String {
        self.settings.server.location()
    }

    fn degraded(&self) -> Vec<String> {
        self.settings.server.degraded()
    }

    fn image(&self) -> Result<Option<Image>> {
        self.settings.server.image()
    }

    fn preflight(&self) -> Result<()> {
        if self.settings.mongodump {
            return tool::preflight(&self.settings, &Cancel::default());
        }
        let cancel = Cancel::default();
        let session = Session::open(&self.settings, &cancel)?;
        catalog::must_be_no_router(&session)?;
        for database in catalog::databases(&session, &self.settings)? {
            catalog::collections(&session, &database)?;
        }
        oplog::newest(&session).map(|_| ())
    }

    fn leftovers(&self, cancel: &Cancel) -> Result<Vec<Leftover>> {
        leftovers::all(&Session::open(&self.settings, cancel)?)
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        if self.settings.mongodump {
            return tool::dump(&self.settings, sink, run.context);
        }
        dump::dump(&self.settings, run.context, &mut |archive| sink.stream(STREAM, archive))
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        load::load(&self.settings, origin, target, run)
    }
}

/// What a server holds now, in the form that a dump keeps: for comparing after a restore. Reads everything.
pub fn fingerprint(settings: &Settings, context: Context<'_>) -> Result<Fingerprint> {
    let session = Session::open(settings, context.cancel)?;
    catalog::must_be_no_router(&session)?;
    dump::fingerprint_of(&session, settings, context)
}
