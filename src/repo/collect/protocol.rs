//! When an object may die. Pure: `tests/collect_model.rs` runs these decisions through all interleavings of writers,
//! collectors and crashes; the collector and the writers ask the same functions.
//!
//! All times are the store's. They only decide *when* something is collected: an object dies when two marks, taken apart,
//! both found that nothing reaches it, and what a session that runs may need is reached.

use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// Short identity of an object: the first half of the SHA-256 of its name.
pub type Id = u128;

/// The times of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// What was dead for so long, in every mark since, is deleted.
    pub between_marks: SignedDuration,
    /// A session that gives no sign of life for so long is fenced.
    pub session_dies: SignedDuration,
    /// A fence stands for so long before its session counts as ended.
    pub fence_rests: SignedDuration,
    /// Younger objects are never dead.
    pub young: SignedDuration,
}

pub const PROTOCOL: Protocol = Protocol {
    between_marks: SignedDuration::from_hours(24),
    session_dies: SignedDuration::from_hours(72),
    fence_rests: SignedDuration::from_hours(24),
    young: SignedDuration::from_hours(7 * 24),
};

/// A session as the store shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// When its object was stored.
    pub started: Timestamp,
    /// When it last stored something under its name.
    pub sign_of_life: Timestamp,
    pub ended: bool,
    /// When its fence was stored.
    pub fenced: Option<Timestamp>,
}

/// Which sessions keep what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs<I> {
    /// The points that these build on must stay.
    pub open: Vec<I>,
    /// What these have stored, according to their checkpoints, must stay.
    pub checkpoints: Vec<I>,
}

/// An object as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: Id,
    pub size: u64,
    pub stored: Timestamp,
}

impl Protocol {
    /// Whether what a session may need must stay.
    pub fn is_open(&self, session: &SessionState, now: Timestamp) -> bool {
        let closed = session.fenced.is_some_and(|fence| passed(fence, now) >= self.fence_rests);
        !session.ended && !closed
    }

    /// Whether to tell a session that it is not waited for any longer.
    pub fn wants_fence(&self, session: &SessionState, now: Timestamp) -> bool {
        !session.ended && session.fenced.is_none() && passed(session.sign_of_life, now) >= self.session_dies
    }

    /// From when on objects are too young to be dead: whatever was stored since the oldest open session began may be its own.
    pub fn young_from<'a>(&self, sessions: impl IntoIterator<Item = &'a SessionState>, now: Timestamp) -> Timestamp {
        let open = sessions.into_iter().filter(|session| self.is_open(session, now)).map(|session| session.started);
        let young = now.checked_sub(self.young).unwrap_or(Timestamp::MIN);
        open.chain([young]).min().unwrap_or(young)
    }

    /// What open sessions may need. A session may take up what any unended one of its series has stored, also one that was
    /// fenced meanwhile.
    pub fn needs<'a, I: Clone>(
        &self,
        sessions: impl IntoIterator<Item = (I, &'a SessionState, &'a str)>,
        now: Timestamp,
    ) -> Needs<I> {
        let all: Vec<(I, &SessionState, &str)> = sessions.into_iter().collect();
        let open: Vec<&(I, &SessionState, &str)> =
            all.iter().filter(|(_, state, _)| self.is_open(state, now)).collect();
        let of_series = |source: &str| open.iter().any(|(.., other)| *other == source);
        let unended = all.iter().filter(|(_, state, source)| !state.ended && of_series(source));
        Needs {
            open: open.iter().map(|(id, ..)| id.clone()).collect(),
            checkpoints: unended.map(|(id, ..)| id.clone()).collect(),
        }
    }

    /// Nothing reaches it, and it is not young.
    pub fn is_dead(&self, object: &Listed, reached: &Reached, young_from: Timestamp) -> bool {
        !reached.has(object.id) && object.stored < young_from
    }

    /// `dead_since` is when the first mark of those was stored that found it dead without a break.
    pub fn may_delete(&self, dead_since: Timestamp, now: Timestamp) -> bool {
        passed(dead_since, now) >= self.between_marks
    }
}

fn passed(since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(since)
}

/// A writer may take up what another session stored only if that session was not fenced when it looked, after its own
/// session object was in the store.
pub fn may_adopt(fenced: bool) -> bool {
    !fenced
}

/// A fenced session commits nothing: nobody waits for it, and what it refers to may be going.
pub fn may_commit(fenced: bool) -> bool {
    !fenced
}

/// What must stay: what points and open sessions refer to, with the size it must have where that is known.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    sizes: HashMap<Id, u64>,
}

/// A size that is not known.
const ANY: u64 = u64::MAX;

impl Reached {
    /// A point refers to it.
    pub fn needs(&mut self, id: Id, size: u64) {
        self.sizes.insert(id, size);
    }

    /// A session may refer to it; whether it is there is the session's affair.
    pub fn may_need(&mut self, id: Id) {
        self.sizes.entry(id).or_insert(ANY);
    }

    pub fn has(&self, id: Id) -> bool {
        self.sizes.contains_key(&id)
    }

    /// Takes note of what is there; what is left in the end is missing, or has another size.
    pub fn found(&mut self, object: &Listed) {
        if let Some(size) = self.sizes.get_mut(&object.id)
            && *size == object.size
        {
            *size = ANY;
        }
    }

    pub fn missing(&self) -> impl Iterator<Item = Id> + '_ {
        self.sizes.iter().filter(|(_, size)| **size != ANY).map(|(id, _)| *id)
    }
}

/// Which marks found an object dead: by the number of the mark since which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadList(pub HashMap<Id, u32>);

impl DeadList {
    /// The mark since which an object is dead that this mark, `number`, finds dead. What was alive between begins anew.
    pub fn since(&self, id: Id, number: u32) -> u32 {
        self.0.get(&id).copied().unwrap_or(number)
    }
}

/// How much of what may be deleted is deleted in one run: the longest dead first, as long as `limit` bytes last, and one in any
/// case: a single dump may be larger than its part of the whole. `candidates` are sizes in that order; gives how many of them.
pub fn within_limit(candidates: &[u64], limit: u64) -> usize {
    let mut left = limit;
    let fits = |size: &&u64| {
        let fits = **size <= left;
        left = left.saturating_sub(**size);
        fits
    };
    candidates.iter().take_while(fits).count().max(candidates.len().min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(n: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(n)
    }

    fn session(started: i64) -> SessionState {
        SessionState { started: hours(started), sign_of_life: hours(started), ended: false, fenced: None }
    }

    #[test]
    fn a_silent_session_is_fenced_and_counts_for_one_more_day() {
        let mut silent = session(0);
        assert!(!PROTOCOL.wants_fence(&silent, hours(71)));
        assert!(PROTOCOL.wants_fence(&silent, hours(72)));
        silent.fenced = Some(hours(72));
        assert!(PROTOCOL.is_open(&silent, hours(95)) && !PROTOCOL.is_open(&silent, hours(96)));
        let ended = SessionState { ended: true, ..session(0) };
        assert!(!PROTOCOL.is_open(&ended, hours(1)) && !PROTOCOL.wants_fence(&ended, hours(100)));
    }

    #[test]
    fn what_was_stored_since_the_oldest_open_session_began_is_young() {
        let now = hours(1000);
        assert_eq!(PROTOCOL.young_from(&[session(990)], now), hours(1000 - 168));
        assert_eq!(PROTOCOL.young_from(&[session(500), session(700)], now), hours(500));
        assert_eq!(PROTOCOL.young_from(&[SessionState { ended: true, ..session(500) }], now), hours(832));
    }

    #[test]
    fn what_is_there_with_another_size_is_missing() {
        let mut reached = Reached::default();
        reached.needs(1, 10);
        reached.needs(2, 10);
        reached.may_need(3);
        reached.may_need(1);
        let there = |id, size| Listed { id, size, stored: hours(0) };
        reached.found(&there(1, 10));
        reached.found(&there(2, 11));
        assert_eq!(reached.missing().collect::<Vec<_>>(), [2]);
        assert!(reached.has(3));
    }

    #[test]
    fn a_run_stops_at_its_limit() {
        assert_eq!(within_limit(&[10, 10, 10], 25), 2);
        assert_eq!(within_limit(&[10, 30, 1], 25), 1, "and does not pass over what is too large");
        assert_eq!(within_limit(&[30, 1], 25), 1, "which goes by itself");
        assert_eq!(within_limit(&[], 0), 0);
    }
}
