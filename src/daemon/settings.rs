//! The configuration in force, and its copy that runs are started with.
//!
//! Runs read the configuration themselves. Were they to read the files as these are now, a policy that is broken in the middle
//! of an edit would break them all; so each good configuration is copied aside, and runs are started with the copy. It is theirs
//! as long as they live, also when the daemon that made it is gone.

use crate::durable;
use crate::error::{Context, Result};
use crate::policy::{self, Configuration, Paths};
use crate::schedule::Schedule;
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAIN_FILE: &str = "bkp.yaml";

#[derive(Clone, Debug)]
pub struct Settings {
    pub configuration: Arc<Configuration>,
    pub schedules: Vec<Schedule>,
    /// Of all files together.
    pub digest: String,
    /// What runs are started with: the copy, or the file itself where no copy could be made.
    pub main_file: PathBuf,
    /// Why there is no copy.
    pub not_copied: Option<String>,
    /// The lock of the copy, which runs inherit.
    _in_use: Option<Arc<File>>,
}

impl Settings {
    pub fn load(paths: &Paths, host: &str) -> Result<Self> {
        let (configuration, files) = policy::load_files(paths).map_err(|problems| problems.brief())?;
        let digest = digest(&files);
        let schedules = Schedule::all(&configuration, host);
        let (main_file, in_use, not_copied) = match copy(paths, &files, &digest) {
            Ok((copy, in_use)) => (copy, Some(Arc::new(in_use)), None),
            Err(failure) => (paths.config.clone(), None, Some(failure.full())),
        };
        let configuration = Arc::new(configuration);
        Ok(Settings { configuration, schedules, digest, main_file, not_copied, _in_use: in_use })
    }

    /// Removes the copies of other configurations that no run was started with.
    pub fn forget_others(&self, paths: &Paths) {
        let own = self.main_file.parent();
        for entry in std::fs::read_dir(copies(&paths.state)).into_iter().flatten().flatten() {
            if own != Some(&entry.path()) && !is_in_use(&entry.path()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The main file of the copy that was made of the configuration with this digest.
pub fn copy_of(state: &Path, digest: &str) -> Option<PathBuf> {
    let own = |name: &str| digest.len() > 16 && name.starts_with(&format!("{}-", &digest[..16]));
    let entries = std::fs::read_dir(copies(state)).ok()?.flatten();
    let mut found = entries.filter(|entry| entry.file_name().to_str().is_some_and(own));
    found.next().map(|entry| entry.path().join(MAIN_FILE)).filter(|file| file.is_file())
}

fn copies(state: &Path) -> PathBuf {
    state.join("daemon").join("configurations")
}

fn is_in_use(copy: &Path) -> bool {
    let locked = |file| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_err();
    File::open(copy).is_ok_and(locked)
}

fn digest(files: &[(PathBuf, Vec<u8>)]) -> String {
    let mut hash = Sha256::new();
    for (path, bytes) in files {
        let name = path.as_os_str().as_encoded_bytes();
        for part in [name, bytes.as_slice()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex::encode(hash.finalize())
}

fn copy(paths: &Paths, files: &[(PathBuf, Vec<u8>)], digest: &str) -> Result<(PathBuf, File)> {
    // Runs may be reading the one that was made of the same files before.
    let directory = copies(&paths.state).join(format!("{}-{}", &digest[..16], durable::random_hex(4)));
    let what = || format!("cannot copy the configuration to {}", directory.display());
    let main_file = directory.join(MAIN_FILE);
    durable::create_private_directory(&directory.join("policies.d")).context(what)?;
    let in_use = File::open(&directory).context(what)?;
    let locked = rustix::fs::flock(&in_use, FlockOperation::NonBlockingLockShared);
    locked
        .and_then(|()| rustix::io::fcntl_setfd(&in_use, FdFlags::empty()))
        .map_err(std::io::Error::from)
        .context(what)?;
    let mut has_main_file = false;
    for (path, bytes) in files {
        let is_main_file = *path == paths.config;
        has_main_file |= is_main_file;
        let name = path.file_name().unwrap_or_default();
        let to = if is_main_file { main_file.clone() } else { directory.join("policies.d").join(name) };
        put(&to, bytes).context(what)?;
    }
    if !has_main_file {
        put(&main_file, b"").context(what)?;
    }
    Ok((main_file, in_use))
}

/// It need not outlive a power cut: each daemon copies anew.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_configuration_is_kept_while_a_run_of_a_daemon_that_is_gone_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::write(root.join("bkp.yaml"), "timezone: UTC\n").unwrap();
        let [config, state, cache, run] = ["bkp.yaml", "state", "cache", "run"].map(|name| root.join(name));
        let paths = Paths { config, config_given: true, state, cache, run };
        let before = Settings::load(&paths, "host").unwrap();
        let copy = before.main_file.clone();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(before);
        let now = Settings::load(&paths, "host").unwrap();
        now.forget_others(&paths);
        assert!(copy.exists(), "its run has no configuration any more");
        child.kill().unwrap();
        child.wait().unwrap();
        // What other tests have started meanwhile may have inherited it, too.
        let end = Instant::now() + Duration::from_secs(60);
        while copy.exists() && Instant::now() < end {
            now.forget_others(&paths);
            std::thread::yield_now();
        }
        assert!(!copy.exists() && now.main_file.exists());
    }
}
