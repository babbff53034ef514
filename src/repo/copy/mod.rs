//! Points carried into another store, so that it is a repository by itself.
//!
//! The rule of a commit holds there as well: objects first, then indexes and body, the point last; it appears only when all
//! that it needs is there. The store that is read is believed as far as a signed point pins what it gives: every object is
//! compared with its pin before it becomes visible in the other one, which is asked afterwards what it holds.
//! What is there with the right size is not carried again, so whatever was interrupted is simply begun again.

mod companions;

pub use companions::{bring, must_be_of, must_have_id, prepare};

use crate::durable;
use crate::error::{Failure, Kind, Result};
use crate::event::Context;
use crate::repo::objects::Objects;
use crate::repo::point::{Pin, Point};
use crate::repo::read::Counted;
use crate::repo::write::ObjectWriter;
use crate::repo::{Repository, names};
use crate::store::{Key, Retain, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What is larger passes in parts, one object at a time; all packs are smaller.
const WHOLE: u64 = 18 << 20;

/// Sizes of objects of a writer in a store.
pub type Shelf = BTreeMap<Key, u64>;

/// What a store lists below a prefix.
pub fn shelf(store: &dyn Store, prefix: &str) -> Result<Shelf> {
    Ok(store.list(prefix)?.into_iter().map(|entry| (entry.key, entry.size)).collect())
}

/// A point that is to be there too.
pub struct Carrying<'a> {
    pub from: &'a Repository,
    pub to: &'a Repository,
    pub point: &'a Point,
    /// The object of the point, as it was signed.
    pub sealed: &'a [u8],
    pub objects: &'a Objects,
    /// What the other store was seen to hold.
    pub there: &'a Shelf,
    /// Object lock of everything that the point needs there.
    pub retain: Option<Retain>,
    /// Objects that are there are read, and replaced when they are not what they should be.
    pub reread: bool,
}

/// What had to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub objects: u64,
    pub bytes: u64,
}

impl Carried {
    pub fn add(&mut self, other: Carried) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

impl Carrying<'_> {
    pub fn run(&self, context: Context<'_>) -> Result<Carried> {
        let total = self.objects.all().map(|pin| pin.size).sum();
        context.meter.total_bytes.fetch_add(total, Relaxed);
        let mut carried = self.objects(&self.objects.data, context)?;
        durable::crash_point("copy:data-stored");
        carried.add(self.objects(&self.objects.meaning, context)?);
        context.cancel.check()?;
        durable::crash_point("copy:before-point");
        carried.add(self.point()?);
        durable::crash_point("copy:point-written");
        Ok(carried)
    }

    /// The first failure counts; a second one is often only its echo.
    fn objects(&self, pins: &[Pin], context: Context<'_>) -> Result<Carried> {
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new((Carried::default(), None));
        let large = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..self.to.workers().min(pins.len()) {
                scope.spawn(|| {
                    while let Some(pin) = pins.get(next.fetch_add(1, Relaxed)) {
                        let result = context.cancel.check().and_then(|()| self.object(pin, &large));
                        context.meter.add(pin.size, 1);
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        match result {
                            Ok(carried) => outcome.0.add(carried),
                            Err(failure) => {
                                outcome.1.get_or_insert(failure);
                                next.store(pins.len(), Relaxed);
                            }
                        }
                    }
                });
            }
        });
        let (carried, failure) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(carried), Err)
    }

    fn object(&self, pin: &Pin, large: &Mutex<()>) -> Result<Carried> {
        let listed = self.there.get(&pin.key).copied();
        if listed == Some(pin.size) && (!self.reread || is_whole(self.to, pin)?) {
            return self.raise(&pin.key).map(|()| Carried::default());
        }
        if pin.size <= WHOLE {
            let bytes = Bytes::from(self.from.pinned(pin)?);
            self.put(&pin.key, bytes, listed.is_some())?;
        } else {
            let _one_at_a_time = large.lock().unwrap_or_else(PoisonError::into_inner);
            self.in_parts(pin)?;
        }
        durable::crash_point("copy:object-stored");
        self.must_hold(&pin.key, pin.size)?;
        Ok(Carried { objects: 1, bytes: pin.size })
    }

    /// Over what is there only when that is known to be wrong.
    fn put(&self, key: &Key, bytes: Bytes, over: bool) -> Result<()> {
        let (store, retain) = (&self.to.store, self.retain.as_ref());
        match if over { store.put(key, bytes, retain) } else { store.put_new(key, bytes, retain) } {
            // Somebody else brought it since the listing.
            Err(StoreError::Exists(_)) => self.raise(key),
            other => Ok(other?),
        }
    }

    fn in_parts(&self, pin: &Pin) -> Result<()> {
        let (mut object, passed) = Counted::open(self.from, pin)?;
        let mut writer = ObjectWriter::new(self.to.store.clone(), pin.key.clone(), self.retain);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = object.read(&mut buffer).map_err(|e| Failure::from(StoreError::from_reader(e, &pin.key)))?;
            if read == 0 {
                break;
            }
            let written = writer.write_all(&buffer[..read]);
            written.map_err(|e| {
                Failure::from_io(e, || format!("cannot write {} to {}", pin.key, self.to.store.describe()))
            })?;
        }
        // Before it becomes visible.
        passed.must_be(pin)?;
        writer.finish().map(|_| ())
    }

    fn point(&self) -> Result<Carried> {
        let key = self.point.key();
        let size = self.sealed.len() as u64;
        let listed = self.there.get(&key).copied();
        if listed == Some(size) && !(self.reread && crate::store::read(&*self.to.store, &key)? != self.sealed) {
            return self.raise(&key).map(|()| Carried::default());
        }
        self.put(&key, Bytes::copy_from_slice(self.sealed), listed.is_some())?;
        self.must_hold(&key, size)?;
        Ok(Carried { objects: 1, bytes: size })
    }

    fn must_hold(&self, key: &Key, size: u64) -> Result<()> {
        let held = self.to.store.head(key)?.size;
        if held == size {
            return Ok(());
        }
        let place = self.to.store.describe();
        Err(Failure::failed(format!("{place} holds {held} bytes of {key} instead of {size}"))
            .hint("Look at what changes objects there; the copy is not counted as made"))
    }

    fn raise(&self, key: &Key) -> Result<()> {
        match (&self.retain, self.to.store.retention()) {
            (Some(retain), Some(retention)) => Ok(retention.raise(key, retain)?),
            _ => Ok(()),
        }
    }
}

/// Whether an object is there and is what was written; other failures are failures.
fn is_whole(repository: &Repository, pin: &Pin) -> Result<bool> {
    let read = || -> Result<()> {
        let (mut object, passed) = Counted::open(repository, pin)?;
        io::copy(&mut object, &mut io::sink()).map_err(|e| Failure::from(StoreError::from_reader(e, &pin.key)))?;
        passed.must_be(pin)
    };
    match read() {
        Ok(()) => Ok(true),
        Err(failure) if failure.kind() == Kind::Verification => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// What of `objects` a store does not hold, or not with its size.
pub fn lacking<'o>(objects: &'o Objects, there: &'o Shelf) -> impl Iterator<Item = &'o Pin> {
    objects.all().filter(|pin| there.get(&pin.key) != Some(&pin.size))
}

/// Names of all points that a writer has on its shelf.
pub fn points<'s>(shelf: &'s Shelf, writer: &str) -> impl Iterator<Item = (&'s Key, u64)> {
    let prefix = names::points(writer, None);
    shelf.iter().filter(move |(key, _)| key.as_str().starts_with(&prefix)).map(|(key, size)| (key, *size))
}
