//! Listings that are wrong, and credentials that may not delete: nothing is deleted, and it is told why.

use crate::past::{CHUNKS, Past, STREAM};
use crate::stores::Bent;
use crate::support::fault::{Fault, Faulty};
use bkp::error::Kind;
use bkp::event::{Context, Silent};
use bkp::job::Places;
use bkp::job::check::Check;
use bkp::repo::catalog::{self, Wanted};
use bkp::repo::chain;
use bkp::repo::proof::Level;
use bkp::store::Store;
use bkp::store::retry::{Budget, Retrying};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A store whose next prune forgets points and deletes objects.
fn ripe() -> Past {
    let past = Past::new("{ last: 3 }");
    past.daily(CHUNKS, 6);
    past.daily(STREAM, 6);
    past.host.run(&["prune"]).ends(0);
    past.pass(8 * 24);
    past.host.run(&["prune"]).ends(0);
    past.pass(25);
    past
}

/// All objects but those that collectors write.
fn data(past: &Past) -> Vec<PathBuf> {
    let own = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "gc");
    past.host.objects(".").into_iter().filter(|path| !own(path)).collect()
}

fn stops(past: &Past, what: &str, store: Arc<dyn Store>) {
    let before = data(past);
    let outcome = past.prune_in(store);
    match &outcome {
        Ok(outcome) => assert!(!outcome.problems.is_empty(), "{what}: {outcome:?}"),
        Err(failure) => assert!(matches!(failure.kind(), Kind::Failed | Kind::TryLater), "{what}: {failure:?}"),
    }
    assert_eq!(data(past), before, "{what}");
}

#[test]
fn a_listing_that_is_short_or_empty_deletes_nothing() {
    let past = ripe();
    let store = || past.repository.store.clone();
    let w = format!("w/{}/", past.writer.id());
    // Points are missing from each listing in which they could be: the oldest, the newest, all of a source, all.
    for lost in ["the first", "the last", "those of app", "all"] {
        let prefix = format!("{w}points/");
        let bent = Bent::new(store()).listing(move |_, mut entries| {
            let points: Vec<_> =
                entries.iter().filter(|e| e.key.as_str().starts_with(&prefix)).map(|e| e.key.clone()).collect();
            let gone = |key: &bkp::store::Key| match lost {
                "the first" => points.first() == Some(key),
                "the last" => points.last() == Some(key),
                "those of app" => key.as_str().contains("/points/app/"),
                _ => true,
            };
            entries.retain(|e| !points.contains(&e.key) || !gone(&e.key));
            Ok(entries)
        });
        stops(&past, &format!("points: {lost}"), Arc::new(bent));
    }
    // The last listing alone is cut short.
    for share in [0, 1, 2, 3] {
        let whole = w.clone();
        let bent = Bent::new(store()).listing(move |prefix, mut entries| {
            if prefix == whole {
                entries.truncate(entries.len() * share / 4);
            }
            Ok(entries)
        });
        stops(&past, &format!("{share} of 4 parts of everything"), Arc::new(bent));
    }
    let empty =
        Bent::new(store()).listing(|prefix, entries| Ok(if prefix.starts_with("w/") { Vec::new() } else { entries }));
    stops(&past, "empty", Arc::new(empty));
    past.host.is_well();
    past.host.run(&["prune", "--max-delete", "100%"]).ends(0);
    past.host.is_well();
}

#[test]
fn a_listing_that_fails_or_breaks_deletes_nothing() {
    let past = ripe();
    let budget = Budget { total: Duration::ZERO, first_contact: Duration::ZERO, ..Budget::default() };
    let always = |fault| {
        let faulty = Arc::new(Faulty::new(past.repository.store.clone(), fault, u32::MAX));
        Arc::new(Retrying::new(faulty, budget, 4))
    };
    for fault in [Fault::BrokenList, Fault::Error, Fault::Unavailable] {
        stops(&past, &format!("{fault:?}"), always(fault));
    }
    // The last object of each listing is not shown. When that is a dead one, nothing seems wrong; and since the newest mark
    // is not shown either, whatever is dead waits.
    let before = data(&past);
    if let Ok(outcome) = past.prune_in(always(Fault::ShortList)) {
        assert!(!outcome.problems.is_empty() || outcome.swept.waiting == outcome.dead, "{outcome:?}");
    }
    assert_eq!(data(&past), before);
    // What passes by itself is only tried again.
    let faulty = Arc::new(Faulty::new(past.repository.store.clone(), Fault::Error, 1));
    let budget = Budget { base: Duration::from_millis(1), cap: Duration::from_millis(2), ..Budget::default() };
    let outcome = past.prune_in(Arc::new(Retrying::new(faulty, budget, 4))).unwrap();
    assert!(outcome.problems.is_empty() && outcome.swept.deleted.number > 0, "{outcome:?}");
    past.host.is_well();
}

#[test]
fn a_session_that_only_one_listing_shows_counts() {
    let past = ripe();
    let w = format!("w/{}/", past.writer.id());
    let cancel = bkp::event::Cancel::default();
    let options = past.options(CHUNKS);
    let session =
        bkp::repo::write::Session::begin(&past.repository, &past.writer, "log", options, &cancel, crate::past::ago(0))
            .unwrap();
    let sessions = format!("{w}sess/");
    let bent = Bent::new(past.repository.store.clone())
        .listing(move |prefix, entries| Ok(if prefix == sessions { Vec::new() } else { entries }));
    past.pass(24 * 4);
    let outcome = past.prune_in(Arc::new(bent)).unwrap();
    assert!(outcome.problems.is_empty(), "{outcome:?}");
    assert_eq!(outcome.fenced.len(), 1, "it was seen, and is silent: {outcome:?}");
    drop(session);
}

#[test]
fn who_may_not_delete_is_told_kindly_and_nothing_is_changed() {
    let past = ripe();
    past.keep("{ last: 2 }");
    let before = past.points(CHUNKS);
    let failure = past.prune_in(Arc::new(Bent::new(past.repository.store.clone()).without_delete())).unwrap_err();
    assert_eq!(failure.kind(), Kind::Key);
    assert!(failure.to_string().contains("may not delete"), "{failure}");
    assert!(failure.next_step().unwrap().contains("--writer"), "{failure:?}");
    assert_eq!(past.points(CHUNKS), before);
    assert_eq!(past.host.objects("gc/forgotten").len(), 6, "no new tombstone");
}

#[test]
fn a_check_does_not_miss_what_is_backed_up_while_it_lists() {
    let past = Past::new("{ last: 3 }");
    past.daily(STREAM, 2);
    let keys = past.writer.keyring();
    let seen = chain::remembered(&past.writer.series_memory());
    let catalog = catalog::list(&past.repository, &keys, &past.writer.trust(), Wanted::default()).unwrap();
    past.back_up(STREAM, crate::past::ago(0));
    let (cancel, meter) = (bkp::event::Cancel::default(), bkp::event::Meter::default());
    let check = Check {
        repository: &past.repository,
        catalog: &catalog,
        seen: &seen,
        points: &catalog.points,
        keys: &keys,
        trust: &past.writer.trust(),
        writer: Some(&past.writer),
        places: &Places::new(&past.host.path("state"), &past.host.path("cache"), &past.repository),
        is_copy: false,
        level: Level::Stored,
        sample: 1.0,
        turn: 0,
    };
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    let checked = check.run(context, crate::past::ago(0)).unwrap();
    assert_eq!(checked.report.problems, []);
}
