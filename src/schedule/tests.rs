//! Schedules against the calendar of three zones, jumps of the clock, starts and stops at any moment.

use super::*;
use crate::journal::{Fact, OpenSlot, PolicyState, Reason, Record, RunStarted, SlotEnd, SlotId, State};
use crate::policy::{Blackout, Freeze, Missed, Overlap};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(cron: &str, in_zone: &str, timing: Timing) -> Schedule {
    Schedule::new(Job::Backup, "p", Calendar::new(cron, zone(in_zone)).unwrap(), timing, "host")
}

/// Local times of the slots of some days.
fn slots(cron: &str, in_zone: &str, from: &str, until: &str) -> Vec<String> {
    let calendar = Calendar::new(cron, zone(in_zone)).unwrap();
    let local = |slot: Timestamp| slot.to_zoned(zone(in_zone)).strftime("%d %H:%M %:z").to_string();
    calendar.after(at(from)).take_while(|slot| *slot <= at(until)).map(local).collect()
}

#[test]
fn a_time_that_daylight_saving_leaves_out_comes_right_after_the_gap() {
    let madrid = slots("30 2 * * *", "Europe/Madrid", "2026-03-27T12:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(madrid, ["28 02:30 +01:00", "29 03:00 +02:00", "30 02:30 +02:00"]);
    let new_york = slots("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z");
    assert_eq!(new_york, ["08 03:00 -04:00", "09 02:30 -04:00"]);
    // Half an hour, on the other side of the earth.
    let lord_howe = slots("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", "2026-10-05T00:00:00Z");
    assert_eq!(lord_howe, ["04 02:30 +11:00", "05 02:15 +11:00"]);
}

#[test]
fn a_time_that_comes_twice_is_one_slot_and_what_repeats_goes_on() {
    let madrid = slots("30 2 * * *", "Europe/Madrid", "2026-10-24T12:00:00Z", "2026-10-27T00:00:00Z");
    assert_eq!(madrid, ["25 02:30 +02:00", "26 02:30 +01:00"]);
    let new_york = slots("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
    assert_eq!(new_york, ["01 01:30 -04:00", "02 01:30 -05:00"]);
    let lord_howe = slots("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-05T20:00:00Z");
    assert_eq!(lord_howe, ["05 01:45 +11:00", "06 01:45 +10:30"]);
    let halves = slots("*/30 * * * *", "Europe/Madrid", "2026-10-24T23:59:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(halves, ["25 02:00 +02:00", "25 02:30 +02:00", "25 02:00 +01:00", "25 02:30 +01:00", "25 03:00 +01:00"]);
}

#[test]
fn of_several_times_a_day_none_is_lost_and_none_comes_twice() {
    let new_york = |cron: &str, from: &str, until: &str| slots(cron, "America/New_York", from, until);
    for cron in ["0 2,8,14,20 * * *", "0 2-20/6 * * *", "0 2,8,14,20 * * sun"] {
        let spring = new_york(cron, "2026-03-08T05:00:00Z", "2026-03-08T18:00:00Z");
        assert_eq!(spring, ["08 03:00 -04:00", "08 08:00 -04:00", "08 14:00 -04:00"], "{cron}");
    }
    let spring = new_york("15,45 2 * * *", "2026-03-08T05:00:00Z", "2026-03-09T12:00:00Z");
    assert_eq!(spring, ["08 03:00 -04:00", "09 02:15 -04:00", "09 02:45 -04:00"], "both come at once");
    let autumn = new_york("30 1,13 * * *", "2026-11-01T04:00:00Z", "2026-11-02T08:00:00Z");
    assert_eq!(autumn, ["01 01:30 -04:00", "01 13:30 -05:00", "02 01:30 -05:00"]);
}

#[test]
fn the_latest_slot_is_the_one_before_the_next() {
    for cron in ["30 1 * * *", "15,45 1 * * *", "0 2,8 * * *", "*/20 * * * *", "0 1-3 * * *"] {
        for (name, from) in [
            ("America/New_York", "2026-11-01T03:00:00Z"),
            ("America/New_York", "2026-03-08T04:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T13:00:00Z"),
        ] {
            let calendar = Calendar::new(cron, zone(name)).unwrap();
            for minutes in 0..6 * 60 {
                let now = at(from) + SignedDuration::from_mins(minutes);
                let latest = calendar.after(now - SignedDuration::from_hours(72)).take_while(|slot| *slot <= now);
                assert_eq!(calendar.latest(now), latest.last(), "{cron} in {name} at {now}");
            }
        }
    }
}

#[test]
fn an_hourly_schedule_never_stands_still_and_never_comes_twice_at_an_instant() {
    for name in ["Europe/Madrid", "America/New_York", "Australia/Lord_Howe"] {
        let calendar = Calendar::new("@hourly", zone(name)).unwrap();
        let year: Vec<_> = calendar.after(at("2026-01-01T00:00:00Z")).take(9000).collect();
        for pair in year.windows(2) {
            let gap = pair[1].duration_since(pair[0]).as_secs();
            assert!((1800..=5400).contains(&gap), "{name}: {} after {}", pair[1], pair[0]);
        }
    }
}

#[test]
fn jitter_is_the_same_each_time_and_another_for_another_host() {
    let timing = Timing { jitter: Duration::from_secs(3600), ..Timing::default() };
    let of = |host| {
        let calendar = Calendar::new("@daily", TimeZone::UTC).unwrap();
        Schedule::new(Job::Backup, "p", calendar, timing.clone(), host).jitter
    };
    assert_eq!(of("a"), of("a"));
    assert_ne!(of("a"), of("b"));
    assert!(of("a") < timing.jitter);
    let schedule = schedule("@daily", "UTC", timing.clone());
    let due = schedule.due(at("2026-11-30T00:00:00Z"));
    assert_eq!(due.due.duration_since(due.slot), SignedDuration::try_from(schedule.jitter).unwrap());
}

#[test]
fn a_blackout_puts_slots_off_to_its_end() {
    let windows = |texts: &[&str]| texts.iter().map(|text| Blackout::parse(text).unwrap()).collect::<Vec<_>>();
    let end = |texts: &[&str], now: &str| {
        let timing = Timing { blackout: windows(texts), ..Timing::default() };
        opening(&timing, &zone("America/Bogota"), at(now))
    };
    // 2026-11-30 is a Monday; Bogota is 5 hours behind.
    assert_eq!(end(&["mon-fri 08:00-18:00"], "2026-11-30T13:00:00Z"), Some(at("2026-11-30T23:00:00Z")));
    assert_eq!(end(&["mon-fri 08:00-18:00"], "2026-11-30T23:00:00Z"), None);
    assert_eq!(end(&["mon-fri 08:00-18:00"], "2026-11-29T15:00:00Z"), None, "a Sunday");
    assert_eq!(end(&["sun 22:00-06:00"], "2026-11-30T10:00:00Z"), Some(at("2026-11-30T11:00:00Z")), "past midnight");
    let one_after_the_other = ["08:00-12:00", "12:00-13:00"];
    assert_eq!(end(&one_after_the_other, "2026-11-30T14:00:00Z"), Some(at("2026-11-30T18:00:00Z")));
    assert_eq!(
        end(&["00:00-12:00", "12:00-24:00"], "2026-11-30T14:00:00Z").map(|_| ()),
        Some(()),
        "it has an end all the same"
    );
}

#[test]
fn rotations_wait_for_their_window_and_for_the_end_of_a_freeze() {
    let freeze = |texts: &[&str]| texts.iter().map(|text| Freeze::parse(text).unwrap()).collect::<Vec<_>>();
    let opens = |window: &[&str], frozen: &[&str], now: &str| {
        let window = window.iter().map(|text| Blackout::parse(text).unwrap()).collect();
        let timing = Timing { window, freeze: freeze(frozen), ..Timing::default() };
        opening(&timing, &zone("America/Bogota"), at(now))
    };
    // 2026-11-30 is a Monday; Bogota is 5 hours behind.
    assert_eq!(opens(&["02:00-05:00"], &[], "2026-11-30T08:00:00Z"), None, "inside");
    assert_eq!(opens(&["02:00-05:00"], &[], "2026-11-30T10:00:00Z"), Some(at("2026-12-01T07:00:00Z")));
    assert_eq!(opens(&["sat,sun 02:00-05:00"], &[], "2026-11-30T10:00:00Z"), Some(at("2026-12-05T07:00:00Z")));
    assert_eq!(opens(&["22:00-04:00"], &[], "2026-11-30T08:30:00Z"), None, "since yesterday");
    assert_eq!(opens(&[], &["2026-11-30"], "2026-11-30T08:00:00Z"), Some(at("2026-12-01T05:00:00Z")));
    let both = opens(&["sat 02:00-05:00"], &["11-30..12-06"], "2026-12-05T08:00:00Z");
    assert_eq!(both, Some(at("2026-12-12T07:00:00Z")), "the window after the freeze");
    assert_eq!(opens(&[], &["12-15..01-07"], "2027-01-03T12:00:00Z"), Some(at("2027-01-08T05:00:00Z")));
}

#[test]
fn only_the_last_time_before_a_password_is_too_old_counts() {
    let calendar = |from: Option<&str>| Calendar::new("0 3 * * sun", zone("UTC")).unwrap().starting(from.map(at));
    assert_eq!(calendar(None).next(at("2026-11-30T00:00:00Z")), Some(at("2026-12-06T03:00:00Z")));
    let later = calendar(Some("2027-02-21T03:00:00Z"));
    assert_eq!(later.next(at("2026-11-30T00:00:00Z")), Some(at("2027-02-21T03:00:00Z")));
    assert_eq!(later.latest(at("2027-02-20T00:00:00Z")), None);
    assert!(later.is_time(at("2026-12-06T03:00:00Z")), "whatever counts now");
    assert_eq!(Calendar::never(zone("UTC")).next(at("2026-11-30T00:00:00Z")), None);
}

/// A journal in memory, and a daemon that carries out what is decided: it is stopped and started, and its clock is moved.
struct World {
    schedule: Schedule,
    state: State,
    now: Timestamp,
    busy: Busy,
    /// The run that goes on.
    lives: Option<String>,
    /// When each slot was expected, how often it ran, and how often it ended.
    slots: BTreeMap<Timestamp, (Timestamp, u32, Vec<SlotEnd>)>,
    seq: u64,
}

impl World {
    fn new(schedule: Schedule, now: Timestamp) -> Self {
        World {
            schedule,
            state: State::default(),
            now,
            busy: Busy::default(),
            lives: None,
            slots: BTreeMap::new(),
            seq: 0,
        }
    }

    fn note(&mut self, fact: Fact) {
        self.seq += 1;
        self.state.apply(&Record { seq: self.seq, at: self.now, fact });
    }

    fn known(&self) -> PolicyState {
        self.state.policy(Job::Backup, "p").cloned().unwrap_or_default()
    }

    fn id(slot: Timestamp) -> SlotId {
        SlotId { job: Job::Backup, policy: "p".into(), slot }
    }

    fn end(&mut self, slot: Timestamp, end: SlotEnd) {
        self.slots.get_mut(&slot).unwrap().2.push(end);
        self.note(Fact::SlotEnded { id: World::id(slot), end, why: None, runs: vec![] });
    }

    /// Carries out what is decided, as far as the daemon comes before it is killed.
    fn look(&mut self, survives: usize) -> Decision {
        let decision = self.schedule.decide(&self.known(), self.busy, self.now);
        for step in decision.steps.iter().take(survives).cloned() {
            match step {
                Step::Expect(due) => {
                    self.slots.entry(due.slot).or_insert((self.now, 0, vec![]));
                    self.note(Fact::SlotExpected { id: World::id(due.slot), due: due.due, deadline: due.deadline });
                }
                Step::Miss { slot, .. } => self.end(slot, SlotEnd::Missed),
                Step::Skip { slot, .. } => {
                    if self.busy.queued == Some(slot) {
                        self.busy.queued = None;
                    }
                    self.end(slot, SlotEnd::Skipped);
                }
                Step::Run { slot, reason, .. } => self.begin(slot, reason),
                Step::Queue { slot, .. } => self.busy.queued = Some(slot),
            }
        }
        decision
    }

    fn begin(&mut self, slot: Timestamp, reason: Reason) {
        let run = format!("r{}", self.seq);
        self.lives = Some(run.clone());
        let (job, policy) = (Job::Backup, Some("p".into()));
        self.note(Fact::RunStarted(RunStarted { run, job, source: None, policy, slot: Some(slot), reason, pid: 1 }));
        self.busy.running = Some(slot);
    }

    /// The run at work ends well.
    fn finish(&mut self) {
        let Some(slot) = self.busy.running.take() else { return };
        self.lives = None;
        self.slots.get_mut(&slot).unwrap().1 += 1;
        self.end(slot, SlotEnd::Done);
        if let Some(queued) = self.busy.queued.take() {
            self.begin(queued, Reason::Schedule);
        }
    }

    /// The daemon is gone, and its run with it unless that `outlives` it.
    fn killed(&mut self, outlives: bool) {
        self.lives = self.lives.take().filter(|_| outlives);
        self.busy = Busy::of_others(&self.known(), |run| self.lives.as_deref() == Some(run));
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.look(usize::MAX);
            self.finish();
        }
    }

    fn ends(&self) -> Vec<(String, Vec<SlotEnd>)> {
        self.slots.iter().map(|(slot, (_, _, ends))| (slot.to_string(), ends.clone())).collect()
    }
}

#[test]
fn the_next_slot_is_expected_before_it_comes_and_runs_when_it_is_due() {
    let mut world = World::new(schedule("0 3 * * *", "UTC", Timing::default()), at("2026-11-30T02:00:00Z"));
    let decision = world.look(usize::MAX);
    assert_eq!(decision.wake, Some(at("2026-11-30T03:00:00Z")));
    assert!(matches!(decision.steps[..], [Step::Expect(Due { slot, .. })] if slot == at("2026-11-30T03:00:00Z")));
    assert_eq!(world.look(usize::MAX).steps, []);
    world.now = at("2026-11-30T03:00:00Z");
    let decision = world.look(usize::MAX);
    let run = Step::Run { slot: world.now, reason: Reason::Schedule, deadline: at("2026-12-01T03:00:00Z") };
    assert!(decision.steps.contains(&run), "{decision:?}");
    assert_eq!(decision.wake, Some(at("2026-12-01T03:00:00Z")));
}

#[test]
fn of_slots_that_were_missed_one_run_makes_up_for_all_or_none() {
    for (missed, last) in [(Missed::RunOnce, SlotEnd::Done), (Missed::Skip, SlotEnd::Missed)] {
        let timing = Timing { missed, ..Timing::default() };
        let mut world = World::new(schedule("0 3 * * *", "UTC", timing), at("2026-11-25T02:00:00Z"));
        world.look(usize::MAX);
        world.now = at("2026-11-28T12:00:00Z");
        world.settle();
        assert_eq!(
            world.ends(),
            [
                ("2026-11-25T03:00:00Z".into(), vec![SlotEnd::Missed]),
                ("2026-11-26T03:00:00Z".into(), vec![SlotEnd::Missed]),
                ("2026-11-27T03:00:00Z".into(), vec![SlotEnd::Missed]),
                ("2026-11-28T03:00:00Z".into(), vec![last]),
                ("2026-11-29T03:00:00Z".into(), vec![]),
            ]
        );
    }
}

#[test]
fn a_slot_that_comes_while_another_is_at_work_is_skipped_or_waits() {
    for (overlap, second) in [(Overlap::Skip, SlotEnd::Skipped), (Overlap::Queue, SlotEnd::Done)] {
        let timing = Timing { overlap, ..Timing::default() };
        let mut world = World::new(schedule("@hourly", "UTC", timing), at("2026-11-30T02:59:00Z"));
        world.look(usize::MAX);
        for now in ["2026-11-30T03:00:00Z", "2026-11-30T04:00:00Z"] {
            world.now = at(now);
            world.look(usize::MAX);
        }
        assert_eq!(world.busy.running, Some(at("2026-11-30T03:00:00Z")));
        world.finish();
        world.finish();
        world.look(usize::MAX);
        assert_eq!(
            world.ends()[..2],
            [("2026-11-30T03:00:00Z".into(), vec![SlotEnd::Done]), ("2026-11-30T04:00:00Z".into(), vec![second])]
        );
    }
}

#[test]
fn a_run_that_outlives_its_daemon_and_the_next_slot_is_at_work_still() {
    for (overlap, second) in [(Overlap::Skip, vec![SlotEnd::Skipped]), (Overlap::Queue, vec![SlotEnd::Done])] {
        let timing = Timing { overlap, ..Timing::default() };
        let mut world = World::new(schedule("@hourly", "UTC", timing), at("2026-11-30T02:59:00Z"));
        world.look(usize::MAX);
        world.now = at("2026-11-30T03:00:00Z");
        world.look(usize::MAX);
        world.now = at("2026-11-30T05:10:00Z");
        world.killed(true);
        world.look(usize::MAX);
        assert_eq!(world.busy.running, Some(at("2026-11-30T03:00:00Z")));
        world.finish();
        world.finish();
        assert_eq!(
            world.ends()[..3],
            [
                ("2026-11-30T03:00:00Z".into(), vec![SlotEnd::Done]),
                ("2026-11-30T04:00:00Z".into(), vec![SlotEnd::Skipped]),
                ("2026-11-30T05:00:00Z".into(), second),
            ]
        );
    }
}

#[test]
fn who_was_begun_late_has_as_long_as_who_was_in_time() {
    let hour = Duration::from_secs(3600);
    let schedule = schedule("@daily", "UTC", Timing { deadline: hour, ..Timing::default() });
    let due = at("2026-11-30T00:00:00Z");
    let open = |begun: &str| OpenSlot {
        seq: 1,
        due,
        deadline: at("2026-11-30T01:00:00Z"),
        begun: Some(at(begun)),
        runs: BTreeMap::new(),
    };
    assert_eq!(schedule.deadline_of(&open("2026-11-30T00:00:10Z")), at("2026-11-30T01:00:00Z"));
    assert_eq!(schedule.deadline_of(&open("2026-11-30T12:00:00Z")), at("2026-11-30T13:00:00Z"));
}

#[test]
fn a_slot_of_another_schedule_is_taken_back() {
    let mut world = World::new(schedule("0 3 * * 0", "UTC", Timing::default()), at("2026-11-30T00:00:00Z"));
    world.look(usize::MAX);
    world.schedule = schedule("0 4 * * *", "UTC", Timing::default());
    world.look(usize::MAX);
    let expected = [("2026-11-30T04:00:00Z".into(), vec![]), ("2026-12-06T03:00:00Z".into(), vec![SlotEnd::Skipped])];
    assert_eq!(world.ends(), expected);
    // What was taken back does not keep the slots before it from coming.
    world.now = at("2026-11-30T04:00:01Z");
    world.settle();
    assert_eq!(world.ends()[0].1, [SlotEnd::Done]);
}

#[test]
fn a_clock_that_jumps_a_day_loses_no_slot_and_runs_none_twice() {
    let mut world = World::new(schedule("0 */6 * * *", "UTC", Timing::default()), at("2026-11-30T05:00:00Z"));
    world.settle();
    world.now = at("2026-12-01T05:30:00Z");
    world.settle();
    world.now = at("2026-11-30T06:30:00Z");
    world.settle();
    // The day that is lived through once more.
    let mut decision = world.look(usize::MAX);
    while world.now < at("2026-12-01T13:00:00Z") {
        world.now = decision.wake.unwrap();
        world.settle();
        decision = world.look(usize::MAX);
    }
    let (done, others): (Vec<_>, Vec<_>) = world.ends().into_iter().partition(|(_, ends)| ends == &[SlotEnd::Done]);
    let done: Vec<&str> = done.iter().map(|(slot, _)| slot.as_str()).collect();
    assert_eq!(done, ["2026-12-01T00:00:00Z", "2026-12-01T06:00:00Z", "2026-12-01T12:00:00Z", "2026-12-01T18:00:00Z"]);
    assert!(others.iter().all(|(_, ends)| ends.len() <= 1), "{others:?}");
}

#[test]
fn a_clock_that_was_a_year_ahead_does_not_keep_the_schedule_waiting() {
    let mut world = World::new(schedule("@daily", "UTC", Timing::default()), at("2026-11-30T05:00:00Z"));
    world.settle();
    world.now = at("2027-11-30T05:00:00Z");
    world.settle();
    world.now = at("2026-11-30T06:00:00Z");
    world.note(Fact::ClockJumped { seconds: -31_536_000 + 3600 });
    let decision = world.look(usize::MAX);
    assert_eq!(decision.wake, Some(at("2026-12-01T00:00:00Z")));
    world.now = at("2026-12-01T00:00:00Z");
    assert!(world.look(usize::MAX).steps.iter().any(|step| matches!(step, Step::Run { .. })));
}

#[test]
fn years_of_minutes_that_were_missed_are_told_in_a_bearable_number_of_records() {
    let mut world = World::new(schedule("* * * * *", "UTC", Timing::default()), at("2024-11-30T00:00:00Z"));
    world.look(usize::MAX);
    world.now = at("2026-11-30T00:00:30Z");
    let steps = world.look(usize::MAX).steps;
    assert!(steps.len() < 3000, "{}", steps.len());
    let told = |step: &Step| matches!(step, Step::Miss { why, .. } if why.contains("slots before"));
    assert_eq!(steps.iter().filter(|step| told(step)).count(), 1);
}

/// What happens to the daemon.
#[derive(Clone, Debug)]
enum Happens {
    /// Time goes on, and the daemon looks when it wanted to.
    Pass {
        minutes: i64,
    },
    /// It is killed after so many steps, and starts again later.
    Killed {
        survives: usize,
        minutes: i64,
        /// Its run goes on.
        outlives: bool,
    },
    Finish,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..600i64).prop_map(|minutes| Happens::Pass { minutes }),
        1 => (0..4usize, 0..3000i64, any::<bool>())
            .prop_map(|(survives, minutes, outlives)| Happens::Killed { survives, minutes, outlives }),
        3 => Just(Happens::Finish),
    ]
}

fn timings() -> impl Strategy<Value = Timing> {
    let blackout = prop_oneof![Just(vec![]), Just(vec![Blackout::parse("mon-sat 09:00-11:30").unwrap()])];
    (any::<bool>(), any::<bool>(), 0..3000u64, blackout).prop_map(|(skip, queue, jitter, blackout)| Timing {
        missed: if skip { Missed::Skip } else { Missed::RunOnce },
        overlap: if queue { Overlap::Queue } else { Overlap::Skip },
        jitter: Duration::from_secs(jitter),
        blackout,
        ..Timing::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens: every slot of the calendar since the first look is expected once and ends once, none runs twice, and
    /// those that come while the daemon is up were expected before they came.
    #[test]
    fn no_slot_is_lost_and_none_runs_twice(
        cron in prop_oneof![Just("@hourly"), Just("30 2 * * *"), Just("*/20 * * * *"), Just("0 1-5 * * 1,4")],
        zone in prop_oneof![Just("Europe/Madrid"), Just("America/New_York"), Just("Australia/Lord_Howe")],
        timing in timings(),
        begin in 0..365i64,
        story in prop::collection::vec(happens(), 1..60),
    ) {
        let begin = at("2026-01-01T00:00:00Z") + SignedDuration::from_hours(24 * begin);
        let mut world = World::new(schedule(cron, zone, timing), begin);
        let mut wake = world.look(usize::MAX).wake;
        let mut up_since = begin;
        for happens in story {
            match happens {
                Happens::Pass { minutes } => {
                    let until = world.now + SignedDuration::from_mins(minutes);
                    while let Some(at) = wake.filter(|at| *at <= until) {
                        world.now = at.max(world.now);
                        let decision = world.look(usize::MAX);
                        for step in &decision.steps {
                            if let Step::Expect(due) = step {
                                prop_assert!(due.slot > world.now || due.slot <= up_since, "{due:?} came unexpected");
                            }
                        }
                        prop_assert!(decision.wake.is_none_or(|wake| wake > world.now), "it would turn in circles");
                        wake = decision.wake;
                    }
                    world.now = until;
                }
                Happens::Killed { survives, minutes, outlives } => {
                    world.look(survives);
                    world.killed(outlives);
                    world.now += SignedDuration::from_mins(minutes);
                    up_since = world.now;
                    wake = world.look(usize::MAX).wake;
                }
                Happens::Finish => {
                    world.finish();
                    wake = world.look(usize::MAX).wake;
                }
            }
        }
        // Everything that is at work or due comes to its end.
        world.now += SignedDuration::from_hours(4);
        world.settle();
        world.now += SignedDuration::from_hours(4);
        world.settle();
        let calendar = Calendar::new(cron, TimeZone::get(zone).unwrap()).unwrap();
        let all: Vec<Timestamp> = calendar.after(begin).take_while(|slot| *slot <= world.now).collect();
        for slot in &all {
            let told = world.slots.get(slot);
            prop_assert!(told.is_some(), "slot {slot} is lost");
            let (_, ran, ends) = told.unwrap();
            prop_assert!(*ran <= 1, "slot {slot} ran {ran} times");
            prop_assert!(*ran == 0 || ends == &[SlotEnd::Done], "slot {slot} ran, and ended as {ends:?}");
            let waits = world.known().open.contains_key(slot);
            prop_assert!(ends.len() == 1 || waits && ends.is_empty(), "slot {slot} ended as {ends:?}");
        }
        let future = world.slots.keys().filter(|slot| **slot > world.now).count();
        prop_assert_eq!(world.slots.len(), all.len() + future);
        prop_assert_eq!(future, 1);
    }
}
