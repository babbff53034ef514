//! The contract of `Store`, as something that every store is held to.
//!
//! Each function is one promise. They share a store, so each works below a prefix of its own.

use crate::support::wait_for;
use bkp::store::{Key, LockMode, Retain, Store, StoreError, read};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub const PART: usize = 5 << 20;

/// Every promise. `many` is the length of the long listing.
pub fn holds(store: &dyn Store, many: usize) {
    an_object_comes_back_as_it_was_written(store);
    a_later_object_replaces_an_earlier_one(store);
    put_new_leaves_what_is_there(store);
    one_of_sixteen_racing_writers_wins(store);
    ranges_give_what_is_there(store);
    what_is_absent_is_told(store);
    deleting_is_done_once_and_harmless_twice(store);
    names_that_are_allowed_work(store);
    parts_in_any_order_from_threads_make_one_object(store);
    an_upload_shows_nothing_before_it_is_finished(store);
    an_upload_may_be_empty_or_small(store);
    parts_with_a_gap_make_no_object(store);
    a_listing_is_complete_and_sorted(store, many);
    readers_see_the_old_object_or_the_new_one_whole(store);
    several_objects_are_deleted_for_good_together(store);
    a_lock_that_cannot_be_kept_is_refused(store);
}

pub fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// Bytes that differ everywhere, so that a wrong offset shows.
pub fn content(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

fn range(store: &dyn Store, key: &Key, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.get(key, Some(from..to)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn several_objects_are_deleted_for_good_together(store: &dyn Store) {
    let names: Vec<Key> = (0..30).map(|number| key(&format!("together/{number:02}"))).collect();
    let (there, absent) = names.split_at(25);
    for name in there {
        store.put(name, content(10, 1), None).unwrap();
    }
    let neighbour = key("together/2");
    store.put(&neighbour, content(10, 2), None).unwrap();
    let mut asked: Vec<Key> = absent.to_vec();
    asked.extend_from_slice(&there[5..]);
    assert_eq!(store.purge_all(&asked).unwrap(), vec![bkp::store::Purged::Gone; 25], "what is not there is gone too");
    let left: Vec<Key> = store.list("together/").unwrap().into_iter().map(|entry| entry.key).collect();
    let mut wanted = there[..5].to_vec();
    wanted.push(neighbour);
    wanted.sort();
    assert_eq!(left, wanted);
    assert_eq!(store.purge_all(&left).unwrap().len(), 6);
    assert!(store.list("together/").unwrap().is_empty());
    assert!(store.purge_all(&[]).unwrap().is_empty());
}

fn an_object_comes_back_as_it_was_written(store: &dyn Store) {
    let before = jiff::Timestamp::now();
    for size in [0, 1, 70_000, 3_000_000] {
        let (key, bytes) = (key(&format!("whole/{size}")), content(size, 1));
        store.put(&key, bytes.clone(), None).unwrap();
        assert!(read(store, &key).unwrap() == bytes, "{size}");
        let head = store.head(&key).unwrap();
        assert_eq!(head.size, size as u64);
        assert!((head.modified.as_second() - before.as_second()).abs() < 600, "the store's clock");
        assert!(head.sha256.is_none_or(|sha256| sha256 == <[u8; 32]>::from(Sha256::digest(&bytes))));
        assert_eq!(head.retain, None);
    }
}

fn a_later_object_replaces_an_earlier_one(store: &dyn Store) {
    let key = key("again/x");
    store.put(&key, content(9000, 1), None).unwrap();
    store.put(&key, content(500, 2), None).unwrap();
    assert_eq!(read(store, &key).unwrap(), content(500, 2));
    assert_eq!(store.list("again/").unwrap()[0].size, 500);
}

fn put_new_leaves_what_is_there(store: &dyn Store) {
    let key = key("new/x");
    store.put_new(&key, content(100, 1), None).unwrap();
    for other in [content(100, 2), content(7, 3)] {
        assert!(matches!(store.put_new(&key, other, None), Err(StoreError::Exists(found)) if found == key));
    }
    assert_eq!(read(store, &key).unwrap(), content(100, 1));
}

fn one_of_sixteen_racing_writers_wins(store: &dyn Store) {
    let (key, start) = (key("race/x"), Barrier::new(16));
    let write = |seed| {
        start.wait();
        store.put_new(&key, content(20_000, seed), None)
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let write = &write;
        let racers: Vec<_> = (0..16).map(|seed| scope.spawn(move || write(seed))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let winners: Vec<_> = (0..16).filter(|seed| outcomes[*seed].is_ok()).collect();
    let losers = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Exists(_)))).count();
    assert_eq!((winners.len(), losers), (1, 15), "{outcomes:?}");
    assert!(read(store, &key).unwrap() == content(20_000, winners[0] as u64));
}

fn ranges_give_what_is_there(store: &dyn Store) {
    let (key, bytes) = (key("range/x"), content(100_000, 5));
    store.put(&key, bytes.clone(), None).unwrap();
    assert_eq!(range(store, &key, 0, 10), bytes[..10]);
    assert_eq!(range(store, &key, 99_990, 100_000), bytes[99_990..]);
    assert!(range(store, &key, 12_345, 98_765) == bytes[12_345..98_765]);
    assert!(range(store, &key, 99_000, 200_000) == bytes[99_000..]);
    assert!(range(store, &key, 50_000, u64::MAX) == bytes[50_000..]);
    for (from, to) in [(100_000, 100_001), (5_000_000, 6_000_000), (7, 7), (0, 0)] {
        assert!(range(store, &key, from, to).is_empty(), "{from}..{to}");
    }
    let empty = self::key("range/empty");
    store.put(&empty, Bytes::new(), None).unwrap();
    assert!(range(store, &empty, 0, 10).is_empty());
}

fn what_is_absent_is_told(store: &dyn Store) {
    let key = key("absent/x");
    let told = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::NotFound(found)) if found == key);
    assert!(told(store.get(&key, None).map(|_| ())));
    assert!(told(store.get(&key, Some(3..9)).map(|_| ())));
    assert!(told(store.get(&key, Some(3..3)).map(|_| ())));
    assert!(told(store.head(&key).map(|_| ())));
    assert!(store.list("absent/").unwrap().is_empty());
}

fn deleting_is_done_once_and_harmless_twice(store: &dyn Store) {
    let (one, other) = (key("delete/one"), key("delete/other"));
    store.put(&one, content(10, 1), None).unwrap();
    store.put(&other, content(10, 2), None).unwrap();
    for _ in 0..2 {
        store.delete(&one).unwrap();
        assert!(matches!(store.head(&one), Err(StoreError::NotFound(_))));
    }
    store.delete(&key("delete/not/even/a/directory")).unwrap();
    assert_eq!(read(store, &other).unwrap(), content(10, 2));
    store.put_new(&one, content(10, 3), None).unwrap();
}

fn names_that_are_allowed_work(store: &dyn Store) {
    let long = "n".repeat(255);
    let names = [
        "names/A-z_0.9=",
        "names/a.b",
        "names/a/b/c/d/e/f/g",
        "names/-dash",
        "names/_",
        "names/=",
        &format!("names/{long}"),
    ];
    for name in names {
        store.put(&key(name), Bytes::copy_from_slice(name.as_bytes()), None).unwrap();
    }
    for name in names {
        assert_eq!(read(store, &key(name)).unwrap(), name.as_bytes());
    }
    let mut sorted: Vec<_> = names.to_vec();
    sorted.sort_unstable();
    let listed = store.list("names/").unwrap();
    assert_eq!(listed.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), sorted);
    for name in names {
        store.delete(&key(name)).unwrap();
    }
    assert!(store.list("names/").unwrap().is_empty());
}

fn parts_in_any_order_from_threads_make_one_object(store: &dyn Store) {
    let (key, bytes) = (key("parts/x"), content(3 * PART + 12_345, 7));
    let upload = store.upload(&key, None).unwrap();
    std::thread::scope(|scope| {
        for number in [4, 2, 3, 1] {
            let (upload, from) = (&upload, (number as usize - 1) * PART);
            let part = bytes.slice(from..bytes.len().min(from + PART));
            scope.spawn(move || upload.part(number, from as u64, part).unwrap());
        }
    });
    upload.finish().unwrap();
    drop(upload);
    assert!(read(store, &key).unwrap() == bytes);
    assert_eq!(store.head(&key).unwrap().size, bytes.len() as u64);
    let across = (2 * PART - 10, 2 * PART + 10);
    assert_eq!(range(store, &key, across.0 as u64, across.1 as u64), bytes[across.0..across.1]);
}

fn an_upload_shows_nothing_before_it_is_finished(store: &dyn Store) {
    let key = key("unfinished/x");
    let upload = store.upload(&key, None).unwrap();
    upload.part(1, 0, content(PART, 1)).unwrap();
    upload.part(2, PART as u64, content(1000, 2)).unwrap();
    assert!(matches!(store.head(&key), Err(StoreError::NotFound(_))));
    assert!(store.list("unfinished").unwrap().is_empty());
    drop(upload);
    assert!(matches!(store.get(&key, None).map(|_| ()), Err(StoreError::NotFound(_))));

    store.put(&key, content(50, 3), None).unwrap();
    let upload = store.upload(&key, None).unwrap();
    upload.part(1, 0, content(60, 4)).unwrap();
    assert_eq!(read(store, &key).unwrap(), content(50, 3), "the old object stays until the new one is whole");
    upload.finish().unwrap();
    assert_eq!(read(store, &key).unwrap(), content(60, 4));
}

fn an_upload_may_be_empty_or_small(store: &dyn Store) {
    let (empty, small) = (key("small/empty"), key("small/small"));
    store.upload(&empty, None).unwrap().finish().unwrap();
    assert_eq!(store.head(&empty).unwrap().size, 0);
    let upload = store.upload(&small, None).unwrap();
    upload.part(1, 0, content(3, 1)).unwrap();
    upload.finish().unwrap();
    upload.finish().expect("finishing what is finished changes nothing");
    assert_eq!(read(store, &small).unwrap(), content(3, 1));
}

fn parts_with_a_gap_make_no_object(store: &dyn Store) {
    let key = key("gap/x");
    for (number, offset) in [(2, PART as u64 + 1), (3, PART as u64)] {
        let upload = store.upload(&key, None).unwrap();
        upload.part(1, 0, content(PART, 1)).unwrap();
        upload.part(number, offset, content(10, 2)).unwrap();
        assert!(matches!(upload.finish(), Err(StoreError::Other(_))));
        drop(upload);
        assert!(store.list("gap").unwrap().is_empty());
    }
}

fn a_listing_is_complete_and_sorted(store: &dyn Store, many: usize) {
    let name = |n: usize| format!("list/{:02}/object-{n:05}", n % 7);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let write = move || {
                for n in (worker..many).step_by(8) {
                    store.put(&key(&name(n)), content(n % 40, n as u64), None).unwrap();
                }
            };
            scope.spawn(write);
        }
    });
    // `-` sorts before `/`: directories are not walked in the order of the full names.
    for name in ["list/03-a", "list/03.b", "listing"] {
        store.put(&key(name), content(1, 1), None).unwrap();
    }
    let mut expected: Vec<_> = (0..many).map(|n| (name(n), n as u64 % 40)).collect();
    expected.extend([("list/03-a".to_owned(), 1), ("list/03.b".to_owned(), 1)]);
    expected.sort_unstable();
    let found: Vec<_> = store.list("list/").unwrap().into_iter().map(|e| (e.key.to_string(), e.size)).collect();
    assert!(found == expected, "{} of {}", found.len(), expected.len());

    let names = |prefix: &str| store.list(prefix).unwrap().into_iter().map(|e| e.key.to_string()).collect::<Vec<_>>();
    assert_eq!(names("list/03").len(), expected.iter().filter(|(name, _)| name.starts_with("list/03")).count());
    assert_eq!(names("list/03/object-00003"), ["list/03/object-00003"]);
    assert_eq!(names("listi"), ["listing"]);
    assert!(names("list/03/object-00003/").is_empty());
    for none in ["list//", "../", "/", "/etc/", "list/../", ".tmp/"] {
        assert!(names(none).is_empty(), "{none}");
    }
    assert!(names("").len() >= expected.len());
}

/// Writers and readers of one name at once; each object consists of one byte value only.
fn readers_see_the_old_object_or_the_new_one_whole(store: &dyn Store) {
    let (key, size) = (key("torn/x"), 400_000);
    store.put(&key, vec![0; size].into(), None).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..12 {
                store.put(&key, vec![value; size].into(), None).unwrap();
            }
            done.store(true, Relaxed);
        });
        wait_for("the last write", 120, || {
            let bytes = read(store, &key).unwrap();
            assert_eq!(bytes.len(), size);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            done.load(Relaxed).then_some(())
        });
    });
    assert_eq!(read(store, &key).unwrap()[0], 11);
}

fn a_lock_that_cannot_be_kept_is_refused(store: &dyn Store) {
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let retain = Retain { mode: LockMode::Governance, until };
    let key = key("locked/x");
    assert!(store.retention().is_none());
    assert!(store.put(&key, content(1, 1), Some(&retain)).is_err());
    assert!(store.put_new(&key, content(1, 1), Some(&retain)).is_err());
    assert!(store.upload(&key, Some(&retain)).is_err());
    assert!(store.list("locked").unwrap().is_empty());
}
