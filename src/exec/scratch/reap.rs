//! What killed processes left of their scratch targets: found, and removed.

use super::record::{Held, Records, What};
use super::{DEADLINE, LABEL, RECORD, SOURCE, container, directory};
use crate::clock;
use crate::error::Result;
use crate::exec::docker::{Docker, Labelled, Thing};
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;

/// A scratch target, or a part of one, that nobody looks after any more.
#[derive(Debug)]
pub struct Orphan {
    /// For people: `container bkp-scratch-0123456789ab`.
    pub what: String,
    pub source: String,
    pub run: String,
    known: Known,
}

#[derive(Debug)]
enum Known {
    /// Locked meanwhile, so that two do not remove the same.
    Recorded(Held, What),
    Labelled(Docker, Thing, String),
}

/// What became of an [`Orphan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reaped {
    pub what: String,
    pub source: String,
    pub run: String,
    /// Why it is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The targets that are recorded in this state directory and have lost their process, or were kept until a deadline that has
/// passed; and what is in the container engine of others, once its deadline has passed.
pub fn orphans(state: &Path, now: Timestamp) -> Result<Vec<Orphan>> {
    let records = Records::of(state);
    let mut found = Vec::new();
    for number in records.numbers()? {
        let Some((record, held)) = records.take(&number)? else { continue };
        if record.kept && now < record.deadline {
            continue;
        }
        let what = match &record.what {
            What::Container(name) => format!("container {name}"),
            What::Directory(path) => format!("directory {}", path.display()),
        };
        let known = Known::Recorded(held, record.what);
        found.push(Orphan { what, source: record.source, run: record.run, known });
    }
    found.extend(in_engine(&records)?);
    Ok(found)
}

/// Removes all of them.
pub fn reap(state: &Path, now: Timestamp) -> Result<Vec<Reaped>> {
    Ok(orphans(state, now)?.into_iter().map(Orphan::remove).collect())
}

impl Orphan {
    pub fn remove(self) -> Reaped {
        let gone = match self.known {
            Known::Recorded(mut held, what) => {
                let gone = match what {
                    What::Container(name) => container::remove_named(&name),
                    What::Directory(path) => directory::remove(&path),
                };
                gone.and_then(|()| held.let_go())
            }
            Known::Labelled(docker, thing, name) => match thing {
                Thing::Container => docker.remove(&name),
                Thing::Volume => docker.remove_volume(&name),
                Thing::Network => docker.remove_network(&name),
            },
        };
        let failed = gone.err().map(|failure| failure.full());
        Reaped { what: self.what, source: self.source, run: self.run, failed }
    }
}

/// What the engine has of ours that stands in no record, or in those of somebody else.
fn in_engine(records: &Records) -> Result<Vec<Orphan>> {
    let Some(docker) = Docker::if_there()? else { return Ok(Vec::new()) };
    let labelled = docker.all_labelled(LABEL)?;
    if labelled.is_empty() {
        return Ok(Vec::new());
    }
    let own = records.known_name()?;
    let orphans = labelled.into_iter().filter(|thing| is_orphan(thing, records, own.as_deref()));
    Ok(orphans
        .map(|thing| {
            let kind = match thing.what {
                Thing::Container => "container",
                Thing::Volume => "volume",
                Thing::Network => "network",
            };
            let label = |key: &str| thing.labels.get(key).cloned().unwrap_or_default();
            let known = Known::Labelled(docker.clone(), thing.what, thing.name.clone());
            Orphan { what: format!("{kind} {}", thing.name), source: label(SOURCE), run: label(LABEL), known }
        })
        .collect())
}

/// A record is looked for after the thing was seen: it is there before it, and as long as it. Others may share the engine and
/// not our idea of the time, so their deadlines are compared with the kernel's clock.
fn is_orphan(thing: &Labelled, records: &Records, own: Option<&str>) -> bool {
    let record = thing.labels.get(RECORD).and_then(|record| record.split_once('/'));
    match record {
        Some((name, number)) if own == Some(name) => !records.has(number),
        _ => {
            let deadline = thing.labels.get(DEADLINE).and_then(|deadline| deadline.parse::<Timestamp>().ok());
            deadline.is_some_and(|deadline| deadline < clock::of_files())
        }
    }
}
