//! The metrics, before anything ran and after everything that can become of a run.

use super::support::run;
use super::{Scrape, host, measured};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const APP: &[(&str, &str)] = &[("source", "app"), ("policy", "all")];
const DOCS: &[(&str, &str)] = &[("source", "docs"), ("policy", "all")];

fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

#[test]
fn before_any_run_everything_is_due_and_nothing_is_told_that_is_not_so() {
    let host = host();
    let scrape = measured(&host);
    for source in [APP, DOCS] {
        let due = scrape.value("bkp_backup_due_timestamp_seconds", source);
        assert!(due > now() && due < now() + 3.0 * 86_400.0, "{due}");
        assert_eq!(scrape.value("bkp_rpo_target_seconds", source), 26.0 * 3600.0);
        assert_eq!(scrape.value("bkp_rto_target_seconds", source), 1800.0);
        assert_eq!(scrape.value("bkp_backup_failures_in_a_row", source), 0.0);
        for absent in [
            "bkp_backup_last_success_timestamp_seconds",
            "bkp_backup_last_status",
            "bkp_recovery_point_newest_timestamp_seconds",
            "bkp_rpo_attained_seconds",
            "bkp_source_bytes",
        ] {
            assert_eq!(scrape.get(absent, source), None, "{absent}");
        }
    }
    assert_eq!(scrape.value("bkp_ok", &[]), 0.0);
    assert_eq!(scrape.value("bkp_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
}

#[test]
fn success_failure_and_recovery_are_told_and_survive_because_the_journal_does() {
    let host = host();
    let begin = now() - 1.0;
    host.run(&["backup"]).ends(0);
    let scrape = measured(&host);
    let success = scrape.value("bkp_backup_last_success_timestamp_seconds", DOCS);
    assert!((begin..=now() + 1.0).contains(&success), "{success}");
    assert!((begin..=now()).contains(&scrape.value("bkp_recovery_point_newest_timestamp_seconds", APP)));
    assert_eq!(scrape.value("bkp_backup_last_status", APP), 1.0);
    assert!(scrape.value("bkp_source_bytes", APP) > 4096.0);
    assert!(scrape.value("bkp_rpo_attained_seconds", APP) < 600.0);
    // The third one is of bkp's own configuration.
    assert_eq!(scrape.value("bkp_runs_total", &[("kind", "backup"), ("result", "done")]), 3.0);
    assert_eq!(scrape.value("bkp_run_duration_seconds_count", &[("kind", "backup")]), 3.0);
    assert_eq!(scrape.value("bkp_ok", &[]), 1.0);

    fs::rename(host.path("data/docs"), host.path("data/away")).unwrap();
    for failures in [1.0, 2.0] {
        host.run(&["backup", "docs"]).ends(1);
        let scrape = measured(&host);
        assert_eq!(scrape.value("bkp_backup_failures_in_a_row", DOCS), failures);
        assert_eq!(scrape.value("bkp_backup_last_status", DOCS), 0.0);
        assert_eq!(scrape.value("bkp_backup_last_success_timestamp_seconds", DOCS), success);
        assert_eq!(scrape.value("bkp_backup_failures_in_a_row", APP), 0.0);
        assert_eq!(scrape.value("bkp_ok", &[]), 0.0);
    }

    fs::rename(host.path("data/away"), host.path("data/docs")).unwrap();
    host.run(&["backup", "docs"]).ends(0);
    let scrape = measured(&host);
    assert_eq!(scrape.value("bkp_backup_failures_in_a_row", DOCS), 0.0);
    assert_eq!(scrape.value("bkp_runs_total", &[("kind", "backup"), ("result", "failed")]), 2.0);
    assert_eq!(scrape.value("bkp_runs_total", &[("kind", "backup"), ("result", "done")]), 4.0);
}

#[test]
fn a_run_that_was_killed_is_no_success() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let mut command = host.command(&["backup", "app"]);
    command.env("BKP_CRASH_AT", "backup:stream-stored");
    host.finish(host.start(command)).was_killed();
    let scrape = measured(&host);
    assert_eq!(scrape.value("bkp_runs_total", &[("kind", "backup"), ("result", "aborted")]), 1.0);
    assert_eq!(scrape.value("bkp_backup_last_status", APP), 0.0);
    assert_eq!(scrape.value("bkp_backup_running", APP), 0.0);
    assert_eq!(scrape.value("bkp_backup_failures_in_a_row", APP), 1.0);
}

#[test]
fn damage_that_a_check_found_is_told_until_it_is_mended() {
    let host = host();
    host.run(&["backup"]).ends(0);
    assert_eq!(measured(&host).value("bkp_recovery_point_damaged", APP), 0.0);
    for object in host.objects("s") {
        fs::remove_file(object).unwrap();
    }
    host.run(&["check"]).ends(4);
    assert_eq!(measured(&host).value("bkp_recovery_point_damaged", APP), 1.0);
    host.next_second();
    host.run(&["backup", "app"]).ends(0);
    assert_eq!(measured(&host).value("bkp_recovery_point_damaged", APP), 0.0);
}

#[test]
fn the_oldest_point_and_what_the_repository_holds_are_told_once_somebody_has_looked() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let first = measured(&host).value("bkp_recovery_point_newest_timestamp_seconds", APP);
    host.next_second();
    host.run(&["backup", "app"]).ends(0);
    let scrape = measured(&host);
    assert!(scrape.value("bkp_recovery_point_newest_timestamp_seconds", APP) > first);
    assert_eq!(scrape.value("bkp_recovery_point_oldest_timestamp_seconds", APP), first);
    assert_eq!(scrape.get("bkp_repo_bytes", &[]), None, "nobody has looked yet");
    assert_eq!(scrape.get("bkp_repo_immutable_until_timestamp_seconds", APP), None, "a directory locks nothing");
    let stored = |kinds: &[&str]| {
        let files = kinds.iter().flat_map(|kind| host.objects(kind));
        files.map(|path| fs::metadata(path).unwrap().len() as f64).sum::<f64>()
    };
    host.run(&["check"]).ends(0);
    assert_eq!(measured(&host).value("bkp_repo_bytes", &[]), stored(&["s", "p", "x", "b"]));

    // One point is forgotten, and the other one is the oldest then.
    let points = host.points("app");
    host.run(&["prune", "--forget", points[1]["id"].as_str().unwrap()]).ends(0);
    let scrape = measured(&host);
    let newest = scrape.value("bkp_recovery_point_newest_timestamp_seconds", APP);
    assert_eq!(scrape.value("bkp_recovery_point_oldest_timestamp_seconds", APP), newest);
    assert!(scrape.value("bkp_repo_bytes", &[]) >= stored(&["s", "p", "x", "b"]));
    assert!(scrape.value("bkp_repo_seen_timestamp_seconds", &[]) > newest);
}

#[test]
fn a_text_file_is_replaced_whole_and_others_can_read_it() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let file = host.path("home/bkp.prom");
    fs::write(&file, "old").unwrap();
    let answer = host.run(&["metrics", "--textfile", file.to_str().unwrap()]).ends(0);
    assert_eq!(answer.out, "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(Scrape::prometheus(&text).value("bkp_ok", &[]), 1.0);
    host.is_tidy();
    host.run(&["metrics", "--textfile", "no/such/directory/x.prom"]).fails_somehow();
}

#[test]
fn prometheus_own_tool_has_nothing_to_say_about_them() {
    let host = host();
    host.run(&["backup"]).ends(0);
    let file = host.path("home/bkp.prom");
    host.run(&["metrics", "--textfile", file.to_str().unwrap()]).ends(0);
    run("sh", &["-c", "exec promtool check metrics < bkp.prom"], &host.path("home"));
}
