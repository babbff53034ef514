//! The MongoDB engine against two servers that speak its protocol: FerretDB on DocumentDB (users, SCRAM, data that stays)
//! and mongo-java-server (an oplog). MongoDB itself is in no package repository: these tests show that bkp keeps to the
//! protocol and to the format of the archive, not how a real replica set behaves.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "support/memory_sink.rs"]
mod memory_sink;
#[path = "support/mod.rs"]
mod support;

#[path = "engine_mongo/bad_days.rs"]
mod bad_days;
#[path = "engine_mongo/ferretdb.rs"]
mod ferretdb;
#[path = "engine_mongo/independent.rs"]
mod independent;
#[path = "engine_mongo/oplog.rs"]
mod oplog;
#[path = "engine_mongo/rough_days.rs"]
mod rough_days;
#[path = "engine_mongo/tool.rs"]
mod tool;

use bkp::engine::mongo::{Mongo, Settings};
use bkp::engine::{Dumped, Engine, Fingerprint, LoadRun, Loaded, Naming, Part, Server, Target};
use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::secret::SecretRef;
use bson::{Document, RawDocumentBuf};
use memory_sink::{MemoryOrigin, MemorySink, dump_into};
use mongodb::sync::{Client, Collection};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::OnceLock;
use support::docker::Container;
use support::host_server::HostServer;
use tempfile::NamedTempFile;

/// One server, as a test reaches it.
pub struct Reached {
    host: String,
    port: u16,
    login: Option<(String, String)>,
    /// Holds the password for bkp.
    file: NamedTempFile,
}

impl Reached {
    pub fn ferretdb(container: &Container) -> Reached {
        let login = Some((container.user().to_owned(), container.password().to_owned()));
        Reached::new(container.ip().to_string(), container.port(), login)
    }

    pub fn java(server: &HostServer) -> Reached {
        Reached::new("127.0.0.1".into(), server.port(), None)
    }

    fn new(host: String, port: u16, login: Option<(String, String)>) -> Reached {
        let mut file = NamedTempFile::new().unwrap();
        if let Some((_, password)) = &login {
            file.write_all(password.as_bytes()).unwrap();
        }
        Reached { host, port, login, file }
    }

    pub fn settings(&self) -> Settings {
        let server = Server {
            host: Some(self.host.clone()),
            port: Some(self.port),
            user: self.login.as_ref().map(|(user, _)| user.clone()),
            password: self.login.as_ref().map(|_| SecretRef::File(self.file.path().to_owned())),
            ..Server::default()
        };
        Settings { server, auth_database: None, databases: vec![], exclude: vec![], mongodump: false }
    }

    pub fn only(&self, databases: &[&str]) -> Settings {
        Settings { databases: databases.iter().map(ToString::to_string).collect(), ..self.settings() }
    }

    pub fn client(&self) -> Client {
        let login = self.login.as_ref().map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default();
        let address = format!("mongodb://{login}{}:{}/?directConnection=true", self.host, self.port);
        Client::with_uri_str(address).unwrap()
    }

    pub fn collection(&self, database: &str, name: &str) -> Collection<Document> {
        self.client().database(database).collection(name)
    }

    /// The documents as the server has them, byte for byte, in the order of their bytes.
    pub fn documents(&self, database: &str, name: &str) -> Vec<Vec<u8>> {
        let collection: Collection<RawDocumentBuf> = self.client().database(database).collection(name);
        let cursor = collection.find(bson::doc! {}).run().unwrap();
        let mut found: Vec<Vec<u8>> = cursor.map(|d| d.unwrap().into_bytes()).collect();
        found.sort();
        found
    }

    /// What the server itself says of the indexes of a collection, by name.
    pub fn indexes(&self, database: &str, name: &str) -> BTreeMap<String, Document> {
        let answer = self.client().database(database).run_command(bson::doc! { "listIndexes": name }).run().unwrap();
        let listed = answer.get_document("cursor").unwrap().get_array("firstBatch").unwrap().clone();
        listed
            .into_iter()
            .map(|index| {
                let mut index = index.as_document().unwrap().clone();
                index.remove("ns");
                (index.get_str("name").unwrap().to_owned(), index)
            })
            .collect()
    }

    pub fn collections(&self, database: &str) -> Vec<String> {
        let mut names = self.client().database(database).list_collection_names().run().unwrap();
        names.sort();
        names
    }
}

/// A server that all tests with databases of their own share; it goes with the test process.
pub fn shared_ferretdb(part: &str) -> Option<Reached> {
    static SHARED: OnceLock<Option<Container>> = OnceLock::new();
    SHARED.get_or_init(|| Container::ferretdb().start(part)).as_ref().map(Reached::ferretdb)
}

pub fn dump_with(settings: &Settings) -> Result<(Dumped, MemoryOrigin)> {
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(&Mongo::new(settings.clone()), &mut sink, scratch.path())?;
    let origin = sink.into_origin(&dumped);
    Ok((dumped, origin))
}

pub fn load_with(settings: &Settings, origin: &MemoryOrigin, target: &Target, part: Part) -> Result<Loaded> {
    load_keeping(settings, origin, target, part, false)
}

pub fn load_keeping(
    settings: &Settings,
    origin: &MemoryOrigin,
    target: &Target,
    part: Part,
    keep_replaced: bool,
) -> Result<Loaded> {
    let copy = (!keep_replaced && matches!(target, Target::Live(_))).then(|| fingerprint(settings));
    load_over(settings, origin, target, part, copy.as_ref())
}

/// The same, where this is known of a copy of what is replaced.
pub fn load_over(
    settings: &Settings,
    origin: &MemoryOrigin,
    target: &Target,
    part: Part,
    copy: Option<&Fingerprint>,
) -> Result<Loaded> {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    Mongo::new(settings.clone()).load(
        origin,
        target,
        &LoadRun { context, part, copy, on_difference: Default::default(), returning: None },
    )
}

pub fn fingerprint(settings: &Settings) -> Fingerprint {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    // Other tests drop what they made in the same server.
    support::wait_for("collections that nobody drops meanwhile", 60, || {
        let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
        match bkp::engine::mongo::fingerprint(settings, context) {
            Err(failure) if failure.kind() == bkp::error::Kind::TryLater => None,
            fingerprint => Some(fingerprint.unwrap()),
        }
    })
}

pub fn same() -> Target {
    Target::NewDatabases(Naming::Same)
}

pub fn called(name: &str) -> Target {
    Target::NewDatabases(Naming::As(name.into()))
}
