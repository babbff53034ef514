//! A limit on how much goes to and from a store.
//!
//! [`Limited`] wraps any store. Every byte of a body, in either direction, is taken from one [`Rate`] that all requests of this
//! process to the same place share, however often that is opened. Who takes more than there is waits before it goes on;
//! nobody waits longer than what was taken before needs. What is counted are bodies, not headers and listings.
//! The mean is kept, not the shape: what is sent in one request (a pack, a part of a stream) goes as fast as the line.

use super::Store;
use super::observed::{Observed, Observer};
use crate::backoff::pause;
use crate::event::Cancel;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Time, as far as a limit needs it.
pub trait Clock: Send + Sync {
    /// Since some fixed instant.
    fn now(&self) -> Duration;
    fn wait(&self, time: Duration, cancel: &Cancel);
}

/// That of this machine.
struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, time: Duration, cancel: &Cancel) {
        pause(time, &|| cancel.check().is_err());
    }
}

/// So many bytes per second.
pub struct Rate {
    per_second: u64,
    /// When everything that was taken so far is paid for.
    paid: Mutex<Duration>,
    clock: Box<dyn Clock>,
}

/// By place and bytes per second.
type Rates = HashMap<(String, u64), Weak<Rate>>;

/// Those in use.
static SHARED: LazyLock<Mutex<Rates>> = LazyLock::new(Mutex::default);

impl Rate {
    pub fn new(per_second: u64, clock: Box<dyn Clock>) -> Self {
        Rate { per_second: per_second.max(1), paid: Mutex::default(), clock }
    }

    /// The one of this process for a place.
    pub fn shared(place: String, per_second: u64) -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, rate| rate.strong_count() > 0);
        let known = shared.entry((place, per_second)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let rate = Arc::new(Rate::new(per_second, Box::new(Monotonic(Instant::now()))));
            *known = Arc::downgrade(&rate);
            rate
        })
    }

    /// Takes `bytes`, and waits until what was taken before is paid for. A signal ends the waiting.
    pub fn take(&self, bytes: u64, cancel: &Cancel) {
        let now = self.clock.now();
        let wait = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = now.max(*paid);
            *paid = begins + Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
            begins - now
        };
        if !wait.is_zero() {
            self.clock.wait(wait, cancel);
        }
    }
}

/// A store of which no more than its rate is asked.
pub type Limited = Observed<Pace>;

#[derive(Clone)]
pub struct Pace {
    rate: Arc<Rate>,
    cancel: Arc<Cancel>,
}

/// What is read here at once: a large buffer would make for a long wait.
const GULP: usize = 64 << 10;

impl Observer for Pace {
    fn writes(&self, bytes: usize) {
        self.rate.take(bytes as u64, &self.cancel);
    }

    fn has_read(&self, bytes: usize, _: Duration) {
        if bytes > 0 {
            self.rate.take(bytes as u64, &self.cancel);
        }
    }

    fn gulp(&self) -> usize {
        GULP
    }
}

impl Limited {
    /// Holds everything back that goes through it.
    pub fn to_rate(store: Arc<dyn Store>, rate: Arc<Rate>, cancel: Arc<Cancel>) -> Self {
        Observed::new(store, Pace { rate, cancel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::Key;
    use crate::store::memory::Memory;
    use bytes::Bytes;

    /// Time passes only while somebody waits.
    #[derive(Clone, Default)]
    struct Waited(Arc<Mutex<Duration>>);

    impl Clock for Waited {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wait(&self, time: Duration, _: &Cancel) {
            *self.0.lock().unwrap() += time;
        }
    }

    fn limited(per_second: u64) -> (Limited, Waited) {
        let waited = Waited::default();
        let rate = Arc::new(Rate::new(per_second, Box::new(waited.clone())));
        (Limited::to_rate(Arc::new(Memory::new()), rate, Arc::default()), waited)
    }

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    #[test]
    fn both_directions_and_all_requests_pay_into_the_same_rate() {
        let (store, waited) = limited(1000);
        store.put(&key("a"), Bytes::from(vec![1; 4000]), None).unwrap();
        assert_eq!(waited.now(), Duration::ZERO, "the first request finds everything paid for");
        store.put_new(&key("b"), Bytes::from(vec![1; 1000]), None).unwrap();
        assert_eq!(waited.now(), Duration::from_secs(4));
        let upload = store.clone().upload(&key("c"), None).unwrap();
        upload.part(1, 0, Bytes::from(vec![1; 500])).unwrap();
        upload.finish().unwrap();
        assert_eq!(waited.now(), Duration::from_secs(5));
        assert_eq!(crate::store::read(&store, &key("a")).unwrap().len(), 4000);
        store.put(&key("d"), Bytes::new(), None).unwrap();
        assert_eq!(waited.now(), Duration::from_millis(9500), "9,500 bytes at 1,000 a second");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let (store, waited) = limited(1000);
        *waited.0.lock().unwrap() = Duration::from_secs(1000);
        for name in ["a", "b", "c"] {
            store.put(&key(name), Bytes::from(vec![1; 1000]), None).unwrap();
        }
        assert_eq!(waited.now(), Duration::from_secs(1002));
    }

    #[test]
    fn one_place_has_one_rate_in_a_process() {
        let one = Rate::shared("s3://b/p".into(), 1 << 20);
        assert!(Arc::ptr_eq(&one, &Rate::shared("s3://b/p".into(), 1 << 20)));
        assert!(!Arc::ptr_eq(&one, &Rate::shared("s3://b/q".into(), 1 << 20)));
    }

    #[test]
    fn a_signal_ends_the_waiting() {
        let cancel = Cancel::default();
        cancel.set(Kind::Terminated);
        let rate = Rate::new(1, Box::new(Monotonic(Instant::now())));
        rate.take(1 << 40, &cancel);
        rate.take(1, &cancel);
    }
}
