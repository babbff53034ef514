//! Bad days of Vault while a password is rotated: it is sealed, throttled, lags behind, says nothing, or loses its answers. Nothing new is
//! begun and nothing is retired while it cannot be read, and resuming converges.

use super::kills::wait_for_distance;
use super::servers::Mariadb;
use super::support::host::Host;
use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use super::world::World;
use std::fs;

pub const AWAY: [Act; 5] = [
    Act::Answer(503, r#"{"errors":["Vault is sealed"]}"#),
    Act::Answer(412, r#"{"errors":["required index state not present"]}"#),
    Act::Answer(429, r#"{"errors":["request path: rate limit quota exceeded"]}"#),
    Act::Silence,
    // What is written takes place, and nobody hears of it.
    Act::Lose,
];

/// From now on, its bkp speaks to Vault through the proxy, and is soon done with waiting.
pub fn is_behind(host: &Host, proxy: &Proxy, vault: &Vault) {
    let path = host.path("etc/bkp.yaml");
    let text = fs::read_to_string(&path).unwrap().replace(&vault.address(), &proxy.address());
    fs::write(path, text.replace("token_file", "timeout: 1s, token_file")).unwrap();
}

fn behind(proxy: &Proxy, vault: &'static Vault, server: Mariadb) -> World {
    let world = World::new(vault, server);
    is_behind(&world.host, proxy, vault);
    world
}

pub fn retired(world: &World) -> usize {
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
