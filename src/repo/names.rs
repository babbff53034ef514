//! Names of objects (`docs/FORMAT.md` §1). The only place that spells them.

use crate::error::{Failure, Result};
use crate::store::Key;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub const REPOSITORY: &str = "repository.json";
pub const RECIPIENTS: &str = "keys/recipients.json";
pub const WRITERS: &str = "writers/";
/// The source that bkp keeps its own configuration as; no other may be called so.
pub const CONFIGURATION: &str = "bkp-configuration";

/// Names made here are valid by construction; sources were checked by [`check_source`].
fn key(name: String) -> Key {
    Key::new(name).expect("names of objects are made of checked parts")
}

pub fn fixed(name: &str) -> Key {
    key(name.to_owned())
}

pub fn epoch(number: u32) -> Key {
    key(format!("keys/epoch-{number:04}.age"))
}

/// One version of the list of recipients.
pub fn recipients(number: u32) -> Key {
    key(format!("keys/recipients-{number:04}.json"))
}

pub fn recipients_number(key: &str) -> Option<u32> {
    key.strip_prefix("keys/recipients-")?.strip_suffix(".json")?.parse().ok()
}

pub fn writer(writer: &str) -> Key {
    key(format!("{WRITERS}{writer}.json"))
}

/// Prefix of the points of a writer, or of one of its series.
pub fn points(writer: &str, source: Option<&str>) -> String {
    source.map_or_else(|| format!("w/{writer}/points/"), |s| format!("w/{writer}/points/{s}/"))
}

pub fn point(writer: &str, source: &str, point: &str) -> Key {
    key(format!("w/{writer}/points/{source}/{point}"))
}

/// Prefix of everything that a writer keeps.
pub fn of_writer(writer: &str) -> String {
    format!("w/{writer}/")
}

pub fn packs(writer: &str) -> String {
    format!("w/{writer}/p/")
}

pub fn pack(writer: &str, sha256: &[u8; 32]) -> Key {
    content(writer, 'p', sha256)
}

pub fn index(writer: &str, sha256: &[u8; 32]) -> Key {
    content(writer, 'x', sha256)
}

pub fn body(writer: &str, sha256: &[u8; 32]) -> Key {
    content(writer, 'b', sha256)
}

fn content(writer: &str, kind: char, sha256: &[u8; 32]) -> Key {
    key(format!("w/{writer}/{kind}/{}", hex::encode(&sha256[..16])))
}

pub fn streams(writer: &str) -> String {
    format!("w/{writer}/s/")
}

pub fn new_stream(writer: &str) -> Key {
    key(format!("w/{writer}/s/{}", crate::durable::random_hex(16)))
}

pub fn sessions(writer: &str) -> String {
    format!("w/{writer}/sess/")
}

pub fn session(writer: &str, session: &str) -> Key {
    key(format!("w/{writer}/sess/{session}"))
}

pub fn session_end(writer: &str, session: &str) -> Key {
    key(format!("w/{writer}/sess/{session}.end"))
}

pub fn checkpoints(writer: &str, session: &str) -> String {
    format!("w/{writer}/ckpt/{session}/")
}

pub fn checkpoint(writer: &str, session: &str, number: u32) -> Key {
    key(format!("w/{writer}/ckpt/{session}/{number}"))
}

pub fn proofs(writer: &str, source: Option<&str>) -> String {
    source.map_or_else(|| format!("w/{writer}/proofs/"), |s| format!("w/{writer}/proofs/{s}/"))
}

pub fn proof(writer: &str, source: &str, point: &str, level: &str, at: Timestamp) -> Key {
    key(format!("w/{writer}/proofs/{source}/{point}.{level}.{}", utc(at)))
}

/// Records that points are pinned, or no longer: all of a writer's.
pub fn pinned_points(writer: &str) -> String {
    format!("w/{writer}/pins/")
}

pub fn pinned_point(writer: &str, source: &str, point: &str, at: Timestamp) -> Key {
    key(format!("w/{writer}/pins/{source}/{point}.{}", utc(at)))
}

/// Records that sources are held, or no longer: all of a writer's.
pub fn holds(writer: &str) -> String {
    format!("w/{writer}/holds/")
}

/// Those about the sources of another one, or of itself.
pub fn holds_of(writer: &str, whose: &str) -> String {
    format!("w/{writer}/holds/{whose}/")
}

pub fn new_hold(writer: &str, (whose, source): (&str, &str), at: Timestamp) -> Key {
    key(format!("w/{writer}/holds/{whose}/{source}/{}", stamped(at)))
}

/// What a collector writes about the objects of a writer.
pub fn collector(writer: &str, kind: &str) -> String {
    format!("w/{writer}/gc/{kind}/")
}

pub fn tombstone(writer: &str, source: &str, point: &str) -> Key {
    key(format!("{}{source}/{point}", collector(writer, "forgotten")))
}

pub fn fence(writer: &str, session: &str) -> Key {
    key(format!("{}{session}", collector(writer, "fences")))
}

pub fn mark(writer: &str, number: u32) -> Key {
    key(format!("{}{number:08}-{}", collector(writer, "marks"), crate::durable::random_hex(4)))
}

pub fn mark_number(key: &Key) -> Option<u32> {
    key.last().split_once('-')?.0.parse().ok()
}

pub fn dead_list(writer: &str, sha256: &[u8; 32]) -> Key {
    key(format!("{}{}", collector(writer, "dead"), hex::encode(&sha256[..16])))
}

pub fn collector_clock(writer: &str) -> Key {
    key(format!("{}{}", collector(writer, "clock"), crate::durable::random_hex(8)))
}

/// Signed heads of the journals of a writer, and what time-stamping authorities said of them.
pub fn heads(writer: &str) -> String {
    format!("w/{writer}/heads/")
}

pub fn head(writer: &str, journal: &str, seq: u64) -> Key {
    key(format!("{}{journal}-{seq:016}.json", heads(writer)))
}

/// The time stamp of a head.
pub fn head_stamp(writer: &str, journal: &str, seq: u64) -> Key {
    key(format!("{}{journal}-{seq:016}.tsr", heads(writer)))
}

/// Signed statements of rehearsals.
pub fn rehearsals(writer: &str) -> String {
    format!("w/{writer}/rehearsals/")
}

pub fn rehearsal(writer: &str, journal: &str, seq: u64) -> Key {
    key(format!("{}{journal}-{seq:016}", rehearsals(writer)))
}

pub fn journals(writer: &str) -> String {
    format!("w/{writer}/journal/")
}

/// A sealed segment of a journal, by the number of its first record.
pub fn journal(writer: &str, journal: &str, first: u64) -> Key {
    key(format!("w/{writer}/journal/{journal}-{first:016}"))
}

/// `YYYYMMDDTHHMMSSZ`.
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `UTC-ID` of a new point or session.
pub fn stamped(at: Timestamp) -> String {
    format!("{}-{}", utc(at), crate::durable::random_hex(4))
}

/// The instant in the name of a point, to the second.
pub fn instant_of(point: &str) -> Option<Timestamp> {
    let (stamp, id) = point.split_once('-')?;
    let good_id = id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    good_id.then(|| civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|z| z.timestamp())).flatten()
}

/// Whether an object is called as what is in it says. What it says may be anything.
pub fn is_point(name: &Key, writer: &str, source: &str, point: &str) -> bool {
    name.as_str() == format!("w/{writer}/points/{source}/{point}")
}

pub fn is_writer(name: &Key, writer: &str) -> bool {
    name.as_str() == format!("{WRITERS}{writer}.json")
}

/// The short id people type: the part after the dash.
pub fn short_id(point: &str) -> &str {
    point.rsplit('-').next().unwrap_or(point)
}

pub fn check_source(name: &str) -> Result<()> {
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.bytes().all(alphabet) {
        return Err(Failure::usage(format!("`{name}` cannot be the name of a source"))
            .hint("Use letters, digits, `.`, `_` and `-`, not beginning with `.`, at most 100"));
    }
    Ok(())
}

/// A stream's name out of what an engine calls it; the alphabet is that of sources.
pub fn stream_name(wanted: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = wanted.trim_start_matches('.').chars().map(allowed).take(100).collect();
    if name.is_empty() { "stream".into() } else { name }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_by_its_instant() {
        let at: Timestamp = "2026-11-22T02:30:15.9Z".parse().unwrap();
        let name = stamped(at);
        assert!(name.starts_with("20261122T023015Z-"));
        assert_eq!(instant_of(&name).unwrap(), "2026-11-22T02:30:15Z".parse().unwrap());
        assert_eq!(instant_of("20261122T023015Z-xyz"), None);
    }

    #[test]
    fn sources_cannot_leave_their_place() {
        assert!(check_source("mysql-auth").is_ok());
        for bad in ["", "..", ".x", "a/b", "a b", "ñ"] {
            assert!(check_source(bad).is_err(), "{bad}");
        }
    }
}
