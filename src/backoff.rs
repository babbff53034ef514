//! How long to try again: the arithmetic of waits, and the waiting itself.
//!
//! Exponential back-off with full jitter, until a budget of time is spent. Who tries again, and after which failures, is
//! the affair of the callers. The one place in the program that sleeps before another try.

use std::time::{Duration, Instant};

/// How long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// For one operation, or one stretch of a body without progress.
    pub total: Duration,
    /// The same as long as the other side has never answered: a wrong host name is to be told soon.
    pub first_contact: Duration,
    /// Longest wait before the second try; doubles each time.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            total: Duration::from_secs(15 * 60),
            first_contact: Duration::from_secs(60),
            base: Duration::from_millis(100),
            cap: Duration::from_secs(20),
        }
    }
}

impl Budget {
    /// Tries for so long; at first contact not longer than it would anyway.
    pub fn lasting(self, total: Duration) -> Self {
        Budget { total, first_contact: self.first_contact.min(total), ..self }
    }

    /// The wait after `failures` failures (at least 1). `chance` is in 0..=1: full jitter spreads over the whole span those
    /// who failed together.
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.cap).mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// Evenly in 0..=1. Without randomness there is no jitter, which is no reason to fail.
pub fn chance() -> f64 {
    let mut bytes = [0u8; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

/// Waits, unless `stopped` says that nobody wants to wait any more: then false.
pub fn pause(wait: Duration, stopped: &dyn Fn() -> bool) -> bool {
    let end = Instant::now() + wait;
    loop {
        if stopped() {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_spread_below_it() {
        let budget = Budget::default();
        let most: Vec<_> = (1..=9).map(|failures| budget.wait(failures, 1.0).as_millis()).collect();
        assert_eq!(most, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 20000]);
        assert_eq!(budget.wait(4_000_000, 1.0), budget.cap);
        assert_eq!(budget.wait(9, 0.0), Duration::ZERO);
        assert_eq!(budget.wait(3, 0.5), Duration::from_millis(200));
    }

    #[test]
    fn nobody_waits_who_was_stopped() {
        assert!(!pause(Duration::from_secs(3600), &|| true));
        assert!(pause(Duration::ZERO, &|| false));
    }
}
