//! What the last run saw and stored, so that the next one need not read what did not change. Private to this engine.
//!
//! A sequence of blocks, each with its checksum, holding records of groups in the order of the walk. A block that is cut,
//! damaged or of another version ends the memory: what comes after it is read again. Reading holds one group at a time.

use super::entry::{Entry, Extent, Kind, Time, order};
use super::walk::Facts;
use crate::engine::ChunkRange;
use crate::error::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MAGIC: &[u8; 8] = b"BKPVOL1\n";
const BLOCK: usize = 64 * 1024;
/// A block ends with the record that fills it; no record is larger.
const LARGEST_BLOCK: usize = 64 << 20;

/// A change this close before a scan may have happened twice with one time stamp.
const RACY_SECONDS: i64 = 2;

/// A group as it was stored, and its entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Bytes at its beginning that belong to the big file before it.
    pub padding: u64,
    pub chunks: ChunkRange,
    /// Data of the big file whose header ends the group.
    pub data: Option<ChunkRange>,
    pub members: Vec<Member>,
}

impl Group {
    /// The file whose header ends the group.
    pub fn big(&self) -> Option<Big> {
        Some(Big { member: self.members.last()?.clone(), data: self.data.clone()? })
    }
}

/// A big file as it was stored. Its data can be taken again even where its group cannot.
#[derive(Clone, Debug)]
pub struct Big {
    pub member: Member,
    pub data: ChunkRange,
}

/// An entry and what `stat` said of it when it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    pub entry: Entry,
    pub facts: Facts,
}

impl Member {
    /// Whether an entry that now has these facts was stored as this one. `scan`: when the scan that remembers it began.
    pub fn is_unchanged(&self, now: &Facts, link: Option<&[u8]>, scan: Time) -> bool {
        let limit = (scan.0 - RACY_SECONDS, scan.1);
        let linked =
            if self.entry.kind == Kind::HardLink { link == Some(&self.entry.link[..]) } else { link.is_none() };
        let now = &Facts { allocated: self.facts.allocated, ..*now };
        self.facts == *now && linked && !self.entry.changed && now.mtime < limit && now.ctime < limit
    }
}

pub struct Writer {
    file: File,
    block: Vec<u8>,
    previous: Vec<u8>,
}

impl Writer {
    pub fn create(path: &Path, scan: Time) -> Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .context(failed)?;
        file.write_all(MAGIC).context(failed)?;
        let mut writer = Writer { file, block: Vec::with_capacity(BLOCK * 2), previous: Vec::new() };
        put_time(&mut writer.block, scan);
        Ok(writer)
    }

    pub fn group(&mut self, group: &Group) -> Result<()> {
        let out = &mut self.block;
        put(out, group.padding);
        put_range(out, &group.chunks);
        put(out, u64::from(group.data.is_some()));
        if let Some(data) = &group.data {
            put_range(out, data);
        }
        put(out, group.members.len() as u64);
        for member in &group.members {
            put_member(out, member, &mut self.previous);
        }
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let failed = || "cannot write what the next run is to know".to_owned();
        let length = (self.block.len() as u32).to_le_bytes();
        self.file.write_all(&length).context(failed)?;
        self.file.write_all(blake3::hash(&self.block).as_bytes()).context(failed)?;
        self.file.write_all(&self.block).context(failed)?;
        self.block.clear();
        self.previous.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }
}

pub struct Reader {
    file: File,
    block: Vec<u8>,
    at: usize,
    previous: Vec<u8>,
    scan: Time,
    /// The group that comes next in the order of the walk; nothing in it: the end.
    group: Group,
}

impl Reader {
    /// `None` when there is nothing that could be used.
    pub fn open(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic).ok()?;
        let mut reader =
            Reader { file, block: Vec::new(), at: 0, previous: Vec::new(), scan: (0, 0), group: Group::default() };
        if &magic != MAGIC || !reader.next_block() {
            return None;
        }
        reader.scan = Input { bytes: &reader.block, at: &mut reader.at }.time()?;
        reader.advance();
        Some(reader)
    }

    /// When the scan began that this remembers.
    pub fn scan(&self) -> Time {
        self.scan
    }

    /// Takes the group that begins with `path` and with that much padding, and goes on behind it.
    pub fn take(&mut self, path: &[u8], padding: u64) -> Option<Group> {
        self.pass(path);
        let first = self.group.members.first()?;
        if first.entry.path != path || self.group.padding != padding {
            return None;
        }
        let group = std::mem::take(&mut self.group);
        self.advance();
        Some(group)
    }

    /// The big file `path` and its data, if the group that its header ends comes next.
    pub fn big(&mut self, path: &[u8]) -> Option<Big> {
        self.pass(path);
        self.group.big().filter(|big| big.member.entry.path == path)
    }

    /// Goes on to the first group that does not end before `path`.
    fn pass(&mut self, path: &[u8]) {
        while self.group.members.last().is_some_and(|last| order(&last.entry.path, path).is_lt()) {
            self.advance();
        }
    }

    fn advance(&mut self) {
        self.group = self.read_group().unwrap_or_default();
    }

    fn read_group(&mut self) -> Option<Group> {
        if self.at == self.block.len() && !self.next_block() {
            return None;
        }
        let mut input = Input { bytes: &self.block, at: &mut self.at };
        let padding = input.number()?;
        let chunks = input.range()?;
        let data = if input.number()? == 1 { Some(input.range()?) } else { None };
        let count = input.number()?;
        let mut members = Vec::with_capacity(count.min(4096) as usize);
        for _ in 0..count {
            members.push(input.member(&mut self.previous)?);
        }
        Some(Group { padding, chunks, data, members })
    }

    fn next_block(&mut self) -> bool {
        self.block.clear();
        self.at = 0;
        self.previous.clear();
        let (mut length, mut hash) = ([0; 4], [0; 32]);
        if self.file.read_exact(&mut length).is_err() || self.file.read_exact(&mut hash).is_err() {
            return false;
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > LARGEST_BLOCK {
            return false;
        }
        self.block.resize(length, 0);
        let good = self.file.read_exact(&mut self.block).is_ok() && *blake3::hash(&self.block).as_bytes() == hash;
        if !good {
            self.block.clear();
        }
        good && length > 0
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_time(out: &mut Vec<u8>, (seconds, nanoseconds): Time) {
    put(out, ((seconds << 1) ^ (seconds >> 63)) as u64);
    put(out, nanoseconds.into());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_range(out: &mut Vec<u8>, range: &ChunkRange) {
    put(out, range.start.into());
    put(out, range.end.into());
}

fn put_member(out: &mut Vec<u8>, Member { entry, facts }: &Member, previous: &mut Vec<u8>) {
    let common = entry.path.iter().zip(previous.iter()).take_while(|(a, b)| a == b).count();
    put(out, common as u64);
    put_bytes(out, &entry.path[common..]);
    previous.truncate(common);
    previous.extend_from_slice(&entry.path[common..]);
    out.push(entry.kind.letter());
    out.push(facts.kind.map_or(0, Kind::letter));
    let flags = [entry.hash.is_some(), entry.xattrs.is_some(), entry.changed];
    out.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
    for value in [
        facts.mode.into(),
        facts.uid.into(),
        facts.gid.into(),
        facts.size,
        facts.inode,
        facts.device,
        facts.links,
        facts.own_device.0.into(),
        facts.own_device.1.into(),
        entry.size,
        entry.header,
        entry.stored,
    ] {
        put(out, value);
    }
    put_time(out, facts.mtime);
    put_time(out, facts.ctime);
    put_bytes(out, &entry.link);
    put(out, entry.sparse.len() as u64);
    for extent in &entry.sparse {
        put(out, extent.offset);
        put(out, extent.length);
    }
    for digest in [entry.hash, entry.xattrs].into_iter().flatten() {
        out.extend_from_slice(&digest);
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: &'a mut usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(*self.at)?;
        *self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn slice(&mut self, length: usize) -> Option<&[u8]> {
        let slice = self.bytes.get(*self.at..self.at.checked_add(length)?)?;
        *self.at += length;
        Some(slice)
    }

    fn time(&mut self) -> Option<Time> {
        let coded = self.number()?;
        Some((((coded >> 1) as i64) ^ -((coded & 1) as i64), self.small()?))
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?.try_into().ok()?;
        self.slice(length).map(<[u8]>::to_vec)
    }

    fn digest(&mut self, there: bool) -> Option<Option<[u8; 16]>> {
        if there { Some(Some(self.slice(16)?.try_into().ok()?)) } else { Some(None) }
    }

    fn range(&mut self) -> Option<ChunkRange> {
        Some(self.small()?..self.small()?)
    }

    fn member(&mut self, previous: &mut Vec<u8>) -> Option<Member> {
        let common = self.number()?.try_into().ok()?;
        previous.truncate(common);
        let length = self.number()?.try_into().ok()?;
        previous.extend_from_slice(self.slice(length)?);
        let mut entry = Entry { path: previous.clone(), kind: Kind::from_letter(self.byte()?)?, ..Entry::default() };
        let mut facts = Facts { kind: Kind::from_letter(self.byte()?), ..Facts::default() };
        let flags = self.byte()?;
        (facts.mode, facts.uid, facts.gid) = (self.small()?, self.small()?, self.small()?);
        (facts.size, facts.inode, facts.device, facts.links) =
            (self.number()?, self.number()?, self.number()?, self.number()?);
        facts.own_device = (self.small()?, self.small()?);
        (entry.size, entry.header, entry.stored) = (self.number()?, self.number()?, self.number()?);
        (facts.mtime, facts.ctime) = (self.time()?, self.time()?);
        entry.link = self.bytes()?;
        for _ in 0..self.number()? {
            entry.sparse.push(Extent { offset: self.number()?, length: self.number()? });
        }
        entry.hash = self.digest(flags & 1 != 0)?;
        entry.xattrs = self.digest(flags & 2 != 0)?;
        entry.changed = flags & 4 != 0;
        (entry.mode, entry.uid, entry.gid, entry.mtime) = (facts.mode, facts.uid, facts.gid, facts.mtime);
        entry.device = facts.own_device;
        Some(Member { entry, facts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(path: &str, number: u64) -> Member {
        let facts = Facts {
            kind: Some(Kind::File),
            size: number,
            inode: number << 20,
            mtime: (-(number as i64), 7),
            ctime: (number as i64, 999_999_999),
            ..Facts::default()
        };
        let hash = number.is_multiple_of(2).then_some([number as u8; 16]);
        let sparse = if number.is_multiple_of(3) { vec![Extent { offset: number, length: 0 }] } else { Vec::new() };
        let entry = Entry { path: path.into(), size: number, mtime: facts.mtime, hash, sparse, ..Entry::default() };
        Member { entry, facts }
    }

    /// 300 groups of 50 members, which is several blocks.
    fn groups() -> Vec<Group> {
        let group = |g: u32| Group {
            padding: u64::from(g % 512),
            chunks: g..g + 1,
            data: g.is_multiple_of(5).then_some(g + 1..g + 7),
            members: (0..50).map(|m| member(&format!("{g:04}/{m:04}"), u64::from(g * 50 + m))).collect(),
        };
        (0..300).map(group).collect()
    }

    fn written(path: &Path, groups: &[Group]) {
        let mut writer = Writer::create(path, (5, 6)).unwrap();
        groups.iter().for_each(|group| writer.group(group).unwrap());
        writer.finish().unwrap();
    }

    fn read(path: &Path, groups: &[Group]) -> Vec<Group> {
        let Some(mut reader) = Reader::open(path) else { return Vec::new() };
        assert_eq!(reader.scan(), (5, 6));
        groups.iter().map_while(|group| reader.take(&group.members[0].entry.path, group.padding)).collect()
    }

    #[test]
    fn what_was_written_is_found_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let groups = groups();
        written(&path, &groups);
        assert_eq!(read(&path, &groups), groups);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.take(b"0100/0000", 3), None, "other padding");
        assert_eq!(reader.take(b"0100/0001", 100), None, "not the first of its group");
        assert_eq!(reader.take(b"0250/0000", 250).as_ref(), Some(&groups[250]));
        assert_eq!(reader.take(b"0249/0000", 249), None, "the walk does not go back");
    }

    #[test]
    fn damage_ends_the_memory_and_nothing_wrong_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let groups = groups();
        written(&path, &groups);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(good.len() / 40) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let found = read(&path, &groups);
            assert!(found.len() < groups.len() && groups.starts_with(&found), "damage at {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            let found = read(&path, &groups);
            assert!(found.len() < groups.len() && groups.starts_with(&found), "cut at {at}");
        }
    }

    #[test]
    fn a_change_too_close_to_the_scan_is_not_trusted() {
        let scan = (1000, 500);
        for (time, trusted) in [((998, 499), true), ((998, 500), false), ((1000, 0), false), ((2000, 0), false)] {
            let mut one = member("a", 1);
            (one.facts.mtime, one.facts.ctime) = (time, (0, 0));
            assert_eq!(one.is_unchanged(&one.facts.clone(), None, scan), trusted);
            (one.facts.mtime, one.facts.ctime) = ((0, 0), time);
            assert_eq!(one.is_unchanged(&one.facts.clone(), None, scan), trusted);
        }
    }

    #[test]
    fn each_fact_counts() {
        let one = member("a", 1);
        let scan = (1 << 40, 0);
        assert!(one.is_unchanged(&one.facts, None, scan));
        let changes: [fn(&mut Facts); 9] = [
            |f| f.size += 1,
            |f| f.mtime.1 += 1,
            |f| f.ctime.1 -= 1,
            |f| f.inode += 1,
            |f| f.device += 1,
            |f| f.mode ^= 1,
            |f| f.uid += 1,
            |f| f.gid += 1,
            |f| f.links += 1,
        ];
        for change in changes {
            let mut now = one.facts;
            change(&mut now);
            assert!(!one.is_unchanged(&now, None, scan));
        }
        assert!(!one.is_unchanged(&one.facts, Some(b"first"), scan), "it became a hard link");
        let changed = Member { entry: Entry { changed: true, ..one.entry.clone() }, facts: one.facts };
        assert!(!changed.is_unchanged(&one.facts, None, scan));
    }

    proptest! {
        #[test]
        fn numbers_survive(value in any::<u64>(), seconds in any::<i64>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            put_time(&mut bytes, (seconds, 1));
            let mut at = 0;
            let mut input = Input { bytes: &bytes, at: &mut at };
            prop_assert_eq!(input.number(), Some(value));
            prop_assert_eq!(input.time(), Some((seconds, 1)));
        }
    }
}
