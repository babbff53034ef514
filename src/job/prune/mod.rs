//! Pruning: forgets the points that retention gives up, and deletes what nothing reaches any more.
//!
//! [`Prune::look`] reads what there is to know, [`plan::plan`] decides, [`Prune::apply`] acts: it forgets only what the plan
//! says both by this host's clock and by the store's, and deletes only what two marks a day apart found dead. At the first
//! thing that is missing or cannot be read it stops and names it. Nothing here prints.

pub mod plan;

use super::Places;
use super::damage;
use super::status::Proofs;
use crate::error::Result;
use crate::event::{Context, Event};
use crate::journal::Fact;
use crate::repo::catalog::{self, Catalog, Wanted};
use crate::repo::check::Problem;
use crate::repo::collect::protocol::PROTOCOL;
use crate::repo::collect::records::SeriesMemory;
use crate::repo::collect::survey::{self, Amount, Asked};
use crate::repo::collect::{Collector, Doomed, Fate, Previous, Survey, Swept};
use crate::repo::held::{self, Held};
use crate::repo::keys::Keyring;
use crate::repo::names::CONFIGURATION;
use crate::repo::pinned::{self, Pinned};
use crate::repo::point::Point;
use crate::repo::retention::Rules;
use crate::repo::sign::Trust;
use crate::repo::writer::{Writer, WriterInfo};
use crate::repo::{Repository, proof};
use jiff::Timestamp;
use plan::{Holds, Known, Plan, SourceRules, Wishes};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The points of one writer are pruned by one host, which may be another.
pub struct Prune<'a> {
    pub repository: &'a Repository,
    pub places: &'a Places,
    /// Who does it, and signs what is done.
    pub by: &'a Writer,
    pub whose: &'a WriterInfo,
    pub keys: &'a Keyring,
    pub trust: &'a Trust,
    pub policies: &'a [SourceRules],
    pub holds: &'a Holds,
    /// By source, the point that must stay because rehearsals of later ones failed; and why.
    pub passed: &'a BTreeMap<String, (String, String)>,
    pub wishes: Wishes,
    /// The part of the writer's bytes that one run may delete.
    pub max_delete: f64,
    /// What is missing was lost, and somebody knows.
    pub accept_missing: bool,
}

/// Everything a plan is made of.
pub struct Looked {
    catalog: Catalog,
    proofs: Proofs,
    words: Words,
    memory: BTreeMap<String, SeriesMemory>,
    damaged: BTreeSet<String>,
}

/// What people and hosts have said in the repository that is to stay.
struct Words {
    pinned: Pinned,
    held: Held,
}

/// What a prune did.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Why nothing was deleted: what is missing or cannot be read.
    pub problems: Vec<Problem>,
    /// `SOURCE/UTC-ID`.
    pub forgotten: Vec<String>,
    /// Points that a lock of the store keeps for now.
    pub locked_points: Vec<String>,
    /// Sessions that are not waited for any longer.
    pub fenced: Vec<String>,
    pub objects: Amount,
    /// What nothing reaches, of those.
    pub dead: Amount,
    pub swept: Swept,
    /// What users should know of.
    pub notes: Vec<String>,
}

impl Prune<'_> {
    fn collector<'b>(&'b self, context: Context<'b>) -> Collector<'b> {
        Collector {
            repository: self.repository,
            whose: self.whose,
            by: self.by,
            keys: self.keys,
            trust: self.trust,
            newest: self.places.newest(self.by, &self.whose.writer),
            whole: !self.places.is_copy(),
            protocol: PROTOCOL,
            cancel: context.cancel,
        }
    }

    /// Reads what there is to know. Writes nothing.
    pub fn look(&self, context: Context<'_>) -> Result<Looked> {
        let collector = self.collector(context);
        collector.check()?;
        let wanted = Wanted { writer: Some(&self.whose.writer), ..Wanted::default() };
        let damaged = damage::load(self.places).into_iter().flat_map(|found| found.points).collect();
        Ok(Looked {
            catalog: catalog::list(self.repository, self.keys, self.trust, wanted)?,
            proofs: proof::highest(self.repository, self.keys, self.trust, None)?,
            words: self.words()?,
            memory: collector.previous()?.map(|previous| previous.mark.series).unwrap_or_default(),
            damaged,
        })
    }

    fn words(&self) -> Result<Words> {
        Ok(Words {
            pinned: pinned::all(self.repository, self.keys, self.trust)?,
            held: held::of(self.repository, self.keys, self.trust, &self.whose.writer)?,
        })
    }

    pub fn plan(&self, looked: &Looked, now: Timestamp) -> Result<Plan> {
        self.plan_with(looked, &looked.words, now)
    }

    fn plan_with(&self, looked: &Looked, words: &Words, now: Timestamp) -> Result<Plan> {
        let known = Known {
            writer: &self.whose.writer,
            catalog: &looked.catalog,
            proofs: &looked.proofs,
            pinned: &words.pinned,
            memory: &looked.memory,
            passed: self.passed,
            damaged: &looked.damaged,
        };
        let mut holds = words.held.all();
        holds.extend(self.holds.clone());
        plan::plan(&known, self.policies, &holds, &self.wishes, now)
    }

    pub fn apply(&self, looked: &Looked, plan: &Plan, context: Context<'_>) -> Result<Outcome> {
        let _lock = self.places.lock_prune(&self.whose.writer)?;
        let phase = |phase| context.events.emit(&Event::Phase { source: self.whose.name.clone(), phase });
        let collector = self.collector(context);
        phase("survey");
        let now = collector.clock()?;
        let previous = collector.previous()?;
        let mut outcome = Outcome::default();
        let mut asked =
            Asked { previous: previous.as_ref(), known: &looked.catalog, now, accept_missing: self.accept_missing };
        let mut survey = survey::survey(&collector, asked)?;
        let doomed = self.doomed(looked, plan, &survey, previous.as_ref(), &mut outcome)?;
        if !self.goes_on(&survey, &doomed, &mut outcome) {
            return Ok(outcome);
        }
        if !doomed.is_empty() {
            phase("forget");
            for point in &doomed {
                let title = format!("{}/{}", point.source, point.point);
                match collector.forget(point, now)? {
                    Fate::Forgotten => outcome.forgotten.push(title),
                    Fate::Locked => outcome.locked_points.push(title),
                }
            }
            phase("survey");
            let known = std::mem::take(&mut survey.catalog);
            asked = Asked { known: &known, ..asked };
            survey = survey::survey(&collector, asked)?;
            if !self.goes_on(&survey, &[], &mut outcome) {
                return Ok(outcome);
            }
        }
        outcome.fenced = collector.fence(&survey)?;
        outcome.objects = survey.objects;
        survey.dead.iter().for_each(|entry| outcome.dead.add(entry.size));
        phase("mark");
        let (mark, dead) = collector.mark(&survey, previous.as_ref(), &plan.in_force())?;
        phase("delete");
        let limit = (survey.objects.bytes as f64 * self.max_delete) as u64;
        outcome.swept = collector.sweep(&survey, (&mark, &dead), limit, context.meter)?;
        Ok(outcome)
    }

    /// Nothing is deleted while something is missing that only the points which go now need.
    fn goes_on(&self, survey: &Survey, doomed: &[Doomed], outcome: &mut Outcome) -> bool {
        let goes = |title: &String| doomed.iter().any(|d| *title == format!("{}/{}", d.source, d.point));
        let of_doomed = |problem: &Problem| {
            let by_name = doomed.iter().any(|d| problem.object.ends_with(&format!("/points/{}/{}", d.source, d.point)));
            by_name || (!problem.points.is_empty() && problem.points.iter().all(goes))
        };
        outcome.problems = survey.problems.iter().filter(|problem| !of_doomed(problem)).cloned().collect();
        outcome.problems.is_empty()
    }

    /// What the plan deletes by both clocks, points that nobody must count on, and what was named by hand.
    fn doomed(
        &self,
        looked: &Looked,
        plan: &Plan,
        survey: &Survey,
        previous: Option<&Previous>,
        outcome: &mut Outcome,
    ) -> Result<Vec<Doomed>> {
        // A survey may take long: what was pinned or held meanwhile counts.
        let by_store = self.plan_with(looked, &self.words()?, survey.now)?;
        let agreed: BTreeSet<&str> = by_store.deleted().map(|(_, point)| point.point.as_str()).collect();
        let by_hand =
            |point: &str| self.wishes.forget.iter().any(|id| point == id || point.ends_with(&format!("-{id}")));
        let doubtful = previous.and_then(|previous| previous.doubts(survey.now));
        outcome.notes.extend(doubtful.map(|since| {
            format!("the clock of the store leapt since the last prune: no point is forgotten before a run a day after {since} confirms it")
        }));
        let mut doomed: Vec<Doomed> = plan
            .deleted()
            .filter(|(_, point)| agreed.contains(point.point.as_str()))
            .filter(|(_, point)| doubtful.is_none() || by_hand(&point.point))
            .map(|(series, point)| Doomed {
                source: series.source.clone(),
                point: point.point.clone(),
                sequence: Some(point.sequence),
                reason: point.reason.clone(),
            })
            .collect();
        doomed.extend(survey.void.iter().map(|point| void(point, outcome)));
        for (key, _) in looked.catalog.broken.iter().filter(|(key, _)| by_hand(key.last())) {
            if let Some((_, source, point)) = crate::repo::chain::parts(key) {
                let reason = "forgotten by hand; it could not be opened".to_owned();
                doomed.push(Doomed { source: source.to_owned(), point: point.to_owned(), sequence: None, reason });
            }
        }
        Ok(doomed)
    }
}

fn void(point: &Point, outcome: &mut Outcome) -> Doomed {
    outcome.notes.push(format!(
        "{}/{} was committed by a run that had been given up days before, and is not whole: it is forgotten",
        point.source, point.point
    ));
    Doomed {
        source: point.source.clone(),
        point: point.point.clone(),
        sequence: Some(point.sequence),
        reason: "committed by a session that was fenced".to_owned(),
    }
}

/// What was seen of the points of this host; nothing where something was missing, so that it is not known what there is.
pub fn seen(plan: &Plan, outcome: &Outcome) -> Option<Fact> {
    if !outcome.problems.is_empty() {
        return None;
    }
    let is_there = |series: &plan::SeriesPlan, point: &plan::PointPlan| {
        !outcome.forgotten.contains(&format!("{}/{}", series.source, point.point))
    };
    let oldest = |series: &plan::SeriesPlan| {
        let left = series.points.iter().filter(|point| is_there(series, point));
        Some((series.source.clone(), left.map(|point| point.consistent_at).min()?))
    };
    let bytes = outcome.objects.bytes.saturating_sub(outcome.swept.deleted.bytes);
    let objects = outcome.objects.number.saturating_sub(outcome.swept.deleted.number);
    Some(Fact::RepositorySeen { objects, bytes, oldest: plan.series.iter().filter_map(oldest).collect() })
}

/// What the journal is to know: which points went, and which rules are acted upon that were not before.
pub fn facts(looked: &Looked, plan: &Plan, outcome: &Outcome) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut changed = BTreeSet::new();
    let in_force = plan.in_force();
    for series in &plan.series {
        let gone = |point: &&plan::PointPlan| outcome.forgotten.contains(&format!("{}/{}", series.source, point.point));
        let gone: Vec<_> = series.points.iter().filter(gone).collect();
        if !gone.is_empty() {
            facts.push(Fact::PointsDeleted {
                source: series.source.clone(),
                points: gone.iter().map(|point| point.point.clone()).collect(),
                bytes: gone.iter().map(|point| point.bytes).sum(),
                why: series.keep.map(|keep| keep.to_string()),
            });
        }
        let before = looked.memory.get(&series.source).and_then(|memory| memory.rules);
        let now = in_force.get(&series.source).copied();
        let is_silent = series.source == CONFIGURATION || series.too_much;
        if let Some(policy) =
            series.policy.as_ref().filter(|_| outcome.problems.is_empty() && before != now && !is_silent)
            && changed.insert(policy)
        {
            let json = |rules: Option<Rules>| rules.and_then(|rules| serde_json::to_value(rules).ok());
            let by = series.shrink.as_ref().map(|_| "--confirm-shrink".to_owned());
            facts.push(Fact::RetentionChanged { policy: policy.clone(), from: json(before), to: json(now), by });
        }
    }
    facts
}
