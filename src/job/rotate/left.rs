//! Whether those who were moved still have the other one somewhere: that a consumer works says nothing of what it works with.

use super::act::{At, Rotate};
use super::scan;
use super::seen::Moved;
use super::state::Holds;
use crate::engine::{Credential, Pair};
use crate::error::{Failure, Result};
use crate::policy::Consumer;

impl Rotate<'_> {
    /// Where a consumer has a secret that it should have no more, as far as that can be seen from outside.
    /// Passed over is what somebody was told of when it began, and nothing else. In an emergency nobody is looked for, whoever goes
    /// on with it.
    fn left(&self, at: &At<'_>, number: usize, other: &Credential, to_come: &[Consumer]) -> Result<Option<String>> {
        if at.keeper.is_urgent() {
            return Ok(None);
        }
        let taken = at.keeper.standing().taken;
        let found = scan::left(self.rotation, &self.rotation.consumers[number], other, &taken, to_come)?;
        let all: Vec<String> = found.iter().map(ToString::to_string).collect();
        Ok((!all.is_empty()).then(|| format!("it still has the other password: {}", all.join(", "))))
    }

    /// Of one that was just moved: others are moved after it.
    pub(super) fn left_at_gate(&self, at: &At<'_>, number: usize, other: &Credential) -> Result<Option<String>> {
        self.left(at, number, other, &self.rotation.consumers[number + 1..])
    }

    /// Of all of them, before the old one is taken away: somebody may have made one anew since it passed its gate.
    pub(super) fn somebody_left(&self, at: &At<'_>, pair: Pair<'_>) -> Result<Option<(String, Failure)>> {
        for (number, consumer) in self.consumers.iter().enumerate() {
            let why = match consumer.delivery.holds(pair)? {
                Holds::Pending | Holds::Published => self.left(at, number, pair.current, &[])?,
                Holds::Current | Holds::Other => Some("it would not find the new password any more".to_owned()),
            };
            if let Some(why) = why {
                return Ok(Some((consumer.name.clone(), Failure::failed(why))));
            }
        }
        Ok(None)
    }
}

/// Who passed, for whoever goes on: a restart of all consumers at each try would be an outage of its own.
impl Rotate<'_> {
    pub(super) fn passed(&self, at: &At<'_>, number: usize) -> Result<()> {
        at.keeper.stand(|standing| standing.pass(&self.rotation.consumers[number]))?;
        self.note_version(at)
    }

    /// Before these are told another one.
    pub(super) fn begin_anew(&self, at: &At<'_>, which: impl Fn(&Consumer) -> bool) -> Result<()> {
        let standing = at.keeper.standing();
        let passed = |consumer: &&Consumer| which(consumer) && standing.has_passed(consumer);
        let those: Vec<&Consumer> = self.rotation.consumers.iter().filter(passed).collect();
        match those.is_empty() {
            true => Ok(()),
            false => at.keeper.stand(|standing| those.iter().for_each(|consumer| standing.forget(consumer))),
        }
    }

    /// A document that is older than what this host has seen of it was brought back with Vault: then nobody is known to have passed.
    pub(super) fn note_version(&self, at: &At<'_>) -> Result<()> {
        let (name, run) = (&self.rotation.name, at.keeper.run());
        match run.filter(|run| self.keepsake.run(name).as_ref() == Some(run)) {
            Some(run) => self.keepsake.note_run(name, at.keeper.fence(), &run),
            None => Ok(()),
        }
    }

    /// Those who passed before only have to be seen to work.
    pub(super) fn take_over_passed(&self, at: &mut At<'_>) {
        if self.keepsake.version(&self.rotation.name).is_some_and(|noted| at.keeper.fence() <= noted) {
            return;
        }
        let standing = at.keeper.standing();
        for (moved, consumer) in at.memory.moved.iter_mut().zip(&self.rotation.consumers) {
            if standing.has_passed(consumer) {
                *moved = Moved { touched: true, reloaded: true, passed: moved.passed };
            }
        }
    }
}
