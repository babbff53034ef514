//! `bkp rotate reapply`, and what a restore of the server owes: before anything else is done, for until then the account may refuse
//! every password that a rotation knows.

use super::reason;
use crate::cli::Ran;
use crate::cli::environment::Environment;
use crate::cli::in_force;
use crate::error::{Failure, Result};
use crate::job::recorder::What;
use crate::job::rotate::rules;
use crate::journal::{Job, RunEnded};

/// Whoever holds the lock of the rotation.
pub fn reapply(env: &Environment, name: &str) -> Ran {
    let told = apply(env, name)?;
    let document = serde_json::json!({ "ok": true, "rotation": name, "changed": told });
    env.output.answer(&document, || told.unwrap_or_else(|| format!("{name}: only what is published lets in")))?;
    Ok(None)
}

/// Then what was asked for goes on.
pub fn settle(env: &Environment, name: &str) -> Result<()> {
    env.output.note(&format!("the server of {name} was restored: first, its account takes what is published"));
    let told = apply(env, name)?;
    told.iter().for_each(|told| env.output.note(told));
    Ok(())
}

fn still_owed(name: &str, failure: &Failure) -> Failure {
    let text = format!("the server of {name} was restored, and its account does not take what is published yet");
    let first = failure.next_step().unwrap_or("Mend that").to_owned();
    Failure::new(failure.kind(), format!("{text}: {}", failure.full())).hint(format!(
        "Where that restore did not come to its end, run it again. Otherwise: {first}; it is tried again by: bkp rotate reapply {name}"
    ))
}

fn apply(env: &Environment, name: &str) -> Result<Option<String>> {
    let (policy, rotation) = env.configuration()?.rotation(name)?;
    let recorder = env.recorder()?;
    let what = What::source(Job::Rotate, name, Some(name));
    let is_owed = rules::owed(&env.journal()?.state()?, name).is_some();
    let act = |run: &str| {
        let applied = in_force::apply_one(env, (policy, rotation), &[], (run, &recorder));
        applied.map_err(|failure| if is_owed { still_owed(name, &failure) } else { failure })
    };
    recorder.run_named(what, reason(env), act, |_, run| RunEnded::well(run, false))
}
