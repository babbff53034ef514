//! Days on which a backup must fail, say why, and commit nothing.

use crate::memory_sink::{MemorySink, NO_ROOM, dump_into};
use crate::server::{Pg, full, network, only, secret, shared};
use crate::support::docker::{Container, start_all};
use crate::support::host_server::HostServer;
use crate::support::wait_for;
use crate::{assert_tidy, called, dump, fingerprint, load};
use bkp::engine::postgres::archive::Walker;
use bkp::engine::postgres::{Postgres, Settings};
use bkp::engine::{DumpRun, Engine, Origin, Part, Sink, TreeOrigin, TreeSink};
use bkp::error::{Kind, Result};
use bkp::event::{Cancel, Context, Meter, Silent};
use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

const NETWORK: &str = "PostgreSQL over the network";

/// A sink that does something when so many bytes of a stream have come.
struct Interrupted<F: FnMut()> {
    inner: MemorySink,
    after: u64,
    act: Option<F>,
}

struct Counted<'r, F: FnMut()> {
    data: &'r mut dyn Read,
    left: u64,
    act: &'r mut Option<F>,
}

impl<F: FnMut()> Read for Counted<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.data.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        if self.left == 0
            && let Some(mut act) = self.act.take()
        {
            act();
        }
        Ok(read)
    }
}

impl<F: FnMut()> Sink for Interrupted<F> {
    fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<()> {
        if name == "globals.sql" {
            return self.inner.stream(name, data);
        }
        self.inner.stream(name, &mut Counted { data, left: self.after, act: &mut self.act })
    }

    fn tree(&mut self) -> Result<&mut dyn TreeSink> {
        self.inner.tree()
    }
}

pub fn interrupted<F: FnMut()>(settings: Settings, after: u64, act: F) -> (Result<bkp::engine::Dumped>, MemorySink) {
    let mut sink = Interrupted { inner: MemorySink::new(), after, act: Some(act) };
    let dumped = dump_to(&mut sink, &Postgres::new(settings));
    assert!(sink.act.is_none(), "the stream was too short for this test: {dumped:?}");
    (dumped, sink.inner)
}

fn dump_to(sink: &mut dyn Sink, engine: &Postgres) -> Result<bkp::engine::Dumped> {
    let scratch = tempfile::tempdir().unwrap();
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let next_memory = scratch.path().join("memory");
    let run = DumpRun { context, scratch: scratch.path().into(), memory: None, next_memory, reread: false };
    engine.dump(sink, &run)
}

#[test]
fn a_wrong_password_is_told_and_not_repeated() {
    let part = "PostgreSQL in a container";
    if let Some(server) = shared() {
        let failure =
            Postgres::new(network("127.0.0.1", server.port(), "postgres", "wrong-hunter2")).preflight().unwrap_err();
        assert_eq!(failure.kind(), Kind::Key, "{failure:?}");
        assert!(!format!("{failure:?} {}", failure.full()).contains("hunter2"));
    }
    let Some([server]) = start_all(part, [Container::postgres()]) else { return };
    let mut settings = server.settings();
    settings.server.host = Some("127.0.0.1".into());
    settings.server.password = Some(secret("wrong-hunter2"));
    let failure = dump(settings.clone()).unwrap_err();
    assert_eq!(failure.kind(), Kind::Key, "{failure:?}");
    assert!(!format!("{failure:?} {}", failure.full()).contains("hunter2"));
    // None at all is told, and nobody waits for one.
    settings.server.password = None;
    assert_eq!(Postgres::new(settings).preflight().unwrap_err().kind(), Kind::Key);
}

#[test]
fn passwords_with_every_character_work_and_are_seen_by_nobody() {
    let Some(server) = shared() else { return };
    let password = "a:b\\c d'e\"f#gü";
    server.ask("", &format!("create role spelled login superuser password '{}'", password.replace('\'', "''")));
    server.ask("", "create database spelled");
    let settings = only(network("127.0.0.1", server.port(), "spelled", password), &["spelled"]);
    let (dumped, _) = interrupted(settings, 1, || {
        let mut seen = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            for file in ["cmdline", "environ"] {
                let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                seen += usize::from(text.contains("PGAPPNAME=bkp"));
                assert!(!text.contains("b\\c d") && !text.contains("b\\\\c d"), "the password is seen in {file}");
            }
        }
        assert!(seen > 0, "the clients were not looked at");
    });
    dumped.unwrap();
}

#[test]
fn what_may_not_be_read_is_named_with_the_grant_that_is_missing() {
    let Some(server) = shared() else { return };
    server.ask("", "create database guarded; create role watcher login password 'watch'");
    server.ask("guarded", "create table open (i int); grant select on open to watcher; create schema s; create table s.closed (i int); insert into s.closed values (1)");
    let settings = only(network("127.0.0.1", server.port(), "watcher", "watch"), &["guarded"]);
    let failure = dump(settings.clone()).unwrap_err();
    assert!(failure.to_string().contains("s.closed") && !failure.to_string().contains("open"), "{failure}");
    assert_eq!(failure.next_step().unwrap(), "Run as a superuser: GRANT pg_read_all_data TO \"watcher\";");
    server.ask("", "grant pg_read_all_data to watcher");
    let (dumped, _) = dump(settings.clone()).unwrap();
    assert_eq!(dumped.fingerprint.parts["guarded.s.closed"].count, 1);

    // Rows that are hidden would be missing without a word.
    server.ask("guarded", "alter table s.closed enable row level security");
    let failure = dump(settings.clone()).unwrap_err();
    assert!(
        failure.to_string().contains("row-level security") && failure.to_string().contains("s.closed"),
        "{failure}"
    );
    assert!(failure.next_step().unwrap().contains("ALTER ROLE \"watcher\" BYPASSRLS"), "{failure:?}");
    server.ask("", "alter role watcher bypassrls");
    assert_eq!(dump(settings.clone()).unwrap().0.fingerprint.parts["guarded.s.closed"].count, 1);
    server.ask("", "revoke connect on database guarded from public");
    let failure = Postgres::new(settings).preflight().unwrap_err();
    assert!(
        failure.next_step().unwrap().contains("GRANT CONNECT ON DATABASE \"guarded\" TO \"watcher\""),
        "{failure:?}"
    );
}

#[test]
fn a_container_that_dies_half_way_leaves_no_stream() {
    let Some([server, redis]) = start_all("PostgreSQL in a container", [Container::postgres(), Container::redis()])
    else {
        return;
    };
    server.ask("", "create database big");
    server.ask("big", "create table rows as select i, repeat(md5(i::text), 20) t from generate_series(1, 60000) i");
    the_server_does_not_notice_dumps_that_end_early(&server);
    let (dumped, sink) = interrupted(only(server.settings(), &["big"]), 20_000_000, || {
        crate::support::docker::engine::docker(&["kill", server.id()]);
    });
    dumped.unwrap_err();
    assert_eq!(sink.streams.keys().collect::<Vec<_>>(), ["globals.sql"]);

    // A container without the clients says which one was looked for.
    let failure = Postgres::new(crate::server::network("127.0.0.1", 5432, "postgres", "x")).preflight();
    assert!(failure.is_err());
    let mut settings = server.settings();
    settings.server.place = bkp::exec::Place::Container(bkp::exec::docker::Selector::Name(redis.name().into()));
    let failure = Postgres::new(settings).preflight().unwrap_err();
    assert!(failure.to_string().contains("no psql in container"), "{failure}");
}

/// The server is the first process of its container: there it takes killed strangers for its own, and ends all sessions.
fn the_server_does_not_notice_dumps_that_end_early(server: &Container) {
    let settings = only(server.settings(), &["big"]);
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink { room: Some(5_000_000), ..MemorySink::new() };
    dump_into(&Postgres::new(settings.clone()), &mut sink, scratch.path()).unwrap_err();
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let next_memory = scratch.path().join("memory");
    let run = DumpRun { context, scratch: scratch.path().into(), memory: None, next_memory, reread: false };
    let mut sink =
        Interrupted { inner: MemorySink::new(), after: 1_000_000, act: Some(|| cancel.set(Kind::Interrupted)) };
    let stopped = Postgres::new(settings.clone()).dump(&mut sink, &run).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Interrupted);
    let (_, origin) = dump(settings.clone()).unwrap();
    let mut cut = origin.clone();
    cut.streams.get_mut("big.dump").unwrap().truncate(4_000_000);
    load(settings, &cut, &called("cut"), Part::Whole).unwrap_err();
    assert_tidy(server);
    assert!(!server.logs().contains("terminated by signal"), "{}", server.logs());
    let clients = "select count(*) from pg_stat_activity where application_name = 'bkp'";
    wait_for("the end of all clients", 20, || (server.query("", clients) == "0").then_some(()));
}

#[test]
fn statements_that_change_tables_wait_or_are_waited_for() {
    let Some(server) = shared() else { return };
    server.ask("", "create database moving");
    server.ask("moving", "create table a as select i, repeat('x', 100) t from generate_series(1, 20000) i; create table b as table a; create table c as table a");
    let settings = only(server.settings(), &["moving"]);
    let (said, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        let (dumped, sink) = interrupted(settings.clone(), 100_000, || {
            for statement in ["truncate a", "drop table b", "alter table c drop column t"] {
                let said = said.clone();
                scope.spawn(move || {
                    server.ask("moving", statement);
                    said.send(()).unwrap();
                });
            }
            let waiting = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'";
            wait_for("the statements", 20, || (server.ask("moving", waiting) == "3").then_some(()));
        });
        let dumped = dumped.unwrap();
        for table in ["a", "b", "c"] {
            assert_eq!(dumped.fingerprint.parts[&format!("moving.public.{table}")].count, 20_000);
        }
        assert!(sink.streams.contains_key("moving.dump"));
    });
    (0..3).for_each(|_| ended.recv_timeout(Duration::from_secs(20)).unwrap());
    assert_eq!(server.ask("moving", "select count(*) from a"), "0");

    // A lock that is not given up ends the backup, and says so.
    let held = server.settings();
    std::thread::scope(|scope| {
        scope.spawn(|| server.try_query("moving", "do $$ begin lock table c; perform pg_sleep(60); end $$"));
        let locked =
            "select count(*) from pg_locks where granted and mode = 'AccessExclusiveLock' and relation = 'c'::regclass";
        wait_for("the lock", 20, || (server.ask("moving", locked) == "1").then_some(()));
        let engine = Postgres::new(only(held, &["moving"])).waiting_for_locks(Duration::from_millis(100));
        let failure = dump_to(&mut MemorySink::new(), &engine).unwrap_err();
        server.ask("", "select pg_terminate_backend(pid) from pg_stat_activity where query like '%lock table c%' and pid <> pg_backend_pid()");
        assert!(failure.full().contains("lock timeout"), "{}", failure.full());
        assert!(failure.next_step().unwrap().contains("pg_locks"), "{failure:?}");
    });
}

#[test]
fn failures_of_the_sink_and_signals_end_a_dump() {
    let Some(server) = full() else { return };
    let settings = only(server.settings(), &["shop"]);
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink { room: Some(50_000), ..MemorySink::new() };
    let failure = dump_into(&Postgres::new(settings.clone()), &mut sink, scratch.path()).unwrap_err();
    assert_eq!(failure.to_string(), NO_ROOM);
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let run = DumpRun {
        context,
        scratch: scratch.path().into(),
        memory: None,
        next_memory: scratch.path().join("m"),
        reread: false,
    };
    let mut sink = Interrupted { inner: MemorySink::new(), after: 1, act: Some(|| cancel.set(Kind::Terminated)) };
    let stopped = Postgres::new(settings).dump(&mut sink, &run).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Terminated, "{stopped:?}");
}

/// An origin that does something while a stream is read.
struct Falling<'o, F: Fn() + Sync> {
    origin: &'o crate::MemoryOrigin,
    act: F,
}

impl<F: Fn() + Sync> Origin for Falling<'_, F> {
    fn streams(&self) -> Vec<String> {
        self.origin.streams()
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        (self.act)();
        self.origin.stream(name)
    }

    fn tree(&self) -> Option<&dyn TreeOrigin> {
        None
    }

    fn fingerprint(&self) -> &bkp::engine::Fingerprint {
        self.origin.fingerprint()
    }

    fn details(&self) -> &serde_json::Value {
        self.origin.details()
    }
}

#[test]
fn a_server_that_falls_during_a_restore_leaves_what_can_be_found_and_removed() {
    let Some(server) = HostServer::postgres().start(NETWORK) else { return };
    server.ask("", "create database fall");
    server.ask("fall", "create table t as select generate_series(1, 1000) i");
    let settings = only(server.settings(), &["fall"]);
    let (dumped, origin) = dump(settings.clone()).unwrap();
    let server = std::sync::Mutex::new(server);
    let falling = Falling { origin: &origin, act: || server.lock().unwrap().kill() };
    let live = bkp::engine::Target::Live(bkp::engine::Confirmed::by_name("x", "x").unwrap());
    let failure = load(settings.clone(), &falling, &live, Part::Whole).unwrap_err();
    let hint = failure.next_step().unwrap().to_owned();
    let mut server = server.into_inner().unwrap();
    server.start_again();
    assert_eq!(fingerprint(&settings), dumped.fingerprint);
    let remove = hint.split_once("as a superuser: ").unwrap().1;
    assert!(remove.starts_with("DROP DATABASE IF EXISTS \"bkp_restore_fall_"), "{hint}");
    server.ask("", remove);
    assert_tidy(&server);
    load(settings, &origin, &called("fall_2"), Part::Whole).unwrap();
}

#[test]
fn an_archive_is_whole_only_with_its_last_byte() {
    let Some(server) = full() else { return };
    let (_, origin) = dump(only(server.settings(), &["shop"])).unwrap();
    let archive = &origin.streams["shop.dump"];
    for (piece, slow) in [(1, 5000), (7, 30_000), (4096, 500_000), (archive.len(), 0)] {
        let mut walker = Walker::default();
        // In small pieces only the beginning, where the list of contents is.
        archive[..slow].chunks(piece).for_each(|bytes| walker.push(bytes).unwrap());
        archive[slow..].chunks(1 << 16).for_each(|bytes| walker.push(bytes).unwrap());
        let contents = walker.finish().unwrap();
        assert_eq!(contents.bytes, archive.len() as u64);
        assert_eq!(contents.large_objects(), 3);
        let orders = contents.entries.iter().find(|e| e.kind == "TABLE DATA" && e.tag == "orders").unwrap();
        assert_eq!(contents.blocks[&orders.id].rows, Some(20_000));
    }
    let walk = |bytes: &[u8]| {
        let mut walker = Walker::default();
        walker.push(bytes)?;
        walker.finish()
    };
    let ends = (1..10).map(|n| archive.len() - n).chain((0..10).map(|n| archive.len() * n / 10));
    for end in ends {
        assert_eq!(walk(&archive[..end]).unwrap_err().kind(), Kind::Verification, "cut at {end} of {}", archive.len());
    }
    let longer = [archive.as_slice(), b"\x01"].concat();
    assert!(walk(&longer).is_err() && walk(b"PGDMP").is_err() && walk(b"not an archive at all").is_err());
}
