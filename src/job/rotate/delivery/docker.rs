//! The `docker` program, for what Compose, containers and services are told; and how a container is seen to work.

use super::{LOOK, run};
use crate::error::Result;
use crate::event::Cancel;
use crate::secret::Secret;
use std::time::Duration;

/// Until the engine has made or restarted what it was told.
pub const LIMIT: Duration = Duration::from_secs(10 * 60);
/// What leads `docker` to its engine, and nothing that could stand in for a project's own variables.
const PASSED_ON: [&str; 5] =
    ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"];
const STATE: &str = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{.RestartCount}}";

/// What it says on standard output.
pub fn docker(words: &[&str], input: Option<Secret>, limit: Duration, cancel: &Cancel) -> Result<String> {
    let words: Vec<String> = ["docker"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let passed_on: Vec<_> = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect();
    run(&words, input, &passed_on, limit, cancel)
}

/// Whether a container that was started again since it was made is one that does not work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restarts {
    Count,
    /// It may have been started again long before.
    Ignore,
}

/// Why one of these containers does not work.
pub fn trouble_of_all(ids: &[&str], restarts: Restarts, cancel: &Cancel) -> Result<Option<String>> {
    match docker(&[&["inspect", "--format", STATE], ids].concat(), None, LOOK, cancel) {
        Ok(told) => {
            Ok(told.lines().find_map(|line| trouble_of(line, restarts).map(|why| format!("its container {why}"))))
        }
        // It may have been made again in between.
        Err(failure) => cancel.check().map(|()| Some(failure.full())),
    }
}

/// Of one container.
fn trouble_of(line: &str, restarts: Restarts) -> Option<String> {
    let mut words = line.split_whitespace();
    let (state, health) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let again = words.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match (state, health) {
        ("running", "-" | "healthy") if again == 0 || restarts == Restarts::Ignore => None,
        ("running", "-" | "healthy") => Some(format!("was started again {again} times")),
        ("running", health) => Some(format!("is {health}")),
        (state, _) => Some(format!("is {state}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_works_when_it_runs_and_is_not_unwell() {
        let trouble = |line| trouble_of(line, Restarts::Count);
        assert_eq!(trouble("running healthy 0"), None);
        assert_eq!(trouble("running - 0"), None);
        assert_eq!(trouble("running starting 0").unwrap(), "is starting");
        assert_eq!(trouble("running unhealthy 0").unwrap(), "is unhealthy");
        assert_eq!(trouble("restarting - 3").unwrap(), "is restarting");
        assert_eq!(trouble("running - 2").unwrap(), "was started again 2 times");
        assert_eq!(trouble_of("running - 2", Restarts::Ignore), None);
    }
}
