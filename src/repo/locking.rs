//! Object lock of what is in the store already: raised, never lowered. A store that cannot lock has nothing to raise.

use crate::error::Result;
use crate::event::Cancel;
use crate::repo::Repository;
use crate::repo::keys::Keyring;
use crate::repo::objects::Objects;
use crate::repo::point::Point;
use crate::store::{Key, Retain, Store};

/// Requests that are under way at once.
const AT_ONCE: usize = 8;

/// Each of these is locked until then at least.
pub fn raise_all(store: &dyn Store, keys: &[Key], retain: &Retain, cancel: &Cancel) -> Result<()> {
    let Some(retention) = store.retention() else { return Ok(()) };
    let raise = |keys: &[Key]| -> Result<()> {
        for key in keys {
            cancel.check()?;
            retention.raise(key, retain)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let shares = keys.chunks(keys.len().div_ceil(AT_ONCE).max(1));
        let threads: Vec<_> = shares.map(|keys| scope.spawn(move || raise(keys))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("raising a lock does not panic"))
    })
}

/// All that a point needs, and the point last: its own lock tells that the others have theirs.
pub fn raise_point(
    repository: &Repository,
    point: &Point,
    keys: &Keyring,
    retain: &Retain,
    cancel: &Cancel,
) -> Result<()> {
    let needed: Vec<Key> = Objects::of(repository, point, keys)?.all().map(|pin| pin.key.clone()).collect();
    raise_all(&*repository.store, &needed, retain, cancel)?;
    raise_all(&*repository.store, &[point.key()], retain, cancel)
}
