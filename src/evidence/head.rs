//! The head of the journal, signed: what is anchored elsewhere (`docs/FORMAT.md` §12).
//!
//! A few hundred bytes of JSON that name no source and hold no secret: the number and the hash of the last record. Whoever
//! holds one can tell later whether the journal still has that record, and everything before it.

use crate::error::{Context, Failure, Kind, Result};
use crate::journal::Hash;
use crate::repo::sign;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const TYPE: &str = "application/vnd.bkp.head+json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignedHead {
    pub format: u32,
    pub repository: String,
    pub writer: String,
    pub host: String,
    /// The journal's id.
    pub journal: String,
    pub seq: u64,
    pub hash: Hash,
    /// When this was signed, by the clock of the host.
    pub at: Timestamp,
}

/// A head that somebody holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Witness {
    /// Who holds it.
    pub place: String,
    pub journal: String,
    pub seq: u64,
    pub hash: Hash,
    pub at: Timestamp,
    /// When a time-stamping authority saw it, and who that was.
    pub stamped: Option<Stamped>,
}

/// A head as it is kept: its envelope, and the time stamp beside it.
pub struct StampedHead {
    pub seq: u64,
    pub envelope: Vec<u8>,
    pub stamp: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stamped {
    pub at: Timestamp,
    pub authority: String,
    /// Its certificate leads to an authority that is trusted here.
    pub trusted: bool,
}

impl SignedHead {
    /// The envelope, on one line.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>> {
        let payload = serde_json::to_vec(self).map_err(|e| Failure::failed("cannot write a head").because(e))?;
        Ok(sign::sign(TYPE, &payload, key))
    }

    pub fn open(envelope: &[u8], key: &VerifyingKey, what: &str) -> Result<Self> {
        let payload = sign::verify(envelope, TYPE, key, what)?;
        let head: SignedHead =
            serde_json::from_slice(&payload).map_err(|e| Failure::new(Kind::Verification, what).because(e))?;
        crate::repo::point::refuse_newer(head.format, what)?;
        Ok(head)
    }

    pub fn witness(self, place: &str) -> Witness {
        let SignedHead { journal, seq, hash, at, .. } = self;
        Witness { place: place.to_owned(), journal, seq, hash, at, stamped: None }
    }
}

/// The heads in a text: one envelope a line, as an anchor writes them; also a mail that was saved as it came.
#[derive(Debug, Default, PartialEq)]
pub struct InFile {
    /// Signed by the key that was asked for.
    pub heads: Vec<SignedHead>,
    /// Say that they are of the writer that was asked for, and are not signed by its key.
    pub broken: Vec<u64>,
    /// Of other hosts, or damaged.
    pub others: usize,
}

pub fn in_file(path: &Path, key: &VerifyingKey, writer: &str) -> Result<InFile> {
    let what = || format!("cannot read {}", path.display());
    let text = std::fs::read(path).context(what)?;
    Ok(in_text(&text, key, writer))
}

const BEGIN: &str = "-----BEGIN BKP HEAD-----";
const END: &str = "-----END BKP HEAD-----";

/// For mail: lines that nobody wraps.
pub fn armour(envelope: &[u8]) -> String {
    let text = BASE64.encode(envelope);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

/// `writer` may be empty: then nothing is known to be broken.
pub fn in_text(text: &[u8], key: &VerifyingKey, writer: &str) -> InFile {
    let text = String::from_utf8_lossy(text);
    let mut envelopes: Vec<Vec<u8>> = Vec::new();
    let mut armoured: Option<String> = None;
    for line in text.lines().map(str::trim) {
        match &mut armoured {
            // Quoted lines of an answered mail are as good.
            _ if line.trim_start_matches(['>', ' ']) == BEGIN => armoured = Some(String::new()),
            Some(so_far) if line.trim_start_matches(['>', ' ']) == END => {
                envelopes.push(BASE64.decode(&*so_far).unwrap_or_default());
                armoured = None;
            }
            Some(so_far) => so_far.push_str(line.trim_start_matches(['>', ' '])),
            None if line.starts_with("{\"payloadType\"") => envelopes.push(line.as_bytes().to_vec()),
            None => {}
        }
    }
    let mut found = InFile::default();
    for envelope in envelopes {
        let claimed = || sign::unverified(&envelope, "a head").ok().and_then(|p| serde_json::from_slice(&p).ok());
        match SignedHead::open(&envelope, key, "a head") {
            Ok(head) => found.heads.push(head),
            Err(_) => match claimed().filter(|head: &SignedHead| head.writer == writer) {
                Some(head) => found.broken.push(head.seq),
                None => found.others += 1,
            },
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_from_a_file_and_from_a_mail() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let head = SignedHead {
            format: 1,
            repository: "r".into(),
            writer: "w".into(),
            host: "db1".into(),
            journal: "j".into(),
            seq: 7,
            hash: "0f".repeat(32),
            at: "2026-11-30T00:00:00Z".parse().unwrap(),
        };
        let envelope = head.sign(&key).unwrap();
        let line = [&envelope[..], b"\n"].concat();
        let mail = format!("Subject: x\r\n\r\nKeep it.\r\n\r\n{}", armour(&envelope).replace('\n', "\r\n"));
        let quoted = mail.replace("\r\n", "\n> ");
        for text in [&line[..], mail.as_bytes(), quoted.as_bytes()] {
            let found = in_text(text, &key.verifying_key(), "w");
            let only = InFile { heads: vec![head.clone()], ..InFile::default() };
            assert_eq!(found, only, "{}", String::from_utf8_lossy(text));
        }
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(in_text(&line, &other, "w"), InFile { broken: vec![7], ..InFile::default() });
        assert_eq!(in_text(&line, &other, "v"), InFile { others: 1, ..InFile::default() });
        assert!(armour(&envelope).lines().all(|line| line.len() <= 64));
    }
}
