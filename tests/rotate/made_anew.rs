//! A server that is made anew and reached over the network only: nobody's password can be set there before those are let in again
//! who change them.

use super::postgres::{ByTurns, set_up_once};
use super::restores::restore;
use super::support::host_server::HostServer;
use super::support::vault::Vault;
use super::world::{Target, World};
use serde_json::json;
use std::fs;
use std::sync::Arc;

/// PostgreSQL that is backed up as its superuser, and whose accounts are changed by another one.
struct Postgres(HostServer);

impl Postgres {
    fn start(part: &str) -> Option<Postgres> {
        let server = HostServer::postgres().start(part)?;
        server.query("", &set_up_once());
        server.query("", "create database shop owner app_owner");
        server.query("shop", "create table orders (id int); insert into orders values (1), (2)");
        Some(Postgres(server))
    }

    /// Nothing of the shop is there, nor anybody who has to do with it.
    fn is_made_anew(&self) {
        self.0.query("", "drop database shop");
        self.0.query("", "drop role app_a, app_b, app_owner, bkp_rot");
    }
}

impl ByTurns for Postgres {
    fn port(&self) -> u16 {
        self.0.port()
    }

    fn query(&self, statements: &str) -> String {
        self.0.query("", statements)
    }

    fn source(&self, password_file: &str) -> String {
        let (port, own) = (self.0.port(), format!("{password_file}-of-superuser"));
        fs::write(&own, self.0.password()).unwrap();
        format!("{{ postgres: {{ host: 127.0.0.1, port: {port}, user: postgres, password_file: {own} }} }}")
    }

    fn of(&self, admin_file: &str) -> String {
        format!("    source: db\n    admin: {{ user: bkp_rot, password_file: {admin_file} }}\n")
    }
}

#[test]
fn who_changes_passwords_is_let_in_again_before_they_are_set() {
    let part = "PostgreSQL that is made anew";
    let (Some(vault), Some(server)) = (Vault::shared(part), Postgres::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    world.open_shop();
    let old = world.old.clone();
    world.host.run(&["backup", "db"]).ends(0);
    world.rotate(&["shop-db"]).ends(0);
    world.close_shop();
    let (user, today) = (world.published_user(), world.published());
    let is_as_today = || {
        assert_eq!(server.0.query("shop", "select count(*) from orders"), "2");
        server.log_in_as(&user, &today).unwrap();
        for one in ["app_a", "app_b"] {
            server.log_in_as(one, &old).unwrap_err();
        }
        let open = "select string_agg(rolname, ' ' order by rolname) from pg_authid where rolcanlogin and rolpassword is not null";
        assert_eq!(server.0.query("", open), "app_b bkp_rot postgres", "nobody else has one");
    };
    // The plug is pulled when the data are live: whoever goes on logs in as that account and no other.
    server.is_made_anew();
    restore(&world, &[("BKP_CRASH_AT", "restore:after-live")]).was_killed();
    server.log_in_as(&user, &today).expect_err("nobody has a password yet");
    world.rotate(&["reapply", "shop-db"]).ends(0);
    is_as_today();
    // What cannot be read is told before anything is changed, and who is kept out by it afterwards.
    server.is_made_anew();
    fs::remove_file(world.host.path("admin")).unwrap();
    let restored = restore(&world, &[]).fails_somehow();
    restored.says("where the server has no bkp_rot").says("shop-db (changed by bkp_rot)");
    // Its own password is another one since, and rotated, too: it has to be let in before the one that stands before it.
    server.is_made_anew();
    let (own, path) = (format!("{}-admin", world.name), world.host.path("etc/policies.d/shop.yaml"));
    vault.write(&own, json!({ "password": "published rights" }));
    let (file, reference) = (world.host.text("admin"), format!("ref+vault://kv/{own}#/password"));
    let policy = fs::read_to_string(&path).unwrap();
    let policy = policy.replace(&format!("password_file: {file} }}"), &format!("password: \"{reference}\" }}"));
    let rotation = format!(
        "  rights:\n    source: db\n    account: bkp_rot\n    accept_gap: true\n    published: {reference}\n    consumers: {{ bkp: {{ command: ['true'] }} }}\n"
    );
    fs::write(&path, policy + &rotation).unwrap();
    let restored = restore(&world, &[]).ends(3).says("the password that is published now");
    restored.says("roles came back with the passwords that bkp logs in with: bkp_rot").says_not("without passwords");
    server.log_in_as("bkp_rot", "published rights").unwrap();
    is_as_today();
}
