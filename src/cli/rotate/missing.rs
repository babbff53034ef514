//! What the journal of this host does not have of a rotation, and Vault has: its end, or that another host rotated.

use super::vault;
use crate::cli::environment::Environment;
use crate::clock;
use crate::error::{Failure, Result};
use crate::job::rotate::keepsake::{Fingerprints, Keepsake};
use crate::job::rotate::record::Glance;
use crate::job::rotate::{elsewhere, elsewhere_record, missing_end};
use crate::job::rotate::{published, rules};
use crate::journal::Fact;
use crate::policy::Rotation;
use crate::repo::keys::Recipients;

/// Whoever has the lock of the rotation: a secret that is sealed on this host for a run that came to its end elsewhere is nobody's
/// only copy. Vault forgets runs some day, and then it would be taken for one.
pub fn forget_what_is_over(env: &Environment, name: &str, glance: &Glance) -> Result<()> {
    // Nothing is sealed with this.
    let keepsake = Keepsake::of(&env.paths()?.state, Recipients::new(std::iter::empty()))?;
    let is_closed = |run: &str| glance.closed.iter().any(|closed| closed.run == run);
    match keepsake.run(name).filter(|run| is_closed(run)) {
        Some(_) => keepsake.clear(name, is_closed, clock::now()),
        None => Ok(()),
    }
}

/// Of a rotation that nothing is pending of in Vault: its process may have died before it could note that, or another host
/// has exchanged the password since. Gives who did, where that was not known.
pub fn note(env: &Environment, rotation: &Rotation, glance: &Glance) -> Result<Option<String>> {
    // Vault was brought back to before it: then it is not over.
    if Keepsake::is_lost_of(&env.paths()?.state, &rotation.name, glance) {
        return Ok(None);
    }
    let journal = env.journal()?;
    journal.end_what_died(clock::now())?;
    let now = || {
        let (_, now) = published::now(vault(env)?, rotation)?;
        Ok::<_, Failure>((Fingerprints::of(&env.paths()?.state)?.fingerprint(&now), now.user))
    };
    let mut state = journal.state()?;
    if let Some((_, last)) = rules::cut_short(&state, &rotation.name) {
        env.recorder()?.note(&[Fact::Rotation(Box::new(missing_end(last, &now()?.0)))]);
        state = journal.state()?;
    }
    let own = journal.id()?.unwrap_or_default();
    let Some(closed) = elsewhere(&state, rotation, glance, &own) else { return Ok(None) };
    let mut rotated = elsewhere_record(rotation, closed);
    let (print, user) = now()?;
    (rotated.to, rotated.to_user) = (Some(print), user);
    env.recorder()?.note(&[Fact::Rotation(Box::new(rotated))]);
    Ok(Some(closed.host.clone()))
}
