//! Images that these tests make on the engine: of bkp from the program of this test run, of the socket proxy, of a machine with
//! systemd. Layers that do not change are the engine's to keep; names are removed with the process.

use crate::support::supervisor::Supervisor;
use crate::support::{docker, not_run};
use crate::{project, succeeded};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

pub const DEBIAN: &str = "bkp-test/debian:bookworm";

/// Whether there is an engine with the images of the test servers; otherwise `part` is told as not run.
pub fn require(part: &str) -> Option<()> {
    docker::require(part, docker::Kind::Redis)?;
    if Command::new("docker").args(["image", "inspect", DEBIAN]).output().unwrap().status.success() {
        return Some(());
    }
    not_run(part, &format!("Docker has no image {DEBIAN}; make it with: scripts/test-images"));
    None
}

struct Image {
    name: String,
    _removal: Supervisor,
}

/// The legacy builder, which is the only one there is without a plug-in.
fn build(what: &str, directory: &Path, options: &[&str]) -> Image {
    let name = format!("bkp-test/{what}:{}", std::process::id());
    let removal = "docker rmi -f \"$1\"; docker image prune --force --filter label=org.bkp.stage=program";
    let removal = Supervisor::new(removal, &[OsStr::new(&name)]);
    let mut command = Command::new("docker");
    command.env("DOCKER_BUILDKIT", "0").args(["build", "--force-rm", "--label", "bkp-test=1", "--tag", &name]);
    succeeded(command.args(["--build-arg", &format!("BASE={DEBIAN}")]).args(options).arg(directory));
    Image { name, _removal: removal }
}

/// The Dockerfile as it stands, with the program of this run instead of a compilation.
fn bkp(target: &str) -> Image {
    // A build at a time: they share their first layers.
    static BUILDING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = BUILDING.lock().unwrap();
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(project("Dockerfile"), context.path().join("Dockerfile")).unwrap();
    let stripped = context.path().join("bkp");
    succeeded(Command::new("strip").args(["-o", stripped.to_str().unwrap(), env!("CARGO_BIN_EXE_bkp")]));
    let rust = format!("RUST={DEBIAN}");
    let options = ["--target", target, "--build-arg", &rust, "--build-arg", "PROGRAM=bkp"];
    build(&format!("bkp-{target}"), context.path(), &options)
}

fn name_of(image: &'static Image) -> &'static str {
    &image.name
}

pub fn slim() -> &'static str {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    name_of(IMAGE.get_or_init(|| bkp("slim")))
}

pub fn clients() -> &'static str {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    name_of(IMAGE.get_or_init(|| bkp("clients")))
}

pub fn servers() -> &'static str {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    name_of(IMAGE.get_or_init(|| bkp("servers")))
}

pub fn proxy() -> &'static str {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    name_of(IMAGE.get_or_init(|| build("proxy", &project("deploy/compose/proxy"), &[])))
}

pub fn machine() -> &'static str {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    name_of(IMAGE.get_or_init(|| build("machine", &project("tests/deploy/machine"), &[])))
}
