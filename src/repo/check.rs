//! Checking: is everything there that the points refer to, is it what was written, can it be decoded to the end?
//!
//! Always: every object is in the store with its size. `stored` reads them again and compares hashes; no key but the
//! writer's is needed. `readable` also decrypts and decodes them, streams against their hash and chunks against their id.
//! A problem is reported with the points it affects; one bad object does not stop the check of the others.

use crate::error::{Failure, Kind, Result};
use crate::event::Context;
use crate::repo::container::decode;
use crate::repo::index::{ChunkInfo, Index, PackInfo};
use crate::repo::keys::Keyring;
use crate::repo::point::{Pin, Point, Stream};
use crate::repo::proof::Level;
use crate::repo::read::{Cutter, PackSource, PointReader, SpooledIndex, StreamReader, open_pack};
use crate::repo::{Repository, objects};
use crate::store::{Key, StoreError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub struct Request<'a> {
    pub repository: &'a Repository,
    pub points: &'a [Point],
    /// [`Level::Stored`] or [`Level::Readable`]; `None`: presence and sizes only.
    pub level: Option<Level>,
    /// Only this part of the objects; 1.0 is all.
    pub sample: f64,
    /// Which of the parts.
    pub turn: u64,
    pub keys: &'a Keyring,
    pub context: Context<'a>,
}

/// Something is wrong with an object, or with a point itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub object: String,
    pub problem: String,
    /// `SOURCE/UTC-ID` of what cannot be restored whole because of it.
    pub points: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub points: u64,
    pub objects: u64,
    /// Of these objects.
    pub bytes: u64,
    /// Objects whose content was read.
    pub objects_read: u64,
    pub bytes_read: u64,
    pub problems: Vec<Problem>,
    /// Points all of whose objects were read without a problem; they have reached the level.
    pub proven: Vec<String>,
}

/// An object to look at, and who needs it.
struct Object {
    pin: Pin,
    users: Vec<String>,
    content: Content,
}

enum Content {
    /// Only its bytes.
    Opaque,
    /// The first object of a stream, which is decoded from here to its end; then each object was compared with its pin.
    Stream(Stream),
    /// A later object of a stream: read with the first.
    OfStream,
    /// The chunks of it that points use, when they are to be looked at.
    Pack { data: u64, chunks: Vec<ChunkKey>, id_key: [u8; 32] },
}

/// A chunk in its pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ChunkKey {
    offset: u32,
    length: u32,
    id: [u8; 32],
}

pub fn run(request: &Request<'_>) -> Result<Report> {
    let mut report = Report { points: request.points.len() as u64, ..Report::default() };
    let mut objects: BTreeMap<Key, Object> = BTreeMap::new();
    for point in request.points {
        if let Err(failure) = gather(request, point, &mut objects) {
            fatal(&failure)?;
            report.problems.push(Problem {
                object: point.key().to_string(),
                problem: failure.full(),
                points: vec![title(point)],
            });
        }
    }
    report.objects = objects.len() as u64;
    report.bytes = objects.values().map(|object| object.pin.size).sum();
    let mut rest = present(request, objects, &mut report)?;
    if request.level.is_some() {
        rest.retain(|object| is_in_turn(object.pin.key.as_str(), request.sample, request.turn));
        request.context.meter.total_bytes.fetch_add(rest.iter().map(|o| o.pin.size).sum(), Ordering::Relaxed);
        read_objects(request, &rest, &mut report)?;
    }
    report.problems.sort();
    let broken: HashSet<&String> = report.problems.iter().flat_map(|p| &p.points).collect();
    if request.level.is_some() && request.sample >= 1.0 {
        report.proven = request.points.iter().map(title).filter(|t| !broken.contains(t)).collect();
    }
    Ok(report)
}

/// How findings name a point.
pub fn title(point: &Point) -> String {
    format!("{}/{}", point.source, point.point)
}

/// Failures that are about the user or the connection end the check; those about the data are findings.
fn fatal(failure: &Failure) -> Result<()> {
    match failure.kind() {
        Kind::Verification | Kind::Failed => Ok(()),
        kind => {
            Err(Failure::new(kind, failure.full()).hint(failure.next_step().unwrap_or("Mend that and check again")))
        }
    }
}

fn gather(request: &Request<'_>, point: &Point, objects: &mut BTreeMap<Key, Object>) -> Result<()> {
    let title = title(point);
    let mut add = |pin: Pin, content: Content| {
        let object = objects.entry(pin.key.clone()).or_insert_with(|| Object {
            pin,
            users: Vec::new(),
            content: Content::Opaque,
        });
        if object.users.last() != Some(&title) {
            object.users.push(title.clone());
        }
        match (&mut object.content, content) {
            (Content::Pack { chunks, .. }, Content::Pack { chunks: more, .. }) => {
                chunks.extend(more);
                each_once(chunks);
            }
            (Content::Opaque, content) => object.content = content,
            _ => {}
        }
    };
    for pin in point.pins() {
        add(pin.clone(), Content::Opaque);
    }
    let readable = request.level == Some(Level::Readable);
    // Part of a stream cannot be decoded, so a sample only compares bytes.
    for stream in point.streams.iter().filter(|s| readable && request.sample >= 1.0 && s.index.is_none()) {
        for (number, pin) in stream.objects.iter().enumerate() {
            add(pin.clone(), if number == 0 { Content::Stream(stream.clone()) } else { Content::OfStream });
        }
    }
    for (pin, content) in packs_of(request, point, readable)? {
        add(pin, content);
    }
    Ok(())
}

/// The packs that a tree and deduplicated streams consist of, with their chunks when those are `wanted`.
fn packs_of(request: &Request<'_>, point: &Point, wanted: bool) -> Result<Vec<(Pin, Content)>> {
    let (mut id_key, mut tree) = ([0; 32], None);
    if wanted {
        let reader = PointReader::open(request.repository, point, request.keys, request.context.cancel)?;
        id_key = *reader.id_key();
        tree = reader.into_index();
    } else if let Some(of) = &point.tree {
        let what = of.index.key.as_str();
        let data = decode::open_whole(&request.repository.pinned(&of.index)?, request.keys, what)?;
        tree = Some(Index::from_bytes(&data, what)?);
    }
    let mut all = Vec::new();
    let mut add =
        |packs: Vec<PackInfo>, chunks: Vec<Vec<ChunkKey>>| {
            let with_chunks = packs.iter().zip(chunks);
            all.extend(with_chunks.map(|(pack, chunks)| {
                (objects::pack_pin(point, pack), Content::Pack { data: pack.data, chunks, id_key })
            }));
        };
    if let Some(Index { packs, tar, catalogue }) = tree {
        let chunks = by_pack(packs.len(), wanted, tar.into_iter().chain(catalogue).map(Ok))?;
        add(packs, chunks);
    }
    for stream in &point.streams {
        let Some(pin) = &stream.index else { continue };
        let mut index = SpooledIndex::open(request.repository, pin)?;
        let reader = index.read(request.keys)?;
        let (packs, mut bytes) = (reader.packs.clone(), 0);
        let counted = reader.inspect(|chunk| bytes += chunk.as_ref().map_or(0, |c| u64::from(c.length)));
        let chunks = by_pack(packs.len(), wanted, counted)?;
        if bytes != stream.bytes {
            let what = format!("{} is damaged: its chunks are {bytes} bytes instead of {}", pin.key, stream.bytes);
            return Err(Failure::new(Kind::Verification, what));
        }
        add(packs, chunks);
    }
    Ok(all)
}

/// The chunks in each pack; only how many packs there are when the chunks are not `wanted`.
fn by_pack(packs: usize, wanted: bool, chunks: impl Iterator<Item = Result<ChunkInfo>>) -> Result<Vec<Vec<ChunkKey>>> {
    let mut all = vec![Vec::new(); packs];
    for chunk in chunks {
        let ChunkInfo { id, pack, offset, length } = chunk?;
        if wanted {
            all[pack as usize].push(ChunkKey { offset, length, id });
        }
    }
    all.iter_mut().for_each(each_once);
    Ok(all)
}

/// In the order in which they lie in the pack; there may be millions, so no room is left unused.
fn each_once(chunks: &mut Vec<ChunkKey>) {
    chunks.sort_unstable();
    chunks.dedup();
    chunks.shrink_to_fit();
}

/// Compares with the store's listing; gives the objects that are there.
fn present(request: &Request<'_>, objects: BTreeMap<Key, Object>, report: &mut Report) -> Result<Vec<Object>> {
    let mut listed = BTreeMap::new();
    let writers: HashSet<&str> = request.points.iter().map(|p| p.writer.as_str()).collect();
    for writer in writers {
        for entry in request.repository.store.list(&format!("w/{writer}/"))? {
            listed.insert(entry.key, entry.size);
        }
    }
    let mut there = Vec::with_capacity(objects.len());
    for (key, object) in objects {
        let problem = match listed.get(&key) {
            None => "it is missing from the store".to_owned(),
            Some(size) if *size != object.pin.size => format!("it has {size} bytes instead of {}", object.pin.size),
            Some(_) => {
                there.push(object);
                continue;
            }
        };
        report.problems.push(Problem { object: key.to_string(), problem, points: object.users });
    }
    Ok(there)
}

/// Into how many parts all objects fall, each as large as the sample at least: `5%` gives 20.
pub fn parts(sample: f64) -> u64 {
    // Of 10 % there are ten, whatever a tenth is in binary.
    ((1.0 / sample) + 1e-9).floor().max(1.0) as u64
}

/// Whether an object belongs to the part whose turn it is. Each is in exactly one, which never changes: after as many turns as
/// there are parts, every object was read.
fn is_in_turn(key: &str, sample: f64, turn: u64) -> bool {
    let hash = blake3::hash(key.as_bytes());
    let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"));
    let parts = parts(sample);
    number % parts == turn % parts
}

fn read_objects(request: &Request<'_>, objects: &[Object], report: &mut Report) -> Result<()> {
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new((Vec::new(), 0u64, None));
    let workers = request.repository.workers();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(objects.len()) {
            scope.spawn(|| {
                while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = request.context.cancel.check().and_then(|()| read_object(request, object));
                    request.context.meter.add(object.pin.size, 1);
                    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                    outcome.1 += object.pin.size;
                    let Err(failure) = result else { continue };
                    if let Err(fatal) = fatal(&failure) {
                        outcome.2.get_or_insert(fatal);
                        next.store(objects.len(), Ordering::Relaxed);
                    }
                    outcome.0.push(Problem {
                        object: object.pin.key.to_string(),
                        problem: failure.full(),
                        points: object.users.clone(),
                    });
                }
            });
        }
    });
    let (problems, bytes, stopped) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = stopped {
        return Err(failure);
    }
    report.problems.extend(problems);
    report.objects_read = objects.len() as u64;
    report.bytes_read = bytes;
    Ok(())
}

fn read_object(request: &Request<'_>, object: &Object) -> Result<()> {
    match &object.content {
        Content::Pack { data, chunks, id_key } if request.level == Some(Level::Readable) => {
            let name = object.pin.key.clone();
            let frames = open_pack(request.repository, &object.pin, request.keys, Vec::new())?;
            if frames.data_bytes() != *data {
                return Err(Failure::new(
                    Kind::Verification,
                    format!("{name} is damaged: it holds another amount of data"),
                ));
            }
            let mut cutter = Cutter::new(frames);
            for &ChunkKey { id, offset, length } in chunks {
                cutter.chunk(&ChunkInfo { id, pack: 0, offset, length }, id_key, &|| name.clone())?;
            }
            Ok(())
        }
        // What does not decode is told by what is wrong with its bytes, when something is.
        Content::Stream(stream) => decode_stream(request, stream).or_else(|failure| {
            fatal(&failure)?;
            stream.objects.iter().try_for_each(|pin| hash_only(request, pin))?;
            Err(failure)
        }),
        Content::OfStream => Ok(()),
        _ => hash_only(request, &object.pin),
    }
}

fn decode_stream(request: &Request<'_>, stream: &Stream) -> Result<()> {
    let (repository, keys) = (request.repository.clone(), request.keys.clone());
    // Streams in chunks are not decoded here: their packs are.
    let source = PackSource { repository, writer: String::new(), keys, id_key: [0; 32] };
    let mut data = StreamReader::new(source, stream.clone());
    let mut buffer = vec![0; 1 << 20];
    while data
        .read(&mut buffer)
        .map_err(|e| Failure::from_io(e, || format!("cannot read the stream {}", stream.name)))?
        > 0
    {
        request.context.cancel.check()?;
    }
    Ok(())
}

/// Streams may be larger than memory.
fn hash_only(request: &Request<'_>, pin: &Pin) -> Result<()> {
    let damaged = |why: &str| Failure::new(Kind::Verification, format!("{} is damaged: {why}", pin.key));
    let mut object = match request.repository.store.get(&pin.key, None) {
        Ok(object) => object,
        Err(StoreError::NotFound(_)) => return Err(damaged("it has gone missing")),
        Err(e) => return Err(e.into()),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        request.context.cancel.check()?;
        match object.read(&mut buffer).map_err(|e| Failure::from_io(e, || format!("cannot read {}", pin.key)))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    if <[u8; 32]>::from(hash.finalize()) != pin.sha256 {
        return Err(damaged("its bytes are not those that were written"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_as_many_samples_as_there_are_parts_everything_was_read_once() {
        assert_eq!([0.05, 0.1, 0.15, 0.3, 0.6, 1.0].map(parts), [20, 10, 6, 3, 1, 1]);
        for sample in [0.05, 0.3, 0.6] {
            for key in (0..200).map(|number| format!("w/a/packs/{number}")) {
                let turns = (7..7 + parts(sample)).filter(|turn| is_in_turn(&key, sample, *turn)).count();
                assert_eq!(turns, 1, "{key}");
            }
        }
        let first = (0..2000).filter(|number| is_in_turn(&number.to_string(), 0.05, 0)).count();
        assert!((60..140).contains(&first), "{first} of 2000");
    }
}
