//! What is to be built, read from the catalogue before anything is created: pure, but for reading it.

use super::TREE;
use crate::engine::TreeOrigin;
use crate::engine::volume::entry::{BLOCK, Entry, Extent, Kind, display, split};
use crate::engine::volume::{catalogue, header};
use crate::error::{Failure, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file whose data has chunks of its own.
#[derive(Debug)]
pub struct Big {
    /// Where its data stands in the tar stream.
    pub data: Range<u64>,
    /// Where it goes, inside the staging directory.
    pub path: Vec<u8>,
    pub size: u64,
    pub extents: Vec<Extent>,
}

#[derive(Debug)]
pub struct Plan {
    pub selection: Selection,
    /// In the order of the walk, inside the staging directory.
    pub directories: Vec<Vec<u8>>,
    /// Sorted by their data.
    pub big: Vec<Big>,
    /// Further names of files, and the first ones.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Entries of the tar stream that have a place.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// What is needed of the tar stream; `None`: all.
    pub ranges: Option<Vec<Range<u64>>>,
}

impl Plan {
    pub fn read(tree: &dyn TreeOrigin, part: Option<&Path>) -> Result<Self> {
        let mut plan = Plan {
            selection: Selection::new(part),
            directories: Vec::new(),
            big: Vec::new(),
            links: Vec::new(),
            entries: 0,
            bytes: 0,
            ranges: None,
        };
        if plan.selection.part().is_some() {
            plan.ranges = Some(Vec::new());
            plan.find_aliases(tree)?;
        }
        catalogue::read(tree.catalogue()?, |offset, entry| plan.add(offset, entry))?;
        if plan.entries == 0 {
            return Err(no_match(tree, plan.selection.part().unwrap_or_default()));
        }
        Ok(plan)
    }

    /// Files whose first name is outside the part take the place of their first further name in it.
    fn find_aliases(&mut self, tree: &dyn TreeOrigin) -> Result<()> {
        let selection = &mut self.selection;
        catalogue::read(tree.catalogue()?, |_, entry| {
            let outside =
                entry.kind == Kind::HardLink && selection.inside(&entry.path) && !selection.inside(&entry.link);
            if outside {
                selection.aliases.entry(entry.link).or_insert(entry.path);
            }
            Ok(())
        })
    }

    fn add(&mut self, offset: u64, entry: Entry) -> Result<()> {
        let Some(place) = self.selection.place(&entry.path) else { return Ok(()) };
        let data = offset + entry.header..offset + entry.header + entry.stored;
        if let Some(ranges) = &mut self.ranges {
            match ranges.last_mut().filter(|last| last.end + BLOCK > offset) {
                Some(last) => last.end = data.end,
                None => ranges.push(offset..data.end),
            }
        }
        self.entries += 1;
        self.bytes += entry.size;
        match entry.kind {
            Kind::Directory => self.directories.push(place),
            Kind::File if entry.is_big() => {
                self.big.push(Big { data, path: place, size: entry.size, extents: entry.sparse });
            }
            Kind::HardLink => match self.selection.place(&entry.link) {
                Some(first) if first == place => {}
                Some(first) => self.links.push((place, first)),
                None => return Err(header::damaged("a hard link leads out of it")),
            },
            _ => {}
        }
        Ok(())
    }

    /// The big file that has data at this offset.
    pub fn big_at(&self, offset: u64) -> Option<usize> {
        let after = self.big.partition_point(|big| big.data.start <= offset);
        let index = after.checked_sub(1)?;
        self.big[index].data.contains(&offset).then_some(index)
    }
}

/// Which entries are wanted, and where each goes.
#[derive(Debug, Default)]
pub struct Selection {
    part: Option<Vec<u8>>,
    /// First names outside the part → the name inside that stands for them.
    aliases: HashMap<Vec<u8>, Vec<u8>>,
}

impl Selection {
    fn new(part: Option<&Path>) -> Self {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in part.map_or(&b""[..], |part| part.as_os_str().as_bytes()).split(|&byte| byte == b'/') {
            if !name.is_empty() && name != b"." {
                names.push(name);
            }
        }
        let part = names.join(&b'/');
        Selection { part: (!part.is_empty()).then_some(part), aliases: HashMap::new() }
    }

    pub fn part(&self) -> Option<&[u8]> {
        self.part.as_deref()
    }

    fn inside(&self, path: &[u8]) -> bool {
        let Some(part) = &self.part else { return true };
        path.strip_prefix(&part[..]).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }

    /// The path inside the staging directory; `None` when it is not wanted.
    pub fn place(&self, path: &[u8]) -> Option<Vec<u8>> {
        let path = if self.inside(path) { path } else { self.aliases.get(path)? };
        let rest = &path[self.part.as_ref().map_or(0, Vec::len)..];
        let mut place = Vec::with_capacity(TREE.len() + 1 + rest.len());
        place.extend_from_slice(TREE.as_bytes());
        if !rest.is_empty() && rest[0] != b'/' {
            place.push(b'/');
        }
        place.extend_from_slice(rest);
        Some(place)
    }
}

fn no_match(tree: &dyn TreeOrigin, part: &[u8]) -> Failure {
    let wanted = display(part);
    let mut close: Vec<(f64, String)> = Vec::new();
    let read = tree.catalogue().and_then(|lines| {
        catalogue::read(lines, |_, entry| {
            let name = |path: &[u8]| String::from_utf8_lossy(split(path).1).into_owned();
            let whole = strsim::normalized_levenshtein(&wanted, &display(&entry.path));
            let likeness = whole.max(strsim::normalized_levenshtein(&name(part), &name(&entry.path)) - 0.05);
            if likeness > 0.6 {
                close.push((likeness, display(&entry.path).into_owned()));
                close.sort_by(|one, other| other.0.total_cmp(&one.0));
                close.truncate(3);
            }
            Ok(())
        })
    });
    if let Err(failure) = read {
        return failure;
    }
    let failure = Failure::usage(format!("there is no {wanted} in this point"));
    if close.is_empty() {
        return failure.hint("List what is in it with `bkp ls`; paths are relative to the root of the volume");
    }
    let names: Vec<_> = close.into_iter().map(|(_, name)| name).collect();
    failure.hint(format!("Did you mean {}?", names.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(part: Option<&str>, path: &str) -> Option<String> {
        let selection = Selection::new(part.map(Path::new));
        selection.place(path.as_bytes()).map(|place| String::from_utf8(place).unwrap())
    }

    #[test]
    fn a_part_becomes_the_tree_itself() {
        assert_eq!(place(None, "").unwrap(), "tree");
        assert_eq!(place(None, "a/b").unwrap(), "tree/a/b");
        for part in ["a/b", "./a/b", "/a/b/", "a//b"] {
            assert_eq!(place(Some(part), "a/b").unwrap(), "tree", "{part}");
            assert_eq!(place(Some(part), "a/b/c").unwrap(), "tree/c", "{part}");
            assert_eq!(place(Some(part), "a/bc"), None, "{part}");
            assert_eq!(place(Some(part), "a"), None, "{part}");
        }
        assert_eq!(place(Some("/"), "a").unwrap(), "tree/a");
    }
}
