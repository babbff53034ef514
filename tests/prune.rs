//! Retention and pruning, through the program: what is kept restores, what is not is really gone, and nothing else happens.

#![allow(clippy::unwrap_used)] // all of this is test

mod support;

#[path = "prune/apart.rs"]
mod apart;
#[path = "prune/attempts.rs"]
mod attempts;
#[path = "prune/bucket.rs"]
mod bucket;
#[path = "prune/by_hand.rs"]
mod by_hand;
#[path = "prune/directory.rs"]
mod directory;
#[path = "prune/foreseen.rs"]
mod foreseen;
#[path = "prune/held.rs"]
mod held;
#[path = "prune/kills.rs"]
mod kills;
#[path = "prune/listed.rs"]
mod listed;
#[path = "prune/listings.rs"]
mod listings;
#[path = "prune/past.rs"]
mod past;
#[path = "prune/stores.rs"]
mod stores;
