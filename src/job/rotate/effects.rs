//! The effects, one for each step. Each can be done twice, ends in a crash point, and is noted in the journal.

use super::act::{At, Rotate};
use super::published;
use super::state::{Direction, Holds, Login};
use crate::backoff::pause;
use crate::clock;
use crate::durable::crash_point;
use crate::error::{Failure, Result};
use crate::secret::Secret;
use crate::secret::vault::Written;
use std::time::{Duration, Instant};

/// Between two looks at sessions.
const PAUSE: Duration = Duration::from_millis(500);
/// How long old sessions may take to go, at least.
const DRAINS: Duration = Duration::from_secs(30);

impl Rotate<'_> {
    pub(super) fn save(&self, at: &mut At<'_>) -> Result<()> {
        let definition = self.accounts.save(at.cancel)?;
        self.keepsake.seal(&self.keepsake.account(&self.rotation.name), &definition)?;
        crash_point("rotate:saved");
        at.memory.saved = true;
        self.noted(at, "planned", None, None);
        Ok(())
    }

    pub(super) fn make(&self, at: &mut At<'_>) -> Result<()> {
        // What an earlier rotation may have left is of another secret.
        self.keepsake.forget(&self.rotation.name)?;
        let pending = self.new_credential(&at.current)?;
        at.keeper.record(&self.run, &pending, &at.current, clock::now())?;
        crash_point("rotate:recorded");
        at.memory.is_first = true;
        // It was just made: nobody can know it.
        at.memory.pending = Some(Login::Refused);
        at.pending = Some(pending);
        self.noted(at, "pending", None, None);
        Ok(())
    }

    pub(super) fn escrow(&self, at: &mut At<'_>) -> Result<()> {
        if let Some(pending) = &at.pending {
            self.keepsake.note_version(&self.rotation.name, at.keeper.fence())?;
            let user = pending.user.as_ref().map_or_else(String::new, |user| format!("{user}\n"));
            let text = Secret::new(format!("{user}{}", pending.expose()));
            self.keepsake.seal(&self.keepsake.escrow(&self.rotation.name), &text)?;
        }
        crash_point("rotate:escrowed");
        Ok(())
    }

    pub(super) fn accept_both(&self, at: &mut At<'_>) -> Result<()> {
        if at.memory.accepted {
            let what = format!("{} took the new password and does not accept it", self.accounts.describe());
            return Err(Failure::failed(what).hint(format!("Roll back: bkp rotate rollback {}", self.rotation.name)));
        }
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.accept_both(pair, at.cancel)?;
        crash_point("rotate:accepted");
        let pending = self.probe_until(pair.pending, &Login::Accepted, at.cancel)?;
        (at.memory.accepted, at.memory.tested, at.memory.pending) = (true, false, Some(pending));
        // Where every node was told both; or where it went with that.
        if self.accounts.has_gap() || at.memory.current == Some(Login::Partly) {
            at.memory.current = None;
        }
        self.noted(at, "accepted", None, None);
        Ok(())
    }

    pub(super) fn test(&self, at: &mut At<'_>) -> Result<()> {
        let Some(pair) = at.pair() else { return Ok(()) };
        // Before anybody can read it: a restart of the server must not take it away again.
        self.accounts.persist(at.cancel)?;
        let pending = self.probe_until(pair.pending, &Login::Accepted, at.cancel)?;
        let current = self.probe_until(pair.current, &Login::Accepted, at.cancel)?;
        crash_point("rotate:tested");
        at.memory.tested = pending == Login::Accepted && current == Login::Accepted;
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        if at.memory.tested {
            self.noted(at, "tested", None, None);
        }
        Ok(())
    }

    /// Consumers read the other one from now on. What is beside it in the secret stays.
    pub(super) fn publish(&self, at: &mut At<'_>, direction: Direction) -> Result<()> {
        if direction == Direction::Forward && at.keeper.mark().is_none() {
            let mark = self.accounts.mark(at.cancel)?;
            at.keeper.set_mark(mark, clock::now())?;
            crash_point("rotate:marked");
        }
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        let (from, to) = match direction {
            Direction::Forward => (pair.current, pair.pending),
            Direction::Back => (pair.pending, pair.current),
        };
        let path = &self.rotation.published;
        let document = self.vault.document(path)?;
        let is_expected = published::read(self.rotation, &document).is_some_and(|there| there.is(from));
        crash_point("rotate:publishing");
        // What was written in between is seen by the next look.
        if !is_expected || self.vault.write(path, &published::with(self.rotation, &document, to))? == Written::Outdated
        {
            return Ok(());
        }
        let (point, state) = match direction {
            Direction::Forward => ("rotate:published", "published"),
            Direction::Back => ("rotate:unpublished", "unpublished"),
        };
        crash_point(point);
        self.noted(at, state, None, None);
        Ok(())
    }

    pub(super) fn deliver(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        let to = if at.keeper.direction() == Direction::Forward { Holds::Pending } else { Holds::Current };
        at.memory.moved[number].touched = true;
        let Some(pair) = at.pair() else { return Ok(()) };
        let delivered = consumer.delivery.deliver(pair, to);
        crash_point("rotate:delivered");
        match delivered {
            Ok(()) => self.noted(at, "delivered", Some(&consumer.name), None),
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    pub(super) fn reload(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        at.memory.moved[number].touched = true;
        let Some(pair) = at.pair() else { return Ok(()) };
        let secret = if at.keeper.direction() == Direction::Forward { pair.pending } else { pair.current };
        let reloaded = consumer.reload(secret, at.cancel);
        crash_point("rotate:reloaded");
        match reloaded {
            Ok(()) => {
                at.memory.moved[number].reloaded = true;
                self.noted(at, "reloaded", Some(&consumer.name), None);
            }
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    pub(super) fn gate(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let (consumer, is_back) = (&self.consumers[number], at.keeper.direction() == Direction::Back);
        let Some(pair) = at.pair() else { return Ok(()) };
        let other = if is_back { pair.pending } else { pair.current };
        match consumer.gate(&|| self.left(number, other), at.cancel) {
            Ok(()) => {
                crash_point("rotate:moved");
                at.memory.moved[number].passed = true;
                at.keeper.renew(clock::now())?;
                self.noted(at, "moved", Some(&consumer.name), None);
            }
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    pub(super) fn see_unused(&self, at: &mut At<'_>) -> Result<()> {
        let begun = Instant::now();
        let patience = self.consumers.iter().map(|consumer| consumer.patience).max().unwrap_or(DRAINS).max(DRAINS);
        let mark = match at.keeper.mark() {
            Some(mark) => mark.to_owned(),
            None => self.accounts.mark(at.cancel)?,
        };
        loop {
            let Some(pair) = at.pair() else { return Ok(()) };
            let old = self.accounts.sessions_before(pair, &mark, at.cancel)?;
            if old.is_empty() {
                crash_point("rotate:unused");
                at.memory.unused = true;
                self.noted(at, "unused", None, Some("no session is older than the publishing".into()));
                return Ok(());
            }
            if self.emergency {
                for session in &old {
                    self.accounts.end_session(session, at.cancel)?;
                }
            }
            if begun.elapsed() > patience {
                let clients: Vec<&str> = old.iter().map(|session| session.client.as_str()).collect();
                let why = format!("sessions with the old password are still open, from {}", clients.join(", "));
                at.memory.failed = Some(why.clone());
                self.noted(at, "stopped", None, Some(why));
                return Ok(());
            }
            pause(PAUSE, &|| at.cancel.check().is_err());
            at.cancel.check()?;
        }
    }

    pub(super) fn retire(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        // Once more, for there is no way back from here.
        if let Some((consumer, failure)) = self.somebody_left(pair)? {
            return self.failed(at, &consumer, &failure);
        }
        let pending = self.accounts.log_in(pair.pending)?;
        if pending != Login::Accepted {
            at.memory.pending = Some(pending);
            return Ok(());
        }
        self.accounts.retire(pair, at.cancel)?;
        crash_point("rotate:retired");
        let pending = self.probe_until(pair.pending, &Login::Accepted, at.cancel)?;
        let current = self.probe_until(pair.current, &Login::Refused, at.cancel)?;
        if matches!(current, Login::Accepted | Login::Partly) {
            let what = format!("{} still accepts the old password", self.accounts.describe());
            return Err(
                Failure::failed(what).hint(format!("Look why; then go on: bkp rotate resume {}", self.rotation.name))
            );
        }
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        self.noted(at, "retired", None, Some("the old password is refused".into()));
        Ok(())
    }

    pub(super) fn undo(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew(clock::now())?;
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.undo(pair, at.cancel)?;
        crash_point("rotate:undone");
        let pending = self.probe_until(pair.pending, &Login::Refused, at.cancel)?;
        let current = self.probe_until(pair.current, &Login::Accepted, at.cancel)?;
        at.memory.undone = pending == Login::Refused && current == Login::Accepted;
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        if at.memory.undone {
            self.noted(at, "undone", None, Some("the new password is refused".into()));
            return Ok(());
        }
        let what = format!("{} does not take back the new password", self.accounts.describe());
        Err(Failure::failed(what).hint(format!("Look why; then go on: bkp rotate resume {}", self.rotation.name)))
    }
}
