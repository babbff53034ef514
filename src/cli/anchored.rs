//! Whether the head of the journal is anchored as it should be, for `bkp status`.

use super::environment::Environment;
use super::metrics;
use super::output::plain;
use crate::error::Result;
use crate::journal::Job;
use crate::watch::{self, Concern, Stated};

/// What is wrong with it: the last anchor failed, or one is overdue. Nothing where no schedule says when.
pub fn concern(env: &Environment) -> Result<Option<Stated>> {
    if env.configuration()?.evidence.anchor.is_none() {
        return Ok(None);
    }
    let name = watch::job(Job::Anchor);
    let of_anchor = |concern: &Concern| match concern {
        Concern::RoutineFailing { job, .. } | Concern::RoutineOverdue { job, .. } => *job == name,
        _ => false,
    };
    Ok(metrics::look(env)?.concerns.into_iter().find(|stated| of_anchor(&stated.concern)))
}

pub fn text(concern: Option<&Stated>) -> String {
    concern.map_or_else(String::new, |stated| {
        format!("\n\nANCHOR  {}: {}", plain(&stated.told.what), plain(&stated.told.next))
    })
}
