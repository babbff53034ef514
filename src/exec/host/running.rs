//! A command on the host with everything that has to be looked after while it runs.
//!
//! All waiting happens in [`Running::wait`], which also hands over the secret, collects standard error, and ends the command
//! when bkp is told to stop, when its time is over, or when it has stood still for too long.

use super::process::{self, Process};
use crate::error::{Context, Failure, Result};
use crate::event::Cancel;
use crate::exec::Command;
use crate::exec::tail::{Complaints, Remarks};
use crate::secret::Secret;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fmt::Write as _;
use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long a signal may go unnoticed while the command is silent.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long the output may stay open and silent after the command itself has ended.
const AFTERMATH: Duration = Duration::from_secs(10);
/// The most that is taken of standard error at once: somebody may write there without end.
const LAST_WORDS: usize = 1 << 20;
const PIECE: usize = 128 << 10;

pub struct Running<'a> {
    pub name: String,
    pub process: Process,
    secret: Option<Secret>,
    /// How much of the secret has been handed over.
    handed: usize,
    complaints: Complaints,
    remarks: Remarks,
    limit: Option<Duration>,
    deadline: Option<Instant>,
    /// How long it may stand still while somebody waits for it.
    pub silence: Option<Duration>,
    cancel: &'a Cancel,
}

/// What is waited for beside everything else.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'b> {
    pub readable: Option<BorrowedFd<'b>>,
    pub writable: Option<BorrowedFd<'b>>,
    /// That the command itself ends.
    pub end: bool,
}

impl<'b> Wanted<'b> {
    pub fn readable(fd: BorrowedFd<'b>) -> Self {
        Wanted { readable: Some(fd), ..Wanted::default() }
    }
}

#[derive(PartialEq)]
pub enum Ready {
    Yes,
    /// It has ended, and nothing else that was wanted is there.
    Ended,
}

impl<'a> Running<'a> {
    pub fn new(command: &Command, process: Process, cancel: &'a Cancel) -> Result<Self> {
        if let Some(stderr) = &process.child.stderr {
            without_waiting(stderr)?;
        }
        Ok(Running {
            name: process::name(command),
            process,
            secret: command.input.clone(),
            handed: 0,
            complaints: Complaints::default(),
            remarks: command.remarks.clone(),
            limit: command.limit,
            deadline: command.limit.and_then(|limit| Instant::now().checked_add(limit)),
            silence: command.silence,
            cancel,
        })
    }

    /// Waits until something of `wanted` is there. Hands over the secret and collects standard error meanwhile. The command
    /// is dead when this fails.
    pub fn wait(&mut self, wanted: &Wanted<'_>) -> Result<Ready> {
        self.wait_with(wanted, self.silence)
    }

    fn wait_with(&mut self, wanted: &Wanted<'_>, silence: Option<Duration>) -> Result<Ready> {
        let begun = Instant::now();
        let reads_only = wanted.readable.is_some() && !wanted.end;
        // When the command was seen to have ended: what it wrote before is still to be read.
        let mut silent_since = None;
        loop {
            self.check()?;
            self.check_silence(begun, silence)?;
            self.check_aftermath(silent_since)?;
            let until = [self.deadline, silence.and_then(|silence| begun.checked_add(silence))];
            let left = until.into_iter().flatten().map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.fold(HEARTBEAT, Duration::min);
            // Rounded up: a wait of nothing would spin until the deadline is over.
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) + 1_000_000 };
            let watches = wanted.end || reads_only && silent_since.is_none();
            let ended = if watches { PollFlags::IN } else { PollFlags::empty() };
            let mut slots = vec![PollFd::new(&self.process.ended, ended)];
            slots.extend(wanted.readable.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            slots.extend(wanted.writable.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
            let extras = slots.len();
            slots.extend(self.process.child.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            slots.extend(self.process.child.stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            match poll(&mut slots, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure::failed(format!("cannot wait for {}", self.name)).because(error)),
            }
            let extra_ready = slots[1..extras].iter().any(|slot| !slot.revents().is_empty());
            let has_ended = slots[0].revents().contains(PollFlags::IN);
            drop(slots);
            self.listen();
            self.hand_over();
            match (extra_ready, has_ended) {
                (true, _) => return Ok(Ready::Yes),
                (false, true) if reads_only => silent_since = Some(Instant::now()),
                (false, true) => return Ok(Ready::Ended),
                _ => {}
            }
        }
    }

    pub fn check(&mut self) -> Result<()> {
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

    fn check_silence(&mut self, begun: Instant, silence: Option<Duration>) -> Result<()> {
        let Some(silence) = silence.filter(|silence| begun.elapsed() >= *silence) else { return Ok(()) };
        let _ = self.process.end();
        Err(self
            .failure(&format!("stood still for {} s and was killed", silence.as_secs_f64()))
            .hint("Look at what it waits for: a lock, a slow disk, a question that nobody answers"))
    }

    /// A process that the command left behind may hold the output open without end: nobody can tell that from a dump that
    /// is not over.
    fn check_aftermath(&mut self, silent_since: Option<Instant>) -> Result<()> {
        if silent_since.is_none_or(|since| since.elapsed() < AFTERMATH) {
            return Ok(());
        }
        let status = self.process.end()?;
        let silence = AFTERMATH.as_secs();
        let text = format!("{}, but a process it left behind kept its output open for {silence} s", ended_with(status));
        Err(self.failure(&text).hint("Let it wait for what it starts, or give that another output: … >/dev/null &"))
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

    /// `silence` is how long it may take for that.
    pub fn wait_for_end(&mut self, silence: Option<Duration>) -> Result<ExitStatus> {
        self.wait_with(&Wanted { end: true, ..Wanted::default() }, silence)?;
        self.listen();
        self.process.end()
    }

    /// Pours `first` and `data` into the pipe that is the command's standard input. bkp holds both ends of it, so a command
    /// that is gone shows as its end, never as a broken pipe.
    pub fn feed(&mut self, first: Option<&Secret>, data: &mut dyn Read, given: &PipeWriter) -> Result<()> {
        if let Some(secret) = first {
            self.pour(secret.expose().as_bytes(), given)?;
        }
        let mut buffer = vec![0; PIECE];
        loop {
            match data.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => self.pour(&buffer[..length], given)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::from_io(error, || format!("cannot read the data for {}", self.name)));
                }
            }
        }
    }

    fn pour(&mut self, mut piece: &[u8], mut given: &PipeWriter) -> Result<()> {
        let wanted = Wanted { writable: Some(given.as_fd()), end: true, ..Wanted::default() };
        while !piece.is_empty() {
            if self.wait(&wanted)? == Ready::Ended {
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
        Ok(())
    }

    fn left_early(&mut self) -> Result<()> {
        let status = self.wait_for_end(None)?;
        let reason =
            if status.success() { "ended well, but before it had read all data".into() } else { ended_with(status) };
        Err(self.failure(&reason))
    }

    /// It has ended well: what it complained about is for whoever asks.
    pub fn keep_remarks(&self) {
        self.remarks.take(&self.complaints, self.secret.as_ref());
    }

    pub fn failure(&mut self, what: &str) -> Failure {
        self.listen();
        let failure = Failure::failed(format!("{} {what}", self.name))
            .hint("Run it by hand, as the same user, and see what keeps it from ending well");
        match self.complaints.text(self.secret.as_ref()) {
            Some(text) => failure.because(text),
            None => failure,
        }
    }
}

pub fn ended_with(status: ExitStatus) -> String {
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

pub fn without_waiting(fd: &impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).context(|| "cannot set up a pipe".into())?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).context(|| "cannot set up a pipe".into())
}
