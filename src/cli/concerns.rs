//! What wants a look, for the terminal: the concerns that the page, the API and the metrics show, too.
//!
//! Nothing is judged here. Whether points are there, young and whole is left out: `bkp status` asks the repository itself.

use super::output::plain;
use crate::error::Kind;
use crate::watch::{Concern, Stated, Status};

/// Everything that journal and configuration know of, the worst first.
pub fn of(status: Status) -> Vec<Stated> {
    let mut all = status.concerns;
    all.retain(|stated| {
        !matches!(stated.concern, Concern::Missing { .. } | Concern::Late { .. } | Concern::Damaged { .. })
    });
    all
}

/// What it is, and below it what to do.
pub fn listing(concerns: &[&Stated]) -> String {
    let one = |stated: &&Stated| {
        let (what, next) = (plain(&stated.told.what), plain(&stated.told.next));
        format!("\n{:<8} {what}\n{:<8} -> {next}", mark(&stated.concern), "")
    };
    let text: String = concerns.iter().map(one).collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// How a command ends that found these.
pub fn kind(concerns: &[Stated]) -> Option<Kind> {
    let of = |stated: &Stated| match stated.concern {
        Concern::JournalDamaged { .. } | Concern::RehearsalFailing { .. } | Concern::RehearsalsFailing { .. } => {
            (0, Kind::Verification)
        }
        Concern::Overdue { .. } | Concern::RehearsalOverdue { .. } => (1, Kind::Objective),
        _ => (2, Kind::Warnings),
    };
    concerns.iter().map(of).min_by_key(|(rank, _)| *rank).map(|(_, kind)| kind)
}

fn mark(concern: &Concern) -> &'static str {
    match concern {
        Concern::JournalDamaged { .. } | Concern::Damaged { .. } => "DAMAGED",
        Concern::Degraded { .. } => "DEGRADED",
        Concern::ConfigurationRefused { .. } => "REFUSED",
        Concern::Missing { .. } => "MISSING",
        Concern::Late { .. } => "LATE",
        Concern::Overdue { .. }
        | Concern::RehearsalOverdue { .. }
        | Concern::RoutineOverdue { .. }
        | Concern::RotationOverdue { .. } => "OVERDUE",
        Concern::RotationOpen { by_hand: true, .. } => "BY HAND",
        Concern::RotationOpen { .. } => "STOPPED",
        Concern::Missed { .. } => "MISSED",
        Concern::Held { .. } => "HELD",
        _ => "FAILED",
    }
}
