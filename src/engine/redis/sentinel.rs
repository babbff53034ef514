//! Sentinels: which server of a group is the master now, and which replica is healthy.
//!
//! A healthy replica is preferred, so that the master is spared. What a sentinel says is checked with `ROLE` at the server.

use super::client;
use super::connection::{Address, Connection, Reply, refused};
use super::{Sentinel, Settings};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use std::collections::BTreeMap;

const PORT: u16 = 26_379;

/// A connection to the best server of the group.
pub fn connect<'a>(settings: &Settings, sentinel: &Sentinel, cancel: &'a Cancel) -> Result<Connection<'a>> {
    let mut failure = None;
    for (address, wanted) in candidates(settings, sentinel, cancel)? {
        match client::connect(&settings.server, &address, cancel).and_then(|c| with_role(c, wanted)) {
            Ok(connection) => return Ok(connection),
            Err(wrong) if wrong.kind() == Kind::Key => return Err(wrong),
            Err(other) => failure = Some(other),
        }
    }
    let nobody = || Failure::new(Kind::TryLater, format!("no server of `{}` can be used now", sentinel.master));
    Err(failure.unwrap_or_else(nobody))
}

/// Only the master, for what must be written.
pub fn master(settings: &Settings, sentinel: &Sentinel, cancel: &Cancel) -> Result<Address> {
    let all = candidates(settings, sentinel, cancel)?;
    let master = all.into_iter().find(|(_, role)| *role == "master").map(|(address, _)| address);
    master.ok_or_else(|| Failure::new(Kind::TryLater, format!("`{}` has no master now", sentinel.master)))
}

/// Healthy replicas, then the master, with the role each should have.
fn candidates(settings: &Settings, sentinel: &Sentinel, cancel: &Cancel) -> Result<Vec<(Address, &'static str)>> {
    let mut failure = Failure::usage("no sentinel is given").hint("Give `addresses` as HOST:PORT");
    for text in &sentinel.addresses {
        match asked(settings, sentinel, text, cancel) {
            Ok(found) => return Ok(found),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn asked(
    settings: &Settings,
    sentinel: &Sentinel,
    text: &str,
    cancel: &Cancel,
) -> Result<Vec<(Address, &'static str)>> {
    let ca_file = settings.server.ca_file.clone();
    let at = |host: &str, port: u16| Address::Network { host: host.to_owned(), port, ca_file: ca_file.clone() };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            (host, port.parse().map_err(|_| Failure::usage(format!("`{text}` is no address: give HOST:PORT")))?)
        }
        None => (text, PORT),
    };
    let password = sentinel.password.as_ref().map(|reference| settings.server.secrets.read(reference)).transpose()?;
    let mut connection = Connection::open(&at(host.trim_matches(['[', ']']), port), cancel)?;
    connection.authenticate(None, password.as_ref())?;
    let name = sentinel.master.as_bytes();
    let mut found = Vec::new();
    // The older word, which every version knows.
    if let Reply::List(replicas) = connection.ask(&[b"SENTINEL", b"SLAVES", name])? {
        for replica in replicas {
            let lines = replica.lines();
            let fields: BTreeMap<_, _> =
                lines.as_chunks::<2>().0.iter().map(|[a, b]| (a.as_str(), b.as_str())).collect();
            let field = |name| fields.get(name).copied().unwrap_or_default();
            if field("flags") == "slave" && field("master-link-status") == "ok" {
                found.extend(field("port").parse().ok().map(|port| (at(field("ip"), port), "slave")));
            }
        }
    }
    let master = match connection.ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name])? {
        Reply::Refused(reply) => return Err(refused(text, "SENTINEL", "+sentinel", &reply)),
        reply => reply.lines(),
    };
    match master.as_slice() {
        [host, port] => found.extend(port.parse().ok().map(|port| (at(host, port), "master"))),
        _ => {
            let text = format!("the sentinel {text} knows no master `{}`", sentinel.master);
            return Err(Failure::usage(text).hint("`SENTINEL MASTERS` lists those it knows"));
        }
    }
    Ok(found)
}

fn with_role<'a>(mut connection: Connection<'a>, wanted: &str) -> Result<Connection<'a>> {
    let role = match connection.ask(&[b"ROLE"])? {
        Reply::Refused(text) => return Err(refused(&connection.address.to_string(), "ROLE", "+role", &text)),
        reply => reply.lines(),
    };
    let is = role.first().is_some_and(|is| is == wanted);
    let is_linked = wanted == "master" || role.get(3).is_some_and(|state| state == "connected");
    if is && is_linked {
        return Ok(connection);
    }
    let text =
        format!("{} is not the {wanted} that the sentinel says it is: a failover is going on", connection.address);
    Err(Failure::new(Kind::TryLater, text).hint("Run the command again in a minute"))
}
