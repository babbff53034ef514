//! MySQL and MariaDB: real servers in containers and on the host, with every kind of object they have, on good days and bad.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "support/memory_sink.rs"]
mod memory_sink;
mod support;

#[path = "engine_mysql/bad_days.rs"]
mod bad_days;
#[path = "engine_mysql/contract.rs"]
mod contract;
#[path = "engine_mysql/omissions.rs"]
mod omissions;
#[path = "engine_mysql/restores.rs"]
mod restores;
#[path = "engine_mysql/rough_days.rs"]
mod rough_days;

use bkp::engine::mysql::{self, Mysql, Settings};
use bkp::engine::{Engine, Fingerprint, LoadRun, Loaded, Naming, Part, Server, Sink, Target, TreeSink};
use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::exec::{Place, docker::Selector};
use bkp::secret::SecretRef;
use memory_sink::{MemoryOrigin, MemorySink, dump_into};
use std::io::Read;
use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;
use support::docker::{Container, Wanted};
use support::host_server::HostServer;

/// A server that a test may ask as its administrator.
pub trait Sql: Sync {
    fn try_sql(&self, text: &str) -> Output;

    /// These databases of it, as its administrator.
    fn settings(&self, databases: &[&str]) -> Settings;

    #[track_caller]
    fn sql(&self, text: &str) -> String {
        let output = self.try_sql(&format!("SET NAMES utf8mb4; {text}"));
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Sql for Container {
    fn try_sql(&self, text: &str) -> Output {
        self.try_query("", text)
    }

    fn settings(&self, databases: &[&str]) -> Settings {
        inside(self, databases)
    }
}

impl Sql for HostServer {
    fn try_sql(&self, text: &str) -> Output {
        self.try_query("", text)
    }

    fn settings(&self, databases: &[&str]) -> Settings {
        on_host(self, databases)
    }
}

/// One container of each for all tests of this program: a source, and a scratch server to load into.
pub fn server(which: &'static OnceLock<Option<Container>>, wanted: fn() -> Wanted) -> Option<&'static Container> {
    which
        .get_or_init(|| {
            let wanted = wanted().argument("--server-id=7").argument("--log-bin=log");
            wanted.password("pw \"x'#1").start("MySQL and MariaDB in containers")
        })
        .as_ref()
}

static MYSQL: OnceLock<Option<Container>> = OnceLock::new();
static MYSQL_SCRATCH: OnceLock<Option<Container>> = OnceLock::new();
static MARIADB: OnceLock<Option<Container>> = OnceLock::new();
static MARIADB_SCRATCH: OnceLock<Option<Container>> = OnceLock::new();

pub fn mysql() -> Option<&'static Container> {
    server(&MYSQL, Container::mysql)
}

pub fn mysql_scratch() -> Option<&'static Container> {
    server(&MYSQL_SCRATCH, Container::mysql)
}

pub fn mariadb() -> Option<&'static Container> {
    server(&MARIADB, Container::mariadb)
}

pub fn mariadb_scratch() -> Option<&'static Container> {
    server(&MARIADB_SCRATCH, Container::mariadb)
}

static HOST: OnceLock<Option<HostServer>> = OnceLock::new();
static HOST_SCRATCH: OnceLock<Option<HostServer>> = OnceLock::new();

/// MariaDB on this host, where a client begins ten times as fast: what has nothing to do with containers is proven there.
pub fn host() -> Option<&'static HostServer> {
    on_this_host(&HOST)
}

fn on_this_host(which: &'static OnceLock<Option<HostServer>>) -> Option<&'static HostServer> {
    let wanted = || HostServer::mariadb().argument("--server-id=7").argument("--log-bin=log");
    which.get_or_init(|| wanted().start("MariaDB on the host")).as_ref()
}

/// MySQL and MariaDB.
pub fn both() -> impl Iterator<Item = &'static dyn Sql> {
    [mysql().map(|server| server as &dyn Sql), host().map(|server| server as &dyn Sql)].into_iter().flatten()
}

/// Each with another one to load into.
pub fn pairs() -> impl Iterator<Item = (&'static dyn Sql, &'static dyn Sql)> {
    let mysql = || Some((mysql()? as &dyn Sql, mysql_scratch()? as &dyn Sql));
    let mariadb = || Some((host()? as &dyn Sql, on_this_host(&HOST_SCRATCH)? as &dyn Sql));
    [mysql(), mariadb()].into_iter().flatten()
}

/// A file with a password, for as long as this program runs.
pub fn secret(password: &str) -> SecretRef {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| tempfile::tempdir().unwrap().keep());
    let path = directory.join(bkp::durable::random_hex(8));
    std::fs::write(&path, password).unwrap();
    SecretRef::File(path)
}

/// All of a container's server but what other tests have there, through its own clients.
pub fn inside(container: &Container, databases: &[&str]) -> Settings {
    let place = Place::Container(Selector::Name(container.name().to_owned()));
    let server = Server {
        place,
        user: Some(container.user().into()),
        password: Some(secret(container.password())),
        ..Server::default()
    };
    settings(server, databases)
}

/// The same over the network, with the clients of this host.
pub fn over_network(container: &Container, databases: &[&str]) -> Settings {
    let mut settings = inside(container, databases);
    settings.server.place = Place::Host;
    settings.server.host = Some(container.ip().to_string());
    settings.server.port = Some(container.port());
    settings
}

pub fn on_host(server: &HostServer, databases: &[&str]) -> Settings {
    let server = Server {
        port: Some(server.port()),
        user: Some(server.user().into()),
        password: Some(secret(server.password())),
        ..Server::default()
    };
    settings(server, databases)
}

fn settings(server: Server, databases: &[&str]) -> Settings {
    let databases = databases.iter().map(|d| (*d).to_owned()).collect();
    Settings { server, databases, exclude: vec![], lock_tables: false }
}

pub struct Point {
    pub dumped: bkp::engine::Dumped,
    pub origin: MemoryOrigin,
}

pub fn dump(settings: &Settings) -> Result<Point> {
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(&Mysql::new(settings.clone()), &mut sink, scratch.path())?;
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "spool files are left: {left:?}");
    Ok(Point { origin: sink.into_origin(&dumped), dumped })
}

/// What a dump into `sink` says.
pub fn dump_to(settings: &Settings, sink: &mut dyn Sink) -> Result<bkp::engine::Dumped> {
    let scratch = tempfile::tempdir().unwrap();
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let run = bkp::engine::DumpRun {
        context: Context { events: &Silent, meter: &meter, cancel: &cancel },
        scratch: scratch.path().to_owned(),
        memory: None,
        next_memory: scratch.path().join("memory"),
        reread: false,
    };
    Mysql::new(settings.clone()).dump(sink, &run)
}

pub fn load(settings: &Settings, origin: &MemoryOrigin, target: &Target, part: Part, keep: bool) -> Result<Loaded> {
    let copy = (!keep && matches!(target, Target::Live(_))).then(|| fingerprint(settings));
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
    Mysql::new(settings.clone()).load(
        origin,
        target,
        &LoadRun { context, part, copy, on_difference: Default::default(), returning: None },
    )
}

pub fn load_new(settings: &Settings, origin: &MemoryOrigin, naming: Naming) -> Result<Loaded> {
    load(settings, origin, &Target::NewDatabases(naming), Part::Whole, false)
}

pub fn fingerprint(settings: &Settings) -> Fingerprint {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    mysql::fingerprint(settings, Context { events: &Silent, meter: &meter, cancel: &cancel }).unwrap()
}

/// Everything that a fingerprint says, and of the accounts of a whole server those with `mine` in their names or grants: other
/// tests make others meanwhile. Whoever makes a role may hand it on: that is of the administrator who restored it.
pub fn apart_from_others(mut fingerprint: Fingerprint, mine: &str) -> Fingerprint {
    let is_of_server = |object: &str| object.starts_with("account ") || object.starts_with("grant ");
    fingerprint
        .objects
        .retain(|object, _| !is_of_server(object) || object.contains(mine) && !object.contains("`root`@"));
    assert!(!fingerprint.objects.is_empty(), "{fingerprint:?}");
    fingerprint
}

/// The server holds what was dumped: rows, definitions and accounts, told in the same way.
#[track_caller]
pub fn holds_what_was_dumped(settings: &Settings, dumped: &Fingerprint, mine: &str) {
    let [there, was] = [fingerprint(settings), dumped.clone()].map(|all| apart_from_others(all, mine));
    assert_eq!(there, was);
}

/// A sink that does something once this many bytes of `dump.sql` have come.
pub struct Interrupting<'a> {
    pub inner: MemorySink,
    pub after: u64,
    pub act: Box<dyn FnMut() + 'a>,
}

impl Sink for Interrupting<'_> {
    fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<()> {
        if name != "dump.sql" {
            return self.inner.stream(name, data);
        }
        let mut watched = Watched { data, left: self.after, act: Some(&mut self.act) };
        self.inner.stream(name, &mut watched)
    }

    fn tree(&mut self) -> Result<&mut dyn TreeSink> {
        self.inner.tree()
    }
}

struct Watched<'a, 'b> {
    data: &'a mut dyn Read,
    left: u64,
    act: Option<&'a mut Box<dyn FnMut() + 'b>>,
}

impl Read for Watched<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.data.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        if self.left == 0
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(read)
    }
}
