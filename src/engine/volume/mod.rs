//! Volumes: directory trees, as a pax tar stream in groups with a catalogue (`docs/FORMAT.md` §7), and back.
//!
//! A dump reads only what changed since the last one and leaves a file out rather than fail; what it leaves out is a warning.
//! A load builds the tree beside its target and moves it there last. Neither follows a symbolic link of the volume.
//! This engine does not make a volume stand still: pause or stop what writes into it.

use crate::clock;
use crate::engine::{
    DumpRun, Dumped, Engine, Fingerprint, FingerprintPart, Leftover, LoadRun, Loaded, Origin, Sink, Target, TreeSink,
    leftovers,
};
use crate::error::{Context, Failure, Kind, Result};
use crate::event::{self, Cancel};
use crate::exec::docker::{self, Docker, Quiet, WritingContainer};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod acl;
mod beneath;
mod catalogue;
mod content;
mod dump;
mod entry;
mod group;
mod header;
mod live_database;
mod load;
mod memory;
mod named;
mod rehearsal;
mod sparse;
mod store;
mod walk;

pub use rehearsal::Rehearsal;
pub use walk::{ASIDE_PREFIX, STAGING_PREFIX};

/// How the digest of a tree is made.
pub const METHOD: &str = "tree-1: BLAKE3 over path, kind, link, mode, owner, device, size, mtime, content hash and xattrs hash of each entry, in order";

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The directory; for a named volume, where Docker keeps it unless Docker says otherwise.
    pub path: PathBuf,
    /// Name of the Docker volume.
    pub name: Option<String>,
    /// Keep the containers that write into it still during a dump.
    pub quiesce: Option<Quiet>,
    /// Patterns of what belongs to the volume; none: everything. They are relative to it; one without a slash fits at any depth.
    pub include: Vec<String>,
    /// Patterns of what does not; a directory is left out with all that is in it.
    pub exclude: Vec<String>,
    /// Stop at mount points.
    pub one_file_system: bool,
    /// Read everything in every run, for file systems whose times cannot be trusted.
    pub read_all: bool,
    /// Directories that are never part of it, wherever they are: the repository, and those of bkp itself.
    pub apart: Vec<PathBuf>,
}

impl Settings {
    /// Everything beneath `path`.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Settings {
            path,
            name: None,
            quiesce: None,
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: true,
            read_all: false,
            apart: Vec::new(),
        }
    }

    /// The same at the place where Docker has the volume.
    pub fn located(&self) -> Result<Self> {
        let found = self.name.as_deref().map(docker::find_volume).transpose()?;
        let path = found.map(|volume| volume.place()).transpose()?.unwrap_or_else(|| self.path.clone());
        Ok(Settings { path, ..self.clone() })
    }

    /// Whether what is at `path`, relative to the volume, belongs to it by its patterns.
    pub fn takes(&self, path: &Path) -> bool {
        self.rules().is_ok_and(|rules| rules.take(path))
    }

    /// Whether there may be something in the volume that no backup has.
    fn leaves_out(&self) -> bool {
        !self.include.is_empty() || !self.exclude.is_empty()
    }

    fn rules(&self) -> Result<walk::Rules> {
        let rules = walk::Rules::new(&self.include, &self.exclude, self.one_file_system)?;
        Ok(rules.without(self.apart.iter().filter_map(|path| identity(path))))
    }

    /// A directory of `apart` that is the volume, or is in it. By device and inode, for paths may lead through links.
    fn apart_within(&self) -> Option<&PathBuf> {
        let volume = identity(&self.path)?;
        self.apart.iter().find(|path| {
            let real = path.canonicalize().ok();
            real.is_some_and(|real| real.ancestors().any(|above| identity(above) == Some(volume)))
        })
    }

    /// The one place where a symbolic link may lead: to the volume itself.
    fn open(&self) -> Result<OwnedFd> {
        let path = self.path.display();
        rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
            let failure = Failure::from_io(e.into(), || format!("cannot open the volume {path}"));
            match e {
                rustix::io::Errno::NOENT => failure.hint("Look whether it is mounted, and whether the path is right"),
                rustix::io::Errno::NOTDIR => failure.hint("A volume is a directory; give the one the file is in"),
                rustix::io::Errno::ACCESS => failure.hint("Run bkp as root, or as the owner of the volume"),
                _ => failure,
            }
        })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[derive(Debug)]
pub struct Volume {
    settings: Settings,
}

impl Volume {
    pub fn new(settings: Settings) -> Self {
        Volume { settings }
    }
}

impl Engine for Volume {
    fn kind(&self) -> &'static str {
        "volume"
    }

    fn location(&self) -> String {
        let path = self.settings.located().map_or_else(|_| self.settings.path.clone(), |settings| settings.path);
        path.display().to_string()
    }

    fn leftovers(&self, _: &Cancel) -> Result<Vec<Leftover>> {
        let path = self.settings.located().map_or_else(|_| self.settings.path.clone(), |settings| settings.path);
        Ok(leftovers::beside(&path.canonicalize().unwrap_or(path)))
    }

    fn writers(&self) -> Result<Vec<WritingContainer>> {
        // Somebody is to stand still: then there must be an engine.
        let docker = if self.settings.quiesce.is_some() { Some(Docker::connect()?) } else { Docker::if_there()? };
        let Some(docker) = docker else { return Ok(Vec::new()) };
        docker.writers_of(&self.settings.located()?.path, self.settings.name.as_deref())
    }

    fn must_be_at_rest(&self) -> Result<()> {
        let (path, rules) = (self.settings.located()?.path, self.settings.rules()?);
        let Some(live) = live_database::at_work(&path, self.settings.name.as_deref(), &rules) else { return Ok(()) };
        let text = format!("{} is the data of {}, which works on it", live.directory.display(), live.server);
        Err(Failure::new(Kind::Refused, format!("{text}: a copy of its files would be worth nothing"))
            .hint("Back it up as a server (bkp discover shows how), or say `quiesce: stop` or `quiesce: pause`, which needs a container of this Docker that has it mounted"))
    }

    fn quiesce(&self) -> Option<Quiet> {
        self.settings.quiesce
    }

    fn preflight(&self) -> Result<()> {
        self.settings.rules()?;
        let settings = self.settings.located()?;
        let root = settings.open()?;
        let is_itself = |path: &PathBuf| identity(path).is_some_and(|i| Some(i) == identity(&settings.path));
        if settings.apart.iter().any(is_itself) {
            return Err(Failure::usage(format!("{} is the repository, or a directory of bkp itself", self.location()))
                .hint("Back up what is to be protected; copy the repository with the tools of its store"));
        }
        if settings.quiesce.is_none() {
            self.must_be_at_rest()?;
        }
        walk::Names::of(&root).context(|| format!("cannot list the volume {}", self.location()))?;
        // Attributes of links and devices are reached through it.
        if !Path::new("/proc/self/fd").is_dir() {
            return Err(Failure::failed("/proc is not mounted").hint("Mount it: mount -t proc proc /proc"));
        }
        Ok(())
    }

    fn dump(&self, sink: &mut dyn Sink, run: &DumpRun<'_>) -> Result<Dumped> {
        let settings = self.settings.located()?;
        let make = self.settings.name.as_deref().map(docker::find_volume).transpose()?;
        let make = make.map(named::Make::from);
        let root = settings.open()?;
        let (now, stamped) = (clock::now(), clock::of_files());
        let memory = match &run.memory {
            Some(path) if !run.reread && !self.settings.read_all => memory::Reader::open(path),
            _ => None,
        };
        let stamped = (stamped.as_second(), stamped.subsec_nanosecond().unsigned_abs());
        let next = memory::Writer::create(&run.next_memory, stamped)?;
        let outcome = dump_tree(&settings, root, sink.tree()?, run.context, (memory, Some(next)))?;
        Ok(Dumped {
            position: None,
            details: make.map_or(serde_json::Value::Null, |make| serde_json::json!({ "volume": make })),
            version: format!("bkp {}", env!("CARGO_PKG_VERSION")),
            consistent_at: now,
            fingerprint: fingerprint_of(&outcome),
            inventory: outcome.inventory,
            warnings: outcome.warnings,
            notes: outcome.notes,
            restore_hint: "tar --extract --xattrs --xattrs-include='*' --acls --numeric-owner --same-permissions \
                           --directory=NEW-DIRECTORY --file=TREE.tar (as root, to get the owners back)"
                .to_owned(),
        })
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        let located = || self.settings.located();
        let inside = if let Target::Live(_) = target { located()?.apart_within().cloned() } else { None };
        if let Some(inside) = inside {
            let text = format!("{} is in {}, and would be replaced with it", inside.display(), self.location());
            return Err(Failure::new(Kind::Refused, text)
                .hint("Restore to a new place with --to and move what you need; nothing was changed"));
        }
        let copy = run.copy.filter(|_| !self.settings.leaves_out());
        let run = LoadRun { part: run.part.clone(), copy, ..*run };
        match target {
            Target::NewVolume(name) => named::into_new(&self.settings, origin, name, &run),
            Target::Live(_) => load::load(&located()?.path, origin, target, &run),
            _ => load::load(&self.settings.path, origin, target, &run),
        }
    }
}

/// Reads a tree as a dump would and gives its fingerprint; fails when not all of it can be read.
pub fn fingerprint(settings: &Settings, context: event::Context<'_>) -> Result<Fingerprint> {
    let outcome = dump_tree(settings, settings.open()?, &mut Nowhere, context, (None, None))?;
    store::require_whole(&outcome, &settings.path.display().to_string())?;
    Ok(fingerprint_of(&outcome))
}

fn dump_tree(
    settings: &Settings,
    root: OwnedFd,
    sink: &mut dyn TreeSink,
    context: event::Context<'_>,
    (memory, next): (Option<memory::Reader>, Option<memory::Writer>),
) -> Result<store::Outcome> {
    let rules = settings.rules()?;
    let again = root.try_clone().context(|| "cannot keep the volume open".into())?;
    let mut dumper = dump::Dumper::new(again, sink, context, memory, next);
    walk::walk(root, &rules, &mut dumper)?;
    dumper.finish()
}

fn fingerprint_of(outcome: &store::Outcome) -> Fingerprint {
    let part = FingerprintPart { count: outcome.entries, digest: outcome.digest.to_hex().to_string() };
    Fingerprint {
        method: METHOD.to_owned(),
        parts: BTreeMap::from([("tree".to_owned(), part)]),
        ..Fingerprint::default()
    }
}

/// Takes a tree and keeps nothing of it.
struct Nowhere;

impl TreeSink for Nowhere {
    fn group(&mut self, _: &[u8]) -> Result<super::ChunkRange> {
        Ok(0..0)
    }

    fn file(&mut self, length: u64, data: &mut dyn Read) -> Result<super::ChunkRange> {
        let mut buffer = vec![0; 256 << 10];
        let mut left = length;
        while left > 0 {
            let want = buffer.len().min(left as usize);
            data.read_exact(&mut buffer[..want]).context(|| "cannot read the data of a file".into())?;
            left -= want as u64;
        }
        Ok(0..0)
    }

    fn reuse(&mut self, _: super::ChunkRange) -> Result<Option<super::ChunkRange>> {
        Ok(None)
    }

    fn rewind(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn catalogue(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
