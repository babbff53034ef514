//! Stores that are bent: whose listings are wrong, whose clock goes on, or that do not let anybody delete.

use crate::past::Past;
use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::job::Places;
use bkp::job::prune::plan::{Holds, SourceRules, Wishes};
use bkp::job::prune::{Outcome, Prune};
use bkp::policy::{Paths, load};
use bkp::repo::Repository;
use bkp::store::{Entry, Head, Key, Purged, Retain, Retention, Store, StoreError, StoreResult, Upload};
use bytes::Bytes;
use jiff::SignedDuration;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};

type Bend = Box<dyn Fn(&str, Vec<Entry>) -> StoreResult<Vec<Entry>> + Send + Sync>;

pub struct Bent {
    inner: Arc<dyn Store>,
    listing: Bend,
    deletes: bool,
    /// How much older objects seem to be.
    older: Mutex<HashMap<Key, SignedDuration>>,
}

impl Bent {
    pub fn new(inner: Arc<dyn Store>) -> Bent {
        Bent { inner, listing: Box::new(|_, entries| Ok(entries)), deletes: true, older: Mutex::default() }
    }

    pub fn listing(self, bend: impl Fn(&str, Vec<Entry>) -> StoreResult<Vec<Entry>> + Send + Sync + 'static) -> Bent {
        Bent { listing: Box::new(bend), ..self }
    }

    pub fn without_delete(self) -> Bent {
        Bent { deletes: false, ..self }
    }

    /// Everything that is there becomes so much older.
    pub fn pass(&self, hours: i64) {
        let mut older = self.older.lock().unwrap();
        for entry in self.inner.list("").unwrap() {
            *older.entry(entry.key).or_default() += SignedDuration::from_hours(hours);
        }
    }

    fn age(&self, key: &Key) -> SignedDuration {
        self.older.lock().unwrap().get(key).copied().unwrap_or_default()
    }
}

impl Store for Bent {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn put(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.inner.put(key, bytes, retain)
    }
    fn put_new(&self, key: &Key, bytes: Bytes, retain: Option<&Retain>) -> StoreResult<()> {
        self.inner.put_new(key, bytes, retain)
    }
    fn upload(&self, key: &Key, retain: Option<&Retain>) -> StoreResult<Box<dyn Upload>> {
        self.inner.upload(key, retain)
    }
    fn get(&self, key: &Key, range: Option<Range<u64>>) -> StoreResult<Box<dyn Read + Send>> {
        self.inner.get(key, range)
    }
    fn list(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        let mut entries = self.inner.list(prefix)?;
        entries.iter_mut().for_each(|entry| entry.modified -= self.age(&entry.key));
        (self.listing)(prefix, entries)
    }
    fn head(&self, key: &Key) -> StoreResult<Head> {
        let head = self.inner.head(key)?;
        Ok(Head { modified: head.modified - self.age(key), ..head })
    }
    fn delete(&self, key: &Key) -> StoreResult<()> {
        self.purge(key).map(drop)
    }
    fn purge(&self, key: &Key) -> StoreResult<Purged> {
        match self.deletes {
            true => self.inner.purge(key),
            false => Err(StoreError::Denied("deleting: AccessDenied".into())),
        }
    }
    fn retention(&self) -> Option<&dyn Retention> {
        self.inner.retention()
    }
}

impl Past {
    /// What `bkp prune` does, on a store that is bent.
    pub fn prune_in(&self, store: Arc<dyn Store>) -> Result<Outcome> {
        self.prune_while(store, || ())
    }

    /// The same, and something that happens after it has looked.
    pub fn prune_while(&self, store: Arc<dyn Store>, something: impl FnOnce()) -> Result<Outcome> {
        let repository = Repository::new(store, self.repository.info.clone());
        let paths = Paths::of_this_process(Some(&self.host.path("etc/bkp.yaml"))).unwrap();
        let configuration = load(&paths).unwrap();
        let policy = &configuration.policies[0];
        let rules = |source: &bkp::policy::Source| SourceRules {
            source: source.name.clone(),
            policy: policy.name.clone(),
            rules: policy.keep,
            zone: policy.timezone.clone(),
        };
        let policies: Vec<SourceRules> = policy.sources.iter().map(rules).collect();
        let prune = Prune {
            repository: &repository,
            places: &Places::new(&self.host.path("state"), &self.host.path("cache"), &repository),
            by: &self.writer,
            whose: &self.writer.info,
            keys: &self.writer.keyring(),
            trust: &self.writer.trust(),
            policies: &policies,
            holds: &Holds::new(),
            passed: &Default::default(),
            wishes: Wishes::default(),
            max_delete: 1.0,
            accept_missing: false,
        };
        let (cancel, meter) = (Cancel::default(), Meter::default());
        let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
        let looked = prune.look(context)?;
        let plan = prune.plan(&looked, jiff::Timestamp::now())?;
        something();
        prune.apply(&looked, &plan, context)
    }
}
