//! The simulated time: how late it really is, and what the clock of the host says.

use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use std::sync::Mutex;

pub struct Clock {
    file: PathBuf,
    /// How far the truth is ahead of this machine's clock, and the host ahead of the truth.
    ahead: Mutex<(SignedDuration, SignedDuration)>,
}

impl Clock {
    /// `file` is what `BKP_CLOCK` names.
    pub fn new(file: PathBuf, at: Timestamp) -> Clock {
        let clock = Clock { file, ahead: Mutex::default() };
        clock.go_to(at);
        clock
    }

    pub fn truth(&self) -> Timestamp {
        Timestamp::now() + self.ahead.lock().unwrap().0
    }

    /// Time passes.
    pub fn go_to(&self, at: Timestamp) {
        let mut ahead = self.ahead.lock().unwrap();
        ahead.0 = at.duration_since(Timestamp::now());
        self.write(*ahead);
    }

    pub fn pass(&self, time: SignedDuration) {
        self.go_to(self.truth() + time);
    }

    /// The clock of the host is set wrong by so much, or right again.
    pub fn wrong_by(&self, wrong: SignedDuration) {
        let mut ahead = self.ahead.lock().unwrap();
        ahead.1 = wrong;
        self.write(*ahead);
    }

    fn write(&self, (truth, wrong): (SignedDuration, SignedDuration)) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, (truth + wrong).as_secs_f64().to_string()).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }
}
