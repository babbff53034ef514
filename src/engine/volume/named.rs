//! Docker volumes by name: what they are made of, and new ones like them.

use super::Settings;
use crate::engine::{LoadRun, Loaded, Origin, Target};
use crate::error::{Context, Failure, Result};
use crate::exec::docker::{self, Docker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a volume is made of besides its files; Compose knows its volumes by their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Make {
    pub name: String,
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

impl From<docker::Volume> for Make {
    fn from(volume: docker::Volume) -> Self {
        let docker::Volume { name, driver, labels, options, .. } = volume;
        Make { name, driver, labels, options }
    }
}

/// Makes a volume like the one that was backed up and puts the data into it. When that fails, the volume is removed again.
pub fn into_new(settings: &Settings, origin: &dyn Origin, name: &str, run: &LoadRun<'_>) -> Result<Loaded> {
    let docker = Docker::connect()?;
    let recorded = origin.details().get("volume").cloned().and_then(|make| serde_json::from_value::<Make>(make).ok());
    let (driver, labels, options) = match recorded {
        Some(make) => (make.driver, make.labels, make.options),
        None => ("local".to_owned(), BTreeMap::new(), BTreeMap::new()),
    };
    if driver != "local" || !options.is_empty() {
        return Err(Failure::usage(format!("volume {name} would be of driver {driver} with options, on a place of its own"))
            .hint(format!("Make it yourself with `docker volume create`, then restore with --to DIRECTORY and copy; the options were: {options:?}")));
    }
    remove_unfinished(&docker, name)?;
    let volume = docker.create_volume(name, &driver, &labels, &options)?;
    let outcome = fill(settings, origin, volume.mountpoint, run);
    if outcome.is_err() {
        let _ = docker.remove_volume(name);
    }
    outcome
}

/// A restore that was killed leaves a volume whose directory is missing from beneath it: nothing of it was ever of use. The
/// engine itself leaves none like that, and keeps one that a container has.
fn remove_unfinished(docker: &Docker, name: &str) -> Result<()> {
    let volumes = docker.volumes()?;
    let is_unfinished = |volume: &docker::Volume| {
        let place = &volume.mountpoint;
        // Where there is nothing above it either, the engine's files are on another machine.
        place.parent().is_some_and(|above| above.is_dir()) && matches!(place.try_exists(), Ok(false))
    };
    match volumes.iter().find(|volume| volume.name == name && volume.driver == "local") {
        Some(volume) if volume.options.is_empty() && is_unfinished(volume) => docker.remove_volume(name),
        _ => Ok(()),
    }
}

/// The engine made an empty directory; the tree takes its place, so that a crash leaves no half of it.
fn fill(settings: &Settings, origin: &dyn Origin, mountpoint: PathBuf, run: &LoadRun<'_>) -> Result<Loaded> {
    std::fs::remove_dir(&mountpoint).context(|| format!("cannot take the place of {}", mountpoint.display()))?;
    let outcome = super::load::load(&settings.path, origin, &Target::New(mountpoint.clone()), run);
    if outcome.is_err() && !mountpoint.exists() {
        let _ = std::fs::create_dir(&mountpoint);
    }
    outcome
}
