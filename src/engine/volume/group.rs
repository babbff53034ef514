//! Where a group of entries ends: a pure function of the entries, so that an insertion moves few cuts.

/// A group ends when it has this many bytes.
const FULL: u64 = 512 * 1024;

/// One entry in this many ends a group by its path, whatever is around it. One changed file has its whole group stored
/// again: with 8, a change of 1 % of all files stores 8 % anew, with 64 it was 47 %. Compression does not depend on it,
/// and each group costs 44 bytes in the index.
const MEAN_ENTRIES: u8 = 8;

/// Makes the cuts independent of all other uses of BLAKE3. Not a secret.
const KEY: &[u8; 32] = b"bkp volume group cut, version 1.";

/// Watches the entries of one group go by.
#[derive(Debug)]
pub struct Cutter {
    bytes: u64,
}

impl Cutter {
    /// `padding`: bytes at the beginning of the group that belong to the big file before it.
    pub fn new(padding: u64) -> Self {
        Cutter { bytes: padding }
    }

    /// Counts an entry of `bytes` in, and says whether the group ends after it. A big file's header always ends one.
    pub fn add(&mut self, path: &[u8], bytes: u64, big: bool) -> bool {
        self.bytes += bytes;
        big || self.bytes >= FULL || ends_by_path(path)
    }
}

fn ends_by_path(path: &[u8]) -> bool {
    blake3::keyed_hash(KEY, path).as_bytes()[0].is_multiple_of(MEAN_ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Indexes of the entries that end a group.
    fn cuts(entries: &[(String, u64)]) -> Vec<String> {
        let mut cutter = Cutter::new(0);
        let mut ends = Vec::new();
        for (path, bytes) in entries {
            if cutter.add(path.as_bytes(), *bytes, false) {
                ends.push(path.clone());
                cutter = Cutter::new(0);
            }
        }
        ends
    }

    fn tree() -> impl Strategy<Value = Vec<(String, u64)>> {
        prop::collection::btree_map("[a-z]{1,6}/[a-z]{1,6}", 1024u64..40_000, 1..400)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn no_group_exceeds_its_limit_by_more_than_an_entry(entries in tree()) {
            let mut cutter = Cutter::new(0);
            for (path, bytes) in &entries {
                if cutter.add(path.as_bytes(), *bytes, false) {
                    cutter = Cutter::new(0);
                } else {
                    prop_assert!(cutter.bytes < FULL);
                }
            }
        }

        #[test]
        fn the_cuts_after_a_removed_entry_are_found_again(entries in tree(), at in any::<prop::sample::Index>()) {
            let whole = cuts(&entries);
            let mut less = entries.clone();
            let (removed, _) = less.remove(at.index(entries.len()));
            let after = cuts(&less);
            // Every end that the path alone decides is in both.
            for end in whole.iter().filter(|end| ends_by_path(end.as_bytes()) && **end != removed) {
                prop_assert!(after.contains(end));
            }
        }
    }

    #[test]
    fn a_big_header_ends_its_group() {
        assert!(Cutter::new(0).add(b"a", 1024, true));
    }

    #[test]
    fn about_one_path_in_eight_ends_a_group() {
        let ends = (0..8_000).filter(|i| ends_by_path(format!("some/path/{i}").as_bytes())).count();
        assert!((800..1200).contains(&ends), "{ends}");
    }
}
