//! Bad days of Vault while a password is rotated: it is sealed, throttled, lags behind, says nothing, loses its answers, or comes
//! back as it was some time ago. Nothing new is begun and nothing is retired while it cannot be read, and resuming converges.

use super::servers::Mariadb;
use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use super::world::{CONSUMERS, World};
use bkp::durable::random_hex;
use serde_json::json;
use std::fs;

/// A world whose bkp speaks to Vault through the proxy, and is soon done with waiting.
fn behind(proxy: &Proxy, vault: &'static Vault, server: Mariadb) -> World {
    let world = World::new(vault, server);
    world.configure(&proxy.address(), "");
    let path = world.host.path("etc/bkp.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("token_file", "timeout: 1s, token_file")).unwrap();
    world
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
        (0..2).for_each(|_| world.host.next_second());
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
    (0..2).for_each(|_| world.host.next_second());
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&new);
    vault.stop();
}
