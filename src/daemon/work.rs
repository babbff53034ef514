//! A slot at work: its tasks, and what came of each source. Pure.
//!
//! One task backs up one source, or all sources of a stack together, or does a job of the whole repository. What came of it is
//! read in the journal; only a run that left no record there is judged by how its process ended.

use super::child::Exit;
use crate::error::Kind;
use crate::journal::{OpenSlot, Outcome, Reason, SlotEnd, SlotId};
use crate::policy::Overlap;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A run that came to its end in the middle, and nobody knows why, is begun again so often.
const ATTEMPTS_AFTER_A_CRASH: u32 = 2;
/// Between two tries at most.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub struct Work {
    pub slot: SlotId,
    pub due: Timestamp,
    pub reason: Reason,
    /// On the clock that no one sets.
    pub deadline: Instant,
    pub overlap: Overlap,
    pub tasks: Vec<Task>,
}

#[derive(Debug)]
pub struct Task {
    pub kind: TaskKind,
    pub stage: Stage,
    pub attempts: u32,
    /// When its run was told to end, where a daemon before this one began it.
    pub told_to_end: Option<Instant>,
    /// What came of each source; of the whole repository under the empty name.
    pub ends: BTreeMap<String, End>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Finds out which sources labels bring, and then becomes tasks for them.
    List,
    /// These sources: one, or those of a stack, together.
    Backup { sources: Vec<String>, stack: Option<String> },
    /// A command for the whole repository.
    Whole { arguments: Vec<String> },
    /// A password, by its name.
    Rotate { name: String, arguments: Vec<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Until then nothing is tried.
    Waiting(Option<Instant>),
    Running,
    /// It goes on since before this daemon began.
    Adopted,
    Over,
}

/// What came of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Good,
    Failed(String),
    Skipped(String),
    /// Its turn did not come before the deadline.
    NeverBegan,
}

/// What to do about one source after its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ended(End),
    /// Somebody is at it for this slot.
    GoesOn,
    Again(String),
}

impl Task {
    pub fn new(kind: TaskKind) -> Self {
        Task { kind, stage: Stage::Waiting(None), attempts: 0, told_to_end: None, ends: BTreeMap::new() }
    }

    /// The sources whose end is not known yet; the empty name stands for the whole repository.
    pub fn left(&self) -> Vec<String> {
        let all = match &self.kind {
            TaskKind::Backup { sources, .. } => sources.clone(),
            TaskKind::Rotate { name, .. } => vec![name.clone()],
            TaskKind::List | TaskKind::Whole { .. } => vec![String::new()],
        };
        all.into_iter().filter(|source| !self.ends.contains_key(source)).collect()
    }

    /// Whether it could begin now.
    pub fn is_ready(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting(until) if until.is_none_or(|until| now >= until))
    }

    /// Ends what is left of it.
    pub fn give_up(&mut self, end: &End) {
        for source in self.left() {
            self.ends.insert(source, end.clone());
        }
        self.stage = Stage::Over;
    }

    /// The wait before the next try.
    pub fn backoff(&self, first: Duration) -> Duration {
        let doubled = first.saturating_mul(1u32.checked_shl(self.attempts.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(LONGEST_WAIT.max(first))
    }
}

impl Work {
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|task| task.stage == Stage::Over)
    }

    /// How the whole slot ended, and why.
    pub fn end(&self) -> (SlotEnd, Option<String>) {
        end_of_slot(&self.tasks.iter().flat_map(|task| &task.ends).collect::<Vec<_>>())
    }
}

/// How a slot ended whose sources ended so, and why.
pub fn end_of_slot(ends: &[(&String, &End)]) -> (SlotEnd, Option<String>) {
    let told = |wanted: fn(&End) -> Option<&str>| {
        let one = |(source, end): &(&String, &End)| {
            let why = wanted(end)?;
            Some(if source.is_empty() { why.to_owned() } else { format!("{source}: {why}") })
        };
        let all: Vec<String> = ends.iter().filter_map(one).collect();
        (all.len(), shortened(all))
    };
    let failed = told(|end| match end {
        End::Failed(why) => Some(why),
        End::NeverBegan => Some("it did not come to its turn before its deadline"),
        End::Good | End::Skipped(_) => None,
    });
    let skipped = told(|end| if let End::Skipped(why) = end { Some(why) } else { None });
    if ends.is_empty() {
        (SlotEnd::Skipped, Some("the policy has no source now".into()))
    } else if ends.iter().all(|(_, end)| **end == End::NeverBegan) {
        (SlotEnd::Missed, failed.1)
    } else if failed.0 > 0 {
        (SlotEnd::Failed, failed.1)
    } else if skipped.0 == ends.len() {
        (SlotEnd::Skipped, skipped.1)
    } else {
        (SlotEnd::Done, skipped.1)
    }
}

/// The first few are enough for a record.
fn shortened(mut all: Vec<String>) -> Option<String> {
    const MOST: usize = 5;
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// What is known of the runs of a slot.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub slot: Option<&'a OpenSlot>,
    /// Whether the process of a run is there.
    pub lives: &'a dyn Fn(&str) -> bool,
}

/// What came of a source, by the records of the slot; by `exit`, how its process ended, where the journal does not know: the
/// disk may be full.
pub fn judge(source: &str, known: Known<'_>, exit: Option<&Exit>, attempts: u32, overlap: Overlap) -> Verdict {
    let may_be_tried = attempts <= ATTEMPTS_AFTER_A_CRASH;
    match (known.slot.and_then(|slot| slot.runs.get(source)), exit) {
        (Some((_, Some(ended))), _) => {
            let message = ended.message.clone().unwrap_or_else(|| format!("exit code {}", ended.code));
            let verdict = match ended.outcome {
                Outcome::Done | Outcome::Warnings => Verdict::Ended(End::Good),
                Outcome::Aborted if may_be_tried => Verdict::Again(message),
                Outcome::Aborted | Outcome::Failed => by_code(ended.code, message, overlap),
            };
            match (verdict, exit) {
                // That is of a try before, and this one found nothing to do any more.
                (Verdict::Again(_), Some(Exit { code: Some(0), .. })) => Verdict::Ended(End::Good),
                (verdict, _) => verdict,
            }
        }
        (Some((run, None)), _) if (known.lives)(run) => Verdict::GoesOn,
        (_, Some(Exit { code: Some(0 | 3), .. })) => Verdict::Ended(End::Good),
        (_, Some(Exit { code: Some(code), last_words, .. })) => by_code(*code, last_words.clone(), overlap),
        (_, Some(Exit { last_words, .. })) if may_be_tried => Verdict::Again(last_words.clone()),
        (_, Some(Exit { last_words, .. })) => Verdict::Ended(End::Failed(last_words.clone())),
        (_, None) if may_be_tried => Verdict::Again("its process vanished".into()),
        (_, None) => Verdict::Ended(End::Failed("its process vanished".into())),
    }
}

fn by_code(code: u8, message: String, overlap: Overlap) -> Verdict {
    match (code, overlap) {
        (code, _) if code == Kind::TryLater.exit_code() => Verdict::Again(message),
        (code, Overlap::Queue) if code == Kind::Locked.exit_code() => Verdict::Again(message),
        (code, Overlap::Skip) if code == Kind::Locked.exit_code() => Verdict::Ended(End::Skipped(message)),
        _ => Verdict::Ended(End::Failed(message)),
    }
}
