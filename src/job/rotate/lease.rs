//! That this process has a rotation to itself, for as long as it is at it.
//!
//! Whoever has it says so in Vault, by a thread of its own also while a step takes long, and sees before each step that it is
//! still so. Another host takes over when nothing was said for the time of the lease, by the clock of Vault and nobody else's;
//! what the one before writes into Vault afterwards is refused, for each write names the version that it follows. An engine
//! cannot refuse, nor a file: so no step begins with less than two thirds of the lease left, and right before anything is told to
//! them it is seen once more, by clocks that go on while the process does not, that the lease is not over ([`Lease::condition`]).

use super::record::{Begun, Keeper, Recovered};
use super::scan::Found;
use super::state::Direction;
use crate::clock;
use crate::durable::crash_point;
use crate::engine::Credential;
use crate::error::{Kind, Result};
use crate::event::Condition;
use crate::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub struct Lease<'a>(Mutex<Keeper<'a>>);

impl<'a> Lease<'a> {
    pub fn of(keeper: Keeper<'a>) -> Self {
        Lease(Mutex::new(keeper))
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a step: it is still ours, and for long enough. Where Vault cannot be asked, what is left of it must do.
    pub fn hold(&self) -> Result<()> {
        let mut keeper = self.keeper();
        let age = keeper.age();
        if age.is_some_and(|age| age < keeper.term / 3) {
            return Ok(());
        }
        match keeper.renew(clock::now()) {
            Err(failure) if failure.kind() == Kind::TryLater && age.is_some_and(|age| age < keeper.term) => Ok(()),
            renewed => renewed,
        }
    }

    /// Nobody else takes over while `work` is done, as long as Vault is there.
    pub fn kept<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let (end, ended) = channel::<()>();
            scope.spawn(move || self.keep_alive(&ended));
            let worked = work();
            drop(end);
            worked
        })
    }

    /// Until the other end is dropped.
    fn keep_alive(&self, until: &Receiver<()>) {
        let pause = Duration::try_from(self.keeper().term / 4).unwrap_or(Duration::from_secs(60));
        while until.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            // What becomes of it is seen before the next step.
            let _ = self.keeper().renew(clock::now());
        }
    }

    /// Before something that only this process may do now.
    pub fn renew(&self) -> Result<()> {
        self.keeper().renew(clock::now())?;
        crash_point("rotate-lease:renewed");
        Ok(())
    }

    /// Nobody else can have taken over.
    pub fn condition(&self) -> Condition {
        self.keeper().condition()
    }

    /// Before the previous one is taken away.
    pub fn retire(&self) -> Result<()> {
        self.keeper().retire(clock::now())
    }

    pub fn record(&self, begun: Begun<'_>, pending: &Credential, previous: &Credential) -> Result<()> {
        self.keeper().record(begun, (pending, previous), clock::now())
    }

    pub fn taken(&self) -> Vec<Found> {
        self.keeper().taken().to_vec()
    }

    /// Vault was put back in the middle of it.
    pub fn recovered(&self) -> Option<Recovered> {
        self.keeper().recovered().cloned()
    }

    /// The previous one is being taken away, or was.
    pub fn is_retired(&self) -> bool {
        self.keeper().is_retired()
    }

    /// Somebody said that the old one may be known to others, in this run or before.
    pub fn is_urgent(&self) -> bool {
        self.keeper().is_urgent()
    }

    pub fn force(&self) -> Result<()> {
        self.keeper().force(clock::now())
    }

    pub fn is_forced(&self) -> bool {
        self.keeper().is_forced()
    }

    pub fn turn(&self, direction: Direction, why: Option<String>) -> Result<()> {
        self.keeper().turn(direction, why, clock::now())
    }

    /// What failed, where it goes back and nobody asked for it.
    pub fn why_back(&self) -> Option<String> {
        self.keeper().why_back().map(str::to_owned)
    }

    pub fn locks(&self) -> Vec<Secret> {
        self.keeper().locks()
    }

    /// The run that recorded what is pending.
    pub fn run(&self) -> Option<String> {
        self.keeper().run().map(str::to_owned)
    }

    pub fn is_closed(&self, run: &str) -> bool {
        self.keeper().is_closed(run)
    }

    pub fn set_mark(&self, mark: String, now: Timestamp) -> Result<()> {
        self.keeper().set_mark(mark, now)
    }

    pub fn close(&self, rotated: bool) -> Result<()> {
        self.keeper().close(rotated, clock::now())
    }

    pub fn release(&self) -> Result<()> {
        self.keeper().release()
    }

    pub fn direction(&self) -> Direction {
        self.keeper().direction()
    }

    /// The fencing number.
    pub fn fence(&self) -> u64 {
        self.keeper().fence()
    }

    pub fn mark(&self) -> Option<String> {
        self.keeper().mark().map(str::to_owned)
    }
}

/// When it was said last that it is held; nothing when somebody else has taken over.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Option<Moment>>>);

impl Said {
    pub fn set(&self, at: Option<Moment>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub fn age(&self) -> Option<SignedDuration> {
        let said = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.map(|said| Moment::now().since(said))
    }
}

/// By two clocks, for neither tells all: one nobody sets, and it goes on while the machine sleeps, but not while a hypervisor has
/// stopped it; the other one is corrected when that is over, and may be set at any time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    since_boot: SignedDuration,
    of_the_day: SignedDuration,
}

impl Moment {
    pub fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            SignedDuration::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or_default())
        };
        Moment { since_boot: read(ClockId::Boottime), of_the_day: read(ClockId::Realtime) }
    }

    /// By the clock that says more: at worst the lease is renewed too early.
    fn since(self, before: Moment) -> SignedDuration {
        (self.since_boot - before.since_boot).max(self.of_the_day - before.of_the_day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_as_old_as_the_clock_says_that_says_more() {
        let at = |since_boot: i64, of_the_day: i64| Moment {
            since_boot: SignedDuration::from_secs(since_boot),
            of_the_day: SignedDuration::from_secs(of_the_day),
        };
        let (before, age) = (at(100, 1_000_000), |now: Moment| now.since(at(100, 1_000_000)).as_secs());
        assert_eq!(before.since(before), SignedDuration::ZERO);
        assert_eq!(age(at(105, 1_000_005)), 5);
        assert_eq!(age(at(100, 1_001_200)), 1200, "a hypervisor had stopped it for twenty minutes");
        assert_eq!(age(at(1300, 1_000_000)), 1200, "it slept, and nobody has set the clock yet");
        assert_eq!(age(at(105, 996_400)), 5, "the clock was set back by an hour");
    }
}
