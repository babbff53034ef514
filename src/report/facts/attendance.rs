//! When the daemon ran, and when nobody watched over the schedules.

use super::Mark;
use crate::report::period::Period;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// A restart takes less; it is not worth a line.
const SHORT: SignedDuration = SignedDuration::from_secs(60);

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Attendance {
    /// A daemon was seen up to the end of the period.
    pub known: bool,
    pub versions: Vec<String>,
    pub starts: u64,
    pub absences: Vec<Absence>,
    #[serde(skip)]
    standing: Standing,
}

/// A time in which no daemon ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Absence {
    pub from: Timestamp,
    /// Nothing: it had not been started again by the end of the period.
    pub to: Option<Timestamp>,
    /// The last record before, and the one that ends it.
    pub before: Option<Mark>,
    pub after: Option<Mark>,
    pub how: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Stopped(String),
    /// Without a word: it was killed, or the machine was. From the last record on nothing is known.
    Vanished,
    /// There had not been one yet.
    NotBegun,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Standing {
    #[default]
    NotBegun,
    Running,
    Stopped(Mark, String),
}

impl Attendance {
    /// `last` is the record before.
    pub fn started(&mut self, mark: Mark, version: &str, last: Option<Mark>, period: &Period) {
        self.known = true;
        let (before, how) = match std::mem::replace(&mut self.standing, Standing::Running) {
            Standing::NotBegun => (None, Ending::NotBegun),
            Standing::Running => (last, Ending::Vanished),
            Standing::Stopped(at, why) => (Some(at), Ending::Stopped(why)),
        };
        if period.contains(mark.at) {
            self.starts += 1;
            if !self.versions.iter().any(|known| known == version) {
                self.versions.push(version.to_owned());
            }
        } else if mark.at < period.from {
            self.versions = vec![version.to_owned()];
        }
        self.absent(
            Absence {
                from: before.map_or(period.from, |mark| mark.at),
                to: Some(mark.at),
                before,
                after: Some(mark),
                how,
            },
            period,
        );
    }

    pub fn stopped(&mut self, mark: Mark, why: &str) {
        self.standing = Standing::Stopped(mark, why.to_owned());
    }

    pub fn finish(&mut self, period: &Period, until: Timestamp) {
        let (before, how) = match std::mem::take(&mut self.standing) {
            Standing::Stopped(at, why) => (Some(at), Ending::Stopped(why)),
            Standing::NotBegun | Standing::Running => return,
        };
        let from = before.map_or(period.from, |mark| mark.at);
        if from < until {
            self.absent(Absence { from, to: None, before, after: None, how }, period);
        }
    }

    fn absent(&mut self, mut absence: Absence, period: &Period) {
        let end = absence.to.unwrap_or(period.to);
        if absence.from >= period.to || end <= period.from {
            return;
        }
        absence.from = absence.from.max(period.from);
        if end.duration_since(absence.from) >= SHORT {
            self.absences.push(absence);
        }
    }
}
