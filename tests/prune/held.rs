//! What somebody should look at first stays, whoever prunes: a hold stands in the repository.

use crate::past::{Past, STREAM};
use crate::support::host::{Host, database};
use bkp::repo::held;

/// A host whose source lost nearly everything after two good backups.
fn robbed() -> Host {
    let host = Host::new();
    let source = format!("app: {{ sqlite: {{ path: \"{}\" }} }}", host.text("data/app.db"));
    let policy = format!("policy: all\nkeep: {{ last: 1 }}\nsources:\n  {source}\n");
    std::fs::write(host.path("etc/policies.d/all.yaml"), policy).unwrap();
    for rows in [20_000, 20_001, 1] {
        host.next_second();
        database(&host.path("data/app.db"), rows, "a row of some length, so that there is something to lose");
        let answer = host.run(&["backup"]);
        match rows {
            1 => answer.ends(3).says("app is held").says("bkp ack app"),
            _ => answer.ends(0),
        };
    }
    host
}

/// Another host, which may delete, with the same policies.
fn janitor(of: &Host) -> Host {
    let mut janitor = Host::bare();
    janitor.url.clone_from(&of.url);
    janitor.configure(&format!("repository: {{ url: \"{}\" }}\n", janitor.url));
    let policy = "etc/policies.d/all.yaml";
    std::fs::copy(of.path(policy), janitor.path(policy)).unwrap();
    janitor.run(&["init", "--join", "--name", "janitor"]).ends(0);
    janitor
}

#[test]
fn a_held_source_is_not_pruned_by_another_host_nor_after_its_own_has_lost_its_state() {
    let host = robbed();
    let janitor = janitor(&host);
    let identity = host.text("recovery-key.txt");
    janitor.run(&["check", "--level", "readable", "--identity", &identity]).ends(0);
    let writer = host.points("app")[0]["writer"].as_str().unwrap().to_owned();
    let prune = ["prune", "--writer", &writer, "--identity", &identity, "--unattended"];
    janitor.run(&prune).ends(0).says("nothing is deleted: held: ").says("bkp ack app");
    assert_eq!(host.points("app").len(), 3);

    std::fs::remove_dir_all(host.path("state/journal")).unwrap();
    host.run(&["prune"]).ends(0).says("nothing is deleted: held: ");
    host.run(&["status"]).ends(3).says("Attention: ").says("HELD    app: ").says("bkp ack app");
    let state = &host.run(&["status", "--json"]).ends(3).json()["sources"][0];
    assert!(state["held"].as_str().unwrap().contains("the one before had"), "{state}");

    host.run(&["ack", "app", "--reason", "it was emptied on purpose"]).ends(0).says("app is free again");
    host.run(&["status"]).ends(0).says("All is well").says_not("HELD");
    host.run(&["ack", "app"]).ends(0).says("app is not held");
    janitor.run(&prune).ends(0).says("2 points forgotten");
}

#[test]
fn who_looks_after_the_points_of_another_host_can_release_them() {
    let host = robbed();
    let janitor = janitor(&host);
    let identity = host.text("recovery-key.txt");
    let writer = host.points("app")[0]["writer"].as_str().unwrap().to_owned();
    janitor.run(&["ack", "app"]).ends(0).says("app is not held");
    janitor.run(&["ack", "app", "--writer", &writer, "--identity", &identity]).ends(0).says("app is free again");
    janitor.run(&["check", "--level", "readable", "--identity", &identity]).ends(0);
    janitor.run(&["prune", "--writer", &writer, "--identity", &identity]).ends(0).says("2 points forgotten");
}

#[test]
fn what_is_pinned_or_held_while_a_prune_looks_stays() {
    let past = Past::new("{ last: 1 }");
    let points = past.daily(STREAM, 4);
    let store = || past.repository.store.clone();
    let pin = || drop(past.host.run(&["pin", points[0].id(), "--reason", "the auditors"]).ends(0));
    let outcome = past.prune_while(store(), pin).unwrap();
    assert_eq!(outcome.forgotten.len(), 2, "{outcome:?}");
    past.holds(&points[0]);

    let points = past.daily(STREAM, 3);
    let hold = || {
        let known = held::of(&past.repository, &past.writer.keyring(), &past.writer.trust(), past.writer.id()).unwrap();
        let source = (past.writer.id(), STREAM.source);
        held::write(&past.repository, &past.writer, &known, source, (true, "odd"), jiff::Timestamp::now()).unwrap();
    };
    let outcome = past.prune_while(store(), hold).unwrap();
    assert_eq!(outcome.forgotten, Vec::<String>::new());
    points.iter().for_each(|point| past.holds(point));
}
