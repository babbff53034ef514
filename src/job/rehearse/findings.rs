//! What a rehearsal came to: the record for the journal, and why it failed where it did.

use super::Plan;
use super::measure::Phases;
use crate::engine::Comparison;
use crate::error::{Failure, Kind};
use crate::journal::{Asserted, Rehearsed, RunEnded, ScratchTarget};
use crate::repo::proof::Level;

#[derive(Debug)]
pub struct Findings {
    /// Without the id of its run, which the recorder knows.
    pub record: Rehearsed,
    pub reached: Option<Level>,
    /// Why it ended before the level that was wanted.
    pub failure: Option<Failure>,
    /// What people should know of besides; with any, the run ends with warnings.
    pub warnings: Vec<String>,
    /// What a real restore would have told: it is true, and no fault of the point.
    pub notes: Vec<String>,
}

impl Findings {
    pub fn begun(plan: &Plan) -> Self {
        let record = Rehearsed {
            run: String::new(),
            source: plan.source.clone(),
            point: plan.point.clone(),
            consistent_at: plan.consistent_at,
            chosen: plan.chosen,
            wanted: plan.level.name().to_owned(),
            reached: None,
            target: None,
            compared: 0,
            differences: Vec::new(),
            differing: 0,
            unbound: None,
            assertions: Vec::new(),
            phases: Default::default(),
            rto_seconds: 0.0,
            rto_objective_seconds: plan.rto.map(|rto| rto.as_secs_f64()),
            bytes: plan.bytes,
            kept: None,
        };
        Findings { record, reached: None, failure: None, warnings: Vec::new(), notes: Vec::new() }
    }

    pub fn reach(&mut self, level: Level) {
        self.reached = self.reached.max(Some(level));
        self.record.reached = self.reached.map(|level| level.name().to_owned());
    }

    pub fn target(&mut self, kind: &str, what: String, isolation: String) {
        self.record.target = Some(ScratchTarget { kind: kind.to_owned(), what, isolation });
    }

    /// Takes in what the comparison found. A failure when anything differs.
    pub fn compared(&mut self, comparison: Comparison) -> Result<(), Failure> {
        let Comparison { compared, differences, differing, unbound } = comparison;
        self.record.compared = compared;
        self.record.differing = differing;
        self.record.differences = differences.iter().map(|text| plain(text)).collect();
        if differing > 0 {
            let first = self.record.differences.first().cloned().unwrap_or_default();
            let more = if differing > 1 { format!(" and {} more", differing - 1) } else { String::new() };
            let text = format!("what came back is not what {} held: {first}{more}", self.record.source);
            return Err(Failure::new(Kind::Verification, text)
                .hint("Make a new backup and rehearse it; restore from an older point meanwhile: bkp points"));
        }
        if unbound.is_empty() && compared > 0 {
            self.reach(Level::Equal);
            return Ok(());
        }
        let unbound = if unbound.is_empty() { vec!["there was nothing to compare".to_owned()] } else { unbound };
        self.warnings.push(format!("not called equal: {}", unbound.join("; ")));
        self.record.unbound = Some(unbound.join("; "));
        Ok(())
    }

    /// Takes in what the assertions found. A failure when one does not hold.
    pub fn asserted(&mut self, assertions: Vec<Asserted>) -> Result<(), Failure> {
        let broken: Vec<&Asserted> = assertions.iter().filter(|a| !a.holds).collect();
        let failure = broken.first().map(|first| {
            let more = if broken.len() > 1 { format!(" (and {} more)", broken.len() - 1) } else { String::new() };
            let text = format!("{} does not hold: {}{more}", plain(&first.name), plain(&first.found));
            Failure::new(Kind::Verification, text).hint("Look at what the point holds: bkp rehearse --keep")
        });
        self.record.assertions = assertions;
        match failure {
            Some(failure) => Err(failure),
            None => {
                // Each level includes those before it.
                if self.reached == Some(Level::Equal) && !self.record.assertions.is_empty() {
                    self.reach(Level::Checked);
                }
                Ok(())
            }
        }
    }

    pub fn measured(&mut self, phases: &Phases, total: f64) {
        self.record.phases = phases.named(total);
        self.record.rto_seconds = (phases.rto() * 1000.0).round() / 1000.0;
    }

    /// Whether the restore alone took longer than was promised.
    pub fn missed_rto(&self) -> bool {
        self.record
            .rto_objective_seconds
            .is_some_and(|most| self.reached >= Some(Level::Loaded) && self.record.rto_seconds > most)
    }

    pub fn ended(&self, run: &str) -> RunEnded {
        let ended = match &self.failure {
            Some(failure) => RunEnded::failed(run, failure),
            None => {
                RunEnded { message: self.warnings.first().cloned(), ..RunEnded::well(run, !self.warnings.is_empty()) }
            }
        };
        RunEnded {
            point: Some(self.record.point.clone()),
            bytes: self.record.bytes,
            consistent_at: Some(self.record.consistent_at),
            ..ended
        }
    }

    /// For the journal.
    pub fn record_of(&self, run: &str) -> Rehearsed {
        Rehearsed { run: run.to_owned(), ..self.record.clone() }
    }
}

/// Names come from users, and end in reports.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
