//! Which points' instants can be believed. A clock that was wrong must not decide what is deleted.
//!
//! Points have a number that no clock gives, and the store knows when it got them. Believed is the largest set of points
//! whose instants rise with their numbers, without those that are from the future, those that came late although an earlier
//! one came in time or stands for later, and the newest ones behind a leap that nothing confirms yet. A burst of points with invented times
//! thus cannot push others out: whichever of the two are not believed, they stay. A repository that was moved got all of
//! its points late, and they are believed.

use super::Candidate;
use jiff::{SignedDuration, Timestamp};

/// Clocks of hosts and stores may differ by so much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// What the store gets so long after its instant came late; a dump may take its time.
const LATE: SignedDuration = SignedDuration::from_hours(48);
/// A pause that is longer than this may be a clock that leapt.
const LEAP: SignedDuration = SignedDuration::from_hours(45 * 24);
/// Points over so long a time confirm that it was a pause.
const CONFIRMED: SignedDuration = SignedDuration::from_hours(24);

/// For each candidate, in their order: nothing, or why its instant is not believed.
pub(super) fn believe(candidates: &[Candidate], now: Timestamp) -> Vec<Result<(), &'static str>> {
    let mut verdicts: Vec<_> = candidates.iter().map(|c| plausible(c, now)).collect();
    let mut made: Vec<usize> = (0..candidates.len()).collect();
    made.sort_by(|&a, &b| {
        (candidates[a].sequence, &candidates[a].point).cmp(&(candidates[b].sequence, &candidates[b].point))
    });
    let delay = |i: usize| candidates[i].stored.duration_since(candidates[i].at);
    let mut one_in_time = false;
    let mut latest: Option<usize> = None;
    for &i in made.iter().filter(|&&i| candidates[i].at <= candidates[i].stored) {
        let late = delay(i) > LATE;
        let contradicted = latest.is_some_and(|l| candidates[l].at > candidates[i].at && delay(l) + SKEW < delay(i));
        if late && one_in_time {
            verdicts[i] = Err("the store got it long after that, and those before it in time");
        } else if contradicted {
            verdicts[i] = Err("it was made after one that stands for later, and the store got that one sooner");
        } else if latest.is_none_or(|l| candidates[l].at <= candidates[i].at) {
            latest = Some(i);
        }
        one_in_time |= !late;
    }
    let good: Vec<usize> = made.into_iter().filter(|&i| verdicts[i].is_ok()).collect();
    let rising = longest_rising(&good, |&i| candidates[i].at);
    for &i in good.iter().filter(|i| !rising.contains(i)) {
        verdicts[i] = Err("it does not agree with the order in which the points were made");
    }
    for &i in unconfirmed(&rising, |&i| candidates[i].at) {
        verdicts[i] = Err("it is long after the point before, and no later one confirms that clock yet");
    }
    verdicts
}

fn plausible(candidate: &Candidate, now: Timestamp) -> Result<(), &'static str> {
    let soon_after = |at: Timestamp| at.checked_add(SKEW).unwrap_or(Timestamp::MAX);
    if candidate.at > soon_after(now) || candidate.at > soon_after(candidate.stored) {
        return Err("it is from the future");
    }
    Ok(())
}

/// The longest subsequence that never falls, by patience sorting.
fn longest_rising(items: &[usize], at: impl Fn(&usize) -> Timestamp) -> Vec<usize> {
    // `piles[n]` ends the best subsequence of length n + 1; each item remembers what came before it.
    let mut piles: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; items.len()];
    for number in 0..items.len() {
        let pile = piles.partition_point(|&top| at(&items[top]) <= at(&items[number]));
        before[number] = pile.checked_sub(1).map(|below| piles[below]);
        if pile == piles.len() {
            piles.push(number);
        } else {
            piles[pile] = number;
        }
    }
    let mut rising = Vec::with_capacity(piles.len());
    let mut next = piles.last().copied();
    while let Some(number) = next {
        rising.push(items[number]);
        next = before[number];
    }
    rising.reverse();
    rising
}

/// The newest points behind a leap, as long as they do not span the time that confirms it.
fn unconfirmed(rising: &[usize], at: impl Fn(&usize) -> Timestamp) -> &[usize] {
    let leap = (1..rising.len()).rev().find(|&n| at(&rising[n]).duration_since(at(&rising[n - 1])) > LEAP);
    let island = leap.map_or(&[][..], |n| &rising[n..]);
    match (island.first(), island.last()) {
        (Some(first), Some(last)) if at(last).duration_since(at(first)) < CONFIRMED => island,
        _ => &[],
    }
}
