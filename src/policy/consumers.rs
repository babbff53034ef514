//! Who uses a password that is rotated: how each is told, how it takes the password up, how it is seen to work.

use super::convert::{absolute, not_empty};
use super::problem::Place;
use super::raw;
use super::reading::{Field, Named, Reader};
use super::told_variables;
use super::values::{self, duration_text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Something that uses the password.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    pub name: String,
    pub told: Told,
    pub reload: Reload,
    /// A command that ends well when the consumer works.
    pub check: Option<Vec<String>>,
    pub patience: Duration,
}

/// How a consumer learns the password.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It reads what is published, or is told by the command that reloads it.
    Published,
    EnvFile {
        path: PathBuf,
        variables: Vec<String>,
        /// Those that are the user, where it changes with the password.
        user_variables: Vec<String>,
    },
    SecretFile(PathBuf),
    Swarm(SwarmService),
    Kubernetes(Workload),
}

impl Told {
    /// The variables by which it is told, of secrets and users.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let (variables, users) = match self {
            Told::EnvFile { variables, user_variables, .. } => (variables.as_slice(), user_variables.as_slice()),
            Told::SecretFile(_) | Told::Swarm(_) | Told::Kubernetes(_) | Told::Published => Default::default(),
        };
        variables.iter().chain(users).map(String::as_str)
    }

    /// The file that it is told by, which may tell others, too.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Told::EnvFile { path, .. } | Told::SecretFile(path) => Some(path),
            Told::Swarm(_) | Told::Kubernetes(_) | Told::Published => None,
        }
    }

    /// The file of variables that it is told by.
    pub fn env_file(&self) -> Option<&Path> {
        match self {
            Told::EnvFile { path, .. } => Some(path),
            Told::SecretFile(_) | Told::Swarm(_) | Told::Kubernetes(_) | Told::Published => None,
        }
    }
}

/// How a consumer takes up what it was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    Compose(ComposeService, How),
    Container { name: String, signal: Option<String> },
    Swarm(SwarmService),
    Kubernetes(Workload),
    Command(Vec<String>),
}

impl Reload {
    /// Of Compose.
    pub fn service(&self) -> Option<&ComposeService> {
        match self {
            Reload::Compose(service, _) => Some(service),
            Reload::Container { .. } | Reload::Swarm(_) | Reload::Kubernetes(_) | Reload::Command(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ComposeService {
    pub directory: PathBuf,
    pub project: Option<String>,
    pub file: Option<PathBuf>,
    pub service: String,
}

/// A service of Docker Swarm.
#[derive(Clone, Debug, PartialEq)]
pub struct SwarmService {
    pub service: String,
    /// What it is given, by the name people gave it.
    pub secret: Option<String>,
}

/// Pods that are made from one template.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub cluster: Cluster,
    pub namespace: String,
    pub kind: WorkloadKind,
    pub name: String,
    /// The Secret that they are given, and its key.
    pub secret: Option<(String, String)>,
    /// The key that is the user, where the name changes with the secret.
    pub user_key: Option<String>,
}

/// Where the API of Kubernetes is; what is absent is that of the cluster bkp runs in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    pub server: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
}

impl WorkloadKind {
    /// As `kubectl` takes it.
    pub fn word(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::StatefulSet => "statefulset",
        }
    }

    /// As it stands in paths of the API.
    pub fn plural(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployments",
            WorkloadKind::StatefulSet => "statefulsets",
        }
    }
}

/// What is done to the containers of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// Made again, which alone lets them see variables that changed.
    Recreate,
    /// Stopped and started, which lets them see a file that was exchanged.
    Restart,
    Signal(String),
    /// A new one first; then an old one is told to end, and is waited for.
    OneByOne {
        /// Run in a new one until it ends well.
        ready: Option<Vec<String>>,
        grace: Duration,
    },
}

const PATIENCE: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(600);

impl Reader<'_> {
    pub(super) fn consumers(&self, field: &Field<Named<raw::Consumer>>) -> Vec<Consumer> {
        let Some(Named(entries)) = &field.value else { return Vec::new() };
        if entries.is_empty() {
            self.wrong::<()>(field.place, "a password that nobody uses need not be rotated: name who uses it");
        }
        entries.iter().filter_map(|(key, value)| self.consumer(key, value)).collect()
    }

    fn consumer(&self, key: &Field<String>, field: &Field<raw::Consumer>) -> Option<Consumer> {
        let (name, raw) = (key.value.as_deref()?, field.value.as_ref()?);
        if let Err(message) = values::name(name) {
            self.wrong::<()>(key.place, message);
        }
        let workload = raw.kubernetes.as_ref().map(|field| self.workload(field));
        let swarm = raw.swarm.as_ref().map(|field| self.swarm(field));
        let by_itself = match (workload.clone(), swarm.clone()) {
            (Some(workload), _) => Some(workload.map(Reload::Kubernetes)),
            (None, swarm) => swarm.map(|service| service.map(Reload::Swarm)),
        };
        let told = self.told(field, raw, workload.flatten(), swarm.flatten());
        let reload = match by_itself {
            Some(reload) => reload.filter(|_| self.only_way(raw) == 1),
            None => self.reload(field, raw, &told),
        };
        let patience = self.text(&raw.patience, values::duration).unwrap_or(PATIENCE);
        Some(Consumer { name: name.to_owned(), told, reload: reload?, check: self.words(&raw.check), patience })
    }

    fn told(
        &self,
        field: &Field<raw::Consumer>,
        raw: &raw::Consumer,
        workload: Option<Workload>,
        swarm: Option<SwarmService>,
    ) -> Told {
        if raw.env_file.is_some() != raw.variable.is_some() {
            self.note_missing(field.place, "`env_file` and `variable` belong together", "give both, or neither");
        }
        let workload = workload.filter(|workload| workload.secret.is_some());
        let swarm = swarm.filter(|service| service.secret.is_some());
        let of_workload = raw.kubernetes.as_ref().filter(|_| workload.is_some()).map(|field| field.place);
        let of_swarm = raw.swarm.as_ref().filter(|_| swarm.is_some()).map(|field| field.place);
        let ways = [
            ("env_file", raw.env_file.as_ref().map(|field| field.place)),
            ("secret_file", raw.secret_file.as_ref().map(|field| field.place)),
            ("swarm", of_swarm),
            ("kubernetes", of_workload),
        ];
        self.one_of(ways.into_iter());
        let path = self.text(&raw.env_file, absolute);
        let variables = self.variables(&raw.variable);
        let user_variables = self.variables(&raw.user_variable).unwrap_or_default();
        let env_file = |(path, variables)| Told::EnvFile { path, variables, user_variables };
        let file = path.zip(variables).map(env_file);
        file.or_else(|| self.text(&raw.secret_file, absolute).map(Told::SecretFile))
            .or_else(|| workload.map(Told::Kubernetes))
            .or_else(|| swarm.map(Told::Swarm))
            .unwrap_or(Told::Published)
    }

    /// How many of these are here; a second one is wrong.
    fn one_of(&self, ways: impl Iterator<Item = (&'static str, Option<Place>)>) -> usize {
        let given: Vec<_> = ways.filter_map(|(key, place)| Some((key, place?))).collect();
        if let [(one, _), (other, place), ..] = given[..] {
            self.wrong::<()>(place, format!("`{one}` and `{other}` are both here; keep one of them"));
        }
        given.len()
    }

    fn only_way(&self, raw: &raw::Consumer) -> usize {
        self.one_of(
            [
                ("compose", raw.compose.as_ref().map(|field| field.place)),
                ("container", raw.container.as_ref().map(|field| field.place)),
                ("swarm", raw.swarm.as_ref().map(|field| field.place)),
                ("kubernetes", raw.kubernetes.as_ref().map(|field| field.place)),
                ("command", raw.command.as_ref().map(|field| field.place)),
            ]
            .into_iter(),
        )
    }

    fn reload(&self, field: &Field<raw::Consumer>, raw: &raw::Consumer, told: &Told) -> Option<Reload> {
        match self.only_way(raw) {
            0 => {
                let help =
                    "add `compose: { directory: /srv/shop, service: web }`, or `command: [systemctl, restart, shop]`";
                self.note_missing(field.place, "it is not said how this consumer takes up a new password", help);
            }
            1 => {}
            _ => return None,
        }
        match (&raw.compose, &raw.container) {
            (Some(compose), _) => self.compose(compose, told),
            (None, Some(container)) => self.container(container, told),
            (None, None) => self.words(&raw.command).map(Reload::Command),
        }
    }

    fn words(&self, field: &Option<Field<Vec<Field<String>>>>) -> Option<Vec<String>> {
        let field = field.as_ref()?;
        let words: Option<Vec<String>> = field.value.as_ref()?.iter().map(|word| word.value.clone()).collect();
        words
            .filter(|words| !words.is_empty())
            .or_else(|| self.wrong(field.place, "expected a command, as in [systemctl, restart, shop]"))
    }

    fn compose(&self, field: &Field<raw::Compose>, told: &Told) -> Option<Reload> {
        let raw = field.value.as_ref()?;
        if raw.directory.is_none() || raw.service.is_none() {
            let help = "compose: { directory: /srv/shop, service: web }";
            self.note_missing(field.place, "`compose` needs the directory of the project and a service", help);
        }
        let signal = self.signal(&raw.signal, told);
        let one_by_one = self.one_by_one(raw);
        let service = ComposeService {
            directory: self.text(&raw.directory, absolute)?,
            project: self.text(&raw.project, word),
            file: self.text(&raw.file, absolute),
            service: self.text(&raw.service, word)?,
        };
        let how = match (one_by_one, signal, told) {
            (Some(how), ..) => how,
            (None, Some(signal), _) => How::Signal(signal),
            (None, None, Told::EnvFile { .. }) => How::Recreate,
            (None, None, _) => How::Restart,
        };
        Some(Reload::Compose(service, how))
    }

    fn one_by_one(&self, raw: &raw::Compose) -> Option<How> {
        let ready = self.words(&raw.ready);
        let grace = self.text(&raw.grace, values::duration);
        if raw.one_by_one.as_ref().and_then(|field| field.value) != Some(true) {
            let given = [raw.ready.as_ref().map(|field| field.place), raw.grace.as_ref().map(|field| field.place)];
            let given = given.into_iter().flatten().next();
            return given.and_then(|place| self.wrong(place, "this means nothing without `one_by_one: true`"));
        }
        if let Some(signal) = &raw.signal {
            return self.wrong(signal.place, "`one_by_one` and `signal` are both here; keep one of them");
        }
        Some(How::OneByOne { ready, grace: grace.unwrap_or(GRACE) })
    }

    fn swarm(&self, field: &Field<raw::Swarm>) -> Option<SwarmService> {
        let raw = field.value.as_ref()?;
        if raw.service.is_none() {
            let help = "swarm: { service: shop_web, secret: db_password }";
            self.note_missing(field.place, "`swarm` needs a service", help);
        }
        Some(SwarmService { secret: self.text(&raw.secret, object_name), service: self.text(&raw.service, word)? })
    }

    fn container(&self, field: &Field<raw::Container>, told: &Told) -> Option<Reload> {
        let raw = field.value.as_ref()?;
        if raw.name.is_none() {
            self.note_missing(field.place, "`container` needs a name", "container: { name: shop-web-1 }");
        }
        if let Told::EnvFile { .. } = told {
            let help = "name the Compose service, or a command that makes it again";
            return self.wrong_with_help(field.place, "a restart does not let a container see other variables", help);
        }
        Some(Reload::Container { name: self.text(&raw.name, word)?, signal: self.signal(&raw.signal, told) })
    }

    fn workload(&self, field: &Field<raw::Workload>) -> Option<Workload> {
        let raw = field.value.as_ref()?;
        let kinds = [
            ("deployment", raw.deployment.as_ref().map(|field| field.place)),
            ("stateful_set", raw.stateful_set.as_ref().map(|field| field.place)),
        ];
        if self.one_of(kinds.into_iter()) == 0 || raw.namespace.is_none() {
            let help = "kubernetes: { namespace: shop, deployment: web, secret: shop-db, key: password }";
            self.note_missing(field.place, "`kubernetes` needs a namespace and a deployment or stateful_set", help);
        }
        if raw.secret.is_some() != raw.key.is_some() {
            self.note_missing(field.place, "`secret` and `key` belong together", "give both, or neither");
        }
        let deployment = self.text(&raw.deployment, object_name).map(|name| (WorkloadKind::Deployment, name));
        let set = || self.text(&raw.stateful_set, object_name).map(|name| (WorkloadKind::StatefulSet, name));
        let (kind, name) = deployment.or_else(set)?;
        let key = self.text(&raw.key, |text| not_empty(text, "a key"));
        let cluster = Cluster {
            server: self.text(&raw.server, server),
            ca_file: self.text(&raw.ca_file, absolute),
            token_file: self.text(&raw.token_file, absolute),
        };
        let secret = self.text(&raw.secret, object_name).zip(key);
        let user_key = self.text(&raw.user_key, |text| not_empty(text, "a key"));
        Some(Workload { user_key, cluster, namespace: self.text(&raw.namespace, object_name)?, kind, name, secret })
    }

    fn signal(&self, field: &Option<Field<String>>, told: &Told) -> Option<String> {
        let signal = self.text(field, |text| {
            let bare = text.strip_prefix("SIG").unwrap_or(text);
            match SIGNALS.contains(&bare) {
                true => Ok(bare.to_owned()),
                false => Err(format!("expected one of {}", SIGNALS.join(", "))),
            }
        })?;
        match (told, field) {
            (Told::EnvFile { .. }, Some(field)) => {
                self.wrong(field.place, "a signal does not let a process see other variables: leave it out")
            }
            _ => Some(signal),
        }
    }
}

/// Those by which programs are told to read their settings anew.
const SIGNALS: [&str; 4] = ["HUP", "USR1", "USR2", "WINCH"];

fn word(text: &str) -> Result<String, String> {
    match text.starts_with('-') {
        true => Err("expected a name, which does not begin with `-`".into()),
        false => not_empty(text, "a name"),
    }
}

/// They go into paths, labels, and names that are a little longer.
fn object_name(text: &str) -> Result<String, String> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    match text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && text.len() <= 50 && text.bytes().all(sound)
    {
        true => Ok(text.to_owned()),
        false => Err("expected a name of at most 50 letters, digits, `-`, `.` and `_`".into()),
    }
}

fn server(text: &str) -> Result<String, String> {
    match text.starts_with("https://") && !text.contains(['@', '?', ' ']) {
        true => Ok(text.to_owned()),
        false => Err("expected the address of the API, such as https://10.0.0.1:6443".into()),
    }
}

/// For showing: what is not said counts too.
pub fn shown(consumer: &Consumer) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    match &consumer.told {
        Told::Published | Told::Swarm(_) | Told::Kubernetes(_) => {}
        Told::EnvFile { path, variables, user_variables } => {
            let users = Some(user_variables).filter(|users| !users.is_empty());
            all.extend(users.map(|users| ("user_variable", told_variables::shown(users))));
            all.extend([("env_file", json!(path)), ("variable", told_variables::shown(variables))]);
        }
        Told::SecretFile(path) => all.push(("secret_file", json!(path))),
    }
    all.push(match &consumer.reload {
        Reload::Compose(service, how) => {
            let done = match how {
                How::Recreate => "made again".to_owned(),
                How::Restart => "restarted".to_owned(),
                How::Signal(signal) => format!("sent {signal}"),
                How::OneByOne { grace, .. } => {
                    format!("replaced one by one, each ended within {}", duration_text(*grace))
                }
            };
            ("compose", json!(format!("{} of {}, {done}", service.service, service.directory.display())))
        }
        Reload::Container { name, signal: None } => ("container", json!(format!("{name}, restarted"))),
        Reload::Container { name, signal: Some(signal) } => ("container", json!(format!("{name}, sent {signal}"))),
        Reload::Swarm(SwarmService { service, secret: None }) => ("swarm", json!(format!("{service}, made anew"))),
        Reload::Swarm(SwarmService { service, secret: Some(secret) }) => {
            ("swarm", json!(format!("{service}, given the secret {secret}")))
        }
        Reload::Kubernetes(workload) => {
            let secret = workload.secret.as_ref();
            let told = secret.map_or_else(String::new, |(name, key)| format!(", given {key} of the Secret {name}"));
            let (kind, namespace) = (workload.kind.word(), &workload.namespace);
            ("kubernetes", json!(format!("{kind} {} of {namespace}{told}", workload.name)))
        }
        Reload::Command(words) => ("command", json!(words)),
    });
    all.extend(consumer.check.as_ref().map(|check| ("check", json!(check))));
    all.push(("patience", json!(duration_text(consumer.patience))));
    all
}
