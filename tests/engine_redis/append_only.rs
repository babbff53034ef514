//! An append-only server that tells a user little: what is restored must be what a server loads, or the user must know.

use crate::data::Raw;
use crate::memory_sink::load_from;
use crate::support::host_server::HostServer;
use crate::{dump, on_host, secret, server_on, settings};
use bkp::engine::Target;
use bkp::engine::redis::{Method, Redis};
use std::net::{IpAddr, Ipv4Addr};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_server_that_hides_its_configuration_comes_back_with_its_keys() {
    let part = "redis with an append-only file";
    let wanted = ["--repl-diskless-sync-delay", "0", "--appendonly", "yes"];
    let wanted = wanted.into_iter().fold(HostServer::redis(), |wanted, argument| wanted.argument(argument));
    let Some(source) = wanted.start(part) else { return };
    let mut admin = Raw::connect(LOCAL, source.port(), source.password());
    admin.say("SET one 1");
    admin.say("ACL SETUSER backup on >backup-pw ~* +ping +info +psync +replconf +time");
    let mut server = on_host(&source);
    (server.user, server.password) = (Some("backup".into()), Some(secret("backup-pw")));
    let engine = Redis::new(settings(server, Method::Replica));
    let (dumped, mut origin) = dump(&engine).unwrap();
    assert!(dumped.warnings.iter().any(|w| w.contains("+config|get")), "{:?}", dumped.warnings);

    let directory = tempfile::tempdir().unwrap();
    let restored = directory.path().join("restored");
    let loaded = load_from(&engine, &origin, &Target::New(restored.clone())).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("its names for the files are not known")), "{loaded:?}");
    let server = server_on(&restored, &["--appendonly", "yes"], part).unwrap();
    assert_eq!(Raw::connect(LOCAL, server.port(), server.password()).say("GET one"), "1");

    // Of a server that tells nothing at all.
    origin.details["appendonly"] = serde_json::Value::Null;
    let loaded = load_from(&engine, &origin, &Target::New(directory.path().join("again"))).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("it may start empty")), "{loaded:?}");
}
