//! Through `mongodump` where the server is: its archive is proven like bkp's own, and the password goes in by standard input.

use super::dump::Evidence;
use super::feed::Proven;
use super::oplog::{Seen, Window};
use super::session::Session;
use super::{STREAM, Settings, accounts, catalog, oplog};
use crate::engine::{Dumped, Sink};
use crate::error::{Failure, Result};
use crate::event::Context;
use crate::exec::Command;
use crate::secret::Secret;
use jiff::Timestamp as Instant;

const PROGRAM: &str = "mongodump";

pub(super) fn preflight(settings: &Settings) -> Result<()> {
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
    preflight(settings)?;
    let session = Session::open(settings, context.cancel)?;
    let version = catalog::version(&session)?;
    let begun = Instant::now();
    let with_oplog = settings.databases.is_empty() && oplog::newest(&session)?.is_some();
    let command = command(settings, with_oplog)?;
    let exec = settings.server.exec()?;
    let mut archive = Proven::new(exec.start(&command, context.cancel)?, context, Seen::default());
    sink.stream(STREAM, &mut archive)?;
    let read_at = Instant::now();
    let (walked, seen) = archive.walked()?;
    let window = seen.start.zip(seen.last).map(|(start, end)| Window { start, end, read_at, seen });
    Ok(Evidence { version, begun, walked, window, accounts: accounts::Accounts::default() }.dumped(settings))
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
