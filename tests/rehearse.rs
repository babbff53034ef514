//! Rehearsed restores, with the real program: what passes, what is found, and what is left behind by a bad day.
//!
//! A fault is seeded by dumping with the real engine and changing what the point says of its source afterwards: the same as a
//! dump that lost something, seen from the other side.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;

#[path = "rehearse/files.rs"]
mod files;
#[path = "rehearse/kills.rs"]
mod kills;
#[path = "rehearse/seeded.rs"]
mod seeded;
