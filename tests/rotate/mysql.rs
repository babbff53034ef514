//! MySQL as programs in Python see it: with TLS, and with neither TLS nor a way to ask for the server's key, so that they live by what
//! the server remembers (`caching_sha2_password`). And accounts that are not as they should be.

use super::celery::CELERY;
use super::kills::wait_for_distance;
use super::servers::{Mysql, is_rotated_without_a_gap};
use super::support::require;
use super::support::vault::Vault;
use super::world::{Target, World};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Logs in anew for each line, which is a password. Without `cryptography` the driver cannot use the server's key; it is kept away
/// although it is not there. `hold` keeps the session.
const DRIVER: &str = r#"
import ssl, sys
sys.modules["cryptography"] = None
import pymysql

host, way = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
encryption = dict(ssl=context) if way == "tls" else dict(ssl_disabled=True)
held = []
for line in sys.stdin:
    try:
        connection = pymysql.connect(host=host, user="app", password=line.rstrip("\n"), connect_timeout=20, **encryption)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if way == "hold":
            held.append(connection)
        else:
            connection.close()
        print("good", flush=True)
    except Exception as why:
        print(repr(why).replace("\n", " "), flush=True)
"#;

/// It lives by what the server remembers, and that knows nothing of it just now.
const IS_NOT_KNOWN: &str = "'cryptography' package is required";

struct Driver {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    fn start(python: &PathBuf, address: &str, way: &str) -> Driver {
        let mut command = Command::new(python);
        command.args(["-c", DRIVER, address, way]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Driver { child, ask, answers }
    }

    fn log_in(&mut self, password: &str) -> Result<(), String> {
        writeln!(self.ask, "{password}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        if answer == "good\n" { Ok(()) } else { Err(answer) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same server, and other clients.
struct Python {
    server: Mysql,
    python: PathBuf,
    encrypted: bool,
    /// Not at work just now.
    drivers: Mutex<Vec<Driver>>,
}

impl Python {
    fn start(part: &str, encrypted: bool) -> Option<Python> {
        let (python, server) = (require(part, &CELERY)?, Mysql::start(part)?);
        Some(Python { server, python, encrypted, drivers: Mutex::default() })
    }

    fn driver(&self, way: &str) -> Driver {
        Driver::start(&self.python, &self.server.address(), way)
    }

    /// Without asking again.
    fn log_in_once(&self, password: &str) -> Result<(), String> {
        let driver = self.drivers.lock().unwrap().pop();
        let mut driver = driver.unwrap_or_else(|| self.driver(if self.encrypted { "tls" } else { "plain" }));
        let answer = driver.log_in(password);
        self.drivers.lock().unwrap().push(driver);
        answer
    }
}

impl Target for Python {
    fn source(&self, password_file: &str) -> String {
        self.server.source(password_file)
    }

    fn admin_password(&self) -> String {
        self.server.admin_password()
    }

    /// As of an application that has been logging in for long.
    fn set_up(&self, password: &str) {
        self.server.set_up(password);
        self.server.log_in(password).unwrap();
    }

    /// A pool asks again where the server does not know it for the moment of the change; and is refused where it was wrong.
    fn log_in(&self, password: &str) -> Result<(), String> {
        let asked = (0..200).map(|_| self.log_in_once(password));
        let mut last = Ok(());
        for answer in asked {
            last = answer;
            if last.is_ok() || self.encrypted || !last.as_ref().unwrap_err().contains(IS_NOT_KNOWN) {
                break;
            }
        }
        last
    }
}

/// PyMySQL over TLS: zero failed logins, counted.
#[test]
fn clients_in_python_are_never_refused() {
    let part = "rotation of MySQL with clients in Python";
    let (Some(vault), Some(python)) = (Vault::shared(part), Python::start(part, true)) else { return };
    let python = Arc::new(python);
    is_rotated_without_a_gap(vault, Arc::clone(&python) as Arc<dyn Target>);
    assert_eq!(python.server.second_passwords(), "0", "no second password is left, at no host of the account");
}

/// They are known again before bkp does anything else, also when it does nothing else any more; forward and back, and where the
/// server keeps a history of passwords.
#[test]
fn clients_without_tls_and_key_are_known_again_at_once() {
    let part = "rotation of MySQL with clients that need to be remembered";
    let (Some(vault), Some(python)) = (Vault::shared(part), Python::start(part, false)) else { return };
    let python = Arc::new(python);
    let mut world = World::with(vault, Arc::clone(&python) as Arc<dyn Target>, "");
    let history = "ALTER USER app@'%' PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL 365 DAY";
    python.server.query(&format!("{history} FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 1"));
    python.server.query("GRANT SELECT ON performance_schema.threads TO 'bkp-rotate'@'%'");
    let mut holds = python.driver("hold");
    holds.log_in(&world.old).unwrap();
    // Each of their refusals would count.
    world.rotate(&["shop-db"]).fails(13, "some of these lock the account", "FAILED_LOGIN_ATTEMPTS 0");
    python.server.query("ALTER USER app@'%' FAILED_LOGIN_ATTEMPTS 0");
    let plan = world.rotate(&["shop-db", "--dry-run"]).ends(0);
    plan.says("app has sessions without TLS, from ").says("at hosts that bkp does not log in from");
    drop(holds);
    world.open_shop();

    let mut current = world.old.clone();
    world.dies_at("rotate:accepted", &["shop-db"]);
    python.log_in_once(&current).unwrap();
    world.rotate(&["resume", "shop-db"]).ends(0);
    current = world.one_password_works(&current);
    python.log_in_once(&current).unwrap();

    wait_for_distance(&world);
    world.works_only_with("worker", &current);
    world.dies_at("rotate:undone", &["shop-db"]);
    python.log_in_once(&current).unwrap();
    let pending = world.record()["pending"].as_str().unwrap().to_owned();
    world.is_mended("worker");
    world.rotate(&["resume", "shop-db"]).ends(1);
    assert_eq!(world.one_password_works(&pending), current);
    python.log_in_once(&current).unwrap();

    // One of both is gone, and the history of the server has it.
    world.close_shop();
    world.has_no_clients();
    wait_for_distance(&world);
    world.dies_at("rotate:published", &["shop-db"]);
    python.server.query("ALTER USER app@'%' DISCARD OLD PASSWORD, app@'10.255.255.%' DISCARD OLD PASSWORD");
    python.server.log_in(&current).unwrap_err();
    world.rotate(&["reapply", "shop-db"]).ends(0).says("has both passwords");
    python.server.log_in(&current).unwrap();
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&current);
}

#[test]
fn accounts_that_are_not_alike_are_refused_before_anything_is_changed() {
    let part = "rotation of MySQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mysql::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let refused = |what: &str, hint: &str| drop(world.rotate(&["shop-db"]).fails(13, what, hint));
    server.query(&format!("ALTER USER app@'%' IDENTIFIED BY '{}' RETAIN CURRENT PASSWORD", world.old));
    refused("second password", "DISCARD OLD PASSWORD");
    server.query("ALTER USER app@'%' DISCARD OLD PASSWORD; ALTER USER app@'10.255.255.%' IDENTIFIED BY 'another'");
    refused("'app'@'10.255.255.%' has another password than the one that is published", "give them one password");
    server.query(&format!("ALTER USER app@'10.255.255.%' IDENTIFIED WITH sha256_password BY '{}'", world.old));
    server.query("ALTER USER app@'%' FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1");
    refused("'app'@'%' is locked after 1 wrong passwords", "FAILED_LOGIN_ATTEMPTS 3");
    server.query("ALTER USER app@'%' FAILED_LOGIN_ATTEMPTS 3; REVOKE SELECT ON mysql.* FROM 'bkp-rotate'@'%'");
    world.rotate(&["shop-db"]).fails(12, "has not the right SELECT on mysql.*", "GRANT SELECT ON mysql.*");
    server.query("GRANT SELECT ON mysql.* TO 'bkp-rotate'@'%'");
    both_hosts_refuse_what_keeps_bkp_out(&server, &refused, &world.old);
    assert_eq!(world.published(), world.old);
    server.query("REVOKE CONNECTION_ADMIN ON *.* FROM 'bkp-rotate'@'%'");
    world.rotate(&["shop-db", "--dry-run"]).ends(0).says("could not end old sessions in an emergency");
    // Each host by another plug-in, and one password; and bkp's own refusals do not lock it.
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&world.old);
    assert_eq!(server.second_passwords(), "0");
}

/// What an account may ask for besides its password, and what the server asks of new ones.
fn both_hosts_refuse_what_keeps_bkp_out(server: &Mysql, refused: &dyn Fn(&str, &str), password: &str) {
    let alter =
        |how: &str| drop(server.query(&format!("ALTER USER app@'%' {how}; ALTER USER app@'10.255.255.%' {how}")));
    alter("REQUIRE X509");
    refused("'app'@'%' lets in only with a certificate of the client (REQUIRE X509)", "REQUIRE SSL");
    alter("REQUIRE NONE ACCOUNT LOCK");
    refused("is locked (ACCOUNT LOCK)", "ACCOUNT UNLOCK");
    alter("PASSWORD EXPIRE ACCOUNT UNLOCK");
    refused("has expired", "PASSWORD EXPIRE NEVER");
    alter(&format!("IDENTIFIED BY '{password}' WITH MAX_USER_CONNECTIONS 1"));
    refused("is let in 1 times at once (MAX_USER_CONNECTIONS)", "2 more");
    alter("WITH MAX_USER_CONNECTIONS 0 MAX_QUERIES_PER_HOUR 20");
    refused("has MAX_QUERIES_PER_HOUR 20", "WITH MAX_QUERIES_PER_HOUR 0");
    alter("WITH MAX_QUERIES_PER_HOUR 0");
    server.query("INSTALL COMPONENT 'file://component_validate_password'; SET GLOBAL validate_password.length = 41");
    refused("validate_password of the server wants 41 characters", "length");
    server.query("UNINSTALL COMPONENT 'file://component_validate_password'");
}

/// Put back to before the rotation while it goes on, and started again.
#[test]
fn a_server_that_was_put_back_or_started_again_takes_the_new_one_all_the_same() {
    let part = "rotation of MySQL in trouble";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mysql::start(part)) else { return };
    let server = Arc::new(server);
    let world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    // Clients would be refused by the trouble itself.
    world.has_no_clients();
    let mut current = world.old.clone();
    let mut goes_on = |point: &str, trouble: &dyn Fn()| {
        wait_for_distance(&world);
        world.dies_at(point, &["shop-db"]);
        trouble();
        world.rotate(&["resume", "shop-db"]).ends(0);
        current = world.one_password_works(&current);
    };
    goes_on("rotate:accepted", &|| server.set_up(&world.old));
    goes_on("rotate:published", &|| server.start_again());
    let second = world.published();
    goes_on("rotate:published", &|| server.set_up(&second));
    goes_on("rotate:moved", &|| server.start_again());
    assert_eq!(server.second_passwords(), "0");
}
