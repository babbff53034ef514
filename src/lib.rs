//! bkp: backs up the databases and volumes of container stacks, and proves that the backups restore.
//!
//! The map. A module uses only modules of layers below its own (`tests/layers.rs` checks it):
//!
//! | layer | modules | is |
//! |---|---|---|
//! | 0 | [`error`], [`clock`], [`host`], [`durable`], [`backoff`] | failures with kind, hint and exit code; what time it is; what this host is called; the one place that renames files; how long to try again |
//! | 1 | [`secret`], [`event`] | secrets, references to them, and Vault; what a run tells while it goes |
//! | 2 | [`store`], [`exec`] | objects in a directory or S3; commands on the host or inside a container |
//! | 3 | [`repo`], [`engine`] | the on-store format; the dump plug-ins. Neither imports the other |
//! | 4 | [`policy`], [`journal`] | configuration, validated; the durable record of what was expected, begun and ended |
//! | 5 | [`job`] | backup, restore, check, rotate: the only place where engine and repo meet |
//! | 6 | [`schedule`], [`evidence`] | when things are due; the journal as proof for others |
//! | 7 | [`watch`], [`report`], [`notify`], [`http`] | what it all comes to, for those who look from outside; the proof of it, for those who audit; whom to tell; probes, metrics and the page |
//! | 8 | [`daemon`] | runs what is due, as processes of its own |
//! | 9 | [`cli`] | words in, words out |
//!
//! A backup: `engine.dump(sink)` pushes streams and trees into `repo::write`, which compresses, seals and stores them;
//! `repo::commit` writes the signed point last. Back: `job::restore::plan` chooses the point, `repo::read` opens and
//! verifies it, `engine.load` puts it into a new target. The format is in `docs/FORMAT.md`.

pub mod backoff;
pub mod cli;
pub mod clock;
pub mod daemon;
pub mod durable;
pub mod engine;
pub mod error;
pub mod event;
pub mod evidence;
pub mod exec;
pub mod host;
pub mod http;
pub mod job;
pub mod journal;
pub mod notify;
pub mod policy;
pub mod repo;
pub mod report;
pub mod schedule;
pub mod secret;
pub mod store;
pub mod watch;
