//! The contract behind faults: what retries make good, and what they must not hide.

use crate::contract::{self, content, key};
use crate::support::fault::{Fault, Faulty};
use crate::support::minio::Minio;
use bkp::error::{Failure, Kind};
use bkp::event::{Event, Events};
use bkp::store::retry::{Budget, Retrying};
use bkp::store::{Location, Settings, Store, StoreError, Watch, create, memory::Memory, open_bare, read};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tries that follow each other at once, so that a test does not wait; two faults fit well into it.
const QUICK: Budget = Budget {
    total: Duration::from_secs(60),
    first_contact: Duration::from_secs(60),
    base: Duration::from_micros(100),
    cap: Duration::from_millis(5),
};

/// So small that the third try does not happen.
const SPENT: Budget = Budget {
    total: Duration::ZERO,
    first_contact: Duration::ZERO,
    base: Duration::from_secs(1),
    cap: Duration::from_secs(1),
};

const MENDED: [Fault; 6] =
    [Fault::Error, Fault::AnswerLost, Fault::TornRead, Fault::BrokenList, Fault::Unavailable, Fault::Slow];

fn holds_behind(fault: Fault, store: Arc<dyn Store>) {
    let faulty = Arc::new(Faulty::new(store, fault, 2));
    contract::holds(&Retrying::new(faulty.clone(), QUICK, 8), 60);
    assert!(fault == Fault::Slow || faulty.faults() > 2, "{fault:?} never struck");
}

#[test]
fn memory_behind_each_fault_keeps_the_contract() {
    for fault in MENDED {
        holds_behind(fault, Arc::new(Memory::new()));
    }
}

#[test]
fn a_directory_behind_each_fault_keeps_the_contract() {
    for fault in MENDED {
        let scratch = tempfile::tempdir().unwrap();
        let settings = Settings::new(Location::Directory(scratch.path().into()));
        create(&settings, Watch::default()).unwrap();
        holds_behind(fault, open_bare(&settings).unwrap());
        let left = std::fs::read_dir(scratch.path().join(".tmp")).unwrap().count();
        assert_eq!(left, 0, "{fault:?} left temporary files");
    }
}

#[test]
fn minio_behind_each_fault_keeps_the_contract() {
    let Some(minio) = Minio::shared("the contract on S3 behind faults") else { return };
    std::thread::scope(|scope| {
        for fault in MENDED {
            scope.spawn(move || holds_behind(fault, open_bare(&minio.probed(false)).unwrap()));
        }
    });
}

/// A listing that is short without saying so passes through: whoever deletes by it must count for himself.
#[test]
fn a_short_listing_is_neither_made_up_for_nor_hidden() {
    let store = Retrying::new(Arc::new(Faulty::new(Arc::new(Memory::new()), Fault::ShortList, 1)), QUICK, 8);
    for name in ["a", "b", "c"] {
        store.put(&key(name), content(1, 1), None).unwrap();
    }
    assert_eq!(store.list("").unwrap().len(), 2);
    assert_eq!(store.list("").unwrap().len(), 3);
}

#[test]
fn without_retries_faults_come_through() {
    let faulty = Faulty::new(Arc::new(Memory::new()), Fault::Unavailable, 1);
    assert!(matches!(faulty.put(&key("x"), content(1, 1), None), Err(StoreError::Transient(_))));
    let torn = Faulty::new(Arc::new(Memory::new()), Fault::TornRead, 1);
    torn.put(&key("x"), content(5000, 1), None).unwrap();
    assert!(matches!(read(&torn, &key("x")), Err(StoreError::Transient(_))));
}

#[test]
fn a_spent_budget_is_told_with_the_last_error() {
    let store = Retrying::new(Arc::new(Faulty::new(Arc::new(Memory::new()), Fault::Unavailable, 9)), SPENT, 8);
    let failure = Failure::from(store.put(&key("x"), content(1, 1), None).unwrap_err());
    assert_eq!(failure.kind(), Kind::TryLater);
    assert!(failure.full().contains("SlowDown") && failure.full().contains("given up after"), "{}", failure.full());
}

#[test]
fn a_body_that_keeps_breaking_ends_in_a_failure_that_says_try_later() {
    let torn = Arc::new(Faulty::new(Arc::new(Memory::new()), Fault::TornRead, 9));
    torn.put(&key("x"), content(5000, 1), None).unwrap();
    let store = Retrying::new(torn, SPENT, 8);
    let mut bytes = Vec::new();
    let error = store.get(&key("x"), None).unwrap().read_to_end(&mut bytes).unwrap_err();
    assert_eq!(Failure::from_io(error, || "reading".into()).kind(), Kind::TryLater);
    assert!(bytes == content(5000, 1)[..bytes.len()] && bytes.len() < 5000);
}

/// The answer to the first `put_new` was lost, and somebody else wrote the name meanwhile.
#[test]
fn an_uncertain_write_is_compared_with_what_is_there() {
    for (theirs, expected) in [(content(80, 1), true), (content(80, 2), false), (content(81, 1), false)] {
        let memory = Memory::new();
        let store = Retrying::new(Arc::new(Faulty::new(Arc::new(memory.clone()), Fault::Error, 1)), QUICK, 8);
        memory.put(&key("x"), theirs.clone(), None).unwrap();
        let outcome = store.put_new(&key("x"), content(80, 1), None);
        assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
        assert!(expected || matches!(outcome, Err(StoreError::Exists(_))));
        assert_eq!(read(&memory, &key("x")).unwrap(), theirs);
    }
}

#[test]
fn what_is_refused_is_not_tried_again() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = Settings::new(Location::Directory(scratch.path().join("s")));
    create(&settings, Watch::default()).unwrap();
    let faulty = Arc::new(Faulty::new(open_bare(&settings).unwrap(), Fault::Error, 0));
    std::fs::remove_dir_all(scratch.path().join("s")).unwrap();
    let store = Retrying::new(faulty, QUICK, 8);
    assert!(matches!(store.put(&key("a/x"), content(1, 1), None), Err(StoreError::NoStore(_))));
    assert!(matches!(store.list(""), Err(StoreError::NoStore(_))));
    assert!(matches!(store.head(&key("x")), Err(StoreError::NoStore(_))));
    assert!(matches!(store.delete(&key("x")), Err(StoreError::NoStore(_))));
}

/// Keeps what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl Events for Told {
    fn emit(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn an_outage_is_told_once_however_many_requests_wait() {
    let told = Arc::new(Told::default());
    let faulty = Arc::new(Faulty::new(Arc::new(Memory::new()), Fault::Unavailable, 9));
    let watch = Watch { events: told.clone(), ..Watch::default() };
    let store = Retrying::watched(faulty.clone(), QUICK, 8, watch);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || store.put(&key(&format!("x{number}")), content(1, 1), None).unwrap());
        }
    });
    assert_eq!(faulty.faults(), 72);
    let events = told.0.lock().unwrap();
    let [Event::StoreSilent { store, error, until }, Event::StoreAnswers { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(store.contains("memory") && error.contains("SlowDown"), "{events:?}");
    assert!(*until > jiff::Timestamp::now() && until.as_second() <= jiff::Timestamp::now().as_second() + 60);
}

#[test]
fn what_succeeds_soon_is_no_outage() {
    let told = Arc::new(Told::default());
    let faulty = Faulty::new(Arc::new(Memory::new()), Fault::Unavailable, 2);
    let store = Retrying::watched(Arc::new(faulty), QUICK, 8, Watch { events: told.clone(), ..Watch::default() });
    store.put(&key("x"), content(1, 1), None).unwrap();
    assert!(told.0.lock().unwrap().is_empty());
}
