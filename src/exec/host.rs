//! Commands on the host itself.
//!
//! One thread does everything: whoever reads also hands over the secret, collects standard error, and looks at the time
//! limit and at [`Cancel`], all by waiting on the command's pipes at once. A command that nobody reads from just waits.
//! Success needs the end of the output, exit status 0 and the terminator; the status is looked at before a broken pipe is blamed.
//! It does not look into a pipeline: `sh -c "a | b"` reports the status of `b` alone (use `set -o pipefail`).

use super::process::{self, Process};
use super::tail::{Complaints, Ending};
use super::{Command, Exec, Output};
use crate::error::{Context, Failure, Result};
use crate::event::Cancel;
use crate::secret::Secret;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a signal may go unnoticed while the command is silent.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// The most that is taken of standard error at once: somebody may write there without end.
const LAST_WORDS: usize = 1 << 20;
const PIECE: usize = 128 << 10;

pub struct Host;

impl Host {
    /// Where the program of `command` is, or a failure that says where it was looked for.
    pub fn find(command: &Command) -> Result<PathBuf> {
        process::find_program(command)
    }
}

impl Exec for Host {
    fn start<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Output<'a>> {
        let ending = match &command.terminator {
            Some(t) if t.trim_ascii().is_empty() => return Err(Failure::usage("the terminator is empty")),
            terminator => terminator.as_deref().map(Ending::new),
        };
        let stdin = if command.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let process = Process::start(command, stdin, Stdio::piped(), None)?;
        let mut running = Running::new(command, process, cancel)?;
        let stdout = running.process.child.stdout.take();
        if let Some(stdout) = &stdout {
            without_waiting(stdout)?;
        }
        if let Some(stdin) = &running.process.child.stdin {
            without_waiting(stdin)?;
        }
        Ok(Box::new(HostOutput { stdout, running, ending, outcome: None }))
    }

    fn feed(&self, command: &Command, data: &mut dyn Read, cancel: &Cancel) -> Result<()> {
        if command.input.is_some() {
            return Err(Failure::usage(
                "a command that is fed data cannot be given a secret by standard input as well",
            ));
        }
        let (taken, given) = io::pipe().context(|| "cannot make a pipe".into())?;
        let theirs = taken.try_clone().context(|| "cannot make a pipe".into())?;
        without_waiting(&given)?;
        let held = given.try_clone().context(|| "cannot make a pipe".into())?;
        let process = Process::start(command, theirs.into(), Stdio::null(), Some(held))?;
        let mut running = Running::new(command, process, cancel)?;
        if let Err(failure) = running.feed(data, &given) {
            // Dead before the pipe is closed: it must not take a break for the end of the data.
            let _ = running.process.end();
            return Err(failure);
        }
        drop(given);
        running.process.release();
        let status = running.wait_for_end()?;
        if !status.success() {
            return Err(running.failure(&ended_with(status)));
        }
        match rustix::io::ioctl_fionread(&taken).context(|| "cannot look into a pipe".into())? {
            0 => Ok(()),
            left => Err(running.failure(&format!("ended well, but left {left} bytes of the data unread"))),
        }
    }
}

/// A command with everything that has to be looked after while it runs.
struct Running<'a> {
    name: String,
    process: Process,
    secret: Option<Secret>,
    /// How much of the secret has been handed over.
    handed: usize,
    complaints: Complaints,
    limit: Option<Duration>,
    deadline: Option<Instant>,
    cancel: &'a Cancel,
}

/// What is waited for beside everything else.
enum Wanted<'b> {
    Readable(&'b ChildStdout),
    Writable(&'b PipeWriter),
    End,
}

#[derive(PartialEq)]
enum Ready {
    Yes,
    Ended,
}

impl<'a> Running<'a> {
    fn new(command: &Command, process: Process, cancel: &'a Cancel) -> Result<Self> {
        if let Some(stderr) = &process.child.stderr {
            without_waiting(stderr)?;
        }
        Ok(Running {
            name: process::name(command),
            process,
            secret: command.input.clone(),
            handed: 0,
            complaints: Complaints::default(),
            limit: command.limit,
            deadline: command.limit.and_then(|limit| Instant::now().checked_add(limit)),
            cancel,
        })
    }

    /// Waits until `wanted` is there, or until the command has ended where that matters. Hands over the secret and
    /// collects standard error meanwhile. The command is dead when this fails.
    fn wait(&mut self, wanted: &Wanted<'_>) -> Result<Ready> {
        loop {
            self.check()?;
            let left = self.deadline.map_or(HEARTBEAT, |d| d.saturating_duration_since(Instant::now()).min(HEARTBEAT));
            // Rounded up: a wait of nothing would spin until the deadline is over.
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) + 1_000_000 };
            let nothing = PollFlags::empty();
            let (extra, ended) = match wanted {
                Wanted::Readable(fd) => (Some(PollFd::new(*fd, PollFlags::IN)), nothing),
                Wanted::Writable(fd) => (Some(PollFd::new(*fd, PollFlags::OUT)), PollFlags::IN),
                Wanted::End => (None, PollFlags::IN),
            };
            let mut slots = vec![PollFd::new(&self.process.ended, ended)];
            let wants_extra = extra.is_some();
            slots.extend(extra);
            slots.extend(self.process.child.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            slots.extend(self.process.child.stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            match poll(&mut slots, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure::failed(format!("cannot wait for {}", self.name)).because(error)),
            }
            let extra_ready = wants_extra && !slots[1].revents().is_empty();
            let has_ended = slots[0].revents().contains(PollFlags::IN);
            drop(slots);
            self.listen();
            self.hand_over();
            if extra_ready {
                return Ok(Ready::Yes);
            }
            if has_ended {
                return Ok(Ready::Ended);
            }
        }
    }

    fn check(&mut self) -> Result<()> {
        if let Err(failure) = self.cancel.check() {
            let _ = self.process.end();
            return Err(failure);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let limit = self.limit.unwrap_or_default();
            let _ = self.process.end();
            return Err(self
                .failure(&format!("ran longer than its limit of {} s and was killed", limit.as_secs_f64()))
                .hint("Look at what it waits for, or raise the limit"));
        }
        Ok(())
    }

    /// Takes what is there of standard error.
    fn listen(&mut self) {
        let Some(stderr) = &mut self.process.child.stderr else { return };
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < LAST_WORDS {
            match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    self.complaints.push(&buffer[..read]);
                    taken += read;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        if taken < LAST_WORDS {
            self.process.child.stderr = None;
        }
    }

    /// Writes what the command takes of the secret. A command that does not want it all is judged by its status.
    fn hand_over(&mut self) {
        let (Some(stdin), Some(secret)) = (&mut self.process.child.stdin, &self.secret) else { return };
        while self.handed < secret.expose().len() {
            match stdin.write(&secret.expose().as_bytes()[self.handed..]) {
                Ok(written) => self.handed += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.process.child.stdin = None;
    }

    fn wait_for_end(&mut self) -> Result<ExitStatus> {
        self.wait(&Wanted::End)?;
        self.listen();
        self.process.end()
    }

    /// Pours `data` into the pipe that is the command's standard input. bkp holds both ends of it, so a command that is
    /// gone shows as its end, never as a broken pipe.
    fn feed(&mut self, data: &mut dyn Read, mut given: &PipeWriter) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let length = match data.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::from_io(error, || format!("cannot read the data for {}", self.name)));
                }
            };
            let mut piece = &buffer[..length];
            while !piece.is_empty() {
                if self.wait(&Wanted::Writable(given))? == Ready::Ended {
                    return self.left_early();
                }
                match given.write(piece) {
                    Ok(written) => piece = &piece[written..],
                    Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                    Err(error) => {
                        return Err(Failure::from_io(error, || format!("cannot write to {}", self.name)));
                    }
                }
            }
        }
    }

    fn left_early(&mut self) -> Result<()> {
        let status = self.wait_for_end()?;
        let reason =
            if status.success() { "ended well, but before it had read all data".into() } else { ended_with(status) };
        Err(self.failure(&reason))
    }

    fn failure(&mut self, what: &str) -> Failure {
        self.listen();
        let failure = Failure::failed(format!("{} {what}", self.name))
            .hint("Run it by hand, as the same user, and see what keeps it from ending well");
        match self.complaints.text(self.secret.as_ref()) {
            Some(text) => failure.because(text),
            None => failure,
        }
    }
}

fn ended_with(status: ExitStatus) -> String {
    let mut text = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        _ => format!("ended with {status}"),
    };
    if status.core_dumped() {
        let _ = write!(text, " (core dumped)");
    }
    text
}

fn without_waiting(fd: &impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).context(|| "cannot set up a pipe".into())?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).context(|| "cannot set up a pipe".into())
}

/// Standard output of a running command; see [`Output`].
struct HostOutput<'a> {
    /// Absent once everything was read. Dropped before the command is waited for.
    stdout: Option<ChildStdout>,
    running: Running<'a>,
    ending: Option<Ending>,
    /// How it ended; a second read after a failure fails again.
    outcome: Option<std::result::Result<(), String>>,
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
                    self.running.wait(&Wanted::Readable(stdout))?;
                }
                Err(error) => {
                    return Err(Failure::from_io(error, || format!("cannot read from {}", self.running.name)));
                }
            }
        }
        let status = self.running.wait_for_end()?;
        if !status.success() {
            return Err(self.running.failure(&ended_with(status)));
        }
        if self.ending.as_ref().is_some_and(|ending| !ending.seen()) {
            return Err(self
                .running
                .failure("ended well, but its output does not end with the terminator: it counts as cut")
                .hint("Run the command by hand and look at its last line"));
        }
        Ok(0)
    }
}
