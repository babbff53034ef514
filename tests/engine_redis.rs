//! Redis and Valkey, real ones: every kind of data there and back, in every way bkp gets at it, and on bad days.
#![allow(clippy::unwrap_used)] // all of this is test

#[path = "support/memory_sink.rs"]
mod memory_sink;
mod support;

#[path = "engine_redis/append_only.rs"]
mod append_only;
#[path = "engine_redis/bad_days.rs"]
mod bad_days;
#[path = "engine_redis/contract.rs"]
mod contract;
#[path = "engine_redis/data.rs"]
mod data;
#[path = "engine_redis/rough_days.rs"]
mod rough_days;
#[path = "engine_redis/sentinel.rs"]
mod sentinel;

use bkp::engine::redis::{Method, Redis, Settings};
use bkp::engine::{Dumped, Fingerprint, Server};
use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::exec::Place;
use bkp::secret::SecretRef;
use memory_sink::{MemoryOrigin, MemorySink, dump_into};
use std::path::Path;
use support::host_server::HostServer;

/// A secret in a file, which stays as long as the process.
fn secret(value: &str) -> SecretRef {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(value.as_bytes()).unwrap();
    SecretRef::File(file.into_temp_path().keep().unwrap())
}

fn settings(server: Server, method: Method) -> Settings {
    Settings { server, method, sentinel: None }
}

fn network(host: &str, port: u16, password: &str) -> Server {
    Server {
        host: Some(host.into()),
        port: Some(port),
        password: Some(secret(password)),
        place: Place::Host,
        ..Server::default()
    }
}

/// How bkp reaches a server of the host.
fn on_host(server: &HostServer) -> Server {
    network("127.0.0.1", server.port(), server.password())
}

fn engine_of(server: &HostServer, method: Method) -> Redis {
    Redis::new(settings(on_host(server), method))
}

fn dump(engine: &Redis) -> Result<(Dumped, MemoryOrigin)> {
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(engine, &mut sink, scratch.path())?;
    let origin = sink.into_origin(&dumped);
    Ok((dumped, origin))
}

fn fingerprint(settings: &Settings) -> Fingerprint {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    bkp::engine::redis::fingerprint(settings, Context { events: &Silent, meter: &meter, cancel: &cancel }).unwrap()
}

/// Takes a dump, and does something once, when this much of the data has come.
struct Halfway<'a> {
    at: usize,
    then: Option<Box<dyn FnOnce() + 'a>>,
}

impl bkp::engine::Sink for Halfway<'_> {
    fn stream(&mut self, _: &str, data: &mut dyn std::io::Read) -> Result<()> {
        let (mut buffer, mut taken) = (vec![0; 64 << 10], 0);
        loop {
            let read = data.read(&mut buffer).map_err(|e| bkp::error::Failure::from_io(e, || "cannot read".into()))?;
            taken += read;
            if read == 0 {
                return Ok(());
            }
            if taken > self.at
                && let Some(then) = self.then.take()
            {
                then();
            }
        }
    }

    fn tree(&mut self) -> Result<&mut dyn bkp::engine::TreeSink> {
        unreachable!("Redis has no tree")
    }
}

/// What comes of a dump in which something happens.
fn dump_disturbed(engine: &Redis, at: usize, then: impl FnOnce()) -> Result<Dumped> {
    use bkp::engine::Engine;
    let scratch = tempfile::tempdir().unwrap();
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let run = bkp::engine::DumpRun {
        context: Context { events: &Silent, meter: &meter, cancel: &cancel },
        scratch: scratch.path().into(),
        memory: None,
        next_memory: scratch.path().join("memory"),
        reread: false,
    };
    let then: Box<dyn FnOnce()> = Box::new(then);
    engine.dump(&mut Halfway { at, then: Some(then) }, &run)
}

/// A server that takes over a restored directory. `arguments` as for a new one.
fn server_on(restored: &Path, arguments: &[&str], part: &str) -> Option<HostServer> {
    let wanted = arguments.iter().fold(HostServer::redis(), |wanted, argument| wanted.argument(argument));
    let mut server = wanted.start(part)?;
    server.stop();
    let data = server.data();
    std::fs::remove_dir_all(&data).unwrap();
    let (from, to) = (restored.to_str().unwrap(), data.to_str().unwrap());
    support::run("cp", &["-a", from, to], Path::new("/"));
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data.parent().unwrap()).unwrap());
    support::run("chown", &["-R", &format!("{owner}:{owner}"), to], Path::new("/"));
    server.start_again();
    support::wait_for("the end of loading", 30, || {
        let told = server.try_query("", "INFO persistence");
        String::from_utf8_lossy(&told.stdout).contains("loading:0").then_some(())
    });
    Some(server)
}
