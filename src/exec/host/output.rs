//! Standard output of a command on the host, as [`crate::exec::Output`] promises it.

use super::running::{Running, Wanted, ended_with};
use crate::error::{Failure, Result};
use crate::exec::tail::Ending;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::ChildStdout;

pub struct HostOutput<'a> {
    /// Absent once everything was read. Dropped before the command is waited for.
    pub stdout: Option<ChildStdout>,
    pub running: Running<'a>,
    pub ending: Option<Ending>,
    /// How it ended; a second read after a failure fails again.
    pub outcome: Option<std::result::Result<(), String>>,
}

impl Read for HostOutput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.outcome {
            Some(Ok(())) => return Ok(0),
            Some(Err(text)) => return Err(Failure::failed(text.clone()).into()),
            None if buffer.is_empty() => return Ok(0),
            None => {}
        }
        let outcome = self.advance(buffer);
        match &outcome {
            Ok(0) => self.outcome = Some(Ok(())),
            Ok(_) => {}
            Err(failure) => self.outcome = Some(Err(failure.full())),
        }
        Ok(outcome?)
    }
}

impl HostOutput<'_> {
    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.running.check()?;
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(buffer) {
                Ok(0) => self.stdout = None,
                Ok(read) => {
                    if let Some(ending) = &mut self.ending {
                        ending.push(&buffer[..read]);
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.running.wait(&Wanted::readable(stdout.as_fd()))?;
                }
                Err(error) => {
                    return Err(Failure::from_io(error, || format!("cannot read from {}", self.running.name)));
                }
            }
        }
        let status = self.running.wait_for_end(self.running.silence)?;
        if !status.success() {
            return Err(self.running.failure(&ended_with(status)));
        }
        if self.ending.as_ref().is_some_and(|ending| !ending.seen()) {
            return Err(self
                .running
                .failure("ended well, but its output does not end with the terminator: it counts as cut")
                .hint("Run the command by hand and look at its last line"));
        }
        self.running.keep_remarks();
        Ok(0)
    }
}
