//! Servers that are started again in the middle of a rotation, under clients that log in all the time; and a MinIO whose data were put
//! back meanwhile. The others are in failovers.rs (MariaDB, PostgreSQL), redis.rs, mysql.rs and put_back.rs (MongoDB).

use super::kills::wait_for_distance;
use super::minio::AccessKeys;
use super::postgres::{Postgres, Single};
use super::redis::Valkey;
use super::support::vault::Vault;
use super::world::{Ends, Target, World, in_address};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Killed at each of these, and the server with it; at the last one it is started again while bkp is at it.
const POINTS: [&str; 3] = ["rotate:accepted", "rotate:published", "rotate:retired"];
const AT_WORK: &str = "rotate:moved";

fn is_started_again(world: &World, restart: &dyn Fn()) {
    let mut current = world.old.clone();
    for point in POINTS {
        world.dies_at(point, &["shop-db"]);
        restart();
        world.nobody_was_refused();
        world.rotate(&["resume", "shop-db"]).ends(0);
        current = world.one_password_works(&current);
        wait_for_distance(world);
    }
    let stopped = world.stops_at(AT_WORK, &["shop-db"]);
    restart();
    stopped.signal(Signal::CONT);
    world.host.finish(stopped).ends(0);
    world.one_password_works(&current);
}

#[test]
fn a_valkey_that_is_started_again_in_the_middle_locks_nobody_out() {
    let part = "rotations of Valkey with restarts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Valkey::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    is_started_again(&world, &|| server.restart());
}

/// Without clients: they are refused in the gap.
#[test]
fn a_single_role_whose_server_is_started_again_or_put_back_is_brought_to_its_end() {
    let part = "rotations of a single role with restarts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    let server = Arc::new(Single(server));
    let world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.has_no_clients();
    let mut current = world.old.clone();
    for point in ["rotate:accepted", "rotate:published", "rotate:moved"] {
        world.dies_at(point, &["shop-db"]);
        server.0.restart();
        world.rotate(&["resume", "shop-db"]).ends(0);
        current = world.one_password_works(&current);
        wait_for_distance(&world);
    }
    // It has the password of before again, which nobody reads any more.
    for point in ["rotate:published", "rotate:moved"] {
        world.dies_at(point, &["shop-db"]);
        server.0.query(&format!("ALTER ROLE app PASSWORD '{current}'"));
        world.rotate(&["resume", "shop-db"]).ends(0);
        current = world.one_password_works(&current);
        wait_for_distance(&world);
    }
}

#[test]
fn a_minio_that_is_started_again_in_the_middle_locks_nobody_out() {
    let part = "rotations of access keys with restarts";
    let (Some(vault), Some(keys)) = (Vault::shared(part), AccessKeys::alone(part)) else { return };
    let keys = Arc::new(keys);
    let mut world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    world.open_shop();
    is_started_again(&world, &|| keys.restart());
    assert_eq!(keys.keys(), [world.published_user()]);
}

/// The new key is not there any more, and the old one is again.
#[test]
fn a_minio_that_was_put_back_in_the_middle_is_told_the_new_key_again() {
    let part = "rotations of access keys and a MinIO that was put back";
    let (Some(vault), Some(keys)) = (Vault::shared(part), AccessKeys::alone(part)) else { return };
    let keys = Arc::new(keys);
    let mut world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    let mut current = world.old.clone();
    for point in ["rotate:published", "rotate:moved", "rotate:retired"] {
        let copy = keys.copy();
        // Nobody has the new one yet: whoever uses it may be there all the time.
        let is_open = point == "rotate:published";
        match is_open {
            true => world.open_shop(),
            false => world.has_no_clients(),
        }
        world.dies_at(point, &["shop-db"]);
        keys.put_back(&copy);
        world.rotate(&["resume", "shop-db"]).ends(0);
        current = world.one_password_works(&current);
        assert_eq!(keys.keys(), [world.published_user()], "{point}");
        world.close_shop();
        wait_for_distance(&world);
    }
    goes_back_further(&world, &keys);
    removed_by_hand(&world, &keys);
}

/// To before what was in force when the rotation was begun: neither key is there, but one from before.
fn goes_back_further(world: &World, keys: &AccessKeys) {
    let copy = keys.copy();
    let first = (world.published_user(), world.published());
    world.rotate(&["shop-db"]).ends(0);
    wait_for_distance(world);
    let second = (world.published_user(), world.published());
    world.dies_at("rotate:published", &["shop-db"]);
    keys.put_back(&copy);
    world.rotate(&["resume", "shop-db"]).fails(12, "accepts neither the old nor the new", "bkp rotate reapply shop-db");
    keys.log_in_as(&first.0, &first.1).unwrap();
    world.rotate(&["reapply", "shop-db"]).ends(0);
    // Both of the rotation, as whoever was moved has the one and others have the other; and that from before no more.
    for (user, secret) in [&second, &(world.published_user(), world.published())] {
        keys.log_in_as(user, secret).unwrap();
    }
    keys.log_in_as(&first.0, &first.1).unwrap_err();
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&second.1);
    assert_eq!(keys.keys(), [world.published_user()]);
    // The same where no rotation is under way: today's is made again.
    keys.put_back(&copy);
    let today = (world.published_user(), world.published());
    keys.log_in_as(&today.0, &today.1).unwrap_err();
    wait_for_distance(world);
    world.rotate(&["shop-db"]).fails(12, "refuses the password that is published", "Publish what its consumers have");
    while_somebody_signs(keys, &first, || {
        world.consumers_are("      web: { command: [\"true\"], patience: 1s }\n");
        let refused = world.rotate(&["reapply", "shop-db"]);
        refused.fails(13, &format!("signs with the access key {}", first.0), "remove that key by hand");
        keys.log_in_as(&today.0, &today.1).unwrap();
    });
    world.has_no_clients();
    world.rotate(&["reapply", "shop-db"]).ends(0);
    keys.log_in_as(&today.0, &today.1).unwrap();
    assert_eq!(keys.keys(), [today.0]);
}

/// And is refused at no time.
fn while_somebody_signs(keys: &AccessKeys, (id, secret): &(String, String), act: impl FnOnce()) {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        let somebody = scope.spawn(|| {
            while !end.load(SeqCst) {
                keys.log_in_as(id, secret).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        });
        act();
        drop(ends);
        somebody.join().unwrap();
    });
}

/// Where there is none to make another one as, somebody does what bkp says.
fn removed_by_hand(world: &World, keys: &AccessKeys) {
    let old = world.published();
    world.dies_at("rotate:published", &["shop-db"]);
    for id in keys.keys() {
        keys.is_removed_by_hand(&id);
    }
    let hint = "make an access key by hand with the name and the secret that are published";
    world.rotate(&["resume", "shop-db"]).fails(12, "accepts neither the old nor the new", hint);
    world.rotate(&["reapply", "shop-db"]).fails(13, "no access key of the name that is published", "by hand");
    keys.is_made_by_hand(&world.published_user(), &world.published());
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&old);
    let (user, password) = in_address(&fs::read_to_string(world.env_file("web")).unwrap());
    assert_eq!(json!([user, password]), json!([world.published_user(), world.published()]));
}
