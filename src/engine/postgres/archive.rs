//! Archives in the custom format of `pg_dump -Fc`, walked from the first byte to the last while they stream past.
//!
//! A list of contents stands at the beginning; the data of its entries follow, each in a block of its own. Whole is what
//! has every announced block, each with its terminator, and ends right after one of them: `pg_restore -l` looks at none
//! of that. Known are versions 1.12 to 1.16 (PostgreSQL 9.0 to 18); data must not be compressed for rows to be counted.
//! Keeps the list in memory, the data never.

use crate::error::{Failure, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read};

const MAGIC: &[u8] = b"PGDMP";
const CUSTOM: u8 = 1;
/// What `pg_dump` writes after the rows of a table.
const END_OF_ROWS: &[u8] = b"\\.\n\n\n";
/// No entry is longer; a longer one means that the reading went astray.
const LONGEST: usize = 1 << 30;

/// One thing in the archive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub id: i64,
    /// Its identity in the source's catalogue, as in `pg_class`.
    pub oid: u32,
    pub tag: String,
    /// `TABLE`, `TABLE DATA`, `FK CONSTRAINT` ….
    pub kind: String,
    pub schema: String,
    pub owner: String,
    pub definition: String,
    pub depends_on: Vec<i64>,
    pub has_data: bool,
}

/// What the block of an entry held.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Block {
    pub bytes: u64,
    /// Of a table; absent where the block does not end as rows do.
    pub rows: Option<u64>,
    pub large_objects: u64,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Contents {
    /// As `1.14`.
    pub version: String,
    pub bytes: u64,
    pub entries: Vec<Entry>,
    pub blocks: BTreeMap<i64, Block>,
    /// The version is newer than what is known here, so nothing of it was looked at.
    pub unknown: bool,
}

impl Contents {
    /// How many entries there are of each kind.
    pub fn kinds(&self) -> BTreeMap<&str, u64> {
        let mut kinds = BTreeMap::new();
        for entry in &self.entries {
            *kinds.entry(entry.kind.as_str()).or_default() += 1;
        }
        kinds
    }

    pub fn large_objects(&self) -> u64 {
        self.blocks.values().map(|block| block.large_objects).sum()
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Entries(i64),
    Block,
    /// Before the length of the next piece of the block of this entry.
    Piece {
        id: i64,
        large_object: bool,
    },
    Data {
        id: i64,
        large_object: bool,
        left: u64,
    },
    /// Before the number of the next large object.
    LargeObject {
        id: i64,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    minor: u8,
    integer: usize,
    offset: usize,
}

/// Takes the archive in pieces of any size.
#[derive(Debug)]
pub struct Walker {
    state: State,
    head: Head,
    pending: Vec<u8>,
    contents: Contents,
    /// Entries whose data are still to come.
    announced: BTreeSet<i64>,
    /// The last bytes of the block that is being read, and its newlines.
    tail: Vec<u8>,
    newlines: u64,
    block: Block,
}

impl Default for Walker {
    fn default() -> Self {
        Walker {
            state: State::Head,
            head: Head::default(),
            pending: Vec::new(),
            contents: Contents::default(),
            tail: Vec::new(),
            newlines: 0,
            block: Block::default(),
            announced: BTreeSet::new(),
        }
    }
}

impl Walker {
    /// Whether the list of contents was read.
    pub fn listed(&self) -> bool {
        !matches!(self.state, State::Head | State::Entries(_))
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.contents.bytes += bytes.len() as u64;
        while !self.contents.unknown {
            if let State::Data { id, large_object, left } = self.state {
                if bytes.is_empty() {
                    return Ok(());
                }
                bytes = &bytes[self.data(bytes, id, large_object, left)..];
            } else if self.pending.is_empty() {
                let Some(used) = self.advance(bytes)? else {
                    self.pending = bytes.to_vec();
                    return Ok(());
                };
                bytes = &bytes[used..];
            } else {
                bytes = match self.complete(bytes)? {
                    Some(rest) => rest,
                    None => return Ok(()),
                };
            }
        }
        Ok(())
    }

    /// Reads one unit and says how long it was; `None` when `bytes` is too short for it.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut input = Input { bytes, at: 0, head: self.head };
        let Some(state) = self.unit(&mut input)? else { return Ok(None) };
        self.head = input.head;
        self.state = state;
        Ok(Some(input.at))
    }

    /// Reads the unit that began in an earlier piece, and gives what comes after it; `None` when it goes on.
    fn complete<'b>(&mut self, mut bytes: &'b [u8]) -> Result<Option<&'b [u8]>> {
        let mut pending = std::mem::take(&mut self.pending);
        while !bytes.is_empty() {
            let before = pending.len();
            let some = bytes.len().min(if self.listed() { 64 } else { 64 << 10 });
            pending.extend_from_slice(&bytes[..some]);
            if let Some(used) = self.advance(&pending)? {
                return Ok(Some(&bytes[used - before..]));
            }
            bytes = &bytes[some..];
        }
        if pending.len() > LONGEST {
            return Err(damaged("an entry has no end"));
        }
        self.pending = pending;
        Ok(None)
    }

    /// The archive has ended here.
    pub fn finish(mut self) -> Result<Contents> {
        if self.contents.unknown {
            return Ok(self.contents);
        }
        if !matches!(self.state, State::Block) || !self.pending.is_empty() {
            return Err(damaged("it ends in the middle"));
        }
        if let Some(missing) = self.announced.first() {
            let name = self.contents.entries.iter().find(|e| e.id == *missing).map(|e| e.tag.clone());
            return Err(damaged(&format!("the data of {} are missing", name.unwrap_or_default())));
        }
        self.contents.version = format!("1.{}", self.head.minor);
        Ok(self.contents)
    }

    /// Takes what belongs to the block and says how much that was.
    fn data(&mut self, bytes: &[u8], id: i64, large_object: bool, left: u64) -> usize {
        let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let data = &bytes[..length];
        self.block.bytes += length as u64;
        if !large_object {
            self.newlines += data.iter().filter(|byte| **byte == b'\n').count() as u64;
            let last = &data[data.len().saturating_sub(END_OF_ROWS.len())..];
            self.tail.extend_from_slice(last);
            self.tail.drain(..self.tail.len().saturating_sub(END_OF_ROWS.len()));
        }
        self.state = match left - length as u64 {
            0 => State::Piece { id, large_object },
            left => State::Data { id, large_object, left },
        };
        length
    }

    /// Reads one unit; `None` when more bytes are needed for it.
    fn unit(&mut self, input: &mut Input<'_>) -> Result<Option<State>> {
        match self.state {
            State::Head => self.read_head(input),
            State::Entries(0) => Ok(Some(State::Block)),
            State::Entries(left) => match input.entry()? {
                Some(entry) => {
                    if entry.has_data {
                        self.announced.insert(entry.id);
                    }
                    self.contents.entries.push(entry);
                    Ok(Some(if left == 1 { State::Block } else { State::Entries(left - 1) }))
                }
                None => Ok(None),
            },
            State::Block => self.read_block(input),
            State::LargeObject { id } => match input.integer()? {
                Some(0) => Ok(Some(self.close(id))),
                Some(_) => {
                    self.block.large_objects += 1;
                    Ok(Some(State::Piece { id, large_object: true }))
                }
                None => Ok(None),
            },
            State::Piece { id, large_object } => match input.integer()? {
                Some(0) if large_object => Ok(Some(State::LargeObject { id })),
                Some(0) => Ok(Some(self.close(id))),
                Some(left) if left > 0 => Ok(Some(State::Data { id, large_object, left: left.unsigned_abs() })),
                Some(_) => Err(damaged("a piece has a negative length")),
                None => Ok(None),
            },
            State::Data { .. } => Ok(None),
        }
    }

    fn close(&mut self, id: i64) -> State {
        let block = std::mem::take(&mut self.block);
        let rows = (self.tail == END_OF_ROWS).then(|| self.newlines.saturating_sub(3));
        self.contents.blocks.insert(id, Block { rows, ..block });
        self.tail.clear();
        self.newlines = 0;
        State::Block
    }

    fn read_block(&mut self, input: &mut Input<'_>) -> Result<Option<State>> {
        let (Some(kind), Some(id)) = (input.byte(), input.integer()?) else { return Ok(None) };
        match kind {
            1 | 3 if !self.announced.remove(&id) => Err(damaged("a block belongs to no entry")),
            1 => Ok(Some(State::Piece { id, large_object: false })),
            3 => Ok(Some(State::LargeObject { id })),
            _ => Err(damaged("a block is of an unknown kind")),
        }
    }

    fn read_head(&mut self, input: &mut Input<'_>) -> Result<Option<State>> {
        let Some(fixed) = input.take(11) else { return Ok(None) };
        if !fixed.starts_with(MAGIC) {
            return Err(damaged("it does not begin as an archive does"));
        }
        let [major, minor, _, integer, offset, format] = [5, 6, 7, 8, 9, 10].map(|at| fixed[at]);
        input.head = Head { minor, integer: integer.into(), offset: offset.into() };
        if (major, minor) > (1, 16) {
            self.contents.unknown = true;
            self.contents.version = format!("{major}.{minor}");
            return Ok(Some(State::Head));
        }
        if major != 1 || minor < 12 || format != CUSTOM || !(1..=8).contains(&integer) || offset > 16 {
            return Err(damaged("it is of a version or format that pg_dump -Fc does not write"));
        }
        let compression = if minor >= 15 { input.byte().map(i64::from) } else { input.integer()? };
        let Some(_) = compression else { return Ok(None) };
        for _ in 0..7 {
            let Some(_) = input.integer()? else { return Ok(None) }; // when it was made
        }
        for _ in 0..3 {
            let Some(_) = input.text()? else { return Ok(None) }; // the name of the database, and two versions
        }
        match input.integer()? {
            Some(count) if count >= 0 => Ok(Some(State::Entries(count))),
            Some(_) => Err(damaged("it has a negative number of entries")),
            None => Ok(None),
        }
    }
}

/// Bytes that may end too early for what is wanted, which gives `None`.
struct Input<'b> {
    bytes: &'b [u8],
    at: usize,
    head: Head,
}

impl<'b> Input<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A byte for the sign, then the number with its lowest byte first.
    fn integer(&mut self) -> Result<Option<i64>> {
        let length = self.head.integer;
        let Some(bytes) = self.take(length + 1) else { return Ok(None) };
        let value = bytes[1..].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let value = i64::try_from(value).map_err(|_| damaged("a number is too large"))?;
        Ok(Some(if bytes[0] == 0 { value } else { -value }))
    }

    /// The outer `None`: not all of it is there yet; the inner one: a text that is absent.
    fn text(&mut self) -> Result<Option<Option<String>>> {
        match self.integer()? {
            None => Ok(None),
            Some(length) if length < 0 => Ok(Some(None)),
            Some(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
                let length = length.ok_or_else(|| damaged("a text is too long"))?;
                Ok(self.take(length).map(|bytes| Some(String::from_utf8_lossy(bytes).into_owned())))
            }
        }
    }

    fn entry(&mut self) -> Result<Option<Entry>> {
        let minor = self.head.minor;
        let mut texts = Vec::new();
        let (Some(id), Some(has_data)) = (self.integer()?, self.integer()?) else { return Ok(None) };
        // Table of the catalogue, oid, tag, kind; a section between; definition, drop, copy, schema, tablespace.
        for at in 0..9 {
            if at == 4 && self.integer()?.is_none() {
                return Ok(None);
            }
            let Some(text) = self.text()? else { return Ok(None) };
            texts.push(text.unwrap_or_default());
        }
        if minor >= 14 && self.text()?.is_none() {
            return Ok(None);
        }
        if minor >= 16 && self.integer()?.is_none() {
            return Ok(None);
        }
        let (Some(owner), Some(_)) = (self.text()?, self.text()?) else { return Ok(None) };
        let mut depends_on = Vec::new();
        loop {
            match self.text()? {
                None => return Ok(None),
                Some(None) => break,
                Some(Some(number)) => {
                    depends_on.push(number.parse().map_err(|_| damaged("a dependency is no number"))?);
                }
            }
        }
        let offset = self.head.offset;
        let Some(_) = self.take(1 + offset) else { return Ok(None) };
        let mut text = |at: usize| std::mem::take(&mut texts[at]);
        let oid = text(1).parse().map_err(|_| damaged("an identity is no number"))?;
        let (tag, kind, definition, schema) = (text(2), text(3), text(4), text(7));
        let owner = owner.unwrap_or_default();
        Ok(Some(Entry { id, oid, tag, kind, schema, owner, definition, depends_on, has_data: has_data != 0 }))
    }
}

fn damaged(how: &str) -> Failure {
    Failure::new(Kind::Verification, format!("the archive of pg_dump is not whole: {how}"))
        .hint("Take another point, or make a new dump")
}

/// Reads an archive through a walker; its end is an error unless the archive is whole.
pub struct Walked<R> {
    inner: R,
    walker: Option<Walker>,
    contents: Option<Contents>,
}

impl<R: Read> Walked<R> {
    pub fn new(inner: R) -> Self {
        Walked { inner, walker: Some(Walker::default()), contents: None }
    }

    /// What was found; `None` before the end was reached.
    pub fn contents(self) -> Option<Contents> {
        self.contents
    }
}

impl<R: Read> Read for Walked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        if let Some(walker) = &mut self.walker {
            walker.push(&buffer[..read])?;
        }
        if read == 0
            && !buffer.is_empty()
            && let Some(walker) = self.walker.take()
        {
            self.contents = Some(walker.finish()?);
        }
        Ok(read)
    }
}

/// The list of contents at the beginning of an archive; nothing after it is read.
pub fn list(data: &mut dyn Read) -> Result<Vec<Entry>> {
    let mut walker = Walker::default();
    let mut buffer = vec![0; 64 << 10];
    while !walker.listed() && !walker.contents.unknown {
        let read = data.read(&mut buffer).map_err(|e| Failure::from_io(e, || "cannot read the archive".into()))?;
        if read == 0 {
            return Err(damaged("it ends in the list of its contents"));
        }
        walker.push(&buffer[..read])?;
    }
    Ok(walker.contents.entries)
}
