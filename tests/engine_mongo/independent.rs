//! A reader of archives made from their specification alone, bit by bit, so that nothing here rests on the code under test.

use std::collections::BTreeMap;

/// What an archive holds by the words of its specification.
#[derive(Debug, Default)]
pub struct Archive {
    pub server_version: String,
    /// Database and collection → metadata as JSON.
    pub metadata: BTreeMap<(String, String), String>,
    pub documents: BTreeMap<(String, String), Vec<Vec<u8>>>,
    pub closed: Vec<(String, String)>,
}

/// CRC-64/ECMA, reflected, as Go's `crc64.ECMA` has it.
pub fn crc64(bytes: &[u8]) -> u64 {
    let mut crc = !0u64;
    for byte in bytes {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xC96C_5795_D787_0F42 } else { crc >> 1 };
        }
    }
    !crc
}

struct Units<'a>(&'a [u8]);

impl<'a> Units<'a> {
    /// The next document, or `None` for a terminator.
    fn next(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.0[..4].try_into().unwrap());
        let take = if length == u32::MAX { 4 } else { length as usize };
        let (unit, rest) = self.0.split_at(take);
        self.0 = rest;
        (length != u32::MAX).then_some(unit)
    }
}

fn text(document: &[u8], key: &str) -> String {
    bson::Document::from_reader(document).unwrap().get_str(key).unwrap().to_owned()
}

pub fn read(archive: &[u8]) -> Archive {
    assert_eq!(archive[..4], [0x6d, 0xe2, 0x99, 0x81], "the magic number");
    let mut units = Units(&archive[4..]);
    let header = units.next().expect("a header");
    assert_eq!(text(header, "version"), "0.1");
    let mut found = Archive { server_version: text(header, "server_version"), ..Archive::default() };
    while let Some(metadata) = units.next() {
        let name = (text(metadata, "db"), text(metadata, "collection"));
        found.metadata.insert(name, text(metadata, "metadata"));
    }
    while !units.0.is_empty() {
        let header = units.next().expect("a block begins with a header");
        let name = (text(header, "db"), text(header, "collection"));
        let header = bson::Document::from_reader(header).unwrap();
        let documents = found.documents.entry(name.clone()).or_default();
        let before = documents.len();
        while let Some(document) = units.next() {
            documents.push(document.to_vec());
        }
        if header.get_bool("EOF").unwrap() {
            assert_eq!(documents.len(), before, "the last block of {name:?} has no documents");
            assert_eq!(header.get_i64("CRC").unwrap() as u64, crc64(&documents.concat()), "the checksum of {name:?}");
            found.closed.push(name);
        } else {
            assert_eq!(header.get_i64("CRC").unwrap(), 0);
            assert!(documents.len() > before, "a block of {name:?} has documents");
        }
    }
    let names: Vec<_> = found.documents.keys().cloned().collect();
    let mut closed = found.closed.clone();
    closed.sort();
    assert_eq!(names, closed, "every collection is closed once");
    found
}

/// An archive of one collection, with a right checksum.
pub fn archive_of(database: &str, collection: &str, documents: &[bson::Document]) -> Vec<u8> {
    let bytes = |document: &bson::Document| document.to_vec().unwrap();
    let metadata = format!(r#"{{"indexes":[],"collectionName":"{collection}","type":"collection"}}"#);
    let data: Vec<u8> = documents.iter().flat_map(bytes).collect();
    let header = |end: bool, crc: u64| {
        bytes(&bson::doc! { "db": database, "collection": collection, "EOF": end, "CRC": crc.cast_signed() })
    };
    let prelude = bson::doc! {
        "concurrent_collections": 4, "version": "0.1", "server_version": "7.0.0", "tool_version": "100.9.0",
    };
    let entry = bson::doc! { "db": database, "collection": collection, "metadata": metadata, "size": 0, "type": "" };
    let end = vec![0xff; 4];
    let magic = vec![0x6d, 0xe2, 0x99, 0x81];
    let parts = [magic, bytes(&prelude), bytes(&entry), end.clone()];
    let blocks = [header(false, 0), data.clone(), end.clone(), header(true, crc64(&data)), end];
    [parts.concat(), blocks.concat()].concat()
}

#[test]
fn the_checksum_is_the_one_of_the_catalogue_of_checksums() {
    assert_eq!(crc64(b"123456789"), 0x995D_C9BB_DF19_39FA);
}
