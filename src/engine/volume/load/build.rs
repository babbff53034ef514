//! Builds the tree in the staging directory, from chunks that come in any order and from several threads.
//!
//! Directories are made first, with a private mode; files as their chunks come; hard links and the metadata of directories
//! last. Every name is reached through its directory's descriptor, so that no link can lead elsewhere.

use super::metadata::{self, Complaints, Defaults, Metadata};
use super::plan::{Big, Plan};
use crate::engine::volume::beneath::{Beneath, stat};
use crate::engine::volume::entry::{Extent, Kind, display, order, padding, split};
use crate::engine::volume::header::{self, Decoded, damaged};
use crate::engine::volume::sparse;
use crate::engine::volume::walk::Place;
use crate::error::{Context, Result};
use crate::event;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Big files that may be open between two of their chunks.
const OPEN: usize = 64;

pub struct Builder<'a> {
    plan: &'a Plan,
    context: event::Context<'a>,
    staging: Beneath,
    /// Open directories, one set for each thread that is at work.
    pool: Mutex<Vec<Beneath>>,
    defaults: Defaults,
    complaints: Complaints,
    directories: Mutex<Vec<(Vec<u8>, Metadata)>>,
    big: Vec<Mutex<Progress>>,
    open: AtomicUsize,
    placed: AtomicU64,
    bytes: AtomicU64,
}

/// How far a big file is.
struct Progress {
    missing: u64,
    created: bool,
    file: Option<Arc<OwnedFd>>,
    metadata: Option<Metadata>,
}

/// What was built.
pub struct Built {
    /// Metadata of the topmost entry, when it is a directory.
    pub root: Option<Metadata>,
    pub warnings: Vec<String>,
}

impl<'a> Builder<'a> {
    pub fn new(plan: &'a Plan, staging: OwnedFd, context: event::Context<'a>) -> Result<Self> {
        let found = rustix::fs::fstat(&staging).context(|| "cannot look at the new tree".into())?;
        let progress = |big: &Big| {
            Mutex::new(Progress { missing: big.data.end - big.data.start, created: false, file: None, metadata: None })
        };
        Ok(Builder {
            plan,
            context,
            staging: Beneath::new(staging),
            pool: Mutex::default(),
            defaults: Defaults::of_process(found.st_uid, found.st_gid),
            complaints: Complaints::default(),
            directories: Mutex::default(),
            big: plan.big.iter().map(progress).collect(),
            open: AtomicUsize::new(0),
            placed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    pub fn make_directories(&self) -> Result<()> {
        let mut open = self.hands()?;
        for path in &self.plan.directories {
            self.context.cancel.check()?;
            let (above, name) = split(path);
            open.directory(above)
                .and_then(|directory| rustix::fs::mkdirat(directory, name, Mode::RWXU))
                .context(|| cannot_create(path))?;
        }
        self.give_back(open);
        Ok(())
    }

    /// Takes one chunk of the tar stream.
    pub fn take(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.context.cancel.check()?;
        let mut open = self.hands()?;
        match self.plan.big_at(offset) {
            Some(index) => self.take_data(&mut open, index, offset, bytes)?,
            None => self.take_group(&mut open, offset, bytes)?,
        }
        self.give_back(open);
        Ok(())
    }

    fn take_group(&self, open: &mut Beneath, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = padding(offset) as usize;
        while at < bytes.len() {
            let decoded = header::decode(&bytes[at..])?;
            at += decoded.entry.header as usize;
            let big = decoded.entry.is_big();
            let stored = if big { 0 } else { decoded.entry.stored as usize };
            let data = bytes.get(at..at + stored).ok_or_else(|| damaged("a file's data is cut"))?;
            let place = self.plan.selection.place(&decoded.entry.path);
            let data_offset = offset + at as u64;
            at += stored + padding(stored as u64) as usize;
            if let Some(path) = place {
                self.place(open, &path, decoded, data, data_offset)?;
                self.placed.fetch_add(1, Relaxed);
                self.context.meter.add(0, 1);
            }
            if big {
                break;
            }
        }
        if at < bytes.len() { Err(damaged("something follows the header of a big file")) } else { Ok(()) }
    }

    fn place(&self, open: &mut Beneath, path: &[u8], decoded: Decoded, data: &[u8], data_offset: u64) -> Result<()> {
        let (above, name) = split(path);
        match decoded.entry.kind {
            Kind::Directory => {
                self.directories.lock().expect("no thread panics with it").push((path.to_vec(), decoded.into()));
                Ok(())
            }
            // They are made last, when the first name is there.
            Kind::HardLink => Ok(()),
            Kind::File if decoded.entry.is_big() => {
                let index = self.plan.big_at(data_offset).filter(|index| self.plan.big[*index].path == path);
                let index = index.ok_or_else(|| damaged("its catalogue does not fit"))?;
                let mut progress = self.big[index].lock().expect("no thread panics with it");
                progress.metadata = Some(decoded.into());
                self.finish_if_complete(open, index, &mut progress)
            }
            Kind::File => {
                let directory = open.directory(above).context(|| cannot_create(path))?;
                self.small_file(directory, name, path, decoded, data)
            }
            _ => {
                let directory = open.directory(above).context(|| cannot_create(path))?;
                self.without_data(directory, name, path, decoded)
            }
        }
    }

    fn small_file(&self, above: BorrowedFd<'_>, name: &[u8], path: &[u8], decoded: Decoded, data: &[u8]) -> Result<()> {
        let size = decoded.entry.size;
        let map = if decoded.sparse {
            Some(sparse::decode_map(data, size).ok_or_else(|| damaged("the map of a sparse file is malformed"))?)
        } else {
            None
        };
        let metadata = Metadata::from(decoded);
        let mode = metadata::creation_mode(&metadata);
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(above, name, flags, mode)?;
            match &map {
                None => write_all(&file, data, 0)?,
                Some((extents, map_length)) => write_sparse(&file, size, extents, 0, &data[*map_length as usize..])?,
            }
            let has = mode.bits() & !self.defaults.umask;
            metadata::apply(file.as_fd(), path, &metadata, has, &self.defaults, &self.complaints)
        };
        create().context(|| cannot_create(path))?;
        self.count(size, size);
        Ok(())
    }

    fn without_data(&self, above: BorrowedFd<'_>, name: &[u8], path: &[u8], decoded: Decoded) -> Result<()> {
        let kind = decoded.entry.kind;
        let name = CString::new(name).map_err(|_| damaged("a name contains a zero"))?;
        let link = decoded.entry.link.clone();
        let device = decoded.entry.device;
        let metadata = Metadata::from(decoded);
        let mode = Mode::RUSR | Mode::WUSR;
        let create = || {
            let node = |kind| rustix::fs::mknodat(above, &name, kind, mode, rustix::fs::makedev(device.0, device.1));
            let made = match kind {
                Kind::Symlink => rustix::fs::symlinkat(&link[..], above, &name),
                Kind::Fifo => rustix::fs::mkfifoat(above, &name, mode),
                Kind::CharacterDevice => node(FileType::CharacterDevice),
                _ => node(FileType::BlockDevice),
            };
            match made {
                Err(error @ rustix::io::Errno::PERM) if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) => {
                    self.complaints.device(path, error);
                    return Ok(());
                }
                made => made?,
            }
            let place = Place { path, directory: above, name: &name };
            metadata::apply_to_name(&place, &metadata, kind == Kind::Symlink, &self.defaults, &self.complaints)
        };
        create().context(|| cannot_create(path))
    }

    /// A chunk of a big file's data.
    fn take_data(&self, open: &mut Beneath, index: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let big = &self.plan.big[index];
        let length = bytes.len() as u64;
        if length > big.data.end - offset {
            return Err(damaged("a chunk reaches behind its file"));
        }
        let file = {
            let mut progress = self.big[index].lock().expect("no thread panics with it");
            self.open_big(open, index, &mut progress)?
        };
        let from = offset - big.data.start;
        let written = if big.extents.is_empty() {
            write_all(&file, bytes, from)
        } else {
            let map = sparse::encode_map(&big.extents).len() as u64;
            let skipped = map.saturating_sub(from).min(length);
            let data = &bytes[skipped as usize..];
            write_sparse(&file, big.size, &big.extents, (from + skipped).saturating_sub(map), data)
        };
        written.context(|| cannot_create(&big.path))?;
        let mut progress = self.big[index].lock().expect("no thread panics with it");
        progress.missing =
            progress.missing.checked_sub(length).ok_or_else(|| damaged("more data comes than a file has"))?;
        self.context.meter.add(length, 0);
        if progress.missing == 0 {
            self.count(big.size, 0);
        }
        self.finish_if_complete(open, index, &mut progress)?;
        if self.open.load(Relaxed) > OPEN {
            self.close_big(&mut progress);
        }
        Ok(())
    }

    fn open_big(&self, open: &mut Beneath, index: usize, progress: &mut Progress) -> Result<Arc<OwnedFd>> {
        if let Some(file) = &progress.file {
            return Ok(file.clone());
        }
        let path = &self.plan.big[index].path;
        let (above, name) = split(path);
        let create = if progress.created { OFlags::empty() } else { OFlags::CREATE | OFlags::EXCL };
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | create;
        let file = open
            .directory(above)
            .and_then(|directory| rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR))
            .context(|| cannot_create(path))?;
        let file = Arc::new(file);
        progress.created = true;
        progress.file = Some(file.clone());
        self.open.fetch_add(1, Relaxed);
        Ok(file)
    }

    fn close_big(&self, progress: &mut Progress) {
        if progress.file.take().is_some() {
            self.open.fetch_sub(1, Relaxed);
        }
    }

    fn finish_if_complete(&self, open: &mut Beneath, index: usize, progress: &mut Progress) -> Result<()> {
        if progress.missing > 0 || progress.metadata.is_none() {
            return Ok(());
        }
        let file = self.open_big(open, index, progress)?;
        if let Some(metadata) = &progress.metadata {
            let path = &self.plan.big[index].path;
            // Created private, whatever the umask: it is set.
            metadata::apply(file.as_fd(), path, metadata, u32::MAX, &self.defaults, &self.complaints)
                .context(|| cannot_create(path))?;
        }
        self.close_big(progress);
        Ok(())
    }

    /// Compares with the catalogue, makes the hard links, and closes the directories.
    pub fn finish(self) -> Result<Built> {
        let (placed, bytes) = (self.placed.load(Relaxed), self.bytes.load(Relaxed));
        if placed != self.plan.entries || bytes != self.plan.bytes {
            return Err(damaged(&format!(
                "{placed} entries with {bytes} bytes came, the catalogue has {} with {}",
                self.plan.entries, self.plan.bytes
            )));
        }
        let (mut open, mut first_open) = (self.hands()?, self.hands()?);
        for (path, first) in &self.plan.links {
            let ((above, name), (first_above, first_name)) = (split(path), split(first));
            let link = |one: BorrowedFd<'_>, other: BorrowedFd<'_>| {
                rustix::fs::linkat(one, first_name, other, name, AtFlags::empty())
            };
            let linked = first_open.directory(first_above).and_then(|one| link(one, open.directory(above)?));
            linked.context(|| cannot_create(path))?;
        }
        let mut directories = self.directories.into_inner().expect("all threads have ended");
        // The deepest first: closing a directory must not hinder what is in it, nor may its time change again.
        directories.sort_unstable_by(|one, other| order(&other.0, &one.0));
        for (path, metadata) in &directories {
            let directory = open.directory(path).context(|| cannot_create(path))?;
            metadata::apply(directory, path, metadata, u32::MAX, &self.defaults, &self.complaints)
                .context(|| cannot_create(path))?;
        }
        let root = directories.pop().filter(|(path, _)| path == super::TREE.as_bytes());
        let staging = open.directory(b"").context(|| "cannot look at the new tree".into())?;
        stat(staging, super::TREE).context(|| "the new tree is not there".into())?;
        Ok(Built { root: root.map(|(_, metadata)| metadata), warnings: self.complaints.into_warnings() })
    }

    fn count(&self, content: u64, shown: u64) {
        self.bytes.fetch_add(content, Relaxed);
        self.context.meter.add(shown, 0);
    }

    fn hands(&self) -> Result<Beneath> {
        let pooled = self.pool.lock().expect("no thread panics with it").pop();
        pooled.map_or_else(|| self.staging.again().context(|| "cannot keep the new tree open".into()), Ok)
    }

    fn give_back(&self, open: Beneath) {
        self.pool.lock().expect("no thread panics with it").push(open);
    }
}

/// The path as the user knows it: without the name of the staging directory's content.
fn cannot_create(path: &[u8]) -> String {
    let inner = path.strip_prefix(super::TREE.as_bytes()).unwrap_or(path);
    format!("cannot restore {}", display(inner.strip_prefix(b"/").unwrap_or(inner)))
}

fn write_all(file: &OwnedFd, bytes: &[u8], offset: u64) -> rustix::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(file, &bytes[done..], offset + done as u64) {
            Ok(written) => done += written,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes what belongs between the holes; the size makes the last hole.
fn write_sparse(file: &OwnedFd, size: u64, extents: &[Extent], from: u64, data: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::ftruncate(file, size)?;
    sparse::scatter(extents, from, data, |offset, piece| write_all(file, piece, offset))
}
