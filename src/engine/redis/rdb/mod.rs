//! RDB files of Redis (versions 1 to 12) and Valkey (11, 80): walked from the magic to the checksum.
//!
//! [`walk`] reads every byte, keeps none, and gives a [`Census`]; a file that is cut, damaged, or goes on after its end is an
//! error of kind `Verification`. What is not known is named, never passed over. Files are not written here.

mod census;
mod input;
mod lzf;
mod packed;
mod stream;
mod value;

pub use census::Census;

use crate::error::Result;
use input::Input;
use std::io::Read;
use value::{Sequence, Surroundings, digest_of};

/// A key as it stands in the file.
pub struct Key<'a> {
    pub database: u64,
    pub name: &'a [u8],
    /// Milliseconds since 1970.
    pub expires: Option<i64>,
    /// Type and value, as `DUMP` and `RESTORE` have them, without version and checksum.
    pub value: &'a [u8],
    /// Version of the file.
    pub version: u32,
}

/// Takes what is in a file while it is walked.
pub trait Visit {
    fn key(&mut self, key: &Key<'_>) -> Result<()>;

    /// The code of a library of functions.
    fn functions(&mut self, code: &[u8]) -> Result<()>;
}

/// Walks a whole file. Expiries are looked at as of `now`, in milliseconds since 1970. With a visitor, values are held one
/// at a time.
pub fn walk(reader: impl Read, now: i64, visitor: Option<&mut dyn Visit>) -> Result<Census> {
    let mut walk = Walk { input: Input::new(reader), census: Census::default(), now, visitor };
    walk.magic()?;
    walk.everything()?;
    walk.end()?;
    walk.census.bytes = walk.input.offset();
    Ok(walk.census)
}

struct Walk<'v, R> {
    input: Input<R>,
    census: Census,
    now: i64,
    visitor: Option<&'v mut dyn Visit>,
}

impl<R: Read> Walk<'_, R> {
    fn magic(&mut self) -> Result<()> {
        let magic: [u8; 9] = self.input.array()?;
        let version = std::str::from_utf8(&magic[6..]).ok().and_then(|digits| digits.parse().ok());
        self.census.is_valkey = magic.starts_with(b"VALKEY");
        match version {
            Some(version) if self.census.is_valkey || magic.starts_with(b"REDIS0") => self.census.version = version,
            _ => return Err(self.input.damaged("it does not begin as an RDB file does")),
        }
        Ok(())
    }

    fn everything(&mut self) -> Result<()> {
        let mut database = 0;
        let mut expires = None;
        loop {
            match self.input.byte()? {
                255 => return Ok(()),
                254 => {
                    database = self.input.length()?;
                    self.census.databases.entry(database).or_default();
                }
                253 => expires = Some(i64::from(i32::from_le_bytes(self.input.array()?)) * 1000),
                252 => expires = Some(self.input.milliseconds()?),
                // How many keys to expect.
                251 => self.lengths(2)?,
                250 => self.fact()?,
                // How often and when a key was used.
                249 => _ = self.input.byte()?,
                248 => self.lengths(1)?,
                247 => self.module()?,
                246 => return Err(self.input.damaged("functions of a release candidate of Redis 7")),
                245 => self.functions()?,
                // How many keys to expect in a slot of a cluster.
                244 => self.lengths(3)?,
                243 if self.census.is_valkey => self.slot_import()?,
                rdb_type => self.key(rdb_type, database, expires.take())?,
            }
        }
    }

    fn lengths(&mut self, count: u32) -> Result<()> {
        (0..count).try_for_each(|_| self.input.length().map(drop))
    }

    fn fact(&mut self) -> Result<()> {
        let (name, value) = (self.input.owned_string()?, self.input.owned_string()?);
        let told = (String::from_utf8(name), String::from_utf8(value));
        if let (Ok(name), Ok(value)) = told
            && ["redis-ver", "valkey-ver", "ctime"].contains(&name.as_str())
        {
            self.census.facts.insert(name, value);
        }
        Ok(())
    }

    fn module(&mut self) -> Result<()> {
        let name = value::module_name(self.input.length()?);
        self.census.modules.insert(name);
        if self.input.length()? != 2 {
            return Err(self.input.damaged("data of a module"));
        }
        self.input.length()?;
        value::module_data(&mut self.input, &mut Sequence::default())
    }

    fn functions(&mut self) -> Result<()> {
        let code = self.input.owned_string()?;
        self.census.functions.add(blake3::hash(&code).as_bytes());
        match &mut self.visitor {
            Some(visitor) => visitor.functions(&code),
            None => Ok(()),
        }
    }

    /// A move of slots between nodes that was under way.
    fn slot_import(&mut self) -> Result<()> {
        self.input.owned_string()?;
        for _ in 0..self.input.length()? {
            self.lengths(2)?;
        }
        Ok(())
    }

    fn key(&mut self, rdb_type: u8, database: u64, expires: Option<i64>) -> Result<()> {
        let name = self.input.owned_string()?;
        if self.visitor.is_some() {
            self.input.keep();
        }
        let (version, is_valkey, now) = (self.census.version, self.census.is_valkey, self.now);
        let value = value::read(&mut self.input, Surroundings { rdb_type, version, is_valkey, now })?;
        let expiry = expires.map(i64::to_le_bytes);
        let expiry: &[u8] = expiry.as_ref().map_or(&[], |bytes| bytes);
        let digest = digest_of(&mut Vec::new(), &[value.kind.as_bytes(), &name, &value.digest, expiry]);
        let counted = self.census.databases.entry(database).or_default();
        match expires.is_some() || value.field_expiries > 0 {
            true => counted.expiring.add(&digest),
            false => counted.lasting.add(&digest),
        }
        self.census.expired += u64::from(expires.is_some_and(|at| at < now)) + value.expired_fields;
        *self.census.kinds.entry(value.kind).or_default() += 1;
        self.census.modules.extend(value.module);
        if let Some(visitor) = &mut self.visitor {
            let value = [&[rdb_type][..], &self.input.kept()].concat();
            visitor.key(&Key { database, name: &name, expires, value: &value, version })?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let computed = self.input.checksum();
        if self.census.version >= 5 {
            let told = u64::from_le_bytes(self.input.array()?);
            self.census.has_checksum = told != 0;
            if told != 0 && told != computed {
                return Err(self.input.damaged("its checksum is wrong"));
            }
        }
        if !self.input.is_at_end()? {
            return Err(self.input.damaged("it goes on after its end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these bytes between magic and end.
    fn file(inside: &[u8]) -> Vec<u8> {
        let mut bytes = [&b"REDIS0011"[..], inside, &[255]].concat();
        let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Redis, &bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    fn failure(bytes: &[u8]) -> String {
        walk(bytes, 0, None).unwrap_err().to_string()
    }

    const KEYS: &[u8] =
        &[254, 3, 251, 2, 1, 0, 1, b'a', 1, b'1', 252, 1, 0, 0, 0, 0, 0, 0, 0, 248, 9, 0, 1, b'b', 0xc0, 7];

    #[test]
    fn keys_are_counted_by_database_and_expiry() {
        let census = walk(&file(KEYS)[..], 5, None).unwrap();
        let database = census.databases[&3];
        assert_eq!((database.lasting.count, database.expiring.count, census.expired), (1, 1, 1));
        assert!(census.has_checksum && census.inventory()["strings"] == 2);
        assert_eq!(walk(&file(KEYS)[..], 1, None).unwrap().expired, 0);
    }

    #[test]
    fn the_order_of_keys_does_not_matter_and_their_place_does() {
        let first = walk(&file(&[0, 1, b'a', 1, b'x', 0, 1, b'b', 1, b'y'])[..], 0, None).unwrap().fingerprint();
        let second = walk(&file(&[0, 1, b'b', 1, b'y', 0, 1, b'a', 1, b'x'])[..], 0, None).unwrap().fingerprint();
        let other = walk(&file(&[0, 1, b'a', 1, b'y', 0, 1, b'b', 1, b'x'])[..], 0, None).unwrap().fingerprint();
        assert_eq!(first, second);
        assert_ne!(first, other);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let bytes = file(KEYS);
        for cut in 0..bytes.len() {
            assert!(walk(&bytes[..cut], 0, None).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_byte_anywhere_is_seen() {
        let bytes = file(KEYS);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(walk(&flipped[..], 0, None).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn what_follows_the_end_is_refused_and_a_missing_checksum_is_told() {
        assert!(failure(&[file(KEYS), vec![b'x']].concat()).contains("goes on after its end"));
        let mut bytes = file(KEYS);
        let end = bytes.len() - 8;
        bytes[end..].fill(0);
        assert!(!walk(&bytes[..], 0, None).unwrap().has_checksum);
        assert!(failure(b"PGDMP0011").contains("does not begin"));
    }
}
