//! What is shown, and where it is taken from: the picture that the daemon paints, the journal, and the store's answer.

use crate::clock;
use crate::error::{Failure, Result};
use crate::job::damage;
use crate::journal::Journal;
use crate::policy::Configuration;
use crate::repo::writer;
use crate::schedule::Outlook;
use crate::watch::{Status, Watcher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// So long one look at the journal serves all who ask.
const FRESH: Duration = Duration::from_secs(1);
/// So long the store's word counts.
const REACHED: Duration = Duration::from_secs(30);

/// Whether the store of this configuration answers; asked on a thread that may take its time.
pub type Reachable = Arc<dyn Fn(&Arc<Configuration>) -> Result<()> + Send + Sync>;

pub struct Shown {
    state: PathBuf,
    outlook: watch::Receiver<Arc<Outlook>>,
    /// When the daemon last painted, which its loop does each time that it turns.
    turned: Mutex<Instant>,
    watcher: Mutex<Watcher>,
    /// What it said last, and when.
    known: Mutex<Option<(Instant, Arc<Status>)>>,
    reachable: Reachable,
    reached: Mutex<Option<(Instant, std::result::Result<(), String>)>>,
}

impl Shown {
    /// `state` is the state directory, `host` what schedules are put off by.
    pub fn new(state: &Path, host: &str, outlook: watch::Receiver<Arc<Outlook>>, reachable: Reachable) -> Self {
        Shown {
            state: state.to_owned(),
            outlook,
            turned: Mutex::new(Instant::now()),
            watcher: Mutex::new(Watcher::of(&Journal::of(state), host)),
            known: Mutex::default(),
            reachable,
            reached: Mutex::default(),
        }
    }

    /// Follows the loop of the daemon for as long as there is one.
    pub async fn watch_it_turn(&self) {
        let mut outlook = self.outlook.clone();
        while outlook.changed().await.is_ok() {
            *lock(&self.turned) = Instant::now();
        }
    }

    /// How long ago the loop turned.
    pub fn still(&self) -> Duration {
        lock(&self.turned).elapsed()
    }

    /// Reads what is new in the journal: not for a thread that must not wait.
    pub fn status(&self) -> Result<Arc<Status>> {
        let outlook = self.outlook.borrow().clone();
        // Who asks meanwhile waits for the same answer.
        let mut known = lock(&self.known);
        if let Some((_, status)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(status.clone());
        }
        let damage = damage::load_all(&self.state);
        let readers = writer::readers(&self.state);
        let status = lock(&self.watcher).status(&outlook.configuration, (&damage, &readers), clock::now())?;
        let status = Arc::new(status.degraded(&outlook.degraded));
        *known = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    /// Every schedule has been looked at.
    pub fn has_begun(&self) -> bool {
        self.outlook.borrow().ready
    }

    /// What the store answered a moment ago, if it did.
    pub fn reached(&self) -> Option<Result<()>> {
        let reached = lock(&self.reached);
        let (_, answer) = reached.as_ref().filter(|(at, _)| at.elapsed() < REACHED)?;
        Some(answer.clone().map_err(Failure::failed))
    }

    /// Asks the store: not for a thread that must not wait.
    pub fn reach(&self) -> Result<()> {
        let configuration = self.outlook.borrow().configuration.clone();
        let answer = (self.reachable)(&configuration).map_err(|failure| failure.full());
        *lock(&self.reached) = Some((Instant::now(), answer.clone()));
        answer.map_err(Failure::failed)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
