//! The chain of a series: whether points were taken away, replaced or forked (`docs/FORMAT.md` §3).
//!
//! Each point carries the next number of its series and the hash of the point before. A number that is missing between others, a
//! predecessor that is another object now, and two points of one number are findings. That the newest are gone shows only to
//! the writer, which keeps [`Seen`] in its state. Points before the oldest that is kept were removed on purpose, and so were those
//! whose numbers a collector remembers.
//! A decision only: it reads nothing.

use crate::durable;
use crate::error::{Context, Result};
use crate::repo::check::Problem;
use crate::repo::collect::records::has_number;
use crate::repo::names;
use crate::repo::point::Point;
use crate::store::Key;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The newest point that a writer made of one source, as it remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub source: String,
    pub point: String,
    pub sequence: u64,
}

/// What a writer remembers lies in one file per series, because series are written side by side.
pub fn remembered(directory: &Path) -> Vec<Seen> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()).collect()
}

pub fn remember(directory: &Path, seen: &Seen) -> Result<()> {
    let path: PathBuf = directory.join(format!("{}.json", seen.source));
    let what = || format!("cannot write {}", path.display());
    durable::create_private_directory(directory).context(what)?;
    let text = serde_json::to_vec(seen).map_err(|e| crate::error::Failure::failed(what()).because(e))?;
    durable::write(&path, &text, 0o600).context(what)
}

/// The points of one series, and what is known around them.
pub struct Series<'a> {
    pub writer: &'a str,
    pub source: &'a str,
    /// All that could be opened, with the hashes of their objects.
    pub points: Vec<(&'a Point, [u8; 32])>,
    /// Names (`UTC-ID`) of those that are there and could not.
    pub broken: BTreeSet<&'a str>,
    /// Numbers that were removed on purpose.
    pub forgotten: &'a [(u64, u64)],
    /// Of the writer itself; absent elsewhere.
    pub seen: Option<&'a Seen>,
    /// Not all points have to be here: that some are missing is no finding.
    pub partial: bool,
}

impl Series<'_> {
    fn problem(&self, point: &str, problem: String) -> Problem {
        Problem { object: names::point(self.writer, self.source, point).to_string(), problem, points: Vec::new() }
    }

    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let by_name: BTreeMap<&str, &[u8; 32]> = self.points.iter().map(|(p, hash)| (p.point.as_str(), hash)).collect();
        let mut by_number: BTreeMap<u64, Vec<&Point>> = BTreeMap::new();
        for (point, _) in &self.points {
            by_number.entry(point.sequence).or_default().push(point);
        }
        for (number, points) in by_number.iter().filter(|(_, points)| points.len() > 1) {
            let all: Vec<_> = points.iter().map(|p| p.point.as_str()).collect();
            let text = format!("fork: {} all have number {number} of their series", all.join(" and "));
            found.push(self.problem(all[all.len() - 1], text));
        }
        let mut named = BTreeSet::new();
        for (point, previous) in self.points.iter().filter_map(|(p, _)| Some((p, p.previous.as_ref()?))) {
            match by_name.get(previous.point.as_str()) {
                Some(hash) if **hash != previous.sha256 => {
                    let text = format!("it is not the object that {} was made after: it was replaced", point.point);
                    found.push(self.problem(&previous.point, text));
                }
                Some(_) => {}
                None if self.partial
                    || self.is_before_the_oldest(point)
                    || self.broken.contains(previous.point.as_str()) => {}
                None if self.follows_a_forgotten(point, &by_number) => {}
                None if named.insert(point.sequence.saturating_sub(1)) => {
                    let text = format!("it is missing, and {} was made after it", point.point);
                    found.push(self.problem(&previous.point, text));
                }
                None => {}
            }
        }
        if !self.partial {
            found.extend(self.gaps(&by_number, &named));
            found.extend(self.rollback(&by_number));
        }
        found
    }

    fn was_forgotten(&self, number: u64) -> bool {
        has_number(self.forgotten, number)
    }

    /// Whether the nearest number below it that has no point was forgotten: two runs that overlap build on the same point, so
    /// that the predecessor need not have the number just below.
    fn follows_a_forgotten(&self, point: &Point, by_number: &BTreeMap<u64, Vec<&Point>>) -> bool {
        let absent = (1..point.sequence).rev().find(|number| !by_number.contains_key(number));
        absent.is_some_and(|number| self.was_forgotten(number))
    }

    fn is_before_the_oldest(&self, point: &Point) -> bool {
        self.points.iter().all(|(other, _)| other.sequence >= point.sequence)
    }

    /// Numbers between others that nothing has, and that no broken point may have.
    fn gaps(&self, by_number: &BTreeMap<u64, Vec<&Point>>, named: &BTreeSet<u64>) -> Vec<Problem> {
        let mut unexplained = self.broken.len() as u64;
        let mut found = Vec::new();
        for ((before, _), (after, points)) in by_number.iter().zip(by_number.iter().skip(1)) {
            let missing = (before + 1..*after).filter(|n| !named.contains(n) && !self.was_forgotten(*n)).count() as u64;
            let explained = missing.min(unexplained);
            unexplained -= explained;
            if missing > explained {
                let text = format!("number {} of its series follows on number {before}: points are missing", after);
                found.push(self.problem(&points[0].point, text));
            }
        }
        found
    }

    fn rollback(&self, by_number: &BTreeMap<u64, Vec<&Point>>) -> Option<Problem> {
        let seen = self.seen?;
        let newest = by_number.keys().next_back().copied().unwrap_or(0);
        let broken = self.broken.contains(seen.point.as_str());
        (newest < seen.sequence && !broken && !self.was_forgotten(seen.sequence)).then(|| {
            let text = format!(
                "it is missing: this host wrote it as number {}, and the newest one there is number {newest}",
                seen.sequence
            );
            self.problem(&seen.point, text)
        })
    }
}

/// Source and name of a point's object.
pub fn parts(key: &Key) -> Option<(&str, &str, &str)> {
    let mut parts = key.as_str().split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("w"), Some(writer), Some("points"), Some(source), Some(point), None) => Some((writer, source, point)),
        _ => None,
    }
}
