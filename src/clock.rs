//! What time it is. The one place that asks, so that tests can move the clock of the whole program.
//!
//! In debug builds `BKP_CLOCK` may name a file that holds seconds: so far the clock of this process is ahead of the real one
//! (behind it, when they are negative). The file is read each time, so that a clock can jump while programs run.
//! Absent from release builds. How long something takes is measured with `Instant`, which no clock moves.

use jiff::{SignedDuration, Timestamp};

pub fn now() -> Timestamp {
    let real = Timestamp::now();
    match ahead() {
        Some(ahead) => real.checked_add(ahead).unwrap_or(real),
        None => real,
    }
}

/// What the kernel stamps files with; no test moves it.
pub fn of_files() -> Timestamp {
    Timestamp::now()
}

/// How far a test has moved the clock.
pub fn ahead() -> Option<SignedDuration> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let text = std::fs::read_to_string(std::env::var_os("BKP_CLOCK")?).ok()?;
    SignedDuration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}
