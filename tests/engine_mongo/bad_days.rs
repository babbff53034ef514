//! What must fail, fails: loudly, before a point is committed, and without harm to what is there.

use super::independent::archive_of;
use super::*;
use bkp::engine::{Confirmed, DumpRun, Sink};
use bkp::error::Kind;
use bson::doc;
use std::io::Read;
use std::path::Path;

fn live() -> Target {
    Target::Live(Confirmed::by_name("source", "source").unwrap())
}

fn origin_of(archive: Vec<u8>) -> MemoryOrigin {
    MemoryOrigin { streams: BTreeMap::from([("archive".to_owned(), archive)]), ..MemoryOrigin::default() }
}

#[test]
fn a_wrong_password_is_told_as_such_and_never_shown() {
    let Some(server) = shared_ferretdb("a wrong password for FerretDB") else { return };
    let mut wrong = server.settings();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong-secret-9").unwrap();
    wrong.server.password = Some(SecretRef::File(file.path().to_owned()));
    let failure = dump_with(&wrong).unwrap_err();
    assert_eq!(failure.kind(), Kind::Key, "{failure:?}");
    assert!(failure.next_step().unwrap().contains("password"));
    let told = format!("{failure:?} {}", failure.full());
    assert!(!told.contains("wrong-secret-9"), "{told}");
}

#[test]
fn a_server_that_is_not_there_is_told_as_such() {
    let mut settings = Settings {
        server: Server { host: Some("127.0.0.1".into()), port: Some(support::free_port()), ..Server::default() },
        auth_database: None,
        databases: vec![],
        exclude: vec![],
        mongodump: false,
    };
    let failure = Mongo::new(settings.clone()).preflight().unwrap_err();
    assert!(failure.to_string().contains("no MongoDB server answers"), "{failure}");
    settings.mongodump = true;
    settings.databases = vec!["a".into(), "b".into()];
    assert_eq!(Mongo::new(settings).preflight().unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_misspelt_database_is_an_error_and_no_empty_dump() {
    let Some(server) = shared_ferretdb("a misspelt database in FerretDB") else { return };
    server.collection("spelt", "a").insert_one(doc! { "_id": 1 }).run().unwrap();
    let failure = dump_with(&server.only(&["spellt"])).unwrap_err();
    assert!(failure.to_string().contains("there is no database spellt"), "{failure}");
}

#[test]
fn a_duplicate_fails_the_restore_and_leaves_nothing() {
    let Some(server) = shared_ferretdb("a duplicate in FerretDB") else { return };
    let twice = [doc! { "_id": 1 }, doc! { "_id": 2 }, doc! { "_id": 1 }];
    let origin = origin_of(archive_of("twice", "docs", &twice));
    let failure = load_with(&server.settings(), &origin, &same(), Part::Whole).unwrap_err();
    assert!(failure.to_string().contains("refused 1 of 3 documents of twice.docs"), "{failure}");
    assert!(server.collections("twice").is_empty());
}

#[test]
fn a_restore_in_place_that_fails_leaves_the_live_data_alone() {
    let Some(server) = shared_ferretdb("a failing restore in place into FerretDB") else { return };
    server.collection("alone", "docs").insert_one(doc! { "_id": "mine" }).run().unwrap();
    let before = server.documents("alone", "docs");
    let origin = origin_of(archive_of("alone", "docs", &[doc! { "_id": 1 }, doc! { "_id": 1 }]));
    load_with(&server.settings(), &origin, &live(), Part::Whole).unwrap_err();
    assert_eq!(server.documents("alone", "docs"), before);
    assert_eq!(server.collections("alone"), ["docs"]);
}

#[test]
fn a_damaged_archive_is_found_and_not_restored() {
    let Some(server) = shared_ferretdb("a damaged archive into FerretDB") else { return };
    let documents: Vec<Document> = (0..500).map(|n| doc! { "_id": n, "text": "z".repeat(100) }).collect();
    let whole = archive_of("damaged", "docs", &documents);
    let mut flipped = whole.clone();
    let inside = whole.windows(20).rposition(|w| w == [b'z'; 20]).unwrap();
    flipped[inside] = b'y';
    let shorter = whole[..whole.len() - 4].to_vec();
    let half = whole[..whole.len() / 2].to_vec();
    let longer = [whole.clone(), vec![0xff; 4]].concat();
    for (what, archive) in [("flipped", flipped), ("shorter", shorter), ("half", half), ("longer", longer)] {
        let failure = load_with(&server.settings(), &origin_of(archive), &same(), Part::Whole).unwrap_err();
        assert_eq!(failure.kind(), Kind::Verification, "{what}: {failure}");
        assert!(server.collections("damaged").is_empty(), "{what}");
    }
    load_with(&server.settings(), &origin_of(whole), &same(), Part::Whole).unwrap();
    assert_eq!(server.documents("damaged", "docs").len(), 500);
}

#[test]
fn what_does_not_fit_its_fingerprint_is_not_restored() {
    let Some(server) = shared_ferretdb("a wrong fingerprint with FerretDB") else { return };
    server.collection("prints", "docs").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (_, mut origin) = dump_with(&server.only(&["prints"])).unwrap();
    origin.fingerprint.parts.get_mut("prints.docs").unwrap().digest = "7".repeat(64);
    let failure = load_with(&server.settings(), &origin, &called("prints_2"), Part::Whole).unwrap_err();
    assert_eq!(failure.kind(), Kind::Verification, "{failure}");
    assert!(server.collections("prints_2").is_empty());
}

#[test]
fn a_collection_that_is_dropped_during_the_dump_gives_no_point() {
    let Some(server) = shared_ferretdb("a dropped collection in FerretDB") else { return };
    let filling = "q".repeat(1 << 20);
    let big = server.collection("dropped", "a_big");
    (0..48).for_each(|n| _ = big.insert_one(doc! { "_id": n, "f": &filling }).run().unwrap());
    server.collection("dropped", "b").insert_one(doc! { "_id": 1 }).run().unwrap();
    let mut sink = Acting { act: Some(|| server.collection("dropped", "b").drop().run().unwrap()) };
    let failure = dump_acting(&server.only(&["dropped"]), &mut sink).unwrap_err();
    assert_eq!(failure.kind(), Kind::TryLater, "{failure}");
    assert!(failure.to_string().contains("dropped.b was dropped"), "{failure}");
}

#[test]
fn a_server_that_dies_in_the_middle_gives_no_point() {
    let part = "a server that is killed in the middle";
    let Some(mut server) = HostServer::mongo_java().start(part) else { return };
    let reached = Reached::java(&server);
    super::oplog::fill_big(&reached, "half");
    let mut sink = Acting { act: Some(|| server.kill()) };
    let failure = dump_acting(&reached.settings(), &mut sink).unwrap_err();
    let told = failure.to_string();
    assert!(told.contains("broke off") || told.contains("no MongoDB server answers"), "{told}");
    assert!(!failure.full().contains("over maximum"), "it broke by itself: {}", failure.full());
}

/// A sink that does something once the first bytes have come: with more data than fits in between, in mid-dump.
pub struct Acting<F> {
    pub act: Option<F>,
}

impl<F: FnOnce()> Sink for Acting<F> {
    fn stream(&mut self, _: &str, data: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = data.read(&mut buffer).map_err(|e| bkp::error::Failure::from_io(e, || "reading".into()))?;
            if let Some(act) = self.act.take() {
                act();
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn tree(&mut self) -> Result<&mut dyn bkp::engine::TreeSink> {
        unreachable!("MongoDB has no trees")
    }
}

pub fn dump_acting(settings: &Settings, sink: &mut dyn Sink) -> Result<Dumped> {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let none = Path::new("/nonexistent");
    let run =
        DumpRun { context, scratch: none.to_owned(), memory: None, next_memory: none.join("memory"), reread: false };
    Mongo::new(settings.clone()).dump(sink, &run)
}
