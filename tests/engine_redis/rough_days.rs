//! Rougher days: a full disk, an empty server, a container that dies, a file whose tail is lost, data that does not fit
//! into the server it is to go to; and restores in place.

use crate::data::{Raw, fill, noise};
use crate::memory_sink::{MemoryOrigin, MemorySink, load_from};
use crate::support::docker::Container;
use crate::support::docker::engine::docker;
use crate::support::host_server::HostServer;
use crate::{dump, dump_disturbed, engine_of, fingerprint, network, on_host, secret, settings};
use bkp::engine::redis::{Method, Redis, Settings};
use bkp::engine::{Confirmed, Engine, LoadRun, Loaded, Naming, Part, Returning, Server, Target};
use bkp::error::{Kind, Result};
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use bkp::secret::Secret;
use std::net::{IpAddr, Ipv4Addr};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PART: &str = "redis on the host";

fn start(arguments: &[&str]) -> Option<HostServer> {
    let all = arguments.iter().chain(&["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"]);
    all.fold(HostServer::redis(), |wanted, argument| wanted.argument(argument)).start(PART)
}

fn raw(server: &HostServer) -> Raw {
    Raw::connect(LOCAL, server.port(), server.password())
}

fn inside(container: &Container, method: Method) -> Settings {
    let place = Place::Container(Selector::Name(container.name().into()));
    settings(Server { place, password: Some(secret(container.password())), ..Server::default() }, method)
}

fn live() -> Target {
    Target::Live(Confirmed::by_name("x", "x").unwrap())
}

fn load_keeping(engine: &Redis, origin: &MemoryOrigin, target: &Target) -> Result<Loaded> {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    engine.load(
        origin,
        target,
        &LoadRun { context, part: Part::Whole, copy: None, on_difference: Default::default(), returning: None },
    )
}

#[test]
fn a_disk_that_is_full_fails_the_save_and_the_server_refuses_writes_until_one_goes_well() {
    let wanted = Container::redis().option("--tmpfs").option("/data:size=64m").argument("--save").argument("3600 1");
    let wanted = wanted.argument("--repl-diskless-sync-delay").argument("0");
    let Some(server) = wanted.start("redis on a small disk") else { return };
    let mut own = Raw::connect(server.ip(), 6379, server.password());
    own.ask(&[b"SET", b"noise", &noise(20 << 20, 3)]);
    assert!(server.exec(&["fallocate", "-l", "60M", "/data/ballast"], b"").status.success());
    let by_file = Redis::new(inside(&server, Method::Snapshot));
    let mut sink = MemorySink::new();
    let scratch = tempfile::tempdir().unwrap();
    let failure = crate::dump_into(&by_file, &mut sink, scratch.path()).unwrap_err();
    assert!(failure.to_string().contains("background save of"), "{failure}");
    assert!(failure.next_step().unwrap().contains("full") && failure.next_step().unwrap().contains("refuses writes"));
    assert!(sink.streams.is_empty());
    assert!(own.try_ask(&[b"SET", b"a", b"1"]).unwrap_err().starts_with("MISCONF"));
    // A replica needs no disk there; and what is wrong with the server is told.
    let (dumped, _) = dump(&Redis::new(inside(&server, Method::Automatic))).unwrap();
    assert_eq!(dumped.inventory["keys"], 1);
    assert!(dumped.warnings[0].contains("it may refuse writes"), "{:?}", dumped.warnings);
    server.exec(&["rm", "/data/ballast"], b"");
    dump(&by_file).unwrap();
    own.say("SET a 1");
}

#[test]
fn a_container_that_is_killed_and_a_file_whose_tail_is_lost_make_no_dump() {
    let Some(server) = Container::redis().start("redis in a container") else { return };
    let mut own = Raw::connect(server.ip(), 6379, server.password());
    own.ask(&[b"SET", b"huge", &noise(40 << 20, 4)]);
    let engine = Redis::new(inside(&server, Method::Snapshot));
    let cat =
        "printf '%s\\n' '#!/bin/sh' '/bin/cat \"$@\" | head -c -5' >/usr/local/bin/cat && chmod +x /usr/local/bin/cat";
    assert!(server.exec(&["sh", "-c", cat], b"").status.success());
    let mut sink = MemorySink::new();
    let failure = crate::dump_into(&engine, &mut sink, tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(failure.to_string().contains("cannot be kept"), "{}", failure.full());
    assert!(!sink.streams.contains_key("dump.rdb"));
    server.exec(&["rm", "/usr/local/bin/cat"], b"");
    let failure = dump_disturbed(&engine, 10 << 20, || _ = docker(&["kill", server.id()])).unwrap_err();
    assert!(failure.full().contains("was cut off"), "{}", failure.full());
}

#[test]
fn a_container_without_the_client_is_told_with_what_was_looked_for() {
    let Some(server) = Container::postgres().network("none").start("a container without redis-cli") else { return };
    let failure = dump(&Redis::new(inside(&server, Method::Automatic))).unwrap_err();
    assert!(failure.to_string().contains("looked for valkey-cli, redis-cli, keydb-cli"), "{failure}");
}

#[test]
fn a_server_without_keys_is_dumped_and_loaded() {
    let Some(server) = start(&[]) else { return };
    let engine = engine_of(&server, Method::Automatic);
    let (dumped, origin) = dump(&engine).unwrap();
    assert_eq!((dumped.inventory["keys"], dumped.warnings.len()), (0, 0), "{dumped:?}");
    let directory = tempfile::tempdir().unwrap();
    load_from(&engine, &origin, &Target::New(directory.path().join("new"))).unwrap();
    assert_eq!(load_from(&engine, &origin, &Target::NewDatabases(Naming::Same)).unwrap().items, 0);
    raw(&server).say("SET later 1");
    load_from(&engine, &origin, &live()).unwrap();
    assert_eq!(raw(&server).say("DBSIZE"), "0");
}

/// Those that are rotated are given their password of today afterwards, and until then have none.
#[test]
fn users_come_back_closed_or_off() {
    let Some(server) = start(&[]) else { return };
    let mut own = raw(&server);
    own.say("SET a 1");
    for user in ["shop", "stranger", "backup", "changer"] {
        own.say(&format!("ACL SETUSER {user} on >{user}-password ~* +@all"));
    }
    let engine = engine_of(&server, Method::Automatic);
    let (_, origin) = dump(&engine).unwrap();
    own.say("ACL DELUSER shop stranger backup changer");
    let passwords = [("backup", None), ("changer", Some(Secret::new("today's".into())))];
    let passwords = passwords.map(|(user, password)| (user.to_owned(), password)).into();
    let returning = Returning { rotated: vec!["shop".to_owned()], own: passwords, lock_others: true };
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let run = LoadRun {
        context,
        part: Part::Whole,
        copy: None,
        on_difference: Default::default(),
        returning: Some(&returning),
    };
    // Where the data do not go live in the end, nobody is left.
    own.say("ACL SETUSER weak on >weak ~* &* +@all -swapdb");
    let weak = Server { user: Some("weak".into()), password: Some(secret("weak")), ..on_host(&server) };
    let failure = Redis::new(settings(weak, Method::Automatic)).load(&origin, &live(), &run).unwrap_err();
    assert!(failure.full().contains("SWAPDB"), "{}", failure.full());
    assert!(!own.say("ACL LIST").contains("user shop"), "made before, and taken away again");
    let loaded = engine.load(&origin, &live(), &run).unwrap();
    assert!(loaded.warnings.iter().any(|told| told.contains("came back off") && told.ends_with(": stranger")));
    let listed = own.say("ACL LIST");
    let of = |user: &str| listed.lines().find(|line| line.contains(&format!("user {user} "))).unwrap().to_owned();
    assert!(of("shop").contains(" on ") && !of("shop").contains('#') && !of("shop").contains("nopass"), "{listed}");
    assert!(of("stranger").contains(" off ") && of("stranger").contains('#'), "{listed}");
    assert!(of("backup").contains(" on ") && of("backup").contains('#'), "{listed}");
    assert!(own.say("AUTH changer today's").contains("OK"), "who changes the others has the password that bkp has");
}

#[test]
fn everything_is_replaced_in_place_at_once() {
    let Some(server) = start(&[]) else { return };
    fill(&mut raw(&server));
    let engine = engine_of(&server, Method::Automatic);
    let (dumped, origin) = dump(&engine).unwrap();
    let mut own = raw(&server);
    let digest = own.say("DEBUG DIGEST");
    own.say("SET empty filled");
    own.say("DEL sorted:large");
    own.say("FUNCTION DELETE mine");
    own.say("ACL SETUSER reader >another-password");
    own.say("ACL DELUSER reader");
    own.say("SELECT 4");
    own.say("SET not-in-the-point 1");
    own.say("SELECT 0");
    let loaded = load_from(&engine, &origin, &live()).unwrap();
    assert_eq!(loaded.items, dumped.inventory["keys"]);
    assert!(own.say("FUNCTION LIST").contains("mine"), "a client that stayed connected sees it");
    // What was replaced stays, and goes as the warnings say.
    for told in &loaded.warnings {
        let Some((_, command)) = told.split_once("redis-cli -n ") else { continue };
        own.say(&format!("SELECT {}", command.split(' ').next().unwrap()));
        own.say("FLUSHDB");
    }
    own.say("SELECT 0");
    assert_eq!(own.say("DEBUG DIGEST"), digest);
    assert_eq!(fingerprint(&settings(on_host(&server), Method::Automatic)), dumped.fingerprint);
    assert!(own.say("FUNCTION LIST").contains("mine") && own.say("ACL LIST").contains("user reader on"));
    assert_eq!(engine.leftovers(&Cancel::default()).unwrap(), []);

    // Without a safety backup the old content stays where it was exchanged to, and is told and found.
    own.say("SET empty kept");
    let loaded = load_keeping(&engine, &origin, &live()).unwrap();
    let kept = loaded.warnings.iter().find_map(|w| w.strip_prefix("what database 0 was before is kept in database "));
    let kept = kept.and_then(|told| told.split(',').next()).unwrap_or_else(|| panic!("{:?}", loaded.warnings));
    own.say(&format!("SELECT {kept}"));
    assert_eq!(own.say("GET empty"), "kept");
    let left = engine.leftovers(&Cancel::default()).unwrap();
    assert_eq!(left.len(), 3, "databases 0, 1 and 15: {left:?}");
}

#[test]
fn what_stands_in_the_way_of_a_restore_in_place_is_told_and_nothing_is_changed() {
    let Some(server) = start(&["--databases", "2"]) else { return };
    let mut own = raw(&server);
    own.ask(&[b"SET", b"a", &noise(3 << 20, 6)]);
    own.say("SELECT 1");
    own.say("SET b 1");
    let engine = engine_of(&server, Method::Automatic);
    let (dumped, origin) = dump(&engine).unwrap();
    let unchanged = || assert_eq!(fingerprint(&settings(on_host(&server), Method::Automatic)), dumped.fingerprint);
    let refused = load_from(&engine, &origin, &live()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("too few are empty"), "{refused}");
    unchanged();

    // Memory for both is not to be had: neither are keys driven out, nor is half of it left.
    let Some(small) = start(&["--maxmemory", "22mb", "--maxmemory-policy", "allkeys-lru"]) else { return };
    for key in ["a", "b", "c"] {
        raw(&small).ask(&[b"SET", key.as_bytes(), &noise(2 << 20, 8)]);
    }
    let engine = engine_of(&small, Method::Automatic);
    let (dumped, origin) = dump(&engine).unwrap();
    let refused = load_from(&engine, &origin, &live()).unwrap_err();
    assert!(refused.to_string().contains("no room to hold the old data and the new"), "{}", refused.full());
    assert_eq!(fingerprint(&settings(on_host(&small), Method::Automatic)), dumped.fingerprint);
    assert_eq!(engine.leftovers(&Cancel::default()).unwrap(), []);

    let replica = start(&["--replicaof", "127.0.0.1 1"]).unwrap();
    let refused = load_from(&engine_of(&replica, Method::Automatic), &origin, &live()).unwrap_err();
    assert!(refused.to_string().contains("is a replica"), "{refused}");
    let alone = start(&["--cluster-enabled", "yes"]).unwrap();
    let refused = load_from(&engine_of(&alone, Method::Automatic), &origin, &live()).unwrap_err();
    assert!(refused.to_string().contains("cluster"), "{refused}");
}

#[test]
fn a_restore_into_a_server_that_stops_half_way_says_what_is_left() {
    let Some(source) = start(&[]) else { return };
    (0..6).for_each(|n| _ = raw(&source).ask(&[b"SET", format!("k{n}").as_bytes(), &noise(2 << 20, n)]));
    let (_, origin) = dump(&engine_of(&source, Method::Automatic)).unwrap();
    let target = start(&["--maxmemory", "8mb"]).unwrap();
    let engine = engine_of(&target, Method::Automatic);
    let failure = load_from(&engine, &origin, &Target::NewDatabases(Naming::Same)).unwrap_err();
    assert!(failure.to_string().contains("stopped half-way") && failure.next_step().unwrap().contains("FLUSHALL"));
    let left = engine.leftovers(&Cancel::default()).unwrap();
    assert!(left.len() == 1 && left[0].remove == "FLUSHALL", "{left:?}");
    let refused = load_from(&engine, &origin, &Target::NewDatabases(Naming::Same)).unwrap_err();
    assert!(refused.to_string().contains("holds a part of a restore"), "{refused}");
    raw(&target).say("FLUSHALL");
    raw(&target).say("CONFIG SET maxmemory 0");
    load_from(&engine, &origin, &Target::NewDatabases(Naming::Same)).unwrap();
}

/// Data of Redis 8 and of Valkey 9 into an older server, and into the other flavour.
#[test]
fn data_that_the_server_does_not_read_is_refused_before_anything_is_written() {
    let Some(older) = start(&[]) else { return };
    let part = "redis 8 and valkey in containers";
    let Some([redis, valkey]) = crate::support::docker::start_all(part, [Container::redis_8(), Container::valkey()])
    else {
        return;
    };
    let way = |container: &Container| network(&container.ip().to_string(), 6379, container.password());
    let mut points = Vec::new();
    for server in [&redis, &valkey] {
        server.query("", "SET a 1\nHSET h a 1");
        points.push(dump(&Redis::new(inside(server, Method::Snapshot))).unwrap().1);
    }
    let into = |server: Server, origin: &MemoryOrigin| {
        load_from(&Redis::new(settings(server, Method::Automatic)), origin, &Target::NewDatabases(Naming::Same))
    };
    for (server, origin, says) in [(on_host(&older), &points[0], "Redis 8"), (on_host(&older), &points[1], "Valkey 9")]
    {
        let refused = into(server, origin).unwrap_err();
        assert_eq!(refused.kind(), Kind::Refused, "{}", refused.full());
        assert!(refused.to_string().contains(says) && refused.to_string().contains("Redis 7.0"), "{refused}");
        assert_eq!(raw(&older).say("DBSIZE"), "0");
    }
    for (server, origin) in [(&redis, &points[1]), (&valkey, &points[0])] {
        server.query("", "FLUSHALL");
        let refused = into(way(server), origin).unwrap_err();
        assert_eq!(refused.kind(), Kind::Refused, "{}", refused.full());
        assert_eq!(server.query("", "DBSIZE"), "0");
    }
}
