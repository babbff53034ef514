//! Whether a backup is so unlike the one before it that somebody should look before old points go. Pure.
//!
//! A point is never refused for it: it is committed, and its source is held back from pruning until `bkp ack`. What is looked
//! at is what every point tells of itself; contents are compared by rehearsals.

use crate::repo::point::Point;

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

/// Everything that is odd about a point that has just been made.
pub fn of(previous: &Point, point: &Point) -> Vec<String> {
    [shrunk(Some(previous.bytes), point.bytes), rewritten(previous, point), slow(previous, point)]
        .into_iter()
        .flatten()
        .collect()
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
}
