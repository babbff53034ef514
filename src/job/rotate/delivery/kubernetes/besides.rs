//! In what else the pods of a workload have a secret: other keys of the Secret they are told by, other Secrets, and what stands in
//! their template itself.

use super::template::{keys, secrets};
use super::{Data, Kubernetes, POD, value};
use crate::error::Result;
use crate::event::Cancel;
use crate::job::rotate::scan::{Found, Thing, variable_has};
use crate::policy::{self, Consumer};
use crate::secret::Secret;
use serde_json::Value;
use std::collections::BTreeSet;

impl Kubernetes {
    pub(super) fn besides(&self, told: &[Consumer], current: &Secret, cancel: &Cancel) -> Result<Vec<Found>> {
        let api = self.api()?;
        let given = self.given(&api, cancel)?;
        let ours = self.told_keys(told);
        let mut found = Vec::new();
        let place = format!("given to {}", self.title());
        let mut of_secret = |name: &str, data: &Data, wanted: &dyn Fn(&str) -> bool| {
            let having = data.keys().filter(|key| wanted(key));
            let having = having.filter(|key| value(data, key).is_some_and(|v| variable_has(key, v.expose(), current)));
            found.extend(having.map(|key| Found {
                thing: Thing::Variable,
                name: format!("{name}#{key}"),
                place: place.clone(),
            }));
        };
        let used: Vec<_> = given.references.iter().map(|(pointer, _)| keys(&given.object, pointer)).collect();
        let is_used =
            |key: &str| used.iter().any(|keys| keys.as_ref().is_none_or(|keys| keys.iter().any(|k| k == key)));
        of_secret(self.told()?.0, &given.data(), &|key| is_used(key) && !ours.contains(key));
        let pod = given.object.pointer(POD).cloned().unwrap_or_default();
        for (name, keys) in secrets(&pod) {
            // One that is not there yet gives nothing.
            let Some(secret) = api.find(&format!("{}/{name}", self.secrets()), cancel)? else { continue };
            if name != given.name {
                let data = secret["data"].as_object().cloned().unwrap_or_default();
                of_secret(&name, &data, &|key| keys.is_empty() || keys.contains(key));
            }
        }
        found.extend(self.in_template(&pod, current));
        Ok(found)
    }

    /// By which this workload is told, by any consumer.
    fn told_keys<'c>(&self, told: &'c [Consumer]) -> BTreeSet<&'c str> {
        let workloads = told.iter().filter_map(|consumer| match &consumer.told {
            policy::Told::Kubernetes(other) => Some(other),
            _ => None,
        });
        let same = workloads.filter(|other| {
            (&other.namespace, other.kind, &other.name)
                == (&self.workload.namespace, self.workload.kind, &self.workload.name)
        });
        let keys = same.flat_map(|other| other.secret.iter().map(|(_, key)| key).chain(&other.user_key));
        keys.map(String::as_str).collect()
    }

    /// Values of variables, and arguments.
    fn in_template(&self, pod: &Value, current: &Secret) -> Vec<Found> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let containers = ["initContainers", "containers"].map(|kind| list(&pod[kind])).concat();
        let mut places = BTreeSet::new();
        for container in containers {
            for variable in list(&container["env"]) {
                let [name, text] = ["name", "value"].map(|key| variable[key].as_str().unwrap_or_default());
                if variable_has(name, text, current) {
                    places.insert(format!("variable {name} in its template"));
                }
            }
            let words = [list(&container["command"]), list(&container["args"])].concat();
            if words.iter().filter_map(Value::as_str).any(|word| variable_has("", word, current)) {
                places.insert("an argument in its template".to_owned());
            }
        }
        let found = |place| Found { thing: Thing::Workload, name: self.workload.name.clone(), place };
        places.into_iter().map(found).collect()
    }
}
