//! What verification finds wrong: which kind of tampering, in which segment, which records, and between which instants.

use jiff::Timestamp;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tampering {
    /// Records in the middle (or at the beginning) are gone.
    Removed,
    /// A record is not as it was written.
    Edited,
    /// A record stands where it was not written.
    Reordered,
    /// There is a record that nobody wrote there.
    Inserted,
    /// The newest records are gone.
    CutOff,
    /// The chain holds by itself, but is not the one that was sealed or anchored.
    Rewritten,
    /// A signature does not fit.
    Signature,
    /// A run has an outcome and no attempt.
    NoAttempt,
    /// A statement of a rehearsal does not say what the journal says.
    Statement,
    /// A time stamp is not one of what it is said to be of.
    TimeStamp,
    /// A head that was put in a place is not there any more.
    AnchorGone,
    /// What was sealed and put into the repository is not there any more.
    SealGone,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub tampering: Tampering,
    /// The file it was found in.
    pub segment: String,
    /// Numbers of the records concerned; 0 where it is not about single ones.
    pub from: u64,
    pub to: u64,
    /// When the last good record before them, and the first one after them, were written.
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    /// In words, with all of the above.
    pub text: String,
}

impl Finding {
    pub fn new(tampering: Tampering, segment: &str, (from, to): (u64, u64), why: &str) -> Self {
        let text = format!("{} {why}", records(from, to));
        Finding { tampering, segment: segment.to_owned(), from, to, after: None, before: None, text }
    }

    /// Not about single records.
    pub fn of_all(tampering: Tampering, segment: &str, what: &str) -> Self {
        let text = what.to_owned();
        Finding { tampering, segment: segment.to_owned(), from: 0, to: 0, after: None, before: None, text }
    }

    /// With the time range, which the words get too.
    pub fn between(mut self, after: Option<Timestamp>, before: Option<Timestamp>) -> Self {
        (self.after, self.before) = (after, before);
        let range = match (after, before) {
            (Some(after), Some(before)) => format!("written between {} and {}", short(after), short(before)),
            (Some(after), None) => format!("written at or after {}", short(after)),
            (None, Some(before)) => format!("written at or before {}", short(before)),
            (None, None) => return self,
        };
        self.text = format!("{} ({range})", self.text);
        self
    }
}

/// `record 7`, `records 7 to 9`.
pub fn records(from: u64, to: u64) -> String {
    if from == to { format!("record {from}") } else { format!("records {from} to {to}") }
}

/// To the second.
pub fn short(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
