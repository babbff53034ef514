//! Through `mongodump` where the server is: its archive is proven like bkp's own, and the password goes in by standard input.

use super::archive::Namespace;
use super::catalog::Collection;
use super::dump::Evidence;
use super::feed::Proven;
use super::oplog::{Seen, Window};
use super::session::Session;
use super::walk::Walked;
use super::{STREAM, Settings, accounts, catalog, oplog, quiet};
use crate::engine::{Dumped, Sink};
use crate::error::{Failure, Kind, Result};
use crate::event::{Cancel, Context};
use crate::exec::Command;
use crate::secret::Secret;
use jiff::Timestamp as Instant;
use std::collections::BTreeSet;

const PROGRAM: &str = "mongodump";

/// What mongodump would pass over without a word: databases that are not there, or that the user may not see.
pub(super) fn preflight(settings: &Settings, cancel: &Cancel) -> Result<()> {
    can_run(settings)?;
    let session = Session::open(settings, cancel)?;
    catalog::must_be_no_router(&session)?;
    catalog::databases(&session, settings).map(drop)
}

fn can_run(settings: &Settings) -> Result<()> {
    if settings.databases.len() > 1 || !settings.exclude.is_empty() {
        return Err(Failure::usage("mongodump dumps all databases or one")
            .hint("Leave `mongodump` out: bkp's own client takes `databases` and `exclude`"));
    }
    let exec = settings.server.exec()?;
    match exec.find(&[PROGRAM])? {
        Some(_) => Ok(()),
        None => Err(Failure::failed(format!("there is no {PROGRAM} in {}", exec.place()))
            .hint("Leave `mongodump` out: bkp's own client writes the same archive")),
    }
}

pub(super) fn dump(settings: &Settings, sink: &mut dyn Sink, context: Context<'_>) -> Result<Dumped> {
    can_run(settings)?;
    let session = Session::open(settings, context.cancel)?;
    catalog::must_be_no_router(&session)?;
    let written = quiet::written(&session)?;
    let before = catalog::read(&session, settings)?;
    let version = catalog::version(&session)?;
    let begun = Instant::now();
    let with_oplog = settings.databases.is_empty() && oplog::newest(&session)?.is_some();
    let command = command(settings, with_oplog)?;
    let exec = settings.server.exec()?;
    let mut archive = Proven::new(exec.start(&command, context.cancel)?, context, Seen::default());
    sink.stream(STREAM, &mut archive)?;
    let read_at = Instant::now();
    let (walked, seen) = archive.walked()?;
    must_have_all(&session, settings, &before, &walked)?;
    let window = seen.start.zip(seen.last).map(|(start, end)| Window { start, end, read_at, seen });
    let evidence = Evidence { version, begun, walked, window, accounts: accounts::Accounts::default(), still: false };
    Ok(evidence.bound(&session, settings, written.as_ref(), context)?.dumped(settings))
}

/// What was there before the dump, and still is, must be in it.
fn must_have_all(session: &Session<'_>, settings: &Settings, before: &[Collection], walked: &Walked) -> Result<()> {
    let dumped: BTreeSet<&Namespace> = walked.collections.iter().map(|c| &c.name).collect();
    let wanted = before.iter().filter(|c| !catalog::is_account(&c.name) && !dumped.contains(&c.name));
    let missing: Vec<&Namespace> = wanted.map(|c| &c.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let now: BTreeSet<Namespace> = catalog::read(session, settings)?.into_iter().map(|c| c.name).collect();
    match missing.into_iter().find(|name| now.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::new(Kind::Verification, format!("{PROGRAM} left {name} out, without saying so"))
            .hint("Leave `mongodump` out: bkp's own client writes the same archive")),
    }
}

fn command(settings: &Settings, with_oplog: bool) -> Result<Command> {
    let server = &settings.server;
    let mut arguments = vec!["--config=/dev/stdin".to_owned(), "--archive".to_owned(), "--quiet".to_owned()];
    let mut set = |name: &str, value: Option<String>| {
        arguments.extend(value.map(|value| format!("--{name}={value}")));
    };
    set("host", server.host.clone());
    set("port", server.port.map(|port| port.to_string()));
    set("username", server.user.clone());
    set(
        "authenticationDatabase",
        server.user.as_ref().map(|_| settings.auth_database.clone().unwrap_or_else(|| "admin".to_owned())),
    );
    set("db", settings.databases.first().cloned());
    if let Some(path) = &server.ca_file {
        set("sslCAFile", Some(path.display().to_string()));
        arguments.push("--ssl".to_owned());
    }
    if with_oplog {
        arguments.push("--oplog".to_owned());
    }
    // YAML of one line: in single quotes only the quote itself is doubled.
    let password = server.password()?;
    let quoted =
        password.map_or_else(String::new, |secret| format!("password: '{}'\n", secret.expose().replace('\'', "''")));
    Ok(Command {
        program: PROGRAM.into(),
        arguments: arguments.into_iter().map(Into::into).collect(),
        input: Some(Secret::new(quoted)),
        ..Command::default()
    })
}
