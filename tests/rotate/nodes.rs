//! Several nodes: one that is down when a rotation begins, one that is lost in the middle, one at which somebody is that nobody named.

use super::kills::wait_for_distance;
use super::minio::AccessKeys;
use super::support::minio_cluster::Cluster;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Ends, Target, World};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// The last one, at which bkp changes nothing.
const OTHER: usize = 2;

fn waits_for(world: &World, state: &str, times: usize) {
    let there = || world.states().iter().filter(|other| *other == state).count();
    wait_for(state, 60, || (there() == times).then_some(()));
}

/// Refused by each of them, and for that reason.
#[track_caller]
fn all_refuse(keys: &AccessKeys, user: &str, password: &str) {
    for answer in keys.at_each(user, password) {
        assert_eq!(answer.unwrap_err(), "InvalidAccessKeyId");
    }
}

#[test]
fn access_keys_are_rotated_at_every_node_of_minio() {
    let part = "access keys at several nodes";
    let (Some(vault), Some(cluster)) = (Vault::shared(part), Cluster::start(part)) else { return };
    let keys = Arc::new(AccessKeys::of(cluster.endpoints(), cluster.bucket().to_owned()));
    let mut world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    world.open_shop();
    let is_rotated = |world: &World, user: &str, old: &str| {
        world.one_password_works(old);
        all_refuse(&keys, user, old);
        assert_eq!(keys.keys(), [world.published_user()]);
        wait_for_distance(world);
        (world.published_user(), world.published())
    };

    // Down when it begins: nothing does.
    cluster.kill(OTHER);
    world.rotate(&["shop-db", "--dry-run"]).ends(75);
    let begun = world.host.start(world.host.command(&["rotate", "shop-db"]));
    cluster.start_again(OTHER);
    world.host.finish(begun).ends(0);
    let (user, old) = is_rotated(&world, keys.users()[0], &world.old);

    // Lost when everybody is about to be moved: they are, and nothing is taken away before it is there again.
    let stopped = world.stops_at("rotate:published", &["shop-db"]);
    cluster.kill(OTHER);
    stopped.signal(Signal::CONT);
    waits_for(&world, "moved", 4);
    world.nobody_was_refused();
    assert!(keys.is_on(&user) && keys.keys().len() == 2);
    cluster.start_again(OTHER);
    world.host.finish(stopped).ends(0);
    is_rotated(&world, &user, &old);
}

/// A program that nobody named, and that signs with the old key at another node than bkp watches at.
#[test]
fn whoever_signs_at_another_node_is_seen() {
    let part = "clients at several nodes";
    let (Some(vault), Some(cluster)) = (Vault::shared(part), Cluster::start(part)) else { return };
    let keys = Arc::new(AccessKeys::of(cluster.endpoints(), cluster.bucket().to_owned()));
    let world = World::with(vault, Arc::clone(&keys) as Arc<dyn Target>, "");
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        scope.spawn(|| {
            let other = AccessKeys::of(vec![cluster.endpoints()[OTHER].clone()], cluster.bucket().to_owned());
            while !end.load(SeqCst) {
                other.log_in_as(keys.users()[0], &world.old).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        world.consumers_are("      web: { command: [\"true\"], patience: 1s }\n");
        let answer = world.rotate(&["shop-db"]);
        drop(ends);
        answer.fails(1, "still open, from 127.0.0.1", "rotate again");
    });
    assert_eq!(world.published_user(), keys.users()[0]);
    assert_eq!(keys.keys(), keys.users(), "the new one is removed");
}
