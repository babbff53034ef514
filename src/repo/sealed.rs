//! With which keys packs are sealed. A point refers to packs of earlier points, so it may need keys that are older than its own.
//!
//! An index does not say it; the point that has the index does, in runs, as neighbours were mostly written together. What a point
//! does not say, because an older version wrote it, is 0: to be taken for the oldest there is.

use crate::repo::index::PackInfo;
use serde::{Deserialize, Serialize};

/// The data epoch, and the number of the list of who reads that the writer went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SealedBy {
    pub epoch: u32,
    pub list: u32,
}

/// So many packs of an index, one after the other, that were sealed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRun {
    #[serde(flatten)]
    pub sealed: SealedBy,
    pub packs: u32,
}

pub fn runs(packs: &[PackInfo]) -> Vec<SealedRun> {
    let alike = packs.chunk_by(|one, next| one.sealed == next.sealed);
    alike.map(|packs| SealedRun { sealed: packs[0].sealed, packs: packs.len() as u32 }).collect()
}

/// Tells the packs of an index what its point says of them.
pub fn tell(packs: &mut [PackInfo], runs: &[SealedRun]) {
    let each = runs.iter().flat_map(|run| std::iter::repeat_n(run.sealed, run.packs as usize));
    packs.iter_mut().zip(each).for_each(|(pack, sealed)| pack.sealed = sealed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_know_again_how_they_were_sealed() {
        let pack = |list| PackInfo { sha256: [0; 32], size: 1, data: 1, sealed: SealedBy { epoch: list, list } };
        let packs = [pack(1), pack(1), pack(4), pack(1), pack(0)];
        let runs = runs(&packs);
        assert_eq!(runs.iter().map(|run| run.packs).collect::<Vec<_>>(), [2, 1, 1, 1]);
        let mut read = packs.map(|pack| PackInfo { sealed: SealedBy::default(), ..pack });
        tell(&mut read, &runs);
        assert_eq!(read, packs);
        tell(&mut read[..1], &[]);
        assert_eq!(read, packs, "what is not said changes nothing");
    }
}
