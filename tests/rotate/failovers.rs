//! Database servers that are lost in the middle of a rotation, and whose replica takes their place. Clients and bkp reach whichever
//! is the first one now by an address that goes with it, as stacks do.

use super::kills::wait_for_distance;
use super::postgres::{ByTurns, log_in as log_in_to_postgres, set_up_once};
use super::servers::{RIGHTS, log_in};
use super::support::host_server::HostServer;
use super::support::vault::Vault;
use super::support::wait_for;
use super::wire::Tap;
use super::world::{Target, World};
use rustix::process::Signal;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Whoever is not there yet refuses nobody.
pub(super) fn once_it_is_there(
    log_in: impl Fn() -> Result<(), String>,
    is_refusal: impl Fn(&str) -> bool,
) -> Result<(), String> {
    wait_for("a server that answers", 60, || match log_in() {
        Err(said) if !is_refusal(&said) => None,
        answer => Some(answer),
    })
}

fn nodes(ports: &[u16]) -> String {
    let all: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    format!("    nodes: [{}]\n", all.join(", "))
}

/// Only these are tried from now on: whoever runs them knows which are gone.
fn are_tried(world: &World, ports: &[u16]) {
    let path = world.host.path("etc/policies.d/shop.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let before = text.lines().find(|line| line.starts_with("    nodes: ")).unwrap();
    fs::write(&path, text.replace(&format!("{before}\n"), &nodes(ports))).unwrap();
}

/// Two servers of MariaDB, each of which can follow the other one.
struct Pair {
    servers: Mutex<[HostServer; 2]>,
    ports: [u16; 2],
    first: AtomicUsize,
    address: Tap,
}

impl Pair {
    fn start(part: &str) -> Option<Pair> {
        let wanted = |id: u8| {
            let all = [format!("--server-id={id}"), "--log-bin=log".into(), "--log-slave-updates".into()];
            all.iter().fold(HostServer::mariadb(), |wanted, argument| wanted.argument(argument)).start(part)
        };
        let servers = [wanted(1)?, wanted(2)?];
        let ports = [servers[0].port(), servers[1].port()];
        servers[0]
            .query("", "CREATE USER copies@'%' IDENTIFIED BY 'copies'; GRANT REPLICATION SLAVE ON *.* TO copies@'%'");
        servers[0].query("", &format!("CREATE USER 'bkp-rotate'@'%' IDENTIFIED BY 'rights'; {RIGHTS}"));
        let pair =
            Pair { servers: Mutex::new(servers), ports, first: AtomicUsize::new(0), address: Tap::before(ports[0]) };
        pair.follows(1);
        Some(pair)
    }

    fn follows(&self, at: usize) {
        let servers = self.servers.lock().unwrap();
        let from = format!(
            "MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='copies', MASTER_PASSWORD='copies', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
            self.ports[1 - at]
        );
        servers[at].query("", &format!("SET GLOBAL read_only = 1; CHANGE MASTER TO {from}; START SLAVE"));
        let position = servers[1 - at].query("", "SELECT @@gtid_binlog_pos");
        let waited = servers[at].query("", &format!("SELECT MASTER_GTID_WAIT('{position}', 60)"));
        assert_eq!(waited, "0", "it does not follow");
    }

    fn first(&self) -> usize {
        self.first.load(SeqCst)
    }

    fn query(&self, at: usize, text: &str) -> String {
        self.servers.lock().unwrap()[at].query("", text)
    }

    /// The plug of the first one is pulled, and the other one takes its place.
    fn fails_over(&self) {
        let mut servers = self.servers.lock().unwrap();
        let (lost, next) = (self.first(), 1 - self.first());
        servers[lost].kill();
        servers[next].query("", "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0");
        self.first.store(next, SeqCst);
        self.address.leads_to("127.0.0.1", self.ports[next]);
    }

    /// The one that was lost is there again, and follows.
    fn is_whole_again(&self) {
        let lost = 1 - self.first();
        let mut servers = self.servers.lock().unwrap();
        servers[lost].start_again();
        // It has what it wrote itself, and nothing that the other one has not.
        let own = servers[lost].query("", "SELECT @@gtid_binlog_pos");
        servers[lost].query("", &format!("SET GLOBAL gtid_slave_pos = '{own}'"));
        drop(servers);
        self.follows(lost);
    }

    fn is_refusal(said: &str) -> bool {
        said.contains("ERROR 1045")
    }
}

impl Target for Pair {
    fn source(&self, password_file: &str) -> String {
        let port = self.address.port;
        format!("{{ mysql: {{ host: 127.0.0.1, port: {port}, user: bkp-rotate, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn account(&self, _: &str) -> String {
        format!("    account: app\n{}", nodes(&self.ports))
    }

    fn set_up(&self, password: &str) {
        let servers = self.servers.lock().unwrap();
        let first = &servers[self.first()];
        first.query("", &format!("CREATE OR REPLACE USER app@'%' IDENTIFIED BY '{password}'"));
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        once_it_is_there(|| log_in("127.0.0.1", self.address.port, password), Pair::is_refusal)
    }
}

#[test]
fn a_replica_of_mariadb_that_takes_over_locks_nobody_out() {
    let part = "rotations of MariaDB with failovers";
    let (Some(vault), Some(pair)) = (Vault::shared(part), Pair::start(part)) else { return };
    let pair = Arc::new(pair);
    let mut world = World::with(vault, Arc::clone(&pair) as Arc<dyn Target>, "");
    world.open_shop();
    let mut current = world.old.clone();
    let mut is_rotated = |world: &World| {
        let old = std::mem::replace(&mut current, world.published());
        world.one_password_works(&old);
        for port in pair.ports {
            let said = log_in("127.0.0.1", port, &old).unwrap_err();
            assert!(Pair::is_refusal(&said), "{said}");
        }
        wait_for_distance(world);
    };
    for point in ["rotate:accepted", "rotate:published", "rotate:retired"] {
        world.dies_at(point, &["shop-db"]);
        pair.fails_over();
        world.nobody_was_refused();
        pair.is_whole_again();
        world.rotate(&["resume", "shop-db"]).ends(0);
        is_rotated(&world);
    }
    // While bkp is at it.
    let stopped = world.stops_at("rotate:moved", &["shop-db"]);
    pair.fails_over();
    pair.is_whole_again();
    stopped.signal(Signal::CONT);
    world.host.finish(stopped).ends(0);
    is_rotated(&world);
    // The one that was lost does not come back until it is over.
    world.dies_at("rotate:accepted", &["shop-db"]);
    pair.fails_over();
    are_tried(&world, &[pair.ports[pair.first()]]);
    world.rotate(&["resume", "shop-db"]).ends(0);
    pair.is_whole_again();
    is_rotated(&world);
}

/// Nobody named it, so nobody waited for it: it knows nothing of the new password, which some have already. They are let in again.
#[test]
fn a_replica_that_lagged_behind_and_takes_over_is_told_the_new_one() {
    let part = "rotations of MariaDB with failovers that lose something";
    let (Some(vault), Some(pair)) = (Vault::shared(part), Pair::start(part)) else { return };
    let pair = Arc::new(pair);
    let world = World::with(vault, Arc::clone(&pair) as Arc<dyn Target>, "");
    world.has_no_clients();
    let [first, next] = pair.ports;
    wait_for("the replica", 60, || log_in("127.0.0.1", next, &world.old).ok());
    are_tried(&world, &[first]);
    pair.query(1, "STOP SLAVE");
    world.dies_at("rotate:published", &["shop-db"]);
    pair.fails_over();
    are_tried(&world, &[next]);
    world.target.log_in(&world.published()).unwrap_err();
    world.target.log_in(&world.old).unwrap();
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&world.old);
}

/// A server of PostgreSQL and its standby.
struct Primary {
    servers: Mutex<[HostServer; 2]>,
    ports: [u16; 2],
    address: Tap,
}

impl Primary {
    fn start(part: &str) -> Option<Primary> {
        let primary = HostServer::postgres().start(part)?;
        primary.query("", &set_up_once());
        let standby = primary.standby();
        let ports = [primary.port(), standby.port()];
        Some(Primary { servers: Mutex::new([primary, standby]), ports, address: Tap::before(ports[0]) })
    }

    fn is_started_again(&self) {
        let first = &mut self.servers.lock().unwrap()[0];
        first.kill();
        first.start_again();
    }

    fn fails_over(&self) {
        let mut servers = self.servers.lock().unwrap();
        servers[0].kill();
        servers[1].query("", "select pg_promote()");
        self.address.leads_to("127.0.0.1", self.ports[1]);
    }
}

impl ByTurns for Primary {
    fn port(&self) -> u16 {
        self.address.port
    }

    fn query(&self, statements: &str) -> String {
        self.servers.lock().unwrap()[0].query("", statements)
    }

    fn nodes(&self) -> String {
        nodes(&self.ports)
    }

    fn logs_in(&self, user: &str, password: &str) -> Result<(), String> {
        let is_refusal =
            |said: &str| said.starts_with("FATAL: password") || said.contains("is not permitted to log in");
        once_it_is_there(|| log_in_to_postgres(self.address.port, user, password), is_refusal)
    }
}

#[test]
fn a_standby_of_postgres_that_is_promoted_locks_nobody_out() {
    let part = "rotations of PostgreSQL with failovers";
    let (Some(vault), Some(servers)) = (Vault::shared(part), Primary::start(part)) else { return };
    let servers = Arc::new(servers);
    let mut world = World::with(vault, Arc::clone(&servers) as Arc<dyn Target>, "");
    world.open_shop();
    // Started again, which changes nothing; and lost.
    world.dies_at("rotate:accepted", &["shop-db"]);
    servers.is_started_again();
    world.nobody_was_refused();
    world.rotate(&["resume", "shop-db"]).ends(0);
    let second = world.one_password_works(&world.old);
    wait_for_distance(&world);
    world.dies_at("rotate:published", &["shop-db"]);
    servers.fails_over();
    world.nobody_was_refused();
    are_tried(&world, &[servers.ports[1]]);
    world.rotate(&["resume", "shop-db"]).ends(0);
    let third = world.one_password_works(&second);
    wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&third);
}
