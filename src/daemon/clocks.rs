//! Whether the clock jumps: it is compared with one that nobody sets, and that goes on while the machine sleeps.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// What a clock may be corrected by without a word.
const TOLERATED: SignedDuration = SignedDuration::from_secs(30);

pub struct Clocks {
    last: (Timestamp, SignedDuration),
}

impl Clocks {
    pub fn set(now: Timestamp) -> Self {
        Clocks { last: (now, since_boot()) }
    }

    /// How far the clock has jumped since the last look.
    pub fn look(&mut self, now: Timestamp) -> Option<SignedDuration> {
        let steady = since_boot();
        let (before, steady_before) = std::mem::replace(&mut self.last, (now, steady));
        let jump = now.duration_since(before) - (steady - steady_before);
        (jump.abs() > TOLERATED).then_some(jump)
    }
}

fn since_boot() -> SignedDuration {
    let time = clock_gettime(ClockId::Boottime);
    SignedDuration::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or_default())
}
