//! Checks: reads points again to a level, looks at the chain of their series, and records what was found: proofs where this
//! host may sign, damage in its state.

use super::Places;
use super::damage::{self, Looked};
use crate::durable;
use crate::error::{Context as _, Result};
use crate::event::Context;
use crate::repo::Repository;
use crate::repo::catalog::Catalog;
use crate::repo::chain::{self, Seen, Series};
use crate::repo::check::{self, Problem, Report, Request};
use crate::repo::collect::forgotten::{self, Removed};
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::proof::{self, Level};
use crate::repo::sign::Trust;
use crate::repo::writer::Writer;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Ranges of numbers that were forgotten, by source.
type Forgotten = BTreeMap<String, Vec<(u64, u64)>>;

pub struct Check<'a> {
    pub repository: &'a Repository,
    /// Everything there is, for the chains.
    pub catalog: &'a Catalog,
    /// What this host remembers to have written, read before the store was listed: what it commits meanwhile is not missing.
    pub seen: &'a [Seen],
    /// Those to read again.
    pub points: &'a [Point],
    pub keys: &'a Keyring,
    pub trust: &'a Trust,
    /// Who signs the proofs; without one nothing is recorded in the store.
    pub writer: Option<&'a Writer>,
    pub places: &'a Places,
    /// A copy may have fewer points than were made: that some are missing is no finding there.
    pub is_copy: bool,
    pub level: Level,
    /// The part of the objects to read; 1.0 is all. Proofs need all.
    pub sample: f64,
    pub turn: u64,
}

/// How many samples of this repository were read to their end: the next one reads another part. Nothing known is the first.
pub fn turn(places: &Places) -> u64 {
    std::fs::read_to_string(places.turn()).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// A sample was read: the next part is due. One that was broken off is read again.
pub fn next_turn(places: &Places, turn: u64) -> Result<()> {
    let path = places.turn();
    let what = || format!("cannot write {}", path.display());
    durable::create_private_directory(durable::parent_of(&path)).context(what)?;
    durable::write(&path, turn.wrapping_add(1).to_string().as_bytes(), 0o600).context(what)
}

/// What a check found, and why that could not be remembered.
pub struct Checked {
    pub report: Report,
    pub forgotten: Option<crate::error::Failure>,
}

impl Check<'_> {
    pub fn run(&self, context: Context<'_>, now: Timestamp) -> Result<Checked> {
        let mut report = check::run(&Request {
            repository: self.repository,
            points: self.points,
            level: Some(self.level),
            sample: self.sample,
            turn: self.turn,
            keys: self.keys,
            context,
        })?;
        let sources = self.sources();
        report.problems.extend(self.chains(&sources)?);
        report.problems.sort();
        report.problems.dedup();
        let forgotten = self.remember(&report, sources, now).err();
        if let Some(writer) = self.writer {
            let proven = |point: &&Point| report.proven.contains(&check::title(point));
            for point in self.points.iter().filter(proven) {
                proof::write(self.repository, writer, point, self.level, now)?;
            }
        }
        Ok(Checked { report, forgotten })
    }

    fn is_chosen(&self, point: &Point) -> bool {
        self.points.iter().any(|p| p.key() == point.key())
    }

    /// Sources all of whose points are looked at. With nothing left out, also those that nothing is left of.
    fn sources(&self) -> BTreeSet<String> {
        let all = self.catalog.points.iter();
        let (chosen, left_out): (Vec<_>, Vec<_>) = all.partition(|p| self.is_chosen(p));
        let mut sources: BTreeSet<String> = chosen.iter().map(|p| p.source.clone()).collect();
        sources.retain(|source| left_out.iter().all(|p| p.source != *source));
        if left_out.is_empty() {
            sources.extend(self.seen().map(|seen| seen.source.clone()));
            sources.extend(self.broken().map(|(_, source, _)| source.to_owned()));
        }
        sources
    }

    fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|_| !self.is_copy)
    }

    fn broken(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.catalog.broken.iter().filter_map(|(key, _)| chain::parts(key))
    }

    /// What was pruned, by writer and source.
    fn forgotten(&self) -> Result<BTreeMap<&str, Forgotten>> {
        let writers: BTreeSet<&str> = self.catalog.points.iter().map(|p| p.writer.as_str()).collect();
        let removed = |writer: &'_ str| forgotten::removed(self.repository, self.keys, self.trust, writer);
        let of = |writer: &'_ str| removed(writer).map(Removed::numbers);
        writers.into_iter().map(|writer| Ok((writer, of(writer)?))).collect()
    }

    fn chains(&self, sources: &BTreeSet<String>) -> Result<Vec<Problem>> {
        let forgotten = self.forgotten()?;
        let own = self.writer.map(|w| w.id());
        let mut series: BTreeMap<(&str, &str), Series<'_>> = BTreeMap::new();
        fn entry<'s, 'a>(
            series: &'s mut BTreeMap<(&'a str, &'a str), Series<'a>>,
            writer: &'a str,
            source: &'a str,
            partial: bool,
        ) -> &'s mut Series<'a> {
            let empty = || Series {
                writer,
                source,
                points: Vec::new(),
                broken: BTreeSet::new(),
                forgotten: &[],
                seen: None,
                partial,
            };
            series.entry((writer, source)).or_insert_with(empty)
        }
        for point in &self.catalog.points {
            let hash = self.catalog.hashes.get(&point.key()).copied().unwrap_or_default();
            entry(&mut series, &point.writer, &point.source, self.is_copy).points.push((point, hash));
        }
        for (writer, source, point) in self.broken() {
            entry(&mut series, writer, source, self.is_copy).broken.insert(point);
        }
        for seen in self.seen() {
            entry(&mut series, own.unwrap_or_default(), &seen.source, self.is_copy).seen = Some(seen);
        }
        for ((writer, source), series) in &mut series {
            let of_writer = forgotten.get(writer).and_then(|of| of.get(*source));
            series.forgotten = of_writer.map_or(&[], Vec::as_slice);
        }
        let wanted = series.into_values().filter(|s| sources.contains(s.source));
        Ok(wanted.flat_map(|s| s.problems()).collect())
    }

    fn remember(&self, report: &Report, sources: BTreeSet<String>, now: Timestamp) -> Result<()> {
        let mut problems = report.problems.clone();
        for (key, failure) in &self.catalog.broken {
            let points = chain::parts(key).map(|(_, source, point)| format!("{source}/{point}"));
            problems.push(Problem {
                object: key.to_string(),
                problem: failure.full(),
                points: points.into_iter().collect(),
            });
        }
        let mut existing: BTreeSet<String> = self.catalog.points.iter().map(check::title).collect();
        // A point that opens again is looked at like any other from then on.
        existing.extend(self.broken().map(|(_, source, point)| format!("{source}/{point}")));
        let looked = Looked { problems: &problems, proven: &report.proven, level: self.level, sources, existing };
        damage::update(self.places, &looked, now)
    }
}
