//! Bad days: none of them may pass for a dump, and none may tell a password.

use crate::data::{Raw, noise};
use crate::memory_sink::{MemoryOrigin, load_from};
use crate::support::host_server::HostServer;
use crate::support::{free_port, wait_for};
use crate::{dump, dump_disturbed, engine_of, network, on_host, secret, server_on, settings};
use bkp::engine::redis::{Method, Redis};
use bkp::engine::{Engine, Server, Target};
use bkp::error::{Failure, Kind};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PART: &str = "redis on the host";

fn start(arguments: &[&str]) -> Option<HostServer> {
    let all = arguments.iter().chain(&["--repl-diskless-sync-delay", "0"]);
    all.fold(HostServer::redis(), |wanted, argument| wanted.argument(argument)).start(PART)
}

fn raw(server: &HostServer) -> Raw {
    Raw::connect(LOCAL, server.port(), server.password())
}

/// Everything that a user may see of a failure.
fn told(failure: &Failure) -> String {
    format!("{} | {} | {failure:?}", failure.full(), failure.next_step().unwrap_or_default())
}

fn fails(server: Server, method: Method) -> Failure {
    dump(&Redis::new(settings(server, method))).unwrap_err()
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let Some(server) = start(&[]) else { return };
    for user in [None, Some("default"), Some("nobody")] {
        let wrong =
            Server { user: user.map(str::to_owned), password: Some(secret("hunter2-wrong")), ..on_host(&server) };
        let failure = fails(wrong, Method::Automatic);
        assert_eq!(failure.kind(), Kind::Key);
        assert!(failure.to_string().contains("refuses the password of user"), "{failure}");
        assert!(!told(&failure).contains("hunter2"), "{}", told(&failure));
    }
    let none = fails(Server { password: None, ..on_host(&server) }, Method::Automatic);
    assert_eq!(none.kind(), Kind::Key);
    assert!(none.to_string().contains("wants a password"), "{none}");
    raw(&server).say("CONFIG SET requirepass ");
    let needless = fails(on_host(&server), Method::Automatic);
    assert!(needless.to_string().contains("has no password, but one is configured"), "{needless}");
    assert!(!told(&needless).contains(server.password()));
}

#[test]
fn nobody_there_is_a_reason_to_try_later() {
    let failure = fails(network("127.0.0.1", free_port(), "x"), Method::Automatic);
    assert_eq!(failure.kind(), Kind::TryLater);
    assert!(failure.to_string().contains("cannot reach the server at 127.0.0.1:"), "{failure}");
}

#[test]
fn a_missing_permission_is_named_with_the_rule_that_gives_it() {
    let Some(server) = start(&[]) else { return };
    let mut admin = raw(&server);
    admin.say("SET a 1");
    let as_backup = || Server { user: Some("backup".into()), password: Some(secret("backup-pw")), ..on_host(&server) };
    admin.say("ACL SETUSER backup on >backup-pw ~* +ping +info +replconf");
    let failure = fails(as_backup(), Method::Replica);
    assert_eq!(failure.kind(), Kind::Key);
    assert!(failure.to_string().contains("does not permit PSYNC"), "{failure}");
    assert!(failure.next_step().unwrap().contains("ACL SETUSER <user> +psync +replconf"));
    let failure = fails(as_backup(), Method::Automatic);
    assert!(failure.next_step().unwrap().contains("+bgsave"), "{failure}");

    admin.say("ACL SETUSER backup +psync");
    let (dumped, _) = dump(&Redis::new(settings(as_backup(), Method::Automatic))).unwrap();
    assert_eq!(dumped.warnings.len(), 2, "{:?}", dumped.warnings);
    assert!(dumped.warnings[0].contains("+config|get") && dumped.warnings[1].contains("+acl|list"));
    admin.say("ACL SETUSER backup +config|get +acl|list +time");
    let (dumped, _) = dump(&Redis::new(settings(as_backup(), Method::Automatic))).unwrap();
    assert_eq!(dumped.warnings, Vec::<String>::new());
    admin.say("ACL SETUSER backup -psync +bgsave +lastsave");
    let (dumped, _) = dump(&Redis::new(settings(as_backup(), Method::Automatic))).unwrap();
    assert!(dumped.position.is_none(), "it is a snapshot, as a replica is not allowed");
}

#[test]
fn a_server_that_is_killed_half_way_leaves_no_dump() {
    for diskless in ["yes", "no"] {
        let Some(server) = start(&["--repl-diskless-sync", diskless]) else { return };
        raw(&server).ask(&[b"SET", b"huge", &noise(50 << 20, 1)]);
        let engine = engine_of(&server, Method::Automatic);
        let server = RefCell::new(server);
        let failure = dump_disturbed(&engine, 20 << 20, || server.borrow_mut().kill()).unwrap_err();
        assert!(failure.to_string().contains("before the end of its data"), "{failure}");
        assert!(failure.next_step().unwrap().contains("failover"));
    }
}

#[test]
fn a_failed_background_save_is_no_snapshot_and_a_replica_does_not_need_one() {
    let Some(server) = start(&["--save", "3600 1"]) else { return };
    raw(&server).say("SET a 1");
    let mode = |mode| std::fs::set_permissions(server.data(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let failure = fails(on_host(&server), Method::Snapshot);
    assert!(failure.to_string().contains("background save of 127.0.0.1"), "{failure}");
    assert!(failure.next_step().unwrap().contains("not writable"));
    assert!(raw(&server).try_ask(&[b"SET", b"a", b"2"]).unwrap_err().starts_with("MISCONF"));
    let (dumped, _) = dump(&engine_of(&server, Method::Automatic)).unwrap();
    assert_eq!(dumped.inventory["keys"], 1);
    assert!(dumped.warnings[0].contains("may refuse writes"), "{:?}", dumped.warnings);
    raw(&server).say("CONFIG SET repl-diskless-sync no");
    let failure = fails(on_host(&server), Method::Replica);
    assert!(failure.to_string().contains("closed the connection"), "{failure}");
    mode(0o755);
    dump(&engine_of(&server, Method::Snapshot)).unwrap();
}

#[test]
fn a_server_that_is_loading_is_tried_later() {
    let Some(mut server) = start(&["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"])
    else {
        return;
    };
    raw(&server).ask(&[b"EVAL", b"for i = 1, 500 do redis.call('SET', 'key:' .. i, i) end", b"0"]);
    raw(&server).say("SAVE");
    server.stop();
    server.start_again();
    let failure = fails(on_host(&server), Method::Automatic);
    assert_eq!(failure.kind(), Kind::TryLater);
    assert!(failure.to_string().contains("still loading"), "{failure}");
}

#[test]
fn keys_whose_time_is_over_are_announced() {
    let Some(server) = start(&[]) else { return };
    raw(&server).say("SET gone 1 PX 500");
    raw(&server).say("SET stays 1");
    let engine = engine_of(&server, Method::Automatic);
    let (dumped, origin) = dump(&engine).unwrap();
    assert_eq!(dumped.fingerprint.parts["db0/expiring"].count, 1);
    wait_for("the end of the key's time", 10, || (raw(&server).say("EXISTS gone") == "0").then_some(()));
    let directory = tempfile::tempdir().unwrap();
    let restored = directory.path().join("restored");
    let loaded = load_from(&engine, &origin, &Target::New(restored.clone())).unwrap();
    assert!(loaded.warnings[0].starts_with("1 keys"), "{:?}", loaded.warnings);
    let kept = server_on(&restored, &["--replicaof", "127.0.0.1 1"], PART).unwrap();
    assert_eq!(raw(&kept).say("DBSIZE"), "2");
    let dropped = server_on(&restored, &[], PART).unwrap();
    assert_eq!(raw(&dropped).say("DBSIZE"), "1");
}

fn small() -> Option<MemoryOrigin> {
    let server = start(&[])?;
    raw(&server).say("SET a 1");
    raw(&server).say("RPUSH l a b c");
    Some(dump(&engine_of(&server, Method::Automatic)).unwrap().1)
}

#[test]
fn data_that_was_changed_is_not_restored() {
    let Some(origin) = small() else { return };
    let engine = Redis::new(settings(Server::default(), Method::Automatic));
    let directory = tempfile::tempdir().unwrap();
    let target = || Target::New(directory.path().join("restored"));
    let end = origin.streams["dump.rdb"].len();
    for (what, at) in [("flipped", end / 2), ("flipped", end - 3), ("cut", end - 1), ("cut", end / 2)] {
        let mut bad = origin.clone();
        let data = bad.streams.get_mut("dump.rdb").unwrap();
        match what {
            "cut" => data.truncate(at),
            _ => data[at] ^= 0x20,
        }
        let failure = load_from(&engine, &bad, &target()).unwrap_err();
        assert_eq!(failure.kind(), Kind::Verification, "{what} at {at}: {failure}");
    }
    let mut bad = origin.clone();
    bad.fingerprint.parts.get_mut("db0/lasting").unwrap().digest = "77".repeat(32);
    assert_eq!(load_from(&engine, &bad, &target()).unwrap_err().kind(), Kind::Verification);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "something is left");

    std::fs::write(directory.path().join("restored"), "mine").unwrap();
    let failure = load_from(&engine, &origin, &target()).unwrap_err();
    assert_eq!(failure.kind(), Kind::Refused);
    assert_eq!(std::fs::read(directory.path().join("restored")).unwrap(), b"mine");
}

/// A server that knows nothing but how to feed one replica, in these pieces.
fn feeding(pieces: Vec<Vec<u8>>) -> Server {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut words = Vec::new();
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            for _ in 0..line[1..].trim().parse::<usize>().unwrap() {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let mut word = vec![0; line[1..].trim().parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut word).unwrap();
                words.push(String::from_utf8_lossy(&word[..word.len() - 2]).to_string());
            }
            let stream = reader.get_mut();
            match words[0].as_str() {
                "PSYNC" => {
                    pieces.iter().for_each(|piece| drop(stream.write_all(piece).and_then(|()| stream.flush())));
                    return;
                }
                "PING" | "REPLCONF" => stream.write_all(b"+OK\r\n").unwrap(),
                // As some servers do, it repeats what it was sent.
                _ => stream.write_all(format!("-ERR unknown command {words:?}\r\n").as_bytes()).unwrap(),
            }
        }
    });
    Server { host: Some("127.0.0.1".into()), port: Some(port), ..Server::default() }
}

const FULL: &[u8] = b"+FULLRESYNC 0123456789012345678901234567890123456789 17\r\n";

#[test]
fn a_transfer_is_read_however_it_is_cut_into_pieces() {
    let Some(origin) = small() else { return };
    let data = &origin.streams["dump.rdb"];
    let mark = b"abcdefghijabcdefghijabcdefghijabcdefghij";
    let marked = [FULL, b"\n\n\n$EOF:", mark, b"\r\n", data, mark].concat();
    let counted = [b"\n", FULL, b"\n", format!("${}\r\n", data.len()).as_bytes(), data].concat();
    for whole in [marked, counted] {
        for size in [1, 7, 39, 41, whole.len()] {
            let pieces = whole.chunks(size).map(<[u8]>::to_vec).collect();
            let (dumped, taken) = dump(&Redis::new(settings(feeding(pieces), Method::Replica))).unwrap();
            assert_eq!(taken.streams["dump.rdb"], *data);
            assert_eq!(dumped.position.unwrap()["offset"], 17);
        }
    }
}

#[test]
fn a_transfer_that_is_cut_damaged_or_too_long_is_no_dump() {
    let Some(origin) = small() else { return };
    let data = &origin.streams["dump.rdb"];
    let counted = |length: usize, data: &[u8]| vec![[FULL, format!("${length}\r\n").as_bytes(), data].concat()];
    let mut flipped = data.clone();
    flipped[data.len() - 12] ^= 1;
    let unmarked = [FULL, b"$EOF:", &[b'm'; 40], b"\r\n", data].concat();
    for (what, pieces, says) in [
        ("cut by the server", counted(data.len(), &data[..data.len() - 4]), "before the end of its data"),
        ("told too short", counted(data.len() - 9, &data[..data.len() - 9]), "cannot be kept"),
        ("told too long", counted(data.len() + 1, &[data, &b"x"[..]].concat()), "goes on after its end"),
        ("flipped", counted(data.len(), &flipped), "cannot be kept"),
        ("without its mark", vec![unmarked], "before the end of its data"),
        (
            "no data",
            vec![b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n".to_vec()],
            "lost its master",
        ),
        ("failed", vec![[FULL, b"-BGSAVE failed, replication can't continue\r\n"].concat()], "cannot give its data"),
    ] {
        let failure = fails(feeding(pieces), Method::Replica);
        assert!(failure.to_string().contains(says), "{what}: {failure}");
        assert_ne!(failure.kind(), Kind::Verification, "{what}: its hint is for what is stored");
    }
}

#[test]
fn a_server_that_repeats_what_it_was_sent_makes_nobody_tell_the_password() {
    let server = Server { password: Some(secret("hunter2-right")), ..feeding(vec![]) };
    let failure = fails(server, Method::Replica);
    assert_eq!(failure.kind(), Kind::Key);
    assert!(!told(&failure).contains("hunter2"), "{}", told(&failure));
}

#[test]
fn what_is_no_target_is_refused_with_what_to_do() {
    let engine = Redis::new(settings(Server::default(), Method::Automatic));
    let origin = MemoryOrigin::default();
    for target in [Target::NewVolume("v".into()), Target::NewDatabases(bkp::engine::Naming::As("x".into()))] {
        let failure = load_from(&engine, &origin, &target).unwrap_err();
        assert_eq!(failure.kind(), Kind::Usage);
        assert!(failure.next_step().unwrap().contains("--to"));
    }
    assert_eq!(engine.kind(), "redis");
}
