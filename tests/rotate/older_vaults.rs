//! A Vault that was sealed in the middle of a rotation, or comes back as it was some time ago, for one target of each kind: one whose
//! account has two passwords, two that take turns and are locked when theirs is over, and keys that are removed.

use super::kills::{wait_for_a_moment, wait_for_distance};
use super::minio::AccessKeys;
use super::mongo::Ferretdb;
use super::postgres::Postgres;
use super::servers::Mariadb;
use super::signing;
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

/// Of the rotation that was under way Vault knows nothing any more; both secrets are sealed on the host.
fn is_gone_on_with(world: &World) {
    for arguments in [&["shop-db"][..], &["resume", "shop-db"]] {
        world.rotate(arguments).fails(12, "brought back to a state from before shop-db was begun", "--identity");
    }
    world.nobody_was_refused();
    world.host.read(&["rotate", "resume", "shop-db"]).ends(0);
}

/// Where each of the worlds is when Vault goes back.
const ROUNDS: [[&str; 4]; 2] = [
    ["rotate:escrowed", "rotate:published", "rotate:moved", "rotate:retired"],
    ["rotate:retired", "rotate:moved", "rotate:retired", "rotate:published"],
];

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
    for points in ROUNDS {
        let older = state(vault);
        in_each(&worlds, |at, world| world.dies_at(points[at], &["shop-db"]));
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
        (world.published_user(), world.one_password_works(&current[at]))
    });
    in_each(worlds, |_, world| world.dies_at("rotate:moved", &["shop-db"]));
    is_sealed_in_between(vault, worlds, &second);
    go_back(vault, &older);
    in_each(worlds, |at, world| {
        world.rotate(&["shop-db", "--dry-run"]).fails(12, "brought back to a state from before", "--identity");
        // With the recovery key it is told to Vault, and whoever goes on from there needs none.
        let mut command = world.host.command(&["rotate", "resume", "shop-db"]);
        command.env("BKP_CRASH_AT", "rotate:recorded-anew").env("BKP_IDENTITY", world.host.identity());
        world.host.finish(world.host.start(command)).was_killed();
        // Somebody changes what stands beside it, as who takes over does.
        let there = json!({ "user": world.published_user(), "password": world.published(), "note": "of the shop" });
        vault.write(&world.name, there);
        world.rotate(&["resume", "shop-db"]).ends(0);
        for old in [&current[at], &second[at].1] {
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

/// The list of keys comes back with Vault: both are in it again before anything else is done.
#[test]
fn keys_that_a_vault_lost_are_listed_again() {
    let Some(vault) = vault("signing keys and a Vault that is restored") else { return };
    let (pem, public) = signing::ec(&signing::PKCS8);
    let shop = signing::Shop::new(vault, (&pem, public), "ES256", "");
    let resume = ["rotate", "resume", "tokens"];
    let is_over = |shop: &signing::Shop, new: &str| {
        assert_eq!((shop.published().0.as_str(), shop.kids()), (new, vec!["other".to_owned(), new.to_owned()]));
        signing::verify(&shop.sign(), &shop.keys()).unwrap();
        wait_for_a_moment(&shop.host);
    };
    let older = state(vault);
    shop.dies_at("rotate:retired", &["rotate", "tokens"]);
    let (new, token) = (shop.published().0, shop.sign());
    go_back(vault, &older);
    signing::verify(&token, &shop.keys()).unwrap_err();
    shop.host.run(&resume).fails(12, "brought back to a state from before tokens was begun", "--identity");
    shop.host.read(&resume).ends(0);
    signing::verify(&token, &shop.keys()).unwrap();
    is_over(&shop, &new);
    // Further back: who signs has a key that is in the list no more, and neither is the next one.
    let older = state(vault);
    shop.host.run(&["rotate", "tokens"]).ends(0);
    let second = shop.published();
    wait_for_a_moment(&shop.host);
    shop.dies_at("rotate:accepted", &["rotate", "tokens"]);
    go_back(vault, &older);
    shop.host.read(&resume).ends(0);
    let third = shop.published().0;
    assert!(third != new && third != second.0);
    // Neither what was in force, nor what Vault had, is good any more.
    is_over(&shop, &third);
    vault.stop();
}

/// Nothing is taken away while it is, and nobody is kept waiting.
fn is_sealed_in_between(vault: &Vault, worlds: &[World], old: &[(String, String)]) {
    let published: Vec<_> = worlds.iter().map(|world| (world.published_user(), world.published())).collect();
    vault.seal();
    in_each(worlds, |at, world| {
        world.rotate(&["resume", "shop-db", "--patience", "1s"]).fails(75, "Vault at", "");
        for (user, password) in [&old[at], &published[at]] {
            world.target.log_in_as(user, password).unwrap();
        }
        world.nobody_was_refused();
    });
    vault.unseal();
}
