//! Commands on the host itself.
//!
//! One thread does everything: whoever reads also hands over the secret, collects standard error, and looks at the time
//! limits and at [`Cancel`], all by waiting on the command's pipes at once. A command that nobody reads from just waits.
//! Success needs the end of the output, exit status 0 and the terminator; the status is looked at before a broken pipe is blamed.
//! It does not look into a pipeline: `sh -c "a | b"` reports the status of `b` alone (use `set -o pipefail`). A command keeps
//! bkp's terminal: a client that would ask there for a password is to be told not to (`psql --no-password`).

use super::tail::Ending;
use super::{Command, Conversation, Exec, Output};
use crate::error::{Context, Result};
use crate::event::Cancel;
use process::Process;
use running::{Running, without_waiting};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::path::PathBuf;
use std::process::Stdio;

mod background;
mod conversation;
mod output;
mod process;
mod running;

pub use background::Background;
pub use running::ended_with;

pub struct Host;

impl Host {
    /// Where the program of `command` is, or a failure that says where it was looked for.
    pub fn find(command: &Command) -> Result<PathBuf> {
        process::find_program(command)
    }
}

impl Exec for Host {
    fn place(&self) -> String {
        "this host".to_owned()
    }

    fn find(&self, programs: &[&str]) -> Result<Option<String>> {
        let there = |program: &&&str| {
            process::find_program(&Command { program: (**program).into(), ..Command::default() }).is_ok()
        };
        Ok(programs.iter().find(there).map(|program| (*program).to_owned()))
    }

    fn start<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Output<'a>> {
        let ending = Ending::of(command)?;
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
        Ok(Box::new(output::HostOutput { stdout, running, ending, outcome: None }))
    }

    fn feed(&self, command: &Command, data: &mut dyn Read, cancel: &Cancel) -> Result<()> {
        let (mut running, given, taken) = held(command, Stdio::null(), cancel)?;
        if let Err(failure) = running.feed(command.input.as_ref(), data, &given) {
            // Dead before the pipe is closed: it must not take a break for the end of the data.
            let _ = running.process.end();
            return Err(failure);
        }
        drop(given);
        running.process.release();
        // It may work on for long after it has taken everything: only the limit counts now.
        let status = running.wait_for_end(None)?;
        if !status.success() {
            return Err(running.failure(&ended_with(status)));
        }
        match rustix::io::ioctl_fionread(&taken).context(|| "cannot look into a pipe".into())? {
            0 => Ok(()),
            left => Err(running.failure(&format!("ended well, but left {left} bytes of the data unread"))),
        }
    }

    fn converse<'a>(&self, command: &Command, cancel: &'a Cancel) -> Result<Box<dyn Conversation + 'a>> {
        let (mut running, given, _) = held(command, Stdio::piped(), cancel)?;
        let stdout = running.process.child.stdout.take();
        if let Some(stdout) = &stdout {
            without_waiting(stdout)?;
        }
        let mut conversation = conversation::HostConversation::new(running, given, stdout);
        if let Some(secret) = &command.input {
            conversation.say(secret.expose())?;
        }
        Ok(Box::new(conversation))
    }
}

/// Starts a command whose standard input is a pipe that bkp holds both ends of.
fn held<'a>(command: &Command, stdout: Stdio, cancel: &'a Cancel) -> Result<(Running<'a>, PipeWriter, PipeReader)> {
    let (taken, given) = io::pipe().context(|| "cannot make a pipe".into())?;
    let theirs = taken.try_clone().context(|| "cannot make a pipe".into())?;
    without_waiting(&given)?;
    let held = given.try_clone().context(|| "cannot make a pipe".into())?;
    let process = Process::start(command, theirs.into(), stdout, Some(held))?;
    Ok((Running::new(command, process, cancel)?, given, taken))
}
