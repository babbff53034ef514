//! `bkp show`: everything about one point. What only restorers may read is shown when an identity was given.
//! Also how commands find the point that was named.

use super::environment::{Access, Environment};
use super::format::{age, instant, size};
use super::globals::FromCopy;
use super::output::{pairs, plain};
use super::points::{self, view};
use super::status::said_of;
use super::{Ran, format};
use crate::error::{Failure, Result};
use crate::job::status::Storage;
use crate::repo::catalog::Catalog;
use crate::repo::point::{Body, Point, Stream};
use crate::repo::read::PointReader;
use crate::repo::{Repository, proof};
use jiff::Timestamp;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  bkp show 4f3a9c1e\n  bkp show mysql-auth                      its newest point\n  bkp show 4f3a9c1e --identity recovery-key.txt --json"
)]
pub struct Arguments {
    /// A point, or a source for its newest point
    #[arg(value_name = "POINT")]
    point: String,
    #[command(flatten)]
    from: FromCopy,
}

/// The point that `text` names: an id, the beginning of one, `SOURCE/UTC-ID`, or a source for its newest.
pub fn find<'c>(catalog: &'c Catalog, text: &str, now: Timestamp) -> Result<&'c Point> {
    let latest = catalog.latest(text, None, now);
    if let Some(point) = latest.or_else(|| catalog.newest(text, None, Timestamp::MAX)) {
        return Ok(point);
    }
    let id = text.rsplit_once('/').map_or(text, |(_, id)| id);
    catalog.by_id(id).map_err(|failure| unknown(catalog, text, failure))
}

/// Says what was meant, when a source has nearly that name.
pub fn unknown(catalog: &Catalog, text: &str, failure: Failure) -> Failure {
    let mut sources: Vec<&str> = catalog.points.iter().map(|p| p.source.as_str()).collect();
    sources.dedup();
    let near = crate::policy::did_you_mean(text, sources.iter().copied());
    if near.is_empty() {
        return failure;
    }
    Failure::usage(format!("there is no point or source {text}{near}")).hint("List them with: bkp points")
}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let repository = env.repository_or(self.from.from.as_deref())?;
        let access = env.listing(&repository)?;
        let catalog = points::read_for(env, &repository, &access, &self.point)?;
        let point = find(&catalog, &self.point, env.now)?;
        env.reads(point);
        let proofs = proof::highest(&repository, &access.keys, &access.trust, Some(&point.source))?;
        let body = match access.operator.is_some() {
            true => Some(PointReader::open(&repository, point, &access.keys_for(point), &env.cancel)?.body),
            false => None,
        };
        let zone = env.zone()?;
        let view = view(point, &proofs, zone, env.now);
        let document = serde_json::json!({
            "point": view,
            "previous": point.previous.as_ref().map(|p| &p.point),
            "sequence": point.sequence,
            "started_at": point.started_at,
            "written_at": point.written_at,
            "bkp": point.bkp,
            "epoch": point.epoch,
            "image": point.engine.image,
            "storage": Storage::of(point),
            "stream_list": point.streams,
            "tree": point.tree,
            "body": body.as_ref().map(body_document),
        });
        env.output.answer(&document, || text(env, &repository, &access, point, &view, body.as_ref()))?;
        if body.is_none() && !env.output.json {
            env.output.note("\nWarnings, counts and how to restore by hand are shown with --identity.");
        }
        Ok(None)
    }
}

fn body_document(body: &Body) -> serde_json::Value {
    serde_json::json!({
        "source_location": body.source_location,
        "inventory": body.inventory,
        "fingerprint": body.fingerprint,
        "warning_texts": body.warnings,
        "notes": body.notes,
        "restore": body.restore,
        "credentials": body.credentials,
    })
}

fn in_chunks(stream: &Stream) -> &'static str {
    if stream.index.is_some() { ", deduplicated" } else { "" }
}

fn text(
    env: &Environment,
    repository: &Repository,
    access: &Access,
    point: &Point,
    view: &points::PointView,
    body: Option<&Body>,
) -> String {
    let zone = env.zone().cloned().unwrap_or(jiff::tz::TimeZone::UTC);
    let signed = match access.trust.pinned.contains_key(&point.writer) {
        true => "signed by a writer known here",
        false => "signed by a writer that only the store vouches for",
    };
    let proof = match (view.level, view.proven_at) {
        (Some(level), Some(at)) => format!("{}, {}", level.name(), instant(at, &zone)),
        _ => "written; not read again yet (bkp check)".to_owned(),
    };
    let mut rows = vec![
        ("point", format!("{}  ({})", point.id(), point.point)),
        ("source", format!("{}  ({} {})", point.source, point.engine.kind, plain(&point.engine.version))),
        ("stands for", format!("{}  ({})", instant(point.consistent_at, &zone), age(view.age_seconds))),
        ("utc", format::utc(point.consistent_at)),
        ("repository", repository.store.describe()),
        ("host", format!("{}, bkp {}", plain(&point.host), plain(&point.bkp))),
        ("writer", format!("{}  {signed}", point.writer)),
        ("size", format!("{}, {} new", size(point.bytes), size(point.added))),
        ("proof", proof),
        ("warnings", point.warnings.to_string()),
    ];
    if let Some(image) = &point.engine.image {
        rows.push(("image", format!("{}  {}", plain(&image.name), plain(&image.digest))));
    }
    if point.is_safety() {
        rows.push(("purpose", "safety backup: the source just before a restore replaced it".to_owned()));
    }
    if let Some(storage) = Storage::of(point) {
        rows.push(("storage", said_of(&storage)));
    }
    for stream in &point.streams {
        rows.push(("stream", format!("{}  {}{}", plain(&stream.name), size(stream.bytes), in_chunks(stream))));
    }
    if let Some(tree) = &point.tree {
        rows.push(("tree", format!("{} entries, {}", tree.entries, size(tree.bytes))));
    }
    if let Some(body) = body {
        rows.push(("location", plain(&body.source_location)));
        for (what, number) in &body.inventory {
            rows.push(("counted", format!("{} {}", number, plain(what))));
        }
        rows.extend(body.warnings.iter().map(|w| ("warning", plain(w))));
        rows.extend(body.notes.iter().map(|n| ("note", plain(n))));
        rows.push(("by hand", body.restore.lines().map(plain).collect::<Vec<_>>().join("\n")));
    }
    pairs(&rows)
}
