//! Rotations and backups know of each other: no dump while its account is between two passwords, and after a restore in place
//! the password of today lets in, and not the one that the backup brought back.

use super::servers::Mariadb;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use rustix::process::Signal;
use std::fs;
use std::sync::Arc;

const EVERYTHING: &str = "GRANT ALL PRIVILEGES ON *.* TO 'bkp-rotate'@'%' WITH GRANT OPTION; CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (1), (2)";

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
    let points = world.host.run(&["points", "--all", "--json"]).ends(0).json();
    let all = points["points"].as_array().unwrap();
    let of_db = all.iter().filter(|point| point["source"] == "db");
    let first = of_db.min_by_key(|point| point["consistent_at"].as_str().unwrap().to_owned()).unwrap();
    let id = first["id"].as_str().unwrap();
    let restored = world.host.read(&["restore", id, "--in-place", "--confirm", "db", "--no-safety-backup"]);
    restored.ends(3).says("the password that is published now").says("the old password is refused");
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
    let mut command = world.host.command(&["backup", "db"]);
    command.env("BKP_STOP_AT", "backup:stream-stored");
    let dump = world.host.start(command);
    let stat = format!("/proc/{}/stat", dump.child.id());
    wait_for("the dump stands still", 60, || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
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
}
