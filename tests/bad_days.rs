//! Bad input and bad days, met by the real program: what it says, how it ends, and what is left behind.
//!
//! Each test asks for the exit code, for a message that names the thing and says what to do, and that a normal run succeeds
//! afterwards with a repository that checks as clean. No answer may hold a secret: [`support::host`] looks at each.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "bad_days/configuration.rs"]
mod configuration;
#[path = "bad_days/damage.rs"]
mod damage;
#[path = "bad_days/keys.rs"]
mod keys;
#[path = "bad_days/memory.rs"]
mod memory;
#[path = "bad_days/places.rs"]
mod places;
#[path = "bad_days/runs.rs"]
mod runs;
#[path = "bad_days/sources.rs"]
mod sources;
mod support;
#[path = "support/trees.rs"]
mod trees;
