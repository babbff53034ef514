//! Verification: the chain by itself, then against everything that others hold of it.
//!
//! Pure but for reading what it is given. A journal that was rewritten as a whole holds together by itself; what gives it away
//! are the seals in the repository and the heads that were anchored elsewhere. What there is nothing to compare with is
//! told in `notes`, never passed over.

use super::chain::{self, Chain, Mark, Segment};
use super::finding::{Finding, Tampering, short};
use super::head::{SignedHead, StampedHead, Witness};
use super::statement::{self, Signed};
use super::timestamp::{self, Authorities};
use crate::error::Result;
use ed25519_dalek::VerifyingKey;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// What there is to look at.
#[derive(Default)]
pub struct Material<'a> {
    pub segments: Vec<Segment<'a>>,
    /// The number that the first record must have: 1, unless only a period is here.
    pub begins: Option<u64>,
    /// Somebody may be writing.
    pub live: bool,
    /// When it was taken from its host: later heads are of records that are not here.
    pub until: Option<Timestamp>,
    /// Heads that others hold, signatures checked.
    pub witnesses: Vec<Witness>,
    /// Statements of rehearsals; absent when there is no place that they could be in.
    pub statements: Option<Vec<Signed>>,
    /// The writer's, and whether it is known from elsewhere than what is verified.
    pub key: Option<(VerifyingKey, bool)>,
    /// What could not be looked at, and what is wrong before any record was read.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
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
                self.findings.push(Finding::new(Tampering::TimeStamp, name, (seq, seq), &what));
            }
            None => {}
        }
        self.witnesses.push(witness);
    }
}

/// What verification came to.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub ok: bool,
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
    pub notes: Vec<String>,
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

pub fn verify(material: Material<'_>) -> Result<Verification> {
    let wanted: BTreeSet<u64> = material.witnesses.iter().map(|witness| witness.seq).collect();
    let mut chain = chain::read(&material.segments, material.begins, &wanted, material.live)?;
    inner_anchors(&mut chain, &material)?;
    let anchors = outer_anchors(&mut chain, material.witnesses, material.until);
    let rehearsals = chain.rehearsed.len() as u64;
    let mut notes = material.notes;
    let attested = match &material.statements {
        None => 0,
        Some(statements) => {
            let (attested, findings) = statement::compare(statements, &chain);
            chain.findings.extend(findings);
            if attested < rehearsals {
                notes
                    .push(format!("{} of {rehearsals} rehearsals have no signed statement yet", rehearsals - attested));
            }
            attested
        }
    };
    notes.append(&mut chain.notes);
    let sealed_to = chain.sealed_to(&material.segments);
    let anchored_to = anchors.iter().filter(|a| a.fits == Some(true)).map(|a| a.witness.seq).max().unwrap_or(0);
    let mut findings = material.findings;
    findings.append(&mut chain.findings);
    findings.sort_by_key(|finding| (finding.from, finding.to, finding.tampering));
    findings.dedup();
    Ok(Verification {
        ok: findings.is_empty(),
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
        notes,
    })
}

/// What the journal itself says of its earlier heads. They mostly end segments; others are looked up.
fn inner_anchors(chain: &mut Chain, material: &Material<'_>) -> Result<()> {
    let wanted: BTreeSet<u64> = chain.anchored.iter().map(|anchored| anchored.upto).collect();
    let missing: BTreeSet<u64> = wanted.iter().copied().filter(|seq| !chain.hashes.contains_key(seq)).collect();
    for range in chain.ranges.clone() {
        let Some(segment) = material.segments.iter().find(|segment| segment.name == range.name) else { continue };
        if missing.range(range.from..=range.to.max(range.from)).next().is_some() {
            let scanned = super::scan::scan(&segment.name, &(segment.bytes)()?, &missing);
            chain.hashes.extend(scanned.hashes);
        }
    }
    for anchored in std::mem::take(&mut chain.anchored) {
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
    Ok(())
}

/// What others hold, against the chain. Between the last head that fits and the first that does not, it was rewritten.
fn outer_anchors(chain: &mut Chain, mut witnesses: Vec<Witness>, until: Option<Timestamp>) -> Vec<AnchorSeen> {
    witnesses.sort_by_key(|witness| (witness.seq, witness.at));
    let mut good = chain.first.map_or(1, |(seq, _)| seq).saturating_sub(1);
    let mut seen = Vec::new();
    for witness in witnesses {
        let fits = chain.fits(&witness, good, until);
        if fits == Some(true) {
            good = witness.seq;
        }
        seen.push(AnchorSeen { witness, fits });
    }
    seen
}

impl Chain {
    /// `good`: the last record that another head was found to fit. What does not fit becomes a finding.
    fn fits(&mut self, witness: &Witness, good: u64, until: Option<Timestamp>) -> Option<bool> {
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
            None if *seq <= last || until.is_some_and(|until| *at > until) => return None,
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
