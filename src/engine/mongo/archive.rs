//! The archive of `mongodump --archive`: how its blocks are written.
//!
//! A magic number; a header and a document per collection, closed by a terminator; then blocks: a header that names a
//! collection, documents of it, a terminator. The last block of a collection says `EOF` and the CRC-64 of all its
//! documents. Blocks of several collections may be interleaved. Reading is in `walk.rs`.

use super::catalog::{self, Collection};
use super::extended_json;
use crate::error::{Failure, Kind, Result};
use bson::spec::BinarySubtype;
use bson::{Bson, Document, RawDocument, doc};
use crc_fast::{CrcAlgorithm, Digest};
use std::fmt;

pub(super) const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
pub(super) const TERMINATOR: [u8; 4] = [0xff; 4];

/// A document has at most 16 MiB, an entry of the oplog a little more.
pub(super) const LONGEST: usize = (16 << 20) + (16 << 10);

/// The collection that holds the oplog's window: it has no database.
pub(super) const OPLOG: &str = "oplog";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Namespace {
    pub database: String,
    pub collection: String,
}

impl Namespace {
    pub fn new(database: impl Into<String>, collection: impl Into<String>) -> Self {
        Namespace { database: database.into(), collection: collection.into() }
    }

    pub fn oplog() -> Self {
        Namespace::new("", OPLOG)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.database.as_str() {
            "" => f.write_str(&self.collection),
            database => write!(f, "{database}.{}", self.collection),
        }
    }
}

/// CRC-64 as archives have it.
pub(super) fn crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Xz)
}

/// Everything before the first block.
pub(super) fn prelude(server_version: &str, collections: &[Collection], with_oplog: bool) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    append(
        &mut bytes,
        &doc! {
            "concurrent_collections": 1,
            "version": "0.1",
            "server_version": server_version,
            "tool_version": concat!("bkp-", env!("CARGO_PKG_VERSION")),
        },
    )?;
    for collection in collections {
        append(
            &mut bytes,
            &doc! {
                "db": &collection.name.database,
                "collection": &collection.name.collection,
                "metadata": metadata(collection),
                "size": 0,
                "type": collection.kind.as_listed(),
            },
        )?;
    }
    if with_oplog {
        append(&mut bytes, &doc! { "db": "", "collection": OPLOG, "metadata": "", "size": 0, "type": "" })?;
    }
    bytes.extend(TERMINATOR);
    Ok(bytes)
}

/// The header of a block.
pub(super) fn header(namespace: &Namespace, end: Option<u64>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let crc = end.unwrap_or_default().cast_signed();
    let (database, collection) = (&namespace.database, &namespace.collection);
    append(&mut bytes, &doc! { "db": database, "collection": collection, "EOF": end.is_some(), "CRC": crc })?;
    Ok(bytes)
}

fn append(bytes: &mut Vec<u8>, document: &Document) -> Result<()> {
    document.to_writer(bytes).map_err(|e| Failure::failed("cannot write the archive's own documents").because(e))
}

/// Options and indexes, as canonical extended JSON in this order of fields.
fn metadata(collection: &Collection) -> String {
    let mut fields = Document::new();
    if !collection.options.is_empty() {
        fields.insert("options", collection.options.clone());
    }
    fields.insert("indexes", collection.indexes.iter().cloned().map(Bson::Document).collect::<Vec<_>>());
    if let Some(uuid) = &collection.uuid {
        fields.insert("uuid", uuid);
    }
    fields.insert("collectionName", &collection.name.collection);
    fields.insert("type", collection.kind.as_listed());
    extended_json::canonical(&fields)
}

/// What the prelude says of one collection. `None` for what is none, such as the oplog.
pub(super) fn read_metadata(document: &RawDocument) -> Result<Option<Collection>> {
    let text = |key: &str| document.get_str(key).map_err(|e| damaged("a collection in its prelude").because(e));
    let name = Namespace::new(text("db")?, text("collection")?);
    if name.database.is_empty() {
        return Ok(None);
    }
    let json = text("metadata")?;
    let mut fields = match json {
        "" => Document::new(),
        _ => extended_json::parse(json).map_err(|e| damaged(&format!("the options of {name}")).because(e))?,
    };
    let options = match fields.remove("options") {
        Some(Bson::Document(options)) => options,
        _ => Document::new(),
    };
    let indexes = match fields.remove("indexes") {
        Some(Bson::Array(indexes)) => indexes.into_iter().filter_map(|index| index.as_document().cloned()).collect(),
        _ => Vec::new(),
    };
    let kind = catalog::kind(document.get_str("type").unwrap_or_default(), &options);
    let uuid = fields.get_str("uuid").ok().map(ToOwned::to_owned);
    Ok(Some(Collection { name, kind, options, indexes, uuid }))
}

/// The 32 digits of a collection's UUID.
pub(super) fn uuid(info: &Document) -> Option<String> {
    match info.get("uuid") {
        Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid => Some(hex::encode(&binary.bytes)),
        _ => None,
    }
}

pub(super) fn damaged(what: &str) -> Failure {
    Failure::new(Kind::Verification, format!("the archive is damaged: {what} cannot be read"))
}
