//! Secrets, and references to them. A [`Secret`] cannot be printed and leaves no trace in memory.
//!
//! Configuration holds references (`ref+file://…`), never values; they are read as late as possible.
//! One trailing newline of a file is dropped, because every editor adds one.

use crate::error::{Context, Failure, Kind, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// A value that must not be seen. There is no `Display`, and `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: String) -> Self {
        Secret(Zeroizing::new(value))
    }

    /// The value itself. The name is long so that reviewers find every use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is kept: `ref+file:///run/secrets/x`, `ref+env://NAME`, `ref+cred://NAME` (systemd's `$CREDENTIALS_DIRECTORY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    File(PathBuf),
    Env(String),
    Credential(String),
}

impl FromStr for SecretRef {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let Some((scheme, rest)) = text.strip_prefix("ref+").and_then(|t| t.split_once("://")) else {
            return Err("a secret is never written here: give a reference such as ref+file:///run/secrets/name, or use the key with `_file` at its end".into());
        };
        let plain = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        match scheme {
            "file" if rest.starts_with('/') => Ok(SecretRef::File(rest.into())),
            "file" => Err("ref+file:// needs an absolute path, as in ref+file:///run/secrets/name".into()),
            "env" if plain => Ok(SecretRef::Env(rest.into())),
            "cred" if plain => Ok(SecretRef::Credential(rest.into())),
            "env" | "cred" => Err(format!("ref+{scheme}:// needs a name")),
            other => Err(format!(
                "unknown kind of reference `ref+{other}://`: known are ref+file://, ref+env://, ref+cred://"
            )),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::File(path) => write!(f, "ref+file://{}", path.display()),
            SecretRef::Env(name) => write!(f, "ref+env://{name}"),
            SecretRef::Credential(name) => write!(f, "ref+cred://{name}"),
        }
    }
}

impl SecretRef {
    /// Reads the secret now. Failures name the reference, never the value.
    pub fn resolve(&self) -> Result<Secret> {
        match self {
            SecretRef::File(path) => read_file(path, self),
            SecretRef::Env(name) => match std::env::var(name) {
                Ok(value) => Ok(Secret::new(value)),
                Err(_) => {
                    Err(Failure::new(Kind::Key, format!("the environment variable {name} is not set (for {self})")))
                }
            },
            SecretRef::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => read_file(&Path::new(&directory).join(name), self),
                None => Err(Failure::new(Kind::Key, format!("there is no credentials directory (for {self})"))
                    .hint("Run under systemd with LoadCredential=, or use ref+file://")),
            },
        }
    }
}

fn read_file(path: &Path, reference: &SecretRef) -> Result<Secret> {
    let mut text = std::fs::read_to_string(path)
        .context(|| format!("cannot read the secret {reference}"))
        .map_err(|e| Failure::new(Kind::Key, e.full()))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "Secret(…)");
    }

    #[test]
    fn an_inline_value_is_refused_without_being_repeated() {
        let message = "hunter2".parse::<SecretRef>().unwrap_err();
        assert!(message.contains("reference") && !message.contains("hunter2"));
    }

    #[test]
    fn one_newline_is_dropped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pw\n\n").unwrap();
        assert_eq!(SecretRef::File(file.path().into()).resolve().unwrap().expose(), "pw\n");
    }
}
