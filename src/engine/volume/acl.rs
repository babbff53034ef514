//! POSIX ACLs as text. The attribute itself is in the tar stream too, but GNU tar sets ACLs only from their text.

use crate::engine::volume::entry::Xattrs;

/// The pax keys of the text, by the attribute that holds the ACL.
const KEYS: [(&[u8], &[u8]); 2] =
    [(b"system.posix_acl_access", b"SCHILY.acl.access"), (b"system.posix_acl_default", b"SCHILY.acl.default")];

/// Pax key and value for each ACL among the attributes.
pub fn records(xattrs: &Xattrs) -> impl Iterator<Item = (&'static [u8], String)> {
    xattrs.iter().filter_map(|(name, value)| {
        let (_, key) = KEYS.iter().find(|(attribute, _)| attribute == name)?;
        Some((*key, text(value)?))
    })
}

/// Linux stores a version and then tag, permissions and id of each entry. `None`: it is something else.
fn text(acl: &[u8]) -> Option<String> {
    let entries = acl.strip_prefix(&2u32.to_le_bytes())?;
    if entries.is_empty() || entries.len() % 8 != 0 {
        return None;
    }
    let mut lines = Vec::new();
    for entry in entries.chunks_exact(8) {
        let (tag, permissions) = (entry[0], entry[2]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = match tag {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let may = |bit: u8, letter: char| if permissions & bit != 0 { letter } else { '-' };
        lines.push(format!("{who}:{}{}{}", may(4, 'r'), may(2, 'w'), may(1, 'x')));
    }
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_reads_as_getfacl_prints_it() {
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in
            [(1u16, 6u16, u32::MAX), (2, 7, 1234), (4, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]
        {
            acl.extend_from_slice(&tag.to_le_bytes());
            acl.extend_from_slice(&permissions.to_le_bytes());
            acl.extend_from_slice(&id.to_le_bytes());
        }
        let xattrs = vec![(b"system.posix_acl_access".to_vec(), acl), (b"user.x".to_vec(), b"y".to_vec())];
        let records: Vec<_> = records(&xattrs).collect();
        let expected = "user::rw-\nuser:1234:rwx\ngroup::r--\nmask::rwx\nother::---\n";
        assert_eq!(records, [(&b"SCHILY.acl.access"[..], expected.to_owned())]);
        assert_eq!(text(b"\x01\0\0\0"), None);
        assert_eq!(text(&[2, 0, 0, 0, 1]), None);
    }
}
