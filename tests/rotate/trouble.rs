//! Bad days: a consumer that does not come up, a Vault that is away, two hosts at once, sessions that nobody told of.

use super::servers::Mariadb;
use super::support::vault::Vault;
use super::world::{Target, World};
use serde_json::json;
use std::fs;
use std::sync::Arc;

#[test]
fn a_consumer_that_does_not_come_up_is_a_reason_to_go_back() {
    let part = "rotations of MariaDB that fail";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let mut world = World::new(vault, server);
    world.open_shop();
    let old = world.old.clone();
    world.works_only_with("worker", &old);
    let answer = world.rotate(&["shop-db"]).fails(1, "the old password is in force: worker", "rotate again");
    let states = world.states();
    assert!(states.ends_with(&["undone", "persisted", "rolled_back"].map(str::to_owned)), "{states:?}");
    assert_eq!(world.published(), old);
    world.nobody_was_refused();
    assert_eq!(world.one_password_works(&world.last_pending()), old);
    drop(answer);
    // Mended, it can be done.
    world.is_mended("worker");
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&old);
}

#[test]
fn while_vault_is_away_nothing_is_retired() {
    let part = "rotations without Vault";
    let (Some(vault), Some(server)) = (Vault::alone(part), Mariadb::start(part)) else { return };
    let vault: &'static Vault = Box::leak(Box::new(vault));
    let mut world = World::new(vault, server);
    world.open_shop();
    let old = world.old.clone();
    world.dies_at("rotate:published", &["shop-db"]);
    let pending = world.record()["pending"].as_str().unwrap().to_owned();
    for (away, back) in [(Vault::seal as fn(&Vault), Vault::unseal as fn(&Vault)), (Vault::stop, Vault::start_again)] {
        away(vault);
        world.rotate(&["resume", "shop-db", "--patience", "1s"]).fails(75, "Vault at", "");
        world.target.log_in(&old).unwrap();
        world.target.log_in(&pending).unwrap();
        back(vault);
    }
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&old);
    vault.stop();
}

#[test]
fn two_hosts_do_not_rotate_one_password_together() {
    let part = "rotations by two hosts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let world = World::new(vault, server);
    let other = world.other_host();
    world.dies_at("rotate:accepted", &["shop-db"]);
    for arguments in [&["rotate", "shop-db"][..], &["rotate", "resume", "shop-db"], &["rotate", "rollback", "shop-db"]]
    {
        other.run(arguments).fails(11, "is being rotated by", "bkp rotate status");
    }
    other.run(&["rotate", "status"]).ends(0).says("under way by");
    // The host itself may go on at once: its lock tells that nobody else of it is at it.
    world.rotate(&["rollback", "shop-db"]).ends(0);
    assert_eq!(world.one_password_works(&world.last_pending()), world.old);
}

/// Both are told what to put right, and nothing is changed.
#[test]
fn what_does_not_fit_together_is_refused_before_anything_is_changed() {
    let part = "rotations that are refused";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let server: Arc<dyn Target> = Arc::new(server);
    let world = World::with(vault, Arc::clone(&server), "");
    fs::write(world.env_file("worker"), "DATABASE_URL=mysql://app:another@db/app\n").unwrap();
    world.rotate(&["shop-db", "--dry-run"]).fails(13, "worker does not hold the password", "Correct");
    vault.write(&world.name, json!({ "password": "wrong" }));
    world.rotate(&["shop-db"]).fails(13, "has another password than the one that is published", "one password");
    world.target.log_in(&world.old).unwrap();
    vault.write(&world.name, json!({ "other": "x" }));
    world.rotate(&["shop-db"]).fails(12, "no password is published", "vault kv put");
    world.rotate(&["shop"]).fails(2, "there is no rotation `shop`", "Configured are: shop-db");
    world.rotate(&["resume", "shop-db"]).ends(12);
}
