//! The configuration in force, and its copy that runs are started with.
//!
//! Runs read the configuration themselves. Were they to read the files as these are now, a policy that is broken in the middle
//! of an edit would break them all; so each good configuration is copied aside, and runs are started with the copy.

use crate::durable;
use crate::error::{Context, Failure, Result};
use crate::policy::{self, Configuration, Paths};
use crate::schedule::Schedule;
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
}

impl Settings {
    pub fn load(paths: &Paths, host: &str) -> Result<Self> {
        let configuration = policy::load(paths).map_err(Failure::from)?;
        let files = read(&configuration.files)?;
        let digest = digest(&files);
        let schedules = Schedule::all(&configuration, host);
        let (main_file, not_copied) = match copy(paths, &files, &digest) {
            Ok(copy) => (copy, None),
            Err(failure) => (paths.config.clone(), Some(failure.full())),
        };
        Ok(Settings { configuration: Arc::new(configuration), schedules, digest, main_file, not_copied })
    }

    /// Removes the copies of other configurations.
    pub fn forget_others(&self, paths: &Paths) {
        let own = self.main_file.parent();
        for entry in std::fs::read_dir(copies(paths)).into_iter().flatten().flatten() {
            if own != Some(&entry.path()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn copies(paths: &Paths) -> PathBuf {
    paths.state.join("daemon").join("configurations")
}

fn read(files: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let one = |path: &PathBuf| {
        let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        Ok((path.clone(), bytes))
    };
    files.iter().map(one).collect()
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

fn copy(paths: &Paths, files: &[(PathBuf, Vec<u8>)], digest: &str) -> Result<PathBuf> {
    // Runs may be reading the one that was made of the same files before.
    let directory = copies(paths).join(format!("{}-{}", &digest[..16], durable::random_hex(4)));
    let what = || format!("cannot copy the configuration to {}", directory.display());
    let main_file = directory.join("bkp.yaml");
    durable::create_private_directory(&directory.join("policies.d")).context(what)?;
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
    Ok(main_file)
}

/// It need not outlive a power cut: each daemon copies anew.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
