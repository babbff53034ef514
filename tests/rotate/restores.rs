//! Rotations and backups know of each other: no dump while its account is between two passwords, and after a restore in place
//! the password of today lets in, and not the one that the backup brought back.

use super::kills;
use super::servers::{Mariadb, Mysql};
use super::support::host::{Answer, Running};
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use rustix::process::Signal;
use std::fs;
use std::sync::Arc;

const EVERYTHING: &str = "GRANT ALL PRIVILEGES ON *.* TO 'bkp-rotate'@'%' WITH GRANT OPTION; CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (1), (2)";

/// The first point takes the place of what is there.
pub fn restore(world: &World, environment: &[(&str, &str)]) -> Answer {
    restore_with(world, &[], environment)
}

fn restore_with(world: &World, more: &[&str], environment: &[(&str, &str)]) -> Answer {
    let points = world.host.run(&["points", "--all", "--json"]).ends(0).json();
    let all = points["points"].as_array().unwrap();
    let of_db = all.iter().filter(|point| point["source"] == "db");
    let first = of_db.min_by_key(|point| point["consistent_at"].as_str().unwrap().to_owned()).unwrap();
    let (id, identity) = (first["id"].as_str().unwrap(), world.host.identity());
    let identity = identity.to_str().unwrap();
    let arguments = ["restore", id, "--in-place", "--confirm", "db", "--no-safety-backup", "--identity", identity];
    let mut command = world.host.command(&[&arguments, more].concat());
    command.envs(environment.iter().copied());
    world.host.finish(world.host.start(command))
}

fn dump_that_stands_still(world: &World) -> Running {
    let mut command = world.host.command(&["backup", "db"]);
    command.env("BKP_STOP_AT", "backup:stream-stored");
    let dump = world.host.start(command);
    let stat = format!("/proc/{}/stat", dump.child.id());
    wait_for("the dump stands still", 60, || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    dump
}

/// A server whose first point has the old password, and that knows nothing of anything any more.
fn made_anew(vault: &'static Vault, server: &Arc<Mariadb>) -> World {
    server.query(EVERYTHING);
    let mut world = World::with(vault, Arc::clone(server) as Arc<dyn Target>, "");
    world.open_shop();
    world.host.run(&["backup", "db"]).ends(0);
    world.rotate(&["shop-db"]).ends(0);
    world.close_shop();
    server.query("DROP USER app@'%'; DROP DATABASE shop");
    world
}

#[test]
fn after_a_restore_the_password_of_today_lets_in_and_the_old_one_does_not() {
    let part = "restores of rotated accounts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    server.query(EVERYTHING);
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    let old = world.old.clone();
    world.host.run(&["backup", "db"]).ends(0);
    world.rotate(&["shop-db"]).ends(0);
    let today = world.one_password_works(&old);
    world.host.run(&["backup", "db"]).ends(0);
    // The server is made anew, and the first point brings its accounts back as they were.
    world.close_shop();
    server.query("DROP USER app@'%'; DROP DATABASE shop");
    let restored = restore(&world, &[]);
    restored.ends(3).says("the password that is published now").says("the old password is refused (version 1 of");
    assert_eq!(server.query("SELECT COUNT(*) FROM shop.orders"), "2");
    world.target.log_in(&today).unwrap();
    world.target.log_in(&old).unwrap_err();
    assert_eq!(world.published(), today);
    assert_eq!(world.states().last().unwrap(), "reapplied");
    // Where nothing is amiss, nothing is changed.
    world.rotate(&["reapply", "shop-db"]).ends(0).says("only what is published lets in");
    world.rotate(&["status"]).ends(0).says("nothing under way");
}

#[test]
fn no_password_is_rotated_while_a_dump_uses_its_account() {
    let part = "rotations of the account of backups";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    server.query(EVERYTHING);
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    server.query("GRANT ALL PRIVILEGES ON *.* TO app@'%' WITH GRANT OPTION");
    let policy = world.host.path("etc/policies.d/shop.yaml");
    let admin = format!("user: bkp-rotate, password_file: {}", world.host.text("admin"));
    let text = fs::read_to_string(&policy).unwrap();
    let own = format!("user: app, password: \"ref+vault://kv/{}#/password\"", world.name);
    assert!(text.contains(&admin));
    let text = text.replace(&admin, &own);
    fs::write(policy, text.replace("    account: app\n", &format!("    account: app\n    admin: {{ {admin} }}\n")))
        .unwrap();
    world.open_shop();
    let old = world.old.clone();
    let dump = dump_that_stands_still(&world);
    world.rotate(&["shop-db"]).fails(11, "source db", "");
    assert_eq!(world.published(), old);
    dump.signal(Signal::CONT);
    world.host.finish(dump).ends(0);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&old);
    let journal = world.host.run(&["journal", "--json", "--last", "1000"]).ends(0).json();
    let proven = journal["records"].as_array().unwrap().iter().find(|record| record["state"] == "proven").unwrap();
    assert!(proven["note"].as_str().unwrap().contains("and a backup of db"), "{proven}");
    // The point says which password was in force.
    let rotated = journal["records"].as_array().unwrap().iter().find(|record| record["state"] == "rotated").unwrap();
    world.host.run(&["backup", "db"]).ends(0);
    let shown = world.host.read(&["show", "db", "--json"]).ends(0).json();
    assert_eq!(shown["body"]["credentials"][0]["name"], "shop-db", "{shown}");
    assert_eq!(shown["body"]["credentials"][0]["version"], rotated["to"]);
    // A restore that changed nothing leaves nothing to be done.
    let dump = dump_that_stands_still(&world);
    restore(&world, &[]).fails(11, "source db", "");
    world.rotate(&["status"]).ends(0).says_not("rotate reapply");
    dump.signal(Signal::CONT);
    world.host.finish(dump).ends(0);
}

#[test]
fn a_restore_in_the_middle_of_a_rotation_brings_both_of_its_passwords_back() {
    let part = "restores in the middle of a rotation";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = made_anew(vault, &server);
    let first = world.old.clone();
    server.query(&format!("CREATE USER app@'%' IDENTIFIED BY '{}'", world.published()));
    world.old = world.published();
    world.open_shop();
    kills::wait_for_distance(&world);
    world.dies_at("rotate:moved", &["shop-db"]);
    world.close_shop();
    let [before, pending] = [world.old.clone(), world.published()];
    // Who has either goes on with it, also while nothing else is amiss.
    world.rotate(&["reapply", "shop-db"]).ends(0).says("has both passwords of the rotation that is under way");
    for password in [&before, &pending] {
        world.target.log_in(password).unwrap();
    }
    server.query("DROP USER app@'%'");
    restore(&world, &[]).ends(3).says("has both passwords of the rotation that is under way").says("rotate resume");
    for password in [&before, &pending] {
        world.target.log_in(password).unwrap();
    }
    world.target.log_in(&first).unwrap_err();
    assert_eq!(world.states().last().unwrap(), "both_reapplied");
    // The plug is pulled before that, and nobody gets in: whoever goes on does it first.
    server.query("DROP USER app@'%'; DROP DATABASE shop");
    restore(&world, &[("BKP_CRASH_AT", "restore:after-live")]).was_killed();
    for password in [&before, &pending] {
        world.target.log_in(password).unwrap_err();
    }
    world.open_shop();
    world.dies_at("rotate:moved", &["resume", "shop-db"]);
    world.close_shop();
    for password in [&before, &pending] {
        world.target.log_in(password).unwrap();
    }
    world.rotate(&["status"]).ends(0).says_not("rotate reapply");
    world.open_shop();
    world.rotate(&["resume", "shop-db"]).ends(0);
    assert_eq!(world.one_password_works(&before), pending);
}

/// The plug is pulled when the data are live, and Vault is away when somebody goes on: what is owed is not forgotten.
#[test]
fn what_a_restore_that_died_owes_is_shown_and_done() {
    let part = "restores that died before today's password";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let server = Arc::new(server);
    let world = made_anew(vault, &server);
    let today = world.published();
    restore(&world, &[("BKP_CRASH_AT", "restore:after-live")]).was_killed();
    world.target.log_in(&world.old).expect_err("that of the point never lets in");
    world.rotate(&["status"]).ends(0).says("restored: bkp rotate reapply shop-db");
    let token = fs::read_to_string(world.host.path("token")).unwrap();
    fs::write(world.host.path("token"), "another").unwrap();
    server.query("DROP DATABASE shop");
    restore(&world, &[]).fails_somehow().says("passwords at the server are not known to be those of today");
    fs::write(world.host.path("token"), token).unwrap();
    world.rotate(&["resume", "shop-db"]).ends(0).says("the old password is refused");
    world.target.log_in(&today).unwrap();
    world.target.log_in(&world.old).unwrap_err();
    world.rotate(&["status"]).ends(0).says_not("rotate reapply");
}

#[test]
fn nothing_but_the_password_of_today_is_left_at_any_host_of_the_account() {
    let part = "accounts that were put back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let first = world.old.clone();
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    kills::wait_for_distance(&world);
    world.dies_at("rotate:closed", &["shop-db"]);
    world.close_shop();
    let today = world.published();
    // This host logs in as neither of the other two, and one has a password that nobody published.
    server.query(&format!(
        "CREATE USER app@'10.9.%' IDENTIFIED BY '{first}'; CREATE USER app@'10.8.%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{today}') OR mysql_native_password USING PASSWORD('of nobody')"
    ));
    world.rotate(&["reapply", "shop-db"]).ends(0).says("the old passwords are refused (versions 2, 1 of");
    let states = world.states();
    let rotated = states.iter().filter(|state| *state == "rotated").count();
    assert_eq!(rotated, 2, "the age of a password is told by that: {states:?}");
    let one_of = |host: &str| {
        let shown = server.query(&format!("SHOW CREATE USER app@'{host}'"));
        shown.split_once(" IDENTIFIED ").unwrap().1.to_owned()
    };
    let [all, ninth, eighth] = ["%", "10.9.%", "10.8.%"].map(one_of);
    assert!(all == ninth && all == eighth && !all.contains(" OR "), "{all} {ninth} {eighth}");
    world.target.log_in(&today).unwrap();
    world.rotate(&["reapply", "shop-db"]).ends(0).says("only what is published lets in");
}

/// Put back into the middle of a rotation that was rolled back later: today's is the second one, which would go with the old.
#[test]
fn the_second_password_of_mysql_is_kept_when_it_is_that_of_today() {
    let part = "accounts of MySQL that were put back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mysql::start(part)) else { return };
    let server = Arc::new(server);
    let world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    for host in ["%", "10.255.255.%"] {
        server.query(&format!("ALTER USER app@'{host}' IDENTIFIED BY 'pending of then' RETAIN CURRENT PASSWORD"));
    }
    world.rotate(&["reapply", "shop-db"]).ends(0);
    world.target.log_in(&world.old).unwrap();
    world.target.log_in("pending of then").unwrap_err();
    let left =
        "SELECT COUNT(*) FROM mysql.user WHERE JSON_EXTRACT(User_attributes, '$.additional_password') IS NOT NULL";
    assert_eq!(server.query(left), "0");
}

/// Somebody who was removed since must not come in again with what he knew.
#[test]
fn accounts_that_nobody_knows_come_back_locked_where_that_is_wanted() {
    let part = "restores of unknown accounts";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let server = Arc::new(server);
    server.query("CREATE USER ana@'%' IDENTIFIED BY 'hers'; CREATE USER ben@'%' IDENTIFIED BY 'his'");
    server.query("CREATE USER backup@'%' IDENTIFIED BY 'of the point'");
    let world = made_anew(vault, &server);
    server.query("DROP USER ana@'%', backup@'%'");
    let (policy, port) = (world.host.path("etc/policies.d/shop.yaml"), server.port());
    let own = world.host.text("own");
    fs::write(&own, "of today").unwrap();
    let other =
        format!("  other: {{ mysql: {{ host: 127.0.0.1, port: {port}, user: backup, password_file: {own} }} }}\n");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(policy, text.replacen("sources:\n", &format!("sources:\n{other}"), 1)).unwrap();
    let restored = restore_with(&world, &["--lock-accounts"], &[]);
    restored.ends(3).says("come back locked, for nothing here knows of them").says("`ana`@`%`");
    let is_locked = |user: &str| server.query(&format!("SHOW CREATE USER {user}@'%'")).contains("ACCOUNT LOCK");
    assert_eq!(
        ["ana", "ben", "app", "bkp-rotate"].map(|user| is_locked(&format!("`{user}`"))),
        [true, false, false, false]
    );
    world.target.log_in(&world.published()).unwrap();
    let is_of_today = "SELECT authentication_string = PASSWORD('of today') FROM mysql.user WHERE user = 'backup'";
    assert_eq!(server.query(is_of_today), "1", "bkp itself logs in as that one");
    // Also by one that was killed, and is done again without that: then somebody has to know.
    server.query("DROP DATABASE shop");
    let again = restore(&world, &[]).ends(3);
    again.says("accounts are locked, and were not at the time of the point").says("`ana`@`%`");
    server.query("DROP USER ana@'%'; DROP DATABASE shop");
    restore(&world, &[]).ends(3).says("come back with the passwords that they had");
    assert!(!is_locked("ana"));
}

#[test]
fn what_is_published_and_does_not_work_is_shown_and_so_is_what_works_and_should_not() {
    let part = "passwords that are shown";
    let (Some(vault), Some(server)) = (Vault::shared(part), Mariadb::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.host.run(&["secrets"]).ends(0).says("never; written").says(" works ");
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    world.close_shop();
    let (old, today) = (world.old.clone(), world.published());
    let shown = world.host.run(&["secrets", "--json"]).ends(0).json();
    let secret = &shown["secrets"][0];
    assert_eq!(secret["now"]["works"], true, "{secret}");
    assert!(secret["now"]["old_version_works"].is_null() && !secret["proven"]["at"].is_null(), "{secret}");
    server.query(&format!(
        "ALTER USER app@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{today}') OR mysql_native_password USING PASSWORD('{old}')"
    ));
    world.host.run(&["secrets"]).ends(4).says("AND SO DOES AN OLD ONE (version 1)");
    server.query("ALTER USER app@'%' IDENTIFIED BY 'another'");
    world.host.run(&["secrets"]).ends(4).says("PUBLISHED, BUT REFUSED");
    world.host.run(&["secrets", "--offline"]).ends(0).says("not asked");
    fs::write(world.host.path("token"), "another").unwrap();
    world.host.run(&["secrets"]).ends(0).says("not known: ");
}
