//! Redis and Valkey: dumped as a replica would be fed, or through a snapshot that the server writes.
//!
//! The data is an RDB file, walked from its first byte to its checksum while it is stored, with counts and digests that do not
//! depend on how the server packs values. Beside it: users and the configuration that matters, without passwords.
//! Restored into a fresh data directory, key by key into an empty server, or in place.
//! Memory does not grow with the number of keys; the largest value of a kind that is not a plain string is held once.

use super::{DumpRun, Dumped, Engine, Fingerprint, Leftover, LoadRun, Loaded, Naming, Origin, Server, Sink, Target};
use crate::error::{Failure, Result};
use crate::event::{Cancel, Context};
use crate::exec::docker::Image;
use std::io::Read;

mod client;
mod connection;
mod dump;
mod facts;
mod fitting;
mod group;
mod leftovers;
mod links;
mod live;
mod load;
mod rdb;
mod rehearsal;
mod replica;
mod restore;
mod rotation;
mod sentinel;
mod snapshot;

pub use rehearsal::Rehearsal;
pub use rotation::Rotation;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub server: Server,
    pub method: Method,
    /// Where to ask for the server that is the master now.
    pub sentinel: Option<Sentinel>,
}

/// How the data gets out of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// As a replica where the network allows it, else by a snapshot.
    #[default]
    Automatic,
    /// As a replica does: nothing is written on the server's side.
    Replica,
    /// `BGSAVE`, awaited, and the file it wrote.
    Snapshot,
}

/// The sentinels of a group of servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentinel {
    /// `HOST:PORT` of each.
    pub addresses: Vec<String>,
    /// Name of the master, as the sentinels have it.
    pub master: String,
    pub password: Option<crate::secret::SecretRef>,
}

pub struct Redis {
    settings: Settings,
}

impl Redis {
    pub fn new(settings: Settings) -> Self {
        Redis { settings }
    }
}

impl Engine for Redis {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn degraded(&self) -> Vec<String> {
        let server = &self.settings.server;
        let of_sentinel = self.settings.sentinel.as_ref().and_then(|sentinel| sentinel.password.as_ref());
        let secrets = server.secrets.degraded_of(server.password.iter().chain(of_sentinel));
        secrets.into_iter().chain(server.unhealthy()).collect()
    }

    fn location(&self) -> String {
        match &self.settings.sentinel {
            Some(sentinel) => {
                format!("master {} of the sentinels at {}", sentinel.master, sentinel.addresses.join(", "))
            }
            None => self.settings.server.location(),
        }
    }

    fn image(&self) -> Result<Option<Image>> {
        self.settings.server.image()
    }

    fn preflight(&self) -> Result<()> {
        dump::preflight(&self.settings, &Cancel::default())
    }

    fn leftovers(&self, cancel: &Cancel) -> Result<Vec<Leftover>> {
        leftovers::all(&mut restore::connect(&self.settings, cancel)?)
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        dump::dump(&self.settings, sink, run.context)
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        match target {
            Target::New(path) => load::into_new(origin, path, run),
            Target::NewDatabases(Naming::Same) => restore::into_empty(origin, &self.settings, run),
            Target::NewDatabases(_) => Err(Failure::usage("databases of Redis have numbers and no names to choose")
                .hint("Restore into a new directory with --to, or into another server that is empty")),
            Target::Live(_) => live::replace(origin, &self.settings, run),
            Target::NewVolume(_) | Target::Command => {
                Err(Failure::usage("a point of Redis is restored into a directory")
                    .hint("Give a new directory with --to"))
            }
        }
    }
}

/// What a server holds now, in the form of the fingerprint of a dump.
pub fn fingerprint(settings: &Settings, context: Context<'_>) -> Result<Fingerprint> {
    Ok(dump::dump(settings, &mut Nowhere, context)?.fingerprint)
}

/// Keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn stream(&mut self, _: &str, data: &mut dyn Read) -> Result<()> {
        std::io::copy(data, &mut std::io::sink())
            .map(drop)
            .map_err(|error| Failure::from_io(error, || "cannot read the data".into()))
    }

    fn tree(&mut self) -> Result<&mut dyn super::TreeSink> {
        Err(Failure::failed("Redis has no tree"))
    }
}
