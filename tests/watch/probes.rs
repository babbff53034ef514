//! The probes, the scrape and the status of a running daemon, and who is let in.

use super::client::{ask, connect, get, get_with};
use super::scrape::Scrape;
use super::support::host::Running;
use super::support::wait_for;
use super::world::World;
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

const APP: &[(&str, &str)] = &[("source", "app"), ("policy", "app")];

/// A daemon on a free port, and where it listens.
pub fn listening(world: &World, more: &str) -> (Running, SocketAddr) {
    let repository = format!("repository: {{ url: \"{}\" }}\n", world.host.url);
    world.host.configure(&format!("{repository}http: {{ listen: \"127.0.0.1:0\"{more} }}\n"));
    let _ = fs::remove_file(world.host.path("state/http-address"));
    let mut daemon = world.daemon();
    daemon.until("the daemon listens", || address(world).is_some());
    let address = address(world).unwrap();
    (daemon, address)
}

fn address(world: &World) -> Option<SocketAddr> {
    fs::read_to_string(world.host.path("state/http-address")).ok()?.trim().parse().ok()
}

fn scrape(address: SocketAddr) -> Scrape {
    let wanted = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let response = get_with(address, "/metrics", &[("Accept", wanted)]);
    assert_eq!(response.status, 200);
    assert!(response.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    Scrape::openmetrics(&response.body)
}

#[test]
fn a_daemon_is_scraped_before_and_after_a_slot_and_after_it_was_killed() {
    let world = World::new();
    world.daily("deadline: 1h\nobjectives: { rpo: 26h }\n");
    let (daemon, address) = listening(&world, "");
    let before = scrape(address);
    let due: jiff::Timestamp = "2026-11-30T11:00:00Z".parse().unwrap();
    assert_eq!(before.value("bkp_backup_due_timestamp_seconds", APP), due.as_second() as f64);
    assert_eq!(before.get("bkp_backup_last_success_timestamp_seconds", APP), None);
    assert_eq!(before.value("bkp_config_last_reload_successful", &[]), 1.0);

    world.set_clock("2026-11-30T10:00:00Z");
    assert_eq!(world.ended("app", "2026-11-30T10:00:00Z"), "done");
    let slots = |scrape: &Scrape, end: &str| scrape.value("bkp_slots_total", &[("policy", "app"), ("result", end)]);
    let after =
        wait_for("the scrape of the slot", 30, || Some(scrape(address)).filter(|now| slots(now, "done") == 1.0));
    let success = after.value("bkp_backup_last_success_timestamp_seconds", APP);
    assert_eq!(after.value("bkp_backup_due_timestamp_seconds", APP), (due.as_second() + 86_400) as f64);

    daemon.signal(Signal::KILL);
    world.host.finish(daemon).was_killed();
    // A slot is missed meanwhile; one run makes up for it later.
    world.set_clock("2026-12-02T12:00:00Z");
    let (daemon, address) = listening(&world, "");
    let again = scrape(address);
    assert!(again.value("bkp_backup_last_success_timestamp_seconds", APP) >= success);
    assert_eq!(world.ended("app", "2026-12-02T10:00:00Z"), "done");
    let again =
        wait_for("the scrape of the slots", 30, || Some(scrape(address)).filter(|now| slots(now, "done") == 2.0));
    assert_eq!(slots(&again, "missed"), 1.0);
    assert!(again.value("bkp_rpo_attained_seconds", APP) > 2.0 * 86_400.0);
    // Old scrapers get the old format.
    let old = get(address, "/metrics");
    assert!(old.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    assert_eq!(slots(&Scrape::prometheus(&old.body), "missed"), 1.0);
    world.stop(daemon);
    assert_eq!(self::address(&world), None);
}

#[test]
fn probes_say_whether_and_the_exit_code_too() {
    let world = World::new();
    world.daily("objectives: { rpo: 26h }\n");
    world.run(&["healthcheck"]).fails(1, "no daemon of this host listens", "bkp daemon");
    let (daemon, address) = listening(&world, "");
    assert_eq!(get(address, "/livez").status, 200);
    let ready = wait_for("it is ready", 30, || Some(get(address, "/readyz")).filter(|answer| answer.status == 200));
    assert_eq!(ready.body, "ready\n");
    world.run(&["healthcheck"]).ends(0).says("alive");
    world.run(&["healthcheck", "--ready", "--json"]).ends(0).says("\"ok\": true");
    world.run(&["healthcheck", "--objective"]).ends(5).says("app has no backup");
    world.run(&["backup"]).ends(0);
    world.run(&["healthcheck", "--objective"]).ends(0);
    world.stop(daemon);

    // The daemon is not to be restarted because its store is gone: it lives, and is not ready.
    fs::rename(world.host.store(), world.host.path("away")).unwrap();
    let (daemon, address) = listening(&world, "");
    assert_eq!(get(address, "/livez").status, 200);
    let unready = get(address, "/readyz");
    assert_eq!((unready.status, unready.body.as_str()), (503, "the repository cannot be reached\n"));
    world.run(&["healthcheck", "--ready"]).ends(1).says("the repository cannot be reached");
    // Stopped by force, its address is left, and nobody answers there.
    daemon.signal(Signal::KILL);
    world.host.finish(daemon).was_killed();
    world.run(&["healthcheck"]).fails(1, "does not answer", "Is it running?");
}

#[test]
fn a_loop_that_stands_still_is_not_alive() {
    let world = World::new();
    let (daemon, address) = listening(&world, "");
    assert_eq!(get(address, "/livez").status, 200);
    daemon.signal(Signal::STOP);
    // The kernel accepts, and nobody answers.
    world.run(&["healthcheck", "--timeout", "1s"]).fails(1, "does not answer", "Is it running?");
    daemon.signal(Signal::CONT);
    assert_eq!(get(address, "/livez").status, 200);
    world.stop(daemon);
}

#[test]
fn the_status_says_what_bkp_status_says() {
    let world = World::new();
    world.daily("objectives: { rpo: 26h }\n");
    world.run(&["backup"]).ends(0);
    let (daemon, address) = listening(&world, "");
    let response = get(address, "/api/v1/status");
    assert_eq!(response.headers["content-type"], "application/json");
    let status: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    let known = world.run(&["status", "--json"]).ends(0).json();
    for key in ["source", "policy", "verdict", "rpo_seconds"] {
        assert_eq!(status["sources"][0][key], known["sources"][0][key], "{key}");
    }
    for key in ["point", "id", "consistent_at", "bytes"] {
        assert_eq!(status["sources"][0]["newest"][key], known["sources"][0]["newest"][key], "{key}");
    }
    assert_eq!((&status["ok"], &status["repository"]), (&known["ok"], &known["repository"]));
    assert_eq!(status["concerns"], serde_json::json!([]));
    world.stop(daemon);
}

#[test]
fn a_page_that_rebinds_a_name_sees_nothing() {
    let world = World::new();
    world.daily("");
    let (daemon, address) = listening(&world, ", hosts: [bkp.example]");
    for path in ["/", "/metrics", "/api/v1/status", "/livez"] {
        assert_eq!(get_with(address, path, &[("Host", "evil.example")]).status, 421, "{path}");
        assert_eq!(get_with(address, path, &[("Host", "bkp.example")]).status, 200, "{path}");
        assert_eq!(get_with(address, path, &[("Host", "127.0.0.1:1")]).status, 200, "{path}");
    }
    assert_eq!(get(address, "/nothing").status, 404);
    let response = ask(address, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(response.status, 405);
    world.stop(daemon);
}

#[test]
fn beyond_loopback_a_token_is_wanted_and_config_check_says_so() {
    let world = World::new();
    world.daily("");
    let repository = format!("repository: {{ url: \"{}\" }}\n", world.host.url);
    world.host.configure(&format!("{repository}http: {{ listen: \"0.0.0.0:0\" }}\n"));
    world.run(&["config", "check"]).ends(2).says("whoever reaches this address could read along").says("token_file");
    let token = "a token that nobody guesses";
    fs::write(world.host.path("secret"), format!("{token}\n")).unwrap();
    let file = world.host.text("secret");
    world.host.configure(&format!("{repository}http: {{ listen: \"0.0.0.0:0\", token_file: \"{file}\" }}\n"));
    world.run(&["config", "check"]).ends(0);
    world.run(&["config", "show"]).ends(0).says("ref+file://");
    let mut daemon = world.daemon();
    daemon.until("the daemon listens", || address(&world).is_some());
    let address = address(&world).unwrap();
    for path in ["/", "/metrics", "/api/v1/status", "/nothing"] {
        let refused = get(address, path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.headers["www-authenticate"].starts_with("Basic"));
        assert_eq!(get_with(address, path, &[("Authorization", "Bearer a token that nobody guesseT")]).status, 401);
    }
    let bearer = format!("Bearer {token}");
    assert_eq!(get_with(address, "/metrics", &[("Authorization", &bearer)]).status, 200);
    assert_eq!(
        get_with(address, "/metrics", &[("Authorization", "Basic YTphIHRva2VuIHRoYXQgbm9ib2R5IGd1ZXNzZXM=")]).status,
        200
    );
    for probe in ["/livez", "/readyz"] {
        assert_eq!(get(address, probe).status, 200, "{probe}");
    }
    world.run(&["healthcheck"]).ends(0);
    world.stop(daemon);
    fs::remove_file(&file).unwrap();
    fs::write(world.host.path("home/token"), "abc").unwrap();
    let file = world.host.text("home/token");
    world.host.configure(&format!("{repository}http: {{ listen: \"0.0.0.0:0\", token_file: \"{file}\" }}\n"));
    world.run(&["daemon"]).fails(2, "too short", "openssl rand");
}

#[test]
fn slow_clients_hold_up_nobody_and_large_heads_are_refused() {
    let world = World::new();
    let (daemon, address) = listening(&world, "");
    let mut slow: Vec<_> = (0..200).map(|_| connect(address)).collect();
    slow.iter_mut().for_each(|client| drop(client.write_all(b"GET / HTTP/1.1\r\nHost: local")));
    for _ in 0..3 {
        assert_eq!(get(address, "/livez").status, 200);
    }
    // The oldest were sent away.
    let mut nothing = [0; 1];
    assert!(matches!(slow[0].read(&mut nothing), Ok(0) | Err(_)));
    drop(slow);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    let mut client = connect(address);
    let _ = client.write_all(long.as_bytes());
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    world.stop(daemon);
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let repository = format!("repository: {{ url: \"{}\" }}\n", world.host.url);
    world.host.configure(&format!("{repository}http: {{ listen: \"{address}\" }}\n"));
    world.run(&["daemon"]).fails(1, "cannot listen on", "listen: off");
}

#[test]
fn a_configuration_that_was_refused_is_told_and_the_old_one_shown() {
    let world = World::new();
    world.daily("");
    let (mut daemon, address) = listening(&world, "");
    world.policy("broken", "policy: [");
    daemon.signal(Signal::HUP);
    daemon.until("the refusal is told", || scrape(address).value("bkp_config_last_reload_successful", &[]) == 0.0);
    assert!(scrape(address).get("bkp_backup_due_timestamp_seconds", APP).is_some());
    fs::remove_file(world.host.path("etc/policies.d/broken.yaml")).unwrap();
    world.policy("other", &format!("policy: other\nsources:\n  {}\n", world.app("second")));
    daemon.signal(Signal::HUP);
    daemon.until("the new one is told", || {
        scrape(address).get("bkp_backup_failures_in_a_row", &[("source", "second")]) == Some(0.0)
    });
    assert_eq!(scrape(address).value("bkp_config_last_reload_successful", &[]), 1.0);
    world.stop(daemon);
}
