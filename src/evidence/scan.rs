//! One segment, read once: its chain, and what the whole needs to know of it.
//!
//! Segments are scanned side by side; [`super::chain`] puts together what came out. A line is never repaired or guessed at:
//! what a good record before and after it say is all that tells where the damage is.

use super::finding::{Finding, Tampering};
use crate::journal::{Fact, Hash, Rehearsed, Sound, decode};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};

/// Where a reader stands in the chain.
#[derive(Clone, Debug)]
pub struct At {
    pub seq: u64,
    /// What the next record may go on from: one hash, unless the record is there twice. None where it cannot be read.
    pub hashes: Vec<Hash>,
    pub time: Option<Timestamp>,
}

/// The first record of a segment.
#[derive(Clone, Debug)]
pub struct First {
    pub seq: u64,
    pub prev: Hash,
    pub time: Option<Timestamp>,
}

/// Records that are not where they should be.
#[derive(Clone, Debug)]
pub struct Gap {
    pub segment: String,
    pub from: u64,
    pub to: u64,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

/// Records with numbers that were passed.
#[derive(Clone, Debug)]
pub struct Stray {
    pub segment: String,
    pub from: u64,
    pub to: u64,
    pub time: Option<Timestamp>,
}

/// What another record says of the hash of a record.
#[derive(Clone, Debug)]
pub struct Anchored {
    pub seq: u64,
    pub place: String,
    pub upto: u64,
    pub hash: Hash,
    pub time: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct RehearsedAt {
    pub seq: u64,
    pub hash: Hash,
    pub at: Timestamp,
    pub rehearsed: Box<Rehearsed>,
}

#[derive(Clone, Debug, Default)]
pub struct Scanned {
    pub first: Option<First>,
    pub last: Option<At>,
    pub records: u64,
    pub gaps: Vec<Gap>,
    pub strays: Vec<Stray>,
    pub findings: Vec<Finding>,
    /// Runs that began here and did not end here.
    pub begun: HashMap<String, u64>,
    /// Runs that ended here and did not begin here before.
    pub ended: Vec<(String, u64, Option<Timestamp>)>,
    pub runs: u64,
    pub anchored: Vec<Anchored>,
    pub rehearsed: Vec<RehearsedAt>,
    /// Hashes of the records that were asked for.
    pub hashes: Vec<(u64, Hash)>,
    pub journal: Option<String>,
    /// Bytes at the end that are no whole record.
    pub torn: u64,
}

#[derive(Deserialize)]
struct OfRun {
    run: String,
}

/// `name` is that of the file; `wanted` are the numbers whose hashes are to be given.
pub fn scan(name: &str, bytes: &[u8], wanted: &BTreeSet<u64>) -> Scanned {
    let mut scanned = Scanned::default();
    let mut rest = bytes;
    while let Some(end) = memchr(rest) {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        match decode(line) {
            Ok(sound) => scanned.sound(name, sound, wanted),
            Err(why) => scanned.unreadable(name, why),
        }
    }
    scanned.torn = rest.len() as u64;
    scanned
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

impl Scanned {
    fn unreadable(&mut self, name: &str, why: &str) {
        let seq = self.last.as_ref().map_or(0, |last| last.seq) + 1;
        let time = self.last.as_ref().and_then(|last| last.time);
        // Of the first line of a file only the file says which number it should have.
        let (seq, known) = match &self.last {
            Some(_) => (seq, true),
            None => (name.split('.').next().and_then(|first| first.parse().ok()).unwrap_or(1), false),
        };
        let what = format!("in {name} is not as it was written: {why}");
        self.findings.push(Finding::new(Tampering::Edited, name, (seq, seq), &what).between(time, None));
        if !known {
            self.first = Some(First { seq, prev: Hash::new(), time: None });
        }
        self.records += 1;
        self.last = Some(At { seq, hashes: Vec::new(), time });
    }

    fn sound(&mut self, name: &str, sound: Sound<'_>, wanted: &BTreeSet<u64>) {
        self.records += 1;
        let time = || sound.at.parse::<Timestamp>().ok();
        match &mut self.last {
            None => self.first = Some(First { seq: sound.seq, prev: sound.prev.to_owned(), time: time() }),
            Some(last) if sound.seq == last.seq + 1 => {
                if !last.hashes.is_empty() && !last.hashes.iter().any(|hash| hash == sound.prev) {
                    let finding = changed_before(name, last, time());
                    self.findings.push(finding);
                }
            }
            Some(last) if sound.seq > last.seq => {
                let (from, to) = (last.seq + 1, sound.seq - 1);
                self.gaps.push(Gap { segment: name.to_owned(), from, to, after: last.time, before: time() });
            }
            Some(last) => {
                if sound.seq == last.seq {
                    last.hashes.push(sound.hash.clone());
                }
                let (from, to) = (sound.seq, sound.seq);
                return self.strays.push(Stray { segment: name.to_owned(), from, to, time: time() });
            }
        }
        self.take(name, &sound);
        if wanted.contains(&sound.seq) {
            self.hashes.push((sound.seq, sound.hash.clone()));
        }
        let at = match &self.last {
            // Times are parsed where something is wrong; here only the latest is kept as text would be.
            Some(last) if last.hashes.len() == 1 => {
                let mut hashes = self.last.take().map(|last| last.hashes).unwrap_or_default();
                hashes[0] = sound.hash;
                At { seq: sound.seq, hashes, time: sound.at.parse().ok() }
            }
            _ => At { seq: sound.seq, hashes: vec![sound.hash], time: sound.at.parse().ok() },
        };
        self.last = Some(at);
    }

    /// What the record says, as far as verification needs to know.
    fn take(&mut self, name: &str, sound: &Sound<'_>) {
        let Some((kind, fields)) = kind(sound.fields) else {
            let what = format!("in {name} is not in the form that bkp writes");
            return self.findings.push(Finding::new(Tampering::Edited, name, (sound.seq, sound.seq), &what));
        };
        match kind {
            "run_started" => {
                if let Some(run) = run(fields, sound) {
                    self.runs += 1;
                    self.begun.insert(run, sound.seq);
                }
            }
            "run_ended" => {
                let Some(run) = run(fields, sound) else { return };
                if self.begun.remove(&run).is_none() {
                    self.ended.push((run, sound.seq, sound.at.parse().ok()));
                }
            }
            "anchored" | "rehearsed" | "journal_begun" => {
                let Ok(record) = sound.record() else { return };
                match record.fact {
                    Fact::Anchored { place, upto, hash, ok: true, .. } => {
                        self.anchored.push(Anchored { seq: sound.seq, place, upto, hash, time: Some(record.at) })
                    }
                    Fact::Rehearsed(rehearsed) => self.rehearsed.push(RehearsedAt {
                        seq: sound.seq,
                        hash: sound.hash.clone(),
                        at: record.at,
                        rehearsed,
                    }),
                    Fact::JournalBegun { journal, .. } => self.journal = Some(journal),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// A record goes on from another one than that before it: which of them was changed cannot be told by the chain.
pub fn changed_before(name: &str, last: &At, time: Option<Timestamp>) -> Finding {
    let what = format!(
        "in {name} was changed after it was written, or the one after it was: record {} goes on from another one",
        last.seq + 1
    );
    Finding::new(Tampering::Edited, name, (last.seq, last.seq), &what).between(last.time, time)
}

/// The kind, and the fields after it.
fn kind(fields: &str) -> Option<(&str, &str)> {
    let (kind, rest) = fields.strip_prefix("\"kind\":\"")?.split_once('"')?;
    Some((kind, rest.strip_prefix(',').unwrap_or(rest)))
}

/// The run that a record is about. It stands first; who wrote it elsewhere is read as well.
fn run(fields: &str, sound: &Sound<'_>) -> Option<String> {
    let quick = fields.strip_prefix("\"run\":\"").and_then(|rest| rest.split_once('"')).map(|(run, _)| run);
    match quick.filter(|run| !run.contains('\\')) {
        Some(run) => Some(run.to_owned()),
        None => {
            let text = format!("{{{}}}", sound.fields);
            serde_json::from_str::<OfRun>(&text).ok().map(|of| of.run)
        }
    }
}
