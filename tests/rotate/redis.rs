//! Redis and Valkey: one server, a group with a replica and a sentinel, and what restarts and failovers make of a rotation.

use super::emergency::{Held, KeepsSessions};
use super::kills;
use super::servers::is_rotated_without_a_gap;
use super::support::docker::Container;
use super::support::host_server::HostServer;
use super::support::vault::Vault;
use super::support::{free_port, wait_for};
use super::world::{Target, World};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// As docs/ROTATION.md has it, without the name.
const RIGHTS: &str =
    "+ping +info +time +acl +config|get +config|set +config|rewrite +client|list +client|id +client|kill";
const ADMIN: &str = "rights";
const SENTINEL: &str = "sentinel-pw";

/// One that logged in.
struct Session(BufReader<TcpStream>);

impl Session {
    /// Waits for a server that is being started.
    fn open(host: &str, port: u16, user: &str, password: &str) -> Result<Session, String> {
        let stream = wait_for("a server", 60, || TcpStream::connect((host, port)).ok());
        let mut session = Session(BufReader::new(stream));
        session.ask(&format!("AUTH {user} {password}"))?;
        Ok(session)
    }

    /// A line, and the answer: of texts what they say, of lists each on a line.
    fn ask(&mut self, line: &str) -> Result<String, String> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).map_err(|e| e.to_string())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).map_err(|e| e.to_string())? == 0 {
            return Err("closed".into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        match (kind, rest) {
            ("-", _) => Err(rest.to_owned()),
            ("$", "-1") => Ok(String::new()),
            ("$", _) => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).map_err(|e| e.to_string())?;
                Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
            }
            ("*", _) => {
                let all: Result<Vec<String>, String> =
                    (0..rest.parse::<i64>().unwrap()).map(|_| self.answer()).collect();
                all.map(|all| all.join("\n"))
            }
            _ => Ok(rest.to_owned()),
        }
    }
}

/// As a program of the stack does it. One that is not there yet is no refusal.
fn log_in(host: &str, port: u16, user: &str, password: &str) -> Result<(), String> {
    wait_for("an answer of a server", 60, || {
        let answer = Session::open(host, port, user, password).and_then(|mut session| session.ask("PING"));
        match answer {
            Err(said) if said.starts_with("LOADING") || said == "closed" || said.contains("reset") => None,
            answer => Some(answer.map(drop)),
        }
    })
}

fn admin(host: &str, port: u16, line: &str) -> String {
    let session = Session::open(host, port, "bkp-rotate", ADMIN);
    session.and_then(|mut session| session.ask(line)).unwrap_or_else(|said| panic!("{line}: {said}"))
}

fn hashes(port: u16, user: &str) -> usize {
    admin("127.0.0.1", port, &format!("ACL GETUSER {user}")).lines().filter(|line| line.len() == 64).count()
}

/// A server with its users in its configuration, or in a file of users.
pub struct Redis(Mutex<HostServer>, u16, &'static str);

impl Redis {
    pub fn start(part: &str) -> Option<Redis> {
        let server = HostServer::redis().in_file(&format!("user bkp-rotate on >{ADMIN} {RIGHTS}\n")).start(part)?;
        let port = server.port();
        Some(Redis(Mutex::new(server), port, "CONFIG REWRITE"))
    }

    /// Every command that it is told, from then on.
    pub fn with_log(part: &str) -> Option<Redis> {
        let lines =
            format!("slowlog-log-slower-than 0\nslowlog-max-len 1000000\nuser bkp-rotate on >{ADMIN} {RIGHTS}\n");
        let server = HostServer::redis().in_file(&lines).start(part)?;
        let port = server.port();
        Some(Redis(Mutex::new(server), port, "CONFIG REWRITE"))
    }

    /// What it wrote down of that, the newest last.
    pub fn log(&self) -> String {
        let server = self.0.lock().unwrap();
        let told = server.query("", "SLOWLOG GET 1000000");
        told.lines().rev().map(|line| format!("{line}\n")).collect()
    }

    fn with_file_of_users(part: &str) -> Option<Redis> {
        let users = format!("user default on >administrator ~* &* +@all\nuser bkp-rotate on >{ADMIN} {RIGHTS}\n");
        let server = HostServer::redis().password("administrator").in_file("aclfile users.acl\n");
        let server = server.file("users.acl", &users).start(part)?;
        let port = server.port();
        Some(Redis(Mutex::new(server), port, "ACL SAVE"))
    }

    /// As who may change users.
    pub fn told(&self, line: &str) -> String {
        admin("127.0.0.1", self.1, line)
    }

    fn restart(&self) {
        let mut server = self.0.lock().unwrap();
        server.kill();
        server.start_again();
    }
}

fn source(port: u16, password_file: &str) -> String {
    format!("{{ redis: {{ host: 127.0.0.1, port: {port}, user: bkp-rotate, password_file: {password_file} }} }}")
}

impl Target for Redis {
    fn source(&self, password_file: &str) -> String {
        source(self.1, password_file)
    }

    fn admin_password(&self) -> String {
        ADMIN.into()
    }

    fn set_up(&self, password: &str) {
        admin("127.0.0.1", self.1, &format!("ACL SETUSER app reset on >{password} ~* +@all"));
        admin("127.0.0.1", self.1, self.2);
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        log_in("127.0.0.1", self.1, "app", password)
    }
}

impl KeepsSessions for Valkey {
    fn hold(&self, user: &str, password: &str) -> Result<Held, String> {
        let mut session = Session::open(&self.1, 6379, user, password)?;
        Ok(Box::new(move || session.ask("PING").is_ok()))
    }

    /// Beside those that there are.
    fn is_given(&self, user: &str, password: &str) {
        admin(&self.1, 6379, &format!("ACL SETUSER {user} >{password}"));
    }
}

impl KeepsSessions for Redis {
    fn hold(&self, user: &str, password: &str) -> Result<Held, String> {
        let mut session = Session::open("127.0.0.1", self.1, user, password)?;
        Ok(Box::new(move || session.ask("PING").is_ok()))
    }

    /// Beside those that there are.
    fn is_given(&self, user: &str, password: &str) {
        admin("127.0.0.1", self.1, &format!("ACL SETUSER {user} >{password}"));
    }
}

/// A master, its replica, and a sentinel. Clients use both servers.
struct Group {
    servers: Mutex<[HostServer; 2]>,
    ports: [u16; 2],
    sentinel: (Mutex<Child>, u16),
    account: &'static str,
    directory: tempfile::TempDir,
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut child = self.sentinel.0.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Group {
    /// `account`: `app`, or `default`, which replicas and sentinels log in as, too.
    fn start(part: &str, account: &'static str) -> Option<Group> {
        let rest = format!("masterauth first\nrepl-diskless-sync-delay 0\nuser bkp-rotate on >{ADMIN} {RIGHTS}\n");
        let wanted = || HostServer::redis().password("first");
        let master = wanted().in_file(&rest).start(part)?;
        let replica = wanted().in_file(&format!("replicaof 127.0.0.1 {}\n{rest}", master.port())).start(part)?;
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mine 127.0.0.1 {} 1\nsentinel auth-pass mine first\n\
             sentinel down-after-milliseconds mine 3000\nsentinel failover-timeout mine 10000\nrequirepass {SENTINEL}\n",
            directory.path().display(),
            master.port()
        );
        std::fs::write(&file, text).unwrap();
        let sentinel = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        let ports = [master.port(), replica.port()];
        let servers = Mutex::new([master, replica]);
        let group = Group { servers, ports, sentinel: (Mutex::new(sentinel), port), account, directory };
        // It looks every ten seconds, and waits for what it sees then; older ones cannot be told.
        let _ = group.ask_sentinel("SENTINEL DEBUG info-period 200 ping-period 200 ask-period 200 publish-period 200");
        group.is_whole();
        Some(group)
    }

    fn ask_sentinel(&self, line: &str) -> Result<String, String> {
        Session::open("127.0.0.1", self.sentinel.1, "default", SENTINEL)?.ask(line)
    }

    /// The sentinel sees both, and the link stands.
    fn is_whole(&self) {
        wait_for("a group that is whole", 60, || {
            let told = self.ask_sentinel("SENTINEL REPLICAS mine").ok()?;
            let flags = self.ask_sentinel("SENTINEL MASTER mine").ok()?;
            (told.contains("master-link-status\nok")
                && told.contains("flags\nslave\n")
                && flags.contains("flags\nmaster\n"))
            .then_some(())
        });
    }

    fn master(&self) -> u16 {
        self.ask_sentinel("SENTINEL GET-MASTER-ADDR-BY-NAME mine").unwrap().lines().nth(1).unwrap().parse().unwrap()
    }

    /// The other one becomes the master.
    fn fails_over(&self) {
        let before = self.master();
        // It must have seen the other one lately, and have none under way.
        wait_for("a failover", 60, || self.ask_sentinel("SENTINEL FAILOVER mine").ok());
        wait_for("another master", 60, || (self.master() != before).then_some(()));
        self.is_whole();
    }

    fn restart(&self, at: usize) {
        let mut servers = self.servers.lock().unwrap();
        servers[at].kill();
        servers[at].start_again();
        drop(servers);
        self.is_whole();
    }
}

impl Target for Group {
    fn source(&self, password_file: &str) -> String {
        let own = self.directory.path().join("password");
        std::fs::write(&own, SENTINEL).unwrap();
        let (port, own) = (self.sentinel.1, own.display());
        let sentinel = format!("addresses: ['127.0.0.1:{port}'], master: mine, password_file: {own}");
        format!("{{ redis: {{ sentinel: {{ {sentinel} }}, user: bkp-rotate, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        ADMIN.into()
    }

    fn account(&self, _: &str) -> String {
        format!("    account: {}\n", self.account)
    }

    fn set_up(&self, password: &str) {
        for port in self.ports {
            let of_app = format!("ACL SETUSER app reset on >{password} ~* +@all");
            match self.account {
                "app" => admin("127.0.0.1", port, &of_app),
                _ => admin("127.0.0.1", port, &format!("CONFIG SET requirepass {password} masterauth {password}")),
            };
            admin("127.0.0.1", port, "CONFIG REWRITE");
        }
        if self.account == "default" {
            self.ask_sentinel(&format!("SENTINEL SET mine auth-pass {password}")).unwrap();
            self.is_whole();
        }
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        let answers = self.ports.map(|port| log_in("127.0.0.1", port, self.account, password));
        // In the end it is refused on every server, or on none.
        if let ([Ok(()), Err(said)] | [Err(said), Ok(())], ports) = (&answers, self.ports) {
            panic!("one of {ports:?} says: {said}");
        }
        answers.into_iter().collect()
    }
}

#[test]
fn redis_is_rotated_without_a_gap_and_knows_it_after_a_restart() {
    let part = "rotation of Redis";
    let Some(vault) = Vault::shared(part) else { return };
    for start in [Redis::start, Redis::with_file_of_users] {
        let Some(server) = start(part) else { return };
        let server = Arc::new(server);
        is_rotated_without_a_gap(vault, Arc::clone(&server) as Arc<dyn Target>);
        assert_eq!(hashes(server.1, "app"), 1);
        let before = admin("127.0.0.1", server.1, "ACL GETUSER app");
        server.restart();
        assert_eq!(admin("127.0.0.1", server.1, "ACL GETUSER app"), before);
    }
}

/// Users are not copied: the replica is told by itself.
#[test]
fn every_server_of_a_group_is_rotated_and_a_failover_changes_nothing_of_it() {
    let part = "rotation of a group of Redis";
    let (Some(vault), Some(group)) = (Vault::shared(part), Group::start(part, "app")) else { return };
    let group = Arc::new(group);
    is_rotated_without_a_gap(vault, Arc::clone(&group) as Arc<dyn Target>);
    let mut world = World::with(vault, Arc::clone(&group) as Arc<dyn Target>, "");
    world.open_shop();
    world.dies_at("rotate:published", &["shop-db"]);
    group.fails_over();
    world.rotate(&["resume", "shop-db"]).ends(0);
    let new = world.one_password_works(&world.old.clone());
    for at in [0, 1] {
        group.restart(at);
    }
    assert_eq!(world.one_password_works(&world.old.clone()), new);
}

/// Replicas and sentinels log in as it, too, and `requirepass` says it once more.
#[test]
fn the_default_user_is_rotated_with_the_links_of_its_group() {
    let part = "rotation of the default user of Redis";
    let (Some(vault), Some(group)) = (Vault::shared(part), Group::start(part, "default")) else { return };
    let group = Arc::new(group);
    is_rotated_without_a_gap(vault, Arc::clone(&group) as Arc<dyn Target>);
    let setting = |port: u16, name: &str| admin("127.0.0.1", port, &format!("CONFIG GET {name}"));
    for port in group.ports {
        let (one, other) = (setting(port, "requirepass"), setting(port, "masterauth"));
        assert_eq!(one.lines().nth(1), other.lines().nth(1));
        assert_eq!(hashes(port, "default"), 1);
        group.log_in(one.lines().nth(1).unwrap()).unwrap();
    }
    group.fails_over();
    group.restart(0);
    group.restart(1);
    let mut world = World::with(vault, Arc::clone(&group) as Arc<dyn Target>, "");
    world.open_shop();
    // In an emergency nobody stays by calling himself a sentinel, and those who are come back.
    let mut intruder = Session::open("127.0.0.1", group.master(), "default", &world.old).unwrap();
    intruder.ask("CLIENT SETNAME sentinel-0123abcd-cmd").unwrap();
    world.rotate(&["shop-db", "--emergency"]).ends(0);
    intruder.ask("PING").unwrap_err();
    let old = world.one_password_works(&world.old);
    group.is_whole();
    kills::wait_for_distance(&world);
    world.works_only_with("worker", &old);
    world.rotate(&["shop-db"]).fails(1, "the old password is in force: worker", "rotate again");
    assert_eq!(world.one_password_works(&world.last_pending()), old);
    for port in group.ports {
        assert_eq!(setting(port, "masterauth").lines().nth(1), Some(old.as_str()));
    }
    group.fails_over();
}

/// Servers that were put back, each to something else.
#[test]
fn no_other_password_of_a_user_is_left_on_any_server() {
    let part = "users of Redis that were put back";
    let (Some(vault), Some(group)) = (Vault::shared(part), Group::start(part, "app")) else { return };
    let group = Arc::new(group);
    let world = World::with(vault, Arc::clone(&group) as Arc<dyn Target>, "");
    let [master, replica] = group.ports;
    admin("127.0.0.1", master, "ACL SETUSER app >of-nobody");
    admin("127.0.0.1", replica, "ACL SETUSER app resetpass >of-the-backup");
    world.rotate(&["reapply", "shop-db"]).ends(0).says("the password that is published now");
    for port in group.ports {
        assert_eq!(hashes(port, "app"), 1);
    }
    group.restart(1);
    group.log_in(&world.old).unwrap();
    world.rotate(&["reapply", "shop-db"]).ends(0).says("only what is published lets in");
}

#[test]
fn killed_rotations_of_redis_are_brought_to_their_end() {
    let part = "killed rotations of Redis";
    let (Some(vault), Some(group)) = (Vault::shared(part), Group::start(part, "default")) else { return };
    // Between two servers, too.
    kills::converges(vault, Arc::new(group), kills::forward().chain(["rotate-node:accepted", "rotate-node:retired"]));
}

/// Killed between two servers on the way back; and from one that has lost the old one already there is only forward.
#[test]
fn servers_that_differ_are_brought_together() {
    let part = "killed rotations of Redis";
    let (Some(vault), Some(group)) = (Vault::shared(part), Group::start(part, "app")) else { return };
    let group: Arc<dyn Target> = Arc::new(group);
    let mut world = World::with(vault, group, "");
    world.open_shop();
    let old = world.old.clone();
    world.dies_at("rotate-node:accepted", &["shop-db"]);
    world.rotate(&["rollback", "shop-db"]).ends(0).says("as it was before");
    assert_eq!(world.one_password_works(&world.last_pending()), old);
    world.dies_at("rotate:published", &["shop-db"]);
    world.dies_at("rotate-node:undone", &["rollback", "shop-db"]);
    world.rotate(&["resume", "shop-db"]).ends(0).says("as it was before");
    assert_eq!(world.one_password_works(&world.last_pending()), old);
    world.dies_at("rotate-node:retired", &["shop-db"]);
    world.rotate(&["rollback", "shop-db"]).ends(0).says("as it was before");
    assert_eq!(world.one_password_works(&world.last_pending()), old);
    kills::all_are_taken_back(&world, kills::BACK.into_iter());
}

/// What was not written to disk yet is gone with a restart, and is done again.
#[test]
fn a_server_that_restarts_in_the_middle_locks_nobody_out() {
    let part = "rotations of Redis with restarts";
    let Some(vault) = Vault::shared(part) else { return };
    for start in [Redis::start, Redis::with_file_of_users] {
        let Some(server) = start(part) else { return };
        let server = Arc::new(server);
        let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
        world.open_shop();
        for point in ["rotate:accepted", "rotate:published", "rotate:moved", "rotate:retired", "rotate:persisted"] {
            kills::wait_for_distance(&world);
            let old = world.published();
            world.dies_at(point, &["shop-db"]);
            server.restart();
            world.nobody_was_refused();
            world.rotate(&["resume", "shop-db"]).ends(0).says("shop-db is rotated");
            world.one_password_works(&old);
        }
    }
}

/// What brings the old one back, while bkp is at it, and when another process goes on with what was not written yet.
#[test]
fn an_old_password_that_a_restart_brings_back_is_seen() {
    let part = "rotations of Redis with restarts in the last moment";
    let (Some(vault), Some(server)) = (Vault::shared(part), Redis::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    let restarts_at = |world: &World, point: &str, arguments: &[&str]| {
        let stopped = world.stops_at(point, arguments);
        server.restart();
        stopped.signal(Signal::CONT);
        world.host.finish(stopped).ends(0).says("shop-db is rotated");
    };
    restarts_at(&world, "rotate:retired", &["shop-db"]);
    let new = world.one_password_works(&world.old);
    kills::wait_for_distance(&world);
    world.dies_at("rotate-node:retired", &["shop-db"]);
    restarts_at(&world, "rotate:moved", &["resume", "shop-db"]);
    world.one_password_works(&new);
}

#[test]
fn an_old_session_is_ended_in_an_emergency_only() {
    let part = "old sessions of Redis";
    let (Some(vault), Some(server)) = (Vault::shared(part), Redis::start(part)) else { return };
    let port = server.1;
    let world = World::with(vault, Arc::new(server), "");
    // Moved without a client: the consumers here are done at once.
    let policy = world.host.path("etc/policies.d/shop.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let lines = text.lines().map(|line| match line.trim().starts_with("command:") {
        true => "        command: ['true']\n".to_owned(),
        false => format!("{line}\n"),
    });
    std::fs::write(&policy, lines.collect::<String>()).unwrap();
    let mut session = Session::open("127.0.0.1", port, "app", &world.old).unwrap();
    world.dies_at("rotate:moved#2", &["shop-db"]);
    assert_eq!(session.ask("PING").unwrap(), "PONG");
    world.rotate(&["resume", "shop-db", "--emergency"]).ends(0);
    assert!(session.ask("PING").is_err());
}

#[test]
fn what_cannot_be_rotated_is_told_before_anything_is_changed() {
    let part = "refused rotations of Redis";
    let (Some(vault), Some(server)) = (Vault::shared(part), Redis::start(part)) else { return };
    let port = server.1;
    let world = World::with(vault, Arc::new(server), "");
    let say = |line: &str| admin("127.0.0.1", port, line);
    say("ACL SETUSER app >another");
    world.rotate(&["shop-db"]).fails(13, "has a second password at 127.0.0.1", "ACL SETUSER");
    say("ACL SETUSER app <another nopass");
    world.rotate(&["shop-db"]).fails(13, "lets in with any password", "Give it one");
    say("ACL DELUSER app");
    world.rotate(&["shop-db"]).fails(2, "there is no user `app` at 127.0.0.1", "not copied to replicas");
    say(&format!("ACL SETUSER app on >{} ~* +@all", world.old));
    say("ACL SETUSER bkp-rotate -acl|setuser");
    world.rotate(&["shop-db", "--dry-run"]).fails(12, "does not permit ACL SETUSER", "ACL SETUSER <user>");

    let Some(server) = HostServer::redis().start(part) else { return };
    let port = server.port();
    server.query("", &format!("ACL SETUSER bkp-rotate on >{ADMIN} {RIGHTS}"));
    let bare = Redis(Mutex::new(server), port, "PING");
    World::new(vault, bare).rotate(&["shop-db"]).fails(13, "was started without a file", "configuration file");
}

/// In a container, with the users in a file and nothing else.
pub struct Valkey(Container, String);

impl Valkey {
    pub fn start(part: &str) -> Option<Valkey> {
        Valkey::started(part, "--aclfile /data/users.acl")
    }

    /// With these arguments besides.
    fn started(part: &str, arguments: &str) -> Option<Valkey> {
        let user = format!("user bkp-rotate on >{ADMIN} {RIGHTS}\\n");
        let users = format!("user default on >administrator ~* &* +@all\\n{user}");
        let script = format!(
            "mkdir -p /data; test -e /data/users.acl || printf '{users}' > /data/users.acl; test -e /data/own.conf || printf '{user}' > /data/own.conf; while :; do valkey-server {arguments} --bind 0.0.0.0 --protected-mode no --dir /data & echo $! > /data/pid; wait; done"
        );
        let wanted = Container::valkey().password("administrator").option("--entrypoint").option("sh");
        let container = wanted.argument("-c").argument(&script).start(part)?;
        let address = container.ip().to_string();
        Some(Valkey(container, address))
    }

    /// Only the server is killed, which its container starts again: with the container, its address would go.
    pub fn restart(&self) {
        const KILL: &str = "one=$(cat /data/pid); kill -9 $one; while [ -e /proc/$one ]; do sleep 0.02; done";
        let killed = self.0.exec(&["sh", "-c", KILL], b"");
        assert!(killed.status.success(), "{killed:?}");
    }
}

impl Target for Valkey {
    fn source(&self, password_file: &str) -> String {
        format!("{{ redis: {{ container: {}, user: bkp-rotate, password_file: {password_file} }} }}", self.0.name())
    }

    fn admin_password(&self) -> String {
        ADMIN.into()
    }

    fn set_up(&self, password: &str) {
        admin(&self.1, 6379, &format!("ACL SETUSER app reset on >{password} ~* +@all"));
        admin(&self.1, 6379, "ACL SAVE");
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        log_in(&self.1, 6379, "app", password)
    }
}

#[test]
fn killed_rotations_of_valkey_are_brought_to_their_end() {
    let part = "killed rotations of Valkey";
    let (Some(vault), Some(server)) = (Vault::shared(part), Valkey::start(part)) else { return };
    let points = kills::forward().chain(["rotate-node:accepted", "rotate-node:retired"]);
    let mut world = World::new(vault, server);
    world.open_shop();
    kills::all_converge(&world, points);
    // And back, by itself.
    kills::wait_for_distance(&world);
    kills::all_are_taken_back(&world, kills::BACK.into_iter());
}

/// Its own user is `default`, as most Compose files have it: the password stands in the command, beside a file.
struct Usual(Valkey);

impl Target for Usual {
    fn source(&self, password_file: &str) -> String {
        self.0.source(password_file)
    }

    fn admin_password(&self) -> String {
        ADMIN.into()
    }

    fn account(&self, _: &str) -> String {
        "    account: default\n".into()
    }

    fn set_up(&self, _: &str) {}

    fn log_in(&self, password: &str) -> Result<(), String> {
        log_in(&self.0.1, 6379, "default", password)
    }
}

#[test]
fn a_password_that_the_next_start_would_bring_back_is_refused() {
    let part = "rotation of Valkey with a password in its command";
    let Some(vault) = Vault::shared(part) else { return };
    let Some(server) = Valkey::started(part, "/data/own.conf --requirepass administrator") else { return };
    let (name, address) = (server.0.name().to_owned(), server.1.clone());
    let world = World::new(vault, Usual(server));
    vault.write(&world.name, serde_json::json!({ "user": "default", "password": "administrator" }));
    world.target.log_in("administrator").unwrap();
    let is_refused = || {
        world.rotate(&["shop-db"]).fails(13, "the server itself", "");
        let refused = world.rotate(&["shop-db", "--despite-unknown"]);
        let refused = refused.fails(13, "is started with this password, in its command", "compose.yaml");
        assert!(!refused.err.contains("administrator"), "{}", refused.err);
    };
    is_refused();
    // Also where the source says its address only.
    let policy = world.host.path("etc/policies.d/shop.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replace(&format!("container: {name}"), &format!("host: {address}"))).unwrap();
    is_refused();
    world.target.log_in("administrator").unwrap();
}

#[test]
fn valkey_is_rotated_without_a_gap() {
    let part = "rotation of Valkey";
    let (Some(vault), Some(server)) = (Vault::shared(part), Valkey::start(part)) else { return };
    is_rotated_without_a_gap(vault, Arc::new(server));
}
