//! A host with a past: two sources under one policy, backed up nightly for as long as a test wants.

use crate::support::host::{Answer, Host, database};
use bkp::journal::{
    Asserted, Chosen, Fact, Job, Journal, Outcome, Reason, Rehearsed, RunEnded, RunStarted, ScratchTarget, SlotEnd,
    SlotId,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Past {
    pub host: Host,
    journal: Journal,
    runs: AtomicU64,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// What the configuration is loaded as.
pub const DIGEST: &str = "5d2cfe4f1aa3d0b7a5a9fb0f6f6c9e5e2f0d1c3b4a5968778695a4b3c2d1e0f0";

impl Past {
    /// Nothing has happened yet. The zone is that of Bogotá; it is the last day of November.
    pub fn new() -> Self {
        let host = Host::new();
        database(&host.path("data/app.db"), 10, "row");
        fs::create_dir(host.path("data/docs")).unwrap();
        fs::write(host.path("data/docs/a"), "a").unwrap();
        host.configure(&format!("repository: {{ url: \"{}\" }}\ntimezone: America/Bogota\n", host.url));
        let past = Past { journal: Journal::of(&host.path("state")), host, runs: AtomicU64::new(1) };
        past.policy("objectives: { rpo: 25h, rto: 30m }\n");
        past.set_clock("2026-11-30T12:00:00Z");
        past
    }

    pub fn policy(&self, more: &str) {
        let (app, docs) = (self.host.text("data/app.db"), self.host.text("data/docs"));
        let text = format!(
            "policy: nightly\nschedule: \"30 2 * * *\"\n{more}sources:\n  app: {{ sqlite: {{ path: \"{app}\" }} }}\n  docs: {{ volume: {{ path: \"{docs}\" }} }}\n"
        );
        fs::write(self.host.path("etc/policies.d/nightly.yaml"), text).unwrap();
    }

    pub fn set_clock(&self, to: &str) {
        let ahead = at(to).duration_since(Timestamp::now()).as_secs_f64();
        fs::write(self.host.path("clock"), ahead.to_string()).unwrap();
    }

    pub fn note(&self, fact: Fact, now: Timestamp) {
        self.journal.append(&[fact], now).unwrap();
    }

    pub fn daemon_starts(&self, now: &str) {
        self.note(Fact::DaemonStarted { pid: 1, version: "0.1.0".into() }, at(now));
        self.note(Fact::ConfigLoaded { ok: true, error: None, digest: DIGEST.into() }, at(now));
    }

    pub fn slot(&self, slot: Timestamp) -> SlotId {
        SlotId { job: Job::Backup, policy: "nightly".into(), slot }
    }

    pub fn expect(&self, slot: Timestamp, now: Timestamp) {
        let deadline = slot + hours(24);
        self.note(Fact::SlotExpected { id: self.slot(slot), due: slot, deadline }, now);
    }

    pub fn end(&self, slot: Timestamp, end: SlotEnd, why: Option<&str>, now: Timestamp) {
        let why = why.map(str::to_owned);
        self.note(Fact::SlotEnded { id: self.slot(slot), end, why, runs: vec![] }, now);
    }

    /// A run of a source, with its end a minute later. Gives its id.
    pub fn run(
        &self,
        job: Job,
        source: Option<&str>,
        slot: Option<Timestamp>,
        begun: Timestamp,
        how: Result<(), &str>,
    ) -> String {
        let run = format!("{:016x}", self.runs.fetch_add(1, Ordering::Relaxed));
        let policy = slot.map(|_| "nightly".to_owned());
        let reason = if slot.is_some() { Reason::Schedule } else { Reason::Manual };
        let source = source.map(str::to_owned);
        let started = RunStarted { run: run.clone(), job, source, policy, slot, reason, pid: 7 };
        self.note(Fact::RunStarted(started), begun);
        let mut ended = RunEnded::well(&run, false);
        (ended.bytes, ended.added, ended.seconds) = (1 << 20, 4096, 60.0);
        match how {
            Ok(()) => {
                ended.consistent_at = (job == Job::Backup).then_some(begun);
                ended.point = Some(format!("{}-{}", begun.strftime("%Y%m%dT%H%M%SZ"), &run[8..]));
            }
            Err(message) => {
                (ended.outcome, ended.code, ended.message) = (Outcome::Failed, 1, Some(message.to_owned()));
            }
        }
        self.note(Fact::RunEnded(ended), begun + SignedDuration::from_secs(60));
        run
    }

    /// One night that goes well, for both sources.
    pub fn night(&self, slot: Timestamp) {
        self.expect(slot, slot - hours(20));
        for (number, source) in ["app", "docs"].into_iter().enumerate() {
            self.run(
                Job::Backup,
                Some(source),
                Some(slot),
                slot + SignedDuration::from_secs(60 * number as i64),
                Ok(()),
            );
        }
        self.end(slot, SlotEnd::Done, None, slot + SignedDuration::from_mins(5));
    }

    /// Nights from the first to the last day, at half past two in Bogotá.
    pub fn nights(&self, first: &str, last: &str) {
        let (first, last): (jiff::civil::Date, jiff::civil::Date) = (first.parse().unwrap(), last.parse().unwrap());
        for day in first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last) {
            self.night(night_of(day));
        }
    }

    pub fn rehearsed(&self, source: &str, when: &str, more: impl FnOnce(&mut Rehearsed)) {
        let run = self.run_started(Job::Rehearse, source, at(when));
        let mut rehearsed = Rehearsed {
            run: run.clone(),
            source: source.into(),
            point: "20261115T073000Z-0a1b2c3d".into(),
            consistent_at: at(when) - hours(10),
            chosen: Chosen::Random,
            wanted: "equal".into(),
            reached: Some("equal".into()),
            target: Some(ScratchTarget {
                kind: "container".into(),
                what: "mysql@sha256:0123456789ab".into(),
                isolation: "no network, no published port, 512 MiB".into(),
            }),
            compared: 12,
            differences: vec![],
            differing: 0,
            unbound: None,
            assertions: vec![Asserted { name: "users".into(), holds: true, found: "42, expected at least 1".into() }],
            phases: [("fetch".into(), 1.5), ("load".into(), 20.25), ("verify".into(), 3.0)].into(),
            rto_seconds: 21.75,
            rto_objective_seconds: Some(1800.0),
            bytes: 10 << 20,
            kept: None,
        };
        more(&mut rehearsed);
        self.note(Fact::Rehearsed(Box::new(rehearsed)), at(when) + SignedDuration::from_secs(30));
        self.note(Fact::RunEnded(RunEnded::well(&run, false)), at(when) + SignedDuration::from_secs(31));
    }

    fn run_started(&self, job: Job, source: &str, begun: Timestamp) -> String {
        let run = format!("{:016x}", self.runs.fetch_add(1, Ordering::Relaxed));
        let source = Some(source.to_owned());
        let started =
            RunStarted { run: run.clone(), job, source, policy: None, slot: None, reason: Reason::Schedule, pid: 7 };
        self.note(Fact::RunStarted(started), begun);
        run
    }

    pub fn bkp(&self, arguments: &[&str]) -> Answer {
        let mut command = self.host.command(arguments);
        command.env("BKP_CLOCK", self.host.path("clock"));
        self.host.finish(self.host.start(command))
    }

    /// A report of this format, as text.
    pub fn report(&self, period: &str, format: &str, more: &[&str]) -> String {
        self.bkp(&[&["report", "--period", period, "--format", format, "--offline"], more].concat()).ends(0).out
    }

    pub fn json(&self, period: &str) -> Value {
        serde_json::from_str(&self.report(period, "json", &[])).unwrap()
    }

    /// The segments of the journal, the oldest first: one for each day.
    pub fn segments(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.host.path("state/journal")).unwrap().flatten().map(|entry| entry.path());
        let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
        segments.sort();
        segments
    }
}

/// Half past two in Bogotá, which knows no daylight saving.
pub fn night_of(day: jiff::civil::Date) -> Timestamp {
    at(&format!("{day}T07:30:00Z"))
}
