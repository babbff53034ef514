//! Where the runs of a stack wait for each other, so that their dumps begin at the same moment.
//!
//! Everybody holds a ticket, and waits at the gate until no ticket is left out. A ticket that is dropped, because its run failed
//! before, no longer holds up the others. The gate knows nothing of what is run.

use crate::error::Result;
use crate::event::Cancel;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a signal may go unnoticed at the gate.
const HEARTBEAT: Duration = Duration::from_millis(200);

pub struct Gate {
    /// Tickets that have not arrived.
    out: Mutex<usize>,
    changed: Condvar,
}

pub struct Ticket<'a>(&'a Gate);

impl Gate {
    /// For so many runs; each takes one [`Gate::ticket`].
    pub fn of(runs: usize) -> Self {
        Gate { out: Mutex::new(runs), changed: Condvar::new() }
    }

    pub fn ticket(&self) -> Ticket<'_> {
        Ticket(self)
    }
}

impl Ticket<'_> {
    /// Waits until all others have arrived, or have given up.
    pub fn pass(self, cancel: &Cancel) -> Result<()> {
        let gate = self.0;
        drop(self);
        let mut out = gate.out.lock().unwrap_or_else(PoisonError::into_inner);
        while *out > 0 {
            cancel.check()?;
            out = gate.changed.wait_timeout(out, HEARTBEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        *out = out.saturating_sub(1);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn nobody_passes_before_all_have_arrived_or_given_up() {
        let gate = Gate::of(3);
        let arrived = AtomicUsize::new(0);
        let cancel = Cancel::default();
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let ticket = gate.ticket();
                        arrived.fetch_add(1, SeqCst);
                        ticket.pass(&cancel).unwrap();
                        arrived.load(SeqCst)
                    })
                })
                .collect();
            let failing = gate.ticket();
            while arrived.load(SeqCst) < 2 {
                std::thread::yield_now();
            }
            arrived.fetch_add(1, SeqCst);
            drop(failing);
            assert!(runs.into_iter().all(|run| run.join().unwrap() == 3));
        });
    }

    #[test]
    fn a_signal_is_seen_at_the_gate() {
        let gate = Gate::of(2);
        let cancel = Cancel::default();
        cancel.set(crate::error::Kind::Interrupted);
        assert!(gate.ticket().pass(&cancel).is_err());
    }
}
