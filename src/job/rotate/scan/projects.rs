//! What files of Compose projects have, and which services would be given a variable that is told in a file.

use super::containers::{DIRECTORY, SERVICE, is_container_of};
use super::files::{lines_have, read};
use super::{Found, Scan, Search, Thing, real};
use crate::exec::docker::Description;
use crate::policy::{ComposeService, Told};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILES: &str = "com.docker.compose.project.config_files";
/// Those that Compose finds by itself.
const USUAL: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Directory and files of each project.
type Projects = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

impl Search<'_> {
    pub(super) fn projects(&self, containers: &[Description], scan: &mut Scan) {
        for (directory, files) in self.directories(containers) {
            let mut all: BTreeSet<PathBuf> = files.iter().cloned().chain([directory.join(".env")]).collect();
            for file in &files {
                let Ok(Some(text)) = read(file) else { continue };
                let Ok(document) = serde_saphyr::from_str::<Value>(&text) else { continue };
                all.extend(named_files(&document).into_iter().map(|name| directory.join(name)));
                self.services(&directory, &document, containers, scan);
            }
            for path in all.iter().filter(|path| !self.is_told_file(path)) {
                match read(path) {
                    Ok(Some(text)) if lines_have(&text, self.secret) => {
                        let (name, place) = (path.display().to_string(), "a file of a Compose project".to_owned());
                        scan.unknown.insert(Found { thing: Thing::File, name, place });
                    }
                    Ok(_) => {}
                    Err(error) => scan.warnings.push(format!("{} was not looked into: {error}", path.display())),
                }
            }
        }
    }

    /// Of the containers, and of those who are told.
    fn directories(&self, containers: &[Description]) -> Projects {
        let mut projects = Projects::new();
        let add = |projects: &mut Projects, directory: &Path, files: &mut dyn Iterator<Item = PathBuf>| {
            projects.entry(real(directory)).or_default().extend(files.map(|file| real(&file)));
        };
        for container in containers {
            let Some(directory) = container.labels.get(DIRECTORY).map(Path::new) else { continue };
            let files = container.labels.get(FILES).map(String::as_str).unwrap_or_default().split(',');
            add(&mut projects, directory, &mut files.filter(|name| !name.is_empty()).map(|name| directory.join(name)));
        }
        for service in self.told_services() {
            add(&mut projects, &service.directory, &mut files_of(service));
        }
        projects
    }

    /// Services without a container: what they would be given when they are started.
    fn services(&self, directory: &Path, document: &Value, containers: &[Description], scan: &mut Scan) {
        let of_project = |container: &&Description| {
            container.labels.get(DIRECTORY).is_some_and(|other| real(Path::new(other)) == *directory)
        };
        let running: Vec<&Description> = containers.iter().filter(of_project).collect();
        let told = |service: &str| {
            let is_told = |told: &crate::policy::ComposeService| {
                told.service == service
                    && (real(&told.directory) == *directory || running.iter().any(|c| is_container_of(c, told)))
            };
            self.told_services().any(is_told)
        };
        for (service, settings) in document["services"].as_object().into_iter().flatten() {
            let has_container = running.iter().any(|c| c.labels.get(SERVICE).is_some_and(|name| name == service));
            let is_server = running.iter().any(|c| self.is_server(c) && c.labels.get(SERVICE) == Some(service));
            if has_container || is_server || told(service) {
                continue;
            }
            if let Some(place) = self.given_to(settings, directory) {
                scan.unknown.insert(Found { thing: Thing::Service, name: service.clone(), place });
            }
        }
    }

    /// By which file or variable a service would have it.
    fn given_to(&self, settings: &Value, directory: &Path) -> Option<String> {
        let text = settings.to_string();
        let files: Vec<PathBuf> = env_files(settings).into_iter().map(|name| real(&directory.join(name))).collect();
        self.rotation.consumers.iter().find_map(|consumer| match &consumer.told {
            Told::EnvFile { path, .. } if files.contains(&real(path)) => Some(format!("env_file {}", path.display())),
            Told::EnvFile { path, variables, .. } if path.parent().is_some_and(|parent| real(parent) == *directory) => {
                let used = variables.iter().find(|variable| is_used(&text, variable));
                used.map(|variable| format!("variable {variable} of {}", path.display()))
            }
            _ => None,
        })
    }
}

/// Those in which a service may be described.
fn files_of(service: &ComposeService) -> impl Iterator<Item = PathBuf> {
    let usual = USUAL.iter().map(|name| service.directory.join(name)).filter(|path| path.exists());
    usual.chain(service.file.clone())
}

/// Whether a service is given this variable of this file, as the files of its project say.
pub(super) fn is_given(service: &ComposeService, file: &Path, variable: &str) -> bool {
    files_of(service).any(|path| {
        let text = read(&path).ok().flatten();
        let document = text.and_then(|text| serde_saphyr::from_str::<Value>(&text).ok());
        document.is_some_and(|document| {
            let settings = &document["services"][service.service.as_str()];
            let is_file = |name: &String| real(&service.directory.join(name)) == real(file);
            env_files(settings).iter().any(is_file) && !sets(&settings["environment"], variable)
        })
    })
}

/// What the service itself says of a variable goes before what a file says.
fn sets(environment: &Value, variable: &str) -> bool {
    let is_it = |text: &str| text.split('=').next() == Some(variable);
    environment.get(variable).is_some()
        || environment.as_array().into_iter().flatten().filter_map(Value::as_str).any(is_it)
}

/// `$NAME`, `${NAME}`, `${NAME:-…}`.
pub(super) fn is_used(text: &str, variable: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let bare = text.match_indices('$').map(|(at, _)| text[at + 1..].trim_start_matches('{'));
    bare.filter_map(|rest| rest.strip_prefix(variable)).any(ends)
}

fn texts(value: &Value) -> Vec<String> {
    let one = |value: &Value| value.as_str().or_else(|| value["path"].as_str()).map(str::to_owned);
    match value {
        Value::Array(all) => all.iter().filter_map(one).collect(),
        value => one(value).into_iter().collect(),
    }
}

fn env_files(settings: &Value) -> Vec<String> {
    texts(&settings["env_file"])
}

/// Files that the project names: of variables, secrets and configurations.
fn named_files(document: &Value) -> Vec<String> {
    let services = document["services"].as_object().into_iter().flatten().flat_map(|(_, service)| env_files(service));
    let kinds = ["secrets", "configs"].into_iter().filter_map(|kind| document[kind].as_object());
    let files = kinds.flatten().filter_map(|(_, thing)| thing["file"].as_str().map(str::to_owned));
    services.chain(files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_told_from_those_that_begin_alike() {
        for text in ["a ${DB} b", "$DB", "${DB:-x}", "x$DB.y"] {
            assert!(is_used(text, "DB"), "{text}");
        }
        for text in ["$DB_HOST", "${DBX}", "DB", ""] {
            assert!(!is_used(text, "DB"), "{text}");
        }
    }

    #[test]
    fn a_service_is_given_what_it_does_not_say_itself() {
        let directory = tempfile::tempdir().unwrap();
        let service = |name: &str| ComposeService {
            directory: directory.path().to_owned(),
            project: None,
            file: None,
            service: name.to_owned(),
        };
        let project = "services:\n  web: { env_file: [.env, worker.env] }\n  own: { env_file: worker.env, environment: { PW: x } }\n  listed: { env_file: worker.env, environment: [PW=x] }\n  other: { env_file: .env }\n";
        std::fs::write(directory.path().join("compose.yaml"), project).unwrap();
        let file = directory.path().join("worker.env");
        assert!(is_given(&service("web"), &file, "PW") && is_given(&service("own"), &file, "PWD"));
        for name in ["own", "listed", "other", "nobody"] {
            assert!(!is_given(&service(name), &file, "PW"), "{name}");
        }
    }

    #[test]
    fn files_of_a_project_are_found_in_every_form() {
        let project = "services:\n  a: { env_file: a.env }\n  b: { env_file: [b.env, { path: c.env, required: false }] }\nsecrets:\n  db: { file: ./db }\n  x: { external: true }\n";
        let document: Value = serde_saphyr::from_str(project).unwrap();
        assert_eq!(named_files(&document), ["a.env", "b.env", "c.env", "./db"]);
    }
}
