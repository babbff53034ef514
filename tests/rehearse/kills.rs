//! Killed in every phase, and two at once.

use super::files::{host, recorded};
use bkp::durable::CRASH_POINTS;
use std::fs;

#[test]
fn what_a_killed_rehearsal_leaves_goes_with_the_next_one() {
    let host = host();
    host.run(&["backup"]).ends(0);
    for point in CRASH_POINTS.iter().filter(|point| point.starts_with("rehearse:")) {
        let mut command = host.command(&["rehearse", "docs"]);
        command.env("BKP_CRASH_AT", point).env("BKP_IDENTITY", host.identity());
        host.finish(host.start(command)).was_killed();
        assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 1, "{point}");
        let before = recorded(&host).len();
        host.read(&["rehearse", "docs"]).ends(0).says("equal");
        assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 0, "{point}");
        assert_eq!(recorded(&host).len(), before + 1, "{point}");
    }
    host.run(&["journal"]).ends(0);
    host.is_well();
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let start = || {
        let mut command = host.command(&["rehearse", "docs", "--json"]);
        command.env("BKP_IDENTITY", host.identity());
        host.start(command)
    };
    let (one, other) = (start(), start());
    for running in [one, other] {
        let answer = host.finish(running).ends(0);
        assert_eq!(answer.json()["rehearsals"][0]["reached"], "equal");
    }
    assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 0);
}
