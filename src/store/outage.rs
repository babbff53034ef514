//! When a store stops answering, and when it answers again: told once each, however many requests wait meanwhile.
//!
//! A request that fails once or twice is no outage. Where some requests get through and others do not, an outage seems to end
//! again and again: the next one is told only after a while, so that nobody is flooded.

use super::{Store, StoreError};
use crate::clock;
use crate::event::{Cancel, Event, Events, Silent};
use jiff::Timestamp;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From how many failures in a row, or after how long, a store counts as silent.
const FAILURES: u32 = 4;
const SPELL: Duration = Duration::from_secs(5);
/// How long nothing is told after the end of an outage.
const PEACE: Duration = Duration::from_secs(60);

/// Who is told of outages, and who ends the waiting.
#[derive(Clone)]
pub struct Watch {
    pub cancel: Arc<Cancel>,
    pub events: Arc<dyn Events>,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { cancel: Arc::default(), events: Arc::new(Silent) }
    }
}

/// One request that fails again and again.
pub(super) struct Waiting {
    pub failures: u32,
    pub spent: Duration,
    /// How long it will be tried yet.
    pub left: Duration,
}

pub(super) struct Outages {
    events: Arc<dyn Events>,
    /// The same as in `state`, to be asked without a lock after every request.
    silent: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    ended: Option<Instant>,
}

impl Outages {
    pub fn new(events: Arc<dyn Events>) -> Self {
        Outages { events, silent: AtomicBool::new(false), state: Mutex::default() }
    }

    /// A request is about to wait for its next try.
    pub fn waits(&self, store: &dyn Store, error: &StoreError, waiting: &Waiting) {
        if waiting.failures < FAILURES && waiting.spent < SPELL {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_some() || state.ended.is_some_and(|ended| ended.elapsed() < PEACE) {
            return;
        }
        state.since = Instant::now().checked_sub(waiting.spent).or_else(|| Some(Instant::now()));
        self.silent.store(true, Relaxed);
        let until = clock::now().checked_add(waiting.left).unwrap_or(Timestamp::MAX);
        self.events.emit(&Event::StoreSilent { store: store.describe(), error: error.to_string(), until });
    }

    /// A request came through.
    pub fn answered(&self, store: &dyn Store) {
        if !self.silent.load(Relaxed) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = state.since.take() else { return };
        state.ended = Some(Instant::now());
        self.silent.store(false, Relaxed);
        self.events.emit(&Event::StoreAnswers { store: store.describe(), seconds: since.elapsed().as_secs_f64() });
    }
}
