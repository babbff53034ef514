//! Streams of Redis: entries, consumer groups, and what is pending in them.
//!
//! Entries that were deleted are passed over, so that how a server groups entries does not matter. What a server guesses
//! anew when it loads an older file (how far a group has read, when a consumer was last active) is not in the digest.

use super::input::Input;
use super::packed;
use super::value::Sequence;
use crate::error::Result;
use std::borrow::Cow;
use std::io::Read;

type Id = (u64, u64);

/// Reads one in the form `rdb_type` (15, 19 or 21) and gives its digest.
pub fn read<R: Read>(input: &mut Input<R>, rdb_type: u8) -> Result<[u8; 32]> {
    let mut sequence = Sequence::default();
    let mut first = (0, 0);
    let mut entries = 0;
    for _ in 0..input.length()? {
        let node = input.owned_string()?;
        let listpack = input.owned_string()?;
        let master = node.as_slice().try_into().ok().map(id_of);
        let read = master.zip(packed::listpack(&listpack)).and_then(|(master, elements)| {
            each_entry(master, &elements, |id, fields| {
                if entries == 0 {
                    first = id;
                }
                entries += 1;
                add_id(&mut sequence, id);
                sequence.add(&(fields.len() as u64).to_le_bytes());
                fields.iter().for_each(|field| sequence.add(field));
            })
        });
        read.ok_or_else(|| input.damaged("entries of a stream"))?;
    }
    let length = input.length()?;
    if length != entries {
        return Err(input.damaged("a stream without some of its entries"));
    }
    let last = id(input)?;
    let (deleted, added) = if rdb_type >= 19 {
        first = id(input)?;
        (id(input)?, input.length()?)
    } else {
        ((0, 0), length)
    };
    for id in [last, first, deleted] {
        add_id(&mut sequence, id);
    }
    sequence.add(&added.to_le_bytes());
    for _ in 0..input.length()? {
        group(input, rdb_type, &mut sequence)?;
    }
    Ok(sequence.digest())
}

fn group<R: Read>(input: &mut Input<R>, rdb_type: u8, sequence: &mut Sequence) -> Result<()> {
    sequence.add(&input.owned_string()?);
    let last = id(input)?;
    add_id(sequence, last);
    if rdb_type >= 19 {
        input.length()?;
    }
    for _ in 0..input.length()? {
        add_id(sequence, id_of(&input.array()?));
        sequence.add(&input.milliseconds()?.to_le_bytes());
        sequence.add(&input.length()?.to_le_bytes());
    }
    for _ in 0..input.length()? {
        sequence.add(&input.owned_string()?);
        sequence.add(&input.milliseconds()?.to_le_bytes());
        if rdb_type >= 21 {
            input.milliseconds()?;
        }
        for _ in 0..input.length()? {
            add_id(sequence, id_of(&input.array()?));
        }
    }
    Ok(())
}

fn id<R: Read>(input: &mut Input<R>) -> Result<Id> {
    Ok((input.length()?, input.length()?))
}

fn id_of(raw: &[u8; 16]) -> Id {
    let number = u128::from_be_bytes(*raw);
    ((number >> 64) as u64, number as u64)
}

fn add_id(sequence: &mut Sequence, (milliseconds, number): Id) {
    sequence.add(&milliseconds.to_le_bytes());
    sequence.add(&number.to_le_bytes());
}

/// Hands every entry that is not deleted to `take`, fields and values by turns; `None` when the elements make no entries.
fn each_entry(master: Id, elements: &[Cow<'_, [u8]>], mut take: impl FnMut(Id, &[&[u8]])) -> Option<()> {
    const DELETED: i64 = 1;
    const SAME_FIELDS: i64 = 2;
    let mut rest = elements.iter();
    let mut number = || number_of(rest.next()?);
    let (count, deleted, fields) = (number()?, number()?, usize::try_from(number()?).ok()?);
    let names: Vec<&[u8]> = rest.by_ref().take(fields).map(|e| &**e).collect();
    number_of(rest.next()?)?;
    let mut seen = (0, 0);
    while let Some(flags) = rest.next() {
        let flags = number_of(flags)?;
        let mut difference = || Some(number_of(rest.next()?)? as u64);
        let id = (master.0.wrapping_add(difference()?), master.1.wrapping_add(difference()?));
        let pairs: Vec<&[u8]> = if flags & SAME_FIELDS != 0 {
            let values: Vec<&[u8]> = rest.by_ref().take(names.len()).map(|e| &**e).collect();
            names.iter().copied().zip(values).flat_map(|(name, value)| [name, value]).collect()
        } else {
            let fields = usize::try_from(number_of(rest.next()?)?).ok()?;
            rest.by_ref().take(fields.checked_mul(2)?).map(|e| &**e).collect()
        };
        number_of(rest.next()?)?;
        if flags & DELETED != 0 {
            seen.1 += 1;
        } else {
            seen.0 += 1;
            take(id, &pairs);
        }
    }
    (seen == (count, deleted)).then_some(())
}

fn number_of(element: &[u8]) -> Option<i64> {
    std::str::from_utf8(element).ok()?.parse().ok()
}
