//! What the repository and its copies hold of a journal: to verify by itself, or to compare the journal of a host with.

use super::chain::{Seal, Segment};
use super::finding::{Finding, Tampering};
use super::head::{SignedHead, StampedHead, Witness};
use super::held::{Held, Stored};
use super::scan::scan;
use super::statement::Signed;
use super::timestamp::Authorities;
use super::verify::{Material, Scope};
use crate::error::{Failure, Kind, Result};
use crate::policy::PRIMARY;
use crate::repo::keys::Keyring;
use crate::repo::{Repository, journal as sealed, names};
use crate::store::{self, StoreError};
use ed25519_dalek::VerifyingKey;
use std::collections::BTreeSet;

/// Of the heads in one place, the newest are looked at: each covers everything before it.
const HEADS: usize = 31;

/// Whose journal, and how to open and believe it.
pub struct Keeper<'a> {
    /// The name of the place, for people.
    pub place: String,
    pub repository: &'a Repository,
    pub keys: &'a Keyring,
    pub writer: &'a str,
    pub signer: VerifyingKey,
    /// Whose time stamps to believe.
    pub authorities: Option<&'a Authorities>,
}

impl<'a> Keeper<'a> {
    /// The ids of the journals that this writer has put away.
    pub fn journals(&self) -> Result<BTreeSet<String>> {
        let segments = sealed::list(self.repository, self.writer)?;
        let heads = sealed::list_heads(self.repository, self.writer)?;
        Ok(segments.into_iter().chain(heads).map(|(journal, _)| journal).collect())
    }

    /// The journal as it is here alone. Each segment is opened, and its signature checked, when it is read.
    pub fn material(&'a self, journal: &str) -> Result<Material<'a>> {
        let mut material = Material {
            begins: Some(1),
            journal: Some(journal.to_owned()),
            scope: Scope::Sealed,
            ..Material::default()
        };
        // A head is put here after what it covers: what is listed after it has all of that.
        self.add_to(&mut material, journal)?;
        for (id, first) in sealed::list(self.repository, self.writer)?.into_iter().filter(|(id, _)| id == journal) {
            let bytes = Box::new(move || self.segment(&id, first).map(|(bytes, _)| bytes));
            // Read is only what was signed.
            let seal = Seal::Signed(Box::new(|_| None));
            material.segments.push(Segment { name: file_name(first), first, bytes, seal });
        }
        Ok(material)
    }

    pub fn segment(&self, journal: &str, first: u64) -> Result<(Vec<u8>, crate::repo::sign::Detached)> {
        sealed::read(self.repository, self.keys, (self.writer, &self.signer), (journal, first))
    }

    /// Compares the journal of this host with what is here.
    pub fn stand_against(&'a self, material: &mut Material<'a>, journal: &str) -> Result<()> {
        let mut stored = Stored::default();
        for (id, first) in sealed::list(self.repository, self.writer)? {
            if id != journal {
                material.judged.findings.extend(self.another(&id, first));
                continue;
            }
            stored.segments.insert(first);
            match material.segments.iter_mut().find(|segment| segment.first == first) {
                Some(segment) => {
                    segment.seal = Seal::Kept(Box::new(move || self.segment(&id, first).map(|(bytes, _)| bytes)));
                }
                None => material.witnesses.extend(self.end_of(&id, first)?),
            }
        }
        let statements = sealed::list_statements(self.repository, self.writer)?.into_iter();
        stored.statements = statements.filter(|(id, _)| id == journal).map(|(_, seq)| seq).collect();
        material.stored = Some(stored);
        self.add_to(material, journal)
    }

    /// The repository knows this writer by another journal, which ought to be here.
    fn another(&self, journal: &str, first: u64) -> Option<Finding> {
        (first == 1).then(|| {
            let what =
                format!("and all after it are of another journal: {} holds journal {journal} of this host", self.place);
            Finding::new(Tampering::Rewritten, &file_name(1), (1, 1), &what)
        })
    }

    /// A sealed segment stands for its last record.
    fn end_of(&self, journal: &str, first: u64) -> Result<Option<Witness>> {
        let name = file_name(first);
        let (bytes, _) = self.segment(journal, first)?;
        let last = scan(&name, &bytes, &BTreeSet::new()).last;
        Ok(last.and_then(|last| {
            Some(Witness {
                place: format!("{} (sealed segment {name})", self.place),
                journal: journal.to_owned(),
                seq: last.seq,
                hash: last.hashes.into_iter().next()?,
                at: last.time?,
                stamped: None,
            })
        }))
    }

    /// Heads and statements.
    fn add_to(&self, material: &mut Material<'_>, journal: &str) -> Result<()> {
        let heads = self.heads(material, journal)?;
        material.places.insert(PRIMARY.to_owned(), Held::Heads(heads));
        let statements = material.statements.get_or_insert_default();
        for (id, seq) in
            sealed::list_statements(self.repository, self.writer)?.into_iter().filter(|(id, _)| id == journal)
        {
            let envelope = sealed::read_statement(self.repository, self.keys, self.writer, (&id, seq));
            let envelope = match envelope {
                Err(failure) if failure.kind() != Kind::Verification => return Err(failure),
                envelope => envelope,
            };
            statements.push(Signed {
                name: names::rehearsal(self.writer, &id, seq).to_string(),
                seq,
                envelope,
                key: self.signer,
            });
        }
        Ok(())
    }

    /// Has the newest heads compared. Gives the numbers of all that are here.
    pub fn heads(&self, material: &mut Material<'_>, journal: &str) -> Result<BTreeSet<u64>> {
        let all = sealed::list_heads(self.repository, self.writer)?;
        let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(id, _)| id == journal);
        for (id, seq) in own.iter().rev().take(HEADS).chain(others.iter().rev().take(1)) {
            match self.head(id, *seq) {
                Ok((head, kept)) => {
                    let name = names::head(self.writer, id, *seq).to_string();
                    material.take(head, (&self.place, &name), &kept, self.authorities);
                }
                Err(failure) if failure.kind() == Kind::Verification => {
                    let what = format!("and the head of it that {} holds: {}", self.place, failure.full());
                    let finding = Finding::new(Tampering::Signature, &file_name(1), (*seq, *seq), &what);
                    material.judged.findings.push(finding);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(own.into_iter().map(|(_, seq)| seq).collect())
    }

    /// The numbers of the heads that have a time stamp.
    pub fn stamps(&self, journal: &str) -> Result<BTreeSet<u64>> {
        let all = sealed::list_stamps(self.repository, self.writer)?;
        Ok(all.into_iter().filter(|(id, _)| id == journal).map(|(_, seq)| seq).collect())
    }

    fn head(&self, journal: &str, seq: u64) -> Result<(SignedHead, StampedHead)> {
        let what = format!("the head {}", names::head(self.writer, journal, seq));
        let kept = self.stamped_head(journal, seq)?;
        let head = SignedHead::open(&kept.envelope, &self.signer, &what)?;
        match head.journal == journal && head.seq == seq {
            true => Ok((head, kept)),
            false => Err(Failure::new(Kind::Verification, format!("{what} is another one"))),
        }
    }

    pub fn stamped_head(&self, journal: &str, seq: u64) -> Result<StampedHead> {
        let store = &*self.repository.store;
        let envelope = store::read(store, &names::head(self.writer, journal, seq))?;
        match store::read(store, &names::head_stamp(self.writer, journal, seq)) {
            Ok(stamp) => Ok(StampedHead { seq, envelope, stamp: Some(stamp) }),
            Err(StoreError::NotFound(_)) => Ok(StampedHead { seq, envelope, stamp: None }),
            Err(e) => Err(e.into()),
        }
    }
}

/// As the journal calls its files.
pub fn file_name(first: u64) -> String {
    format!("{first:016}.jsonl")
}
