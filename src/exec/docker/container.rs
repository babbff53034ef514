//! One container, as a place where commands run.

use super::Docker;
use super::connect;
use super::run;
use super::scripts::Mode;
use super::session::Session;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::exec::tail::Ending;
use crate::exec::{Command, Conversation, Exec, Output};
use bollard::errors::Error;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, OnceLock};

/// What a container was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for: `mysql:8`.
    pub name: String,
    /// In the registry it came from, as `mysql@sha256:…`; else the image's id, as `sha256:…`.
    pub digest: String,
}

/// One container that runs.
#[derive(Clone)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub image: Image,
    /// What its health check says, where it has one: `healthy`, `starting`, `unhealthy`.
    pub health: Option<String>,
    pub(super) docker: Docker,
    /// Set once it is known that the image has no `sh`.
    no_shell: Arc<OnceLock<()>>,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Container({} {})", self.name, self.id)
    }
}

impl Container {
    pub(super) fn new(docker: Docker, id: String, name: String, image: Image, health: Option<String>) -> Self {
        Container { id, name, image, health, docker, no_shell: Arc::default() }
    }

    pub(super) fn title(&self) -> String {
        format!("container {}", self.name)
    }

    pub(super) fn has_no_shell(&self) -> bool {
        self.no_shell.get().is_some()
    }

    pub(super) fn remember_no_shell(&self) {
        let _ = self.no_shell.set(());
    }

    pub(super) fn cannot_run(&self, program: &str) -> Failure {
        Failure::failed(format!("cannot run {program} in {}", self.title()))
    }

    /// Why the engine would not start `program`: most often because the container does not run any more.
    pub(super) fn refused(&self, program: &str, error: Error) -> Failure {
        let failure = connect::failure(error, &format!("cannot run {program} in {}", self.title()));
        match self.docker.must_run(&self.id) {
            Err(reason) => reason,
            Ok(()) => failure,
        }
    }

    /// `None` when that cannot be found out.
    pub(super) fn still_runs(&self) -> Option<bool> {
        let seen = connect::wait(self.docker.client.inspect_container(&self.id, None)).ok()?;
        match seen {
            Ok(seen) => seen.state?.running,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Some(false),
            Err(_) => None,
        }
    }

    /// Kills the process of a command without the container's help. It works for root on the engine's host only.
    pub(super) fn kill_from_here(&self, exec: &str) {
        let Ok(Ok(seen)) = connect::wait(self.docker.client.inspect_exec(exec)) else { return };
        let number = seen.pid.and_then(|number| i32::try_from(number).ok()).and_then(Pid::from_raw);
        let Some(process) = number.filter(|_| seen.running == Some(true)) else { return };
        let Ok(handle) = rustix::process::pidfd_open(process, PidfdFlags::empty()) else { return };
        // The engine may be on another machine: only a process of this very container is killed.
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", process.as_raw_nonzero())).unwrap_or_default();
        if groups.contains(&self.id) {
            let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}

impl Exec for Container {
    fn place(&self) -> String {
        self.title()
    }

    fn find(&self, programs: &[&str]) -> Result<Option<String>> {
        run::find(self, programs)
    }

    fn start<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Output<'a>> {
        let ending = Ending::of(command)?;
        let mode = if command.input.is_some() { Mode::Talk } else { Mode::Read };
        let mut session = Session::start(self, command, mode, cancel)?;
        session.close_input()?;
        Ok(Box::new(run::ContainerOutput::new(session, ending)))
    }

    fn feed(&self, command: &Command, data: &mut dyn Read, cancel: &Cancel) -> Result<()> {
        run::feed(Session::start(self, command, Mode::Feed, cancel)?, data)
    }

    fn converse<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Box<dyn Conversation + 'a>> {
        let session = Session::start(self, command, Mode::Talk, cancel)?;
        Ok(Box::new(super::conversation::ContainerConversation::new(session)))
    }
}
