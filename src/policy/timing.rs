//! When the runs of a policy may take place: what is written beside its schedule, validated.
//!
//! What follows from it at an instant is the affair of `schedule`.

use super::convert::text_of;
use super::problem::Place;
use super::raw;
use super::reading::{Field, Reader};
use super::rotation_times::Freeze;
use super::values::{self, duration_text};
use crate::repo::proof::Level;
use jiff::civil::{Time, Weekday};
use std::fmt;
use std::time::Duration;

/// What holds for each slot of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    pub missed: Missed,
    /// Slots are put off by a part of this, which is always the same for a policy on a host.
    pub jitter: Duration,
    /// How long after it was due a slot may be at work, waiting and trying again included.
    pub deadline: Duration,
    pub overlap: Overlap,
    pub blackout: Vec<Blackout>,
    /// Hours in which runs may begin; none: at any hour. Only rotations have them.
    pub window: Vec<Blackout>,
    /// Days on which none begins. Only rotations have them.
    pub freeze: Vec<Freeze>,
}

/// What to do about slots that came while nothing was running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// One run makes up for them all.
    #[default]
    RunOnce,
    Skip,
}

/// What to do when a slot comes and the one before is still at work, or somebody else has the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    #[default]
    Skip,
    Queue,
}

/// Hours in which no run begins, in the zone of the policy. Past midnight when it ends before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// On which days it begins; Monday first.
    pub days: [bool; 7],
    pub from: Time,
    pub to: Time,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            missed: Missed::default(),
            jitter: Duration::ZERO,
            deadline: Duration::from_secs(24 * 60 * 60),
            overlap: Overlap::default(),
            blackout: Vec::new(),
            window: Vec::new(),
            freeze: Vec::new(),
        }
    }
}

impl Missed {
    pub fn name(self) -> &'static str {
        match self {
            Missed::RunOnce => "run-once",
            Missed::Skip => "skip",
        }
    }
}

impl Overlap {
    pub fn name(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
        }
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Blackout {
    /// `08:00-18:00`, `mon-fri 08:00-18:00`, `sat,sun 22:00-06:00`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected hours in which nothing runs, such as 08:00-18:00 or mon-fri 08:00-18:00".to_string();
        let (days, hours) = text.trim().rsplit_once(char::is_whitespace).unwrap_or(("mon-sun", text.trim()));
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            let (hour, minute) = (two(hour) && two(minute))
                .then_some(())
                .and_then(|()| Some((hour.parse().ok()?, minute.parse().ok()?)))?;
            if (hour, minute) == (24, 0) { Some(Time::midnight()) } else { Time::new(hour, minute, 0, 0).ok() }
        };
        let (from, to) = time(from).zip(time(to)).ok_or_else(wrong)?;
        let day = |name: &str| DAYS.iter().position(|day| *day == name.trim().to_lowercase()).ok_or_else(wrong);
        let mut set = [false; 7];
        for part in days.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (day(first)?, day(last)?);
            set[at] = true;
            while at != last {
                at = (at + 1) % 7;
                set[at] = true;
            }
        }
        if from == to && set == [true; 7] {
            return Err("then nothing would ever run".into());
        }
        Ok(Blackout { days: set, from, to })
    }

    pub fn begins_on(&self, day: Weekday) -> bool {
        self.days[usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()]
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let days: Vec<_> = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
            write!(f, "{} ", days.join(","))?;
        }
        write!(f, "{}-{}", self.from.strftime("%H:%M"), self.to.strftime("%H:%M"))
    }
}

/// A schedule of the main file, for a job that concerns the whole repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Routine {
    pub schedule: String,
    pub timing: Timing,
    /// Arguments that the command is started with.
    pub arguments: Vec<String>,
}

/// How the daemon runs jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSettings {
    /// Runs at once on this host.
    pub runs: usize,
    /// Of these, with the same store.
    pub runs_per_store: usize,
    pub nice: u8,
    pub io: IoClass,
    /// How long it waits for runs to end when it is told to stop.
    pub drain: Duration,
    /// The wait before a run is tried again for the first time; it doubles each time.
    pub retry: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoClass {
    #[default]
    BestEffort,
    Idle,
}

impl IoClass {
    pub fn name(self) -> &'static str {
        match self {
            IoClass::BestEffort => "best-effort",
            IoClass::Idle => "idle",
        }
    }
}

impl Default for DaemonSettings {
    fn default() -> Self {
        DaemonSettings {
            runs: 2,
            runs_per_store: 4,
            nice: 10,
            io: IoClass::default(),
            drain: Duration::from_secs(8 * 60),
            retry: Duration::from_secs(60),
        }
    }
}

/// What a policy says beside its schedule.
pub struct Written<'a> {
    pub missed: &'a Option<Field<raw::Missed>>,
    pub jitter: &'a Option<Field<String>>,
    pub deadline: &'a Option<Field<String>>,
    pub overlap: &'a Option<Field<raw::Overlap>>,
    pub blackout: &'a Option<Field<Vec<Field<String>>>>,
}

impl Written<'_> {
    /// Where the first of them stands.
    fn place(&self) -> Option<Place> {
        let places = [
            self.missed.as_ref().map(|f| f.place),
            self.jitter.as_ref().map(|f| f.place),
            self.deadline.as_ref().map(|f| f.place),
            self.overlap.as_ref().map(|f| f.place),
            self.blackout.as_ref().map(|f| f.place),
        ];
        places.into_iter().flatten().next()
    }
}

impl Reader<'_> {
    pub(super) fn timing(&self, written: &Written<'_>, scheduled: bool) -> Timing {
        if let Some(place) = written.place().filter(|_| !scheduled) {
            let help = "add `schedule: \"30 2 * * *\"`, or leave it out";
            self.wrong_with_help::<()>(place, "this means nothing without a `schedule`", help);
        }
        let default = Timing::default();
        let windows = written.blackout.as_ref().and_then(|field| field.value.as_ref());
        let window = |field: &Field<String>| text_of(self, field, Blackout::parse);
        Timing {
            missed: match written.missed.as_ref().and_then(|f| f.value) {
                Some(raw::Missed::Skip) => Missed::Skip,
                _ => Missed::RunOnce,
            },
            jitter: self.text(written.jitter, values::duration).unwrap_or(default.jitter),
            deadline: self.text(written.deadline, values::duration).unwrap_or(default.deadline),
            overlap: match written.overlap.as_ref().and_then(|f| f.value) {
                Some(raw::Overlap::Queue) => Overlap::Queue,
                _ => Overlap::Skip,
            },
            blackout: windows.into_iter().flatten().filter_map(window).collect(),
            ..default
        }
    }

    pub(super) fn daemon(&self, field: &Field<raw::Daemon>) -> Option<DaemonSettings> {
        let raw = field.value.as_ref()?;
        let default = DaemonSettings::default();
        let number = |field: &Option<Field<u64>>, most: u64| {
            let field = field.as_ref()?;
            match field.value? {
                number if (1..=most).contains(&number) => usize::try_from(number).ok(),
                _ => self.wrong(field.place, format!("expected a number from 1 to {most}")),
            }
        };
        let nice = raw.nice.as_ref().and_then(|field| match field.value? {
            number @ 0..=19 => u8::try_from(number).ok(),
            _ => self.wrong(field.place, "expected a number from 0 to 19"),
        });
        Some(DaemonSettings {
            runs: number(&raw.runs, 1000).unwrap_or(default.runs),
            runs_per_store: number(&raw.runs_per_store, 1000).unwrap_or(default.runs_per_store),
            nice: nice.unwrap_or(default.nice),
            io: match raw.io.as_ref().and_then(|f| f.value) {
                Some(raw::IoClass::Idle) => IoClass::Idle,
                _ => IoClass::BestEffort,
            },
            drain: self.text(&raw.drain, values::duration).unwrap_or(default.drain),
            retry: self.text(&raw.retry, values::duration).unwrap_or(default.retry),
        })
    }

    pub(super) fn prune(&self, field: &Field<raw::Prune>) -> Option<Routine> {
        let raw = field.value.as_ref()?;
        // Nobody looks on.
        self.routine(field.place, &raw.schedule, vec!["--unattended".to_owned()])
    }

    pub(super) fn check(&self, field: &Field<raw::Check>) -> Option<Routine> {
        let raw = field.value.as_ref()?;
        let level = match raw.level.as_ref().and_then(|f| f.value) {
            Some(raw::Level::Readable) => Level::Readable,
            _ => Level::Stored,
        };
        let mut arguments = vec!["--level".to_owned(), level.name().to_owned()];
        let sample = self.text(&raw.sample, |text| {
            let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
            let good = number.is_some_and(|number| number > 0.0 && number <= 100.0);
            if good { Ok(text.to_owned()) } else { Err("expected a percentage, such as 5%".into()) }
        });
        arguments.extend(sample.into_iter().flat_map(|sample| ["--sample".to_owned(), sample]));
        self.routine(field.place, &raw.schedule, arguments)
    }

    pub(super) fn routine(
        &self,
        place: Place,
        schedule: &Option<Field<String>>,
        arguments: Vec<String>,
    ) -> Option<Routine> {
        if schedule.is_none() {
            self.note_missing(place, "there is no `schedule`", "such as schedule: \"0 4 * * sun\"");
        }
        let schedule = self.text(schedule, |text| values::schedule(text).map(|()| text.to_owned()))?;
        Some(Routine { schedule, timing: Timing::default(), arguments })
    }
}

/// For showing: what is not said counts too.
pub fn shown(timing: &Timing) -> [(&'static str, serde_json::Value); 5] {
    let windows: Vec<String> = timing.blackout.iter().map(ToString::to_string).collect();
    let jitter = if timing.jitter.is_zero() { "0s".to_owned() } else { duration_text(timing.jitter) };
    [
        ("missed", timing.missed.name().into()),
        ("jitter", jitter.into()),
        ("deadline", duration_text(timing.deadline).into()),
        ("overlap", timing.overlap.name().into()),
        ("blackout", windows.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blackouts_are_hours_of_some_days() {
        for (text, shown) in [
            ("08:00-18:00", "08:00-18:00"),
            ("mon-fri 08:00-18:00", "mon,tue,wed,thu,fri 08:00-18:00"),
            ("Sat,sun  22:00-06:00", "sat,sun 22:00-06:00"),
            ("fri-mon 00:00-24:00", "mon,fri,sat,sun 00:00-00:00"),
        ] {
            assert_eq!(Blackout::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "8-18", "08:00", "25:00-26:00", "someday 08:00-09:00", "00:00-24:00", "08:00:00-09:00:00"] {
            assert!(Blackout::parse(bad).is_err(), "{bad}");
        }
    }
}
