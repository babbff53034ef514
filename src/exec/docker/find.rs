//! Which container a [`Selector`] means: exactly one that runs, or a failure that says what was found instead.

use super::connect::ask;
use super::{Container, Docker, Image, Selector};
use crate::error::{Failure, Result};
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};
use bollard::query_parameters::ListContainersOptions;
use std::collections::HashMap;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";
/// How alike a name must be to be proposed.
const LIKE: f64 = 0.6;

/// What the list of containers tells of one.
#[derive(Clone, Debug)]
struct Seen {
    id: String,
    name: String,
    state: String,
    labels: HashMap<String, String>,
}

impl Seen {
    fn of(summary: ContainerSummary) -> Self {
        let names = summary.names.unwrap_or_default();
        // A link gives a container further names, with more than one `/`.
        let name = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
        let id = summary.id.unwrap_or_default();
        Seen {
            name: name.unwrap_or(&id).to_owned(),
            id,
            state: summary.state.map(|state| state.to_string()).unwrap_or_default(),
            labels: summary.labels.unwrap_or_default(),
        }
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    fn fits(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Name(name) => {
                let hex = name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
                self.name == name.trim_start_matches('/') || (hex && self.id.starts_with(name.as_str()))
            }
            Selector::Compose { project, service } => {
                self.label(PROJECT) == Some(project) && self.label(SERVICE) == Some(service)
            }
            Selector::Label { key, value } => self.label(key) == Some(value),
            Selector::Swarm { service } => self.label(SWARM_SERVICE) == Some(service),
        }
    }

    /// What of it could have been meant instead.
    fn namesake(&self, selector: &Selector) -> Option<&str> {
        match selector {
            Selector::Name(_) => Some(&self.name),
            Selector::Compose { project, .. } if self.label(PROJECT) == Some(project) => self.label(SERVICE),
            Selector::Compose { .. } => None,
            Selector::Label { key, .. } => self.label(key),
            Selector::Swarm { .. } => self.label(SWARM_SERVICE),
        }
    }
}

/// Exactly one: the one that runs, or the one there is.
fn choose<'a>(selector: &Selector, all: &'a [Seen]) -> Result<&'a Seen> {
    let fitting: Vec<&Seen> = all.iter().filter(|seen| seen.fits(selector)).collect();
    // A container whose name is that of another one's id is unlikely, but a name comes first.
    let named = fitting.iter().find(|seen| matches!(selector, Selector::Name(name) if seen.name == *name));
    let running: Vec<&Seen> = fitting.iter().filter(|seen| seen.state == "running").copied().collect();
    match (named, running.as_slice(), fitting.as_slice()) {
        (Some(one), _, _) | (_, [one], _) | (_, [], [one]) => Ok(one),
        (_, _, []) => Err(unknown(selector, all)),
        (_, [], several) => {
            Err(Failure::failed(format!("none of the containers of {selector} runs: {}", list(several)))
                .hint("Start one of them, or name one"))
        }
        (_, several, _) => {
            Err(Failure::usage(format!("{selector} is not one container: {}", list(several))).hint("Name one of them"))
        }
    }
}

fn list(several: &[&Seen]) -> String {
    let mut names: Vec<String> = several.iter().map(|seen| format!("{} ({})", seen.name, seen.state)).collect();
    names.sort();
    names.join(", ")
}

fn unknown(selector: &Selector, all: &[Seen]) -> Failure {
    let failure = Failure::usage(format!("there is no {selector}"));
    let wanted = match selector {
        Selector::Name(wanted) | Selector::Compose { service: wanted, .. } => wanted,
        Selector::Label { value: wanted, .. } | Selector::Swarm { service: wanted } => wanted,
    };
    let likeness = |name: &str| match name.contains(wanted.as_str()) && !wanted.is_empty() {
        true => 1.0,
        false => strsim::normalized_damerau_levenshtein(wanted, name),
    };
    let mut near: Vec<&str> = all.iter().filter_map(|seen| seen.namesake(selector)).collect();
    near.retain(|name| likeness(name) >= LIKE);
    near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)).then(a.cmp(b)));
    near.dedup();
    near.truncate(3);
    if near.is_empty() {
        return failure.hint("List what is there: docker ps --all");
    }
    failure.hint(format!("Is it one of these: {}?", near.join(", ")))
}

impl Docker {
    /// The one running container that `selector` means.
    pub fn find(&self, selector: &Selector) -> Result<Container> {
        let all = self.list_all()?;
        let seen: Vec<Seen> = all.into_iter().map(Seen::of).collect();
        let chosen = choose(selector, &seen)?;
        let what = || format!("cannot look at container {}", chosen.name);
        let details = ask(what, self.client.inspect_container(&chosen.id, None))?;
        if let Some(failure) = not_ready(&chosen.name, &details) {
            return Err(failure);
        }
        let id = details.image.clone().unwrap_or_default();
        let name = details.config.and_then(|config| config.image).unwrap_or_default();
        let image = Image { name, digest: self.digest(&id).unwrap_or(id) };
        let health = details.state.and_then(|state| state.health).and_then(|health| health.status);
        let health = health.map(|status| status.to_string()).filter(|status| !status.is_empty() && status != "none");
        Ok(Container::new(self.clone(), chosen.id.clone(), chosen.name.clone(), image, health))
    }

    pub(super) fn list_all(&self) -> Result<Vec<ContainerSummary>> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        ask(|| "cannot list the containers".into(), self.client.list_containers(Some(options)))
    }

    /// Digest of an image in its registry. A proxy may keep images from being looked at.
    pub(super) fn digest(&self, image: &str) -> Option<String> {
        let details = ask(|| "cannot look at an image".into(), self.client.inspect_image(image)).ok()?;
        details.repo_digests?.into_iter().next()
    }

    /// Fails with the reason when the container with this id does not run.
    pub(super) fn must_run(&self, id: &str) -> Result<()> {
        let details = ask(|| "cannot look at a container".into(), self.client.inspect_container(id, None))?;
        let name = details.name.as_deref().unwrap_or(id).trim_start_matches('/').to_owned();
        not_ready(&name, &details).map_or(Ok(()), Err)
    }
}

/// Why no command can run in it.
fn not_ready(name: &str, details: &ContainerInspectResponse) -> Option<Failure> {
    let state = details.state.as_ref()?;
    let code = state.exit_code.unwrap_or_default();
    let since = state.finished_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let since = since.map(|at| format!(" since {}", at.strftime("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    let (what, hint) = match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => return None,
        Some(ContainerStateStatusEnum::PAUSED) => ("is paused".to_owned(), format!("docker unpause {name}")),
        Some(ContainerStateStatusEnum::RESTARTING) => {
            (format!("keeps restarting (last exit code {code})"), format!("See why: docker logs --tail 50 {name}"))
        }
        Some(ContainerStateStatusEnum::CREATED) => {
            ("was made but never started".to_owned(), format!("docker start {name}"))
        }
        Some(ContainerStateStatusEnum::EXITED) => (
            format!("is stopped{since} (exit code {code})"),
            format!("docker start {name}, or see why: docker logs {name}"),
        ),
        other => {
            let state = other.map(|state| state.to_string()).unwrap_or_default();
            (format!("does not run (it is `{state}`)"), format!("See why: docker logs {name}"))
        }
    };
    Some(Failure::failed(format!("container {name} {what}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, state: &str, labels: &[(&str, &str)]) -> Seen {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Seen { id: format!("{:0<64}", hex::encode(name)), name: name.into(), state: state.into(), labels }
    }

    fn stack() -> Vec<Seen> {
        vec![
            seen("shop-db-1", "running", &[(PROJECT, "shop"), (SERVICE, "db")]),
            seen("shop-web-1", "running", &[(PROJECT, "shop"), (SERVICE, "web")]),
            seen("shop-web-2", "running", &[(PROJECT, "shop"), (SERVICE, "web")]),
            seen("cache.1.old", "exited", &[(SWARM_SERVICE, "cache")]),
            seen("cache.1.new", "running", &[(SWARM_SERVICE, "cache")]),
            seen("mysql-auth", "exited", &[("bkp.source", "auth")]),
        ]
    }

    fn chosen(selector: &Selector) -> std::result::Result<String, (String, String)> {
        choose(selector, &stack())
            .map(|seen| seen.name.clone())
            .map_err(|failure| (failure.full(), failure.next_step().unwrap_or_default().to_owned()))
    }

    #[test]
    fn each_way_of_naming_finds_its_container() {
        let compose = Selector::Compose { project: "shop".into(), service: "db".into() };
        assert_eq!(chosen(&compose).unwrap(), "shop-db-1");
        assert_eq!(chosen(&Selector::Name("/shop-db-1".into())).unwrap(), "shop-db-1");
        assert_eq!(chosen(&Selector::Name(hex::encode("mysql-auth")[..12].into())).unwrap(), "mysql-auth");
        assert_eq!(chosen(&Selector::Swarm { service: "cache".into() }).unwrap(), "cache.1.new");
        let label = Selector::Label { key: "bkp.source".into(), value: "auth".into() };
        assert_eq!(chosen(&label).unwrap(), "mysql-auth");
    }

    #[test]
    fn several_are_listed() {
        let (text, _) = chosen(&Selector::Compose { project: "shop".into(), service: "web".into() }).unwrap_err();
        assert_eq!(
            text,
            "service web of project shop is not one container: shop-web-1 (running), shop-web-2 (running)"
        );
    }

    #[test]
    fn near_names_are_proposed() {
        let (text, hint) = chosen(&Selector::Name("mysql-aut".into())).unwrap_err();
        assert_eq!(
            (text.as_str(), hint.as_str()),
            ("there is no container mysql-aut", "Is it one of these: mysql-auth?")
        );
        let (_, hint) = chosen(&Selector::Compose { project: "shop".into(), service: "wbe".into() }).unwrap_err();
        assert_eq!(hint, "Is it one of these: web?");
        let (_, hint) = chosen(&Selector::Name("nothing-like-it".into())).unwrap_err();
        assert_eq!(hint, "List what is there: docker ps --all");
    }
}
