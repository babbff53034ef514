//! A whole rotation on each server that can be had, and what the servers themselves come to.

use super::emergency::{Held, KeepsSessions};
use super::kills::wait_for_distance;
use super::support::docker::Container;
use super::support::host_server::HostServer;
use super::support::vault::Vault;
use super::world::{Target, World};
use mysql::prelude::Queryable;
use std::sync::{Arc, Mutex};

pub const RIGHTS: &str = "GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO 'bkp-rotate'@'%'; GRANT SELECT ON mysql.* TO 'bkp-rotate'@'%'";

/// Kept open until it is dropped.
fn hold(host: &str, port: u16, password: &str) -> Result<Held, String> {
    let options = mysql::OptsBuilder::new().ip_or_hostname(Some(host)).tcp_port(port).prefer_socket(false);
    let mut connection = mysql::Conn::new(options.user(Some("app")).pass(Some(password))).map_err(|e| e.to_string())?;
    Ok(Box::new(move || connection.query_drop("SELECT 1").is_ok()))
}

/// As a program of the stack does it.
pub fn log_in(host: &str, port: u16, password: &str) -> Result<(), String> {
    let options = mysql::OptsBuilder::new().ip_or_hostname(Some(host)).tcp_port(port).prefer_socket(false);
    let mut connection = mysql::Conn::new(options.user(Some("app")).pass(Some(password))).map_err(|e| e.to_string())?;
    connection.query_drop("SELECT 1").map_err(|e| e.to_string())
}

pub struct Mariadb(HostServer);

impl Mariadb {
    pub fn start(part: &str) -> Option<Mariadb> {
        let server = Mariadb(HostServer::mariadb().start(part)?);
        server.0.query("", &format!("CREATE USER 'bkp-rotate'@'%' IDENTIFIED BY 'rights'; {RIGHTS}"));
        Some(server)
    }

    pub fn query(&self, sql: &str) -> String {
        self.0.query("", sql)
    }

    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Every statement that it is told, in this file.
    pub fn logs_from_now_on(&self) -> std::path::PathBuf {
        self.0.query("", "SET GLOBAL general_log_file = 'statements.log'; SET GLOBAL general_log = 1");
        format!("{}statements.log", self.0.query("", "SELECT @@datadir")).into()
    }
}

impl Target for Mariadb {
    fn source(&self, password_file: &str) -> String {
        let port = self.0.port();
        format!("{{ mysql: {{ host: 127.0.0.1, port: {port}, user: bkp-rotate, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn set_up(&self, password: &str) {
        self.0.query("", &format!("CREATE OR REPLACE USER app@'%' IDENTIFIED BY '{password}'"));
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        log_in("127.0.0.1", self.0.port(), password)
    }
}

impl KeepsSessions for Mariadb {
    fn hold(&self, _: &str, password: &str) -> Result<Held, String> {
        hold("127.0.0.1", self.0.port(), password)
    }

    fn is_given(&self, _: &str, password: &str) {
        self.0.query("", &format!("SET PASSWORD FOR app@'%' = PASSWORD('{password}')"));
    }
}

impl KeepsSessions for Mysql {
    fn hold(&self, _: &str, password: &str) -> Result<Held, String> {
        hold(&self.1.lock().unwrap().clone(), 3306, password)
    }

    fn is_given(&self, _: &str, password: &str) {
        self.0.query("", &format!("ALTER USER app@'%' IDENTIFIED BY '{password}'"));
    }
}

/// With its address, which another start may change.
pub struct Mysql(Container, Mutex<String>);

impl Mysql {
    pub fn start(part: &str) -> Option<Mysql> {
        let container = Container::mysql().start(part)?;
        let rights = RIGHTS.replace("CONNECTION ADMIN", "CONNECTION_ADMIN");
        container.query("", &format!("CREATE USER 'bkp-rotate'@'%' IDENTIFIED BY 'rights'; {rights}"));
        let address = Mutex::new(container.ip().to_string());
        Some(Mysql(container, address))
    }

    pub fn query(&self, sql: &str) -> String {
        self.0.query("", sql)
    }

    pub fn address(&self) -> String {
        self.1.lock().unwrap().clone()
    }

    pub fn container(&self) -> &Container {
        &self.0
    }

    pub fn second_passwords(&self) -> String {
        self.query(
            "SELECT COUNT(*) FROM mysql.user WHERE JSON_EXTRACT(User_attributes, '$.additional_password') IS NOT NULL",
        )
    }

    pub fn start_again(&self) {
        self.0.stop();
        self.0.start_again();
        *self.1.lock().unwrap() = self.0.ip().to_string();
    }
}

impl Target for Mysql {
    fn source(&self, password_file: &str) -> String {
        let name = self.0.name();
        format!("{{ mysql: {{ container: {name}, user: bkp-rotate, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn set_up(&self, password: &str) {
        let hosts = ["%", "10.255.255.%"];
        for host in hosts {
            self.0.query(
                "",
                &format!("DROP USER IF EXISTS app@'{host}'; CREATE USER app@'{host}' IDENTIFIED BY '{password}'"),
            );
        }
    }

    fn container(&self) -> Option<String> {
        Some(self.0.name().to_owned())
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        log_in(&self.address(), 3306, password)
    }
}

const STATES: [&str; 16] = [
    "planned",
    "pending",
    "accepted",
    "tested",
    "published",
    "delivered",
    "reloaded",
    "moved",
    "delivered",
    "reloaded",
    "moved",
    "unused",
    "retired",
    "persisted",
    "proven",
    "rotated",
];

/// From the command to the proof, twice in a row.
pub fn is_rotated_without_a_gap(vault: &'static Vault, target: Arc<dyn Target>) {
    let mut world = World::with(vault, target, "");
    world.open_shop();
    let plan = world.rotate(&["shop-db", "--dry-run", "--json"]).ends(0).json();
    assert_eq!(plan["gap_seconds"], 0.0);
    assert!(plan["refused"].is_null() && plan["open"].is_null(), "{plan}");
    assert_eq!(world.published(), world.old, "a dry run changes nothing");
    world.rotate(&["shop-db", "--because", "INC-42"]).ends(0).says("shop-db is rotated");
    let new = world.one_password_works(&world.old);
    assert_eq!(world.states(), STATES);
    let secrets = world.host.run(&["secrets", "--json"]).ends(0).json();
    let secret = &secrets["secrets"][0];
    assert_eq!((&secret["consumers"][1], &secret["overdue"]), (&"worker".into(), &false.into()), "{secret}");
    world.rotate(&["status"]).ends(0).says("nothing under way");
    // The account as it was opens with the recovery key, and holds no password.
    assert!(world.host.path("state/rotations/shop-db.account.age").exists());
    for secret in [&new, &world.old] {
        world.is_told_nowhere(secret);
    }
    wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&new);
    assert_eq!(
        world.published_user(),
        world.target.users()[0],
        "what is beside it stays; and after two turns it is theirs again"
    );
}

#[test]
fn mariadb_is_rotated_without_a_gap() {
    let part = "rotation of MariaDB";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    is_rotated_without_a_gap(vault, Arc::new(server));
}

#[test]
fn mysql_is_rotated_without_a_gap() {
    let part = "rotation of MySQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mysql::start(part)) else { return };
    let server = Arc::new(server);
    is_rotated_without_a_gap(vault, Arc::clone(&server) as Arc<dyn Target>);
    assert_eq!(server.second_passwords(), "0", "no second password is left, at no host of the account");
}
