//! The head of the journal, signed: what is anchored elsewhere (`docs/FORMAT.md` §12).
//!
//! A few hundred bytes of JSON that name no source and hold no secret: the number and the hash of the last record. Whoever
//! holds one can tell later whether the journal still has that record, and everything before it.

use crate::error::{Context, Failure, Kind, Result};
use crate::journal::Hash;
use crate::repo::sign;
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

/// The heads in a file: one envelope a line, as an anchor writes them; also a mail that was saved as it came. Gives those that
/// `key` signed, and how many others there were.
pub fn in_file(path: &Path, key: &VerifyingKey) -> Result<(Vec<SignedHead>, usize)> {
    let what = || format!("cannot read {}", path.display());
    let text = std::fs::read(path).context(what)?;
    Ok(in_text(&text, key, &path.display().to_string()))
}

pub fn in_text(text: &[u8], key: &VerifyingKey, what: &str) -> (Vec<SignedHead>, usize) {
    let (mut heads, mut others) = (Vec::new(), 0);
    for line in text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| line.starts_with(b"{\"payloadType\""))
    {
        match SignedHead::open(line, key, what) {
            Ok(head) => heads.push(head),
            Err(_) => others += 1,
        }
    }
    (heads, others)
}
