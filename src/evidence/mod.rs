//! The journal as proof for others: what is put where its host cannot change it, and whether it all still fits.
//!
//! [`Away`] signs sealed segments and rehearsals into the repository; [`Anchor`] puts the signed head in other places;
//! [`bundle`] is all of it for an auditor; [`verify`] looks at a journal together with what others hold of it. The format is in
//! `docs/FORMAT.md` §8 and §12, and the recipe that needs no bkp in `docs/EVIDENCE.md`.
//! Nothing here decides what a record means.

mod anchor;
mod away;
pub mod bundle;
mod chain;
mod finding;
mod head;
mod held;
mod kept;
mod scan;
mod signer;
pub mod statement;
mod stored;
pub mod timestamp;
mod verify;

pub use anchor::{Anchor, Placed};
pub use away::{Away, Put};
pub use chain::{Chain, Mark, Seal, Segment, Source};
pub use finding::{Finding, Tampering, records};
pub use head::{InFile, SignedHead, Stamped, StampedHead, Witness, in_file, in_text};
pub use held::{HERE, Held, REPOSITORY};
pub use kept::Kept;
pub use signer::Signer;
pub use stored::{Keeper, file_name};
pub use verify::{AnchorSeen, KeySeen, Material, Scope, Verdict, Verification, verify};

use crate::error::{Context, Result};
use crate::journal::Journal;

/// A journal as it is on this host, by itself.
pub fn of_journal(journal: &Journal) -> Result<Material<'static>> {
    let mut material = Material { begins: Some(1), scope: Scope::Live, ..Material::default() };
    for (first, path) in journal.segments()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = move || std::fs::read(&path).context(|| format!("cannot read {}", path.display()));
        material.segments.push(Segment { name, first, bytes: Box::new(bytes), seal: Seal::None });
    }
    Ok(material)
}

/// Whether the journal of this host holds together by itself, and where its head is: for reports and pages.
pub fn summary(journal: &Journal) -> Result<Verification> {
    verify(of_journal(journal)?)
}
