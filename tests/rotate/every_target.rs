//! Bad days of Vault for every kind of target: each one is rotated while answers are lost, and while Vault goes away in each way there
//! is, with clients that log in all the time. What differs between them is what a write that took place leaves behind: a user whose
//! turn it is, a second key, a list, a person who was asked.

use super::kills::{wait_for_a_moment, wait_for_distance};
use super::mail::{self, Provider};
use super::minio::AccessKeys;
use super::mongo::Ferretdb;
use super::postgres::{Postgres, Single};
use super::redis::{Redis, Valkey};
use super::servers::Mysql;
use super::signing::{self, while_open};
use super::support::host::{Answer, Host};
use super::support::vault::{Act, Proxy, Vault};
use super::support::wait_for;
use super::vault_days::{AWAY, is_behind, retired};
use super::world::{Ends, Target, World};
use bkp::durable::random_hex;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Soon done with waiting for Vault.
const IMPATIENT: [&str; 2] = ["--patience", "1s"];

/// Every answer is lost once while `act` goes on. Gives how many requests that takes when none is.
fn loses_each_answer_once(proxy: &Proxy, act: impl FnOnce()) -> usize {
    proxy.heads();
    proxy.next(&std::iter::repeat_n([Act::Lose, Act::Pass], 200).flatten().collect::<Vec<_>>());
    act();
    proxy.passes_all();
    let heads = proxy.heads();
    let writes = heads.iter().filter(|head| !head.starts_with("GET")).count();
    // Each one twice; and what was written is read back, when it is found in the way of itself.
    (heads.len() - writes) / 2
}

/// Vault goes away after so many requests, in that way.
fn goes_away(proxy: &Proxy, after: usize, act: &Act, rotate: impl FnOnce() -> Answer) -> Answer {
    proxy.pass(after, act.clone());
    let answer = rotate();
    println!("after {after} requests, {act:?}: {:?} {}", answer.status, answer.err);
    assert!(!proxy.is_mended(), "{after} requests are more than it takes: it never went away");
    answer
}

/// At one place for each way, from the beginning to the end; the first way is another one for each target.
fn places(requests: usize, first: usize) -> impl Iterator<Item = (usize, &'static Act)> {
    (0..AWAY.len()).map(move |n| (requests * (2 * n + 1) / 10, &AWAY[(first + n) % AWAY.len()]))
}

/// `first` of the ways in which Vault goes away.
fn is_rotated_whatever_vault_does(vault: &'static Vault, target: Arc<dyn Target>, first: usize, has_clients: bool) {
    let proxy = Proxy::new(vault.port());
    let mut world = World::with(vault, target, "");
    is_behind(&world.host, &proxy, vault);
    match has_clients {
        true => world.open_shop(),
        false => world.has_no_clients(),
    }
    let mut current = world.old.clone();
    let requests = loses_each_answer_once(&proxy, || drop(world.rotate(&["shop-db"]).ends(0)));
    current = world.one_password_works(&current);
    for (after, act) in places(requests, first) {
        wait_for_distance(&world);
        let (before, user) = (retired(&world), world.published_user());
        goes_away(&proxy, after, act, || world.rotate(&[&["shop-db"][..], &IMPATIENT].concat()));
        world.nobody_was_refused();
        if has_clients {
            world.target.log_in_as(&world.published_user(), &world.published()).unwrap();
        }
        if has_clients && retired(&world) == before {
            world.target.log_in_as(&user, &current).unwrap();
        }
        world.rotate(&["resume", "shop-db"]).ends(0);
        if world.published() != current {
            current = world.one_password_works(&current);
        }
    }
}

/// One line for each target: its name here, how it is started, and the first way.
macro_rules! whatever_vault_does {
    ($($name:ident: $part:literal, $first:literal, $start:expr;)*) => {$(
        #[test]
        fn $name() {
            let part = concat!("rotations of ", $part, " while Vault goes away");
            let start: fn(&str) -> Option<Arc<dyn Target>> = $start;
            let (Some(vault), Some(target)) = (Vault::shared(part), start(part)) else { return };
            is_rotated_whatever_vault_does(vault, target, $first, !$part.contains("gap"));
        }
    )*};
}

whatever_vault_does! {
    postgres_is_rotated_whatever_vault_does: "PostgreSQL", 0, |part| Some(Arc::new(Postgres::start(part, &[])?));
    a_single_role_is_rotated_whatever_vault_does: "a single role with its gap", 1, |part| Some(Arc::new(Single(Postgres::start(part, &[])?)));
    mongodb_is_rotated_whatever_vault_does: "MongoDB", 2, |part| Some(Arc::new(Ferretdb::start(part)?));
    redis_is_rotated_whatever_vault_does: "Redis", 3, |part| Some(Arc::new(Redis::start(part)?));
    valkey_is_rotated_whatever_vault_does: "Valkey", 4, |part| Some(Arc::new(Valkey::start(part)?));
    access_keys_are_rotated_whatever_vault_does: "access keys", 0, |part| Some(Arc::new(AccessKeys::start(part)?));
    mysql_is_rotated_whatever_vault_does: "MySQL", 1, |part| Some(Arc::new(Mysql::start(part)?));
}

/// A person is asked in the middle, and does what he is asked for once.
#[test]
fn a_mail_account_is_rotated_whatever_vault_does() {
    let Some(vault) = Vault::shared("mail accounts while Vault goes away") else { return };
    let Some(provider) = Provider::start() else { return };
    let (shop, proxy) = (mail::shop(vault, &provider), Proxy::new(vault.port()));
    is_behind(&shop.host, &proxy, vault);
    let (end, logins) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        let client = scope.spawn(|| {
            while !end.load(SeqCst) {
                provider.log_in(shop.told().trim().trim_start_matches("SMTP_PASSWORD=")).unwrap();
                logins.fetch_add(1, SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        mail_is_rotated(&shop, &provider, &proxy);
        let before = logins.load(SeqCst);
        wait_for("a login", 60, || (logins.load(SeqCst) > before + 1).then_some(()));
        drop(ends);
        client.join().unwrap();
    });
}

fn mail_is_rotated(shop: &mail::Shop, provider: &Provider, proxy: &Proxy) {
    let file = shop.host.text("new-password");
    let mut old = shop.old.clone();
    let rotate = ["rotate", "mail", "--new-password-file", file.as_str()];
    let run = |host: &Host, words: &[&str], patience: &[&str]| host.run(&[words, patience].concat());
    let waits = |answer: Answer| answer.fails(14, "still accepts the old password", "Take it away at the provider");
    let next = |old: &str| {
        wait_for_a_moment(&shop.host);
        let new = format!("new-{}", random_hex(8));
        fs::write(&file, &new).unwrap();
        provider.knows(&[old, &new]);
        new
    };
    let is_over = |old: &str, new: &str| {
        shop.host.run(&["rotate", "resume", "mail"]).ends(0).says("mail is rotated");
        assert_eq!((shop.published(), shop.told()), (new.to_owned(), format!("SMTP_PASSWORD={new}\n")));
        provider.log_in(old).unwrap_err();
    };
    // Before the person, and after.
    let new = next(&old);
    let first = loses_each_answer_once(proxy, || drop(waits(run(&shop.host, &rotate, &[]))));
    provider.knows(&[&new]);
    let second = loses_each_answer_once(proxy, || drop(shop.host.run(&["rotate", "resume", "mail"]).ends(0)));
    provider.log_in(&old).unwrap_err();
    old = new;
    for (after, act) in places(first + second, 2) {
        let new = next(&old);
        let is_first = after < first;
        match is_first {
            true => drop(goes_away(proxy, after, act, || run(&shop.host, &rotate, &IMPATIENT))),
            false => drop(waits(run(&shop.host, &rotate, &[]))),
        }
        provider.log_in(&old).unwrap();
        // With the same words: whatever was recorded is gone on with, and not begun a second time.
        if is_first {
            waits(run(&shop.host, &rotate, &[]));
        }
        provider.knows(&[&new]);
        if !is_first {
            goes_away(proxy, after - first, act, || run(&shop.host, &["rotate", "resume", "mail"], &IMPATIENT));
        }
        is_over(&old, &new);
        old = new;
    }
}

/// The list that verifiers read is in Vault, too: they and those who sign are never without it, and it has no key too many.
#[test]
fn signing_keys_are_rotated_whatever_vault_does() {
    let Some(vault) = Vault::shared("signing keys while Vault goes away") else { return };
    let new_shop = || {
        let (pem, public) = signing::ec(&signing::PKCS8);
        let (shop, proxy) = (signing::Shop::new(vault, (&pem, public), "ES256", ""), Proxy::new(vault.port()));
        is_behind(&shop.host, &proxy, vault);
        (shop, proxy)
    };
    let is_over = |shop: &signing::Shop, before: &str| {
        let kid = shop.published().0;
        assert_ne!(kid, before);
        assert_eq!(shop.kids(), ["other", kid.as_str()]);
    };
    let (shop, proxy) = new_shop();
    let requests =
        while_open(&shop, || loses_each_answer_once(&proxy, || drop(shop.host.run(&["rotate", "tokens"]).ends(0))));
    is_over(&shop, "by-hand");
    std::thread::scope(|scope| {
        for (after, act) in places(requests, 4) {
            scope.spawn(move || {
                let (shop, proxy) = new_shop();
                while_open(&shop, || {
                    goes_away(&proxy, after, act, || shop.host.run(&[&["rotate", "tokens"][..], &IMPATIENT].concat()));
                    shop.host.run(&["rotate", "tokens"]).ends(0);
                });
                is_over(&shop, "by-hand");
            });
        }
    });
}
