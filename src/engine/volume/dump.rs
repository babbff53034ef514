//! Dumps a tree: decides what is read and what is taken again.
//!
//! A group of the last run is taken again as a whole, and only when all its entries are there, unchanged, with nothing new
//! between them; until that is known nothing of it is read. Order and cuts depend on the tree alone.

use super::beneath::{self, Beneath};
use super::entry::{BIG, split};
use super::memory::{self, Group, Member};
use super::store::{Outcome, Work, group_bytes};
use super::walk::{Facts, Place, Visitor};
use crate::engine::TreeSink;
use crate::error::Result;
use crate::event;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// Takes the entries of a walk.
pub struct Dumper<'a> {
    /// The memory's reader, and what of its next group has been met unchanged.
    memory: Option<memory::Reader>,
    candidate: Option<Candidate>,
    /// The big file at the end of the last group that was not unchanged.
    broken: Option<memory::Big>,
    /// For entries whose reading was put off.
    reopen: Beneath,
    work: Work<'a>,
}

struct Candidate {
    group: Group,
    met: usize,
}

impl<'a> Dumper<'a> {
    pub fn new(
        root: OwnedFd,
        sink: &'a mut dyn TreeSink,
        context: event::Context<'a>,
        memory: Option<memory::Reader>,
        next: Option<memory::Writer>,
    ) -> Self {
        let work = Work::new(sink, context, next);
        Dumper { memory, candidate: None, broken: None, reopen: Beneath::new(root), work }
    }

    /// Stores what is still open and ends the catalogue.
    pub fn finish(mut self) -> Result<Outcome> {
        if self.candidate.is_some() {
            self.end_candidate()?;
        }
        self.work.finish()
    }

    /// The candidate's group would be cut here: takes it again if it is complete, or reads it.
    fn end_candidate(&mut self) -> Result<()> {
        let Some(candidate) = &mut self.candidate else { return Ok(()) };
        if candidate.met == candidate.group.members.len() && self.work.reuse(&mut candidate.group)? {
            self.candidate = None;
            return Ok(());
        }
        self.read_candidate()
    }

    /// The group has changed: what was put off is read now.
    fn read_candidate(&mut self) -> Result<()> {
        let Some(Candidate { group, met }) = self.candidate.take() else { return Ok(()) };
        self.work.begin_group();
        self.broken = group.big();
        for member in &group.members[..met] {
            let path = &member.entry.path[..];
            let (above, name) = split(path);
            let name =
                CString::new(if name.is_empty() { b"." } else { name }).expect("the kernel gave it without a zero");
            let found = self.reopen.directory(above).and_then(|directory| {
                let facts = Facts::from(&beneath::stat(directory, &name)?);
                Ok((Place { path, directory, name: &name }, facts))
            });
            match found {
                Ok((place, facts)) => {
                    let known = unchanged_big(&mut self.broken, &mut self.memory, path, &facts);
                    self.work.add(&place, &facts, known.as_ref())?;
                }
                Err(error) => self.work.leave_out(path, &member.facts, error),
            }
        }
        Ok(())
    }
}

impl Visitor for Dumper<'_> {
    fn entry(&mut self, place: &Place<'_>, facts: &Facts) -> Result<()> {
        self.work.context.cancel.check()?;
        if let Some(memory) = self.memory.as_mut().filter(|_| self.candidate.is_none() && self.work.is_fresh()) {
            let group = memory.take(place.path, self.work.group.padding);
            self.candidate = group.map(|group| Candidate { group, met: 0 });
        }
        if let (Some(candidate), Some(memory)) = (&mut self.candidate, &self.memory) {
            let link = self.work.first_name(place.path, facts);
            let member = candidate.group.members.get(candidate.met);
            let same =
                |m: &&Member| m.entry.path == place.path && m.is_unchanged(facts, link.as_deref(), memory.scan());
            if let Some(member) = member.filter(same) {
                candidate.met += 1;
                if self.work.cutter.add(place.path, group_bytes(&member.entry), member.entry.is_big()) {
                    self.end_candidate()?;
                }
                return Ok(());
            }
            self.read_candidate()?;
        }
        let known = unchanged_big(&mut self.broken, &mut self.memory, place.path, facts);
        self.work.add(place, facts, known.as_ref())
    }

    fn problem(&mut self, path: &[u8], error: Errno) {
        self.work.warn_left_out(path, error);
    }

    fn passed_over(&mut self, path: &[u8], why: &'static str) {
        self.work.note(path, why);
    }
}

/// What the memory knows of a big file that did not change since.
fn unchanged_big(
    broken: &mut Option<memory::Big>,
    memory: &mut Option<memory::Reader>,
    path: &[u8],
    facts: &Facts,
) -> Option<memory::Big> {
    if facts.size < BIG {
        return None;
    }
    let memory = memory.as_mut()?;
    let known = broken.take_if(|big| big.member.entry.path == path).or_else(|| memory.big(path))?;
    known.member.is_unchanged(facts, None, memory.scan()).then_some(known)
}
