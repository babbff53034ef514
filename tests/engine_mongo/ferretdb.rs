//! Against FerretDB on DocumentDB: authentication, users, indexes, names, and data of every type.

use super::independent;
use super::*;
use bkp::engine::Confirmed;
use bkp::error::Kind;
use bson::{Bson, doc};
use std::sync::atomic::{AtomicBool, Ordering};

/// Every type that a document can have.
fn every_type() -> Document {
    doc! {
        "_id": bson::oid::ObjectId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        "double": 0.1, "minus_zero": -0.0, "nan": f64::NAN, "infinity": f64::INFINITY,
        "string": "ñ 🙂 \u{1} \"quoted\"", "empty": "", "document": { "b": 1, "a": { "deep": [1, [2, { "x": Bson::Null }]] } },
        "binary": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: (0..=255).collect() },
        "uuid": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] },
        "yes": true, "no": false, "null": Bson::Null,
        "at": bson::DateTime::from_millis(-1), "late": bson::DateTime::from_millis(253_402_300_799_999),
        "regex": bson::Regex { pattern: bson::cstr!("^a.*b$").into(), options: bson::cstr!("im").into() },
        "code": Bson::JavaScriptCode("function () { return 1 }".into()),
        "int": 2_147_483_647, "long": 9_007_199_254_740_993_i64,
        "timestamp": bson::Timestamp { time: 4_000_000_000, increment: 7 },
        "decimal": "0.1000000000000000000000000000000001".parse::<bson::Decimal128>().unwrap(),
        "min": Bson::MinKey, "max": Bson::MaxKey,
        "array": [1, 2.5, "three", { "four": 4_i64 }, []],
    }
}

/// Databases with unusual names, all index kinds, and users.
fn fill(server: &Reached) {
    let shop = server.client().database("Shop-1_ñ");
    shop.collection::<Document>("every type").insert_one(every_type()).run().unwrap();
    let orders: Vec<Document> = (0..3000)
        .map(|n| doc! { "_id": n, "customer": n % 97, "email": format!("u{n}@example.org"), "text": "x".repeat(200) })
        .collect();
    shop.collection::<Document>("orders.of.2026").insert_many(orders).run().unwrap();
    let indexes = doc! {
        "createIndexes": "orders.of.2026",
        "indexes": [
            { "key": { "email": 1 }, "name": "unique email", "unique": true },
            { "key": { "customer": 1, "_id": -1 }, "name": "compound" },
            { "key": { "_id": -1, "customer": 1 }, "name": "the other way round" },
            { "key": { "coupon": 1 }, "name": "sparse", "sparse": true },
            { "key": { "seen": 1 }, "name": "ttl", "expireAfterSeconds": 1_000_000_000 },
            { "key": { "customer": 1 }, "name": "partial", "partialFilterExpression": { "customer": { "$gt": 50 } } },
        ],
    };
    shop.run_command(indexes).run().unwrap();
    shop.create_collection("nothing in it").run().unwrap();
    let other = server.client().database("other");
    other
        .collection::<Document>("emoji 🙂")
        .insert_many((0..10).map(|n| doc! { "_id": format!("k{n}") }))
        .run()
        .unwrap();
    let roles =
        vec![doc! { "role": "readWriteAnyDatabase", "db": "admin" }, doc! { "role": "clusterAdmin", "db": "admin" }];
    let admin = server.client().database("admin");
    admin.run_command(doc! { "createUser": "application", "pwd": "app-secret-1", "roles": roles }).run().unwrap();
    let reader = vec![doc! { "role": "readAnyDatabase", "db": "admin" }];
    admin.run_command(doc! { "createUser": "report's", "pwd": "app-secret-2", "roles": reader }).run().unwrap();
}

fn users(server: &Reached) -> Vec<Document> {
    let answer =
        server.client().database("admin").run_command(doc! { "usersInfo": { "forAllDBs": true } }).run().unwrap();
    let mut users: Vec<Document> =
        answer.get_array("users").unwrap().iter().map(|u| u.as_document().unwrap().clone()).collect();
    users.sort_by_key(|user| user.get_str("_id").unwrap().to_owned());
    users
}

#[test]
fn a_whole_server_comes_back_equal_with_indexes_and_users() {
    let part = "the whole of a FerretDB server";
    let wanted = [Container::ferretdb(), Container::ferretdb()];
    let Some([source, scratch]) = support::docker::start_all(part, wanted) else { return };
    let (source, scratch) = (Reached::ferretdb(&source), Reached::ferretdb(&scratch));
    fill(&source);
    Mongo::new(source.settings()).preflight().unwrap();

    let done = AtomicBool::new(false);
    let (dumped, origin) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let busy = source.collection("other", "busy");
            (0..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(|n: i64| {
                busy.insert_one(doc! { "_id": n, "filling": "y".repeat(1000) }).run().unwrap();
            });
        });
        support::wait_for("the writer's first document", 30, || {
            (!source.documents("other", "busy").is_empty()).then_some(())
        });
        let result = dump_with(&source.settings());
        done.store(true, Ordering::Relaxed);
        result.unwrap()
    });
    assert!(dumped.notes.iter().any(|note| note.contains("may be of different instants")), "{:?}", dumped.notes);
    assert_eq!((dumped.position, dumped.details["bound"].as_bool()), (None, Some(false)));
    assert_eq!((dumped.inventory["databases"], dumped.inventory["users"]), (2, 2));
    let written = format!("{:?}{}", dumped.notes, dumped.details);
    assert!(!written.contains("secret") && !written.contains("pw-"), "{written}");

    let archive = independent::read(&origin.streams["archive"]);
    assert_eq!(archive.server_version, dumped.version);
    let orders = ("Shop-1_ñ".to_owned(), "orders.of.2026".to_owned());
    assert_eq!(archive.documents[&orders].len(), 3000);
    assert!(archive.metadata[&orders].contains(r#""key":{"_id":{"$numberInt":"-1"},"customer":{"$numberInt":"1"}}"#));

    let loaded = load_with(&scratch.settings(), &origin, &same(), Part::Whole).unwrap();
    assert_eq!(loaded.bytes, origin.streams["archive"].len() as u64);
    assert_eq!(fingerprint(&scratch.settings()), dumped.fingerprint);
    for (database, name) in [("Shop-1_ñ", "every type"), ("Shop-1_ñ", "orders.of.2026"), ("other", "emoji 🙂")] {
        assert_eq!(scratch.documents(database, name), source.documents(database, name), "{database}.{name}");
        assert_eq!(scratch.indexes(database, name), source.indexes(database, name), "{database}.{name}");
    }
    assert_eq!(scratch.collections("Shop-1_ñ"), source.collections("Shop-1_ñ"));
    assert_eq!(users(&scratch), users(&source));
    assert!(loaded.warnings.iter().any(|w| w.contains("admin.application, admin.report's")), "{:?}", loaded.warnings);
}

#[test]
fn databases_and_collections_come_back_under_other_names() {
    let Some(server) = shared_ferretdb("other names in FerretDB") else { return };
    server.collection("names_a", "one").insert_many((0..50).map(|n| doc! { "_id": n })).run().unwrap();
    server.collection("names_a", "two").insert_one(doc! { "_id": 1 }).run().unwrap();
    server.collection("names_b", "three").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (dumped, origin) = dump_with(&server.only(&["names_a", "names_b"])).unwrap();
    assert_eq!(dumped.inventory["users"], 0, "users belong to the whole server");

    let suffix = Target::NewDatabases(Naming::Suffix("_restore".into()));
    load_with(&server.settings(), &origin, &suffix, Part::Whole).unwrap();
    assert_eq!(server.documents("names_a_restore", "one"), server.documents("names_a", "one"));
    assert_eq!(server.documents("names_b_restore", "three"), server.documents("names_b", "three"));

    load_with(&server.settings(), &origin, &called("names_c"), Part::Database("names_a".into())).unwrap();
    assert_eq!(server.collections("names_c"), ["one", "two"]);

    let two = Part::Table { database: "names_a".into(), table: "two".into() };
    server.collection("names_d", "other").insert_one(doc! { "_id": 1 }).run().unwrap();
    load_with(&server.settings(), &origin, &called("names_d"), two.clone()).unwrap();
    assert_eq!(server.collections("names_d"), ["other", "two"], "one collection goes beside what is there");

    let mixed = load_with(&server.settings(), &origin, &called("names_e"), Part::Whole).unwrap_err();
    assert_eq!(mixed.kind(), Kind::Usage);
    let absent = Part::Table { database: "names_a".into(), table: "nine".into() };
    let absent = load_with(&server.settings(), &origin, &called("names_e"), absent).unwrap_err();
    assert!(absent.to_string().contains("no collection nine"), "{absent}");
    assert!(server.collections("names_e").is_empty());
}

#[test]
fn a_name_that_is_taken_is_refused_before_anything_is_made() {
    let Some(server) = shared_ferretdb("taken names in FerretDB") else { return };
    server.collection("taken", "mine").insert_one(doc! { "_id": 1, "mine": true }).run().unwrap();
    server.collection("taken_2", "other").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (_, origin) = dump_with(&server.only(&["taken", "taken_2"])).unwrap();
    server.collection("taken_2x", "there").insert_one(doc! { "_id": 1 }).run().unwrap();
    let suffix = Target::NewDatabases(Naming::Suffix("x".into()));
    for target in [same(), suffix] {
        let failure = load_with(&server.settings(), &origin, &target, Part::Whole).unwrap_err();
        assert_eq!(failure.kind(), Kind::Refused, "{failure}");
    }
    assert!(server.collections("takenx").is_empty(), "the free name was not begun either");
    assert_eq!(server.collections("taken_2x"), ["there"]);
    let table = Part::Table { database: "taken".into(), table: "mine".into() };
    let failure = load_with(&server.settings(), &origin, &same(), table).unwrap_err();
    assert!(failure.to_string().contains("taken.mine is there already"), "{failure}");
}

#[test]
fn in_place_replaces_and_keeps_what_was_replaced_when_asked_to() {
    let Some(server) = shared_ferretdb("in place in FerretDB") else { return };
    let settings = server.only(&["live"]);
    server.collection("live", "orders").insert_many((0..100).map(|n| doc! { "_id": n, "good": true })).run().unwrap();
    let index = doc! { "createIndexes": "orders", "indexes": [{ "key": { "x": 1 }, "name": "x", "sparse": true }] };
    server.client().database("live").run_command(index).run().unwrap();
    let (dumped, origin) = dump_with(&settings).unwrap();

    for keep in [false, true] {
        server.collection("live", "orders").delete_many(doc! { "_id": { "$lt": 50 } }).run().unwrap();
        server.collection("live", "later").insert_one(doc! { "_id": 1 }).run().unwrap();
        let live = Target::Live(Confirmed::by_name("live", "live").unwrap());
        let loaded = load_keeping(&settings, &origin, &live, Part::Whole, keep).unwrap();
        let names = server.collections("live");
        if keep {
            assert_eq!(names.len(), 3, "{names:?}");
            let aside = names.iter().find(|n| n.starts_with("bkp_replaced_") && n.ends_with("_orders")).unwrap();
            assert_eq!(server.documents("live", aside).len(), 50);
            assert!(loaded.warnings.iter().any(|w| w.contains(aside)), "{:?}", loaded.warnings);
            names.iter().filter(|n| *n != "orders").for_each(|n| server.collection("live", n).drop().run().unwrap());
        } else {
            assert_eq!(names, ["orders"]);
        }
        assert_eq!(fingerprint(&settings), dumped.fingerprint);
    }
}

#[test]
fn what_was_written_after_the_copy_is_kept() {
    let Some(server) = shared_ferretdb("in place in FerretDB while somebody writes") else { return };
    let settings = server.only(&["written"]);
    server.collection("written", "orders").insert_many((0..100).map(|n| doc! { "_id": n })).run().unwrap();
    let (dumped, origin) = dump_with(&settings).unwrap();
    let over = || {
        let live = Target::Live(Confirmed::by_name("written", "written").unwrap());
        load_over(&settings, &origin, &live, Part::Whole, Some(&dumped.fingerprint)).unwrap()
    };
    over();
    assert_eq!(server.collections("written"), ["orders"], "nobody wrote");
    server.collection("written", "orders").insert_one(doc! { "_id": 4711 }).run().unwrap();
    let loaded = over();
    assert!(loaded.warnings.iter().any(|w| w.contains("not what the safety backup holds")), "{:?}", loaded.warnings);
    let names = server.collections("written");
    let aside = names.iter().find(|n| n.starts_with("bkp_replaced_") && n.ends_with("_orders")).unwrap();
    assert_eq!(server.documents("written", aside).len(), 101);
    assert_eq!(server.documents("written", "orders").len(), 100);
}

#[test]
fn a_collection_alone_is_replaced_in_place() {
    let Some(server) = shared_ferretdb("one collection in place in FerretDB") else { return };
    let settings = server.only(&["live_one"]);
    server.collection("live_one", "a").insert_one(doc! { "_id": 1, "old": true }).run().unwrap();
    server.collection("live_one", "b").insert_one(doc! { "_id": 1, "old": true }).run().unwrap();
    let (_, origin) = dump_with(&settings).unwrap();
    server.collection("live_one", "a").delete_many(doc! {}).run().unwrap();
    server.collection("live_one", "b").insert_one(doc! { "_id": 2 }).run().unwrap();
    let live = Target::Live(Confirmed::by_name("x", "x").unwrap());
    load_with(&settings, &origin, &live, Part::Table { database: "live_one".into(), table: "a".into() }).unwrap();
    assert_eq!(server.collections("live_one"), ["a", "b"]);
    assert_eq!((server.documents("live_one", "a").len(), server.documents("live_one", "b").len()), (1, 2));
}

#[test]
fn a_name_that_the_server_cannot_give_is_found_before_the_live_data_is_touched() {
    let Some(server) = shared_ferretdb("a dotted name in place in FerretDB") else { return };
    let settings = server.only(&["dotted"]);
    server.collection("dotted", "a").insert_one(doc! { "_id": 1 }).run().unwrap();
    server.collection("dotted", "b.c").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (dumped, origin) = dump_with(&settings).unwrap();
    let live = Target::Live(Confirmed::by_name("x", "x").unwrap());
    let failure = load_with(&settings, &origin, &live, Part::Whole).unwrap_err();
    assert!(failure.to_string().contains("dotted.b.c; nothing was changed"), "{failure}");
    assert_eq!(server.collections("dotted"), ["a", "b.c"]);
    assert_eq!(fingerprint(&settings), dumped.fingerprint);
}
