//! Values of keys, read to their last byte and brought into one form, however the server had packed them.
//!
//! The digest of a value is over what clients see: elements of lists in their order, those of sets, sorted sets and hashes in
//! any order. Only data of modules is digested as it stands in the file.

use super::census::Sum;
use super::input::{Input, Length};
use super::packed::{self, Elements};
use super::stream;
use crate::error::{Failure, Kind, Result};
use std::io::Read;

/// What was learnt of a value.
#[derive(Debug)]
pub struct Value {
    /// In the plural, as the inventory has it.
    pub kind: &'static str,
    pub digest: [u8; 32],
    /// Expiries of fields of a hash: how many there are, and how many are over.
    pub field_expiries: u64,
    pub expired_fields: u64,
    pub module: Option<String>,
}

impl Value {
    fn new(kind: &'static str, digest: [u8; 32]) -> Self {
        Value { kind, digest, field_expiries: 0, expired_fields: 0, module: None }
    }
}

/// What stands in the file around a value.
#[derive(Clone, Copy)]
pub struct Surroundings {
    pub rdb_type: u8,
    pub version: u32,
    pub is_valkey: bool,
    /// Milliseconds since 1970 at which expiries are looked at.
    pub now: i64,
}

/// A hash over byte strings that cannot be taken for others put together.
pub fn digest_of(scratch: &mut Vec<u8>, parts: &[&[u8]]) -> [u8; 32] {
    scratch.clear();
    for part in parts {
        scratch.extend_from_slice(&(part.len() as u64).to_le_bytes());
        scratch.extend_from_slice(part);
    }
    *blake3::hash(scratch).as_bytes()
}

/// Elements in their order.
#[derive(Default)]
pub struct Sequence(blake3::Hasher);

impl Sequence {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub fn digest(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

pub fn read<R: Read>(input: &mut Input<R>, around: Surroundings) -> Result<Value> {
    match (around.rdb_type, around.is_valkey) {
        (0, _) => string(input),
        (1 | 10 | 14 | 18, _) => list(input, around.rdb_type),
        (2 | 11 | 20, _) => set(input, around.rdb_type),
        (3 | 5 | 12 | 17, _) => sorted_set(input, around.rdb_type),
        (4 | 9 | 13 | 16, _) => plain_hash(input, around.rdb_type),
        (22, true) => valkey_hash(input, around.now),
        (22 | 24, false) => redis_hash(input, around),
        (23 | 25, false) => packed_redis_hash(input, around),
        (7, _) => module(input),
        (15 | 19 | 21, _) => Ok(Value::new("streams", stream::read(input, around.rdb_type)?)),
        (6, _) => Err(input.damaged("data of a module of a release candidate of Redis 4")),
        (other, _) => Err(unknown(other, around)),
    }
}

fn unknown(rdb_type: u8, around: Surroundings) -> Failure {
    let flavour = if around.is_valkey { "Valkey" } else { "Redis" };
    let text = format!(
        "the RDB data has a value of type {rdb_type} (RDB version {} of {flavour}), which this version of bkp does not know",
        around.version
    );
    Failure::new(Kind::Verification, text).hint("Use a newer bkp; until then, the key with that value is in the way")
}

fn string<R: Read>(input: &mut Input<R>) -> Result<Value> {
    let mut hash = blake3::Hasher::new();
    match input.length_or_special()? {
        // The longest values are these, and they need not be held.
        Length::Plain(length) => input.pieces(length, |piece| {
            hash.update(piece);
        })?,
        special => {
            let mut bytes = Vec::new();
            input.string_of(special, &mut bytes)?;
            hash.update(&bytes);
        }
    }
    Ok(Value::new("strings", *hash.finalize().as_bytes()))
}

type Unpack = for<'a> fn(&'a [u8]) -> Option<Elements<'a>>;

/// Reads a packed string and hands its elements to `take`, in groups of `group`.
fn packed<R: Read>(
    input: &mut Input<R>,
    unpack: Unpack,
    group: usize,
    mut take: impl FnMut(&[std::borrow::Cow<'_, [u8]>]),
) -> Result<()> {
    let bytes = input.owned_string()?;
    match unpack(&bytes) {
        Some(elements) if elements.len().is_multiple_of(group) => elements.chunks_exact(group).for_each(&mut take),
        _ => return Err(input.damaged("a packed value")),
    }
    Ok(())
}

fn list<R: Read>(input: &mut Input<R>, rdb_type: u8) -> Result<Value> {
    let mut sequence = Sequence::default();
    let mut bytes = Vec::new();
    match rdb_type {
        10 => packed(input, packed::ziplist, 1, |e| sequence.add(&e[0]))?,
        1 => {
            for _ in 0..input.length()? {
                input.string(&mut bytes)?;
                sequence.add(&bytes);
            }
        }
        _ => {
            for _ in 0..input.length()? {
                let form = if rdb_type == 18 { input.length()? } else { 0 };
                match form {
                    0 if rdb_type == 14 => packed(input, packed::ziplist, 1, |e| sequence.add(&e[0]))?,
                    1 => {
                        input.string(&mut bytes)?;
                        sequence.add(&bytes);
                    }
                    2 => packed(input, packed::listpack, 1, |e| sequence.add(&e[0]))?,
                    _ => return Err(input.damaged("a list of an unknown form")),
                }
            }
        }
    }
    Ok(Value::new("lists", sequence.digest()))
}

fn set<R: Read>(input: &mut Input<R>, rdb_type: u8) -> Result<Value> {
    let mut sum = Sum::default();
    let mut scratch = Vec::new();
    match rdb_type {
        11 => packed(input, packed::intset, 1, |e| sum.add(&digest_of(&mut scratch, &[&e[0]])))?,
        20 => packed(input, packed::listpack, 1, |e| sum.add(&digest_of(&mut scratch, &[&e[0]])))?,
        _ => {
            let mut bytes = Vec::new();
            for _ in 0..input.length()? {
                input.string(&mut bytes)?;
                sum.add(&digest_of(&mut scratch, &[&bytes]));
            }
        }
    }
    Ok(Value::new("sets", sum.bytes()))
}

fn sorted_set<R: Read>(input: &mut Input<R>, rdb_type: u8) -> Result<Value> {
    let mut sum = Sum::default();
    let mut scratch = Vec::new();
    let mut bad = false;
    let mut add = |member: &[u8], score: Option<f64>| match score {
        Some(score) => sum.add(&digest_of(&mut scratch, &[member, &score.to_le_bytes()])),
        None => bad = true,
    };
    match rdb_type {
        12 => packed(input, packed::ziplist, 2, |e| add(&e[0], number(&e[1])))?,
        17 => packed(input, packed::listpack, 2, |e| add(&e[0], number(&e[1])))?,
        _ => {
            let mut member = Vec::new();
            for _ in 0..input.length()? {
                input.string(&mut member)?;
                let score = if rdb_type == 5 { Some(f64::from_le_bytes(input.array()?)) } else { old_score(input)? };
                add(&member, score);
            }
        }
    }
    if bad {
        return Err(input.damaged("a score that is no number"));
    }
    Ok(Value::new("sorted_sets", sum.bytes()))
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn old_score<R: Read>(input: &mut Input<R>) -> Result<Option<f64>> {
    Ok(match input.byte()? {
        253 => Some(f64::NAN),
        254 => Some(f64::INFINITY),
        255 => Some(f64::NEG_INFINITY),
        length => {
            let mut text = Vec::new();
            input.pieces(u64::from(length), |piece| text.extend_from_slice(piece))?;
            number(&text)
        }
    })
}

/// Collects the fields of a hash.
struct Fields {
    sum: Sum,
    scratch: Vec<u8>,
    now: i64,
    expiries: u64,
    expired: u64,
}

impl Fields {
    fn new(now: i64) -> Self {
        Fields { sum: Sum::default(), scratch: Vec::new(), now, expiries: 0, expired: 0 }
    }

    fn add(&mut self, field: &[u8], value: &[u8], expires: Option<i64>) {
        let digest = match expires {
            None => digest_of(&mut self.scratch, &[field, value]),
            Some(at) => {
                self.expiries += 1;
                self.expired += u64::from(at < self.now);
                digest_of(&mut self.scratch, &[field, value, &at.to_le_bytes()])
            }
        };
        self.sum.add(&digest);
    }

    fn value(self) -> Value {
        let value = Value::new("hashes", self.sum.bytes());
        Value { field_expiries: self.expiries, expired_fields: self.expired, ..value }
    }
}

fn plain_hash<R: Read>(input: &mut Input<R>, rdb_type: u8) -> Result<Value> {
    let mut fields = Fields::new(0);
    match rdb_type {
        9 => packed(input, packed::zipmap, 2, |e| fields.add(&e[0], &e[1], None))?,
        13 => packed(input, packed::ziplist, 2, |e| fields.add(&e[0], &e[1], None))?,
        16 => packed(input, packed::listpack, 2, |e| fields.add(&e[0], &e[1], None))?,
        _ => {
            let (mut field, mut value) = (Vec::new(), Vec::new());
            for _ in 0..input.length()? {
                input.string(&mut field)?;
                input.string(&mut value)?;
                fields.add(&field, &value, None);
            }
        }
    }
    Ok(fields.value())
}

/// Of Valkey 9: each field is followed by its expiry, or -1.
fn valkey_hash<R: Read>(input: &mut Input<R>, now: i64) -> Result<Value> {
    let mut fields = Fields::new(now);
    let (mut field, mut value) = (Vec::new(), Vec::new());
    for _ in 0..input.length()? {
        input.string(&mut field)?;
        input.string(&mut value)?;
        let expires = input.milliseconds()?;
        fields.add(&field, &value, (expires != -1).then_some(expires));
    }
    Ok(fields.value())
}

/// Of Redis 7.4: expiries before their fields, counted from the earliest one, plus 1; in its release candidates from 1970.
fn redis_hash<R: Read>(input: &mut Input<R>, around: Surroundings) -> Result<Value> {
    let mut fields = Fields::new(around.now);
    let earliest = if around.rdb_type == 24 { input.milliseconds()?.wrapping_sub(1) } else { 0 };
    let (mut field, mut value) = (Vec::new(), Vec::new());
    for _ in 0..input.length()? {
        let expires = input.length()?;
        input.string(&mut field)?;
        input.string(&mut value)?;
        fields.add(&field, &value, (expires != 0).then(|| earliest.wrapping_add_unsigned(expires)));
    }
    Ok(fields.value())
}

fn packed_redis_hash<R: Read>(input: &mut Input<R>, around: Surroundings) -> Result<Value> {
    let mut fields = Fields::new(around.now);
    if around.rdb_type == 25 {
        input.milliseconds()?;
    }
    packed(input, packed::listpack, 3, |e| {
        let expires = std::str::from_utf8(&e[2]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        fields.add(&e[0], &e[1], (expires != 0).then_some(expires));
    })?;
    Ok(fields.value())
}

/// Names of modules stand in the file as nine digits to the base of 64, and ten bits of version.
pub fn module_name(id: u64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|at| char::from(DIGITS[(id >> (58 - 6 * at)) as usize & 63])).collect()
}

fn module<R: Read>(input: &mut Input<R>) -> Result<Value> {
    let name = module_name(input.length()?);
    let mut sequence = Sequence::default();
    module_data(input, &mut sequence)?;
    Ok(Value { module: Some(name), ..Value::new("of_modules", sequence.digest()) })
}

/// What a module wrote, to its end mark.
pub fn module_data<R: Read>(input: &mut Input<R>, sequence: &mut Sequence) -> Result<()> {
    let mut bytes = Vec::new();
    loop {
        match input.length()? {
            0 => return Ok(()),
            1 | 2 => sequence.add(&input.length()?.to_le_bytes()),
            3 => sequence.add(&input.array::<4>()?),
            4 => sequence.add(&input.array::<8>()?),
            5 => {
                input.string(&mut bytes)?;
                sequence.add(&bytes);
            }
            _ => return Err(input.damaged("data of a module in an unknown form")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(rdb_type: u8, is_valkey: bool, bytes: &[u8]) -> Value {
        let around = Surroundings { rdb_type, version: 12, is_valkey, now: 5_000 };
        let mut input = Input::new(bytes);
        let value = read(&mut input, around).unwrap();
        assert!(input.is_at_end().unwrap(), "type {rdb_type} is not read to its end");
        value
    }

    /// A string of the file.
    fn text(text: &[u8]) -> Vec<u8> {
        [&[text.len() as u8], text].concat()
    }

    fn listpack(entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.push(0x80 | entry.len() as u8);
            bytes.extend_from_slice(entry);
            bytes.push(entry.len() as u8 + 1);
        }
        let mut whole = (bytes.len() as u32 + 7).to_le_bytes().to_vec();
        whole.extend([entries.len() as u8, 0]);
        whole.extend(bytes);
        whole.push(0xff);
        text(&whole)
    }

    #[test]
    fn a_value_has_one_digest_in_every_form() {
        let pairs = [text(b"b"), text(b"2"), text(b"a"), text(b"1")].concat();
        let hash = value(4, false, &[&[2][..], &pairs].concat());
        assert_eq!(hash.digest, value(16, false, &listpack(&[b"a", b"1", b"b", b"2"])).digest);
        assert_ne!(hash.digest, value(16, false, &listpack(&[b"a", b"2", b"b", b"1"])).digest);
        let list = value(1, false, &[&[4][..], &pairs].concat());
        let quick = [&[3, 2][..], &listpack(&[b"b", b"2"]), &[1], &text(b"a"), &[2], &listpack(&[b"1"])].concat();
        assert_eq!(list.digest, value(18, false, &quick).digest);
        let set = value(2, false, &[&[2][..], &text(b"7"), &text(b"-1")].concat());
        assert_eq!(set.digest, value(11, false, &text(&[2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 7, 0])).digest);
        let scores = [&[1][..], &text(b"m"), &1.5f64.to_le_bytes()].concat();
        assert_eq!(value(5, false, &scores).digest, value(17, false, &listpack(&[b"m", b"1.5"])).digest);
        assert_eq!(
            value(5, false, &scores).digest,
            value(3, false, &[&[1][..], &text(b"m"), &text(b"1.5")].concat()).digest
        );
    }

    #[test]
    fn fields_with_expiries_are_read_in_every_form() {
        let field = [text(b"f"), text(b"v")].concat();
        let valkey = [&[1][..], &field, &4_000i64.to_le_bytes()].concat();
        let valkey = value(22, true, &valkey);
        let early = value(22, false, &[&[1, 0x80, 0, 0, 0x0f, 0xa0][..], &field].concat());
        let table = value(24, false, &[&4_000i64.to_le_bytes()[..], &[1, 1], &field].concat());
        let packed = value(25, false, &[&4_000i64.to_le_bytes()[..], &listpack(&[b"f", b"v", b"4000"])].concat());
        for other in [&early, &table, &packed] {
            assert_eq!(valkey.digest, other.digest);
            assert_eq!((other.field_expiries, other.expired_fields), (1, 1));
        }
        let lasting = value(24, false, &[&4_000i64.to_le_bytes()[..], &[1, 0], &field].concat());
        assert_eq!(lasting.digest, value(4, false, &[&[1][..], &field].concat()).digest);
    }

    #[test]
    fn data_of_modules_is_walked_and_named() {
        let id = 25u64 << 58;
        let bytes = [&[0x81][..], &id.to_be_bytes(), &[2, 5, 5, 1, b'x', 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(value(7, false, &bytes).module.unwrap(), "ZAAAAAAAA");
    }

    #[test]
    fn an_unknown_type_is_named() {
        let around = Surroundings { rdb_type: 77, version: 99, is_valkey: false, now: 0 };
        let failure = read(&mut Input::new(&b""[..]), around).unwrap_err();
        assert!(failure.to_string().contains("type 77") && failure.to_string().contains("version 99"));
    }
}
