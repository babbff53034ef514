//! Restores: first a plan, which is a pure decision with a hash, then the act, which does exactly that.
//!
//! A restore goes to a new place unless the source itself was named ([`Confirmed`]), and then a safety backup of what is
//! there comes first. The hash covers what will be done and not when it was asked, so that a plan made with `--dry-run`
//! can be run later, and is refused when the same words would do something else by then.

mod act;

pub use act::{Restore, Restored, not_confirmed, to_be_stopped};

use crate::engine::{Naming, Part};
use crate::error::{Failure, Kind, Result};
use crate::policy::{path_text, serialize_path};
use crate::repo::catalog::Catalog;
use crate::repo::names;
use crate::repo::point::Point;
use jiff::Timestamp;
use serde::Serialize;
use serde::ser::SerializeMap;
use std::path::{Path, PathBuf};

/// Which point is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The newest backup of the source as of this instant, which is now: no safety backup, none from the future.
    Latest(Timestamp),
    /// The newest of the source whose data stands for an instant not after this one.
    At(Timestamp),
    /// This one, by its id or the beginning of it.
    Point(String),
}

/// Where the data goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "place", rename_all = "snake_case")]
pub enum Destination {
    /// A path where nothing is yet.
    New(#[serde(serialize_with = "serialize_path")] PathBuf),
    /// A Docker volume that does not exist yet.
    NewVolume(String),
    /// Databases in a server, under names that nobody has.
    NewDatabases { server: String, naming: Naming },
    /// The source itself, replaced.
    InPlace(String),
    /// Standard input of the source's own restore command.
    Command,
}

impl Destination {
    /// Users of the point come along into a server.
    pub fn takes_accounts(&self) -> bool {
        matches!(self, Destination::InPlace(_) | Destination::NewDatabases { naming: Naming::Same, .. })
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub source: Option<String>,
    /// This host as a writer: its own points go before those of other hosts with a source of the same name.
    pub own_writer: Option<String>,
    pub wanted: Wanted,
    pub part: Part,
}

/// What will be done: the part of a plan that its hash covers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Act {
    pub repository: String,
    pub source: String,
    pub point: String,
    pub engine: String,
    #[serde(flatten, serialize_with = "serialize_part")]
    pub part: Part,
    pub target: Destination,
    /// Containers that are stopped before the first step and started after the last.
    pub stopped: Vec<String>,
    pub safety_backup: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub hash: String,
    #[serde(flatten)]
    pub act: Act,
    /// The id people type.
    pub id: String,
    /// Who wrote the point: several hosts may have a source of this name.
    pub host: String,
    pub writer: String,
    /// The instant that was asked for; absent when a point was named.
    pub requested_at: Option<Timestamp>,
    /// The instant that will be reached.
    pub resolved_at: Timestamp,
    /// From the instant that will be reached to the one that was asked for: what was written in between is lost.
    pub loss_seconds: i64,
    pub bytes: u64,
    pub warnings: u64,
    /// The point is what the source was just before an earlier restore in place.
    pub safety_point: bool,
    pub overwrites: bool,
    pub steps: Vec<String>,
}

/// Chooses the point. No effects.
pub fn choose<'c>(catalog: &'c Catalog, request: &Request) -> Result<&'c Point> {
    let of_source = |p: &&Point| request.source.as_ref().is_none_or(|s| p.source == *s);
    match &request.wanted {
        Wanted::Point(id) => {
            let point = catalog.by_id(id)?;
            if !of_source(&point) {
                return Err(Failure::usage(format!("point {} is of source {}", point.id(), point.source)));
            }
            Ok(point)
        }
        Wanted::Latest(now) => {
            let (source, writer) = series(catalog, request)?;
            catalog.latest(source, writer, *now).ok_or_else(|| nothing_usual(catalog, source, *now))
        }
        Wanted::At(instant) => {
            let (source, writer) = series(catalog, request)?;
            catalog.newest(source, writer, to_its_end(*instant)).ok_or_else(|| too_early(catalog, source, *instant))
        }
    }
}

fn series<'c>(catalog: &'c Catalog, request: &'c Request) -> Result<(&'c str, Option<&'c str>)> {
    let source = request.source.as_deref().ok_or_else(|| Failure::usage("no source was named"))?;
    Ok((source, the_writer(catalog, source, request.own_writer.as_deref())?))
}

/// Points of the same series that are newer than the one that was chosen as the latest, with the reason.
pub fn passed_over<'c>(catalog: &'c Catalog, request: &Request, chosen: &Point) -> Vec<(&'c Point, &'static str)> {
    let Wanted::Latest(_) = request.wanted else { return Vec::new() };
    let newer =
        |p: &&Point| p.source == chosen.source && p.writer == chosen.writer && p.consistent_at > chosen.consistent_at;
    let why = |p: &Point| if p.is_safety() { "it is a safety backup" } else { "it is from the future" };
    catalog.points.iter().filter(newer).map(|p| (p, why(p))).collect()
}

fn nothing_usual(catalog: &Catalog, source: &str, now: Timestamp) -> Failure {
    match catalog.newest(source, None, Timestamp::MAX) {
        Some(point) => Failure::failed(format!(
            "every point of {source} is a safety backup, or from after {}, which is now",
            seconds(now)
        ))
        .hint(format!("Look at the clock of this host; or name the point: --at {}", point.id())),
        None => too_early(catalog, source, now),
    }
}

/// Instants are shown, and typed, in whole seconds: a second includes what happened within it.
fn to_its_end(instant: Timestamp) -> Timestamp {
    let rest = if instant.subsec_nanosecond() == 0 { 999_999_999 } else { 0 };
    instant.checked_add(jiff::SignedDuration::from_nanos(rest)).unwrap_or(instant)
}

/// Whose points are meant: several hosts may have a source of the same name, and their data must not be mixed.
fn the_writer<'c>(catalog: &'c Catalog, source: &str, own: Option<&str>) -> Result<Option<&'c str>> {
    let mut writers: Vec<(&str, &str)> =
        catalog.points.iter().filter(|p| p.source == source).map(|p| (p.writer.as_str(), p.host.as_str())).collect();
    writers.sort_unstable();
    writers.dedup_by_key(|(writer, _)| *writer);
    match writers[..] {
        [] | [_] => Ok(None),
        _ => match writers.iter().find(|(writer, _)| Some(*writer) == own) {
            Some((writer, _)) => Ok(Some(*writer)),
            None => {
                let hosts: Vec<_> = writers.iter().map(|(_, host)| *host).collect();
                Err(Failure::usage(format!("several hosts have a source {source}: {}", hosts.join(", ")))
                    .hint("Name the point instead: bkp points lists them"))
            }
        },
    }
}

fn too_early(catalog: &Catalog, source: &str, instant: Timestamp) -> Failure {
    let oldest = catalog.points.iter().filter(|p| p.source == source).min_by_key(|p| p.consistent_at);
    match oldest {
        Some(point) => Failure::failed(format!("no point of {source} is as old as {}", seconds(instant)))
            .hint(format!("The oldest one stands for {}: --at {}", seconds(point.consistent_at), point.id())),
        None => Failure::failed(format!("there is no point of {source}")).hint("List what there is with: bkp points"),
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Decides everything about a restore of `point`, during which `stopped` stand still. No effects; `now` is only used to tell how
/// much is lost.
pub fn plan(point: &Point, request: &Request, target: Destination, stopped: Vec<String>, now: Timestamp) -> Plan {
    let in_place = matches!(target, Destination::InPlace(_));
    let act = Act {
        repository: point.repository.clone(),
        source: point.source.clone(),
        point: point.point.clone(),
        engine: point.engine.kind.clone(),
        part: request.part.clone(),
        target,
        stopped,
        safety_backup: in_place,
    };
    let requested_at = match request.wanted {
        Wanted::At(instant) | Wanted::Latest(instant) => Some(instant.min(now)),
        Wanted::Point(_) => None,
    };
    let reference = requested_at.unwrap_or(point.consistent_at);
    Plan {
        hash: hash(&act),
        steps: steps(&act),
        id: point.id().to_owned(),
        host: point.host.clone(),
        writer: point.writer.clone(),
        requested_at,
        resolved_at: point.consistent_at,
        loss_seconds: reference.duration_since(point.consistent_at).as_secs(),
        bytes: point.bytes,
        warnings: point.warnings,
        safety_point: point.is_safety(),
        overwrites: in_place,
        act,
    }
}

fn steps(act: &Act) -> Vec<String> {
    let id = names::short_id(&act.point);
    let mut steps = vec![format!("open point {id} and check that its writer signed it")];
    if !act.stopped.is_empty() {
        steps.push(format!("stop the containers that write there: {}", act.stopped.join(", ")));
    }
    if act.safety_backup {
        steps.push(format!("back up {} as it is now (safety backup)", act.source));
    }
    let part = match &act.part {
        Part::Whole => "all of it".to_owned(),
        Part::Path(path) => path.display().to_string(),
        Part::Database(database) => format!("database {database}"),
        Part::Table { database, table } => format!("{table} of database {database}"),
    };
    steps.push(match &act.target {
        Destination::New(path) => format!("write {part} into the new {}", path.display()),
        Destination::NewVolume(name) => format!("write {part} into the new volume {name}"),
        Destination::NewDatabases { server, naming } => match naming {
            Naming::Same => format!("load {part} into {server}, where none of it may be yet, with users and grants"),
            Naming::Suffix(suffix) => {
                format!("load {part} into {server} as new databases, named with {suffix} at the end")
            }
            Naming::As(name) => format!("load {part} into {server} as the new database {name}"),
        },
        Destination::InPlace(location) => format!("replace {location} with {part} of the point"),
        Destination::Command => format!("feed {part} to the restore command of {}", act.source),
    });
    steps.push("compare every byte with what was signed before the last step makes it live".into());
    if !act.stopped.is_empty() {
        steps.push("start those containers again".into());
    }
    steps
}

/// Keys of its own for each kind of part; `path` is always there.
fn serialize_part<S: serde::Serializer>(part: &Part, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let (mut path, mut names) = (None, Vec::new());
    match part {
        Part::Whole => {}
        Part::Path(wanted) => path = Some(path_text(wanted)),
        Part::Database(database) => names.push(("database", database)),
        Part::Table { database, table } => names.extend([("database", database), ("table", table)]),
    }
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("path", &path)?;
    for (key, name) in names {
        map.serialize_entry(key, name)?;
    }
    map.end()
}

/// 12 hexadecimal digits that stand for an act.
fn hash(act: &Act) -> String {
    let canonical = serde_json::to_vec(act).expect("an act is plain data");
    hex::encode(&names::sha256(&canonical)[..6])
}

impl Plan {
    /// Refuses unless this is the plan that was looked at.
    pub fn must_be(&self, expected: Option<&str>) -> Result<()> {
        match expected {
            Some(hash) if hash != self.hash => {
                Err(Failure::new(Kind::Refused, format!("this would be plan {}, not {hash}", self.hash))
                    .hint("Something changed since, or other options were given. Look again with --dry-run"))
            }
            _ => Ok(()),
        }
    }
}

/// Where a restore goes when nothing was said: beside the source when that is on this host, else in `fallback`.
pub fn default_target(location: &Path, point: &Point, fallback: &Path) -> PathBuf {
    let here = location.parent().filter(|parent| location.is_absolute() && parent.is_dir()).unwrap_or(fallback);
    let stamp = names::utc(point.consistent_at);
    let part = |text: Option<&std::ffi::OsStr>| text.map(|t| t.to_string_lossy().into_owned());
    let is_file = point.engine.kind != "volume";
    let stem = if is_file { location.file_stem() } else { location.file_name() };
    let stem = part(stem).unwrap_or_else(|| point.source.clone());
    match part(location.extension()).filter(|_| is_file) {
        Some(extension) => here.join(format!("{stem}_restore_{stamp}.{extension}")),
        None => here.join(format!("{stem}_restore_{stamp}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::repo::point::{EngineInfo, Pin};
    use crate::store::Key;

    pub(crate) fn point(id: &str, consistent_at: &str) -> Point {
        let at: Timestamp = consistent_at.parse().unwrap();
        Point {
            format: 1,
            repository: "r".into(),
            writer: "w".into(),
            source: "app".into(),
            point: format!("{}-{id}", names::utc(at)),
            sequence: 1,
            previous: None,
            engine: EngineInfo { kind: "sqlite".into(), version: "3".into(), image: None },
            started_at: at,
            consistent_at: at,
            written_at: at,
            host: "h".into(),
            bkp: "0".into(),
            epoch: 1,
            list: 1,
            epoch_key: String::new(),
            epoch_recipient: String::new(),
            streams: vec![],
            tree: None,
            body: Pin { key: Key::new("w/w/b/x").unwrap(), sha256: [0; 32], size: 0 },
            bytes: 10,
            added: 10,
            warnings: 0,
            stack: None,
            purpose: None,
            session: None,
            costs: vec![],
        }
    }

    fn catalog() -> Catalog {
        let points = vec![
            point("00000001", "2026-01-01T00:00:00Z"),
            point("00000002", "2026-01-02T00:00:00Z"),
            point("00000003", "2026-01-03T00:00:00Z"),
        ];
        Catalog { points, ..Catalog::default() }
    }

    fn at(instant: &str) -> Request {
        Request {
            source: Some("app".into()),
            own_writer: None,
            wanted: Wanted::At(instant.parse().unwrap()),
            part: Part::Whole,
        }
    }

    #[test]
    fn the_newest_point_not_after_the_instant_is_chosen() {
        let catalog = catalog();
        let chosen = |instant| choose(&catalog, &at(instant)).map(|p| p.id().to_owned());
        assert_eq!(chosen("2026-01-02T12:00:00Z").unwrap(), "00000002");
        assert_eq!(chosen("2026-01-02T00:00:00Z").unwrap(), "00000002");
        assert_eq!(chosen("2027-01-01T00:00:00Z").unwrap(), "00000003");
        let within_the_second =
            Catalog { points: vec![point("00000004", "2026-01-02T00:00:00.9Z")], ..Catalog::default() };
        assert_eq!(choose(&within_the_second, &at("2026-01-02T00:00:00Z")).unwrap().id(), "00000004", "as it is shown");
        assert!(choose(&within_the_second, &at("2026-01-02T00:00:00.8Z")).is_err());
        let early = chosen("2025-01-01T00:00:00Z").unwrap_err();
        assert!(early.next_step().unwrap().contains("00000001"), "{early:?}");
    }

    #[test]
    fn the_latest_is_neither_a_safety_backup_nor_from_the_future() {
        let mut catalog = catalog();
        let safety = Some(crate::repo::point::SAFETY.to_owned());
        catalog.points.push(Point { purpose: safety, ..point("00000006", "2026-01-03T12:00:00Z") });
        catalog.points.push(point("00000007", "2030-01-01T00:00:00Z"));
        let now = "2026-01-04T00:00:00Z".parse().unwrap();
        let latest = Request { wanted: Wanted::Latest(now), ..at("2026-01-04T00:00:00Z") };
        let chosen = choose(&catalog, &latest).unwrap();
        assert_eq!(chosen.id(), "00000003");
        let over: Vec<_> = passed_over(&catalog, &latest, chosen).into_iter().map(|(p, _)| p.id()).collect();
        assert_eq!(over, ["00000006", "00000007"]);
        // Whoever asks for that instant gets what the source was then.
        assert_eq!(choose(&catalog, &at("2026-01-03T13:00:00Z")).unwrap().id(), "00000006");
    }

    #[test]
    fn hosts_with_sources_of_the_same_name_are_not_mixed() {
        let mut catalog = catalog();
        catalog.points.push(Point {
            writer: "v".into(),
            host: "web-2".into(),
            ..point("00000005", "2026-01-04T00:00:00Z")
        });
        let refused = choose(&catalog, &at("2027-01-01T00:00:00Z")).unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
        let own = Request { own_writer: Some("w".into()), ..at("2027-01-01T00:00:00Z") };
        assert_eq!(choose(&catalog, &own).unwrap().id(), "00000003");
    }

    #[test]
    fn the_loss_is_told_and_the_hash_is_about_the_act_alone() {
        let catalog = catalog();
        let now = "2026-01-05T00:00:00Z".parse().unwrap();
        let new = || Destination::New("/srv/x".into());
        let make = |instant, target| {
            let request = at(instant);
            plan(choose(&catalog, &request).unwrap(), &request, target, Vec::new(), now)
        };
        let one = make("2026-01-02T12:00:00Z", new());
        assert_eq!(one.loss_seconds, 12 * 3600);
        assert_eq!(make("2026-01-02T13:00:00Z", new()).hash, one.hash);
        assert_ne!(make("2026-01-03T13:00:00Z", new()).hash, one.hash);
        let live = make("2026-01-02T12:00:00Z", Destination::InPlace("/srv/app.db".into()));
        assert_ne!(live.hash, one.hash);
        assert!(live.overwrites && live.act.safety_backup && !one.overwrites);
        assert_eq!(one.must_be(Some("000000000000")).unwrap_err().kind(), Kind::Refused);
        one.must_be(Some(&one.hash)).unwrap();
    }

    #[test]
    fn the_default_target_is_beside_the_source() {
        let here = tempfile::tempdir().unwrap();
        let p = point("00000001", "2026-01-01T00:00:00Z");
        let target = default_target(&here.path().join("app.db"), &p, Path::new("/fallback"));
        assert_eq!(target, here.path().join("app_restore_20260101T000000Z.db"));
        let target = default_target(Path::new("/no/such/app.db"), &p, Path::new("/fallback"));
        assert_eq!(target, Path::new("/fallback/app_restore_20260101T000000Z.db"));
    }
}
