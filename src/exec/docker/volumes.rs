//! Volumes of the container engine.

use super::Docker;
use super::connect::ask;
use crate::error::{Failure, Result};
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, such as `type` and `device` of a mounted file system.
    pub options: BTreeMap<String, String>,
    /// Where it is on the engine's host.
    pub mountpoint: PathBuf,
    pub created: Option<jiff::Timestamp>,
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

    /// Refused by the engine while a container, also a stopped one, uses it.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let request = self.client.remove_volume(name, None::<RemoveVolumeOptions>);
        ask(|| format!("cannot remove the volume {name}"), request)
    }
}
