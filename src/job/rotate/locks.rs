//! What users whose turn is over are locked with, where a lock is a password that nobody is told: keys that follow from no
//! credential, so that whoever had one of those once has none of these. Each rotation makes another one.
//!
//! They are in the document of the rotation, for another host, or this one after a crash, has to know by them that nobody else has
//! given the user a password. Whoever has read the document before knows none of the next ones.

use crate::durable::random_hex;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// In random bytes.
const LENGTH: usize = 32;
/// Of the rotation that is under way, or the last one, and of the one before: what that locked stays so until its turn comes.
const KEPT: usize = 2;

/// The newest first. Wiped when dropped.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Locks(Vec<String>);

impl Locks {
    pub fn renew(&mut self) {
        self.0.insert(0, random_hex(LENGTH));
        self.0.iter_mut().skip(KEPT).for_each(Zeroize::zeroize);
        self.0.truncate(KEPT);
    }

    /// There is one from now on.
    pub fn first(&mut self) {
        if self.0.is_empty() {
            self.renew();
        }
    }

    pub fn keys(&self) -> Vec<Secret> {
        self.0.iter().map(|key| Secret::new(key.clone())).collect()
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rotation_has_a_lock_of_its_own_and_knows_that_of_the_one_before() {
        let mut locks = Locks::default();
        locks.first();
        let first = locks.clone();
        locks.first();
        let key = |locks: &Locks, at: usize| locks.0[at].clone();
        assert_eq!(key(&locks, 0), key(&first, 0));
        locks.renew();
        assert_eq!((key(&locks, 1), locks.keys().len()), (key(&first, 0), 2));
        locks.renew();
        assert!(locks.0.len() == 2 && !locks.0.contains(&key(&first, 0)));
    }
}
