//! A prune that is killed at any place is made up for by the next one, and meanwhile nothing is lost.

use crate::past::{CHUNKS, Past, ago};
use bkp::durable::CRASH_POINTS;
use bkp::event::Cancel;
use bkp::repo::write::Session;

/// A store in which the next prune comes past this place.
fn before(point: &str) -> Past {
    let past = Past::new("{ last: 2 }");
    // Old enough that no point is younger than the store says.
    let points: Vec<_> = (20..25).rev().map(|day| past.back_up(CHUNKS, ago(24 * day))).collect();
    past.prove(&points[4], bkp::repo::proof::Level::Readable);
    match point {
        "prune:fenced" => {
            let cancel = Cancel::default();
            let options = past.options(CHUNKS);
            drop(Session::begin(&past.repository, &past.writer, CHUNKS.source, options, &cancel, ago(0)).unwrap());
            past.pass(73);
        }
        "prune:object-deleted" => {
            past.host.run(&["prune"]).ends(0);
            past.pass(8 * 24);
            past.host.run(&["prune"]).ends(0);
            past.pass(25);
        }
        _ => {}
    }
    past
}

#[test]
fn a_prune_killed_anywhere_is_made_up_for_by_the_next_one() {
    let places: Vec<&str> = CRASH_POINTS.iter().copied().filter(|point| point.starts_with("prune:")).collect();
    assert!(places.len() >= 6, "{places:?}");
    for place in places {
        let past = before(place);
        let mut command = past.host.command(&["prune", "--max-delete", "100%"]);
        command.env("BKP_CRASH_AT", place);
        past.host.finish(past.host.start(command)).was_killed();
        past.host.read(&["check", "--level", "readable"]).ends(0).says("no problem found");
        let newest = past.back_up(CHUNKS, ago(0));
        past.prune_to_the_end();
        past.host.is_well();
        past.holds(&newest);
        assert_eq!(past.points(CHUNKS).len(), 2, "{place}");
        assert_eq!(past.host.objects("b").len(), 2, "{place}");
        assert_eq!(past.host.objects("sess").len(), 0, "{place}");
    }
}
