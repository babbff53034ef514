//! A month of a stack, with faults of every kind from a seed; and afterwards everything is accounted for.
//!
//! Time is simulated, the servers are real: the daemon, MinIO behind a proxy that has bad days, MariaDB with its password in
//! Vault, a SQLite file that is written to all the time, a directory, a command; a copy in a directory; mail with STARTTLS
//! and a webhook. The test keeps its own account: the calendar (`month/calendar.rs`), what retention keeps
//! (`month/keeping.rs`), what each source held (`month/sources.rs`), who must have been told of what. docs/TESTING.md.
//!
//! Another month, or a longer one: `BKP_MONTH_SEED=7 BKP_MONTH_DAYS=31 cargo test --test month -- --nocapture`. A seed that
//! fails is printed.

#![allow(clippy::unwrap_used)] // all of this is test

#[path = "month/afterwards.rs"]
mod afterwards;
#[path = "month/bucket.rs"]
mod bucket;
#[path = "month/calendar.rs"]
mod calendar;
#[path = "month/chance.rs"]
mod chance;
#[path = "month/clock.rs"]
mod clock;
#[path = "month/diary.rs"]
mod diary;
#[path = "month/faults.rs"]
mod faults;
#[path = "month/keeping.rs"]
mod keeping;
#[path = "notify/sinks.rs"]
mod sinks;
#[path = "month/sources.rs"]
mod sources;
mod support;
#[path = "support/trees.rs"]
mod trees;
#[path = "month/world.rs"]
mod world;

use chance::Chance;
use world::World;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Says which month it was when a test fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was BKP_MONTH_SEED={}", self.0);
        }
    }
}

#[test]
fn a_month_of_faults_leaves_nothing_unaccounted_for() {
    let seed = number("BKP_MONTH_SEED", 1);
    let _told = Told(seed);
    let Some(mut world) = World::new(Chance::new(seed), number("BKP_MONTH_DAYS", 31) as i64) else { return };
    world.start_daemon();
    faults::throw(&mut world);
    afterwards::everything_is_accounted_for(&mut world);
}
