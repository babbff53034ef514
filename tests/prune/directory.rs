//! A repository in a directory: what goes, what stays, and how it is told.

use crate::past::{CHUNKS, Kind, Past, STREAM, ago};
use bkp::repo::point::Point;
use bkp::repo::proof::Level;
use jiff::SignedDuration;

fn names(points: &[Point]) -> Vec<String> {
    points.iter().map(|p| p.point.clone()).collect()
}

#[test]
fn what_is_kept_restores_and_the_rest_is_gone_for_good() {
    for kind in [STREAM, CHUNKS] {
        let past = Past::new("{ last: 2, daily: 3 }");
        let points = past.daily(kind, 10);
        let before = past.stored();
        past.host.run(&["prune"]).ends(0).says("7 points forgotten").says("0 B in 0 objects deleted");
        assert_eq!(past.points(kind), names(&points[7..]));
        assert_eq!(past.stored(), before, "the bytes are not touched on the first day");
        past.prune_to_the_end();
        // A fresh repository with the same three points has no less.
        let fresh = Past::new("{ last: 2, daily: 3 }");
        points[7..].iter().for_each(|point| drop(fresh.back_up(kind, point.consistent_at)));
        assert_eq!(past.stored().len(), fresh.stored().len() + extra_packs(kind), "{:?}", past.stored());
        points[7..].iter().for_each(|point| past.holds(point));
        past.host.is_well();
        past.host.run(&["prune"]).ends(0).says("0 points forgotten").says("0 B in 0 objects deleted");
        // And the next backup builds on what is left.
        let next = past.back_up(kind, ago(0));
        past.holds(&next);
        past.host.is_well();
    }
}

/// Chunks that the kept points share lie in the pack of the first point, which stays.
fn extra_packs(kind: Kind) -> usize {
    usize::from(kind.source == CHUNKS.source)
}

#[test]
fn a_dry_run_gives_a_reason_for_each_point_and_changes_nothing() {
    let past = Past::new("{ last: 2 }");
    let points = past.daily(STREAM, 4);
    past.host.run(&["pin", points[0].id(), "--reason", "the audit"]).ends(0).says("is pinned: the audit");
    let before = past.everything();
    let answer = past.host.run(&["prune", "--dry-run"]).ends(0);
    for (point, reason) in
        points.iter().zip(["pinned: the audit", "beyond what is kept: last 2", "last 2 of 2", "the newest point"])
    {
        let line = answer.out.lines().find(|line| line.contains(point.id())).unwrap();
        assert!(line.contains(reason), "{line}");
    }
    assert_eq!(past.everything(), before);
    let plan = past.plan(&[]);
    let hash = plan["hash"].as_str().unwrap();
    past.host.run(&["prune", "--plan", "000000000000"]).fails(13, hash, "--dry-run");
    past.host.run(&["prune", "--plan", hash]).ends(0).says("1 point forgotten");
    assert_eq!(past.points(STREAM), names(&[points[0].clone(), points[2].clone(), points[3].clone()]));
    past.host.run(&["unpin", points[0].id()]).ends(0).says("no longer pinned (it was: the audit)");
    past.host.run(&["prune"]).ends(0).says("1 point forgotten");
    past.host.is_well();
}

#[test]
fn nothing_goes_before_a_newer_point_is_known_to_be_readable() {
    let past = Past::new("{ last: 1 }");
    let points: Vec<Point> = (1..5).rev().map(|day| past.back_up(STREAM, ago(24 * day))).collect();
    past.host.run(&["prune"]).ends(0).says("0 points forgotten");
    past.host.run(&["prune", "--dry-run"]).ends(0).says("no point of this source is proven readable yet");
    past.prove(&points[1], Level::Readable);
    past.host.run(&["prune"]).ends(0).says("1 point forgotten");
    assert_eq!(past.points(STREAM), names(&points[1..]));
}

#[test]
fn a_shorter_keep_is_shown_and_waits_for_a_word() {
    let past = Past::new("{ daily: 5 }");
    let points = past.daily(STREAM, 8);
    past.host.run(&["prune"]).ends(0).says("3 points forgotten");
    past.keep("{ daily: 2, monthly: 1 }");
    let answer = past.host.run(&["prune"]).ends(13).says("--confirm-shrink all").says("3 points more would go");
    answer.says("0 points forgotten");
    assert_eq!(past.points(STREAM), names(&points[3..]));
    // It is asked for again, also from another state directory: the repository remembers.
    std::fs::remove_dir_all(past.host.path("state/locks")).unwrap();
    past.host.run(&["prune", "--unattended"]).ends(13);
    past.host.run(&["prune", "--confirm-shrink", "al"]).ends(2);
    past.host.run(&["prune", "--confirm-shrink", "all"]).ends(0).says("3 points forgotten");
    past.host.run(&["prune"]).ends(0).says("0 points forgotten");
    // More is kept from now on: nobody has to confirm that.
    past.keep("{ daily: 9 }");
    past.host.run(&["prune"]).ends(13); // `monthly: 1` is gone
    past.keep("{ daily: 9, monthly: 1 }");
    past.host.run(&["prune"]).ends(0);
}

#[test]
fn nobody_looks_on_and_most_of_a_series_would_go() {
    let past = Past::new("{ last: 1 }");
    let points = past.daily(STREAM, 8);
    past.host
        .run(&["prune", "--unattended"])
        .ends(13)
        .says("too many to delete unattended")
        .says("bkp prune --dry-run");
    // Nobody looked on, so that it is told elsewhere.
    let main = format!("repository: {{ url: \"{}\" }}\nprune: {{ schedule: \"0 4 * * *\" }}\n", past.host.url);
    past.host.configure(&main);
    let told = "The last prune failed: nothing of app is deleted: 7 of 8 points at once are too many";
    past.host.run(&["healthcheck", "--objective"]).ends(5).says(told);
    assert_eq!(past.points(STREAM), names(&points));
    past.host.run(&["prune", "--unattended"]).ends(13);
    past.host.run(&["prune"]).ends(0).says("7 points forgotten");
    // From now on that is known: where proofs come seldom, much goes at once.
    let later = [40, 35, 30, 25, 20, 15].map(|m| past.back_up(STREAM, ago(0) - SignedDuration::from_mins(m)));
    past.prove(&later[5], Level::Readable);
    past.host.run(&["prune", "--unattended"]).ends(0).says("6 points forgotten");
}

#[test]
fn a_run_deletes_no_more_than_its_part() {
    let past = Past::new("{ last: 2 }");
    past.daily(STREAM, 10);
    past.host.run(&["prune"]).ends(0);
    past.pass(8 * 24);
    past.host.run(&["prune"]).ends(0).says("not needed any more: deleted by a run 24 hours from now");
    past.pass(23);
    past.host.run(&["prune"]).ends(0).says("0 B in 0 objects deleted");
    past.pass(2);
    let before: u64 = past.everything().iter().map(|(_, size)| size).sum();
    let outcome = past.prune_json(&[]).ends(0).json()["outcome"].clone();
    let deleted = outcome["swept"]["deleted"]["bytes"].as_u64().unwrap();
    assert!(deleted > 0 && deleted * 4 <= before, "{deleted} of {before}");
    assert!(outcome["swept"]["left"]["number"].as_u64().unwrap() > 0, "{outcome}");
}

#[test]
fn the_chain_of_a_pruned_series_has_no_finding_and_that_of_a_robbed_one_has() {
    let past = Past::new("{ last: 1, daily: 3, yearly: 9 }");
    let points = past.daily(STREAM, 12);
    past.host.run(&["pin", points[4].id(), "--reason", "x"]).ends(0);
    past.prune_to_the_end();
    past.host.is_well();
    // Its tombstones are gone by now: marks remember the numbers.
    let robbed = past.host.objects("points").into_iter().find(|path| path.ends_with(&points[10].point)).unwrap();
    std::fs::remove_file(robbed).unwrap();
    past.host.run(&["check"]).ends(4).says("it is missing");
}

#[test]
fn safety_backups_go_after_their_time() {
    let past = Past::new("{ last: 2, safety: 3d }");
    let safety = past.back_up(Kind { safety: true, ..STREAM }, ago(24 * 10));
    past.pass(24 * 9);
    let points = past.daily(STREAM, 2);
    let young = past.back_up(Kind { safety: true, ..STREAM }, ago(0));
    past.host.run(&["prune", "--dry-run"]).ends(0).says("a safety backup older than 3d");
    past.host.run(&["prune"]).ends(0).says("1 point forgotten");
    let left = past.points(STREAM);
    assert!(!left.contains(&safety.point) && left.contains(&young.point) && left.contains(&points[0].point));
}
