//! Rehearsed restores, with the real program: what passes, what is found, and what is left behind by a bad day.
//!
//! A fault is seeded by dumping with the real engine and changing what the point says of its source afterwards: the same as a
//! dump that lost something, seen from the other side.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;

#[path = "rehearse/files.rs"]
mod files;
#[path = "rehearse/kills.rs"]
mod kills;
#[path = "rehearse/mongo.rs"]
mod mongo;
#[path = "rehearse/mysql.rs"]
mod mysql;
#[path = "rehearse/postgres.rs"]
mod postgres;
#[path = "rehearse/redis.rs"]
mod redis;
#[path = "rehearse/schedule.rs"]
mod schedule;
#[path = "rehearse/seeded.rs"]
mod seeded;
#[path = "support/trees.rs"]
mod trees;
#[allow(dead_code)] // of which the tests of the daemon use more
#[path = "daemon/world.rs"]
mod world;

use serde_json::Value;
use std::fs;
use support::docker::engine::docker;
use support::host::Host;

/// The one rehearsal that a command told of.
fn only(document: &Value) -> &Value {
    let all = document["rehearsals"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{document}");
    &all[0]
}

/// What the container engine has of the rehearsals of this host.
fn containers_of(host: &Host) -> Vec<String> {
    let Ok(name) = fs::read_to_string(host.path("state/scratch/name")) else { return Vec::new() };
    let what = ["ps --all", "volume ls", "network ls"].map(|what| {
        let words: Vec<&str> = what.split(' ').collect();
        let shown = ["--filter", "label=bkp.scratch", "--format", "{{.Label \"bkp.scratch.record\"}}"];
        docker(&[&words[..], &shown].concat())
    });
    let listed = what.join("\n");
    listed.lines().filter(|record| record.starts_with(&name)).map(str::to_owned).collect()
}

/// Neither servers nor directories nor records.
fn nothing_is_left(host: &Host) {
    assert_eq!(containers_of(host), Vec::<String>::new());
    assert_eq!(fs::read_dir(host.path("cache/rehearsals")).unwrap().count(), 0);
    let records = fs::read_dir(host.path("state/scratch")).into_iter().flatten().flatten();
    let records: Vec<_> = records.map(|entry| entry.file_name()).filter(|name| name != "name").collect();
    assert!(records.is_empty(), "{records:?}");
}

fn journal_is_whole(host: &Host) {
    host.run(&["journal"]).ends(0);
}
