//! PostgreSQL in a container and over the network: what was dumped and loaded is equal, and bad days harm nobody.
#![allow(clippy::unwrap_used)] // all of this is test

#[path = "support/memory_sink.rs"]
mod memory_sink;
mod support;

#[path = "engine_postgres/bad_days.rs"]
mod bad_days;
#[path = "engine_postgres/contract.rs"]
mod contract;
#[path = "engine_postgres/omissions.rs"]
mod omissions;
#[path = "engine_postgres/restores.rs"]
mod restores;
#[path = "engine_postgres/rough_days.rs"]
mod rough_days;
#[path = "engine_postgres/server.rs"]
mod server;

use bkp::engine::postgres::{Postgres, Settings};
use bkp::engine::{Dumped, Engine, LoadRun, Loaded, Naming, Part, Target};
use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use memory_sink::{MemoryOrigin, MemorySink, dump_into};
use server::Pg;

/// A name that no quoting may stumble over.
const ODD: &str = "we\"ird 🐘 'db\\x =y";

fn dump(settings: Settings) -> Result<(Dumped, MemoryOrigin)> {
    let scratch = tempfile::tempdir().unwrap();
    let mut sink = MemorySink::new();
    let dumped = dump_into(&Postgres::new(settings), &mut sink, scratch.path())?;
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "spool files are left");
    Ok((dumped.clone(), sink.into_origin(&dumped)))
}

fn load(settings: Settings, origin: &dyn bkp::engine::Origin, target: &Target, part: Part) -> Result<Loaded> {
    load_keeping(settings, origin, target, part, false)
}

fn load_keeping(
    settings: Settings,
    origin: &dyn bkp::engine::Origin,
    target: &Target,
    part: Part,
    keep_replaced: bool,
) -> Result<Loaded> {
    let copy = (!keep_replaced && matches!(target, Target::Live(_))).then(|| fingerprint(&settings));
    load_over(settings, origin, target, part, copy.as_ref())
}

/// The same, where this is known of a copy of what is replaced.
fn load_over(
    settings: Settings,
    origin: &dyn bkp::engine::Origin,
    target: &Target,
    part: Part,
    copy: Option<&bkp::engine::Fingerprint>,
) -> Result<Loaded> {
    with_context(|context| {
        Postgres::new(settings).load(
            origin,
            target,
            &LoadRun { context, part, copy, on_difference: Default::default(), returning: None },
        )
    })
}

fn fingerprint(settings: &Settings) -> bkp::engine::Fingerprint {
    with_context(|context| bkp::engine::postgres::fingerprint(settings, context)).unwrap()
}

fn with_context<T>(act: impl FnOnce(Context<'_>) -> T) -> T {
    let (meter, cancel) = (Meter::default(), Cancel::default());
    act(Context { events: &Silent, meter: &meter, cancel: &cancel })
}

fn same() -> Target {
    Target::NewDatabases(Naming::Same)
}

fn called(name: &str) -> Target {
    Target::NewDatabases(Naming::As(name.into()))
}

fn database(name: &str) -> Part {
    Part::Database(name.into())
}

/// No database that a restore works in is left. Other tests restore into the same server meanwhile.
#[track_caller]
fn assert_tidy(server: &dyn Pg) {
    let working = "select datname from pg_database where datname like 'bkp\\_%'";
    support::wait_for("the end of all restores", 120, || server.ask("", working).is_empty().then_some(()));
}
