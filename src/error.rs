//! Failures as users meet them: which thing, what happened, what to do, and the exit code.
//!
//! The kind of a failure *is* the exit code, the `code` in JSON and, later, the label of a metric.
//! Lower layers may have error types of their own where callers branch on them ([`crate::store::StoreError`]);
//! from the repository upwards everything is a [`Failure`].

use std::error::Error;
use std::fmt;

/// What sort of failure, and thereby the exit code (the table is in `docs/CLI.md`; scripts depend on it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Failed = 1,
    Usage = 2,
    Warnings = 3,
    Verification = 4,
    Objective = 5,
    NoRepository = 10,
    Locked = 11,
    Key = 12,
    Refused = 13,
    /// Somebody has to do something elsewhere first.
    ByHand = 14,
    TryLater = 75,
    Interrupted = 130,
    Terminated = 143,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// One failure. `Display` gives the sentence without the hint; the causes are reached through [`Error::source`].
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    what: String,
    hint: Option<String>,
    passing: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

const DAMAGED: &str = "See which points are affected with: bkp check; another one may be whole: bkp points";

pub type Result<T> = std::result::Result<T, Failure>;

/// The cause of all, without what libraries put around it: `Connection refused`.
pub fn innermost(error: &dyn Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

impl Failure {
    /// `what` names the thing and what happened to it, in one sentence without a full stop: `cannot read /srv/app.db`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Failure { kind, what: what.into(), hint: None, passing: false, source: None }
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Failure::new(Kind::Failed, what)
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Failure::new(Kind::Usage, what)
    }

    /// The next step for the reader, as an imperative; a command where there is one.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whoever runs the whole may begin it again at once: what was in the way is gone, or will soon be.
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    pub fn is_passing(&self) -> bool {
        self.passing
    }

    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Damage has the same next step wherever it is met, so that no layer needs to repeat it.
    pub fn next_step(&self) -> Option<&str> {
        let of_kind = (self.kind == Kind::Verification).then_some(DAMAGED);
        self.hint.as_deref().or(of_kind)
    }

    /// With other words, the hint and the causes included.
    pub fn reworded(mut self, other: impl Fn(&str) -> String) -> Self {
        let full = self.full();
        let new = other(&full);
        if new != full {
            (self.what, self.source) = (new, None);
        }
        self.hint = self.hint.map(|hint| other(&hint));
        self
    }

    /// The sentence and all its causes in one line, for reports and JSON.
    pub fn full(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// A failure can travel through `Read` and `Write`, and [`Failure::from_io`] takes it out again unharmed.
impl From<Failure> for std::io::Error {
    fn from(failure: Failure) -> Self {
        std::io::Error::other(failure)
    }
}

impl Failure {
    /// Wraps an I/O error, or returns the failure that travelled inside it. A full disk gets its hint here, once for all.
    pub fn from_io(error: std::io::Error, what: impl FnOnce() -> String) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Failure>()) {
            let inner = error.into_inner().expect("an inner error was just seen");
            return *inner.downcast::<Failure>().expect("its type was just checked");
        }
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let failure = Failure::failed(what()).because(error);
        if full {
            failure.hint("Free some space on that file system and run the command again; nothing half-made was kept")
        } else {
            failure
        }
    }
}

/// Adds what was being done to an error of a lower layer.
pub trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure::from_io(e, what))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure::from_io(e.into(), what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_way_through_io() {
        let io: std::io::Error = Failure::new(Kind::Key, "no identity fits").hint("give one").into();
        let back = Failure::from_io(io, || "unused".into());
        assert_eq!(back.kind(), Kind::Key);
        assert_eq!(back.next_step(), Some("give one"));
    }

    #[test]
    fn causes_are_told_once() {
        let inner = Failure::failed("disk gone");
        let outer = Failure::failed("cannot write x").because(inner);
        assert_eq!(outer.full(), "cannot write x: disk gone");
    }
}
