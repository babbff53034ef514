//! Lists of many points: the newest are shown, and what was opened once is not opened again.

use crate::past::{Past, STREAM, ago};
use std::fs;
use std::fs::{File, FileTimes};
use std::path::Path;

fn ids(past: &Past, arguments: &[&str]) -> Vec<String> {
    let answer = past.host.run(&[&["points", "--json"], arguments].concat()).ends(0);
    let points = answer.json()["points"].as_array().unwrap().clone();
    points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

/// Other bytes of the same length, of the same time.
fn exchange(path: &Path) {
    let metadata = fs::metadata(path).unwrap();
    fs::write(path, vec![0; metadata.len() as usize]).unwrap();
    let times = FileTimes::new().set_modified(metadata.modified().unwrap());
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn the_newest_ten_of_a_source_are_shown_and_the_others_counted() {
    let past = Past::new("{ last: 9 }");
    let points = past.daily(STREAM, 14);
    let newest: Vec<String> = points.iter().rev().take(10).map(|point| point.id().to_owned()).collect();
    assert_eq!(ids(&past, &[]), newest);
    past.host.run(&["points"]).ends(0).says("and 4 older points: --all shows them").says("readable");
    assert_eq!(past.host.run(&["points", "--json"]).ends(0).json()["total"], 14);
    assert_eq!(ids(&past, &["--all"]).len(), 14);
    // New ones appear, and those that were forgotten do not come back.
    let next = past.back_up(STREAM, ago(0));
    assert_eq!(ids(&past, &[])[0], next.id());
    past.host.run(&["prune"]).ends(0).says("6 points forgotten");
    assert_eq!(ids(&past, &["--all"]).len(), 9);
}

#[test]
fn a_point_is_opened_once_for_lists_and_anew_for_everything_else() {
    let past = Past::new("{ last: 9 }");
    past.daily(STREAM, 3);
    let shown = ids(&past, &["--all"]);
    let objects = past.host.objects("points/app");
    let newest = objects.last().unwrap();
    exchange(newest);
    assert_eq!(ids(&past, &["--all"]), shown, "it was opened before");
    past.host.run(&["check"]).ends(4).says(newest.file_name().unwrap().to_str().unwrap());
    // What is remembered may be lost, or spoilt.
    let places: Vec<_> = fs::read_dir(past.host.path("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let remembered = places[0].join("listings").join(past.writer.id()).join("points/app");
    let text = fs::read(&remembered).unwrap();
    fs::write(&remembered, &text[..text.len() / 2]).unwrap();
    past.host.run(&["points", "--all"]).ends(4).says("is damaged").says(&shown[1]).says(&shown[2]);
    fs::write(&remembered, "nonsense").unwrap();
    past.host.run(&["points", "--all"]).ends(4).says(&shown[1]).says(&shown[2]);
    fs::remove_dir_all(past.host.path("cache")).unwrap();
    past.host.run(&["points", "--all"]).ends(4).says(&shown[1]).says(&shown[2]);
}

#[test]
fn what_only_an_operator_can_open_is_not_left_behind() {
    let past = Past::new("{ last: 9 }");
    past.daily(STREAM, 2);
    let _ = fs::remove_dir_all(past.host.path("cache"));
    past.host.read(&["points", "--all"]).ends(0);
    let left: Vec<_> = fs::read_dir(past.host.path("cache")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
