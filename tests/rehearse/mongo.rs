//! MongoDB's protocol, spoken by FerretDB in a container and by mongo-java-server on this host; see `docs/ENGINES.md` on what that
//! shows of MongoDB itself.

use super::support::docker::Container;
use super::support::host::{Host, mode};
use super::support::host_server::HostServer;
use super::{nothing_is_left, only, seeded};
use bkp::engine::mongo::Settings;
use bkp::engine::{Dumped, Server};
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::sync::{Client, Database};
use mongodb::{IndexModel, bson};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const PART: &str = "rehearsals of MongoDB";

fn fill(shop: &Database) {
    let orders = shop.collection::<Document>("orders");
    orders
        .insert_many((0..300).map(|i| doc! { "_id": i, "amount": i as f64 / 3.0, "of": bson::oid::ObjectId::new() }))
        .run()
        .unwrap();
    let unique = IndexOptions::builder().unique(true).build();
    orders.create_index(IndexModel::builder().keys(doc! { "of": 1 }).options(unique).build()).run().unwrap();
    shop.collection::<Document>("customers").insert_one(doc! { "_id": "a", "name": "A" }).run().unwrap();
}

/// It has no oplog: what is known of its instant is that nothing was written, or that something was.
#[test]
fn ferretdb_comes_back_equal_when_it_stood_still_and_is_not_called_equal_when_it_did_not() {
    let Some(server) = Container::ferretdb().start(PART) else { return };
    let url = format!("mongodb://root:{}@{}:27017/?directConnection=true", server.password(), server.ip());
    let shop = Client::with_uri_str(url).unwrap().database("shop");
    fill(&shop);
    let user = doc! { "createUser": "app", "pwd": "pw-of-app", "roles": [{ "role": "readWrite", "db": "shop" }] };
    shop.run_command(user).run().ok();
    let host = Host::new();
    fs::write(host.path("data/password"), server.password()).unwrap();
    let password = host.text("data/password");
    host.sources(&[format!(
        "shop: {{ mongo: {{ container: {}, user: root, password_file: \"{password}\" }} }}",
        server.name()
    )]);
    host.run(&["backup"]).ends(0);
    let document = host.read(&["rehearse", "--json"]).ends(0).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"container".into()), "{found}");
    assert!(found["compared"].as_u64().unwrap() >= 4, "{found}");
    nothing_is_left(&host);

    // One document comes and goes: what a second reading would find is the same again, and the server counted it.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let passing = shop.collection::<Document>("customers");
            while !done.load(Relaxed) {
                passing.insert_one(doc! { "_id": "passing" }).run().unwrap();
                passing.delete_one(doc! { "_id": "passing" }).run().unwrap();
            }
        });
        host.next_second();
        host.run(&["backup"]).ends(0);
        done.store(true, Relaxed);
    });
    let document = host.read(&["rehearse", "--json"]).ends(3).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["differing"]), (&"loaded".into(), &0.into()), "{found}");
    assert!(found["unbound"].as_str().unwrap().contains("no oplog, and was written to"), "{found}");
    nothing_is_left(&host);
}

/// A directory with a program `mongod` that is mongo-java-server: it takes what MongoDB's own would be told.
fn mongod() -> Option<tempfile::TempDir> {
    HostServer::mongo_java().require(PART)?;
    let classes = std::env::var_os("BKP_TEST_MONGO_JAVA").map(PathBuf::from)?;
    let directory = tempfile::Builder::new().prefix("bkp-mongod-").tempdir_in("/tmp").unwrap();
    super::support::run(
        "cp",
        &["-rL", classes.to_str().unwrap(), directory.path().join("classes").to_str().unwrap()],
        directory.path(),
    );
    super::support::run("chmod", &["-R", "a+rX", "."], directory.path());
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != --port ]; do shift; done\nexec java -cp '{0}:{0}/*' Server \"$2\"\n",
        directory.path().join("classes").display()
    );
    fs::write(directory.path().join("mongod"), script).unwrap();
    mode(&directory.path().join("mongod"), 0o755);
    mode(directory.path(), 0o755);
    Some(directory)
}

fn rehearsed(host: &Host, mongod: &tempfile::TempDir) -> super::support::host::Answer {
    let path = format!("{}:{}", mongod.path().display(), std::env::var("PATH").unwrap());
    let mut command = host.command(&["rehearse", "--json"]);
    command.env("BKP_IDENTITY", host.identity()).env("PATH", path);
    host.finish(host.start(command))
}

#[test]
fn with_an_oplog_it_comes_back_equal_as_a_process_and_each_loss_is_named() {
    let (Some(mongod), Some(server)) = (mongod(), HostServer::mongo_java().start(PART)) else { return };
    let url = format!("mongodb://127.0.0.1:{}/?directConnection=true", server.port());
    let shop = Client::with_uri_str(url).unwrap().database("shop");
    fill(&shop);
    let host = Host::new();
    host.sources(&[format!("shop: {{ mongo: {{ host: 127.0.0.1, port: {} }} }}", server.port())]);
    let at = Server { host: Some("127.0.0.1".into()), port: Some(server.port()), ..Server::default() };
    let (databases, exclude) = (vec![], vec![]);
    let settings = Settings { server: at, auth_database: None, databases, exclude, mongodump: false };
    let settings = bkp::engine::Settings::Mongo(settings);
    let before: Mutex<Option<Dumped>> = Mutex::new(None);
    let point = || {
        seeded::point(&host, "shop", &settings, |dumped| {
            let mut before = before.lock().unwrap();
            match &*before {
                Some(before) => dumped.fingerprint = before.fingerprint.clone(),
                None => *before = Some(dumped.clone()),
            }
        });
    };
    point();
    let document = rehearsed(&host, &mongod).ends(0).json();
    let found = only(&document);
    assert_eq!((&found["reached"], &found["target"]["kind"]), (&"equal".into(), &"process".into()), "{found}");
    nothing_is_left(&host);
    let orders = shop.collection::<Document>("orders");
    orders.delete_one(doc! { "_id": 7 }).run().unwrap();
    orders.drop_index("of_1").run().unwrap();
    shop.collection::<Document>("customers")
        .update_one(doc! { "_id": "a" }, doc! { "$set": { "name": "B" } })
        .run()
        .unwrap();
    point();
    let document = rehearsed(&host, &mongod).ends(4).json();
    let found = only(&document)["differences"].clone();
    let expected = [
        "definition of shop.orders: 1 indexes instead of 2",
        "shop.customers: other content",
        "shop.orders: 299 documents instead of 300",
    ];
    assert_eq!(found, serde_json::json!(expected));
    nothing_is_left(&host);
}
