//! The `docker` program, and what there is besides containers: networks, volumes, and what dead processes left.

use super::super::supervisor::Supervisor;
use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Stdio};

/// A network that is removed when this is dropped, which must be after its containers.
pub struct Network {
    pub name: String,
    supervisor: Supervisor,
}

impl Network {
    pub fn new(name: &str) -> Network {
        let supervisor = Supervisor::new(&until_removed("docker network rm"), &[OsStr::new(name)]);
        text(Command::new("docker").args(["network", "create"]).args(labels()).arg(name));
        Network { name: name.into(), supervisor }
    }
}

/// A named volume that is removed when this is dropped, which must be after its containers.
pub struct Volume {
    pub name: String,
    supervisor: Supervisor,
}

impl Volume {
    pub fn new(name: &str) -> Volume {
        let supervisor = Supervisor::new(&until_removed("docker volume rm -f"), &[OsStr::new(name)]);
        text(Command::new("docker").args(["volume", "create"]).args(labels()).arg(name));
        Volume { name: name.into(), supervisor }
    }
}

/// When a process dies, its containers are removed at the same time as this, which is refused until they are gone.
fn until_removed(command: &str) -> String {
    format!("for attempt in $(seq 60); do {command} \"$1\" && exit; sleep 0.5; done")
}

/// Runs `docker`, which must succeed, and returns what it says.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    text(Command::new("docker").args(arguments))
}

#[track_caller]
pub(super) fn text(mut command: impl std::borrow::BorrowMut<Command>) -> String {
    let command = command.borrow_mut();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let shown: Vec<_> = command.get_args().collect();
    assert!(output.status.success(), "docker {shown:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(super) fn succeeds(arguments: &[&str]) -> bool {
    let command = Command::new("docker").args(arguments).stdin(Stdio::null()).output();
    command.is_ok_and(|output| output.status.success())
}

/// The label that names a process: its namespace of processes, its number there, and when it started.
const PROCESS: &str = "bkp-test.process";

pub(super) fn labels() -> [String; 4] {
    let number = std::process::id();
    let process = format!("{} {number} {}", namespace(), started(number).unwrap());
    ["--label".into(), "bkp-test=1".into(), "--label".into(), format!("{PROCESS}={process}")]
}

fn namespace() -> String {
    fs::read_link("/proc/self/ns/pid").unwrap().to_str().unwrap().to_owned()
}

/// Numbers are used again; the instant of the start tells them apart.
fn started(number: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name of the program stands in parentheses and may have blanks; the start is field 22.
    line.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Removes what processes left that are no more. Another may do the same just now, so failures do not matter.
pub(super) fn remove_leftovers() {
    let format = |id: &str| format!("{{{{.{id}}}}} {{{{.Label \"{PROCESS}\"}}}}");
    let kinds = [
        (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..], format("ID")),
        (&["network", "ls"], &["network", "rm"], format("ID")),
        (&["volume", "ls"], &["volume", "rm"], format("Name")),
    ];
    for (list, remove, format) in kinds {
        let listed = docker(&[list, &["--filter", "label=bkp-test=1", "--format", &format]].concat());
        for line in listed.lines() {
            let [id, space, number, begin] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            if space == namespace() && number.parse().ok().and_then(started).as_deref() != Some(begin) {
                succeeds(&[remove, &[id]].concat());
            }
        }
    }
}
