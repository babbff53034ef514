//! Scratch targets: servers and directories that rehearsals restore into, and that go away again.
//!
//! Each has a record, written before it is made and locked by the process that made it, so that whatever a killed process
//! left is found and removed ([`reap`]): by its record, and in the container engine by its labels. A living process's own
//! targets, and whatever has no label of ours, are never touched. A target that is kept on purpose has a later deadline.
//! Nothing here knows what a server is asked, or what is put into it.

use super::Place;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use jiff::Timestamp;
use std::path::{Path, PathBuf};

pub mod confined;
pub mod container;
mod directory;
pub mod process;
mod reap;
mod record;

pub use directory::Directory;
pub use reap::{Orphan, Reaped, orphans, reap};

/// On everything in the container engine; its value is the run.
pub const LABEL: &str = "bkp.scratch";
const SOURCE: &str = "bkp.scratch.source";
/// An instant after which nobody needs it, whoever made it.
const DEADLINE: &str = "bkp.scratch.deadline";
/// Which records it stands in, and under which number.
const RECORD: &str = "bkp.scratch.record";

/// What a target is for, and how long it may be there.
#[derive(Clone, Debug)]
pub struct Lease<'a> {
    /// The state directory, whose `scratch` holds the records.
    pub state: &'a Path,
    pub run: &'a str,
    pub source: &'a str,
    /// When it may be removed although nobody did. With a target that may be kept, when that ends too.
    pub deadline: Timestamp,
}

/// A scratch server that runs. Dropped, it is torn down as well as that can be done.
#[derive(Debug)]
pub struct Running(Body);

#[derive(Debug)]
enum Body {
    Container(Box<container::Body>),
    Process(Box<process::Body>),
}

/// How a client speaks to a server from where it runs; nothing: as it always does there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub socket: Option<PathBuf>,
}

impl Running {
    /// Where its clients run.
    pub fn place(&self) -> Place {
        match &self.0 {
            Body::Container(container) => container.place(),
            Body::Process(_) => Place::Host,
        }
    }

    pub fn reach(&self) -> Reach {
        match &self.0 {
            Body::Container(container) => container.reach(),
            Body::Process(process) => process.reach(),
        }
    }

    /// Makes a port of it, where no network reaches it, one of loopback here for as long as it is there.
    pub fn forward(&mut self, port: u16) -> Result<()> {
        match &mut self.0 {
            Body::Container(container) => container.forward(port),
            Body::Process(_) => Ok(()),
        }
    }

    /// Starts an application that reaches it, and nothing else.
    pub fn beside(&self, application: container::Application, cancel: &Cancel) -> Result<container::Beside> {
        match &self.0 {
            Body::Container(container) => container.beside(application, cancel),
            Body::Process(_) => {
                Err(Failure::usage("`http` is refused: this server is a process of the host and in no container")
                    .hint("Rehearse it where there is Docker"))
            }
        }
    }

    /// What keeps it apart from everything else, in words.
    pub fn isolation(&self) -> &str {
        match &self.0 {
            Body::Container(container) => container.isolation(),
            Body::Process(process) => process.isolation(),
        }
    }

    /// Fails when it does not run any more, with the end of what it said.
    pub fn check(&mut self) -> Result<()> {
        match &mut self.0 {
            Body::Container(container) => container.check(),
            Body::Process(process) => process.check(),
        }
    }

    /// The last lines that it wrote.
    pub fn logs(&self) -> String {
        match &self.0 {
            Body::Container(container) => container.logs(),
            Body::Process(process) => process.logs(),
        }
    }

    /// Ends it and removes everything of it.
    pub fn teardown(mut self) -> Result<()> {
        self.0.end()
    }

    /// Leaves it, until the deadline of its lease. Says how to look at it, and how to remove it.
    pub fn keep(mut self) -> Result<String> {
        match &mut self.0 {
            Body::Container(container) => container.keep(),
            Body::Process(process) => process.keep(),
        }
    }
}

impl Body {
    fn end(&mut self) -> Result<()> {
        match self {
            Body::Container(container) => container.end(),
            Body::Process(process) => process.end(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What stays is reaped later.
        let _ = self.0.end();
    }
}
