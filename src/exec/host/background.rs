//! A program that runs in the background, such as a server, with a file for everything it says.
//!
//! It ends with bkp, also when bkp is killed, unless it is left on purpose.

use super::process::Process;
use crate::error::{Context, Failure, Result};
use crate::event::Cancel;
use crate::exec::Command;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a wait looks for a signal.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of its log that are told.
const TOLD: u64 = 8 << 10;

#[derive(Debug)]
pub struct Background {
    name: String,
    process: Process,
    log: PathBuf,
}

impl Background {
    /// `name` is for people; `log` is appended to.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(log);
        let what = || format!("cannot write {}", log.display());
        let (out, err) = (open().context(what)?, open().context(what)?);
        let process = Process::start_with(command, [Stdio::null(), out.into(), err.into()], None)?;
        Ok(Background { name: name.to_owned(), process, log: log.to_owned() })
    }

    /// Waits for its end, at most for `limit`; an error unless it is status 0.
    pub fn wait(mut self, limit: Duration, cancel: &Cancel) -> Result<()> {
        let begun = Instant::now();
        while !self.has_ended(LOOK)? {
            cancel.check()?;
            if begun.elapsed() > limit {
                return Err(self.failure(&format!("ran longer than {} s and was killed", limit.as_secs())));
            }
        }
        let status = self.process.end()?;
        if status.success() { Ok(()) } else { Err(self.failure(&super::ended_with(status))) }
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.has_ended(Duration::ZERO)? { self.process.end().map(Some) } else { Ok(None) }
    }

    /// Asks it to end, first kindly, and kills it when it has not by then.
    pub fn end(&mut self, patience: Duration) -> Result<()> {
        for signal in [Signal::TERM, Signal::INT] {
            if self.has_ended(Duration::ZERO)? {
                break;
            }
            // It may be gone in this moment.
            let _ = rustix::process::kill_process(Pid::from_child(&self.process.child), signal);
            self.has_ended(patience)?;
        }
        self.process.end().map(drop)
    }

    /// Lets it go on without bkp.
    pub fn leave(self) {
        self.process.leave();
    }

    pub fn failure(&self, what: &str) -> Failure {
        let failure = Failure::failed(format!("{} {what}", self.name));
        let log = self.log();
        let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // Some programs end with much kind advice; what went wrong first is why.
        let is_error = |line: &&str| ["error", "fatal"].iter().any(|word| line.to_lowercase().contains(word));
        let first = lines.iter().position(is_error).unwrap_or_else(|| lines.len().saturating_sub(5));
        let told = lines[first..].iter().take(5).copied().collect::<Vec<_>>().join(" | ");
        let told: String = told.chars().filter(|c| !c.is_control()).take(1000).collect();
        if told.is_empty() { failure } else { failure.because(told) }
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let read = || {
            let mut file = std::fs::File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TOLD)))?;
            let mut bytes = Vec::new();
            file.take(TOLD).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    fn has_ended(&self, wait: Duration) -> Result<bool> {
        let mut slots = [PollFd::new(&self.process.ended, PollFlags::IN)];
        let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        match rustix::event::poll(&mut slots, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            other => other.map(|ready| ready > 0).context(|| format!("cannot wait for {}", self.name)),
        }
    }
}
