//! Bad days of Vault while a password is rotated: it is sealed, throttled, lags behind, says nothing, loses its answers, or comes
//! back as it was some time ago. Nothing new is begun and nothing is retired while it cannot be read, and resuming converges.

use super::kills::wait_for_distance;
use super::servers::Mariadb;
use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use super::world::{CONSUMERS, World};
use bkp::durable::random_hex;
use serde_json::json;
use std::fs;

const AWAY: [Act; 5] = [
    Act::Answer(503, r#"{"errors":["Vault is sealed"]}"#),
    Act::Answer(412, r#"{"errors":["required index state not present"]}"#),
    Act::Answer(429, r#"{"errors":["request path: rate limit quota exceeded"]}"#),
    Act::Silence,
    // What is written takes place, and nobody hears of it.
    Act::Lose,
];

/// A world whose bkp speaks to Vault through the proxy, and is soon done with waiting.
fn behind(proxy: &Proxy, vault: &'static Vault, server: Mariadb) -> World {
    let world = World::new(vault, server);
    world.configure(&proxy.address(), "");
    let path = world.host.path("etc/bkp.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("token_file", "timeout: 1s, token_file")).unwrap();
    world
}

fn retired(world: &World) -> usize {
    world.states().iter().filter(|state| *state == "retired").count()
}

/// From the first request on, then from a later one, until a rotation passes: each time Vault is away in another way.
#[test]
fn whenever_vault_goes_away_nothing_is_lost_and_resuming_converges() {
    let part = "rotations while Vault goes away";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let proxy = Proxy::new(vault.port());
    let mut world = behind(&proxy, vault, server);
    world.open_shop();
    let mut current = world.old.clone();
    let mut rounds = 0;
    for requests in (0..).step_by(8) {
        let before = retired(&world);
        proxy.pass(requests, AWAY[rounds % AWAY.len()].clone());
        let answer = world.rotate(&["shop-db", "--patience", "1s"]);
        if proxy.is_mended() {
            answer.ends(0);
            break;
        }
        println!("after {requests} requests, {:?}: {}", AWAY[rounds % AWAY.len()], answer.err);
        world.nobody_was_refused();
        // There is none before the first write.
        let (_, record) = vault.ask("GET", &format!("kv/data/bkp/{}/shop-db", world.name), None, &[]);
        if retired(&world) == before {
            world.target.log_in(&current).unwrap();
        }
        if let Some(pending) = record["data"]["data"]["pending"].as_str().filter(|_| world.published() != current) {
            world.target.log_in(pending).unwrap();
        }
        world.rotate(&["resume", "shop-db"]).ends(0);
        if world.published() != current {
            current = world.one_password_works(&current);
        }
        wait_for_distance(&world);
        rounds += 1;
    }
    assert!(rounds >= AWAY.len(), "only {rounds} rounds: it hardly went away");
    world.one_password_works(&current);
}

/// Every write takes place twice as far as bkp knows, and once in truth.
#[test]
fn answers_that_are_lost_once_change_nothing() {
    let part = "rotations whose answers are lost";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let proxy = Proxy::new(vault.port());
    let mut world = behind(&proxy, vault, server);
    world.open_shop();
    let old = world.old.clone();
    let acts: Vec<Act> = std::iter::repeat_n([Act::Lose, Act::Pass], 100).flatten().collect();
    proxy.next(&acts);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&old);
}

/// While a consumer takes long, the answers to what says so are lost, all tries of some: that was this process, and nobody else.
#[test]
fn a_lease_whose_renewal_was_not_heard_of_is_its_own() {
    let part = "rotations whose answers are lost";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let proxy = Proxy::new(vault.port());
    let mut world = behind(&proxy, vault, server);
    world.lease("8s");
    world.open_shop();
    let old = world.old.clone();
    fs::write(world.host.path("broken-web"), "nothing that it holds").unwrap();
    let at_work = world.host.start(world.host.command(&["rotate", "shop-db", "--patience", "1s"]));
    wait_for("web is told", 60, || world.states().contains(&"reloaded".to_owned()).then_some(()));
    let version = || vault.get(&format!("kv/data/bkp/{}/shop-db", world.name))["metadata"]["version"].as_u64().unwrap();
    let before = version();
    proxy.always(Act::Lose);
    wait_for("a renewal that nobody heard of", 60, || (version() > before).then_some(()));
    proxy.always(Act::Pass);
    world.is_mended("web");
    world.host.finish(at_work).ends(0);
    world.one_password_works(&old);
}

/// A state to go back to, and what was written just after it.
fn state(vault: &Vault) -> (Vec<u8>, String) {
    let (snapshot, mark) = (vault.snapshot(), random_hex(8));
    vault.write("since", json!({ "mark": mark }));
    (snapshot, mark)
}

/// Vault goes back in the background; it is there when it has forgotten.
fn go_back(vault: &Vault, (snapshot, mark): &(Vec<u8>, String)) {
    vault.go_back_to(snapshot);
    wait_for("Vault to forget", 60, || {
        let (status, answer) = vault.ask("GET", "kv/data/since", None, &[]);
        let forgot = status == 404 || status == 200 && answer["data"]["data"]["mark"] != mark.as_str();
        forgot.then_some(())
    });
}

/// Of the rotation that was under way Vault knows nothing any more; the new password is sealed on the host.
#[test]
fn a_vault_that_came_back_from_an_older_snapshot_is_told_what_it_lost() {
    let part = "rotations and a Vault that is restored";
    let (Some(vault), Some(server)) = (Vault::with_raft(part), Mariadb::start(part)) else { return };
    let vault: &'static Vault = Box::leak(Box::new(vault));
    vault.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } }));
    wait_for("the key-value engine", 30, || vault.try_put("kv/data/probe", json!({ "data": {} })).then_some(()));
    let mut world = World::new(vault, server);
    world.open_shop();
    let mut current = world.old.clone();
    for point in ["rotate:escrowed", "rotate:published", "rotate:moved", "rotate:retired"] {
        let older = state(vault);
        world.dies_at(point, &["shop-db"]);
        go_back(vault, &older);
        for arguments in [&["shop-db"][..], &["shop-db", "--dry-run"], &["resume", "shop-db"]] {
            world.rotate(arguments).fails(12, "brought back to a state from before shop-db was begun", "--identity");
        }
        world.nobody_was_refused();
        world.host.read(&["rotate", "resume", "shop-db"]).ends(0);
        current = world.one_password_works(&current);
        wait_for_distance(&world);
    }
    // Everything was done, and Vault alone has the old one: nothing is changed until somebody says which is right.
    let older = state(vault);
    world.rotate(&["shop-db"]).ends(0);
    let new = world.published();
    go_back(vault, &older);
    world.rotate(&["shop-db"]).fails(13, "has another password than the one that is published", "");
    world.target.log_in(&new).unwrap();
    assert_eq!(fs::read_to_string(world.env_file(CONSUMERS[0])).unwrap(), world.env_text("app", &new));
    vault.write(&world.name, json!({ "user": "app", "password": new }));
    wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&new);
    vault.stop();
}
