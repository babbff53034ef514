//! The whole chain, from its segments: scanned side by side, put together in order.
//!
//! A number that is missing in one place and stands in another was moved; one that stands nowhere is gone; one that stands
//! twice was put in. Memory: a segment for each thread, and of each segment what reaches beyond it.

use super::finding::{Finding, Tampering};
use super::scan::{Anchored, At, Gap, RehearsedAt, Scanned, Stray, changed_before, scan};
use crate::error::{Failure, Kind, Result};
use crate::journal::Hash;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Gives bytes when they are needed.
pub type Source<'a> = Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync + 'a>;

/// Says what is wrong with the signature of these bytes.
pub type Look<'a> = Box<dyn Fn(&[u8]) -> Option<String> + Send + Sync + 'a>;

/// A part of the journal.
pub struct Segment<'a> {
    pub name: String,
    /// Number of the first record, by its name.
    pub first: u64,
    pub bytes: Source<'a>,
    pub seal: Seal<'a>,
}

/// What stands for a segment besides its own chain.
pub enum Seal<'a> {
    /// Nothing: it is still written into, or was not put away.
    None,
    /// A signature.
    Signed(Look<'a>),
    /// The segment as it was sealed, signature checked, from where this host does not change it.
    Kept(Source<'a>),
}

/// A record, by what tells it from all others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    pub seq: u64,
    pub at: Option<Timestamp>,
    pub hash: Hash,
}

/// What the segments come to.
#[derive(Debug, Default)]
pub struct Chain {
    pub journal: Option<String>,
    pub records: u64,
    pub first: Option<(u64, Option<Timestamp>)>,
    pub last: Option<Mark>,
    pub segments: u64,
    pub sealed: u64,
    pub runs: u64,
    /// Runs without an end: killed since, or at work.
    pub open_runs: u64,
    /// Runs that ended in what is here, and began before it.
    pub began_before: u64,
    pub anchored: Vec<Anchored>,
    pub rehearsed: Vec<RehearsedAt>,
    pub hashes: BTreeMap<u64, Hash>,
    pub findings: Vec<Finding>,
    /// Segments that could not be compared with what was sealed.
    pub notes: Vec<String>,
    /// First and last number and times of each segment, in order.
    pub ranges: Vec<Range>,
}

#[derive(Clone, Debug)]
pub struct Range {
    pub name: String,
    pub from: u64,
    pub to: u64,
    pub until: Option<Timestamp>,
}

/// What one thread makes of one segment.
struct Read {
    scanned: Scanned,
    seal: Option<std::result::Result<(), Finding>>,
    note: Option<String>,
}

/// `begins`: the number that the first record must have; absent where the part before is not here. `live`: the end of the last
/// segment may be half-written.
pub fn read(segments: &[Segment<'_>], begins: Option<u64>, wanted: &BTreeSet<u64>, live: bool) -> Result<Chain> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get()).min(segments.len().max(1));
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    let Some(segment) = segments.get(number) else { return };
                    let read = one(segment, wanted);
                    results.lock().unwrap_or_else(|e| e.into_inner()).insert(number, read);
                }
            });
        }
    });
    let mut joining = Joining::default();
    let results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    for ((number, read), segment) in results.into_iter().zip(segments) {
        joining.join(segment, read?, live && number + 1 == segments.len(), begins);
    }
    Ok(joining.end())
}

fn one(segment: &Segment<'_>, wanted: &BTreeSet<u64>) -> Result<Read> {
    let bytes = match (segment.bytes)() {
        Err(failure) if failure.kind() == Kind::Verification => return Ok(unbelievable(segment, &failure)),
        bytes => bytes?,
    };
    let scanned = scan(&segment.name, &bytes, wanted);
    let range = range_of(segment, &scanned);
    let (seal, note) = match &segment.seal {
        Seal::None => (None, None),
        Seal::Signed(wrong) => (Some(wrong(&bytes).map_or(Ok(()), |why| Err(broken_seal(&range, &why)))), None),
        Seal::Kept(kept) => match kept() {
            Ok(kept) => (Some(compare(&range, &bytes, &kept)), None),
            Err(failure) => {
                let what = format!("{} could not be compared with what was sealed: {}", segment.name, failure.full());
                (None, Some(what))
            }
        },
    };
    Ok(Read { scanned, seal, note })
}

/// A segment that is damaged, or not signed by whom it should be: nothing in it counts.
fn unbelievable(segment: &Segment<'_>, failure: &Failure) -> Read {
    let why = format!("and those after it, in {}, cannot be believed: {}", segment.name, failure.full());
    let finding = Finding::new(Tampering::Signature, &segment.name, (segment.first, segment.first), &why);
    Read { scanned: Scanned::default(), seal: Some(Err(finding)), note: None }
}

fn range_of(segment: &Segment<'_>, scanned: &Scanned) -> Range {
    let from = scanned.first.as_ref().map_or(segment.first, |first| first.seq);
    let last = scanned.last.as_ref();
    let to = last.map_or(from, |last| last.seq);
    Range { name: segment.name.clone(), from, to, until: last.and_then(|last| last.time) }
}

fn broken_seal(range: &Range, why: &str) -> Finding {
    let what = format!("of {} are not what was sealed: {why}", range.name);
    Finding::new(Tampering::Signature, &range.name, (range.from, range.to), &what).between(None, range.until)
}

/// Where what is here begins to differ from what was sealed.
fn compare(range: &Range, here: &[u8], sealed: &[u8]) -> std::result::Result<(), Finding> {
    if here == sealed {
        return Ok(());
    }
    let lines = |bytes: &[u8]| bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (here, sealed) = (lines(here), lines(sealed));
    let at = here.iter().zip(&sealed).take_while(|(one, other)| one == other).count();
    let time = |lines: &[Vec<u8>], at: usize| {
        let line = lines.get(at)?;
        crate::journal::decode(line.strip_suffix(b"\n")?).ok()?.at.parse().ok()
    };
    let (from, to) = (range.from + at as u64, range.from + (sealed.len().max(here.len()) as u64).max(1) - 1);
    let what = match (here.len() > at, sealed.len() > at) {
        (false, true) => format!("of {} are gone here: the sealed segment in the repository has them", range.name),
        (true, false) => format!("of {} were added after the segment was sealed", range.name),
        _ => format!("of {} are not those that were sealed: the repository has the true ones", range.name),
    };
    let after = at.checked_sub(1).and_then(|before| time(&sealed, before));
    Err(Finding::new(Tampering::Rewritten, &range.name, (from, to.max(from)), &what).between(after, range.until))
}

#[derive(Default)]
struct Joining {
    chain: Chain,
    at: Option<At>,
    gaps: Vec<Gap>,
    strays: Vec<Stray>,
    begun: HashSet<String>,
}

impl Joining {
    fn join(&mut self, segment: &Segment<'_>, read: Read, live: bool, begins: Option<u64>) {
        let Read { mut scanned, seal, note } = read;
        let range = range_of(segment, &scanned);
        self.meet(&range, &scanned, begins);
        if scanned.torn > 0 && !live {
            let (seq, name) = (range.to + 1, &segment.name);
            let what = format!("in {name} is cut off in the middle");
            scanned.findings.push(Finding::new(Tampering::CutOff, name, (seq, seq), &what).between(range.until, None));
        }
        self.chain.segments += 1;
        match seal {
            Some(Ok(())) => self.chain.sealed += 1,
            Some(Err(finding)) => scanned.findings.push(finding),
            None => {}
        }
        self.chain.notes.extend(note);
        self.runs(&mut scanned, &range, begins);
        let chain = &mut self.chain;
        chain.records += scanned.records;
        chain.journal = chain.journal.take().or(scanned.journal);
        chain.anchored.append(&mut scanned.anchored);
        chain.rehearsed.append(&mut scanned.rehearsed);
        chain.hashes.extend(scanned.hashes);
        chain.findings.append(&mut scanned.findings);
        if scanned.first.is_some() {
            chain.ranges.push(range);
        }
        self.gaps.append(&mut scanned.gaps);
        self.strays.append(&mut scanned.strays);
        let is_further = |last: &At| self.at.as_ref().is_none_or(|at| last.seq > at.seq);
        if let Some(last) = scanned.last.filter(is_further) {
            self.at = Some(last);
        }
    }

    /// Whether a segment goes on from the one before it.
    fn meet(&mut self, range: &Range, scanned: &Scanned, begins: Option<u64>) {
        let Some(first) = &scanned.first else { return };
        if self.chain.first.is_none() {
            self.chain.first = Some((first.seq, first.time));
            // What stands before it is known by its hash.
            if first.seq > 1 && !first.prev.is_empty() {
                self.chain.hashes.insert(first.seq - 1, first.prev.clone());
            }
        }
        let name = range.name.clone();
        match &self.at {
            Some(at) if first.seq == at.seq + 1 => {
                let goes_on = at.hashes.is_empty() || first.prev.is_empty() || at.hashes.contains(&first.prev);
                if !goes_on {
                    let before = self.chain.ranges.last().map_or(name, |range| range.name.clone());
                    self.chain.findings.push(changed_before(&before, at, first.time));
                }
            }
            Some(at) if first.seq > at.seq => {
                let (from, to) = (at.seq + 1, first.seq - 1);
                self.gaps.push(Gap { segment: name, from, to, after: at.time, before: first.time });
            }
            // The numbers of a whole segment were passed before.
            Some(_) => self.strays.push(Stray { segment: name, from: range.from, to: range.to, time: first.time }),
            None => {
                let expected = begins.unwrap_or(first.seq);
                if first.seq > expected {
                    let (from, to) = (expected, first.seq - 1);
                    self.gaps.push(Gap { segment: name, from, to, after: None, before: first.time });
                }
            }
        }
    }

    /// Attempts before outcomes, also over the ends of segments.
    fn runs(&mut self, scanned: &mut Scanned, range: &Range, begins: Option<u64>) {
        self.chain.runs += scanned.runs;
        for (run, seq, time) in std::mem::take(&mut scanned.ended) {
            if self.begun.remove(&run) {
                continue;
            }
            if begins != Some(1) {
                self.chain.began_before += 1;
                continue;
            }
            let what = format!("in {} ends run {run}, which never began", range.name);
            let finding = Finding::new(Tampering::NoAttempt, &range.name, (seq, seq), &what);
            scanned.findings.push(finding.between(time, time));
        }
        self.begun.extend(scanned.begun.drain().map(|(run, _)| run));
    }

    fn end(mut self) -> Chain {
        self.moved_or_gone();
        let mut chain = self.chain;
        chain.open_runs = self.begun.len() as u64;
        chain.last =
            self.at.map(|at| Mark { seq: at.seq, at: at.time, hash: at.hashes.into_iter().next().unwrap_or_default() });
        // A record that is gone, elsewhere, or cannot be read, explains why its outcome has no attempt.
        use Tampering::{Edited, NoAttempt, Removed, Reordered};
        if chain.findings.iter().any(|finding| matches!(finding.tampering, Edited | Removed | Reordered)) {
            chain.findings.retain(|finding| finding.tampering != NoAttempt);
        }
        chain.findings.sort_by_key(|finding| (finding.from, finding.to));
        chain
    }

    fn moved_or_gone(&mut self) {
        let mut findings = Vec::new();
        for stray in std::mem::take(&mut self.strays) {
            let range = (stray.from, stray.to);
            let gap = self.gaps.iter().position(|gap| gap.from <= stray.from && stray.to <= gap.to);
            let (tampering, what) = match gap {
                Some(at) => {
                    let gap = self.gaps.remove(at);
                    let left = Gap { to: stray.from.saturating_sub(1), ..gap.clone() };
                    let right = Gap { from: stray.to + 1, ..gap };
                    self.gaps.extend([left, right].into_iter().filter(|gap| gap.from <= gap.to));
                    (Tampering::Reordered, "behind records that came later")
                }
                None => (Tampering::Inserted, "for a second time: one of the two was put in"),
            };
            let stand = if stray.from == stray.to { "stands" } else { "stand" };
            let what = format!("{stand} in {} {what}", stray.segment);
            findings.push(Finding::new(tampering, &stray.segment, range, &what).between(stray.time, stray.time));
        }
        for gap in &self.gaps {
            let are = if gap.from == gap.to { "is" } else { "are" };
            let what = format!("{are} gone, before what {} goes on with", gap.segment);
            let finding = Finding::new(Tampering::Removed, &gap.segment, (gap.from, gap.to), &what);
            findings.push(finding.between(gap.after, gap.before));
        }
        self.chain.findings.append(&mut findings);
    }
}
