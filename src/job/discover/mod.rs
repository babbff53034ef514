//! What there is on this host: containers, volumes and directories, which engine each is, and which source protects it.
//!
//! [`fold`] is a pure function of what the container engine and the directories say and of the configuration. Its point is
//! the last column: what is *not* protected, with what to write to protect it. Stopped containers count: their data is there.
//! It starts nothing and reads no data; [`look`] looks at the names of files and at their first bytes.

mod account;
mod evidence;
pub mod labels;
pub mod look;
mod suggest;

use crate::engine::Settings;
use crate::exec::Place;
use crate::exec::docker::{Description, Mount, MountKind, Selector, State, Volume};
use crate::exec::scratch;
use crate::policy::{Configuration, Source};
use look::Contents;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use suggest::{SECRETS, Suggestion, plain as source_name, quoted};

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const SWARM: &str = "com.docker.swarm.service.name";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    Container,
    Volume,
    Directory,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Coverage {
    /// A configured source backs it up.
    Protected {
        source: String,
        policy: String,
    },
    /// It holds the data of something that is protected, or that is listed as not protected.
    PartOf {
        what: String,
    },
    /// Nothing in it would be missed, and why.
    NothingToKeep {
        why: String,
    },
    /// Its owner said so.
    LeftOut,
    NotProtected,
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub thing: Thing,
    pub name: String,
    pub project: Option<String>,
    /// `mysql`, `postgres`, `mongo`, `redis`, `sqlite`, `volume`; absent for programs that keep nothing themselves.
    pub engine: Option<&'static str>,
    /// Why it is taken for that.
    pub evidence: Vec<String>,
    pub coverage: Coverage,
    /// What to write to protect it.
    pub suggestions: Vec<Suggestion>,
}

/// What the container engine says, and what the directories hold.
pub struct Host<'a> {
    pub containers: &'a [Description],
    pub volumes: &'a [Volume],
    pub contents: &'a dyn Fn(&Path) -> Contents,
    /// Names of the programs that run in a container; `None` where that cannot be found out.
    pub programs: &'a dyn Fn(&Description) -> Option<Vec<String>>,
}

/// Everything that was found, things of one project together; `project`: only that one.
pub fn fold(host: &Host<'_>, configuration: &Configuration, project: Option<&str>) -> Vec<Found> {
    let mut found = Vec::new();
    for container in host.containers.iter().filter(|c| c.state != State::Gone && !is_of_rehearsal(&c.labels)) {
        found.push(of_container(host, configuration, container));
    }
    for volume in host.volumes.iter().filter(|volume| !is_of_rehearsal(&volume.labels)) {
        found.push(of_volume(host, configuration, volume));
    }
    for directory in bound_directories(host) {
        found.push(of_directory(host, configuration, directory));
    }
    found.retain(|one| project.is_none() || one.project.as_deref() == project);
    let order = |one: &Found| (one.project.clone(), one.thing as u8, one.name.clone());
    found.sort_by_key(order);
    found
}

/// bkp's own scratch server, or its volume: what is in there is a restored backup, and goes away by itself.
pub fn is_of_rehearsal(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(scratch::LABEL)
}

fn project_of(container: &Description) -> Option<String> {
    container.labels.get(PROJECT).or_else(|| container.labels.get("com.docker.stack.namespace")).cloned()
}

fn of_container(host: &Host<'_>, configuration: &Configuration, container: &Description) -> Found {
    let (engine, evidence) = evidence::engine_of(host, container);
    let protected = protecting(configuration, |source| is_server(source, container));
    let ignored = labels::is_ignored(&container.labels);
    let coverage = match (protected, engine) {
        (Some(coverage), _) => coverage,
        (None, _) if ignored => Coverage::LeftOut,
        (None, Some(_)) => Coverage::NotProtected,
        (None, None) => Coverage::NothingToKeep { why: "what it keeps is in its volumes".into() },
    };
    let suggestions = match (&coverage, engine) {
        (Coverage::NotProtected, Some(engine)) => vec![suggest::server(engine, container)],
        _ => Vec::new(),
    };
    Found {
        thing: Thing::Container,
        name: container.name.clone(),
        project: project_of(container),
        engine,
        evidence,
        coverage,
        suggestions,
    }
}

/// The source that does `what`, as a verdict.
fn protecting(configuration: &Configuration, what: impl Fn(&Source) -> bool) -> Option<Coverage> {
    let all =
        configuration.policies.iter().flat_map(|policy| policy.sources.iter().map(move |source| (policy, source)));
    let protected = |(policy, source): (&crate::policy::Policy, &Source)| Coverage::Protected {
        source: source.name.clone(),
        policy: policy.name.clone(),
    };
    all.into_iter().find(|(_, source)| what(source)).map(protected)
}

fn is_server(source: &Source, container: &Description) -> bool {
    let Some(server) = source.settings.server() else { return false };
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    match &server.place {
        Place::Container(Selector::Name(name)) => *name == container.name || container.id.starts_with(name.as_str()),
        Place::Container(Selector::Compose { project, service }) => {
            label(PROJECT) == Some(project) && label(SERVICE) == Some(service)
        }
        Place::Container(Selector::Label { key, value }) => label(key) == Some(value),
        Place::Container(Selector::Swarm { service }) => label(SWARM) == Some(service),
        Place::Host => {
            let here = server.host.as_deref().is_none_or(|host| ["127.0.0.1", "localhost", "::1"].contains(&host));
            let published = |port: u16| {
                container.ports.iter().any(|p| p.published.as_ref().is_some_and(|(_, published)| *published == port))
            };
            here && server.port.is_some_and(published)
        }
    }
}

fn of_volume(host: &Host<'_>, configuration: &Configuration, volume: &Volume) -> Found {
    let users: Vec<&Description> = host
        .containers
        .iter()
        .filter(|c| c.mounts.iter().any(|m| m.volume.as_deref() == Some(volume.name.as_str())))
        .collect();
    let project = volume.labels.get(PROJECT).cloned().or_else(|| users.iter().find_map(|c| project_of(c)));
    let left_out = labels::is_ignored(&volume.labels);
    let place = Tree { name: &volume.name, path: &volume.mountpoint, users, left_out, volume: true };
    let (coverage, engine, evidence, suggestions) = of_tree(host, configuration, &place);
    Found { thing: Thing::Volume, name: volume.name.clone(), project, engine, evidence, coverage, suggestions }
}

fn of_directory(host: &Host<'_>, configuration: &Configuration, path: PathBuf) -> Found {
    let users: Vec<&Description> = host
        .containers
        .iter()
        .filter(|c| c.mounts.iter().any(|m| m.kind == MountKind::Bind && m.source == path))
        .collect();
    let project = users.iter().find_map(|c| project_of(c));
    let name = path.display().to_string();
    let place = Tree { name: &name, path: &path, users, left_out: false, volume: false };
    let (coverage, engine, evidence, suggestions) = of_tree(host, configuration, &place);
    Found { thing: Thing::Directory, name: name.clone(), project, engine, evidence, coverage, suggestions }
}

/// A volume, or a directory of the host that containers write into.
struct Tree<'a> {
    name: &'a str,
    path: &'a Path,
    users: Vec<&'a Description>,
    left_out: bool,
    volume: bool,
}

type Judged = (Coverage, Option<&'static str>, Vec<String>, Vec<Suggestion>);

fn of_tree(host: &Host<'_>, configuration: &Configuration, tree: &Tree<'_>) -> Judged {
    let contents = (host.contents)(tree.path);
    let users: Vec<&str> = tree.users.iter().map(|c| c.name.as_str()).collect();
    let mut evidence = match users.as_slice() {
        [] => vec!["no container uses it".to_owned()],
        users => vec![format!("used by {}", users.join(", "))],
    };
    if let Some(coverage) = protecting(configuration, |source| is_tree(host, source, tree)) {
        return (coverage, Some("volume"), evidence, Vec::new());
    }
    let server = tree.users.iter().find(|c| {
        let (engine, _) = evidence::engine_of(host, c);
        engine.is_some()
            && contents.database.is_none_or(|kind| Some(kind) == engine)
            && evidence::data_directory(host, c, engine.unwrap_or_default())
                .is_some_and(|m| m.source == tree.path || m.volume.as_deref() == Some(tree.name))
    });
    if let Some(server) = server {
        return (Coverage::PartOf { what: server.name.clone() }, None, evidence, Vec::new());
    }
    if tree.left_out {
        return (Coverage::LeftOut, None, evidence, Vec::new());
    }
    if contents.empty {
        return (Coverage::NothingToKeep { why: "it is empty".into() }, None, evidence, Vec::new());
    }
    evidence.extend(contents.sqlite.iter().map(|file| format!("SQLite database {}", file.display())));
    evidence.extend(contents.database.map(|kind| format!("files of a {kind} server")));
    let open: Vec<&PathBuf> = contents
        .sqlite
        .iter()
        .filter(|file| protecting(configuration, |source| is_file(source, tree, file)).is_none())
        .collect();
    let writing: Vec<&&Description> = tree.users.iter().filter(|c| writes(c, tree)).collect();
    let is_server = |c: &&&Description| evidence::engine_of(host, c).0.is_some();
    // A server that stands still cannot be dumped at the same time.
    let still = if writing.iter().any(is_server) { Vec::new() } else { writing };
    let still: Vec<&str> = still.into_iter().map(|c| c.name.as_str()).collect();
    let suggestions = suggest::tree(tree.name, tree.path, tree.volume, &open, &still);
    let engine = if contents.sqlite.is_empty() { "volume" } else { "sqlite" };
    (Coverage::NotProtected, Some(engine), evidence, suggestions)
}

/// A volume by its name, or a directory with what is in it: as far as it is on the same file system, and not left out.
fn is_tree(host: &Host<'_>, source: &Source, tree: &Tree<'_>) -> bool {
    let Settings::Volume(settings) = &source.settings else { return false };
    if settings.name.as_deref() == Some(tree.name) && tree.volume {
        return true;
    }
    let Ok(below) = tree.path.strip_prefix(&settings.path) else { return false };
    let device = |path: &Path| (host.contents)(path).device;
    let elsewhere = settings.one_file_system && device(tree.path) != device(&settings.path);
    settings.takes(below) && !elsewhere
}

fn writes(container: &Description, tree: &Tree<'_>) -> bool {
    let is_it = |m: &Mount| m.source == tree.path || tree.volume && m.volume.as_deref() == Some(tree.name);
    container.state == State::Running && container.mounts.iter().any(|m| m.writable && is_it(m))
}

fn is_file(source: &Source, tree: &Tree<'_>, file: &Path) -> bool {
    let Settings::Sqlite(settings) = &source.settings else { return false };
    match &settings.volume {
        Some(volume) => tree.volume && volume.name == tree.name && volume.path == file,
        None => settings.path == tree.path.join(file),
    }
}

/// Directories of the host that containers may write to; what belongs to the system is passed over.
fn bound_directories(host: &Host<'_>) -> Vec<PathBuf> {
    const SYSTEM: [&str; 8] = ["/proc", "/sys", "/dev", "/run", "/var/run", "/etc", "/usr", "/var/lib/docker"];
    let mounts = host.containers.iter().flat_map(|c| c.mounts.iter());
    let bound = mounts.filter(|m| m.kind == MountKind::Bind && m.writable && m.source.is_dir());
    let mut paths: Vec<PathBuf> = bound.map(|m| m.source.clone()).collect();
    paths.retain(|path| path != Path::new("/") && !SYSTEM.iter().any(|system| path.starts_with(system)));
    paths.sort();
    paths.dedup();
    paths
}
