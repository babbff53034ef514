//! bkp as it is installed: the image, the sidecars of Compose, the units of systemd, the Debian package, the documents that
//! people follow when everything is gone. On a real engine, with a real Compose and a real systemd.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "support/cli.rs"]
mod cli;
#[path = "deploy/compose.rs"]
mod compose;
#[path = "deploy/disaster.rs"]
mod disaster;
#[path = "deploy/image.rs"]
mod image;
#[path = "deploy/images.rs"]
mod images;
#[path = "deploy/kept.rs"]
mod kept;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
mod support;
#[path = "deploy/systemd.rs"]
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the project.
fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The block of a document, fenced as `language`, that has this text in it.
#[track_caller]
fn block(document: &str, language: &str, with: &str) -> String {
    let text = std::fs::read_to_string(project(document)).unwrap();
    let fence = format!("\n```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let found: Vec<_> = blocks.filter(|block| block.contains(with)).collect();
    assert_eq!(found.len(), 1, "{document}: blocks of {language} with `{with}`");
    found[0].to_owned()
}

/// Runs a command to its end: status, standard output, standard error.
fn finished(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The same for one that must succeed; its standard output.
#[track_caller]
fn succeeded(command: &mut Command) -> String {
    let (code, stdout, stderr) = finished(command);
    assert_eq!(code, 0, "{command:?}:\n{stdout}\n{stderr}");
    stdout
}
