//! The files of the journal, `FIRST-SEQ.jsonl`, and reading the end of one.

use super::line::{self, Head};
use crate::error::{Context, Result};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A file of records in sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number of its first record.
    pub first: u64,
    pub path: PathBuf,
}

pub fn path_of(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:016}.jsonl"))
}

/// In sequence; the last one is being written.
pub fn list(directory: &Path) -> Result<Vec<Segment>> {
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(|| format!("cannot list {}", directory.display()))?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.context(|| format!("cannot list {}", directory.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jsonl"));
        if let Some(first) = name.filter(|name| name.len() == 16).and_then(|name| name.parse().ok()) {
            segments.push(Segment { first, path });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// The day (UTC) of its first record, where that can be read.
pub fn day_of(path: &Path) -> Option<String> {
    // The time stands near the beginning of a record.
    let mut beginning = [0; 80];
    File::open(path).and_then(|mut file| file.read_exact(&mut beginning)).ok()?;
    let text = std::str::from_utf8(&beginning).ok()?;
    let (_, at) = text.split_once("\"at\":\"")?;
    at.get(..10).map(str::to_owned)
}

/// How a segment ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Empty,
    /// With a sound record, and this many bytes.
    Sound(Head, u64),
    /// What follows the last sound record (if there is one) is none, from this byte on.
    Torn {
        last: Option<Head>,
        sound_until: u64,
        length: u64,
    },
}

/// A record is seldom longer.
const TAIL: u64 = 64 << 10;

pub fn end_of(path: &Path) -> Result<End> {
    let what = || format!("cannot read {}", path.display());
    let mut file = File::open(path).context(what)?;
    let length = file.metadata().context(what)?.len();
    if length == 0 {
        return Ok(End::Empty);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).context(what)?;
    file.read_to_end(&mut bytes).context(what)?;
    if let Some(rest) = bytes.strip_suffix(b"\n")
        && let Some(at) = rest.iter().rposition(|b| *b == b'\n').map(|at| at + 1).or((length <= TAIL).then_some(0))
        && let Ok(sound) = line::decode(&rest[at..])
    {
        return Ok(End::Sound(sound.head(), length));
    }
    file.rewind().context(what)?;
    bytes.clear();
    file.read_to_end(&mut bytes).context(what)?;
    let (mut at, mut sound_until, mut last) = (0, 0, None);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        if let Some(Ok(sound)) = line.strip_suffix(b"\n").map(line::decode) {
            (last, sound_until) = (Some(sound.head()), at as u64);
        }
    }
    match last {
        Some(head) if sound_until == length => Ok(End::Sound(head, length)),
        last => Ok(End::Torn { last, sound_until, length }),
    }
}
