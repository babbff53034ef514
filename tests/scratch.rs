//! Scratch targets: servers and directories that rehearsals restore into run apart from everything else, and nothing of them
//! stays, also when the process that made them was killed.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "scratch/containers.rs"]
mod containers;
#[path = "scratch/directories.rs"]
mod directories;
#[path = "scratch/processes.rs"]
mod processes;
mod support;

use bkp::event::Cancel;
use bkp::exec::scratch::{LABEL, Lease};
use bkp::exec::{Command, Place};
use jiff::{SignedDuration, Timestamp};
use std::io::Read;
use std::path::Path;
use support::docker::engine::docker;

fn in_an_hour() -> Timestamp {
    Timestamp::now().checked_add(SignedDuration::from_hours(1)).unwrap()
}

fn lease<'a>(state: &'a Path, run: &'a str) -> Lease<'a> {
    Lease { state, run, source: "shop", deadline: in_an_hour() }
}

/// What the engine has with the label of that run.
fn labelled(run: &str) -> Vec<String> {
    let filter = format!("label={LABEL}={run}");
    let containers = docker(&["ps", "--all", "--quiet", "--filter", &filter]);
    let volumes = docker(&["volume", "ls", "--quiet", "--filter", &filter]);
    containers.lines().chain(volumes.lines()).map(str::to_owned).collect()
}

/// Runs a client where the server is; `None` when it fails.
fn asked(place: &Place, words: &[&str], input: &str) -> Option<String> {
    let cancel = Cancel::default();
    let command = Command {
        program: words[0].into(),
        arguments: words[1..].iter().map(Into::into).collect(),
        input: Some(bkp::secret::Secret::new(input.to_owned())),
        ..Command::default()
    };
    let mut text = String::new();
    place.exec().ok()?.start(&command, &cancel).ok()?.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// A number that no other run has.
fn run() -> String {
    format!("run-{}", bkp::durable::random_hex(6))
}
