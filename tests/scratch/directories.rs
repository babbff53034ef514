//! What is left of scratch targets whose process was killed is found and removed, and nothing else.

use super::support::docker::engine::docker;
use super::support::docker::{Kind, image, require};
use super::support::host::Host;
use super::{in_an_hour, labelled, lease, run};
use bkp::exec::scratch::container::{Data, Limits, Wanted, prepare};
use bkp::exec::scratch::{Directory, reap};
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everybody removes what has passed its deadline, whoever made it: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of everything as a killed process would: what it had locked is free, and what it had made is there.
fn lose(state: &Path) {
    let records = state.join("scratch");
    for entry in fs::read_dir(&records).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            // The lock is on the file and not on its name.
            fs::remove_file(path).unwrap();
        }
    }
}

pub fn later() -> Timestamp {
    in_an_hour().checked_add(SignedDuration::from_hours(1)).unwrap()
}

#[test]
fn a_directory_goes_with_what_runs_in_it() {
    let _alone = alone();
    let (state, parent, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), run());
    let directory = Directory::make(&lease(state.path(), &run), parent.path()).unwrap();
    fs::write(directory.path().join("data"), "x").unwrap();
    let mut server = Command::new("sleep").arg("1000").current_dir(directory.path()).spawn().unwrap();
    assert_eq!(reap(state.path(), later()).unwrap(), vec![], "its process lives, whatever the time");
    assert!(directory.path().exists());
    std::mem::forget(directory);
    lose(state.path());
    let reaped = reap(state.path(), Timestamp::now()).unwrap();
    assert_eq!((reaped.len(), reaped[0].failed.as_deref(), reaped[0].run.as_str()), (1, None, run.as_str()));
    assert!(!server.wait().unwrap().success(), "it was ended");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    assert_eq!(reap(state.path(), later()).unwrap(), vec![]);
}

#[test]
fn what_is_kept_stays_until_its_deadline() {
    let _alone = alone();
    let (state, parent, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), run());
    let directory = Directory::make(&lease(state.path(), &run), parent.path()).unwrap();
    let path = directory.path().to_owned();
    assert!(directory.keep().unwrap().contains(&format!("rm -r {}", path.display())));
    assert_eq!(reap(state.path(), Timestamp::now()).unwrap(), vec![]);
    assert!(path.exists());
    assert_eq!(reap(state.path(), later()).unwrap().len(), 1);
    assert!(!path.exists());
}

#[test]
fn a_record_that_names_something_else_removes_nothing() {
    let _alone = alone();
    let (state, precious) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(precious.path().join("data"), "x").unwrap();
    fs::create_dir(state.path().join("scratch")).unwrap();
    let record = serde_json::json!({
        "run": "r", "source": "shop", "deadline": "2020-01-01T00:00:00Z", "kept": false,
        "what": { "directory": precious.path() },
    });
    fs::write(state.path().join("scratch/1.json"), record.to_string()).unwrap();
    let reaped = reap(state.path(), Timestamp::now()).unwrap();
    assert!(reaped[0].failed.as_ref().unwrap().contains("not a scratch directory"), "{reaped:?}");
    assert!(precious.path().join("data").exists());
}

#[test]
fn a_container_and_its_volume_are_reaped_by_their_record() {
    let _alone = alone();
    let Some(()) = require("scratch servers in containers", Kind::Redis) else { return };
    let (state, run) = (tempfile::tempdir().unwrap(), run());
    let wanted = Wanted {
        image: image(Kind::Redis),
        entrypoint: None,
        arguments: vec![],
        environment: vec![],
        secrets: vec![],
        files: vec![],
        data: Data::Volume("/data".into()),
        limits: Limits { memory: 128 << 20, processors: 100 },
        known_as: None,
    };
    let server = prepare(&lease(state.path(), &run), &wanted, &Default::default()).unwrap().start().unwrap();
    assert_eq!(labelled(&run).len(), 2);
    reap(state.path(), later()).unwrap();
    assert_eq!(labelled(&run).len(), 2, "its process lives");
    std::mem::forget(server);
    lose(state.path());
    assert_eq!(reap(state.path(), Timestamp::now()).unwrap().len(), 1);
    assert_eq!(labelled(&run), Vec::<String>::new());
}

/// Something that another installation, or one whose state is lost, made.
fn foreign(run: &str, deadline: &str, record: Option<&str>) -> String {
    let labels =
        [format!("bkp.scratch={run}"), format!("bkp.scratch.deadline={deadline}"), "bkp.scratch.source=shop".into()];
    let record = record.map(|record| format!("bkp.scratch.record={record}"));
    let labels = labels.iter().chain(&record).flat_map(|label| ["--label", label]);
    docker(&[vec!["volume", "create"], labels.collect()].concat())
}

#[test]
fn doctor_reaps_by_label_and_deadline_and_touches_nothing_else() {
    let _alone = alone();
    let Some(()) = require("scratch servers in containers", Kind::Redis) else { return };
    let (host, run) = (Host::new(), run());
    let in_an_hour = in_an_hour().to_string();
    let past = foreign(&run, "2020-01-01T00:00:00Z", Some("somebody/1"));
    let living = foreign(&run, &in_an_hour, Some("somebody/2"));
    let network = format!("bkp-test-{run}");
    docker(&[
        "network",
        "create",
        "--label",
        &format!("bkp.scratch={run}"),
        "--label",
        "bkp.scratch.deadline=2020-01-01T00:00:00Z",
        &network,
    ]);
    let innocent = docker(&["volume", "create", "--label", &format!("bkp-test.innocent={run}")]);
    let told = host.run(&["doctor"]);
    assert!(told.out.contains(&format!("volume {past} is left of a rehearsal of shop")), "{}", told.out);
    assert!(told.out.contains("bkp doctor --reap"), "{}", told.out);
    let done = host.run(&["doctor", "--reap"]);
    assert!(done.out.contains(&format!("removed volume {past} (source shop)")), "{}", done.out);
    assert!(done.out.contains(&format!("removed network {network}")), "{}", done.out);
    assert_eq!(labelled(&run), vec![living.clone()]);
    // Ours, and in no record: whatever made it was killed and its record is gone.
    let records = host.path("state/scratch");
    assert!(!records.exists(), "who only looked left {}", records.display());
    fs::create_dir_all(&records).unwrap();
    fs::write(records.join("name"), "ours").unwrap();
    foreign(&run, &in_an_hour, Some("ours/3"));
    host.run(&["doctor", "--reap"]);
    assert_eq!(labelled(&run), vec![living.clone()]);
    docker(&["volume", "rm", &living, &innocent]);
}

#[test]
fn what_a_killed_program_left_is_removed_by_the_next() {
    let _alone = alone();
    let (state, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // This very test program, as one that makes a directory and waits to be killed.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "directories::makes_one_and_waits", "--ignored"])
        .env("BKP_TEST_STATE", state.path())
        .env("BKP_TEST_PARENT", parent.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let count = || fs::read_dir(parent.path()).unwrap().count();
    super::support::wait_for("the directory", 60, || (count() == 1).then_some(()));
    assert_eq!(reap(state.path(), later()).unwrap(), vec![]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reap(state.path(), Timestamp::now()).unwrap().len(), 1);
    assert_eq!(count(), 0);
}

#[test]
#[ignore = "a part of what_a_killed_program_left_is_removed_by_the_next"]
fn makes_one_and_waits() {
    let variable = |name| std::path::PathBuf::from(std::env::var_os(name).unwrap());
    let state = variable("BKP_TEST_STATE");
    let _directory = Directory::make(&lease(&state, "run-1"), &variable("BKP_TEST_PARENT")).unwrap();
    std::thread::park();
}
