//! What rehearsals that were killed left.

use super::super::environment::Environment;
use super::super::format::count;
use super::super::output::plain;
use super::{Findings, Verdict};
use crate::error::Result;
use crate::exec::scratch;

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
