//! Verification: the chain by itself, then against everything that others hold of it.
//!
//! Pure but for reading what it is given. A journal that was rewritten as a whole holds together by itself; what gives it away
//! are the seals in the repository and the heads that were anchored elsewhere. Everything fits only when everybody who should
//! be asked was asked, and agrees: what could not be asked stands in `unasked`, and what a reader should know in `notes`.

use super::chain::{self, Chain, Mark, Segment};
use super::finding::{Finding, Tampering, short};
use super::head::{SignedHead, StampedHead, Witness};
use super::held::{self, Held, Stored};
use super::scan::Anchored;
use super::statement::{self, Signed};
use super::timestamp::{self, Authorities};
use crate::error::{Kind, Result};
use ed25519_dalek::VerifyingKey;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What there is to look at.
#[derive(Default)]
pub struct Material<'a> {
    pub segments: Vec<Segment<'a>>,
    /// The id that it must have, where that is known from elsewhere than its first record.
    pub journal: Option<String>,
    /// The number that the first record must have: 1, unless only a period is here.
    pub begins: Option<u64>,
    pub scope: Scope,
    /// Heads that others hold, signatures checked.
    pub witnesses: Vec<Witness>,
    /// What the places that the journal names hold, by their names.
    pub places: BTreeMap<String, Held>,
    /// A place that the journal names and that is not in `places` should have been asked.
    pub asks_everybody: bool,
    /// The record that was the last one before anybody was asked.
    pub known_before: u64,
    /// What is in the repository; absent where it was not asked.
    pub stored: Option<Stored>,
    /// Statements of rehearsals; absent when there is no place that they could be in.
    pub statements: Option<Vec<Signed>>,
    /// The writer's, and whether it is known from elsewhere than what is verified.
    pub key: Option<(VerifyingKey, bool)>,
    /// What is known before any record was read.
    pub judged: Judged,
}

/// Which part of a journal it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scope {
    /// All of it, on its host, while somebody may be writing.
    Live,
    /// What was sealed. Newer records are on the host, and no head of them is anywhere.
    #[default]
    Sealed,
    /// What a bundle holds. Heads that were signed after `until` may be of later records; where the host did not sign the
    /// bundle, nobody knows until when it is.
    Bundle { until: Option<Timestamp>, period_ends: Option<Timestamp> },
}

#[derive(Debug, Default)]
pub struct Judged {
    pub findings: Vec<Finding>,
    /// What could not be asked: whether everything fits is not known.
    pub unasked: Vec<String>,
    pub notes: Vec<String>,
}

impl Judged {
    fn append(&mut self, mut other: Judged) {
        self.findings.append(&mut other.findings);
        self.unasked.append(&mut other.unasked);
        self.notes.append(&mut other.notes);
    }
}

impl Material<'_> {
    /// A head that is held at `place`, and its time stamp. `name` is that of the file or object.
    pub fn take(
        &mut self,
        head: SignedHead,
        (place, name): (&str, &str),
        kept: &StampedHead,
        authorities: Option<&Authorities>,
    ) {
        let seq = head.seq;
        let mut witness = head.witness(place);
        match kept.stamp.as_ref().map(|stamp| timestamp::verify(stamp, &kept.envelope, authorities)) {
            Some(Ok(stamped)) => witness.stamped = Some(stamped),
            Some(Err(failure)) => {
                let what = format!("and the time stamp of {name}: {}", failure.full());
                self.judged.findings.push(Finding::new(Tampering::TimeStamp, name, (seq, seq), &what));
            }
            None => {}
        }
        self.witnesses.push(witness);
    }
}

/// What verification came to.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Everything fits, and everybody who should be asked was asked.
    pub ok: bool,
    pub verdict: Verdict,
    /// The journal's own id.
    pub journal: Option<String>,
    pub records: u64,
    pub first: Option<Mark>,
    /// The head.
    pub last: Option<Mark>,
    pub segments: u64,
    /// Of these, with a signature that fits or equal to what was sealed.
    pub sealed: u64,
    /// The records up to this one are sealed or anchored: nobody can take them back unseen.
    pub covered_to: u64,
    pub runs: u64,
    pub open_runs: u64,
    pub rehearsals: u64,
    /// Of these, with a signed statement that says the same.
    pub attested: u64,
    pub anchors: Vec<AnchorSeen>,
    pub key: Option<KeySeen>,
    pub findings: Vec<Finding>,
    /// What could not be asked, and why.
    pub unasked: Vec<String>,
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everybody who should be asked was asked, and agrees.
    Fits,
    /// Nothing wrong was found in what could be looked at.
    NotKnown,
    Tampered,
}

impl Verification {
    /// What a command ends with that says so.
    pub fn kind(&self) -> Option<Kind> {
        match self.verdict {
            Verdict::Fits => None,
            Verdict::NotKnown => Some(Kind::Warnings),
            Verdict::Tampered => Some(Kind::Verification),
        }
    }
}

/// A head that somebody holds, and whether it fits.
#[derive(Clone, Debug, Serialize)]
pub struct AnchorSeen {
    #[serde(flatten)]
    pub witness: Witness,
    /// Absent: the record is not in what was looked at.
    pub fits: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
pub struct KeySeen {
    pub id: String,
    pub key: String,
    /// Known from elsewhere than what was verified.
    pub pinned: bool,
}

pub fn verify(mut material: Material<'_>) -> Result<Verification> {
    let witnesses = std::mem::take(&mut material.witnesses);
    let wanted: BTreeSet<u64> = witnesses.iter().map(|witness| witness.seq).collect();
    let mut chain = chain::read(&material.segments, material.begins, &wanted, material.scope == Scope::Live)?;
    another_journal(&mut chain, material.journal.take());
    let anchored = inner_anchors(&mut chain, &material)?;
    let mut judged = std::mem::take(&mut material.judged);
    let anchors = outer_anchors(&mut chain, witnesses, material.scope);
    judged.unasked.extend(too_new(&chain, &anchors, material.scope));
    judged.append(held::compare(&chain, &anchored, &anchors, &material));
    let rehearsals = chain.rehearsed.len() as u64;
    let attested = match &material.statements {
        None => 0,
        Some(statements) => {
            let (attested, findings) = statement::compare(statements, &chain, material.scope);
            chain.findings.extend(findings);
            if attested < rehearsals {
                let missing = rehearsals - attested;
                judged.notes.push(format!("{missing} of {rehearsals} rehearsals have no signed statement yet"));
            }
            attested
        }
    };
    judged.unasked.append(&mut chain.notes);
    let sealed_to = chain.sealed_to(&material.segments);
    let anchored_to = anchors.iter().filter(|a| a.fits == Some(true)).map(|a| a.witness.seq).max().unwrap_or(0);
    let Judged { mut findings, unasked, notes } = judged;
    findings.append(&mut chain.findings);
    findings.sort_by_key(|finding| (finding.from, finding.to, finding.tampering));
    findings.dedup();
    let verdict = match (findings.is_empty(), unasked.is_empty()) {
        (false, _) => Verdict::Tampered,
        (true, false) => Verdict::NotKnown,
        (true, true) => Verdict::Fits,
    };
    Ok(Verification {
        ok: verdict == Verdict::Fits,
        verdict,
        journal: chain.journal,
        records: chain.records,
        first: chain.first.map(|(seq, at)| Mark { seq, at, hash: String::new() }),
        last: chain.last,
        segments: chain.segments,
        sealed: chain.sealed,
        covered_to: sealed_to.max(anchored_to),
        runs: chain.runs,
        open_runs: chain.open_runs,
        rehearsals,
        attested,
        anchors,
        key: material.key.map(|(key, pinned)| KeySeen {
            id: crate::repo::sign::key_id(&key),
            key: crate::repo::sign::key_text(&key),
            pinned,
        }),
        findings,
        unasked,
        notes,
    })
}

fn another_journal(chain: &mut Chain, wanted: Option<String>) {
    let Some(wanted) = wanted else { return };
    if let Some(journal) = chain.journal.as_ref().filter(|journal| **journal != wanted) {
        let what = format!("and all after it are of journal {journal}, and not of {wanted}");
        chain.findings.push(Finding::new(Tampering::Rewritten, &chain.name_of(1), (1, 1), &what));
    }
    chain.journal.get_or_insert(wanted);
}

/// What the journal itself says of its earlier heads. They mostly end segments; others are looked up.
fn inner_anchors(chain: &mut Chain, material: &Material<'_>) -> Result<Vec<Anchored>> {
    let wanted: BTreeSet<u64> = chain.anchored.iter().map(|anchored| anchored.upto).collect();
    let missing: BTreeSet<u64> = wanted.iter().copied().filter(|seq| !chain.hashes.contains_key(seq)).collect();
    for range in chain.ranges.clone() {
        let Some(segment) = material.segments.iter().find(|segment| segment.name == range.name) else { continue };
        if missing.range(range.from..=range.to.max(range.from)).next().is_some() {
            let scanned = super::scan::scan(&segment.name, &(segment.bytes)()?, &missing);
            chain.hashes.extend(scanned.hashes);
        }
    }
    let all = std::mem::take(&mut chain.anchored);
    for anchored in &all {
        if let Some(hash) = chain.hashes.get(&anchored.upto).filter(|hash| **hash != anchored.hash) {
            let what = format!(
                "has hash {}…, and record {} says that it was anchored at {} with {}…",
                &hash[..12.min(hash.len())],
                anchored.seq,
                anchored.place,
                anchored.hash.get(..12).unwrap_or_default()
            );
            let name = chain.name_of(anchored.upto);
            let range = (anchored.upto, anchored.upto);
            let finding = Finding::new(Tampering::Rewritten, &name, range, &what).between(None, anchored.time);
            chain.findings.push(finding);
        }
    }
    Ok(all)
}

/// What others hold, against the chain. Between the last head that fits and the first that does not, it was rewritten.
fn outer_anchors(chain: &mut Chain, mut witnesses: Vec<Witness>, scope: Scope) -> Vec<AnchorSeen> {
    witnesses.sort_by_key(|witness| (witness.seq, witness.at));
    let mut good = chain.first.map_or(1, |(seq, _)| seq).saturating_sub(1);
    let mut seen = Vec::new();
    for witness in witnesses {
        let fits = chain.fits(&witness, good, scope);
        if fits == Some(true) {
            good = witness.seq;
        }
        seen.push(AnchorSeen { witness, fits });
    }
    seen
}

/// Heads that were given, of records that a bundle does not reach: they are not compared with anything. A bundle of a period
/// that goes on beyond its end lacks nothing of it.
fn too_new(chain: &Chain, anchors: &[AnchorSeen], scope: Scope) -> Option<String> {
    let Scope::Bundle { until: Some(until), period_ends } = scope else { return None };
    let last = chain.last.as_ref()?;
    if period_ends.zip(last.at).is_some_and(|(end, at)| at >= end) {
        return None;
    }
    let newest =
        anchors.iter().map(|a| &a.witness).filter(|w| w.seq > last.seq && w.at > until).max_by_key(|w| w.seq)?;
    Some(format!(
        "{} has held the head of record {} since {}, and the bundle ends with record {}, of {}: only a newer bundle can be compared with it",
        newest.place,
        newest.seq,
        short(newest.at),
        last.seq,
        short(until)
    ))
}

impl Chain {
    /// `good`: the last record that another head was found to fit. What does not fit becomes a finding.
    fn fits(&mut self, witness: &Witness, good: u64, scope: Scope) -> Option<bool> {
        let Witness { place, seq, at, .. } = witness;
        let last = self.last.as_ref().map_or(0, |last| last.seq);
        let mut after = None;
        let since = format!("{place} has held the hash of record {seq} since {}", short(*at));
        let (tampering, range, what) = match self.hashes.get(seq) {
            _ if self.journal.as_ref().is_some_and(|journal| *journal != witness.journal) => {
                let what = format!("and all before belong to another journal than {}: {since}", witness.journal);
                (Tampering::Rewritten, (*seq, *seq), what)
            }
            Some(hash) if *hash == witness.hash => return Some(true),
            Some(_) => {
                let what = format!("were rewritten, all or some of them: {since}, and it is another one");
                (Tampering::Rewritten, ((good + 1).min(*seq), *seq), what)
            }
            None if *seq <= last => return None,
            None if matches!(scope, Scope::Bundle { until: Some(until), .. } if *at > until) => return None,
            None => {
                after = self.last.as_ref().and_then(|last| last.at);
                let are = if *seq == last + 1 { "is" } else { "are" };
                (Tampering::CutOff, (last + 1, *seq), format!("{are} cut off at the end: {since}"))
            }
        };
        let finding = Finding::new(tampering, &self.name_of(range.0), range, &what);
        self.findings.push(finding.between(after, Some(*at)));
        Some(false)
    }
}

impl Chain {
    /// The file that a record is in, or would be in.
    pub fn name_of(&self, seq: u64) -> String {
        let range = self.ranges.iter().rev().find(|range| range.from <= seq).or(self.ranges.first());
        range.map(|range| range.name.clone()).unwrap_or_default()
    }

    fn sealed_to(&self, segments: &[Segment<'_>]) -> u64 {
        let broken = |name: &str| self.findings.iter().any(|finding| finding.segment == name);
        let sealed = |name: &str| {
            segments.iter().any(|segment| segment.name == name && !matches!(segment.seal, chain::Seal::None))
        };
        let ranges = self.ranges.iter().take_while(|range| !broken(&range.name));
        ranges.filter(|range| sealed(&range.name)).map(|range| range.to).max().unwrap_or(0)
    }
}
