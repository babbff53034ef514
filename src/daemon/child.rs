//! A run as a process of its own: what it says and how it ends become news; it can be ended with all that belongs to it.
//!
//! A hung dump can so be killed, its memory is freed when it ends, and the daemon stays small. The process leads a group; it
//! is reaped only under the lock that signals are sent under, so no signal ever meets another process with the same number.
//! Killed hard, its own children go with it (see `exec::host`).

use super::news::{News, TaskKey};
use crate::error::{Context, Result};
use crate::secret::Memory;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// What the service manager gives to the daemon alone.
const NOT_FOR_CHILDREN: &[&str] = &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "BKP_CRASH_AT"];

#[derive(Debug)]
pub struct Child {
    process: Arc<Mutex<Option<std::process::Child>>>,
    pub since: Instant,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Absent when it died of a signal.
    pub code: Option<u8>,
    /// The last line that it said.
    pub last_words: String,
    pub output: String,
}

impl Exit {
    fn new(status: ExitStatus, last_words: String, output: String) -> Self {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let by_signal = || format!("it died of signal {}", status.signal().unwrap_or_default());
        let last_words = if code.is_none() && last_words.is_empty() { by_signal() } else { last_words };
        Exit { code, last_words, output }
    }
}

impl Child {
    /// Its standard error becomes news line by line, its standard output is kept: a document of one screen at most. Its standard
    /// input is the way to `memory`.
    pub fn start(mut command: Command, key: TaskKey, memory: &Memory, news: UnboundedSender<News>) -> Result<Self> {
        for name in NOT_FOR_CHILDREN {
            command.env_remove(name);
        }
        let (ours, of_run) = UnixStream::pair().context(|| "cannot start a run".into())?;
        command
            .stdin(Stdio::from(OwnedFd::from(of_run)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().context(|| "cannot start a run".into())?;
        // The end of the run must not stay open here, or nobody would notice that the run is gone.
        drop(command);
        let memory = memory.clone();
        std::thread::spawn(move || memory.serve(ours));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pid = Pid::from_child(&child);
        let process = Arc::new(Mutex::new(Some(child)));
        let shared = process.clone();
        std::thread::spawn(move || {
            let output = std::thread::spawn(move || stdout.map(std::io::read_to_string).transpose());
            let mut last_words = String::new();
            for line in stderr.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(|line| line.ok()) {
                if !line.trim().is_empty() {
                    last_words = told(&line).unwrap_or(last_words);
                    let _ = news.send(News::Said { key: key.clone(), line });
                }
            }
            let exit = reap(&shared, pid);
            let output = output.join().ok().and_then(|output| output.ok()).flatten().unwrap_or_default();
            let _ = news.send(News::Ended { key, exit: Exit::new(exit, last_words, output) });
        });
        Ok(Child { process, since: Instant::now() })
    }

    /// Asks it to end in order.
    pub fn terminate(&self) {
        self.with_pid(|pid| rustix::process::kill_process(pid, Signal::TERM));
    }

    /// Ends it and everything in its group.
    pub fn kill(&self) {
        self.with_pid(|pid| rustix::process::kill_process_group(pid, Signal::KILL));
    }

    fn with_pid(&self, act: impl FnOnce(Pid) -> rustix::io::Result<()>) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = process.as_ref() {
            let _ = act(Pid::from_child(child));
        }
    }
}

/// The sentence of an error; hints and causes of a message are no last words.
fn told(line: &str) -> Option<String> {
    line.strip_prefix("error: ").map(str::to_owned)
}

/// Waits for the end without taking the number away from the process, then takes it under the lock.
fn reap(process: &Mutex<Option<std::process::Child>>, pid: Pid) -> ExitStatus {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(rustix::process::waitid(WaitId::Pid(pid), ended), Err(rustix::io::Errno::INTR)) {}
    let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
    let child = process.take();
    child.and_then(|mut child| child.wait().ok()).unwrap_or_else(|| ExitStatus::from_raw(Signal::KILL.as_raw()))
}
