//! A prune is in the journal before it looks at the store: what hinders it from looking cannot make it vanish.

use crate::past::{Past, STREAM};
use crate::support::wait_for;
use rustix::process::Signal;
use serde_json::Value;
use std::net::TcpListener;

fn scheduled(past: &Past, repository: &str) {
    past.host.configure(&format!("{repository}\nprune: {{ schedule: \"0 4 * * *\" }}\n"));
}

fn here(past: &Past) -> String {
    format!("repository: {{ url: \"{}\" }}", past.host.url)
}

/// Runs of prunes, with what came of each.
fn prunes(past: &Past) -> Vec<(Value, Option<Value>)> {
    let document = past.host.run(&["journal", "--last", "1000", "--json"]).ends(0).json();
    let records = document["records"].as_array().unwrap();
    let end = |run: &Value| records.iter().find(|r| r["kind"] == "run_ended" && r["run"] == run["run"]).cloned();
    let begun = records.iter().filter(|r| r["kind"] == "run_started" && r["job"] == "prune");
    begun.map(|run| (run.clone(), end(run))).collect()
}

#[test]
fn a_prune_that_cannot_look_at_the_store_is_a_prune_that_failed() {
    let past = Past::new("{ last: 1 }");
    scheduled(&past, &here(&past));
    past.daily(STREAM, 2);
    past.host.run(&["healthcheck", "--objective"]).says_not("The last prune failed");
    std::fs::rename(past.host.store(), past.host.path("elsewhere")).unwrap();
    let code = past.host.run(&["prune"]).fails_somehow().status.code();
    let [(_, Some(ended))] = &prunes(&past)[..] else { panic!("{:?}", prunes(&past)) };
    assert_eq!((&ended["outcome"], ended["code"].as_i64()), (&"failed".into(), code.map(i64::from)), "{ended}");
    assert!(ended["message"].as_str().unwrap().contains("store"), "{ended}");
    past.host.run(&["healthcheck", "--objective"]).ends(5).says("The last prune failed: there is no directory");

    std::fs::rename(past.host.path("elsewhere"), past.host.store()).unwrap();
    past.host.run(&["prune"]).ends(0).says("1 point forgotten");
    past.host.run(&["healthcheck", "--objective"]).says_not("The last prune failed");
}

#[test]
fn a_prune_that_is_killed_while_the_store_does_not_answer_was_begun() {
    let past = Past::new("{ last: 1 }");
    past.daily(STREAM, 2);
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    std::fs::write(past.host.path("key"), "a-key").unwrap();
    let key = past.host.text("key");
    let away = format!(
        "repository: {{ url: \"s3://bucket/prefix\", endpoint: \"{endpoint}\", access_key_file: \"{key}\", secret_key_file: \"{key}\" }}"
    );
    scheduled(&past, &away);
    let running = past.host.start(past.host.command(&["prune"]));
    wait_for("the prune has begun", 60, || (prunes(&past).len() == 1).then_some(()));
    assert_eq!(prunes(&past)[0].1, None, "nothing came of it yet");
    running.signal(Signal::KILL);
    past.host.finish(running).was_killed();
    scheduled(&past, &here(&past));
    past.host.run(&["prune"]).ends(0);
    let outcomes: Vec<Value> = prunes(&past).into_iter().map(|(_, ended)| ended.unwrap()["outcome"].clone()).collect();
    assert_eq!(outcomes, ["aborted", "done"]);
}

#[test]
fn a_slip_of_the_pen_and_a_look_ahead_are_no_attempts() {
    let past = Past::new("{ last: 1 }");
    past.daily(STREAM, 2);
    past.host.run(&["prune", "--dry-run"]).ends(0);
    past.host.run(&["prune", "ap"]).fails(2, "ap", "app");
    past.host.run(&["prune", "--copy", "madrid"]).ends(2);
    assert_eq!(prunes(&past), []);
}
