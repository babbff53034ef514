//! What to write into a policy to protect something: YAML, with secrets as references.
//!
//! A password that stands in a container's environment or command is not written into the policy; it goes along as a [`Secret`]
//! for a file of its own, which the YAML refers to.

use super::{PROJECT, SERVICE};
use crate::exec::docker::Description;
use crate::secret::Secret;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Label by which its owner names the source.
const NAME: &str = "bkp.source";

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
    let source = label(NAME).or(label(SERVICE)).unwrap_or(&container.name);
    let source = plain(source);
    let mut keys = Vec::new();
    match (label(PROJECT), label(SERVICE)) {
        (Some(_), Some(service)) => keys.push(format!("service: {}", quoted(service))),
        _ => keys.push(format!("container: {}", quoted(&container.name))),
    }
    let (user, password, remark) = account(engine, container);
    keys.extend(user.map(|user| format!("user: {}", quoted(&user))));
    let mut secret = None;
    match password {
        Password::File(path) => keys.push(format!("password_file: {}", quoted(&path.display().to_string()))),
        Password::Known(value) => {
            keys.push(format!("password_file: {SECRETS}/{source}"));
            secret = Some(value);
        }
        Password::None => {}
    }
    Suggestion { yaml: format!("{engine}: {{ {} }}", keys.join(", ")), source, secret, remark }
}

enum Password {
    /// A file of the host, mounted into the container.
    File(PathBuf),
    Known(Secret),
    None,
}

/// As whom, with which password, and what is to be said about that.
fn account(engine: &str, container: &Description) -> (Option<String>, Password, Option<String>) {
    let variable = |name: &str| container.environment.get(name).map(|value| value.expose().to_owned());
    let root = "the account of the administrator; one with fewer rights is better: see docs/ENGINES.md".to_owned();
    match engine {
        "mysql" => {
            let names = ["MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"];
            (Some("root".into()), password(container, &names), Some(root))
        }
        "postgres" => {
            let user = variable("POSTGRES_USER").unwrap_or_else(|| "postgres".into());
            (
                Some(user),
                Password::None,
                Some("through the local socket of the container, which asks for no password".into()),
            )
        }
        "mongo" => match variable("MONGO_INITDB_ROOT_USERNAME") {
            Some(user) => (Some(user), password(container, &["MONGO_INITDB_ROOT_PASSWORD"]), Some(root)),
            None => (None, Password::None, None),
        },
        _ => (None, redis_password(container), None),
    }
}

fn password(container: &Description, names: &[&str]) -> Password {
    for name in names {
        let file = container.environment.get(&format!("{name}_FILE"));
        if let Some(path) = file.and_then(|file| on_the_host(container, Path::new(file.expose()))) {
            return Password::File(path);
        }
        if let Some(value) = container.environment.get(*name) {
            return Password::Known(value.clone());
        }
    }
    Password::None
}

fn redis_password(container: &Description) -> Password {
    let words: Vec<&str> = container.command.iter().flat_map(|text| text.split_whitespace()).collect();
    let given = words.windows(2).find(|pair| pair[0] == "--requirepass").map(|pair| pair[1]);
    match given {
        Some(value) if !value.contains('$') => Password::Known(Secret::new(value.trim_matches(['"', '\'']).to_owned())),
        _ => password(container, &["REDIS_PASSWORD", "VALKEY_PASSWORD"]),
    }
}

/// Where a file of the container is on the host, when it is mounted from there.
fn on_the_host(container: &Description, path: &Path) -> Option<PathBuf> {
    container.mounts.iter().find_map(|mount| match path.strip_prefix(&mount.destination) {
        Ok(rest) if rest.as_os_str().is_empty() => Some(mount.source.clone()),
        Ok(rest) => Some(mount.source.join(rest)),
        Err(_) => None,
    })
}

/// The SQLite databases of a tree, and the tree itself.
pub fn tree(name: &str, path: &Path, volume: bool, databases: &[&PathBuf]) -> Vec<Suggestion> {
    let base = plain(path.file_name().filter(|_| !volume).map_or(name.into(), |name| name.to_string_lossy()).as_ref());
    let mut suggestions: Vec<Suggestion> = databases
        .iter()
        .map(|file| {
            let stem = file.file_stem().map_or_else(|| base.clone(), |stem| plain(&stem.to_string_lossy()));
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
    yaml.push_str(" }");
    suggestions.push(Suggestion { source: base, yaml, secret: None, remark: None });
    suggestions
}

/// A name that a source may have.
fn plain(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = text.chars().map(allowed).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "source".to_owned() } else { name.chars().take(64).collect() }
}

/// As it may stand in a YAML flow mapping; a dollar sign would be a variable.
fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && text.chars().all(harmless);
    let reserved =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if word && !reserved { text.to_owned() } else { serde_json::json!(text.replace('$', "$$")).to_string() }
}
