//! Raising the locks of earlier points, where they last as long as retention wants the points.

use super::environment::Environment;
use crate::error::{Failure, Result};
use crate::job::lock::{Kept, Series};
use crate::policy::{LockKeep, ObjectLock};
use crate::repo::Repository;
use crate::repo::keys::Keyring;
use crate::repo::sign::Trust;
use std::collections::BTreeSet;

/// Of these series (writer and source), in a store that is locked like this. `own` is what that store keeps, where it does not go
/// by the policy of each source.
pub fn raise(
    env: &Environment,
    repository: &Repository,
    (keys, trust): (&Keyring, &Trust),
    (lock, own): (Option<&ObjectLock>, Option<Kept<'_>>),
    series: &BTreeSet<(&str, &str)>,
) -> Result<()> {
    let Some(lock) = lock.filter(|lock| lock.keep == LockKeep::Policy) else { return Ok(()) };
    for (writer, source) in series {
        let kept = match own {
            Some(kept) => Some(kept),
            None => env.policy_of(source)?.and_then(Kept::by),
        };
        let Some(kept) = kept else { continue };
        let series = Series { repository, keys, trust, writer, source, lock, kept };
        series.raise(&env.cancel, env.now).map_err(|failure| {
            let what = format!("locks of earlier points of {source} could not be raised: {}", failure.full());
            Failure::new(failure.kind(), what).hint("The next run tries again")
        })?;
    }
    Ok(())
}
