//! Waiting for a command inside a container, with an eye on signals and clocks.

use super::connect;
use crate::error::{Failure, Result};
use crate::event::Cancel;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a signal may go unnoticed while everything is silent.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// How long the engine may take to start a command, and to tell of its end.
pub const ENGINE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub struct Clock<'a> {
    pub cancel: &'a Cancel,
    /// When the command has to be over, and how long it was given.
    pub limit: Option<(Instant, Duration)>,
}

/// Why nobody waits any more.
pub enum Stop {
    /// bkp itself is told to stop.
    Told(Failure),
    Limit(Duration),
    Silence(Duration),
}

impl Clock<'_> {
    pub fn check(&self) -> std::result::Result<(), Stop> {
        self.cancel.check().map_err(Stop::Told)?;
        match self.limit {
            Some((end, limit)) if Instant::now() >= end => Err(Stop::Limit(limit)),
            _ => Ok(()),
        }
    }
}

/// Waits for `work`, at most until `silence` after `begun`.
pub fn patiently<T>(
    clock: Clock<'_>,
    silence: Option<Duration>,
    begun: Instant,
    work: impl Future<Output = T>,
) -> Result<std::result::Result<T, Stop>> {
    connect::wait(async {
        let mut work = std::pin::pin!(work);
        loop {
            let left = silence.map_or(HEARTBEAT, |silence| silence.saturating_sub(begun.elapsed()).min(HEARTBEAT));
            let left = clock.limit.map_or(left, |(end, _)| end.saturating_duration_since(Instant::now()).min(left));
            if let Ok(done) = tokio::time::timeout(left, &mut work).await {
                return Ok(done);
            }
            clock.check()?;
            if let Some(silence) = silence.filter(|silence| begun.elapsed() >= *silence) {
                return Err(Stop::Silence(silence));
            }
        }
    })
}
