//! MySQL and MariaDB, through the server's own clients, on the host or inside the container.
//!
//! A dump is complete when its program ended well with its terminator, and the objects counted in the stream are those
//! that a user who may see everything counts in the server. Routines, events and accounts are written by bkp.
//! A restore loads beside what is there, in parallel, and becomes visible last. Binary logs are not read.

mod accounts;
mod catalog;
mod client;
mod dump;
mod fingerprint;
mod leftovers;
mod load;
mod observe;
mod observed_objects;
mod privileges;
mod programs;
mod rehearsal;
mod rotation;
mod script;
mod session;
mod snapshot;
mod statement;
mod views;

use super::{DumpRun, Dumped, Engine, Fingerprint, Leftover, LoadRun, Loaded, Origin, Server, Sink, Target};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::docker::Image;
use catalog::Catalog;
use client::{Client, Flavour};
pub use rehearsal::Rehearsal;
pub use rotation::Rotation;
use serde::{Deserialize, Serialize};
use session::Session;

/// The streams of a point.
const DUMP: &str = "dump.sql";
const DEFINITIONS: &str = "definitions.sql";
const ROUTINES: &str = "routines.sql";
const ACCOUNTS: &str = "accounts.sql";

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub server: Server,
    /// Only these databases; none: all of them.
    pub databases: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Lock tables of engines without transactions, which a consistent dump cannot hold still otherwise.
    pub lock_tables: bool,
}

/// What a restore wants to know of the server that was dumped.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    flavour: Flavour,
    version: String,
    databases: Vec<String>,
    /// A server that is to load this must accept statements of so many bytes.
    longest_statement: u64,
    /// Tables that no snapshot held still.
    not_transactional: Vec<String>,
    #[serde(default)]
    variables: std::collections::BTreeMap<String, String>,
}

impl Details {
    fn read(session: &mut Session<'_>, client: &Client<'_>, catalog: &Catalog, longest: u64) -> Result<Self> {
        let names = [
            "sql_mode",
            "character_set_server",
            "collation_server",
            "time_zone",
            "system_time_zone",
            "lower_case_table_names",
            "max_allowed_packet",
            "event_scheduler",
            "innodb_page_size",
        ];
        let mut variables = std::collections::BTreeMap::new();
        for name in names {
            variables.insert(name.to_owned(), session.one(&format!("SELECT @@global.{name}"))?);
        }
        Ok(Details {
            flavour: client.version.flavour,
            version: client.version.text.clone(),
            databases: catalog.databases.clone(),
            longest_statement: longest,
            not_transactional: catalog.not_transactional(),
            variables,
        })
    }

    fn of(origin: &dyn Origin) -> Result<Self> {
        serde_json::from_value(origin.details().clone())
            .map_err(|e| Failure::new(Kind::Verification, "the point does not say what server it is of").because(e))
    }
}

pub struct Mysql {
    settings: Settings,
}

impl Mysql {
    pub fn new(settings: Settings) -> Self {
        Mysql { settings }
    }
}

impl Engine for Mysql {
    fn kind(&self) -> &'static str {
        "mysql"
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
        dump::preflight(&self.settings)
    }

    fn leftovers(&self, cancel: &Cancel) -> Result<Vec<Leftover>> {
        let (_, mut session) = Client::connect(&self.settings.server, cancel)?;
        leftovers::all(&mut session, &self.location())
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        dump::dump(&self.settings, sink, run)
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        load::load(&self.settings, origin, target, run)
    }
}

/// What a dump would say of the server as it is now, for comparing after a load. Writers must be quiet, or the parts are of
/// one instant that nobody else saw.
pub fn fingerprint(settings: &Settings, context: Context<'_>) -> Result<Fingerprint> {
    dump::fingerprint(settings, context.cancel)
}
