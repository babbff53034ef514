//! The plan of a prune: what becomes of each point, and why. Pure, given what is known.
//!
//! A plan takes points away from what the rules would delete, never adds: those of sources with a hold, those that only a
//! shorter `keep` gives up that nobody confirmed, and, where nobody looks on, all of a series that would lose most of itself.

use crate::error::{Failure, Kind, Result};
use crate::repo::catalog::Catalog;
use crate::repo::check::title;
use crate::repo::collect::records::SeriesMemory;
use crate::repo::names;
use crate::repo::pinned::Pinned;
use crate::repo::point::Point;
use crate::repo::proof::Level;
use crate::repo::retention::{self, Candidate, Decision, Rules};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a policy says about a source.
#[derive(Clone, Debug)]
pub struct SourceRules {
    pub source: String,
    pub policy: String,
    pub rules: Option<Rules>,
    pub zone: TimeZone,
}

/// Sources whose points are not to be deleted now, and why: an anomaly that nobody has acknowledged.
pub type Holds = BTreeMap<String, String>;

/// What is known of the points of one writer.
pub struct Known<'a> {
    pub writer: &'a str,
    pub catalog: &'a Catalog,
    pub proofs: &'a crate::job::status::Proofs,
    pub pinned: &'a Pinned,
    /// What the last mark remembers of each series.
    pub memory: &'a BTreeMap<String, SeriesMemory>,
    /// By source, the point that must stay because rehearsals of later ones failed; and why.
    pub passed: &'a BTreeMap<String, (String, String)>,
    /// `SOURCE/UTC-ID` of points that a check found damaged.
    pub damaged: &'a BTreeSet<String>,
}

/// What is asked of a plan beyond the rules.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Sources to prune; all when empty.
    pub sources: BTreeSet<String>,
    /// Policies whose shorter `keep` somebody has seen and wants.
    pub confirmed: BTreeSet<String>,
    /// Points to forget by hand.
    pub forget: BTreeSet<String>,
    /// Nobody looks on: a series that would lose more than half of its points is left alone.
    pub unattended: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Of everything that it would delete: the same plan has the same hash.
    pub hash: String,
    pub writer: String,
    pub at: Timestamp,
    pub series: Vec<SeriesPlan>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SeriesPlan {
    pub source: String,
    pub policy: Option<String>,
    pub keep: Option<Rules>,
    /// Why nothing of it is deleted now, whatever the rules say.
    pub held: Option<String>,
    /// That is because too much of it would go, and stays so until somebody looks on.
    pub too_much: bool,
    pub shrink: Option<Shrink>,
    pub points: Vec<PointPlan>,
}

/// A `keep` that gives up more than the one that was last acted upon.
#[derive(Clone, Debug, Serialize)]
pub struct Shrink {
    pub before: Rules,
    pub confirmed: bool,
    /// `UTC-ID` of what would be deleted now, and would not have been.
    pub newly: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PointPlan {
    pub id: String,
    pub point: String,
    pub sequence: u64,
    pub consistent_at: Timestamp,
    pub bytes: u64,
    pub keep: bool,
    pub reason: String,
}

impl Plan {
    pub fn deleted(&self) -> impl Iterator<Item = (&SeriesPlan, &PointPlan)> {
        self.series.iter().flat_map(|series| series.points.iter().filter(|p| !p.keep).map(move |point| (series, point)))
    }

    /// Policies whose shorter `keep` waits for a word.
    pub fn unconfirmed(&self) -> BTreeSet<&str> {
        let waits = |series: &&SeriesPlan| series.shrink.as_ref().is_some_and(|shrink| !shrink.confirmed);
        self.series.iter().filter(waits).filter_map(|series| series.policy.as_deref()).collect()
    }

    /// The rules that hold from now on, by source. Those that were not acted upon are not among them.
    pub fn in_force(&self) -> BTreeMap<String, Rules> {
        let rules = |series: &SeriesPlan| match &series.shrink {
            Some(shrink) if !shrink.confirmed => Some(shrink.before),
            _ => series.keep.filter(|_| !series.too_much),
        };
        self.series.iter().filter_map(|series| Some((series.source.clone(), rules(series)?))).collect()
    }
}

/// `now` is the store's clock where it is known.
pub fn plan(
    known: &Known<'_>,
    policies: &[SourceRules],
    holds: &Holds,
    wishes: &Wishes,
    now: Timestamp,
) -> Result<Plan> {
    let mut of_source: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    for point in known.catalog.points.iter().filter(|point| point.writer == known.writer) {
        of_source.entry(&point.source).or_default().push(point);
    }
    let mut unknown = wishes.forget.clone();
    let mut series = Vec::new();
    for (source, points) in of_source {
        let policy = policies.iter().find(|p| p.source == source);
        let planning = Planning { known, policy, wishes, now, points };
        let mut planned = planning.series(source, holds);
        planning.by_hand(&mut planned, &mut unknown)?;
        series.push(planned);
    }
    // What cannot be opened has no sequence and no instant, and is forgotten by its whole name alone.
    unknown.retain(|id| !known.catalog.broken.iter().any(|(key, _)| key.last() == id));
    if let Some(id) = unknown.first() {
        return Err(Failure::failed(format!("there is no point {id} of writer {}", known.writer))
            .hint("List them with: bkp points --all"));
    }
    let mut plan = Plan { hash: String::new(), writer: known.writer.to_owned(), at: now, series };
    let doomed: Vec<String> =
        plan.deleted().map(|(series, point)| format!("{}/{}", series.source, point.point)).collect();
    plan.hash = hex::encode(&names::sha256(doomed.join("\n").as_bytes())[..6]);
    Ok(plan)
}

struct Planning<'a> {
    known: &'a Known<'a>,
    policy: Option<&'a SourceRules>,
    wishes: &'a Wishes,
    now: Timestamp,
    points: Vec<&'a Point>,
}

impl Planning<'_> {
    fn series(&self, source: &str, holds: &Holds) -> SeriesPlan {
        let keep = self.policy.and_then(|p| p.rules);
        let before = self.known.memory.get(source).and_then(|memory| memory.rules);
        let mut points: Vec<PointPlan> = match (keep, self.policy) {
            (Some(rules), Some(policy)) => self.decided(&rules, policy),
            (None, Some(policy)) => self.all_stay(&format!("policy {} has no `keep`", policy.name())),
            _ => self.all_stay("no policy names this source (any more)"),
        };
        let shrink =
            keep.zip(before).filter(|(new, old)| new.is_narrower_than(old)).map(|(_, old)| self.shrink(old, &points));
        if let Some(shrink) = shrink.as_ref().filter(|shrink| !shrink.confirmed) {
            let newly: BTreeSet<&String> = shrink.newly.iter().collect();
            stay(points.iter_mut().filter(|p| newly.contains(&p.point)), "the shorter `keep` is not confirmed yet");
        }
        let chosen = self.wishes.sources.is_empty() || self.wishes.sources.contains(source);
        let free = chosen && !holds.contains_key(source);
        // A rule that was acted upon before may let go of much: where proofs come seldom, all that waited for one goes together.
        let is_new = keep != before;
        let too_much = self.too_much(&points).filter(|_| free && is_new);
        let held = match holds.get(source) {
            Some(why) => Some(format!("held: {why} (then: bkp ack {source})")),
            None if !chosen => Some("not asked for".to_owned()),
            None => too_much.clone(),
        };
        if let Some(why) = &held {
            stay(points.iter_mut(), why);
        }
        SeriesPlan {
            source: source.to_owned(),
            policy: self.policy.map(|p| p.policy.clone()),
            keep,
            held,
            too_much: too_much.is_some(),
            shrink,
            points,
        }
    }

    fn decided(&self, rules: &Rules, policy: &SourceRules) -> Vec<PointPlan> {
        let candidates: Vec<Candidate> = self.points.iter().map(|point| self.candidate(point)).collect();
        let decisions = retention::decide(rules, &policy.zone, &candidates, self.now);
        let by_name: BTreeMap<&str, &Point> = self.points.iter().map(|p| (p.point.as_str(), *p)).collect();
        decisions
            .into_iter()
            .filter_map(|decision| Some(planned(by_name.get(decision.point.as_str())?, decision)))
            .collect()
    }

    fn candidate(&self, point: &Point) -> Candidate {
        Candidate {
            point: point.point.clone(),
            sequence: point.sequence,
            at: point.consistent_at,
            stored: self.known.catalog.stored.get(&point.key()).copied().unwrap_or(point.written_at),
            safety: point.is_safety(),
            // A point that is known to be damaged proves nothing.
            level: self.known.proofs.get(&point.point).map(|(level, _)| *level).filter(|_| !self.is_damaged(point)),
            pinned: self.known.pinned.reason(point).or_else(|| self.must_stay(point).map(str::to_owned)),
        }
    }

    /// What came after it did not pass a rehearsal, and it did.
    fn must_stay(&self, point: &Point) -> Option<&str> {
        let (passed, why) = self.known.passed.get(&point.source)?;
        (*passed == point.point).then_some(why.as_str())
    }

    fn is_damaged(&self, point: &Point) -> bool {
        self.known.damaged.contains(&title(point))
    }

    fn all_stay(&self, reason: &str) -> Vec<PointPlan> {
        let stays = |point: &&Point| Decision { point: point.point.clone(), keep: true, reason: reason.to_owned() };
        self.points.iter().map(|point| planned(point, stays(point))).collect()
    }

    fn shrink(&self, before: Rules, points: &[PointPlan]) -> Shrink {
        let confirmed = self.policy.is_some_and(|p| self.wishes.confirmed.contains(&p.policy));
        let old: BTreeSet<String> = match self.policy {
            Some(policy) => self.decided(&before, policy).into_iter().filter(|p| !p.keep).map(|p| p.point).collect(),
            None => BTreeSet::new(),
        };
        let newly = points.iter().filter(|p| !p.keep && !old.contains(&p.point)).map(|p| p.point.clone()).collect();
        Shrink { before, confirmed, newly }
    }

    /// With somebody looking on the plan is shown before; a daemon must not delete most of a series because of one word that is
    /// new to it.
    fn too_much(&self, points: &[PointPlan]) -> Option<String> {
        let deleted = points.iter().filter(|p| !p.keep).count();
        (self.wishes.unattended && deleted > FEW && deleted * 2 > points.len())
            .then(|| format!("{deleted} of {} points at once are too many to delete unattended", points.len()))
    }

    /// Points that somebody names are forgotten, except those that only another step may give up.
    fn by_hand(&self, series: &mut SeriesPlan, unknown: &mut BTreeSet<String>) -> Result<()> {
        let mut left: BTreeSet<String> = series.points.iter().filter(|p| p.keep).map(|p| p.point.clone()).collect();
        for planned in &mut series.points {
            let (id, name) = (planned.id.clone(), planned.point.clone());
            if !unknown.remove(&id) && !unknown.remove(&name) {
                continue;
            }
            let Some(point) = self.points.iter().find(|p| p.point == name) else { continue };
            let refuse = |why: &str, hint: String| {
                Err(Failure::new(Kind::Refused, format!("{}/{id} is not forgotten: {why}", series.source)).hint(hint))
            };
            if let Some(reason) = self.known.pinned.reason(point) {
                return refuse(&format!("it is pinned ({reason})"), format!("bkp unpin {id}"));
            }
            if let Some(why) = self.must_stay(point) {
                return refuse(why, format!("bkp rehearse {}", series.source));
            }
            // One after the other: what was named before it is gone already.
            left.remove(&name);
            if left.is_empty() {
                return refuse("it is the last one of its source", format!("bkp backup {}", series.source));
            }
            let min = self.policy.and_then(|policy| policy.rules).map_or(1, |rules| rules.min as usize);
            if left.len() < min && !self.is_damaged(point) {
                return refuse(&format!("`keep: {{ min: {min} }}` wants it"), format!("bkp backup {}", series.source));
            }
            if self.is_proven(point) && !self.points.iter().any(|p| left.contains(&p.point) && self.is_proven(p)) {
                return refuse(
                    "it is the only one that is proven readable",
                    format!("bkp check {} --level readable", series.source),
                );
            }
            (planned.keep, planned.reason) = (false, "forgotten by hand".to_owned());
        }
        Ok(())
    }

    /// To be readable, and nothing is known to the contrary.
    fn is_proven(&self, point: &Point) -> bool {
        let level = self.known.proofs.get(&point.point).map(|(level, _)| *level);
        level.is_some_and(|level| level >= Level::Readable) && !self.is_damaged(point)
    }
}

/// So many may always go at once.
const FEW: usize = 3;

impl SourceRules {
    fn name(&self) -> &str {
        &self.policy
    }
}

fn stay<'a>(points: impl Iterator<Item = &'a mut PointPlan>, why: &str) {
    for point in points.filter(|p| !p.keep) {
        (point.keep, point.reason) = (true, format!("{why} (else: {})", point.reason));
    }
}

fn planned(point: &Point, decision: Decision) -> PointPlan {
    PointPlan {
        id: point.id().to_owned(),
        point: point.point.clone(),
        sequence: point.sequence,
        consistent_at: point.consistent_at,
        bytes: point.bytes,
        keep: decision.keep,
        reason: decision.reason,
    }
}
