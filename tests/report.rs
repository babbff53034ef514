//! Reports of a period, through the real program: what it expected, did and found, also when things went badly.
//!
//! The journal of a host is written here with instants of our choosing, by the code that writes every journal; the rest is as a
//! user has it.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;

#[path = "report/audit.rs"]
mod audit;
#[path = "report/bad_days.rs"]
mod bad_days;
#[path = "report/documents.rs"]
mod documents;
#[path = "report/files.rs"]
mod files;
#[path = "report/oscal.rs"]
mod oscal;
#[path = "report/past.rs"]
mod past;
#[path = "report/sample.rs"]
mod sample;
#[path = "report/verdicts.rs"]
mod verdicts;
