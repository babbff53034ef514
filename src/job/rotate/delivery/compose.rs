//! A service of a Compose project: made again by Compose, which alone makes it read its variables anew; `restart` does not.
//!
//! Compose makes a container again only when something changed, so doing it twice is harmless. What depends on the service is
//! left alone.

use super::{LOOK, Reload, run};
use crate::engine::Credential;
use crate::error::Result;
use crate::event::Cancel;
use std::path::Path;
use std::time::Duration;

/// Until Compose has made the container.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// What leads `docker` to its engine, and nothing that could stand in for the project's own variables.
const PASSED_ON: [&str; 5] =
    ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"];
const STATE: &str = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{.RestartCount}}";

pub struct Compose {
    words: Vec<String>,
    service: String,
    directory: String,
}

impl Compose {
    pub fn new(directory: &Path, project: Option<&str>, file: Option<&Path>, service: &str) -> Self {
        let directory = directory.display().to_string();
        let mut words: Vec<String> = ["docker", "compose", "--project-directory", &directory].map(str::to_owned).into();
        let file = file.map(|file| file.display().to_string());
        let given = [("--project-name", project.map(str::to_owned)), ("--file", file)];
        words.extend(given.into_iter().filter_map(|(option, value)| Some([option.to_owned(), value?])).flatten());
        Compose { words, service: service.to_owned(), directory }
    }

    fn compose(&self, arguments: &[&str], limit: Duration, cancel: &Cancel) -> Result<String> {
        let words: Vec<String> =
            self.words.iter().cloned().chain(arguments.iter().map(|word| (*word).to_owned())).collect();
        run(&words, None, &passed_on(), limit, cancel)
    }
}

fn passed_on() -> Vec<(&'static str, String)> {
    PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect()
}

impl Reload for Compose {
    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        self.compose(&["up", "--detach", "--no-deps", &self.service], LIMIT, cancel).map(drop)
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let listed = self.compose(&["ps", "--all", "--quiet", &self.service], LOOK, cancel)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Some(format!("the service {} has no container", self.service)));
        }
        let words: Vec<String> =
            ["docker", "inspect", "--format", STATE].into_iter().chain(ids).map(str::to_owned).collect();
        let told = match run(&words, None, &passed_on(), LOOK, cancel) {
            Ok(told) => told,
            // It may have been made again in between.
            Err(failure) => return cancel.check().map(|()| Some(failure.full())),
        };
        Ok(told.lines().find_map(|line| trouble_of(line).map(|why| format!("its container {why}"))))
    }

    fn describe(&self) -> String {
        format!("docker compose up -d --no-deps {} in {}", self.service, self.directory)
    }
}

/// Of one container.
fn trouble_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (state, health) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let restarts = words.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match (state, health, restarts) {
        ("running", "-" | "healthy", 0) => None,
        ("running", "-" | "healthy", again) => Some(format!("was started again {again} times")),
        ("running", health, _) => Some(format!("is {health}")),
        (state, _, _) => Some(format!("is {state}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_works_when_it_runs_and_is_not_unwell() {
        assert_eq!(trouble_of("running healthy 0"), None);
        assert_eq!(trouble_of("running - 0"), None);
        assert_eq!(trouble_of("running starting 0").unwrap(), "is starting");
        assert_eq!(trouble_of("running unhealthy 0").unwrap(), "is unhealthy");
        assert_eq!(trouble_of("restarting - 3").unwrap(), "is restarting");
        assert_eq!(trouble_of("running - 2").unwrap(), "was started again 2 times");
    }
}
