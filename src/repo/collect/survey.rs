//! What a collector sees, read in the order that makes it safe: sessions, then points, then everything.
//!
//! Whatever shows up only in the last listing counts as well. What a point needs and is not there, a point or a session that
//! the last mark knew and that is neither there nor forgotten, a gap in the numbers of a series: each is a problem, and with
//! a problem nothing is deleted. A listing that is short, empty or torn makes such problems, or hides what is dead.

use super::protocol::{Listed, Reached, SessionState};
use super::records::Tombstone;
use super::{Collector, Previous, forgotten, id};
use crate::error::{Failure, Kind, Result};
use crate::repo::catalog::{self, Catalog};
use crate::repo::chain;
use crate::repo::check::{Problem, title};
use crate::repo::container::decode;
use crate::repo::index::PackInfo;
use crate::repo::names;
use crate::repo::point::{Pin, Point};
use crate::repo::read::SpooledIndex;
use crate::repo::write::SessionInfo;
use crate::store::{self, Entry, Key};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Amount {
    pub number: u64,
    pub bytes: u64,
}

impl Amount {
    pub fn add(&mut self, bytes: u64) {
        self.number += 1;
        self.bytes += bytes;
    }
}

/// What keeps a collector from deleting anything.
pub type Problems = Vec<Problem>;

#[derive(Debug, Default)]
pub struct Survey {
    pub now: Timestamp,
    /// Points of the writer, as they were found.
    pub catalog: Catalog,
    pub sessions: Vec<(String, SessionState)>,
    /// Ids of those that are open.
    pub open: Vec<String>,
    /// Everything of the writer.
    pub objects: Amount,
    /// What nothing reaches.
    pub dead: Vec<Entry>,
    /// Numbers that were forgotten, by source.
    pub forgotten: BTreeMap<String, Vec<(u64, u64)>>,
    pub problems: Problems,
    /// Points that a fenced session committed after all, and that are not whole.
    pub void: Vec<Point>,
}

/// What a survey is told.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub previous: Option<&'a Previous>,
    /// Points that were opened already: they do not change.
    pub known: &'a Catalog,
    pub now: Timestamp,
    /// What is missing counts as forgotten: it was lost, and somebody knows.
    pub accept_missing: bool,
}

pub fn survey(collector: &Collector<'_>, asked: Asked<'_>) -> Result<Survey> {
    let Asked { previous, now, accept_missing, .. } = asked;
    let mut looking = Looking {
        collector,
        previous,
        now,
        tombstones: BTreeMap::new(),
        sessions: BTreeMap::new(),
        catalog: Catalog::default(),
        reached: Reached::default(),
        fences: BTreeMap::new(),
        indexes: HashSet::new(),
        problems: Vec::new(),
        seen: Vec::new(),
    };
    if let Some(newest) = &collector.newest {
        let seen = chain::remembered(newest);
        looking.seen = seen.into_iter().map(|seen| (seen.source, seen.sequence)).collect();
    }
    // The order matters: a session that ends meanwhile has its point in the second listing.
    looking.look_at_sessions(&looking.list("sess")?, &looking.list("ckpt")?)?;
    looking.look_at_points(asked.known)?;
    let everything = collector.store().list(&names::of_writer(collector.writer()))?;
    looking.look_again(&everything)?;
    looking.tombstones =
        forgotten::tombstones(collector.repository, collector.keys, &collector.believed()?, collector.writer())?;
    looking.reach_points()?;
    looking.reach_sessions(accept_missing)?;
    looking.finish(everything, accept_missing)
}

pub(super) struct Looking<'a> {
    pub(super) collector: &'a Collector<'a>,
    pub(super) previous: Option<&'a Previous>,
    pub(super) now: Timestamp,
    pub(super) tombstones: BTreeMap<(String, String), Tombstone>,
    pub(super) sessions: BTreeMap<String, SessionState>,
    pub(super) catalog: Catalog,
    pub(super) reached: Reached,
    pub(super) fences: BTreeMap<String, Timestamp>,
    /// Indexes whose packs are in `reached`.
    pub(super) indexes: HashSet<Key>,
    pub(super) problems: Problems,
    /// The newest number of each series that this host remembers to have put here.
    pub(super) seen: Vec<(String, u64)>,
}

impl Looking<'_> {
    fn list(&self, kind: &str) -> Result<Vec<Entry>> {
        Ok(self.collector.store().list(&format!("{}{kind}/", names::of_writer(self.collector.writer())))?)
    }

    fn look_at_sessions(&mut self, sessions: &[Entry], checkpoints: &[Entry]) -> Result<()> {
        let fences = self.collector.store().list(&names::collector(self.collector.writer(), "fences"))?;
        self.fences.extend(fences.into_iter().map(|fence| (fence.key.last().to_owned(), fence.modified)));
        for entry in sessions.iter().filter(|e| !e.key.last().ends_with(".end")) {
            let fenced = self.fences.get(entry.key.last()).copied();
            let state = SessionState { started: entry.modified, sign_of_life: entry.modified, ended: false, fenced };
            self.sessions.entry(entry.key.last().to_owned()).or_insert(state);
        }
        for entry in checkpoints {
            let session = entry.key.as_str().rsplit('/').nth(1).unwrap_or_default();
            if let Some(state) = self.sessions.get_mut(session) {
                state.sign_of_life = state.sign_of_life.max(entry.modified);
            }
        }
        for ended in sessions.iter().filter_map(|e| e.key.last().strip_suffix(".end")) {
            if let Some(state) = self.sessions.get_mut(ended) {
                state.ended = true;
            }
        }
        Ok(())
    }

    fn look_at_points(&mut self, known: &Catalog) -> Result<()> {
        let listed = self.collector.store().list(&names::points(self.collector.writer(), None))?;
        let by_key: BTreeMap<Key, &Point> = known.points.iter().map(|point| (point.key(), point)).collect();
        for entry in listed {
            match (by_key.get(&entry.key), known.hashes.get(&entry.key)) {
                (Some(point), Some(hash)) => {
                    self.catalog.stored.insert(entry.key.clone(), entry.modified);
                    self.catalog.hashes.insert(entry.key, *hash);
                    self.catalog.points.push((*point).clone());
                }
                _ => self.read_point(entry)?,
            }
        }
        Ok(())
    }

    fn read_point(&mut self, entry: Entry) -> Result<()> {
        let Collector { repository, keys, whose, trust, .. } = self.collector;
        let signer = trust.decide(&whose.writer, &whose.verify_key)?;
        self.catalog.stored.insert(entry.key.clone(), entry.modified);
        catalog::read_one(repository, keys, &signer, entry.key, &mut self.catalog).map(|_| ())
    }

    /// What the last listing has and an earlier one had not: it came meanwhile, or that one was short.
    fn look_again(&mut self, everything: &[Entry]) -> Result<()> {
        let kind = |prefix: &str| {
            let prefix = format!("{}{prefix}/", names::of_writer(self.collector.writer()));
            everything.iter().filter(move |e| e.key.as_str().starts_with(&prefix)).cloned().collect::<Vec<_>>()
        };
        let (sessions, checkpoints, points) = (kind("sess"), kind("ckpt"), kind("points"));
        let there: HashSet<&Key> = points.iter().map(|e| &e.key).collect();
        let gone = "it was listed, and is gone a moment later: no listing can be believed now";
        let lost = self.catalog.stored.keys().filter(|key| !there.contains(key));
        self.problems.extend(lost.map(|key| problem_of(key, gone)));
        let listed: HashSet<&str> = sessions.iter().map(|e| e.key.last()).collect();
        for session in self.sessions.keys().filter(|session| !listed.contains(session.as_str())) {
            let key = names::session(self.collector.writer(), session);
            self.problems.push(problem_of(&key, gone));
        }
        self.look_at_sessions(&sessions, &checkpoints)?;
        let new: Vec<Entry> = points.into_iter().filter(|e| !self.catalog.stored.contains_key(&e.key)).collect();
        new.into_iter().try_for_each(|entry| self.read_point(entry))?;
        // What stands among the writers and is none is not about this one.
        for (key, failure) in self.catalog.broken.iter().filter(|(key, _)| chain::parts(key).is_some()) {
            self.problems.push(problem_of(key, &failure.full()));
        }
        let opened = |key: &&Key| self.catalog.hashes.contains_key(*key);
        let broken = |key: &&Key| self.catalog.broken.iter().any(|(other, _)| other == *key);
        let unread = self.catalog.stored.keys().filter(|key| !opened(key) && !broken(key));
        self.problems.extend(unread.map(|key| problem_of(key, "it is listed, and cannot be read")));
        Ok(())
    }

    fn reach_points(&mut self) -> Result<()> {
        let points = std::mem::take(&mut self.catalog.points);
        for point in &points {
            self.collector.cancel.check()?;
            for pin in point.pins() {
                self.reached.needs(id(&pin.key), pin.size);
            }
            for pin in indexes(point) {
                self.reach_index(point, pin, true)?;
            }
        }
        self.catalog.points = points;
        Ok(())
    }

    /// An index that cannot be read hides what it refers to: a problem, unless a session alone needs it.
    fn reach_index(&mut self, point: &Point, pin: &Pin, needed: bool) -> Result<()> {
        if !self.indexes.insert(pin.key.clone()) {
            return Ok(());
        }
        match packs(self.collector, pin) {
            Ok(packs) => {
                for pack in packs {
                    let id = id(&names::pack(&point.writer, &pack.sha256));
                    if needed { self.reached.needs(id, pack.size) } else { self.reached.may_need(id) }
                }
                Ok(())
            }
            Err(failure) if matches!(failure.kind(), Kind::Verification | Kind::Failed) => {
                let points = vec![title(point)];
                self.problems.push(Problem { object: pin.key.to_string(), problem: failure.full(), points });
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Open sessions need the points they build on, and what they and those before them have stored.
    fn reach_sessions(&mut self, accept_missing: bool) -> Result<()> {
        let unended: Vec<String> = self.sessions.iter().filter(|(_, s)| !s.ended).map(|(id, _)| id.clone()).collect();
        let mut infos: BTreeMap<String, SessionInfo> = BTreeMap::new();
        for session in unended {
            infos.extend(self.session(&session)?.map(|info| (session, info)));
        }
        let known = infos.iter().map(|(id, info)| (id.as_str(), &self.sessions[id], info.source.as_str()));
        let needs = self.collector.protocol.needs(known, self.now);
        for session in needs.open {
            for base in &infos[session].bases {
                self.reach_base(&infos[session].source, base, session, accept_missing)?;
            }
        }
        needs.checkpoints.into_iter().try_for_each(|session| self.reach_checkpoints(session))
    }

    fn session(&mut self, session: &str) -> Result<Option<SessionInfo>> {
        let key = names::session(self.collector.writer(), session);
        let opened = store::read(self.collector.store(), &key)
            .map_err(Failure::from)
            .and_then(|sealed| decode::open_whole(&sealed, self.collector.keys, key.as_str()))
            .and_then(|data| {
                serde_json::from_slice(&data)
                    .map_err(|e| Failure::new(Kind::Verification, format!("{key} is damaged")).because(e))
            });
        self.or_problem(&key, opened)
    }

    /// What is wrong with an object is noted; what is wrong with the connection or the keys ends the run.
    fn or_problem<T>(&mut self, key: &Key, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(failure) if matches!(failure.kind(), Kind::Verification | Kind::Failed) => {
                self.problems.push(problem_of(key, &failure.full()));
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn reach_base(&mut self, source: &str, base: &str, session: &str, accept_missing: bool) -> Result<()> {
        if self.catalog.points.iter().any(|p| p.source == source && p.point == base) {
            return Ok(());
        }
        let tombstone = self.tombstones.get(&(source.to_owned(), base.to_owned()));
        match tombstone.and_then(|tombstone| forgotten::point_of(self.collector, tombstone)) {
            Some(point) => {
                point.pins().for_each(|pin| self.reached.may_need(id(&pin.key)));
                let pins: Vec<Pin> = indexes(&point).cloned().collect();
                pins.iter().try_for_each(|pin| self.reach_index(&point, pin, false))
            }
            None if accept_missing => Ok(()),
            None => {
                let key = names::point(self.collector.writer(), source, base);
                let why = format!("session {session} builds on it, and it is neither there nor forgotten");
                self.problems.push(problem_of(&key, &why));
                Ok(())
            }
        }
    }

    fn reach_checkpoints(&mut self, session: &str) -> Result<()> {
        let prefix = names::checkpoints(self.collector.writer(), session);
        for entry in self.collector.store().list(&prefix)? {
            let opened = store::read(self.collector.store(), &entry.key)
                .map_err(Failure::from)
                .and_then(|sealed| decode::open_whole(&sealed, self.collector.keys, entry.key.as_str()))
                .and_then(|data| crate::repo::index::IndexReader::new(&data[..], entry.key.as_str()).map(|r| r.packs));
            for pack in self.or_problem(&entry.key, opened)?.into_iter().flatten() {
                self.reached.may_need(id(&names::pack(self.collector.writer(), &pack.sha256)));
            }
        }
        Ok(())
    }
}

pub(super) fn problem_of(key: &Key, problem: &str) -> Problem {
    Problem { object: key.to_string(), problem: problem.to_owned(), points: Vec::new() }
}

pub(super) fn listed(entry: &Entry) -> Listed {
    Listed { id: id(&entry.key), size: entry.size, stored: entry.modified }
}

/// Those of its tree and of its deduplicated streams.
pub(super) fn indexes(point: &Point) -> impl Iterator<Item = &Pin> {
    point.tree.iter().map(|tree| &tree.index).chain(point.streams.iter().filter_map(|s| s.index.as_ref()))
}

pub(super) fn packs(collector: &Collector<'_>, pin: &Pin) -> Result<Vec<PackInfo>> {
    Ok(SpooledIndex::open(collector.repository, pin)?.read(collector.keys)?.packs)
}
