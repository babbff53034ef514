//! Reads an archive to its end and proves it: every collection closed by its own CRC-64, nothing missing, nothing after the end.
//!
//! Bytes are handed to it as they come, in pieces of any length. It runs beside every dump and every load, and what it
//! counts is the fingerprint: documents, and the sum of their hashes, which does not depend on their order.

use super::archive::{self, LONGEST, MAGIC, Namespace, TERMINATOR, damaged};
use super::catalog::{Collection, Kind as CollectionKind};
use crate::error::{Failure, Kind, Result};
use bson::RawDocument;
use crc_fast::Digest;
use std::collections::BTreeMap;

/// Takes what an archive holds, in its order.
pub(super) trait Reader {
    /// All collections, before anything else.
    fn prelude(&mut self, _server_version: &str, _collections: &[Collection]) -> Result<()> {
        Ok(())
    }

    fn document(&mut self, _namespace: &Namespace, _document: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// What was counted of one collection.
#[derive(Clone)]
pub(super) struct Tally {
    pub documents: u64,
    sum: [u128; 2],
    crc: Digest,
    closed: bool,
}

impl Tally {
    pub fn new() -> Self {
        Tally { documents: 0, sum: [0; 2], crc: archive::crc(), closed: false }
    }

    pub fn count(&mut self, document: &[u8]) {
        self.crc.update(document);
        self.documents += 1;
        let hash = blake3::hash(document);
        let (left, right) = hash.as_bytes().split_at(16);
        for (sum, half) in self.sum.iter_mut().zip([left, right]) {
            let half = half.try_into().expect("half of a hash has 16 bytes");
            *sum = sum.wrapping_add(u128::from_le_bytes(half));
        }
    }

    /// Equal for equal documents in any order.
    pub fn digest(&self) -> String {
        format!("{:032x}{:032x}", self.sum[0], self.sum[1])
    }
}

/// What a whole archive held.
pub(super) struct Walked {
    pub server_version: String,
    pub collections: Vec<Collection>,
    pub tallies: BTreeMap<Namespace, Tally>,
}

enum Place {
    Magic,
    Header,
    Collections,
    Between,
    /// In a block of this collection; of none in one that says `EOF`.
    Block(Option<Namespace>),
}

pub(super) struct Walker {
    place: Place,
    /// The beginning of a document whose end has not come yet.
    rest: Vec<u8>,
    position: u64,
    server_version: String,
    collections: Vec<Collection>,
    /// The prelude promises the oplog's window.
    with_oplog: bool,
    tallies: BTreeMap<Namespace, Tally>,
}

impl Walker {
    pub fn new() -> Self {
        Walker {
            place: Place::Magic,
            rest: Vec::new(),
            position: 0,
            server_version: String::new(),
            collections: Vec::new(),
            with_oplog: false,
            tallies: BTreeMap::new(),
        }
    }

    pub fn take(&mut self, mut bytes: &[u8], reader: &mut dyn Reader) -> Result<()> {
        while !bytes.is_empty() {
            if self.rest.is_empty() {
                match self.wanted(bytes)? {
                    Some(length) if length <= bytes.len() => {
                        self.unit(&bytes[..length], reader)?;
                        bytes = &bytes[length..];
                        continue;
                    }
                    _ => {}
                }
            }
            let known = self.wanted(&self.rest)?.unwrap_or(4);
            let take = (known - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.wanted(&self.rest)?.is_some_and(|length| length == self.rest.len()) {
                let unit = std::mem::take(&mut self.rest);
                self.unit(&unit, reader)?;
            }
        }
        Ok(())
    }

    /// The archive ended here.
    pub fn finish(self) -> Result<Walked> {
        if !self.rest.is_empty() || !matches!(self.place, Place::Between) {
            return Err(self.broken("it ends in the middle"));
        }
        if let Some((name, _)) = self.tallies.iter().find(|(_, tally)| !tally.closed) {
            return Err(self.broken(&format!("{name} has no end")));
        }
        for collection in &self.collections {
            if !self.holds(collection) {
                return Err(self.broken(&format!("{} is missing", collection.name)));
            }
        }
        if self.with_oplog && !self.tallies.contains_key(&Namespace::oplog()) {
            return Err(self.broken("the oplog is missing"));
        }
        let Walker { server_version, collections, tallies, .. } = self;
        Ok(Walked { server_version, collections, tallies })
    }

    /// Where the data of a time series stands depends on the version of the server that it came from.
    fn holds(&self, collection: &Collection) -> bool {
        self.tallies.contains_key(&collection.name)
            || collection.kind == CollectionKind::TimeSeries && self.tallies.contains_key(&collection.buckets())
    }

    /// The length of the unit that begins with `bytes`, once it can be known.
    fn wanted(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(first) = bytes.first_chunk::<4>() else { return Ok(None) };
        if matches!(self.place, Place::Magic) || *first == TERMINATOR {
            return Ok(Some(4));
        }
        match u32::from_le_bytes(*first) as usize {
            length @ 5..=LONGEST => Ok(Some(length)),
            length => Err(self.broken(&format!("{length} is no length of a document"))),
        }
    }

    fn unit(&mut self, unit: &[u8], reader: &mut dyn Reader) -> Result<()> {
        if unit.len() == 4 {
            self.mark(unit, reader)?;
        } else if let Place::Block(Some(namespace)) = &self.place {
            if unit.last() != Some(&0) {
                return Err(self.broken(&format!("a document of {namespace} has no end")));
            }
            let tally = self.tallies.get_mut(namespace).expect("a collection is counted from its first header on");
            tally.count(unit);
            reader.document(namespace, unit)?;
        } else {
            self.description(unit)?;
        }
        self.position += unit.len() as u64;
        Ok(())
    }

    fn mark(&mut self, unit: &[u8], reader: &mut dyn Reader) -> Result<()> {
        self.place = match &self.place {
            Place::Magic if unit == MAGIC => Place::Header,
            Place::Magic => return Err(self.broken("it does not begin as an archive of mongodump does")),
            Place::Collections => {
                reader.prelude(&self.server_version, &self.collections)?;
                Place::Between
            }
            Place::Block(_) => Place::Between,
            Place::Header | Place::Between => return Err(self.broken("a block has no header")),
        };
        Ok(())
    }

    /// A document of the archive's own.
    fn description(&mut self, unit: &[u8]) -> Result<()> {
        let document = RawDocument::from_bytes(unit).map_err(|e| damaged("one of its headers").because(e))?;
        match &self.place {
            Place::Header => {
                self.server_version = document.get_str("server_version").unwrap_or_default().to_owned();
                self.place = Place::Collections;
            }
            Place::Collections => match archive::read_metadata(document)? {
                Some(collection) => self.collections.push(collection),
                None => self.with_oplog = true,
            },
            _ => self.place = Place::Block(self.header(document)?),
        }
        Ok(())
    }

    /// Begins a block. `None` for one that ends its collection.
    fn header(&mut self, document: &RawDocument) -> Result<Option<Namespace>> {
        let broken = |e| damaged("the header of a block").because(e);
        if matches!(self.place, Place::Block(_)) {
            return Err(self.broken("there are documents after the end of a collection"));
        }
        let database = document.get_str("db").map_err(broken)?;
        let namespace = Namespace::new(database, document.get_str("collection").map_err(broken)?);
        let end = document.get_bool("EOF").map_err(broken)?;
        let expected = document.get_i64("CRC").map_err(broken)?.cast_unsigned();
        let tally = self.tallies.entry(namespace.clone()).or_insert_with(Tally::new);
        if tally.closed {
            return Err(self.broken(&format!("{namespace} goes on after its end")));
        }
        if !end {
            return Ok(Some(namespace));
        }
        tally.closed = true;
        if tally.crc.finalize() != expected {
            return Err(self.broken(&format!("the checksum of {namespace} is wrong")));
        }
        Ok(None)
    }

    fn broken(&self, what: &str) -> Failure {
        Failure::new(Kind::Verification, format!("the archive is not whole: {what} (before byte {})", self.position))
            .hint("Take another point; if this is a backup, run it again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mongo::catalog::Kind as CollectionKind;
    use crate::engine::mongo::dump::Block;
    use crate::engine::mongo::feed;
    use bson::{Document, doc};
    use std::io::Read;

    struct Counted(u64);

    impl Reader for Counted {
        fn document(&mut self, _: &Namespace, _: &[u8]) -> Result<()> {
            self.0 += 1;
            Ok(())
        }
    }

    fn collection(name: &str) -> Collection {
        let indexes = vec![doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" }];
        let name = Namespace::new("shop", name);
        Collection { name, kind: CollectionKind::Collection, options: Document::new(), indexes, uuid: None }
    }

    fn archive() -> Vec<u8> {
        let (mut feed, mut pipe) = feed::queue();
        let collections = [collection("orders"), collection("empty")];
        feed.write(&archive::prelude("7.0.1", &collections, false).unwrap()).unwrap();
        let mut block = Block::new(&mut feed, &collections[0].name);
        for number in 0..3 {
            block.document(&doc! { "_id": number, "text": "abc" }.to_vec().unwrap()).unwrap();
        }
        block.end().unwrap();
        Block::new(&mut feed, &collections[1].name).end().unwrap();
        feed.close(Ok(()));
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn walk(bytes: &[u8], piece: usize) -> Result<(Walked, u64)> {
        let (mut walker, mut counted) = (Walker::new(), Counted(0));
        bytes.chunks(piece).try_for_each(|piece| walker.take(piece, &mut counted))?;
        Ok((walker.finish()?, counted.0))
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_an_archive_comes() {
        let bytes = archive();
        let (whole, _) = walk(&bytes, usize::MAX).unwrap();
        for piece in 1..200 {
            let (walked, documents) = walk(&bytes, piece).unwrap();
            assert_eq!((documents, walked.collections.len()), (3, 2));
            let name = &walked.collections[0].name;
            assert_eq!(walked.tallies[name].digest(), whole.tallies[name].digest());
        }
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_is_not_whole() {
        let bytes = archive();
        for length in 0..bytes.len() {
            assert!(walk(&bytes[..length], usize::MAX).is_err(), "cut after {length} bytes");
        }
    }

    #[test]
    fn a_changed_byte_of_any_document_is_found() {
        let bytes = archive();
        let first = bytes.windows(3).position(|w| w == b"abc").unwrap();
        let last = bytes.windows(3).rposition(|w| w == b"abc").unwrap();
        for at in first..last + 3 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(walk(&changed, usize::MAX).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order() {
        let documents: Vec<Vec<u8>> = (0..10).map(|n| doc! { "_id": n }.to_vec().unwrap()).collect();
        let (mut one, mut other) = (Tally::new(), Tally::new());
        documents.iter().for_each(|document| one.count(document));
        documents.iter().rev().for_each(|document| other.count(document));
        assert_eq!(one.digest(), other.digest());
        other.count(&documents[0]);
        assert_ne!(one.digest(), other.digest());
    }
}
