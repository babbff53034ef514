//! Servers that were put back by other means than bkp, and have passwords of then.

use super::kills::wait_for_distance;
use super::mongo::Ferretdb;
use super::redis::{Redis, Valkey};
use super::restores::restore;
use super::support::vault::Vault;
use super::world::{Target, World};
use mongodb::bson::doc;
use std::sync::Arc;

/// `put_back` gives the users of then this password.
fn takes_what_is_published(vault: &'static Vault, target: Arc<dyn Target>, put_back: &dyn Fn(&str)) {
    let mut world = World::with(vault, target, "");
    let first = world.old.clone();
    let is_applied = |world: &World, refused: &str| {
        put_back(refused);
        world.rotate(&["reapply", "shop-db"]).ends(0).says("the password that is published now");
        world.target.log_in_as(&world.published_user(), &world.published()).unwrap();
        for user in world.target.users() {
            world.target.log_in_as(user, refused).unwrap_err();
        }
        world.rotate(&["reapply", "shop-db"]).ends(0).says("only what is published lets in");
    };
    // Of which Vault knows one version only.
    is_applied(&world, "of-the-backup");
    // In the middle of a rotation, where the new one was published already.
    world.dies_at("rotate:published", &["shop-db"]);
    put_back(&first);
    world.open_shop();
    world.rotate(&["resume", "shop-db"]).ends(0);
    world.one_password_works(&first);
    wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.close_shop();
    // Two rotations back: where names take turns, it is that of the same user.
    assert_ne!(world.published(), first);
    is_applied(&world, &first);
}

#[test]
fn redis_takes_what_is_published() {
    let part = "Redis that was put back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Redis::start(part)) else { return };
    let server = Arc::new(server);
    let put_back = |password: &str| server.set_up(password);
    takes_what_is_published(vault, Arc::clone(&server) as Arc<dyn Target>, &put_back);
}

#[test]
fn valkey_takes_what_is_published() {
    let part = "Valkey that was put back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Valkey::start(part)) else { return };
    let server = Arc::new(server);
    let put_back = |password: &str| server.set_up(password);
    takes_what_is_published(vault, Arc::clone(&server) as Arc<dyn Target>, &put_back);
}

#[test]
fn mongodb_takes_what_is_published() {
    let part = "MongoDB that was put back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    let server = Arc::new(server);
    let times = std::cell::Cell::new(0);
    let put_back = |password: &str| {
        for user in ["app_a", "app_b"] {
            // The other one may not be there yet.
            let _ = server.admin(doc! { "updateUser": user, "pwd": password });
        }
        times.set(times.get() + 1);
        // In the middle of a rotation, and started again.
        if times.get() == 2 {
            server.restart();
        }
    };
    takes_what_is_published(vault, Arc::clone(&server) as Arc<dyn Target>, &put_back);
}

/// The plug is pulled as soon as the data are live: whoever goes on finds the users there, and gives them their password.
#[test]
fn users_of_redis_are_made_before_the_data_go_live() {
    let part = "users of Redis that come back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Redis::start(part)) else { return };
    let server = Arc::new(server);
    for line in ["ACL SETUSER bkp-rotate +@all ~* &*", "ACL SETUSER ana on >hers ~* +get", "SET order 1"] {
        server.told(line);
    }
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.host.run(&["backup", "db"]).ends(0);
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    world.close_shop();
    let (old, today) = (world.old.clone(), world.published());
    for line in ["ACL DELUSER app", "ACL SETUSER ana off", "SET order 2"] {
        server.told(line);
    }
    restore(&world, &[("BKP_CRASH_AT", "restore:after-live")]).was_killed();
    assert_eq!(server.told("GET order"), "1");
    for password in [&old, &today] {
        world.target.log_in(password).unwrap_err();
    }
    world.rotate(&["reapply", "shop-db"]).ends(0).says("the password that is published now");
    world.target.log_in(&today).unwrap();
    world.target.log_in(&old).unwrap_err();
    // Somebody else is off, by a restore before or by hand.
    restore(&world, &[]).ends(3).says("users are off, and were on at the time of the point").says("ana");
}
