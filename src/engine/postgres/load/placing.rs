//! The last step: databases get their names, all in one transaction, and those that had them are put aside.
//!
//! A database is renamed only while nobody is connected to it. The rename itself keeps newcomers waiting, so the sessions
//! that are there are ended meanwhile from a second connection; no setting is changed that a crash could leave behind.

use super::Item;
use crate::clock;
use crate::engine::postgres::catalogue;
use crate::engine::postgres::client::Clients;
use crate::engine::postgres::fingerprint::{self, Parts};
use crate::engine::postgres::session::Session;
use crate::engine::postgres::sql::{self, name, text, texts};
use crate::engine::{CHANGED, Fingerprint, LoadRun, NOT_COMPARED};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use std::sync::atomic::AtomicBool;

/// Databases that were replaced: what they are called now, and what they were called.
pub type Replaced = Vec<(String, String)>;

pub fn make_live(
    renaming: &mut Session<'_>,
    clients: &Clients,
    items: &[Item<'_>],
    cancel: &Cancel,
) -> Result<Replaced> {
    let stamp = clock::now().strftime("_replaced_%Y%m%dt%H%M%Sz").to_string();
    let mut replaced = Replaced::new();
    let mut statements = vec!["begin".to_owned()];
    for item in items {
        if item.replaces {
            let aside = sql::fitted(&item.name, &stamp);
            statements.push(format!("alter database {} rename to {}", name(&item.name), name(&aside)));
            replaced.push((aside, item.name.clone()));
        }
        statements.push(format!("alter database {} rename to {}", name(&item.temporary), name(&item.name)));
    }
    statements.push("commit".into());
    let old: Vec<&str> = replaced.iter().map(|(_, name)| name.as_str()).collect();
    let sessions = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = any ({})",
        texts(old.iter().copied())
    );
    if old.is_empty() {
        renaming.run(&statements.join("; ")).map_err(not_renamed)?;
        return Ok(replaced);
    }
    let mut ending = Session::open(clients, &clients.maintenance, cancel)?;
    ending.run(&sessions)?;
    renaming.say(&statements.join("; "))?;
    ending.run(&until_renamed(&old))?;
    renaming.heard().map_err(not_renamed)?;
    Ok(replaced)
}

/// Ends sessions of these databases again and again until they have other names, for at most as long as a rename waits.
fn until_renamed(old: &[&str]) -> String {
    let oids = format!("(select array_agg(oid) from pg_database where datname = any ({}))", texts(old.iter().copied()));
    let names = texts(old.iter().copied());
    format!(
        "do $bkp$ declare old oid[] := {oids}; begin for attempt in 1..100 loop \
           perform pg_stat_clear_snapshot(); \
           perform pg_terminate_backend(pid) from pg_stat_activity where datid = any (old) and pid <> pg_backend_pid(); \
           exit when not exists (select from pg_database where oid = any (old) and datname = any ({names})); \
           perform pg_sleep(0.05); end loop; end $bkp$"
    )
}

fn not_renamed(failure: Failure) -> Failure {
    let text = failure.full();
    let kind = if text.contains("already exists") { Kind::Refused } else { Kind::Failed };
    Failure::new(kind, "the databases did not get their names; what was there is as it was").because(text).hint(
        "Stop what connects to them, and look for prepared transactions (pg_prepared_xacts) and replication slots; then run it again",
    )
}

/// Drops what was replaced and is in the copy as it is, or keeps it and says why.
pub fn put_aside(clients: &Clients, replaced: &Replaced, run: &LoadRun<'_>) -> Vec<String> {
    // The new databases are live: whatever happens now is no failure of the restore.
    let never = Cancel::default();
    let told = |aside: &str, old: &str, why: &str| {
        format!(
            "the previous content of {old} is kept as database {aside}: {why}; when nobody needs it: DROP DATABASE {};",
            name(aside)
        )
    };
    let kept = |(aside, old): &(String, String)| match why_kept(clients, aside, old, run) {
        Some(why) => Some(told(aside, old, &why)),
        None => remove(clients, aside, &never).err().map(|e| told(aside, old, &e.full())),
    };
    replaced.iter().filter_map(kept).collect()
}

/// Why what was replaced must stay: no copy of it is known to hold all that it holds.
fn why_kept(clients: &Clients, aside: &str, old: &str, run: &LoadRun<'_>) -> Option<String> {
    let Some(copy) = run.copy else {
        // Nothing is lost with what holds nothing.
        let empty = Session::open(clients, aside, run.context.cancel).and_then(|mut s| catalogue::is_untouched(&mut s));
        return (!empty.unwrap_or(false)).then(|| "there is no whole copy of it".into());
    };
    match is_copied(clients, aside, old, copy, run) {
        Ok(true) => None,
        Ok(false) => Some(CHANGED.into()),
        Err(failure) => Some(format!("{NOT_COMPARED} ({})", failure.full())),
    }
}

fn is_copied(clients: &Clients, aside: &str, old: &str, copy: &Fingerprint, run: &LoadRun<'_>) -> Result<bool> {
    if copy.method != fingerprint::METHOD {
        return Err(Failure::failed("the copy was counted in another way"));
    }
    let mut session = Session::open(clients, aside, run.context.cancel)?;
    let tables = catalogue::tables(&mut session)?;
    let rows = fingerprint::rows(&mut session, &tables, run.context, &AtomicBool::new(false))?;
    let sequences = fingerprint::sequences(&mut session, &tables)?;
    session.close()?;
    let now = fingerprint::parts(old, &tables, rows, sequences);
    let own = format!("{}.", sql::path(&[old]));
    let then: Parts = copy.parts.clone().into_iter().filter(|(name, _)| name.starts_with(&own)).collect();
    Ok(now == then)
}

/// Drops a database if it is there, with its sessions.
pub fn remove(clients: &Clients, database: &str, cancel: &Cancel) -> Result<()> {
    let mut session = Session::open(clients, &clients.maintenance, cancel)?;
    let query = format!("select datistemplate as template from pg_database where datname = {}", text(database));
    let found: Vec<serde_json::Value> = session.rows(&query)?;
    let Some(found) = found.first() else { return session.close() };
    if found["template"] == true {
        session.run(&format!("alter database {} is_template false", name(database)))?;
    }
    let force = if clients.major() >= 13 { " with (force)" } else { "" };
    session.run(&format!("drop database {}{force}", name(database)))?;
    session.close()
}

/// Drops a role that owns nothing.
pub fn remove_role(clients: &Clients, role: &str, cancel: &Cancel) -> Result<()> {
    let mut session = Session::open(clients, &clients.maintenance, cancel)?;
    session.run(&format!("drop role if exists {}", name(role)))?;
    session.close()
}
