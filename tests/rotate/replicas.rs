//! A replica of MariaDB that lags behind, and would lock whoever is refused there: it is waited for and not tried, and old sessions are
//! found on it, too.

use super::kills::wait_for_distance;
use super::servers::{RIGHTS, log_in};
use super::support::host_server::HostServer;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use mysql::prelude::Queryable;
use std::sync::Arc;

struct Replicated {
    source: HostServer,
    replica: HostServer,
}

impl Replicated {
    fn start(part: &str) -> Option<Replicated> {
        let source = HostServer::mariadb().argument("--server-id=1").argument("--log-bin=log").start(part)?;
        let replica = HostServer::mariadb().argument("--server-id=2").start(part)?;
        source.query("", "CREATE USER copies@'%' IDENTIFIED BY 'copies'; GRANT REPLICATION SLAVE ON *.* TO copies@'%'");
        let position = source.query("", "SHOW MASTER STATUS");
        let (file, position) = position.split_once('\t').unwrap();
        let (position, _) = position.split_once('\t').unwrap_or((position, ""));
        let from = format!(
            "MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='copies', MASTER_PASSWORD='copies', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position}",
            source.port()
        );
        replica.query(
            "",
            &format!("CHANGE MASTER TO {from}, MASTER_DELAY=2; START SLAVE; SET GLOBAL max_password_errors = 3"),
        );
        source.query("", &format!("CREATE USER 'bkp-rotate'@'%' IDENTIFIED BY 'rights'; {RIGHTS}"));
        Some(Replicated { source, replica })
    }

    fn ports(&self) -> [u16; 2] {
        [self.source.port(), self.replica.port()]
    }

    fn old_session(&self, password: &str) -> mysql::Conn {
        let options = mysql::OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(self.replica.port());
        mysql::Conn::new(options.prefer_socket(false).user(Some("app")).pass(Some(password))).unwrap()
    }
}

impl Target for Replicated {
    fn source(&self, password_file: &str) -> String {
        let port = self.source.port();
        format!("{{ mysql: {{ host: 127.0.0.1, port: {port}, user: bkp-rotate, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn account(&self, _: &str) -> String {
        let [source, replica] = self.ports();
        format!("    account: app\n    nodes: ['127.0.0.1:{source}', '127.0.0.1:{replica}']\n")
    }

    fn set_up(&self, password: &str) {
        self.source.query("", &format!("CREATE OR REPLACE USER app@'%' IDENTIFIED BY '{password}'"));
        let there = format!(
            "SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'app' AND INSTR(Priv, PASSWORD('{password}'))"
        );
        wait_for("the replica", 60, || (self.replica.query("", &there) == "1").then_some(()));
    }

    /// Its clients read there, too.
    fn log_in(&self, password: &str) -> Result<(), String> {
        let [source, replica] = self.ports().map(|port| log_in("127.0.0.1", port, password));
        match (source, replica) {
            (Err(source), Ok(())) => Err(format!("only at the source: {source}")),
            (Ok(()), Err(replica)) => Err(format!("only at the replica: {replica}")),
            (source, _) => source,
        }
    }
}

#[test]
fn a_replica_that_lags_is_waited_for_and_its_old_sessions_are_seen() {
    let part = "rotation of MariaDB with a replica";
    let (Some(vault), Some(servers)) = (Vault::shared(part), Replicated::start(part)) else { return };
    let servers = Arc::new(servers);
    let mut world = World::with(vault, Arc::clone(&servers) as Arc<dyn Target>, "");
    world.open_shop();
    world.dies_at("rotate:accepted", &["shop-db"]);
    world.nobody_was_refused();
    world.rotate(&["resume", "shop-db"]).ends(0);
    let first = world.one_password_works(&world.old);
    world.close_shop();
    world.has_no_clients();

    let mut session = servers.old_session(&first);
    wait_for_distance(&world);
    world.rotate(&["shop-db", "--emergency"]).ends(0);
    session.query_drop("SELECT 1").expect_err("an old session was left at the replica");
    world.target.log_in(&world.published()).unwrap();

    // Where bkp cannot see, it does not begin.
    servers.replica.query("", "STOP SLAVE; DROP USER 'bkp-rotate'@'%'");
    world.rotate(&["shop-db", "--dry-run"]).fails(75, "'bkp-rotate'", "must be let in at each of several `nodes`");
}
