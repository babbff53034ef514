//! A repository in memory with one writer and one operator, and what tests do to it.

use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::repo::catalog::{self, Catalog, Wanted};
use bkp::repo::check;
use bkp::repo::keys::{self, Keyring, NamedRecipient, Operator, Role};
use bkp::repo::point::{Body, EngineInfo, Point};
use bkp::repo::proof::Level;
use bkp::repo::read::PointReader;
use bkp::repo::recovery_key::RecoveryKey;
use bkp::repo::sign::Trust;
use bkp::repo::write::{Draft, Options, Session};
use bkp::repo::writer::Writer;
use bkp::repo::{Repository, init};
use bkp::store::Store;
use bkp::store::memory::Memory;
use jiff::Timestamp;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

pub struct Fixture {
    pub repository: Repository,
    pub writer: Writer,
    pub recovery_file: PathBuf,
    pub state: tempfile::TempDir,
    pub cancel: Cancel,
    pub meter: Meter,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A recovery key file and its recipient.
pub fn operator(directory: &std::path::Path, name: &str) -> (PathBuf, NamedRecipient, RecoveryKey) {
    let key = RecoveryKey::generate();
    let recipient = keys::named_recipient(name, Role::Operator, &key.recipient(), at("2026-01-01T00:00:00Z")).unwrap();
    let path = directory.join(format!("{name}.txt"));
    std::fs::write(&path, &*key.text("r", "memory", "", at("2026-01-01T00:00:00Z"))).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    (path, recipient, key)
}

impl Fixture {
    pub fn new() -> Self {
        Fixture::on(Arc::new(Memory::new()))
    }

    pub fn on(store: Arc<dyn Store>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let (recovery_file, recipient, _) = operator(state.path(), "recovery");
        let now = at("2026-01-01T00:00:00Z");
        let prepared = init::prepare(vec![recipient], "host", state.path(), serde_json::Value::Null, now).unwrap();
        let (repository, writer) = prepared.write(store).unwrap();
        Fixture { repository, writer, recovery_file, state, cancel: Cancel::default(), meter: Meter::default() }
    }

    pub fn context(&self) -> Context<'_> {
        Context { events: &Silent, meter: &self.meter, cancel: &self.cancel }
    }

    pub fn session(&self, source: &str, options: Options) -> Result<Session<'_>> {
        // After all that tests write: what is from the future is not built upon.
        Session::begin(&self.repository, &self.writer, source, options, &self.cancel, at("2028-01-01T00:00:00Z"))
    }

    pub fn keys(&self) -> Keyring {
        self.operator_keys(&self.recovery_file)
    }

    pub fn operator_keys(&self, file: &std::path::Path) -> Keyring {
        let operator = Operator::read(&[file.to_owned()]).unwrap();
        Keyring::new(operator.epochs(&*self.repository.store).unwrap().into_values())
    }

    pub fn catalog(&self) -> Catalog {
        catalog::list(&self.repository, &self.writer.keyring(), &self.writer.trust(), Wanted::default()).unwrap()
    }

    /// One committed point with one stream.
    pub fn back_up_stream(&self, source: &str, consistent_at: &str, data: &[u8]) -> Point {
        self.back_up_stream_with(source, consistent_at, data, Options::default())
    }

    pub fn back_up_stream_with(&self, source: &str, consistent_at: &str, mut data: &[u8], options: Options) -> Point {
        let mut session = self.session(source, options).unwrap();
        session.stream("dump", &mut data).unwrap();
        session.commit(draft(consistent_at)).unwrap()
    }

    /// One committed point with a tree of these pieces: small ones are groups, others files.
    pub fn back_up_tree(&self, source: &str, consistent_at: &str, pieces: &[Vec<u8>]) -> Result<Point> {
        let mut session = self.session(source, Options::default())?;
        write_tree(&mut session, pieces)?;
        session.commit(draft(consistent_at))
    }

    pub fn reader<'a>(&'a self, point: &'a Point) -> PointReader<'a> {
        PointReader::open(&self.repository, point, &self.keys(), &self.cancel).unwrap()
    }

    pub fn read_stream(&self, point: &Point) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        self.reader(point)
            .stream("dump")?
            .read_to_end(&mut data)
            .map_err(|e| bkp::error::Failure::from_io(e, String::new))?;
        Ok(data)
    }

    pub fn read_tar(&self, point: &Point) -> Vec<u8> {
        let mut data = Vec::new();
        self.reader(point).tar().unwrap().read_to_end(&mut data).unwrap();
        data
    }

    pub fn check(&self, level: Option<Level>) -> check::Report {
        let catalog = self.catalog();
        let keys = self.keys().join(self.writer.keyring());
        let request = check::Request {
            repository: &self.repository,
            points: &catalog.points,
            level,
            sample: 1.0,
            turn: 0,
            keys: &keys,
            context: self.context(),
        };
        check::run(&request).unwrap()
    }

    pub fn trust(&self) -> Trust {
        self.writer.trust()
    }
}

pub fn write_tree(session: &mut Session<'_>, pieces: &[Vec<u8>]) -> Result<()> {
    let tree = session.tree();
    for piece in pieces {
        if piece.len() < 256 << 10 {
            tree.group(piece)?;
        } else {
            tree.file(piece.len() as u64, &mut &piece[..])?;
        }
        tree.catalogue(format!("{{\"z\":{}}}\n", piece.len()).as_bytes())?;
    }
    tree.catalogue(format!("{{\"end\":{}}}\n", pieces.len()).as_bytes())
}

pub fn draft(consistent_at: &str) -> Draft {
    let consistent_at = at(consistent_at);
    Draft {
        engine: EngineInfo { kind: "test".into(), version: "1".into(), image: None },
        started_at: consistent_at,
        consistent_at,
        written_at: consistent_at,
        host: "host".into(),
        stack: None,
        purpose: None,
        body: Body { restore: "by hand".into(), ..Body::default() },
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
