//! What the next prune would delete is told before it comes; and one host prunes what another has made.

use crate::past::{Past, STREAM, ago};
use crate::support::host::Host;
use serde_json::Value;

fn scheduled(past: &Past) {
    let main = format!("repository: {{ url: \"{}\" }}\nprune: {{ schedule: \"0 4 * * *\" }}\n", past.host.url);
    past.host.configure(&main);
}

/// Ids of points that a plan gives up, with the reasons.
fn given_up(plan: &Value) -> Vec<(String, String)> {
    let points = plan["series"].as_array().unwrap().iter().flat_map(|series| series["points"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    points.filter(|p| p["keep"] == false).map(|point| (text(&point["id"]), text(&point["reason"]))).collect()
}

#[test]
fn the_plan_tells_what_the_next_prune_would_delete_and_why() {
    let past = Past::new("{ last: 3 }");
    scheduled(&past);
    let points = past.daily(STREAM, 5);
    let before = past.everything();
    let told = past.host.run(&["plan"]).ends(0).says("The next prune (in ").says("app: 3 to keep, 2 to forget");
    for point in &points[..2] {
        let line = told.out.lines().find(|line| line.contains(point.id())).unwrap();
        assert!(line.contains("forget") && line.contains("beyond what is kept: last 3"), "{line}");
    }
    told.says_not(points[2].id());
    let document = past.host.run(&["plan", "--json"]).ends(0).json();
    assert_eq!(document["prune"]["due"], document["upcoming"][0]["due"]);
    assert_eq!(document["prune_problem"], Value::Null);
    let foreseen = given_up(&document["prune"]["plan"]);
    assert_eq!(foreseen.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [points[0].id(), points[1].id()]);
    assert_eq!(past.everything(), before, "looking ahead changes nothing");
    // It is what then happens.
    past.host.run(&["prune", "--unattended"]).ends(0).says("2 points forgotten");
    past.host.run(&["plan"]).ends(0).says("would delete nothing");
}

#[test]
fn the_plan_tells_what_keeps_the_next_prune_from_deleting() {
    let past = Past::new("{ last: 1 }");
    past.daily(STREAM, 8);
    past.host.run(&["plan"]).ends(0).says("No prune is scheduled").says("too many to delete unattended");
    past.keep("{ last: 6 }");
    past.host.run(&["prune"]).ends(0).says("2 points forgotten");
    past.keep("{ last: 4 }");
    past.host.run(&["plan", "all"]).ends(0).says("--confirm-shrink all").says("2 points more would go");
}

#[test]
fn while_the_store_is_away_the_plan_shows_the_runs_and_says_what_it_cannot_tell() {
    let past = Past::new("{ last: 1 }");
    scheduled(&past);
    past.daily(STREAM, 2);
    std::fs::rename(past.host.store(), past.host.path("elsewhere")).unwrap();
    let told =
        past.host.run(&["plan"]).ends(3).says("0 4 * * *").says("what the next prune would delete cannot be told");
    assert!(told.err.contains("hint: "), "{told:?}");
    let document = past.host.run(&["plan", "--json"]).ends(3).json();
    assert_eq!((&document["prune"], document["upcoming"].as_array().unwrap().len()), (&Value::Null, 1));
    assert!(document["prune_problem"].as_str().unwrap().contains("store"), "{document}");
}

#[test]
fn a_host_that_may_delete_prunes_what_another_has_made_when_it_knows_its_key() {
    let past = Past::new("{ last: 2 }");
    let points = past.daily(STREAM, 4);
    let mut janitor = Host::bare();
    janitor.url.clone_from(&past.host.url);
    janitor.configure(&format!("repository: {{ url: \"{}\" }}\n", janitor.url));
    let policy = "etc/policies.d/all.yaml";
    std::fs::copy(past.host.path(policy), janitor.path(policy)).unwrap();
    janitor.run(&["init", "--join", "--name", "janitor"]).ends(0);

    // Without its key, the word of the store is all there is.
    let stranger = janitor.text("stranger.txt");
    let key = std::fs::read_to_string(past.host.identity()).unwrap();
    let without: Vec<&str> = key.lines().filter(|line| !line.contains("bkp-writer")).collect();
    std::fs::write(&stranger, without.join("\n")).unwrap();
    crate::support::host::mode(stranger.as_ref(), 0o600);
    let writer = past.writer.id();
    let before = past.everything().len();
    janitor.run(&["prune", "--writer", writer, "--identity", &stranger]).fails(12, "only the store vouches", writer);
    janitor.run(&["prune", "--writer", "nobody", "--identity", &stranger]).fails(
        2,
        "there is no writer nobody",
        "bkp keys list",
    );
    assert_eq!(past.everything().len(), before);

    let identity = past.host.text("recovery-key.txt");
    janitor.run(&["prune", "--writer", writer, "--identity", &identity]).ends(0).says("2 points forgotten");
    past.pass(8 * 24);
    for _ in 0..3 {
        past.pass(25);
        let all = ["prune", "--writer", writer, "--identity", &identity, "--max-delete", "100%"];
        janitor.run(&all).ends(0);
    }
    let left: Vec<String> = points[2..].iter().map(|point| point.point.clone()).collect();
    assert_eq!(past.points(STREAM), left);
    assert_eq!(past.host.objects("s").len(), 2, "the bytes of the others are gone");
    points[2..].iter().for_each(|point| past.holds(point));
    // The host that made them goes on, and finds nothing wrong.
    let next = past.back_up(STREAM, ago(0));
    past.holds(&next);
    past.host.is_well();
}
