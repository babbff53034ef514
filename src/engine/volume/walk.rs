//! Walks a tree in the order of the tar stream: a directory, then its content by the bytes of the names.
//!
//! Nothing is read but names and status; no link is followed. What cannot be walked is told to the visitor, and the walk goes on.
//! Memory: the names of the directories on the way down.

use super::beneath::{self, Beneath};
use super::entry::{Kind, Time, split};
use crate::durable::TEMPORARY_PREFIX;
use crate::error::{Context, Failure, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What restores leave behind when they are killed; never part of a volume.
pub const STAGING_PREFIX: &str = ".bkp-restore-";
pub const ASIDE_PREFIX: &str = ".bkp-old-";

/// What `stat` says of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `None`: a socket, or something unknown.
    pub kind: Option<Kind>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    pub inode: u64,
    pub device: u64,
    pub links: u64,
    /// Number of the device that this is, not of the one it is on.
    pub own_device: (u32, u32),
    /// Bytes that are allocated; less than `size` when there are holes.
    pub allocated: u64,
}

impl From<&Stat> for Facts {
    // The widths of these fields differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    fn from(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(Kind::File),
            FileType::Directory => Some(Kind::Directory),
            FileType::Symlink => Some(Kind::Symlink),
            FileType::Fifo => Some(Kind::Fifo),
            FileType::CharacterDevice => Some(Kind::CharacterDevice),
            FileType::BlockDevice => Some(Kind::BlockDevice),
            _ => None,
        };
        let is_device = matches!(kind, Some(Kind::CharacterDevice | Kind::BlockDevice));
        let own_device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Facts {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            links: stat.st_nlink as u64,
            own_device: if is_device { own_device } else { (0, 0) },
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        }
    }
}

/// Where an entry is: its path, and how to reach it without the path.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub path: &'a [u8],
    pub directory: BorrowedFd<'a>,
    pub name: &'a CStr,
}

pub trait Visitor {
    fn entry(&mut self, place: &Place<'_>, facts: &Facts) -> Result<()>;
    /// Something is left out and the user must know.
    fn problem(&mut self, path: &[u8], error: Errno);
    /// Something is left out, and that is as it should be.
    fn passed_over(&mut self, path: &[u8], why: &'static str);
}

/// Which entries belong to the volume.
#[derive(Debug)]
pub struct Rules {
    include: Option<GlobSet>,
    exclude: GlobSet,
    one_file_system: bool,
    /// Device and inode of directories that are never part of it.
    apart: Vec<(u64, u64)>,
}

impl Rules {
    pub fn new(include: &[String], exclude: &[String], one_file_system: bool) -> Result<Self> {
        let include = if include.is_empty() { None } else { Some(globs(include)?) };
        Ok(Rules { include, exclude: globs(exclude)?, one_file_system, apart: Vec::new() })
    }

    /// Whether what is at `path`, relative to the root, is part of the volume by its patterns.
    pub fn take(&self, path: &Path) -> bool {
        let fits = |globs: &GlobSet| path.ancestors().any(|above| matches(globs, above.as_os_str().as_bytes()));
        !fits(&self.exclude) && self.include.as_ref().is_none_or(fits)
    }

    pub fn without(mut self, apart: impl Iterator<Item = (u64, u64)>) -> Self {
        self.apart.extend(apart);
        self
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = || format!("`{pattern}` is not a pattern");
        let inner = pattern.trim_end_matches('/');
        // Without a slash a pattern means a name, wherever it is.
        let glob = if inner.contains('/') { inner.trim_start_matches('/').to_owned() } else { format!("**/{inner}") };
        let built = GlobBuilder::new(&glob).literal_separator(true).build();
        set.add(
            built.map_err(|e| Failure::usage(bad()).because(e).hint("Write it as in .gitignore: *.tmp, cache/**"))?,
        );
    }
    set.build().map_err(|e| Failure::usage("the patterns are too many or too long").because(e))
}

fn matches(globs: &GlobSet, path: &[u8]) -> bool {
    !globs.is_empty() && globs.is_match(Path::new(OsStr::from_bytes(path)))
}

/// One directory on the way down.
struct Level {
    names: Names,
    next: usize,
    /// Length of the directory's path.
    path: usize,
    facts: Facts,
    /// The visitor has seen it.
    shown: bool,
    /// Everything in it is included, because it was.
    whole: bool,
}

/// Walks everything beneath `root`.
pub fn walk(root: OwnedFd, rules: &Rules, visitor: &mut dyn Visitor) -> Result<()> {
    let stat = rustix::fs::fstat(&root).context(|| "cannot look at the root of the volume".into())?;
    let names = Names::of(&root).context(|| "cannot list the root of the volume".into())?;
    let mut walk = Walk {
        rules,
        device: Facts::from(&stat).device,
        beneath: Beneath::new(root),
        path: Vec::new(),
        levels: Vec::new(),
    };
    let whole = rules.include.is_none();
    walk.levels.push(Level { names, next: 0, path: 0, facts: Facts::from(&stat), shown: false, whole });
    walk.show_directories(visitor)?;
    while walk.step(visitor)? {}
    Ok(())
}

struct Walk<'a> {
    rules: &'a Rules,
    device: u64,
    beneath: Beneath,
    path: Vec<u8>,
    levels: Vec<Level>,
}

impl Walk<'_> {
    /// Deals with the next name. `false` at the end.
    fn step(&mut self, visitor: &mut dyn Visitor) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        self.path.truncate(level.path);
        if level.next == level.names.len() {
            self.levels.pop();
            return Ok(true);
        }
        let (at, whole) = (level.next, level.whole);
        level.next += 1;
        let name = level.names.get(at);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
        if is_leftover(name.to_bytes()) {
            visitor.passed_over(&self.path, "left by an interrupted restore");
            return Ok(true);
        }
        if matches(&self.rules.exclude, &self.path) {
            return Ok(true);
        }
        let directory = &self.path[..level.path];
        let facts = match self.beneath.directory(directory).and_then(|above| beneath::stat(above, name)) {
            Ok(stat) => Facts::from(&stat),
            Err(error) => {
                visitor.problem(&self.path, error);
                return Ok(true);
            }
        };
        let included = whole || self.rules.include.as_ref().is_some_and(|globs| matches(globs, &self.path));
        self.visit(facts, included, visitor)?;
        Ok(true)
    }

    /// Shows the entry at `self.path` and goes into it if it is a directory.
    fn visit(&mut self, facts: Facts, included: bool, visitor: &mut dyn Visitor) -> Result<()> {
        let is_directory = facts.kind == Some(Kind::Directory);
        let elsewhere = self.rules.one_file_system && facts.device != self.device;
        if !included && !is_directory {
            return Ok(());
        }
        if is_directory && self.rules.apart.contains(&(facts.device, facts.inode)) {
            visitor.passed_over(&self.path, "the repository, or a directory of bkp itself");
            return Ok(());
        }
        if facts.kind.is_none() {
            visitor.passed_over(&self.path, "a socket");
            return Ok(());
        }
        if elsewhere {
            visitor.passed_over(
                &self.path,
                if is_directory { "what is in it is on another file system" } else { "on another file system" },
            );
            if !is_directory {
                return Ok(());
            }
        }
        let names = if is_directory && !elsewhere { self.list() } else { Ok(Names::default()) };
        // A directory is shown when it, or something in it, is included; never twice.
        let level =
            Level { names: Names::default(), next: 0, path: self.path.len(), facts, shown: false, whole: included };
        self.levels.push(level);
        if included {
            self.show_directories(visitor)?;
        }
        match names {
            Ok(names) if is_directory => {
                self.levels.last_mut().expect("it was pushed above").names = names;
            }
            Ok(_) => drop(self.levels.pop()),
            Err(error) => {
                self.levels.pop();
                visitor.problem(&self.path, error);
            }
        }
        Ok(())
    }

    fn list(&mut self) -> rustix::io::Result<Names> {
        let (above, name) = split(&self.path);
        let directory = beneath::open(self.beneath.directory(above)?, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Names::of(&directory)
    }

    /// Shows the levels that the visitor has not seen, the outermost first.
    fn show_directories(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let first = self.levels.iter().rposition(|level| level.shown).map_or(0, |seen| seen + 1);
        for level in &mut self.levels[first..] {
            let path = &self.path[..level.path];
            let (above, name) = split(path);
            let name =
                CString::new(if name.is_empty() { b"." } else { name }).expect("the kernel gave it without a zero");
            level.shown = true;
            match self.beneath.directory(above) {
                Ok(directory) => visitor.entry(&Place { path, directory, name: &name }, &level.facts)?,
                Err(error) => visitor.problem(path, error),
            }
        }
        Ok(())
    }
}

fn is_leftover(name: &[u8]) -> bool {
    name.starts_with(b".bkp-")
        && [STAGING_PREFIX, ASIDE_PREFIX, TEMPORARY_PREFIX].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// The names in a directory, sorted, in one piece of memory.
#[derive(Debug, Default)]
pub struct Names {
    text: Vec<u8>,
    spans: Vec<(usize, u16)>,
}

impl Names {
    pub fn of(directory: &OwnedFd) -> rustix::io::Result<Self> {
        let mut names = Names::default();
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            names.spans.push((names.text.len(), name.len() as u16));
            names.text.extend_from_slice(name);
        }
        let text = &names.text;
        names.spans.sort_unstable_by(|one, other| span(text, *one).cmp(span(text, *other)));
        Ok(names)
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn get(&self, index: usize) -> &CStr {
        CStr::from_bytes_with_nul(span(&self.text, self.spans[index])).expect("names are stored with their zero")
    }
}

fn span(text: &[u8], (begin, length): (usize, u16)) -> &[u8] {
    &text[begin..begin + usize::from(length)]
}
