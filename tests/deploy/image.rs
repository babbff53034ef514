//! The image of bkp, with all that can be taken away from a container taken away.

use crate::cli::eventually;
use crate::images::{clients, require, slim};
use crate::support::docker::engine::docker;
use crate::support::supervisor::Supervisor;
use crate::{finished, succeeded};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PART: &str = "the image of bkp";
const CONFINED: [&str; 8] =
    ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network=none"];

fn run(image: &str, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--label", "bkp-test=1"]).args(CONFINED).args(options).arg(image).args(arguments);
    command
}

/// A directory of the host that everybody may write to, for whoever bkp is in the container.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Shared(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, place: &str) -> String {
        format!("{}:{place}", self.0.path().display())
    }
}

#[test]
fn it_runs_as_nobody_in_particular_and_brings_what_it_needs() {
    let Some(()) = require(PART) else { return };
    let version = succeeded(&mut run(slim(), &[], &["--version"]));
    assert_eq!(version, format!("bkp {}", env!("CARGO_PKG_VERSION")));
    let id = succeeded(&mut run(slim(), &["--entrypoint", "id"], &[]));
    assert!(id.starts_with("uid=65532(bkp) gid=65532(bkp)"), "{id}");
    let found = succeeded(&mut run(
        slim(),
        &["--entrypoint", "sh"],
        &[
            "-c",
            "test -s /etc/ssl/certs/ca-certificates.crt && echo roots; test -e /usr/share/zoneinfo/America/Bogota || echo no zones",
        ],
    ));
    assert!(found.contains("roots"), "no roots of certificate authorities: {found}");

    let etc = Shared::new();
    std::fs::create_dir(etc.path("policies.d")).unwrap();
    std::fs::write(etc.path("bkp.yaml"), "repository: { url: file:///backups }\ntimezone: America/Bogota\n").unwrap();
    std::fs::write(
        etc.path("policies.d/a.yaml"),
        "policy: a\ntimezone: Europe/Madrid\nsources: { a: { volume: { path: /srv } } }\n",
    )
    .unwrap();
    let mount = etc.at("/etc/bkp") + ":ro";
    let (code, _, stderr) = finished(&mut run(slim(), &["-v", &mount], &["config", "check"]));
    assert_eq!(code, 0, "zones come with the program: {stderr}");
    for program in ["pg_dump", "pg_restore", "psql", "mariadb-dump", "mariadb"] {
        succeeded(&mut run(clients(), &["--entrypoint", program], &["--version"]));
    }
}

#[test]
fn it_backs_up_and_restores_with_a_root_that_is_read_only() {
    let Some(()) = require(PART) else { return };
    let (data, keys, backups) = (Shared::new(), Shared::new(), Shared::new());
    std::fs::set_permissions(keys.0.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(65532), Some(65532)).unwrap();
    own(keys.0.path());
    own(data.0.path());
    for n in 0..50 {
        let file = data.path(&format!("{n}.txt"));
        std::fs::write(&file, n.to_string()).unwrap();
        own(&file);
    }
    let state = crate::support::docker::engine::Volume::new(&format!("bkp-test-state-{}", bkp::durable::random_hex(4)));
    let mounts = [
        format!("{}:/var/lib/bkp", state.name),
        data.at("/srv/data") + ":ro",
        keys.at("/keys"),
        backups.at("/backups"),
    ];
    let options: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).chain(["-e", "BKP_REPO=/backups"]).collect();
    succeeded(&mut run(slim(), &options, &["init", "--recovery-key", "/keys/key.txt"]));
    succeeded(&mut run(slim(), &options, &["backup", "--source", "data=volume:/srv/data"]));
    succeeded(&mut run(
        slim(),
        &options,
        &["restore", "data", "--to", "/backups/restored", "--identity", "/keys/key.txt"],
    ));
    for n in 0..50 {
        let back = std::fs::read_to_string(backups.path(&format!("restored/{n}.txt"))).unwrap();
        assert_eq!(back, n.to_string());
    }
}

/// A container that backs up the output of a command that does not end, until it is dropped.
struct Endless {
    name: String,
    _removal: Supervisor,
    _places: (Shared, Shared),
}

impl Endless {
    fn start(script: &str) -> Endless {
        let (backups, keys) = (Shared::new(), Shared::new());
        let name = format!("bkp-test-endless-{}", bkp::durable::random_hex(4));
        let removal = Supervisor::new("docker rm -fv \"$1\"", &[OsStr::new(&name)]);
        let source = format!("endless=command:{script}");
        let start = format!(
            "umask 077 && mkdir /tmp/keys && bkp init --recovery-key /tmp/keys/key.txt && exec tini -- bkp backup --source \"{source}\""
        );
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &name, "--label", "bkp-test=1"]).args(CONFINED);
        command.args(["-v", &backups.at("/backups"), "-e", "BKP_REPO=/backups", "--entrypoint", "sh"]);
        succeeded(command.arg(slim()).args(["-c", &start]));
        Endless { name, _removal: removal, _places: (backups, keys) }
    }

    /// States and names of its processes.
    fn processes(&self) -> Vec<(String, String)> {
        let listed = docker(&["top", &self.name, "-eo", "pid,stat,args"]);
        let of = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?.to_owned(), words.collect::<Vec<_>>().join(" ")))
        };
        listed.lines().skip(1).filter_map(of).collect()
    }

    fn runs(&self, what: &str) -> bool {
        self.processes().iter().any(|(_, command)| command == what)
    }
}

#[test]
fn it_ends_in_order_when_the_container_is_stopped() {
    let Some(()) = require(PART) else { return };
    let container = Endless::start("exec sleep 1000");
    eventually("the command runs", || container.runs("sleep 1000"));
    docker(&["stop", "--time", "60", &container.name]);
    assert_eq!(docker(&["inspect", "--format", "{{.State.ExitCode}}", &container.name]), "143");
    assert!(
        Command::new("docker")
            .args(["logs", &container.name])
            .output()
            .is_ok_and(|told| { String::from_utf8_lossy(&told.stderr).contains("terminated") })
    );
}

#[test]
fn what_loses_its_parent_is_reaped() {
    let Some(()) = require(PART) else { return };
    let container = Endless::start("(exec sleep 3)& sh -c '(exec sleep 4)& exit'; exec sleep 1000");
    eventually("an orphan runs", || container.runs("sleep 1000") && container.runs("sleep 4"));
    eventually("it is gone and leaves nothing", || {
        let processes = container.processes();
        processes.iter().all(|(_, command)| command != "sleep 4" && !command.contains("defunct"))
    });
}

#[test]
fn the_engine_knows_whether_the_daemon_lives() {
    let Some(()) = require(PART) else { return };
    let soon = ["--health-interval=1s", "--health-start-period=1s", "--health-retries=2"];
    let becomes = |wanted: &str, options: &[&str], arguments: &[&str]| {
        let name = format!("bkp-test-health-{}", bkp::durable::random_hex(4));
        let _removal = Supervisor::new("docker rm -fv \"$1\"", &[OsStr::new(&name)]);
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &name, "--label", "bkp-test=1"]).args(CONFINED).args(soon);
        succeeded(command.args(options).arg(slim()).args(arguments));
        eventually(&format!("the container is {wanted}"), || {
            docker(&["inspect", "--format", "{{.State.Health.Status}}", &name]) == wanted
        });
    };
    becomes("healthy", &[], &["daemon"]);
    becomes("unhealthy", &["--entrypoint", "sleep"], &["1000"]);
}
