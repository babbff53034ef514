//! Writing: one process at a time, whole records or none, on the disk before anybody goes on.
//!
//! The lock is held for one batch of records and never while anything else is done. What a killed writer left half-written
//! is kept aside, taken away, and told in a record of its own before the next one is written.

use super::Journal;
use super::line::{self, Head};
use super::record::Fact;
use super::segments::{self, End};
use crate::backoff;
use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use crate::host;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A segment that has grown to this, or was begun on another day (UTC), is sealed by the next record, which begins another. So
/// what happened on a day reaches the repository with the first backup of the next one.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Others write for milliseconds; who holds the lock longer is stopped or hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    pub head: Head,
    /// Bytes of a torn tail that were taken away first.
    pub mended: Option<u64>,
}

/// The right to write, until it is dropped.
pub struct Locked<'a> {
    journal: &'a Journal,
    _lock: File,
}

/// Where the next record goes.
struct Tail {
    head: Head,
    /// The file, and its length; absent: a new one.
    file: Option<(PathBuf, u64)>,
    mended: Option<u64>,
}

impl Journal {
    /// Waits for others that write.
    pub fn lock(&self) -> Result<Locked<'_>> {
        let directory = self.directory();
        durable::create_private_directory(directory).context(|| format!("cannot create {}", directory.display()))?;
        let path = directory.join("lock");
        let lock = durable::open_private(&path, false).context(|| format!("cannot open {}", path.display()))?;
        let mut waited = Duration::ZERO;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Locked { journal: self, _lock: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) if waited < PATIENCE => {
                    let wait = Duration::from_millis(2);
                    backoff::pause(wait, &|| false);
                    waited += wait;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let what = format!("{} has been locked for {} s", path.display(), PATIENCE.as_secs());
                    return Err(Failure::new(Kind::Locked, what)
                        .hint("Look for a process of bkp that was stopped (SIGSTOP) or hangs on that file system"));
                }
                Err(e) => return Err(Failure::from_io(e.into(), || format!("cannot lock {}", path.display()))),
            }
        }
    }

    /// Seals the last segment now, whatever its length: the next record begins another one. Gives the head that it ends with;
    /// nothing where there is no record.
    pub fn seal(&self, now: Timestamp) -> Result<Option<Head>> {
        self.lock()?.seal(now)
    }

    /// Writes these facts, one after the other with nothing of others between them.
    pub fn append(&self, facts: &[Fact], now: Timestamp) -> Result<Appended> {
        self.lock()?.append(facts, now)
    }
}

impl Locked<'_> {
    pub fn append(&mut self, facts: &[Fact], now: Timestamp) -> Result<Appended> {
        let tail = self.tail()?;
        let mut facts = facts.to_vec();
        if let Some(bytes) = tail.mended {
            facts.insert(0, Fact::TailMended { bytes });
        }
        if tail.head.seq == 0 {
            facts.insert(0, Fact::JournalBegun { journal: durable::random_hex(8), host: host::name() });
        }
        let mut text = String::new();
        let mut head = tail.head.clone();
        for fact in &facts {
            let (line, next) = line::encode(&head, now, fact)?;
            text.push_str(&line);
            head = next;
        }
        durable::crash_point("journal:before-write");
        let goes_on = |(path, _): &&(PathBuf, u64)| segments::day_of(path).is_none_or(|day| day == day_at(now));
        match tail.file.as_ref().filter(goes_on) {
            Some((path, length)) => write_at(path, *length, text.as_bytes())?,
            None => write_at(&segments::path_of(self.journal.directory(), tail.head.seq + 1), 0, text.as_bytes())?,
        }
        durable::crash_point("journal:written");
        Ok(Appended { head, mended: tail.mended })
    }

    fn seal(&mut self, now: Timestamp) -> Result<Option<Head>> {
        let mut tail = self.tail()?;
        if let Some(bytes) = tail.mended {
            // What was taken away is told within the segment it was in.
            self.append(&[Fact::TailMended { bytes }], now)?;
            tail = self.tail()?;
        }
        if tail.head.seq == 0 {
            return Ok(None);
        }
        let path = segments::path_of(self.journal.directory(), tail.head.seq + 1);
        let what = || format!("cannot begin {}", path.display());
        durable::open_private(&path, false).context(what)?;
        durable::sync_directory(self.journal.directory()).context(what)?;
        Ok(Some(tail.head))
    }

    /// Where the chain stands; mends what a killed writer left.
    fn tail(&self) -> Result<Tail> {
        let mut mended = None;
        for (age, segment) in segments::list(self.journal.directory())?.into_iter().rev().enumerate() {
            let (head, length) = match segments::end_of(&segment.path)? {
                End::Sound(head, length) => (head, length),
                // The one before says where the chain stands.
                End::Empty => continue,
                End::Torn { last, sound_until, length } => {
                    self.mend(&segment.path, sound_until)?;
                    mended = Some(mended.unwrap_or(0) + length - sound_until);
                    match last {
                        Some(head) => (head, sound_until),
                        None => continue,
                    }
                }
            };
            let file = (age == 0 && length < SEGMENT_BYTES).then_some((segment.path, length));
            return Ok(Tail { head, file, mended });
        }
        Ok(Tail { head: Head::none(), file: None, mended })
    }

    /// Keeps a copy of what is cut off, should somebody want to know what it was.
    fn mend(&self, path: &Path, sound_until: u64) -> Result<()> {
        let what = || format!("cannot mend the end of {}", path.display());
        let mut file = OpenOptions::new().read(true).write(true).open(path).context(what)?;
        let mut torn = Vec::new();
        file.seek(SeekFrom::Start(sound_until)).and_then(|_| file.read_to_end(&mut torn)).context(what)?;
        let aside = self.journal.directory().join(format!("torn-{}", durable::random_hex(4)));
        // A full disk must not keep the journal torn.
        let _ = durable::write_new(&aside, &torn, 0o600);
        file.set_len(sound_until).and_then(|()| file.sync_all()).context(what)
    }
}

fn day_at(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d").to_string()
}

/// Whole, or not at all: also when the disk is full.
fn write_at(path: &Path, length: u64, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write to the journal, {}", path.display());
    let mut file = durable::open_private(path, false).context(what)?;
    let half = bytes.len() / 2;
    let written = file
        .seek(SeekFrom::Start(length))
        .and_then(|_| file.write_all(&bytes[..half]))
        .inspect(|()| durable::crash_point("journal:half-written"))
        .and_then(|()| file.write_all(&bytes[half..]))
        .and_then(|()| file.sync_data());
    if written.is_err() {
        let _ = file.set_len(length);
    }
    written.context(what)?;
    if length == 0 {
        durable::sync_directory(durable::parent_of(path)).context(what)?;
    }
    Ok(())
}
