//! What to do about the slots of a schedule at an instant.
//!
//! The journal has the next slot of each schedule before it comes, and every slot that came until it ends. From these two, the
//! calendar and `now` everything follows, after a start as after a nap or a jump of the clock:
//! - a slot that came while nothing ran is late; of several the newest one is made up for, the others are missed;
//! - a slot whose run goes on, whoever began it, is at work, and the others go by `overlap`;
//! - a slot up to the latest one that ended is never expected again;
//! - what was expected and will not come any more (another schedule, another clock) is taken back.

use super::{Due, Schedule, opening};
use crate::journal::{Job, OpenSlot, PolicyState, Reason};
use crate::policy::{Missed, Overlap};
use jiff::{SignedDuration, Timestamp};

/// A slot that is begun so long after it was due was missed before.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// Of more slots than these that were missed, only the newest are written down one by one.
const MANY: usize = 1000;

/// What the daemon has in hand for a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// The slot that is at work.
    pub running: Option<Timestamp>,
    /// The slot that waits for it.
    pub queued: Option<Timestamp>,
}

impl Busy {
    /// What others have in hand: the first slot of which a run goes on. `lives` says whether the process of a run is there.
    pub fn of_others(known: &PolicyState, lives: impl Fn(&str) -> bool) -> Self {
        let goes_on = |open: &OpenSlot| open.runs.values().any(|(run, ended)| ended.is_none() && lives(run));
        let running = known.open.iter().find(|(_, open)| goes_on(open)).map(|(slot, _)| *slot);
        Busy { running, queued: None }
    }
}

/// One step, in the order in which they are taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Expect(Due),
    Miss {
        slot: Timestamp,
        why: String,
    },
    /// By a rule; also what will not come.
    Skip {
        slot: Timestamp,
        why: String,
    },
    Run {
        slot: Timestamp,
        reason: Reason,
        deadline: Timestamp,
    },
    /// It is due, and waits for the one before it.
    Queue {
        slot: Timestamp,
        deadline: Timestamp,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub steps: Vec<Step>,
    /// Look again at this instant, if not before.
    pub wake: Option<Timestamp>,
}

/// A slot that came, and did not end yet.
struct Come {
    at: Due,
    /// A run of it began.
    begun: bool,
}

impl Schedule {
    pub fn decide(&self, known: &PolicyState, busy: Busy, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        let come = self.come(known, now, &mut decision);
        let next = self.next(known, now, &mut decision);
        let in_hand = |slot| busy.running == Some(slot) || busy.queued == Some(slot);
        let free: Vec<Come> = come.into_iter().filter(|come| !in_hand(come.at.slot)).collect();
        decision.wake = next.map(|next| next.slot);
        self.free(free, busy, now, &mut decision);
        decision
    }

    /// Until when a slot may be at work that was begun before. Who comes late has as long as who was in time.
    pub fn deadline_of(&self, open: &OpenSlot) -> Timestamp {
        match open.begun {
            Some(begun) if begun.duration_since(open.due) > LATE => super::later(begun, self.timing.deadline),
            _ => open.deadline,
        }
    }

    /// The same where nobody waits for slots to come: with nothing known, the latest slot counts as having just come.
    pub fn decide_once(&self, known: &PolicyState, busy: Busy, now: Timestamp) -> Decision {
        let mut decision = self.decide(known, busy, now);
        let is_new = known.open.is_empty() && known.reached.is_none();
        if let Some(slot) = self.calendar.latest(now).filter(|_| is_new)
            && opening(&self.timing, self.zone(), now).is_none()
        {
            let deadline = super::later(now, self.timing.deadline);
            decision.steps.push(Step::Expect(Due { slot, due: slot, deadline }));
            decision.steps.push(Step::Run { slot, reason: Reason::Schedule, deadline });
        }
        decision
    }

    /// All slots that came and are open, oldest first; those that nobody expected in time are expected now.
    fn come(&self, known: &PolicyState, now: Timestamp, decision: &mut Decision) -> Vec<Come> {
        let mut come: Vec<Come> = known
            .open
            .range(..=now)
            .map(|(slot, open)| Come {
                at: Due { slot: *slot, due: open.due, deadline: open.deadline },
                begun: !open.runs.is_empty(),
            })
            .collect();
        let Some(last) = come.last().map(|come| come.at.slot).max(known.reached) else { return come };
        let unexpected: Vec<Timestamp> = self.calendar.after(last).take_while(|slot| *slot <= now).collect();
        let untold = unexpected.len().saturating_sub(MANY);
        for slot in &unexpected[untold..] {
            let at = self.due(*slot);
            decision.steps.push(Step::Expect(at));
            come.push(Come { at, begun: false });
        }
        if untold > 0 {
            let first = unexpected[untold];
            come.retain(|come| come.at.slot != first);
            let why = format!("nothing was running; so it is with the {untold} slots before");
            decision.steps.push(Step::Miss { slot: first, why });
        }
        come
    }

    /// The slot that comes next is expected before it comes; another future is taken back.
    fn next(&self, known: &PolicyState, now: Timestamp, decision: &mut Decision) -> Option<Due> {
        let next = self.calendar.next(now.max(known.reached.unwrap_or(Timestamp::MIN)));
        let future = known.open.keys().filter(|slot| **slot > now);
        for slot in future.filter(|slot| Some(**slot) != next) {
            let why = match self.job {
                Job::Rotate => "it was rotated, or the schedule or the clock was changed, before it came".to_owned(),
                _ => "the schedule or the clock was changed before it came".to_owned(),
            };
            decision.steps.push(Step::Skip { slot: *slot, why });
        }
        let next = next?;
        match known.open.get(&next) {
            Some(open) => Some(Due { slot: next, due: open.due, deadline: open.deadline }),
            None => {
                let due = self.due(next);
                decision.steps.push(Step::Expect(due));
                Some(due)
            }
        }
    }

    /// Slots that nobody has in hand: at most one of them is begun.
    fn free(&self, mut free: Vec<Come>, busy: Busy, now: Timestamp, decision: &mut Decision) {
        let Some(newest) = free.pop() else { return };
        for older in free {
            if let Some(running) = busy.running.filter(|running| *running < older.at.slot && !older.begun) {
                let why = format!("slot {running} was still at work");
                decision.steps.push(Step::Skip { slot: older.at.slot, why });
                continue;
            }
            let made_up = format!("slot {} makes up for it", newest.at.slot);
            if older.at.due > newest.at.slot && !older.begun {
                let why = format!("it was put off until after slot {}", newest.at.slot);
                decision.steps.push(Step::Skip { slot: older.at.slot, why });
                continue;
            }
            let why = match older.begun {
                true => format!("its run was cut short; {made_up}"),
                false => format!("nothing was running; {made_up}"),
            };
            decision.steps.push(Step::Miss { slot: older.at.slot, why });
        }
        if now < newest.at.due {
            decision.wake = decision.wake.min(Some(newest.at.due)).or(Some(newest.at.due));
            return;
        }
        let slot = newest.at.slot;
        let late = now.duration_since(newest.at.due) > LATE;
        if late && !newest.begun && self.timing.missed == Missed::Skip {
            let why = "nothing was running when it was due, and the policy says `missed: skip`".to_owned();
            return decision.steps.push(Step::Miss { slot, why });
        }
        if let Some(end) = opening(&self.timing, self.zone(), now) {
            decision.wake = decision.wake.min(Some(end)).or(Some(end));
            return;
        }
        let reason = if late || newest.begun { Reason::CatchUp } else { Reason::Schedule };
        // Who comes late has as long as who was in time.
        let deadline = if late { super::later(now, self.timing.deadline) } else { newest.at.deadline };
        match (busy.running, self.timing.overlap) {
            (None, _) => decision.steps.push(Step::Run { slot, reason, deadline }),
            (Some(running), Overlap::Skip) => {
                let why = format!("slot {running} is still at work");
                decision.steps.push(Step::Skip { slot, why });
            }
            (Some(_), Overlap::Queue) => {
                if let Some(queued) = busy.queued {
                    let why = format!("slot {slot} came while it waited");
                    decision.steps.push(Step::Skip { slot: queued, why });
                }
                decision.steps.push(Step::Queue { slot, deadline });
            }
        }
    }
}
