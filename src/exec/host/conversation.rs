//! A client on the host that is spoken to.
//!
//! What it answers while bkp still speaks is kept, so that neither waits for the other for ever. Its standard input cannot end
//! by accident: bkp's lifeline holds it too, so a client never takes a half statement for the last one.

use super::running::{Ready, Running, Wanted, ended_with};
use crate::error::{Failure, Result};
use crate::exec::Conversation;
use crate::exec::heard::Heard;
use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::ChildStdout;

pub struct HostConversation<'a> {
    /// Absent once it is closed.
    given: Option<PipeWriter>,
    /// Absent once it has ended.
    stdout: Option<ChildStdout>,
    heard: Heard,
    running: Running<'a>,
}

impl<'a> HostConversation<'a> {
    pub fn new(running: Running<'a>, given: PipeWriter, stdout: Option<ChildStdout>) -> Self {
        HostConversation { given: Some(given), stdout, heard: Heard::default(), running }
    }

    /// Takes what is there of standard output.
    fn listen(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(&mut buffer) {
                Ok(0) => self.stdout = None,
                Ok(read) => self.heard.push(&buffer[..read]).map_err(|what| self.running.failure(what))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(Failure::from_io(error, || format!("cannot read from {}", self.running.name)));
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self) -> Failure {
        let status = match self.running.wait_for_end(self.running.silence) {
            Ok(status) => status,
            Err(failure) => return failure,
        };
        let reason = if status.success() { "ended before it had answered".into() } else { ended_with(status) };
        self.running.failure(&reason)
    }
}

impl Conversation for HostConversation<'_> {
    fn say(&mut self, text: &str) -> Result<()> {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let Some(mut given) = self.given.as_ref() else { return Err(self.ended()) };
            let wanted =
                Wanted { writable: Some(given.as_fd()), readable: self.stdout.as_ref().map(AsFd::as_fd), end: true };
            if self.running.wait(&wanted)? == Ready::Ended {
                return Err(self.ended());
            }
            let written = given.write(left);
            self.listen()?;
            match written {
                Ok(written) => left = &left[written..],
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => {
                    return Err(Failure::from_io(error, || format!("cannot write to {}", self.running.name)));
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<String> {
        loop {
            if let Some(line) = self.heard.line().map_err(|what| self.running.failure(what))? {
                return Ok(line);
            }
            let Some(stdout) = &self.stdout else { return Err(self.ended()) };
            self.running.wait(&Wanted::readable(stdout.as_fd()))?;
            self.listen()?;
        }
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.given = None;
        self.running.process.release();
        while let Some(stdout) = &self.stdout {
            self.running.wait(&Wanted::readable(stdout.as_fd()))?;
            self.listen()?;
            self.heard.forget();
        }
        let status = self.running.wait_for_end(self.running.silence)?;
        if status.success() { Ok(()) } else { Err(self.running.failure(&ended_with(status))) }
    }
}
