//! Replacing databases that are in use: everything is made and counted under other names first. Then one `RENAME TABLE`
//! takes the old tables of all of them out and the new ones in, and views, routines, triggers and events follow. Until
//! that statement nothing of the live databases is touched but their triggers and events, which stand in the way of it,
//! and which come back when it fails.
//! Accounts that exist are left as they are.

use super::super::accounts;
use super::super::catalog::{self, Catalog, Table};
use super::super::fingerprint;
use super::super::privileges::Grants;
use super::super::session::{Session, name, text, texts};
use super::super::statement::names_a_database;
use super::definitions::{Database, Definitions, Object, using};
use super::{Load, UNFINISHED};
use crate::clock;
use crate::durable;
use crate::engine::{CHANGED, Fingerprint, Loaded, NOT_COMPARED, Part};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;

/// Longest name of a database, in characters.
const NAME: usize = 64;

/// One database that is replaced.
struct Swap<'d> {
    new: &'d Database,
    /// Where the new tables wait.
    staged: String,
    /// As it is now; absent when the live server does not have it.
    old: Option<&'d Database>,
    /// Where the old tables go.
    aside: String,
}

pub fn replace(load: &mut Load<'_>, session: &mut Session<'_>) -> Result<Loaded> {
    let live = live_definitions(load, session)?;
    must_be_separable(load, &live, session)?;
    let mark = durable::random_hex(4);
    let staged: Vec<String> =
        load.definitions.databases.iter().map(|d| cut(&format!("bkp_{mark}_{}", d.name), "")).collect();
    let mut loaded = load.tables_and_rows(&staged, session)?;
    let came = match load.run.part {
        Part::Whole => Some(load.accounts(session)?),
        _ => None,
    };
    let at = clock::now().strftime("_replaced_%Y%m%dT%H%M%SZ").to_string();
    let grants = routine_grants(load, session)?;
    durable::crash_point("restore:before-live");
    let wanted = load.definitions.databases.clone();
    let swaps: Vec<Swap<'_>> = wanted
        .iter()
        .zip(&staged)
        .map(|(new, staged)| {
            let old = live.databases.iter().find(|d| d.name == new.name);
            Swap { new, staged: staged.clone(), old, aside: cut(&new.name, &at) }
        })
        .collect();
    exchange(&swaps, load, session)?;
    load.accounts_made.clear();
    durable::crash_point("restore:after-live");
    let mut incomplete = None;
    for swap in &swaps {
        match swap.finish(load) {
            Ok(()) => loaded.warnings.extend(swap.settle(load, session)),
            // The others are finished all the same.
            Err(failure) => incomplete = incomplete.or(Some(failure)),
        }
    }
    if let Some(failure) = incomplete {
        return Err(failure);
    }
    if let Err(failure) = load.feed(grants.into_bytes()) {
        loaded.warnings.push(format!("grants on routines could not be given again: {}", failure.full()));
    }
    load.made.clear();
    if let Some(came) = came {
        loaded.warnings.extend(came.warnings);
        load.grants(Some(&came.new))?;
    }
    Ok(loaded)
}

/// Servers forget the grants on a routine when it is dropped. These are for routines that the point has too.
fn routine_grants(load: &Load<'_>, session: &mut Session<'_>) -> Result<String> {
    let grants = Grants::read(session, load.client)?;
    if matches!(load.run.part, Part::Table { .. }) || grants.must_dump_accounts().is_err() {
        return Ok(String::new());
    }
    let routines = load.definitions.databases.iter().flat_map(|database| {
        let of = move |kind: &'static str, object: &Object| {
            format!(" ON {kind} {}.{} ", name(&database.name), name(&object.name))
        };
        database.programs.iter().map(move |p| of(p.kind, p))
    });
    let routines: Vec<String> = routines.collect();
    let now = accounts::read(session, load.client)?;
    let kept = now.grants.iter().filter(|(_, grant)| routines.iter().any(|routine| grant.contains(routine.as_str())));
    Ok(kept.map(|(_, grant)| format!("{grant};\n")).collect())
}

/// `begin` and `end`, with as much of the beginning as a name has room for.
fn cut(begin: &str, end: &str) -> String {
    let room = NAME.saturating_sub(end.chars().count());
    begin.chars().take(room).chain(end.chars()).collect()
}

/// What the live databases hold that are to be replaced.
fn live_definitions(load: &Load<'_>, session: &mut Session<'_>) -> Result<Definitions> {
    let there = catalog::databases(session)?;
    let wanted: Vec<String> =
        load.definitions.databases.iter().map(|d| d.name.clone()).filter(|name| there.contains(name)).collect();
    let catalog = Catalog::read(session, load.client, wanted)?;
    let mut live = Definitions::of_server(session, &catalog)?;
    match &load.run.part {
        Part::Table { table, .. } => {
            for database in &mut live.databases {
                database.tables.retain(|t| t.name == *table);
                database.triggers.retain(|t| t.table.as_ref() == Some(table));
                (database.stand_ins, database.views, database.programs) = Default::default();
            }
            Ok(live)
        }
        _ => Ok(live),
    }
}

/// Foreign keys follow a table to its new name: with one from outside, the old table would stay in use.
fn must_be_separable(load: &Load<'_>, live: &Definitions, session: &mut Session<'_>) -> Result<()> {
    let refused = |reason: String| Err(Failure::new(Kind::Refused, format!("{reason}; nothing was changed")));
    let tables = load.definitions.databases.iter().flat_map(|d| d.tables.iter().map(move |table| (d, table)));
    if let Some((database, table)) = tables.into_iter().find(|(_, table)| names_a_database(&table.script)) {
        return refused(format!(
            "table {}.{} refers to a database by name, and cannot be made beside it",
            database.name, table.name
        ))
        .map_err(|f: Failure| f.hint("Restore into new databases, and rename by hand"));
    }
    for database in &live.databases {
        let names: Vec<String> = database.tables.iter().map(|t| t.name.clone()).collect();
        let keys = session.rows(&format!(
            "SELECT DISTINCT table_schema, table_name, referenced_table_name FROM information_schema.key_column_usage \
             WHERE referenced_table_schema = {0} AND referenced_table_name IN ({1}) AND NOT (table_schema = {0} AND table_name IN ({1}))",
            text(&database.name),
            texts(&names)
        ))?;
        if let Some(row) = keys.into_iter().next() {
            let [from, table, to] = <[String; 3]>::try_from(row).unwrap_or_default();
            return refused(format!(
                "a foreign key of {from}.{table} refers to {}.{to}, which would be replaced",
                database.name
            ))
            .map_err(|f: Failure| f.hint("Drop the foreign key first, or restore into new databases"));
        }
    }
    Ok(())
}

/// All tables at once, or none: a server does not end in the middle of a `RENAME TABLE`.
fn exchange(swaps: &[Swap<'_>], load: &Load<'_>, session: &mut Session<'_>) -> Result<()> {
    let begun = swaps.iter().try_for_each(|swap| swap.make_way(load, session)).and_then(|()| rename(swaps, session));
    begun.map_err(|failure| swaps.iter().fold(failure, |failure, swap| swap.put_back(load, failure)))
}

fn rename(swaps: &[Swap<'_>], session: &mut Session<'_>) -> Result<()> {
    let moves: Vec<String> = swaps.iter().flat_map(Swap::moves).collect();
    if moves.is_empty() {
        return Ok(());
    }
    session.run("SET SESSION foreign_key_checks = 0, lock_wait_timeout = 60")?;
    session.run(&format!("RENAME TABLE {}", moves.join(", ")))
}

impl Swap<'_> {
    /// Makes the database that the old tables go to, and clears what would keep them.
    fn make_way(&self, load: &Load<'_>, session: &mut Session<'_>) -> Result<()> {
        let (name_of_it, options) = match self.old {
            Some(old) => (&self.aside, &old.options),
            None => (&self.new.name, &self.new.options),
        };
        session.run(&format!("CREATE DATABASE {}{}", name(name_of_it), String::from_utf8_lossy(options)))?;
        self.clear_way(load)
    }

    fn finish(&self, load: &Load<'_>) -> Result<()> {
        let script = self.drop_old_views().into_iter().chain(self.new.finish(&self.new.name, false)).collect();
        load.feed(script).map_err(|failure| {
            let text = format!(
                "the tables of {} are replaced, but its views, routines, triggers or events are not complete",
                self.new.name
            );
            let kept = format!(
                "The old tables are in {}; make the rest by hand from definitions.sql and routines.sql",
                self.aside
            );
            Failure::failed(text).hint(kept).because(failure)
        })
    }

    /// Triggers keep a table from leaving its database, and events would meet half of it.
    fn clear_way(&self, load: &Load<'_>) -> Result<()> {
        let Some(old) = self.old else { return Ok(()) };
        let mut script = using(&self.new.name);
        for object in old.triggers.iter().chain(old.programs.iter().filter(|p| p.kind == "EVENT")) {
            script.extend_from_slice(format!("DROP {} IF EXISTS {};\n", object.kind, name(&object.name)).as_bytes());
        }
        load.feed(script)
    }

    fn moves(&self) -> Vec<String> {
        let path = |database: &str, table: &str| format!("{}.{}", name(database), name(table));
        let mut moves = Vec::new();
        for table in self.old.iter().flat_map(|old| &old.tables) {
            moves.push(format!("{} TO {}", path(&self.new.name, &table.name), path(&self.aside, &table.name)));
        }
        for table in &self.new.tables {
            moves.push(format!("{} TO {}", path(&self.staged, &table.name), path(&self.new.name, &table.name)));
        }
        moves
    }

    /// Triggers and events come back; also those of a database whose turn had not come.
    fn put_back(&self, load: &Load<'_>, failure: Failure) -> Failure {
        let Some(old) = self.old else { return failure };
        let mut script = using(&self.new.name);
        let events = old.programs.iter().filter(|p| p.kind == "EVENT");
        for object in old.triggers.iter().chain(events) {
            script.extend_from_slice(format!("DROP {} IF EXISTS {};\n", object.kind, name(&object.name)).as_bytes());
            script.extend_from_slice(&object.script);
        }
        // Also after a signal.
        let never = Cancel::default();
        match load.feed_under(script, &never).and_then(|()| self.drop_empty_aside(load, &never)) {
            Ok(()) => failure,
            Err(_) => {
                let names: Vec<String> = old.triggers.iter().map(|t| t.name.clone()).collect();
                let text = format!("{failure}; triggers or events of {} may be missing now", self.new.name);
                Failure::new(failure.kind(), text)
                    .hint(format!(
                        "Make them again from the safety backup ({}), and look into {}",
                        catalog::some(&names),
                        self.aside
                    ))
                    .because(failure)
            }
        }
    }

    /// Nobody knows how far a statement came whose answer was lost: what holds a table is never dropped here.
    fn drop_empty_aside(&self, load: &Load<'_>, cancel: &Cancel) -> Result<()> {
        let mut session = load.client.session(cancel)?;
        let there =
            format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {}", text(&self.aside));
        match session.number(&there)? {
            0 => session.run(&format!("DROP DATABASE IF EXISTS {}", name(&self.aside))),
            _ => Err(Failure::failed(format!("{} holds tables", self.aside))),
        }
    }

    fn drop_old_views(&self) -> Vec<u8> {
        let mut script = using(&self.new.name);
        for object in self.old.iter().flat_map(|old| old.views.iter().chain(&old.programs)) {
            if object.kind != "EVENT" {
                script
                    .extend_from_slice(format!("DROP {} IF EXISTS {};\n", object.kind, name(&object.name)).as_bytes());
            }
        }
        script
    }

    /// Why what was replaced must stay: no copy of it is known to hold all that it holds.
    fn why_kept(&self, load: &Load<'_>, session: &mut Session<'_>) -> Option<String> {
        let Some(copy) = load.run.copy else { return Some("there is no whole copy of it".into()) };
        match self.is_copied(copy, load, session) {
            Ok(true) => None,
            Ok(false) => Some(CHANGED.into()),
            Err(failure) => Some(format!("{NOT_COMPARED} ({})", failure.full())),
        }
    }

    /// Nobody writes into the old tables under their new names, so their checksums stand still.
    fn is_copied(&self, copy: &Fingerprint, load: &Load<'_>, session: &mut Session<'_>) -> Result<bool> {
        let version = &load.client.version;
        if copy.method != fingerprint::method(version, true) {
            return Err(Failure::failed("the copy was counted in another way, or outside of its snapshot"));
        }
        let aside = Catalog::read(session, load.client, vec![self.aside.clone()])?;
        let now = fingerprint::measure(session, version, &aside.tables)?.fingerprint;
        let then = |table: &Table| copy.parts.get(&format!("{}.{}", name(&self.new.name), name(&table.name)));
        let is_copied = |table: &Table| match (now.parts.get(&table.path()), then(table)) {
            (Some(now), then) => Ok(then == Some(now)),
            (None, _) => Err(Failure::failed(format!("no snapshot holds {} still", table.path()))),
        };
        aside.tables.iter().try_fold(true, |all, table| Ok(is_copied(table)? && all))
    }

    /// Keeps or drops what was replaced, and drops where the new tables waited. What fails here is told, no more.
    fn settle(&self, load: &mut Load<'_>, session: &mut Session<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut told = |what: &str, done: Result<()>| {
            if let Err(failure) = done {
                warnings.push(format!("{what}: {}", failure.full()));
            }
        };
        let kept = self.old.and_then(|_| self.why_kept(load, session));
        if let Some(old) = self.old {
            if kept.is_some() {
                let finished = load.feed(old.finish(&self.aside, true));
                told(&format!("views or routines of {} are not all in {}", self.new.name, self.aside), finished);
            } else {
                let dropped = session.run(&format!("DROP DATABASE {}", name(&self.aside)));
                told(&format!("the replaced {} could not be dropped", self.aside), dropped);
            }
        }
        let staged = name(&self.staged);
        let marker = session.run(&format!("DROP TABLE IF EXISTS {staged}.{}", name(UNFINISHED)));
        let dropped = marker.and_then(|()| session.run(&format!("DROP DATABASE {staged}")));
        told(&format!("the empty {} could not be dropped", self.staged), dropped);
        if let Some(why) = kept {
            warnings.push(format!("what was replaced is kept in database {}: {why}", self.aside));
        }
        load.made.retain(|made| *made != self.staged);
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_what_servers_take() {
        assert_eq!(cut("shop", "_replaced"), "shop_replaced");
        let long = cut(&"é".repeat(70), "_replaced_20261122T193200Z");
        assert_eq!(long.chars().count(), NAME);
        assert!(long.ends_with("_replaced_20261122T193200Z"));
    }
}
