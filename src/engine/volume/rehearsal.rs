//! What a rehearsal asks of volumes: whether every entry of the catalogue is there again, with all that belongs to it.
//!
//! The restored tree is walked as a dump would, and both catalogues are read side by side: what differs is named. What no
//! catalogue tells (attributes, device numbers) is in the digest of the whole.

use super::catalogue::Entries;
use super::entry::{Entry, Kind, display};
use super::{METHOD, Nowhere, Settings, dump_tree, fingerprint_of, store};
use crate::engine::rehearsal::{Comparison, Ground, Reach, Rehearsable, Scratch, Subject};
use crate::engine::{ChunkRange, Settings as AnySettings, TreeSink};
use crate::error::{Context as _, Failure, Kind as FailureKind, Result};
use crate::event::Context;
use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

pub struct Rehearsal;

impl Rehearsable for Rehearsal {
    fn ground(&self, _: &Subject<'_>) -> Result<Ground> {
        Ok(Ground::Directory)
    }

    fn settings(&self, _: &Subject<'_>, _: Option<&Reach>) -> AnySettings {
        AnySettings::Volume(Settings::of(""))
    }

    fn compare(&self, subject: &Subject<'_>, scratch: &Scratch, context: Context<'_>) -> Result<Comparison> {
        let path = scratch.path().ok_or_else(|| Failure::failed("a volume is rehearsed in a directory"))?;
        let origin = subject.origin;
        let tree = origin.tree().ok_or_else(|| {
            Failure::new(FailureKind::Verification, "the point has no tree, so it is not one of a volume")
        })?;
        let listed = path.with_extension("catalogue");
        let found = list(path, &listed, context)?;
        let file = File::open(&listed).context(|| format!("cannot read {}", listed.display()))?;
        let mut sides = Sides { owners: rustix::process::geteuid().is_root(), ..Sides::default() };
        sides.merge(Entries::of(tree.catalogue()?), Entries::of(Box::new(BufReader::new(file))))?;
        let Sides { mut comparison, owners, other_owners, changed } = sides;
        if other_owners > 0 {
            comparison.unbound.push(format!(
                "owners were not compared: bkp is not root here, and {other_owners} entries belonged to others"
            ));
        }
        comparison.unbound.extend(changed.then(|| CHANGED.to_owned()));
        let was = origin.fingerprint();
        let digest = was.parts.get("tree").filter(|_| was.method == METHOD).map(|part| &part.digest);
        match digest {
            None => {
                comparison.unbound.push("the point holds no digest of the tree that this version can compare".into())
            }
            Some(digest) if comparison.differing == 0 && (owners || other_owners == 0) && *digest != found => {
                comparison
                    .differs("tree: attributes (ACLs, xattrs) or device numbers, or the digest that the point holds");
            }
            Some(_) => {}
        }
        Ok(comparison)
    }
}

const CHANGED: &str =
    "some files changed while they were read for the backup, so they are of no single instant (bkp show names them)";

/// Writes the catalogue of what is there; gives its digest.
fn list(tree: &Path, into: &Path, context: Context<'_>) -> Result<String> {
    let settings = Settings { one_file_system: false, ..Settings::of(tree) };
    let file = File::create(into).context(|| format!("cannot create {}", into.display()))?;
    let mut listing = Listing(BufWriter::new(file));
    let outcome = dump_tree(&settings, settings.open()?, &mut listing, context, (None, None))?;
    store::require_whole(&outcome, &tree.display().to_string())?;
    listing.0.flush().context(|| format!("cannot write {}", into.display()))?;
    let fingerprint = fingerprint_of(&outcome);
    Ok(fingerprint.parts.into_values().next().map(|part| part.digest).unwrap_or_default())
}

/// Keeps nothing of a tree but its catalogue.
struct Listing(BufWriter<File>);

impl TreeSink for Listing {
    fn group(&mut self, bytes: &[u8]) -> Result<ChunkRange> {
        Nowhere.group(bytes)
    }

    fn file(&mut self, length: u64, data: &mut dyn Read) -> Result<ChunkRange> {
        Nowhere.file(length, data)
    }

    fn reuse(&mut self, _: ChunkRange) -> Result<Option<ChunkRange>> {
        Ok(None)
    }

    fn rewind(&mut self, _: u32) -> Result<()> {
        Ok(())
    }

    fn catalogue(&mut self, line: &[u8]) -> Result<()> {
        self.0.write_all(line).context(|| "cannot write the list of what was restored".into())
    }
}

/// Two catalogues, side by side.
#[derive(Default)]
struct Sides {
    comparison: Comparison,
    /// Whether owners can be given back here.
    owners: bool,
    other_owners: u64,
    changed: bool,
}

impl Sides {
    fn merge(&mut self, mut was: Entries<'_>, mut is: Entries<'_>) -> Result<()> {
        let (mut one, mut other) = (was.next()?, is.next()?);
        loop {
            let order = match (&one, &other) {
                (None, None) => return Ok(()),
                (Some((_, was)), Some((_, is))) => in_walk_order(&was.path, &is.path),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            match (order, &one, &other) {
                (Ordering::Equal, Some((_, was)), Some((_, is))) => self.both(was, is),
                (Ordering::Less, Some((_, was)), _) => self.alone(was, "missing"),
                (_, _, Some((_, is))) => self.alone(is, "the source did not have it"),
                _ => return Ok(()),
            }
            if order != Ordering::Greater {
                one = was.next()?;
            }
            if order != Ordering::Less {
                other = is.next()?;
            }
        }
    }

    fn alone(&mut self, entry: &Entry, what: &str) {
        self.comparison.compared += 1;
        self.comparison.differs(format!("{}: {what}", display(&entry.path)));
    }

    fn both(&mut self, was: &Entry, is: &Entry) {
        self.comparison.compared += 1;
        self.changed |= was.changed;
        let mut differing = Vec::new();
        let mut note = |differs: bool, what: String| {
            if differs {
                differing.push(what);
            }
        };
        note(was.kind != is.kind, "another kind of file".into());
        note(was.link != is.link, format!("points to {} instead of {}", display(&is.link), display(&was.link)));
        if was.kind != Kind::HardLink {
            note(was.size != is.size, format!("{} bytes instead of {}", is.size, was.size));
            note(was.size == is.size && was.hash != is.hash, "other content".into());
            note(was.mode != is.mode, format!("mode {:04o} instead of {:04o}", is.mode, was.mode));
            note(was.mtime != is.mtime, "another time of modification".into());
            let owners = (was.uid, was.gid) != (is.uid, is.gid);
            self.other_owners += u64::from(owners && !self.owners);
            note(owners && self.owners, format!("owner {}:{} instead of {}:{}", is.uid, is.gid, was.uid, was.gid));
        }
        if !differing.is_empty() {
            self.comparison.differs(format!("{}: {}", display(&was.path), differing.join(", ")));
        }
    }
}

/// A directory comes before what is in it, and names in a directory come in the order of their bytes.
fn in_walk_order(one: &[u8], other: &[u8]) -> Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::volume::catalogue;
    use std::io::Cursor;

    fn file(path: &str, size: u64) -> Entry {
        Entry { path: path.into(), size, stored: size, header: 512, hash: Some([size as u8; 16]), ..Entry::default() }
    }

    fn entries(all: &[Entry]) -> Entries<'static> {
        let mut text = Vec::new();
        all.iter().for_each(|entry| catalogue::write(entry, &mut text));
        text.extend(catalogue::write_end(all.len() as u64));
        Entries::of(Box::new(Cursor::new(text)))
    }

    #[test]
    fn what_differs_is_named() {
        let was = [file("a", 1), file("a-b", 1), file("b/c", 2), file("d", 1)];
        let is = [file("a", 1), file("b/c", 3), file("b-", 1), file("d", 1)];
        let mut sides = Sides { owners: true, ..Sides::default() };
        sides.merge(entries(&was), entries(&is)).unwrap();
        let expected = ["a-b: missing", "b/c: 3 bytes instead of 2", "b-: the source did not have it"];
        assert_eq!(sides.comparison.differences, expected);
        assert_eq!((sides.comparison.compared, sides.comparison.differing), (5, 3));
    }

    #[test]
    fn owners_that_cannot_be_given_back_are_no_difference_and_not_equal() {
        let foreign = Entry { uid: 33, ..file("a", 1) };
        let mut sides = Sides::default();
        sides.merge(entries(std::slice::from_ref(&foreign)), entries(&[file("a", 1)])).unwrap();
        assert_eq!((sides.comparison.differing, sides.other_owners), (0, 1));
        let mut sides = Sides { owners: true, ..Sides::default() };
        sides.merge(entries(&[foreign]), entries(&[file("a", 1)])).unwrap();
        assert_eq!(sides.comparison.differences, ["a: owner 0:0 instead of 33:0"]);
    }
}
