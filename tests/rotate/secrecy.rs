//! Nobody else sees a password on its way: not in listings of processes, not in the log of the server, not in that of Vault.

use super::servers::Mariadb;
use super::support::vault::Vault;
use super::world::{Target, World};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Arguments and environments of all processes, as often as they can be read until it is enough.
fn listings(enough: &AtomicBool) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::new();
    while !enough.load(SeqCst) {
        for process in fs::read_dir("/proc").unwrap().flatten() {
            // It may have ended by now.
            seen.extend(["cmdline", "environ"].iter().filter_map(|name| fs::read(process.path().join(name)).ok()));
        }
    }
    seen
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

#[test]
fn a_password_is_not_seen_on_its_way() {
    let part = "secrecy of rotations";
    let (Some(vault), Some(server)) = (Vault::alone(part), Mariadb::start(part)) else { return };
    let vault: &'static Vault = Box::leak(Box::new(vault));
    let audit = vault.file("audit.log");
    vault.put("sys/audit/file", json!({ "type": "file", "options": { "file_path": audit } }));
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    let log = server.logs_from_now_on();
    let enough = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let enough = Arc::clone(&enough);
        move || listings(&enough)
    });
    world.rotate(&["shop-db"]).ends(0);
    enough.store(true, SeqCst);
    let listings = watching.join().unwrap();
    let new = world.one_password_works(&world.old);
    assert!(listings.iter().any(|listing| holds(listing, "shop-db")), "bkp itself was not seen");
    let logs = [fs::read(&log).unwrap(), fs::read(&audit).unwrap()];
    assert!(holds(&logs[0], "ALTER USER") && holds(&logs[1], "kv/data/"), "there is nothing in the logs");
    for secret in [&new, &world.old] {
        assert!(!listings.iter().any(|listing| holds(listing, secret)), "a process shows it");
        assert!(!logs.iter().any(|log| holds(log, secret)), "a log has it");
    }
    vault.stop();
}
