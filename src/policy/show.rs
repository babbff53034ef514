//! The configuration as it is in effect: every value, with the file and line it comes from, or `default`.
//!
//! Secrets are references in the configuration, and references are what is shown; what looks like a password among the
//! arguments of a command is hidden.

use super::auditing;
use super::mask;
use super::rehearsals;
use super::rotation_times;
use super::rotations;
use super::timing;
use super::values::{duration_text, size_text};
use super::watching;
use super::{
    Addressing, Carrier, Channel, Configuration, CopySettings, Keep, Labels, LockKeep, Origin, Policy, Rehearser,
    Source, StoreSettings, Topic,
};
use crate::engine::redis::Method;
use crate::engine::{Server, Settings, command};
use crate::exec::Place;
use crate::exec::docker::{Quiet, Selector};
use crate::store::LockMode;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

mod text;
mod vault;

/// One value in effect.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// The keys that lead to it.
    pub key: Vec<String>,
    pub value: Value,
    /// Absent for a default.
    pub origin: Option<Origin>,
}

/// All values in effect. `Display` is YAML with the origins as comments; serialized, it is the same as a list.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Shown(pub Vec<Setting>);

pub fn show(configuration: &Configuration) -> Shown {
    let mut showing = Showing { configuration, settings: Vec::new() };
    if let Some(repository) = &configuration.repository {
        showing.store(&["repository"], repository);
    }
    configuration.copies.iter().for_each(|copy| showing.copy(copy));
    if let Some(vault) = &configuration.vault {
        showing.vault(&["vault"], vault);
    }
    showing.put(&["timezone"], &[], zone_text(&configuration.timezone));
    showing.put(&["memory"], &[], size_text(configuration.memory));
    showing.rehearser();
    if configuration.rotator != rotations::Rotator::default() {
        let rotator = &configuration.rotator;
        showing.put(&["rotate", "vault_path"], &[], rotator.vault_path.as_str());
        showing.put(&["rotate", "apart"], &[], duration_text(rotator.apart));
        showing.put(&["rotate", "lease"], &[], duration_text(rotator.lease));
        if let Some(every) = rotator.recipients_every {
            showing.put(&["rotate", "recipients_every"], &[], duration_text(every));
        }
        for (key, value) in rotation_times::shown_hours(&rotator.window, &rotator.freeze) {
            showing.put(&["rotate", key], &[], value);
        }
    }
    showing.routines();
    showing.audit();
    configuration.notify.iter().for_each(|channel| showing.channel(channel));
    configuration.policies.iter().for_each(|policy| showing.policy(policy));
    Shown(showing.settings)
}

fn quiesce(how: Quiet) -> &'static str {
    match how {
        Quiet::Pause => "pause",
        Quiet::Stop => "stop",
    }
}

fn zone_text(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or("that of the host").to_string()
}

pub(super) struct Showing<'a> {
    pub(super) configuration: &'a Configuration,
    settings: Vec<Setting>,
}

impl Showing<'_> {
    /// `others`: keys that this value may come from instead of the last one of `key`.
    pub(super) fn put(&mut self, key: &[&str], others: &[&str], value: impl Into<Value>) {
        let (last, above) = key.split_last().expect("every setting has a key");
        let origin = [last].into_iter().chain(others).find_map(|last| {
            let path: Vec<&str> = above.iter().chain([last]).copied().collect();
            self.configuration.origin(&path)
        });
        let key = key.iter().map(|k| k.to_string()).collect();
        self.settings.push(Setting { key, value: value.into(), origin: origin.cloned() });
    }

    pub(super) fn put_some(&mut self, key: &[&str], others: &[&str], value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, others, value);
        }
    }

    fn copy(&mut self, copy: &CopySettings) {
        let at = ["copies", copy.name.as_str()];
        self.store(&at, &copy.store);
        if let Some(keep) = &copy.keep {
            self.keep(&at, keep);
        }
    }

    fn keep(&mut self, at: &[&str], keep: &Keep) {
        let periods = [
            ("last", keep.last),
            ("hourly", keep.hourly),
            ("daily", keep.daily),
            ("weekly", keep.weekly),
            ("monthly", keep.monthly),
            ("yearly", keep.yearly),
        ];
        for (period, number) in periods {
            self.put_some(&[at, &["keep", period]].concat(), &[], number);
        }
        self.put_some(&[at, &["keep", "within"]].concat(), &[], keep.within.map(String::from));
        self.put(&[at, &["keep", "min"]].concat(), &[], keep.min);
        self.put(&[at, &["keep", "safety"]].concat(), &[], String::from(keep.safety));
    }

    fn store(&mut self, at: &[&str], store: &StoreSettings) {
        let text = |path: &std::path::PathBuf| path.display().to_string();
        let key = |last| [at, &[last]].concat();
        self.put(&key("url"), &[], store.url.as_str());
        self.put_some(&key("endpoint"), &[], store.endpoint.as_deref());
        self.put_some(&key("region"), &[], store.region.as_deref());
        let secrets = [
            ("access_key", "access_key_file", &store.access_key),
            ("secret_key", "secret_key_file", &store.secret_key),
            ("session_token", "session_token_file", &store.session_token),
        ];
        for (name, twin, secret) in secrets {
            self.put_some(&key(name), &[twin], secret.as_ref().map(|secret| secret.to_string()));
        }
        if store.url.starts_with("s3://") {
            let addressing = match store.addressing {
                Addressing::Automatic if store.endpoint.is_some() => "path",
                Addressing::Automatic => "virtual",
                Addressing::Path => "path",
                Addressing::Virtual => "virtual",
            };
            self.put(&key("addressing"), &[], addressing);
        }
        self.put_some(&key("ca_file"), &[], store.ca_file.as_ref().map(text));
        if let Some(lock) = &store.object_lock {
            let mode = match lock.mode {
                LockMode::Governance => "governance",
                LockMode::Compliance => "compliance",
            };
            let keep = match lock.keep {
                LockKeep::Days(days) => format!("{days}d"),
                LockKeep::Policy => "policy".to_owned(),
            };
            self.put(&[at, &["object_lock", "mode"]].concat(), &[], mode);
            self.put(&[at, &["object_lock", "keep"]].concat(), &[], keep);
        }
        self.put_some(&key("bandwidth"), &[], store.bandwidth.map(|rate| format!("{}/s", size_text(rate))));
    }

    /// What rehearsals need, where somebody said something of it.
    fn rehearser(&mut self) {
        let rehearser = &self.configuration.rehearser;
        if *rehearser != Rehearser::default() {
            let identity = rehearser.identity.as_ref().map(ToString::to_string);
            self.put_some(&["rehearse", "identity"], &["identity_file"], identity);
            let keys: Vec<String> = rehearser.unseal_keys.iter().map(ToString::to_string).collect();
            self.put_some(&["rehearse", "unseal_keys"], &[], (!keys.is_empty()).then(|| json!(keys)));
            self.put(&["rehearse", "memory"], &[], size_text(rehearser.memory));
            self.put(&["rehearse", "processors"], &[], rehearser.processors);
            self.put(&["rehearse", "patience"], &[], duration_text(rehearser.patience));
        }
    }

    /// What the daemon does, as far as there is something for it to do.
    fn routines(&mut self) {
        let configuration = self.configuration;
        let routines = [("prune", &configuration.prune), ("check", &configuration.check)];
        for (name, routine) in routines {
            let Some(routine) = routine else { continue };
            self.put(&[name, "schedule"], &[], routine.schedule.as_str());
            for pair in routine.arguments.chunks(2) {
                if let [key, value] = pair {
                    self.put(&[name, key.trim_start_matches('-')], &[], value.as_str());
                }
            }
        }
        let has_schedule = |policy: &Policy| policy.schedule.is_some() || policy.is_rehearsed();
        let scheduled = self.evidence() || configuration.policies.iter().any(has_schedule);
        if scheduled || routines.iter().any(|(_, routine)| routine.is_some()) {
            let daemon = &configuration.daemon;
            self.put(&["daemon", "runs"], &[], daemon.runs);
            self.put(&["daemon", "runs_per_store"], &[], daemon.runs_per_store);
            self.put(&["daemon", "nice"], &[], daemon.nice);
            self.put(&["daemon", "io"], &[], daemon.io.name());
            self.put(&["daemon", "drain"], &[], duration_text(daemon.drain));
            self.put(&["daemon", "retry"], &[], duration_text(daemon.retry));
            self.watching();
        }
    }

    fn audit(&mut self) {
        if self.configuration.origin(&["audit"]).is_some() {
            for (key, value) in auditing::shown(&self.configuration.audit) {
                self.put(&["audit", key], &[], value);
            }
        }
    }

    fn watching(&mut self) {
        let configuration = self.configuration;
        let http = &configuration.http;
        self.put(&["http", "listen"], &[], watching::listen_text(http));
        let token = http.token.as_ref().map(|token| token.to_string());
        self.put_some(&["http", "token"], &["token_file"], token);
        if !http.hosts.is_empty() {
            self.put(&["http", "hosts"], &[], http.hosts.clone());
        }
        self.put_some(&["log"], &[], configuration.log.map(watching::log_text));
    }

    /// The list has no keys to look origins up by: they stand in the file as shown.
    fn channel(&mut self, channel: &Channel) {
        let key = |last| ["notify", channel.name.as_str(), last];
        let (secret, address) = match &channel.carrier {
            Carrier::Mail(mail) => {
                self.put(&key("to"), &[], json!(mail.to));
                (mail.login.as_ref().map(|(_, password)| password), Some(format!("{}:{}", mail.host, mail.port)))
            }
            Carrier::Webhook { url, secret } => (secret.as_ref(), Some(url.text())),
            Carrier::Ntfy { url, token } => (token.as_ref(), Some(url.text())),
            Carrier::Ping { url } | Carrier::Slack { url } | Carrier::Discord { url } => (Some(url), None),
            Carrier::Telegram { token, chat, .. } => (Some(token), Some(chat.clone())),
        };
        self.put(&key("kind"), &[], channel.kind());
        self.put_some(&key("address"), &[], address);
        self.put_some(&key("secret"), &[], secret.map(ToString::to_string));
        self.put(&key("on"), &[], json!(channel.topics.iter().map(|topic| topic.name()).collect::<Vec<_>>()));
        if channel.topics.contains(&Topic::Digest) {
            self.put(&key("digest"), &[], channel.digest.text());
        }
    }

    fn policy(&mut self, policy: &Policy) {
        let name = policy.name.as_str();
        self.put_some(&["policies", name, "stack"], &[], policy.stack.as_deref());
        self.put_some(&["policies", name, "schedule"], &[], policy.schedule.as_deref());
        if self.configuration.origin(&["policies", name, "timezone"]).is_some() {
            self.put(&["policies", name, "timezone"], &[], zone_text(&policy.timezone));
        }
        if policy.schedule.is_some() {
            for (key, value) in timing::shown(&policy.timing) {
                self.put(&["policies", name, key], &[], value);
            }
        }
        self.put_some(&["policies", name, "objectives", "rpo"], &[], policy.objectives.rpo.map(duration_text));
        self.put_some(&["policies", name, "objectives", "rto"], &[], policy.objectives.rto.map(duration_text));
        if let Some(keep) = &policy.keep {
            self.keep(&["policies", name], keep);
        }
        if let Some(labels) = &policy.labels {
            self.labels(name, labels);
        }
        for (keys, value) in policy.rehearsals.iter().flat_map(rehearsals::shown) {
            self.put(&[&["policies", name, "rehearse"][..], &keys].concat(), &[], value);
        }
        for rotation in &policy.rotations {
            for (keys, value) in rotations::shown(rotation) {
                self.put(&[&["policies", name, "rotate", &rotation.name][..], &keys].concat(), &[], value);
            }
        }
        policy.sources.iter().for_each(|source| self.source(name, source));
    }

    fn labels(&mut self, policy: &str, labels: &Labels) {
        self.put(&["policies", policy, "labels", "own_accounts"], &[], labels.own_accounts);
        for settings in &labels.servers {
            let Some(server) = settings.server() else { continue };
            let key = |last| ["policies", policy, "labels", settings.kind(), last];
            self.put_some(&key("user"), &[], server.user.as_deref());
            self.put_some(&key("password"), &["password_file"], server.password.as_ref().map(ToString::to_string));
        }
        self.put_some(&["policies", policy, "labels", "quiesce"], &[], labels.quiesce.map(quiesce));
    }

    fn source(&mut self, policy: &str, source: &Source) {
        self.of_kind(policy, source);
        if !matches!(source.settings, Settings::Volume(_)) {
            let key = ["policies", policy, "sources", &source.name, "layout"];
            let of_policy = self.configuration.origin(&["policies", policy, "layout"]).cloned();
            self.put(&key, &[], source.layout.name());
            let shown = self.settings.last_mut().expect("it was just put");
            shown.origin = shown.origin.take().or(of_policy);
        }
    }

    fn of_kind(&mut self, policy: &str, source: &Source) {
        let key = |kind, last| ["policies", policy, "sources", source.name.as_str(), kind, last];
        match &source.settings {
            Settings::Mysql(mysql) => {
                self.server(policy, source, "mysql", &mysql.server);
                self.databases(policy, source, "mysql", (&mysql.databases, &mysql.exclude));
                self.put(&key("mysql", "lock_tables"), &[], mysql.lock_tables);
            }
            Settings::Postgres(postgres) => {
                self.server(policy, source, "postgres", &postgres.server);
                self.databases(policy, source, "postgres", (&postgres.databases, &postgres.exclude));
            }
            Settings::Mongo(mongo) => {
                self.server(policy, source, "mongo", &mongo.server);
                self.put_some(&key("mongo", "auth_database"), &[], mongo.auth_database.as_deref());
                self.databases(policy, source, "mongo", (&mongo.databases, &mongo.exclude));
                self.put(&key("mongo", "mongodump"), &[], mongo.mongodump);
            }
            Settings::Redis(redis) => {
                self.server(policy, source, "redis", &redis.server);
                let method = match redis.method {
                    Method::Automatic => "automatic",
                    Method::Replica => "replica",
                    Method::Snapshot => "snapshot",
                };
                self.put(&key("redis", "method"), &[], method);
                if let Some(sentinel) = &redis.sentinel {
                    let key = |last| ["policies", policy, "sources", &source.name, "redis", "sentinel", last];
                    self.put(&key("addresses"), &[], json!(sentinel.addresses));
                    self.put(&key("master"), &[], sentinel.master.as_str());
                    let password = sentinel.password.as_ref().map(ToString::to_string);
                    self.put_some(&key("password"), &["password_file"], password);
                }
            }
            Settings::Sqlite(sqlite) => self.put(&key("sqlite", "path"), &[], sqlite.path.display().to_string()),
            Settings::Volume(volume) => {
                self.put(&key("volume", "path"), &["name"], volume.path.display().to_string());
                let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
                let quiesce = volume.quiesce.map(quiesce);
                self.put_some(&key("volume", "quiesce"), &[], quiesce);
                self.put_some(&key("volume", "include"), &[], list(&volume.include));
                self.put_some(&key("volume", "exclude"), &[], list(&volume.exclude));
            }
            Settings::Vault(settings) => {
                self.vault(&["policies", policy, "sources", source.name.as_str(), "vault"], &settings.vault);
            }
            Settings::Command(settings) => {
                let arguments = |run: &Vec<String>| run.iter().map(|text| mask::by_words(text, 0)).collect::<Vec<_>>();
                self.put(&key("command", "run"), &[], arguments(&settings.run));
                self.put(&key("command", "stream"), &[], settings.stream.as_str());
                self.put_some(&key("command", "terminator"), &[], settings.terminator.as_deref());
                self.put_some(&key("command", "restore"), &[], settings.restore.as_ref().map(arguments));
                let told = (settings.limit != command::Settings::LIMIT).then(|| duration_text(settings.limit));
                self.put_some(&key("command", "limit"), &[], told);
            }
        }
    }
}

impl Showing<'_> {
    fn server(&mut self, policy: &str, source: &Source, kind: &'static str, server: &Server) {
        let key = |last| ["policies", policy, "sources", source.name.as_str(), kind, last];
        let path = |path: &std::path::PathBuf| path.display().to_string();
        match &server.place {
            Place::Host => {}
            Place::Container(Selector::Name(name)) => self.put(&key("container"), &[], name.as_str()),
            Place::Container(Selector::Compose { project, service }) => {
                self.put(&key("project"), &[], project.as_str());
                self.put(&key("service"), &[], service.as_str());
            }
            Place::Container(Selector::Swarm { service }) => self.put(&key("swarm_service"), &[], service.as_str()),
            Place::Container(Selector::Label { key: label, value }) => {
                self.put(&key("label"), &[], format!("{label}={value}"));
            }
        }
        self.put_some(&key("host"), &[], server.host.as_deref());
        self.put_some(&key("port"), &[], server.port);
        self.put_some(&key("socket"), &[], server.socket.as_ref().map(path));
        self.put_some(&key("user"), &[], server.user.as_deref());
        self.put_some(&key("password"), &["password_file"], server.password.as_ref().map(ToString::to_string));
        self.put_some(&key("ca_file"), &[], server.ca_file.as_ref().map(path));
    }

    fn databases(&mut self, policy: &str, source: &Source, kind: &'static str, lists: (&[String], &[String])) {
        let key = |last| ["policies", policy, "sources", source.name.as_str(), kind, last];
        let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
        self.put_some(&key("databases"), &[], list(lists.0));
        self.put_some(&key("exclude"), &[], list(lists.1));
    }
}
