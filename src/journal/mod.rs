//! The journal: what was expected, begun and ended on this host, in order, for good.
//!
//! Append-only JSON lines in `STATE/journal/`, numbered without gaps, each with the hash of the one before; the format is in
//! `docs/JOURNAL.md`. Many processes write ([`Journal::append`], [`Journal::begin`]); readers fold ([`Journal::state`],
//! [`Journal::follow`]) and have no state of their own. A record is on the disk before the call returns.
//! It notices damage and tampering that does not reach the end of the chain; whoever can write the file can write a whole
//! new one, against which the sealed segments in the repository stand.

use crate::error::Result;
use std::path::{Path, PathBuf};

mod append;
mod fact;
mod line;
mod read;
mod record;
mod rehearsed;
mod restore_time;
mod rotated;
mod run;
mod segments;
mod state;
#[cfg(test)]
mod tests;

pub use append::{Appended, Locked};
pub use line::{Hash, Head, Sound, decode};
pub use read::{Cursor, Follower, Problem};
pub use record::{EVERY_POLICY, Fact, Job, Outcome, Reason, Record, RunEnded, RunStarted, SlotEnd, SlotId};
pub use rehearsed::{Asserted, Chosen, Rehearsed, ScratchTarget, Verdict};
pub use restore_time::{Estimate, RestoreTime};
pub use rotated::Rotated;
pub use run::{Begun, Running};
pub use state::{
    Channel, ConfigLoad, Copied, Counts, Daemon, History, Hold, Last, OpenSlot, PolicyState, RehearsalState,
    RotationState, Seen, State,
};

/// The journal of a state directory.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// Nothing is created before something is written.
    pub fn of(state: &Path) -> Self {
        Journal { directory: state.join("journal") }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All of them, in order: the numbers of their first records, and where they are. The last one grows.
    pub fn segments(&self) -> Result<Vec<(u64, PathBuf)>> {
        let all = segments::list(&self.directory)?;
        Ok(all.into_iter().map(|segment| (segment.first, segment.path)).collect())
    }

    /// Those that are not written into any more: the numbers of their first records, and where they are.
    pub fn sealed_segments(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut all = self.segments()?;
        all.pop();
        Ok(all)
    }

    /// Where the chain stands. Nothing is written, and what a killed writer left is passed over.
    pub fn head(&self) -> Result<Head> {
        for segment in segments::list(&self.directory)?.into_iter().rev() {
            match segments::end_of(&segment.path)? {
                segments::End::Sound(head, _) | segments::End::Torn { last: Some(head), .. } => return Ok(head),
                segments::End::Empty | segments::End::Torn { last: None, .. } => {}
            }
        }
        Ok(Head::none())
    }

    /// What its first record calls it.
    pub fn id(&self) -> Result<Option<String>> {
        let mut id = None;
        let Some(first) = segments::list(&self.directory)?.into_iter().next() else { return Ok(None) };
        read::first(&first.path, &mut |record| {
            if let Fact::JournalBegun { journal, .. } = &record.fact {
                id = Some(journal.clone());
            }
        })?;
        Ok(id)
    }
}
