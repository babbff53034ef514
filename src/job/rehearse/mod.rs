//! Rehearsals: a point is restored into a scratch target by the code that restores it in earnest, compared with what the source
//! held, asked the user's own questions, and taken down again.
//!
//! [`choose`] and [`plan`] decide without effects; [`Rehearse::run`] acts, and always comes to [`Findings`], which say how far the
//! point was proven whatever happened. No configured source comes in here: what is loaded into is made from a
//! [`Scratch`](crate::engine::Scratch), and the only thing that is known of the source is what the point says of it.

mod act;
mod findings;
mod measure;
mod probe;
mod shortage;
mod site;
mod starting;
pub mod turn;

pub use act::Rehearse;
pub use findings::Findings;

use crate::engine::{self, Part};
use crate::error::{Failure, Result};
use crate::job::restore;
use crate::journal::Chosen;
use crate::policy::Assertion;
use crate::repo::catalog::Catalog;
use crate::repo::point::Point;
use crate::repo::proof::Level;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// Which point of a source is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The newest as of now.
    Latest(Timestamp),
    At(Timestamp),
    Point(String),
    /// One of all that could still be restored, by this number.
    Random {
        now: Timestamp,
        seed: u64,
    },
}

impl Wanted {
    pub fn chosen(&self) -> Chosen {
        match self {
            Wanted::Latest(_) => Chosen::Latest,
            Wanted::At(_) | Wanted::Point(_) => Chosen::At,
            Wanted::Random { .. } => Chosen::Random,
        }
    }
}

/// What will be done.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub source: String,
    pub point: String,
    pub id: String,
    pub engine: String,
    pub consistent_at: Timestamp,
    pub bytes: u64,
    pub chosen: Chosen,
    /// What is to be reached.
    pub level: Level,
    /// The image of the source, which the scratch container is made of.
    pub image: Option<String>,
    pub assertions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub rto: Option<Duration>,
    pub steps: Vec<String>,
}

fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

/// Chooses the point. No effects.
pub fn choose<'c>(catalog: &'c Catalog, source: &str, own_writer: Option<&str>, wanted: &Wanted) -> Result<&'c Point> {
    let request = |wanted| restore::Request {
        source: Some(source.to_owned()),
        own_writer: own_writer.map(str::to_owned),
        wanted,
        part: Part::Whole,
    };
    match wanted {
        Wanted::Latest(now) => restore::choose(catalog, &request(restore::Wanted::Latest(*now))),
        Wanted::At(instant) => restore::choose(catalog, &request(restore::Wanted::At(*instant))),
        Wanted::Point(id) => restore::choose(catalog, &request(restore::Wanted::Point(id.clone()))),
        Wanted::Random { now, seed } => {
            let latest = restore::choose(catalog, &request(restore::Wanted::Latest(*now)))?;
            let same = |p: &&Point| p.source == latest.source && p.writer == latest.writer && p.consistent_at <= *now;
            let mut all: Vec<&Point> = catalog.points.iter().filter(same).filter(|p| !p.is_safety()).collect();
            all.sort_by_key(|p| (p.consistent_at, p.sequence));
            let at = usize::try_from(seed % all.len().max(1) as u64).unwrap_or_default();
            Ok(all.get(at).copied().unwrap_or(latest))
        }
    }
}

/// Decides what is done with a point. `level` is what the policy or the user wants: of a kind that cannot be loaded anywhere it
/// is cut down to what can be had, and without assertions nothing can be checked.
pub fn plan(
    point: &Point,
    chosen: Chosen,
    level: Level,
    assertions: &[Assertion],
    rto: Option<Duration>,
) -> Result<Plan> {
    if level == Level::Stored {
        return Err(Failure::usage("to read the bytes of points again is a check, not a rehearsal").hint("bkp check"));
    }
    let can_be_loaded = engine::rehearsable(&point.engine.kind).is_some();
    let most = match (can_be_loaded, assertions.is_empty()) {
        (false, _) => Level::Readable,
        (true, true) => Level::Equal,
        (true, false) => Level::Checked,
    };
    // Who wants equality and has assertions wants them to hold.
    let level = if level == Level::Equal { most } else { level.min(most) };
    let image = point.engine.image.as_ref().map(|image| image.digest.clone());
    let mut plan = Plan {
        source: point.source.clone(),
        point: point.point.clone(),
        id: point.id().to_owned(),
        engine: point.engine.kind.clone(),
        consistent_at: point.consistent_at,
        bytes: point.bytes,
        chosen,
        level,
        image,
        assertions: if level == Level::Checked {
            assertions.iter().map(|a| a.name.clone()).collect()
        } else {
            Vec::new()
        },
        rto,
        steps: Vec::new(),
    };
    plan.steps = steps(&plan);
    Ok(plan)
}

fn steps(plan: &Plan) -> Vec<String> {
    let mut steps = vec![format!("open point {} and check that its writer signed it", plan.id)];
    if plan.level == Level::Readable {
        steps.push("read all of it, decrypted and decoded, to its end".into());
        return steps;
    }
    steps.push(match (plan.engine.as_str(), &plan.image) {
        ("sqlite" | "volume", _) => "make a private scratch directory".to_owned(),
        (_, Some(image)) => {
            format!("start a scratch container of {image}: no network, no published port, limited memory")
        }
        (_, None) => "start a scratch server of its own".to_owned(),
    });
    steps.push("restore all of it there, as a real restore would".into());
    if plan.level >= Level::Equal {
        steps.push("compare with what the source held when it was dumped".into());
    }
    if !plan.assertions.is_empty() {
        steps.push(format!("check: {}", plan.assertions.join(", ")));
    }
    steps.push("remove the scratch target".into());
    steps
}
