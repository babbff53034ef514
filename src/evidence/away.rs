//! What the journal says is put into the repository, where this host can neither change nor, with object lock, delete it.
//!
//! Segments once they are full or an anchor sealed them, and each rehearsal as a signed statement. What is there already is left
//! alone, so that doing it twice is no harm. Where it stopped is remembered, so that a run only looks at what is new; before a
//! head is anchored everything is compared with what is there, and what somebody deleted is put there again.

use super::scan::{RehearsedAt, scan};
use super::statement::Statement;
use crate::durable;
use crate::error::{Context, Result};
use crate::job::Places;
use crate::journal::Journal;
use crate::repo::writer::Writer;
use crate::repo::{Repository, catalog, journal as sealed, names};
use crate::store::{self, Retain, StoreError};
use std::collections::BTreeSet;
use std::path::Path;

pub struct Away<'a> {
    pub repository: &'a Repository,
    pub writer: &'a Writer,
    pub places: &'a Places,
    /// How long the store is to keep it from being deleted.
    pub retain: Option<Retain>,
}

/// How much was put away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    pub segments: usize,
    pub statements: usize,
}

impl Away<'_> {
    /// Puts away what was not put away before.
    pub fn put(&self, journal: &Journal) -> Result<Put> {
        let Some(id) = journal.id()? else { return Ok(Put::default()) };
        let segments = remembered(&self.places.sealed());
        let statements = remembered(&self.places.attested());
        Ok(Put {
            segments: self.segments(journal, &id, |first| first > segments)?,
            statements: self.statements(journal, &id, statements, |_| true)?,
        })
    }

    /// Puts away what is not there, whatever was put there before.
    pub fn put_missing(&self, journal: &Journal) -> Result<Put> {
        let Some(id) = journal.id()? else { return Ok(Put::default()) };
        let own = |all: Vec<(String, u64)>| {
            all.into_iter().filter(|(of, _)| *of == id).map(|(_, number)| number).collect::<BTreeSet<u64>>()
        };
        let segments = own(sealed::list(self.repository, self.writer.id())?);
        let statements = own(sealed::list_statements(self.repository, self.writer.id())?);
        Ok(Put {
            segments: self.segments(journal, &id, |first| !segments.contains(&first))?,
            statements: self.statements(journal, &id, 0, |seq| !statements.contains(&seq))?,
        })
    }

    fn segments(&self, journal: &Journal, id: &str, is_meant: impl Fn(u64) -> bool) -> Result<usize> {
        let known = self.places.sealed();
        let segments: Vec<_> = journal.sealed_segments()?.into_iter().filter(|(first, _)| is_meant(*first)).collect();
        for (first, path) in &segments {
            let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
            sealed::put(self.repository, self.writer, (id, *first), &bytes, self.retain.as_ref())?;
            remember(&known, (*first).max(remembered(&known)))?;
        }
        Ok(segments.len())
    }

    /// Of rehearsals after record `until`.
    fn statements(&self, journal: &Journal, id: &str, until: u64, is_meant: impl Fn(u64) -> bool) -> Result<usize> {
        let known = self.places.attested();
        let (mut put, mut reached) = (0, until);
        let segments = journal.segments()?;
        for (number, (_, path)) in segments.iter().enumerate() {
            // What the next segment begins with tells that all of this one was looked at.
            if segments.get(number + 1).is_some_and(|(next, _)| *next <= until + 1) {
                continue;
            }
            let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
            let scanned = scan(&path.to_string_lossy(), &bytes, &BTreeSet::new());
            for at in scanned.rehearsed.iter().filter(|at| at.seq > until && is_meant(at.seq)) {
                let envelope = Statement::of(id, at, point_of(self.repository, self.writer.id(), at)?)
                    .sign(&self.writer.signing)?;
                sealed::put_statement(self.repository, self.writer, (id, at.seq), &envelope, self.retain.as_ref())?;
                put += 1;
            }
            reached = scanned.last.map_or(reached, |last| last.seq.max(reached));
        }
        if reached > until {
            remember(&known, reached)?;
        }
        Ok(put)
    }
}

/// The hash of the object of the point that was rehearsed, whoever wrote it: `own` most likely.
pub(super) fn point_of(repository: &Repository, own: &str, at: &RehearsedAt) -> Result<Option<String>> {
    let writers = catalog::writers(repository)?.0.into_iter().map(|info| info.writer);
    for writer in [own.to_owned()].into_iter().chain(writers.filter(|writer| *writer != own)) {
        let key = names::point(&writer, &at.rehearsed.source, &at.rehearsed.point);
        match store::read(&*repository.store, &key) {
            Ok(bytes) => return Ok(Some(hex::encode(names::sha256(&bytes)))),
            Err(StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}

fn remembered(path: &Path) -> u64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn remember(path: &Path, number: u64) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    durable::write(path, number.to_string().as_bytes(), 0o600).context(what)
}
