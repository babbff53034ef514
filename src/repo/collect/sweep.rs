//! The act: what was dead in every mark for long enough is deleted, with all its versions.

use super::protocol::{DeadList, within_limit};
use super::survey::Amount;
use super::{Collector, Previous, Survey, id, may_not_delete};
use crate::durable;
use crate::error::{Failure, Result};
use crate::event::Meter;
use crate::store::{Entry, Key, Purged, StoreError, TOGETHER};
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Requests under way at once.
const DELETING: usize = 8;

/// What became of the dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    pub deleted: Amount,
    /// Not dead for long enough yet.
    pub waiting: Amount,
    /// Under a lock of the store.
    pub locked: Amount,
    /// Beyond what one run deletes.
    pub left: Amount,
}

impl Collector<'_> {
    /// `limit` is in bytes. `mark` is the one that was just made of the survey.
    pub fn sweep(
        &self,
        survey: &Survey,
        (mark, dead): (&Previous, &DeadList),
        limit: u64,
        meter: &Meter,
    ) -> Result<Swept> {
        let mut swept = Swept::default();
        let since = |entry: &Entry| dead.0.get(&id(&entry.key)).copied().unwrap_or(mark.mark.number);
        let ripe = |entry: &&Entry| {
            mark.stored(since(entry)).is_some_and(|stored| self.protocol.may_delete(stored, survey.now))
        };
        let (mut ripe, waiting): (Vec<&Entry>, Vec<&Entry>) = survey.dead.iter().partition(ripe);
        waiting.iter().for_each(|entry| swept.waiting.add(entry.size));
        ripe.sort_by_key(|entry| (since(entry), &entry.key));
        let sizes: Vec<u64> = ripe.iter().map(|entry| entry.size).collect();
        let (now, left) = ripe.split_at(within_limit(&sizes, limit));
        left.iter().for_each(|entry| swept.left.add(entry.size));
        meter.total_bytes.fetch_add(now.iter().map(|entry| entry.size).sum(), Ordering::Relaxed);
        self.delete(now, &mut swept, meter)?;
        Ok(swept)
    }

    fn delete(&self, entries: &[&Entry], swept: &mut Swept, meter: &Meter) -> Result<()> {
        let next = AtomicUsize::new(0);
        let together = entries.len().div_ceil(DELETING).clamp(1, TOGETHER);
        let batches: Vec<&[&Entry]> = entries.chunks(together).collect();
        let outcome = Mutex::new((swept, None::<Failure>));
        std::thread::scope(|scope| {
            for _ in 0..DELETING.min(batches.len()) {
                scope.spawn(|| {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let purged = self.cancel.check().and_then(|()| self.purge(batch));
                        durable::crash_point("prune:object-deleted");
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        match purged {
                            Ok(fates) => batch.iter().zip(fates).for_each(|(entry, fate)| {
                                meter.add(entry.size, 1);
                                match fate {
                                    Purged::Gone => outcome.0.deleted.add(entry.size),
                                    Purged::Locked => outcome.0.locked.add(entry.size),
                                }
                            }),
                            Err(failure) => {
                                outcome.1.get_or_insert(failure);
                                next.store(batches.len(), Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        match outcome.into_inner().unwrap_or_else(PoisonError::into_inner).1 {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    fn purge(&self, batch: &[&Entry]) -> Result<Vec<Purged>> {
        let keys: Vec<Key> = batch.iter().map(|entry| entry.key.clone()).collect();
        match self.store().purge_all(&keys) {
            Err(StoreError::Denied(why)) => Err(may_not_delete(&self.store().describe(), &why)),
            other => Ok(other?),
        }
    }
}
