//! Commands, and where they run: on the host (`host/`), or inside a container through the Engine API (`docker/`). Servers to
//! rehearse restores in, which go away again, are in `scratch/`.
//!
//! [`Exec`] starts a command; its [`Output`] gives an **error instead of end-of-file** unless the exit status is 0 (and the
//! terminator was seen, when one is required), so that nobody can take half a dump for a whole one.
//! Secrets go in by standard input, never by argument or environment.

use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

pub mod docker;
mod heard;
pub mod host;
pub mod scratch;
mod tail;

pub use tail::Remarks;

/// What to run. Arguments are handed over as they are; no shell looks at them.
#[derive(Clone, Debug, Default)]
pub struct Command {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Variables added to a minimal environment (PATH, HOME, LANG, TZ). Never secrets.
    pub environment: Vec<(OsString, OsString)>,
    pub directory: Option<PathBuf>,
    /// Written to standard input before anything else; with [`Exec::start`] nothing follows, and it is closed.
    pub input: Option<Secret>,
    /// Bytes that the output must end with (white space after them is passed over), or it counts as cut.
    pub terminator: Option<String>,
    /// Killed when it runs longer.
    pub limit: Option<Duration>,
    /// Killed when its output stands still for longer while somebody wants to read it; with [`Exec::feed`], when it takes
    /// nothing for longer.
    pub silence: Option<Duration>,
    /// Takes what [`Exec::start`]'s command says on standard error although it ends well.
    pub remarks: Remarks,
}

/// Standard output of a running command. `Ok(0)` means: all of it was read, the command ended with status 0, nobody else
/// holds its output any more, and the terminator was there. Otherwise the last read is an error that holds a
/// [`crate::error::Failure`] with the end of standard error. Dropped early, the command and its children are killed.
pub type Output<'a> = Box<dyn Read + Send + 'a>;

pub trait Exec: Send + Sync {
    /// For people: `this host`, `container mysql-auth`.
    fn place(&self) -> String;

    /// The first of `programs` that can be run there; `None` when there is none of them.
    fn find(&self, programs: &[&str]) -> Result<Option<String>>;

    /// Starts `command`. Once `cancel` is set, the next read kills it and fails, also while it is silent.
    fn start<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Output<'a>>;

    /// Feeds `input` and then `data` to the command's standard input and waits; an error unless it took everything and ended
    /// with status 0. Its standard output is dropped.
    fn feed(&self, command: &Command, data: &mut dyn Read, cancel: &Cancel) -> Result<()>;

    /// Starts a client that answers what it is told, such as `psql` or `mysql --unbuffered`.
    fn converse<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Box<dyn Conversation + 'a>>;
}

/// A client that runs between questions and answers. Dropped, it and its children are killed.
pub trait Conversation: Send {
    /// Writes `text` to its standard input, as it is.
    fn say(&mut self, text: &str) -> Result<()>;

    /// The next line of its standard output, without the newline. A failure with the end of standard error when it ended.
    fn hear(&mut self) -> Result<String>;

    /// Closes its standard input and waits; an error unless it ended with status 0. What it still says is dropped.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Where commands run.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Place {
    #[default]
    Host,
    Container(docker::Selector),
}

impl Place {
    /// For people: `this host`, `container mysql-auth`.
    pub fn name(&self) -> String {
        match self {
            Place::Host => "this host".to_owned(),
            Place::Container(selector) => selector.to_string(),
        }
    }

    /// Looks for the container anew each time: it may have been made again since.
    pub fn exec(&self) -> Result<Box<dyn Exec>> {
        match self {
            Place::Host => Ok(Box::new(host::Host)),
            Place::Container(selector) => Ok(Box::new(docker::Docker::connect()?.find(selector)?)),
        }
    }
}
