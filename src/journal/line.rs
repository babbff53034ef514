//! One record as one line: written in one form only, so that its hash can be told by anybody with `sha256sum`.
//!
//! `{"seq":N,"at":"…","prev":"…",` fields of the fact `,"check":"…"}`. The hash of a record is the SHA-256 of its line up to
//! `,"check"`; `check` is the beginning of it, and `prev` is the whole hash of the record before.

use super::fact;
use super::record::{Fact, Record};
use crate::error::{Failure, Result};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The hash of a record, in lower case hexadecimal.
pub type Hash = String;

/// Where the chain stands: what the next record goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub hash: Hash,
}

impl Head {
    /// Before the first record.
    pub fn none() -> Self {
        Head { seq: 0, hash: "0".repeat(64) }
    }
}

const CHECK_DIGITS: usize = 16;
const CHECK: &str = ",\"check\":\"";
/// `,"check":"` … `"}`
const ENDING: usize = CHECK.len() + CHECK_DIGITS + 2;

/// The line of the next record, with its newline, and where the chain stands then.
pub fn encode(head: &Head, at: Timestamp, fact: &Fact) -> Result<(String, Head)> {
    let at = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let fact = serde_json::to_string(fact).map_err(|e| Failure::failed("cannot write a record").because(e))?;
    let fields = fact.strip_prefix('{').and_then(|f| f.strip_suffix('}')).unwrap_or(&fact);
    let seq = head.seq + 1;
    let mut line = format!("{{\"seq\":{seq},\"at\":\"{at}\",\"prev\":\"{}\",{fields}", head.hash);
    let hash = hex::encode(Sha256::digest(&line));
    line.push_str(CHECK);
    line.push_str(&hash[..CHECK_DIGITS]);
    line.push_str("\"}\n");
    Ok((line, Head { seq, hash }))
}

/// A line whose check holds.
#[derive(Debug, PartialEq)]
pub struct Sound<'a> {
    text: &'a str,
    pub seq: u64,
    pub prev: &'a str,
    pub hash: Hash,
    /// The time as it stands there.
    pub at: &'a str,
    /// What follows the chain: `"kind":"…"` and the fields of that kind, without the check.
    pub fields: &'a str,
}

/// Without its newline. An error says what is wrong with it.
pub fn decode(line: &[u8]) -> std::result::Result<Sound<'_>, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let body = text.len().checked_sub(ENDING).filter(|at| text.is_char_boundary(*at)).ok_or("it is too short")?;
    let (body, ending) = text.split_at(body);
    let check = ending.strip_prefix(CHECK).and_then(|rest| rest.strip_suffix("\"}")).ok_or("it has no check")?;
    let hash = hex::encode(Sha256::digest(body));
    if hash[..CHECK_DIGITS] != *check {
        return Err("its check does not fit what it says");
    }
    let parts = || {
        let (seq, rest) = body.strip_prefix("{\"seq\":")?.split_once(",\"at\":\"")?;
        let (at, rest) = rest.split_once("\",\"prev\":\"")?;
        let (prev, fields) = rest.split_once("\",")?;
        Some((seq.parse().ok()?, at, prev, fields))
    };
    let (seq, at, prev, fields) = parts().ok_or("it does not begin as a record does")?;
    Ok(Sound { text, seq, prev, hash, at, fields })
}

impl Sound<'_> {
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash.clone() }
    }

    pub fn record(&self) -> std::result::Result<Record, &'static str> {
        let at = self.at.parse().map_err(|_| "its time is none")?;
        let fact = fact::of(self.text, self.fields).map_err(|_| "it says nothing that makes sense")?;
        Ok(Record { seq: self.seq, at, fact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2026-11-29T23:00:00.123Z".parse().unwrap()
    }

    #[test]
    fn a_record_comes_back_and_the_chain_goes_on() {
        let fact = Fact::HoldPlaced { source: "app".into(), why: "half of it is gone: \"}\n".into() };
        let (line, head) = encode(&Head::none(), at(), &fact).unwrap();
        let sound = decode(line.trim_end_matches('\n').as_bytes()).unwrap();
        assert_eq!(sound.record().unwrap(), Record { seq: 1, at: at(), fact });
        assert_eq!((sound.head(), sound.prev), (head.clone(), Head::none().hash.as_str()));
        let (next, _) = encode(&head, at(), &Fact::TailMended { bytes: 1 }).unwrap();
        assert_eq!(decode(next.trim_end().as_bytes()).unwrap().prev, head.hash);
    }

    #[test]
    fn anybody_can_tell_the_hash() {
        let (line, head) = encode(&Head::none(), at(), &Fact::TailMended { bytes: 7 }).unwrap();
        let zeros = "0".repeat(64);
        let body =
            format!(r#"{{"seq":1,"at":"2026-11-29T23:00:00.123Z","prev":"{zeros}","kind":"tail_mended","bytes":7"#);
        assert_eq!(head.hash, hex::encode(Sha256::digest(&body)));
        assert_eq!(line, format!("{body},\"check\":\"{}\"}}\n", &head.hash[..16]));
    }

    #[test]
    fn every_change_of_a_byte_is_seen() {
        let (line, _) = encode(&Head::none(), at(), &Fact::TailMended { bytes: 7 }).unwrap();
        let line = line.trim_end().as_bytes();
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "byte {at}");
            assert!(decode(&line[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_passed_over() {
        let body = format!(
            r#"{{"seq":1,"at":"2026-11-29T23:00:00.123Z","prev":"{}","kind":"of_tomorrow","x":[1]"#,
            "0".repeat(64)
        );
        let line = format!("{body},\"check\":\"{}\"}}", &hex::encode(Sha256::digest(&body))[..16]);
        assert_eq!(decode(line.as_bytes()).unwrap().record().unwrap().fact, Fact::Unknown);
    }
}
