//! The effects, one for each step. Each can be done twice, ends in a crash point, and is noted in the journal.

use super::act::{At, Rotate};
use super::delivery::file;
use super::published;
use super::record::Begun;
use super::seen::{Moved, probe_until};
use super::state::{Direction, Login, Published};
use crate::clock;
use crate::durable::crash_point;
use crate::error::{Failure, Kind, Result};
use crate::policy::{Consumer, Target, Told};
use crate::secret::vault::Written;

/// So many times, nodes that differ again are told again in one run.
const JOINS: u8 = 5;

/// The negative test.
pub(super) const REFUSED: &str = "the old password is refused";

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
        self.keepsake.clear(&self.rotation.name, |run| at.keeper.is_closed(run), clock::now())?;
        let pending = self.new_credential(&at.current, at.cancel)?;
        let begun = Begun { run: &self.run, urgent: self.emergency, mark: None, taken: &self.taken, recovered: None };
        at.keeper.record(begun, &pending, &at.current)?;
        self.accounts.lock_with(at.keeper.locks());
        crash_point("rotate:recorded");
        at.memory.is_first = true;
        // Nobody can know what was just made here; what others made may be good already.
        let is_ours = !matches!(self.rotation.target, Target::Smtp(_));
        at.memory.pending = is_ours.then_some(Login::Refused);
        at.pending = Some(pending);
        self.noted(at, "pending", None, None);
        Ok(())
    }

    pub(super) fn escrow(&self, at: &mut At<'_>) -> Result<()> {
        if let Some(pending) = &at.pending {
            let run = at.keeper.run().unwrap_or_else(|| self.run.clone());
            self.keepsake.clear(
                &self.rotation.name,
                |other| other == run || at.keeper.is_closed(other),
                clock::now(),
            )?;
            self.keepsake.seal_both(&self.rotation.name, (at.keeper.fence(), &run), (&at.current, pending))?;
        }
        crash_point("rotate:escrowed");
        Ok(())
    }

    /// What was done once and did nothing is not done again and again. A node that joined, or was started again, since is told, too.
    fn not_in_vain(&self, at: &mut At<'_>) -> Result<()> {
        if !at.memory.accepted {
            return Ok(());
        }
        at.memory.joined += 1;
        let differ = [&at.memory.pending, &at.memory.current].contains(&&Some(Login::Partly));
        if differ && at.memory.joined <= JOINS {
            return Ok(());
        }
        if differ {
            let what = format!("the servers of {} do not come to accept the same passwords", self.accounts.describe());
            return Err(Failure::new(Kind::TryLater, what).hint(format!(
                "See which of them starts again and again; then: bkp rotate resume {}",
                self.rotation.name
            )));
        }
        let what = format!("{} took the new password and does not accept it", self.accounts.describe());
        Err(Failure::failed(what).hint(format!("Roll back: bkp rotate rollback {}", self.rotation.name)))
    }

    pub(super) fn accept_both(&self, at: &mut At<'_>) -> Result<()> {
        self.not_in_vain(at)?;
        at.keeper.renew()?;
        let Some(pair) = at.pair() else { return Ok(()) };
        let is_taken = at.keeper.is_urgent() && !at.memory.is_first && at.memory.current == Some(Login::Accepted);
        match is_taken {
            // Who had the old one may have put one of his own in the place of the new one: none of that stays.
            true => drop(self.accounts.both(pair, &at.leased)?),
            false => self.accounts.accept_both(pair, &at.leased)?,
        }
        crash_point("rotate:accepted");
        let pending = probe_until(self.accounts, pair.pending, &Login::Accepted, at.cancel)?;
        (at.memory.accepted, at.memory.tested, at.memory.pending) = (true, false, Some(pending));
        // Where every node was told both; or where it went with that.
        if self.accounts.has_gap() || at.memory.current == Some(Login::Partly) {
            at.memory.current = None;
        }
        self.noted(at, "accepted", None, None);
        Ok(())
    }

    /// Whatever password somebody gave it: it must not outlive the emergency.
    pub(super) fn force(&self, at: &mut At<'_>) -> Result<()> {
        self.not_in_vain(at)?;
        at.keeper.force()?;
        let Some(pair) = at.pair() else { return Ok(()) };
        self.accounts.only(pair.pending, &at.leased)?;
        crash_point("rotate:accepted");
        let pending = probe_until(self.accounts, pair.pending, &Login::Accepted, at.cancel)?;
        (at.memory.accepted, at.memory.tested, at.memory.pending) = (true, false, Some(pending));
        at.memory.current = None;
        self.noted(at, "accepted", None, Some("it alone: what else was there is gone".into()));
        Ok(())
    }

    pub(super) fn test(&self, at: &mut At<'_>) -> Result<()> {
        let Some(pair) = at.pair() else { return Ok(()) };
        // Before anybody can read it: a restart of the server must not take it away again.
        self.accounts.persist(&at.leased)?;
        self.accounts.settle_before_publishing(at.cancel)?;
        let pending = probe_until(self.accounts, pair.pending, &Login::Accepted, at.cancel)?;
        let current = probe_until(self.accounts, pair.current, &Login::Accepted, at.cancel)?;
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
        let Some(pair) = at.pair() else { return Ok(()) };
        let (from, to, wanted) = match direction {
            Direction::Forward => (pair.current, pair.pending, Published::Pending),
            Direction::Back => (pair.pending, pair.current, Published::Current),
        };
        let path = &self.rotation.published;
        let document = self.vault.document(path)?;
        let is_expected = published::read(self.rotation, &document).is_some_and(|there| there.is(from));
        // What was written in between is seen by the next look.
        if !is_expected {
            return Ok(());
        }
        self.begin_anew(|consumer| consumer.told == Told::Published)?;
        // After it was read: who takes over from now on writes it once more, so that what follows this version is refused.
        at.keeper.renew()?;
        crash_point("rotate:publishing");
        let Written::Version(version) = self.vault.write(path, &published::with(self.rotation, &document, to))? else {
            return Ok(());
        };
        let (point, state) = match direction {
            Direction::Forward => ("rotate:published", "published"),
            Direction::Back => ("rotate:unpublished", "unpublished"),
        };
        crash_point(point);
        self.must_be_published(version, &wanted, pair)?;
        // Who began by himself since he was moved has what was there before.
        at.memory.exchanged(|number| self.rotation.consumers[number].told == Told::Published);
        self.noted(at, state, None, None);
        Ok(())
    }

    pub(super) fn deliver(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        let to = at.keeper.direction().holds();
        let told = &self.rotation.consumers[number];
        let with_it = |other: &Consumer| other.name == told.name || file::tells_both(told, other);
        // Whatever they were moved to before: whoever is told by the same file begins with what is in it now.
        for (moved, _) in at.memory.moved.iter_mut().zip(&self.rotation.consumers).filter(|(_, other)| with_it(other)) {
            *moved = Moved { touched: true, ..Moved::default() };
        }
        self.begin_anew(with_it)?;
        let Some(pair) = at.pair() else { return Ok(()) };
        let delivered = consumer.delivery.deliver(pair, to, &at.leased);
        crash_point("rotate:delivered");
        match delivered {
            Ok(()) => self.noted(at, "delivered", Some(&consumer.name), None),
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    pub(super) fn reload(&self, at: &mut At<'_>, number: usize) -> Result<()> {
        let consumer = &self.consumers[number];
        self.mark_way_back(at)?;
        at.memory.moved[number].touched = true;
        let Some(pair) = at.pair() else { return Ok(()) };
        let secret = at.keeper.direction().holds().exchange(pair).pending;
        at.leased.check()?;
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
        let consumer = &self.consumers[number];
        let Some(pair) = at.pair() else { return Ok(()) };
        let other = at.keeper.direction().holds().exchange(pair).current;
        match consumer.gate(&|| self.left_at_gate(at, number, other), at.cancel) {
            Ok(()) => {
                crash_point("rotate:moved");
                at.memory.moved[number].passed = true;
                self.passed(at, number)?;
                self.noted(at, "moved", Some(&consumer.name), None);
            }
            Err(failure) => self.failed(at, &consumer.name, &failure)?,
        }
        Ok(())
    }

    pub(super) fn retire(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew()?;
        let Some(pair) = at.pair() else { return Ok(()) };
        // Once more, for there is no way back from here.
        if let Some((consumer, failure)) = self.somebody_left(at, pair)? {
            return self.failed(at, &consumer, &failure);
        }
        let pending = self.accounts.log_in(pair.pending)?;
        if pending != Login::Accepted {
            at.memory.pending = Some(pending);
            return Ok(());
        }
        at.keeper.retire()?;
        self.accounts.retire(pair, &at.leased)?;
        crash_point("rotate:retired");
        let pending = probe_until(self.accounts, pair.pending, &Login::Accepted, at.cancel)?;
        let current = probe_until(self.accounts, pair.current, &Login::Refused, at.cancel)?;
        if matches!(current, Login::Accepted | Login::Partly) {
            let what = format!("{} still accepts the old password", self.accounts.describe());
            return Err(
                Failure::failed(what).hint(format!("Look why; then go on: bkp rotate resume {}", self.rotation.name))
            );
        }
        // What is not known yet is looked at again, and noted when it was seen.
        let (state, note) = match &current {
            Login::Unknown(why) => ("retiring", format!("retired, and its refusal was not seen yet: {why}")),
            _ => ("retired", REFUSED.to_owned()),
        };
        at.memory.refusal_noted = current == Login::Refused;
        (at.memory.pending, at.memory.current) = (Some(pending), Some(current));
        self.noted(at, state, None, Some(note));
        Ok(())
    }

    pub(super) fn persist(&self, at: &mut At<'_>) -> Result<()> {
        self.only_the_new_one(at)?;
        self.accounts.persist(&at.leased)?;
        crash_point("rotate:persisted");
        at.memory.persisted = true;
        if !self.accounts.writes_at_once() {
            at.memory.current = None;
        }
        self.noted(at, "persisted", None, None);
        Ok(())
    }

    pub(super) fn undo(&self, at: &mut At<'_>) -> Result<()> {
        at.keeper.renew()?;
        let Some(pair) = at.pair() else { return Ok(()) };
        // Who has to do something at the provider is told what for.
        self.accounts.undo(pair, &at.leased).map_err(|failure| match (&at.failed, failure.kind()) {
            (Some(why), Kind::ByHand) => failure.because(format!("it is taken back, for {why}")),
            _ => failure,
        })?;
        crash_point("rotate:undone");
        let pending = probe_until(self.accounts, pair.pending, &Login::Refused, at.cancel)?;
        let current = probe_until(self.accounts, pair.current, &Login::Accepted, at.cancel)?;
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
