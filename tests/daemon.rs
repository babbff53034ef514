//! The daemon, with the real program and real stores: it keeps its promises whatever happens to it.
//!
//! Time is moved with `BKP_CLOCK`; nothing here sleeps, everything waits for a condition.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;
#[path = "support/trees.rs"]
mod trees;

#[path = "daemon/bad_days.rs"]
mod bad_days;
#[path = "daemon/kills.rs"]
mod kills;
#[path = "daemon/schedules.rs"]
mod schedules;
#[path = "daemon/timers.rs"]
mod timers;
#[path = "daemon/world.rs"]
mod world;
