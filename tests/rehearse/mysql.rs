//! MySQL and MariaDB: rehearsed in a container of the source's own image, and as a process of this host.

use super::files::recorded;
use super::seeded;
use super::support::docker::engine::docker;
use super::support::docker::{Container, Wanted, image};
use super::support::host::{Host, mode};
use super::support::host_server::HostServer;
use super::trees::{Mounted, mounts_are_forbidden};
use super::{journal_is_whole, nothing_is_left};
use bkp::durable::CRASH_POINTS;
use bkp::engine::{Server, Settings, mysql};
use bkp::exec::Place;
use bkp::exec::docker::{Image, Selector};
use bkp::secret::SecretRef;
use serde_json::Value;
use std::fs;
use std::sync::OnceLock;

const SCHEMA: &str = r#"
SET NAMES utf8mb4;
CREATE DATABASE shop CHARACTER SET utf8mb4;
USE shop;
CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80) NOT NULL, UNIQUE KEY by_name (name));
INSERT INTO users (name) VALUES ('ana'), ('josé'), ('☕;');
CREATE TABLE orders (id INT PRIMARY KEY, user INT NOT NULL, total DECIMAL(9,2), KEY by_user (user), CONSTRAINT of_user FOREIGN KEY (user) REFERENCES users (id) ON DELETE CASCADE, CHECK (total >= 0));
INSERT INTO orders VALUES (1, 1, 10.50), (2, 2, 0);
CREATE TABLE log (at INT, what TEXT);
CREATE VIEW totals AS SELECT user, SUM(total) AS total FROM orders GROUP BY user;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW INSERT INTO log VALUES (NEW.id, 'new; order');
CREATE PROCEDURE reset() DELETE FROM log;
CREATE FUNCTION twice(a INT) RETURNS INT DETERMINISTIC RETURN a * 2;
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM log WHERE at < 0;
CREATE USER 'app'@'%' IDENTIFIED BY 'secret-of-app';
GRANT SELECT, INSERT ON shop.* TO 'app'@'%';
GRANT EXECUTE ON PROCEDURE shop.reset TO 'app'@'%';
"#;

fn server(which: &'static OnceLock<Option<Container>>, wanted: fn() -> Wanted) -> Option<&'static Container> {
    let start = || {
        let container = wanted().start("rehearsals of MySQL and MariaDB")?;
        container.query("", SCHEMA);
        Some(container)
    };
    which.get_or_init(start).as_ref()
}

fn mysql_server() -> Option<&'static Container> {
    static SERVER: OnceLock<Option<Container>> = OnceLock::new();
    server(&SERVER, Container::mysql)
}

fn mariadb_server() -> Option<&'static Container> {
    static SERVER: OnceLock<Option<Container>> = OnceLock::new();
    server(&SERVER, Container::mariadb)
}

/// A host whose source `db` is that container, with one point of it.
fn host(container: &Container) -> Host {
    let host = Host::new();
    fs::write(host.path("password"), container.password()).unwrap();
    host.sources(&[format!(
        "db: {{ mysql: {{ container: {}, user: root, password_file: \"{}\" }} }}",
        container.name(),
        host.text("password")
    )]);
    host.run(&["backup"]).ends(0);
    host
}

/// The same, of a server that is a process.
fn of_host(server: &HostServer) -> Host {
    let host = Host::new();
    fs::write(host.path("password"), server.password()).unwrap();
    host.sources(&[format!(
        "db: {{ mysql: {{ host: 127.0.0.1, port: {}, user: root, password_file: \"{}\" }} }}",
        server.port(),
        host.text("password")
    )]);
    host.run(&["backup"]).ends(0);
    host
}

fn settings(host: &Host, container: &Container) -> Settings {
    let server = Server {
        place: Place::Container(Selector::Name(container.name().to_owned())),
        user: Some("root".into()),
        password: Some(SecretRef::File(host.path("password"))),
        ..Server::default()
    };
    Settings::Mysql(mysql::Settings { server, databases: Vec::new(), exclude: Vec::new(), lock_tables: false })
}

fn rehearse(host: &Host, code: i32) -> Value {
    let document = host.read(&["rehearse", "db", "--json"]).ends(code).json();
    document["rehearsals"][0].clone()
}

/// Records of scratch targets of this host: there is one as long as the target is there.
fn left(host: &Host) -> usize {
    fs::read_dir(host.path("state/scratch"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))
        .count()
}

fn comes_back_as_it_was(container: &Container) {
    let host = host(container);
    let found = rehearse(&host, 0);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"container".into()), "{found}");
    assert!(found["target"]["isolation"].as_str().unwrap().contains("without network"), "{found}");
    assert!(found["compared"].as_u64().unwrap() >= 15, "{found}");
    assert_eq!(found["differences"], Value::Null);
    assert_eq!(host.points("db")[0]["level"], "equal");
    assert_eq!(left(&host), 0);
    assert_eq!(recorded(&host).len(), 1);
}

#[test]
fn mysql_comes_back_as_it_was() {
    let Some(container) = mysql_server() else { return };
    comes_back_as_it_was(container);
}

#[test]
fn mariadb_comes_back_as_it_was() {
    let Some(container) = mariadb_server() else { return };
    comes_back_as_it_was(container);
}

#[test]
fn what_a_dump_lost_is_named() {
    // Of its own: it is changed, and others look at the shared one.
    let Some(container) = Container::mariadb().start("a dump that lost something") else { return };
    container.query("", SCHEMA);
    container.query("", "CREATE TABLE shop.gone (id INT PRIMARY KEY); INSERT INTO shop.log VALUES (5, 'a value')");
    let host = host(&container);
    seeded::lossy(&host, "db", &settings(&host, &container), || {
        container.query(
            "shop",
            "DROP TABLE gone; DELETE FROM orders WHERE id = 2; UPDATE log SET what = 'a valuf' WHERE at = 5; DROP TRIGGER noted;
             DROP INDEX by_name ON users; DROP PROCEDURE reset; REVOKE INSERT ON shop.* FROM 'app'@'%'; ALTER TABLE users MODIFY name VARCHAR(81) NOT NULL",
        );
    });
    let found = rehearse(&host, 4);
    let differences: Vec<&str> = found["differences"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for expected in [
        "`shop`.`gone`: missing",
        "`shop`.`log`: other content",
        "`shop`.`orders`: 1 rows instead of 2",
        "columns shop.users: another definition",
        "grant GRANT SELECT, INSERT ON `shop`.* TO `app`@`%`: missing",
        "index shop.users.by_name: missing",
        "routine shop.PROCEDURE.reset: missing",
        "trigger shop.noted: missing",
    ] {
        assert!(differences.contains(&expected), "{expected}: {differences:#?}");
    }
    assert_eq!(found["reached"], "loaded");
    assert_eq!(left(&host), 0);
}

#[test]
fn an_image_that_is_gone_is_told() {
    let Some(container) = mariadb_server() else { return };
    let host = host(container);
    let image = Image { name: "shop-db:7".into(), digest: format!("sha256:{}", "0".repeat(64)) };
    seeded::point_of_image(&host, "db", &settings(&host, container), image);
    let found = rehearse(&host, 4);
    let message = found["message"].as_str().unwrap();
    assert!(message.contains(&"0".repeat(12)), "{message}");
    assert_eq!(found["reached"], Value::Null);
    assert_eq!(left(&host), 0);
}

#[test]
fn a_server_that_is_never_ready_ends_in_time() {
    let Some(container) = mariadb_server() else { return };
    let host = host(container);
    host.configure(&format!("repository: {{ url: \"{}\" }}\nrehearse: {{ patience: 1s, processors: 1 }}\n", host.url));
    let found = rehearse(&host, 4);
    assert!(found["message"].as_str().unwrap().contains("did not answer within 1s"), "{found}");
    assert_eq!(left(&host), 0);
}

/// Before the server, while it starts, before, in and after the load, in the comparison, and around the end.
#[test]
fn what_a_rehearsal_that_was_killed_in_any_phase_left_in_the_container_engine_goes() {
    let Some(container) = mariadb_server() else { return };
    let of_servers = |point: &&str| point.starts_with("rehearse:") || point.starts_with("rehearse-server:");
    let phases = CRASH_POINTS.iter().copied().filter(of_servers);
    let phases: Vec<&str> = phases.chain(["rehearse:loading#2", "restore:data-written"]).collect();
    std::thread::scope(|scope| {
        for phases in [phases.iter().step_by(2), phases[1..].iter().step_by(2)] {
            scope.spawn(|| {
                let host = host(container);
                for phase in phases {
                    let mut command = host.command(&["rehearse", "db"]);
                    command.env("BKP_CRASH_AT", phase).env("BKP_IDENTITY", host.identity());
                    host.finish(host.start(command)).was_killed();
                    let is_gone = *phase == "rehearse-server:removed";
                    assert_eq!(left(&host) == 0, is_gone, "{phase}: {}", left(&host));
                    host.run(&["doctor", "--reap"]);
                    nothing_is_left(&host);
                }
                assert_eq!(rehearse(&host, 0)["reached"], "equal");
                nothing_is_left(&host);
                journal_is_whole(&host);
            });
        }
    });
}

#[test]
fn two_servers_at_once_do_not_disturb_each_other() {
    let Some(container) = mariadb_server() else { return };
    let host = host(container);
    let start = || {
        let mut command = host.command(&["rehearse", "db", "--json"]);
        command.env("BKP_IDENTITY", host.identity());
        host.start(command)
    };
    for running in [start(), start()] {
        let document = host.finish(running).ends(0).json();
        assert_eq!(document["rehearsals"][0]["reached"], "equal", "{document}");
    }
    nothing_is_left(&host);
}

#[test]
fn too_little_memory_is_told_with_the_limit_and_what_passed_before_stays() {
    let Some(container) = mariadb_server() else { return };
    let host = host(container);
    rehearse(&host, 0);
    let memory = "rehearse: { memory: 40MiB }\n";
    host.configure(&format!("repository: {{ url: \"{}\" }}\n{memory}", host.url));
    let found = rehearse(&host, 4);
    let (message, hint) = (found["message"].as_str().unwrap(), found["hint"].as_str().unwrap());
    assert!(message.contains("needs more memory than the 40 MiB"), "{message}");
    assert!(hint.contains("rehearse: { memory:"), "{hint}");
    nothing_is_left(&host);
    let policy = fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    fs::write(host.path("etc/policies.d/all.yaml"), policy.replace("sources:", "keep: { last: 1 }\nsources:")).unwrap();
    host.next_second();
    host.run(&["backup"]).ends(0);
    host.run(&["prune", "--dry-run"]).says("the last one that passed a rehearsal");
}

#[test]
fn a_disk_that_is_too_small_for_a_server_of_the_host_is_told() {
    let Some(server) = HostServer::mariadb().start("rehearsals on a small disk") else { return };
    server.query("", SCHEMA);
    let host = of_host(&server);
    let small = tempfile::Builder::new().prefix("bkp-small-").tempdir_in("/tmp").unwrap();
    let Some(_mounted) = Mounted::tmpfs(small.path()) else {
        assert!(mounts_are_forbidden());
        return;
    };
    mode(small.path(), 0o1777);
    let mut command = host.command(&["rehearse", "db", "--json"]);
    command.env("TMPDIR", small.path()).env("BKP_IDENTITY", host.identity());
    let found = host.finish(host.start(command)).ends(4).json()["rehearsals"][0].clone();
    let (message, hint) = (found["message"].as_str().unwrap(), found["hint"].as_str().unwrap());
    assert!(message.contains(&format!("no room left in {}", small.path().display())), "{message}");
    assert!(message.contains("of 16 MiB free") && hint.contains("TMPDIR"), "{message} {hint}");
    assert_eq!(fs::read_dir(small.path()).unwrap().count(), 0);
    nothing_is_left(&host);
}

#[test]
fn assertions_are_asked_of_the_scratch_server() {
    let Some(container) = mariadb_server() else { return };
    let host = host(container);
    let policy = fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    let rehearse_key = "rehearse:\n  assert:\n    - { sql: select count(*) from users, database: shop, min: 3, max: 3 }\n    \
                        - { run: [sh, -c, 'test ! -e /sys/class/net/eth0 && echo alone'], equals: alone }\n";
    fs::write(host.path("etc/policies.d/all.yaml"), policy.replace("sources:", &format!("{rehearse_key}sources:")))
        .unwrap();
    let found = rehearse(&host, 0);
    assert_eq!(found["reached"], "checked", "{found}");
}

#[test]
fn a_server_of_the_host_is_rehearsed_as_a_process() {
    let Some(server) = HostServer::mariadb().start("rehearsals of MariaDB on the host") else { return };
    server.query("", SCHEMA);
    let host = of_host(&server);
    let found = rehearse(&host, 0);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"process".into()), "{found}");
    assert_eq!(left(&host), 0);
    // A command of the user would be one of this host, and not of a container.
    let policy = fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    let asked = policy.replace("sources:", "rehearse: { assert: [{ run: [id] }] }\nsources:");
    fs::write(host.path("etc/policies.d/all.yaml"), asked).unwrap();
    let found = rehearse(&host, 4);
    assert!(
        found["message"].as_str().unwrap().contains("`run` is refused: this server is a process of the host"),
        "{found}"
    );
}

/// bkp beside MySQL's server and clients and without a container engine, as on a machine of its own or in a sidecar with servers.
#[test]
fn mysql_is_rehearsed_as_a_process_where_its_programs_are() {
    let host = Host::new();
    let program = format!("{}:/usr/bin/bkp:ro", env!("CARGO_BIN_EXE_bkp"));
    let own = format!("{0}:{0}", host.root().display());
    let Some(container) = Container::mysql().volume(&program).volume(&own).start("rehearsals of MySQL as a process")
    else {
        return;
    };
    container.query("", SCHEMA);
    fs::write(host.path("password"), container.password()).unwrap();
    host.sources(&[format!(
        "db: {{ mysql: {{ host: 127.0.0.1, user: root, password_file: \"{}\" }} }}",
        host.text("password")
    )]);
    let places = [
        ("BKP_CONFIG", host.text("etc/bkp.yaml")),
        ("BKP_STATE_DIR", host.text("state")),
        ("BKP_CACHE_DIR", host.text("cache")),
        ("BKP_IDENTITY", host.identity().display().to_string()),
    ];
    let environment: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let bkp = |arguments: &[&str]| {
        let output = container.exec_with(&environment, &[&["bkp"], arguments].concat(), b"");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    bkp(&["backup"]);
    let document: Value = serde_json::from_slice(&bkp(&["rehearse", "db", "--json"])).unwrap();
    let found = &document["rehearsals"][0];
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"process".into()), "{found}");
    assert!(found["compared"].as_u64().unwrap() >= 15, "{found}");
    let servers = container.exec(&["sh", "-c", "cat /proc/[0-9]*/comm"], b"");
    let servers = String::from_utf8_lossy(&servers.stdout).lines().filter(|name| *name == "mysqld").count();
    assert_eq!(servers, 1, "only the source is left");
    nothing_is_left(&host);
}

/// What a stack would run: it reads the password from its file, and shows a page from the database. Made of the server's own image,
/// for its client.
const APPLICATION: &str = r#"use IO::Socket::INET;
my $listening = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "cannot listen: $!";
print STDERR "the shop is open\n";
while (my $client = $listening->accept) {
  my $asked = <$client>; while (my $line = <$client>) { last if $line =~ /^\r?$/ }
  my $users = `mariadb --defaults-extra-file=/etc/shop.cnf --batch --skip-column-names shop -e 'select count(*) from users' 2>&1`;
  my $status = $? ? "500 Internal" : $asked =~ m{^GET /users } ? "200 OK" : "404 Not Found";
  my $out = `timeout 2 bash -c 'exec 3<>/dev/tcp/172.17.0.1/$ENV{LISTENING}' 2>/dev/null && echo reachable || echo alone`;
  print $client "HTTP/1.1 $status\r\nConnection: close\r\n\r\nusers: $users$out"; close $client;
}
"#;

#[test]
fn an_application_beside_the_scratch_server_is_asked_by_http() {
    let Some(container) = mariadb_server() else { return };
    let host = host(container);
    // Whatever listens on this host, such as the ports that live containers publish.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let listening = listener.local_addr().unwrap().port();
    let policy = fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    let asked = |path: &str, expected: &str, code: i32| {
        let indented =
            APPLICATION.replace('$', "$$").lines().map(|line| format!("            {line}\n")).collect::<String>();
        let key = format!(
            "rehearse:\n  assert:\n    - name: the shop\n      http:\n        image: {}\n        command: [perl, /shop.pl]\n        port: 8080\n        \
             path: {path}\n        patience: 20s\n        environment: {{ DB_HOST: \"{{host}}\", LISTENING: \"{listening}\" }}\n        files:\n          /shop.pl: |\n{indented}          \
             /etc/shop.cnf: \"[client]\\nhost={{host}}\\nport={{port}}\\nuser={{user}}\\npassword={{password}}\\n\"\n{expected}",
            image(container.kind())
        );
        fs::write(host.path("etc/policies.d/all.yaml"), policy.replace("sources:", &format!("{key}sources:"))).unwrap();
        rehearse(&host, code)
    };
    let found = asked("/users", "      contains: \"users: 3\"\n", 0);
    assert_eq!(found["reached"], "checked", "{found}");
    assert!(found["target"]["isolation"].as_str().unwrap().contains("one of its own that leads nowhere"), "{found}");
    nothing_is_left(&host);
    assert_eq!(asked("/users", "      contains: alone\n", 0)["reached"], "checked", "there is a way out");
    let found = asked("/users", "      contains: \"users: 4\"\n", 4);
    assert!(found["message"].as_str().unwrap().contains("expected to contain users: 4"), "{found}");
    let found = asked("/nothing", "", 4);
    assert!(found["message"].as_str().unwrap().contains("status 404"), "{found}");
    nothing_is_left(&host);
    let mut command = host.command(&["rehearse", "db"]);
    command.env("BKP_CRASH_AT", "rehearse-application:started").env("BKP_IDENTITY", host.identity());
    host.finish(host.start(command)).was_killed();
    let shown = docker(&["ps", "--filter", "label=bkp.scratch.source=db", "--format", "{{.Names}}"]);
    assert!(shown.lines().any(|name| name.ends_with("-application")), "{shown}");
    host.run(&["doctor", "--reap"]);
    nothing_is_left(&host);
}
