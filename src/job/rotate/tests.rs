//! The law of rotation against every interleaving of effects, crashes, failing gates, commands to roll back, consumers that start
//! again by themselves, and an engine that is put back to before the rotation.
//!
//! The world here does what the effects of [`super::act`] do, and nothing is assumed of the order they come in.

use super::state::{Direction, End, Holds, Kept, Login, Observed, Progress, Published, Step, next};
use std::collections::{HashSet, VecDeque};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Value {
    Old,
    New,
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
    failed: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    recorded: bool,
    direction: Direction,
    /// The record says that the pending one may have been published.
    marked: bool,
    escrowed: bool,
    accepts_new: Nodes,
    accepts_old: Nodes,
    published: Value,
    file: Value,
    running: [Value; CONSUMERS],
    process: Option<Memory>,
    restored: bool,
    ended: Option<End>,
}

impl World {
    fn new() -> Self {
        World {
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
            restored: false,
            ended: None,
        }
    }

    /// On whichever node one arrives.
    fn accepts(&self, value: Value) -> bool {
        if value == Value::New { self.accepts_new == ALL } else { self.accepts_old == ALL }
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
            published: if self.published == Value::New { Published::Pending } else { Published::Current },
            tested: memory.tested,
            consumers: (0..CONSUMERS).map(progress).collect(),
            unused: memory.unused,
            persisted: memory.persisted,
            undone: memory.undone,
            proven: memory.proven,
            failed: memory.failed.then(|| "its gate failed".to_owned()),
            forced: false,
        }
    }

    fn begin(&self, direction: Direction) -> World {
        let mut world = self.clone();
        let mut memory = Memory::default();
        if world.recorded && direction == Direction::Back {
            world.direction = Direction::Back;
        }
        if !world.recorded {
            world.direction = direction;
        }
        // Nobody can have moved.
        memory.passed = [world.direction == Direction::Back && !world.marked; CONSUMERS];
        world.process = Some(memory);
        world
    }

    /// The worlds that one step can lead to, those between its parts included.
    fn step(&self) -> Vec<World> {
        let Some(memory) = &self.process else { return Vec::new() };
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut World, &mut Memory)| {
            let mut world = self.clone();
            let mut memory = memory.clone();
            change(&mut world, &mut memory);
            world.process = Some(memory);
            all.push(world);
        };
        let mut halves = Vec::new();
        // Killed between two nodes.
        let mut half = |change: &dyn Fn(&mut World)| {
            let mut world = World { process: None, ..self.clone() };
            change(&mut world);
            halves.push(world);
        };
        match next(&self.observed(memory)) {
            Step::Save => with(&|_, m| m.saved = true),
            Step::Record => with(&|w, _| (w.recorded, w.marked) = (true, false)),
            Step::Escrow => with(&|w, _| w.escrowed = true),
            Step::AcceptBoth => {
                with(&|w, m| (w.accepts_new, w.accepts_old, m.tested) = (ALL, ALL, false));
                half(&|w| (w.accepts_new[0], w.accepts_old[0]) = (true, true));
            }
            Step::Test => with(&|_, m| m.tested = true),
            Step::Publish => {
                with(&|w, _| (w.marked, w.published) = (true, Value::New));
                with(&|w, _| w.marked = true);
            }
            Step::Deliver(0) => {
                with(&|w, _| w.file = if w.direction == Direction::Forward { Value::New } else { Value::Old })
            }
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
                assert_eq!(self.running, [Value::New; CONSUMERS], "retired before every consumer was seen: {self:?}");
                assert!(self.published == Value::New && self.file == Value::New, "{self:?}");
                with(&|w, _| w.accepts_old = NONE);
                half(&|w| w.accepts_old[0] = false);
            }
            Step::Undo => {
                assert!(!self.running.contains(&Value::New) || self.restored, "{self:?}");
                assert!(self.published == Value::Old && self.file == Value::Old, "{self:?}");
                with(&|w, m| (w.accepts_new, m.undone) = (NONE, true));
                half(&|w| w.accepts_new[0] = false);
            }
            Step::Persist => with(&|_, m| m.persisted = true),
            Step::Prove => with(&|_, m| m.proven = true),
            Step::TurnBack => with(&|w, m| {
                w.direction = Direction::Back;
                *m = Memory { saved: m.saved, passed: [!w.marked; CONSUMERS], ..Memory::default() };
            }),
            Step::TurnForward => with(&|w, m| {
                w.direction = Direction::Forward;
                *m = Memory { saved: m.saved, ..Memory::default() };
            }),
            Step::Unpublish => with(&|w, _| w.published = Value::Old),
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
            all.push(self.begin(Direction::Forward));
            all.push(self.begin(Direction::Back));
        }
        for at in 0..CONSUMERS {
            let mut world = self.clone();
            world.running[at] = world.reads(at);
            all.push(world);
        }
        if !self.restored && self.ended.is_none() {
            all.push(World { restored: true, accepts_new: NONE, accepts_old: ALL, ..self.clone() });
        }
        all
    }

    fn obeys_the_law(&self) {
        if self.accepts_new == ALL && self.accepts_old == ALL && self.direction == Direction::Forward {
            assert!(self.recorded && self.escrowed, "a secret that only the engine knows: {self:?}");
        }
        if self.restored {
            return;
        }
        for at in 0..CONSUMERS {
            assert!(self.accepts(self.running[at]), "consumer {at} is locked out: {self:?}");
            assert!(self.accepts(self.reads(at)), "consumer {at} would be locked out: {self:?}");
        }
        assert!(self.accepts(self.published), "what is published is not accepted: {self:?}");
    }

    /// A run that nothing disturbs from here on.
    fn converges(&self) {
        let mut world = if self.process.is_some() { self.clone() } else { self.begin(Direction::Forward) };
        for _ in 0..60 {
            let Some(then) = world.step().into_iter().next() else {
                // A gate that failed for good, in this process; the next one tries again.
                let memory = world.process.clone().unwrap_or_default();
                assert!(memory.failed, "stopped where it should not: {:?}", next(&world.observed(&memory)));
                world = World { process: None, ..world };
                world = world.begin(Direction::Forward);
                continue;
            };
            world = then;
            if let Some(end) = world.ended {
                let expected = if end == End::Rotated { Value::New } else { Value::Old };
                let other = if expected == Value::New { world.accepts_old } else { world.accepts_new };
                assert!(world.accepts(expected) && other == NONE, "exactly one works: {world:?}");
                assert_eq!((world.published, world.file), (expected, expected), "{world:?}");
                assert_eq!(world.running, [expected; CONSUMERS], "{world:?}");
                return;
            }
        }
        panic!("no end: {self:?}");
    }
}

#[test]
fn the_law_holds_in_every_world_that_can_be_reached() {
    let mut seen = HashSet::new();
    let mut waiting = VecDeque::from([World::new()]);
    let mut ends = HashSet::new();
    while let Some(world) = waiting.pop_front() {
        if !seen.insert(world.clone()) {
            continue;
        }
        world.obeys_the_law();
        if let Some(end) = world.ended {
            ends.insert(format!("{end:?}"));
            continue;
        }
        world.converges();
        waiting.extend(world.step());
        waiting.extend(world.others());
    }
    assert_eq!(ends.len(), 3, "{ends:?}");
    assert!(seen.len() > 500, "only {} worlds were seen", seen.len());
}

/// Where something is not known, nothing is done.
#[test]
fn what_is_unknown_is_waited_for() {
    let mut world = World::new().begin(Direction::Forward);
    (world.recorded, world.escrowed, world.accepts_new) = (true, true, ALL);
    let known = world.observed(&Memory { tested: true, ..Memory::default() });
    let unknown = || Login::Unknown("no answer".into());
    for seen in [
        Observed { pending: unknown(), ..known.clone() },
        Observed { current: unknown(), ..known.clone() },
        Observed { published: Published::Unknown("sealed".into()), ..known.clone() },
    ] {
        assert!(matches!(next(&seen), Step::Wait(_)), "{seen:?}");
    }
}

/// The table of what is found after a crash, and what follows.
#[test]
fn the_table_is_the_law() {
    let mut world = World::new().begin(Direction::Forward);
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
    let mut world = World::new().begin(Direction::Forward);
    (world.recorded, world.escrowed, world.accepts_new, world.published) = (true, true, ALL, Value::New);
    let failed = Memory { failed: true, ..Memory::default() };
    assert_eq!(next(&world.observed(&failed)), Step::TurnBack);
    world.accepts_old = NONE;
    assert!(matches!(next(&world.observed(&failed)), Step::Stop(_)));
}

/// Somebody changed the password by hand, there and here: then that is the one, and what was begun can be given up.
#[test]
fn what_somebody_else_published_is_not_written_over() {
    let mut world = World::new().begin(Direction::Forward);
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
