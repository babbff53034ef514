//! Checks: reads points again to a level, and records the proof where this host may sign.

use crate::error::Result;
use crate::event::Context;
use crate::repo::Repository;
use crate::repo::check::{self, Report, Request};
use crate::repo::keys::Keyring;
use crate::repo::point::Point;
use crate::repo::proof::{self, Level};
use crate::repo::writer::Writer;
use jiff::Timestamp;

pub struct Check<'a> {
    pub repository: &'a Repository,
    pub points: &'a [Point],
    pub keys: &'a Keyring,
    /// Who signs the proofs; without one nothing is recorded.
    pub writer: Option<&'a Writer>,
    pub level: Level,
    /// The part of the objects to read; 1.0 is all. Proofs need all.
    pub sample: f64,
    pub seed: u64,
}

impl Check<'_> {
    pub fn run(&self, context: Context<'_>, now: Timestamp) -> Result<Report> {
        let report = check::run(&Request {
            repository: self.repository,
            points: self.points,
            level: Some(self.level),
            sample: self.sample,
            seed: self.seed,
            keys: self.keys,
            context,
        })?;
        let Some(writer) = self.writer else { return Ok(report) };
        let proven = |point: &&Point| report.proven.contains(&format!("{}/{}", point.source, point.point));
        for point in self.points.iter().filter(proven) {
            proof::write(self.repository, writer, point, self.level, now)?;
        }
        Ok(report)
    }
}
