//! A service of Docker Swarm: given another secret, which is named anew for each version; Swarm makes its tasks anew by that.
//!
//! Swarm tells nobody what is in a secret. A version that bkp made is told by its name, which only somebody who has the password
//! could have made. One that people made is read in a task of this node, and taken for the current one where none can be asked.

use super::docker::{LIMIT, docker};
use super::{Delivery, LOOK, Reload};
use crate::durable::crash_point;
use crate::engine::{Credential, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::exec::docker::{Docker, Selector};
use crate::exec::{Command, Exec};
use crate::job::rotate::scan::{Found, Thing, lines_have};
use crate::job::rotate::state::Holds;
use crate::policy::{self, Consumer, SwarmService};
use crate::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::BTreeSet;
use std::io::Read;

/// Digits of a version's name after that of the secret it is one of.
const DIGITS: usize = 12;
const ROTATION: &str = "bkp.rotation";
const OF: &str = "bkp.secret";
const PREVIOUS: &str = "bkp.previous";

pub struct Swarm {
    rotation: String,
    service: SwarmService,
}

/// A secret in the file system of the tasks.
#[derive(Debug)]
struct Given {
    name: String,
    /// As `--secret-add` takes it, but for the name.
    options: String,
    file: String,
}

impl Swarm {
    pub fn new(rotation: &str, service: &SwarmService) -> Self {
        Swarm { rotation: rotation.to_owned(), service: service.clone() }
    }

    fn base(&self) -> Result<&str> {
        let title = || Failure::usage(format!("the Swarm service {} is told by no secret", self.service.service));
        self.service.secret.as_deref().ok_or_else(title)
    }

    fn inspect(&self, cancel: &Cancel) -> Result<Value> {
        let words = ["service", "inspect", "--format", "{{json .}}", &self.service.service];
        let told = docker(&words, None, LOOK, cancel)?;
        serde_json::from_str(&told).map_err(|_| Failure::failed("docker service inspect gave no JSON"))
    }

    fn given(&self, cancel: &Cancel) -> Result<Vec<Given>> {
        let base = self.base()?;
        let service = self.inspect(cancel)?;
        let all: Vec<Given> = given(&service, base);
        let Some(first) = all.first() else {
            let text = format!("the Swarm service {} is given no secret {base}", self.service.service);
            return Err(Failure::new(Kind::Refused, text).hint("Correct `secret` of the consumer"));
        };
        if all.iter().any(|other| other.name != first.name) {
            let text = format!("the Swarm service {} is given several versions of {base}", self.service.service);
            return Err(Failure::new(Kind::Refused, text).hint("Let it name one of them only"));
        }
        Ok(all)
    }

    /// What the tasks read, where one of this node can be asked: whichever of them, for all are given the same.
    fn read(&self, file: &str, cancel: &Cancel) -> Option<Secret> {
        let filter = format!("label=com.docker.swarm.service.name={}", self.service.service);
        let words = ["ps", "--quiet", "--no-trunc", "--filter", &filter, "--filter", "status=running"];
        let tasks = docker(&words, None, LOOK, cancel).ok()?;
        let selector = Selector::Name(tasks.split_whitespace().next()?.to_owned());
        let task = Docker::connect().ok()?.find(&selector).ok()?;
        let path = if file.starts_with('/') { file.to_owned() } else { format!("/run/secrets/{file}") };
        let arguments = vec![path.into()];
        let command = Command { program: "cat".into(), arguments, limit: Some(LOOK), ..Command::default() };
        let mut text = String::new();
        task.start(&command, cancel).ok()?.read_to_string(&mut text).ok()?;
        Some(Secret::new(text))
    }

    /// Other secrets and configurations of the service that have it, where a task of this node can be asked.
    fn besides(&self, current: &Secret, cancel: &Cancel) -> Result<Vec<Found>> {
        let (base, service) = (self.base()?, self.inspect(cancel)?);
        let container = &service["Spec"]["TaskTemplate"]["ContainerSpec"];
        let mut found = Vec::new();
        for (kind, key) in [("Secrets", "SecretName"), ("Configs", "ConfigName")] {
            for one in container[kind].as_array().into_iter().flatten() {
                let [name, file] = [&one[key], &one["File"]["Name"]].map(|text| text.as_str().unwrap_or_default());
                let is_ours = kind == "Secrets" && (name == base || is_version(name, base));
                let file =
                    if kind == "Configs" { format!("/{}", file.trim_start_matches('/')) } else { file.to_owned() };
                if !is_ours && self.read(&file, cancel).is_some_and(|text| lines_have(text.expose(), current)) {
                    let place = format!("given to the Swarm service {}, beside {base}", self.service.service);
                    found.push(Found { thing: Thing::Variable, name: name.to_owned(), place });
                }
            }
        }
        Ok(found)
    }

    /// A secret of the cluster by that name, made where it is not there.
    fn make(&self, name: &str, secret: &Secret, previous: &str, cancel: &Cancel) -> Result<()> {
        if self.label(name, ROTATION, cancel).is_some() {
            return Ok(());
        }
        let labels = [
            format!("{ROTATION}={}", self.rotation),
            format!("{OF}={}", self.base()?),
            format!("{PREVIOUS}={previous}"),
        ];
        let mut words = vec!["secret", "create"];
        for label in &labels {
            words.extend(["--label", label]);
        }
        words.extend([name, "-"]);
        cancel.check()?;
        docker(&words, Some(secret.clone()), LOOK, cancel)?;
        crash_point("rotate-consumer:made");
        Ok(())
    }

    /// `None` where there is no such secret, or it has no such label.
    fn label(&self, name: &str, label: &str, cancel: &Cancel) -> Option<String> {
        let format = format!("{{{{index .Spec.Labels \"{label}\"}}}}");
        let told = docker(&["secret", "inspect", "--format", &format, name], None, LOOK, cancel).ok()?;
        Some(told.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn exists(&self, name: &str, cancel: &Cancel) -> bool {
        docker(&["secret", "inspect", "--format", "{{.ID}}", name], None, LOOK, cancel).is_ok()
    }

    /// Those that should run.
    fn tasks(&self, cancel: &Cancel) -> Result<Vec<Value>> {
        let name = &self.service.service;
        let words = ["service", "ps", "--no-trunc", "--quiet", "--filter", "desired-state=running", name];
        let listed = docker(&words, None, LOOK, cancel)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let words = [&["inspect", "--type", "task", "--format", "{{json .}}"], &ids[..]].concat();
        let told = docker(&words, None, LOOK, cancel)?;
        Ok(told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    fn state(service: &Value) -> &str {
        service["UpdateStatus"]["State"].as_str().unwrap_or("completed")
    }
}

/// Of a secret that bkp made: told by nobody who does not have it.
fn version(base: &str, secret: &Secret) -> String {
    named(base, secret, &format!("bkp version of {base}"))
}

/// Of the one before it, where that has to be made again. What people thought up could be found out from a name that is made
/// with it, so the new one is the key here, too.
fn version_before(base: &str, pair: Pair<'_>) -> String {
    named(base, pair.pending, &format!("bkp version of {base} before this one"))
}

fn named(base: &str, key: &Secret, what: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes any key");
    mac.update(what.as_bytes());
    let mut digits = hex::encode(mac.finalize().into_bytes());
    digits.truncate(DIGITS);
    format!("{base}.{digits}")
}

/// Why the tasks of a service are not those that it asks for now. Right after it was told, Swarm says nothing of an update yet, and
/// the tasks are those from before: so each is compared with it.
fn unready(service: &Value, tasks: &[Value]) -> Option<String> {
    let wanted = &service["Spec"]["TaskTemplate"];
    let given = |task: &Value| -> BTreeSet<String> {
        let secrets = task["ContainerSpec"]["Secrets"].as_array().into_iter().flatten();
        secrets.filter_map(|secret| secret["SecretID"].as_str().map(str::to_owned)).collect()
    };
    let time = |task: &Value| task["ForceUpdate"].as_u64().unwrap_or(0);
    let is_old = |task: &&Value| given(&task["Spec"]) != given(wanted) || time(&task["Spec"]) != time(wanted);
    if tasks.iter().any(|task| is_old(&task)) {
        return Some("a task is not made anew yet".into());
    }
    let waits = tasks.iter().map(|task| task["Status"]["State"].as_str().unwrap_or_default());
    if let Some(state) = waits.clone().find(|state| *state != "running") {
        return Some(format!("a task is {state}"));
    }
    let count = service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or(0);
    let there = u64::try_from(tasks.len()).unwrap_or(u64::MAX);
    (there < count).then(|| format!("{there} of {count} tasks are there"))
}

fn is_version(name: &str, base: &str) -> bool {
    let digits = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.'));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Where a service is given the secret that people named, or a version of it.
fn given(service: &Value, base: &str) -> Vec<Given> {
    let secrets = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"].as_array();
    let one = |secret: &Value| {
        let name = secret["SecretName"].as_str().filter(|name| *name == base || is_version(name, base))?;
        let file = &secret["File"];
        let text = |key: &str| file[key].as_str().unwrap_or("0").to_owned();
        let mode = file["Mode"].as_u64().unwrap_or(0o444);
        let options = format!("target={},uid={},gid={},mode=0{mode:o}", text("Name"), text("UID"), text("GID"));
        Some(Given { name: name.to_owned(), options, file: text("Name") })
    };
    secrets.into_iter().flatten().filter_map(one).collect()
}

impl Delivery for Swarm {
    fn holds(&self, pair: Pair<'_>) -> Result<Holds> {
        let (base, cancel) = (self.base()?, Cancel::default());
        if pair.pending.user.is_some() {
            return Err(super::text::no_user());
        }
        let all = self.given(&cancel)?;
        let first = &all[0];
        let is = |secret: &Secret| first.name == version(base, secret);
        if is(pair.pending) {
            return Ok(Holds::Pending);
        }
        if is(pair.current) || first.name == version_before(base, pair) {
            return Ok(Holds::Current);
        }
        let there = self.read(&first.file, &cancel);
        let is_current = there.map(|there| there.expose().trim_end() == pair.current.expose());
        // What people made is taken for the one in force where it cannot be asked.
        let is_current = is_current.unwrap_or(!is_version(&first.name, base));
        Ok(if is_current { Holds::Current } else { Holds::Other })
    }

    fn deliver(&self, pair: Pair<'_>, to: Holds, leased: &Cancel) -> Result<()> {
        let base = self.base()?;
        let all = self.given(leased)?;
        let old = all[0].name.clone();
        let before = || self.label(&old, PREVIOUS, leased).filter(|name| self.exists(name, leased));
        let new = match to {
            Holds::Pending => version(base, pair.pending),
            _ => before().unwrap_or_else(|| version_before(base, pair)),
        };
        if to == Holds::Pending {
            self.make(&new, pair.pending, &old, leased)?;
        } else if !self.exists(&new, leased) {
            self.make(&new, pair.current, &old, leased)?;
        }
        if new == old {
            return Ok(());
        }
        let added: Vec<String> = all.iter().map(|given| format!("source={new},{}", given.options)).collect();
        let mut words = vec!["service", "update", "--detach", "--quiet", "--secret-rm", &old];
        for secret in &added {
            words.extend(["--secret-add", secret]);
        }
        words.push(&self.service.service);
        leased.check()?;
        docker(&words, None, LIMIT, leased).map(drop)
    }

    /// Swarm refuses to remove what a service is given.
    fn settle(&self, leased: &Cancel) -> Result<()> {
        let base = self.base()?;
        let current = self.given(leased)?[0].name.clone();
        let [rotation, of] = [format!("label={ROTATION}={}", self.rotation), format!("label={OF}={base}")];
        let words = ["secret", "ls", "--filter", &rotation, "--filter", &of, "--format", "{{.Name}}"];
        for name in docker(&words, None, LOOK, leased)?.lines().filter(|name| *name != current) {
            leased.check()?;
            let _ = docker(&["secret", "rm", name], None, LOOK, leased);
        }
        Ok(())
    }

    fn others(&self, told: &[Consumer], current: &Secret) -> Result<Vec<Found>> {
        let cancel = Cancel::default();
        let mut found = self.besides(current, &cancel)?;
        let name = self.given(&cancel)?[0].name.clone();
        let listed = docker(&["service", "ls", "--quiet"], None, LOOK, &cancel)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        let all = docker(&[&["service", "inspect", "--format", "{{json .}}"], &ids[..]].concat(), None, LOOK, &cancel)?;
        let is_told = |service: &str| {
            told.iter()
                .any(|consumer| matches!(&consumer.reload, policy::Reload::Swarm(other) if other.service == service))
        };
        let services = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let having = services.filter(|service| given(service, &name).iter().any(|given| given.name == name));
        let names = having.filter_map(|service| service["Spec"]["Name"].as_str().map(str::to_owned));
        let of_swarm = |name_of: String| {
            let place = format!("of Swarm, given the secret {name}");
            Found { thing: Thing::Service, name: name_of, place }
        };
        found.extend(names.filter(|service| !is_told(service)).map(of_swarm));
        Ok(found)
    }

    fn describe(&self) -> String {
        let base = self.service.secret.as_deref().unwrap_or_default();
        format!("a new version of the Swarm secret {base}, given to the service {}", self.service.service)
    }
}

impl Reload for Swarm {
    /// What is given another secret is made anew by that; an update that Swarm gave up is begun again.
    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        let stands = matches!(Self::state(&self.inspect(cancel)?), "updating" | "completed");
        if self.service.secret.is_some() && stands {
            return Ok(());
        }
        let words = ["service", "update", "--detach", "--quiet", "--force", &self.service.service];
        docker(&words, None, LIMIT, cancel).map(drop)
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let service = self.inspect(cancel)?;
        let name = &self.service.service;
        let said = service["UpdateStatus"]["Message"].as_str().unwrap_or_default();
        match Self::state(&service) {
            "completed" => {}
            "updating" => return Ok(Some(format!("the Swarm service {name} is being updated"))),
            state => {
                return Err(Failure::failed(format!("the Swarm service {name} was not updated ({state}): {said}"))
                    .hint(format!("docker service ps --no-trunc {name}")));
            }
        }
        if let Some(why) = unready(&service, &self.tasks(cancel)?) {
            return Ok(Some(format!("of {name}, {why}")));
        }
        let words = ["service", "ps", "--filter", "desired-state=shutdown", "--format", "{{.CurrentState}}", name];
        let lives = docker(&words, None, LOOK, cancel)?.lines().any(|state| state.starts_with("Running"));
        Ok(lives.then(|| format!("an old task of {name} still runs")))
    }

    fn describe(&self) -> String {
        match self.service.secret {
            Some(_) => "wait until its tasks are made anew".into(),
            None => format!("docker service update --force {}", self.service.service),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_given_again_where_it_was() {
        let file = json!({ "Name": "db_password", "UID": "999", "GID": "0", "Mode": 0o400 });
        let secrets = json!([
            { "SecretName": "other", "File": file },
            { "SecretName": "db.0123456789ab", "File": file },
            { "SecretName": "db.old", "File": file },
        ]);
        let all = given(&json!({ "Spec": { "TaskTemplate": { "ContainerSpec": { "Secrets": secrets } } } }), "db");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].name, "db.0123456789ab");
        assert_eq!(all[0].options, "target=db_password,uid=999,gid=0,mode=0400");
    }

    /// As Swarm answers right after `docker service update`.
    #[test]
    fn tasks_from_before_an_update_are_not_taken_for_new_ones() {
        let template = |secret: &str, time: u64| json!({ "ForceUpdate": time, "ContainerSpec": { "Secrets": [{ "SecretID": secret }] } });
        let service = |time| {
            let mode = json!({ "Replicated": { "Replicas": 2 } });
            json!({ "Spec": { "TaskTemplate": template("new", time), "Mode": mode }, "UpdateStatus": null })
        };
        let task =
            |secret: &str, time, state: &str| json!({ "Spec": template(secret, time), "Status": { "State": state } });
        let (old, new) = (task("old", 0, "running"), task("new", 0, "running"));
        let why =
            |tasks: &[&Value]| unready(&service(0), &tasks.iter().map(|task| (*task).clone()).collect::<Vec<_>>());
        assert_eq!(why(&[&old, &old]).unwrap(), "a task is not made anew yet");
        assert_eq!(why(&[&new, &old]).unwrap(), "a task is not made anew yet");
        assert_eq!(why(&[&new, &task("new", 0, "starting")]).unwrap(), "a task is starting");
        assert_eq!(why(&[&new]).unwrap(), "1 of 2 tasks are there");
        assert_eq!(why(&[&new, &new]), None);
        assert!(unready(&service(1), &[new.clone(), new]).is_some(), "made anew without another secret");
    }

    #[test]
    fn what_people_thought_up_is_no_key_of_a_name() {
        let [old, new, other] = ["1234", "pending-one", "pending-two"].map(|text| Secret::new(text.into()).into());
        let before = |pending| version_before("db", Pair { current: &old, pending });
        assert!(before(&new) != before(&other) && is_version(&before(&new), "db"));
        assert!(before(&new) != version("db", &new));
    }

    #[test]
    fn a_version_is_named_after_its_secret() {
        let [one, other] = ["one", "other"].map(|text| version("db", &Secret::new(text.into())));
        assert!(one != other && is_version(&one, "db") && !is_version(&one, "d"));
    }
}
