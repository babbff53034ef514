//! Two hosts that have the same rotation: who has it, who takes over, and what the one that was overtaken can still do.

use super::kills::wait_for_distance;
use super::servers::Mariadb;
use super::support::host::{Host, Running};
use super::support::vault::Vault;
use super::support::{wait_for, wait_for_every};
use super::world::World;
use rustix::process::Signal;

fn version(world: &World) -> u64 {
    let path = format!("kv/data/bkp/{}/shop-db", world.name);
    world.vault.get(&path)["metadata"]["version"].as_u64().unwrap()
}

/// The gate of a consumer takes longer than the lease: the other host is kept out all the same.
#[test]
fn who_is_at_work_keeps_others_out_however_long_a_step_takes() {
    let part = "rotations by two hosts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let mut world = World::new(vault, server);
    world.lease("3s");
    let other = world.other_host();
    world.open_shop();
    let old = world.old.clone();
    std::fs::write(world.host.path("broken-web"), "nothing that it holds").unwrap();
    let at_work = world.host.start(world.host.command(&["rotate", "shop-db"]));
    wait_for("web is told", 60, || world.states().contains(&"reloaded".to_owned()).then_some(()));
    let before = version(&world);
    // It says so every three quarters of a second.
    wait_for("the lease is renewed for longer than it lasts", 60, || (version(&world) > before + 5).then_some(()));
    other.run(&["rotate", "resume", "shop-db"]).fails(11, "is being rotated by", "bkp rotate status");
    other.run(&["rotate", "shop-db"]).fails(11, "is being rotated by", "bkp rotate status");
    world.is_mended("web");
    world.host.finish(at_work).ends(0);
    world.one_password_works(&old);
}

/// It is suspended between its last look at the lease and what it does then, for longer than that lasts. The other host takes the
/// rotation back, which was never published; when the first one wakes up, the server and Vault must not hear of it any more.
#[test]
fn a_host_that_was_overtaken_does_nothing_more() {
    let part = "rotations by two hosts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let mut world = World::new(vault, server);
    world.lease("2s");
    let other = world.other_host();
    world.open_shop();
    let old = world.old.clone();
    // Before the server is told, and before it is published.
    for point in ["rotate-lease:renewed", "rotate:publishing"] {
        wait_for_distance(&world);
        is_overtaken_at(&world, &other, point);
        assert_eq!(world.published(), old, "what was overtaken published");
        world.target.log_in(&old).unwrap();
        world.nobody_was_refused();
        // What it could not note any more it notes when it looks next.
        world.rotate(&["status"]).ends(0).says("nothing under way");
        assert_eq!(world.states().last().unwrap(), "rolled_back");
        // Some day Vault will have forgotten that run, and what is sealed of it would be taken for the only copy of something.
        let sealed = world.host.path("state/rotations/shop-db.pending.age");
        assert!(sealed.exists());
        world.rotate(&["resume", "shop-db"]).ends(0).says("nothing is under way");
        assert!(!sealed.exists());
    }
}

/// A command that stands still at this point.
pub fn suspended(host: &Host, point: &str, words: &[&str]) -> Running {
    let mut command = host.command(words);
    command.env("BKP_STOP_AT", point);
    let sleeper = host.start(command);
    let stat = format!("/proc/{}/stat", sleeper.child.id());
    wait_for("it is suspended", 60, || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    sleeper
}

/// By another host, as soon as the lease is over.
pub fn is_taken_over(other: &Host, words: &[&str]) {
    wait_for_every(500, "the other host takes over", 60, || {
        let answer = other.run(words);
        if answer.status.success() {
            return Some(());
        }
        answer.fails(11, "is being rotated by", "bkp rotate status");
        None
    });
}

/// The other host takes the rotation back, and then it goes on.
fn is_overtaken_at(world: &World, other: &Host, point: &str) {
    let sleeper = suspended(&world.host, point, &["rotate", "shop-db"]);
    let pending = world.record()["pending"].as_str().unwrap().to_owned();
    is_taken_over(other, &["rotate", "rollback", "shop-db"]);
    world.target.log_in(&pending).unwrap_err();
    sleeper.signal(Signal::CONT);
    world.host.finish(sleeper).fails(11, "taken over", "bkp rotate status");
    world.target.log_in(&pending).unwrap_err();
}

/// Minutes after one host, the other is due by its own journal: it learns that the password is new, and leaves it alone.
#[test]
fn what_another_host_rotated_is_not_rotated_again() {
    let part = "rotations by two hosts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let world = World::new(vault, server);
    world.has_no_clients();
    let path = world.host.path("etc/policies.d/shop.yaml");
    let policy = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, policy.replace("distance: 1s", "distance: 1h")).unwrap();
    let other = world.other_host();
    // What is told by files is told to this host: the other one has the same.
    world.rotate(&["shop-db"]).ends(0);
    let new = world.one_password_works(&world.old);
    other.run(&["rotate", "shop-db"]).fails(13, "was rotated at", "--emergency");
    assert_eq!(world.published(), new);
    let secrets = other.run(&["secrets", "--json"]).ends(0).json();
    assert_eq!(secrets["secrets"][0]["overdue"], false, "{secrets}");
    let records = other.run(&["journal", "--json", "--last", "100"]).ends(0).json();
    let of_rotations = |record: &&serde_json::Value| record["kind"] == "rotation";
    let known: Vec<_> = records["records"].as_array().unwrap().iter().filter(of_rotations).collect();
    assert_eq!((known.len(), &known[0]["state"]), (1, &"elsewhere".into()), "{known:?}");
    // Once is enough, and the host that did it has nothing to learn.
    other.run(&["rotate", "status"]).ends(0).says("elsewhere");
    world.rotate(&["status"]).ends(0);
    assert!(!world.states().contains(&"elsewhere".to_owned()));
}
