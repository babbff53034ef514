//! What watching makes of journals: due times, attained objectives, strips of days, concerns.

use super::chronicle::DAYS;
use super::*;
use crate::journal::{Fact, Job, Outcome, Reason, Record, RunEnded, RunStarted, SlotEnd, SlotId, State};
use crate::policy::{Paths, load_with};
use crate::repo::keys::Role;
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;

/// A host whose journal is written by hand.
struct Story {
    configuration: Configuration,
    state: State,
    chronicle: Chronicle,
    readers: Vec<NamedRecipient>,
    seq: u64,
    runs: u64,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn configuration(policies: &[&str]) -> Configuration {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir(root.join("policies.d")).unwrap();
    std::fs::write(root.join("bkp.yaml"), "timezone: UTC\ncheck: { schedule: '0 4 * * sun' }\n").unwrap();
    for (number, policy) in policies.iter().enumerate() {
        std::fs::write(root.join(format!("policies.d/{number}.yaml")), policy).unwrap();
    }
    let [config, state, cache, run] = ["bkp.yaml", "state", "cache", "run"].map(|name| root.join(name));
    load_with(&Paths { config, config_given: true, state, cache, run }, &|_| None).unwrap()
}

const NIGHTLY: &str = "
policy: p
schedule: '30 2 * * *'
deadline: 2h
objectives: { rpo: 26h }
sources: { app: { sqlite: { path: /srv/app.db } } }";

impl Story {
    fn of(policies: &[&str]) -> Self {
        let configuration = configuration(policies);
        let (state, chronicle, readers) = (State::default(), Chronicle::default(), Vec::new());
        Story { configuration, state, chronicle, readers, seq: 0, runs: 0 }
    }

    fn note(&mut self, when: Timestamp, fact: Fact) {
        self.seq += 1;
        let record = Record { seq: self.seq, at: when, fact };
        self.state.apply(&record);
        self.chronicle.apply(&record);
    }

    fn loaded(&mut self, when: &str) {
        self.note(at(when), Fact::ConfigLoaded { ok: true, error: None, digest: "one".into() });
    }

    /// A backup of a minute, whose data stands for the instant it began.
    fn ran(&mut self, source: &str, begun: Timestamp, slot: Option<Timestamp>, outcome: Outcome) {
        self.runs += 1;
        let run = format!("r{}", self.runs);
        self.begun(&run, Job::Backup, source, begun, slot);
        let good = outcome.is_good();
        let ended = RunEnded {
            outcome,
            seconds: 60.0,
            bytes: 1000,
            added: 10,
            point: good.then(|| "20260101T000000Z-abc".into()),
            consistent_at: good.then_some(begun),
            message: (!good).then(|| "disk is gone".into()),
            ..RunEnded::well(&run, false)
        };
        self.note(begun + SignedDuration::from_secs(60), Fact::RunEnded(ended));
    }

    fn begun(&mut self, run: &str, job: Job, source: &str, begun: Timestamp, slot: Option<Timestamp>) {
        self.note(
            begun,
            Fact::RunStarted(RunStarted {
                run: run.into(),
                job,
                source: Some(source.into()),
                policy: Some("p".into()),
                slot,
                reason: Reason::Schedule,
                pid: 1,
            }),
        );
    }

    /// A rehearsal of the source `app`.
    fn rehearsed(&mut self, begun: Timestamp, slot: Option<Timestamp>, reached: Option<&str>) {
        self.begun("rehearsal", Job::Rehearse, "app", begun, slot);
        let fields = serde_json::json!({
            "run": "rehearsal", "source": "app", "point": "20260101T000000Z-abc", "consistent_at": begun,
            "chosen": "latest", "wanted": "equal", "reached": reached,
        });
        self.note(begun, Fact::Rehearsed(serde_json::from_value(fields).unwrap()));
        let ended = match reached {
            Some(_) => RunEnded::well("rehearsal", false),
            None => RunEnded {
                outcome: Outcome::Failed,
                message: Some("disk is gone".into()),
                ..RunEnded::well("rehearsal", false)
            },
        };
        self.note(begun + SignedDuration::from_secs(9), Fact::RunEnded(ended));
    }

    fn slot(&mut self, slot: Timestamp, end: SlotEnd) {
        let id = SlotId { job: Job::Backup, policy: "p".into(), slot };
        self.note(slot + SignedDuration::from_secs(120), Fact::SlotEnded { id, end, why: None, runs: vec![] });
    }

    fn status(&self, now: &str) -> Status {
        let known = Known {
            configuration: &self.configuration,
            host: "host",
            state: &self.state,
            chronicle: &self.chronicle,
            damage: &[],
            readers: &self.readers,
            configured: self.chronicle.configured(),
        };
        of(&known, at(now))
    }

    fn due(&self, now: &str) -> Option<String> {
        self.status(now).sources[0].due.map(|due| due.to_string())
    }

    fn concerns(&self, now: &str) -> Vec<String> {
        self.status(now).concerns.iter().map(|stated| stated.told.what.clone()).collect()
    }
}

#[test]
fn what_never_ran_is_due_too_and_stays_so() {
    let mut story = Story::of(&[NIGHTLY]);
    story.loaded("2026-11-01T12:00:00Z");
    assert_eq!(story.due("2026-11-01T12:00:01Z").unwrap(), "2026-11-02T04:30:00Z");
    assert_eq!(story.due("2026-11-20T00:00:00Z").unwrap(), "2026-11-02T04:30:00Z");
    // The daemon was started again with the same configuration: that puts nothing off.
    story.loaded("2026-11-19T12:00:00Z");
    assert_eq!(story.due("2026-11-20T00:00:00Z").unwrap(), "2026-11-02T04:30:00Z");
    assert_eq!(story.status("2026-11-20T00:00:00Z").sources[0].verdict, crate::job::status::Verdict::Missing);
}

#[test]
fn a_failed_slot_counts_against_its_own_deadline_and_a_success_for_the_next_one() {
    let mut story = Story::of(&[NIGHTLY]);
    story.loaded("2026-11-01T12:00:00Z");
    let slot = at("2026-11-02T02:30:00Z");
    story.ran("app", slot, Some(slot), Outcome::Failed);
    assert_eq!(story.due("2026-11-02T03:00:00Z").unwrap(), "2026-11-02T04:30:00Z");
    story.ran("app", at("2026-11-02T03:10:00Z"), Some(slot), Outcome::Done);
    assert_eq!(story.due("2026-11-02T03:20:00Z").unwrap(), "2026-11-03T04:30:00Z");
    let next = at("2026-11-03T02:30:00Z");
    story.ran("app", next, Some(next), Outcome::Failed);
    assert_eq!(story.due("2026-11-03T05:00:00Z").unwrap(), "2026-11-03T04:30:00Z");
    assert!(story.status("2026-11-03T05:00:00Z").sources[0].overdue);
    assert_eq!(story.concerns("2026-11-03T05:00:00Z"), ["The last run of app failed: disk is gone"]);
}

#[test]
fn without_a_schedule_the_objective_says_when() {
    let policy = NIGHTLY.replace("schedule: '30 2 * * *'\ndeadline: 2h\n", "");
    let mut story = Story::of(&[&policy]);
    story.loaded("2026-11-01T12:00:00Z");
    assert_eq!(story.due("2026-11-01T13:00:00Z").unwrap(), "2026-11-02T14:00:00Z");
    story.ran("app", at("2026-11-01T20:00:00Z"), None, Outcome::Done);
    assert_eq!(story.due("2026-11-01T21:00:00Z").unwrap(), "2026-11-02T22:00:00Z");
    let story = Story::of(&[&policy.replace("objectives: { rpo: 26h }\n", "")]);
    assert_eq!(story.due("2026-11-01T21:00:00Z"), None);
}

#[test]
fn the_attained_objective_is_the_worst_of_the_last_days_and_of_now() {
    let mut story = Story::of(&[NIGHTLY]);
    let hours = |story: &Story, now: &str| story.status(now).sources[0].rpo_attained_seconds.map(|s| s / 3600);
    assert_eq!(hours(&story, "2026-11-01T00:00:00Z"), None);
    for day in ["01", "02", "05", "06"] {
        story.ran("app", at(&format!("2026-11-{day}T02:00:00Z")), None, Outcome::Done);
    }
    assert_eq!(hours(&story, "2026-11-06T03:00:00Z"), Some(72));
    assert_eq!(hours(&story, "2026-11-12T03:00:00Z"), Some(6 * 24 + 1), "now it is worse");
    story.ran("app", at("2026-12-05T02:00:00Z"), None, Outcome::Done);
    assert_eq!(hours(&story, "2026-12-05T03:00:00Z"), Some(29 * 24));
    for day in 6..30 {
        story.ran("app", at(&format!("2026-12-{day:02}T02:00:00Z")), None, Outcome::Done);
    }
    assert_eq!(hours(&story, "2027-01-05T03:00:00Z"), Some(7 * 24 + 1), "what is long ago is forgiven");
    let failed = Story::of(&[NIGHTLY]);
    assert_eq!(hours(&failed, "2026-11-06T03:00:00Z"), None);
}

#[test]
fn days_are_those_of_the_zone_of_the_policy() {
    let policy = NIGHTLY.replace("policy: p", "policy: p\ntimezone: Asia/Kolkata");
    let mut story = Story::of(&[&policy]);
    // 23:45 and 00:15 in Kolkata.
    let (late, early) = (at("2026-11-02T18:15:00Z"), at("2026-11-02T18:45:00Z"));
    story.ran("app", late, Some(late), Outcome::Done);
    story.slot(late, SlotEnd::Done);
    story.slot(early, SlotEnd::Missed);
    let status = story.status("2026-11-03T12:00:00Z");
    let days = &status.policies[0].days;
    assert_eq!(days.len(), DAYS as usize);
    let of = |date: &str| days.iter().find(|day| day.date.to_string() == date).unwrap().tally;
    assert_eq!((of("2026-11-02").done, of("2026-11-02").missed), (1, 0));
    assert_eq!((of("2026-11-03").done, of("2026-11-03").missed), (0, 1));
    assert_eq!(days.last().unwrap().date.to_string(), "2026-11-03");
    // The slot is counted, not its run beside it.
    assert_eq!(days.iter().map(|day| day.tally.done).sum::<u32>(), 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut story = Story::of(&[NIGHTLY]);
    let begin = at("2026-01-01T00:00:00Z");
    for minute in 0..90 * 24 * 12 {
        let slot = begin + SignedDuration::from_mins(5 * minute);
        story.slot(slot, SlotEnd::Done);
    }
    let size = format!("{:?}", story.chronicle).matches("Tally").count();
    assert!(size <= 33 * 96, "{size} quarters are kept");
}

#[test]
fn a_journal_that_took_records_back_is_read_anew() {
    let mut story = Story::of(&[NIGHTLY]);
    story.ran("app", at("2026-11-01T02:00:00Z"), None, Outcome::Done);
    let before = story.chronicle.clone();
    story.ran("app", at("2026-11-02T02:00:00Z"), None, Outcome::Done);
    let mut again = Story::of(&[NIGHTLY]);
    again.chronicle = story.chronicle;
    again.ran("app", at("2026-11-01T02:00:00Z"), None, Outcome::Done);
    assert_eq!(again.chronicle, before);
}

#[test]
fn what_is_not_configured_any_more_is_not_shown() {
    let mut story = Story::of(&[NIGHTLY]);
    story.ran("gone", at("2026-11-01T02:00:00Z"), None, Outcome::Done);
    let status = story.status("2026-11-01T03:00:00Z");
    assert_eq!(status.sources.iter().map(|s| s.source.as_str()).collect::<Vec<_>>(), ["app"]);
    let text = metrics::render(&Arc::new(status), metrics::Format::OpenMetrics);
    assert!(!text.contains("\"gone\""), "{text}");
    assert!(text.contains("bkp_runs_total{kind=\"backup\",result=\"done\"} 1\n"), "{text}");
}

#[test]
fn what_labels_brought_to_the_last_slot_is_shown_and_no_more() {
    let labelled = NIGHTLY.replace("sources: { app: { sqlite: { path: /srv/app.db } } }", "labels: {}");
    let mut story = Story::of(&[&labelled]);
    let (one, two) = (at("2026-11-01T02:30:00Z"), at("2026-11-02T02:30:00Z"));
    for (slot, sources) in [(one, vec!["old", "new"]), (two, vec!["new"])] {
        sources.iter().for_each(|source| story.ran(source, slot, Some(slot), Outcome::Done));
        story.slot(slot, SlotEnd::Done);
    }
    let status = story.status("2026-11-02T03:00:00Z");
    assert_eq!(status.sources.iter().map(|s| s.source.as_str()).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn concerns_come_worst_first_in_both_languages() {
    let mut story = Story::of(&[NIGHTLY]);
    story.note(
        at("2026-11-01T00:00:00Z"),
        Fact::ConfigLoaded { ok: false, error: Some("a\nb".into()), digest: "x".into() },
    );
    story.slot(at("2026-11-01T02:30:00Z"), SlotEnd::Missed);
    story.note(at("2026-11-01T03:00:00Z"), Fact::HoldPlaced { source: "app".into(), why: "half is gone".into() });
    story.state.problems = 1;
    let status = story.status("2026-11-01T04:00:00Z");
    assert!(!status.ok);
    let told = |language| status.concerns.iter().map(|stated| stated.concern.told(language).what).collect::<Vec<_>>();
    assert_eq!(
        told(Language::English),
        [
            "The journal is damaged in 1 places",
            "app has no backup",
            "The configuration was refused; the one before stays in force: a",
            "p missed its slot of 2026-11-01T02:30:00Z",
            "Nothing of app is pruned until somebody has looked: half is gone",
        ]
    );
    for (english, spanish) in told(Language::English).iter().zip(told(Language::Spanish)) {
        assert_ne!(*english, spanish);
    }
}

#[test]
fn scheduled_rehearsals_that_came_to_nothing_are_told_until_one_passes() {
    let rehearsed = format!("{NIGHTLY}\nrehearse: {{ schedule: '0 5 * * *' }}");
    let mut story = Story::of(&[&rehearsed]);
    story.ran("app", at("2026-11-01T02:30:00Z"), None, Outcome::Done);
    let slot = |story: &mut Story, day: u8, end| {
        let slot = at(&format!("2026-11-{day:02}T05:00:00Z"));
        let id = SlotId { job: Job::Rehearse, policy: "p".into(), slot };
        let why = (end == SlotEnd::Failed).then(|| "no identity fits".into());
        story.note(slot + SignedDuration::from_secs(9), Fact::SlotEnded { id, end, why, runs: vec![] });
    };
    let told = |story: &Story| {
        let stated = story.status("2026-11-03T05:10:00Z").concerns;
        let of_rehearsals = stated.iter().filter(|one| matches!(one.concern, Concern::RehearsalsFailing { .. }));
        of_rehearsals.map(|one| (one.grave, one.told.what.clone(), one.told.next.clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(&story), []);
    slot(&mut story, 1, SlotEnd::Failed);
    let (once, next) =
        ("The last scheduled rehearsal of policy p came to nothing: no identity fits", "bkp doctor; bkp rehearse p");
    assert_eq!(told(&story), [(true, once.to_owned(), next.to_owned())]);
    slot(&mut story, 2, SlotEnd::Missed);
    let twice = "The last 2 scheduled rehearsals of policy p came to nothing";
    assert_eq!(told(&story), [(true, twice.to_owned(), next.to_owned())]);
    assert!(
        told(&Story { configuration: configuration(&[NIGHTLY]), ..story }).is_empty(),
        "none are scheduled any more"
    );
    let mut story = Story::of(&[&rehearsed]);
    slot(&mut story, 2, SlotEnd::Failed);
    story.rehearsed(at("2026-11-02T09:00:00Z"), None, Some("equal"));
    assert_eq!(told(&story), [], "one has passed since");
    let third = at("2026-11-03T05:00:00Z");
    story.rehearsed(third, Some(third), None);
    slot(&mut story, 3, SlotEnd::Failed);
    assert_eq!(told(&story), [], "the source tells why");
    let of_source = story.concerns("2026-11-03T05:10:00Z");
    assert!(
        of_source.contains(&"The last rehearsal of a restore of app failed: disk is gone".to_owned()),
        "{of_source:?}"
    );
}

/// By the oldest key, whatever the journal knows of rotations; and of nobody's where nothing is said of that.
#[test]
fn keys_that_read_the_backups_are_due_by_when_they_were_let_in() {
    let mut story = Story::of(&[NIGHTLY]);
    story.ran("app", at("2026-11-01T02:30:00Z"), None, Outcome::Done);
    let reader = |name: &str, added: &str| NamedRecipient {
        name: name.into(),
        role: Role::Operator,
        recipient: format!("age1{name}"),
        added: at(added),
    };
    story.readers = vec![reader("ana", "2026-06-01T00:00:00Z"), reader("luis", "2025-11-01T12:00:00Z")];
    let of_keys = |story: &Story, now: &str| {
        let status = story.status(now);
        let due = status.rotations.first().map(|one| (one.due.unwrap().to_string(), one.overdue));
        let stated = status.concerns.iter().find(|one| matches!(one.concern, Concern::RotationOverdue { .. }));
        (due, stated.map(|one| (one.grave, one.told.what.clone(), one.told.next.clone())))
    };
    assert_eq!(of_keys(&story, "2026-11-01T13:00:00Z"), (None, None), "nobody said how old one may become");
    story.configuration.rotator.recipients_every = Some(Duration::from_secs(365 * 24 * 3600));
    let due = "2026-11-01T12:00:00Z".to_owned();
    assert_eq!(of_keys(&story, "2026-11-01T11:59:00Z"), (Some((due.clone(), false)), None));
    let (told, next) = (
        "A key that reads the backups was to be another one 2 h ago",
        "bkp secrets; bkp rotate recipients NAME=KEY (docs/ROTATION_KEYS.md)",
    );
    let stated = Some((false, told.to_owned(), next.to_owned()));
    assert_eq!(of_keys(&story, "2026-11-01T14:00:00Z"), (Some((due, true)), stated));
    story.readers[1].added = at("2026-11-01T13:59:00Z");
    assert_eq!(of_keys(&story, "2026-11-01T14:00:00Z").1, None, "it was exchanged");
}

#[test]
fn the_language_is_the_one_that_is_wanted_most() {
    for (header, tag) in [
        ("", "en"),
        ("es", "es"),
        ("es-CO,es;q=0.9,en;q=0.5", "es"),
        ("en;q=0.5, es;q=0.9", "es"),
        ("de,fr;q=0.9", "en"),
        ("de,es;q=0.1", "es"),
        ("en-GB,es", "en"),
        ("es;q=0", "en"),
        ("es;q=x", "es"),
    ] {
        assert_eq!(Language::of_header(header).tag(), tag, "{header}");
    }
}
