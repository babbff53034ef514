//! How a copy stands: a comparison of what the repository and the copy list, and of what checks found. Pure.

use crate::repo::copy::{self, Shelf};
use crate::repo::names;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has every point that the repository has.
    Good,
    /// Points are missing.
    Behind,
    /// A check found damage in it.
    Damaged,
    /// The store answers, and there is no repository.
    Absent,
    Unreachable,
}

#[derive(Clone, Debug, Serialize)]
pub struct CopyState {
    pub name: String,
    pub location: String,
    pub standing: Standing,
    /// How many of the repository's points it has.
    pub points: u64,
    pub missing: u64,
    /// The oldest point that is missing, and for how long it has been.
    pub missing_since: Option<Timestamp>,
    pub behind_seconds: Option<i64>,
    /// Why it cannot be reached, or what is damaged.
    pub why: Option<String>,
}

impl CopyState {
    /// One of which nothing is known but this.
    pub fn unknown(name: &str, location: String, standing: Standing, why: Option<String>) -> Self {
        let (name, behind_seconds) = (name.to_owned(), None);
        CopyState { name, location, standing, points: 0, missing: 0, missing_since: None, behind_seconds, why }
    }
}

/// What stores list, by writer.
pub type Shelves = BTreeMap<String, Shelf>;

/// `damage`: objects of it that a check found damaged.
pub fn compare(
    (name, location): (&str, String),
    repository: &Shelves,
    copy: &Shelves,
    damage: usize,
    now: Timestamp,
) -> CopyState {
    let (mut points, mut missing, mut since) = (0, 0, None::<Timestamp>);
    for (writer, shelf) in repository {
        let there = copy.get(writer);
        for (key, size) in copy::points(shelf, writer) {
            if there.and_then(|there| there.get(key)) == Some(&size) {
                points += 1;
                continue;
            }
            missing += 1;
            let at = names::instant_of(key.last());
            since = since.into_iter().chain(at).min();
        }
    }
    let standing = match (damage, missing) {
        (0, 0) => Standing::Good,
        (0, _) => Standing::Behind,
        _ => Standing::Damaged,
    };
    let why = (damage > 0).then(|| format!("a check found {damage} damaged"));
    CopyState {
        name: name.to_owned(),
        location,
        standing,
        points,
        missing,
        missing_since: since,
        behind_seconds: since.map(|since| now.duration_since(since).as_secs()),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    fn shelves(names: &[(&str, u64)]) -> Shelves {
        let shelf = names.iter().map(|(name, size)| (Key::new(format!("w/a/points/app/{name}")).unwrap(), *size));
        [("a".to_owned(), shelf.collect())].into()
    }

    fn state(repository: &[(&str, u64)], copy: &[(&str, u64)], damage: usize) -> CopyState {
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        compare(("madrid", "s3://m".into()), &shelves(repository), &shelves(copy), damage, now)
    }

    const MONDAY: (&str, u64) = ("20260101T000000Z-00000001", 10);
    const TUESDAY: (&str, u64) = ("20260102T000000Z-00000002", 10);

    #[test]
    fn a_copy_is_good_when_it_has_every_point_with_its_size() {
        let good = state(&[MONDAY, TUESDAY], &[MONDAY, TUESDAY], 0);
        assert_eq!((good.standing, good.points, good.missing, good.behind_seconds), (Standing::Good, 2, 0, None));
        let cut = state(&[MONDAY, TUESDAY], &[MONDAY, (TUESDAY.0, 9)], 0);
        assert_eq!((cut.standing, cut.points, cut.missing), (Standing::Behind, 1, 1));
        assert_eq!(cut.behind_seconds, Some(86_400));
        assert_eq!(state(&[MONDAY, TUESDAY], &[TUESDAY], 0).behind_seconds, Some(2 * 86_400));
    }

    #[test]
    fn older_points_that_only_the_copy_has_are_no_matter() {
        assert_eq!(state(&[TUESDAY], &[MONDAY, TUESDAY], 0).standing, Standing::Good);
    }

    #[test]
    fn damage_weighs_more_than_being_behind() {
        assert_eq!(state(&[MONDAY, TUESDAY], &[MONDAY], 1).standing, Standing::Damaged);
    }
}
