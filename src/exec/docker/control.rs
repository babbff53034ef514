//! Pausing, stopping and starting containers again. Remembering that they must be is the caller's.
//!
//! Each of these succeeds when the container is in that state already, also when somebody else brings it there meanwhile.

use super::connect::{failure, wait};
use super::inspect::state_of;
use super::{Docker, Quiet, State};
use crate::error::Result;
use bollard::errors::Error;
use bollard::query_parameters::{StartContainerOptions, StopContainerOptions};

/// What became of a container that was to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    On,
    /// It was removed: there is nothing that could go on.
    Gone,
}

impl Docker {
    pub fn quiet(&self, id: &str, how: Quiet) -> Result<()> {
        match how {
            Quiet::Pause => self.pause(id),
            Quiet::Stop => self.stop(id),
        }
    }

    pub fn go_on(&self, id: &str, how: Quiet) -> Result<Went> {
        if self.state(id)? == State::Gone {
            return Ok(Went::Gone);
        }
        match how {
            Quiet::Pause => self.unpause(id)?,
            Quiet::Stop => self.start(id)?,
        }
        Ok(Went::On)
    }

    pub fn pause(&self, id: &str) -> Result<()> {
        if self.state(id)? == State::Paused {
            return Ok(());
        }
        self.ended_in(State::Paused, id, "pause", wait(self.client.pause_container(id))?)
    }

    /// One that is not paused any more, because somebody ended it, is not paused either.
    pub fn unpause(&self, id: &str) -> Result<()> {
        if self.state(id)? != State::Paused {
            return Ok(());
        }
        self.ended_in(State::Running, id, "unpause", wait(self.client.unpause_container(id))?)
    }

    /// Waits for the container to end, as long as it takes by its own settings before the engine kills it.
    pub fn stop(&self, id: &str) -> Result<()> {
        let patient = self.client.clone().with_timeout(std::time::Duration::from_secs(24 * 3600));
        let stopped = wait(patient.stop_container(id, None::<StopContainerOptions>))?;
        self.ended_in(State::Exited, id, "stop", stopped)
    }

    pub fn start(&self, id: &str) -> Result<()> {
        let started = wait(self.client.start_container(id, None::<StartContainerOptions>))?;
        self.ended_in(State::Running, id, "start", started)
    }

    /// [`State::Gone`] for a container that is not there.
    pub fn state(&self, id: &str) -> Result<State> {
        match wait(self.client.inspect_container(id, None))? {
            Ok(details) => {
                let status = details.state.and_then(|state| state.status);
                Ok(state_of(&status.map(|status| status.to_string()).unwrap_or_default()))
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(State::Gone),
            Err(error) => Err(failure(error, &format!("cannot look at container {id}"))),
        }
    }

    fn ended_in(&self, wanted: State, id: &str, verb: &str, done: std::result::Result<(), Error>) -> Result<()> {
        match done {
            Ok(()) => Ok(()),
            Err(_) if self.state(id).is_ok_and(|state| state == wanted) => Ok(()),
            Err(error) => Err(failure(error, &format!("cannot {verb} container {id}"))),
        }
    }
}
