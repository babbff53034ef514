//! Signs of life of a session: a dump may be silent for days, and a collector gives up who stores nothing under its name.
//!
//! A sign is a checkpoint of nothing. It is written beside the dump, which may hang in a read; one that cannot be stored is
//! left out, and the next one comes. Nothing waits for this thread: a sign after the session's end goes with that.

use super::checkpoint::Checkpoints;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Often enough that a collector, which waits for 72 hours, sees some of them even when the store is away for a day.
const EVERY: Duration = Duration::from_secs(12 * 3600);

/// Beats until it is dropped.
pub struct Heart {
    _stops: Sender<()>,
}

impl Heart {
    /// Zero stands for the usual time between two signs.
    pub fn start(checkpoints: Checkpoints, every: Duration) -> Self {
        let every = if every.is_zero() { EVERY } else { every };
        let (stops, stopped) = channel::<()>();
        std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let _ = checkpoints.live();
            }
        });
        Heart { _stops: stops }
    }
}
