//! What containers have: variables, arguments, and files that are mounted into them.

use super::files::{has, lines_have, read};
use super::{Found, Scan, Search, Thing, real};
use crate::engine::Server;
use crate::exec::Place;
use crate::exec::docker::{Description, Mount, MountKind, Selector, State};
use crate::policy::{ComposeService, Reload};
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
pub(super) const DIRECTORY: &str = "com.docker.compose.project.working_dir";
const SWARM: &str = "com.docker.swarm.service.name";
/// A directory with more entries holds data.
const ENTRIES: usize = 64;

impl Search<'_> {
    pub(super) fn containers(&self, containers: &[Description], scan: &mut Scan) {
        let mut unreadable = BTreeSet::new();
        let looked_at = containers.iter().filter(|c| c.state != State::Gone && !self.is_told(c) && !self.is_server(c));
        for container in looked_at {
            for place in self.places(container, &mut unreadable) {
                scan.unknown.insert(Found { thing: Thing::Container, name: container.name.clone(), place });
            }
        }
        let not_read = |path: PathBuf| format!("{} may not be read, and was not looked into", path.display());
        scan.warnings.extend(unreadable.into_iter().map(not_read));
    }

    fn places(&self, container: &Description, unreadable: &mut BTreeSet<PathBuf>) -> Vec<String> {
        let variables = container.environment.iter().filter(|(_, value)| has(value.expose(), self.secret));
        let mut places: Vec<String> = variables.map(|(name, _)| format!("variable {name}")).collect();
        if container.command.iter().any(|word| has(word, self.secret)) {
            places.push("an argument of its command".into());
        }
        for mount in container.mounts.iter().filter(|mount| mount.kind == MountKind::Bind) {
            for path in files_of(mount) {
                match read(&path) {
                    Ok(Some(text)) if lines_have(&text, self.secret) => places.push(format!("file {}", path.display())),
                    Ok(_) => {}
                    Err(_) => drop(unreadable.insert(path)),
                }
            }
        }
        places
    }

    fn is_told(&self, container: &Description) -> bool {
        self.rotation.consumers.iter().any(|consumer| match &consumer.reload {
            Reload::Compose(service, _) => is_container_of(container, service),
            Reload::Container { name, .. } => container.name == *name,
            Reload::Swarm(told) => container.labels.get(SWARM) == Some(&told.service),
            Reload::Kubernetes(_) | Reload::Command(_) => false,
        })
    }
}

/// The file that is mounted, or those right in a directory that is.
fn files_of(mount: &Mount) -> Vec<PathBuf> {
    if !mount.source.is_dir() {
        return vec![mount.source.clone()];
    }
    let entries = std::fs::read_dir(&mount.source).into_iter().flatten().flatten().map(|entry| entry.path());
    let files: Vec<PathBuf> = entries.take(ENTRIES + 1).collect();
    if files.len() > ENTRIES { Vec::new() } else { files }
}

pub(super) fn is_container_of(container: &Description, service: &ComposeService) -> bool {
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let same_project = match &service.project {
        Some(project) => label(PROJECT) == Some(project),
        None => label(DIRECTORY).is_some_and(|directory| real(directory.as_ref()) == real(&service.directory)),
    };
    same_project && label(SERVICE) == Some(&service.service)
}

/// Whether the server runs in this container.
pub(super) fn is_of(container: &Description, server: &Server) -> bool {
    let label = |key: &str| container.labels.get(key);
    match &server.place {
        Place::Container(Selector::Name(name)) => container.name == *name || container.id.starts_with(name.as_str()),
        Place::Container(Selector::Compose { project, service }) => {
            label(PROJECT) == Some(project) && label(SERVICE) == Some(service)
        }
        Place::Container(Selector::Label { key, value }) => label(key) == Some(value),
        Place::Container(Selector::Swarm { service }) => label(SWARM) == Some(service),
        Place::Host => {
            let host = server.host.as_deref().unwrap_or("127.0.0.1");
            let is_local = matches!(host, "127.0.0.1" | "::1" | "localhost");
            let published = container.ports.iter().filter_map(|port| port.published.as_ref());
            let by_port = is_local && published.clone().any(|(_, port)| Some(*port) == server.port);
            by_port || container.name == host || container.networks.values().any(|address| address == host)
        }
    }
}
