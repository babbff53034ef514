//! The compact forms that small lists, sets, sorted sets and hashes have: listpack, ziplist, intset, zipmap.
//!
//! Each gives its elements as text, as clients see them; `None` means that the bytes are not what they should be.

use std::borrow::Cow;

pub type Elements<'a> = Vec<Cow<'a, [u8]>>;

/// Takes bytes from the front.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// A signed number of up to 8 bytes, the lowest first.
    fn number(&mut self, length: usize) -> Option<i64> {
        let mut bytes = [0; 8];
        bytes[8 - length..].copy_from_slice(self.take(length)?);
        Some(i64::from_le_bytes(bytes) >> (64 - 8 * length))
    }

    fn size(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    fn big_endian_size(&mut self) -> Option<usize> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?) as usize)
    }
}

fn text<'a>(number: i64) -> Cow<'a, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}

pub fn listpack(bytes: &[u8]) -> Option<Elements<'_>> {
    let mut cut = Cut(bytes);
    if cut.size()? != bytes.len() {
        return None;
    }
    let count = u16::from_le_bytes(cut.take(2)?.try_into().ok()?);
    let mut elements = Vec::new();
    loop {
        let before = cut.0.len();
        let first = cut.byte()?;
        let low = usize::from(first);
        elements.push(match first {
            0xff => break,
            0x00..0x80 => text(i64::from(first)),
            0x80..0xc0 => cut.take(low & 0x3f)?.into(),
            0xc0..0xe0 => {
                let value = i64::from(first & 0x1f) << 8 | i64::from(cut.byte()?);
                text(if value >= 1 << 12 { value - (1 << 13) } else { value })
            }
            0xe0..0xf0 => {
                let length = (low & 0x0f) << 8 | usize::from(cut.byte()?);
                cut.take(length)?.into()
            }
            0xf0 => {
                let length = cut.size()?;
                cut.take(length)?.into()
            }
            0xf1..=0xf3 => text(cut.number(low - 0xef)?),
            0xf4 => text(cut.number(8)?),
            _ => return None,
        });
        cut.take(match before - cut.0.len() {
            0..=127 => 1,
            128..16_383 => 2,
            16_383..2_097_151 => 3,
            2_097_151..268_435_455 => 4,
            _ => 5,
        })?;
    }
    // The number is not kept beyond what 16 bits hold.
    let counted = count == u16::MAX || usize::from(count) == elements.len();
    (cut.0.is_empty() && counted).then_some(elements)
}

pub fn ziplist(bytes: &[u8]) -> Option<Elements<'_>> {
    let mut cut = Cut(bytes);
    if cut.size()? != bytes.len() {
        return None;
    }
    cut.size()?;
    let count = u16::from_le_bytes(cut.take(2)?.try_into().ok()?);
    let mut elements = Vec::new();
    loop {
        match cut.byte()? {
            0xff => break,
            0xfe => {
                cut.size()?;
            }
            _ => {}
        }
        let first = cut.byte()?;
        elements.push(match first {
            0x00..0x40 => cut.take(usize::from(first))?.into(),
            0x40..0x80 => {
                let length = usize::from(first & 0x3f) << 8 | usize::from(cut.byte()?);
                cut.take(length)?.into()
            }
            0x80 => {
                let length = cut.big_endian_size()?;
                cut.take(length)?.into()
            }
            0xc0 => text(cut.number(2)?),
            0xd0 => text(cut.number(4)?),
            0xe0 => text(cut.number(8)?),
            0xf0 => text(cut.number(3)?),
            0xfe => text(cut.number(1)?),
            0xf1..=0xfd => text(i64::from(first & 0x0f) - 1),
            _ => return None,
        });
    }
    let counted = count == u16::MAX || usize::from(count) == elements.len();
    (cut.0.is_empty() && counted).then_some(elements)
}

pub fn intset(bytes: &[u8]) -> Option<Elements<'_>> {
    let mut cut = Cut(bytes);
    let (width, count) = (cut.size()?, cut.size()?);
    if !matches!(width, 2 | 4 | 8) || cut.0.len() != width.checked_mul(count)? {
        return None;
    }
    (0..count).map(|_| cut.number(width).map(text)).collect()
}

/// Fields and values by turns.
pub fn zipmap(bytes: &[u8]) -> Option<Elements<'_>> {
    let mut cut = Cut(bytes);
    cut.byte()?;
    let mut elements = Vec::new();
    loop {
        let is_value = elements.len() % 2 == 1;
        let length = match cut.byte()? {
            0xff => break,
            0xfe => cut.size()?,
            length => usize::from(length),
        };
        let unused = if is_value { usize::from(cut.byte()?) } else { 0 };
        elements.push(cut.take(length)?.into());
        cut.take(unused)?;
    }
    (cut.0.is_empty() && elements.len() % 2 == 0).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(elements: Option<Elements<'_>>) -> Vec<String> {
        elements.unwrap().iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect()
    }

    #[test]
    fn a_ziplist_of_old_servers_is_read() {
        let entries = [
            &[0, 2, b'a', b'b'][..],
            &[4, 0xf1],
            &[2, 0xfd],
            &[2, 0xfe, 0x80],
            &[3, 0xc0, 0x00, 0x80],
            &[4, 0xf0, 0xff, 0xff, 0xff],
            &[5, 0xd0, 0, 0, 0, 0x80],
            &[6, 0xe0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[10, 0x40, 1, b'z'],
            &[0xfe, 1, 0, 0, 0, 0x80, 0, 0, 0, 1, b'y'],
        ]
        .concat();
        let mut bytes = (entries.len() as u32 + 11).to_le_bytes().to_vec();
        bytes.extend([0, 0, 0, 0, 10, 0]);
        bytes.extend(entries);
        bytes.push(0xff);
        assert_eq!(texts(ziplist(&bytes)), ["ab", "0", "12", "-128", "-32768", "-1", "-2147483648", "1", "z", "y"]);
        assert_eq!(ziplist(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_zipmap_of_old_servers_is_read() {
        let bytes = [2, 3, b'f', b'o', b'o', 3, 1, b'b', b'a', b'r', 0, 1, b'x', 0, 0, 0xff];
        assert_eq!(texts(zipmap(&bytes)), ["foo", "bar", "x", ""]);
        assert_eq!(zipmap(&bytes[..6]), None);
    }

    #[test]
    fn an_intset_has_negative_numbers() {
        assert_eq!(texts(intset(&[2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0])), ["-1", "5"]);
        assert_eq!(intset(&[3, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1]), None);
    }

    #[test]
    fn a_listpack_has_numbers_of_every_width() {
        let entries = [
            &[0x7f, 1][..],
            &[0x82, b'h', b'i', 3],
            &[0xdf, 0xff, 2],
            &[0xf1, 0x00, 0x80, 3],
            &[0xf2, 0, 0, 0x80, 4],
            &[0xf3, 0, 0, 0, 0x80, 5],
            &[0xf4, 0, 0, 0, 0, 0, 0, 0, 0x80, 9],
            &[0xe0, 1, b'a', 3],
            &[0xf0, 1, 0, 0, 0, b'b', 6],
        ]
        .concat();
        let mut bytes = (entries.len() as u32 + 7).to_le_bytes().to_vec();
        bytes.extend([9, 0]);
        bytes.extend(entries);
        bytes.push(0xff);
        let read = texts(listpack(&bytes));
        assert_eq!(read, ["127", "hi", "-1", "-32768", "-8388608", "-2147483648", "-9223372036854775808", "a", "b"]);
        for cut in 0..bytes.len() {
            assert_eq!(listpack(&bytes[..cut]), None);
        }
    }
}
