//! The way through `mongodump`. It could not be had for these tests: a script in its place gives what the real one gives for
//! a misspelt database, or for a collection that it passes over: an archive that is whole, and ends with 0.

use super::independent::archive_of;
use super::*;
use bkp::error::Kind;
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use bson::doc;

#[test]
fn an_archive_that_lacks_something_is_no_point() {
    let Some(container) = Container::ferretdb().start("mongodump in a container") else { return };
    let server = Reached::ferretdb(&container);
    server.collection("shop", "orders").insert_one(doc! { "_id": 1 }).run().unwrap();
    server.collection("shop", "goods").insert_one(doc! { "_id": 1 }).run().unwrap();
    let archive = archive_of("shop", "orders", &[doc! { "_id": 1 }]);
    assert!(container.exec(&["sh", "-c", "cat >/archive"], &archive).status.success());
    let script = "cat >/usr/local/bin/mongodump && chmod 755 /usr/local/bin/mongodump";
    assert!(container.exec(&["sh", "-c", script], b"#!/bin/sh\ncat >/dev/null; cat /archive\n").status.success());
    let settings = |database: &str| {
        let mut settings = server.only(&[database]);
        settings.mongodump = true;
        settings.server.place = Place::Container(Selector::Name(container.name().into()));
        (settings.server.host, settings.server.port) = (None, None);
        settings
    };
    for misspelt in [Mongo::new(settings("shopp")).preflight(), dump_with(&settings("shopp")).map(drop)] {
        assert!(misspelt.unwrap_err().to_string().contains("there is no database shopp"));
    }
    Mongo::new(settings("shop")).preflight().unwrap();
    let failure = dump_with(&settings("shop")).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification);
    assert_eq!(failure.to_string(), "mongodump left shop.goods out, without saying so");
    server.collection("shop", "goods").drop().run().unwrap();
    let (dumped, _) = dump_with(&settings("shop")).unwrap();
    assert_eq!((dumped.inventory["collections"], dumped.inventory["documents"]), (1, 1));
}
