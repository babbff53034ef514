//! What a process has seen of a rotation so far, and how it looks again.

use super::act::{At, Rotate};
use super::effects::REFUSED;
use super::state::{Direction, Holds, Kept, Login, Observed, Progress, Published};
use crate::backoff::pause;
use crate::engine::{Accounts, Credential, Pair};
use crate::error::Result;
use crate::event::Cancel;
use std::time::Duration;

/// How long what was just changed may take to be seen on every node.
const SETTLES: [u64; 5] = [0, 1, 2, 4, 8];

/// Dies with the process.
#[derive(Default)]
pub struct Memory {
    pub saved: bool,
    pub pending: Option<Login>,
    pub current: Option<Login>,
    pub tested: bool,
    pub moved: Vec<Moved>,
    pub unused: bool,
    pub persisted: bool,
    pub undone: bool,
    pub proven: bool,
    /// Every session was ended since the old one is refused.
    pub ended: bool,
    /// That the old one is refused stands in the journal.
    pub refusal_noted: bool,
    pub failed: Option<String>,
    /// Was told the engine already: doing it again could cost the old one.
    pub accepted: bool,
    /// How many times nodes differed after that.
    pub joined: u8,
    /// This process recorded the pending secret, so nobody can have moved before it.
    pub is_first: bool,
}

/// One consumer, as far as this process moved it in this direction.
#[derive(Clone, Copy, Default)]
pub struct Moved {
    pub touched: bool,
    pub reloaded: bool,
    pub passed: bool,
}

impl Memory {
    pub fn new(consumers: usize) -> Self {
        Memory { moved: vec![Moved::default(); consumers], ..Memory::default() }
    }

    /// From now on in the other direction. Those that cannot have seen the pending secret need not be moved.
    pub fn turn(&mut self, direction: Direction, may_be_published: bool, reads_published: impl Fn(usize) -> bool) {
        for (at, moved) in self.moved.iter_mut().enumerate() {
            let untouched = self.is_first && !moved.touched && !reads_published(at);
            let stays = direction == Direction::Back && (!may_be_published || untouched);
            *moved = Moved { touched: moved.touched, reloaded: stays, passed: stays };
        }
        // What was never published, nobody but its consumers can have begun with.
        self.unused = direction == Direction::Back && !may_be_published;
        (self.failed, self.persisted, self.undone, self.ended) = (None, false, false, false);
    }

    /// What is published is another one from now on: those who read it are not moved yet.
    pub fn exchanged(&mut self, reads_published: impl Fn(usize) -> bool) {
        for (_, moved) in self.moved.iter_mut().enumerate().filter(|(at, _)| reads_published(*at)) {
            (moved.reloaded, moved.passed) = (false, false);
        }
        self.unused = false;
    }

    /// What is not known is tried again. What was refused is not: servers count that, and lock accounts.
    pub fn try_again(&mut self) {
        for login in [&mut self.pending, &mut self.current] {
            if matches!(login, Some(Login::Unknown(_))) {
                *login = None;
            }
        }
    }
}

/// The same again for a while, until it is what a change should have made of it: nodes may lag behind.
pub(super) fn probe_until(
    accounts: &dyn Accounts,
    credential: &Credential,
    expected: &Login,
    cancel: &Cancel,
) -> Result<Login> {
    let mut login = Login::Unknown("it was not tried".into());
    for seconds in SETTLES {
        pause(Duration::from_secs(seconds), &|| cancel.check().is_err());
        cancel.check()?;
        login = accounts.log_in(credential)?;
        if login == *expected {
            break;
        }
    }
    Ok(login)
}

impl Rotate<'_> {
    pub(super) fn look(&self, at: &mut At<'_>) -> Result<Observed> {
        let observed = self.observe(at)?;
        // The negative test, however it came about: killed after it was retired, or where the new one takes its place.
        let both = (&observed.pending, &observed.current);
        let is_over = observed.published == Published::Pending && both == (&Login::Accepted, &Login::Refused);
        if is_over && !at.memory.refusal_noted {
            at.memory.refusal_noted = true;
            self.noted(at, "refused", None, Some(REFUSED.into()));
        }
        Ok(observed)
    }

    fn observe(&self, at: &mut At<'_>) -> Result<Observed> {
        let escrowed = self.keepsake.is_escrowed(&self.rotation.name, at.keeper.run().as_deref());
        let kept = Kept { recorded: at.pending.is_some(), escrowed };
        let pair = at.pending.as_ref().map(|pending| Pair { current: &at.current, pending });
        let memory = &mut at.memory;
        if memory.current.is_none() {
            memory.current = Some(self.accounts.log_in(&at.current)?);
        }
        if let (None, Some(pair)) = (&memory.pending, pair) {
            memory.pending = Some(self.accounts.log_in(pair.pending)?);
        }
        let nothing = || Login::Refused;
        Ok(Observed {
            direction: at.keeper.direction(),
            kept,
            saved: memory.saved,
            pending: memory.pending.clone().unwrap_or_else(nothing),
            current: memory.current.clone().unwrap_or_else(nothing),
            published: self.published(pair)?,
            tested: memory.tested,
            consumers: self.progress(memory, pair)?,
            unused: memory.unused,
            persisted: memory.persisted,
            undone: memory.undone,
            proven: memory.proven,
            failed: memory.failed.clone(),
            forced: self.emergency,
            urgent: self.emergency || at.keeper.is_urgent(),
            ended: memory.ended,
        })
    }

    fn progress(&self, memory: &Memory, pair: Option<Pair<'_>>) -> Result<Vec<Progress>> {
        let one = |(at, moved): (usize, &Moved)| {
            let holds = match pair {
                Some(pair) => self.consumers[at].delivery.holds(pair)?,
                None => Holds::Published,
            };
            Ok(Progress { holds, reloaded: moved.reloaded, passed: moved.passed })
        };
        memory.moved.iter().enumerate().map(one).collect()
    }
}
