//! A host whose backups were made over the last weeks.
//!
//! The points are written by the library, as the program would have written them at those instants; the store is a directory,
//! whose clock is that of its files, so that time passes for it when the files grow older.

use crate::support::host::{Answer, Host};
use bkp::event::Cancel;
use bkp::repo::Repository;
use bkp::repo::point::{Body, EngineInfo, Layout, Point};
use bkp::repo::proof::{self, Level};
use bkp::repo::write::{Draft, Options, Session};
use bkp::repo::writer::Writer;
use bkp::store::{self, Location, Settings};
use jiff::{SignedDuration, Timestamp};
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub struct Past {
    pub host: Host,
    pub repository: Repository,
    pub writer: Writer,
}

/// What a backup of a source looks like in the store.
#[derive(Clone, Copy)]
pub struct Kind {
    pub source: &'static str,
    pub layout: Layout,
    pub safety: bool,
}

pub const STREAM: Kind = Kind { source: "app", layout: Layout::Stream, safety: false };
pub const CHUNKS: Kind = Kind { source: "log", layout: Layout::Dedup, safety: false };

/// The beginning of the current second, so many hours ago.
pub fn ago(hours: i64) -> Timestamp {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    now - SignedDuration::from_hours(hours)
}

/// What was dumped at an instant: mostly the same, and something of its own.
pub fn data(at: Timestamp) -> Vec<u8> {
    let mut bytes = vec![0; 300_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.extend_from_slice(at.to_string().repeat(3000).as_bytes());
    bytes
}

impl Past {
    /// Policy `all` with this `keep`, and the sources that [`STREAM`] and [`CHUNKS`] name.
    pub fn new(keep: &str) -> Past {
        let past = Past::on(Host::new());
        past.keep(keep);
        past
    }

    pub fn on(host: Host) -> Past {
        let repository = open(&host);
        let writer = Writer::load(&host.path("state"), repository.id()).unwrap().unwrap();
        Past { host, repository, writer }
    }

    pub fn keep(&self, keep: &str) {
        let source = |name: &str| format!("  {name}: {{ command: {{ run: [\"cat\", \"/dev/null\"] }} }}\n");
        let text = format!("policy: all\nkeep: {keep}\nsources:\n{}{}", source("app"), source("log"));
        std::fs::write(self.host.path("etc/policies.d/all.yaml"), text).unwrap();
    }

    pub fn options(&self, kind: Kind) -> Options {
        Options { layout: kind.layout, ..Options::default() }
    }

    /// A backup that was made then.
    pub fn back_up(&self, kind: Kind, at: Timestamp) -> Point {
        let cancel = Cancel::default();
        let options = self.options(kind);
        let mut session = Session::begin(&self.repository, &self.writer, kind.source, options, &cancel, at).unwrap();
        session.stream("dump", &mut &data(at)[..]).unwrap();
        session.commit(self.draft(kind, at)).unwrap()
    }

    pub fn draft(&self, kind: Kind, at: Timestamp) -> Draft {
        Draft {
            engine: EngineInfo { kind: "command".into(), version: "1".into(), image: None },
            started_at: at,
            consistent_at: at,
            written_at: at,
            host: "past".into(),
            stack: None,
            purpose: kind.safety.then(|| bkp::repo::point::SAFETY.to_owned()),
            body: Body { restore: "by hand".into(), ..Body::default() },
        }
    }

    /// One backup a day, the oldest first, the newest an hour ago, which is proven readable.
    pub fn daily(&self, kind: Kind, days: i64) -> Vec<Point> {
        let points: Vec<Point> = (0..days).rev().map(|day| self.back_up(kind, ago(24 * day + 1))).collect();
        self.prove(points.last().unwrap(), Level::Readable);
        points
    }

    pub fn prove(&self, point: &Point, level: Level) {
        proof::write(&self.repository, &self.writer, point, level, Timestamp::now()).unwrap();
    }

    /// Time passes for the store: every object of the writer becomes so much older.
    pub fn pass(&self, hours: u64) {
        for path in self.host.objects(".") {
            let file = File::options().write(true).open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            older(&file, modified, hours);
        }
    }

    /// Prunes as often and with as much time between as it takes until nothing more goes.
    pub fn prune_to_the_end(&self) {
        self.host.run(&["prune"]).ends(0);
        self.pass(8 * 24);
        self.host.run(&["prune"]).ends(0);
        for _ in 0..8 {
            self.pass(25);
            self.host.run(&["prune", "--max-delete", "100%"]).ends(0);
        }
    }

    /// The dump in a point, as `bkp export` gives it.
    pub fn exported(&self, point: &Point) -> Vec<u8> {
        let to = self.host.path(&format!("exported-{}", point.id()));
        let _ = std::fs::remove_file(&to);
        let arguments = ["export", point.id(), "--output", to.to_str().unwrap()];
        self.host.read(&arguments).ends(0);
        std::fs::read(to).unwrap()
    }

    pub fn holds(&self, point: &Point) {
        assert!(self.exported(point) == data(point.consistent_at), "{} does not restore", point.point);
    }

    /// Names of the points of a source that are there, oldest first.
    pub fn points(&self, kind: Kind) -> Vec<String> {
        let points = self.host.points(kind.source);
        points.iter().rev().map(|p| p["point"].as_str().unwrap().to_owned()).collect()
    }

    pub fn plan(&self, arguments: &[&str]) -> serde_json::Value {
        self.prune_json(&[&["--dry-run"], arguments].concat()).json()
    }

    pub fn prune_json(&self, arguments: &[&str]) -> Answer {
        self.host.run(&[&["prune", "--json"], arguments].concat())
    }

    /// Every file of the repository, with its size.
    pub fn everything(&self) -> Vec<(PathBuf, u64)> {
        let mut all: Vec<(PathBuf, u64)> = Vec::new();
        walk(&self.host.store(), &mut all);
        all.sort();
        all
    }

    /// The object of a kind that the store got last: one that is needed.
    pub fn newest_object(&self, kind: &str) -> PathBuf {
        let modified = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
        self.host.objects(kind).into_iter().max_by_key(modified).unwrap()
    }

    /// What the objects of data are: dumps, packs, indexes, bodies.
    pub fn stored(&self) -> Vec<PathBuf> {
        ["s", "p", "x", "b"].iter().flat_map(|kind| self.host.objects(kind)).collect()
    }
}

fn open(host: &Host) -> Repository {
    let settings = Settings::new(Location::Directory(host.store()));
    Repository::open(store::open(&settings).unwrap()).unwrap()
}

pub fn older(file: &File, from: SystemTime, hours: u64) {
    let then = from - Duration::from_secs(hours * 3600);
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
}

fn walk(directory: &Path, all: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), all),
            false => all.push((entry.path(), entry.metadata().unwrap().len())),
        }
    }
}
