//! Points: what a committed backup says of itself (`docs/FORMAT.md` §3, §4), sealed and signed.

use crate::error::{Failure, Kind, Result};
use crate::repo::container::{Codec, decode, encode};
use crate::repo::keys::{Keyring, Recipients};
use crate::repo::sealed::{SealedBy, SealedRun};
use crate::repo::{names, sign};
use crate::store::Key;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const FORMAT: u32 = 1;
const PAYLOAD_TYPE: &str = "application/vnd.bkp.point+json";

/// The exact bytes of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub key: Key,
    #[serde(with = "hex::serde")]
    pub sha256: [u8; 32],
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub name: String,
    pub codec: Codec,
    pub bytes: u64,
    #[serde(with = "hex::serde")]
    pub sha256: [u8; 32],
    /// Empty when it is deduplicated.
    pub objects: Vec<Pin>,
    /// Of a deduplicated stream: which chunks it consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Pin>,
    /// With which keys the packs of the index are sealed, in its order. Absent in points of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<SealedRun>,
}

/// How streams are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Each by itself, in an object of its own.
    #[default]
    Stream,
    /// As chunks, of which those of the point before are not stored again.
    Dedup,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Layout::Stream => "stream",
            Layout::Dedup => "dedup",
        }
    }

    pub fn other(self) -> Layout {
        match self {
            Layout::Stream => Layout::Dedup,
            Layout::Dedup => Layout::Stream,
        }
    }
}

/// Bytes that the streams of a point put into the store in either layout: measured in its own, estimated in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub stream: u64,
    pub dedup: u64,
}

impl Cost {
    pub fn of(&self, layout: Layout) -> u64 {
        match layout {
            Layout::Stream => self.stream,
            Layout::Dedup => self.dedup,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub index: Pin,
    /// Length of the tar stream.
    pub bytes: u64,
    pub entries: u64,
    /// With which keys the packs of the index are sealed, in its order. Absent in points of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<SealedRun>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    pub point: String,
    #[serde(with = "hex::serde")]
    pub sha256: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    pub kind: String,
    pub version: String,
    /// Of the container the server ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As it was asked for: `mysql:8`.
    pub name: String,
    /// In the registry it came from, as `mysql@sha256:…`; else the image's id, as `sha256:…`.
    pub digest: String,
}

/// The signed header of a point. The writer can read it; names of files and contents are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub format: u32,
    pub repository: String,
    pub writer: String,
    pub source: String,
    /// `UTC-ID`, the last part of the object's name.
    pub point: String,
    pub sequence: u64,
    pub previous: Option<Previous>,
    pub engine: EngineInfo,
    pub started_at: Timestamp,
    pub consistent_at: Timestamp,
    pub written_at: Timestamp,
    pub host: String,
    pub bkp: String,
    pub epoch: u32,
    /// Number of the list of who reads that its writer went by. 0 in points of older versions, which do not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub list: u32,
    /// Public half of the data epoch: tells whether an opened key is the right one.
    pub epoch_recipient: String,
    pub epoch_key: String,
    pub streams: Vec<Stream>,
    pub tree: Option<Tree>,
    pub body: Pin,
    pub bytes: u64,
    pub added: u64,
    pub warnings: u64,
    /// The same in all points of a stack that were begun together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackRun>,
    /// Absent for a backup like any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Whose commit it was. Absent in points of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Of this point, and then of those before it, as far back as costs are averaged over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
}

/// One backup of a whole stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRun {
    pub name: String,
    /// `UTC-ID` of the run.
    pub run: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a source was just before a restore replaced it: kept to go back, and never taken for the source's newest backup.
pub const SAFETY: &str = "safety";

/// What only those who restore may read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_id_key: Option<String>,
    pub source_location: String,
    pub fingerprint: serde_json::Value,
    pub inventory: BTreeMap<String, u64>,
    pub warnings: Vec<String>,
    #[serde(default)]
    pub notes: Vec<String>,
    pub position: Option<serde_json::Value>,
    /// What the engine itself wants to find again when it loads.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
    pub restore: String,
    #[serde(default)]
    pub credentials: Vec<serde_json::Value>,
}

impl Point {
    pub fn key(&self) -> Key {
        names::point(&self.writer, &self.source, &self.point)
    }

    /// The id that people type.
    pub fn id(&self) -> &str {
        names::short_id(&self.point)
    }

    pub fn is_safety(&self) -> bool {
        self.purpose.as_deref() == Some(SAFETY)
    }

    /// Objects that this point pins itself (packs are pinned by its index).
    pub fn pins(&self) -> impl Iterator<Item = &Pin> {
        let streams = self.streams.iter().flat_map(|s| s.objects.iter().chain(&s.index));
        streams.chain(self.tree.iter().map(|t| &t.index)).chain([&self.body])
    }

    /// With which keys the packs that it refers to are sealed. A point that does not say it has no number of its list either.
    pub fn sealed(&self) -> impl Iterator<Item = SealedBy> {
        let runs = self.streams.iter().map(|s| &s.packs).chain(self.tree.iter().map(|t| &t.packs));
        runs.flatten().map(|run| run.sealed)
    }

    /// How its streams are stored; nothing when it has none.
    pub fn layout(&self) -> Option<Layout> {
        let stream = self.streams.first()?;
        Some(if stream.index.is_some() { Layout::Dedup } else { Layout::Stream })
    }

    pub fn seal(&self, key: &SigningKey, recipients: &Recipients) -> Result<Vec<u8>> {
        let payload = serde_json::to_vec(self).map_err(|e| Failure::failed("cannot write the point").because(e))?;
        encode::seal(&sign::sign(PAYLOAD_TYPE, &payload, key), recipients)
    }

    /// Opens a sealed point, checks its signature, and that it is what its name says.
    pub fn open(sealed: &[u8], name: &Key, keys: &Keyring, signer: &VerifyingKey, repository: &str) -> Result<Point> {
        let what = format!("the point {name}");
        let envelope = decode::open_whole(sealed, keys, &what)?;
        let payload = sign::verify(&envelope, PAYLOAD_TYPE, signer, &what)?;
        let bad = |why: &str| Failure::new(Kind::Verification, format!("{what} is not to be believed: {why}"));
        let version: Version =
            serde_json::from_slice(&payload).map_err(|e| bad("its content is not a point").because(e))?;
        refuse_newer(version.format, &what)?;
        let point: Point =
            serde_json::from_slice(&payload).map_err(|e| bad("its content is not a point").because(e))?;
        if point.repository != repository {
            return Err(bad("it belongs to another repository"));
        }
        if !names::is_point(name, &point.writer, &point.source, &point.point) {
            return Err(bad("it was moved: it is signed under another name"));
        }
        if !point.point.starts_with(&names::utc(point.consistent_at)) {
            return Err(bad("its name is not its instant"));
        }
        let mut streams: Vec<&str> = point.streams.iter().map(|s| s.name.as_str()).collect();
        streams.sort_unstable();
        let twice = streams.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || streams.iter().any(|name| names::check_source(name).is_err()) {
            return Err(bad("the names of its streams are not allowed"));
        }
        if point.streams.iter().any(|stream| stream.index.is_some() && !stream.objects.is_empty()) {
            return Err(bad("a stream of it is stored in two ways"));
        }
        Ok(point)
    }
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Readers of version 1 refuse anything newer: they could not know what they do not understand.
pub fn refuse_newer(format: u32, what: &str) -> Result<()> {
    if format > FORMAT {
        return Err(Failure::failed(format!("{what} is of format {format}; this bkp knows formats up to {FORMAT}"))
            .hint("Use a newer bkp; nothing was changed"));
    }
    Ok(())
}
