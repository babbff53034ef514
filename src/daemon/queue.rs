//! Who may begin next. Pure.
//!
//! So many runs at once on this host, and with each store; a run that has been at work for long makes room for another one, up
//! to twice as many, so that a slow source does not hold up the others. Whose policy has the fewest runs at work goes first,
//! then whose policy has begun the fewest for its slot, then what has been due for the longest: a policy of many sources does
//! not keep those waiting that are due with it.

use jiff::Timestamp;
use std::time::Duration;

/// From here on a run counts as slow.
pub const SLOW: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub runs: usize,
    pub runs_per_store: usize,
}

/// A run that is at work.
#[derive(Clone, Debug)]
pub struct AtWork<'a> {
    pub policy: &'a str,
    pub store: &'a str,
    pub since: Duration,
}

/// A task that could begin.
#[derive(Clone, Debug)]
pub struct Waiting<'a> {
    pub policy: &'a str,
    pub store: &'a str,
    pub due: Timestamp,
    /// How many tasks of its slot have begun before it.
    pub begun: usize,
}

/// The one of `waiting` that begins now, if any may.
pub fn choose(at_work: &[AtWork<'_>], waiting: &[Waiting<'_>], limits: Limits) -> Option<usize> {
    let is_free = |work: &mut dyn Iterator<Item = &AtWork<'_>>, limit: usize| {
        let (slow, quick): (Vec<_>, Vec<_>) = work.partition(|run| run.since >= SLOW);
        quick.len() + slow.len().saturating_sub(limit) < limit
    };
    if !is_free(&mut at_work.iter(), limits.runs) {
        return None;
    }
    let store_is_free =
        |store: &str| is_free(&mut at_work.iter().filter(|run| run.store == store), limits.runs_per_store);
    let of_policy = |policy: &str| at_work.iter().filter(|run| run.policy == policy).count();
    let free = waiting.iter().enumerate().filter(|(_, task)| store_is_free(task.store));
    free.min_by_key(|(at, task)| (of_policy(task.policy), task.begun, task.due, *at)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { runs: 2, runs_per_store: 2 };

    fn at_work(policy: &'static str, minutes: u64) -> AtWork<'static> {
        AtWork { policy, store: "s", since: Duration::from_secs(60 * minutes) }
    }

    fn waiting(policy: &'static str, due: i64) -> Waiting<'static> {
        Waiting { policy, store: "s", due: Timestamp::from_second(due).unwrap(), begun: 0 }
    }

    #[test]
    fn no_more_begin_than_may() {
        let one = [waiting("a", 1)];
        assert_eq!(choose(&[], &one, LIMITS), Some(0));
        assert_eq!(choose(&[at_work("b", 0)], &one, LIMITS), Some(0));
        assert_eq!(choose(&[at_work("b", 0), at_work("b", 1)], &one, LIMITS), None);
        assert_eq!(choose(&[], &[], LIMITS), None);
    }

    #[test]
    fn slow_runs_make_room_but_not_without_end() {
        let one = [waiting("a", 1)];
        let slow = |number| vec![at_work("b", 60); number];
        assert_eq!(choose(&slow(2), &one, LIMITS), Some(0));
        assert_eq!(choose(&[slow(2), vec![at_work("c", 0)]].concat(), &one, LIMITS), Some(0));
        assert_eq!(choose(&[slow(2), vec![at_work("c", 0); 2]].concat(), &one, LIMITS), None);
        assert_eq!(choose(&slow(3), &one, LIMITS), Some(0));
        assert_eq!(choose(&slow(4), &one, LIMITS), None);
    }

    #[test]
    fn policies_take_turns_and_then_the_oldest_goes_first() {
        let tasks = [waiting("big", 1), waiting("big", 1), waiting("small", 5), waiting("early", 0)];
        assert_eq!(choose(&[at_work("big", 0)], &tasks, LIMITS), Some(3));
        assert_eq!(choose(&[at_work("early", 0)], &tasks, LIMITS), Some(0));
        assert_eq!(choose(&[at_work("big", 0)], &tasks[..3], LIMITS), Some(2));
    }

    #[test]
    fn policies_that_are_due_together_get_on_together() {
        let mut begun = [0; 3];
        for _ in 0..30 {
            let tasks: Vec<Waiting<'_>> =
                (0..3).map(|of| Waiting { begun: begun[of], ..waiting(["a", "b", "c"][of], 1) }).collect();
            begun[choose(&[], &tasks, LIMITS).unwrap()] += 1;
        }
        assert_eq!(begun, [10; 3]);
    }

    #[test]
    fn a_store_that_is_busy_holds_up_only_its_own() {
        let busy = [at_work("a", 0)];
        let limits = Limits { runs: 4, runs_per_store: 1 };
        let other = Waiting { store: "other", ..waiting("b", 9) };
        assert_eq!(choose(&busy, &[waiting("b", 1), other], limits), Some(1));
    }
}
