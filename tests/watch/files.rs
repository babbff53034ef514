//! What is shipped for Prometheus and Grafana: it holds together, and speaks of metrics that there are.

use super::support::run;
use super::{host, measured};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_rules_are_sound_and_fire_when_they_should() {
    let directory = shipped("deploy/prometheus");
    run("promtool", &["check", "rules", "bkp.rules.yaml"], &directory);
    run("promtool", &["test", "rules", "bkp.test.yaml"], &directory);
}

#[test]
fn each_rule_is_tested() {
    let [rules, tests] = ["bkp.rules.yaml", "bkp.test.yaml"]
        .map(|name| fs::read_to_string(shipped("deploy/prometheus").join(name)).unwrap());
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15);
    for alert in alerts {
        let fires = format!("alertname: {alert}\n        exp_alerts:");
        assert!(tests.contains(&fires), "no test makes {alert} fire");
    }
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("bkp_")).map(str::to_owned).collect()
}

/// What there is once something was copied, told, pruned, or loaded by a daemon.
const NOT_IN_A_PLAIN_SCRAPE: &[&str] = &[
    "bkp_config_last_reload_timestamp_seconds",
    "bkp_copy_failures_in_a_row",
    "bkp_copy_last_success_timestamp_seconds",
    "bkp_notify_failures_in_a_row",
    "bkp_notify_failures_total",
    "bkp_repo_immutable_until_timestamp_seconds",
    // tests/rehearse/schedule.rs sees them.
    "bkp_rehearsal_due_timestamp_seconds",
    "bkp_rehearsal_last_status",
    "bkp_rehearsal_last_success_timestamp_seconds",
    "bkp_rehearsal_measured_rto_seconds",
    "bkp_rehearsal_reached_timestamp_seconds",
    "bkp_rto_estimated_seconds",
    "bkp_repo_prune_last_success_timestamp_seconds",
    // tests/rotate/schedules.rs sees them.
    "bkp_rotation_due_timestamp_seconds",
    "bkp_rotation_failures_in_a_row",
    "bkp_rotation_last_success_timestamp_seconds",
    "bkp_rotation_open_since_timestamp_seconds",
];

/// All that a host tells on which everything happened.
fn known() -> BTreeSet<String> {
    let host = host();
    let text = fs::read_to_string(host.path("etc/bkp.yaml")).unwrap();
    host.configure(&format!("{text}check: {{ schedule: '@weekly' }}\nprune: {{ schedule: '@weekly' }}\n"));
    host.run(&["backup"]).ends(0);
    host.run(&["check"]).ends(0);
    let scrape = measured(&host);
    scrape.samples.iter().map(|sample| sample.name.clone()).collect()
}

#[test]
fn rules_dashboard_and_documentation_speak_of_metrics_that_there_are() {
    let known = known();
    let rules = fs::read_to_string(shipped("deploy/prometheus/bkp.rules.yaml")).unwrap();
    let expressions: String = rules.lines().filter(|line| line.trim().starts_with("expr:")).collect();
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(shipped("deploy/grafana/bkp.json")).unwrap()).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    let documentation = fs::read_to_string(shipped("docs/MONITORING.md")).unwrap();
    for (what, text) in
        [("rules", expressions), ("dashboard", queries.join(" ")), ("documentation", documentation.clone())]
    {
        for name in names(&text) {
            let there = known.contains(&name) || NOT_IN_A_PLAIN_SCRAPE.contains(&name.as_str());
            assert!(there || name.starts_with("bkp_run_duration_seconds"), "the {what} speak of {name}");
        }
    }
    let documented = names(&documentation);
    for name in &known {
        let family = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert!(documented.contains(name) || documented.contains(family), "{name} is not in docs/MONITORING.md");
    }
}

/// The expressions of all panels and variables.
fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "expr" || key == "query" => queries.push(text.clone()),
                    other => collect(other, queries),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, queries)),
        _ => {}
    }
}
