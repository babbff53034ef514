//! The protocol of writers and collectors, explored: every interleaving of their steps, with crashes and days between.
//!
//! A store in which packs, points, sessions, fences, tombstones and marks are bits; two writers, two collectors, no lock,
//! clocks that nobody keeps right. What may die when is decided by the functions that the collector itself calls
//! ([`bkp::repo::collect::protocol`]). Each invariant has a rule that holds it: with the rule removed, it must fail.

#![allow(clippy::unwrap_used)] // all of this is test

use bkp::repo::collect::protocol::{self, DeadList, Listed, Protocol, Reached, SessionState};
use jiff::{SignedDuration, Timestamp};
use std::collections::{HashSet, VecDeque};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// A day is the unit of the model; the real times are multiples of it.
const PROTOCOL: Protocol = Protocol { between_marks: DAY, session_dies: DAY, fence_rests: DAY, young: DAY };

/// What holds of the protocol (`docs/FORMAT.md` §10, §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invariant {
    /// The packs of a point that counts all exist.
    PointsAreWhole,
    /// A session refers to its own packs, and to those of what it had pinned when it looked again.
    OnlyPinned,
    /// No pack is deleted that a point, or the base of a session that is waited for, refers to.
    NothingNeededIsDeleted,
    /// What is deleted was dead in two marks at least a day apart.
    TwoMarks,
    /// A fenced session does not end well.
    FencedFails,
    /// No clock but the store's decides when.
    NoLocalClock,
    /// Writers delete nothing.
    WritersDeleteNothing,
}
use Invariant::*;

/// A rule of the protocol that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Collectors do not ask what open sessions need.
    SessionsPin,
    /// Writers do not look again for their base once their session is in the store.
    LookingAgain,
    /// Tombstones do not tell what their points referred to.
    TombstonesTell,
    /// What is dead is deleted at once.
    WaitBetweenMarks,
    /// Writers do not look for their fence once the point is written.
    LastLookForFence,
    /// Collectors believe their own clocks.
    TheStoresClock,
    /// Writers clean up what they stored when they fail.
    WritersKeepHands,
    /// Writers take up what a fenced session stored.
    FenceBeforeAdopting,
}

const PACKS: usize = 5;
const POINTS: usize = 4;
/// 0 died long ago; the others belong to the writers.
const SESSIONS: usize = 3;
const FIRST_DAY: u8 = 4;

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
struct Point {
    there: bool,
    refs: u8,
    stored: u8,
    /// Written although its session was fenced by then.
    late: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
struct Session {
    /// 0: not there.
    stored: u8,
    base: Option<u8>,
    ended: bool,
    checkpoint: u8,
    checkpointed: u8,
    /// 0: none.
    fence: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Mark {
    day: u8,
    /// Day of the mark since which a pack is dead; 0: it is not.
    since: [u8; PACKS],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
struct Writer {
    step: u8,
    base: Option<u8>,
    /// Packs it may refer to, of others.
    known: u8,
    adopted: bool,
    /// For the second invariant: what was pinned when it looked.
    pinned: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Run {
    step: u8,
    doomed: u8,
    now: u8,
    sessions: [Session; SESSIONS],
    points: u8,
    dead: u8,
    fences: u8,
    ripe: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    day: u8,
    /// Day on which each was stored; 0: not there.
    packs: [u8; PACKS],
    points: [Point; POINTS],
    tombstones: u8,
    sessions: [Session; SESSIONS],
    /// The newest.
    mark: Option<Mark>,
    /// Days of the first and the last mark that found a pack dead, whatever was between.
    found: [(u8, u8); PACKS],
    writers: [Writer; 2],
    collectors: [Run; 2],
    runs: u8,
}

/// How far to look.
#[derive(Clone, Copy)]
struct Bounds {
    writers: usize,
    collectors: usize,
    runs: u8,
    last_day: u8,
}

const GONE: u8 = 99;

/// `BKP_MODEL=all`: also what takes minutes, two writers from their first step on (4 million states).
fn everything() -> bool {
    std::env::var_os("BKP_MODEL").is_some()
}

fn at(day: u8) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * i64::from(day))
}

fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |bit| mask & (1 << bit) != 0)
}

impl World {
    /// Two points, and a session that died after it had stored pack 2.
    fn new(bounds: Bounds) -> World {
        let point = |refs| Point { there: true, refs, stored: 1, late: false };
        let dead = Session { stored: 3, checkpoint: 1 << 2, checkpointed: 3, ..Session::default() };
        let mut world = World {
            day: FIRST_DAY,
            packs: [1, 1, 3, 0, 0],
            points: [point(1), point(2), Point::default(), Point::default()],
            tombstones: 0,
            sessions: [dead, Session::default(), Session::default()],
            mark: None,
            found: [(0, 0); PACKS],
            writers: [Writer::default(); 2],
            collectors: [Run::default(), Run::default()],
            runs: bounds.runs,
        };
        if bounds.writers == 2 && !everything() {
            // The second one has begun, and is about to look whether all that it refers to is there.
            world.packs[4] = FIRST_DAY;
            world.sessions[2] = Session { stored: FIRST_DAY, base: Some(1), checkpoint: 1 << 4, ..Session::default() };
            world.sessions[2].checkpointed = FIRST_DAY;
            world.writers[1] = Writer { step: 5, base: Some(1), known: 2, pinned: 2, adopted: false };
        }
        world.writers[bounds.writers..].iter_mut().for_each(|writer| writer.step = GONE);
        world.collectors[bounds.collectors..].iter_mut().for_each(|run| run.step = GONE);
        world
    }

    fn visible(&self) -> impl Iterator<Item = (usize, &Point)> {
        self.points.iter().enumerate().filter(|(_, point)| point.there)
    }

    fn present(&self) -> u8 {
        (0..PACKS).filter(|&pack| self.packs[pack] > 0).fold(0, |mask, pack| mask | 1 << pack)
    }

    fn state(session: &Session) -> SessionState {
        SessionState {
            started: at(session.stored),
            sign_of_life: at(session.stored.max(session.checkpointed)),
            ended: session.ended,
            fenced: (session.fence > 0).then(|| at(session.fence)),
        }
    }

    fn points_are_whole(&self) -> Option<Invariant> {
        let broken = |point: &Point| !point.late && point.refs & !self.present() != 0;
        self.visible().any(|(_, point)| broken(point)).then_some(PointsAreWhole)
    }
}

type Step = (World, Option<Invariant>);

/// Every state that one step of somebody leads to, and what that step broke.
fn steps(world: &World, without: Without, bounds: Bounds) -> Vec<Step> {
    let mut next = Vec::new();
    if world.day < bounds.last_day {
        next.push((World { day: world.day + 1, ..world.clone() }, None));
    }
    for number in 0..2 {
        if world.writers[number].step != GONE {
            writer_steps(world, number, without, &mut next);
        }
        if world.collectors[number].step != GONE {
            collector_steps(world, number, without, &mut next);
        }
    }
    for (after, broken) in &mut next {
        *broken = broken.or_else(|| after.points_are_whole());
    }
    next
}

/// The commit, as `repo/write` does it.
fn writer_steps(world: &World, number: usize, without: Without, next: &mut Vec<Step>) {
    let (mine, pack) = (number + 1, 3 + number);
    let writer = world.writers[number];
    let mut crashed = world.clone();
    crashed.writers[number] = Writer { step: GONE, ..Writer::default() };
    let mut add = |change: &dyn Fn(&mut World) -> Option<Invariant>| {
        let mut after = world.clone();
        after.writers[number].step += 1;
        let broken = change(&mut after);
        next.push((after, broken));
    };
    let fenced = world.sessions[mine].fence > 0;
    match writer.step {
        // It saw the newest point at some time before.
        0 => world.visible().for_each(|(point, _)| {
            add(&|w| {
                w.writers[number].base = Some(point as u8);
                None
            });
        }),
        1 => add(&|w| {
            let base = w.writers[number].base;
            w.sessions[mine] = Session { stored: w.day, base, ..Session::default() };
            None
        }),
        2 => add(&|w| {
            let base = w.writers[number].base.map_or(0, usize::from);
            if w.points[base].there {
                w.writers[number].pinned |= w.points[base].refs;
                w.writers[number].known |= w.points[base].refs;
            } else if without == Without::LookingAgain {
                w.writers[number].known |= w.points[base].refs;
            }
            None
        }),
        3 => add(&|w| {
            let dead = w.sessions[0];
            let adopts = dead.stored > 0 && !dead.ended;
            let fenced = dead.fence > 0;
            if adopts && (protocol::may_adopt(fenced) || without == Without::FenceBeforeAdopting) {
                w.writers[number].adopted = true;
                w.writers[number].known |= dead.checkpoint;
                w.writers[number].pinned |= if fenced { 0 } else { dead.checkpoint };
            }
            w.writers[number].known &= w.present();
            None
        }),
        4 => add(&|w| {
            w.packs[pack] = w.day;
            w.sessions[mine].checkpoint = 1 << pack;
            w.sessions[mine].checkpointed = w.day;
            None
        }),
        5 | 6 => {
            let refs = writer.known | 1 << pack;
            let goes_on = if writer.step == 5 { refs & !world.present() == 0 } else { protocol::may_commit(fenced) };
            if goes_on {
                add(&|_| None);
            } else if without == Without::WritersKeepHands {
                add(&|w| {
                    w.writers[number].step = GONE;
                    w.packs[pack] = 0;
                    Some(WritersDeleteNothing)
                });
            }
        }
        7 => add(&|w| {
            let refs = w.writers[number].known | 1 << pack;
            let point = Point { there: true, refs, stored: w.day, late: fenced };
            w.points[2 + number] = point;
            let pinned = w.writers[number].pinned | 1 << pack;
            (refs & !pinned != 0).then_some(OnlyPinned)
        }),
        8 if protocol::may_commit(fenced) || without == Without::LastLookForFence => add(&|_| None),
        9 => add(&|w| {
            w.sessions[mine].ended = true;
            w.sessions[0].ended |= w.writers[number].adopted;
            w.writers[number] = Writer { step: GONE, ..Writer::default() };
            // From here on it has told that the backup is there.
            w.points[2 + number].late.then_some(FencedFails)
        }),
        _ => {}
    }
    next.push((crashed, None));
}

/// A run of a collector, as `job/prune` and `repo/collect` do it.
fn collector_steps(world: &World, number: usize, without: Without, next: &mut Vec<Step>) {
    let run = &world.collectors[number];
    let mut after = world.clone();
    after.collectors[number].step += 1;
    match run.step {
        0 => {
            if world.runs == 0 {
                return;
            }
            after.runs -= 1;
            // Retention gives up all points but the newest.
            let newest = world.visible().map(|(point, _)| point).max();
            let doomed = world.visible().map(|(point, _)| point).filter(|point| Some(*point) != newest).min();
            after.collectors[number].doomed = doomed.map_or(0, |point| 1 << point);
            after.tombstones |= after.collectors[number].doomed;
            if doomed.is_none() {
                after.collectors[number].step = 2;
            }
        }
        1 => {
            bits(run.doomed).for_each(|point| after.points[point].there = false);
            after.collectors[number].doomed = 0;
        }
        2 => {
            after.collectors[number].now = world.day;
            after.collectors[number].sessions = world.sessions;
        }
        3 => after.collectors[number].points = world.visible().fold(0, |mask, (point, _)| mask | 1 << point),
        4 => match survey(world, run, without) {
            Some((dead, fences)) => {
                let now = run.now;
                after.collectors[number] = Run { step: 5, dead, fences, now, ..Run::default() };
            }
            None => after.collectors[number] = Run::default(),
        },
        5 => {
            bits(run.fences).for_each(|session| {
                if after.sessions[session].fence == 0 {
                    after.sessions[session].fence = world.day;
                }
            });
            let mark = mark(world, run);
            after.mark = Some(mark);
            for pack in bits(run.dead) {
                let first = if world.found[pack].0 == 0 { world.day } else { world.found[pack].0 };
                after.found[pack] = (first, world.day);
            }
            // How far off its clock is nobody knows: three days ahead will do.
            let now = if without == Without::TheStoresClock { run.now + 3 } else { run.now };
            let wait = if without == Without::WaitBetweenMarks { SignedDuration::ZERO } else { DAY };
            let rules = Protocol { between_marks: wait, ..PROTOCOL };
            let ripe = |pack: &usize| mark.since[*pack] > 0 && rules.may_delete(at(mark.since[*pack]), at(now));
            let ripe = (0..PACKS).filter(ripe).fold(0, |mask, pack| mask | 1 << pack);
            after.collectors[number] = Run { step: if ripe == 0 { 0 } else { 6 }, ripe, ..Run::default() };
        }
        _ => {
            for pack in bits(run.ripe) {
                let mut after = world.clone();
                after.packs[pack] = 0;
                let left = run.ripe & !(1 << pack);
                after.collectors[number] = Run { step: if left == 0 { 0 } else { 6 }, ripe: left, ..Run::default() };
                let broken = deleted(world, pack, without);
                next.push((after, broken));
            }
            next.push((crashed_run(world, number), None));
            return;
        }
    }
    // Killed while it only reads, it has done nothing.
    if matches!(run.step, 1 | 2) {
        next.push((crashed_run(world, number), None));
    }
    next.push((after, None));
}

fn crashed_run(world: &World, number: usize) -> World {
    let mut after = world.clone();
    after.collectors[number] = Run::default();
    after
}

/// What the last listing shows, together with the earlier ones: which packs are dead, and whom to fence. Nothing when something
/// that a point needs is missing.
fn survey(world: &World, run: &Run, without: Without) -> Option<(u8, u8)> {
    let now = at(run.now);
    let mut sessions = run.sessions;
    for (seen, again) in sessions.iter_mut().zip(world.sessions) {
        *seen = if seen.stored > 0 { Session { ended: seen.ended || again.ended, ..again } } else { again };
    }
    let states: Vec<(usize, SessionState)> =
        (0..SESSIONS).filter(|&s| sessions[s].stored > 0).map(|s| (s, World::state(&sessions[s]))).collect();
    let mut reached = Reached::default();
    let points = run.points | world.visible().fold(0, |mask, (point, _)| mask | 1 << point);
    for point in bits(points).map(|point| &world.points[point]) {
        // A late one may be incomplete, and is forgotten then.
        bits(point.refs).for_each(|pack| match point.late {
            true => reached.may_need(pack as u128),
            false => reached.needs(pack as u128, 1),
        });
    }
    if without != Without::SessionsPin {
        let needs = PROTOCOL.needs(states.iter().map(|(id, state)| (*id, state, "the source")), now);
        for base in needs.open.iter().filter_map(|session| sessions[*session].base).map(usize::from) {
            if without != Without::TombstonesTell || points & 1 << base != 0 {
                bits(world.points[base].refs).for_each(|pack| reached.may_need(pack as u128));
            }
        }
        for session in needs.checkpoints {
            bits(sessions[session].checkpoint).for_each(|pack| reached.may_need(pack as u128));
        }
    }
    let listed = |pack: usize| Listed { id: pack as u128, size: 1, stored: at(world.packs[pack]) };
    bits(world.present()).for_each(|pack| reached.found(&listed(pack)));
    if reached.missing().next().is_some() {
        return None;
    }
    let young_from = PROTOCOL.young_from(states.iter().map(|(_, state)| state), now);
    // Only what is old is asked about, so that the sessions' rule is what is looked at and not their age.
    let young_from =
        if without == Without::Nothing { young_from } else { young_from.max(at(run.now.saturating_sub(1))) };
    let dead = bits(world.present()).filter(|&pack| PROTOCOL.is_dead(&listed(pack), &reached, young_from));
    let silent = states.iter().filter(|(_, state)| PROTOCOL.wants_fence(state, now)).map(|(session, _)| *session);
    Some((dead.fold(0, |mask, pack| mask | 1 << pack), silent.fold(0, |mask, session| mask | 1 << session)))
}

/// A mark is known by its day here, which is all that its number is for.
fn mark(world: &World, run: &Run) -> Mark {
    let before = world.mark.map_or([0; PACKS], |mark| mark.since);
    let known = (0..PACKS).filter(|&pack| before[pack] > 0).map(|pack| (pack as u128, u32::from(before[pack])));
    let list = DeadList(known.collect());
    let mut since = [0; PACKS];
    bits(run.dead).for_each(|pack| since[pack] = list.since(pack as u128, u32::from(world.day)) as u8);
    Mark { day: world.day, since }
}

/// What the deletion of a pack breaks.
fn deleted(world: &World, pack: usize, without: Without) -> Option<Invariant> {
    let is_in = |refs: u8| refs & 1 << pack != 0;
    let by_point = world.visible().any(|(_, point)| !point.late && is_in(point.refs));
    let by_session = (0..2).any(|number| {
        let (writer, session) = (world.writers[number], &world.sessions[number + 1]);
        let waited_for = session.stored > 0 && PROTOCOL.is_open(&World::state(session), at(world.day));
        writer.step != GONE && writer.step > 3 && waited_for && is_in(writer.pinned)
    });
    if by_point || by_session {
        return Some(NothingNeededIsDeleted);
    }
    let (first, last) = world.found[pack];
    let apart = first > 0 && last > first;
    match (apart, without) {
        (true, _) => None,
        (false, Without::TheStoresClock) => Some(NoLocalClock),
        (false, _) => Some(TwoMarks),
    }
}

/// Looks at everything that can happen; gives the first invariant that breaks, and how many states there are.
fn explore(bounds: Bounds, without: Without, wanted: Option<Invariant>) -> (Option<Invariant>, usize) {
    let first = World::new(bounds);
    let mut seen: HashSet<World> = HashSet::from([first.clone()]);
    let mut open = VecDeque::from([first]);
    while let Some(world) = open.pop_front() {
        for (after, broken) in steps(&world, without, bounds) {
            // Looking for one thing, what else breaks on the way does not matter.
            if let Some(broken) = broken.filter(|broken| wanted.is_none_or(|wanted| wanted == *broken)) {
                return (Some(broken), seen.len());
            }
            if seen.insert(after.clone()) {
                open.push_back(after);
            }
        }
    }
    (None, seen.len())
}

// Three runs are what it takes to fence a session, to count it as ended, and to delete what it left.
const ONE_WRITER: Bounds = Bounds { writers: 1, collectors: 1, runs: 3, last_day: FIRST_DAY + 2 };
const TWO_WRITERS: Bounds = Bounds { writers: 2, collectors: 1, runs: 2, last_day: FIRST_DAY + 1 };
const TWO_COLLECTORS: Bounds = Bounds { writers: 1, collectors: 2, runs: 2, last_day: FIRST_DAY + 1 };

#[test]
fn whatever_happens_in_whatever_order_the_invariants_hold() {
    for (name, bounds) in [("one writer", ONE_WRITER), ("two writers", TWO_WRITERS), ("two collectors", TWO_COLLECTORS)]
    {
        let (broken, states) = explore(bounds, Without::Nothing, None);
        println!("{name}: {states} states");
        assert_eq!(broken, None, "{name}");
        assert!(states > 10_000, "{name}: only {states} states were looked at");
    }
}

#[test]
fn without_its_rule_each_invariant_fails() {
    for (without, fails) in [
        (Without::SessionsPin, PointsAreWhole),
        (Without::LookingAgain, OnlyPinned),
        (Without::TombstonesTell, NothingNeededIsDeleted),
        (Without::WaitBetweenMarks, TwoMarks),
        (Without::LastLookForFence, FencedFails),
        (Without::TheStoresClock, NoLocalClock),
        (Without::WritersKeepHands, WritersDeleteNothing),
        (Without::FenceBeforeAdopting, OnlyPinned),
    ] {
        let (broken, states) = explore(ONE_WRITER, without, Some(fails));
        println!("without {without:?}: {broken:?} after {states} states");
        assert_eq!(broken, Some(fails), "nothing breaks without {without:?}");
    }
}
