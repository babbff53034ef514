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
        let taken = at.keeper.taken();
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
                Holds::Current | Holds::Partly | Holds::Other => {
                    Some("it would not find the new password any more".to_owned())
                }
            };
            if let Some(why) = why {
                return Ok(Some((consumer.name.clone(), Failure::failed(why))));
            }
        }
        Ok(None)
    }
}

/// Who passed, for the next process.
impl Rotate<'_> {
    pub(super) fn passed(&self, at: &At<'_>, number: usize) -> Result<()> {
        let Some(run) = at.keeper.run() else { return Ok(()) };
        let passed = self.keepsake.passed(&self.rotation.name);
        passed.add(&run, at.keeper.direction(), &self.rotation.consumers[number])
    }

    /// Before these are told another one.
    pub(super) fn begin_anew(&self, which: impl Fn(&Consumer) -> bool) -> Result<()> {
        let those = self.rotation.consumers.iter().filter(|consumer| which(consumer));
        self.keepsake.passed(&self.rotation.name).forget(those)
    }

    /// Those who passed before only have to be seen to work.
    pub(super) fn take_over_passed(&self, at: &mut At<'_>) {
        let Some(run) = at.keeper.run() else { return };
        let (passed, direction) = (self.keepsake.passed(&self.rotation.name), at.keeper.direction());
        for (moved, consumer) in at.memory.moved.iter_mut().zip(&self.rotation.consumers) {
            if passed.has(&run, direction, consumer) {
                *moved = Moved { touched: true, reloaded: true, passed: moved.passed };
            }
        }
    }
}
