//! Points that somebody names, and what a run may delete at most.

use crate::past::{Past, STREAM, ago};
use bkp::event::Cancel;
use bkp::repo::proof::Level;
use bkp::repo::write::Session;

#[test]
fn several_points_by_hand_never_take_the_last_one_of_a_source() {
    let past = Past::new("{ last: 9 }");
    let points = past.daily(STREAM, 2);
    let both = ["prune", "--forget", points[0].id(), "--forget", points[1].id()];
    past.host.run(&both).fails(13, "it is the last one of its source", "bkp backup app");
    assert_eq!(past.points(STREAM).len(), 2);
    points.iter().for_each(|point| past.holds(point));
}

#[test]
fn several_points_by_hand_never_take_all_that_are_proven() {
    let past = Past::new("{ last: 9 }");
    let points = past.daily(STREAM, 3);
    past.prove(&points[1], Level::Readable);
    let both = ["prune", "--forget", points[1].id(), "--forget", points[2].id()];
    past.host.run(&both).fails(13, "the only one that is proven readable", "bkp check app --level readable");
    assert_eq!(past.points(STREAM).len(), 3);
    past.host
        .run(&["prune", "--forget", points[1].id(), "--forget", points[0].id()])
        .ends(0)
        .says("2 points forgotten");
    past.holds(&points[2]);
}

#[test]
fn points_by_hand_leave_as_many_as_the_policy_wants() {
    let past = Past::new("{ last: 9, min: 3 }");
    let points = past.daily(STREAM, 4);
    let both = ["prune", "--forget", points[0].id(), "--forget", points[1].id()];
    past.host.run(&both).fails(13, "`keep: { min: 3 }` wants it", "bkp backup app");
    past.host.run(&both[..3]).ends(0).says("1 point forgotten");
}

#[test]
fn a_dump_that_is_larger_than_the_part_of_a_run_goes_by_itself() {
    let past = Past::new("{ last: 1 }");
    let at = ago(24 * 4);
    let mut large = vec![0; 5 << 20];
    blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut large);
    let cancel = Cancel::default();
    let mut session =
        Session::begin(&past.repository, &past.writer, STREAM.source, past.options(STREAM), &cancel, at).unwrap();
    session.stream("dump", &mut &large[..]).unwrap();
    session.commit(past.draft(STREAM, at)).unwrap();
    let kept = past.daily(STREAM, 3).pop().unwrap();
    past.host.run(&["prune"]).ends(0).says("3 points forgotten");
    past.pass(8 * 24);
    past.host.run(&["prune"]).ends(0);
    // One at a time, where each is larger than a quarter of what there is.
    for _ in 0..5 {
        past.pass(25);
        past.host.run(&["prune", "--unattended"]).ends(0);
    }
    assert_eq!(past.host.objects("s").len(), 1);
    past.holds(&kept);
}
