//! What containers have: variables, arguments, and files that are mounted into them.

use super::files::{has, lines_have, read, variable_has};
use super::projects::is_used;
use super::{Found, Scan, Search, Thing, real};
use crate::engine::Server;
use crate::exec::Place;
use crate::exec::docker::{Description, Mount, MountKind, Selector, State};
use crate::policy::{ComposeService, Consumer, Reload};
use crate::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
pub(super) const DIRECTORY: &str = "com.docker.compose.project.working_dir";
const SWARM: &str = "com.docker.swarm.service.name";
/// A directory with more entries holds data.
const ENTRIES: usize = 64;

impl Search<'_> {
    pub(super) fn containers(&self, containers: &[Description], scan: &mut Scan) {
        for container in containers.iter().filter(|container| container.state != State::Gone) {
            let consumers: Vec<&Consumer> =
                self.rotation.consumers.iter().filter(|consumer| is_of_consumer(container, consumer)).collect();
            let places = match consumers.is_empty() {
                _ if self.is_server(container) => each_start(&container.command, &container.environment, self.secret),
                true => self.places(container, scan),
                false => {
                    self.stays(container, &consumers, scan);
                    continue;
                }
            };
            let found = |place| Found { thing: Thing::Container, name: container.name.clone(), place };
            scan.unknown.extend(places.into_iter().map(found));
        }
    }

    fn places(&self, container: &Description, scan: &mut Scan) -> Vec<String> {
        let mut unreadable = BTreeSet::new();
        let having = |(name, value): &(&String, &Secret)| variable_has(name, value.expose(), self.secret);
        let variables = container.environment.iter().filter(having);
        let mut places: Vec<String> = variables.map(|(name, _)| format!("variable {name}")).collect();
        places.extend(argument(&container.command, self.secret));
        let files = self.files(container, &mut unreadable).into_iter();
        places.extend(files.map(|path| format!("file {}", path.display())));
        scan.not_read(unreadable);
        places
    }

    /// Those that are mounted and have it.
    pub(super) fn files(&self, container: &Description, unreadable: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let mut having = Vec::new();
        let mounts = container.mounts.iter().filter(|mount| mount.kind == MountKind::Bind);
        for path in mounts.flat_map(files_of) {
            match read(&path) {
                Ok(Some(text)) if lines_have(&text, self.secret) => having.push(path),
                Ok(_) => {}
                Err(_) => drop(unreadable.insert(path)),
            }
        }
        having
    }
}

pub(super) fn argument(command: &[String], secret: &Secret) -> Option<String> {
    command.iter().any(|word| has(word, secret)).then(|| "an argument of its command".into())
}

/// Of the server: what gives it the old password again at each start. What it was told when its data were made, it does not read
/// again.
fn each_start(command: &[String], environment: &BTreeMap<String, Secret>, secret: &Secret) -> Vec<String> {
    let having = environment.iter().filter(|(_, value)| has(value.expose(), secret));
    let used = having.filter(|(name, _)| command.iter().any(|word| is_used(word, name)));
    let variables = used.map(|(name, _)| format!("variable {name}, which its command uses"));
    let again = |place| format!("the server itself: {place}; its next start brings the old password back");
    argument(command, secret).into_iter().chain(variables).map(again).collect()
}

impl Scan {
    pub(super) fn not_read(&mut self, paths: BTreeSet<PathBuf>) {
        let not_read = |path: PathBuf| format!("{} may not be read, and was not looked into", path.display());
        self.warnings.extend(paths.into_iter().map(not_read));
    }
}

pub(super) fn is_of_consumer(container: &Description, consumer: &Consumer) -> bool {
    match &consumer.reload {
        Reload::Compose(service, _) => is_container_of(container, service),
        Reload::Container { name, .. } => container.name == *name,
        Reload::Swarm(told) => container.labels.get(SWARM) == Some(&told.service),
        Reload::Kubernetes(_) | Reload::Command(_) => false,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_is_told_at_each_start_is_seen() {
        let secret = Secret::new("old-password".into());
        let environment = BTreeMap::from([("REDIS_PASSWORD".to_owned(), secret.clone())]);
        let places = |command: &[&str]| {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            each_start(&command, &environment, &secret)
        };
        for command in
            [&["redis-server", "--requirepass", "old-password"][..], &["redis-server --requirepass=old-password"]]
        {
            assert!(places(command)[0].contains("an argument"), "{command:?}");
        }
        assert!(
            places(&["sh", "-c", "exec redis-server --requirepass \"$REDIS_PASSWORD\""])[0]
                .contains("variable REDIS_PASSWORD")
        );
        // What only the making of its data reads.
        assert_eq!(places(&["docker-entrypoint.sh", "redis-server", "/etc/redis.conf"]), Vec::<String>::new());
    }
}
