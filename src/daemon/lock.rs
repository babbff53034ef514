//! One daemon for a state directory, and how others find it.
//!
//! The lock is a file with the number of its process; the kernel lets go of it when that dies, so who holds it is there.

use crate::durable::{self, Lock};
use crate::error::{Context, Failure, Kind, Result};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

fn path(state: &Path) -> PathBuf {
    state.join("daemon.lock")
}

/// Becomes the daemon of this state directory, or says who is.
pub fn become_the_daemon(state: &Path) -> Result<Lock> {
    durable::create_private_directory(state).context(|| format!("cannot create {}", state.display()))?;
    let what = format!("the daemon of {}", state.display());
    Lock::take(&path(state), &what).map_err(|failure| match failure.kind() {
        Kind::Locked => Failure::new(Kind::Locked, format!("a daemon runs already: {failure}"))
            .hint("One is enough for all policies. To make it read its configuration again: bkp reload"),
        _ => failure,
    })
}

/// The process that is the daemon of this state directory.
pub fn running(state: &Path) -> Result<Option<u32>> {
    let path = path(state);
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.context(|| format!("cannot open {}", path.display()))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => return Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(e) => return Err(Failure::from_io(e.into(), || format!("cannot look at {}", path.display()))),
    }
    let mut note = String::new();
    file.read_to_string(&mut note).context(|| format!("cannot read {}", path.display()))?;
    let number = note.strip_prefix("process ").and_then(|rest| rest.split(',').next());
    let number = number.and_then(|number| number.parse().ok());
    number.map(Some).ok_or_else(|| Failure::failed(format!("{} does not say which process holds it", path.display())))
}

/// Asks the daemon to read its configuration again.
pub fn ask_to_reload(daemon: u32) -> Result<()> {
    let pid = i32::try_from(daemon).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed(format!("{daemon} is no process")))?;
    rustix::process::kill_process(pid, Signal::HUP)
        .context(|| format!("cannot signal the daemon, process {daemon}"))
        .map_err(|failure| failure.hint("Run it as the user that the daemon runs as, or send SIGHUP where it runs"))
}
