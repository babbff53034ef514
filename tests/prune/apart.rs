//! When things go wrong beside a prune: damage, short listings, other runs, other collectors, kills.

use crate::past::{CHUNKS, Past, STREAM, ago, data};
use crate::support::wait_for;
use bkp::event::Cancel;
use bkp::repo::write::{Options, Session};

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

#[test]
fn a_backup_whose_dump_is_silent_for_days_gives_signs_of_life_and_is_waited_for() {
    let past = Past::new("{ last: 3 }");
    past.daily(STREAM, 2);
    let cancel = Cancel::default();
    let often = Options { signs_of_life: std::time::Duration::from_millis(20), ..past.options(STREAM) };
    let mut session = Session::begin(&past.repository, &past.writer, "app", often, &cancel, ago(0)).unwrap();
    let signs = || past.host.objects("ckpt").len();
    wait_for("a sign of life", 60, || (signs() > 0).then_some(()));
    past.pass(73);
    let before = signs();
    wait_for("another one after three days", 60, || (signs() > before + 1).then_some(()));
    past.host.run(&["prune"]).ends(0).says_not("given up");
    session.stream("dump", &mut &data(ago(0))[..]).unwrap();
    let point = session.commit(past.draft(STREAM, ago(0))).unwrap();
    past.holds(&point);
    past.host.is_well();
}

/// A store whose objects the next prune would delete, and the number of its files.
fn ripe() -> Past {
    let past = Past::new("{ last: 2 }");
    past.daily(CHUNKS, 6);
    past.daily(STREAM, 6);
    past.host.run(&["prune"]).ends(0);
    past.pass(8 * 24);
    past.host.run(&["prune"]).ends(0);
    past.pass(25);
    past
}

#[test]
fn a_lifecycle_rule_that_ate_a_pack_stops_the_prune_and_the_points_are_named() {
    let past = ripe();
    let eaten = past.newest_object("p");
    std::fs::remove_file(&eaten).unwrap();
    let before = past.everything();
    let name = eaten.file_name().unwrap().to_str().unwrap();
    let points = past.points(CHUNKS);
    let newest = points.last().unwrap();
    past.host.run(&["prune"]).ends(4).says(name).says(&format!("log/{newest}")).says("Nothing was deleted");
    let after = past.everything();
    assert_eq!(after, before);
    // As far as is known here, it is the last one that can be relied upon.
    past.host.run(&["prune", "--forget", newest]).ends(13).says("bkp check log --level readable");
    past.host.run(&["check"]).ends(4).says(name).says(&format!("affects log/{newest}"));
    // The way out: what cannot be restored any more is forgotten by name, and the rest goes on.
    let whole = past.back_up(CHUNKS, ago(0));
    past.host.run(&["prune", "--forget", newest]).ends(0).says("1 point forgotten");
    past.host.is_well();
    past.holds(&whole);
}

#[test]
fn a_point_that_vanished_stops_the_prune_until_somebody_accepts_the_loss() {
    let past = ripe();
    for lost in [0, 1] {
        let victim = past.host.objects("points/app")[lost].clone();
        let aside = past.host.path("aside");
        std::fs::rename(&victim, &aside).unwrap();
        let before = past.everything();
        past.host.run(&["prune"]).ends(4).says("nothing says that they were forgotten").says("--accept-missing");
        assert_eq!(past.everything(), before);
        std::fs::rename(&aside, &victim).unwrap();
    }
    std::fs::remove_file(&past.host.objects("points/app")[0]).unwrap();
    past.host.run(&["prune", "--accept-missing"]).ends(0);
    past.host.run(&["prune"]).ends(0);
    past.host.is_well();
}

#[test]
fn what_cannot_be_read_stops_the_prune() {
    for kind in ["points/log", "x", "points/app"] {
        let past = ripe();
        let victim = past.newest_object(kind);
        let bytes = std::fs::read(&victim).unwrap();
        std::fs::write(&victim, [&bytes[..bytes.len() / 2], &vec![0; bytes.len() - bytes.len() / 2][..]].concat())
            .unwrap();
        let before = past.everything();
        past.host.run(&["prune"]).ends(4).says("Nothing was deleted");
        assert_eq!(past.everything(), before, "{kind}");
    }
}

#[test]
fn two_collectors_at_once_do_no_harm() {
    let past = ripe();
    let running: Vec<_> = (0..2)
        .map(|number| {
            // Each with a state directory of its own, so that no local lock keeps them apart.
            let state = past.host.path(&format!("state-{number}"));
            crate::support::run("cp", &["-a", &past.host.text("state"), state.to_str().unwrap()], past.host.root());
            let mut command = past.host.command(&["prune", "--max-delete", "100%"]);
            command.env("BKP_STATE_DIR", state);
            past.host.start(command)
        })
        .collect();
    let ended: Vec<_> = running.into_iter().map(|running| past.host.finish(running).status.code()).collect();
    assert!(ended.iter().all(|code| matches!(code, Some(0 | 75 | 4))), "{ended:?}");
    past.prune_to_the_end();
    past.host.is_well();
    assert_eq!((past.points(CHUNKS).len(), past.points(STREAM).len()), (2, 2));
    assert_eq!(past.host.objects("b").len(), 4);
}
