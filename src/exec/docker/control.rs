//! Pausing, stopping and starting containers again. Remembering that they must be is the caller's.
//!
//! Each of these succeeds when the container is in that state already.

use super::Docker;
use super::connect::{ask, wait};
use crate::error::Result;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{StartContainerOptions, StopContainerOptions};

impl Docker {
    pub fn pause(&self, id: &str) -> Result<()> {
        if self.status(id) == Some(ContainerStateStatusEnum::PAUSED) {
            return Ok(());
        }
        ask(|| format!("cannot pause container {id}"), self.client.pause_container(id))
    }

    pub fn unpause(&self, id: &str) -> Result<()> {
        if self.status(id) == Some(ContainerStateStatusEnum::RUNNING) {
            return Ok(());
        }
        ask(|| format!("cannot unpause container {id}"), self.client.unpause_container(id))
    }

    /// Waits for the container to end, as long as it takes by its own settings before the engine kills it.
    pub fn stop(&self, id: &str) -> Result<()> {
        let patient = self.client.clone().with_timeout(std::time::Duration::from_secs(24 * 3600));
        ask(|| format!("cannot stop container {id}"), patient.stop_container(id, None::<StopContainerOptions>))
    }

    pub fn start(&self, id: &str) -> Result<()> {
        ask(|| format!("cannot start container {id}"), self.client.start_container(id, None::<StartContainerOptions>))
    }

    fn status(&self, id: &str) -> Option<ContainerStateStatusEnum> {
        wait(self.client.inspect_container(id, None)).ok()?.ok()?.state?.status
    }
}
