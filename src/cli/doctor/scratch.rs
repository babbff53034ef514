//! Rehearsals: what killed ones left, and the key that is named for them.

use super::super::environment::Environment;
use super::super::format::count;
use super::super::output::plain;
use super::{Findings, Verdict};
use crate::error::Result;
use crate::exec::scratch;
use crate::repo::Repository;
use crate::repo::keys::Role;

const CHECK: &str = "rehearsals";

pub fn examine(env: &Environment, reap: bool, findings: &mut Findings) {
    let examined = if reap { remove(env, findings) } else { tell(env, findings) };
    match examined {
        Ok(()) => {}
        Err(failure) if reap => findings.failure(CHECK, &failure),
        // Whoever cannot ask the container engine needs none, or is told so by his sources.
        Err(failure) => {
            let text = format!("what is left of killed ones could not be looked for: {}", failure.full());
            findings.add(CHECK, Verdict::Note, plain(&text));
        }
    }
}

/// Tries the key that is named for rehearsals. Where backups are made with it on the same host, whoever has the host reads them all.
pub fn key(env: &Environment, repository: &Repository, findings: &mut Findings) {
    if !env.configuration().is_ok_and(|configuration| configuration.rehearser.identity.is_some()) {
        return;
    }
    let access = match env.rehearsing(repository) {
        Ok(access) => access,
        Err(failure) => return findings.failure(CHECK, &failure),
    };
    let (Some(writer), Some(operator)) = (access.writer, access.operator) else {
        return findings.add(CHECK, Verdict::Ok, "the key that is named for them opens this repository");
    };
    let named = operator.recipients();
    let is_recovery = writer.recipients.iter().any(|r| r.role == Role::Operator && named.contains(&r.recipient));
    if is_recovery {
        findings.add(CHECK, Verdict::Warning, "`rehearse` names a recovery key: that one does not belong on this host");
        findings.hint("Make one for rehearsals alone, and take the recovery key away: docs/REHEARSALS.md");
    } else {
        let text = "this host can read its own backups: `rehearse` names a key that opens them";
        findings.add(CHECK, Verdict::Note, text);
        findings
            .hint("Where whoever takes this host over must not read them, rehearse on another one: deploy/verifier.md");
    }
}

fn tell(env: &Environment, findings: &mut Findings) -> Result<()> {
    for orphan in scratch::orphans(&env.paths()?.state, env.now)? {
        let text = format!("{} is left of a rehearsal of {} that was killed", orphan.what, orphan.source);
        findings.add(CHECK, Verdict::Note, plain(&text));
        findings.hint("The next rehearsal removes it; at once: bkp doctor --reap");
    }
    Ok(())
}

fn remove(env: &Environment, findings: &mut Findings) -> Result<()> {
    let reaped = scratch::reap(&env.paths()?.state, env.now)?;
    for one in &reaped {
        match &one.failed {
            None => findings.add(CHECK, Verdict::Ok, plain(&format!("removed {} (source {})", one.what, one.source))),
            Some(reason) => findings.add(
                CHECK,
                Verdict::Failed,
                plain(&format!("{} (source {}) could not be removed: {reason}", one.what, one.source)),
            ),
        }
    }
    if reaped.is_empty() {
        findings.add(CHECK, Verdict::Ok, format!("{} to remove", count(0, "scratch target")));
    }
    Ok(())
}
