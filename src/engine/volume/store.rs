//! Stores entries: reads them, builds the groups, and tells the catalogue, the fingerprint and the memory of each.
//!
//! A file that changed while it was read is taken back and read once more. What cannot be read is left out with a warning.

use super::entry::{Entry, Kind, Xattrs, display, padding, xattrs_digest};
use super::group::Cutter;
use super::memory::{self, Group, Member};
use super::walk::{Facts, Place};
use super::{beneath, catalogue, content, header, sparse};
use crate::engine::{ChunkRange, TreeSink};
use crate::error::{Failure, Kind as FailureKind, Result};
use crate::event;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// More warnings than this are only counted.
const WARNINGS: usize = 500;

/// What a dump found, when it is over.
pub struct Outcome {
    pub inventory: BTreeMap<String, u64>,
    pub digest: blake3::Hash,
    pub entries: u64,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
}

/// What an entry adds to its group.
pub fn group_bytes(entry: &Entry) -> u64 {
    if entry.is_big() { entry.header } else { entry.length() }
}

#[derive(Default)]
struct Counts {
    kinds: [u64; 7],
    bytes: u64,
}

/// A tree sink, and the group that is being built for it.
pub struct Work<'a> {
    sink: &'a mut dyn TreeSink,
    pub context: event::Context<'a>,
    next: Option<memory::Writer>,
    /// The group that is being built: its tar bytes, and its entries.
    bytes: Vec<u8>,
    pub group: Group,
    pub cutter: Cutter,
    /// Device and inode of files with several names → the first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    counts: Counts,
    warnings: Vec<String>,
    unlisted_warnings: usize,
    notes: Vec<String>,
}

/// What came of an attempt to read a file.
enum Attempt {
    Stored,
    Changed(Facts),
    Failed(Errno),
}

impl<'a> Work<'a> {
    pub fn new(sink: &'a mut dyn TreeSink, context: event::Context<'a>, next: Option<memory::Writer>) -> Self {
        Work {
            sink,
            context,
            next,
            bytes: Vec::new(),
            group: Group::default(),
            cutter: Cutter::new(0),
            links: HashMap::new(),
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
            counts: Counts::default(),
            warnings: Vec::new(),
            unlisted_warnings: 0,
            notes: Vec::new(),
        }
    }

    pub fn is_fresh(&self) -> bool {
        self.group.members.is_empty()
    }

    pub fn begin_group(&mut self) {
        self.bytes.clear();
        self.bytes.resize(self.group.padding as usize, 0);
        self.group.members.clear();
        self.cutter = Cutter::new(self.group.padding);
    }

    /// The name under which this file was met before, unless this is the first.
    pub fn first_name(&mut self, path: &[u8], facts: &Facts) -> Option<Vec<u8>> {
        if facts.links < 2 || facts.kind == Some(Kind::Directory) {
            return None;
        }
        let first = self.links.entry((facts.device, facts.inode)).or_insert_with(|| path.to_vec());
        (first != path).then(|| first.clone())
    }

    pub fn add(&mut self, place: &Place<'_>, facts: &Facts, known: Option<&memory::Big>) -> Result<()> {
        let link = self.first_name(place.path, facts);
        match facts.kind {
            None => Ok(()),
            Some(Kind::File) if link.is_none() => self.add_file(place, facts, known),
            Some(kind) => self.add_plain(place, facts, kind, link),
        }
    }

    /// Everything that has no data.
    fn add_plain(&mut self, place: &Place<'_>, facts: &Facts, kind: Kind, first: Option<Vec<u8>>) -> Result<()> {
        let hard_link = first.is_some();
        let link = match first {
            Some(first) => first,
            None if kind == Kind::Symlink => match rustix::fs::readlinkat(place.directory, place.name, Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(error) => {
                    self.leave_out(place.path, facts, error);
                    return Ok(());
                }
            },
            None => Vec::new(),
        };
        let xattrs = match content::xattrs_at(place) {
            _ if hard_link => Vec::new(),
            Ok(xattrs) => xattrs,
            // What is in a directory needs its entry.
            Err(_) if kind == Kind::Directory => Vec::new(),
            Err(error) => {
                self.leave_out(place.path, facts, error);
                return Ok(());
            }
        };
        let kind = if hard_link { Kind::HardLink } else { kind };
        let mut entry = Entry { kind, link, ..entry_of(place.path, facts, &xattrs) };
        entry.header = header::encode(&entry, &xattrs, &mut self.bytes);
        self.push(Member { entry, facts: *facts })
    }

    fn add_file(&mut self, place: &Place<'_>, facts: &Facts, known: Option<&memory::Big>) -> Result<()> {
        if let Some(known) = known
            && self.reuse_big(place, facts, known)?
        {
            return Ok(());
        }
        let file = match beneath::open(place.directory, place.name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) => {
                self.leave_out(place.path, facts, error);
                return Ok(());
            }
        };
        let attempt = match self.store_file(place.path, &file, facts, false)? {
            Attempt::Changed(now) => self.store_file(place.path, &file, &now, true)?,
            done => done,
        };
        if let Attempt::Failed(error) = attempt {
            self.leave_out(place.path, facts, error);
        }
        Ok(())
    }

    /// Writes the header of a big file anew and takes its data again. `false`: it must be read.
    fn reuse_big(&mut self, place: &Place<'_>, facts: &Facts, known: &memory::Big) -> Result<bool> {
        let Ok(xattrs) = content::xattrs_at(place) else { return Ok(false) };
        let begin = self.bytes.len();
        let mut entry = known.member.entry.clone();
        entry.header = header::encode(&entry, &xattrs, &mut self.bytes);
        let group = self.sink.group(&self.bytes)?;
        let Some(data) = self.sink.reuse(known.data.clone())? else {
            self.sink.rewind(group.start)?;
            self.bytes.truncate(begin);
            return Ok(false);
        };
        self.context.meter.add(entry.stored, 0);
        self.group.members.push(Member { entry, facts: *facts });
        self.end_group(group, Some(data))?;
        Ok(true)
    }

    /// Reads a file once. When it changed meanwhile, nothing of it stays, unless this is the `last` attempt.
    fn store_file(&mut self, path: &[u8], file: &OwnedFd, facts: &Facts, last: bool) -> Result<Attempt> {
        let (mut entry, xattrs) = match describe(path, file, facts) {
            Ok(described) => described,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        let begin = self.bytes.len();
        entry.header = header::encode(&entry, &xattrs, &mut self.bytes);
        let cancel = self.context.cancel;
        let mut data = content::Stored::new(file, facts.size, &entry.sparse, cancel);
        let mut chunks = None;
        if entry.is_big() {
            let group = self.sink.group(&self.bytes)?;
            chunks = Some((group, self.sink.file(entry.stored, &mut Counted(&mut data, self.context.meter))?));
        } else {
            let at = self.bytes.len();
            self.bytes.resize(at + entry.stored as usize, 0);
            data.read_exact(&mut self.bytes[at..]).map_err(|e| Failure::from_io(e, || "cannot read a file".into()))?;
            self.bytes.resize(self.bytes.len() + padding(entry.stored) as usize, 0);
        }
        let failed = match (data.finish(facts.size), look_again(file, facts)) {
            (_, Err(error)) | (Err(error), _) => Some(Attempt::Failed(error)),
            (Ok(_), Ok(Some(now))) if !last => Some(Attempt::Changed(now)),
            (Ok(hash), Ok(now)) => {
                entry.hash = Some(hash);
                entry.changed = now.is_some();
                None
            }
        };
        if let Some(failed) = failed {
            self.bytes.truncate(begin);
            if let Some((group, _)) = chunks {
                self.sink.rewind(group.start)?;
            }
            return Ok(failed);
        }
        if entry.changed {
            self.warn(format!(
                "{} changed while it was read, twice; what is stored may never have existed",
                display(path)
            ));
        }
        let member = Member { entry, facts: *facts };
        match chunks {
            Some((group, data)) => {
                self.group.members.push(member);
                self.end_group(group, Some(data))?;
            }
            None => {
                self.context.meter.add(member.entry.stored, 0);
                self.push(member)?;
            }
        }
        Ok(Attempt::Stored)
    }

    /// Counts a complete entry in, and stores the group if it ends here.
    fn push(&mut self, member: Member) -> Result<()> {
        let ends = self.cutter.add(&member.entry.path, group_bytes(&member.entry), false);
        self.group.members.push(member);
        if ends {
            let chunks = self.sink.group(&self.bytes)?;
            self.end_group(chunks, None)?;
        }
        Ok(())
    }

    fn end_group(&mut self, chunks: ChunkRange, data: Option<ChunkRange>) -> Result<()> {
        (self.group.chunks, self.group.data) = (chunks, data);
        let mut group = std::mem::take(&mut self.group);
        self.record(&group)?;
        group.padding = group.members.last().filter(|m| m.entry.is_big()).map_or(0, |m| padding(m.entry.stored));
        self.group = group;
        self.begin_group();
        Ok(())
    }

    /// Takes a group of the last run again. `false`: it is not to be had.
    pub fn reuse(&mut self, group: &mut Group) -> Result<bool> {
        let Some(chunks) = self.sink.reuse(group.chunks.clone())? else { return Ok(false) };
        if let Some(data) = &group.data {
            let Some(data) = self.sink.reuse(data.clone())? else {
                self.sink.rewind(chunks.start)?;
                return Ok(false);
            };
            group.data = Some(data);
        }
        group.chunks = chunks;
        let bytes = group.members.iter().map(|member| member.entry.stored).sum();
        self.context.meter.add(bytes, 0);
        self.record(group)?;
        self.group.padding = group.members.last().filter(|m| m.entry.is_big()).map_or(0, |m| padding(m.entry.stored));
        self.begin_group();
        Ok(true)
    }

    /// Tells everybody about a group that is stored.
    fn record(&mut self, group: &Group) -> Result<()> {
        for Member { entry, .. } in &group.members {
            self.buffer.clear();
            catalogue::write(entry, &mut self.buffer);
            self.sink.catalogue(&self.buffer)?;
            entry.fingerprint(&mut self.hasher, &mut self.buffer);
            self.counts.kinds[entry.kind as usize] += 1;
            self.counts.bytes += entry.size;
        }
        self.context.meter.add(0, group.members.len() as u64);
        self.next.as_mut().map_or(Ok(()), |next| next.group(group))
    }

    pub fn finish(mut self) -> Result<Outcome> {
        if !self.bytes.is_empty() {
            let chunks = self.sink.group(&self.bytes)?;
            self.end_group(chunks, None)?;
        }
        let entries = self.counts.kinds.iter().sum();
        self.sink.catalogue(&catalogue::write_end(entries))?;
        if let Some(next) = self.next.take() {
            next.finish()?;
        }
        if self.unlisted_warnings > 0 {
            self.warnings.push(format!("and {} more of the same kinds", self.unlisted_warnings));
        }
        let of = |kind: Kind| self.counts.kinds[kind as usize];
        let counts = [
            ("files", of(Kind::File)),
            ("directories", of(Kind::Directory)),
            ("symlinks", of(Kind::Symlink)),
            ("hard_links", of(Kind::HardLink)),
            ("fifos", of(Kind::Fifo)),
            ("devices", of(Kind::CharacterDevice) + of(Kind::BlockDevice)),
            ("bytes", self.counts.bytes),
        ];
        let inventory = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        let (warnings, notes) = (self.warnings, self.notes);
        Ok(Outcome { inventory, digest: self.hasher.finalize(), entries, warnings, notes })
    }

    pub fn leave_out(&mut self, path: &[u8], facts: &Facts, error: Errno) {
        // A further name of it becomes the first.
        if self.links.get(&(facts.device, facts.inode)).is_some_and(|first| first == path) {
            self.links.remove(&(facts.device, facts.inode));
        }
        self.warn_left_out(path, error);
    }

    pub fn warn_left_out(&mut self, path: &[u8], error: Errno) {
        let path = display(path);
        self.warn(match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                format!("{path} vanished while the volume was read; it is left out")
            }
            Errno::ACCESS | Errno::PERM => format!("permission denied: {path} cannot be read and is left out"),
            error => format!("cannot read {path}: {}; it is left out", std::io::Error::from(error)),
        });
    }

    pub fn note(&mut self, path: &[u8], why: &str) {
        if self.notes.len() < WARNINGS {
            self.notes.push(format!("{} is not stored: {why}", display(path)));
        }
    }

    fn warn(&mut self, text: String) {
        if self.warnings.len() < WARNINGS {
            self.warnings.push(text);
        } else {
            self.unlisted_warnings += 1;
        }
    }
}

/// A file's entry but for its hash and header, and its attributes.
fn describe(path: &[u8], file: &OwnedFd, facts: &Facts) -> std::result::Result<(Entry, Xattrs), Errno> {
    let xattrs = content::xattrs_of(file)?;
    let mut entry = entry_of(path, facts, &xattrs);
    entry.size = facts.size;
    if facts.allocated < facts.size {
        entry.sparse = sparse::map(file.as_fd(), facts.size);
    }
    entry.stored = match &entry.sparse[..] {
        [] => facts.size,
        extents => sparse::encode_map(extents).len() as u64 + sparse::data_length(extents),
    };
    Ok((entry, xattrs))
}

fn entry_of(path: &[u8], facts: &Facts, xattrs: &Xattrs) -> Entry {
    Entry {
        path: path.to_vec(),
        mode: facts.mode,
        uid: facts.uid,
        gid: facts.gid,
        mtime: facts.mtime,
        device: facts.own_device,
        xattrs: xattrs_digest(xattrs),
        ..Entry::default()
    }
}

/// What the file is now, if it is not what it was.
fn look_again(file: &OwnedFd, before: &Facts) -> std::result::Result<Option<Facts>, Errno> {
    let now = Facts::from(&rustix::fs::fstat(file)?);
    if now.kind != Some(Kind::File) {
        return Err(Errno::NOENT);
    }
    let of = |facts: &Facts| (facts.device, facts.inode, facts.size, facts.mtime, facts.ctime);
    Ok((of(&now) != of(before)).then_some(now))
}

/// Counts the bytes of a big file while they go by.
struct Counted<'a, 'b>(&'a mut content::Stored<'b>, &'a event::Meter);

impl Read for Counted<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.add(read as u64, 0);
        Ok(read)
    }
}

/// Fails when what was read is not the whole tree.
pub fn require_whole(outcome: &Outcome, location: &str) -> Result<()> {
    match outcome.warnings.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(FailureKind::Verification, format!("{location} cannot be compared: {first}"))),
    }
}
