//! Objects as files below a directory, one file for each, at the path that its name says.
//!
//! A file appears whole (written aside, synced, renamed, directory synced; `durable.rs` does it) or not at all. What is
//! being written is in `.tmp` below the root; names beginning with a dot are never objects, so listings pass over it.
//! Files are 0600, directories 0700. Symbolic links, special files and foreign names in the tree are not objects.
//! It does not remove directories that became empty, and cannot lock objects.

use super::body::{Exact, clip};
use super::{Entry, Head, Key, Purged, Retain, Store, StoreError, StoreResult, Upload};
use crate::clock;
use crate::durable::{self, TempFile};
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const TEMPORARY_DIRECTORY: &str = ".tmp";

#[derive(Clone)]
pub struct Directory {
    tree: Arc<Tree>,
}

struct Tree {
    root: PathBuf,
    /// Directories that this process has seen and whose names are on disk for certain.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directory {
    /// The directory must be there. Clears away what interrupted writers left in it.
    pub fn open(root: &Path) -> StoreResult<Self> {
        let root = std::path::absolute(root).map_err(|e| system(&e, root))?;
        match std::fs::metadata(&root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(StoreError::NoStore(format!("{} is not a directory", root.display()))),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(StoreError::NoStore(format!("there is no directory {}", root.display())));
            }
            Err(e) => return Err(system(&e, &root)),
        }
        let tree = Tree { root, durable: Mutex::default() };
        durable::remove_stale(&tree.root.join(TEMPORARY_DIRECTORY));
        Ok(Directory { tree: Arc::new(tree) })
    }

    /// Makes the directory where there is none.
    pub fn create(root: &Path) -> StoreResult<Self> {
        let root = std::path::absolute(root).map_err(|e| system(&e, root))?;
        let missing: Vec<_> = root.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        durable::create_private_directory(&root).map_err(|e| system(&e, &root))?;
        for path in missing {
            durable::sync_directory(durable::parent_of(&path)).map_err(|e| system(&e, &path))?;
        }
        Directory::open(&root)
    }
}

impl Tree {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn temporary(&self) -> StoreResult<TempFile> {
        let directory = self.root.join(TEMPORARY_DIRECTORY);
        match TempFile::create_in(&directory, 0o600) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.make(&directory)?;
                TempFile::create_in(&directory, 0o600)
            }
            other => other,
        }
        .and_then(|mut file| durable::belongs_to_owner_of(&directory, file.file()).map(|()| file))
        .map_err(|e| system(&e, &directory))
    }

    /// Makes a directory below the root that survives a power cut. The lock is held meanwhile, so that nobody relies on a
    /// directory that another thread has made and not yet synced.
    fn make(&self, directory: &Path) -> StoreResult<()> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let new = |path: &&Path| path.starts_with(&self.root) && *path != self.root && !durable.contains(*path);
        let mut missing: Vec<_> = directory.ancestors().take_while(new).map(Path::to_owned).collect();
        missing.reverse();
        for path in missing {
            let above = durable::parent_of(&path);
            let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
            match made.and_then(|()| durable::belongs_to_owner_of(above, &File::open(&path)?)) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(self.lost(&e, &path)),
                _ => durable::sync_directory(durable::parent_of(&path)).map_err(|e| system(&e, &path))?,
            }
            durable.insert(path);
        }
        Ok(())
    }

    fn commit(&self, mut file: TempFile, key: &Key, new: bool) -> StoreResult<()> {
        let path = self.path(key);
        if clock::ahead().is_some() {
            // Where tests move the clock, the store goes with it.
            file.file().set_modified(clock::now().into()).map_err(|e| system(&e, &path))?;
        }
        self.make(durable::parent_of(&path))?;
        let done = if new { file.commit_new(&path) } else { file.commit(&path) };
        match done {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Somebody removed a directory that we took for granted: look again next time.
                self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
                Err(self.lost(&e, &path))
            }
            Err(e) if new && e.kind() == ErrorKind::AlreadyExists => Err(StoreError::Exists(key.clone())),
            Err(e) => Err(system(&e, &path)),
            Ok(()) => Ok(()),
        }
    }

    /// Something below the root vanished, which may be tried again; or the root itself, which may not.
    fn lost(&self, error: &io::Error, path: &Path) -> StoreError {
        match (error.kind(), self.root.is_dir()) {
            (ErrorKind::NotFound, false) => {
                StoreError::NoStore(format!("there is no directory {}", self.root.display()))
            }
            (ErrorKind::NotFound, true) => StoreError::Transient(format!("{}: {error}", path.display())),
            _ => system(error, path),
        }
    }

    fn missing(&self, key: &Key) -> StoreError {
        match self.root.is_dir() {
            true => StoreError::NotFound(key.clone()),
            false => StoreError::NoStore(format!("there is no directory {}", self.root.display())),
        }
    }

    /// Opens the file of an object; neither follows a symbolic link nor waits for the writer of a fifo.
    fn open(&self, key: &Key) -> StoreResult<(File, Metadata)> {
        let path = self.path(key);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let found = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        match found {
            Ok((file, metadata)) if metadata.is_file() => Ok((file, metadata)),
            Ok(_) => Err(self.missing(key)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(self.missing(key)),
            // A symbolic link, or a socket.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::LOOP | Errno::NXIO)) => Err(self.missing(key)),
            Err(e) => Err(system(&e, &path)),
        }
    }

    fn walk(&self, name: &str, prefix: &str, found: &mut Vec<Entry>) -> StoreResult<()> {
        let directory = self.root.join(name);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(e) => return Err(system(&e, &directory)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| system(&e, &directory))?;
            let Some(last) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Ok(key) = Key::new(format!("{name}{last}")) else { continue };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(system(&e, &entry.path())),
            };
            if metadata.is_dir() {
                let below = format!("{key}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    self.walk(&below, prefix, found)?;
                }
            } else if metadata.is_file() && key.as_str().starts_with(prefix) {
                found.push(Entry { key, size: metadata.len(), modified: modified(&metadata, &entry.path())? });
            }
        }
        Ok(())
    }
}

impl Store for Directory {
    fn describe(&self) -> String {
        format!("file://{}", self.tree.root.display())
    }

    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.write(key, &bytes, retain, false)
    }

    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.write(key, &bytes, retain, true)
    }

    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        self.without_lock(retain)?;
        let mut temporary = self.tree.temporary()?;
        let file = temporary.file().try_clone().map_err(|e| system(&e, temporary.path()))?;
        let state = Mutex::new(Making { parts: BTreeMap::new(), stage: Stage::Open(temporary) });
        Ok(Box::new(FileUpload { tree: self.tree.clone(), key: key.clone(), file, state }))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        let (mut file, metadata) = self.tree.open(key)?;
        let (start, length) = clip(range.as_ref(), metadata.len());
        if start > 0 {
            file.seek(SeekFrom::Start(start)).map_err(|e| system(&e, &self.tree.path(key)))?;
        }
        Ok(Box::new(Exact { inner: file, left: length, key: key.clone() }))
    }

    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        if !self.tree.root.is_dir() {
            return Err(StoreError::NoStore(format!("there is no directory {}", self.tree.root.display())));
        }
        let mut found = Vec::new();
        if !super::begins_names(prefix) {
            return Ok(found);
        }
        let above = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        self.tree.walk(above, prefix, &mut found)?;
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    fn head(&self, key: &Key) -> StoreResult<Head> {
        let (_, metadata) = self.tree.open(key)?;
        let modified = modified(&metadata, &self.tree.path(key))?;
        Ok(Head { size: metadata.len(), modified, sha256: None, retain: None })
    }

    fn delete(&self, key: &Key) -> StoreResult<()> {
        let path = self.tree.path(key);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => match std::fs::remove_file(&path) {
                Ok(()) => durable::sync_directory(durable::parent_of(&path)).map_err(|e| system(&e, &path)),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                Err(e) => Err(system(&e, &path)),
            },
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                match self.tree.missing(key) {
                    StoreError::NotFound(_) => Ok(()),
                    gone => Err(gone),
                }
            }
            Err(e) => Err(system(&e, &path)),
        }
    }

    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        self.delete(key).map(|()| Purged::Gone)
    }
}

impl Directory {
    fn write(&self, key: &Key, bytes: &[u8], retain: Option<&Retain>, new: bool) -> StoreResult<()> {
        self.without_lock(retain)?;
        // Cheaper than to find out after the writing; the rename is what decides.
        if new && std::fs::symlink_metadata(self.tree.path(key)).is_ok() {
            return Err(StoreError::Exists(key.clone()));
        }
        let mut file = self.tree.temporary()?;
        file.write_all(bytes).map_err(|e| system(&e, file.path()))?;
        self.tree.commit(file, key, new)
    }

    fn without_lock(&self, retain: Option<&Retain>) -> StoreResult<()> {
        match retain {
            None => Ok(()),
            Some(_) => Err(StoreError::Other(format!("{} is a directory and cannot lock objects", self.describe()))),
        }
    }
}

struct FileUpload {
    tree: Arc<Tree>,
    key: Key,
    file: File,
    state: Mutex<Making>,
}

struct Making {
    /// Number → offset and length.
    parts: BTreeMap<u32, (u64, u64)>,
    stage: Stage,
}

enum Stage {
    Open(TempFile),
    Visible,
    Lost,
}

impl Upload for FileUpload {
    fn part(&self, number: u32, offset: u64, bytes: Bytes) -> StoreResult<()> {
        self.file.write_all_at(&bytes, offset).map_err(|e| system(&e, &self.tree.path(&self.key)))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.parts.insert(number, (offset, bytes.len() as u64));
        Ok(())
    }

    fn finish(&self) -> StoreResult<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        super::check_parts(&self.key, state.parts.iter().map(|(number, (offset, size))| (*number, *offset, *size)))?;
        match std::mem::replace(&mut state.stage, Stage::Lost) {
            Stage::Open(temporary) => {
                if let Err(e) = self.tree.make(durable::parent_of(&self.tree.path(&self.key))) {
                    state.stage = Stage::Open(temporary);
                    return Err(e);
                }
                self.tree.commit(temporary, &self.key, false).map_err(last_word)?;
            }
            Stage::Visible => {}
            Stage::Lost => return Err(StoreError::Other(format!("what was written of {} is lost", self.key))),
        }
        state.stage = Stage::Visible;
        Ok(())
    }
}

/// The file is gone, so there is no use in another try.
fn last_word(error: StoreError) -> StoreError {
    match error {
        StoreError::Transient(text) => StoreError::Other(text),
        other => other,
    }
}

fn modified(metadata: &Metadata, path: &Path) -> StoreResult<Timestamp> {
    let time = metadata.modified().map_err(|e| system(&e, path))?;
    Timestamp::try_from(time).map_err(|e| StoreError::Other(format!("modification time of {}: {e}", path.display())))
}

/// An error of the system in the store's words.
fn system(error: &io::Error, path: &Path) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(text),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Denied(text),
        ErrorKind::StaleNetworkFileHandle | ErrorKind::TimedOut => StoreError::Transient(text),
        _ => StoreError::Other(text),
    }
}
