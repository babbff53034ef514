//! LZF, with which strings in RDB files are packed. Unpacks only.

/// Appends to `into`; `None` unless `packed` is whole and gives exactly `size` bytes.
pub fn unpack(packed: &[u8], size: u64, into: &mut Vec<u8>) -> Option<()> {
    let begin = into.len();
    let end = begin.checked_add(usize::try_from(size).ok()?)?;
    let mut rest = packed;
    while let Some((&control, more)) = rest.split_first() {
        rest = more;
        if control < 32 {
            let (literal, more) = rest.split_at_checked(usize::from(control) + 1)?;
            into.extend_from_slice(literal);
            rest = more;
        } else {
            let mut length = usize::from(control >> 5);
            if length == 7 {
                let (&longer, more) = rest.split_first()?;
                length += usize::from(longer);
                rest = more;
            }
            let (&low, more) = rest.split_first()?;
            rest = more;
            let back = (usize::from(control & 0x1f) << 8 | usize::from(low)) + 1;
            let from = into.len().checked_sub(back).filter(|from| *from >= begin)?;
            // What is copied may be what this copy appends.
            for at in from..from + length + 2 {
                into.push(into[at]);
            }
        }
        if into.len() > end {
            return None;
        }
    }
    (into.len() == end).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_overlaps_itself() {
        let mut out = b"before".to_vec();
        // "ab", then 8 bytes from 2 back.
        unpack(&[1, b'a', b'b', 6 << 5, 1], 10, &mut out).unwrap();
        assert_eq!(out, b"beforeababababab");
    }

    #[test]
    fn what_is_cut_or_reaches_too_far_is_refused() {
        assert_eq!(unpack(&[3, b'a'], 4, &mut Vec::new()), None);
        assert_eq!(unpack(&[0, b'a', 1 << 5, 9], 4, &mut b"before this, much".to_vec()), None);
        assert_eq!(unpack(&[0, b'a'], 2, &mut Vec::new()), None);
        assert_eq!(unpack(&[0, b'a', 7 << 5, 255, 0], 5, &mut Vec::new()), None);
    }
}
