//! Whether a backup is so unlike the one before it that somebody should look before old points go. Pure.
//!
//! A point is never refused for it: it is committed, and its source is held back from pruning until `bkp ack`. What is looked
//! at is what every point tells of itself; contents are compared by rehearsals.

use crate::repo::point::Point;
use std::collections::BTreeMap;

/// How many there are of each kind of object, as engines count them.
pub type Inventory = BTreeMap<String, u64>;

/// Below this, a change of share is chance.
const ENOUGH: u64 = 1 << 20;
/// Shorter runs vary by themselves.
const LONG_SECONDS: i64 = 600;
const SLOWER: i64 = 10;

/// Half of what it was, or nothing at all, is more often an accident than housekeeping.
pub fn shrunk(previous: Option<u64>, bytes: u64) -> Option<String> {
    let previous = previous?;
    (bytes < previous / 2).then(|| {
        format!("this point has {bytes} bytes; the one before had {previous}. If nobody removed that much, look at the source")
    })
}

/// Of fewer than these, losing most is chance.
const SOME: u64 = 3;

/// Kinds of which there are fewer than half as many as before. Sizes miss that: a file does not shrink when its tables go.
pub fn dropped(engine: &str, before: &Inventory, now: &Inventory) -> Option<String> {
    let left = |what: &String| now.get(what).copied().unwrap_or(0);
    let few = |(what, before): &(&String, &u64)| {
        **before >= SOME && left(what) < **before / 2 && !comes_and_goes(engine, what)
    };
    let kinds: Vec<String> =
        before.iter().filter(few).map(|(what, before)| format!("{} of {before} {what}", left(what))).collect();
    (!kinds.is_empty()).then(|| {
        format!(
            "of what the point before had there are {}. If nobody removed them, look at the source",
            kinds.join(", ")
        )
    })
}

/// Bytes are compared by themselves; the keys of a Redis expire, and so do tokens and leases of a Vault.
fn comes_and_goes(engine: &str, what: &str) -> bool {
    what == "bytes"
        || engine == "vault" && ["entries", "tokens", "leases"].contains(&what)
        || (engine == "redis" && !["databases", "functions", "users"].contains(&what))
}

/// Everything that is odd about a point that has just been made. `afresh`: it was not to refer to what the one before had stored.
pub fn of(previous: &Point, point: &Point, afresh: bool) -> Vec<String> {
    let rewritten = rewritten(previous, point).filter(|_| !afresh);
    [shrunk(Some(previous.bytes), point.bytes), rewritten, slow(previous, point)].into_iter().flatten().collect()
}

/// Data that suddenly is new all over, or that no compression makes smaller any more, may have been encrypted by an intruder.
fn rewritten(previous: &Point, point: &Point) -> Option<String> {
    let share = |point: &Point| point.added as f64 / point.bytes.max(1) as f64;
    let is_first = previous.previous.is_none() && previous.tree.is_some();
    let odd = point.bytes >= ENOUGH && !is_first && share(previous) < 0.4 && share(point) > 0.8;
    odd.then(|| {
        format!(
            "{:.0} % of its bytes had to be stored; of the point before, {:.0} %. If nobody changed that much, somebody may have encrypted it",
            share(point) * 100.0,
            share(previous) * 100.0
        )
    })
}

fn slow(previous: &Point, point: &Point) -> Option<String> {
    let seconds = |point: &Point| point.written_at.duration_since(point.started_at).as_secs();
    let (before, now) = (seconds(previous), seconds(point));
    let odd = now >= LONG_SECONDS && now > before.saturating_mul(SLOWER);
    odd.then(|| format!("it took {now} s; the point before took {before} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_shrank_to_less_than_half_is_told() {
        assert_eq!(shrunk(None, 0), None);
        assert_eq!(shrunk(Some(1000), 500), None);
        assert!(shrunk(Some(1000), 499).is_some());
        assert!(shrunk(Some(1000), 0).is_some());
        assert_eq!(shrunk(Some(0), 0), None);
    }

    #[test]
    fn what_is_stored_anew_because_it_is_to_be_has_not_changed() {
        let point = |id, added| Point {
            bytes: 10 << 20,
            added,
            ..crate::job::restore::tests::point(id, "2026-03-01T02:00:00Z")
        };
        let (previous, whole) = (point("00000001", 1000), point("00000002", 10 << 20));
        assert!(of(&previous, &whole, false)[0].contains("100 % of its bytes had to be stored"));
        assert_eq!(of(&previous, &whole, true), Vec::<String>::new());
    }

    #[test]
    fn kinds_that_lost_most_of_their_objects_are_told() {
        let of = |counts: &[(&str, u64)]| counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        let before: Inventory = of(&[("tables", 12), ("views", 2), ("rows", 900), ("bytes", 70)]);
        assert_eq!(dropped("sqlite", &before, &before), None);
        assert_eq!(dropped("sqlite", &before, &of(&[("tables", 6), ("rows", 450)])), None, "half of them are left");
        let told = dropped("sqlite", &before, &of(&[("tables", 5)])).unwrap();
        assert!(told.contains("there are 0 of 900 rows, 5 of 12 tables."), "{told}");
        let keys: Inventory = of(&[("strings", 500), ("databases", 4)]);
        assert_eq!(dropped("redis", &keys, &of(&[("databases", 3)])), None, "keys expire");
        assert!(dropped("redis", &keys, &of(&[("databases", 1)])).is_some());
    }
}
