//! Puts documents into collections: batches of raw BSON, by several connections at once.
//!
//! The first batch of which the server takes less than all ends the load: a restore with holes is none.

use crate::engine::mongo::archive::Namespace;
use crate::engine::mongo::session::Session;
use crate::error::{Failure, Result};
use bson::{Bson, Document, RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use crossbeam_channel::{Receiver, Sender};
use std::sync::Mutex;
use std::thread::Scope;

/// A command is a document itself and has the same limit; smaller batches also let more of them be under way.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_DOCUMENTS: u64 = 20_000;
const WORKERS: usize = 4;

/// Where documents of a collection go, and how.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine::mongo) struct Route {
    pub target: Namespace,
    /// A capped collection has an order.
    pub ordered: bool,
    /// What was there is put back even if the validator came later.
    pub bypass_validation: bool,
    /// A time series under its own name.
    pub raw: bool,
}

pub(super) struct Batch {
    route: Route,
    documents: RawArrayBuf,
    bytes: usize,
    count: u64,
}

impl Batch {
    pub fn new(route: Route) -> Self {
        Batch { route, documents: RawArrayBuf::new(), bytes: 0, count: 0 }
    }

    pub fn push(&mut self, document: &[u8]) -> Result<()> {
        let document = RawDocument::from_bytes(document)
            .map_err(|e| Failure::failed(format!("a document of {} is no BSON", self.route.target)).because(e))?;
        self.bytes += document.as_bytes().len();
        self.count += 1;
        self.documents.push(document);
        Ok(())
    }

    pub fn is_full(&self, next: usize) -> bool {
        self.count >= BATCH_DOCUMENTS || self.count > 0 && self.bytes + next > BATCH_BYTES
    }

    pub fn is_for(&self, route: &Route) -> bool {
        self.route == *route
    }

    fn insert(self, session: &Session<'_>) -> Result<()> {
        let Batch { route, documents, count, .. } = self;
        let what = format!("insert into {}", route.target);
        let mut command = RawDocumentBuf::new();
        command.append(cstr!("insert"), route.target.collection.as_str());
        command.append(cstr!("ordered"), route.ordered);
        if route.bypass_validation {
            command.append(cstr!("bypassDocumentValidation"), true);
        }
        if route.raw {
            command.append(cstr!("rawData"), true);
        }
        command.append(cstr!("documents"), documents);
        let answer = session.raw_command(&route.target.database, &what, command)?;
        taken(&answer, count, &route.target)
    }
}

/// Whether the server took all of what it was given.
pub(in crate::engine::mongo) fn taken(answer: &Document, count: u64, target: &Namespace) -> Result<()> {
    let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let unconfirmed = answer.get_document("writeConcernError").ok();
    let number = match answer.get("n") {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Double(number)) => *number as u64,
        _ => 0,
    };
    if errors.is_empty() && unconfirmed.is_none() && number >= count {
        return Ok(());
    }
    let first = errors.first().and_then(Bson::as_document).or(unconfirmed);
    let reason: String =
        first.and_then(|e| e.get_str("errmsg").ok()).unwrap_or("no reason").chars().take(300).collect();
    let refused = (errors.len() as u64).max(count.saturating_sub(number));
    Err(Failure::failed(format!("the server refused {refused} of {count} documents of {target}: {reason}")))
}

/// The threads that insert.
pub(super) struct Inserter<'scope> {
    sender: Option<Sender<Batch>>,
    failure: &'scope Mutex<Option<Failure>>,
    workers: Vec<std::thread::ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Inserter<'scope> {
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        session: &'scope Session<'_>,
        failure: &'scope Mutex<Option<Failure>>,
    ) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded::<Batch>(WORKERS);
        let workers = (0..WORKERS).map(|_| {
            let receiver: Receiver<Batch> = receiver.clone();
            scope.spawn(move || {
                for batch in receiver {
                    if let Err(error) = batch.insert(session) {
                        failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
                        return;
                    }
                }
            })
        });
        Inserter { sender: Some(sender), failure, workers: workers.collect() }
    }

    /// Ordered batches wait for all before them, so that one collection's come one by one.
    pub fn give(&self, batch: Batch, session: &Session<'_>) -> Result<()> {
        self.check()?;
        if batch.route.ordered {
            return batch.insert(session);
        }
        let sender = self.sender.as_ref().expect("batches are given before the end");
        sender.send(batch).map_err(|_| match self.check() {
            Err(failure) => failure,
            Ok(()) => Failure::failed("the threads that insert broke down"),
        })
    }

    /// Waits until everything is in.
    pub fn finish(mut self) -> Result<()> {
        self.sender = None;
        for worker in std::mem::take(&mut self.workers) {
            worker.join().map_err(|_| Failure::failed("a thread that inserts broke down"))?;
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
