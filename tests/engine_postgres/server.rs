//! Servers as these tests see them, in containers and on the host, some of them shared and full of objects.

use crate::ODD;
use crate::support::docker::Container;
use crate::support::host_server::HostServer;
use bkp::engine::Server;
use bkp::engine::postgres::Settings;
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use bkp::secret::SecretRef;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub trait Pg: Sync {
    fn ask(&self, database: &str, sql: &str) -> String;

    /// As the administrator.
    fn settings(&self) -> Settings;

    /// What a client of PostgreSQL says, as the administrator.
    fn client(&self, command: &[&str]) -> String;

    fn schema(&self, database: &str) -> String {
        let connection = connection(database);
        let text = self.client(&["pg_dump", "--schema-only", "--create", "--restrict-key=bkp", "-d", &connection]);
        // Names of sequences' owners and the like are all in it; only its own numbers are not to be compared.
        text.lines().filter(|line| !line.starts_with("-- Dumped")).collect::<Vec<_>>().join("\n")
    }

    fn roles(&self) -> String {
        self.client(&["pg_dumpall", "--globals-only", "--no-role-passwords", "--restrict-key=bkp"])
    }

    fn databases(&self) -> Vec<String> {
        self.ask("", "select datname from pg_database order by 1").lines().map(str::to_owned).collect()
    }
}

impl Pg for Container {
    fn ask(&self, database: &str, sql: &str) -> String {
        self.query(&connection(database), sql)
    }

    fn settings(&self) -> Settings {
        let place = Place::Container(Selector::Name(self.name().into()));
        let server = Server { place, user: Some(self.user().into()), ..Server::default() };
        Settings { server, databases: vec![], exclude: vec![] }
    }

    fn client(&self, command: &[&str]) -> String {
        said(self.exec(&[command, &["-U", self.user()]].concat(), b""))
    }
}

impl Pg for HostServer {
    fn ask(&self, database: &str, sql: &str) -> String {
        self.query(&connection(database), sql)
    }

    fn settings(&self) -> Settings {
        network("127.0.0.1", self.port(), self.user(), self.password())
    }

    fn client(&self, command: &[&str]) -> String {
        let program = program(command[0]);
        let mut client = Command::new(program);
        client.args(&command[1..]).args(["-h", "127.0.0.1", "-U", self.user(), "-p", &self.port().to_string()]);
        said(client.env("PGPASSWORD", self.password()).output().unwrap())
    }
}

/// The name of a database so that clients do not read more into it.
fn connection(database: &str) -> String {
    let database = if database.is_empty() { "postgres" } else { database };
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Says that it is over when it is dropped, also by a failed assertion: nobody is to go on for ever.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn said(output: std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    versions.pop().unwrap().join("bin").join(name)
}

/// The clients of this host, and a server that listens somewhere.
pub fn network(host: &str, port: u16, user: &str, password: &str) -> Settings {
    let server = Server {
        host: Some(host.into()),
        port: Some(port),
        user: Some(user.into()),
        password: Some(secret(password)),
        ..Server::default()
    };
    Settings { server, databases: vec![], exclude: vec![] }
}

/// A file with this password, which stays until the tests end.
pub fn secret(password: &str) -> SecretRef {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| tempfile::tempdir().unwrap());
    let path = directory.path().join(bkp::durable::random_hex(8));
    std::fs::write(&path, format!("{password}\n")).unwrap();
    SecretRef::File(path)
}

pub fn only(mut settings: Settings, databases: &[&str]) -> Settings {
    settings.databases = databases.iter().map(|name| (*name).to_owned()).collect();
    settings
}

/// Fills a server with every kind of object, in databases with names of every kind.
pub fn fill(server: &dyn Pg) {
    let read = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine_postgres").join(name)).unwrap()
    };
    server.ask("", &read("roles.sql"));
    let odd = ODD.replace('"', "\"\"");
    server.ask(
        "",
        &format!("create database shop; create database \"{odd}\" encoding 'LATIN1' locale 'C' template template0"),
    );
    server.ask("", "create database empty; create database closed; alter database closed allow_connections false");
    server.ask("shop", &read("objects.sql"));
    server.ask("", &read("databases.sql"));
    server.ask(
        ODD,
        "create table \"tä'ble\" (i int primary key, t text); insert into \"tä'ble\" values (1, 'ñandú'), (2, null)",
    );
}

/// A server on this host with everything in it, which tests share and do not change.
pub fn full() -> Option<&'static HostServer> {
    static FULL: OnceLock<Option<HostServer>> = OnceLock::new();
    let start = || {
        let server = HostServer::postgres().start("PostgreSQL over the network")?;
        fill(&server);
        Some(server)
    };
    FULL.get_or_init(start).as_ref()
}

/// A server on this host where each test makes databases of its own.
pub fn shared() -> Option<&'static HostServer> {
    static SHARED: OnceLock<Option<HostServer>> = OnceLock::new();
    SHARED.get_or_init(|| HostServer::postgres().start("PostgreSQL over the network")).as_ref()
}
