//! Nobody else sees a password on its way: not in listings of processes, not in the log of the server, not in that of Vault, not in
//! the events of Docker, and in nothing that bkp says of it later.

use super::kills::wait_for_distance;
use super::mongo::Ferretdb;
use super::postgres::Postgres;
use super::redis::Redis;
use super::servers::{Mariadb, Mysql};
use super::support::vault::Vault;
use super::world::{Target, World};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
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

pub fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// As `sha256sum` tells it, for whoever may not be told the password itself.
pub fn hash(password: &str) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim_end().to_owned()
}

/// What Docker tells whoever listens, with every command that is run in a container. Nothing where there is no Docker.
pub struct Events(Child, tempfile::NamedTempFile);

impl Events {
    pub fn begin() -> Events {
        let told = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("docker");
        command.args(["events", "--format", "{{json .}}"]).stdout(told.reopen().unwrap());
        Events(command.stderr(Stdio::null()).spawn().unwrap(), told)
    }

    pub fn so_far(&self) -> Vec<u8> {
        fs::read(self.1.path()).unwrap()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `log`: what the server wrote down; `statement` must be there, where it writes down what it is told.
fn is_not_seen(part: &str, target: Arc<dyn Target>, log: &dyn Fn() -> Vec<u8>, statement: Option<&str>) {
    let Some(vault) = Vault::alone(part) else { return };
    let vault: &'static Vault = Box::leak(Box::new(vault));
    let audit = vault.file("audit.log");
    vault.put("sys/audit/file", json!({ "type": "file", "options": { "file_path": audit } }));
    let mut world = World::with(vault, target, "");
    world.open_shop();
    let (before, events) = (log().len(), Events::begin());
    let enough = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let enough = Arc::clone(&enough);
        move || listings(&enough)
    });
    world.rotate(&["shop-db"]).ends(0);
    // And one that is taken back, by itself.
    let new = world.published();
    world.works_only_with("worker", &new);
    wait_for_distance(&world);
    world.rotate(&["shop-db"]).fails(1, "the old password is in force: worker", "rotate again");
    enough.store(true, SeqCst);
    let listings = watching.join().unwrap();
    let taken_back = world.last_pending();
    assert_eq!(world.one_password_works(&taken_back), new);
    assert!(listings.iter().any(|listing| holds(listing, "shop-db")), "bkp itself was not seen");
    let month = jiff::Timestamp::now().strftime("%Y-%m").to_string();
    let report = ["report", "--period", month.as_str(), "--offline", "--format"];
    for words in [&["journal", "--json", "--last", "1000"][..], &["secrets"], &["status"], &["rotate", "status"]] {
        world.host.run(words);
    }
    for format in ["json", "md", "html"] {
        world.host.run(&[&report[..], &[format]].concat()).ends(0).says("shop-db");
    }
    let logs = [log()[before..].to_vec(), fs::read(&audit).unwrap(), events.so_far()];
    let container = world.target.container();
    let is_seen = container.is_none_or(|name| holds(&logs[2], &name) && holds(&logs[2], "exec_start: sh -c"));
    assert!(is_seen, "Docker told nobody of what was run");
    assert!(statement.is_none_or(|statement| holds(&logs[0], statement)), "the server wrote nothing down");
    assert!(holds(&logs[1], "kv/data/"), "Vault wrote nothing down");
    for secret in [&new, &taken_back, &world.old] {
        assert!(!listings.iter().any(|listing| holds(listing, secret)), "a process shows it");
        assert!(!logs.iter().any(|log| holds(log, secret)), "a log has it");
        world.is_told_nowhere(secret);
    }
    vault.stop();
}

#[test]
fn a_password_of_mariadb_is_not_seen_on_its_way() {
    let part = "secrecy of rotations";
    let Some(server) = Mariadb::start(part) else { return };
    let server = Arc::new(server);
    let log = server.logs_from_now_on();
    let target: Arc<dyn Target> = Arc::clone(&server) as Arc<dyn Target>;
    is_not_seen(part, target, &|| fs::read(&log).unwrap_or_default(), Some("ALTER USER"));
}

/// Who changes it works in the container, and every command there is an event.
#[test]
fn a_password_of_mysql_is_not_seen_on_its_way() {
    let part = "secrecy of rotations of MySQL";
    let Some(server) = Mysql::start(part) else { return };
    let server = Arc::new(server);
    server.query("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = 1");
    let log = || server.query("SELECT argument FROM mysql.general_log").into_bytes();
    is_not_seen(part, Arc::clone(&server) as Arc<dyn Target>, &log, Some("ALTER USER"));
}

/// It logs every statement, and yet knows no password.
#[test]
fn a_password_of_postgres_is_not_seen_on_its_way() {
    let part = "secrecy of rotations of PostgreSQL";
    let Some(server) = Postgres::start(part, &["-c", "log_statement=all"]) else { return };
    let server = Arc::new(server);
    let target: Arc<dyn Target> = Arc::clone(&server) as Arc<dyn Target>;
    is_not_seen(part, target, &|| server.log().into_bytes(), Some("alter role"));
}

/// It is told the password itself, and keeps it to itself.
#[test]
fn a_password_of_mongodb_is_not_seen_on_its_way() {
    let part = "secrecy of rotations of MongoDB";
    let Some(server) = Ferretdb::start(part) else { return };
    let server = Arc::new(server);
    let target: Arc<dyn Target> = Arc::clone(&server) as Arc<dyn Target>;
    is_not_seen(part, target, &|| server.log().into_bytes(), None);
}

/// It writes down every command, and knows hashes only.
#[test]
fn a_password_of_redis_is_not_seen_on_its_way() {
    let part = "secrecy of rotations of Redis";
    let Some(server) = Redis::with_log(part) else { return };
    let server = Arc::new(server);
    let target: Arc<dyn Target> = Arc::clone(&server) as Arc<dyn Target>;
    is_not_seen(part, target, &|| server.log().into_bytes(), Some("SETUSER"));
}
