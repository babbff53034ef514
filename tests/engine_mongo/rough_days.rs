//! Rougher days: a container that is killed under a dump and under a restore, an empty server, an older one, and the way
//! through `mongodump`, which is in no package repository: a program of that name stands in for it.

use super::bad_days::{Acting, dump_acting};
use super::*;
use bkp::engine::{Confirmed, Origin, TreeOrigin};
use bkp::error::Kind;
use bkp::exec::Place;
use bkp::exec::docker::Selector;
use bson::doc;
use std::io::Read;
use support::docker::engine::docker;

fn live() -> Target {
    Target::Live(Confirmed::by_name("x", "x").unwrap())
}

/// An origin whose archive does something before its last bytes come.
struct Falling<'o, F: Fn() + Sync> {
    origin: &'o MemoryOrigin,
    act: F,
}

impl<F: Fn() + Sync> Origin for Falling<'_, F> {
    fn streams(&self) -> Vec<String> {
        self.origin.streams()
    }

    fn stream(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        (self.act)();
        self.origin.stream(name)
    }

    fn tree(&self) -> Option<&dyn TreeOrigin> {
        None
    }

    fn fingerprint(&self) -> &Fingerprint {
        self.origin.fingerprint()
    }

    fn details(&self) -> &serde_json::Value {
        self.origin.details()
    }
}

#[test]
fn a_container_that_is_killed_makes_no_point_and_a_restore_into_it_harms_nothing() {
    let Some(container) = Container::ferretdb().start("a FerretDB that is killed") else { return };
    let server = Reached::ferretdb(&container);
    server.collection("small", "docs").insert_many((0..100).map(|n| doc! { "_id": n })).run().unwrap();
    let (dumped, origin) = dump_with(&server.only(&["small"])).unwrap();
    server.collection("small", "docs").delete_one(doc! { "_id": 7 }).run().unwrap();
    let now = server.documents("small", "docs");
    let filling = "q".repeat(1 << 20);
    let big = server.collection("big", "docs");
    (0..48).for_each(|n| _ = big.insert_one(doc! { "_id": n, "f": &filling }).run().unwrap());
    let mut sink = Acting { act: Some(|| _ = docker(&["kill", container.id()])) };
    let failure = dump_acting(&server.only(&["big"]), &mut sink).unwrap_err();
    assert!(failure.to_string().contains("broke off") || failure.to_string().contains("no MongoDB"), "{failure}");
    container.start_again();

    let server = Reached::ferretdb(&container);
    let falling = Falling { origin: &origin, act: || _ = docker(&["kill", container.id()]) };
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let run = LoadRun { context, part: Part::Whole, copy: None, on_difference: Default::default(), returning: None };
    Mongo::new(server.only(&["small"])).load(&falling, &live(), &run).unwrap_err();
    container.start_again();
    let server = Reached::ferretdb(&container);
    let engine = Mongo::new(server.only(&["small"]));
    assert_eq!(server.documents("small", "docs"), now);
    for left in engine.leftovers(&Cancel::default()).unwrap() {
        let words: Vec<&str> = left.remove.split('"').collect();
        server.collection(words[1], words[3]).drop().run().unwrap();
    }
    assert_eq!(server.collections("small"), ["docs"]);
    load_with(&server.only(&["small"]), &origin, &live(), Part::Whole).unwrap();
    assert_eq!(fingerprint(&server.only(&["small"])), dumped.fingerprint);

    through_mongodump(&container);
}

/// What `mongodump` would give is proven as bkp's own archive is; the password goes by standard input.
fn through_mongodump(container: &Container) {
    let server = Reached::ferretdb(container);
    let place = Place::Container(Selector::Name(container.name().into()));
    let mut settings = server.only(&["small"]);
    settings.mongodump = true;
    settings.server.place = place;
    settings.server.host = None;
    settings.server.port = None;
    let failure = dump_with(&settings).unwrap_err();
    assert!(failure.to_string().contains("there is no mongodump in container"), "{failure}");

    let (native, origin) = dump_with(&server.only(&["small"])).unwrap();
    container.exec(&["sh", "-c", "cat >/tmp/archive"], &origin.streams["archive"]);
    let program = |last: &str| {
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >/tmp/arguments\ncat >/tmp/config\n{last}\n");
        let install = "cat >/usr/local/bin/mongodump && chmod +x /usr/local/bin/mongodump";
        assert!(container.exec(&["sh", "-c", install], script.as_bytes()).status.success());
    };
    program("cat /tmp/archive");
    let (dumped, through) = dump_with(&settings).unwrap();
    assert_eq!(through.streams["archive"], origin.streams["archive"]);
    assert_eq!(dumped.fingerprint, native.fingerprint);
    assert!(dumped.notes.iter().any(|note| note.contains("it carried out nothing that writes")), "{:?}", dumped.notes);
    assert_eq!((&dumped.details["bound"], &native.details["bound"]), (&true.into(), &true.into()));
    let said = |file: &str| String::from_utf8(container.exec(&["cat", file], b"").stdout).unwrap();
    let arguments = said("/tmp/arguments");
    assert!(arguments.contains("--archive\n") && arguments.contains("--db=small\n"), "{arguments}");
    assert!(!arguments.contains(container.password()), "{arguments}");
    assert_eq!(said("/tmp/config"), format!("password: '{}'\n", container.password()));
    // A tail that never arrives, an archive that breaks off, a program that fails after all of it.
    for last in ["head -c -4 /tmp/archive", "head -c 300 /tmp/archive", "cat /tmp/archive; exit 3"] {
        program(last);
        let mut sink = MemorySink::new();
        dump_into(&Mongo::new(settings.clone()), &mut sink, tempfile::tempdir().unwrap().path()).unwrap_err();
        assert!(sink.streams.is_empty(), "{last}: {:?}", sink.streams.keys());
    }
}

#[test]
fn an_empty_server_is_dumped_and_loaded_and_an_older_one_is_refused() {
    let Some(java) = HostServer::mongo_java().start("an empty server") else { return };
    let java = Reached::java(&java);
    let (dumped, origin) = dump_with(&java.settings()).unwrap();
    assert_eq!((dumped.inventory["databases"], dumped.inventory["documents"]), (0, 0), "{dumped:?}");
    load_with(&java.settings(), &origin, &same(), Part::Whole).unwrap();

    let Some(server) = shared_ferretdb("a newer server") else { return };
    server.collection("newer", "docs").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (_, origin) = dump_with(&server.only(&["newer"])).unwrap();
    let refused = load_with(&java.settings(), &origin, &same(), Part::Whole).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(
        refused.to_string().contains("the point is of version 7.") && refused.to_string().contains("is older: 6."),
        "{refused}"
    );
    assert!(java.collections("newer").is_empty());
}
