//! When things go wrong beside a prune: damage, short listings, other runs, other collectors, kills.

use crate::past::{CHUNKS, Past, STREAM, ago, data};
use bkp::event::Cancel;
use bkp::repo::write::Session;

#[test]
fn a_backup_that_runs_keeps_what_it_builds_on_and_what_it_stored() {
    let past = Past::new("{ last: 1 }");
    past.daily(CHUNKS, 3);
    let cancel = Cancel::default();
    let options = past.options(CHUNKS);
    let mut session = Session::begin(&past.repository, &past.writer, CHUNKS.source, options, &cancel, ago(0)).unwrap();
    // Another host's clock, another daemon: a second backup overtakes it, and its base is forgotten.
    past.pass(1);
    let newer = past.back_up(CHUNKS, ago(0));
    past.prove(&newer, bkp::repo::proof::Level::Readable);
    past.host.run(&["prune"]).ends(0).says("3 points forgotten");
    for _ in 0..3 {
        past.pass(23);
        past.host.run(&["prune", "--max-delete", "100%"]).ends(0).says("0 B in 0 objects deleted");
    }
    session.stream("dump", &mut &data(ago(0))[..]).unwrap();
    session.commit(past.draft(CHUNKS, ago(0))).unwrap();
    past.host.is_well();
}

#[test]
fn a_backup_that_slept_through_its_fence_does_not_commit() {
    let past = Past::new("{ last: 3 }");
    past.daily(STREAM, 2);
    let cancel = Cancel::default();
    let mut session =
        Session::begin(&past.repository, &past.writer, "app", past.options(STREAM), &cancel, ago(0)).unwrap();
    session.stream("dump", &mut &data(ago(0))[..]).unwrap();
    past.pass(73);
    past.host.run(&["prune"]).ends(0).says("1 unfinished backup given up");
    let failure = session.commit(past.draft(STREAM, ago(0))).unwrap_err();
    assert!(failure.to_string().contains("prune gave it up"), "{failure}");
    // What it left goes, and so does the session itself.
    let before = past.stored().len();
    past.pass(8 * 24);
    for _ in 0..4 {
        past.host.run(&["prune", "--max-delete", "100%"]).ends(0);
        past.pass(25);
    }
    assert_eq!(past.stored().len(), before - 2, "a dump and its body");
    assert_eq!(past.host.objects("sess").len(), 0);
    past.host.is_well();
}
