//! Whether those who were moved still have the other one somewhere: that a consumer works says nothing of what it works with.

use super::act::Rotate;
use super::scan;
use super::state::Holds;
use crate::engine::Pair;
use crate::error::{Failure, Result};
use crate::secret::Secret;

impl Rotate<'_> {
    /// Where a consumer has a secret that it should have no more, as far as that can be seen from outside.
    /// In an emergency nobody is looked for, whoever goes on with it.
    pub(super) fn left(&self, number: usize, other: &Secret, is_urgent: bool) -> Result<Option<String>> {
        if self.takes_unknown || is_urgent {
            return Ok(None);
        }
        let found = scan::left(self.rotation, &self.rotation.consumers[number], other)?;
        let all: Vec<String> = found.iter().map(ToString::to_string).collect();
        Ok((!all.is_empty()).then(|| format!("it still has the other password: {}", all.join(", "))))
    }

    /// Of all of them, before the old one is taken away: somebody may have made one anew since it passed its gate.
    pub(super) fn somebody_left(&self, pair: Pair<'_>, is_urgent: bool) -> Result<Option<(String, Failure)>> {
        for (number, consumer) in self.consumers.iter().enumerate() {
            let why = match consumer.delivery.holds(pair)? {
                Holds::Pending | Holds::Published => self.left(number, pair.current, is_urgent)?,
                Holds::Current | Holds::Other => Some("it would not find the new password any more".to_owned()),
            };
            if let Some(why) = why {
                return Ok(Some((consumer.name.clone(), Failure::failed(why))));
            }
        }
        Ok(None)
    }
}
