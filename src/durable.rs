//! Changes on disk that a crash cannot leave half-done. The only module that renames files.
//!
//! A new content is written to a temporary file beside its destination, synced, renamed, and the directory is synced:
//! after [`TempFile::commit`] returns, the file survives a power cut; before, the old one is untouched.
//! Also here: the file lock, which is a value ([`Lock`]), and the crash points that tests kill the program at.

use crate::clock;
use crate::error::{Context, Failure, Kind, Result};
use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, RenameFlags};
use rustix::process::{Flock, FlockType};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// A file that has no name yet as far as others are concerned. Dropped without a commit, it is removed.
#[derive(Debug)]
pub struct TempFile {
    file: File,
    path: PathBuf,
    committed: bool,
}

/// Names of temporary files begin with this; listings pass over them.
pub const TEMPORARY_PREFIX: &str = ".bkp-tmp-";

impl TempFile {
    /// Creates a file in `directory`, which must be on the same file system as the destination. `mode` as in chmod.
    pub fn create_in(directory: &Path, mode: u32) -> io::Result<Self> {
        let path = directory.join(format!("{TEMPORARY_PREFIX}{}", random_hex(8)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path)?;
        Ok(TempFile { file, path, committed: false })
    }

    /// The same, by the one name that a temporary file of this destination ever has: what a killed process left goes with it. Only
    /// for a destination that nobody else writes at the same time.
    pub fn create_for(destination: &Path, mode: u32) -> io::Result<Self> {
        let path = Self::left_of(destination);
        remove_if_there(&path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path)?;
        Ok(TempFile { file, path, committed: false })
    }

    /// Where a killed process left what [`TempFile::create_for`] made.
    pub fn left_of(destination: &Path) -> PathBuf {
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        destination.with_file_name(format!("{TEMPORARY_PREFIX}{name}"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the file in place of whatever `destination` was.
    pub fn commit(mut self, destination: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, destination)?;
        self.committed = true;
        sync_directory(parent_of(destination))
    }

    /// Puts the file in place unless something is there: then `AlreadyExists`, and nothing has changed.
    pub fn commit_new(mut self, destination: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, destination, RenameFlags::NOREPLACE) {
            Ok(()) => self.committed = true,
            // File systems without RENAME_NOREPLACE (NFS, some FUSE): a hard link has the same promise.
            Err(rustix::io::Errno::INVAL) => std::fs::hard_link(&self.path, destination)?,
            Err(e) => return Err(e.into()),
        }
        sync_directory(parent_of(destination))
    }
}

impl Write for TempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for TempFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for TempFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file whole or not at all.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = TempFile::create_in(parent_of(path), mode)?;
    file.write_all(bytes)?;
    belongs_to_owner_of(parent_of(path), file.file())?;
    file.commit(path)
}

/// The same, but never over something that is there.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = TempFile::create_in(parent_of(path), mode)?;
    file.write_all(bytes)?;
    belongs_to_owner_of(parent_of(path), file.file())?;
    file.commit_new(path)
}

/// Moves a finished file or directory to a name that must be free. Source and destination share a file system.
pub fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::INVAL) if rustix::fs::statat(CWD, to, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
            std::fs::rename(from, to)?
        }
        Err(e) => return Err(e.into()),
    }
    sync_directory(parent_of(to))
}

/// Moves a finished file over whatever is there.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_directory(parent_of(to))
}

/// Gives a file a second name, which must be free, so that it survives being replaced under its first. It is not opened.
pub fn also_name(file: &Path, second: &Path) -> io::Result<()> {
    std::fs::hard_link(file, second)?;
    sync_directory(parent_of(second))
}

/// Exchanges two names in one step: readers see the old or the new, never neither.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
    sync_directory(parent_of(one))?;
    sync_directory(parent_of(other))
}

pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a directory and its parents, private to the owner of the first that is there already.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(path)?;
    missing.iter().rev().try_for_each(|made| belongs_to_owner_of(parent_of(made), &File::open(made)?))
}

/// What root makes in a directory of somebody else belongs to that one: the daemon, who is not root, shares its directories
/// with commands that root runs, and must not find locks there that it cannot open.
pub fn belongs_to_owner_of(directory: &Path, made: &File) -> io::Result<()> {
    let owner = std::fs::metadata(directory)?;
    if owner.uid() == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::fchown(made, Some(owner.uid()), Some(owner.gid()))
}

/// Opens a file for writing, or makes an empty one that belongs to the owner of its directory. Follows no link at its end: root
/// writes into directories of others.
pub fn open_private(path: &Path, create_new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).create_new(create_new).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    if file.metadata()?.uid() == 0 {
        belongs_to_owner_of(parent_of(path), &file)?;
    }
    Ok(file)
}

pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The directory a path is in; `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Random hexadecimal digits, two for each byte.
pub fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    getrandom::fill(&mut buffer).expect("the kernel gives random bytes");
    hex::encode(buffer)
}

/// Temporary files older than this belong to nobody any more.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes what a killed process left in `directory`. Best effort: what cannot be removed today is in nobody's way.
pub fn remove_stale(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
        let age = entry.metadata().and_then(|m| m.modified()).map(|at| SystemTime::now().duration_since(at));
        if is_ours && matches!(age, Ok(Ok(age)) if age > STALE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// How long a process that was started by a dead one may keep its locks, and who only looks whether somebody has one.
const LET_GO: Duration = Duration::from_secs(3);

/// An exclusive lock, held as long as the value lives; the kernel releases it when the process dies, so it cannot be stale.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock or says who has it. `what` is named in the message: `source app`.
    ///
    /// A full disk keeps nobody from it: who holds it is known to the kernel, and is noted in the file if there is room.
    pub fn take(path: &Path, what: &str) -> Result<Self> {
        let file = Lock::open(path, what, FlockOperation::NonBlockingLockExclusive)?;
        let _ = rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        let note = format!("process {}, since {}", std::process::id(), clock::now().strftime("%Y-%m-%dT%H:%M:%SZ"));
        // As long as the note before, so that it takes no room where there was one.
        if file.write_all_at(format!("{note:<63}\n").as_bytes(), 0).is_err() {
            let _ = file.set_len(0);
        }
        Ok(Lock { _file: file })
    }

    /// Whether another process has it alone. Takes nothing, so that nobody is kept from it by the question.
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return false };
        matches!(rustix::process::fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)), Ok(Some(_)))
    }

    /// Takes the lock together with others who share it: whoever wants it alone must wait for all of them.
    pub fn share(path: &Path, what: &str) -> Result<Self> {
        Ok(Lock { _file: Lock::open(path, what, FlockOperation::NonBlockingLockShared)? })
    }

    fn open(path: &Path, what: &str, operation: FlockOperation) -> Result<File> {
        let file = open_private(path, false).context(|| format!("cannot open the lock file {}", path.display()))?;
        let end = Instant::now() + LET_GO;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                // Its process died while it started another, which lets go as soon as it becomes a program of its own; or
                // somebody looks who has it, which takes a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if Holder::is_dead(&file) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = Holder::of(&file).to_string();
                    let holder = if holder.is_empty() { holder } else { format!(" ({holder})") };
                    return Err(Failure::new(Kind::Locked, format!("{what} is locked by another run{holder}"))
                        .hint("Wait for it to end, or look at that process; the lock goes with it"));
                }
                Err(e) => return Err(Failure::from_io(e.into(), || format!("cannot lock {}", path.display()))),
            }
        }
    }

    /// Takes the lock as soon as nobody has it: for what is held only for moments.
    pub fn wait(path: &Path) -> Result<Self> {
        let what = || format!("cannot lock {}", path.display());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).context(what)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Failure::from_io(e.into(), what)),
                Ok(()) => return Ok(Lock { _file: file }),
            }
        }
    }
}

/// Who holds a lock alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Absent where the kernel does not say, and there was no room to note it.
    pub process: Option<u32>,
    note: String,
}

impl Holder {
    /// The kernel knows of none: locks of this sort are not inherited, as that of the whole file is. It names no own ones.
    fn is_dead(file: &File) -> bool {
        matches!(rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock)), Ok(None))
            && Holder::of(file).process != Some(std::process::id())
    }

    pub fn of(mut file: &File) -> Self {
        let mut note = String::new();
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut note));
        let note = note.trim().to_owned();
        let asked = Flock::from(FlockType::WriteLock);
        let told = rustix::process::fcntl_getlk(file, &asked).ok().flatten().and_then(|lock| lock.pid);
        let told = told.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        let noted = note.strip_prefix("process ").and_then(|rest| rest.split(',').next()?.parse().ok());
        // What somebody noted before, where there was no room for the next.
        let note = if told.is_some() && told != noted { String::new() } else { note };
        Holder { process: told.or(noted), note }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process.filter(|_| self.note.is_empty()) {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str(&self.note),
        }
    }
}

/// Places where `tests/crash.rs` kills the program. After each, a normal run must succeed and `bkp check` be clean.
pub const CRASH_POINTS: &[&str] = &[
    "backup:session-written",
    "backup:pack-stored",
    "backup:checkpoint-written",
    "backup:stream-stored",
    "backup:before-list",
    "backup:index-stored",
    "backup:body-stored",
    "backup:before-point",
    "backup:point-written",
    "backup:before-session-end",
    "copy:prepared",
    "copy:companions-written",
    "copy:object-stored",
    "copy:data-stored",
    "copy:before-point",
    "copy:point-written",
    "prune:tombstone-written",
    "prune:point-forgotten",
    "prune:fenced",
    "prune:dead-listed",
    "prune:marked",
    "prune:object-deleted",
    "restore:target-begun",
    "restore:data-written",
    "restore:before-live",
    "restore:after-live",
    "refill:between-moves",
    "quiesce:recorded",
    "quiesce:still",
    "stack:one-restored",
    "init:repository-written",
    "recipients:changed",
    "recipients:proven",
    "recipients:refused",
    "keys:epoch-written",
    "keys:list-written",
    "keys:recipients-written",
    "journal:before-write",
    "rehearse:target-made",
    "rehearse:loading",
    "rehearse:loaded",
    "rehearse:compared",
    "rehearse:before-teardown",
    "rotate:saved",
    "rotate:recorded",
    "rotate:recorded-anew",
    "rotate:escrowed",
    "rotate:accepted",
    "rotate:tested",
    "rotate:marked",
    "rotate:publishing",
    "rotate:published",
    "rotate:delivered",
    "rotate:reloaded",
    "rotate:moved",
    "rotate:draining",
    "rotate:unused",
    "rotate:retired",
    "rotate:ended",
    "rotate:persisted",
    "rotate:proven",
    "rotate:unescrowed",
    "rotate:closed",
    "rotate:turned-back",
    "rotate:unpublished",
    "rotate:undone",
    "rotate-consumer:written",
    "rotate-consumer:copied",
    "rotate-consumer:marked",
    "rotate-consumer:made",
    "rotate-consumer:ended",
    "rotate-node:accepted",
    "rotate-node:retired",
    "rotate-node:undone",
    "rotate-lease:renewed",
    "rehearse-server:prepared",
    "rehearse-server:started",
    "rehearse-server:ready",
    "rehearse-server:removed",
    "rehearse-application:started",
    "journal:half-written",
    "journal:written",
    "vault-secret-id:made",
    "vault-secret-id:noted",
    "vault-secret-id:proven",
    "vault-secret-id:stored",
    "vault-secret-id:destroyed",
];

/// Kills the process, as a power cut would, when `BKP_CRASH_AT` names this point; as `POINT#N`, the n-th time. With `BKP_STOP_AT`
/// it is stopped, the first time, as a machine that is suspended, until it is told to go on. Absent from release builds.
pub fn crash_point(name: &str) {
    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not in the list of crash points");
    if !cfg!(debug_assertions) {
        return;
    }
    if std::env::var("BKP_STOP_AT").is_ok_and(|wanted| wanted == name) && PASSED.fetch_add(1, Relaxed) == 0 {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        return;
    }
    let Ok(wanted) = std::env::var("BKP_CRASH_AT") else { return };
    let (point, times) = wanted.split_once('#').unwrap_or((&wanted, "1"));
    if point == name && PASSED.fetch_add(1, Relaxed) + 1 >= times.parse().unwrap_or(1) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::sleep(Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        drop(TempFile::create_in(directory.path(), 0o600).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_goes_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, other) = (".bkp-tmp-old", ".bkp-tmp-new", "old");
        for name in [old, new, other] {
            let file = File::create(dir.path().join(name)).unwrap();
            if name != new {
                file.set_modified(SystemTime::now() - STALE * 2).unwrap();
            }
        }
        remove_stale(dir.path());
        assert_eq!([old, new, other].map(|name| dir.path().join(name).exists()), [false, true, true]);
    }

    /// As a process that was killed between making another one and that one's becoming a program.
    #[test]
    fn a_lock_that_only_the_dead_hold_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inherited = open_private(&path, false).unwrap();
        rustix::fs::flock(&inherited, FlockOperation::NonBlockingLockExclusive).unwrap();
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(inherited);
        });
        Lock::take(&path, "this").unwrap();
        letting_go.join().unwrap();
    }

    #[test]
    fn commit_new_leaves_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        write_new(&path, b"first", 0o600).unwrap();
        assert_eq!(write_new(&path, b"second", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_root_makes_in_a_directory_of_another_belongs_to_that_one() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(4711), Some(4712)).unwrap();
        let below = directory.path().join("a/b");
        create_private_directory(&below).unwrap();
        write(&below.join("file"), b"x", 0o600).unwrap();
        let _lock = Lock::take(&below.join("lock"), "source app").unwrap();
        for made in ["a", "a/b", "a/b/file", "a/b/lock"] {
            let metadata = std::fs::metadata(directory.path().join(made)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712), "{made}");
        }
        std::os::unix::fs::symlink("/dev/null", below.join("trap")).unwrap();
        assert!(Lock::take(&below.join("trap"), "source trap").is_err(), "a link may lead anywhere");
    }

    #[test]
    fn a_lock_names_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l");
        let held = Lock::take(&path, "source app").unwrap();
        let refused = Lock::take(&path, "source app").unwrap_err();
        assert_eq!(refused.kind(), Kind::Locked);
        assert!(refused.to_string().contains(&format!("process {}, since ", std::process::id())));
        drop(held);
        Lock::take(&path, "source app").unwrap();
    }
}
