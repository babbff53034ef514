//! PostgreSQL: one archive per database by its own `pg_dump`, and the roles of the server without their passwords.
//!
//! A dump is whole when `pg_dump` ended well, its archive was walked to the end, and rows and objects are as many as the
//! server counted in the very snapshot that was dumped. A restore compares contents before anything gets its name.
//! Not dumped: passwords of roles, contents of foreign tables, slots of replication, settings of the server itself.

use super::{DumpRun, Dumped, Engine, Fingerprint, Leftover, LoadRun, Loaded, Origin, Server, Sink, Target};
use crate::error::Result;
use crate::event::{Cancel, Context};
use crate::exec::docker::Image;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub mod archive;
mod catalogue;
mod client;
mod dump;
mod fingerprint;
mod leftovers;
mod load;
mod login;
mod objects;
mod only_scram;
mod rehearsal;
mod roles;
mod rotation;
mod session;
mod snapshot;
mod sql;

pub use rehearsal::Rehearsal;
pub use rotation::Rotation;

/// How long a dump waits for a table that a statement changes. Waiting harms nobody but the backup.
const LOCK_WAIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub server: Server,
    /// Only these databases; none: all of them.
    pub databases: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
}

pub struct Postgres {
    settings: Settings,
    lock_wait: Duration,
}

impl Postgres {
    pub fn new(settings: Settings) -> Self {
        Postgres { settings, lock_wait: LOCK_WAIT }
    }

    /// Gives up on a locked table sooner or later than after a minute.
    pub fn waiting_for_locks(mut self, limit: Duration) -> Self {
        self.lock_wait = limit;
        self
    }
}

impl Engine for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
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
        dump::preflight(self, &Cancel::default())
    }

    fn leftovers(&self, cancel: &Cancel) -> Result<Vec<Leftover>> {
        let clients = client::Clients::find(&self.settings.server, cancel)?;
        leftovers::all(&mut session::Session::open(&clients, &clients.maintenance, cancel)?, &self.location())
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        dump::dump(self, sink, run)
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        load::load(self, origin, target, run)
    }
}

/// The contents of the databases as they are now, each in a snapshot of its own; made as a dump makes its fingerprint.
pub fn fingerprint(settings: &Settings, context: Context<'_>) -> Result<Fingerprint> {
    let engine = Postgres::new(settings.clone());
    let clients = client::Clients::find(&settings.server, context.cancel)?;
    let chosen = dump::chosen(&engine, &clients, context.cancel)?;
    let (mut parts, mut objects) = (fingerprint::Parts::new(), BTreeMap::new());
    for database in &chosen.details.databases {
        let mut snapshot = snapshot::Snapshot::open(&clients, &database.name, engine.lock_wait, context.cancel)?;
        objects.extend(objects::of(&mut snapshot.session, &database.name)?);
        let rows = fingerprint::rows(&mut snapshot.session, &snapshot.tables, context, &AtomicBool::new(false))?;
        let sequences = fingerprint::sequences(&mut snapshot.session, &snapshot.tables)?;
        parts.extend(fingerprint::parts(&database.name, &snapshot.tables, rows, sequences));
    }
    Ok(fingerprint::of(parts, objects))
}
