//! One dump: two streams, `config.json` and `dump.rdb`.
//!
//! The RDB data is walked by a thread of its own while the sink stores it; the sink sees its end only when the walk went well,
//! so that nothing that is cut or damaged can be taken for whole. At most a few pieces are in memory.

use super::client::{self, Client, Program};
use super::connection::Connection;
use super::facts::{self, Facts};
use super::rdb::{self, Census};
use super::replica::{self, Transfer};
use super::snapshot::{self, Snapshot};
use super::{Method, Settings, leftovers, sentinel};
use crate::clock;
use crate::engine::leftovers::UNFINISHED;
use crate::engine::{Dumped, Sink};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::Place;
use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;
use std::io::{self, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;

pub const DATA: &str = "dump.rdb";
pub const CONFIGURATION: &str = "config.json";

const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// How bkp got to the data.
enum Way<'a> {
    Replica(Box<Transfer<'a>>),
    Snapshot(Snapshot),
}

/// Clocks before the data was asked for: the server's in seconds, and this host's.
struct Asked {
    server: Option<i64>,
    here: Timestamp,
}

pub fn dump(settings: &Settings, sink: &mut dyn Sink, context: Context<'_>) -> Result<Dumped> {
    context.cancel.check()?;
    let (mut client, via_program) = client_of(settings, context.cancel)?;
    let mut facts = Facts::ask(client.as_client())?;
    facts.warnings.extend(client.unfinished()?);
    let asked = Asked { server: facts::clock(client.as_client())?, here: clock::now() };
    let way = way(settings, client, &facts, context.cancel)?;
    let begun = clock::now();
    sink.stream(CONFIGURATION, &mut facts.stored().as_bytes())?;
    let (census, position) = match way {
        Way::Replica(mut transfer) => {
            context.meter.total_bytes.store(transfer.length.unwrap_or(0), Relaxed);
            let census = store(sink, transfer.as_mut(), context)?;
            let position = serde_json::json!({ "replication_id": transfer.replication_id, "offset": transfer.offset });
            (census, Some(position))
        }
        Way::Snapshot(file) => {
            let mut data = file.open(&settings.server, context.cancel)?;
            let census = store(sink, &mut data, context)?;
            file.is_new(census.written_at())?;
            (census, None)
        }
    };
    let mut dumped = told(&facts, &census, asked.instant(&census, begun));
    dumped.position = position;
    if via_program {
        dumped.notes.push("the server was asked through the client in its container".into());
    }
    Ok(dumped)
}

/// Whether a dump could work. That `PSYNC` is permitted cannot be found out without doing it.
pub fn preflight(settings: &Settings, cancel: &Cancel) -> Result<()> {
    let (mut client, _) = client_of(settings, cancel)?;
    Facts::ask(client.as_client()).map(drop)
}

impl Asked {
    /// The instant the data stands for: when the server began to write it, by this host's clock.
    fn instant(&self, census: &Census, begun: Timestamp) -> Timestamp {
        let ago = self.server.zip(census.written_at()).map(|(server, written)| server - written);
        match ago {
            // Another replica's transfer was shared: it had begun before bkp asked.
            Some(ago) if ago > 0 => self.here.checked_sub(jiff::SignedDuration::from_secs(ago)).unwrap_or(self.here),
            Some(ago) => self.here.checked_add(jiff::SignedDuration::from_secs(-ago)).unwrap_or(begun).min(begun),
            None => begun,
        }
    }
}

/// Hands whatever client there is to `work`.
pub fn with_client<T>(
    settings: &Settings,
    cancel: &Cancel,
    work: impl FnOnce(&mut dyn Client) -> Result<T>,
) -> Result<T> {
    let (mut client, _) = client_of(settings, cancel)?;
    work(client.as_client())
}

/// Either kind of client.
enum AnyClient<'a> {
    Connection(Connection<'a>),
    Program(Program<'a>),
}

impl AnyClient<'_> {
    fn as_client(&mut self) -> &mut dyn Client {
        match self {
            AnyClient::Connection(connection) => connection,
            AnyClient::Program(program) => program,
        }
    }

    /// What restores left that are not done: it is in the data, and no part of what anybody wants.
    fn unfinished(&mut self) -> Result<Vec<String>> {
        let AnyClient::Connection(connection) = self else { return Ok(Vec::new()) };
        let left = leftovers::all(connection)?.into_iter().filter(|left| left.what == UNFINISHED);
        Ok(left.map(|left| left.told()).collect())
    }
}

/// A connection where the network allows it; else the client in the container, and `true`.
fn client_of<'a>(settings: &Settings, cancel: &'a Cancel) -> Result<(AnyClient<'a>, bool)> {
    if let Some(sentinel) = &settings.sentinel {
        return Ok((AnyClient::Connection(sentinel::connect(settings, sentinel, cancel)?), false));
    }
    let server = &settings.server;
    let in_container = matches!(server.place, Place::Container(_)) && server.host.is_none();
    let by_program = in_container && settings.method != Method::Replica;
    let connection = match client::address(server) {
        // Its socket is inside the container.
        Ok(_) if in_container && server.socket.is_some() && by_program => Err(None),
        Ok(address) => client::connect(server, &address, cancel).map_err(Some),
        Err(failure) => Err(Some(failure)),
    };
    match connection {
        Ok(connection) => Ok((AnyClient::Connection(connection), false)),
        Err(Some(failure)) if !by_program || failure.kind() == Kind::Key => Err(failure),
        Err(_) => Ok((AnyClient::Program(Program::find(server, cancel)?), true)),
    }
}

fn way<'a>(settings: &Settings, client: AnyClient<'a>, facts: &Facts, cancel: &'a Cancel) -> Result<Way<'a>> {
    let mut client = match client {
        AnyClient::Connection(connection) if settings.method != Method::Snapshot => {
            let address = connection.address.clone();
            let version = facts.is_valkey.then_some(facts.version.as_str());
            match replica::begin(connection, version)? {
                Ok(transfer) => return Ok(Way::Replica(Box::new(transfer))),
                Err(refusal) if settings.method == Method::Replica || refusal.kind() == Kind::TryLater => {
                    return Err(refusal);
                }
                Err(_) => AnyClient::Connection(client::connect(&settings.server, &address, cancel)?),
            }
        }
        other => other,
    };
    Ok(Way::Snapshot(snapshot::take(client.as_client(), facts, cancel)?))
}

fn told(facts: &Facts, census: &Census, consistent_at: Timestamp) -> Dumped {
    let mut warnings = facts.warnings.clone();
    if !census.has_checksum {
        warnings.push("the server writes no checksum (`rdbchecksum no`): damage on its side could not be seen".into());
    }
    let mut notes = Vec::new();
    if !census.modules.is_empty() {
        let names: Vec<&str> = census.modules.iter().map(String::as_str).collect();
        notes.push(format!("a server that loads this needs the modules with data of type {}", names.join(", ")));
    }
    let mut inventory = census.inventory();
    inventory.extend(facts.users.as_ref().map(|users| ("users".to_owned(), users.len() as u64)));
    let flavour = if facts.is_valkey { "Valkey" } else { "Redis" };
    let made_by = |name: &str| census.facts.get(name).cloned();
    let version = match facts.version.as_str() {
        "" => made_by("valkey-ver").or(made_by("redis-ver")).unwrap_or_else(|| "of unknown version".into()),
        version => version.to_owned(),
    };
    Dumped {
        version: format!("{flavour} {version}, RDB {}", census.version),
        consistent_at,
        inventory,
        fingerprint: census.fingerprint(),
        warnings,
        notes,
        restore_hint: hint(facts),
        position: None,
        details: facts.details(census.version),
    }
}

fn hint(facts: &Facts) -> String {
    let name = facts.configured("dbfilename").unwrap_or("dump.rdb");
    let program = if facts.is_valkey { "valkey-server" } else { "redis-server" };
    let mut text = format!(
        "Put dump.rdb into an empty directory DIR as {name}, owned by the server's user, and start: \
         {program} --dir DIR --dbfilename {name} --appendonly no. "
    );
    if facts.configured("appendonly") == Some("yes") {
        text.push_str(
            "Started with `appendonly yes` the server would ignore it: once it runs, CONFIG SET appendonly yes makes the \
             append-only file anew. ",
        );
    }
    text.push_str(
        "The lines of `users` in config.json are those of an ACL file (--aclfile). Keys whose time is over by then are \
         dropped at the start; with --replicaof 127.0.0.1 1 they are kept.",
    );
    text
}

/// Pushes RDB data into the sink while it is walked.
pub fn store(sink: &mut dyn Sink, data: &mut dyn Read, context: Context<'_>) -> Result<Census> {
    checked(data, context, |data| sink.stream(DATA, data)).map_err(|failure| match failure.kind() {
        // The hints of that kind are for points that are stored; this one never will be.
        Kind::Verification => {
            let text = format!("the server gave data that cannot be kept: {failure}");
            Failure::failed(text).hint("Run the command again; if it stays so, look at the server with redis-check-rdb")
        }
        _ => failure,
    })
}

/// Walks what `consume` reads; `consume` must read to the end, and sees it only when the data is whole.
pub fn checked(
    data: &mut dyn Read,
    context: Context<'_>,
    consume: impl FnOnce(&mut dyn Read) -> Result<()>,
) -> Result<Census> {
    let now = clock::now().as_millisecond();
    std::thread::scope(|scope| {
        let (sender, receiver) = bounded(PIECES);
        let walker = scope.spawn(move || rdb::walk(Pieces { receiver, piece: Vec::new(), at: 0 }, now, None));
        let mut tee = Tee { data, context, sender: Some(sender), walker: Some(walker), census: None };
        consume(&mut tee)?;
        let unread = || Failure::failed("the data was not taken to its end");
        tee.census.take().ok_or_else(unread)
    })
}

/// Gives what it reads to the walker too.
struct Tee<'d, 's> {
    data: &'d mut dyn Read,
    context: Context<'d>,
    sender: Option<Sender<Vec<u8>>>,
    walker: Option<ScopedJoinHandle<'s, Result<Census>>>,
    census: Option<Census>,
}

impl Tee<'_, '_> {
    fn end(&mut self) -> Result<()> {
        self.sender = None;
        if let Some(walker) = self.walker.take() {
            let walked = walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.census = Some(walked?);
        }
        Ok(())
    }
}

impl Read for Tee<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(PIECE);
        self.context.cancel.check()?;
        let read = loop {
            match self.data.read(&mut into[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let is_refused = || self.sender.as_ref().is_none_or(|s| s.send(into[..read].to_vec()).is_err());
        if most > 0 && (read == 0 || is_refused()) {
            // The walker ended before the data: it has found damage, or something behind the end.
            self.end()?;
        }
        self.context.meter.add(read as u64, 0);
        Ok(read)
    }
}

/// The walker's end of the tee.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let given = into.len().min(self.piece.len() - self.at);
        into[..given].copy_from_slice(&self.piece[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}
