//! Many small objects at once: stores answer slowly, and opening what they give takes time.

use crate::error::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const READERS: usize = 8;

/// What becomes of each, in the same order. After a failure nothing new is begun.
pub fn side_by_side<T: Send, I: Sync>(of: &[I], make: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<T>> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(of.len())));
    std::thread::scope(|scope| {
        for _ in 0..READERS.min(of.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = of.get(number) else { break };
                    let result = make(one);
                    if result.is_err() {
                        next.store(of.len(), Ordering::Relaxed);
                    }
                    made.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_unstable_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn what_is_made_keeps_its_order_and_a_failure_ends_it() {
        let all: Vec<u32> = (0..1000).collect();
        assert_eq!(side_by_side(&all, |n| Ok(n * 2)).unwrap(), all.iter().map(|n| n * 2).collect::<Vec<_>>());
        let begun = AtomicUsize::new(0);
        let failed = side_by_side(&all, |n| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *n == 3 { Err(Failure::failed("the fourth")) } else { Ok(*n) }
        });
        assert_eq!(failed.unwrap_err().full(), "the fourth");
        assert!(begun.into_inner() < all.len());
    }
}
