//! The law of rotation against every interleaving of effects, crashes, failing gates, commands to roll back and of an emergency,
//! consumers that start again by themselves, and one of these: the engine is put back to before the rotation, somebody gives
//! the account a password of his own, somebody writes over what is published. With a server that keeps both, and with a gap.
//!
//! The world here does what the effects of [`super::act`] do, and nothing is assumed of the order they come in. It knows one host;
//! two of them are in [`hosts`].

use super::state::{Direction, End, Halt, Holds, Kept, Login, Observed, Progress, Published, Step, next};
use std::collections::{HashSet, VecDeque};

mod hosts;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Value {
    Old,
    New,
    /// Somebody else's.
    Other,
}

/// One is told by a file, the other reads what is published.
const CONSUMERS: usize = 2;
/// Each is told by itself, and whoever tells them can die in between.
type Nodes = [bool; 2];
const ALL: Nodes = [true; 2];
const NONE: Nodes = [false; 2];

/// What a process knows that dies with it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Memory {
    saved: bool,
    tested: bool,
    reloaded: [bool; CONSUMERS],
    passed: [bool; CONSUMERS],
    unused: bool,
    persisted: bool,
    undone: bool,
    proven: bool,
    ended: bool,
    failed: bool,
    emergency: bool,
}

impl Memory {
    /// It may have begun anew since it was moved.
    fn forget(&mut self, at: usize) {
        (self.reloaded[at], self.passed[at], self.unused) = (false, false, false);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Disturbance {
    /// The engine is as it was before the rotation.
    Restored,
    /// The account has neither.
    Drifted,
    /// What is published is neither.
    Overwritten,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    recorded: bool,
    direction: Direction,
    /// The record says that the pending one may have been published.
    marked: bool,
    urgent: bool,
    escrowed: bool,
    accepts_new: Nodes,
    accepts_old: Nodes,
    published: Value,
    file: Value,
    running: [Value; CONSUMERS],
    process: Option<Memory>,
    /// One password at a time.
    gap: bool,
    /// What somebody else did; once.
    disturbed: Option<Disturbance>,
    /// Nobody could help that the law is broken, until it holds again.
    excused: bool,
    ended: Option<End>,
}

impl World {
    fn new(gap: bool) -> Self {
        World {
            gap,
            urgent: false,
            recorded: false,
            direction: Direction::Forward,
            marked: false,
            escrowed: false,
            accepts_new: NONE,
            accepts_old: ALL,
            published: Value::Old,
            file: Value::Old,
            running: [Value::Old; CONSUMERS],
            process: None,
            disturbed: None,
            excused: false,
            ended: None,
        }
    }

    /// On whichever node one arrives.
    fn accepts(&self, value: Value) -> bool {
        match value {
            Value::New => self.accepts_new == ALL,
            Value::Old => self.accepts_old == ALL,
            Value::Other => false,
        }
    }

    /// What consumer `at` would begin with.
    fn reads(&self, at: usize) -> Value {
        if at == 0 { self.file } else { self.published }
    }

    fn observed(&self, memory: &Memory) -> Observed {
        let login =
            |nodes: Nodes| Login::of_each(nodes.map(|is| if is { Login::Accepted } else { Login::Refused }).into());
        let progress = |at: usize| {
            let holds = match (at, self.file) {
                (0, Value::Old) => Holds::Current,
                (0, Value::New) => Holds::Pending,
                _ => Holds::Published,
            };
            Progress { holds, reloaded: memory.reloaded[at], passed: memory.passed[at] }
        };
        Observed {
            direction: self.direction,
            kept: Kept { recorded: self.recorded, escrowed: self.escrowed },
            saved: memory.saved,
            pending: login(self.accepts_new),
            current: login(self.accepts_old),
            published: match self.published {
                Value::New => Published::Pending,
                Value::Old => Published::Current,
                Value::Other => Published::Other,
            },
            tested: memory.tested,
            consumers: (0..CONSUMERS).map(progress).collect(),
            unused: memory.unused,
            persisted: memory.persisted,
            undone: memory.undone,
            proven: memory.proven,
            failed: memory.failed.then(|| "its gate failed".to_owned()),
            forced: memory.emergency,
            urgent: memory.emergency || self.urgent,
            ended: memory.ended,
        }
    }

    fn begin(&self, direction: Direction, emergency: bool) -> World {
        let mut world = self.clone();
        let mut memory = Memory { emergency, ..Memory::default() };
        world.urgent |= emergency && world.recorded;
        if world.recorded && direction == Direction::Back {
            world.direction = Direction::Back;
        }
        if !world.recorded {
            world.direction = direction;
        }
        // Nobody can have moved.
        let is_untouched = world.direction == Direction::Back && !world.marked;
        (memory.passed, memory.unused) = ([is_untouched; CONSUMERS], is_untouched);
        world.process = Some(memory);
        world
    }

    /// The worlds that one step can lead to, those between its parts included.
    fn step(&self) -> Vec<World> {
        self.process.as_ref().map_or_else(Vec::new, |memory| self.act(memory, &next(&self.observed(memory))))
    }

    fn act(&self, memory: &Memory, step: &Step) -> Vec<World> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut World, &mut Memory)| {
            let mut world = self.clone();
            let mut memory = memory.clone();
            change(&mut world, &mut memory);
            world.process = Some(memory);
            all.push(world.judged());
        };
        let mut halves = Vec::new();
        // Killed between two nodes.
        let mut half = |change: &dyn Fn(&mut World)| {
            let mut world = World { process: None, ..self.clone() };
            change(&mut world);
            halves.push(world.judged());
        };
        match *step {
            Step::Save => with(&|_, m| m.saved = true),
            Step::Record => with(&|w, m| (w.recorded, w.marked, w.urgent) = (true, false, m.emergency)),
            Step::Escrow => with(&|w, _| w.escrowed = true),
            // Who is refused before he was moved has somebody's consent.
            Step::AcceptBoth if self.gap => {
                assert!(self.recorded && self.escrowed, "{self:?}");
                let told = |w: &mut World, nodes: &[usize]| {
                    nodes.iter().for_each(|at| (w.accepts_new[*at], w.accepts_old[*at]) = (true, false));
                    w.excused = true;
                };
                with(&|w, m| {
                    told(w, &[0, 1]);
                    m.tested = false;
                });
                half(&|w| told(w, &[0]));
            }
            Step::Force => {
                assert!(memory.emergency && self.escrowed, "{self:?}");
                with(&|w, m| (w.accepts_new, w.accepts_old, m.tested) = (ALL, NONE, false));
                half(&|w| w.accepts_new[0] = true);
            }
            Step::AcceptBoth => {
                with(&|w, m| (w.accepts_new, w.accepts_old, m.tested) = (ALL, ALL, false));
                half(&|w| (w.accepts_new[0], w.accepts_old[0]) = (true, true));
            }
            Step::Test => with(&|_, m| m.tested = true),
            Step::Publish => {
                with(&|w, m| {
                    (w.marked, w.published) = (true, Value::New);
                    m.forget(1);
                });
                with(&|w, _| w.marked = true);
            }
            Step::Deliver(0) => with(&|w, m| {
                w.file = if w.direction == Direction::Forward { Value::New } else { Value::Old };
                (m.reloaded[0], m.passed[0]) = (false, false);
            }),
            Step::Deliver(at) => panic!("consumer {at} reads what is published"),
            Step::Reload(at) => {
                with(&|w, m| (w.running[at], m.reloaded[at]) = (w.reads(at), true));
            }
            Step::Gate(at) => {
                with(&|_, m| m.passed[at] = true);
                with(&|_, m| m.failed = true);
            }
            Step::SeeUnused => {
                with(&|_, m| m.unused = true);
                with(&|_, m| m.failed = true);
            }
            Step::Retire => {
                assert!(!self.running.contains(&Value::Old), "retired before every consumer was seen: {self:?}");
                assert!(self.published == Value::New && self.file == Value::New, "{self:?}");
                with(&|w, _| w.accepts_old = NONE);
                half(&|w| w.accepts_old[0] = false);
            }
            Step::EndSessions => {
                assert!(self.accepts_old == NONE && !self.running.contains(&Value::Old), "{self:?}");
                with(&|_, m| m.ended = true);
            }
            Step::Undo => {
                assert!(!self.running.contains(&Value::New) || self.excused, "{self:?}");
                assert!(self.published == Value::Old && self.file == Value::Old, "{self:?}");
                with(&|w, m| (w.accepts_new, m.undone) = (NONE, true));
                half(&|w| w.accepts_new[0] = false);
            }
            Step::Persist => with(&|_, m| m.persisted = true),
            Step::Prove => with(&|_, m| m.proven = true),
            Step::TurnBack => with(&|w, m| {
                assert!(!w.urgent && !m.emergency, "by itself to what may be known to others: {w:?}");
                w.direction = Direction::Back;
                let (passed, unused) = ([!w.marked; CONSUMERS], !w.marked);
                *m = Memory { saved: m.saved, emergency: m.emergency, passed, unused, ..Memory::default() };
            }),
            Step::TurnForward => with(&|w, m| {
                w.direction = Direction::Forward;
                *m = Memory { saved: m.saved, emergency: m.emergency, ..Memory::default() };
            }),
            Step::Unpublish => with(&|w, m| {
                w.published = Value::Old;
                m.forget(1);
            }),
            Step::Close(end) => {
                with(&|w, _| (w.escrowed, w.recorded, w.ended) = (false, false, Some(end)));
                with(&|w, _| w.escrowed = false);
            }
            Step::Wait(_) | Step::Stop(_) => {}
        }
        all.extend(halves);
        all
    }

    /// What anybody else can do.
    fn others(&self) -> Vec<World> {
        let mut all = Vec::new();
        if self.process.is_some() {
            all.push(World { process: None, ..self.clone() });
        } else {
            all.push(self.begin(Direction::Forward, false));
            all.push(self.begin(Direction::Forward, true));
            all.push(self.begin(Direction::Back, false));
        }
        for at in 0..CONSUMERS {
            let mut world = self.clone();
            world.running[at] = world.reads(at);
            all.push(world);
        }
        if self.disturbed.is_none() && self.recorded && self.ended.is_none() {
            let by = |what| World { disturbed: Some(what), excused: true, ..self.clone() };
            let back = World { accepts_new: NONE, accepts_old: ALL, ..by(Disturbance::Restored) };
            let foreign = World { accepts_new: NONE, accepts_old: NONE, ..by(Disturbance::Drifted) };
            let written = World { published: Value::Other, ..by(Disturbance::Overwritten) };
            all.extend([back, foreign, written]);
        }
        all.extend(self.put_right());
        all.into_iter().map(World::judged).collect()
    }

    /// By a person, who was told what to do.
    fn put_right(&self) -> Option<World> {
        let is_wrong = self.published == Value::Other && self.ended.is_none();
        let published = if self.accepts(Value::Old) { Value::Old } else { Value::New };
        is_wrong.then(|| World { published, ..self.clone() })
    }

    /// Excused no longer than it takes until everybody is let in.
    fn judged(mut self) -> World {
        self.excused &= !self.is_lawful();
        self
    }

    fn is_lawful(&self) -> bool {
        let all = (0..CONSUMERS).flat_map(|at| [self.running[at], self.reads(at)]);
        all.chain([self.published]).all(|value| self.accepts(value))
    }

    fn obeys_the_law(&self) {
        if self.accepts_new == ALL && self.accepts_old == ALL && self.direction == Direction::Forward {
            assert!(self.recorded && self.escrowed, "a secret that only the engine knows: {self:?}");
        }
        assert!(self.excused || self.is_lawful(), "somebody is locked out, or would be: {self:?}");
        self.waits_for_what_is_unknown();
    }

    /// Whichever answer is missing: nothing is done to the engine, to what is published or to a consumer.
    fn waits_for_what_is_unknown(&self) {
        let Some(memory) = self.process.as_ref().filter(|_| self.recorded) else { return };
        let (seen, unknown) = (self.observed(memory), || Login::Unknown("no answer".into()));
        for seen in [
            Observed { pending: unknown(), ..seen.clone() },
            Observed { current: unknown(), ..seen.clone() },
            Observed { published: Published::Unknown("sealed".into()), ..seen.clone() },
        ] {
            let step = next(&seen);
            // What is published is somebody else's, and the pending one opens nothing: that is known.
            let is_given_up = step == Step::Close(End::RolledBack) && seen.published == Published::Other;
            assert!(
                matches!(step, Step::Wait(_) | Step::Escrow | Step::Stop(_)) || is_given_up,
                "{step:?} in {seen:?}"
            );
        }
    }

    /// A run that nothing disturbs from here on, but a person where one is asked for. `good` are those of which that is known.
    fn converges(&self, good: &mut HashSet<World>) {
        let begin = |world: &World| world.begin(Direction::Forward, false);
        let mut world = if self.process.is_some() { self.clone() } else { begin(self) };
        let mut way = Vec::new();
        while way.len() < 80 {
            if good.contains(&world) {
                good.extend(way);
                return;
            }
            way.push(world.clone());
            let Some(then) = world.step().into_iter().next() else {
                let memory = world.process.clone().unwrap_or_default();
                let dead = World { process: None, ..world.clone() };
                world = match next(&world.observed(&memory)) {
                    Step::Stop(Halt::Drift) => dead.begin(Direction::Forward, true),
                    Step::Stop(Halt::ForeignPublished) => begin(&dead.put_right().unwrap_or(dead)),
                    // A gate that failed for good, in this process; the next one tries again.
                    _ if memory.failed => begin(&dead),
                    other => panic!("stopped where it should not: {other:?} in {world:?}"),
                };
                continue;
            };
            world = then;
            if let Some(end) = world.ended {
                // Nothing was left to take back, and what somebody else published is his affair.
                if world.published == Value::Other {
                    assert!(end == End::RolledBack && world.accepts_new == NONE, "{world:?}");
                    good.extend(way);
                    return;
                }
                let expected = if end == End::Rotated { Value::New } else { Value::Old };
                let other = if expected == Value::New { world.accepts_old } else { world.accepts_new };
                assert!(world.accepts(expected) && other == NONE, "exactly one works: {world:?}");
                assert_eq!((world.published, world.file), (expected, expected), "{world:?}");
                // One that began while something else was published is his affair, too.
                let is_moved = |value: &Value| *value == expected || *value == Value::Other;
                assert!(world.running.iter().all(is_moved), "{world:?}");
                good.extend(way);
                return;
            }
        }
        panic!("no end: {self:?}");
    }
}

/// Everything that can come of it.
fn search(gap: bool) -> (HashSet<World>, HashSet<&'static str>) {
    let mut seen = HashSet::new();
    let mut waiting = VecDeque::from([World::new(gap)]);
    let (mut ends, mut good) = (HashSet::new(), HashSet::new());
    while let Some(world) = waiting.pop_front() {
        if !seen.insert(world.clone()) {
            continue;
        }
        world.obeys_the_law();
        if let Some(end) = world.ended {
            ends.insert(match end {
                End::Rotated => "rotated",
                End::RolledBack => "rolled back",
                End::Nothing => "nothing",
            });
            continue;
        }
        world.converges(&mut good);
        waiting.extend(world.step());
        waiting.extend(world.others());
    }
    println!("{} worlds", seen.len());
    (seen, ends)
}

#[test]
fn the_law_holds_in_every_world_that_can_be_reached() {
    let (seen, ends) = search(false);
    assert_eq!(ends.len(), 3, "{ends:?}");
    for disturbed in [Disturbance::Restored, Disturbance::Drifted, Disturbance::Overwritten] {
        let of_it = seen.iter().filter(|world| world.disturbed == Some(disturbed));
        let (excused, lawful): (Vec<_>, Vec<_>) = of_it.partition(|world| world.excused);
        assert!(excused.len() > 100 && lawful.len() > 100, "{disturbed:?}: {} and {}", excused.len(), lawful.len());
    }
}

/// Once the server was told, there is only forward, and at the end of it everybody is let in again.
#[test]
fn a_gap_is_only_left_forward() {
    let (seen, _) = search(true);
    let told = |world: &&World| world.accepts_new == ALL && world.disturbed.is_none() && world.ended.is_none();
    assert!(seen.iter().filter(told).all(|world| world.accepts_old == NONE));
    assert!(seen.iter().any(|world| world.excused) && seen.len() > 500, "{}", seen.len());
}

/// The table of what is found after a crash, and what follows.
#[test]
fn the_table_is_the_law() {
    let mut world = World::new(false).begin(Direction::Forward, false);
    (world.recorded, world.escrowed) = (true, true);
    let of = |pending: bool, current: bool, published: Value| {
        let world = World { accepts_new: [pending; 2], accepts_old: [current; 2], published, ..world.clone() };
        next(&world.observed(&Memory::default()))
    };
    assert_eq!(of(false, true, Value::Old), Step::AcceptBoth);
    assert_eq!(of(true, true, Value::Old), Step::Test);
    assert_eq!(of(true, true, Value::New), Step::Test, "then redeliver, gate, prove");
    assert_eq!(of(true, false, Value::New), Step::Deliver(0), "nobody is left behind before it is closed");
    assert_eq!(of(true, false, Value::Old), Step::Publish, "at once");
    assert_eq!(of(false, true, Value::New), Step::AcceptBoth, "the engine was put back");
    assert!(matches!(of(false, false, Value::Old), Step::Stop(_)), "no third secret is invented");
    assert!(matches!(of(false, false, Value::New), Step::Stop(_)));
}

#[test]
fn a_gate_that_failed_is_a_reason_to_go_back_as_long_as_there_is_a_way() {
    let mut world = World::new(false).begin(Direction::Forward, false);
    (world.recorded, world.escrowed, world.accepts_new, world.published) = (true, true, ALL, Value::New);
    let failed = Memory { failed: true, ..Memory::default() };
    assert_eq!(next(&world.observed(&failed)), Step::TurnBack);
    world.accepts_old = NONE;
    assert!(matches!(next(&world.observed(&failed)), Step::Stop(_)));
}

#[test]
fn to_a_secret_that_may_be_known_nobody_goes_back_by_itself() {
    let mut world = World::new(false).begin(Direction::Forward, false);
    (world.recorded, world.escrowed, world.accepts_new, world.published) = (true, true, ALL, Value::New);
    let seen = Observed { urgent: true, ..world.observed(&Memory { failed: true, ..Memory::default() }) };
    assert!(matches!(next(&seen), Step::Stop(Halt::NotBackByItself(_))));
    // Where somebody asks for it.
    let back = Observed { direction: Direction::Back, failed: None, ..seen };
    assert_eq!(next(&back), Step::Unpublish);
}

/// Recorded anew after Vault lost it: nobody knows whether it was published before.
#[test]
fn who_holds_the_new_one_is_moved_back_whatever_is_known_of_him() {
    let mut world = World::new(false).begin(Direction::Back, false);
    (world.recorded, world.escrowed, world.accepts_new) = (true, true, ALL);
    world.direction = Direction::Back;
    let passed = Memory { passed: [true; CONSUMERS], reloaded: [true; CONSUMERS], unused: true, ..Memory::default() };
    assert_eq!(next(&world.observed(&passed)), Step::Undo);
    world.file = Value::New;
    assert_eq!(next(&world.observed(&passed)), Step::Deliver(0));
}

/// Somebody changed the password by hand, there and here: then that is the one, and what was begun can be given up.
#[test]
fn what_somebody_else_published_is_not_written_over() {
    let mut world = World::new(false).begin(Direction::Forward, false);
    (world.recorded, world.escrowed) = (true, true);
    let seen = Observed { published: Published::Other, ..world.observed(&Memory::default()) };
    assert!(matches!(next(&seen), Step::Stop(_)));
    let back = Observed { direction: Direction::Back, ..seen };
    assert_eq!(next(&back), Step::Close(End::RolledBack));
    assert!(matches!(next(&Observed { pending: Login::Accepted, ..back }), Step::Stop(_)));
}

#[test]
fn logins_on_several_nodes_agree_or_are_unknown() {
    use Login::{Accepted, Refused};
    assert_eq!(Login::of_all([Accepted, Accepted]), Accepted);
    assert_eq!(Login::of_all([Refused, Refused]), Refused);
    assert!(matches!(Login::of_all([Accepted, Refused]), Login::Unknown(_)));
    assert!(matches!(Login::of_all([Login::Unknown("x".into()), Refused]), Login::Unknown(_)));
    assert!(matches!(Login::of_all([]), Login::Unknown(_)));
    assert_eq!(Login::of_each(vec![Accepted, Refused]), Login::Partly);
    assert_eq!(Login::of_each(vec![Refused, Refused]), Refused);
    assert!(matches!(Login::of_each(vec![Login::Unknown("x".into()), Refused, Accepted]), Login::Unknown(_)));
}
