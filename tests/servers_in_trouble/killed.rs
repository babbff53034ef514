//! Restores into servers that are killed in the middle (`kill -9` of bkp): what lives is as it was, what is left is named
//! by `bkp doctor` and by the next run with what removes it, and the restore works when it is run again.

use crate::cli::{Bkp, Ran};
use crate::support::docker::Container;
use crate::support::host_server::HostServer;
use bson::{Document, doc};
use mongodb::sync::Client;
use std::os::unix::process::ExitStatusExt;

/// A server whose whole content, in two databases, is one word.
trait Served {
    /// The source's settings, in YAML.
    fn settings(&self, password_file: &str) -> String;

    fn password(&self) -> &str;

    fn set(&self, word: &str);

    fn get(&self) -> String;

    /// Does what was told to remove something.
    fn remove(&self, told: &str);

    /// Whether what a killed run began has ended: clients live a moment longer than bkp.
    fn is_quiet(&self) -> bool {
        true
    }
}

struct Mariadb(HostServer);

impl Served for Mariadb {
    fn settings(&self, password_file: &str) -> String {
        format!(
            "{{ mysql: {{ host: 127.0.0.1, port: {}, user: root, password_file: {password_file} }} }}",
            self.0.port()
        )
    }

    fn password(&self) -> &str {
        self.0.password()
    }

    fn set(&self, word: &str) {
        for database in ["shop", "sto`re"] {
            let name = database.replace('`', "``");
            self.0.query("", &format!(
                "create database if not exists `{name}`; use `{name}`; drop table if exists t; create table t (v text);
                 insert into t values ('{word}'); create trigger tr before insert on t for each row set new.v = 'x'; create or replace view w as select v from t"
            ));
        }
    }

    fn get(&self) -> String {
        let triggers = "select count(*) from information_schema.triggers where trigger_schema in ('shop', 'sto`re')";
        let words = self.0.query("", "select v from shop.t; select v from `sto``re`.t; select v from shop.w");
        let words: Vec<&str> = words.lines().collect();
        assert!(words.windows(2).all(|pair| pair[0] == pair[1]), "{words:?}");
        assert_eq!(self.0.query("", triggers), "2");
        words[0].to_owned()
    }

    fn remove(&self, told: &str) {
        self.0.query("", told);
    }

    fn is_quiet(&self) -> bool {
        let others =
            "select count(*) from information_schema.processlist where user = 'root' and id <> connection_id()";
        self.0.query("", others) == "0"
    }
}

struct Postgres(HostServer);

impl Served for Postgres {
    fn settings(&self, password_file: &str) -> String {
        format!(
            "{{ postgres: {{ host: 127.0.0.1, port: {}, user: postgres, password_file: {password_file} }} }}",
            self.0.port()
        )
    }

    fn password(&self) -> &str {
        self.0.password()
    }

    fn set(&self, word: &str) {
        for database in ["shop", "store"] {
            if self.0.query("", &format!("select count(*) from pg_database where datname = '{database}'")) == "0" {
                self.0.query("", &format!("create database {database}"));
            }
            self.0.query(
                database,
                &format!("drop table if exists t; create table t (v text); insert into t values ('{word}')"),
            );
        }
    }

    fn get(&self) -> String {
        let words = ["shop", "store"].map(|database| self.0.query(database, "select v from t"));
        assert_eq!(words[0], words[1]);
        words[0].clone()
    }

    fn remove(&self, told: &str) {
        self.0.query("", told);
    }
}

struct Redis(HostServer);

impl Served for Redis {
    fn settings(&self, password_file: &str) -> String {
        format!("{{ redis: {{ host: 127.0.0.1, port: {}, password_file: {password_file} }} }}", self.0.port())
    }

    fn password(&self) -> &str {
        self.0.password()
    }

    fn set(&self, word: &str) {
        for database in ["0", "3"] {
            self.0.query(database, &format!("flushdb\nset word {word}\nrpush list a b {word}"));
        }
        // A database that the point does not have.
        self.0.query("6", if word == "then" { "flushdb" } else { "set later 1" });
    }

    fn get(&self) -> String {
        let words = ["0", "3"].map(|database| self.0.query(database, "get word\nlindex list 2\ndbsize"));
        assert_eq!(words[0], words[1]);
        let word = words[0].lines().next().unwrap().to_owned();
        assert_eq!(words[0], format!("{word}\n{word}\n2"));
        assert_eq!(self.0.query("6", "dbsize"), if word == "then" { "0" } else { "1" });
        word
    }

    fn remove(&self, told: &str) {
        let number = told.split(" -n ").nth(1).unwrap().split(' ').next().unwrap();
        self.0.query(number, "flushdb");
    }
}

struct Ferretdb(Container);

impl Ferretdb {
    fn client(&self) -> Client {
        let (server, port) = (&self.0, self.0.port());
        let login = format!("{}:{}@{}", server.user(), server.password(), server.ip());
        Client::with_uri_str(format!("mongodb://{login}:{port}/?directConnection=true")).unwrap()
    }
}

impl Served for Ferretdb {
    fn settings(&self, password_file: &str) -> String {
        format!("{{ mongo: {{ container: {}, user: root, password_file: {password_file} }} }}", self.0.name())
    }

    fn password(&self) -> &str {
        self.0.password()
    }

    fn set(&self, word: &str) {
        for database in ["shop", "store"] {
            let collection = self.client().database(database).collection::<Document>("words");
            collection.delete_many(doc! {}).run().unwrap();
            collection.insert_many([doc! { "_id": 1, "word": word }, doc! { "_id": 2, "word": word }]).run().unwrap();
        }
    }

    fn get(&self) -> String {
        let words = |database: &str| -> Vec<String> {
            let collection = self.client().database(database).collection::<Document>("words");
            let found = collection.find(doc! {}).run().unwrap();
            found.map(|document| document.unwrap().get_str("word").unwrap().to_owned()).collect()
        };
        let all = [words("shop"), words("store")].concat();
        assert!(all.len() == 4 && all.iter().all(|word| *word == all[0]), "{all:?}");
        all[0].clone()
    }

    fn remove(&self, told: &str) {
        let quoted: Vec<&str> = told.split('"').collect();
        let [_, database, _, collection, _] = quoted[..] else { panic!("{told}") };
        self.client().database(database).collection::<Document>(collection).drop().run().unwrap();
    }
}

/// What `bkp doctor` says is left: what it is, and what removes it.
fn leftovers(host: &Bkp) -> Vec<(String, String)> {
    let document = host.run(&["doctor", "--json"]).document();
    let findings = document["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == "leftovers");
    let told = findings.map(|finding| {
        let hint = finding["hint"].as_str().unwrap();
        let remove = hint.strip_prefix("Look into it; when nothing in it is needed: ").unwrap();
        (finding["text"].as_str().unwrap().to_owned(), remove.to_owned())
    });
    told.collect()
}

struct Day<'s> {
    served: &'s dyn Served,
    host: Bkp,
    point: String,
}

impl Day<'_> {
    /// A host with one point, in which the word is `then`; now it is `now`.
    fn of(served: &dyn Served) -> Day<'_> {
        let host = Bkp::with_repository();
        let file = host.write("secret", served.password());
        let source = served.settings(file.to_str().unwrap());
        host.configure("", &format!("policy: test\nsources:\n  served: {source}\n"));
        served.set("then");
        host.ok(&["backup"]);
        let point = host.points("served").remove(0);
        served.set("now");
        Day { served, host, point }
    }

    fn restore<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["restore", &self.point, "--identity", "key.txt"], more].concat()
    }

    fn run(&self, more: &[&str]) -> Ran {
        let ran = self.host.run(&self.restore(more));
        assert!(!ran.stderr.contains(self.served.password()) && !ran.stdout.contains(self.served.password()));
        ran
    }

    fn killed_at(&self, place: &str, more: &[&str]) {
        let output = self.host.command(&self.restore(more)).env("BKP_CRASH_AT", place).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        let quiet = || self.served.is_quiet().then_some(());
        crate::support::wait_for("the end of what the killed run began", 60, quiet);
    }

    fn tidy_up(&self) {
        for (_, remove) in leftovers(&self.host) {
            self.served.remove(&remove);
        }
        assert_eq!(leftovers(&self.host), []);
    }
}

const IN_PLACE: [&str; 3] = ["--in-place", "--confirm", "served"];

fn survives_in_place(served: &dyn Served) {
    let day = Day::of(served);
    for place in ["restore:target-begun", "restore:before-live", "restore:after-live"] {
        served.set("now");
        day.killed_at(place, &IN_PLACE);
        let is_live = place == "restore:after-live";
        if !is_live {
            assert_eq!(served.get(), "now", "{place}");
        }
        let left = leftovers(&day.host);
        assert!(!left.is_empty(), "{place}: nothing is told to be left");
        let unfinished = left.iter().any(|(text, _)| text.contains("not whole"));
        assert!(unfinished || is_live, "{place}: {left:?}");
        // A backup of meanwhile does not take it for data.
        let backup = day.host.run(&["backup"]).expect_code(if unfinished { 3 } else { 0 });
        assert_eq!(backup.stderr.contains("a restore into it goes on, or was killed"), unfinished, "{}", backup.stderr);

        let again = day.run(&IN_PLACE);
        assert!([0, 3].contains(&again.code), "{place}: {}", again.stderr);
        assert_eq!(served.get(), "then", "{place}");
        let named = left.iter().all(|(_, remove)| again.stderr.contains(remove.as_str()));
        assert!(named, "{place}: the next run names what is left {left:?}:\n{}", again.stderr);
        day.tidy_up();
        assert_eq!(served.get(), "then", "{place}");
    }
    day.host.assert_no_trace(served.password());
}

#[test]
fn mariadb_in_place() {
    let Some(server) = HostServer::mariadb().start("a killed restore into MariaDB") else { return };
    survives_in_place(&Mariadb(server));
}

#[test]
fn postgres_in_place() {
    let Some(server) = HostServer::postgres().start("a killed restore into PostgreSQL") else { return };
    survives_in_place(&Postgres(server));
}

#[test]
fn redis_in_place() {
    let server = HostServer::redis().argument("--repl-diskless-sync-delay").argument("0");
    let Some(server) = server.start("a killed restore into Redis") else { return };
    survives_in_place(&Redis(server));
}

#[test]
fn mongo_in_place() {
    let Some(server) = Container::ferretdb().start("a killed restore into FerretDB") else { return };
    survives_in_place(&Ferretdb(server));
}

/// New databases have their names from the beginning where a server cannot rename them: then they are marked, and the same
/// command takes their place.
fn survives_beside(served: &dyn Served) {
    let day = Day::of(served);
    day.killed_at("restore:data-written", &[]);
    assert_eq!(served.get(), "now");
    let left = leftovers(&day.host);
    assert!(left.iter().any(|(text, _)| text.contains("not whole")), "{left:?}");
    let again = day.run(&[]);
    assert!([0, 3].contains(&again.code), "{}", again.stderr);
    day.tidy_up();
    assert_eq!(served.get(), "now");
    day.host.assert_no_trace(served.password());
}

#[test]
fn mariadb_beside() {
    let Some(server) = HostServer::mariadb().start("a killed restore into MariaDB") else { return };
    let server = Mariadb(server);
    survives_beside(&server);
    let copies = "select count(*) from information_schema.schemata where schema_name like '%\\_restore\\_%'";
    assert_eq!(server.0.query("", copies), "2");
}

#[test]
fn postgres_beside() {
    let Some(server) = HostServer::postgres().start("a killed restore into PostgreSQL") else { return };
    let server = Postgres(server);
    survives_beside(&server);
    let copies = "select count(*) from pg_database where datname like '%\\_restore\\_%'";
    assert_eq!(server.0.query("", copies), "2");
}

#[test]
fn mongo_beside() {
    let Some(server) = Container::ferretdb().start("a killed restore into FerretDB") else { return };
    let server = Ferretdb(server);
    survives_beside(&server);
    let copies = server.client().list_database_names().run().unwrap();
    assert_eq!(copies.iter().filter(|name| name.contains("_restore_")).count(), 2, "{copies:?}");
}

#[test]
fn redis_into_an_empty_server() {
    let part = "a killed restore into an empty Redis";
    let start = || HostServer::redis().argument("--repl-diskless-sync-delay").argument("0").start(part);
    let Some(server) = start() else { return };
    let target = Redis(start().unwrap());
    let served = Redis(server);
    let day = Day::of(&served);
    let file = day.host.write("other", target.password());
    let to = format!("redis:host=127.0.0.1,port={},password_file={}", target.0.port(), file.display());
    day.killed_at("restore:data-written", &["--to", &to]);
    day.run(&["--to", &to])
        .expect_code(13)
        .says(&["holds a part of a restore that goes on, or was killed", "FLUSHALL"]);
    target.0.query("0", "flushall");
    let again = day.run(&["--to", &to]);
    assert!([0, 3].contains(&again.code), "{}", again.stderr);
    assert_eq!((target.get(), served.get()), ("then".into(), "now".into()));
}
