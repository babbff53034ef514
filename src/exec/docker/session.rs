//! A command inside a container with everything that has to be looked after while it runs: the carrier, the watcher
//! (see `scripts.rs`), standard error, time limits, and its end.
//!
//! All waiting happens in [`patiently`], which looks at [`Cancel`] and at the clocks five times a second. Nothing is
//! read ahead: what is not taken stays with the engine, which then stops the command. Without `sh` in the image the command
//! runs alone: its status is the engine's word, and it is killed only from the host itself, by root.

use super::Container;
use super::attached::{Attached, Exchanged, Heard, Piece, words};
use super::clock::{Clock, ENGINE, Stop, patiently};
use super::connect;
use super::opening;
use super::scripts::{Mark, Mode, Told};
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::exec::Command;
use crate::exec::tail::{Complaints, Remarks};
use crate::secret::Secret;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long somebody who is being dropped waits for the command to be dead.
const DYING: Duration = Duration::from_secs(5);
/// The most that may be said by somebody who is still spoken to.
const UNHEARD: usize = 64 << 20;

pub struct Session<'a> {
    container: Container,
    pub name: String,
    program: String,
    main: Attached,
    /// Absent without `sh`.
    watcher: Option<Attached>,
    mark: Option<Mark>,
    mode: Mode,
    /// What could be the beginning of a mark.
    tail: Vec<u8>,
    received: VecDeque<Event>,
    complaints: Complaints,
    remarks: Remarks,
    secret: Option<Secret>,
    clock: Clock<'a>,
    pub silence: Option<Duration>,
    /// It has ended, or was killed.
    over: bool,
}

/// What comes of a command.
pub enum Event {
    Data(Bytes),
    /// It has ended, and everything it wrote has come.
    Ended(Told),
}

impl<'a> Session<'a> {
    pub fn start(container: &Container, command: &Command, mode: Mode, cancel: &'a Cancel) -> Result<Self> {
        let words = words(command)?;
        let name = format!("{} in {}", words[0], container.title());
        let end = command.limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        let clock = Clock { cancel, limit: end };
        let opened = match container.has_no_shell() {
            true => None,
            false => opening::with_shell(container, command, &words, mode, clock)?,
        };
        let (main, watcher, mark, complaints) = match opened {
            Some(opened) => opened,
            None => {
                container.remember_no_shell();
                (opening::alone(container, command, &words, clock)?, None, None, Complaints::default())
            }
        };
        let mut session = Session {
            container: container.clone(),
            name,
            program: words[0].clone(),
            main,
            watcher,
            mark,
            mode,
            tail: Vec::new(),
            received: VecDeque::new(),
            complaints,
            remarks: command.remarks.clone(),
            secret: command.input.clone(),
            clock,
            silence: command.silence,
            over: false,
        };
        if let Some(secret) = &command.input {
            // One that ends without wanting it all is judged by its status.
            session.send(secret.expose().as_bytes())?;
        }
        Ok(session)
    }

    pub fn check(&mut self) -> Result<()> {
        self.clock.check().map_err(|stop| self.stopped(stop))
    }

    /// Whether a second mark tells of unread input.
    pub fn tells_rest(&self) -> bool {
        self.mark.is_some()
    }

    /// Waits for what comes next. The command is dead when this fails.
    pub fn receive(&mut self, silence: Option<Duration>) -> Result<Event> {
        let begun = Instant::now();
        self.check()?;
        loop {
            if let Some(event) = self.received.pop_front() {
                return Ok(event);
            }
            let heard = patiently(self.clock, silence, begun, self.main.next())?;
            let heard = heard.map_err(|stop| self.stopped(stop))?;
            self.take(heard)?;
        }
    }

    /// Writes `bytes` to its input. Data that comes meanwhile waits for [`Session::receive`]. False: it ended before it had
    /// taken everything.
    pub fn send(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut left = bytes;
        while !left.is_empty() {
            if self.received.iter().any(|event| matches!(event, Event::Ended(_))) {
                return Ok(false);
            }
            let done = patiently(self.clock, self.silence, Instant::now(), self.main.exchange(left))?;
            match done.map_err(|stop| self.stopped(stop))? {
                Exchanged::Taken(Ok(taken)) => left = &left[taken..],
                Exchanged::Taken(Err(_)) => return Err(self.lost()),
                Exchanged::Heard(heard) => self.take(heard)?,
            }
            let waiting: usize =
                self.received.iter().map(|e| if let Event::Data(data) = e { data.len() } else { 0 }).sum();
            if waiting > UNHEARD {
                return Err(self.failure("answers without end while it is still spoken to"));
            }
        }
        let flushed = patiently(self.clock, self.silence, Instant::now(), self.main.flush())?;
        match flushed.map_err(|stop| self.stopped(stop))? {
            Ok(()) => Ok(true),
            Err(_) => Err(self.lost()),
        }
    }

    /// Lets it see the end of its input.
    pub fn close_input(&mut self) -> Result<()> {
        connect::wait(async {
            self.main.close().await;
            if let Some(watcher) = &mut self.watcher {
                // Without a watcher the carrier's input is closed too.
                let _ = watcher.write_all(b"release\n").await;
            }
        })
    }

    /// Lets the carrier end after its mark has come, and compares what the engine says of it. `Ok` only for status 0.
    pub fn finish(&mut self, told: Told) -> Result<()> {
        if !self.over {
            let begun = Instant::now();
            let ended = patiently(self.clock, Some(ENGINE), begun, farewell(&mut self.main, &mut self.watcher))?;
            let late = ended.map_err(|stop| self.stopped(stop))?;
            self.complaints.push(&late);
            let status = self.engine_status()?;
            self.over = true;
            if status != Some(i64::from(told.status)) {
                let seen = status.map_or_else(|| "nothing".to_owned(), |status| status.to_string());
                return Err(self.failure(&format!("ended with status {}, but the engine tells {seen}", told.status)));
            }
        }
        match told {
            Told { status: 0, held: false } => Ok(()),
            // Without `sh` nobody looked for the program before.
            Told { status: 126 | 127, .. } if self.mark.is_none() => {
                Err(opening::missing(&self.container, &self.program))
            }
            Told { status: 0, held: true } => {
                Err(self.failure("ended well, but left a process behind that still holds its output"))
            }
            Told { status, .. } => Err(self.failure(&ended_with(status))),
        }
    }

    fn take(&mut self, heard: Heard) -> Result<()> {
        match heard {
            Ok(Some(Piece::Complaint(bytes))) => self.complaints.push(&bytes),
            Ok(Some(Piece::Output(bytes))) => self.sort(bytes),
            Ok(None) if self.mark.is_none() => {
                let status = self.engine_status()?;
                self.over = true;
                let Some(status) = status.and_then(|status| u8::try_from(status).ok()) else {
                    return Err(self.lost());
                };
                self.received.push_back(Event::Ended(Told { status, held: false }));
            }
            Ok(None) => return Err(self.lost()),
            Err(text) => {
                self.kill();
                return Err(self.failure("cannot be listened to any more").because(text));
            }
        }
        Ok(())
    }

    /// Tells data from marks.
    fn sort(&mut self, bytes: Bytes) {
        let Some(mark) = &self.mark else {
            self.received.push_back(Event::Data(bytes));
            return;
        };
        if self.mode == Mode::Feed {
            self.tail.extend_from_slice(&bytes);
            while let Some(end) = self.tail.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.tail.drain(..=end).collect();
                self.received.extend(mark.at_end(&line).map(|(_, told)| Event::Ended(told)));
            }
            return;
        }
        let bytes = match self.tail.is_empty() {
            true => bytes,
            false => Bytes::from([std::mem::take(&mut self.tail).as_slice(), &bytes].concat()),
        };
        let (end, told) = match mark.at_end(&bytes) {
            Some((begin, told)) => (begin, Some(told)),
            None => (mark.perhaps_at(&bytes), None),
        };
        if told.is_none() {
            self.tail = bytes[end..].to_vec();
        }
        if end > 0 {
            self.received.push_back(Event::Data(bytes.slice(..end)));
        }
        self.received.extend(told.map(Event::Ended));
    }

    /// Kills it, and takes what it has still complained about.
    pub fn give_up(&mut self) {
        self.kill();
        let rest = connect::wait(async {
            let mut rest = Vec::new();
            let drained = async {
                while let Ok(Some(piece)) = self.main.next().await {
                    if let Piece::Complaint(bytes) = piece {
                        rest.extend_from_slice(&bytes);
                    }
                }
            };
            let _ = tokio::time::timeout(DYING, drained).await;
            rest
        });
        self.complaints.push(&rest.unwrap_or_default());
    }

    fn stopped(&mut self, stop: Stop) -> Failure {
        self.give_up();
        match stop {
            Stop::Told(failure) => failure,
            Stop::Limit(limit) => self
                .failure(&format!("ran longer than its limit of {} s and was killed", limit.as_secs_f64()))
                .hint("Look at what it waits for, or raise the limit"),
            Stop::Silence(silence) => self
                .failure(&format!("stood still for {} s and was killed", silence.as_secs_f64()))
                .hint("Look at what it waits for: a lock, a slow disk, a question that nobody answers"),
        }
    }

    /// Its streams ended without a word of its own.
    fn lost(&mut self) -> Failure {
        self.kill();
        let status = self.engine_status().ok().flatten();
        let what = match (self.container.still_runs(), status) {
            (Some(false), _) => "was cut off: the container stopped meanwhile".to_owned(),
            (_, Some(status)) if status != 0 => {
                format!("was cut off: {}", ended_with(status.try_into().unwrap_or(255)))
            }
            _ => "was cut off: its output ended before it did".to_owned(),
        };
        self.failure(&what)
    }

    /// The engine's word on the exit status, once it is over; `None` when it gives none.
    fn engine_status(&self) -> Result<Option<i64>> {
        let client = &self.container.docker.client;
        let ended = async {
            let mut turns = tokio::time::interval(Duration::from_millis(25));
            loop {
                turns.tick().await;
                let seen = client.inspect_exec(&self.main.id).await;
                match seen {
                    Ok(seen) if seen.running == Some(true) => {}
                    Ok(seen) => return seen.exit_code,
                    Err(_) => return None,
                }
            }
        };
        connect::wait(async { tokio::time::timeout(DYING, ended).await.unwrap_or(None) })
    }

    /// It has ended well: what it complained about is for whoever asks.
    pub fn keep_remarks(&self) {
        self.remarks.take(&self.complaints, self.secret.as_ref());
    }

    pub fn failure(&self, what: &str) -> Failure {
        let failure = Failure::failed(format!("{} {what}", self.name))
            .hint("Run it by hand in the container, and see what keeps it from ending well");
        match self.complaints.text(self.secret.as_ref()) {
            Some(text) => failure.because(text),
            None => failure,
        }
    }

    fn kill(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let Some(watcher) = &mut self.watcher else {
            self.container.kill_from_here(&self.main.id);
            return;
        };
        // It kills at the end of its input, and then ends. One that does not answer may be in a paused container: it will.
        let _ = connect::wait(async {
            tokio::time::timeout(DYING, async {
                watcher.close().await;
                while let Ok(Some(_)) = watcher.next().await {}
            })
            .await
        });
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets the carrier go, and takes what it still complains about.
async fn farewell(main: &mut Attached, watcher: &mut Option<Attached>) -> Vec<u8> {
    if let Some(watcher) = watcher {
        let _ = watcher.write_all(b"end\n").await;
        watcher.close().await;
    }
    let mut late = Vec::new();
    while let Ok(Some(piece)) = main.next().await {
        if let Piece::Complaint(bytes) = piece {
            late.extend_from_slice(&bytes);
        }
    }
    late
}

pub fn ended_with(status: u8) -> String {
    match status {
        126 => "cannot be run there (status 126)".to_owned(),
        127 => "ended with status 127, as for a program that is not there".to_owned(),
        129..=192 => format!("ended with status {status} (killed by signal {})", status - 128),
        _ => format!("ended with status {status}"),
    }
}
