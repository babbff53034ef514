//! The same of MySQL, whose second password has to be there on the replica that takes over, and after a restart.

use super::failovers::once_it_is_there;
use super::kills::wait_for_distance;
use super::servers::{RIGHTS, log_in};
use super::support::docker::{Container, start_all};
use super::support::vault::Vault;
use super::support::wait_for;
use super::wire::Tap;
use super::world::{Target, World};
use rustix::process::Signal;
use std::fs;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Only the server is killed. With its container, its address would go: Docker gives it to the next container that starts, and
/// whoever still asks there waits for long, or is refused by a stranger.
const AGAIN_AND_AGAIN: &str = "while :; do sh /entrypoint.sh mysqld \"$@\" & echo $! > /run/server; wait; \
    while [ -e /run/down ]; do sleep 0.05; done; done";
const KILL: &str =
    "touch /run/down; one=$(cat /run/server); kill -9 $one; while [ -e /proc/$one ]; do sleep 0.02; done";

fn nodes(addresses: &[String]) -> String {
    let all: Vec<String> = addresses.iter().map(|address| format!("'{address}:3306'")).collect();
    format!("    nodes: [{}]\n", all.join(", "))
}

/// Two servers in containers, each of which can follow the other one.
struct Pair {
    servers: [Container; 2],
    addresses: [String; 2],
    /// Of whichever is the first now.
    address: Tap,
    first: AtomicUsize,
}

impl Pair {
    fn start(part: &str) -> Option<Pair> {
        let wanted = |id: u8| {
            let told = ["-c", AGAIN_AND_AGAIN, "sh", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"];
            let wanted = Container::mysql().option("--entrypoint").option("sh");
            let wanted = told.iter().fold(wanted, |wanted, argument| wanted.argument(argument));
            wanted.argument(&format!("--server-id={id}"))
        };
        let servers = start_all(part, [wanted(1), wanted(2)])?;
        servers.iter().for_each(|server| drop(server.query("", "RESET BINARY LOGS AND GTIDS")));
        let rights = RIGHTS.replace("CONNECTION ADMIN", "CONNECTION_ADMIN");
        let users = "CREATE USER copies@'%' IDENTIFIED BY 'copies'; GRANT REPLICATION SLAVE ON *.* TO copies@'%'";
        servers[0].query("", &format!("{users}; CREATE USER 'bkp-rotate'@'%' IDENTIFIED BY 'rights'; {rights}"));
        let addresses = servers.each_ref().map(|server| server.ip().to_string());
        let address = Tap::of(&addresses[0], 3306);
        let pair = Pair { servers, addresses, address, first: AtomicUsize::new(0) };
        pair.follows(1);
        Some(pair)
    }

    fn first(&self) -> usize {
        self.first.load(SeqCst)
    }

    fn follows(&self, at: usize) {
        let (server, source) = (&self.servers[at], &self.servers[1 - at]);
        let from = format!(
            "SOURCE_HOST='{}', SOURCE_USER='copies', SOURCE_PASSWORD='copies', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=1000",
            self.addresses[1 - at]
        );
        let all = source.query("", "SELECT REPLACE(@@gtid_executed, '\\n', '')");
        let waited = server.query(
            "",
            &format!(
                "SET GLOBAL super_read_only = ON; CHANGE REPLICATION SOURCE TO {from}; START REPLICA; SELECT WAIT_FOR_EXECUTED_GTID_SET('{all}', 60)"
            ),
        );
        assert_eq!(waited, "0", "it does not follow");
    }

    fn is_lost(&self, at: usize) {
        let killed = self.servers[at].exec(&["sh", "-c", KILL], b"");
        assert!(killed.status.success(), "{killed:?}");
    }

    fn comes_back(&self, at: usize) {
        self.servers[at].exec(&["rm", "/run/down"], b"");
        wait_for("a server that was killed", 60, || TcpStream::connect((self.addresses[at].as_str(), 3306)).ok());
    }

    /// The first one is killed and started again: it is the first one still.
    fn is_started_again(&self) {
        self.is_lost(self.first());
        self.comes_back(self.first());
    }

    /// The first one is killed, and the other one takes its place as soon as it has replayed all that it has: whoever runs them
    /// tells bkp where it is.
    fn fails_over(&self, world: &World) {
        let (lost, next) = (self.first(), 1 - self.first());
        self.is_lost(lost);
        let takes_over = "STOP REPLICA IO_THREAD; \
            SELECT WAIT_FOR_EXECUTED_GTID_SET(RECEIVED_TRANSACTION_SET, 60) FROM performance_schema.replication_connection_status; \
            STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF";
        assert_eq!(self.servers[next].query("", takes_over), "0", "it does not replay what it has");
        self.first.store(next, SeqCst);
        self.address.leads_to(&self.addresses[next], 3306);
        let policy = world.host.path("etc/policies.d/shop.yaml");
        let text = fs::read_to_string(&policy).unwrap();
        fs::write(policy, text.replace(self.servers[lost].name(), self.servers[next].name())).unwrap();
    }

    /// The one that was lost is there again, and follows.
    fn is_whole_again(&self) {
        let lost = 1 - self.first();
        self.comes_back(lost);
        self.follows(lost);
    }

    /// Whoever runs them tells bkp of these.
    fn are_tried(&self, world: &World, addresses: &[String]) {
        let policy = world.host.path("etc/policies.d/shop.yaml");
        let text = fs::read_to_string(&policy).unwrap();
        let before = text.lines().find(|line| line.starts_with("    nodes: ")).unwrap();
        fs::write(&policy, text.replace(before, nodes(addresses).trim_end())).unwrap();
    }

    fn is_refusal(said: &str) -> bool {
        said.contains("ERROR 1045")
    }
}

impl Target for Pair {
    fn source(&self, password_file: &str) -> String {
        let name = self.servers[0].name();
        format!("{{ mysql: {{ container: {name}, user: bkp-rotate, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn account(&self, _: &str) -> String {
        format!("    account: app\n{}", nodes(&self.addresses))
    }

    fn set_up(&self, password: &str) {
        self.servers[0].query("", &format!("CREATE USER app@'%' IDENTIFIED BY '{password}'"));
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        once_it_is_there(|| log_in("127.0.0.1", self.address.port, password), Pair::is_refusal)
    }
}

#[test]
fn a_replica_of_mysql_that_takes_over_locks_nobody_out() {
    let part = "rotations of MySQL with failovers";
    let (Some(vault), Some(pair)) = (Vault::shared(part), Pair::start(part)) else { return };
    let pair = Arc::new(pair);
    let mut world = World::with(vault, Arc::clone(&pair) as Arc<dyn Target>, "");
    world.open_shop();
    let mut current = world.old.clone();
    let mut is_rotated = |world: &World| {
        let old = std::mem::replace(&mut current, world.published());
        world.one_password_works(&old);
        for address in &pair.addresses {
            let said = log_in(address, 3306, &old).unwrap_err();
            assert!(Pair::is_refusal(&said), "{said}");
            log_in(address, 3306, &current).unwrap();
        }
        wait_for_distance(world);
    };
    let is_lost_at = |point: &str| {
        world.dies_at(point, &["shop-db"]);
        pair.fails_over(&world);
        world.nobody_was_refused();
        pair.is_whole_again();
    };
    is_lost_at("rotate:accepted");
    // Started again while bkp is at it.
    let stopped = world.stops_at("rotate:published", &["resume", "shop-db"]);
    pair.is_started_again();
    world.nobody_was_refused();
    stopped.signal(Signal::CONT);
    world.host.finish(stopped).ends(0);
    is_rotated(&world);

    is_lost_at("rotate:published");
    // And while it is not.
    world.dies_at("rotate:moved", &["resume", "shop-db"]);
    pair.is_started_again();
    world.nobody_was_refused();
    world.rotate(&["resume", "shop-db"]).ends(0);
    is_rotated(&world);

    is_lost_at("rotate:retired");
    world.rotate(&["resume", "shop-db"]).ends(0);
    is_rotated(&world);
    world.close_shop();
    takes_over_without_what_it_was_not_told(&world, &pair);
}

/// Nobody named it, so nobody waited for it: it knows nothing of the new password, which some have already. They are let in again.
fn takes_over_without_what_it_was_not_told(world: &World, pair: &Pair) {
    let (first, next) = (pair.first(), 1 - pair.first());
    let old = world.published();
    world.has_no_clients();
    pair.are_tried(world, &pair.addresses[first..=first]);
    pair.servers[next].query("", "STOP REPLICA");
    world.dies_at("rotate:published", &["shop-db"]);
    pair.fails_over(world);
    world.target.log_in(&world.published()).unwrap_err();
    world.target.log_in(&old).unwrap();
    // The one that was lost has both already, and follows now: who reads there keeps both.
    pair.is_whole_again();
    pair.are_tried(world, &pair.addresses);
    world.rotate(&["reapply", "shop-db"]).ends(0).says("has both passwords");
    for address in &pair.addresses {
        log_in(address, 3306, &old).unwrap();
        log_in(address, 3306, &world.published()).unwrap();
    }
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&old);
}
