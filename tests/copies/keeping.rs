//! A copy with rules of its own: what it is brought, and what is pruned there.

use crate::standing;
use crate::support::host::{Host, database, texts};

/// A host whose copy keeps the newest two points of each source.
fn host() -> Host {
    let host = Host::new();
    let copy = format!("  - {{ name: second, url: \"file://{}\", keep: {{ last: 2 }} }}\n", host.text("second"));
    host.configure(&format!("repository: {{ url: \"{}\" }}\ncopies:\n{copy}", host.url));
    host.sources(&[format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"))]);
    host
}

fn back_up(host: &Host, text: &str, words: &[&str]) {
    host.next_second();
    database(&host.path("data/app.db"), 10, text);
    host.run(&[&["backup", "app"], words].concat()).ends(0);
}

fn in_copy(host: &Host) -> usize {
    let listed = host.run(&["points", "--from", "second", "--source", "app", "--all", "--json"]).ends(0).json();
    listed["points"].as_array().unwrap().len()
}

#[test]
fn a_copy_is_brought_only_what_it_keeps() {
    let host = host();
    for text in ["one", "two", "three"] {
        back_up(&host, text, &["--no-copy"]);
    }
    host.run(&["copy", "--create", "second"]).ends(0);
    assert_eq!(in_copy(&host), 2, "the oldest one is not wanted there");
    host.run(&["copies"]).ends(0).says("2 of 2 copies good");
    host.read(&["restore", "app", "--from", "second", "--to", &host.text("app.db")]).ends(0);
    assert_eq!(texts(&host.path("app.db")), vec!["three"; 10]);
    // One that is pinned is wanted whatever the copy keeps.
    let oldest = host.points("app").pop().unwrap()["id"].as_str().unwrap().to_owned();
    host.run(&["pin", &oldest, "--reason", "before the move"]).ends(0);
    assert_eq!(standing(&host, "second")["missing"], 1);
    host.run(&["copy"]).ends(0);
    assert_eq!(in_copy(&host), 3);
}

#[test]
fn a_copy_is_pruned_by_its_own_rules() {
    let host = host();
    host.run(&["copy", "--create", "second"]).ends(0);
    for text in ["one", "two", "three", "four"] {
        back_up(&host, text, &[]);
    }
    assert_eq!(in_copy(&host), 4, "nothing goes by itself");
    host.read(&["check", "--copy", "second", "--level", "readable"]).ends(0);
    host.run(&["prune", "--copy", "second", "--dry-run"]).ends(0).says("2 to forget");
    host.run(&["plan"]).ends(0).says("In copy second:").says("2 to forget");
    host.run(&["prune"]).ends(0);
    assert_eq!(in_copy(&host), 4, "by hand, only what was asked for");
    // As the daemon does it.
    let pruned = host.run(&["prune", "--unattended", "--json"]).ends(0).json();
    assert_eq!(pruned["copies"]["second"]["outcome"]["forgotten"].as_array().unwrap().len(), 2, "{pruned}");
    assert_eq!(in_copy(&host), 2);
    assert_eq!(host.points("app").len(), 4, "the repository keeps what it has");
    // What was pruned does not come back, and is not missed.
    host.run(&["copy", "--json"]).ends(0);
    assert_eq!(in_copy(&host), 2);
    host.run(&["copies"]).ends(0).says("2 of 2 copies good");
    host.run(&["check", "--copy", "second"]).ends(0).says("no problem found");
    host.read(&["restore", "app", "--from", "second", "--to", &host.text("app.db")]).ends(0);
    assert_eq!(texts(&host.path("app.db")), vec!["four"; 10]);
}

#[test]
fn what_a_copy_was_not_brought_is_not_missed_by_its_prune_and_what_it_was_is() {
    let host = host();
    for text in ["one", "two", "three", "four"] {
        back_up(&host, text, &["--no-copy"]);
    }
    let oldest = host.points("app").pop().unwrap()["id"].as_str().unwrap().to_owned();
    host.run(&["pin", &oldest, "--reason", "before the move"]).ends(0);
    host.run(&["copy", "--create", "second"]).ends(0);
    assert_eq!(in_copy(&host), 3, "the second one is not wanted there");
    // Nor has the newest come there yet.
    back_up(&host, "five", &["--no-copy"]);
    host.run(&["prune", "--copy", "second"]).ends(0);
    host.run(&["prune", "--unattended"]).ends(0);
    host.run(&["copy"]).ends(0);
    host.run(&["prune", "--copy", "second"]).ends(0);
    let listed = host.run(&["points", "--from", "second", "--source", "app", "--all", "--json"]).ends(0).json();
    let newest = listed["points"][0]["point"].as_str().unwrap();
    let writer = std::fs::read_dir(host.path("second/w")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(writer.join("points/app").join(newest)).unwrap();
    host.run(&["prune", "--copy", "second"]).ends(4).says("number 5 of this series: missing");
}

#[test]
fn a_copy_that_is_away_keeps_nothing_else_from_being_pruned() {
    let host = host();
    host.run(&["copy", "--create", "second"]).ends(0);
    for text in ["one", "two"] {
        back_up(&host, text, &[]);
    }
    let policy = std::fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    std::fs::write(host.path("etc/policies.d/all.yaml"), format!("keep: {{ last: 1 }}\n{policy}")).unwrap();
    host.read(&["check", "--level", "readable"]).ends(0);
    std::fs::rename(host.path("second"), host.path("away")).unwrap();
    host.run(&["plan"]).ends(0).says("In copy second, that cannot be told: ");
    host.run(&["prune", "--unattended"]).ends(3).says("1 point forgotten").says("copy second is not pruned: ");
}

#[test]
fn what_the_repository_forgot_on_purpose_does_not_come_back_and_what_it_lost_does() {
    let host = crate::host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    for text in ["one", "two", "three", "four"] {
        back_up(&host, text, &[]);
    }
    let policy = std::fs::read_to_string(host.path("etc/policies.d/all.yaml")).unwrap();
    std::fs::write(host.path("etc/policies.d/all.yaml"), format!("keep: {{ last: 2 }}\n{policy}")).unwrap();
    host.read(&["check", "--level", "readable"]).ends(0);
    host.run(&["prune"]).ends(0).says("2 points forgotten");
    let ids = || host.points("app").iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let kept = ids();

    // By accident, one of those that are kept.
    let lost = host.objects("points").into_iter().find(|path| path.to_str().unwrap().ends_with(&kept[1])).unwrap();
    std::fs::remove_file(lost).unwrap();
    host.run(&["prune"]).ends(4).says("Nothing was deleted").says("bkp copy --from second --repair repository");
    for repair in [&["--repair"][..], &[]] {
        let words = [&["copy", "--from", "second", "repository"], repair].concat();
        host.run(&words).ends(0).says("2 points that were forgotten there on purpose are left out");
        assert_eq!(ids(), kept);
    }
    host.run(&["prune"]).ends(0);
    host.is_well();

    // They are in the copy, and what a repository that is made anew has is what the copy has.
    assert_eq!(in_copy(&host), 4);
    std::fs::remove_dir_all(host.store()).unwrap();
    let made = host.run(&["copy", "--from", "second", "--create", "repository", "--json"]).ends(0).json();
    assert_eq!(made["copies"][0]["forgotten"], 0, "{made}");
    assert_eq!(host.points("app").len(), 4);
}

#[test]
fn a_copy_without_rules_is_not_pruned() {
    let host = crate::host_with(&["second"]);
    host.run(&["copy", "--create", "second"]).ends(0);
    host.run(&["prune", "--copy", "second"]).fails(2, "has no `keep`", "Write `keep:`");
}
