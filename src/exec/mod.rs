//! Commands, and where they run. Today: on the host (`host.rs`).
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

pub mod host;
mod process;
mod tail;

/// What to run. Arguments are handed over as they are; no shell looks at them.
#[derive(Clone, Debug, Default)]
pub struct Command {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Variables added to a minimal environment (PATH, HOME, LANG, TZ). Never secrets.
    pub environment: Vec<(OsString, OsString)>,
    pub directory: Option<PathBuf>,
    /// Written to standard input, which is then closed.
    pub input: Option<Secret>,
    /// Bytes that the output must end with (white space after them is passed over), or it counts as cut.
    pub terminator: Option<String>,
    /// Killed when it runs longer.
    pub limit: Option<Duration>,
}

/// Standard output of a running command. `Ok(0)` means: all of it was read, the command ended with status 0, nobody else
/// holds its output any more, and the terminator was there. Otherwise the last read is an error that holds a
/// [`crate::error::Failure`] with the end of standard error. Dropped early, the command and its children are killed.
pub type Output<'a> = Box<dyn Read + Send + 'a>;

pub trait Exec: Send + Sync {
    /// Starts `command`. Once `cancel` is set, the next read kills it and fails, also while it is silent.
    fn start<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Output<'a>>;

    /// Feeds `data` to the command's standard input and waits; an error unless it took everything and ended with status 0.
    fn feed(&self, command: &Command, data: &mut dyn Read, cancel: &Cancel) -> Result<()>;
}
