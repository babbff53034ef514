//! The repository through its public surface: what goes in comes out, and what was touched is noticed.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in #[test] functions only

#[path = "support/repository.rs"]
mod support;

use bkp::error::{Failure, Kind};
use bkp::repo::catalog::{self, Wanted};
use bkp::repo::container::encode::Compression;
use bkp::repo::container::{Codec, decode};
use bkp::repo::keys::{Operator, Role};
use bkp::repo::point::Point;
use bkp::repo::proof::{self, Level};
use bkp::repo::recipients::{self, Change};
use bkp::repo::sign::Trust;
use bkp::repo::write::Options;
use bkp::repo::{Repository, init};
use bkp::store::{self, Entry, Head, Key, LockMode, Purged, Retain, Retention, Store, StoreResult, Upload};
use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex};
use support::*;

const MIB: usize = 1 << 20;

fn objects(fixture: &Fixture, prefix: &str) -> Vec<Key> {
    fixture.repository.store.list(prefix).unwrap().into_iter().map(|e| e.key).collect()
}

fn with_bytes(fixture: &Fixture, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = store::read(&*fixture.repository.store, key).unwrap();
    change(&mut bytes);
    fixture.repository.store.put(key, Bytes::from(bytes), None).unwrap();
}

#[test]
fn streams_of_any_length_come_back() {
    let fixture = Fixture::new();
    for codec in [Codec::Zstd, Codec::Gzip] {
        for (number, length) in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 3].into_iter().enumerate() {
            let data = [noise(7, length / 2), vec![b'x'; length - length / 2]].concat();
            let options =
                Options { compression: Compression { codec, ..Compression::default() }, ..Options::default() };
            let point = fixture.back_up_stream_with(&format!("s{number}"), "2026-03-01T00:00:00Z", &data, options);
            assert!(fixture.read_stream(&point).unwrap() == data, "{codec:?} {length}");
        }
    }
    assert_eq!(fixture.check(Some(Level::Readable)).problems, []);
}

#[test]
fn a_stream_too_large_for_one_object_goes_into_several() {
    let fixture = Fixture::new();
    let data = noise(1, 5 * MIB + 17);
    let options = Options { stream_object_bytes: 2 * MIB as u64, ..Options::default() };
    let point = fixture.back_up_stream_with("big", "2026-03-01T00:00:00Z", &data, options);
    assert_eq!(point.streams[0].objects.len(), 3);
    assert!(fixture.read_stream(&point).unwrap() == data);
}

#[test]
fn a_large_stream_is_uploaded_in_parts() {
    let fixture = Fixture::new();
    let data = noise(2, 40 * MIB);
    let point = fixture.back_up_stream("parts", "2026-03-01T00:00:00Z", &data);
    assert!(fixture.read_stream(&point).unwrap() == data);
    assert_eq!(objects(&fixture, &format!("w/{}/s/", fixture.writer.id())).len(), 1);
}

#[test]
fn a_tree_comes_back_in_order_and_in_pieces() {
    let fixture = Fixture::new();
    let pieces = vec![noise(1, 1000), noise(2, 9 * MIB), noise(3, 50_000), noise(4, 40 * MIB), vec![0; 3 * MIB]];
    let point = fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &pieces).unwrap();
    let tar = pieces.concat();
    assert!(fixture.read_tar(&point) == tar);
    let seen = Mutex::new(BTreeMap::new());
    let reader = fixture.reader(&point);
    let take = |offset: u64, bytes: &[u8]| {
        assert!(seen.lock().unwrap().insert(offset, bytes.to_vec()).is_none());
        Ok(())
    };
    reader.chunks(None, &take).unwrap();
    assert!(std::mem::take(&mut *seen.lock().unwrap()).into_values().collect::<Vec<_>>().concat() == tar);
    let wanted = 20 * MIB as u64..20 * MIB as u64 + 10;
    reader.chunks(Some(std::slice::from_ref(&wanted)), &take).unwrap();
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 1);
    let (offset, bytes) = seen.iter().next().unwrap();
    let from = (wanted.start - offset) as usize;
    assert_eq!(bytes[from..from + 10], tar[20 * MIB..20 * MIB + 10]);
}

#[test]
fn what_was_stored_is_not_stored_again() {
    let fixture = Fixture::new();
    let mut pieces = vec![noise(1, 6 * MIB), noise(2, 100_000), noise(3, 6 * MIB)];
    let first = fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &pieces).unwrap();
    let second = fixture.back_up_tree("tree", "2026-03-02T00:00:00Z", &pieces).unwrap();
    assert!(first.added > 12 * MIB as u64 && second.added < 20_000, "{} {}", first.added, second.added);
    pieces[2][3 * MIB..3 * MIB + 4].copy_from_slice(b"new!");
    let third = fixture.back_up_tree("tree", "2026-03-03T00:00:00Z", &pieces).unwrap();
    assert!(third.added < 6 * MIB as u64, "{}", third.added);
    assert_eq!((second.sequence, third.sequence), (2, 3));
    assert_eq!(third.previous.as_ref().unwrap().point, second.point);
    assert!(fixture.read_tar(&third) == pieces.concat());
    assert_eq!(fixture.check(Some(Level::Readable)).problems, []);
}

#[test]
fn chunks_of_the_previous_tree_are_taken_unread() {
    let fixture = Fixture::new();
    let pieces = vec![noise(1, 5 * MIB), noise(2, 100_000)];
    let first = fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &pieces).unwrap();
    let mut session = fixture.session("tree", Options::default()).unwrap();
    assert_eq!(session.previous().unwrap().point, first.point);
    let chunks = fixture.session("other", Options::default()).unwrap().tree().reuse(0..1);
    assert_eq!(chunks, None, "another series has nothing to reuse");
    let tree = session.tree();
    let all = (0..).take_while(|n| tree.reuse(*n..*n + 1).is_some()).count() as u32;
    assert!(all > 2);
    tree.rewind(0);
    assert_eq!(tree.reuse(0..all), Some(0..all));
    tree.catalogue(b"{\"end\":0}\n").unwrap();
    let second = session.commit(draft("2026-03-02T00:00:00Z")).unwrap();
    assert!(fixture.read_tar(&second) == pieces.concat());
}

/// A store in memory that notes the locks it is asked for.
#[derive(Default)]
struct Locking {
    inner: store::memory::Memory,
    until: Mutex<BTreeMap<Key, Timestamp>>,
}

impl Locking {
    fn note(&self, key: &Key, retain: Option<&Retain>) {
        if let Some(retain) = retain {
            let mut until = self.until.lock().unwrap();
            let locked = until.entry(key.clone()).or_insert(retain.until);
            *locked = retain.until.max(*locked);
        }
    }
}

impl Store for Locking {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.note(key, retain);
        self.inner.put(key, bytes, None)
    }
    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.note(key, retain);
        self.inner.put_new(key, bytes, None)
    }
    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        self.note(key, retain);
        self.inner.upload(key, None)
    }
    fn get(&self, key: &Key, range: Option<std::ops::Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        self.inner.get(key, range)
    }
    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        self.inner.list(prefix)
    }
    fn head(&self, key: &Key) -> StoreResult<Head> {
        self.inner.head(key)
    }
    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.inner.delete(key)
    }
    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.inner.purge(key)
    }
    fn retention(&self) -> Option<&dyn Retention> {
        Some(self)
    }
}

impl Retention for Locking {
    fn raise(&self, key: &Key, retain: &Retain) -> StoreResult<()> {
        self.note(key, Some(retain));
        Ok(())
    }
}

#[test]
fn everything_a_point_needs_is_locked_as_long_as_the_point() {
    let store = Arc::new(Locking::default());
    let fixture = Fixture::on(store.clone());
    let pieces: Vec<Vec<u8>> = (0..4).map(|seed| noise(seed, 2 * MIB)).collect();
    for month in 1..=3 {
        let until = at(&format!("2027-0{month}-01T00:00:00Z"));
        let options = Options { retain: Some(Retain { mode: LockMode::Governance, until }), ..Options::default() };
        let mut session = fixture.session("v", options).unwrap();
        write_tree(&mut session, &pieces).unwrap();
        let point = session.commit(draft(&format!("2026-0{month}-01T00:00:00Z"))).unwrap();
        let packs = objects(&fixture, &format!("w/{}/p/", fixture.writer.id()));
        let needed = packs.into_iter().chain(point.pins().map(|pin| pin.key.clone())).chain([point.key()]);
        let locked = store.until.lock().unwrap().clone();
        for key in needed {
            assert_eq!(locked.get(&key), Some(&until), "{key} of the backup of month {month}");
        }
    }
}

#[test]
fn points_of_one_second_follow_one_another() {
    let fixture = Fixture::new();
    let one = |tenth: u8| fixture.back_up_stream("s", &format!("2026-03-01T00:00:00.{tenth}Z"), b"x");
    let points: Vec<Point> = (1..9).map(one).collect();
    for pair in points.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        assert_eq!(pair[1].previous.as_ref().unwrap().point, pair[0].point);
    }
}

#[test]
fn a_lost_pack_is_stored_again_by_the_next_backup() {
    let fixture = Fixture::new();
    let pieces = vec![noise(1, 6 * MIB)];
    fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &pieces).unwrap();
    for pack in objects(&fixture, &format!("w/{}/p/", fixture.writer.id())) {
        fixture.repository.store.delete(&pack).unwrap();
    }
    let second = fixture.back_up_tree("tree", "2026-03-02T00:00:00Z", &pieces).unwrap();
    assert!(fixture.read_tar(&second) == pieces.concat());
}

#[test]
fn an_interrupted_session_is_taken_up() {
    let fixture = Fixture::new();
    let pieces = vec![noise(1, 40 * MIB)];
    let mut session = fixture.session("tree", Options::default()).unwrap();
    write_tree(&mut session, &pieces).unwrap();
    session.abandon().unwrap();
    assert!(fixture.catalog().points.is_empty());
    let point = fixture.back_up_tree("tree", "2026-03-02T00:00:00Z", &pieces).unwrap();
    assert!(point.added < MIB as u64, "{}", point.added);
    assert!(fixture.read_tar(&point) == pieces.concat());
    let sessions = objects(&fixture, &format!("w/{}/sess/", fixture.writer.id()));
    assert_eq!(
        sessions.iter().filter(|k| k.as_str().ends_with(".end")).count(),
        sessions.len() / 2,
        "both are closed: {sessions:?}"
    );
}

/// Every object that a point needs, damaged in every way a store could, is noticed, with the point's name.
#[test]
fn damage_is_named_with_the_points_it_affects() {
    type Damage = fn(&Fixture, &Key);
    let damages: [(&str, Damage); 4] = [
        ("flipped", |f, k| with_bytes(f, k, |b| *b.last_mut().unwrap() ^= 1)),
        ("truncated", |f, k| with_bytes(f, k, |b| b.truncate(b.len() / 2))),
        ("missing", |f, k| f.repository.store.delete(k).unwrap()),
        ("swapped", |f, k| {
            let other = objects(f, &format!("w/{}/sess/", f.writer.id())).remove(0);
            let bytes = store::read(&*f.repository.store, &other).unwrap();
            f.repository.store.put(k, Bytes::from(bytes), None).unwrap();
        }),
    ];
    for (name, damage) in damages {
        for kind in ["s", "p", "x", "b"] {
            for level in [Level::Stored, Level::Readable] {
                let fixture = Fixture::new();
                let streamed = fixture.back_up_stream("stream", "2026-03-01T00:00:00Z", &noise(1, MIB));
                let tree = fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &[noise(2, MIB)]).unwrap();
                let healthy = fixture.back_up_stream("healthy", "2026-03-01T00:00:00Z", b"small");
                let victim = if kind == "s" { &streamed } else { &tree };
                let key = match kind {
                    "s" => victim.streams[0].objects[0].key.clone(),
                    "b" => victim.body.key.clone(),
                    "x" => victim.tree.as_ref().unwrap().index.key.clone(),
                    _ => objects(&fixture, &format!("w/{}/p/", fixture.writer.id())).remove(0),
                };
                damage(&fixture, &key);
                let report = fixture.check(Some(level));
                let affected: Vec<_> = report.problems.iter().flat_map(|p| &p.points).collect();
                let title = format!("{}/{}", victim.source, victim.point);
                assert!(affected.iter().any(|p| **p == title), "{name} {kind} {level:?}: {report:?}");
                assert!(affected.iter().all(|p| **p == title), "only it: {report:?}");
                assert!(report.proven.iter().any(|p| p.ends_with(&healthy.point)) && !report.proven.contains(&title));
            }
        }
    }
}

#[test]
fn reading_damaged_data_is_an_error_and_not_an_early_end() {
    let fixture = Fixture::new();
    let point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", &noise(1, 3 * MIB));
    for cut in [10, 200, 70_000, 2 * MIB] {
        let key = &point.streams[0].objects[0].key;
        let whole = store::read(&*fixture.repository.store, key).unwrap();
        with_bytes(&fixture, key, |b| b.truncate(cut));
        assert_eq!(fixture.read_stream(&point).unwrap_err().kind(), Kind::Verification, "cut at {cut}");
        fixture.repository.store.put(key, Bytes::from(whole), None).unwrap();
    }
    fixture.read_stream(&point).unwrap();
}

/// A connection that is lost for good.
struct Lost;

impl Read for Lost {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(Failure::new(Kind::TryLater, "the store does not answer").into())
    }
}

#[test]
fn a_lost_connection_is_not_taken_for_damage() {
    let fixture = Fixture::new();
    for codec in [Codec::Zstd, Codec::Gzip] {
        let options =
            Options { compression: Compression { codec, level: 1, ..Compression::default() }, ..Options::default() };
        let point = fixture.back_up_stream_with("s", "2026-03-01T00:00:00Z", &noise(1, 3 * MIB), options);
        let key = &point.streams[0].objects[0].key;
        let whole = store::read(&*fixture.repository.store, key).unwrap();
        for cut in [0, 10, 200, 1000, 70_000, MIB, 2 * MIB, whole.len() - 60_000, whole.len() - 1, whole.len()] {
            let torn = BufReader::new(whole[..cut].chain(Lost));
            let read = decode::open(torn, codec, &fixture.keys(), "the object").and_then(|mut data| {
                data.read_to_end(&mut Vec::new()).map_err(|e| Failure::from_io(e, || "lost on the way".into()))
            });
            assert_eq!(read.unwrap_err().kind(), Kind::TryLater, "{codec:?} cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_writer_does_not_hide_the_others() {
    let fixture = Fixture::new();
    fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"true");
    let with_bad_key = bkp::repo::writer::WriterInfo { verify_key: "?".into(), ..fixture.writer.info.clone() };
    let bad_key = serde_json::to_vec(&bkp::repo::writer::WriterInfo { writer: "bad".into(), ..with_bad_key }).unwrap();
    let claims_to_be_ours = serde_json::to_vec(&fixture.writer.info).unwrap();
    let foreign = [("cut", b"{".to_vec()), ("bad", bad_key), ("thief", claims_to_be_ours)];
    for (name, bytes) in foreign {
        let key = Key::new(format!("writers/{name}.json")).unwrap();
        fixture.repository.store.put(&key, Bytes::from(bytes), None).unwrap();
    }
    let catalog = catalog::list(&fixture.repository, &fixture.keys(), &fixture.trust(), Wanted::default()).unwrap();
    assert_eq!(catalog.points.len(), 1);
    assert_eq!(catalog.broken.len(), 3, "{:?}", catalog.broken);
}

#[test]
fn a_point_that_cannot_be_called_as_it_says_is_not_believed() {
    let fixture = Fixture::new();
    let point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"true");
    let name = Key::new(format!("w/{}/points/s/20260302T000000Z-deadbeef", fixture.writer.id())).unwrap();
    for source in ["../..", "", "a b", &"x".repeat(2000)] {
        let odd = Point { source: source.into(), ..point.clone() };
        let audience = fixture.writer.audience(bkp::repo::writer::Audience::All);
        let sealed = odd.seal(&fixture.writer.signing, &audience).unwrap();
        fixture.repository.store.put(&name, Bytes::from(sealed), None).unwrap();
        assert!(fixture.catalog().broken[0].1.full().contains("it was moved"));
    }
}

#[test]
fn a_point_signed_by_a_stranger_is_not_believed() {
    let fixture = Fixture::new();
    let mut point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"true");
    point.point = "20260302T000000Z-deadbeef".into();
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let sealed = point.seal(&stranger, &fixture.writer.audience(bkp::repo::writer::Audience::All)).unwrap();
    fixture.repository.store.put(&point.key(), Bytes::from(sealed), None).unwrap();
    let catalog = fixture.catalog();
    assert_eq!(catalog.points.len(), 1);
    assert_eq!(catalog.broken.len(), 1);
    assert!(
        catalog.broken[0].1.full().contains("not signed by the writer it claims"),
        "{}",
        catalog.broken[0].1.full()
    );
    let next = fixture.back_up_stream("s", "2026-03-03T00:00:00Z", b"goes on");
    assert_eq!(next.sequence, 2, "backups are not stopped by it, and do not build on it");
}

#[test]
fn a_point_under_another_name_is_not_believed() {
    let fixture = Fixture::new();
    let point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"true");
    let bytes = store::read(&*fixture.repository.store, &point.key()).unwrap();
    let moved = Point { point: "20260401T000000Z-deadbeef".into(), ..point };
    fixture.repository.store.put(&moved.key(), Bytes::from(bytes), None).unwrap();
    assert!(fixture.catalog().broken[0].1.full().contains("it was moved"));
}

#[test]
fn an_exchanged_writer_key_is_refused_where_the_true_one_is_known() {
    let fixture = Fixture::new();
    fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"true");
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let mut info = fixture.writer.info.clone();
    info.verify_key = bkp::repo::sign::key_text(&stranger.verifying_key());
    let key = Key::new(format!("writers/{}.json", fixture.writer.id())).unwrap();
    fixture.repository.store.put(&key, Bytes::from(serde_json::to_vec(&info).unwrap()), None).unwrap();
    let known = catalog::list(&fixture.repository, &fixture.keys(), &fixture.trust(), Wanted::default()).unwrap_err();
    assert_eq!(known.kind(), Kind::Verification);
    let unknown = catalog::list(&fixture.repository, &fixture.keys(), &Trust::default(), Wanted::default()).unwrap();
    assert_eq!(unknown.unpinned.len(), 1, "without a pin the user is told which key the store claims");
    assert!(unknown.points.is_empty() && unknown.broken.len() == 1);
}

#[test]
fn a_newer_repository_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    let newer = br#"{"format":2,"id":"00","shape":"unknown"}"#;
    let key = Key::new("repository.json").unwrap();
    fixture.repository.store.put(&key, Bytes::from_static(newer), None).unwrap();
    let refused = Repository::open(fixture.repository.store.clone()).err().unwrap();
    assert!(refused.full().contains("format 2") && refused.next_step().unwrap().contains("newer bkp"));
    assert_eq!(store::read(&*fixture.repository.store, &key).unwrap(), newer);
}

#[test]
fn the_host_cannot_read_what_it_wrote() {
    let fixture = Fixture::new();
    let point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"secret");
    let host = fixture.writer.keyring();
    let refused =
        bkp::repo::read::PointReader::open(&fixture.repository, &point, &host, &fixture.cancel).err().unwrap();
    assert_eq!(refused.kind(), Kind::Key);
}

#[test]
fn the_newest_point_until_an_instant_is_found_without_reading_the_others() {
    let fixture = Fixture::new();
    for day in 1..=5 {
        fixture.back_up_stream("s", &format!("2026-03-0{day}T12:00:00.5Z"), &[day]);
    }
    let until = |text: &str| {
        let wanted = Wanted { source: Some("s"), newest_until: Some(at(text)), ..Wanted::default() };
        let catalog = catalog::list(&fixture.repository, &fixture.writer.keyring(), &fixture.trust(), wanted).unwrap();
        let found = catalog.newest("s", None, at(text)).map(|p| p.consistent_at);
        (catalog.points.len(), found)
    };
    assert_eq!(until("2026-03-03T12:00:01Z"), (1, Some(at("2026-03-03T12:00:00.5Z"))));
    assert_eq!(until("2026-03-03T12:00:00.2Z").1, Some(at("2026-03-02T12:00:00.5Z")));
    assert_eq!(until("2026-02-01T00:00:00Z"), (0, None));
}

#[test]
fn people_come_and_go() {
    let mut fixture = Fixture::new();
    let old = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"old");
    let (ana_file, ana, _) = operator(fixture.state.path(), "ana");
    let first = Operator::read(std::slice::from_ref(&fixture.recovery_file)).unwrap();
    let now = at("2026-03-01T12:00:00Z");
    let change = |fixture: &mut Fixture, change: Change, operator: &Operator| {
        init::change_recipients(&fixture.repository, &mut fixture.writer, (&change, false), operator, now)
    };
    change(&mut fixture, Change::Add(ana.clone()), &first).unwrap();
    let same = change(&mut fixture, Change::Add(ana), &first).unwrap_err();
    assert_eq!(same.kind(), Kind::Usage);
    let keys = fixture.operator_keys(&ana_file);
    bkp::repo::read::PointReader::open(&fixture.repository, &old, &keys, &fixture.cancel)
        .expect("the new one reads old points");

    change(&mut fixture, Change::Remove("recovery".into()), &first).unwrap();
    let new = fixture.back_up_stream("s", "2026-03-02T00:00:00Z", b"new");
    assert_eq!(new.epoch, 2);
    let ana_keys = fixture.operator_keys(&ana_file);
    bkp::repo::read::PointReader::open(&fixture.repository, &new, &ana_keys, &fixture.cancel)
        .expect("who stayed reads new points");
    let gone = Operator::read(std::slice::from_ref(&fixture.recovery_file)).unwrap().epochs(&*fixture.repository.store);
    assert_eq!(gone.err().unwrap().kind(), Kind::Key);
    let last = Operator::read(&[ana_file]).unwrap();
    let refused = change(&mut fixture, Change::Remove("ana".into()), &last).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    let (_, listed) = recipients::claimed(&*fixture.repository.store).unwrap();
    assert_eq!(listed.iter().map(|r| (r.name.as_str(), r.role)).collect::<Vec<_>>(), [("ana", Role::Operator)]);
}

#[test]
fn a_second_writer_shares_the_repository_but_nothing_else() {
    let fixture = Fixture::new();
    let pieces = vec![noise(1, 2 * MIB)];
    fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &pieces).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = init::join(&fixture.repository, "other", elsewhere.path(), at("2026-03-01T00:00:00Z")).unwrap();
    let mut session = bkp::repo::write::Session::begin(
        &fixture.repository,
        &other,
        "tree",
        Options::default(),
        &fixture.cancel,
        at("2026-03-02T00:00:00Z"),
    )
    .unwrap();
    write_tree(&mut session, &pieces).unwrap();
    let point = session.commit(draft("2026-03-02T00:00:00Z")).unwrap();
    assert!(point.added > 2 * MIB as u64 && point.sequence == 1 && point.epoch == 2);
    let mut trust = fixture.trust();
    trust.pinned.extend(other.trust().pinned);
    let all = catalog::list(&fixture.repository, &fixture.keys(), &trust, Wanted::default()).unwrap();
    assert_eq!(all.points.len(), 2, "an operator who knows both sees both");
    let known = catalog::list(&fixture.repository, &fixture.keys(), &fixture.trust(), Wanted::default()).unwrap();
    assert_eq!(known.points.len(), 1, "data of a writer nobody vouches for is not offered beside that of a known one");
    assert_eq!(known.unpinned.len(), 1);
    assert!(fixture.read_tar(&point) == pieces.concat());
}

#[test]
fn people_let_in_by_two_writers_at_the_same_moment_all_read() {
    let fixture = Fixture::new();
    let now = at("2026-03-01T00:00:00Z");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = init::join(&fixture.repository, "other", elsewhere.path(), now).unwrap();
    let noted = format!("{}\n{}\n", fixture.writer.trust_line(), other.trust_line());
    let text = std::fs::read_to_string(&fixture.recovery_file).unwrap();
    std::fs::write(&fixture.recovery_file, noted + &text.replace("# bkp-repository: r\n", "")).unwrap();
    let mut writers = [fixture.writer, other];
    let mut files = Vec::new();
    for round in 0..8 {
        let people: Vec<_> = (0..2).map(|w| operator(fixture.state.path(), &format!("person-{round}-{w}"))).collect();
        let gate = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for (writer, (_, person, _)) in writers.iter_mut().zip(&people) {
                let (gate, repository, recovery) = (&gate, &fixture.repository, &fixture.recovery_file);
                scope.spawn(move || {
                    let change = Change::Add(person.clone());
                    gate.wait();
                    // Who is told to try again does.
                    loop {
                        let operator = Operator::read(std::slice::from_ref(recovery)).unwrap();
                        match init::change_recipients(repository, writer, (&change, false), &operator, now) {
                            Ok(()) => break,
                            Err(failure) => assert_eq!(failure.kind(), Kind::TryLater, "{failure:?}"),
                        }
                    }
                });
            }
        });
        files.extend(people.into_iter().map(|(file, ..)| file));
        for file in &files {
            let opened = Operator::read(std::slice::from_ref(file)).unwrap().epochs(&*fixture.repository.store);
            assert_eq!(opened.unwrap().len(), 2, "{} in round {round}", file.display());
        }
    }
    assert_eq!(recipients::claimed(&*fixture.repository.store).unwrap().1.len(), 17);
}

#[test]
fn a_lost_or_exchanged_epoch_key_does_not_keep_the_operator_out() {
    type Loss = fn(&Fixture, &Key);
    let losses: [Loss; 3] = [
        |f, key| f.repository.store.delete(key).unwrap(),
        |f, key| f.repository.store.put(key, Bytes::from_static(b"garbage"), None).unwrap(),
        |f, key| {
            let recipients = &f.writer.recipients;
            let other = bkp::repo::keys::Epoch::generate(1, recipients).unwrap().sealed_bytes().unwrap();
            f.repository.store.put(key, Bytes::from(other), None).unwrap();
        },
    ];
    for lose in losses {
        let fixture = Fixture::new();
        let point = fixture.back_up_tree("tree", "2026-03-01T00:00:00Z", &[noise(1, MIB)]).unwrap();
        lose(&fixture, &Key::new("keys/epoch-0001.age").unwrap());
        let operator = Operator::read(std::slice::from_ref(&fixture.recovery_file)).unwrap();
        let keys = operator.keyring(&*fixture.repository.store).unwrap();
        let listed = catalog::list(&fixture.repository, &keys, &fixture.trust(), Wanted::default()).unwrap();
        assert_eq!(listed.points.len(), 1);
        let keys = operator.keys_for(&point, &keys);
        let reader = bkp::repo::read::PointReader::open(&fixture.repository, &point, &keys, &fixture.cancel).unwrap();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut reader.tar().unwrap(), &mut data).unwrap();
        assert!(data == noise(1, MIB));
    }
}

#[test]
fn a_repository_is_not_made_over_backups() {
    let fixture = Fixture::new();
    fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"x");
    fixture.repository.store.delete(&Key::new("repository.json").unwrap()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let recipients = fixture.writer.recipients.clone();
    let prepared =
        init::prepare(recipients, "host", state.path(), serde_json::Value::Null, at("2026-01-01T00:00:00Z")).unwrap();
    let refused = prepared.write(fixture.repository.store.clone()).err().unwrap();
    assert_eq!(refused.kind(), Kind::Refused);
}

#[test]
fn proofs_are_kept_and_forged_ones_do_not_count() {
    let fixture = Fixture::new();
    let point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", b"x");
    proof::write(&fixture.repository, &fixture.writer, &point, Level::Stored, at("2026-03-02T00:00:00Z")).unwrap();
    proof::write(&fixture.repository, &fixture.writer, &point, Level::Readable, at("2026-03-03T00:00:00Z")).unwrap();
    proof::write(&fixture.repository, &fixture.writer, &point, Level::Stored, at("2026-03-04T00:00:00Z")).unwrap();
    let forged = format!("w/{}/proofs/s/{}.equal.20260305T000000Z", fixture.writer.id(), point.point);
    fixture.repository.store.put(&Key::new(forged).unwrap(), Bytes::from_static(b"no"), None).unwrap();
    let highest = proof::highest(&fixture.repository, &fixture.writer.keyring(), &fixture.trust(), Some("s")).unwrap();
    assert_eq!(highest[&point.point], (Level::Readable, at("2026-03-03T00:00:00Z")));
    let elsewhere = proof::highest(&fixture.repository, &fixture.keys(), &fixture.trust(), Some("s")).unwrap();
    assert_eq!(elsewhere, highest, "an operator sees them without the host");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any single byte changed anywhere in a stream's object makes reading fail, and never gives other data.
    #[test]
    fn any_flipped_byte_is_noticed(seed in 0u64..1000, place in 0.0f64..1.0, mask in 1u8..=255) {
        let fixture = Fixture::new();
        let data = [noise(seed, 1000), vec![7; 4000]].concat();
        let point = fixture.back_up_stream("s", "2026-03-01T00:00:00Z", &data);
        with_bytes(&fixture, &point.streams[0].objects[0].key, |bytes| {
            let at = ((bytes.len() - 1) as f64 * place) as usize;
            bytes[at] ^= mask;
        });
        prop_assert!(fixture.read_stream(&point).is_err());
    }
}
