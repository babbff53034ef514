//! Sentinels: which server of a group is the master now, and which replica is healthy.
//!
//! A healthy replica is preferred, so that the master is spared. What a sentinel says is checked with `ROLE` at the server.

use super::client;
use super::connection::{Address, Connection, Reply, refused};
use super::restore::told;
use super::{Sentinel, Settings};
use crate::engine::Node;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use std::collections::{BTreeMap, BTreeSet};

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
    let mut connection = open(settings, sentinel, text, cancel)?;
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

/// A connection to one of the sentinels, at `HOST:PORT`.
fn open<'a>(settings: &Settings, sentinel: &Sentinel, text: &str, cancel: &'a Cancel) -> Result<Connection<'a>> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            (host, port.parse().map_err(|_| Failure::usage(format!("`{text}` is no address: give HOST:PORT")))?)
        }
        None => (text, PORT),
    };
    let password = sentinel.password.as_ref().map(|reference| settings.server.secrets.read(reference)).transpose()?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let address = Address::Network { host, port, ca_file: settings.server.ca_file.clone() };
    let mut connection = Connection::open(&address, cancel)?;
    connection.authenticate(None, password.as_ref())?;
    Ok(connection)
}

/// Every server of the group, the master first, also those that are down now.
pub fn members(settings: &Settings, sentinel: &Sentinel, cancel: &Cancel) -> Result<Vec<Node>> {
    let master = master(settings, sentinel, cancel)?;
    let mut all = Vec::new();
    if let Address::Network { host, port, .. } = master {
        all.push(Node { host, port });
    }
    let answer = |text: &String| open(settings, sentinel, text, cancel).ok();
    for mut connection in sentinel.addresses.iter().filter_map(answer) {
        all.extend(listed(&mut connection, &[b"SENTINEL", b"SLAVES", sentinel.master.as_bytes()])?);
    }
    Ok(all)
}

/// A connection to every sentinel that watches the group: those that are configured, and those that they know. Each must answer.
pub fn every<'a>(settings: &Settings, sentinel: &Sentinel, cancel: &'a Cancel) -> Result<Vec<Connection<'a>>> {
    let mut waiting: Vec<String> = sentinel.addresses.iter().rev().cloned().collect();
    let (mut all, mut ids, mut asked) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    while let Some(text) = waiting.pop() {
        if !asked.insert(text.clone()) {
            continue;
        }
        let mut connection = open(settings, sentinel, &text, cancel)?;
        if !ids.insert(told(&mut connection, &[b"SENTINEL", b"MYID"], "+sentinel")?) {
            continue;
        }
        let others = listed(&mut connection, &[b"SENTINEL", b"SENTINELS", sentinel.master.as_bytes()])?;
        waiting.extend(others.iter().map(Node::to_string));
        all.push(connection);
    }
    Ok(all)
}

fn listed(connection: &mut Connection<'_>, command: &[&[u8]]) -> Result<Vec<Node>> {
    let server = connection.address.to_string();
    let entries = match connection.ask(command)? {
        Reply::List(entries) => entries,
        Reply::Refused(text) => return Err(refused(&server, "SENTINEL", "+sentinel", &text)),
        _ => Vec::new(),
    };
    let node = |lines: &[String]| {
        let field = |name: &str| lines.as_chunks::<2>().0.iter().find(|[key, _]| key == name).map(|[_, value]| value);
        Some(Node { host: field("ip")?.clone(), port: field("port")?.parse().ok()? })
    };
    Ok(entries.into_iter().filter_map(|entry| node(&entry.lines())).collect())
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
