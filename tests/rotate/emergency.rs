//! The old password is known to somebody who uses it all the time: an emergency locks him out, and he cannot hold it up.

use super::kills::wait_for_distance;
use super::minio::AccessKeys;
use super::mongo::Ferretdb;
use super::postgres::Postgres;
use super::redis::{Redis, Valkey};
use super::servers::{Mariadb, Mysql};
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

/// Asks a question in a session that stays: whether it was answered.
pub type Held = Box<dyn FnMut() -> bool>;

pub trait KeepsSessions: Target {
    fn hold(&self, user: &str, password: &str) -> Result<Held, String>;

    /// Whoever is that user gives himself another password.
    fn is_given(&self, user: &str, password: &str);
}

/// Has a session with one password, and opens another one at once whenever it ends.
struct Intruder {
    is_in: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Intruder {
    fn begin(target: Arc<dyn KeepsSessions>, user: &str, password: &str) -> Intruder {
        let (is_in, refused, ends) = (Arc::default(), Arc::default(), Arc::default());
        let mut intruder = Intruder {
            is_in: Arc::clone(&is_in),
            refused: Arc::clone(&refused),
            ends: Arc::clone(&ends),
            thread: None,
        };
        let (user, password) = (user.to_owned(), password.to_owned());
        let work = move || {
            let mut session: Option<Held> = None;
            while !ends.load(SeqCst) {
                let alive = session.as_mut().is_some_and(|ask| ask());
                is_in.store(alive, SeqCst);
                if !alive {
                    session = target.hold(&user, &password).ok();
                    refused.fetch_add(u64::from(session.is_none()), SeqCst);
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        };
        intruder.thread = Some(std::thread::spawn(work));
        wait_for("somebody is in", 60, || intruder.is_in.load(SeqCst).then_some(()));
        intruder
    }

    /// Refused again and again, with no session left.
    fn is_out(&self) {
        let before = self.refused.load(SeqCst);
        wait_for("refusals", 60, || (self.refused.load(SeqCst) > before + 2).then_some(()));
        assert!(!self.is_in.load(SeqCst), "somebody is in still, and was refused {before} times");
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        let thread = self.thread.take();
        thread.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// How often the journal has this state.
fn times(world: &World, state: &str) -> usize {
    world.states().iter().filter(|other| *other == state).count()
}

/// `said`: in the first of them, where not all can be done.
fn is_locked_out(vault: &'static Vault, target: Arc<dyn KeepsSessions>, said: &str) {
    let world = World::with(vault, Arc::clone(&target) as Arc<dyn Target>, "");
    world.has_no_clients();

    let intruder = Intruder::begin(Arc::clone(&target), &world.published_user(), &world.old);
    let answer = world.rotate(&["shop-db", "--emergency", "--because", "INC-43"]).ends(0);
    answer.says("is rotated").says(said);
    intruder.is_out();
    let second = world.one_password_works(&world.old);
    assert_eq!((times(&world, "retired"), times(&world, "ended"), times(&world, "unused")), (1, 1, 0));

    // Whoever goes on does not have to say so again; and that the old one is refused is seen, and noted, by him.
    let intruder = Intruder::begin(Arc::clone(&target), &world.published_user(), &second);
    wait_for_distance(&world);
    world.dies_at("rotate:retired", &["shop-db", "--emergency"]);
    world.dies_at("rotate:ended", &["resume", "shop-db"]);
    world.dies_at("rotate:persisted", &["resume", "shop-db"]);
    world.rotate(&["resume", "shop-db"]).ends(0);
    intruder.is_out();
    let third = world.one_password_works(&second);
    assert_eq!((times(&world, "refused"), times(&world, "ended")), (3, 3));

    // He gives himself a password of his own in the middle: that does not outlive it, whether the old one was his or the account's.
    let foreign = "set-by-himself-0123456789-abcdefgh";
    let user = world.published_user();
    wait_for_distance(&world);
    world.dies_at("rotate:tested", &["shop-db"]);
    target.is_given(&user, foreign);
    let intruder = Intruder::begin(Arc::clone(&target), &user, foreign);
    world.rotate(&["resume", "shop-db", "--emergency"]).ends(0);
    intruder.is_out();
    let fourth = world.one_password_works(&third);
    world.one_password_works(foreign);

    let foreign = "set-by-somebody-else-0123456789-ab";
    let user = world.published_user();
    wait_for_distance(&world);
    world.dies_at("rotate:tested", &["shop-db"]);
    target.set_up(foreign);
    let first = target.users()[0];
    let user = if target.log_in_as(first, foreign).is_ok() { first.to_owned() } else { user };
    let intruder = Intruder::begin(Arc::clone(&target), &user, foreign);
    world.rotate(&["resume", "shop-db"]).fails(12, "accepts neither the old nor the new password", "--emergency");
    world.dies_at("rotate:accepted", &["resume", "shop-db", "--emergency"]);
    world.rotate(&["resume", "shop-db"]).ends(0);
    intruder.is_out();
    world.one_password_works(&fourth);
    world.one_password_works(foreign);
    target.log_in_as(&user, foreign).unwrap_err();
    target.log_in_as(&world.published_user(), foreign).unwrap_err();
}

#[test]
fn somebody_with_the_old_password_of_mariadb_is_locked_out() {
    let part = "an emergency of MariaDB";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    is_locked_out(vault, Arc::new(server), "");
}

#[test]
fn somebody_with_the_old_password_of_mysql_is_locked_out() {
    let part = "an emergency of MySQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mysql::start(part)) else { return };
    is_locked_out(vault, Arc::new(server), "");
}

#[test]
fn somebody_with_the_old_password_of_postgres_is_locked_out() {
    let part = "an emergency of PostgreSQL";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part, &[])) else { return };
    is_locked_out(vault, Arc::new(server), "");
}

#[test]
fn somebody_with_the_old_password_of_redis_is_locked_out() {
    let part = "an emergency of Redis";
    let (Some(vault), Some(server)) = (Vault::shared(part), Redis::start(part)) else { return };
    is_locked_out(vault, Arc::new(server), "");
}

#[test]
fn somebody_with_the_old_password_of_valkey_is_locked_out() {
    let part = "an emergency of Valkey";
    let (Some(vault), Some(server)) = (Vault::shared(part), Valkey::start(part)) else { return };
    is_locked_out(vault, Arc::new(server), "");
}

/// It does not tell who is there, and ends no session: bkp says so.
#[test]
fn somebody_with_the_old_password_of_mongodb_is_locked_out() {
    let part = "an emergency of MongoDB";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    let said = "sessions could not be seen, and none was ended: the server does not say who is there: end them";
    is_locked_out(vault, Arc::new(server), said);
}

#[test]
fn somebody_with_the_old_access_key_is_locked_out() {
    let part = "an emergency of MinIO";
    let (Some(vault), Some(keys)) = (Vault::shared(part), AccessKeys::start(part)) else { return };
    let keys = Arc::new(keys);
    is_locked_out(vault, Arc::clone(&keys) as Arc<dyn KeepsSessions>, "");
    assert_eq!(keys.keys().len(), 1, "the key that somebody gave another secret is removed");
}
