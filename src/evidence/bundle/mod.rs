//! All of it for an auditor: a directory or one tar file with the journal, its signatures, the public key, the anchors, the
//! statements, and a recipe that verifies it without bkp.
//!
//! Segments that the repository holds come from there, with the signature they were sealed with; what was not sealed yet is signed
//! when it is exported. One segment is in memory at a time. Reading believes nothing that is not signed, and no name of a path.

mod files;
mod read;

pub use files::{Files, Out};
pub use read::Bundle;

use super::away::point_of;
use super::head::{SignedHead, StampedHead};
use super::kept::Kept;
use super::scan::{RehearsedAt, Scanned, scan};
use super::statement::Statement;
use super::stored::{Keeper, file_name};
use crate::error::{Context, Failure, Kind, Result};
use crate::journal::{Hash, Journal};
use crate::repo::journal::{self as sealed, PAYLOAD_TYPE};
use crate::repo::sign::{self, Detached};
use crate::repo::{Repository, names};
use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub const TYPE: &str = "application/vnd.bkp.bundle+json";
const README: &str = include_str!("README.txt");
const RECIPE: &str = include_str!("verify.sh");

/// `bundle.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub created: Timestamp,
    pub host: String,
    pub repository: String,
    pub writer: String,
    /// The writer's public key.
    pub verify_key: String,
    pub journal: String,
    /// What was asked for; absent: everything.
    pub period: Option<(Timestamp, Timestamp)>,
    /// First and last record, and the hash of the last one.
    pub from: u64,
    pub to: u64,
    pub hash: Hash,
    /// Number of records up to which segments were sealed before; what follows was signed when this was exported.
    pub sealed_to: u64,
    /// SHA-256 of each anchor, time stamp and statement, by name: none can be taken out or exchanged. Absent in older bundles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
}

/// What to export, and from where.
pub struct Export<'a> {
    pub host: &'a str,
    /// That of this host.
    pub journal: Option<&'a Journal>,
    pub keeper: Option<&'a Keeper<'a>>,
    /// Heads that no repository has.
    pub kept: Option<&'a Kept>,
    /// Where the points are that were rehearsed.
    pub points: Option<&'a Repository>,
    pub signing: Option<&'a SigningKey>,
    pub repository: &'a str,
    pub writer: &'a str,
    pub key: VerifyingKey,
    pub id: &'a str,
    pub period: Option<(Timestamp, Timestamp)>,
    pub now: Timestamp,
}

/// What was written of the journal.
#[derive(Default)]
struct Part {
    from: u64,
    to: u64,
    hash: Hash,
    sealed_to: u64,
    rehearsed: Vec<RehearsedAt>,
}

impl Part {
    fn has(&self, seq: u64) -> bool {
        (self.from..=self.to).contains(&seq)
    }
}

impl Export<'_> {
    /// Writes everything but what verification says of it.
    pub fn write(&self, out: &mut Out) -> Result<Manifest> {
        let part = self.segments(out)?;
        let files = self.companions(out, &part)?;
        let manifest = self.manifest(part, files);
        self.rest(out, &manifest)?;
        Ok(manifest)
    }

    fn segments(&self, out: &mut Out) -> Result<Part> {
        let stored: BTreeSet<u64> = match self.keeper {
            Some(keeper) => {
                let all = sealed::list(keeper.repository, keeper.writer)?;
                all.into_iter().filter(|(id, _)| id == self.id).map(|(_, first)| first).collect()
            }
            None => BTreeSet::new(),
        };
        let here: BTreeMap<u64, PathBuf> = match self.journal {
            Some(journal) => journal.segments()?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        let mut found: Option<Part> = None;
        let mut reached = false;
        let firsts: BTreeSet<u64> = here.keys().copied().chain(stored.iter().copied()).collect();
        for first in firsts {
            let is_stored = stored.contains(&first);
            let (bytes, seal) = self.segment(first, is_stored, here.get(&first))?;
            let name = file_name(first);
            let scanned = scan(&name, &bytes, &BTreeSet::new());
            if reached || !self.is_meant(&scanned, found.is_some()) {
                continue;
            }
            // The first record after the period belongs to it, so that nobody can have cut off the last ones within it.
            reached = self.period.zip(scanned.last.as_ref()).is_some_and(|((_, to), last)| last.time >= Some(to));
            let (Some(begin), Some(last)) = (&scanned.first, &scanned.last) else { continue };
            out.put(&format!("journal/{name}"), &bytes)?;
            out.put_json(&format!("seals/{name}.json"), &seal)?;
            let part = found.get_or_insert_with(|| Part { from: begin.seq, ..Part::default() });
            (part.to, part.hash) = (last.seq, last.hashes.first().cloned().unwrap_or_default());
            part.sealed_to = if is_stored { last.seq } else { part.sealed_to };
            part.rehearsed.extend(scanned.rehearsed);
        }
        let none = || Failure::failed("there is no record of that period").hint("See what there is with: bkp journal");
        found.ok_or_else(none)
    }

    fn manifest(&self, part: Part, files: BTreeMap<String, String>) -> Manifest {
        Manifest {
            format: 1,
            created: self.now,
            host: self.host.to_owned(),
            repository: self.repository.to_owned(),
            writer: self.writer.to_owned(),
            verify_key: sign::key_text(&self.key),
            journal: self.id.to_owned(),
            period: self.period,
            from: part.from,
            to: part.to,
            hash: part.hash,
            sealed_to: part.sealed_to,
            files: Some(files),
        }
    }

    /// What was sealed is what counts; what this host has says what was not sealed yet.
    fn segment(&self, first: u64, stored: bool, here: Option<&PathBuf>) -> Result<(Vec<u8>, Detached)> {
        if let Some(keeper) = self.keeper.filter(|_| stored) {
            return keeper.segment(self.id, first);
        }
        let path = here.expect("a segment is stored or here");
        let mut bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        // Somebody may be writing the next record.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(whole);
        let Some(key) = self.signing else {
            return Err(Failure::new(
                Kind::Key,
                format!("{} was not sealed, and only its host can sign it", path.display()),
            ));
        };
        let seal = Detached::make(PAYLOAD_TYPE, &bytes, key);
        Ok((bytes, seal))
    }

    /// `goes_on`: after another segment that belongs to it.
    fn is_meant(&self, scanned: &Scanned, goes_on: bool) -> bool {
        let (Some(first), Some(last)) = (&scanned.first, &scanned.last) else { return false };
        let Some((from, to)) = self.period else { return true };
        let begins_after = !goes_on && first.time.is_some_and(|first| first >= to);
        !begins_after && last.time.is_none_or(|last| last >= from)
    }

    fn rest(&self, out: &mut Out, manifest: &Manifest) -> Result<()> {
        out.put_json("bundle.json", manifest)?;
        if let Some(key) = self.signing {
            let bytes = files::json(manifest)?;
            out.put_json("bundle.sig.json", &Detached::make(TYPE, &bytes, key))?;
        }
        out.put(&format!("keys/{}.pem", self.writer), sign::key_pem(&self.key).as_bytes())?;
        self.words(out)
    }

    /// Anchors and statements about these records.
    fn companions(&self, out: &mut Out, part: &Part) -> Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        let mut put = |name: String, bytes: &[u8]| {
            out.put(&name, bytes)?;
            files.insert(name, hex::encode(names::sha256(bytes)));
            Ok::<(), Failure>(())
        };
        for (seq, StampedHead { envelope, stamp, .. }) in self.heads(part)? {
            SignedHead::open(&envelope, &self.key, "an anchor")?;
            put(format!("anchors/{seq:016}.json"), &envelope)?;
            stamp.map(|stamp| put(format!("anchors/{seq:016}.tsr"), &stamp)).transpose()?;
        }
        for (seq, envelope) in self.statements(part)? {
            put(format!("rehearsals/{seq:016}.json"), &envelope)?;
        }
        Ok(files)
    }

    fn heads(&self, part: &Part) -> Result<BTreeMap<u64, StampedHead>> {
        let kept = self.kept.map(|kept| kept.heads(self.id)).transpose()?.unwrap_or_default();
        let mut heads: BTreeMap<u64, StampedHead> =
            kept.into_iter().filter(|head| part.has(head.seq)).map(|head| (head.seq, head)).collect();
        let Some(keeper) = self.keeper else { return Ok(heads) };
        for (id, seq) in sealed::list_heads(keeper.repository, keeper.writer)? {
            if id == self.id && part.has(seq) {
                let mut head = keeper.stamped_head(&id, seq)?;
                head.stamp = head.stamp.or_else(|| heads.remove(&seq)?.stamp);
                heads.insert(seq, head);
            }
        }
        Ok(heads)
    }

    /// Those that are in the repository, and of what is not there what this host can sign.
    fn statements(&self, part: &Part) -> Result<BTreeMap<u64, Vec<u8>>> {
        let mut statements = BTreeMap::new();
        if let Some(keeper) = self.keeper {
            for (id, seq) in sealed::list_statements(keeper.repository, keeper.writer)? {
                if id == self.id && part.has(seq) {
                    let at = (id.as_str(), seq);
                    let envelope = sealed::read_statement(keeper.repository, keeper.keys, keeper.writer, at)?;
                    statements.insert(seq, envelope);
                }
            }
        }
        let Some(key) = self.signing else { return Ok(statements) };
        for at in &part.rehearsed {
            if let Entry::Vacant(missing) = statements.entry(at.seq) {
                let point = self.points.map(|points| point_of(points, self.writer, at)).transpose()?.flatten();
                missing.insert(Statement::of(self.id, at, point).sign(key)?);
            }
        }
        Ok(statements)
    }

    fn words(&self, out: &mut Out) -> Result<()> {
        out.put("README.txt", README.as_bytes())?;
        out.put("verify.sh", RECIPE.as_bytes())
    }
}
