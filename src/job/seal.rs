//! Sealed segments of the journal go into the repository after a backup, where this host can neither read nor change them.

use super::Places;
use crate::durable;
use crate::error::{Context, Result};
use crate::journal::Journal;
use crate::repo::Repository;
use crate::repo::journal as sealed;
use crate::repo::writer::Writer;

/// Puts away what was not put away before. Gives how many segments these were.
pub fn put_away(repository: &Repository, writer: &Writer, places: &Places, journal: &Journal) -> Result<usize> {
    let known = places.sealed();
    let until: u64 = std::fs::read_to_string(&known).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let segments: Vec<_> = journal.sealed_segments()?.into_iter().filter(|(first, _)| *first > until).collect();
    let Some(id) = (!segments.is_empty()).then(|| journal.id()).transpose()?.flatten() else { return Ok(0) };
    for (first, path) in &segments {
        let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        sealed::put(repository, writer, &id, *first, &bytes)?;
        let what = || format!("cannot write {}", known.display());
        durable::write(&known, first.to_string().as_bytes(), 0o600).context(what)?;
    }
    Ok(segments.len())
}
