//! A service of a Compose project: made again, which alone lets it read its variables anew; restarted, which lets it see a file
//! that was exchanged; or sent a signal.
//!
//! Compose makes a container again only when something changed, so doing it twice is harmless. What depends on the service is
//! left alone.

use super::docker::{LIMIT, Restarts, docker, trouble_of_all};
use super::{LOOK, Reload};
use crate::engine::Credential;
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::policy::{ComposeService, How};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const LABELS: &str = "{{.Label \"com.docker.compose.project\"}}\t{{.Label \"com.docker.compose.oneoff\"}}\t{{.Label \"com.docker.compose.project.working_dir\"}}";
const MADE: &str = "{{index .Config.Labels \"com.docker.compose.config-hash\"}} {{.Image}} {{.Config.Image}}";

pub struct Compose {
    service: ComposeService,
    how: How,
}

impl Compose {
    pub fn new(service: &ComposeService, how: &How) -> Self {
        Compose { service: service.clone(), how: how.clone() }
    }

    pub fn service(&self) -> &str {
        &self.service.service
    }

    pub fn compose(&self, arguments: &[&str], limit: Duration, cancel: &Cancel) -> Result<String> {
        let directory = self.service.directory.display().to_string();
        let file = self.service.file.as_ref().map(|file| file.display().to_string());
        let mut words = vec!["compose", "--project-directory", &directory];
        let given = [("--project-name", self.service.project.as_deref()), ("--file", file.as_deref())];
        words.extend(given.into_iter().filter_map(|(option, value)| Some([option, value?])).flatten());
        docker(&[&words[..], arguments].concat(), None, limit, cancel)
    }

    /// The name by which Compose takes the project that is told, and those by which its containers run.
    fn projects(&self, cancel: &Cancel) -> Result<(String, BTreeSet<String>)> {
        let told = self.compose(&["config", "--format", "json"], LOOK, cancel)?;
        let told: Value =
            serde_json::from_str(&told).map_err(|_| Failure::failed("docker compose config gave no JSON"))?;
        let name = told["name"].as_str().unwrap_or_default().to_owned();
        let filter = format!("label=com.docker.compose.service={}", self.service.service);
        let listed = docker(&["ps", "--all", "--filter", &filter, "--format", LABELS], None, LOOK, cancel)?;
        let directory = self.service.directory.canonicalize().unwrap_or_else(|_| self.service.directory.clone());
        let running = listed.lines().filter_map(|line| {
            let [project, once, path] = line.splitn(3, '\t').collect::<Vec<_>>().try_into().ok()?;
            let path = Path::new(path).canonicalize().unwrap_or_else(|_| path.into());
            (once != "True" && (path == directory || project == name)).then(|| project.to_owned())
        });
        Ok((name.clone(), running.collect()))
    }

    /// What `up` would take up besides, because it was changed since the containers were made.
    fn changed(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let service = &self.service.service;
        let told = self.compose(&["config", "--hash", service], LOOK, cancel)?;
        let listed = self.compose(&["ps", "--quiet", service], LOOK, cancel)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let made = docker(&[&["inspect", "--format", MADE], &ids[..]].concat(), None, LOOK, cancel)?;
        let mut notes = BTreeSet::new();
        for line in made.lines() {
            let [hash, image, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { continue };
            if told.split_whitespace().last().is_some_and(|wanted| wanted != hash) {
                notes.insert("its project was changed since it was started, and `up` takes that up, too".to_owned());
            }
            // A tag that is gone means nothing else.
            let now = docker(&["image", "inspect", "--format", "{{.Id}}", name], None, LOOK, cancel);
            if now.is_ok_and(|now| now.trim() != image) {
                notes.insert(format!("{name} is another image now, and `up` takes that up, too"));
            }
        }
        Ok(notes.into_iter().collect())
    }

    fn words(&self) -> Vec<&str> {
        let mut words = match &self.how {
            How::Recreate | How::OneByOne { .. } => vec!["up", "--detach", "--no-deps"],
            How::Restart => vec!["restart", "--no-deps"],
            How::Signal(signal) => vec!["kill", "--signal", signal],
        };
        words.push(&self.service.service);
        words
    }
}

impl Reload for Compose {
    /// Under another name Compose would make a second copy, and leave alone the one that runs.
    fn preflight(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let ComposeService { service, directory, project, .. } = &self.service;
        let (name, running) = self.projects(cancel)?;
        let refused = |what: String, hint: String| Err(Failure::new(Kind::Refused, what).hint(hint));
        let other = running.iter().find(|other| **other != name).filter(|_| project.is_none());
        match (running.contains(&name), other) {
            (true, None) => {}
            (false, None) => {
                return refused(
                    format!("the service {service} in {} has no container in the project {name}", directory.display()),
                    format!("Start it: docker compose up -d {service}; or correct `compose` of the consumer"),
                );
            }
            (_, Some(other)) => {
                return refused(
                    format!(
                        "{service} in {} runs as the project {other}, and Compose takes it for {name}",
                        directory.display()
                    ),
                    format!(
                        "Say which one is meant: `compose: {{ directory: {}, service: {service}, project: {other} }}`; where both run, each is a consumer",
                        directory.display()
                    ),
                );
            }
        }
        if matches!(self.how, How::Recreate) { self.changed(cancel) } else { Ok(Vec::new()) }
    }

    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        self.compose(&self.words(), LIMIT, cancel).map(drop)
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let listed = self.compose(&["ps", "--all", "--quiet", &self.service.service], LOOK, cancel)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Some(format!("the service {} has no container", self.service.service)));
        }
        let restarts = if matches!(self.how, How::Signal(_)) { Restarts::Ignore } else { Restarts::Count };
        trouble_of_all(&ids, restarts, cancel)
    }

    fn describe(&self) -> String {
        format!("docker compose {} in {}", self.words().join(" "), self.service.directory.display())
    }
}
