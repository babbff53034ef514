//! What places were to hold, by the journal's own word, against what they do hold.
//!
//! Whoever takes a head or a sealed segment away cannot take back the record that says it was put there, but with the record
//! itself. Of each place the newest head counts, which covers everything before it; that older ones are gone is told.

use super::chain::{Chain, Range};
use super::finding::{Finding, Tampering, records};
use super::scan::Anchored;
use super::verify::{AnchorSeen, Judged, Material, Scope};
use crate::policy::PRIMARY;
use std::collections::{BTreeMap, BTreeSet};

/// The primary repository, for people.
pub const REPOSITORY: &str = "the repository";

/// What this host keeps itself. It counts by its time stamp alone.
pub const HERE: &str = "this host";

/// What is known of a place that the journal names.
#[derive(Clone, Debug)]
pub enum Held {
    /// The numbers of the heads that it holds.
    Heads(BTreeSet<u64>),
    /// It could not be asked; why is told already.
    Unknown,
    /// Nobody can ask it from here: a mailbox.
    Mute,
}

/// What was put into the repository, and is there.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The first numbers of segments.
    pub segments: BTreeSet<u64>,
    /// The numbers of records.
    pub statements: BTreeSet<u64>,
}

/// `anchors` are the heads that were compared.
pub fn compare(chain: &Chain, anchored: &[Anchored], anchors: &[AnchorSeen], material: &Material<'_>) -> Judged {
    let mut judged = Judged::default();
    let mut places: BTreeMap<&str, Vec<&Anchored>> = BTreeMap::new();
    let until = material.known_before;
    for one in anchored.iter().filter(|one| material.scope != Scope::Live || one.seq <= until) {
        places.entry(&one.place).or_default().push(one);
    }
    for (place, all) in places {
        let Some(newest) = all.iter().max_by_key(|one| one.upto) else { continue };
        match material.places.get(place) {
            Some(Held::Heads(heads)) => heads_of(&mut judged, chain, (newest, &all), heads),
            Some(Held::Unknown) => {}
            Some(Held::Mute) => judged.notes.push(format!(
                "{place} was sent the head of record {}: compare with it too, --anchor FILE reads a saved mail",
                newest.upto
            )),
            None if material.asks_everybody => retired(&mut judged, newest, anchors),
            None => {}
        }
        if place == PRIMARY
            && let Some(stored) = &material.stored
        {
            put_away(&mut judged, chain, newest, stored, material);
        }
    }
    judged
}

fn heads_of(judged: &mut Judged, chain: &Chain, (newest, all): (&Anchored, &[&Anchored]), heads: &BTreeSet<u64>) {
    let place = &newest.place;
    if !heads.contains(&newest.upto) {
        let what = format!(
            "and all before: record {} says that {place} was given the head of it, and {place} does not hold it any more",
            newest.seq
        );
        let range = (newest.upto, newest.upto);
        let finding = Finding::new(Tampering::AnchorGone, &chain.name_of(newest.upto), range, &what);
        judged.findings.push(finding.between(newest.time, None));
    }
    let gone: Vec<u64> = all.iter().map(|one| one.upto).filter(|upto| !heads.contains(upto)).collect();
    let older = gone.iter().filter(|upto| **upto != newest.upto).count();
    if older > 0 {
        judged.notes.push(format!("{older} older of {} heads are not in {place} any more", all.len()));
    }
}

/// A place that is not asked any more. What it held matters unless another place holds a later head.
fn retired(judged: &mut Judged, newest: &Anchored, anchors: &[AnchorSeen]) {
    let Anchored { place, upto, seq, .. } = newest;
    let others = anchors.iter().filter(|a| {
        a.fits == Some(true)
            && (place == PRIMARY || !a.witness.place.starts_with(REPOSITORY) && a.witness.place != HERE)
    });
    let what = format!("{place} is not configured any more; record {seq} says that it holds the head of record {upto}");
    match others.map(|anchor| anchor.witness.seq).max() {
        Some(later) if later >= *upto => judged.notes.push(what),
        _ => judged.unasked.push(what),
    }
}

/// A head goes into the repository after everything that it covers.
fn put_away(judged: &mut Judged, chain: &Chain, newest: &Anchored, stored: &Stored, material: &Material<'_>) {
    let first_of = |range: &Range| material.segments.iter().find(|s| s.name == range.name).map(|s| s.first);
    for range in chain.ranges.iter().filter(|range| range.to <= newest.upto) {
        if first_of(range).is_some_and(|first| !stored.segments.contains(&first)) {
            let what = format!(
                "of {} were sealed and put into the repository before record {}, and are not there any more (while this host has them, bkp evidence anchor puts them there again)",
                range.name, newest.seq
            );
            judged.findings.push(Finding::new(Tampering::SealGone, &range.name, (range.from, range.to), &what));
        }
    }
    let attested = |seq: u64| seq > newest.upto || stored.statements.contains(&seq);
    let gone: Vec<u64> = chain.rehearsed.iter().map(|at| at.seq).filter(|seq| !attested(*seq)).collect();
    if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
        let what = format!(
            "{} signed statements of rehearsals, in {}, are not in the repository any more (bkp evidence anchor puts them there again)",
            gone.len(),
            records(*first, *last)
        );
        let mut finding = Finding::of_all(Tampering::SealGone, &chain.name_of(*first), &what);
        (finding.from, finding.to) = (*first, *last);
        judged.findings.push(finding);
    }
}
