//! Which Secret a workload's pods are given, and the change that gives them another. Pure.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Digits of a version's name after that of the Secret it is one of.
pub const DIGITS: usize = 12;
/// In the template of the pods: makes them anew, and tells people why.
pub const ANNOTATION: &str = "bkp/secret";

/// A place in a workload where a Secret is named: JSON pointer, and the name.
pub type Reference = (String, String);

/// Whether `name` is the Secret that people named, or a version of it that bkp made.
pub fn is_of(name: &str, base: &str) -> bool {
    let version = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('-'));
    name == base || version.is_some_and(|v| v.len() == DIGITS && v.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Everywhere that the pods of a workload are given the Secret. `pod`: where their description is in the object.
pub fn references(object: &Value, pod: &str, base: &str) -> Vec<Reference> {
    let mut all = Vec::new();
    let mut add = |pointer: String| {
        let name = object.pointer(&pointer).and_then(Value::as_str);
        all.extend(name.filter(|name| is_of(name, base)).map(|name| (pointer.clone(), name.to_owned())));
    };
    let length = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    for kind in ["initContainers", "containers"] {
        for at in 0..length(&format!("{pod}/{kind}")) {
            let container = format!("{pod}/{kind}/{at}");
            for variable in 0..length(&format!("{container}/env")) {
                add(format!("{container}/env/{variable}/valueFrom/secretKeyRef/name"));
            }
            for all in 0..length(&format!("{container}/envFrom")) {
                add(format!("{container}/envFrom/{all}/secretRef/name"));
            }
        }
    }
    for at in 0..length(&format!("{pod}/volumes")) {
        let volume = format!("{pod}/volumes/{at}");
        add(format!("{volume}/secret/secretName"));
        for source in 0..length(&format!("{volume}/projected/sources")) {
            add(format!("{volume}/projected/sources/{source}/secret/name"));
        }
    }
    all
}

/// Which keys of the Secret are given where it is named; `None` for all of them.
pub fn keys(object: &Value, pointer: &str) -> Option<Vec<String>> {
    let named = object.pointer(pointer.rsplit_once('/')?.0)?;
    if let Some(key) = named["key"].as_str() {
        return Some(vec![key.to_owned()]);
    }
    let items = named["items"].as_array()?;
    Some(items.iter().filter_map(|item| item["key"].as_str().map(str::to_owned)).collect())
}

/// Every Secret that stands in the description of a pod, with the keys that are given; none for all of them.
pub fn secrets(pod: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
    let mut waiting = vec![pod];
    while let Some(value) = waiting.pop() {
        for (key, inner) in value.as_object().into_iter().flatten() {
            let name = match key.as_str() {
                "secretKeyRef" | "secretRef" | "secret" => inner["name"].as_str().or(inner["secretName"].as_str()),
                _ => None,
            };
            if let Some(name) = name {
                let given = keys(value, &format!("/{key}/name"));
                let known = all.entry(name.to_owned()).or_insert_with(|| Some(BTreeSet::new()));
                match (known.as_mut(), given) {
                    (Some(known), Some(given)) => known.extend(given),
                    _ => *known = None,
                }
            }
            waiting.push(inner);
        }
        waiting.extend(value.as_array().into_iter().flatten());
    }
    all.into_iter().map(|(name, keys)| (name, keys.unwrap_or_default())).collect()
}

/// A JSON Patch that lets all of these name another Secret. Refused by the cluster when somebody else changed one meanwhile.
pub fn change(object: &Value, references: &[Reference], name: &str) -> Value {
    let mut steps = Vec::new();
    for (pointer, old) in references {
        steps.push(json!({ "op": "test", "path": pointer, "value": old }));
        steps.push(json!({ "op": "replace", "path": pointer, "value": name }));
    }
    for (pointer, empty) in [("/spec/template/metadata", json!({})), ("/spec/template/metadata/annotations", json!({}))]
    {
        if object.pointer(pointer).is_none_or(Value::is_null) {
            steps.push(json!({ "op": "add", "path": pointer, "value": empty }));
        }
    }
    let annotation = format!("/spec/template/metadata/annotations/{}", ANNOTATION.replace('/', "~1"));
    steps.push(json!({ "op": "add", "path": annotation, "value": name }));
    Value::Array(steps)
}

/// The selector of a workload, as lists are asked with it.
pub fn selector(object: &Value) -> String {
    let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let mut terms: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    for wanted in object["spec"]["selector"]["matchExpressions"].as_array().into_iter().flatten() {
        let key = wanted["key"].as_str().unwrap_or_default();
        let values = wanted["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let values = values.collect::<Vec<_>>().join(",");
        terms.extend(match wanted["operator"].as_str() {
            Some("In") => Some(format!("{key} in ({values})")),
            Some("NotIn") => Some(format!("{key} notin ({values})")),
            Some("Exists") => Some(key.to_owned()),
            Some("DoesNotExist") => Some(format!("!{key}")),
            _ => None,
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_a_secret_that_is_called_alike() {
        for name in ["db", "db-0123456789ab"] {
            assert!(is_of(name, "db"), "{name}");
        }
        for name in ["db-0123456789abc", "db-production12", "db-0123456789", "db2", "dbx-0123456789ab"] {
            assert!(!is_of(name, "db"), "{name}");
        }
    }

    #[test]
    fn what_pods_are_given_of_each_secret_is_seen() {
        let pod = json!({
            "containers": [{ "env": [
                { "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } },
                { "name": "B", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } },
            ], "envFrom": [{ "secretRef": { "name": "all" } }] }],
            "volumes": [
                { "secret": { "secretName": "some", "items": [{ "key": "one", "path": "x" }] } },
                { "projected": { "sources": [{ "secret": { "name": "whole" } }, { "secret": { "name": "some", "items": [{ "key": "two" }] } }] } },
            ],
            "imagePullSecrets": [{ "name": "registry" }],
        });
        let told: Vec<String> = secrets(&pod)
            .into_iter()
            .map(|(name, keys)| format!("{name} {}", keys.into_iter().collect::<Vec<_>>().join(",")))
            .collect();
        assert_eq!(told, ["all ", "db password,url", "some one,two", "whole "]);
        assert_eq!(keys(&pod, "/containers/0/env/1/valueFrom/secretKeyRef/name"), Some(vec!["url".to_owned()]));
        assert_eq!(keys(&pod, "/containers/0/envFrom/0/secretRef/name"), None);
    }

    #[test]
    fn all_places_are_found_and_changed_together() {
        let object = json!({ "spec": { "selector": { "matchLabels": { "app": "web" }, "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["a", "b"] }, { "key": "x", "operator": "DoesNotExist" }] },
            "template": { "spec": {
                "initContainers": [{ "envFrom": [{ "configMapRef": { "name": "db" } }, { "secretRef": { "name": "db" } }] }],
                "containers": [{}, { "env": [{ "name": "A", "value": "db" }, { "name": "B", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }, { "name": "C", "valueFrom": { "secretKeyRef": { "name": "other", "key": "x" } } }] }],
                "volumes": [{ "secret": { "secretName": "db" } }, { "projected": { "sources": [{ "secret": { "name": "db" } }] } }] } } } });
        let found = references(&object, "/spec/template/spec", "db");
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/spec/template/spec/initContainers/0/envFrom/1/secretRef/name",
                "/spec/template/spec/containers/1/env/1/valueFrom/secretKeyRef/name",
                "/spec/template/spec/volumes/0/secret/secretName",
                "/spec/template/spec/volumes/1/projected/sources/0/secret/name",
            ]
        );
        let patch = change(&object, &found, "db-0123456789ab");
        assert_eq!(patch.as_array().unwrap().len(), 2 * 4 + 3);
        assert_eq!(patch[10]["path"], "/spec/template/metadata/annotations/bkp~1secret");
        assert_eq!(selector(&object), "app=web,tier in (a,b),!x");
    }
}
