//! A workload of Kubernetes: its pods are given another Secret, which is named anew for each version, and are made anew by that.
//!
//! A Secret is never changed: the pods that run would see half of it, and there would be nothing to go back to. Those that people
//! made stay; versions that bkp made are deleted when the rotation is over and they are not named any more. What a workload is
//! given is told by reading the Secret that its template names.

mod api;
mod besides;
mod rollout;
mod template;

use super::text::{exchanged, no_user};
use super::{Delivery, Reload};
use crate::backoff::pause;
use crate::engine::{Credential, Pair};
use crate::error::{Failure, Kind, Result};
use crate::event::Cancel;
use crate::job::rotate::scan::{Found, Thing};
use crate::job::rotate::state::Holds;
use crate::policy::{self, Consumer, Workload, WorkloadKind};
use crate::secret::Secret;
use api::{Api, Call};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rollout::Rollout;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::time::Duration;
use template::{DIGITS, Reference, change, references, selector};

const POD: &str = "/spec/template/spec";
/// What makes pods, and where their description is in it.
const EVERYBODY: [(&str, &str, &str); 4] = [
    ("apps/v1", "deployment", POD),
    ("apps/v1", "statefulset", POD),
    ("apps/v1", "daemonset", POD),
    ("batch/v1", "cronjob", "/spec/jobTemplate/spec/template/spec"),
];
/// How often it is looked whether a change was seen, and how far apart.
const SEEN: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// Labels and annotations of the versions.
const OF: &str = "bkp/secret";
const FOR: &str = "bkp/workload";
const ROTATION: &str = "bkp/rotation";
const PREVIOUS: &str = "bkp/previous";

pub struct Kubernetes {
    rotation: String,
    workload: Workload,
}

type Data = Map<String, Value>;

/// The Secret that the pods are given now.
struct Given {
    object: Value,
    references: Vec<Reference>,
    name: String,
    secret: Value,
}

impl Given {
    fn data(&self) -> Data {
        self.secret["data"].as_object().cloned().unwrap_or_default()
    }
}

impl Kubernetes {
    pub fn new(rotation: &str, workload: &Workload) -> Self {
        Kubernetes { rotation: rotation.to_owned(), workload: workload.clone() }
    }

    fn api(&self) -> Result<Api> {
        Api::of(&self.workload.cluster)
    }

    fn path(&self) -> String {
        let Workload { namespace, kind, name, .. } = &self.workload;
        format!("/apis/apps/v1/namespaces/{namespace}/{}/{name}", kind.plural())
    }

    fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.workload.namespace)
    }

    fn title(&self) -> String {
        format!("{} {} in namespace {}", self.workload.kind.word(), self.workload.name, self.workload.namespace)
    }

    /// The Secret and its key, where this is what the consumer is told by.
    fn told(&self) -> Result<(&str, &str)> {
        let told = self.workload.secret.as_ref().map(|(base, key)| (base.as_str(), key.as_str()));
        told.ok_or_else(|| Failure::usage(format!("{} is told by no Secret", self.title())))
    }

    fn given(&self, api: &Api, cancel: &Cancel) -> Result<Given> {
        let (base, key) = self.told()?;
        let refused = |text: String, hint: &str| Err(Failure::new(Kind::Refused, text).hint(hint));
        let object = api.get(&self.path(), cancel)?;
        let references = references(&object, POD, base);
        let Some((_, name)) = references.first() else {
            let text = format!("{} is given no Secret {base}", self.title());
            return refused(text, "Correct `secret` of the consumer");
        };
        let name = name.clone();
        if references.iter().any(|(_, other)| *other != name) {
            let text = format!("{} is given several versions of the Secret {base}", self.title());
            return refused(text, "Let it name one of them everywhere");
        }
        let secret = api.get(&format!("{}/{name}", self.secrets()), cancel)?;
        let given = Given { object, references, name, secret };
        if value(&given.data(), key).is_none() {
            let text = format!("the Secret {} in namespace {} has no key {key}", given.name, self.workload.namespace);
            return refused(text, "Correct `key` of the consumer");
        }
        Ok(given)
    }

    /// The content with the other credential; `None` where the first is not in it.
    fn exchanged(&self, data: &Data, from: &Credential, to: &Credential) -> Result<Option<Data>> {
        let (_, key) = self.told()?;
        let Some(there) = value(data, key) else { return Ok(None) };
        let mut data = data.clone();
        let new = match (&from.user, &to.user, &self.workload.user_key) {
            (Some(user), Some(other), Some(user_key)) => {
                if value(&data, user_key).is_none_or(|there| there.expose() != user) {
                    return Ok(None);
                }
                data.insert(user_key.clone(), STANDARD.encode(other).into());
                let [from, to] = [from, to].map(|credential| Credential::from(credential.secret.clone()));
                exchanged(there.expose(), &from, &to)?
            }
            (Some(_), None, _) | (None, Some(_), _) => return Err(no_user()),
            _ => exchanged(there.expose(), from, to)?,
        };
        Ok(new.map(|new| {
            data.insert(key.to_owned(), STANDARD.encode(new.expose()).into());
            data
        }))
    }

    /// The name of the Secret with this content: the one before where it is that, and a new version otherwise.
    fn version(&self, api: &Api, (given, data): (&Given, &Data), pair: Pair<'_>, cancel: &Cancel) -> Result<String> {
        let (base, _) = self.told()?;
        let same = |secret: &Value| secret["data"].as_object() == Some(data);
        if let Some(name) = given.secret["metadata"]["annotations"][PREVIOUS].as_str() {
            let before = api.find(&format!("{}/{name}", self.secrets()), cancel)?;
            if before.is_some_and(|before| same(&before)) {
                return Ok(name.to_owned());
            }
        }
        let name = format!("{base}-{}", self.digits(data, pair));
        if let Some(there) = api.find(&format!("{}/{name}", self.secrets()), cancel)? {
            let text = format!("there is another Secret {name} in namespace {}", self.workload.namespace);
            return if same(&there) { Ok(name) } else { Err(Failure::new(Kind::Refused, text).hint("Delete it")) };
        }
        let version = json!({
            "apiVersion": "v1", "kind": "Secret", "immutable": true, "type": given.secret["type"], "data": data,
            "metadata": {
                "name": name, "namespace": self.workload.namespace,
                "labels": { "app.kubernetes.io/managed-by": "bkp", OF: base, FOR: self.mark() },
                "annotations": { ROTATION: self.rotation, PREVIOUS: given.name },
            },
        });
        api.call(Call::Create(&version), &self.secrets(), cancel)?;
        Ok(name)
    }

    /// The same for the same content, and no help in guessing it: the key is a secret that bkp made.
    fn digits(&self, data: &Data, pair: Pair<'_>) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(pair.pending.expose().as_bytes()).expect("HMAC takes any key");
        mac.update(self.mark().as_bytes());
        let mut sorted: Vec<_> = data.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        for (key, value) in sorted {
            mac.update(format!("\n{key}={}", value.as_str().unwrap_or_default()).as_bytes());
        }
        let mut text = hex::encode(mac.finalize().into_bytes());
        text.truncate(DIGITS);
        text
    }

    /// Each workload has versions of its own, so that what one needs no more is not another's.
    fn mark(&self) -> String {
        format!("{}.{}", self.workload.kind.word(), self.workload.name)
    }

    /// A StatefulSet waits for a pod that does not come up before it makes it anew, also where what it would be made of is good
    /// now: such a pod is deleted.
    fn unblock(&self, cancel: &Cancel) -> Result<()> {
        let api = self.api()?;
        let mut object = api.get(&self.path(), cancel)?;
        let seen = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
        for _ in 0..SEEN {
            if seen(&object) || !pause(PAUSE, &|| cancel.check().is_err()) {
                break;
            }
            object = api.get(&self.path(), cancel)?;
        }
        let wanted = &object["status"]["updateRevision"];
        for pod in self.pods(&api, &object, cancel)? {
            let is_old = &pod["metadata"]["labels"]["controller-revision-hash"] != wanted;
            let is_going = !pod["metadata"]["deletionTimestamp"].is_null();
            if is_old && !is_going && rollout::why_not_ready(&pod).is_some() {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("/api/v1/namespaces/{}/pods/{name}", self.workload.namespace);
                api.delete(&path, cancel)?;
            }
        }
        Ok(())
    }

    fn pods(&self, api: &Api, object: &Value, cancel: &Cancel) -> Result<Vec<Value>> {
        let selector = super::text::percent_encoded(&selector(object));
        let path = format!("/api/v1/namespaces/{}/pods?labelSelector={selector}", self.workload.namespace);
        let pods = api.get(&path, cancel)?;
        Ok(pods["items"].as_array().cloned().unwrap_or_default())
    }

    /// Pods of the workload that are not what its template says, or not ready.
    fn trouble_of_pods(&self, api: &Api, object: &Value, cancel: &Cancel) -> Result<Option<String>> {
        let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let mut pods = self.pods(api, object, cancel)?;
        pods.retain(|pod| !ended(pod));
        let names = |object: &Value, pod: &str| -> Vec<String> {
            let base = self.workload.secret.as_ref().map(|(base, _)| base.as_str());
            let references = base.map(|base| references(object, pod, base)).unwrap_or_default();
            references.into_iter().map(|(_, name)| name).collect()
        };
        let wanted = names(object, POD);
        let (new, old): (Vec<&Value>, Vec<&Value>) =
            pods.iter().partition(|pod| names(pod, "/spec").iter().all(|name| wanted.contains(name)));
        // Why a new one does not come up says more than that an old one is still needed.
        let still = |pod: &&Value| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            format!("pod {name} still has the other one")
        };
        Ok(new.into_iter().find_map(rollout::why_not_ready).or_else(|| old.first().map(still)))
    }
}

impl Delivery for Kubernetes {
    fn holds(&self, pair: Pair<'_>) -> Result<Holds> {
        let given = self.given(&self.api()?, &Cancel::default())?;
        let is = |credential| Ok::<_, Failure>(self.exchanged(&given.data(), credential, credential)?.is_some());
        Ok(Holds::of(is(pair.pending)?, is(pair.current)?))
    }

    fn deliver(&self, pair: Pair<'_>, to: Holds, leased: &Cancel) -> Result<()> {
        let Pair { current: from, pending: to } = to.exchange(pair);
        let api = self.api()?;
        let given = self.given(&api, leased)?;
        let data = self.exchanged(&given.data(), from, to)?.ok_or_else(|| {
            let text = format!("the Secret {} does not hold the password that was expected", given.name);
            Failure::new(Kind::Refused, text).hint("Somebody changed it: correct it, then run this again")
        })?;
        let name = self.version(&api, (&given, &data), pair, leased)?;
        let patch = change(&given.object, &given.references, &name);
        api.call(Call::Change(&patch), &self.path(), leased).map(drop)
    }

    fn settle(&self, leased: &Cancel) -> Result<()> {
        let api = self.api()?;
        let (base, _) = self.told()?;
        let current = self.given(&api, leased)?.name;
        let ours = super::text::percent_encoded(&format!("{OF}={base},{FOR}={}", self.mark()));
        let all = api.get(&format!("{}?labelSelector={ours}", self.secrets()), leased)?;
        for secret in all["items"].as_array().into_iter().flatten() {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            if secret["metadata"]["annotations"][ROTATION] == self.rotation.as_str() && name != current {
                api.delete(&format!("{}/{name}", self.secrets()), leased)?;
            }
        }
        Ok(())
    }

    fn others(&self, told: &[Consumer], current: &Secret) -> Result<Vec<Found>> {
        let (api, cancel) = (self.api()?, Cancel::default());
        let mut found = self.besides(told, current, &cancel)?;
        let (base, namespace) = (self.told()?.0, &self.workload.namespace);
        let given = self.given(&api, &cancel)?.name;
        let is_told = |word: &str, name: &str| {
            told.iter().any(|consumer| match &consumer.reload {
                policy::Reload::Kubernetes(other) => {
                    (&other.namespace, other.kind.word(), other.name.as_str()) == (namespace, word, name)
                }
                _ => false,
            })
        };
        for (group, word, pod) in EVERYBODY {
            let list = api.get(&format!("/apis/{group}/namespaces/{namespace}/{word}s"), &cancel)?;
            for object in list["items"].as_array().into_iter().flatten() {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let has = references(object, pod, base).iter().any(|(_, name)| *name == given);
                if has && !is_told(word, &name) {
                    let place = format!("{word} in namespace {namespace}, given the Secret {given}");
                    found.push(Found { thing: Thing::Workload, name, place });
                }
            }
        }
        Ok(found)
    }

    fn describe(&self) -> String {
        let (base, key) = self.workload.secret.as_ref().map_or(("", ""), |(base, key)| (base, key));
        format!("a new version of the Secret {base} with another {key}, named by {}", self.title())
    }
}

impl Reload for Kubernetes {
    /// Where the template names another Secret, its pods are made anew by that.
    fn reload(&self, _: &Credential, cancel: &Cancel) -> Result<()> {
        if self.workload.secret.is_none() {
            let now = crate::clock::now().to_string();
            let patch = json!({ "spec": { "template": { "metadata": { "annotations": { "bkp/restarted": now } } } } });
            self.api()?.call(Call::Merge(&patch), &self.path(), cancel)?;
        }
        if self.workload.kind == WorkloadKind::StatefulSet { self.unblock(cancel) } else { Ok(()) }
    }

    fn trouble(&self, cancel: &Cancel) -> Result<Option<String>> {
        let api = self.api()?;
        let looked = api.get(&self.path(), cancel).and_then(|object| {
            let pods = self.trouble_of_pods(&api, &object, cancel)?;
            Ok(match (rollout::of(self.workload.kind, &object), pods) {
                (Rollout::Stuck(why), pods) => Err(pods.map_or_else(|| why.clone(), |pod| format!("{why}: {pod}"))),
                (Rollout::Going(why), None) => Ok(Some(why)),
                (Rollout::Going(why), Some(pod)) => Ok(Some(format!("{why}: {pod}"))),
                (Rollout::Done, pods) => Ok(pods),
            })
        });
        match looked {
            Ok(Ok(trouble)) => Ok(trouble.map(|why| format!("{}: {why}", self.title()))),
            Ok(Err(stuck)) => Err(Failure::failed(format!("{}: {stuck}", self.title())).hint(format!(
                "kubectl -n {} describe {} {}",
                self.workload.namespace,
                self.workload.kind.word(),
                self.workload.name
            ))),
            Err(failure) if failure.kind() == Kind::TryLater => cancel.check().map(|()| Some(failure.full())),
            Err(failure) => Err(failure),
        }
    }

    fn describe(&self) -> String {
        match self.workload.secret {
            Some(_) => "wait until its pods are made anew".into(),
            None => format!("restart the pods of {}", self.title()),
        }
    }
}

fn value(data: &Data, key: &str) -> Option<Secret> {
    let bytes = STANDARD.decode(data.get(key)?.as_str()?).ok()?;
    String::from_utf8(bytes).ok().map(Secret::new)
}
