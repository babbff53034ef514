//! Killed after every single effect, forward and back. Whoever comes next goes on from what is there.

use super::servers::{Mariadb, Mysql};
use super::support::host::Host;
use super::support::vault::Vault;
use super::world::{Target, World};
use bkp::durable::CRASH_POINTS;
use std::sync::Arc;

/// They are passed on the way back only.
pub const BACK: [&str; 3] = ["rotate:turned-back", "rotate:unpublished", "rotate:undone"];
/// There is nothing to go on with: nothing was recorded yet, or everything was done.
const AT_THE_ENDS: [&str; 2] = ["rotate:saved", "rotate:closed"];

pub fn forward() -> impl Iterator<Item = &'static str> {
    let elsewhere = [&BACK[..], &["rotate:ended", "rotate:recorded-anew"]].concat();
    CRASH_POINTS.iter().copied().filter(move |point| point.starts_with("rotate:") && !elsewhere.contains(point))
}

/// All points, so many at a time, each in a world of its own: most of it is waiting.
pub fn at_once(worlds: usize, work: &(dyn Fn(&[&'static str]) + Sync)) {
    let points: Vec<_> = forward().collect();
    std::thread::scope(|scope| {
        for part in points.chunks(points.len().div_ceil(worlds)) {
            scope.spawn(move || work(part));
        }
    });
}

/// The `distance` of the rotation is over.
pub fn wait_for_distance(world: &World) {
    world.host.goes_ahead(2);
}

/// The same by every clock, where Vault's is asked, too.
pub fn wait_for_a_moment(host: &Host) {
    host.next_second();
    host.next_second();
}

/// Dies at each of these, and is gone on with.
pub fn converges(vault: &'static Vault, target: Arc<dyn Target>, points: impl Iterator<Item = &'static str>) {
    let mut world = World::with(vault, target, "");
    world.open_shop();
    all_converge(&world, points);
}

/// In a world that may have no clients.
pub fn all_converge(world: &World, points: impl Iterator<Item = &'static str>) {
    let mut current = world.old.clone();
    for point in points {
        wait_for_distance(world);
        world.dies_at(point, &["shop-db"]);
        world.nobody_was_refused();
        let resumed = world.rotate(&["resume", "shop-db"]).ends(0);
        if AT_THE_ENDS.contains(&point) {
            resumed.says("nothing is under way");
        }
        if point == "rotate:saved" {
            assert_eq!(world.published(), current);
            continue;
        }
        current = world.one_password_works(&current);
    }
}

#[test]
fn what_was_killed_is_brought_to_its_end() {
    let part = "killed rotations of MariaDB";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    converges(vault, Arc::new(server), forward().chain(["rotate:delivered#2", "rotate:reloaded#2", "rotate:moved#2"]));
}

/// Where the statement that lets both in would throw the old one away if it were said twice.
#[test]
fn mysql_is_not_told_twice() {
    let part = "killed rotations of MySQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mysql::start(part)) else { return };
    let server: Arc<dyn Target> = Arc::new(server);
    converges(vault, Arc::clone(&server), forward());
    is_still_taken_back(vault, server, BACK.into_iter());
}

/// Dies at each of these, and is taken back; `then` looks at what that left.
pub fn all_are_taken_back_on_request(world: &World, points: impl Iterator<Item = &'static str>, then: impl Fn()) {
    for point in points {
        world.dies_at(point, &["shop-db"]);
        let pending = world.record()["pending"].as_str().unwrap().to_owned();
        world.rotate(&["rollback", "shop-db"]).ends(0).says("as it was before");
        assert_eq!(world.one_password_works(&pending), world.old, "{point}");
        then();
    }
}

/// From every state before the old one is retired; afterwards there is only forward.
#[test]
fn what_was_killed_is_taken_back_on_request() {
    let part = "rotations of MariaDB that are taken back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let mut world = World::new(vault, server);
    world.open_shop();
    let old = world.old.clone();
    let retired = CRASH_POINTS.iter().position(|point| *point == "rotate:retired").unwrap();
    let before = |point: &&str| CRASH_POINTS.iter().position(|other| other == point).unwrap() < retired;
    all_are_taken_back_on_request(&world, forward().filter(before).filter(|point| *point != "rotate:saved"), || ());
    world.dies_at("rotate:retired", &["shop-db"]);
    // There is none back to: it is brought to its end, and said that this is not what was asked for.
    world.rotate(&["rollback", "shop-db"]).fails(13, "the old password was gone already", "bkp rotate shop-db");
    world.one_password_works(&old);
}

/// A consumer that does not come up turns everything back by itself, and killing that changes nothing of it.
fn is_still_taken_back(vault: &'static Vault, target: Arc<dyn Target>, points: impl Iterator<Item = &'static str>) {
    let mut world = World::with(vault, target, "");
    world.open_shop();
    all_are_taken_back(&world, points);
}

/// The same in a world that is open.
pub fn all_are_taken_back(world: &World, points: impl Iterator<Item = &'static str>) {
    let old = world.published();
    for point in points {
        world.works_only_with("worker", &old);
        world.dies_at(point, &["shop-db"]);
        world.nobody_was_refused();
        let pending = world.record()["pending"].as_str().map(str::to_owned);
        world.is_mended("worker");
        let resumed = world.rotate(&["resume", "shop-db"]);
        match pending {
            // That it failed is told by whoever brings it to its end.
            Some(pending) => {
                resumed.fails(1, "the old password is in force: worker", "rotate again");
                assert_eq!(world.one_password_works(&pending), old, "{point}");
            }
            None => {
                resumed.ends(0).says("nothing is under way");
                assert_eq!(world.one_password_works(&world.last_pending()), old, "{point}");
            }
        }
    }
}

#[test]
fn what_is_taken_back_and_killed_is_still_taken_back() {
    let part = "rotations of MariaDB that fail";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let points = BACK.into_iter().chain(["rotate:unescrowed", "rotate:closed"]);
    is_still_taken_back(vault, Arc::new(server), points);
}
