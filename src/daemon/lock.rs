//! One daemon for a state directory, or timers: who looks after its schedules, and how others find the daemon.
//!
//! The daemon holds a lock alone, which the kernel takes away with its process; so who holds it is there. Those whom timers
//! call share it, which keeps a daemon away, and each has the lock of its policy besides.

use crate::durable::{self, Holder, Lock};
use crate::error::{Context, Failure, Kind, Result};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::path::{Path, PathBuf};

fn path(state: &Path) -> PathBuf {
    state.join("daemon.lock")
}

fn what(state: &Path) -> String {
    format!("the daemon of {}", state.display())
}

fn prepare(directory: &Path) -> Result<()> {
    durable::create_private_directory(directory).context(|| format!("cannot create {}", directory.display()))
}

/// Becomes the daemon of this state directory, or says who is.
pub fn become_the_daemon(state: &Path) -> Result<Lock> {
    prepare(state)?;
    let refused = match Lock::take(&path(state), &what(state)) {
        Err(failure) if failure.kind() == Kind::Locked => failure,
        taken => return taken,
    };
    if running(state)?.is_some() {
        return Err(Failure::new(Kind::Locked, format!("a daemon runs already: {refused}"))
            .hint("One is enough for all policies. To make it read its configuration again: bkp reload"));
    }
    Err(Failure::new(Kind::Locked, "timers look after the schedules of this host, and one is at work").hint(
        "Use either the daemon or timers: systemctl disable --now 'bkp-backup@*.timer', and wait for what is at work",
    ))
}

/// Who looks after a policy that a timer calls for.
pub enum Turn {
    /// As long as this lives, no daemon can be there, and nobody else looks after the same policy.
    Ours { _no_daemon: Lock, _policy: Lock },
    /// Somebody else, who is named.
    Taken(Failure),
}

impl Turn {
    pub fn take(state: &Path, policy: &str) -> Result<Self> {
        let timers = state.join("timers");
        prepare(&timers)?;
        let no_daemon = Lock::share(&path(state), &what(state)).map_err(|failure| match failure.kind() {
            Kind::Locked => Failure::new(Kind::Locked, "the schedules of this host are looked after already")
                .because(format!("a daemon runs: {failure}"))
                .hint("Use either the daemon or timers"),
            _ => failure,
        })?;
        match Lock::take(&timers.join(format!("{policy}.lock")), &format!("policy {policy}")) {
            Ok(policy) => Ok(Turn::Ours { _no_daemon: no_daemon, _policy: policy }),
            Err(failure) if failure.kind() == Kind::Locked => Ok(Turn::Taken(failure)),
            Err(failure) => Err(failure),
        }
    }
}

/// The process that is the daemon of this state directory.
pub fn running(state: &Path) -> Result<Option<u32>> {
    let path = path(state);
    let file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.context(|| format!("cannot open {}", path.display()))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => return Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(e) => return Err(Failure::from_io(e.into(), || format!("cannot look at {}", path.display()))),
    }
    let process = Holder::of(&file).process;
    process
        .map(Some)
        .ok_or_else(|| Failure::failed(format!("a daemon holds {}, and nothing says which", path.display())))
}

/// Asks the daemon to read its configuration again.
pub fn ask_to_reload(daemon: u32) -> Result<()> {
    let pid = i32::try_from(daemon).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed(format!("{daemon} is no process")))?;
    rustix::process::kill_process(pid, Signal::HUP)
        .context(|| format!("cannot signal the daemon, process {daemon}"))
        .map_err(|failure| failure.hint("Run it as the user that the daemon runs as, or send SIGHUP where it runs"))
}
