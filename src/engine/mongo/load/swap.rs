//! Makes restored collections live, in the databases of the source itself: each old one steps aside, each new one takes its name.
//!
//! Only names change, within one database, which every server can do at once; what was replaced is dropped when all is
//! done, or stays. A failure in between leaves every old collection in the server, and says where.

use super::{Definitions, Names};
use crate::engine::mongo::archive::Namespace;
use crate::engine::mongo::catalog::{self, Collection, Kind as CollectionKind};
use crate::engine::mongo::dump;
use crate::engine::mongo::leftovers;
use crate::engine::mongo::session::Session;
use crate::engine::mongo::walk::Tally;
use crate::engine::{CHANGED, Fingerprint, NOT_COMPARED};
use crate::error::{Failure, Result};
use bson::doc;
use std::collections::BTreeSet;

/// Returns what the user must know of what is kept.
pub(super) fn swap(
    session: &Session<'_>,
    names: &Names,
    made: &mut Definitions,
    copy: Option<&Fingerprint>,
) -> Result<Vec<String>> {
    let databases: BTreeSet<String> =
        made.live.values().chain(made.views.keys()).map(|name| name.database.clone()).collect();
    let mut swap = Swap { session, names, replaced: Vec::new(), warnings: Vec::new() };
    swap.can_rename(made)?;
    for database in databases {
        let there = catalog::collections(session, &database)?;
        swap.database(&database, &there, made).map_err(|failure| swap.half_way(failure))?;
    }
    crate::durable::crash_point("restore:after-live");
    for Replaced { live, aside, kind } in &swap.replaced {
        let why = match copy.map(|copy| is_copied(session, copy, live, aside, *kind)) {
            None => "there is no whole copy of it".to_owned(),
            Some(Ok(false)) => CHANGED.to_owned(),
            Some(Err(failure)) => format!("{NOT_COMPARED} ({})", failure.full()),
            Some(Ok(true)) => {
                session.command(&aside.database, doc! { "drop": &aside.collection })?;
                continue;
            }
        };
        swap.warnings.push(format!("what was replaced is kept as {aside}: {why}; drop it when nobody needs it"));
    }
    Ok(swap.warnings)
}

/// Whether the copy holds what has stepped aside, where nobody writes into it any more.
fn is_copied(
    session: &Session<'_>,
    copy: &Fingerprint,
    live: &Namespace,
    aside: &Namespace,
    kind: CollectionKind,
) -> Result<bool> {
    if kind == CollectionKind::View {
        return Ok(true);
    }
    let mut tally = Tally::new();
    let mut batches = session.batches(&aside.database, doc! { "find": &aside.collection })?;
    while let Some(batch) = batches.next()? {
        for document in batch.doc_slices().map_err(|_| session.strange("a cursor"))? {
            let document = document.ok().and_then(|value| value.as_document());
            tally.count(document.ok_or_else(|| session.strange("a cursor"))?.as_bytes());
        }
    }
    Ok(dump::is_counted(copy, live, &tally))
}

/// What gave way: its live name, its name aside, and what it is. The definition of a view is in the point.
struct Replaced {
    live: Namespace,
    aside: Namespace,
    kind: CollectionKind,
}

struct Swap<'a> {
    session: &'a Session<'a>,
    names: &'a Names,
    replaced: Vec<Replaced>,
    warnings: Vec<String>,
}

impl Swap<'_> {
    /// `there`: what the database has, restored collections under their first names included.
    fn database(&mut self, database: &str, there: &[Collection], made: &mut Definitions) -> Result<()> {
        let coming: Vec<(Namespace, Namespace)> = made
            .live
            .iter()
            .filter(|(_, live)| live.database == database)
            .map(|(now, live)| (now.clone(), live.clone()))
            .collect();
        let is_own = |c: &Collection| made.made.contains(&c.name) || leftovers::is_left(&c.name.collection);
        for old in there.iter().filter(|c| !catalog::is_account(&c.name) && !is_own(c)) {
            let has_successor = coming.iter().any(|(_, live)| *live == old.name) || made.views.contains_key(&old.name);
            if has_successor || self.names.is_whole_databases() {
                self.step_aside(old)?;
            }
        }
        for (now, live) in coming.iter().filter(|(now, live)| now != live) {
            self.rename(now, live)?;
            made.made.remove(now);
        }
        Ok(())
    }

    /// Some servers refuse names with a dot as new names; that must not come to light when the old collection has gone.
    fn can_rename(&self, made: &Definitions) -> Result<()> {
        for (now, live) in made.live.iter().filter(|(now, live)| now != live && live.collection.contains('.')) {
            let probe = Namespace::new(&now.database, format!("{}.", now.collection.replace('.', "_")) + "probe");
            self.rename(now, &probe).map_err(|failure| {
                let text = format!("the server cannot give a collection the name {live}; nothing was changed");
                Failure::failed(text).because(failure).hint("Restore to other names instead")
            })?;
            self.rename(&probe, now)?;
        }
        Ok(())
    }

    fn step_aside(&mut self, old: &Collection) -> Result<()> {
        let aside = self.names.replaced(&old.name);
        match old.kind {
            CollectionKind::Collection => {
                self.rename(&old.name, &aside)?;
                self.replaced.push(Replaced { live: old.name.clone(), aside, kind: old.kind });
                Ok(())
            }
            CollectionKind::View => {
                self.session.command(&old.name.database, doc! { "drop": &old.name.collection })?;
                let mut command = doc! { "create": &aside.collection };
                command.extend(old.options.clone());
                self.session.command(&old.name.database, command)?;
                self.replaced.push(Replaced { live: old.name.clone(), aside, kind: old.kind });
                Ok(())
            }
            CollectionKind::TimeSeries => {
                self.warnings.push(format!("{} is not in the point and cannot be renamed: it was left", old.name));
                Ok(())
            }
        }
    }

    fn rename(&self, from: &Namespace, to: &Namespace) -> Result<()> {
        let command = doc! { "renameCollection": from.to_string(), "to": to.to_string() };
        self.session.command("admin", command).map(|_| ())
    }

    fn half_way(&self, failure: Failure) -> Failure {
        let asides: Vec<String> = self.replaced.iter().map(|one| format!("{} is {}", one.live, one.aside)).collect();
        if asides.is_empty() {
            return failure;
        }
        let hint = format!("Nothing is lost: rename back what was put aside: {}", asides.join(", "));
        Failure::new(failure.kind(), failure.to_string()).because(failure).hint(hint)
    }
}
