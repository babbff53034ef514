//! Records of scratch targets: `scratch/<number>.json` in the state directory, with a lock beside it.
//!
//! The lock is taken first and ends with the process that holds it; the record is written before the target is made, and
//! removed after it. So a record whose lock is free is one that nobody looks after any more, in whatever container or
//! namespace its process was.

use super::Lease;
use crate::durable::{self, Lock};
use crate::error::{Context, Failure, Kind, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub run: String,
    pub source: String,
    pub deadline: Timestamp,
    /// It was left on purpose, until its deadline.
    pub kept: bool,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its name; everything else is in labels.
    Container(String),
    /// A private directory with everything in it, and the processes that have it as theirs.
    Directory(PathBuf),
}

/// All records of one state directory.
pub struct Records {
    directory: PathBuf,
}

impl Records {
    pub fn of(state: &Path) -> Self {
        Records { directory: state.join("scratch") }
    }

    /// Which records these are: a word that stands in labels, made at the first need.
    pub fn name(&self) -> Result<String> {
        if let Some(name) = self.known_name()? {
            return Ok(name);
        }
        let path = self.name_file();
        let made = || {
            durable::create_private_directory(&self.directory)?;
            match durable::write_new(&path, durable::random_hex(8).as_bytes(), 0o600) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => std::fs::read_to_string(&path),
            }
        };
        made().context(|| format!("cannot write into {}", self.directory.display()))
    }

    /// `None` where nothing was ever recorded: looking for leftovers leaves nothing behind itself.
    pub fn known_name(&self) -> Result<Option<String>> {
        let path = self.name_file();
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            name => name.map(Some).context(|| format!("cannot read {}", path.display())),
        }
    }

    fn name_file(&self) -> PathBuf {
        self.directory.join("name")
    }

    /// Numbers of those that are there.
    pub fn numbers(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot read {}", self.directory.display()))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut numbers: Vec<String> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
        numbers.sort();
        Ok(numbers)
    }

    pub fn has(&self, number: &str) -> bool {
        self.file(number).exists()
    }

    /// A record that nobody holds; `None` where somebody does, or where it has gone meanwhile.
    pub fn take(&self, number: &str) -> Result<Option<(Record, Held)>> {
        let lock = match Lock::take(&self.lock_file(number), "this scratch target") {
            Ok(lock) => lock,
            Err(failure) if failure.kind() == Kind::Locked => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let file = self.file(number);
        let bytes = match std::fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let _ = std::fs::remove_file(self.lock_file(number));
                return Ok(None);
            }
            bytes => bytes.context(|| format!("cannot read {}", file.display()))?,
        };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("cannot understand {}", file.display())).because(error))?;
        let held = Held { record: record.clone(), file, lock_file: self.lock_file(number), lock: Some(lock) };
        Ok(Some((record, held)))
    }

    fn file(&self, number: &str) -> PathBuf {
        self.directory.join(format!("{number}.json"))
    }

    fn lock_file(&self, number: &str) -> PathBuf {
        self.directory.join(format!("{number}.lock"))
    }
}

/// A record with its lock.
#[derive(Debug)]
pub struct Held {
    record: Record,
    file: PathBuf,
    lock_file: PathBuf,
    /// Absent once it is let go.
    lock: Option<Lock>,
}

impl Held {
    /// Records a target under `number` before it is made.
    pub fn begin(lease: &Lease<'_>, number: &str, what: What) -> Result<Self> {
        let records = Records::of(lease.state);
        durable::create_private_directory(&records.directory)
            .context(|| format!("cannot create {}", records.directory.display()))?;
        let record = Record {
            run: lease.run.to_owned(),
            source: lease.source.to_owned(),
            deadline: lease.deadline,
            kept: false,
            what,
        };
        let lock_file = records.lock_file(number);
        let lock = Lock::take(&lock_file, "this scratch target")?;
        let held = Held { record, file: records.file(number), lock_file, lock: Some(lock) };
        held.write()?;
        Ok(held)
    }

    /// From now on it is left until its deadline.
    pub fn keep(&mut self) -> Result<()> {
        self.record.kept = true;
        self.write()?;
        self.lock = None;
        Ok(())
    }

    pub fn is_let_go(&self) -> bool {
        self.lock.is_none()
    }

    /// The target is gone, and so is its record.
    pub fn let_go(&mut self) -> Result<()> {
        std::fs::remove_file(&self.file).context(|| format!("cannot remove {}", self.file.display()))?;
        let _ = std::fs::remove_file(&self.lock_file);
        self.lock = None;
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.record).expect("a record is plain data");
        durable::write(&self.file, &bytes, 0o600).context(|| format!("cannot write {}", self.file.display()))
    }
}
