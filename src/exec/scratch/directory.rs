//! A private directory as a scratch target: for files, and for servers that run on this host.

use super::Lease;
use super::record::{Held, What};
use crate::durable::random_hex;
use crate::error::{Context, Failure, Kind, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the processes in a directory may take to end when they are asked to.
const ASKED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A directory that only this user can look into. Dropped, it is removed with everything in it.
#[derive(Debug)]
pub struct Directory {
    held: Held,
    path: PathBuf,
}

impl Directory {
    /// Makes one in `parent`, which must be there.
    pub fn make(lease: &Lease<'_>, parent: &Path) -> Result<Self> {
        let number = random_hex(6);
        let path = parent.join(format!("bkp-scratch-{number}"));
        let held = Held::begin(lease, &number, What::Directory(path.clone()))?;
        let mut directory = Directory { held, path };
        match DirBuilder::new().mode(0o700).create(&directory.path) {
            Ok(()) => Ok(directory),
            Err(error) => {
                let _ = directory.held.let_go();
                Err(Failure::from_io(error, || format!("cannot create {}", directory.path.display())))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn teardown(mut self) -> Result<()> {
        self.end()
    }

    /// Leaves it, until the deadline of its lease. Says how to look at it, and how to remove it.
    pub fn keep(mut self) -> Result<String> {
        self.leave()?;
        let path = self.path.display();
        Ok(format!("directory {path}; look at it: ls -l {path}; remove it: rm -r {path}"))
    }

    pub(super) fn leave(&mut self) -> Result<()> {
        self.held.keep()
    }

    pub(super) fn end(&mut self) -> Result<()> {
        if self.held.is_let_go() {
            return Ok(());
        }
        remove(&self.path)?;
        self.held.let_go()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is reaped later.
        let _ = self.end();
    }
}

/// Ends the processes that work in a scratch directory, and removes it with everything in it.
pub(super) fn remove(path: &Path) -> Result<()> {
    if !is_scratch(path) {
        let text = format!("{} is not a scratch directory of bkp; nothing of it is removed", path.display());
        return Err(Failure::new(Kind::Refused, text));
    }
    end_processes(path)?;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // Directories of a restored tree may be closed to their owner.
            open_to_owner(path);
            std::fs::remove_dir_all(path).context(|| format!("cannot remove {}", path.display()))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::from_io(error, || format!("cannot remove {}", path.display())))
        }
        _ => Ok(()),
    }
}

fn open_to_owner(directory: &Path) {
    let _ = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_to_owner(&entry.path());
        }
    }
}

fn is_scratch(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.is_absolute() && name.is_some_and(|name| name.starts_with("bkp-scratch-"))
}

/// Asks all processes whose directory is beneath `path` to end, and kills those that do not.
fn end_processes(path: &Path) -> Result<()> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let there = processes(path)?;
        if there.is_empty() {
            return Ok(());
        }
        let late = begun.elapsed() > ASKED;
        if late || !asked {
            let signal = if late { Signal::KILL } else { Signal::TERM };
            // One that has gone meanwhile is as wanted.
            for process in there {
                let _ = kill_process(process, signal);
            }
        }
        if begun.elapsed() > 2 * ASKED {
            return Err(Failure::failed(format!("processes in {} cannot be ended", path.display())));
        }
        asked = true;
        std::thread::sleep(LOOK);
    }
}

/// The processes whose working directory is `path` or beneath it; that of a server is its data directory.
fn processes(path: &Path) -> Result<Vec<Pid>> {
    let entries = std::fs::read_dir("/proc").context(|| "cannot list the processes".into())?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = numbers.filter(|number| {
        std::fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|directory| directory.starts_with(path))
    });
    Ok(inside.filter_map(Pid::from_raw).collect())
}
