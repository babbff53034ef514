//! What goes over the network to PostgreSQL: bkp, and who changes the account, reach it through a tap that keeps what they say.

use super::postgres::{ByTurns, log_in, set_up_once};
use super::support::host_server::HostServer;
use super::support::run;
use super::support::vault::Vault;
use super::world::{Target, World};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Hands everything on, and keeps what clients say. Its thread ends with the test process.
pub struct Tap {
    pub port: u16,
    to: Arc<Mutex<(String, u16)>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    pub fn before(port: u16) -> Tap {
        Tap::of("127.0.0.1", port)
    }

    pub fn of(host: &str, port: u16) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port_of_its_own = listener.local_addr().unwrap().port();
        let tap =
            Tap { port: port_of_its_own, to: Arc::new(Mutex::new((host.to_owned(), port))), said: Arc::default() };
        let (said, to) = (Arc::clone(&tap.said), Arc::clone(&tap.to));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (to, said) = (to.lock().unwrap().clone(), Arc::clone(&said));
                // A server that is gone may take its time not to answer: nobody else waits for that.
                std::thread::spawn(move || {
                    let Ok(server) = TcpStream::connect((to.0.as_str(), to.1)) else { return };
                    let (back, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    std::thread::spawn(move || hand_on(back, to, |_| ()));
                    hand_on(client, server, |bytes| said.lock().unwrap().extend(bytes));
                });
            }
        });
        tap
    }

    /// From the next connection on.
    pub fn leads_to(&self, host: &str, port: u16) {
        *self.to.lock().unwrap() = (host.to_owned(), port);
    }

    pub fn heard(&self, text: &str) -> bool {
        self.said.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        keep(&bytes[..read]);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

struct Tapped {
    server: Mutex<HostServer>,
    port: u16,
    tap: Tap,
    /// What is added to the source.
    rest: String,
}

impl Tapped {
    fn start(part: &str) -> Option<Tapped> {
        let server = HostServer::postgres().start(part)?;
        server.query("", &set_up_once());
        let (port, tap) = (server.port(), Tap::before(server.port()));
        Some(Tapped { server: Mutex::new(server), port, tap, rest: String::new() })
    }

    /// Starts again, with these lines of `pg_hba.conf`.
    fn lets_in(&self, lines: &str) {
        let mut server = self.server.lock().unwrap();
        server.stop();
        let own = "host all postgres 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n";
        fs::write(server.data().join("pg_hba.conf"), format!("{own}{lines}")).unwrap();
        server.start_again();
    }
}

impl ByTurns for Tapped {
    fn port(&self) -> u16 {
        self.tap.port
    }

    fn query(&self, statements: &str) -> String {
        self.server.lock().unwrap().query("", statements)
    }

    fn more(&self) -> String {
        self.rest.clone()
    }

    fn logs_in(&self, user: &str, password: &str) -> Result<(), String> {
        log_in(self.port, user, password)
    }
}

#[test]
fn a_password_is_not_told_to_a_server_that_wants_to_see_it() {
    let part = "rotation of PostgreSQL over a network that others listen to";
    let (Some(vault), Some(server)) = (Vault::shared(part), Tapped::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    // Of who changes it.
    server.lets_in("host all bkp_rot 127.0.0.1/32 password\nhost all all 127.0.0.1/32 scram-sha-256\n");
    world.rotate(&["shop-db"]).fails(13, "is not told the password of bkp_rot: it asks for the password in clear", "");
    assert!(server.tap.heard("bkp_rot") && !server.tap.heard("rights"), "it was told the server");
    // Of the account itself.
    let scram = "host all bkp_rot 127.0.0.1/32 scram-sha-256\n";
    server.lets_in(&format!("{scram}host all all 127.0.0.1/32 password\n"));
    world.rotate(&["shop-db"]).fails(13, "the password of app_a: it asks for the password in clear", "scram-sha-256");
    server.query(&format!("SET password_encryption = 'md5'; ALTER ROLE app_a PASSWORD '{}'", world.old));
    server.lets_in(&format!("{scram}host all all 127.0.0.1/32 md5\n"));
    world.rotate(&["shop-db"]).fails(13, "the password of app_a: it asks for the password as MD5", "pg_hba.conf");
    // Whoever lets in everybody cannot tell that an old one is refused.
    server.lets_in(&format!("{scram}host all all 127.0.0.1/32 trust\n"));
    world.rotate(&["shop-db"]).fails(13, "the password of app_a: it lets in without asking for one", "not trust");
    assert!(server.tap.heard("app_a") && !server.tap.heard(&world.old), "it was told the server");
    assert_eq!(world.published(), world.old);
    // It lets in the one and not the other; then both, and neither often nor long enough.
    server.lets_in(&format!("{scram}host all app_a 127.0.0.1/32 scram-sha-256\n"));
    server.set_up(&world.old);
    world.rotate(&["shop-db"]).fails(13, "does not let app_b in from this host, whatever the password", "pg_hba.conf");
    // Whose turn comes has no verifier, so the server would ask for its MD5; the others have SCRAM's.
    server.query("ALTER SYSTEM SET password_encryption = 'md5'");
    server.lets_in("host all all 127.0.0.1/32 md5\n");
    world.rotate(&["shop-db", "--dry-run"]).ends(0);
    server.query("ALTER SYSTEM RESET password_encryption");
    // As it is said there.
    server.lets_in("host all all 127.0.0.1/32 scram-sha-256\n");
    let refused = |alter: &str, what: &str, back: &str| {
        server.query(alter);
        world.rotate(&["shop-db", "--dry-run"]).fails(13, what, back);
        server.query(back);
    };
    let limit = "app_b is let in 1 times at once (CONNECTION LIMIT)";
    refused("ALTER ROLE app_b CONNECTION LIMIT 1", limit, "ALTER ROLE \"app_b\" CONNECTION LIMIT 2");
    server.query("ALTER ROLE app_b CONNECTION LIMIT -1");
    let soon = "ALTER ROLE app_b VALID UNTIL 'tomorrow'";
    refused(soon, "and nobody after that", "ALTER ROLE \"app_b\" VALID UNTIL 'infinity'");
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    let new = world.one_password_works(&world.old);
    for secret in [&world.old, &new] {
        assert!(!server.tap.heard(secret));
    }
}

pub fn certificate(directory: &Path, name: &str) {
    let made = ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=test", "-addext"];
    let names = ["subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    let (key, file) = (format!("{name}.key"), format!("{name}.crt"));
    run("openssl", &[&made[..], &names, &["-keyout", &key, "-out", &file]].concat(), directory);
}

#[test]
fn where_the_source_names_authorities_everything_is_encrypted() {
    let part = "rotation of PostgreSQL with TLS";
    let (Some(vault), Some(mut server)) = (Vault::shared(part), Tapped::start(part)) else { return };
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "server");
    certificate(directory.path(), "other");
    let data = server.server.lock().unwrap().data();
    for (name, text) in [("server.key", ""), ("server.crt", ""), ("postgresql.auto.conf", "ssl = on\n")] {
        let from = directory.path().join(name);
        let text = if text.is_empty() { fs::read_to_string(from).unwrap() } else { text.to_owned() };
        fs::write(data.join(name), text).unwrap();
    }
    run("chown", &["--reference=.", "server.key", "server.crt"], &data);
    run("chmod", &["600", "server.key"], &data);
    server.lets_in("hostssl all bkp_rot 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n");
    let ca_file = |name: &str| format!(", ca_file: {}", directory.path().join(name).display());
    server.rest = ca_file("server.crt");
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    let new = world.one_password_works(&world.old);
    for word in ["app_a", "app_b", "bkp_rot", "SCRAM-SHA-256", &new] {
        assert!(!server.tap.heard(word), "{word} was not encrypted");
    }
    // Somebody else's certificate.
    let policy = world.host.path("etc/policies.d/shop.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace(&ca_file("server.crt"), &ca_file("other.crt"))).unwrap();
    let refused = world.rotate(&["shop-db", "--dry-run"]);
    assert!(!refused.status.success() && refused.err.contains("certificate"), "{}", refused.err);
}
