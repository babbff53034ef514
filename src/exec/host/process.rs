//! A command as a group of processes that is never left behind.
//!
//! The group is led by a *lifeline*: a shell that waits for the end of a pipe only bkp holds, and then kills the group, itself
//! included. So the command and its children end even when bkp is killed, and the number of the group cannot be used
//! again while bkp may still signal it. (A death signal of the parent would need unsafe code, ends with the *thread*
//! that started the command, and does not reach grandchildren.) Without `/bin/sh` the command leads its own group.
//! What a command leaves running in its group is killed when it ends; a child that makes a session of its own escapes.
//! The lifeline also holds the pipe that data is fed through, so that a command cannot take bkp's death for the end of it.

use crate::error::{Context, Failure, Result};
use crate::exec::Command;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{OsStr, OsString};
use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a command inherits of bkp's environment.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "TZ"];

#[derive(Debug)]
pub struct Process {
    pub child: Child,
    /// Readable once the command itself has ended.
    pub ended: OwnedFd,
    lifeline: Option<Child>,
    group: Pid,
    status: Option<ExitStatus>,
}

impl Process {
    /// `fed` is the end of standard input's pipe that data goes into; the lifeline keeps a copy until [`Process::release`].
    pub fn start(command: &Command, stdin: Stdio, stdout: Stdio, fed: Option<PipeWriter>) -> Result<Self> {
        Process::start_with(command, [stdin, stdout, Stdio::piped()], fed)
    }

    /// The same with standard error, too, where the caller wants it.
    pub fn start_with(command: &Command, streams: [Stdio; 3], fed: Option<PipeWriter>) -> Result<Self> {
        let program = find_program(command)?;
        if let Some(directory) = command.directory.as_ref().filter(|d| !d.is_dir()) {
            return Err(Failure::usage(format!(
                "{} is not a directory to run {} in",
                directory.display(),
                name(command)
            )));
        }
        let lifeline = lifeline(fed.map_or_else(Stdio::null, Stdio::from));
        let mut builder = std::process::Command::new(&program);
        builder.arg0(&command.program).args(&command.arguments).env_clear();
        for (name, value) in environment(command) {
            builder.env(name, value);
        }
        if let Some(directory) = &command.directory {
            builder.current_dir(directory);
        }
        let group = lifeline.as_ref().map_or(0, |l| l.id() as i32);
        let [stdin, stdout, stderr] = streams;
        builder.process_group(group).stdin(stdin).stdout(stdout).stderr(stderr);
        let started = builder.spawn();
        drop(builder); // with its ends of the pipes
        let child = match started {
            Ok(child) => child,
            Err(error) => {
                end_lifeline(lifeline);
                return Err(Failure::failed(format!("cannot start {}", program.display())).because(error));
            }
        };
        let group = Pid::from_child(lifeline.as_ref().unwrap_or(&child));
        match rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(ended) => Ok(Process { child, ended, lifeline, group, status: None }),
            Err(error) => {
                let mut child = child;
                let _ = child.kill();
                let _ = child.wait();
                end_lifeline(lifeline);
                Err(Failure::failed(format!("cannot watch {}", program.display())).because(error))
            }
        }
    }

    /// Lets the command see the end of the data it was fed; from now on it outlives bkp.
    pub fn release(&mut self) {
        end_lifeline(self.lifeline.take());
    }

    /// Lets it go on when bkp is gone, and looks after it no more.
    pub fn leave(mut self) {
        self.release();
        // Dropping is killing.
        std::mem::forget(self);
    }

    /// Kills whatever of the group still runs, and gives the status of the command itself.
    pub fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // Before the reaping: as long as there is a member, the group's number belongs to nobody else.
        let member = rustix::process::getpgid(Some(Pid::from_child(&self.child)));
        if self.lifeline.is_some() || member == Ok(self.group) {
            let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        }
        let _ = self.child.kill(); // when it left the group
        let status = self.child.wait().context(|| "cannot wait for a command".into())?;
        end_lifeline(self.lifeline.take());
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Open pipes could keep a child alive that must not be signalled (sudo): let it see that nobody reads.
        drop((self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take()));
        let _ = self.end();
    }
}

fn lifeline(held: Stdio) -> Option<Child> {
    std::process::Command::new("/bin/sh")
        .args(["-c", "read -r _; kill -s KILL 0"])
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(held)
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn end_lifeline(lifeline: Option<Child>) {
    if let Some(mut shell) = lifeline {
        let _ = shell.kill();
        let _ = shell.wait();
    }
}

/// What the command is called in messages. Never its arguments: somebody may have put a password there.
pub fn name(command: &Command) -> String {
    command.program.to_string_lossy().into_owned()
}

fn environment(command: &Command) -> Vec<(OsString, OsString)> {
    let inherited = INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let path = std::iter::once(("PATH".into(), DEFAULT_PATH.into()));
    path.chain(inherited).chain(command.environment.iter().cloned()).collect()
}

/// Where the program of a command is. A name without `/` is looked for in the PATH that the command will have.
pub fn find_program(command: &Command) -> Result<PathBuf> {
    let program = Path::new(&command.program);
    if command.program.is_empty() {
        return Err(Failure::usage("there is no program to run"));
    }
    if command.program.as_encoded_bytes().contains(&b'/') {
        let path = command.directory.as_deref().unwrap_or(Path::new("")).join(program);
        return match (path.is_file(), executable(&path)) {
            (true, true) => Ok(path),
            (true, false) => Err(Failure::usage(format!("{} cannot be executed", path.display()))
                .hint(format!("chmod +x {}, or start it through its interpreter", path.display()))),
            _ => Err(Failure::usage(format!("there is no program {}", path.display()))
                .hint("Give the path of a program, or a name to look for in PATH")),
        };
    }
    let variables = environment(command);
    let path = variables.iter().rev().find(|(name, _)| name == OsStr::new("PATH")).map(|(_, value)| value.clone());
    let path = path.unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file() && executable(candidate))
        .ok_or_else(|| {
            Failure::usage(format!("there is no program `{}` in PATH ({})", name(command), path.to_string_lossy()))
                .hint("Install it, or give its absolute path")
        })
}

fn executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
