//! How bkp is watched: what journal and configuration come to, for those who look from outside.
//!
//! [`Watcher`] follows the journal; [`Status`] is the one document that the API, the metrics, the page and
//! `bkp healthcheck` are made of, so that they never contradict one another. Nothing here asks the store: what only the store knows (all points, their proofs) is the affair of `bkp status`.

mod chronicle;
mod concern;
mod due;
mod judge;
pub mod log;
pub mod metrics;
mod rehearsal;
mod rotation;
mod status;
pub mod tell;
#[cfg(test)]
mod tests;
mod words;

pub use chronicle::{Chronicle, Tally};
pub use concern::{Concern, Language};
pub use rehearsal::{RehearsalSlots, RehearsalStatus};
pub use rotation::{RotationStatus, reader_due};
pub use status::{Known, PolicyStatus, SourceStatus, Stated, Status, of};
pub use words::{ago, ends, instant, job, plain, size, span, took};

use crate::error::Result;
use crate::job::damage::Found;
use crate::journal::{Follower, Journal, State};
use crate::policy::Configuration;
use crate::repo::keys::NamedRecipient;
use jiff::Timestamp;
use std::time::SystemTime;

/// Follows the journal of this host.
#[derive(Debug)]
pub struct Watcher {
    host: String,
    journal: Follower,
    chronicle: Chronicle,
}

impl Watcher {
    /// `host` is what schedules are put off by.
    pub fn of(journal: &Journal, host: &str) -> Self {
        Watcher { host: host.to_owned(), journal: journal.follow(), chronicle: Chronicle::default() }
    }

    /// Takes in what is new in the journal, and judges it. `readers` are those who read what this host writes.
    pub fn status(
        &mut self,
        configuration: &Configuration,
        (damage, readers): (&[Found], &[NamedRecipient]),
        now: Timestamp,
    ) -> Result<Status> {
        let Watcher { host, journal, chronicle } = self;
        journal.catch_up(&mut |record| chronicle.apply(record))?;
        let configured = chronicle.configured().or_else(|| written(configuration));
        let known = Known { configuration, host, state: &journal.state, chronicle, damage, readers, configured };
        Ok(of(&known, now))
    }

    /// What the journal came to when it was judged last.
    pub fn into_state(self) -> State {
        self.journal.state
    }
}

/// When the files of the configuration were written last: since then its sources are expected, as far as anybody knows.
fn written(configuration: &Configuration) -> Option<Timestamp> {
    let modified = |file: &std::path::PathBuf| std::fs::metadata(file).and_then(|file| file.modified()).ok();
    let newest: SystemTime = configuration.files.iter().filter_map(modified).max()?;
    newest.try_into().ok()
}
