//! Volumes of the container engine, and where their files are on its host.

use super::Docker;
use super::connect::{ask, failure, wait};
use crate::error::{Context, Failure, Result};
use bollard::errors::Error;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, such as `type` and `device` of a mounted file system.
    pub options: BTreeMap<String, String>,
    /// Where the engine mounts it on its host, as long as a container uses it. See [`Volume::place`].
    pub mountpoint: PathBuf,
    pub created: Option<jiff::Timestamp>,
}

impl Volume {
    /// Where its files are. A volume with a device (`o=bind,device=/data`) stands at its mount point only while a container uses
    /// it; without one there is an empty directory, which must not be taken for the volume.
    pub fn place(&self) -> Result<PathBuf> {
        if self.mountpoint.as_os_str().is_empty() {
            let text = format!("the driver {} does not say where volume {} is", self.driver, self.name);
            return Err(Failure::failed(text).hint("Back it up where its files are, as a directory"));
        }
        let Some(device) = self.options.get("device").filter(|_| self.driver == "local") else {
            return Ok(self.mountpoint.clone());
        };
        if is_mount_point(&self.mountpoint)? {
            return Ok(self.mountpoint.clone());
        }
        let bound = self.options.get("o").is_some_and(|o| o.split(',').any(|word| word == "bind" || word == "rbind"));
        if bound && device.starts_with('/') {
            return Ok(device.into());
        }
        let text = format!("volume {} ({device}) is mounted only while a container uses it, and none does", self.name);
        Err(Failure::failed(text).hint("Start a container that uses it, or back it up where its files are"))
    }
}

/// The table of mounts is asked, not the device: a directory that is bound may be of the same one.
fn is_mount_point(path: &Path) -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo");
    let mounts = mounts.context(|| "cannot read the table of mounts".into())?;
    let wanted = path.display().to_string().replace(' ', "\\040");
    Ok(mounts.lines().any(|line| line.split(' ').nth(4) == Some(wanted.as_str())))
}

impl From<bollard::models::Volume> for Volume {
    fn from(volume: bollard::models::Volume) -> Self {
        Volume {
            name: volume.name,
            driver: volume.driver,
            labels: volume.labels.into_iter().collect(),
            options: volume.options.into_iter().collect(),
            mountpoint: volume.mountpoint.into(),
            created: volume.created_at.and_then(|at| at.parse().ok()),
        }
    }
}

impl Docker {
    /// The volume of this name; a failure names the one that may have been meant.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        match wait(self.client.inspect_volume(name))? {
            Ok(volume) => Ok(volume.into()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Err(self.no_volume(name)),
            Err(error) => Err(failure(error, &format!("cannot look at the volume {name}"))),
        }
    }

    fn no_volume(&self, name: &str) -> Failure {
        let failure = Failure::failed(format!("there is no Docker volume {name}"));
        let volumes = self.volumes().unwrap_or_default();
        let alike = volumes.iter().map(|volume| (strsim::jaro_winkler(&volume.name, name), &volume.name));
        match alike.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((_, near)) => failure.hint(format!("Is it {near}? docker volume ls shows all")),
            None => failure.hint("docker volume ls shows all"),
        }
    }

    /// By name, sorted.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let answer = ask(|| "cannot list the volumes".into(), self.client.list_volumes(None::<ListVolumesOptions>))?;
        let mut volumes: Vec<Volume> = answer.volumes.unwrap_or_default().into_iter().map(Volume::from).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// A new volume. The engine would hand out one that is there already, so a taken name is refused here.
    pub fn create_volume(
        &self,
        name: &str,
        driver: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<Volume> {
        if self.volumes()?.iter().any(|volume| volume.name == name) {
            return Err(Failure::usage(format!("there is a volume {name} already"))
                .hint("Choose another name, or remove it: docker volume rm"));
        }
        let pairs = |map: &BTreeMap<String, String>| Some(map.clone().into_iter().collect());
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some(driver.to_owned()),
            labels: pairs(labels),
            driver_opts: pairs(options),
            ..VolumeCreateRequest::default()
        };
        ask(|| format!("cannot create the volume {name}"), self.client.create_volume(request)).map(Volume::from)
    }

    /// Refused by the engine while a container, also a stopped one, uses it. One that is gone already is as good.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        match wait(self.client.remove_volume(name, None::<RemoveVolumeOptions>))? {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(failure(error, &format!("cannot remove the volume {name}"))),
        }
    }
}

/// The volume `name` as the engine has it. Where no engine can be asked nobody knows where it is: a volume with a device leaves
/// an empty directory where others have their files.
pub fn find_volume(name: &str) -> Result<Volume> {
    let docker = Docker::connect().map_err(|failure| {
        let hint = failure.next_step().map(|step| format!("{step}. ")).unwrap_or_default();
        Failure::new(failure.kind(), format!("cannot find out where the Docker volume {name} is"))
            .because(failure.full())
            .hint(format!("{hint}Without it, back up or restore the directory itself by its path"))
    })?;
    docker.volume(name)
}
