//! The protocol of MongoDB, where two users with the same roles take turns; FerretDB is the server that has users here.

use super::emergency::{Held, KeepsSessions};
use super::kills;
use super::servers::is_rotated_without_a_gap;
use super::support::docker::Container;
use super::support::docker::engine::docker;
use super::support::vault::Vault;
use super::support::wait_for;
use super::world::{Target, World};
use hmac::{Hmac, KeyInit, Mac};
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, Credential, ServerAddress};
use mongodb::sync::Client;
use rustix::process::Signal;
use sha2::Sha256;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The only ones that FerretDB takes, together.
fn roles() -> Vec<Document> {
    vec![doc! { "role": "readWriteAnyDatabase", "db": "admin" }, doc! { "role": "clusterAdmin", "db": "admin" }]
}

const PORT: u16 = 27017;
/// Of another front end of the same.
const OTHER: u16 = 27018;

pub struct Ferretdb {
    container: Container,
    /// Another start may change it.
    host: Mutex<String>,
    is_set_up: AtomicBool,
}

impl Ferretdb {
    pub fn start(part: &str) -> Option<Ferretdb> {
        let container = Container::ferretdb().start(part)?;
        let host = Mutex::new(container.ip().to_string());
        Some(Ferretdb { container, host, is_set_up: AtomicBool::new(false) })
    }

    fn host(&self) -> String {
        self.host.lock().unwrap().clone()
    }

    pub fn restart(&self) {
        self.container.stop();
        self.container.start_again();
        *self.host.lock().unwrap() = self.container.ip().to_string();
    }

    /// Another server that has the same users, and finds them where the first one does.
    fn begin_other(&self) {
        let user = self.container.user();
        let script = format!(
            "echo $$ > /tmp/other; exec setpriv --reuid=postgres --regid=postgres --init-groups env FERRETDB_TELEMETRY=disable ferretdb --postgresql-url=postgres://{user}@127.0.0.1:5432/postgres --listen-addr=:{OTHER} --debug-addr=- --state-dir=/var/lib/postgresql"
        );
        docker(&["exec", "--detach", self.container.id(), "sh", "-c", &script]);
        wait_for("the other front end", 60, || self.is_there(OTHER).then_some(()));
    }

    fn end_other(&self) {
        docker(&["exec", self.container.id(), "sh", "-c", "kill -9 $(cat /tmp/other)"]);
        wait_for("the end of the other front end", 60, || (!self.is_there(OTHER)).then_some(()));
    }

    fn is_there(&self, port: u16) -> bool {
        TcpStream::connect((self.host().as_str(), port)).is_ok()
    }

    pub fn log(&self) -> String {
        self.container.logs()
    }

    pub fn admin(&self, command: Document) -> mongodb::error::Result<Document> {
        let root = client((&self.host(), PORT), self.container.user(), self.container.password());
        root.database("admin").run_command(command).run()
    }

    /// What `usersInfo` says of one.
    fn roles_of(&self, user: &str) -> Vec<(String, String)> {
        let answer = self.admin(doc! { "usersInfo": { "user": user, "db": "admin" } }).unwrap();
        let users = answer.get_array("users").unwrap();
        let found =
            users.iter().filter_map(|found| found.as_document()).find(|found| found.get_str("user").unwrap() == user);
        let roles = found.unwrap_or_else(|| panic!("{answer}")).get_array("roles").unwrap().clone();
        let text = |role: &Document, key: &str| role.get_str(key).unwrap().to_owned();
        let mut roles: Vec<_> = roles
            .iter()
            .filter_map(|role| role.as_document())
            .map(|role| (text(role, "role"), text(role, "db")))
            .collect();
        roles.sort();
        roles
    }
}

impl Target for Ferretdb {
    fn source(&self, password_file: &str) -> String {
        let (name, user) = (self.container.name(), self.container.user());
        format!("{{ mongo: {{ container: {name}, user: {user}, password_file: {password_file} }} }}")
    }

    fn admin_password(&self) -> String {
        self.container.password().to_owned()
    }

    fn users(&self) -> Vec<&'static str> {
        vec!["app_a", "app_b"]
    }

    fn account(&self, published: &str) -> String {
        format!("    logins: [app_a, app_b]\n    published_user: {published}#/user\n")
    }

    fn set_up(&self, password: &str) {
        if self.is_set_up.swap(true, SeqCst) {
            return self.users().iter().for_each(|user| self.is_given(user, password));
        }
        self.admin(doc! { "createUser": "app_a", "pwd": password, "roles": roles() }).unwrap();
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        self.log_in_as("app_a", password)
    }

    fn log_in_as(&self, user: &str, password: &str) -> Result<(), String> {
        asks(client((&self.host(), PORT), user, password))
    }
}

/// Once, in a session of its own.
fn asks(client: Client) -> Result<(), String> {
    let asked = client.database("shop").run_command(doc! { "find": "orders", "limit": 1 }).run();
    client.shutdown().immediate(true).run();
    asked.map(drop).map_err(|e| e.to_string())
}

fn client((host, port): (&str, u16), user: &str, password: &str) -> Client {
    let mut credential = Credential::default();
    credential.username = Some(user.to_owned());
    credential.password = Some(password.to_owned());
    credential.source = Some("admin".to_owned());
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp { host: host.to_owned(), port: Some(port) }])
        .direct_connection(true)
        .server_selection_timeout(Duration::from_secs(20))
        .credential(credential);
    Client::with_options(options.build()).unwrap()
}

impl KeepsSessions for Ferretdb {
    /// It ends no session, so each question is asked in another one.
    fn hold(&self, user: &str, password: &str) -> Result<Held, String> {
        self.log_in_as(user, password)?;
        let (host, user, password) = (self.host(), user.to_owned(), password.to_owned());
        Ok(Box::new(move || asks(client((&host, PORT), &user, &password)).is_ok()))
    }

    fn is_given(&self, user: &str, password: &str) {
        self.admin(doc! { "updateUser": user, "pwd": password }).unwrap();
    }
}

/// Clients use both front ends.
struct Both(Ferretdb);

impl Target for Both {
    fn source(&self, password_file: &str) -> String {
        self.0.source(password_file)
    }

    fn admin_password(&self) -> String {
        self.0.admin_password()
    }

    fn users(&self) -> Vec<&'static str> {
        self.0.users()
    }

    fn account(&self, published: &str) -> String {
        let host = self.0.host();
        format!("{}    nodes: ['{host}:{PORT}', '{host}:{OTHER}']\n", self.0.account(published))
    }

    fn set_up(&self, password: &str) {
        self.0.set_up(password);
    }

    fn log_in(&self, password: &str) -> Result<(), String> {
        self.log_in_as("app_a", password)
    }

    /// Whoever is not there refuses nobody.
    fn log_in_as(&self, user: &str, password: &str) -> Result<(), String> {
        let host = self.0.host();
        let first = asks(client((&host, PORT), user, password));
        if !self.0.is_there(OTHER) {
            return first;
        }
        match (first, asks(client((&host, OTHER), user, password))) {
            (first, Err(said)) if !said.contains("uthentication") => first,
            (Ok(()), Err(said)) | (Err(said), Ok(())) => Err(format!("only at one of them: {said}")),
            (first, _) => first,
        }
    }
}

#[test]
fn both_front_ends_of_mongodb_are_tried_and_one_that_is_away_is_waited_for() {
    let part = "rotation of MongoDB with two servers";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    let server = Arc::new(Both(server));
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let other_refuses = |user: &str, password: &str| {
        let said = asks(client((&server.0.host(), OTHER), user, password)).unwrap_err();
        assert!(said.contains("uthentication"), "{said}");
    };
    // Down when it begins: nothing does.
    world.rotate(&["shop-db", "--dry-run"]).ends(75);
    world.open_shop();
    let begun = world.host.start(world.host.command(&["rotate", "shop-db"]));
    server.0.begin_other();
    world.host.finish(begun).ends(0);
    let new = world.one_password_works(&world.old);
    other_refuses("app_a", &world.old);
    // Lost when everybody is about to be moved: they are, and nothing is taken away before it is there again.
    kills::wait_for_distance(&world);
    let stopped = world.stops_at("rotate:published", &["shop-db"]);
    server.0.end_other();
    stopped.signal(Signal::CONT);
    let moved = || world.states().iter().filter(|state| *state == "moved").count();
    wait_for("the consumers to be moved", 60, || (moved() == 4).then_some(()));
    world.target.log_in_as("app_b", &new).unwrap();
    server.0.begin_other();
    let answer = world.host.finish(stopped);
    if answer.status.code() != Some(0) {
        // It was asked who is there when it was away.
        answer.ends(75);
        world.rotate(&["resume", "shop-db"]).ends(0);
    }
    world.one_password_works(&new);
    other_refuses("app_b", &new);
}

#[test]
fn two_users_of_mongodb_take_turns_without_a_gap() {
    let part = "rotation of MongoDB";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    let server = Arc::new(server);
    is_rotated_without_a_gap(vault, Arc::clone(&server) as Arc<dyn Target>);
    assert_eq!(server.roles_of("app_a"), server.roles_of("app_b"));
    assert_eq!(server.roles_of("app_a").len(), 2, "they have what the first one had");
}

#[test]
fn killed_rotations_of_mongodb_are_brought_to_their_end() {
    let part = "killed rotations of MongoDB";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    kills::converges(vault, Arc::new(server), kills::forward());
}

#[test]
fn rotations_of_mongodb_are_taken_back() {
    let part = "rotations of MongoDB that are taken back";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    let server = Arc::new(server);
    // Each of the servers that are named is asked who is there.
    let nodes = format!("    nodes: ['{}:27017']\n", server.host());
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, &nodes);
    world.open_shop();
    let points = ["rotate:accepted", "rotate:published", "rotate:moved#2", "rotate:unused"];
    kills::all_are_taken_back_on_request(&world, points.into_iter(), || {
        assert_eq!(world.published_user(), "app_a");
    });
    kills::all_are_taken_back(&world, kills::BACK.into_iter());
    assert_eq!(world.published(), world.old);
    // A user that is not there has no turn.
    server.admin(doc! { "dropUser": "app_a" }).unwrap();
    world.rotate(&["shop-db", "--dry-run"]).fails(12, "there is no user app_a in admin", "Correct");
}

/// It tells nobody who is there, so bkp knows only of what it locked itself.
#[test]
fn a_user_whose_password_somebody_else_set_is_not_taken_away() {
    let part = "users of MongoDB that somebody else has";
    let (Some(vault), Some(server)) = (Vault::shared(part), Ferretdb::start(part)) else { return };
    let server = Arc::new(server);
    let mut world = World::with(vault, Arc::clone(&server) as Arc<dyn Target>, "");
    let is_refused = |world: &World, password: &str| {
        let refused = world.rotate(&["shop-db"]);
        refused.fails(13, "app_b has a password that bkp did not set", "whether another host has a rotation under way (bkp rotate status there). When nobody uses app_b: db.getSiblingDB('admin').dropUser('app_b')");
        server.log_in_as("app_b", password).unwrap();
        server.log_in_as("app_a", &world.published()).unwrap();
    };
    server.admin(doc! { "createUser": "app_b", "pwd": "of-somebody-else", "roles": roles() }).unwrap();
    is_refused(&world, "of-somebody-else");
    // What a bkp from before locked by the password of who changes accounts is known, and locked so by none any more.
    let lock_of_before = |user: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(server.admin_password().as_bytes()).unwrap();
        mac.update(format!("locked: admin.{user}").as_bytes());
        hex::encode(mac.finalize().into_bytes())
    };
    server.admin(doc! { "updateUser": "app_b", "pwd": lock_of_before("app_b") }).unwrap();
    server.log_in_as("app_b", &lock_of_before("app_b")).unwrap();
    // Applied again, it is locked anew.
    world.rotate(&["reapply", "shop-db"]).ends(0);
    server.log_in_as("app_b", &lock_of_before("app_b")).unwrap_err();
    server.admin(doc! { "updateUser": "app_b", "pwd": lock_of_before("app_b") }).unwrap();
    world.open_shop();
    world.rotate(&["shop-db"]).ends(0);
    let new = world.one_password_works(&world.old);
    for user in ["app_a", "app_b"] {
        server.log_in_as(user, &lock_of_before(user)).unwrap_err();
    }
    kills::wait_for_distance(&world);
    world.rotate(&["shop-db"]).ends(0);
    world.one_password_works(&new);
    kills::wait_for_distance(&world);
    server.admin(doc! { "updateUser": "app_b", "pwd": "set-again-by-hand" }).unwrap();
    is_refused(&world, "set-again-by-hand");
}
