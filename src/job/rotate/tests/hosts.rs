//! The same law with two hosts. Whoever is at work may be stopped between its last look at the lease and what it does then, for
//! as long as one likes: the lease is over, the other host takes over, goes on or goes back, comes to the end or is killed; and
//! then the first one goes on, and believes that the rotation is its own.
//!
//! Vault refuses what does not follow its newest version; engines and files refuse nothing.

use super::{ALL, CONSUMERS, NONE, Value, World};
use crate::job::rotate::state::{Direction, End, Step, next};
use std::collections::{HashSet, VecDeque};

/// What keeps a host that was overtaken from doing harm.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Right before an engine or a consumer is told anything, it is seen by a clock that the lease is not over.
    looks_at_the_clock: bool,
    /// What is published was read before the lease was renewed for the last time.
    reads_before_it_renews: bool,
    /// Whoever takes over writes what is published once more, as it is.
    fences: bool,
}

const RULES: Rules = Rules { looks_at_the_clock: true, reads_before_it_renews: true, fences: true };

/// What somebody is about to do, who has looked at the lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Hand {
    step: Step,
    direction: Direction,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Hosts {
    /// Its process is the one that has the lease.
    world: World,
    in_hand: Option<Hand>,
    /// Of the other host, that was overtaken.
    late: Option<Hand>,
    /// What is published was written since that one read it.
    is_fenced: bool,
}

impl Hosts {
    fn new(gap: bool) -> Self {
        Hosts { world: World::new(gap), in_hand: None, late: None, is_fenced: false }
    }

    fn with(&self, world: World) -> Hosts {
        Hosts { world: world.judged(), ..self.clone() }
    }

    /// Everything that can happen next.
    fn next(&self, rules: Rules) -> Vec<Hosts> {
        let mut all: Vec<Hosts> = self.late_does(rules).into_iter().collect();
        if self.world.ended.is_some() {
            return all;
        }
        for at in 0..CONSUMERS {
            let mut world = self.world.clone();
            world.running[at] = world.reads(at);
            all.push(self.with(world));
        }
        let dead = World { process: None, ..self.world.clone() };
        match (&self.world.process, &self.in_hand) {
            (None, _) => all.extend([Direction::Forward, Direction::Back].map(|to| self.begins(to, rules))),
            (Some(memory), None) => {
                let (step, direction) = (next(&self.world.observed(memory)), self.world.direction);
                if !matches!(step, Step::Wait(_) | Step::Stop(_)) {
                    // That it may be published is recorded before.
                    let marked = self.world.marked || step == Step::Publish;
                    let world = World { marked, ..self.world.clone() };
                    all.push(Hosts { world, in_hand: Some(Hand { step, direction }), ..self.clone() });
                }
                all.push(Hosts { world: dead, ..self.clone() });
            }
            (Some(memory), Some(hand)) => {
                let writes = matches!(hand.step, Step::Publish | Step::Unpublish);
                let is_fenced = self.is_fenced || writes;
                let done = self.world.act(memory, &hand.step).into_iter();
                all.extend(done.map(|world| Hosts { in_hand: None, is_fenced, ..self.with(world) }));
                all.push(Hosts { world: dead.clone(), in_hand: None, ..self.clone() });
                // The other host has none sealed.
                let world = World { escrowed: false, ..dead };
                if self.late.is_none() {
                    all.push(Hosts { world, in_hand: None, late: Some(hand.clone()), is_fenced: false });
                }
            }
        }
        all
    }

    fn begins(&self, direction: Direction, rules: Rules) -> Hosts {
        // Of what was not recorded, the write of the record is the first one, and that is refused.
        let is_fenced = self.is_fenced || rules.fences && self.world.recorded;
        Hosts { is_fenced, ..self.with(self.world.begin(direction, false)) }
    }

    /// The one that was overtaken goes on. What it writes into the document of the rotation is refused, and then it ends.
    fn late_does(&self, rules: Rules) -> Option<Hosts> {
        let Hand { step, direction } = self.late.as_ref()?;
        let mut world = self.world.clone();
        let is_forward = *direction == Direction::Forward;
        let (to, from) = if is_forward { (Value::New, Value::Old) } else { (Value::Old, Value::New) };
        match step {
            Step::Publish | Step::Unpublish => {
                let is_outdated = self.is_fenced && rules.reads_before_it_renews;
                if !is_outdated && world.published == from {
                    world.published = to;
                }
            }
            _ if rules.looks_at_the_clock => {}
            Step::AcceptBoth => (world.accepts_new, world.accepts_old) = (ALL, if world.gap { NONE } else { ALL }),
            Step::Retire => world.accepts_old = NONE,
            Step::Undo => world.accepts_new = NONE,
            Step::Deliver(0) => world.file = to,
            Step::Reload(at) => world.running[*at] = world.reads(*at),
            _ => {}
        }
        Some(Hosts { late: None, ..self.with(world) })
    }

    fn is_lawful(&self) -> bool {
        let world = &self.world;
        // At the end one lets in, and nobody knows of the other one any more.
        let is_over = match world.ended {
            Some(End::Rotated) => world.accepts_old == NONE,
            Some(End::RolledBack) => world.accepts_new == NONE,
            Some(End::Nothing) | None => true,
        };
        is_over && (world.excused || world.is_lawful())
    }
}

/// The first world in which the law is broken; or how many there are, and how many of them with somebody who was overtaken.
fn search(gap: bool, rules: Rules) -> Result<(usize, usize), Box<Hosts>> {
    let mut seen = HashSet::new();
    let mut waiting = VecDeque::from([Hosts::new(gap)]);
    while let Some(hosts) = waiting.pop_front() {
        if !hosts.is_lawful() {
            return Err(Box::new(hosts));
        }
        if seen.insert(hosts.clone()) {
            waiting.extend(hosts.next(rules));
        }
    }
    let overtaken = seen.iter().filter(|hosts| hosts.late.is_some()).count();
    println!("{} worlds, {overtaken} of them with a host that was overtaken", seen.len());
    Ok((seen.len(), overtaken))
}

#[test]
fn the_law_holds_whenever_a_host_is_overtaken() {
    for gap in [false, true] {
        let (_, overtaken) = search(gap, RULES).unwrap_or_else(|broken| panic!("{broken:?}"));
        assert!(overtaken > 1000, "{overtaken}");
    }
}

/// Each of the rules is needed: without it there is a way to lock somebody out.
#[test]
fn without_one_of_the_rules_it_does_not() {
    for rules in [
        Rules { looks_at_the_clock: false, ..RULES },
        Rules { reads_before_it_renews: false, ..RULES },
        Rules { fences: false, ..RULES },
    ] {
        // What the other one is about to do looks at the law, too.
        let is_kept = std::panic::catch_unwind(|| search(false, rules).is_ok());
        assert!(!matches!(is_kept, Ok(true)), "it is not needed: {rules:?}");
    }
}
