//! Reports: what was expected, done and found in a period, for those who prepare, review and audit it.
//!
//! [`facts`] are read from the journal in one pass; with the configuration in force and what could be seen of repository,
//! copies and host they are the [`basis`]. From it [`document`] is composed in one language, which `html`, `pdf` and `markdown`
//! write down; `json`, `csv` and `oscal` write the facts themselves. All of that is pure: [`write`] is handed everything.
//! A report says "evidence for", and "no evidence"; it never says that anything is complied with.

pub mod basis;
pub mod controls;
mod csv;
pub mod document;
mod evidence;
pub mod facts;
pub mod frameworks;
mod html;
mod json;
mod markdown;
mod oscal;
mod pdf;
pub mod period;
mod recorded;
pub mod repository;
pub mod say;
mod text;

use crate::error::{Context, Result};
use crate::watch::Language;
use basis::Basis;
use frameworks::Framework;
use std::io::Write;

pub use period::Period;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Html,
    Pdf,
    Markdown,
    Csv,
    Json,
    Oscal,
}

impl Format {
    /// Not for a terminal.
    pub fn is_binary(self) -> bool {
        self == Format::Pdf
    }
}

/// Writes a report down.
pub fn write(
    basis: &Basis,
    framework: Option<&Framework>,
    language: Language,
    format: Format,
    to: &mut dyn Write,
) -> Result<()> {
    let document = || document::compose(basis, framework, language);
    let written = match format {
        Format::Html => to.write_all(html::page(&document()).as_bytes()),
        Format::Pdf => to.write_all(&pdf::file(&document(), basis.made_at)?),
        Format::Markdown => to.write_all(markdown::page(&document()).as_bytes()),
        Format::Csv => csv::write(basis, to),
        Format::Json => json::write(basis, framework, language, to),
        Format::Oscal => oscal::write(basis, framework, language, to),
    };
    written.context(|| "cannot write the report".to_owned())
}
