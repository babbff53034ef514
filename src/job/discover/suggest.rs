//! What to write into a policy to protect something: YAML, with secrets as references.
//!
//! A password that stands in a container's environment or command is not written into the policy; it goes along as a [`Secret`]
//! for a file of its own, which the YAML refers to.

use super::account::Account;
use super::{PROJECT, SERVICE, labels};
use crate::exec::docker::{Description, Told};
use crate::secret::Secret;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Serialize)]
pub struct Suggestion {
    /// Name of the source.
    pub source: String,
    /// Kind and keys, as they stand below the source's name: `mysql: { container: shop-db }`.
    pub yaml: String,
    /// The password to be put into the file that `yaml` names as `SECRETS/source`.
    #[serde(skip)]
    pub secret: Option<Secret>,
    /// A line for people: what else is to be known.
    pub remark: Option<String>,
}

/// Stands in the YAML for the directory in which secrets are put.
pub const SECRETS: &str = "SECRETS";

pub fn server(engine: &'static str, container: &Description) -> Suggestion {
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let source = label(labels::SOURCE).or(label(SERVICE)).unwrap_or(&container.name);
    let source = plain(source);
    let mut keys = Vec::new();
    match (label(PROJECT), label(SERVICE)) {
        (Some(_), Some(service)) => keys.push(format!("service: {}", quoted(service))),
        _ => keys.push(format!("container: {}", quoted(&container.name))),
    }
    let account = Account::of(engine, container);
    keys.extend(account.user.map(|user| format!("user: {}", quoted(&user))));
    let mut secret = None;
    match container.told(account.password) {
        Some(Told::File(path)) => {
            let path = on_the_host(container, Path::new(&path));
            keys.extend(path.map(|path| format!("password_file: {}", quoted(&path.display().to_string()))));
        }
        Some(Told::Value(value)) => {
            keys.push(format!("password_file: {SECRETS}/{source}"));
            secret = Some(value);
        }
        None => {}
    }
    let remark = account.remark.map(str::to_owned);
    Suggestion { yaml: format!("{engine}: {{ {} }}", keys.join(", ")), source, secret, remark }
}

/// Where a file of the container is on the host, when it is mounted from there.
fn on_the_host(container: &Description, path: &Path) -> Option<PathBuf> {
    let leads_out = path.components().any(|part| part == std::path::Component::ParentDir);
    container.mounts.iter().filter(|_| !leads_out).find_map(|mount| match path.strip_prefix(&mount.destination) {
        Ok(rest) if rest.as_os_str().is_empty() => Some(mount.source.clone()),
        Ok(rest) => Some(mount.source.join(rest)),
        Err(_) => None,
    })
}

/// The SQLite databases of a tree, and the tree itself. `writing`: the containers that would change it meanwhile.
pub fn tree(name: &str, path: &Path, volume: bool, databases: &[&PathBuf], writing: &[&str]) -> Vec<Suggestion> {
    let base = plain(path.file_name().filter(|_| !volume).map_or(name.into(), |name| name.to_string_lossy()).as_ref());
    let mut suggestions: Vec<Suggestion> = databases
        .iter()
        .map(|file| {
            let stem = stem(file, &base);
            let place = if volume {
                format!("volume: {}, path: {}", quoted(name), quoted(&file.display().to_string()))
            } else {
                format!("path: {}", quoted(&path.join(file).display().to_string()))
            };
            Suggestion {
                source: format!("{base}-{stem}"),
                yaml: format!("sqlite: {{ {place} }}"),
                secret: None,
                remark: None,
            }
        })
        .collect();
    let mut yaml = if volume {
        format!("volume: {{ name: {}", quoted(name))
    } else {
        format!("volume: {{ path: {}", quoted(&path.display().to_string()))
    };
    if !databases.is_empty() {
        let patterns = databases.iter().map(|file| quoted(&format!("{}*", file.display()))).collect::<Vec<_>>();
        let _ = write!(yaml, ", exclude: [{}]", patterns.join(", "));
    }
    let remark = (!writing.is_empty()).then(|| {
        yaml.push_str(", quiesce: pause");
        let names = writing.join(", ");
        format!("{names}: paused while it is read, so that all files are of one instant; leave `quiesce` out where files are only added")
    });
    yaml.push_str(" }");
    suggestions.push(Suggestion { source: base, yaml, secret: None, remark });
    suggestions
}

/// What a database is named after.
pub fn stem(file: &Path, otherwise: &str) -> String {
    file.file_stem().map_or_else(|| otherwise.to_owned(), |stem| plain(&stem.to_string_lossy()))
}

/// A name that a source may have.
pub fn plain(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = text.chars().map(allowed).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "source".to_owned() } else { name.chars().take(64).collect() }
}

/// As it may stand in a YAML flow mapping; a dollar sign would be a variable.
pub fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(harmless);
    let reserved =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if word && !reserved { text.to_owned() } else { serde_json::json!(text.replace('$', "$$")).to_string() }
}
