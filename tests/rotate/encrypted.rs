//! Servers of MySQL and MariaDB that let in over TLS only, reached through a tap: bkp logs in encrypted, and by the authorities that
//! the source names. And accounts that ask for more than their password.

use super::servers::{Mysql, RIGHTS};
use super::support::host_server::HostServer;
use super::support::run;
use super::support::vault::Vault;
use super::wire::{Tap, certificate};
use super::world::{Target, World};
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

enum Server {
    Mysql(Mysql),
    Mariadb(HostServer),
}

struct Secured {
    server: Server,
    tap: Tap,
    certificates: tempfile::TempDir,
    /// What the source says of authorities.
    ca_file: Mutex<String>,
}

impl Secured {
    fn mysql(part: &str) -> Option<Secured> {
        let (server, certificates) = (Mysql::start(part)?, certificates());
        for (from, to) in [("server.crt", "server-cert.pem"), ("server.key", "server-key.pem")] {
            let text = fs::read(certificates.path().join(from)).unwrap();
            let write = server.container().exec(&["sh", "-c", &format!("cat > /var/lib/mysql/{to}")], &text);
            assert!(write.status.success(), "{write:?}");
        }
        server.query("ALTER INSTANCE RELOAD TLS; SET GLOBAL require_secure_transport = ON");
        let tap = Tap::of(&server.address(), 3306);
        Some(Secured { server: Server::Mysql(server), tap, certificates, ca_file: Mutex::default() })
    }

    fn mariadb(part: &str) -> Option<Secured> {
        let certificates = certificates();
        let file = |what: &str, name: &str| format!("--ssl-{what}={}", certificates.path().join(name).display());
        let wanted = HostServer::mariadb().argument(&file("cert", "server.crt")).argument(&file("key", "server.key"));
        let server = wanted.start(part)?;
        server.query("", &format!("CREATE USER 'bkp-rotate'@'%' IDENTIFIED BY 'rights' REQUIRE SSL; {RIGHTS}"));
        let tap = Tap::before(server.port());
        Some(Secured { server: Server::Mariadb(server), tap, certificates, ca_file: Mutex::default() })
    }

    fn trusts(&self, name: &str) {
        *self.ca_file.lock().unwrap() = format!(", ca_file: {}", self.certificates.path().join(name).display());
    }

    fn query(&self, sql: &str) -> String {
        match &self.server {
            Server::Mysql(server) => server.query(sql),
            Server::Mariadb(server) => server.query("", sql),
        }
    }
}

fn certificates() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "server");
    certificate(directory.path(), "other");
    // Servers run as somebody else.
    run("chmod", &["755", "."], directory.path());
    run("chmod", &["644", "server.key"], directory.path());
    directory
}

impl Target for Secured {
    fn source(&self, password_file: &str) -> String {
        let (port, ca_file) = (self.tap.port, self.ca_file.lock().unwrap());
        let server = match &self.server {
            Server::Mysql(server) => format!("container: {}", server.container().name()),
            Server::Mariadb(_) => format!("host: 127.0.0.1, port: {port}"),
        };
        format!("{{ mysql: {{ {server}, user: bkp-rotate, password_file: {password_file}{ca_file} }} }}")
    }

    fn account(&self, _: &str) -> String {
        format!("    account: app\n    nodes: ['127.0.0.1:{}']\n", self.tap.port)
    }

    fn admin_password(&self) -> String {
        "rights".into()
    }

    fn set_up(&self, password: &str) {
        self.query(&format!("DROP USER IF EXISTS app@'%'; CREATE USER app@'%' IDENTIFIED BY '{password}' REQUIRE SSL"));
    }

    /// By the server's own client, which encrypts.
    fn log_in(&self, password: &str) -> Result<(), String> {
        let ask = ["--protocol=tcp", "--host=127.0.0.1", "--user=app", "--execute=SELECT 1"];
        let output = match &self.server {
            Server::Mysql(server) => {
                server.container().exec_with(&[("MYSQL_PWD", password)], &[&["mysql"], &ask[..]].concat(), b"")
            }
            Server::Mariadb(server) => {
                let port = format!("--port={}", server.port());
                Command::new("mariadb").args(ask).args([&port, "--ssl"]).env("MYSQL_PWD", password).output().unwrap()
            }
        };
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

fn is_rotated_over_tls(vault: &'static Vault, server: Secured, plugin: &str) {
    let server = Arc::new(server);
    let world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let again = |ca_file: &str| {
        server.trusts(ca_file);
        world.configure(&vault.address(), "");
        world.has_no_clients();
    };
    world.has_no_clients();
    for arguments in [&["shop-db", "--dry-run"][..], &["shop-db"]] {
        world.rotate(arguments).fails(13, "lets in only over TLS (REQUIRE SSL), and the source has no `ca_file`", "");
    }
    again("other.crt");
    let refused = world.rotate(&["shop-db", "--dry-run"]);
    assert!(!refused.status.success() && refused.err.contains("certificate"), "{}", refused.err);
    again("server.crt");
    if let Server::Mariadb(server) = &server.server {
        asks_for_more_than_the_password(server, &world);
    }
    world.rotate(&["shop-db"]).ends(0);
    let new = world.one_password_works(&world.old);
    for word in [plugin, &new, &world.old, "bkp-rotate"] {
        assert!(!server.tap.heard(word), "{word} was not encrypted");
    }
    world.dies_at("rotate:published", &["shop-db", "--emergency"]);
    world.rotate(&["rollback", "shop-db"]).ends(0);
    assert_eq!(world.one_password_works(&world.last_pending()), new);
}

/// Told by what MariaDB keeps of accounts, and refused before anything is changed.
fn asks_for_more_than_the_password(server: &HostServer, world: &World) {
    let set = format!("ALTER USER app@'%' IDENTIFIED BY '{}'", world.old);
    let table = [
        ("REQUIRE X509", "lets in only with a certificate of the client", "REQUIRE SSL"),
        ("ACCOUNT LOCK", "is locked (ACCOUNT LOCK)", "ACCOUNT UNLOCK"),
        ("PASSWORD EXPIRE", "has expired", "PASSWORD EXPIRE NEVER"),
        ("WITH MAX_USER_CONNECTIONS 1", "is let in 1 times at once", "WITH MAX_USER_CONNECTIONS 0"),
    ];
    for (how, what, back) in table {
        server.query("", &format!("ALTER USER app@'%' {how}"));
        world.rotate(&["shop-db"]).fails(13, what, "");
        server.query("", &format!("{set}; ALTER USER app@'%' {back}"));
    }
    server.query("", "INSTALL SONAME 'simple_password_check'");
    world.rotate(&["shop-db"]).fails(13, "the server takes no verifiers", "strict_password_validation = OFF");
    server.query("", "UNINSTALL SONAME 'simple_password_check'");
}

#[test]
fn mysql_that_lets_in_over_tls_only_is_rotated() {
    let part = "rotation of MySQL with TLS";
    let (Some(vault), Some(server)) = (Vault::shared(part), Secured::mysql(part)) else { return };
    is_rotated_over_tls(vault, server, "caching_sha2_password");
}

#[test]
fn mariadb_that_lets_in_over_tls_only_is_rotated() {
    let part = "rotation of MariaDB with TLS";
    let (Some(vault), Some(server)) = (Vault::shared(part), Secured::mariadb(part)) else { return };
    is_rotated_over_tls(vault, server, "mysql_native_password");
}
