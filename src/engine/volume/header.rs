//! The tar headers of one entry, both ways: a 512-byte ustar header, before it a pax header where the fields are too small.
//!
//! Written is what `docs/FORMAT.md` §7 lists; read is what was written, and everything else is refused as damage.

use super::acl;
use super::entry::{BLOCK, Entry, Kind, Time, Xattrs, padding, safe_path};
use crate::error::{Failure, Kind as FailureKind, Result};
use tar::{EntryType, Header};

/// Largest values of the octal fields of 8 and 12 bytes.
const FIELD_8: u64 = 0o7_777_777;
const FIELD_12: u64 = 0o77_777_777_777;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// An entry as the tar stream tells it; its sparse map, if any, stands in the data.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub entry: Entry,
    pub xattrs: Xattrs,
    pub sparse: bool,
}

/// Writes all headers of an entry behind `out`; gives their length.
pub fn encode(entry: &Entry, xattrs: &Xattrs, out: &mut Vec<u8>) -> u64 {
    let begin = out.len();
    let name = tar_name(entry);
    let records = pax_records(entry, xattrs, &name);
    if !records.is_empty() {
        let mut header = Header::new_ustar();
        fill(&mut header, EntryType::XHeader, b"PaxHeader", records.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64) as usize, 0);
    }
    let mut header = Header::new_ustar();
    fill(&mut header, entry_type(entry.kind), &name, entry.stored);
    header.set_mode(entry.mode);
    header.set_uid(fitting(entry.uid.into(), FIELD_8));
    header.set_gid(fitting(entry.gid.into(), FIELD_8));
    header.set_mtime(u64::try_from(entry.mtime.0).map_or(0, |seconds| fitting(seconds, FIELD_12)));
    if let Some(ustar) = header.as_ustar_mut() {
        copy_into(&mut ustar.linkname, &entry.link);
        if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            ustar.set_device_major(entry.device.0);
            ustar.set_device_minor(entry.device.1);
        }
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    (out.len() - begin) as u64
}

fn fill(header: &mut Header, kind: EntryType, name: &[u8], size: u64) {
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(fitting(size, FIELD_12));
    if let Some(ustar) = header.as_ustar_mut() {
        copy_into(&mut ustar.name, name);
    }
}

fn fitting(value: u64, largest: u64) -> u64 {
    if value > largest { 0 } else { value }
}

fn copy_into(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn tar_name(entry: &Entry) -> Vec<u8> {
    let mut name = if entry.path.is_empty() { b".".to_vec() } else { entry.path.clone() };
    if entry.kind == Kind::Directory {
        name.push(b'/');
    }
    name
}

fn entry_type(kind: Kind) -> EntryType {
    match kind {
        Kind::Directory => EntryType::Directory,
        Kind::File => EntryType::Regular,
        Kind::Symlink => EntryType::Symlink,
        Kind::HardLink => EntryType::Link,
        Kind::Fifo => EntryType::Fifo,
        Kind::CharacterDevice => EntryType::Char,
        Kind::BlockDevice => EntryType::Block,
    }
}

fn pax_records(entry: &Entry, xattrs: &Xattrs, name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let link = &entry.link[..];
    if std::str::from_utf8(name).is_err() || std::str::from_utf8(link).is_err() {
        record(&mut out, b"hdrcharset", b"BINARY");
    }
    if !entry.sparse.is_empty() {
        record(&mut out, b"GNU.sparse.major", b"1");
        record(&mut out, b"GNU.sparse.minor", b"0");
        record(&mut out, b"GNU.sparse.name", name);
        record(&mut out, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    } else if name.len() > 100 || !name.is_ascii() {
        record(&mut out, b"path", name);
    }
    if link.len() > 100 || !link.is_ascii() {
        record(&mut out, b"linkpath", link);
    }
    for (key, value, largest) in
        [("size", entry.stored, FIELD_12), ("uid", entry.uid.into(), FIELD_8), ("gid", entry.gid.into(), FIELD_8)]
    {
        if value > largest {
            record(&mut out, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    if entry.mtime.1 != 0 || u64::try_from(entry.mtime.0).is_ok_and(|s| s > FIELD_12) || entry.mtime.0 < 0 {
        record(&mut out, b"mtime", time_text(entry.mtime).as_bytes());
    }
    for (key, value) in acl::records(xattrs) {
        record(&mut out, key, value.as_bytes());
    }
    for (key, value) in xattrs {
        record(&mut out, &[XATTR, &escape_key(key)].concat(), value);
    }
    out
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// An equals sign would end the key; written as GNU tar does.
fn escape_key(key: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(key.len());
    for &byte in key {
        match byte {
            b'=' => escaped.extend_from_slice(b"%3D"),
            b'%' => escaped.extend_from_slice(b"%25"),
            _ => escaped.push(byte),
        }
    }
    escaped
}

fn unescape_key(key: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, length) = match rest.get(..3) {
            Some(b"%3D") => (b'=', 3),
            Some(b"%25") => (b'%', 3),
            _ => (byte, 1),
        };
        plain.push(byte);
        rest = if length == 1 { after } else { &rest[length..] };
    }
    plain
}

fn time_text((seconds, nanoseconds): Time) -> String {
    let (sign, whole, fraction) = if seconds < 0 && nanoseconds > 0 {
        ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs(), nanoseconds)
    };
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    format!("{sign}{whole}.{}", format!("{fraction:09}").trim_end_matches('0'))
}

fn parse_time(text: &str) -> Option<Time> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 {
        return None;
    }
    let whole: i64 = whole.parse().ok().filter(|whole| *whole >= 0)?;
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => (whole, nanoseconds),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanoseconds),
    })
}

/// Reads the headers of the entry that `bytes` begins with.
pub fn decode(bytes: &[u8]) -> Result<Decoded> {
    let mut at = 0;
    let mut header = block(bytes, at)?;
    let mut pax = Pax::default();
    if header.entry_type() == EntryType::XHeader {
        let size = header.entry_size().map_err(|_| damaged("a pax header has no size"))?;
        let records = usize::try_from(size).ok().and_then(|size| bytes.get(512..512usize.checked_add(size)?));
        pax = Pax::parse(records.ok_or_else(|| damaged("a pax header is cut"))?)?;
        at = 512 + size.next_multiple_of(BLOCK) as usize;
        header = block(bytes, at)?;
    }
    let ustar = header.as_ustar().ok_or_else(|| damaged("a header is not ustar"))?;
    let kind = kind_of(header.entry_type())?;
    let number = |value: std::io::Result<u64>| value.map_err(|_| damaged("a field of a header is no number"));
    let small = |value: u64| u32::try_from(value).map_err(|_| damaged("an owner's number is too large"));
    let stored = match kind {
        Kind::File => pax.size.map_or_else(|| number(header.entry_size()), Ok)?,
        _ => 0,
    };
    let device = match kind {
        Kind::CharacterDevice | Kind::BlockDevice => (
            ustar.device_major().map_err(|_| damaged("a device has no number"))?,
            ustar.device_minor().map_err(|_| damaged("a device has no number"))?,
        ),
        _ => (0, 0),
    };
    let entry = Entry {
        path: safe_path(pax.path.as_deref().unwrap_or(until_zero(&ustar.name)))?.to_vec(),
        kind,
        mode: header.mode().map_err(|_| damaged("a field of a header is no number"))? & 0o7777,
        uid: small(pax.uid.map_or_else(|| number(header.uid()), Ok)?)?,
        gid: small(pax.gid.map_or_else(|| number(header.gid()), Ok)?)?,
        size: pax.real_size.unwrap_or(stored),
        mtime: match pax.mtime {
            Some(mtime) => mtime,
            None => (number(header.mtime())? as i64, 0),
        },
        link: pax.link.unwrap_or_else(|| until_zero(&ustar.linkname).to_vec()),
        device,
        header: at as u64 + BLOCK,
        stored,
        ..Entry::default()
    };
    Ok(Decoded { entry, xattrs: pax.xattrs, sparse: pax.real_size.is_some() })
}

fn block(bytes: &[u8], at: usize) -> Result<&Header> {
    let block = bytes.get(at..at.saturating_add(512)).ok_or_else(|| damaged("a header is cut"))?;
    let header = Header::from_byte_slice(block);
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    match header.cksum() {
        Ok(said) if said == sum => Ok(header),
        _ => Err(damaged("the checksum of a header does not fit")),
    }
}

fn kind_of(kind: EntryType) -> Result<Kind> {
    Ok(match kind {
        EntryType::Directory => Kind::Directory,
        EntryType::Regular => Kind::File,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::CharacterDevice,
        EntryType::Block => Kind::BlockDevice,
        other => return Err(damaged(&format!("an entry has the unknown type {:?}", char::from(other.as_byte())))),
    })
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or(field)
}

pub fn damaged(what: &str) -> Failure {
    Failure::new(FailureKind::Verification, format!("the tar stream of the point is damaged: {what}"))
        .hint("Run `bkp check --level readable`, and restore another point")
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: Xattrs,
}

impl Pax {
    fn parse(mut rest: &[u8]) -> Result<Self> {
        let mut pax = Pax::default();
        while !rest.is_empty() {
            let (key, value, length) = split_record(rest).ok_or_else(|| damaged("a pax record is malformed"))?;
            pax.take(key, value).ok_or_else(|| damaged("a pax record has a bad value"))?;
            rest = &rest[length..];
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        match key {
            b"path" | b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"GNU.sparse.realsize" => self.real_size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(parse_time(std::str::from_utf8(value).ok()?)?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((unescape_key(name), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let space = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (last, body) = bytes.get(space + 1..length)?.split_last()?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    (*last == b'\n').then_some((&body[..equals], &body[equals + 1..], length))
}

#[cfg(test)]
mod tests {
    use super::super::entry::Extent;
    use super::*;
    use proptest::prelude::*;

    fn round_trip(entry: &Entry, xattrs: &Xattrs) -> Decoded {
        let mut bytes = Vec::new();
        assert_eq!(encode(entry, xattrs, &mut bytes) as usize, bytes.len());
        assert_eq!(bytes.len() % 512, 0);
        decode(&bytes).unwrap()
    }

    fn with_header(entry: Entry, decoded: &Decoded) -> Entry {
        Entry { header: decoded.entry.header, ..entry }
    }

    #[test]
    fn values_that_fit_no_field_survive() {
        let entry = Entry {
            path: [b"deep/".repeat(900), b"na\nme\xff".to_vec()].concat(),
            mode: 0o6755,
            uid: u32::MAX - 1,
            gid: 3_000_000,
            size: 1 << 40,
            stored: 1 << 40,
            mtime: (-1_000_000_000, 999_999_999),
            ..Entry::default()
        };
        let xattrs = vec![(b"user.a=b%".to_vec(), b"\0=\n\xff".to_vec()), (b"user.empty".to_vec(), Vec::new())];
        let decoded = round_trip(&entry, &xattrs);
        assert_eq!(decoded.entry, with_header(entry, &decoded));
        assert_eq!(decoded.xattrs, xattrs);
    }

    #[test]
    fn a_plain_entry_takes_one_block() {
        let entry = Entry { path: b"plain".to_vec(), mtime: (1_700_000_000, 0), mode: 0o644, ..Entry::default() };
        assert_eq!(round_trip(&entry, &Vec::new()).entry, Entry { header: 512, ..entry });
    }

    #[test]
    fn every_kind_survives() {
        for (kind, link, device) in [
            (Kind::Directory, "", (0, 0)),
            (Kind::Symlink, "../tärget", (0, 0)),
            (Kind::HardLink, "first", (0, 0)),
            (Kind::Fifo, "", (0, 0)),
            (Kind::CharacterDevice, "", (1, 3)),
            (Kind::BlockDevice, "", (259, 70_000)),
        ] {
            let entry = Entry { path: b"x".to_vec(), kind, link: link.into(), device, ..Entry::default() };
            let decoded = round_trip(&entry, &Vec::new());
            assert_eq!(decoded.entry, with_header(entry, &decoded));
        }
    }

    #[test]
    fn a_sparse_entry_tells_its_real_size() {
        let sparse = vec![Extent { offset: 5000, length: 0 }];
        let entry = Entry { path: b"s".to_vec(), size: 5000, stored: 512, sparse, ..Entry::default() };
        let decoded = round_trip(&entry, &Vec::new());
        assert!(decoded.sparse);
        assert_eq!((decoded.entry.size, decoded.entry.stored), (5000, 512));
    }

    proptest! {
        #[test]
        fn times_survive(seconds in -5_000_000_000_000i64..5_000_000_000_000, nanoseconds in 0u32..1_000_000_000) {
            prop_assert_eq!(parse_time(&time_text((seconds, nanoseconds))), Some((seconds, nanoseconds)));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&bytes);
            let _ = Pax::parse(&bytes);
        }

        #[test]
        fn a_flipped_byte_in_a_header_is_seen(at in 0usize..512, bit in 0u8..8) {
            let mut bytes = Vec::new();
            encode(&Entry { path: b"a/b".to_vec(), ..Entry::default() }, &Vec::new(), &mut bytes);
            bytes[at] ^= 1 << bit;
            prop_assert!((148..156).contains(&at) || decode(&bytes).is_err());
        }
    }
}
