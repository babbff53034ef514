//! Dumps a server into an archive: one collection after the other, read by one thread while another stores.
//!
//! A dump counts when the whole archive was proven on its way out, and no collection was dropped or made anew meanwhile
//! (with an oplog such changes are in the window instead).

use super::archive::{self, Namespace, TERMINATOR};
use super::catalog::{self, Collection, Kind};
use super::feed::{self, Feed, Proven};
use super::oplog::{self, Seen, Touched, Window};
use super::quiet::{self, Written};
use super::session::Session;
use super::walk::{Tally, Walked};
use super::{Settings, accounts, extended_json, leftovers};
use crate::engine::{Dumped, Fingerprint, FingerprintPart};
use crate::error::{Failure, Kind as FailureKind, Result};
use crate::event::{Context, Meter};
use bson::{Document, Timestamp, doc};
use jiff::Timestamp as Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Named in every fingerprint; changes with what is counted.
const METHOD: &str = "documents and the sum of their BLAKE3 hashes; definitions by BLAKE3";

pub(super) const UNBOUND: &str = "this server has no oplog, and was written to meanwhile or does not count what is: collections \
    were read one after the other and may be of different instants, and so is the fingerprint; a replica set, even of one member, gives one instant for all";

const STILL: &str = "this server has no oplog; it carried out nothing that writes from the start of the dump to the end of a second \
    reading, which found the same: all collections are of one instant";

/// Takes the stream to its end.
pub(super) type Store<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<()>;

pub(super) fn dump(settings: &Settings, context: Context<'_>, store: Store<'_>) -> Result<Dumped> {
    let session = Session::open(settings, context.cancel)?;
    catalog::must_be_no_router(&session)?;
    let before = quiet::written(&session)?;
    let (evidence, warnings) = read(&session, settings, context, store)?;
    let evidence = evidence.bound(&session, settings, before.as_ref(), context)?;
    Ok(Dumped { warnings, ..evidence.dumped(settings) })
}

/// What the server holds now, in the form that a dump keeps. Reads everything.
pub(super) fn fingerprint_of(session: &Session<'_>, settings: &Settings, context: Context<'_>) -> Result<Fingerprint> {
    let (evidence, _) = read(session, settings, context, &mut |archive| {
        let read = std::io::copy(archive, &mut std::io::sink());
        read.map(|_| ()).map_err(|e| Failure::from_io(e, || format!("cannot read {}", settings.server.location())))
    })?;
    Ok(evidence.fingerprint())
}

fn read(
    session: &Session<'_>,
    settings: &Settings,
    context: Context<'_>,
    store: Store<'_>,
) -> Result<(Evidence, Vec<String>)> {
    let session = session.under(context.cancel);
    let begun = Instant::now();
    let start = oplog::start(&session)?;
    let version = catalog::version(&session)?;
    let mut collections = catalog::read(&session, settings)?;
    let warnings = leftovers::leave_out(&session, &mut collections)?;
    let accounts = accounts::gather(&session, settings, &mut collections)?;
    let work = Work { session, settings, version, start, collections };
    let (mut feed, pipe) = feed::queue();
    let seen = Seen { start: work.start, ..Seen::default() };
    let (walked, window) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (end, outcome) = match work.produce(&mut feed) {
                Ok(end) => (end, Ok(())),
                Err(failure) => (None, Err(failure)),
            };
            feed.close(outcome);
            end
        });
        let mut archive = Proven::new(pipe, context, seen);
        store(&mut archive)?;
        let (walked, seen) = archive.walked()?;
        let end = reader.join().map_err(|_| Failure::failed("the thread that reads the server broke down"))?;
        let window = work.start.zip(end).map(|(start, (end, read_at))| Window { start, end, read_at, seen });
        Ok::<_, Failure>((walked, window))
    })?;
    Ok((Evidence { version: work.version, begun, walked, window, accounts, still: false }, warnings))
}

struct Work<'a> {
    session: Session<'a>,
    settings: &'a Settings,
    version: String,
    start: Option<Timestamp>,
    collections: Vec<Collection>,
}

impl Work<'_> {
    /// Gives the whole archive. Returns where the oplog's window ends.
    fn produce(&self, feed: &mut Feed) -> Result<Option<(Timestamp, Instant)>> {
        feed.write(&archive::prelude(&self.version, &self.collections, self.start.is_some())?)?;
        for collection in &self.collections {
            self.collection(collection, feed)?;
        }
        match self.start {
            Some(start) => oplog::copy(&self.session, start, self.settings, feed).map(Some),
            None => self.still_there().map(|()| None),
        }
    }

    fn collection(&self, collection: &Collection, feed: &mut Feed) -> Result<()> {
        let raw = catalog::has_raw_time_series(&self.version);
        let mut command = doc! { "find": &collection.name.collection };
        let mut name = collection.name.clone();
        match collection.kind {
            // A view has no documents of its own; its block without any makes mongorestore create it.
            Kind::View => return write(feed, &name, None),
            Kind::TimeSeries if raw => _ = command.insert("rawData", true),
            Kind::TimeSeries => {
                name = collection.buckets();
                command = doc! { "find": &name.collection };
            }
            Kind::Collection => {}
        }
        write(feed, &name, Some((&self.session, command)))
    }

    /// Without an oplog nothing else would tell that a collection was dropped while it was read.
    fn still_there(&self) -> Result<()> {
        let mut now = BTreeMap::new();
        for database in catalog::databases(&self.session, self.settings)? {
            now.extend(catalog::collections(&self.session, &database)?.into_iter().map(|c| (c.name, c.uuid)));
        }
        let is_temporary = |c: &Collection| c.options.get_bool("temp").unwrap_or(false);
        let changed = self.collections.iter().filter(|c| !catalog::is_account(&c.name) && !is_temporary(c));
        match changed.into_iter().find(|c| now.get(&c.name) != Some(&c.uuid)) {
            None => Ok(()),
            Some(gone) => Err(Failure::new(
                FailureKind::TryLater,
                format!("{}: {} was dropped or made anew during the dump", self.session.location(), gone.name),
            )
            .hint("Run the backup again when nothing is being restored or migrated")
            .passing()),
        }
    }
}

/// One collection, or the oplog, with its end. Its documents are what a command finds.
fn write(feed: &mut Feed, name: &Namespace, documents: Option<(&Session<'_>, Document)>) -> Result<()> {
    let mut block = Block::new(feed, name);
    if let Some((session, command)) = documents {
        let mut batches = session.batches(&name.database, command)?;
        while let Some(batch) = batches.next()? {
            for document in batch.doc_slices().map_err(|_| session.strange("a cursor"))? {
                let document = document.ok().and_then(|value| value.as_document());
                block.document(document.ok_or_else(|| session.strange("a cursor"))?.as_bytes())?;
            }
        }
    }
    block.end()
}

/// Writes the documents of one collection.
pub(super) struct Block<'a> {
    feed: &'a mut Feed,
    name: &'a Namespace,
    crc: crc_fast::Digest,
    begun: bool,
}

impl<'a> Block<'a> {
    pub fn new(feed: &'a mut Feed, name: &'a Namespace) -> Self {
        Block { feed, name, crc: archive::crc(), begun: false }
    }

    pub fn document(&mut self, bytes: &[u8]) -> Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.feed.write(&archive::header(self.name, None)?)?;
        }
        self.crc.update(bytes);
        self.feed.write(bytes)
    }

    pub fn end(self) -> Result<()> {
        if self.begun {
            self.feed.write(&TERMINATOR)?;
        }
        self.feed.write(&archive::header(self.name, Some(self.crc.finalize()))?)?;
        self.feed.write(&TERMINATOR)
    }
}

/// What is known of an archive that was proven.
pub(super) struct Evidence {
    pub version: String,
    pub begun: Instant,
    pub walked: Walked,
    pub window: Option<Window>,
    pub accounts: accounts::Accounts,
    /// Nothing was written meanwhile, as [`quiet`] tells.
    pub still: bool,
}

impl Evidence {
    /// Without an oplog: finds out whether the server stood still. Where it did not, nothing is read a second time.
    pub fn bound(
        self,
        session: &Session<'_>,
        settings: &Settings,
        before: Option<&Written>,
        context: Context<'_>,
    ) -> Result<Self> {
        if self.window.is_some() || before.is_none() || quiet::written(session)?.as_ref() != before {
            return Ok(self);
        }
        let meter = Meter::default();
        let again = fingerprint_of(session, settings, Context { meter: &meter, ..context });
        context.cancel.check()?;
        // What kept it from being read again is a change too.
        let Ok(again) = again else { return Ok(self) };
        let still = quiet::is_still(before, quiet::written(session)?.as_ref(), &self.fingerprint(), &again);
        Ok(Evidence { still, ..self })
    }

    fn fingerprint(&self) -> Fingerprint {
        let nothing = Touched::default();
        fingerprint(&self.walked, self.window.as_ref().map_or(&nothing, |window| &window.seen.touched))
    }

    pub fn dumped(self, settings: &Settings) -> Dumped {
        let mut notes = self.accounts.notes.clone();
        match &self.window {
            None if self.still => notes.push(STILL.to_owned()),
            None => notes.push(UNBOUND.to_owned()),
            Some(window) => notes.extend(window.seen.touched.note()),
        }
        let place = settings.server.location();
        Dumped {
            version: self.version.clone(),
            consistent_at: self.window.as_ref().map_or(self.begun, |window| window.read_at),
            inventory: self.inventory(),
            fingerprint: self.fingerprint(),
            warnings: Vec::new(),
            notes,
            restore_hint: format!(
                "mongorestore --archive{} reads this stream (it was dumped from {place})",
                if self.window.is_some() { " --oplogReplay" } else { "" }
            ),
            position: self.window.as_ref().map(Window::position),
            details: serde_json::json!({
                "server_version": self.walked.server_version,
                "bound": self.window.is_some() || self.still,
                "accounts": self.accounts.details,
            }),
        }
    }

    fn inventory(&self) -> BTreeMap<String, u64> {
        let own: Vec<&Collection> = self.walked.collections.iter().filter(|c| !catalog::is_account(&c.name)).collect();
        let databases: BTreeSet<&str> = own.iter().map(|c| c.name.database.as_str()).collect();
        let views = own.iter().filter(|c| c.kind == Kind::View).count();
        let indexes: usize = own.iter().map(|c| c.indexes.len()).sum();
        let counted = |name: &Namespace| self.walked.tallies.get(name).map_or(0, |tally| tally.documents);
        let documents: u64 = own.iter().map(|c| counted(&c.name) + counted(&c.buckets())).sum();
        let account = |kind: &str| counted(&Namespace::new(catalog::ACCOUNTS, format!("system.{kind}")));
        BTreeMap::from([
            ("databases".to_owned(), databases.len() as u64),
            ("collections".to_owned(), (own.len() - views) as u64),
            ("views".to_owned(), views as u64),
            ("indexes".to_owned(), indexes as u64),
            ("documents".to_owned(), documents),
            ("users".to_owned(), account("users") + self.accounts.users),
            ("roles".to_owned(), account("roles")),
        ])
    }
}

/// The key of a collection's definition among the parts of a fingerprint.
fn definition_of(name: &Namespace) -> String {
    format!("definition of {name}")
}

/// Counts and digests by collection. What changed during the window is left out: replaying the oplog changes it again.
pub(super) fn fingerprint(walked: &Walked, touched: &Touched) -> Fingerprint {
    let mut parts = BTreeMap::new();
    for collection in &walked.collections {
        let name = &collection.name;
        if catalog::is_account(name) {
            continue;
        }
        let own = walked.tallies.get(&collection.buckets()).or_else(|| walked.tallies.get(name));
        if let Some(tally) = own
            && collection.kind != Kind::View
            && !touched.has(name)
        {
            let part = FingerprintPart { count: tally.documents, digest: tally.digest() };
            parts.insert(name.to_string(), part);
        }
        if touched.redefines(name) {
            continue;
        }
        let digest = blake3::hash(definition(collection).as_bytes()).to_hex().to_string();
        let part = FingerprintPart { count: collection.indexes.len() as u64, digest };
        parts.insert(definition_of(name), part);
    }
    Fingerprint { method: METHOD.to_owned(), parts, ..Fingerprint::default() }
}

/// Whether the fingerprint of a dump counts these documents in the collection of that name.
pub(super) fn is_counted(fingerprint: &Fingerprint, name: &Namespace, tally: &Tally) -> bool {
    let part = FingerprintPart { count: tally.documents, digest: tally.digest() };
    fingerprint.method == METHOD && fingerprint.parts.get(&name.to_string()) == Some(&part)
}

fn definition(collection: &Collection) -> String {
    let options = extended_json::canonical(&collection.options);
    let mut indexes: Vec<String> =
        collection.indexes.iter().map(|index| extended_json::canonical(&catalog::comparable(index))).collect();
    indexes.sort();
    format!("{}\n{options}\n{}", collection.kind.as_listed(), indexes.join("\n"))
}
