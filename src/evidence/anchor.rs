//! Anchoring: the signed head of the journal is put where this host cannot take it back.
//!
//! The last segment is sealed first, so that what is anchored is in the repository as well. Each place is tried whatever came
//! of the others, and each outcome is noted in the journal: a place that did not take it is the failure of the run.

use super::head::SignedHead;
use super::signer::Signer;
use super::timestamp::{self, Authorities};
use crate::durable;
use crate::error::{Context, Failure, Kind, Result};
use crate::journal::{Fact, Head};
use crate::policy::Authority;
use crate::repo::writer::WriterInfo;
use crate::repo::{Repository, init, journal as sealed, names};
use crate::store::Retain;
use jiff::Timestamp;
use std::io::Write;
use std::path::Path;

/// The head, signed.
pub struct Anchor {
    pub head: SignedHead,
    pub envelope: Vec<u8>,
}

/// What became of it in one place.
#[derive(Debug)]
pub struct Placed {
    pub place: String,
    pub kind: &'static str,
    pub address: String,
    pub result: Result<()>,
}

impl Anchor {
    pub fn of(head: Head, journal: &str, signer: &Signer, now: Timestamp) -> Result<Self> {
        let head = SignedHead {
            format: 1,
            repository: signer.repository.clone(),
            writer: signer.id.clone(),
            host: signer.host.clone(),
            journal: journal.to_owned(),
            seq: head.seq,
            hash: head.hash,
            at: now,
        };
        let envelope = head.sign(&signer.key)?;
        Ok(Anchor { head, envelope })
    }

    /// Into a repository: its own, or a copy. A copy that was never filled has no key of this host to verify it with: `writer`.
    pub fn into_store(&self, to: &Repository, writer: Option<&WriterInfo>, retain: Option<&Retain>) -> Result<()> {
        crate::repo::copy::must_have_id(to, &self.head.repository)?;
        writer.map(|writer| init::introduce(to, writer)).transpose()?;
        let key = names::head(&self.head.writer, &self.head.journal, self.head.seq);
        sealed::put_head(to, &key, &self.envelope, retain)
    }

    /// One line more.
    pub fn into_file(&self, path: &Path) -> Result<()> {
        let what = || format!("cannot append to {}", path.display());
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).context(what)?;
        let line = [&self.envelope[..], b"\n"].concat();
        file.write_all(&line).and_then(|()| file.sync_all()).context(what)?;
        durable::sync_directory(durable::parent_of(path)).context(what)
    }

    /// Subject and text of a mail to people. Only ASCII in short lines, which every mail server leaves alone.
    pub fn letter(&self) -> (String, String) {
        let SignedHead { host, seq, hash, at, .. } = &self.head;
        let subject = format!("bkp {host}: head of the journal, record {seq}");
        let text = format!(
            "Please keep this mail. It proves later that nothing was taken out of the journal of\nbackups of {host}, up to record {seq}.\n\n  record:  {seq}\n  hash:    {hash}\n  signed:  {at}\n\nTo verify with it: save this mail to a file, then\n  bkp evidence verify BUNDLE --anchor FILE\n\n{}",
            super::head::armour(&self.envelope)
        );
        (subject, text)
    }

    /// Has it stamped by the first authority that gives a time stamp to be believed; what comes back belongs beside the head. With
    /// why those before it gave none.
    pub fn stamped(&self, authority: &Authority) -> Result<(Vec<u8>, Vec<Failure>)> {
        let authorities = authority.ca_file.as_deref().map(Authorities::read).transpose()?;
        let mut silent = Vec::new();
        for url in &authority.urls {
            match timestamp::ask(url, &self.envelope, authorities.as_ref()) {
                Ok((answer, _)) => return Ok((answer, silent)),
                Err(failure) => silent.push(failure),
            }
        }
        Err(nobody_stamped(silent))
    }

    pub fn stamp_into_store(&self, stamp: &[u8], to: &Repository, retain: Option<&Retain>) -> Result<()> {
        let key = names::head_stamp(&self.head.writer, &self.head.journal, self.head.seq);
        sealed::put_head(to, &key, stamp, retain)
    }

    pub fn fact(&self, placed: &Placed) -> Fact {
        Fact::Anchored {
            place: placed.place.clone(),
            upto: self.head.seq,
            hash: self.head.hash.clone(),
            ok: placed.result.is_ok(),
            message: placed.result.as_ref().err().map(Failure::full),
        }
    }
}

/// What may pass is tried again: when it may for one, it may for all.
fn nobody_stamped(mut silent: Vec<Failure>) -> Failure {
    if let [_] = silent[..] {
        return silent.remove(0);
    }
    let kind = match silent.iter().any(|failure| failure.kind() == Kind::TryLater) {
        true => Kind::TryLater,
        false => silent.first().map_or(Kind::Failed, Failure::kind),
    };
    let all: Vec<String> = silent.iter().map(Failure::full).collect();
    Failure::new(kind, "no authority gave a time stamp")
        .because(all.join("; "))
        .hint("Look at `timestamp.url`, and whether these servers answer")
}
