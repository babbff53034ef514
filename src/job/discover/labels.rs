//! What labels of containers and volumes (`bkp.*`) bring into policies that allow it.
//!
//! A label names a policy and a source, or says that something is left out. It can say nothing else: neither an account nor a
//! command, a destination or how long backups are kept. Those stand in the policy, which takes nothing in unless it has `labels`.
//! [`take_in`] is a pure function like [`super::fold`]; whatever it cannot follow is told in a [`Remark`].

use super::account::Account;
use super::{Host, SERVICE, SWARM, Thing, Tree, evidence, suggest};
use crate::engine::{Server, Settings, mongo, mysql, postgres, redis, sqlite, volume};
use crate::exec::Place;
use crate::exec::docker::{Description, Docker, Selector, State, Volume};
use crate::policy::{self, Configuration, Labels, Policy, Source};
use crate::repo::point::Layout;
use serde::Serialize;
use std::collections::BTreeMap;

const PREFIX: &str = "bkp.";
const POLICY: &str = "bkp.policy";
/// Label by which its owner names the source.
pub const SOURCE: &str = "bkp.source";
/// A container or volume that its owner does not want to be backed up.
const IGNORE: &str = "bkp.ignore";

/// A label that has no effect, or not the one that was meant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remark {
    pub thing: Thing,
    pub name: String,
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Taken {
    /// With the name of the policy.
    pub sources: Vec<(String, Source)>,
    pub remarks: Vec<Remark>,
}

type Pairs = BTreeMap<String, String>;

pub fn is_ignored(labels: &Pairs) -> bool {
    labels.get(IGNORE).is_some_and(|value| value != "false")
}

/// The sources that labels bring, none of which the configuration names already.
pub fn take_in(host: &Host<'_>, configuration: &Configuration) -> Taken {
    let mut taking = Taking { host, configuration, candidates: Vec::new(), remarks: Vec::new() };
    let is_own = |labels: &Pairs| super::is_of_rehearsal(labels);
    for container in host.containers.iter().filter(|c| c.state != State::Gone && !is_own(&c.labels)) {
        taking.container(container);
    }
    for volume in host.volumes.iter().filter(|volume| !is_own(&volume.labels)) {
        taking.volume(volume);
    }
    taking.finish()
}

/// Where no policy takes anything in: what has a label that names one of them all the same. Nothing where no engine answers.
pub fn without_effect(configuration: &Configuration) -> Vec<String> {
    let Ok(labelled) = Docker::connect().and_then(|docker| docker.labelled(POLICY)) else { return Vec::new() };
    let named = labelled.into_iter().filter(|(_, value)| configuration.policies.iter().any(|p| p.name == *value));
    named.map(|(name, policy)| format!("{name}: {}", takes_nothing_in(&policy))).collect()
}

fn takes_nothing_in(policy: &str) -> String {
    format!("its label names the policy {policy}, which takes nothing in by label (`labels:` in the policy allows it)")
}

struct Candidate<'a> {
    policy: &'a Policy,
    source: Source,
    thing: Thing,
    name: &'a str,
    runs: bool,
}

struct Taking<'a> {
    host: &'a Host<'a>,
    configuration: &'a Configuration,
    candidates: Vec<Candidate<'a>>,
    remarks: Vec<Remark>,
}

impl<'a> Taking<'a> {
    fn remark(&mut self, thing: Thing, name: &str, text: String) {
        self.remarks.push(Remark { thing, name: name.to_owned(), text });
    }

    /// The policy that the labels name and that takes things in, with what is wrong with them told.
    fn policy_of(&mut self, thing: Thing, name: &str, labels: &Pairs) -> Option<(&'a Policy, &'a Labels)> {
        for key in labels.keys().filter(|key| key.starts_with(PREFIX)) {
            if ![POLICY, SOURCE, IGNORE].contains(&key.as_str()) {
                let near = policy::did_you_mean(key, [POLICY, SOURCE, IGNORE]);
                let known = format!("known are {POLICY}, {SOURCE} and {IGNORE}");
                self.remark(thing, name, format!("the label {key} means nothing{near}; {known}"));
            }
        }
        let wanted = labels.get(POLICY)?;
        if is_ignored(labels) {
            self.remark(thing, name, format!("it says both {POLICY} and {IGNORE}, and is left out"));
            return None;
        }
        let policies = &self.configuration.policies;
        let Some(policy) = policies.iter().find(|policy| policy.name == *wanted) else {
            let near = policy::did_you_mean(wanted, policies.iter().map(|policy| policy.name.as_str()));
            self.remark(thing, name, format!("its label names the policy {wanted}, which is not there{near}"));
            return None;
        };
        let Some(allowed) = &policy.labels else {
            self.remark(thing, name, takes_nothing_in(wanted));
            return None;
        };
        Some((policy, allowed))
    }

    fn container(&mut self, container: &'a Description) {
        let (thing, name) = (Thing::Container, container.name.as_str());
        let Some((policy, allowed)) = self.policy_of(thing, name, &container.labels) else { return };
        if super::protecting(self.configuration, |source| super::is_server(source, container)).is_some() {
            return;
        }
        let (engine, why) = evidence::engine_of(self.host, container);
        let Some(engine) = engine else {
            let text =
                format!("it is no database server that bkp knows ({}); label its volumes instead", why.join(", "));
            return self.remark(thing, name, text);
        };
        let Some(settings) = server(engine, container, allowed) else {
            let text = format!(
                "the policy {} has no account for it: add `{engine}:` with `user` and `password_file`, or `own_accounts: true`, to its `labels`",
                policy.name
            );
            return self.remark(thing, name, text);
        };
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let default = label(SERVICE).or(label(SWARM)).unwrap_or(name);
        let Some(source) = self.name(thing, name, &container.labels, default) else { return };
        let runs = container.state == State::Running;
        let source = Source { name: source, settings, layout: allowed.layout };
        self.candidates.push(Candidate { policy, source, thing, name, runs });
    }

    /// SQLite databases in it become sources of their own: a copy of their files could be torn.
    fn volume(&mut self, found: &'a Volume) {
        let (thing, name) = (Thing::Volume, found.name.as_str());
        let Some((policy, allowed)) = self.policy_of(thing, name, &found.labels) else { return };
        let tree = Tree { name, path: &found.mountpoint, users: Vec::new(), left_out: false, volume: true };
        if super::protecting(self.configuration, |source| super::is_tree(self.host, source, &tree)).is_some() {
            return;
        }
        let Some(base) = self.name(thing, name, &found.labels, name) else { return };
        let databases = (self.host.contents)(&found.mountpoint).sqlite;
        let path = policy::docker_volume_path(name);
        let exclude = databases.iter().map(|file| format!("{}*", file.display())).collect();
        let whole = volume::Settings {
            name: Some(name.to_owned()),
            quiesce: allowed.quiesce,
            exclude,
            ..volume::Settings::of(&path)
        };
        let mut sources =
            vec![Source { name: base.clone(), settings: Settings::Volume(whole), layout: Layout::default() }];
        for file in databases {
            let source = format!("{base}-{}", suggest::stem(&file, &base));
            let on_volume = sqlite::OnVolume { name: name.to_owned(), path: file.clone() };
            let settings = sqlite::Settings { path: path.join(&file), volume: Some(on_volume) };
            let settings = Settings::Sqlite(settings);
            sources.push(Source { name: source, settings, layout: allowed.layout });
        }
        let candidate = |source| Candidate { policy, source, thing, name, runs: true };
        self.candidates.extend(sources.into_iter().map(candidate));
    }

    fn name(&mut self, thing: Thing, name: &str, labels: &Pairs, default: &str) -> Option<String> {
        let Some(given) = labels.get(SOURCE) else { return Some(suggest::plain(default)) };
        match policy::check_name(given) {
            Ok(()) => Some(given.clone()),
            Err(wrong) => {
                self.remark(thing, name, format!("its label {SOURCE}={given:?} is no name of a source: {wrong}"));
                None
            }
        }
    }

    /// Points are kept by the names of sources, so that one name is for one thing. Of several containers that are one service,
    /// such as the old tasks of a Swarm service, the one that runs is meant.
    fn finish(mut self) -> Taken {
        let mut taken = Taken::default();
        let mut by_name: BTreeMap<String, Vec<Candidate<'a>>> = BTreeMap::new();
        for candidate in std::mem::take(&mut self.candidates) {
            by_name.entry(candidate.source.name.clone()).or_default().push(candidate);
        }
        for (name, mut candidates) in by_name {
            if candidates.len() > 1 && candidates.iter().any(|candidate| candidate.runs) {
                candidates.retain(|candidate| candidate.runs);
            }
            let things = candidates.iter().map(|candidate| candidate.name).collect::<Vec<_>>().join(", ");
            let taken_already = self.configuration.source(&name).is_some();
            if candidates.len() > 1 || taken_already {
                let why =
                    if taken_already { "a source of the configuration is".to_owned() } else { format!("{things} are") };
                for candidate in &candidates {
                    let text = format!("it would be the source {name}, as {why}: give it another name with {SOURCE}");
                    self.remark(candidate.thing, candidate.name, text);
                }
                continue;
            }
            taken.sources.extend(candidates.into_iter().map(|one| (one.policy.name.clone(), one.source)));
        }
        taken.remarks = self.remarks;
        taken
    }
}

/// How a container's server is backed up; `None` when nothing says as whom.
fn server(engine: &'static str, container: &Description, allowed: &Labels) -> Option<Settings> {
    let said = allowed.servers.iter().find(|settings| settings.kind() == engine).cloned();
    let mut settings = said.or_else(|| bare(engine))?;
    let account = Account::of(engine, container);
    let server = settings.server_mut()?;
    server.place = Place::Container(Selector::Name(container.name.clone()));
    let silent = server.user.is_none() && server.password.is_none();
    match (silent, allowed.own_accounts) {
        (true, true) => {
            server.user = account.user;
            server.own_password = account.password;
        }
        (true, false) if engine == "mysql" || container.told(account.password).is_some() => return None,
        _ => {}
    }
    Some(settings)
}

/// An engine of which the policy says nothing.
fn bare(engine: &str) -> Option<Settings> {
    let server = Server::default();
    let (databases, exclude) = (Vec::new(), Vec::new());
    Some(match engine {
        "mysql" => Settings::Mysql(mysql::Settings { server, databases, exclude, lock_tables: false }),
        "postgres" => Settings::Postgres(postgres::Settings { server, databases, exclude }),
        "mongo" => {
            Settings::Mongo(mongo::Settings { server, auth_database: None, databases, exclude, mongodump: false })
        }
        "redis" => Settings::Redis(redis::Settings { server, method: redis::Method::default(), sentinel: None }),
        _ => return None,
    })
}
