//! Against mongo-java-server: what is written during a dump is in the oplog's window, and comes back with it.

use super::bad_days::{Acting, dump_acting};
use super::*;
use bkp::engine::{Sink, TreeSink};
use bson::doc;
use std::io::Read;

/// More than is ever under way between the server and the sink, so that a dump is still at it when the sink acts.
pub fn fill_big(server: &Reached, database: &str) {
    let big = server.collection(database, "big");
    let filling = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![5; 10 << 10] };
    for hundred in 0..40 {
        let documents = (0..100).map(|n| doc! { "_id": hundred * 100 + n, "filling": filling.clone() });
        big.insert_many(documents).run().unwrap();
    }
}

/// Keeps the archive, and acts once its first bytes have come.
struct Keeping<F> {
    memory: MemorySink,
    acting: Option<F>,
}

impl<F: FnOnce()> Sink for Keeping<F> {
    fn stream(&mut self, name: &str, data: &mut dyn Read) -> Result<()> {
        let mut first = vec![0; 1000];
        data.read_exact(&mut first).unwrap();
        if let Some(act) = self.acting.take() {
            act();
        }
        self.memory.stream(name, &mut first.as_slice().chain(data))
    }

    fn tree(&mut self) -> Result<&mut dyn TreeSink> {
        unreachable!("MongoDB has no trees")
    }
}

/// Everything that a client may do to data, on collections that were read already and on ones that are still to come.
fn write(server: &Reached) {
    for name in ["a_before", "z_after"] {
        let docs = server.collection("shop", name);
        docs.insert_one(doc! { "_id": "new", "n": 1 }).run().unwrap();
        docs.update_one(doc! { "_id": 1 }, doc! { "$set": { "changed.deep": [1, 2] }, "$unset": { "n": 1 } })
            .run()
            .unwrap();
        docs.replace_one(doc! { "_id": 2 }, doc! { "replaced": true }).run().unwrap();
        docs.update_many(doc! { "_id": { "$gt": 90 } }, doc! { "$set": { "n": 1000 } }).run().unwrap();
        docs.delete_many(doc! { "_id": { "$in": [3, 4, 5] } }).run().unwrap();
        docs.insert_one(doc! { "_id": 3, "again": true }).run().unwrap();
        docs.update_one(doc! { "_id": "upserted" }, doc! { "$set": { "u": 1 } }).upsert(true).run().unwrap();
        // Through states in which the unique index would refuse the other's old value.
        docs.update_one(doc! { "_id": 10 }, doc! { "$set": { "unique": -1 } }).run().unwrap();
        docs.update_one(doc! { "_id": 11 }, doc! { "$set": { "unique": 10 } }).run().unwrap();
        docs.update_one(doc! { "_id": 10 }, doc! { "$set": { "unique": 11 } }).run().unwrap();
    }
    server.collection("shop", "made_meanwhile").insert_one(doc! { "_id": 1 }).run().unwrap();
}

fn fill(server: &Reached) {
    for name in ["a_before", "z_after"] {
        let documents: Vec<Document> = (0..100).map(|n| doc! { "_id": n, "n": n, "unique": n }).collect();
        server.collection("shop", name).insert_many(documents).run().unwrap();
        let indexes = doc! {
            "createIndexes": name,
            "indexes": [
                { "key": { "unique": 1 }, "name": "unique", "unique": true, "sparse": true },
                { "key": { "n": -1, "unique": 1 }, "name": "compound" },
                { "key": { "at": 1 }, "name": "ttl", "expireAfterSeconds": 3600 },
                { "key": { "n": 1 }, "name": "partial", "partialFilterExpression": { "n": { "$gt": 5 } } },
                { "key": { "text": 1 }, "name": "collated", "collation": { "locale": "es", "strength": 1 } },
            ],
        };
        server.client().database("shop").run_command(indexes).run().unwrap();
    }
    fill_big(server, "shop");
}

#[test]
fn what_is_written_during_a_dump_comes_back_as_it_was_at_its_end() {
    let part = "the oplog's window with mongo-java-server";
    let Some(source) = HostServer::mongo_java().start(part) else { return };
    let Some(scratch) = HostServer::mongo_java().start(part) else { return };
    let (source, scratch) = (Reached::java(&source), Reached::java(&scratch));
    fill(&source);
    let mut sink = Keeping { memory: MemorySink::new(), acting: Some(|| write(&source)) };
    let dumped = dump_acting(&source.settings(), &mut sink).unwrap();
    let origin = sink.memory.into_origin(&dumped);

    let position = dumped.position.as_ref().expect("a dump with an oplog has a position");
    assert!(position["entries"].as_u64().unwrap() > 20, "{position}");
    assert_eq!(dumped.details["bound"], true);
    let parts: Vec<&String> = dumped.fingerprint.parts.keys().collect();
    assert!(!parts.iter().any(|name| **name == "shop.a_before"), "{parts:?}");
    assert!(parts.iter().any(|name| **name == "shop.big"), "{parts:?}");
    let archive = independent::read(&origin.streams["archive"]);
    let window = &archive.documents[&(String::new(), "oplog".to_owned())];
    assert_eq!(window.len() as u64, position["entries"].as_u64().unwrap());

    load_with(&scratch.settings(), &origin, &same(), Part::Whole).unwrap();
    assert_equal(&source, "shop", &scratch, "shop");
    let suffix = Target::NewDatabases(Naming::Suffix("_2".into()));
    load_with(&scratch.settings(), &origin, &suffix, Part::Database("shop".into())).unwrap();
    assert_equal(&source, "shop", &scratch, "shop_2");
}

fn assert_equal(source: &Reached, database: &str, other: &Reached, name: &str) {
    assert_eq!(other.collections(name), source.collections(database));
    for collection in source.collections(database) {
        let what = format!("{name}.{collection}");
        let (left, right) = (other.documents(name, &collection), source.documents(database, &collection));
        let decode = |bytes: &Vec<u8>| Document::from_reader(bytes.as_slice()).unwrap().to_string();
        let differ: Vec<_> = left.iter().zip(&right).filter(|(l, r)| l != r).take(3).collect();
        let differ: Vec<_> = differ.iter().map(|(l, r)| (decode(l), decode(r))).collect();
        assert!(differ.is_empty() && left.len() == right.len(), "documents of {what}: {differ:?}");
        assert_eq!(other.indexes(name, &collection), source.indexes(database, &collection), "indexes of {what}");
    }
}

#[test]
fn a_quiet_server_with_an_oplog_has_a_whole_fingerprint() {
    let Some(server) = HostServer::mongo_java().start("a fingerprint with an oplog") else { return };
    let server = Reached::java(&server);
    server.collection("quiet", "a").insert_many((0..20).map(|n| doc! { "_id": n })).run().unwrap();
    server.collection("quiet", "b").insert_one(doc! { "_id": 1 }).run().unwrap();
    let mut nothing = Acting { act: Some(|| ()) };
    let dumped = dump_acting(&server.settings(), &mut nothing).unwrap();
    let names: Vec<&String> = dumped.fingerprint.parts.keys().collect();
    assert_eq!(names, ["definition of quiet.a", "definition of quiet.b", "quiet.a", "quiet.b"]);
    assert_eq!(dumped.fingerprint, fingerprint(&server.settings()));
    assert_eq!(dumped.fingerprint.parts["quiet.a"].count, 20);
}

/// MongoDB's own oplog never has such entries: it says what came out. This server's has them.
#[test]
fn a_change_that_cannot_be_repeated_ends_the_dump() {
    let Some(server) = HostServer::mongo_java().start("changes that cannot be repeated") else { return };
    let server = Reached::java(&server);
    fill_big(&server, "shop");
    let count =
        || _ = server.collection("shop", "big").update_one(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } }).run();
    let failure = dump_acting(&server.settings(), &mut Acting { act: Some(count) }).unwrap_err();
    assert!(failure.to_string().contains("$inc on shop.big"), "{failure}");
}
