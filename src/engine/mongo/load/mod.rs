//! Loads an archive into a server, without mongorestore: collections with their options, documents, the oplog's window,
//! then indexes, views, and at the very end users and names.
//!
//! Nothing that was there is touched before that end. What a load that fails has made is dropped again; what cannot be
//! dropped is named.

mod finish;
mod insert;
mod names;
mod swap;

pub(super) use finish::Definitions;
pub(super) use insert::{Route, taken};
pub(super) use names::Names;

use super::archive::Namespace;
use super::catalog::{self, Collection, Kind as CollectionKind};
use super::leftovers::{self, Marked};
use super::oplog::Touched;
use super::replay::Replay;
use super::session::{Session, code};
use super::walk::{Reader, Walked, Walker};
use super::{STREAM, Settings, accounts, dump};
use crate::durable::crash_point;
use crate::engine::{Leftover, LoadRun, Loaded, OnDifference, Origin, Target};
use crate::error::{Context as _, Failure, Kind, Result};
use crate::event::Cancel;
use bson::{Document, doc};
use insert::{Batch, Inserter};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, Write};
use std::sync::Mutex;
use tempfile::SpooledTempFile;

const PIECE: usize = 1 << 20;

/// The window of the oplog is kept in memory up to this, then in a file.
const SPOOL: usize = 8 << 20;

pub(super) fn load(settings: &Settings, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
    let names = Names::new(target, &run.part)?;
    if !origin.streams().iter().any(|name| name == STREAM) {
        return Err(Failure::new(Kind::Verification, format!("the point has no stream {STREAM}")));
    }
    let session = Session::open(settings, run.context.cancel)?;
    let version = catalog::version(&session)?;
    must_not_be_older(origin, &version, session.location())?;
    let raw = catalog::has_raw_time_series(&version);
    let plan = Plan { session: &session, names: &names, raw };
    let mut left = leftovers::all(&session)?;
    let mut state = State::new();
    let outcome = plan.run(origin, run, &mut state);
    let mut loaded = outcome.map_err(|failure| undo(&session, &state, failure))?;
    // What this restore took the place of is no more.
    let now = leftovers::all(&session)?;
    left.retain(|one| now.contains(one));
    loaded.warnings.extend(left.iter().map(Leftover::told));
    Ok(loaded)
}

/// Options of collections and indexes of a later version are unknown to a server, or mean something else.
fn must_not_be_older(origin: &dyn Origin, version: &str, location: &str) -> Result<()> {
    let series = |version: &str| version.split('.').next().and_then(|number| number.parse::<u32>().ok());
    let Some(told) = origin.details()["server_version"].as_str() else { return Ok(()) };
    match (series(told), series(version)) {
        (Some(from), Some(to)) if to < from => Err(Failure::new(
            Kind::Refused,
            format!(
                "the point is of version {told}, and the server at {location} is older: {version}; nothing was changed"
            ),
        )
        .hint(format!("Restore into version {from} or newer"))),
        _ => Ok(()),
    }
}

/// Drops what a load made that failed.
fn undo(session: &Session<'_>, state: &State, failure: Failure) -> Failure {
    let unstoppable = Cancel::default();
    let session = session.under(&unstoppable);
    let left: Vec<String> = state
        .definitions
        .made
        .iter()
        .filter(|name| match session.attempt(&name.database, doc! { "drop": &name.collection }) {
            Ok(Ok(_)) => false,
            Ok(Err(refused)) => refused.code != code::NAMESPACE_NOT_FOUND,
            Err(_) => true,
        })
        .map(ToString::to_string)
        .collect();
    // What is left stays marked.
    if left.is_empty() && leftovers::unmark(&session, &state.marked).is_ok() {
        return failure;
    }
    let left = if left.is_empty() { leftovers::names(&state.marked) } else { left };
    let hint = format!("Drop by hand what this restore left in the server: {}", left.join(", "));
    Failure::new(failure.kind(), failure.to_string()).because(failure).hint(hint)
}

/// What does not change while a load goes on.
#[derive(Clone, Copy)]
struct Plan<'a> {
    session: &'a Session<'a>,
    names: &'a Names,
    /// The server keeps time series under their own names.
    raw: bool,
}

/// What a load has come to.
struct State {
    definitions: Definitions,
    routes: BTreeMap<Namespace, Route>,
    oplog: SpooledTempFile,
    accounts: accounts::Restored,
    /// Written down in the server as not whole.
    marked: Marked,
}

impl State {
    fn new() -> Self {
        State {
            definitions: Definitions::default(),
            routes: BTreeMap::new(),
            oplog: SpooledTempFile::new(SPOOL),
            accounts: accounts::Restored::default(),
            marked: Marked::new(),
        }
    }
}

impl<'a> Plan<'a> {
    fn run(self, origin: &dyn Origin, run: &LoadRun<'_>, state: &mut State) -> Result<Loaded> {
        let failure = Mutex::new(None);
        let (bytes, walked) = std::thread::scope(|scope| {
            let inserter = Inserter::start(scope, self.session, &failure);
            let mut loader = Loader { plan: self, state, inserter: &inserter, batch: None };
            let read = loader.read(origin, run)?;
            inserter.finish()?;
            Ok::<_, Failure>(read)
        })?;
        compare(origin, &walked, run.on_difference)?;
        let mut warnings = Vec::new();
        self.replay(state, run)?;
        state.definitions.create_indexes(self.session)?;
        crash_point("restore:data-written");
        let mut items = self.loaded_documents(&walked);
        crash_point("restore:before-live");
        if self.names.is_beside() {
            warnings.extend(swap::swap(self.session, self.names, &mut state.definitions, run.copy)?);
        }
        state.definitions.create_views(self.session)?;
        if self.names.is_all_the_same() {
            let (accounts, more) = state.accounts.apply(self.session, origin.details())?;
            items += accounts;
            warnings.extend(more);
        }
        leftovers::unmark(self.session, &state.marked)?;
        state.marked.clear();
        crash_point("restore:after-live");
        Ok(Loaded { bytes, items, warnings, ..Loaded::default() })
    }

    fn loaded_documents(&self, walked: &Walked) -> u64 {
        let wanted = walked.collections.iter().filter(|c| self.names.wants(&c.name));
        let tally = |name: &Namespace| walked.tallies.get(name).map_or(0, |tally| tally.documents);
        wanted.map(|c| tally(&c.name) + tally(&c.buckets())).sum()
    }

    /// Takes the collections from where each was read to the end of the dump.
    fn replay(&self, state: &mut State, run: &LoadRun<'_>) -> Result<()> {
        let State { oplog, routes, definitions, .. } = state;
        oplog.rewind().context(|| "cannot read the spooled oplog".into())?;
        let mut replay = Replay::new(self.session, self.names, routes, definitions);
        let mut reader = std::io::BufReader::new(oplog);
        loop {
            run.context.cancel.check()?;
            let buffered =
                std::io::BufRead::fill_buf(&mut reader).context(|| "cannot read the spooled oplog".into())?;
            if buffered.is_empty() {
                return replay.finish();
            }
            let entry = Document::from_reader(&mut reader)
                .map_err(|e| Failure::failed("an entry of the oplog is no BSON").because(e))?;
            replay.entry(&entry)?;
        }
    }
}

/// Takes an archive as it comes.
struct Loader<'a, 'scope> {
    plan: Plan<'a>,
    state: &'a mut State,
    inserter: &'a Inserter<'scope>,
    batch: Option<Batch>,
}

impl Loader<'_, '_> {
    fn read(&mut self, origin: &dyn Origin, run: &LoadRun<'_>) -> Result<(u64, Walked)> {
        let mut data = origin.stream(STREAM)?;
        let mut walker = Walker::new();
        let mut buffer = vec![0; PIECE];
        let mut bytes = 0;
        loop {
            run.context.cancel.check()?;
            let read = data.read(&mut buffer).context(|| "cannot read the archive".into())?;
            if read == 0 {
                self.flush()?;
                return Ok((bytes, walker.finish()?));
            }
            walker.take(&buffer[..read], self)?;
            bytes += read as u64;
            run.context.meter.add(read as u64, 0);
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.batch.take() {
            Some(batch) => self.inserter.give(batch, self.plan.session),
            None => Ok(()),
        }
    }

    /// Refuses names that are taken, all of them before anything is made.
    fn must_be_free(&self, collections: &[&Collection]) -> Result<()> {
        let Plan { session, names, .. } = self.plan;
        let databases: BTreeSet<String> = collections.iter().map(|c| names.database(&c.name.database)).collect();
        for database in databases {
            let mut there = catalog::collections(session, &database)?;
            if !names.is_beside() && leftovers::is_marked(&there) && leftovers::remove_own(session, &database)? {
                there = catalog::collections(session, &database)?;
            }
            let whole = names.is_whole_databases() && database != catalog::ACCOUNTS;
            if whole && !names.is_beside() && !there.is_empty() {
                let taken = taken_name(&format!("the database {database}"));
                return Err(match leftovers::is_marked(&there) {
                    true => taken.hint("It is not whole: a restore into it goes on, or was killed. Then drop it first"),
                    false => taken,
                });
            }
            let mut here = collections.iter().filter(|c| names.live(&c.name).database == database);
            let clash = here.find(|c| {
                let is_free_later = names.is_beside() && c.kind != CollectionKind::TimeSeries;
                !is_free_later && there.iter().any(|other| other.name == names.live(&c.name))
            });
            if let Some(clash) = clash {
                let failure = taken_name(&names.live(&clash.name).to_string());
                return Err(match names.is_beside() {
                    true => failure.hint("A time series cannot be renamed: restore to other names, or drop it first"),
                    false => failure,
                });
            }
        }
        Ok(())
    }

    /// Names that are the final ones from the beginning are written down as not whole.
    fn mark(&mut self, collections: &[&Collection]) -> Result<()> {
        let Plan { session, names, .. } = self.plan;
        if names.is_beside() {
            return Ok(());
        }
        for live in collections.iter().map(|collection| names.live(&collection.name)) {
            self.state.marked.entry(live.database).or_default().push(live.collection);
        }
        leftovers::mark(session, &self.state.marked)
    }

    fn begin(&mut self, collection: &Collection) -> Result<()> {
        let Plan { session, names, raw } = self.plan;
        let Some(mut target) = names.target(&collection.name) else { return Ok(()) };
        let live = names.live(&collection.name);
        let is_series = collection.kind == CollectionKind::TimeSeries;
        if is_series {
            target = live.clone();
        }
        self.state.definitions.add(collection, &target, &live);
        if collection.kind == CollectionKind::View {
            return Ok(());
        }
        self.state.definitions.create(session, &target, &collection.options)?;
        let data = match is_series && !raw {
            true => Namespace::new(&target.database, format!("system.buckets.{}", target.collection)),
            false => target,
        };
        let route = Route {
            target: data,
            ordered: collection.is_capped(),
            bypass_validation: collection.options.contains_key("validator"),
            raw: is_series && raw,
        };
        if is_series {
            self.state.routes.insert(collection.buckets(), route.clone());
        }
        self.state.routes.insert(collection.name.clone(), route);
        Ok(())
    }
}

impl Reader for Loader<'_, '_> {
    fn prelude(&mut self, _: &str, collections: &[Collection]) -> Result<()> {
        let names = self.plan.names;
        let wanted: Vec<&Collection> = collections.iter().filter(|c| names.wants(&c.name)).collect();
        names.check(wanted.iter().map(|c| c.name.database.as_str()))?;
        self.must_be_free(&wanted)?;
        self.mark(&wanted)?;
        wanted.into_iter().try_for_each(|collection| self.begin(collection))?;
        crash_point("restore:target-begun");
        Ok(())
    }

    fn document(&mut self, namespace: &Namespace, document: &[u8]) -> Result<()> {
        if let Some(route) = self.state.routes.get(namespace) {
            if self.batch.as_ref().is_some_and(|batch| !batch.is_for(route) || batch.is_full(document.len())) {
                let batch = self.batch.take().expect("there was a batch a moment ago");
                self.inserter.give(batch, self.plan.session)?;
            }
            self.batch.get_or_insert_with(|| Batch::new(route.clone())).push(document)
        } else if *namespace == Namespace::oplog() {
            self.state.oplog.write_all(document).context(|| "cannot spool the oplog".into())
        } else if catalog::is_account(namespace) && self.plan.names.is_all_the_same() {
            self.state.accounts.take(namespace, document)
        } else {
            Ok(())
        }
    }
}

fn taken_name(what: &str) -> Failure {
    Failure::new(Kind::Refused, format!("{what} is there already; nothing was changed"))
        .hint("Choose another name, or drop it first")
}

/// What came must be what the point says was dumped.
fn compare(origin: &dyn Origin, walked: &Walked, on_difference: OnDifference) -> Result<()> {
    let expected = origin.fingerprint();
    let found = dump::fingerprint(walked, &Touched::default());
    if expected.method != found.method || on_difference == OnDifference::LeaveToRehearsal {
        return Ok(());
    }
    match expected.parts.iter().find(|(name, part)| found.parts.get(*name) != Some(part)) {
        None => Ok(()),
        Some((name, _)) => Err(Failure::new(
            Kind::Verification,
            format!("the archive is not what the fingerprint of the point says: {name} differs"),
        )
        .hint("Take another point, and look at this one: bkp check")),
    }
}
