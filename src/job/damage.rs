//! Damage that checks found, remembered by this installation until a check finds the same thing sound again.
//!
//! What was not looked at stays as it was: a sample clears nothing, and neither does a check to a lower level than the one
//! that found it. One file per repository, beside the writer's state; a missing or unreadable one counts as empty.

use super::Places;
use crate::durable;
use crate::error::{Context, Failure, Result};
use crate::repo::chain;
use crate::repo::check::Problem;
use crate::repo::proof::Level;
use crate::store::Key;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub object: String,
    pub problem: String,
    /// `SOURCE/UTC-ID` of what cannot be restored whole because of it.
    pub points: Vec<String>,
    /// How deep the check looked that found it.
    pub level: Level,
    pub at: Timestamp,
}

/// What a check has looked at.
pub struct Looked<'a> {
    pub problems: &'a [Problem],
    /// Points that were seen sound.
    pub proven: &'a [String],
    pub level: Level,
    /// Sources all of whose points, and their chain, were looked at.
    pub sources: BTreeSet<String>,
    /// All points that there are; what is gone is no longer damaged.
    pub existing: BTreeSet<String>,
}

pub fn load(places: &Places) -> Vec<Found> {
    read(&places.damage())
}

/// What is remembered of all repositories that this installation writes into, without asking one of them.
pub fn load_all(state: &Path) -> Vec<Found> {
    let repositories = std::fs::read_dir(state.join("repositories")).into_iter().flatten().flatten();
    repositories.flat_map(|repository| read(&super::damage_of(&repository.path()))).collect()
}

fn read(path: &Path) -> Vec<Found> {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Takes in what a check found. Nothing is written when there is nothing to remember or to forget.
pub fn update(places: &Places, looked: &Looked<'_>, now: Timestamp) -> Result<()> {
    let before = load(places);
    let after = fold(before.clone(), looked, now);
    if after == before {
        return Ok(());
    }
    let path = places.damage();
    let what = || format!("cannot write {}", path.display());
    durable::create_private_directory(durable::parent_of(&path)).context(what)?;
    let text = serde_json::to_vec_pretty(&after).map_err(|e| Failure::failed(what()).because(e))?;
    durable::write(&path, &text, 0o600).context(what)
}

fn fold(before: Vec<Found>, looked: &Looked<'_>, now: Timestamp) -> Vec<Found> {
    let new = |p: &Problem| Found {
        object: p.object.clone(),
        problem: p.problem.clone(),
        points: p.points.clone(),
        level: looked.level,
        at: now,
    };
    let mut after: Vec<Found> = looked.problems.iter().map(new).collect();
    let again = |old: &Found| looked.problems.iter().any(|p| p.object == old.object && p.points == old.points);
    after.extend(before.into_iter().filter(|old| !again(old)).filter_map(|old| still(old, looked)));
    after
}

/// What is left of an old finding that was not made again.
fn still(mut old: Found, looked: &Looked<'_>) -> Option<Found> {
    if old.points.is_empty() {
        let key = Key::new(&old.object).ok()?;
        let (_, source, _) = chain::parts(&key)?;
        return (!looked.sources.contains(source)).then_some(old);
    }
    let sound = |point: &String| old.level <= looked.level && looked.proven.contains(point);
    old.points.retain(|point| looked.existing.contains(point) && !sound(point));
    (!old.points.is_empty()).then_some(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(points: &[&str]) -> Problem {
        let points = points.iter().map(|p| (*p).to_owned()).collect();
        Problem { object: "w/w/p/1".into(), problem: "it is missing".into(), points }
    }

    fn looked<'a>(problems: &'a [Problem], proven: &'a [String], level: Level) -> Looked<'a> {
        let existing = ["a/1", "a/2"].map(str::to_owned).into();
        Looked { problems, proven, level, sources: BTreeSet::new(), existing }
    }

    #[test]
    fn damage_is_remembered_until_the_same_point_is_seen_sound_as_deep_as_before() {
        let now = Timestamp::UNIX_EPOCH;
        let problems = [problem(&["a/1", "a/2", "a/gone"])];
        let found = fold(Vec::new(), &looked(&problems, &[], Level::Readable), now);
        assert_eq!(found.len(), 1);
        let both = ["a/1".to_owned(), "a/2".to_owned()];
        let shallow = fold(found.clone(), &looked(&[], &both, Level::Stored), now);
        assert_eq!(shallow[0].points, ["a/1", "a/2"], "a point that was removed is no longer damaged");
        let one = fold(shallow, &looked(&[], &both[..1], Level::Readable), now);
        assert_eq!(one[0].points, ["a/2"]);
        assert_eq!(fold(one, &looked(&[], &both, Level::Readable), now), []);
    }
}
