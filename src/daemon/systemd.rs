//! What the service manager is told: ready, reloading, stopping, how things are, and that the loop lives.
//!
//! A thread of its own does the telling, and what it cannot take is dropped: a manager that does not read its socket must never
//! hold up a backup. The watchdog is fed by the loop alone, so that one that hangs is noticed. Without `NOTIFY_SOCKET`
//! nothing is told and nothing costs anything.

use sd_notify::NotifyState;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// So many words may wait for the manager.
const WAITING: usize = 64;
/// How things are is told at most so often.
const SELDOM: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Manager {
    words: Option<SyncSender<Word>>,
    feed_every: Option<Duration>,
    fed: Option<Instant>,
    told: (Option<Instant>, String),
}

#[derive(Debug)]
enum Word {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Lives,
}

impl Manager {
    pub fn of_this_process() -> Self {
        let words = std::env::var_os("NOTIFY_SOCKET").map(|_| {
            let (words, heard) = sync_channel(WAITING);
            std::thread::spawn(move || heard.iter().for_each(|word| tell(&word)));
            words
        });
        let feed_every = sd_notify::watchdog_enabled().filter(|_| words.is_some()).map(|limit| limit / 3);
        Manager { words, feed_every, fed: None, told: (None, String::new()) }
    }

    /// How often the loop has to come by.
    pub fn feed_every(&self) -> Option<Duration> {
        self.feed_every
    }

    pub fn ready(&self) {
        self.say(Word::Ready);
    }

    pub fn reloading(&self) {
        self.say(Word::Reloading);
    }

    pub fn stopping(&self) {
        self.say(Word::Stopping);
    }

    /// The loop has come by.
    pub fn lives(&mut self) {
        if let Some(every) = self.feed_every
            && self.fed.is_none_or(|fed| fed.elapsed() >= every / 2)
        {
            self.fed = Some(Instant::now());
            self.say(Word::Lives);
        }
    }

    pub fn status(&mut self, text: String) {
        let (when, last) = &self.told;
        if self.words.is_some() && *last != text && when.is_none_or(|when| when.elapsed() >= SELDOM) {
            self.told = (Some(Instant::now()), text.clone());
            self.say(Word::Status(text));
        }
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.words {
            let _ = words.try_send(word);
        }
    }
}

fn tell(word: &Word) {
    let states = match word {
        Word::Ready => vec![NotifyState::Ready],
        // Managers from 253 on want to know since when.
        Word::Reloading => [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now().ok()).collect(),
        Word::Stopping => vec![NotifyState::Stopping],
        Word::Status(text) => vec![NotifyState::Status(text)],
        Word::Lives => vec![NotifyState::Watchdog],
    };
    let _ = sd_notify::notify(&states);
}
