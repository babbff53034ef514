//! What a collector concludes from what it has seen: what is dead, and what is wrong. Nothing is read here but indexes of
//! points that turn out not to be whole, to name them.

use super::id;
use super::records::{self, Tombstone};
use super::survey::{Amount, Looking, Problems, Survey, indexes, listed, packs, problem_of};
use crate::error::Result;
use crate::repo::check::{Problem, title};
use crate::repo::names;
use crate::repo::point::Point;
use crate::store::{Entry, Key};
use std::collections::{BTreeMap, BTreeSet, HashSet};

impl Looking<'_> {
    pub(super) fn finish(mut self, everything: Vec<Entry>, accept_missing: bool) -> Result<Survey> {
        let mut objects = Amount::default();
        for entry in &everything {
            objects.add(entry.size);
            self.reached.found(&listed(entry));
        }
        let missing: HashSet<_> = self.reached.missing().collect();
        let (incomplete, void) = self.incomplete(&missing)?;
        self.problems.extend(incomplete);
        let forgotten = self.numbers(accept_missing);
        if !accept_missing {
            self.unexplained(&forgotten);
        }
        let young_from = self.collector.protocol.young_from(self.sessions.values(), self.now);
        let there: HashSet<&str> = everything.iter().map(|e| e.key.as_str()).collect();
        let dead: Vec<Entry> = everything
            .iter()
            .filter(|entry| self.is_collectible(entry, &there))
            .filter(|entry| self.collector.protocol.is_dead(&listed(entry), &self.reached, young_from))
            .cloned()
            .collect();
        let protocol = self.collector.protocol;
        let open = self.sessions.iter().filter(|(_, s)| protocol.is_open(s, self.now)).map(|(id, _)| id.clone());
        Ok(Survey {
            now: self.now,
            open: open.collect(),
            sessions: self.sessions.into_iter().collect(),
            catalog: self.catalog,
            objects,
            dead,
            forgotten,
            problems: self.problems,
            void,
        })
    }

    /// Whether it is a kind of object that may die when nothing reaches it. What is not known is left alone.
    fn is_collectible(&self, entry: &Entry, there: &HashSet<&str>) -> bool {
        let below = entry.key.as_str().strip_prefix(&names::of_writer(self.collector.writer())).unwrap_or_default();
        let parts: Vec<&str> = below.split('/').collect();
        let closed = |session: &str| match self.sessions.get(session) {
            Some(state) => !self.collector.protocol.is_open(state, self.now),
            None => true,
        };
        match parts[..] {
            ["p" | "s" | "b" | "x", _] => true,
            // Its end goes after the session itself: else it would look open.
            ["sess", name] => match name.strip_suffix(".end") {
                Some(session) => !there.contains(names::session(self.collector.writer(), session).as_str()),
                None => closed(name),
            },
            ["ckpt", session, _] => closed(session),
            ["proofs" | "pins", source, name] => {
                let point = name.split('.').next().unwrap_or_default();
                self.tombstone(source, point).is_some() && !self.is_there(source, point)
            }
            ["gc", "forgotten", source, point] => self.is_remembered(source, point),
            ["gc", "clock", _] => true,
            ["gc", "marks" | "dead", _] => self.previous.is_some_and(|p| !p.is_needed(&entry.key)),
            _ => false,
        }
    }

    fn tombstone(&self, source: &str, point: &str) -> Option<&Tombstone> {
        self.tombstones.get(&(source.to_owned(), point.to_owned()))
    }

    fn is_there(&self, source: &str, point: &str) -> bool {
        let key = names::point(self.collector.writer(), source, point);
        self.catalog.stored.contains_key(&key)
    }

    /// A tombstone may go when a mark remembers its number, or nobody will ask for it, and no session builds on its point.
    fn is_remembered(&self, source: &str, point: &str) -> bool {
        let Some(tombstone) = self.tombstone(source, point) else { return false };
        let memory = self.previous.and_then(|p| p.mark.series.get(source));
        let numbers = memory.map_or(&[][..], |m| &m.forgotten);
        let oldest = memory.and_then(|m| m.points.values().min()).copied();
        let remembered = tombstone
            .sequence
            .is_none_or(|n| records::has_number(numbers, n) || oldest.is_some_and(|oldest| n < oldest));
        let open = self.sessions.values().any(|s| self.collector.protocol.is_open(s, self.now));
        remembered && !open && !self.is_there(source, point)
    }

    /// What points need and is not there, with the points; and the points that need not be looked for any longer, because
    /// their session was fenced before they were stored.
    fn incomplete(&self, missing: &HashSet<super::Id>) -> Result<(Problems, Vec<Point>)> {
        let mut affected: BTreeMap<Key, Vec<&Point>> = BTreeMap::new();
        if missing.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        for point in &self.catalog.points {
            let mut keys: Vec<Key> = point.pins().map(|pin| pin.key.clone()).collect();
            for pin in indexes(point) {
                // One that cannot be read is a problem already.
                let packs = packs(self.collector, pin).unwrap_or_default();
                keys.extend(packs.iter().map(|pack| names::pack(&point.writer, &pack.sha256)));
            }
            keys.retain(|key| missing.contains(&id(key)));
            keys.into_iter().for_each(|key| affected.entry(key).or_default().push(point));
        }
        let (mut problems, mut void) = (Vec::new(), Vec::new());
        for (key, points) in affected {
            let (late, good): (Vec<&Point>, Vec<&Point>) = points.into_iter().partition(|p| self.is_void(p));
            void.extend(late.into_iter().cloned());
            if !good.is_empty() {
                let problem = "it is missing from the store, or has another size".to_owned();
                let points = good.into_iter().map(title).collect();
                problems.push(Problem { object: key.to_string(), problem, points });
            }
        }
        void.sort_by_key(Point::key);
        void.dedup_by_key(|point| point.key());
        Ok((problems, void))
    }

    /// Committed by a session that nobody waited for any longer.
    fn is_void(&self, point: &Point) -> bool {
        let fence = point.session.as_ref().and_then(|session| self.fences.get(session));
        fence.zip(self.catalog.stored.get(&point.key())).is_some_and(|(fence, stored)| fence <= stored)
    }

    /// Which numbers were forgotten: what the last mark says, what tombstones say, and what somebody accepts as lost.
    fn numbers(&self, accept_missing: bool) -> BTreeMap<String, Vec<(u64, u64)>> {
        let mut all: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for (source, memory) in self.previous.iter().flat_map(|p| &p.mark.series) {
            all.insert(source.clone(), memory.forgotten.clone());
        }
        for ((source, point), tombstone) in &self.tombstones {
            if let Some(number) = tombstone.sequence.filter(|_| !self.is_there(source, point)) {
                records::add_number(all.entry(source.clone()).or_default(), number);
            }
        }
        if accept_missing {
            for (source, first, last) in self.gaps(&all) {
                all.entry(source.clone()).or_default().push((first, last));
                records::add_number(all.entry(source).or_default(), first);
            }
        }
        all
    }

    /// Ranges of numbers that nothing explains: between those of the points that are there, and up to the last one known;
    /// of a copy, which need not have them all, those that were known to be there.
    fn gaps(&self, forgotten: &BTreeMap<String, Vec<(u64, u64)>>) -> Vec<(String, u64, u64)> {
        let mut known: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (source, number) in &self.seen {
            known.entry(source).or_default().insert(*number);
        }
        for (source, memory) in self.previous.iter().flat_map(|p| &p.mark.series) {
            known.entry(source).or_default().extend(memory.points.values().copied());
        }
        let mut there: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for point in &self.catalog.points {
            there.entry(&point.source).or_default().insert(point.sequence);
        }
        let mut gaps = Vec::new();
        for source in known.keys().chain(there.keys()).copied().collect::<BTreeSet<_>>() {
            let (there, known) = (there.remove(source).unwrap_or_default(), known.remove(source).unwrap_or_default());
            let explained = forgotten.get(source).map_or(&[][..], |ranges| ranges);
            let lost = |number: &u64| !there.contains(number) && !records::has_number(explained, *number);
            if !self.collector.whole {
                gaps.extend(known.into_iter().filter(lost).map(|number| (source.to_owned(), number, number)));
                continue;
            }
            // One past the last known number, so that the last one is looked for as well.
            let end = known.last().map(|number| number + 1);
            let numbers: Vec<u64> =
                there.iter().copied().chain(known).chain(end).collect::<BTreeSet<_>>().into_iter().collect();
            for pair in numbers.windows(2) {
                let first = (pair[0]..pair[1]).find(lost);
                let last = first.and_then(|first| (first..pair[1]).rev().find(lost));
                gaps.extend(first.zip(last).map(|(first, last)| (source.to_owned(), first, last)));
            }
        }
        gaps
    }

    /// What is gone, and nobody says that it was removed on purpose.
    fn unexplained(&mut self, forgotten: &BTreeMap<String, Vec<(u64, u64)>>) {
        let writer = self.collector.writer();
        let mut problems = Vec::new();
        for (source, first, last) in self.gaps(forgotten) {
            let numbers = if first == last { format!("number {first}") } else { format!("numbers {first} to {last}") };
            let object = format!("{}{source}", names::points(writer, None));
            let problem = format!("{numbers} of this series: missing, and nothing says that they were forgotten");
            problems.push(Problem { object, problem, points: Vec::new() });
        }
        for session in self.previous.iter().flat_map(|p| &p.mark.sessions) {
            if !self.sessions.contains_key(session) {
                let key = names::session(writer, session);
                problems.push(problem_of(&key, "it was open when the last mark was made, and is not there"));
            }
        }
        self.problems.extend(problems);
    }
}
