//! All servers of a group: a master and its replicas, which know nothing of each other's users.
//!
//! Found by asking the master (and the sentinels) who its replicas are, down to the replicas of replicas; or those that are
//! given, of which the servers themselves must then know no more. Masters come before those that copy them.

use super::client::{self, Client};
use super::connection::{Address, Connection};
use super::restore::told;
use super::{Settings, sentinel};
use crate::engine::Node;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// From a replica to its master, at most.
const HOPS: usize = 8;

/// One of them, with a connection of somebody who may change users.
pub struct Member<'a> {
    pub node: Node,
    pub connection: Connection<'a>,
    pub info: BTreeMap<String, String>,
}

impl<'a> Member<'a> {
    fn open(settings: &Settings, node: Node, cancel: &'a Cancel) -> Result<Self> {
        let (host, ca_file) = (node.host.clone(), settings.server.ca_file.clone());
        let address = Address::Network { host, port: node.port, ca_file };
        let mut connection = client::connect(&settings.server, &address, cancel)?;
        let info = connection.info()?;
        if ["redis_mode", "server_mode"].iter().any(|key| info.get(*key).is_some_and(|mode| mode == "cluster")) {
            let what = format!("{node} is a node of a cluster");
            return Err(Failure::new(Kind::Refused, what)
                .hint("Passwords of clusters cannot be rotated by this version: change them on each node by hand"));
        }
        Ok(Member { node, connection, info })
    }

    pub fn is(&self, key: &str) -> &str {
        self.info.get(key).map_or("", String::as_str)
    }

    pub fn is_replica(&self) -> bool {
        self.is("role") == "slave"
    }

    fn master(&self) -> Option<Node> {
        let port = self.is("master_port").parse().ok()?;
        self.is_replica().then(|| Node { host: self.is("master_host").to_owned(), port })
    }

    /// Whoever copies it and listens itself: one that only takes a dump has no port.
    fn replicas(&self) -> Vec<Node> {
        let one = |(key, value): (&String, &String)| {
            let number = key.strip_prefix("slave")?;
            number.parse::<u32>().ok()?;
            let field = |name: &str| value.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            let port = field("port")?.parse().ok().filter(|port| *port > 0)?;
            Some(Node { host: field("ip")?.to_owned(), port })
        };
        self.info.iter().filter_map(one).collect()
    }

    pub fn told(&mut self, command: &[&str], rule: &str) -> Result<Vec<String>> {
        let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        told(&mut self.connection, &words, rule)
    }

    /// One setting; empty where the server has none.
    pub fn setting(&mut self, name: &str) -> Result<String> {
        let lines = self.told(&["CONFIG", "GET", name], "+config|get")?;
        Ok(lines.into_iter().nth(1).unwrap_or_default())
    }

    /// Who is connected: the fields of each line of `CLIENT LIST`.
    pub fn clients(&mut self) -> Result<Vec<BTreeMap<String, String>>> {
        let lines = self.told(&["CLIENT", "LIST"], "+client|list")?;
        let fields = |line: &String| {
            let pairs = line.split(' ').filter_map(|word| word.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        Ok(lines.iter().filter(|line| line.starts_with("id=")).map(fields).collect())
    }
}

/// All of them; a failure when one of them cannot be asked.
pub fn members<'a>(settings: &Settings, given: &[Node], cancel: &'a Cancel) -> Result<Vec<Member<'a>>> {
    if given.is_empty() { found(settings, cancel) } else { named(settings, given, cancel) }
}

fn named<'a>(settings: &Settings, given: &[Node], cancel: &'a Cancel) -> Result<Vec<Member<'a>>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for node in given {
        let member = Member::open(settings, node.clone(), cancel)?;
        if seen.insert(member.is("run_id").to_owned()) {
            all.push(member);
        }
    }
    all.sort_by_key(Member::is_replica);
    let told: usize = all.iter().map(|member| member.replicas().len()).sum();
    let there = all.iter().filter(|member| member.is_replica()).count();
    let has_master = all.iter().any(|member| !member.is_replica());
    if told > there || !has_master {
        let what = if has_master {
            format!("the servers tell of {told} replicas, and `nodes` names {there}")
        } else {
            "`nodes` names replicas, and not their master".to_owned()
        };
        return Err(Failure::new(Kind::Refused, what)
            .hint("Users are not copied to replicas: name every server in `nodes`, or none to have them found"));
    }
    Ok(all)
}

fn found<'a>(settings: &Settings, cancel: &'a Cancel) -> Result<Vec<Member<'a>>> {
    let mut waiting: VecDeque<Node> = match &settings.sentinel {
        Some(sentinel) => sentinel::members(settings, sentinel, cancel)?.into(),
        None => [master(settings, cancel)?].into(),
    };
    let (mut all, mut seen, mut asked): (Vec<Member<'a>>, _, _) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    while let Some(node) = waiting.pop_front() {
        if !asked.insert(node.clone()) {
            continue;
        }
        let is_first = all.is_empty();
        let member = Member::open(settings, node, cancel).map_err(|failure| match failure.kind() {
            Kind::TryLater if !is_first => failure.hint(
                "It is a replica that its master or a sentinel tells of. Start it; or, where this host reaches it elsewhere, name all servers: nodes: [HOST:PORT, …]",
            ),
            _ => failure,
        })?;
        if seen.insert(member.is("run_id").to_owned()) {
            waiting.extend(member.replicas());
            all.push(member);
        }
    }
    Ok(all)
}

/// The server of the source, or whose data it has.
fn master(settings: &Settings, cancel: &Cancel) -> Result<Node> {
    let mut node = match client::address(&settings.server)? {
        Address::Network { host, port, .. } => Node { host, port },
        Address::Socket(path) => {
            let what = format!("the server at {} is only known by its socket", path.display());
            return Err(Failure::usage(what)
                .hint("Passwords are tried over the network: give `nodes: [HOST:PORT]`, with all replicas"));
        }
    };
    for _ in 0..HOPS {
        match Member::open(settings, node.clone(), cancel)?.master() {
            Some(master) => node = master,
            None => return Ok(node),
        }
    }
    Err(Failure::failed(format!("{} is a replica of a replica without end", settings.server.location()))
        .hint("See which copies which: INFO replication"))
}
