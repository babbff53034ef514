//! `bkp points`: the backups there are. Also how every command reads the catalogue.

use super::Ran;
use super::environment::{Access, Environment};
use super::format::{age, count, instant, size};
use super::globals::FromCopy;
use super::output::table;
use crate::error::{Kind, Result};
use crate::job::status::Proofs;
use crate::repo::catalog::{self, Broken, Catalog, Wanted};
use crate::repo::listing::{self, Asked, Listing, Summary};
use crate::repo::point::SAFETY;
use crate::repo::{Repository, names, proof};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  bkp points\n  bkp points --source mysql-auth\n  bkp points --all --json")]
pub struct Arguments {
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// All points, and not only the newest ten of each source
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    from: FromCopy,
}

const SHOWN: usize = 10;

/// A point as `--json` shows it everywhere.
#[derive(Serialize)]
pub struct PointView {
    pub id: String,
    pub point: String,
    pub source: String,
    pub engine: String,
    pub engine_version: String,
    pub writer: String,
    pub host: String,
    pub consistent_at: jiff::Timestamp,
    pub consistent_at_local: String,
    pub age_seconds: i64,
    pub bytes: u64,
    pub added_bytes: u64,
    pub entries: Option<u64>,
    pub streams: Vec<String>,
    pub warnings: u64,
    /// `safety`: what the source was just before a restore replaced it.
    pub purpose: Option<String>,
    pub level: Option<proof::Level>,
    pub proven_at: Option<jiff::Timestamp>,
}

pub fn view(point: impl Into<Summary>, proofs: &Proofs, zone: &TimeZone, now: jiff::Timestamp) -> PointView {
    let point = point.into();
    let proven = proofs.get(&point.point);
    PointView {
        id: names::short_id(&point.point).to_owned(),
        consistent_at_local: instant(point.consistent_at, zone),
        age_seconds: now.duration_since(point.consistent_at).as_secs(),
        level: proven.map(|(level, _)| *level),
        proven_at: proven.map(|(_, at)| *at),
        point: point.point,
        source: point.source,
        engine: point.engine,
        engine_version: point.engine_version,
        writer: point.writer,
        host: point.host,
        consistent_at: point.consistent_at,
        bytes: point.bytes,
        added_bytes: point.added,
        entries: point.entries,
        streams: point.streams,
        warnings: point.warnings,
        purpose: point.purpose,
    }
}

/// Reads the catalogue and tells what users must know of it: writers that only the store vouches for, points that are broken.
pub fn read(env: &Environment, repository: &Repository, access: &Access, wanted: Wanted<'_>) -> Result<Catalog> {
    let own = access.writer.as_ref().map(|w| w.id()).filter(|_| access.operator.is_none());
    let catalog = catalog::list(repository, &access.keys, &access.trust, Wanted { writer: own, ..wanted })?;
    warn(env, access, &catalog.unpinned, &catalog.broken);
    Ok(catalog)
}

fn warn(env: &Environment, access: &Access, unpinned: &BTreeMap<String, String>, broken: &Broken) {
    let passed_over = !access.trust.pinned.is_empty();
    for (writer, key) in unpinned {
        let what = if passed_over { "its points are passed over" } else { "compare its key with your notes" };
        env.output.warn(&format!(
            "only the store vouches for writer {writer}; {what}: {key}\n  \
             If it is yours, add the line `# bkp-writer: {writer} {key}` to the identity file"
        ));
    }
    for (key, failure) in broken {
        env.output.warn(&format!("{key}: {}", failure.full()));
    }
}

/// The points among which `text` names one: those of a source of that name, or those with that id; all of them when it is
/// neither, so that it can be told what may have been meant.
pub fn read_for(env: &Environment, repository: &Repository, access: &Access, text: &str) -> Result<Catalog> {
    if names::check_source(text).is_ok() {
        let catalog = read(env, repository, access, Wanted { source: Some(text), ..Wanted::default() })?;
        if !catalog.points.is_empty() {
            return Ok(catalog);
        }
    }
    let id = text.rsplit_once('/').map_or(text, |(_, id)| id);
    let catalog = read(env, repository, access, Wanted { id: Some(id), ..Wanted::default() })?;
    if !catalog.points.is_empty() || !catalog.broken.is_empty() {
        return Ok(catalog);
    }
    read(env, repository, access, Wanted::default())
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository_or(self.from.from.as_deref())?;
        let access = env.listing(&repository)?;
        let source = self.source.as_deref();
        let own = access.writer.as_ref().map(|w| w.id()).filter(|_| access.operator.is_none());
        let places = env.places(&repository)?;
        let places =
            self.from.from.as_deref().filter(|_| self.from.is_copy()).map_or(places.clone(), |c| places.of_copy(c));
        // What only an operator can open is not left behind.
        let remember = own.map(|_| places.listings());
        let newest = (!self.all).then_some(SHOWN);
        let asked = Asked { source, writer: own, newest, remember: remember.as_deref() };
        let Listing { mut points, proofs, total, broken, unpinned } =
            listing::list(&repository, &access.keys, &access.trust, asked)?;
        warn(env, &access, &unpinned, &broken);
        points.sort_by(|a, b| (&a.source, b.consistent_at, b.sequence).cmp(&(&b.source, a.consistent_at, a.sequence)));
        if !self.all {
            // Several writers may have a source of the same name.
            let mut of = (String::new(), 0);
            points.retain(|point| {
                of = if of.0 == point.source { (of.0.clone(), of.1 + 1) } else { (point.source.clone(), 1) };
                of.1 <= SHOWN
            });
        }
        let zone = env.zone()?;
        let views: Vec<_> = points.into_iter().map(|p| view(p, &proofs, zone, env.now)).collect();
        let document = serde_json::json!({ "points": views, "total": total });
        env.output.answer(&document, || listing(&views))?;
        if views.is_empty() && !env.output.json {
            env.output.note(&match source {
                Some(source) => format!("there is no point of {source} yet"),
                None => "there is no point yet; make one with: bkp backup".to_owned(),
            });
        } else if views.len() < total && !env.output.json {
            env.output.note(&format!("… and {}: --all shows them", count(total - views.len(), "older point")));
        }
        Ok((!broken.is_empty()).then_some(Kind::Verification))
    }
}

fn remarks(view: &PointView) -> String {
    let safety = (view.purpose.as_deref() == Some(SAFETY)).then(|| "safety backup".to_owned());
    let warnings = (view.warnings > 0).then(|| count(view.warnings as usize, "warning"));
    safety.into_iter().chain(warnings).collect::<Vec<_>>().join(", ")
}

fn listing(views: &[PointView]) -> String {
    if views.is_empty() {
        return String::new();
    }
    let row = |view: &PointView| {
        vec![
            view.source.clone(),
            view.id.to_owned(),
            view.consistent_at_local.clone(),
            age(view.age_seconds),
            size(view.bytes),
            size(view.added_bytes),
            view.level.map_or("written", |l| l.name()).to_owned(),
            remarks(view),
        ]
    };
    table(&["SOURCE", "POINT", "INSTANT", "AGE>", "SIZE>", "NEW>", "PROOF", ""], views.iter().map(row))
}
