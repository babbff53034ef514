//! Heads that this host keeps itself, with their time stamps, where no repository takes them: for bundles.
//!
//! That they lie here proves nothing; what the authority signed does. Nothing here is ever written a second time.

use super::head::StampedHead;
use crate::durable;
use crate::error::{Context, Failure, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct Kept {
    directory: PathBuf,
}

impl Kept {
    pub fn of(state: &Path) -> Self {
        Kept { directory: state.join("evidence").join("heads") }
    }

    fn path(&self, journal: &str, seq: u64, kind: &str) -> PathBuf {
        self.directory.join(format!("{journal}-{seq:016}.{kind}"))
    }

    pub fn put(&self, journal: &str, seq: u64, envelope: &[u8]) -> Result<()> {
        self.write(&self.path(journal, seq, "json"), envelope)
    }

    pub fn put_stamp(&self, journal: &str, seq: u64, stamp: &[u8]) -> Result<()> {
        self.write(&self.path(journal, seq, "tsr"), stamp)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        durable::create_private_directory(&self.directory).context(cannot)?;
        match durable::write_new(path, bytes, 0o600) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done.context(cannot),
        }
    }

    /// The heads of a journal, in order.
    pub fn heads(&self, journal: &str) -> Result<Vec<StampedHead>> {
        let cannot = || format!("cannot read {}", self.directory.display());
        let entries = match std::fs::read_dir(&self.directory) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(cannot)?,
        };
        let mut heads = Vec::new();
        for entry in entries {
            let name = entry.context(cannot)?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_suffix(".json")?.strip_prefix(journal)?.strip_prefix('-'));
            let Some(seq) = number.and_then(|number| number.parse().ok()) else { continue };
            let read = |kind| std::fs::read(self.path(journal, seq, kind));
            let stamp = match read("tsr") {
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                stamp => Some(stamp.map_err(|e| Failure::from_io(e, cannot))?),
            };
            heads.push(StampedHead { seq, envelope: read("json").context(cannot)?, stamp });
        }
        heads.sort_by_key(|head| head.seq);
        Ok(heads)
    }
}
