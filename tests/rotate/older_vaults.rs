//! A Vault that was sealed in the middle of a rotation, or comes back as it was some time ago, for one target of each kind: one whose
//! account has two passwords, two that take turns and are locked when theirs is over, and keys that are removed.

use super::kills::wait_for_distance;
use super::minio::AccessKeys;
use super::mongo::Ferretdb;
use super::postgres::Postgres;
use super::servers::Mariadb;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{CONSUMERS, World, in_address};
use bkp::durable::random_hex;
use serde_json::json;
use std::fs;

/// A Vault that can go back.
fn vault(part: &str) -> Option<&'static Vault> {
    let vault: &'static Vault = Box::leak(Box::new(Vault::with_raft(part)?));
    vault.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } }));
    wait_for("the key-value engine", 30, || vault.try_put("kv/data/probe", json!({ "data": {} })).then_some(()));
    Some(vault)
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

/// In each world at the same time: they have one Vault.
fn in_each<T: Send>(worlds: &[World], act: impl Fn(usize, &World) -> T + Sync) -> Vec<T> {
    let act = &act;
    std::thread::scope(|scope| {
        let all: Vec<_> = worlds.iter().enumerate().map(|(at, world)| scope.spawn(move || act(at, world))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// As its consumers have it.
fn in_use(world: &World) -> (String, String) {
    in_address(&fs::read_to_string(world.env_file(CONSUMERS[0])).unwrap())
}

/// Of the rotation that was under way Vault knows nothing any more; the new password is sealed on the host.
fn is_gone_on_with(world: &World) {
    for arguments in [&["shop-db"][..], &["shop-db", "--dry-run"], &["resume", "shop-db"]] {
        world.rotate(arguments).fails(12, "brought back to a state from before shop-db was begun", "--identity");
    }
    world.nobody_was_refused();
    world.host.read(&["rotate", "resume", "shop-db"]).ends(0);
}

#[test]
fn a_vault_that_came_back_from_an_older_snapshot_is_told_what_it_lost() {
    let part = "rotations and a Vault that is restored";
    let Some(vault) = vault(part) else { return };
    let (Some(mariadb), Some(postgres)) = (Mariadb::start(part), Postgres::start(part, &[])) else { return };
    let (Some(mongo), Some(keys)) = (Ferretdb::start(part), AccessKeys::start(part)) else { return };
    let mut worlds =
        [World::new(vault, mariadb), World::new(vault, postgres), World::new(vault, mongo), World::new(vault, keys)];
    worlds.iter_mut().for_each(World::open_shop);
    let mut current: Vec<String> = worlds.iter().map(|world| world.old.clone()).collect();
    for point in ["rotate:escrowed", "rotate:published", "rotate:moved", "rotate:retired"] {
        let older = state(vault);
        in_each(&worlds, |_, world| world.dies_at(point, &["shop-db"]));
        if point == "rotate:published" {
            is_sealed_in_between(vault, &worlds, &current);
        }
        go_back(vault, &older);
        current = in_each(&worlds, |at, world| {
            is_gone_on_with(world);
            wait_for_distance(world);
            world.one_password_works(&current[at])
        });
    }
    goes_back_further(vault, &worlds, &current);
    goes_back_when_all_is_done(vault, &worlds);
    vault.stop();
}

/// What is published then is older than what was in force when the rotation was begun.
fn goes_back_further(vault: &Vault, worlds: &[World], current: &[String]) {
    let older = state(vault);
    let second = in_each(worlds, |at, world| {
        world.rotate(&["shop-db"]).ends(0);
        wait_for_distance(world);
        world.one_password_works(&current[at])
    });
    in_each(worlds, |_, world| world.dies_at("rotate:moved", &["shop-db"]));
    go_back(vault, &older);
    in_each(worlds, |at, world| {
        is_gone_on_with(world);
        for old in [&current[at], &second[at]] {
            world.one_password_works(old);
        }
        wait_for_distance(world);
    });
}

/// Vault alone has the old one: nothing is changed until somebody says which is right.
fn goes_back_when_all_is_done(vault: &Vault, worlds: &[World]) {
    let older = state(vault);
    let before = in_each(worlds, |_, world| {
        let before = world.published();
        world.rotate(&["shop-db"]).ends(0);
        before
    });
    go_back(vault, &older);
    in_each(worlds, |at, world| {
        let (user, password) = in_use(world);
        // One that keeps its name is asked for its passwords; of those that take turns, nothing is said that would lock the wrong one.
        let (code, what, hint) = match at {
            0 => (13, "has another password than the one that is published", "one password"),
            _ => (12, "refuses the password that is published", "Publish what its consumers have"),
        };
        for arguments in [&["shop-db"][..], &["shop-db", "--dry-run"]] {
            world.rotate(arguments).fails(code, what, hint);
        }
        world.nobody_was_refused();
        world.target.log_in_as(&user, &password).unwrap();
        vault.write(&world.name, json!({ "user": user, "password": password }));
        // What the other one was locked with is forgotten, too.
        world.rotate(&["reapply", "shop-db"]).ends(0);
        wait_for_distance(world);
        world.rotate(&["shop-db"]).ends(0);
        for old in [&before[at], &password] {
            world.one_password_works(old);
        }
    });
}

/// Nothing is taken away while it is, and nobody is kept waiting.
fn is_sealed_in_between(vault: &Vault, worlds: &[World], current: &[String]) {
    let users: Vec<String> = worlds.iter().map(|world| in_use(world).0).collect();
    let published: Vec<_> = worlds.iter().map(|world| (world.published_user(), world.published())).collect();
    vault.seal();
    in_each(worlds, |at, world| {
        world.rotate(&["resume", "shop-db", "--patience", "1s"]).fails(75, "Vault at", "");
        world.target.log_in_as(&users[at], &current[at]).unwrap();
        world.target.log_in_as(&published[at].0, &published[at].1).unwrap();
        world.nobody_was_refused();
    });
    vault.unseal();
}
