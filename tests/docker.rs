//! Commands inside containers of a real engine keep every promise that commands on the host keep, and what there is of
//! containers and volumes is told as it is.
#![allow(clippy::unwrap_used)] // test code outside of test functions

#[path = "docker/bare_image.rs"]
mod bare_image;
#[path = "docker/commands.rs"]
mod commands;
#[path = "docker/engine.rs"]
mod engine;
#[path = "docker/finding.rs"]
mod finding;
#[path = "docker/killing.rs"]
mod killing;
#[path = "docker/objects.rs"]
mod objects;
#[path = "docker/secured.rs"]
mod secured;
mod support;

use bkp::error::Failure;
use bkp::event::Cancel;
use bkp::exec::docker::{self, Docker, Selector};
use bkp::exec::{Command, Exec};
use std::io::Read;
use std::sync::OnceLock;
use support::docker::Container;

/// One container for all tests that do it no harm.
fn shared() -> Option<&'static Container> {
    static SHARED: OnceLock<Option<Container>> = OnceLock::new();
    SHARED.get_or_init(|| Container::redis().start("commands inside containers")).as_ref()
}

fn place(container: &Container) -> docker::Container {
    named(container.name()).unwrap()
}

fn named(name: &str) -> Result<docker::Container, Failure> {
    Docker::connect().unwrap().find(&Selector::Name(name.into()))
}

fn command(words: &[&str]) -> Command {
    let arguments = words[1..].iter().map(Into::into).collect();
    Command { program: words[0].into(), arguments, ..Command::default() }
}

fn shell(script: &str) -> Command {
    command(&["sh", "-c", script])
}

/// Everything that was read, and how it ended.
fn output(place: &docker::Container, command: &Command) -> (Vec<u8>, Result<(), Failure>) {
    let cancel = Cancel::default();
    let mut bytes = Vec::new();
    let result = match place.start(command, &cancel) {
        Ok(mut output) => output.read_to_end(&mut bytes).map(|_| ()).map_err(|e| Failure::from_io(e, || "read".into())),
        Err(failure) => Err(failure),
    };
    (bytes, result)
}

fn failure(place: &docker::Container, command: &Command) -> Failure {
    output(place, command).1.expect_err("the command fails")
}

/// Names of the processes in a container, as it sees them itself.
fn processes(container: &Container) -> String {
    let script = r#"for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done 2>/dev/null"#;
    String::from_utf8(container.exec(&["sh", "-c", script], b"").stdout).unwrap()
}
