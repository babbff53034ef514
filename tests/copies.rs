//! Copies of the repository in further stores: how they are made, kept up to date, looked at, and restored from.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "copies/buckets.rs"]
mod buckets;
#[path = "copies/damage.rs"]
mod damage;
#[path = "copies/losses.rs"]
mod losses;
mod support;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use support::host::{Host, database, noise};

/// A copy in a directory, as the configuration has it.
fn in_directory(host: &Host, name: &str) -> String {
    format!("  - {{ name: {name}, url: \"file://{}\" }}\n", host.text(name))
}

/// A repository, these copies, and a source of each layout: a dump, a dump in chunks, and a tree.
fn host_with(copies: &[&str]) -> Host {
    let host = Host::new();
    let copies: String = copies.iter().map(|name| in_directory(&host, name)).collect();
    host.configure(&format!("repository: {{ url: \"{}\" }}\ncopies:\n{copies}", host.url));
    content(&host, "old", 1);
    host.sources(&[
        format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db")),
        format!("log: {{ sqlite: {{ path: \"{}\" }}, layout: dedup }}", host.text("data/log.db")),
        format!("docs: {{ volume: {{ path: \"{}\" }} }}", host.text("data/docs")),
    ]);
    host
}

fn content(host: &Host, text: &str, seed: u64) {
    database(&host.path("data/app.db"), 300, text);
    database(&host.path("data/log.db"), 20_000, text);
    fs::create_dir_all(host.path("data/docs/deep")).unwrap();
    fs::write(host.path("data/docs/deep/file"), text).unwrap();
    noise(&host.path("data/docs/big"), 3 << 20, seed);
}

/// What `bkp copies` says of one of them.
fn standing(host: &Host, name: &str) -> serde_json::Value {
    let all = host.run(&["copies", "--json"]).json();
    let copies = all["copies"].as_array().unwrap();
    copies.iter().find(|copy| copy["name"] == name).unwrap_or_else(|| panic!("{all}")).clone()
}

#[test]
fn a_copy_is_made_on_purpose_and_then_follows_every_backup() {
    let host = host_with(&["second"]);
    host.run(&["copies"]).ends(3).says("1 of 2 copies good").says("bkp copy --create second");
    // A place that is not mounted looks just like a new one: nothing is made there by itself.
    let answer = host.run(&["backup", "app"]).ends(3).says("copy second: there is no directory");
    answer.says("bkp copy --create second");
    assert!(!host.path("second").exists());

    host.run(&["copy", "--create", "second"]).ends(0).says("copy second: 1 point");
    host.run(&["copies"]).ends(0).says("2 of 2 copies good");
    let answer = host.run(&["backup", "--json"]).ends(0);
    let copy = &answer.json()["copies"][0];
    assert_eq!((&copy["copy"], &copy["ok"]), (&"second".into(), &true.into()), "{copy}");
    assert_eq!(copy["points"].as_array().unwrap().len(), 3);
    assert_eq!(standing(&host, "second")["points"], 4);
    // Nothing is brought twice.
    let again = host.run(&["copy", "--json"]).ends(0).json();
    assert_eq!((&again["copies"][0]["objects"], &again["copies"][0]["bytes"]), (&0.into(), &0.into()), "{again}");
    let records = host.run(&["journal", "--json"]).ends(0).json()["records"].clone();
    let ended: Vec<_> = records.as_array().unwrap().iter().filter(|record| record["kind"] == "copy_ended").collect();
    let well = ended.iter().filter(|record| record["copy"] == "second" && record["ok"] == true).count();
    assert_eq!((well, ended.len()), (4, 5), "four points arrived, and one could not at first: {records}");
    host.run(&["status"]).ends(0).says("2 of 2 copies good");
    assert!(host.run(&["status", "--json"]).ends(0).json()["copies"].as_array().unwrap().len() == 2);
    host.run(&["check", "--copy", "second"]).ends(0).says("no problem found");
    host.run(&["points", "--from", "second"]).ends(0).says("stored");
    // That its bytes were read again was proven of the copy alone.
    host.run(&["points"]).ends(0).says_not("stored");
    host.is_tidy();
}

#[test]
fn a_backup_can_leave_the_copies_alone() {
    let host = host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["backup", "--no-copy"]).ends(0);
    let behind = standing(&host, "second");
    assert_eq!((&behind["standing"], &behind["missing"]), (&"behind".into(), &3.into()), "{behind}");
    host.run(&["status"]).ends(3).says("1 of 2 copies good").says("behind");
    host.run(&["copy", "--source", "docs"]).ends(0).says("copy second: 1 point");
    assert_eq!(standing(&host, "second")["missing"], 2);
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let host = host_with(&["second"]);
    host.run(&["copy", "secnd"]).fails(2, "no copy `secnd`; did you mean `second`?", "Configured are: second");
    host.run(&["copy", "repository"]).fails(2, "onto itself", "--from");
    host.run(&["copy", "--from", "second", "second"]).fails(2, "onto itself", "--from");
    host.run(&["copy"]).fails(10, "there is no directory", "bkp copy --create second");
    host.run(&["restore", "app", "--from", "thrid"]).fails(2, "no copy `thrid`", "Configured are: second");
    // A copy does not go into a place that holds something else.
    let other = Host::new();
    host.configure(&format!(
        "repository: {{ url: \"{}\" }}\ncopies:\n  - {{ name: second, url: \"{}\" }}\n",
        host.url, other.url
    ));
    host.run(&["copy", "--create", "second"]).fails(13, "holds another repository", "of its own");
    host.configure(&format!("repository: {{ url: \"{}\" }}\n", host.url));
    host.run(&["copy"]).fails(2, "no copy to bring up to date", "policies/bkp.yaml");
}

#[test]
fn a_volume_leaves_out_the_copies_below_it() {
    let host = host_with(&[]);
    let inside = format!("  - {{ name: inside, url: \"file://{}\" }}\n", host.text("data/docs/copy"));
    host.configure(&format!("repository: {{ url: \"{}\" }}\ncopies:\n{inside}", host.url));
    host.run(&["copy", "--create", "inside"]).ends(0);
    host.run(&["backup", "docs"]).ends(0);
    host.read(&["ls", "docs"]).ends(0).says("deep/file").says_not("repository.json");
}
