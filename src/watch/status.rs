//! The state of everything that was configured, as far as the journal knows it: pure, with `now` passed in.
//!
//! Serialized it is `/api/v1/status`: a stable document, to which fields may be added. Where `bkp status --json` says the
//! same, it is said with the same names. Sources appear because they are configured, so their number is bounded; what ran
//! once and is not configured any more does not appear.

use super::chronicle::{Chronicle, DAYS, Durations, Tally};
use super::concern::{Concern, Language, Told};
use super::due::{self, Since};
use super::rehearsal::{self, RehearsalSlots, RehearsalStatus};
use super::rotation::{self, RotationStatus};
use crate::job::damage::Found;
use crate::job::status::Verdict;
use crate::journal::{Channel, Copied, History, Job, Last, Outcome, PolicyState, Reason, Seen, State};
use crate::policy::{Configuration, Policy};
use crate::repo::keys::NamedRecipient;
use crate::repo::names::{self, CONFIGURATION};
use crate::schedule::Schedule;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that is judged.
pub struct Known<'a> {
    pub configuration: &'a Configuration,
    /// What schedules are put off by.
    pub host: &'a str,
    pub state: &'a State,
    pub chronicle: &'a Chronicle,
    /// What checks on this host found and have not seen mended.
    pub damage: &'a [Found],
    /// Who reads the backups, and since when by which key.
    pub readers: &'a [NamedRecipient],
    /// Since when the configuration is as it is.
    pub configured: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub at: Timestamp,
    /// Nothing grave.
    pub ok: bool,
    pub repository: Option<String>,
    /// The worst first.
    pub concerns: Vec<Stated>,
    pub sources: Vec<SourceStatus>,
    pub policies: Vec<PolicyStatus>,
    pub routines: Vec<RoutineStatus>,
    /// Passwords that are rotated.
    pub rotations: Vec<RotationStatus>,
    pub copies: Vec<CopyStatus>,
    pub channels: BTreeMap<String, Channel>,
    /// What a prune or a check saw of the repository last.
    pub seen: Option<Seen>,
    pub daemon: Option<crate::journal::Daemon>,
    pub config: ConfigStatus,
    pub journal: JournalStatus,
    /// How many runs ended how, of all there ever were.
    #[serde(skip)]
    pub runs: BTreeMap<(Job, Outcome), u64>,
    #[serde(skip)]
    pub durations: BTreeMap<Job, Durations>,
    #[serde(skip)]
    pub timezone: TimeZone,
}

/// A concern with its words.
#[derive(Clone, Debug, Serialize)]
pub struct Stated {
    #[serde(flatten)]
    pub concern: Concern,
    pub grave: bool,
    #[serde(flatten)]
    pub told: Told,
}

#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    pub source: String,
    pub policy: String,
    pub verdict: Verdict,
    pub rpo_seconds: Option<i64>,
    /// The most that would have been lost at any time of the last 30 days.
    pub rpo_attained_seconds: Option<i64>,
    pub rto_seconds: Option<i64>,
    pub newest: Option<NewestPoint>,
    /// The instant of the oldest point, as far as the journal knows.
    pub oldest: Option<Timestamp>,
    /// Until when the store refuses to delete the newest point.
    pub locked_until: Option<Timestamp>,
    pub last_run: Option<LastRun>,
    pub last_success_at: Option<Timestamp>,
    pub failures_in_a_row: u64,
    /// By when a run must come to a good end.
    pub due: Option<Timestamp>,
    pub overdue: bool,
    /// Since when a run goes on.
    pub running: bool,
    pub held: Option<String>,
    /// Absent where nothing was rehearsed, and nothing is to be.
    pub rehearsal: Option<RehearsalStatus>,
    #[serde(skip)]
    pub added_total: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct NewestPoint {
    pub point: Option<String>,
    pub id: Option<String>,
    pub consistent_at: Timestamp,
    pub age_seconds: i64,
    pub bytes: u64,
    pub added: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct LastRun {
    pub run: String,
    pub at: Timestamp,
    pub reason: Reason,
    pub outcome: Outcome,
    pub code: u8,
    pub seconds: f64,
    pub message: Option<String>,
    pub hint: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    pub policy: String,
    pub schedule: Option<String>,
    pub timezone: Option<String>,
    /// When the next runs are due.
    pub next: Vec<Timestamp>,
    pub slots: Slots,
    pub last_slot: Option<EndedSlot>,
    /// Absent where none are scheduled.
    pub rehearsals: Option<RehearsalSlots>,
    /// The last 30 days and today, in the zone of the policy; the oldest first.
    pub days: Vec<Day>,
    #[serde(skip)]
    pub zone: TimeZone,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Slots {
    pub done: u64,
    pub failed: u64,
    pub missed: u64,
    pub skipped: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct EndedSlot {
    pub slot: Timestamp,
    pub at: Timestamp,
    #[serde(rename = "as")]
    pub end: crate::journal::SlotEnd,
    pub why: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Day {
    pub date: Date,
    #[serde(flatten)]
    pub tally: Tally,
}

/// A job of the main file.
#[derive(Clone, Debug, Serialize)]
pub struct RoutineStatus {
    pub job: Job,
    pub last_success_at: Option<Timestamp>,
    pub due: Option<Timestamp>,
    pub next: Option<Timestamp>,
    pub failures_in_a_row: u64,
    /// Of the last failure, as long as it is the last word.
    pub message: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CopyStatus {
    pub copy: String,
    pub source: String,
    #[serde(flatten)]
    pub last: Copied,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    /// Whether the last load went well. Without a daemon nothing is loaded but by commands.
    pub ok: bool,
    pub at: Option<Timestamp>,
    pub error: Option<String>,
    /// Why the last run that should have kept it in the repository failed.
    pub not_kept: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct JournalStatus {
    pub records: u64,
    pub problems: u64,
    pub clock_jumps: u64,
}

pub fn of(known: &Known<'_>, now: Timestamp) -> Status {
    let (configuration, state) = (known.configuration, known.state);
    let schedules = Schedule::all(configuration, known.host);
    let schedule = |job, policy: &str| schedules.iter().find(|s| s.job == job && s.policy == policy);
    let mut sources = Vec::new();
    for policy in &configuration.policies {
        let names = names_of(policy, configuration, state);
        let one = |name: &String| source(known, name, policy, schedule(Job::Backup, &policy.name), now);
        sources.extend(names.iter().map(one));
    }
    let all = configuration.policies.iter();
    let policies = all.map(|policy| policy_status(known, policy, schedule(Job::Backup, &policy.name), now)).collect();
    let routines = schedules.iter().filter(|s| is_routine(s.job)).map(|s| routine(known, s, now)).collect();
    let configured = |copy: &str| configuration.copies.iter().any(|known| known.name == copy);
    let of_these = |source: &str| sources.iter().any(|known| known.source == source);
    let copies = state.copies.iter().filter(|((copy, source), _)| configured(copy) && of_these(source));
    let copies = copies.map(|((copy, source), last)| CopyStatus {
        copy: copy.clone(),
        source: source.clone(),
        last: last.clone(),
    });
    let config = state.config.as_ref();
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION"),
        at: now,
        ok: true,
        repository: configuration.repository.as_ref().map(|repository| repository.url.clone()),
        concerns: Vec::new(),
        policies,
        routines,
        rotations: rotation::all(known, now),
        copies: copies.collect(),
        channels: state.channels.clone(),
        seen: state.repository.clone(),
        daemon: state.daemon.clone(),
        config: ConfigStatus {
            ok: config.is_none_or(|config| config.ok),
            at: config.map(|config| config.at),
            error: config.and_then(|config| config.error.clone()),
            not_kept: not_kept(state),
        },
        journal: JournalStatus { records: state.seq, problems: state.problems, clock_jumps: state.clock_jumps },
        runs: runs(state),
        durations: known.chronicle.durations().clone(),
        timezone: configuration.timezone.clone(),
        sources,
    };
    status.concerns = super::judge::all(&status).into_iter().map(Stated::from).collect();
    status.ok = status.concerns.iter().all(|stated| !stated.grave);
    status
}

impl Status {
    /// With what the daemon says of itself; a configuration that was refused is known already.
    pub fn degraded(mut self, why: &[String]) -> Self {
        let more = why.iter().filter(|_| self.config.ok).map(|why| Concern::Degraded { why: why.clone() });
        let more: Vec<Stated> = more.map(Stated::from).collect();
        self.ok &= more.is_empty();
        self.concerns.splice(0..0, more);
        self
    }
}

impl From<Concern> for Stated {
    fn from(concern: Concern) -> Self {
        Stated { grave: concern.is_grave(), told: concern.told(Language::English), concern }
    }
}

/// The sources that are configured, and those that labels brought to the last run of the policy.
fn names_of(policy: &Policy, configuration: &Configuration, state: &State) -> Vec<String> {
    let mut names: Vec<String> = policy.sources.iter().map(|source| source.name.clone()).collect();
    if policy.labels.is_none() {
        return names;
    }
    let last = state.policy(Job::Backup, &policy.name).and_then(|p| p.last_ended.as_ref()).map(|(slot, ..)| *slot);
    for ((job, name), history) in &state.histories {
        let of_policy = *job == Job::Backup && history.policy.as_deref() == Some(policy.name.as_str());
        let lately = history.last_started >= last;
        if of_policy && lately && configuration.source(name).is_none() {
            names.push(name.clone());
        }
    }
    names
}

fn not_kept(state: &State) -> Option<String> {
    let history = state.backups(CONFIGURATION).filter(|history| history.failures_in_a_row > 0)?;
    let message = history.last.as_ref().and_then(|last| last.run.message.clone());
    Some(message.unwrap_or_else(|| "the run was ended".to_owned()))
}

fn source(known: &Known<'_>, name: &str, policy: &Policy, schedule: Option<&Schedule>, now: Timestamp) -> SourceStatus {
    let history = known.state.backups(name);
    let success = history.and_then(|history| history.last_success.as_ref());
    let newest = newest(known, name, success, now);
    let rpo = policy.objectives.rpo.and_then(|rpo| SignedDuration::try_from(rpo).ok());
    let since = Since {
        last_success: success.map(|last| last.started),
        first_try: known.chronicle.first_try(name),
        configured: known.configured,
    };
    let due = due::due(schedule, rpo, since, newest.as_ref().map(|newest| newest.consistent_at), now);
    let damaged = |newest: &NewestPoint| {
        let point = newest.point.as_ref().map(|point| format!("{name}/{point}"));
        known.damage.iter().any(|found| point.as_ref().is_some_and(|point| found.points.contains(point)))
    };
    let verdict = match &newest {
        None => Verdict::Missing,
        Some(newest) if damaged(newest) => Verdict::Damaged,
        Some(newest) if rpo.is_some_and(|rpo| newest.age_seconds > rpo.as_secs()) => Verdict::Late,
        Some(_) => Verdict::Protected,
    };
    let bytes = newest.as_ref().filter(|newest| newest.point.is_some()).map(|newest| newest.bytes);
    SourceStatus {
        source: name.to_owned(),
        policy: policy.name.clone(),
        verdict,
        rpo_seconds: rpo.map(|rpo| rpo.as_secs()),
        rpo_attained_seconds: known.chronicle.attained(name, now),
        rto_seconds: policy.objectives.rto.and_then(|rto| i64::try_from(rto.as_secs()).ok()),
        rehearsal: rehearsal::of(known, name, policy, bytes, now),
        newest,
        oldest: known.state.oldest.get(name).copied(),
        locked_until: known.state.locked.get(name).copied(),
        last_run: history.and_then(|history| history.last.as_ref()).map(last_run),
        last_success_at: success.map(|last| last.at),
        failures_in_a_row: history.map_or(0, |history| history.failures_in_a_row),
        overdue: due.is_some_and(|due| due < now),
        due,
        running: known.state.running_on(name).is_some(),
        held: known.state.holds.get(name).map(|hold| hold.why.clone()),
        added_total: history.map_or(0, |history| history.added),
    }
}

fn newest(known: &Known<'_>, name: &str, success: Option<&Last>, now: Timestamp) -> Option<NewestPoint> {
    let consistent_at = known.chronicle.newest(name)?;
    let run = success.map(|last| &last.run).filter(|run| run.consistent_at == Some(consistent_at));
    let point = run.and_then(|run| run.point.clone());
    Some(NewestPoint {
        id: point.as_deref().map(|point| names::short_id(point).to_owned()),
        point,
        consistent_at,
        age_seconds: now.duration_since(consistent_at).as_secs(),
        bytes: run.map_or(0, |run| run.bytes),
        added: run.map_or(0, |run| run.added),
    })
}

fn last_run(last: &Last) -> LastRun {
    LastRun {
        run: last.run.run.clone(),
        at: last.at,
        reason: last.reason,
        outcome: last.run.outcome,
        code: last.run.code,
        seconds: last.run.seconds,
        message: last.run.message.clone(),
        hint: last.run.hint.clone(),
    }
}

/// How many of the next runs are shown.
const NEXT: usize = 3;

fn policy_status(known: &Known<'_>, policy: &Policy, schedule: Option<&Schedule>, now: Timestamp) -> PolicyStatus {
    let state = known.state.policy(Job::Backup, &policy.name);
    let upcoming = |schedule: &Schedule| schedule.upcoming(now).take(NEXT).map(|due| due.due).collect();
    PolicyStatus {
        policy: policy.name.clone(),
        schedule: policy.schedule.clone(),
        timezone: policy.timezone.iana_name().map(str::to_owned),
        next: schedule.map_or_else(Vec::new, upcoming),
        slots: state.map_or_else(Slots::default, slots),
        last_slot: state.and_then(EndedSlot::of),
        rehearsals: rehearsal::slots(known, policy),
        days: days(known.chronicle, policy, now),
        zone: policy.timezone.clone(),
    }
}

impl EndedSlot {
    pub(super) fn of(state: &PolicyState) -> Option<Self> {
        let (slot, at, end, why) = state.last_ended.clone()?;
        Some(EndedSlot { slot, at, end, why })
    }
}

fn slots(state: &PolicyState) -> Slots {
    Slots { done: state.done, failed: state.failed, missed: state.missed, skipped: state.skipped }
}

fn days(chronicle: &Chronicle, policy: &Policy, now: Timestamp) -> Vec<Day> {
    let today = now.to_zoned(policy.timezone.clone()).date();
    let start = |date: Date| date.to_zoned(policy.timezone.clone()).map(|midnight| midnight.timestamp());
    let day = |back: i64| {
        let date = today.checked_sub(jiff::Span::new().days(back)).ok()?;
        let (from, to) = (start(date).ok()?, start(date.tomorrow().ok()?).ok()?);
        Some(Day { date, tally: chronicle.between(&policy.name, from, to) })
    };
    (0..DAYS).rev().filter_map(day).collect()
}

/// Jobs of the main file.
fn is_routine(job: Job) -> bool {
    matches!(job, Job::Prune | Job::Check | Job::Anchor)
}

fn routine(known: &Known<'_>, schedule: &Schedule, now: Timestamp) -> RoutineStatus {
    let history: Option<&History> = known.state.histories.get(&(schedule.job, String::new()));
    let success = history.and_then(|history| history.last_success.as_ref());
    let since = Since { last_success: success.map(|last| last.started), first_try: None, configured: known.configured };
    let last = history.and_then(|history| history.last.as_ref());
    RoutineStatus {
        job: schedule.job,
        last_success_at: success.map(|last| last.at),
        due: due::due(Some(schedule), None, since, None, now),
        next: schedule.upcoming(now).next().map(|due| due.due),
        failures_in_a_row: history.map_or(0, |history| history.failures_in_a_row),
        message: last.filter(|last| !last.run.outcome.is_good()).and_then(|last| last.run.message.clone()),
    }
}

fn runs(state: &State) -> BTreeMap<(Job, Outcome), u64> {
    let mut runs = BTreeMap::new();
    for ((job, _), history) in &state.histories {
        let ended = history.ended;
        let counts = [
            (Outcome::Done, ended.done),
            (Outcome::Warnings, ended.warnings),
            (Outcome::Failed, ended.failed),
            (Outcome::Aborted, ended.aborted),
        ];
        for (outcome, count) in counts {
            *runs.entry((*job, outcome)).or_default() += count;
        }
    }
    runs
}
